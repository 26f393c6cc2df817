"""Frame memory, offloads and verifier, with a DMA that writes frames in pieces of any order."""

from random import Random

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.virtio import NetHeader
from rtl.nic.forwarding import delivery
from rtl.nic.frame_slots import share_slots
from rtl.nic.frames import FrameStore
from rtl.nic.offload.findings import Findings
from rtl.nic.offload.offload import Offload
from rtl.nic.offload.verifier import Verifier
from rtl.nic.seams import FrameRef, LocalMemory, Offloads, SentFrame, StatEvent, StorePort, TxFrame
from tests.rtl.agents import get, put
from tests.rtl.simulators import built

__all__ = ["PAIR", "OffloadBench", "OffloadWorld"]

#: Queue pair that all frames are of.
PAIR = 5


class OffloadBench(wiring.Component):
    """What of the NIC is round the offloads."""

    def __init__(self, config: NicConfig):
        self.config = config
        found = stream.Signature(delivery(config.functions))
        super().__init__(
            {
                "dma": In(StorePort()),
                "store": In(StorePort()),
                "large": In(StorePort()),
                "cut": Out(1),
                "large_back": Out(1),
                "tx_alloc": Out(stream.Signature(8)),
                "sent": In(stream.Signature(SentFrame)),
                "frame": Out(stream.Signature(TxFrame)),
                "release": Out(stream.Signature(FrameRef)),
                "stat": Out(stream.Signature(StatEvent)),
                "offloads": In(Offloads),
                "found": In(found),
                "checked": Out(found),
                "checking": In(config.functions),
                "able": In(config.functions, init=-1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.frames = self.frames = frames = FrameStore(self.config)
        m.submodules.offload = offload = Offload(self.config)
        m.submodules.verifier = self.verifier = verifier = Verifier(self.config)
        m.submodules.findings = self.findings = findings = Findings(self.config)
        connect(m, flipped(self.store), frames.store)
        connect(m, flipped(self.dma), offload.store)
        connect(m, flipped(self.large), offload.large)
        connect(m, offload.read_bytes, frames.cut)
        share_slots(m, frames.tx_alloc, offload.alloc, self.tx_alloc, 1)
        m.d.comb += [self.cut.eq(offload.cut), self.large_back.eq(offload.large_back)]
        m.d.comb += offload.able.eq(self.able)
        connect(m, flipped(self.sent), offload.i)
        connect(m, offload.o, flipped(self.frame))
        connect(m, offload.release, flipped(self.release))
        connect(m, offload.stat, flipped(self.stat))
        connect(m, offload.read, frames.checksum)
        connect(m, offload.patch, frames.patch)
        connect(m, frames.written, offload.written)
        connect(m, flipped(self.found), verifier.i)
        connect(m, verifier.o, flipped(self.checked))
        connect(m, verifier.read, frames.verify)
        connect(m, verifier.note, findings.tx)
        m.d.comb += [
            offload.offloads.eq(self.offloads),
            offload.taken_en.eq(frames.tx_alloc.valid & frames.tx_alloc.ready),
            offload.taken.eq(frames.tx_alloc.payload),
            offload.look.eq(verifier.look),
            verifier.sum.eq(offload.sum),
            verifier.checking.eq(self.checking),
        ]
        return m


class OffloadWorld:
    """Puts frames into slots as DMA does, and takes them out again."""

    def __init__(self, config: NicConfig, rng: Random):
        self.config, self.rng = config, rng
        self.dut = built(OffloadBench, config)

    async def _store(self, ctx, port, addr: int, content: bytes, first: int) -> None:
        """Store bytes of which those from ``first`` on count."""
        lanes = [(addr + n) % 16 for n in range(len(content))]
        ctx.set(port.en, 1)
        ctx.set(port.memory, LocalMemory.TX)
        ctx.set(port.addr, addr & 0xFF_FFFF)
        ctx.set(port.data, sum(b << 8 * lane for lane, b in zip(lanes, content, strict=True)))
        ctx.set(port.mask, sum(1 << lane for lane in lanes[first:]))
        await ctx.tick()
        ctx.set(port.en, 0)

    async def fill(self, ctx, frame: bytes, header: dict | None = None) -> int:
        """Take a slot and fill it, pieces in any order; returns the slot."""
        slot = await get(ctx, self.dut.tx_alloc)
        base, at, pieces = slot * self.config.frame_stride, 0, []
        while at < len(frame):
            size = self.rng.randint(1, 16)
            if at < self.config.frame_bytes < at + size:  # a DMA is into one of both
                size = self.config.frame_bytes - at
            pieces.append((base + at, frame[at : at + size]))
            at += size
        beyond = self.config.frame_bytes
        self.rng.shuffle(pieces)
        bits = NetHeader.const(header or {}).as_bits().to_bytes(12, "little")
        await self._store(ctx, self.dut.dma, slot * 2 * self.config.frame_stride + 4, bits, 0)
        for addr, part in pieces:
            if addr - base >= beyond:
                await self._store(ctx, self.dut.large, addr - base - beyond + 16, part, 0)
                continue
            # The first byte's address may be that of a byte that does not count.
            ahead = self.rng.randrange(0, 17 - len(part))
            await self._store(ctx, self.dut.store, addr - ahead, bytes(ahead) + part, ahead)
            if self.rng.random() < 0.3:
                await ctx.tick()
        await ctx.tick().repeat(6)
        return slot

    async def content(self, ctx, slot: int, length: int) -> bytes:
        """What is in a slot."""
        port, found = self.dut.frames.egress, b""
        for beat in range(-(-length // 16)):
            ctx.set(port.en, 1)
            ctx.set(port.addr, slot * self.config.frame_stride // 16 + beat)
            while not ctx.get(port.ready):
                await ctx.tick()
            await ctx.tick()
            found += ctx.get(port.data).to_bytes(16, "little")
        ctx.set(port.en, 0)
        return found[:length]

    async def send(self, ctx, slot: int, frame: bytes, header: dict) -> None:
        """Tell the offloads of a frame."""
        ref = {"memory": LocalMemory.TX, "slot": slot, "length": len(frame) & 0xFFFF}
        await put(
            ctx,
            self.dut.sent,
            {
                "frame": ref,
                "over": len(frame) >> 16,
                "large": len(frame) > self.config.frame_bytes,
                "function": 1,
                "pair": PAIR,
                "needs_csum": header.get("flags", 0) & 1,
                "gso_type": header.get("gso_type", 0),
            },
        )

    async def free(self, ctx, slot: int) -> None:
        """Give a slot back."""
        await put(ctx, self.dut.frames.release0, {"memory": LocalMemory.TX, "slot": slot})
