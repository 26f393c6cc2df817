"""Translations ahead of use: the pages that published descriptors name (PCIe Base 6.0, 10.1.3)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl, QueueError
from rtl.bus.priority import lowest
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.engine.records import HEADER_BYTES, Shapes, Unit
from rtl.nic.seams import LocalMemory

__all__ = ["WAITING", "Prefetch"]

#: Descriptors that wait until their pages are asked for; what comes beyond is not.
WAITING = 16
#: Bits of a page's number that tell whether it has been asked for.
_KNOWN_BITS = 8
_PAGE_BITS, _OFFSET_BITS = 52, 12


class Prefetch(wiring.Component):
    """Asks for the translation of every page that a descriptor names as soon as it is known, so
    that the device TLB has it when the frame comes, or a page that is not there is asked for.

    It is a hint: what there is no room for is forgotten, and frames that meet a page that is not
    there do what they always do.  Pages of a function that has its share of them under way wait
    behind those of others, as long as half of the places are free.  Of a buffer for a frame that is
    received only as much counts as the longest frame fills.

    Latency
    -------
    Descriptor to job: five cycles; a page every other cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    put : ``In(1)``; queue : ``In``; entry : ``In``
        A descriptor is put into the buffer of a queue.
    able : ``In(queues)``
        Queues that run; those of others are forgotten.
    controls : ``In(ArrayLayout(FunctionControl))``
    job : ``Out(stream)``; ended : ``In(stream)``
        Requests of length 0, at most ``config.prefetch`` at once.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        shapes = self.shapes
        super().__init__(
            {
                "put": In(1),
                "queue": In(shapes.queue),
                "entry": In(shapes.descriptor),
                "able": In(config.data_queues),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "job": Out(stream.Signature(shapes.job)),
                "ended": In(stream.Signature(shapes.ended)),
            }
        )
        #: A descriptor's pages: the first, and how many follow.
        self._pages = data.StructLayout(
            {"queue": shapes.queue, "page": _PAGE_BITS, "more": shapes.length - _OFFSET_BITS + 1}
        )
        self._known = data.StructLayout({"function": 8, "write": 1, "page": _KNOWN_BITS})

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = self.waiting = StreamFifo(self._pages, WAITING)
        self.fresh, self.back = Signal(), Signal()
        self.found, self.again = Signal(self._pages), Signal(self._pages)
        m.submodules.jobs = self.jobs = StreamRegister(self.shapes.job)
        connect(m, self.jobs.o, flipped(self.job))
        self._take(m)
        self._ask(m)
        m.d.comb += [
            self.waiting.i.valid.eq(self.fresh | self.back),
            self.waiting.i.payload.eq(Mux(self.fresh, self.found, self.again)),
        ]
        return m

    def _take(self, m: Module) -> None:
        """Note the pages of a descriptor, unless they are those of the one before."""
        entry, pages, last = self.entry, Signal(self._pages), Signal(self._pages)
        shapes, longest = self.shapes, HEADER_BYTES + self.config.longest_frame
        end, length = Signal(shapes.length + 1), Signal(shapes.length)
        control, fresh = Signal(FunctionControl), Signal()
        receives = ~self.queue[0]
        m.d.comb += [
            length.eq(Mux(receives & (entry.length > longest), longest, entry.length)),
            end.eq(entry.address[:_OFFSET_BITS] + length - 1),
            control.eq(self.controls[shapes.function_of(self.queue)]),
            pages.queue.eq(self.queue),
            pages.page.eq(entry.address[_OFFSET_BITS:]),
            pages.more.eq(end >> _OFFSET_BITS),
            fresh.eq(
                self.put
                & (entry.error == QueueError.NONE)
                & ~entry.absent
                & (length != 0)
                & control.enable
                & control.ats
                & ((pages != last) | (pages.more != 0))
            ),
        ]
        m.d.sync += [self.fresh.eq(fresh), self.found.eq(pages)]
        with m.If(fresh):
            m.d.sync += last.eq(pages)

    def _ask(self, m: Module) -> None:
        """Ask for one page after another, unless it has been; or later, if there is no room."""
        count = self.config.prefetch
        known = [Signal(self._known, name=f"known{number}") for number in range(count)]
        busy, free = Signal(count), Signal(range(max(2, count)))
        waiting, jobs, job = self.waiting.o, self.jobs.i, self.jobs.i.payload
        pages, wanted = waiting.payload, Signal(self._known)
        step, page = Signal.like(pages.more), Signal(_PAGE_BITS)
        runs, skips, full, asks = (Signal(name=n) for n in ("runs", "skips", "full", "asks"))
        known_one, no_room, looked, goes = Signal(), Signal(), Signal(), Signal()
        same = Cat(bit & (one == wanted) for bit, one in zip(busy, known, strict=True))
        mine = [
            bit & (one.function == wanted.function) for bit, one in zip(busy, known, strict=True)
        ]
        lowest(m, ~busy, free)
        m.d.comb += [
            page.eq(pages.page + step),
            wanted.function.eq(self.shapes.function_of(pages.queue)),
            wanted.write.eq(~pages.queue[0]),
            wanted.page.eq(page),
            runs.eq(self.able.bit_select(pages.queue, 1)),
            # What was seen in the cycle before: since then there can only be more room.
            skips.eq(~runs | known_one),
            full.eq(~skips & no_room),
            goes.eq(waiting.valid & looked),
            jobs.valid.eq(goes & ~skips & ~full),
            asks.eq(jobs.valid & jobs.ready),
            self.back.eq(goes & full & (self.waiting.level < WAITING // 2)),
            self.again.queue.eq(pages.queue),
            self.again.page.eq(page),
            self.again.more.eq(pages.more - step),
            waiting.ready.eq(
                looked
                & Mux(full, ~self.back | ~self.fresh,
                      (~runs | (step == pages.more)) & (skips | jobs.ready))
            ),
            job.owner.unit.eq(Unit.PREFETCH),
            job.owner.queue.eq(pages.queue),
            job.owner.packet.eq(free),
            job.write.eq(wanted.write),
            job.iova.eq(Cat(Const(0, _OFFSET_BITS), page)),
            job.memory.eq(LocalMemory.NOWHERE),
        ]  # fmt: skip
        m.d.sync += [
            known_one.eq(same.any()),
            no_room.eq(busy.all() | (sum(mine) >= self.config.prefetch_share)),
            looked.eq(waiting.valid & ~looked),
        ]
        with m.If(waiting.valid & waiting.ready):
            m.d.sync += step.eq(0)
        with m.Elif(goes & (skips | asks)):
            m.d.sync += step.eq(step + 1)
        begun, over = Signal(count), Signal(count)
        m.d.comb += [
            self.ended.ready.eq(1),
            begun.eq(asks << free),
            over.eq(self.ended.valid << self.ended.payload.owner.packet),
        ]
        m.d.sync += busy.eq((busy | begun) & ~over)
        for number, one in enumerate(known):
            with m.If(begun[number]):
                m.d.sync += one.eq(wanted)
