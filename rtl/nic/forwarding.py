"""Who is to have a frame: the switch's first half."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import VLAN_TAG_BYTES
from models.spec.nic import PORT_SOURCE, FunctionControl
from rtl.bus.stream import StreamArbiter, StreamRegister
from rtl.nic.filters import Filters
from rtl.nic.frames import BEAT_BYTES, FrameRead
from rtl.nic.port import FrameHead, PortFrame, head_of
from rtl.nic.seams import FilterChange, FrameForm, FrameRef, LocalMemory, StatEvent, TxFrame
from rtl.nic.sent import SentCounter
from rtl.nic.tags import TagNote
from rtl.nic.verdict import Verdict

__all__ = ["Lookup", "delivery"]

_HEADER_BYTES = 14


def delivery(functions: int) -> data.StructLayout:
    """Layout of a frame with its receivers.

    ``frame``, as it is on the wire, a bit per function, ``port``; ``long``: it is longer than
    functions receive; ``group``, ``broadcast``: what its destination is.  ``bare``: functions that
    have frames without a tag.
    """
    flags = dict.fromkeys(("port", "long", "group", "broadcast"), 1)
    return data.StructLayout({"frame": FrameRef, "functions": functions, "bare": functions} | flags)


class Lookup(wiring.Component):
    """Finds the receivers of frames from guests and from the port, as :class:`Verdict` says.

    The destination and the VLAN of a frame are compared with those of all functions at once
    (:class:`Filters`); the source of a guest's frame with the guest's own MAC.  What guests send is
    counted here (:class:`SentCounter`).  A frame that nobody is to have is passed on without
    receivers.  The tag of a frame from a function with a VLAN of its own is noted.  Filters and
    VLANs change between frames.

    Latency
    -------
    Five cycles for a guest's frame, three for one from the port; one frame at a time, and while the
    DMA takes the TX memory later.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    tx_frame : ``In(stream)`` of TxFrame
    port_frame : ``In(stream)`` of PortFrame
    header : ``Out(FrameRead)``
    controls : ``In(ArrayLayout(FunctionControl))``
    filter : ``In(stream)`` of FilterChange
    able, receiving : ``In(functions)``
        Functions that may do DMA; those with a driver, among them.
    result : ``Out(stream)`` of ``delivery(functions)``
    note : ``Out(TagNote)``
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "tx_frame": In(stream.Signature(TxFrame)),
                "port_frame": In(stream.Signature(PortFrame)),
                "header": Out(FrameRead()),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "filter": In(stream.Signature(FilterChange)),
                "able": In(config.functions, init=-1),
                "receiving": In(config.functions),
                "result": Out(stream.Signature(delivery(config.functions))),
                "note": Out(TagNote()),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, beats = self.config.functions, self.config.frame_stride // BEAT_BYTES
        job = data.StructLayout({"frame": FrameRef, "source": 8, "pair": 3, "head": FrameHead})
        m.submodules.jobs = jobs = StreamArbiter(job, 2)
        m.submodules.results = self.results = StreamRegister(delivery(functions))
        m.submodules.counter = self.counter = SentCounter()
        m.submodules.filters = filters = Filters(self.config)
        m.submodules.verdict = verdict = Verdict(self.config)
        connect(m, self.results.o, flipped(self.result))
        connect(m, self.counter.stat, flipped(self.stat))
        connect(m, flipped(self.filter), filters.change)
        for source, target in ((self.tx_frame, jobs.i0), (self.port_frame, jobs.i1)):
            m.d.comb += [
                target.valid.eq(source.valid),
                source.ready.eq(target.ready),
                target.payload.frame.eq(source.payload.frame),
            ]
        m.d.comb += [
            jobs.i0.payload.source.eq(self.tx_frame.payload.function),
            jobs.i0.payload.pair.eq(self.tx_frame.payload.pair),
            jobs.i1.payload.source.eq(PORT_SOURCE),
            jobs.i1.payload.head.eq(self.port_frame.payload.head),
        ]
        frame, source = jobs.o.payload.frame, jobs.o.payload.source
        head, read = Signal(FrameHead), Signal(FrameHead)
        guest = frame.memory == LocalMemory.TX
        whole = frame.length >= _HEADER_BYTES + 2
        own = filters.vlan
        m.d.comb += [
            self.header.addr.eq(frame.slot << exact_log2(beats)),
            read.eq(head_of(self.header.data, whole)),
            filters.busy.eq(1),
            filters.function.eq(source),
            filters.mac.eq(head.destination),
            filters.vid.eq(Mux(guest & own.enable, own.vid, head.tci)),
        ]
        self._judge(m, verdict, filters, jobs.o.payload, head)
        with m.FSM():
            with m.State("IDLE"):
                ahead = jobs.o.payload.head
                m.d.comb += [filters.mac.eq(ahead.destination), filters.vid.eq(ahead.tci)]
                m.d.sync += head.eq(ahead)
                m.d.comb += filters.busy.eq(jobs.o.valid & filters.ready)
                with m.If(jobs.o.valid & filters.ready):
                    m.next = "HEADER"
                    with m.If(~guest):
                        m.d.comb += filters.en.eq(1)
                        m.next = "SECOND"
            with m.State("HEADER"):
                m.d.comb += self.header.en.eq(1)
                with m.If(self.header.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.sync += head.eq(read)
                m.d.comb += [
                    filters.en.eq(1),
                    filters.mac.eq(read.destination),
                    filters.vid.eq(Mux(own.enable, own.vid, read.tci)),
                ]
                m.next = "SECOND"
            with m.State("SECOND"):  # of the comparison's cycles
                m.next = "RESOLVE"
            with m.State("RESOLVE"):
                with m.If(self.results.i.ready & self.counter.sent.ready):
                    m.d.comb += [
                        self.results.i.valid.eq(1),
                        self.counter.sent.valid.eq(1),
                        jobs.o.ready.eq(1),
                    ]
                    m.next = "IDLE"
        return m

    def _judge(self, m: Module, verdict, filters, job, head) -> None:
        """What is known of the frame, and what is told of it."""
        guest = job.source != PORT_SOURCE
        result, sent, note = self.results.i.payload, self.counter.sent.payload, self.note
        own = filters.vlan
        adds, mirrors = guest & own.enable, Cat(control.mirror for control in self.controls)
        m.d.comb += [
            verdict.source.eq(job.source),
            verdict.destination.eq(head.destination),
            verdict.tagged.eq(head.tagged | adds),
            verdict.vid.eq(Mux(adds, own.vid, head.tci)),
            verdict.retagged.eq(adds & head.tagged),
            verdict.target.eq(filters.found),
            verdict.is_own.eq(filters.own_mac == head.source),
            verdict.controls.eq(self.controls),
            verdict.able.eq(self.able),
            verdict.receiving.eq(self.receiving),
            verdict.in_vlan.eq(filters.in_vlan),
            result.frame.eq(job.frame),
            result.frame.form.eq(Mux(adds, FrameForm.TAGGED, FrameForm.WHOLE)),
            result.bare.eq(filters.in_vlan & ~mirrors),
            note.en.eq(guest & self.results.i.valid),
            note.slot.eq(job.frame.slot),
            note.tci.eq(Cat(own.vid, Const(0, 1), own.priority)),
            result.functions.eq(verdict.functions),
            result.port.eq(verdict.port),
            result.long.eq(
                job.frame.length
                > self.config.mtu + _HEADER_BYTES + Mux(head.tagged, VLAN_TAG_BYTES, 0)
            ),
            result.group.eq(sent.group),
            result.broadcast.eq(sent.broadcast),
            sent.guest.eq(guest),
            sent.source.eq(job.source),
            sent.pair.eq(job.pair),
            sent.length.eq(job.frame.length),
            sent.group.eq(head.destination[0]),
            sent.broadcast.eq(head.destination.all()),
            sent.refusal.eq(verdict.refusal),
            sent.nobody.eq(verdict.nobody),
            sent.owned.eq(verdict.owned),
            sent.owner.eq(verdict.owner),
        ]
