"""Top of the NIC."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import ADDRESS_BITS
from models.spec.translation import (
    DmaUser,
    GroupResponse,
    InvalidationCompletion,
    InvalidationRequest,
    PageRequest,
)
from models.spec.virtio import NetHeader, NetHeaderFlag
from rtl.bus.axi import Axi4, Axi4Lite, AxiStream
from rtl.bus.stream import StreamArbiter, StreamStage
from rtl.iommu.seams import TranslationPort
from rtl.nic.dma import Dma
from rtl.nic.engine import VirtqueueEngine
from rtl.nic.frame_slots import choose_slots, share_slots
from rtl.nic.frames import BEAT_BYTES, FrameStore
from rtl.nic.moderation import Moderation
from rtl.nic.msix import Msix
from rtl.nic.offload.checker import Checker, Finding
from rtl.nic.offload.findings import Findings
from rtl.nic.offload.negotiated import Negotiated
from rtl.nic.offload.offload import Offload
from rtl.nic.offload.verifier import Verifier
from rtl.nic.page_request_limit import PageRequestLimit
from rtl.nic.port import PortEgress, PortIngress
from rtl.nic.registers import Registers
from rtl.nic.seams import (
    BACKUP_BIT,
    CHECKED_BIT,
    LARGE_BIT,
    FrameRef,
    Interrupt,
    LocalMemory,
    UsedBuffers,
)
from rtl.nic.stats import Stats
from rtl.nic.switch import Switch
from rtl.nic.tags import TAG_BITS, Tags

__all__ = ["Nic"]

#: Lane of ``flags``, behind the slot's tag.
_FLAGS_LANE = TAG_BITS // 8
#: Lane that a number from NOWHERE begins in.
_NUMBER_LANE = 10


class Nic(wiring.Component):
    """Physical function and virtual functions that speak virtio-net, and a switch among them.

    Parameters
    ----------
    config : NicConfig
    address_bits : int
        Bits of an IOVA on the DMA bus.

    Members
    -------
    regs : ``In(Axi4Lite)``
        BARs, management pages and PCI configuration spaces (:mod:`models.spec.nic`).
    dma : ``Out(Axi4)``
        DMA with its DmaUser, to be translated by an I/O bridge.
    translate : ``Out(TranslationPort)``
        ATS requests; tags below ``config.dma_slots``.
    page_request : ``Out(stream)`` of PageRequest
    group_response : ``In(stream)`` of GroupResponse
    invalidation : ``In(stream)`` of InvalidationRequest
    invalidation_completion : ``Out(stream)`` of InvalidationCompletion
    interrupt : ``Out(1)``
        Interrupt pin of the PF, level (INTA).
    eth_rx : ``In(AxiStream)``
        From the wire, never stalled.
    eth_tx : ``Out(AxiStream)``
        To the wire.
    """

    def __init__(self, config: NicConfig, address_bits: int = 64):
        self.config = config
        self._dma = Dma(config)
        self.id_width = self._dma.id_width
        bus = {"addr_width": address_bits, "data_width": config.data_width}
        super().__init__(
            {
                "regs": In(Axi4Lite(addr_width=ADDRESS_BITS)),
                "dma": Out(Axi4(**bus, id_width=self.id_width, user=DmaUser)),
                "translate": Out(TranslationPort()),
                "page_request": Out(stream.Signature(PageRequest)),
                "group_response": In(stream.Signature(GroupResponse)),
                "invalidation": In(stream.Signature(InvalidationRequest)),
                "invalidation_completion": Out(stream.Signature(InvalidationCompletion)),
                "interrupt": Out(1),
                "eth_rx": In(AxiStream(data_width=config.data_width)),
                "eth_tx": Out(AxiStream(data_width=config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.dma = dma = self._dma
        m.submodules.engine = engine = VirtqueueEngine(config)
        m.submodules.registers = registers = Registers(config)
        m.submodules.msix = msix = Msix(config)
        m.submodules.switch = switch = Switch(config)
        m.submodules.frames = frames = FrameStore(config)
        m.submodules.ingress = ingress = PortIngress(config)
        m.submodules.egress = egress = PortEgress(config)

        connect(m, flipped(self.regs), registers.bus)
        connect(m, dma.bus, flipped(self.dma))
        for name in ("translate", "invalidation_completion"):
            connect(m, getattr(dma, name), flipped(getattr(self, name)))
        connect(m, flipped(self.invalidation), dma.invalidation)
        m.submodules.limit = limit = PageRequestLimit()
        connect(m, dma.page_request, limit.request)
        connect(m, limit.asked, flipped(self.page_request))
        connect(m, flipped(self.group_response), limit.response)
        connect(m, limit.answered, dma.group_response)
        connect(m, registers.pri, limit.pri)
        connect(m, flipped(self.eth_rx), ingress.wire)
        connect(m, egress.wire, flipped(self.eth_tx))

        # Registers and engine
        for name in ("command", "doorbell"):
            connect(m, getattr(registers, name), getattr(engine, name))
        for name in ("stopped", "error"):
            connect(m, getattr(engine, name), getattr(registers, name))
        # A cycle later, for all the same.
        controls = Signal.like(registers.controls)
        m.d.sync += controls.eq(registers.controls)
        for block in (engine, dma, switch):
            m.d.comb += block.controls.eq(controls)
        # Who is no bus master, as after a reset, sends and receives nothing; but what is for it
        # goes nowhere else.
        functions = range(config.functions)
        able, granted = Cat(controls[n].enable for n in functions), Signal(config.functions)
        m.d.sync += granted.eq(registers.granted)
        m.d.comb += [switch.controls[n].enable.eq(granted[n]) for n in functions]
        m.d.comb += [
            msix.allowed.eq(registers.messages),
            msix.clear.eq(registers.clear),
            registers.cleared.eq(msix.cleared),
            dma.page_timeout.eq(registers.page_timeout),
            engine.stall.eq(registers.fault_stall),
            switch.able.eq(able),
            switch.live.eq(registers.live),
            switch.down.eq(registers.down),
            engine.closed.eq(registers.closed),
            registers.under_way.eq(engine.under_way),
        ]

        for name in ("filter", "stored"):
            connect(m, getattr(registers, name), getattr(switch, name))
        m.d.comb += switch.steering.eq(registers.steering)

        # Engine and DMA
        if config.backup:
            self._backup(m, dma, engine, switch, frames)
        else:
            connect(m, engine.request, dma.request)
            connect(m, dma.done, engine.done)
        m.submodules.offload = offload = Offload(config)
        m.d.comb += offload.able.eq(able & registers.live)
        m.submodules.tags = tags = Tags(config)
        connect(m, switch.note, tags.note)
        connect(m, egress.tag, tags.egress)
        self._memories(m, dma, engine, frames, offload, tags)

        # Interrupts
        m.submodules.interrupts = interrupts = StreamArbiter(Interrupt, 2)
        m.submodules.moderation = moderation = Moderation(config)
        m.submodules.notices = notices = StreamStage(UsedBuffers)
        connect(m, engine.used, notices.i)
        connect(m, notices.o, moderation.notice)
        connect(m, registers.stored, moderation.stored)
        connect(m, registers.vector, moderation.vector)
        told = moderation.interrupt
        m.d.comb += [
            moderation.forget.eq(registers.forget),
            moderation.told.eq(registers.told),
            moderation.ending.eq(registers.ending),
            registers.held.eq(moderation.holds),
            registers.fenced.eq(dma.fenced),
            registers.pushed.eq(dma.pushed),
            registers.offer.eq(told.valid),
            registers.offer_taken.eq(told.ready),
            registers.used.eq(told.valid & told.ready & (told.payload.function == 0)),
            self.interrupt.eq(registers.pin),
        ]
        connect(m, moderation.interrupt, interrupts.i0)
        connect(m, registers.interrupt, interrupts.i1)
        connect(m, interrupts.o, msix.interrupt)
        connect(m, msix.message, dma.message)
        connect(m, registers.msix, msix.bus)

        self._frames(m, engine, switch, frames, ingress, egress, offload)
        if config.checksum:
            self._checksums(m, registers, engine, switch, frames, ingress, offload)

        blocks = (engine, dma, msix, switch, ingress, offload)
        counting = (*(block.stat for block in blocks), registers.count)
        m.submodules.stats = stats = Stats(config, sources=len(counting))
        for events, source in zip(counting, stats.inputs, strict=True):
            connect(m, events, source)
        connect(m, registers.stat, stats.read)
        return m

    def _backup(self, m: Module, dma, engine, switch, frames) -> None:
        """The backup rings' DMA goes before the engine's, but yields to others' on the bus; so does
        what a function receives while its ring is being emptied, or it would be more for a while
        than the bus has room for.
        """
        ports, last, own = switch.backup, Signal(), Signal()
        asked, done = dma.request, dma.done
        stays = Signal()  # an offer of the engine's does
        m.d.comb += [
            own.eq(ports.request.valid & ~stays),
            asked.valid.eq(own | engine.request.valid),
            asked.payload.eq(Mux(own, ports.request.payload, engine.request.payload)),
            ports.request.ready.eq(asked.ready & own),
            engine.request.ready.eq(asked.ready & ~own),
            last.eq(done.payload.tag >= self.config.engine_tags),
            done.ready.eq(Mux(last, ports.done.ready, engine.done.ready)),
            ports.waits.eq(engine.waits),
        ]
        emptying, frame = Signal(self.config.functions), engine.request.payload
        with m.If(~asked.valid | asked.ready):  # what is offered stays
            m.d.sync += emptying.eq(ports.emptying)
        with m.If(~own):
            m.d.comb += asked.payload.yields.eq(
                frame.write
                & ((frame.memory == LocalMemory.TX) | (frame.memory == LocalMemory.RX))
                & emptying.bit_select(frame.function, 1)
            )
        if not self.config.checksum:
            m.d.comb += ports.note_free.eq(1)
        m.d.sync += stays.eq(~own & engine.request.valid & ~asked.ready)
        for target, ours in ((engine.done, ~last), (ports.done, last)):
            m.d.comb += [target.valid.eq(done.valid & ours), target.payload.eq(done.payload)]
        for name in ("en", "memory", "addr", "data", "mask"):
            m.d.comb += getattr(ports.store, name).eq(getattr(dma.store, name))

    def _memories(self, m: Module, dma, engine, frames, offload, tags) -> None:
        """The DMA's way into scratch, frame memories and large buffer.

        As DMA sees it, a slot is as long as two frames: its tag, the header, the frame.  The engine
        notes the headers of what is sent; what is received has one for all.
        """
        store, load = dma.store, dma.load
        self._store, self._load = store, load
        number, numbered = Signal(16), Signal()
        bits = exact_log2(2 * self.config.frame_stride)
        stored, loaded = (self._frame_lanes(port.addr, bits) for port in (store, load))
        from_scratch, from_frame = Signal(), Signal(BEAT_BYTES)
        self._header = header = Signal(8 * BEAT_BYTES)
        # The beat that the last byte is in: what a slot begins with is in the first lanes of that.
        self._beat = beat = Signal(20)
        slot_bits = exact_log2(2 * self.config.frame_stride // BEAT_BYTES)
        m.d.comb += [
            beat.eq(load.addr[4:] + load.addr[:4].any()),
            tags.load.slot.eq(beat[slot_bits : CHECKED_BIT - 4]),
            header.eq(Cat(tags.load.tag, NetHeader.const({"num_buffers": 1}).as_value())),
        ]
        with m.If(load.en):
            m.d.sync += [
                number.eq(load.addr[4:] + (load.addr[:4] > _NUMBER_LANE)),
                numbered.eq(load.memory == LocalMemory.NOWHERE),
                from_scratch.eq(load.memory == LocalMemory.SCRATCH),
                from_frame.eq(loaded),
            ]
        for lane in range(BEAT_BYTES):
            whole, part = frames.load.data.word_select(lane, 8), header.word_select(lane, 8)
            m.d.comb += load.data.word_select(lane, 8).eq(
                Mux(
                    from_scratch,
                    engine.load.data.word_select(lane, 8),
                    Mux(from_frame[lane], whole, part),
                )
            )
        with m.If(numbered):
            m.d.comb += load.data.eq(number << 8 * _NUMBER_LANE)
        # An address a little before the first slot has this bit, too: it is that of lane 0.
        large = Signal()
        if self.config.segmentation:
            m.d.comb += large.eq(
                (store.memory == LocalMemory.TX)
                & store.addr[LARGE_BIT]
                & ~store.addr[LARGE_BIT - 1]
            )
        for port, targets in ((store, (engine.store, frames.store)),
                              (load, (engine.load, frames.load))):  # fmt: skip
            kept = large if port is store else 0
            others = (port.memory == LocalMemory.SCRATCH) & port.addr[BACKUP_BIT]
            for target in targets:
                m.d.comb += [target.en.eq(port.en & ~kept & ~others), target.memory.eq(port.memory)]
            base = port.addr[bits:] << (bits - 1)
            m.d.comb += [
                targets[0].addr.eq(port.addr),
                targets[1].addr.eq(base + port.addr[:bits] - BEAT_BYTES),
                targets[1].en.eq(port.en & ~kept & (port.memory != LocalMemory.SCRATCH)),
            ]
        for target, en in ((offload.store, store.en & ~large), (offload.large, store.en & large)):
            m.d.comb += [
                target.en.eq(en),
                target.memory.eq(store.memory),
                target.addr.eq(store.addr),
                target.data.eq(store.data),
                target.mask.eq(store.mask),
            ]
        m.d.comb += [
            engine.store.data.eq(store.data),
            engine.store.mask.eq(store.mask),
            frames.store.data.eq(store.data),
            frames.store.mask.eq(store.mask & stored),
        ]

    @staticmethod
    def _frame_lanes(addr, bits: int):
        """Lanes whose byte is of a frame: not of the first beat of its slot."""
        beat = addr[4:bits]
        return Cat(Mux(addr[:4] > lane, ~beat.all(), beat.any()) for lane in range(BEAT_BYTES))

    def _checksums(self, m: Module, registers, engine, switch, frames, ingress, offload) -> None:
        """Who has negotiated what; received frames are checked; their headers say so."""
        m.submodules.negotiated = negotiated = Negotiated(self.config)
        m.submodules.findings = findings = Findings(self.config)
        m.submodules.verifier = verifier = Verifier(self.config)
        m.submodules.checker = checker = Checker()
        command = registers.command
        connect(m, switch.found, verifier.i)
        connect(m, verifier.o, switch.checked)
        connect(m, verifier.read, frames.verify)
        connect(m, engine.finding, findings.count)
        noted, slot, finding = Signal(), Signal(8), Signal(Finding)
        m.d.sync += [
            # A cycle later, long before a frame is received, or a queue that begins has one.
            noted.eq(verifier.note.en),
            slot.eq(verifier.note.slot),
            finding.eq(verifier.note.finding),
            negotiated.en.eq(command.valid & command.ready),
            negotiated.command.eq(command.payload),
        ]
        m.d.comb += [
            findings.tx.en.eq(noted),
            findings.tx.slot.eq(slot),
            findings.tx.finding.eq(finding),
        ]
        if self.config.backup:
            ports = switch.backup
            connect(m, ports.finding, findings.backup)
            m.d.comb += ports.note_free.eq(~noted)
            with m.If(ports.note.en):
                m.d.comb += [
                    findings.tx.en.eq(1),
                    findings.tx.slot.eq(ports.note.slot),
                    findings.tx.finding.eq(ports.note.finding),
                ]
        m.d.comb += [
            negotiated.function.eq(offload.function),
            offload.offloads.eq(negotiated.offloads),
            engine.checking.eq(negotiated.checking),
            engine.segmenting.eq(negotiated.segmenting),
            verifier.checking.eq(negotiated.checking),
            offload.look.eq(verifier.look),
            verifier.sum.eq(offload.sum),
            checker.en.eq(ingress.seen_en),
            checker.beat.eq(ingress.seen),
            findings.rx.en.eq(checker.done),
            findings.rx.slot.eq(checker.tag),
            findings.rx.finding.eq(checker.finding),
        ]
        load, lane, beat = self._load, _FLAGS_LANE, self._beat
        bits = exact_log2(2 * self.config.frame_stride // BEAT_BYTES)
        asked = Signal()
        m.d.sync += asked.eq(beat[CHECKED_BIT - 4])
        m.d.comb += [
            findings.header.memory.eq(load.memory),
            findings.header.slot.eq(beat[bits : CHECKED_BIT - 4]),
        ]
        with m.If(asked & (findings.header.finding == Finding.GOOD)):
            m.d.comb += self._header.word_select(lane, 8).eq(NetHeaderFlag.DATA_VALID)

    def _frames(self, m: Module, engine, switch, frames, ingress, egress, offload) -> None:
        """From guests and wire through the switch to guests and wire."""
        connect(m, engine.tx_frame, offload.i)
        connect(m, offload.o, switch.tx_frame)
        connect(m, offload.read, frames.checksum)
        connect(m, offload.patch, frames.patch)
        connect(m, frames.written, offload.written)
        m.d.comb += [
            engine.cut.eq(offload.cut),
            engine.large_back.eq(offload.large_back),
            offload.taken_en.eq(frames.tx_alloc.valid & frames.tx_alloc.ready),
            offload.taken.eq(frames.tx_alloc.payload),
        ]
        slots = frames.tx_alloc
        if self.config.segmentation:
            slots = self._segment_slots(m, frames, offload)
        if self.config.backup:
            # Either one or the other, by the cycle before.
            wanted = Signal()
            m.d.sync += wanted.eq(switch.backup.needs_slot)
            choose_slots(m, slots, switch.backup.alloc, engine.tx_alloc, wanted)
        else:
            connect(m, slots, engine.tx_alloc)
        connect(m, switch.arrival, engine.arrival)
        connect(m, engine.rx_pop, switch.rx_pop)
        connect(m, switch.header, frames.header)
        connect(m, switch.head, frames.steer)
        connect(m, switch.share, frames.share)

        connect(m, frames.rx_alloc, ingress.alloc)
        connect(m, ingress.write, frames.ingress)
        connect(m, ingress.frame, switch.port_frame)
        connect(m, switch.egress, egress.frame)
        connect(m, egress.read, frames.egress)

        m.submodules.releases = releases = StreamArbiter(FrameRef, 3)
        connect(m, engine.release, releases.i0)
        connect(m, switch.release, releases.i1)
        connect(m, offload.release, releases.i2)
        # A slot takes two cycles; no path goes through to who gives it back.
        m.submodules.released = released = StreamStage(FrameRef)
        connect(m, releases.o, released.i)
        connect(m, released.o, frames.release0)
        connect(m, egress.release, frames.release1)

    def _segment_slots(self, m: Module, frames, offload):
        """Slots for segments go first: frames that are sent may wait for those before them.

        One slot is left for segments, so that they never wait for frames behind them.
        """
        connect(m, offload.read_bytes, frames.cut)
        spare = frames.tx_free > 1
        others = stream.Signature(8).create()
        share_slots(m, frames.tx_alloc, offload.alloc, others, spare)
        return others
