"""Answers invalidation requests when every older use of a translation has ended."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.iommu import InvalidationPayload
from models.spec.nic import Stat
from models.spec.translation import InvalidationCompletion, InvalidationRequest
from rtl.bus.stream import StreamFifo
from rtl.nic.atc_records import PAGE_BITS, AtcRange
from rtl.nic.seams import StatEvent

__all__ = ["Invalidator"]


class _Kept(data.Struct):
    """An invalidation that is to be answered."""

    device_id: 24
    itag: 5


class Invalidator(wiring.Component):
    """First the ATC, if there is one, forgets what an invalidation covers.  What the invalidation
    must outlive then is the segments that were under way when that was done, waiting for a
    translation or moving data.  Later segments use later translations and do not delay the answer.

    Segments begin in one of two colours.  The colour changes for all invalidations that wait; they
    are answered when the old one's segments have ended.

    Translations of the NIC have no PASID; an invalidation with one is taken as if without.

    Members
    -------
    request : ``In(stream.Signature(InvalidationRequest))``
        Up to 32 wait here, the most that an IOMMU may have outstanding; before an ATC's forgetting
        no more than two.
    forget : ``Out(stream.Signature(AtcRange))``
        Only with an ATC.
    completion : ``Out(stream.Signature(InvalidationCompletion))``
        One for each, in order.
    colour : ``Out(1)``
        Of segments that begin in this cycle.
    begun : ``In(1)``
        One does.
    ended, ended_colour : ``In(1)``
        A segment of that colour has ended.
    stat : ``Out(stream.Signature(StatEvent))``
        Invalidations of the NIC's functions.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        forget = {"forget": Out(stream.Signature(AtcRange))} if config.atc_entries else {}
        super().__init__(
            {
                **forget,
                "request": In(stream.Signature(InvalidationRequest)),
                "completion": Out(stream.Signature(InvalidationCompletion)),
                "colour": Out(1),
                "begun": In(1),
                "ended": In(1),
                "ended_colour": In(1),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.arrived = arrived = StreamFifo(InvalidationRequest, 2)
        m.submodules.waiting = waiting = StreamFifo(_Kept, 32)
        connect(m, flipped(self.request), arrived.i)
        self._forget(m, arrived.o, waiting.i)
        self._drain(m, waiting)
        return m

    def _forget(self, m: Module, request, kept) -> None:
        """Let what is asked for be forgotten, if it is about a function of the NIC."""
        asked, stat = request.payload, self.stat
        number, mine, done = Signal(24), Signal(), Signal()
        m.d.comb += [
            number.eq(asked.device_id - self.config.device_id),
            mine.eq(number < self.config.functions),
            kept.payload.device_id.eq(asked.device_id),
            kept.payload.itag.eq(asked.itag),
            kept.valid.eq(request.valid & done),
            request.ready.eq(kept.ready & done),
        ]
        room = ~stat.valid & kept.ready
        if self.config.atc_entries:
            forget, payload = self.forget, data.View(InvalidationPayload, asked.payload)
            m.d.comb += [
                forget.valid.eq(request.valid & mine & room),
                forget.payload.key.function.eq(number),
                forget.payload.key.page.eq(payload.address),
                done.eq(room & (forget.ready | ~mine)),
            ]
            with m.If(payload.s):  # ones below the lowest zero encode the range
                grown = (payload.address + 1)[:PAGE_BITS]
                m.d.comb += forget.payload.open.eq(payload.address ^ grown)
        else:
            m.d.comb += done.eq(room)
        with m.If(stat.ready):
            m.d.sync += stat.valid.eq(0)
        with m.If(request.valid & done & mine):
            m.d.sync += [
                stat.valid.eq(1),
                stat.payload.function.eq(number),
                stat.payload.stat.eq(Stat.INVALIDATIONS),
                stat.payload.amount.eq(1),
            ]

    def _drain(self, m: Module, waiting) -> None:
        """Change the colour, and answer when the old one has gone."""
        oldest = waiting.o
        slots = self.config.dma_slots
        counts = [Signal(range(slots + 1), name=f"count{colour}") for colour in range(2)]
        covered = Signal(range(33))  # invalidations since which the colour has changed
        m.d.comb += [
            self.completion.payload.device_id.eq(oldest.payload.device_id),
            self.completion.payload.itag_vector.eq(1 << oldest.payload.itag),
            self.completion.payload.count.eq(1),
            self.completion.valid.eq((covered != 0) & (Mux(self.colour, *counts) == 0)),
            oldest.ready.eq(self.completion.valid & self.completion.ready),
        ]
        for colour, count in enumerate(counts):
            begun, ended = Signal(name=f"begun{colour}"), Signal(name=f"ended{colour}")
            m.d.comb += [
                begun.eq(self.begun & (self.colour == colour)),
                ended.eq(self.ended & (self.ended_colour == colour)),
            ]
            m.d.sync += count.eq(count + begun - ended)
        with m.If((covered == 0) & oldest.valid):
            m.d.sync += [covered.eq(waiting.level), self.colour.eq(~self.colour)]
        with m.If(oldest.ready):
            m.d.sync += covered.eq(covered - 1)
