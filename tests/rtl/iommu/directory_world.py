"""Memory, walker and random directories round a Directory."""

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from models.memory import AccessFault, DataCorruption, ErrorKind, FaultyMemory, Memory
from models.spec.config import IommuConfig
from models.spec.iommu import Cause
from models.spec.translation import AddressType
from rtl.bus.axi import Burst, Resp
from rtl.iommu.directory import Directory
from tests.rtl.agents import get, put
from tests.rtl.simulators import built

__all__ = ["SECOND_STAGE_CAUSES", "Builder", "Scene", "World"]

_LEVEL_BITS = {32: (7, 9, 8), 64: (6, 9, 9), 16: (8, 9, 3)}
SECOND_STAGE_CAUSES = (
    Cause.READ_ACCESS_FAULT,
    Cause.WRITE_ACCESS_FAULT,
    Cause.INSTRUCTION_ACCESS_FAULT,
    Cause.PT_CORRUPTION,
    Cause.READ_GUEST_PAGE_FAULT,
    Cause.WRITE_GUEST_PAGE_FAULT,
    Cause.INSTRUCTION_GUEST_PAGE_FAULT,
)


@dataclass
class Scene:
    """One request, with its directories, and what must come of it."""

    levels: int
    root: int  # page
    device_id: int
    process_id: int
    pv: int
    at: AddressType
    be: int
    qos: int
    memory: FaultyMemory
    #: Second stage: guest page to page, or cause.
    pages: dict[int, int] = field(default_factory=dict)
    reads: list = field(default_factory=list)  # seen: (address, bytes, qos)
    walks: list = field(default_factory=list)  # seen: gpa
    answer: Any = None


class World:
    """Memory and walker of a Directory, in Python."""

    def __init__(self, config: IommuConfig, rng: random.Random):
        self.config, self.rng = config, rng
        self.dut = built(Directory, config)
        self.scene: Scene = None  # type: ignore
        self.latency = (0, 0)

    async def _pause(self, ctx):
        for _ in range(self.rng.randint(*self.latency)):
            await ctx.tick()

    async def serve_memory(self, ctx):
        ar, r = self.dut.memory.ar, self.dut.memory.r
        while True:
            await self._pause(ctx)
            asked = await get(ctx, ar)
            assert asked.burst == Burst.INCR
            assert asked.size == 3
            size = 8 * (asked.len + 1)
            user = (asked.user.rcid, asked.user.mcid) if self.config.qosid else None
            self.scene.reads.append((asked.addr, size, user))
            for beat in range(asked.len + 1):
                await self._pause(ctx)
                resp, value = Resp.OKAY, 0
                try:
                    raw = self.scene.memory.read(asked.addr + 8 * beat, 8)
                    value = int.from_bytes(raw, "little")
                except AccessFault:
                    resp = Resp.DECERR
                except DataCorruption:
                    resp = Resp.SLVERR
                last = beat == asked.len
                await put(ctx, r, {"data": value, "resp": resp, "last": last, "id": asked.id})

    async def serve_walks(self, ctx):
        dut = self.dut
        while True:
            await self._pause(ctx)
            start = await get(ctx, dut.walk)
            guest = ctx.get(dut.guest)
            assert start.directory
            await self._pause(ctx)
            self.scene.walks.append((start.gpa, guest))
            found = self.scene.pages[start.gpa >> 12]
            result = {"index": start.index, "directory": 1, "gpa": start.gpa}
            if isinstance(found, Cause):
                result |= {"cause": found, "implicit": 1}
            else:
                result |= {"ppn": found, "gpa": self.rng.getrandbits(64)}
            assert ctx.get(dut.guest) == guest
            await put(ctx, dut.walked, result)

    async def _watch(self, ctx, port):
        """A stalled payload does not change."""
        waiting = None
        while True:
            *_, valid, ready, payload = await ctx.tick().sample(
                port.valid, port.ready, port.payload.as_value()
            )
            if waiting is not None:
                assert valid, "valid fell before ready"
                assert payload == waiting, "a stalled payload changed"
            waiting = payload if valid and not ready else None

    def processes(self) -> list:
        """Testbenches to run in the background."""
        dut = self.dut
        watched = [partial(self._watch, port=p) for p in (dut.memory.ar, dut.walk, dut.fill)]
        return [self.serve_memory, self.serve_walks, *watched]

    async def serve(self, ctx, scene: Scene):
        """Run one request."""
        self.scene = scene
        self.latency = self.rng.choice(((0, 0), (0, 5)))
        qos = {"rcid": scene.qos & 0xFFF, "mcid": scene.qos >> 12}
        control = {"mode": 1 + scene.levels, "ppn": scene.root, "be": scene.be, "qos": qos}
        ctx.set(self.dut.directory, control)
        await put(
            ctx,
            self.dut.request,
            {
                "index": self.rng.getrandbits(8),
                "at": scene.at,
                "device_id": scene.device_id,
                "process_id": scene.process_id,
                "pv": scene.pv,
            },
        )
        await self._pause(ctx)
        scene.answer = await get(ctx, self.dut.fill)


