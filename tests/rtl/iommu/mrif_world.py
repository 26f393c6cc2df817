"""Memory with exclusive accesses behind a store of MSIs, and what it must have done."""

from rtl.bus.axi import Resp
from tests.rtl.agents import get, put

__all__ = ["WordMemory", "pending_bit"]


def pending_bit(address: int, identity: int) -> tuple[int, int]:
    """Doubleword and bit of an identity in the MRIF at ``address``."""
    return address + 16 * (identity // 64), identity % 64


class WordMemory:
    """64-bit memory for single beats, one at a time, with an exclusive monitor.

    ``interfere`` is called before each exclusive write and may store.  ``failing`` are pairs of an
    address range and a response, per direction.  ``exclusives`` off: no monitor.
    """

    def __init__(self, bus, rng, latency=(1, 1)):
        self.bus, self.rng, self.latency = bus, rng, latency
        self.data: dict[int, int] = {}
        self.failing = {"r": [], "w": []}
        self.exclusives = True
        self.interfere = None
        self.reserved = None
        self.log = []  # ("r" or "w", address, data or None, lock, user)

    def processes(self) -> list:
        """Testbenches to run in the background."""
        return [self._process]

    def load(self, addr: int) -> int:
        """A doubleword."""
        return self.data.get(addr, 0)

    def store(self, addr: int, value: int) -> None:
        """Somebody else's store of a doubleword."""
        self.data[addr] = value
        if self.reserved == addr:
            self.reserved = None

    def _fails(self, kind: str, addr: int):
        return next((resp for bad, resp in self.failing[kind] if addr in bad), None)

    async def _wait(self, ctx):
        for _ in range(self.rng.randint(*self.latency)):
            await ctx.tick()

    @staticmethod
    def _user(payload):
        if "user" not in payload.shape().members:
            return None
        return payload.user.rcid, payload.user.mcid

    async def _process(self, ctx):
        while True:
            if ctx.get(self.bus.ar.valid):
                await self._read(ctx)
            elif ctx.get(self.bus.aw.valid):
                await self._write(ctx)
            else:
                await ctx.tick()

    async def _read(self, ctx):
        asked = await get(ctx, self.bus.ar)
        assert (asked.size, asked.len, asked.addr % 8) == (3, 0, 0)
        await self._wait(ctx)
        resp = self._fails("r", asked.addr)
        if resp is None:
            resp = Resp.EXOKAY if asked.lock and self.exclusives else Resp.OKAY
        if asked.lock and self.exclusives:
            self.reserved = asked.addr
        self.log.append(("r", asked.addr, None, asked.lock, self._user(asked)))
        answer = {"id": asked.id, "data": self.load(asked.addr), "resp": resp, "last": 1}
        await put(ctx, self.bus.r, answer)

    async def _write(self, ctx):
        asked = await get(ctx, self.bus.aw)
        beat = await get(ctx, self.bus.w)
        assert asked.len == 0
        assert beat.last
        await self._wait(ctx)
        if asked.lock and self.interfere is not None:
            self.interfere(asked.addr)
        low = asked.addr % 8
        size = 1 << asked.size
        assert beat.strb == (1 << size) - 1 << low
        value = beat.data >> 8 * low & (1 << 8 * size) - 1
        resp = self._fails("w", asked.addr)
        done = resp is None
        if done and asked.lock and self.exclusives:
            done = self.reserved == asked.addr
            resp = Resp.EXOKAY if done else Resp.OKAY
        elif done:
            resp = Resp.OKAY
        if done:
            base = asked.addr - low
            mask = (1 << 8 * size) - 1 << 8 * low
            self.store(base, self.load(base) & ~mask | value << 8 * low)
        self.log.append(("w", asked.addr, value, asked.lock, self._user(asked)))
        await put(ctx, self.bus.b, {"id": asked.id, "resp": resp})
