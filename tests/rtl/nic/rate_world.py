"""The virtqueue engine before a DMA that is as fast as the bus, to count its cycles."""

from collections import deque

from models.spec.config import NicConfig
from rtl.nic.seams import DmaStatus, LocalMemory
from tests.rtl.nic.ring_world import RingWorld

__all__ = ["RateWorld"]


class RateWorld(RingWorld):
    """Each direction moves 16 bytes a cycle, takes at least 2 cycles for a request, and ends it
    ``latency`` cycles later, in order.  What frames hold is not moved.
    """

    def __init__(self, config: NicConfig, latency: int):
        super().__init__(config, seed=1, latency=latency, slots=config.tx_slots)
        #: Cycles in which a frame was sent, or given back.
        self.sent_at: list[int] = []
        self.released_at: list[int] = []
        self._free_at = [0, 0]
        self._due: list[deque] = [deque(), deque()]
        self._moves: deque = deque()

    async def dma(self, ctx):
        """One cycle after another: take a request, store or load a beat, end a request."""
        dut, load = self.dut, None
        ctx.set(dut.request.ready, 1)
        while True:
            for pipe in self._due:
                while pipe and pipe[0][0] <= self.now:
                    self._move(pipe.popleft()[1])
            store, loading, done = None, None, None
            if self._moves and self._moves[0][0] == "store":
                store = self._moves.popleft()
                ctx.set(dut.store.memory, LocalMemory.SCRATCH)
                ctx.set(dut.store.addr, store[1])
                ctx.set(dut.store.mask, (1 << len(store[2])) - 1 << (store[1] & 15))
                ctx.set(dut.store.data, int.from_bytes(store[2], "little") << 8 * (store[1] & 15))
            elif self._moves and self._moves[0][0] == "load":
                loading = self._moves.popleft()
                ctx.set(dut.load.addr, loading[1])
            elif self._moves and load is None:
                done = self._moves.popleft()
                ctx.set(dut.done.payload.tag, done[1])
                ctx.set(dut.done.payload.status, DmaStatus.OK)
            ctx.set(dut.store.en, store is not None)
            ctx.set(dut.load.en, loading is not None)
            ctx.set(dut.done.valid, done is not None)
            load = loading
            *_, asked, request, ended = await ctx.tick().sample(
                dut.request.valid, dut.request.payload, dut.done.ready
            )
            self.now += 1
            if load is not None:
                _, at, iova, part = load
                word = ctx.get(dut.load.data).to_bytes(16, "little")
                self.guest[iova : iova + part] = word[at % 16 :][:part]
            if done is not None and not ended:
                self._moves.appendleft(done)
            if asked:
                self._begin(request)

    def _begin(self, request) -> None:
        """Reserve the bus of the direction."""
        self.requests.append(request)
        start = max(self.now, self._free_at[request.write])
        self._free_at[request.write] = start + max(2, -(-request.length // 16))
        self._due[request.write].append((start + self.latency, request))

    def _move(self, request) -> None:
        """Note the beats of a ring access, and the end of the request behind them."""
        at, end = request.offset, request.offset + request.length
        while request.memory == LocalMemory.SCRATCH and at < end:
            part = min(end - at, 16 - at % 16)
            iova = request.iova + at - request.offset
            if request.write:
                self._moves.append(("load", at, iova, part))
            else:
                self._moves.append(("store", at, bytes(self.guest[iova : iova + part])))
            at += part
        self._moves.append(("done", request.tag))