class Builder:
    """Builds random directories, mostly good."""

    def __init__(self, config: IommuConfig, rng: random.Random):
        self.config, self.rng = config, rng
        self.size = 64 if config.msi_flat else 32

    def some_page(self) -> int:
        """A page of memory, seldom of none."""
        if not self.rng.randrange(60):
            return self.rng.getrandbits(44) | 1 << 43
        return self.rng.getrandbits(self.config.pas - 12)

    def put(self, scene: Scene, address: int, words: list[int], big: int) -> None:
        """Store doublewords, if there is memory; sometimes make it fail."""
        if address + 8 * len(words) > 1 << self.config.pas:
            return
        for n, word in enumerate(words):
            scene.memory.write(address + 8 * n, word.to_bytes(8, "big" if big else "little"))
        if not self.rng.randrange(30):
            kind = self.rng.choice(list(ErrorKind))
            bad = address + 8 * self.rng.randrange(len(words))
            scene.memory.inject([(bad, 8, kind)])

    def spoil(self, words: list[int]) -> list[int]:
        """Seldom clear V, or change a bit."""
        draw = self.rng.randrange(20)
        if draw == 0:
            return [words[0] & ~1, *words[1:]]
        if draw < 3:
            which, bit = self.rng.randrange(len(words)), 1 << self.rng.randrange(64)
            return [word ^ bit if n == which else word for n, word in enumerate(words)]
        return words

    def device_words(self, scene: Scene) -> list[int]:
        """A device context."""
        rng, config = self.rng, self.config
        pdtv = config.pd8 and rng.randrange(4) != 0
        g_modes = [0] + [8] * config.sv39x4 + [9] * config.sv48x4 + [10] * config.sv57x4
        depths = [1] * config.pd8 + [2] * config.pd17 + [3] * config.pd20
        mode = rng.choice([0, *depths, *depths] if pdtv else [0, 8])
        guest = rng.choice(g_modes)
        sbe = rng.getrandbits(1) if config.end else scene.be
        ats = 2 if config.ats and rng.randrange(3) else 0
        tc = 1 | ats | pdtv << 5 | sbe << 10
        if pdtv:
            tc |= rng.getrandbits(1) << 9
        if config.amo_hwad:
            tc |= rng.getrandbits(2) << 7
        qos = rng.getrandbits(24) << 40 if config.qosid else 0
        words = [
            tc,
            guest << 60 | rng.getrandbits(16) << 44 | rng.getrandbits(36) << 2,
            rng.getrandbits(20) << 12 | qos,
            mode << 60 | self.some_page(),
        ]
        if self.size == 64:
            words += [rng.getrandbits(30), rng.getrandbits(20), rng.getrandbits(20), 0]
        return self.spoil(words)

    def directory(self, scene, root, levels, bits, number, words, big, guest) -> None:
        """Tables from ``root`` to ``words``, with addresses of the second stage if ``guest``."""
        rng, page = self.rng, root

        def place(page: int) -> int:
            if not guest:
                return page
            if page not in scene.pages:
                scene.pages[page] = (
                    rng.choice(SECOND_STAGE_CAUSES) if not rng.randrange(8) else self.some_page()
                )
            found = scene.pages[page]
            return 1 << 44 if isinstance(found, Cause) else found

        for level in range(levels - 1, 0, -1):
            index = number >> sum(bits[:level]) & (1 << bits[level]) - 1
            below = self.some_page()
            (entry,) = self.spoil([below << 10 | 1])
            self.put(scene, place(page) * 4096 + index * 8, [entry], big)
            page = entry >> 10 & (1 << 44) - 1
        index = number & (1 << bits[0]) - 1
        self.put(scene, place(page) * 4096 + index * 8 * len(words), words, big)

    def scene(self) -> Scene:
        """Return a request with its directories."""
        rng, config = self.rng, self.config
        levels = rng.randint(1, config.ddt_levels)
        bits = _LEVEL_BITS[self.size]
        wide = rng.choice((8, 8, 17, 20))
        scene = Scene(
            levels=levels,
            root=self.some_page(),
            device_id=rng.getrandbits(sum(bits[:levels])),
            process_id=rng.getrandbits(wide),
            pv=rng.getrandbits(1),
            at=rng.choice([AddressType.UNTRANSLATED] * 3 + list(AddressType)),
            be=rng.getrandbits(1) if config.end else 0,
            qos=rng.getrandbits(24),
            memory=FaultyMemory(Memory(config.pas)),
        )
        words = self.device_words(scene)
        self.directory(
            scene, scene.root, levels, bits, scene.device_id, words, scene.be, guest=False
        )
        depth = words[3] >> 60
        if words[0] >> 5 & 1 and depth in (1, 2, 3):
            process = [
                1 | rng.getrandbits(2) << 1 | rng.getrandbits(20) << 12,
                rng.choice((0, 8)) << 60 | self.some_page(),
            ]
            self.directory(
                scene,
                words[3] & (1 << 44) - 1,
                depth,
                _LEVEL_BITS[16],
                scene.process_id if scene.pv else 0,
                self.spoil(process),
                words[0] >> 10 & 1,
                guest=words[1] >> 60 != 0,
            )
        return scene
