"""Switch between the functions and the Ethernet port."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl, Stat
from rtl.bus.priority import lowest
from rtl.bus.stream import StreamArbiter, StreamFifo, StreamRegister
from rtl.nic.backup.ports import BackupPorts
from rtl.nic.forwarding import Lookup, delivery
from rtl.nic.frame_slots import COUNT_BITS
from rtl.nic.frames import FrameRead, FrameShare
from rtl.nic.port import PortFrame
from rtl.nic.receive_fifos import ReceiveFifos
from rtl.nic.seams import (
    Arrival,
    FilterChange,
    FrameForm,
    FrameRef,
    HeadRead,
    PolicyWrite,
    RxPop,
    StatEvent,
    TxFrame,
)
from rtl.nic.tags import TagNote

__all__ = ["Switch"]


class Switch(wiring.Component):
    """Gives references to frames to those that are to have them; :class:`Lookup` says who.

    A frame is never copied: it gets as many references as it has receivers before the first of
    them is told.  A function whose receive FIFO has its quota of frames does not get it
    (RX_DROPPED_FULL); others do.  One that is longer than the MTU no function gets
    (RX_DROPPED_LONG).  A frame that nobody gets is given back.  Whether a receiver has a frame
    with a tag is said with its reference.

    Latency
    -------
    To one receiver four cycles behind the lookup, and three cycles per frame; to several two
    cycles more per receiver, and two more.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    tx_frame : ``In(stream)`` of TxFrame
        From guests.
    port_frame : ``In(stream)`` of PortFrame
        From the wire.
    header : ``Out(FrameRead)``
    share : ``Out(stream)`` of FrameShare
    release : ``Out(stream)`` of FrameRef
        Frames that wait for a function when it ceases to receive.
    arrival : ``Out(stream)`` of Arrival
    rx_pop : ``In(RxPop)``
    egress : ``Out(stream)`` of FrameRef
        To the wire.
    note : ``Out(TagNote)``
        Tags of frames from guests.
    controls : ``In(ArrayLayout(FunctionControl))``
        As the hypervisor has set them.
    filter : ``In(stream)`` of FilterChange
    head : ``Out(HeadRead)``; stored : ``In(PolicyWrite)``; steering : ``In(functions)``
        How functions spread what they receive over their queue pairs
        (:class:`~rtl.nic.steering.Steering`).
    able, live : ``In(functions)``
        Functions that may do DMA; those that have a driver.
    down : ``In(receivers)``
        Receive queues that take no frames.
    stat : ``Out(stream)`` of StatEvent
    backup : ``In(BackupPorts)``
        With ``config.backup``, the way of frames to backup rings and back.
    found : ``Out(stream)`` of ``delivery(functions)``; checked : ``In(stream)``
        With ``config.checksum``, frames of which it is known who is to have them; they come back
        when their checksums have been looked at.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        found = stream.Signature(delivery(config.functions))
        super().__init__(
            ({"found": Out(found), "checked": In(found)} if config.checksum else {})
            | ({"backup": In(BackupPorts(config))} if config.backup else {})
            | {
                "tx_frame": In(stream.Signature(TxFrame)),
                "port_frame": In(stream.Signature(PortFrame)),
                "header": Out(FrameRead()),
                "share": Out(stream.Signature(FrameShare)),
                "release": Out(stream.Signature(FrameRef)),
                "arrival": Out(stream.Signature(Arrival)),
                "rx_pop": In(RxPop()),
                "egress": Out(stream.Signature(FrameRef)),
                "note": Out(TagNote()),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "filter": In(stream.Signature(FilterChange)),
                "head": Out(HeadRead()),
                "stored": In(PolicyWrite()),
                "steering": In(config.functions),
                "able": In(config.functions, init=-1),
                "live": In(config.functions),
                "down": In(config.receivers),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.lookup = lookup = Lookup(config)
        m.submodules.fifos = fifos = ReceiveFifos(config)
        m.submodules.events = events = StreamArbiter(StatEvent, 3)
        # Every TX slot may be on its way to the wire once.
        m.submodules.sending = sending = StreamFifo(FrameRef, config.tx_slots, block=True)
        connect(m, flipped(self.tx_frame), lookup.tx_frame)
        connect(m, flipped(self.port_frame), lookup.port_frame)
        connect(m, flipped(self.filter), lookup.filter)
        for name in ("header", "note"):
            connect(m, getattr(lookup, name), flipped(getattr(self, name)))
        connect(m, flipped(self.rx_pop), fifos.pop)
        connect(m, fifos.release, flipped(self.release))
        for name in ("arrival", "head"):
            connect(m, getattr(fifos, name), flipped(getattr(self, name)))
        connect(m, flipped(self.stored), fifos.stored)
        if config.backup:
            connect(m, flipped(self.backup), fifos.backup)
        connect(m, fifos.stat, events.i2)
        connect(m, sending.o, flipped(self.egress))
        connect(m, lookup.stat, events.i0)
        connect(m, events.o, flipped(self.stat))
        receiving = Signal(config.functions)
        m.d.sync += receiving.eq(
            self.live & self.able & Cat(self.controls[n].enable for n in range(config.functions))
        )
        m.d.comb += [
            lookup.controls.eq(self.controls),
            lookup.able.eq(self.able),
            lookup.receiving.eq(receiving),
            fifos.receiving.eq(receiving),
            fifos.down.eq(self.down),
            fifos.steering.eq(self.steering),
        ]
        result = lookup.result
        if config.checksum:
            connect(m, lookup.result, flipped(self.found))
            result = self.checked
        m.submodules.told = told = StreamRegister(StatEvent)
        connect(m, told.o, events.i1)
        self._deliver(m, result, fifos, sending.i, told.i)
        return m

    def _deliver(self, m: Module, result, fifos, sending, event) -> None:
        """Find who has room, count references, then tell."""
        current = Signal(delivery(self.config.functions))
        getting = Signal(self.config.functions)  # functions that have room and are to be told
        remaining = Signal(self.config.functions)
        function, count = Signal(8), Signal(COUNT_BITS)
        lowest(m, remaining, function)
        added, bare = current.frame.form == FrameForm.TAGGED, Signal()
        m.d.comb += [
            bare.eq(current.bare.bit_select(function, 1)),
            fifos.function.eq(function),
            fifos.frame.eq(current.frame),
            fifos.frame.form.eq(
                Mux(
                    added,
                    Mux(bare, FrameForm.WHOLE, FrameForm.TAGGED),
                    Mux(bare, FrameForm.UNTAGGED, FrameForm.WHOLE),
                )
            ),
            self.share.payload.frame.eq(current.frame),
            self.share.payload.count.eq(count),
            sending.payload.eq(current.frame),
            event.payload.function.eq(function),
            event.payload.stat.eq(Mux(current.long, Stat.RX_DROPPED_LONG, Stat.RX_DROPPED_FULL)),
            event.payload.amount.eq(1),
        ]
        counted = Signal()  # of a frame to a group: who gets it
        m.d.comb += counted.eq(~current.group | event.ready)
        others = remaining & (remaining - 1)[: len(remaining)]  # without the lowest
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [result.ready.eq(fifos.ready), fifos.quiet.eq(1)]
                m.d.sync += [
                    current.eq(result.payload),
                    remaining.eq(result.payload.functions),
                    getting.eq(0),
                    count.eq(result.payload.port),
                ]
                with m.If(result.valid & result.ready):
                    m.next = "ROOM"
            with m.State("ROOM"):
                with m.If(remaining.any()):
                    with m.If(fifos.room & ~current.long):
                        m.d.sync += [
                            getting.eq(getting | (1 << function)),
                            count.eq(count + 1),
                            remaining.eq(others),
                        ]
                    with m.Else():
                        m.next = "FULL"
                with m.Else():
                    m.d.sync += remaining.eq(getting)
                    m.next = "SHARE"
                    with m.If(count == 1):
                        m.next = "TELL"  # the sender's reference is handed on
            with m.State("FULL"):  # decided: room that appears now is for the next frame
                m.d.comb += event.valid.eq(1)
                with m.If(event.ready):
                    m.d.sync += remaining.eq(others)
                    m.next = "ROOM"
            with m.State("SHARE"):
                m.d.comb += self.share.valid.eq(1)
                with m.If(self.share.ready):
                    m.next = "TELL"  # or, with a count of 0, nobody
            with m.State("TELL"):
                with m.If(remaining.any()):
                    m.d.comb += event.payload.stat.eq(
                        Mux(current.broadcast, Stat.RX_BROADCAST, Stat.RX_MULTICAST)
                    )
                    with m.If(fifos.accepts & counted):
                        m.d.comb += [fifos.push.eq(1), event.valid.eq(current.group)]
                        m.d.sync += remaining.eq(others)
                with m.Else():
                    m.d.comb += sending.valid.eq(current.port)
                    m.next = "IDLE"
