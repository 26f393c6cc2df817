"""Who is to have a frame: the switch's first half."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import PORT_SOURCE, FunctionControl, Stat
from rtl.bus.priority import lowest
from rtl.bus.stream import StreamArbiter, StreamRegister
from rtl.nic.frames import BEAT_BYTES, FrameRead
from rtl.nic.port import PortFrame
from rtl.nic.seams import FrameRef, LocalMemory, StatEvent, TxFrame

__all__ = ["Lookup", "delivery"]


def delivery(functions: int) -> data.StructLayout:
    """Layout of a frame with its receivers: ``frame``, a bit per function, ``port``."""
    return data.StructLayout({"frame": FrameRef, "functions": functions, "port": 1})


class Lookup(wiring.Component):
    """Finds the receivers of frames from guests and from the port.

    ============ ==================================== ===========================
    destination  from a guest                         from the port
    ============ ==================================== ===========================
    a MAC here   the enabled functions that have it   the same
    a group      all enabled functions, and the port  all enabled functions
    another      the port                             none
    ============ ==================================== ===========================

    Promiscuous functions have every frame as well, whoever sends it and whoever it is for (virtio
    1.3, 5.1.6.5.1); only management can make a function promiscuous.  Never the source, and only
    functions that receive.  A frame that nobody is to have is passed on without receivers, and
    counted: TX_DROPPED of the source if that is disabled or has sent to its own MAC, else
    RX_DROPPED_FILTER of the function that has the MAC; of the PF if none has.

    Latency
    -------
    Five cycles; one frame every five cycles, and while the DMA takes the TX memory later.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    tx_frame : ``In(stream)`` of TxFrame
    port_frame : ``In(stream)`` of PortFrame
    header : ``Out(FrameRead)``
    controls : ``In(ArrayLayout(FunctionControl))``
    macs : ``In(ArrayLayout(48))``
    receiving : ``In(functions)``
        Functions with a driver, among those enabled.
    result : ``Out(stream)`` of ``delivery(functions)``
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
                "macs": In(data.ArrayLayout(48, config.functions)),
                "receiving": In(config.functions),
                "result": Out(stream.Signature(delivery(config.functions))),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, beats = self.config.functions, self.config.frame_bytes // BEAT_BYTES
        job = data.StructLayout({"frame": FrameRef, "source": 8, "destination": 48})
        m.submodules.jobs = jobs = StreamArbiter(job, 2)
        m.submodules.results = results = StreamRegister(delivery(functions))
        m.submodules.events = events = StreamRegister(StatEvent)
        connect(m, results.o, flipped(self.result))
        connect(m, events.o, flipped(self.stat))
        for source, target in ((self.tx_frame, jobs.i0), (self.port_frame, jobs.i1)):
            m.d.comb += [
                target.valid.eq(source.valid),
                source.ready.eq(target.ready),
                target.payload.frame.eq(source.payload.frame),
            ]
        m.d.comb += [
            jobs.i0.payload.source.eq(self.tx_frame.payload.function),
            jobs.i1.payload.source.eq(PORT_SOURCE),
            jobs.i1.payload.destination.eq(self.port_frame.payload.destination),
        ]

        frame, source = jobs.o.payload.frame, jobs.o.payload.source
        destination, match = Signal(48), Signal(functions)
        m.d.comb += self.header.addr.eq(frame.slot << exact_log2(beats))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += destination.eq(jobs.o.payload.destination)
                with m.If(jobs.o.valid):
                    m.next = "MATCH"
                    with m.If(frame.memory == LocalMemory.TX):
                        m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += self.header.en.eq(1)
                with m.If(self.header.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.sync += destination.eq(self.header.data[:48])
                m.next = "MATCH"
            with m.State("MATCH"):
                m.d.sync += match.eq(Cat(self.macs[n] == destination for n in range(functions)))
                m.next = "RESOLVE"
            with m.State("RESOLVE"):
                self._resolve(m, frame, source, destination[0], match, results.i, events.i)
                with m.If(results.i.ready & events.i.ready):
                    m.d.comb += [results.i.valid.eq(1), jobs.o.ready.eq(1)]
                    m.next = "IDLE"
        return m

    def _resolve(self, m: Module, frame, source, group, match, result, event) -> None:
        """Set of receivers, and whom to blame if it is empty."""
        functions = range(self.config.functions)
        enabled = Cat(self.controls[n].enable for n in functions)
        promiscuous = Cat(self.controls[n].promiscuous for n in functions)
        guest, own, others = Signal(), Signal(len(functions)), Signal(len(functions))
        wanted, port, sender_enabled = Signal(len(functions)), Signal(), Signal()
        blamed = Signal(8)
        m.d.comb += [
            guest.eq(source != PORT_SOURCE),
            own.eq(Cat(source == n for n in functions)),
            others.eq(match & ~own),
            sender_enabled.eq(~guest | (enabled & own).any()),
        ]
        with m.If(group):
            m.d.comb += [wanted.eq(enabled), port.eq(guest)]
        with m.Elif((match & enabled).any()):
            m.d.comb += wanted.eq(match & enabled)
        with m.Else():
            m.d.comb += port.eq(guest)
        lowest(m, others, blamed)
        receivers = result.payload
        m.d.comb += [
            receivers.frame.eq(frame),
            receivers.functions.eq(
                Mux(
                    sender_enabled,
                    (wanted | promiscuous) & ~own & self.receiving & enabled,
                    0,
                )
            ),
            receivers.port.eq(port & sender_enabled),
            event.payload.amount.eq(1),
            event.payload.function.eq(blamed),
            event.payload.stat.eq(Stat.RX_DROPPED_FILTER),
            event.valid.eq(result.valid & ~receivers.port & ~receivers.functions.any()),
        ]
        with m.If(~sender_enabled | (guest & ~others.any())):
            m.d.comb += [event.payload.function.eq(source), event.payload.stat.eq(Stat.TX_DROPPED)]
