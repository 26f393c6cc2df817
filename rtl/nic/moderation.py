"""Interrupt moderation: used buffers are notified together (virtio 1.3, 5.1.6.5.8)."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import MANAGEMENT, QueueCoalescing
from models.spec.virtio import MSI_NO_VECTOR
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamStage
from rtl.nic.seams import Interrupt, PolicyWrite, UsedBuffers, VectorWrite

__all__ = ["Moderation"]

_PACKET_BITS = QueueCoalescing.as_shape()["packets"].width
#: Bits of a time: twice the longest that anything waits.
_TIME_BITS = QueueCoalescing.as_shape()["cycles"].width + 1
_FIRST_WORD = MANAGEMENT["coalescing0"].offset // 4


class _Waiting(data.Struct):
    """Used buffers of a queue that its driver has not been told of."""

    packets: _PACKET_BITS
    since: _TIME_BITS


class Moderation(wiring.Component):
    """Holds a queue's interrupt back until enough of its buffers, or the first of them long enough,
    have waited.

    A message goes to the vector that its queue has by then (virtio 1.3, 4.1.5.1.2), and tells of
    whatever waits for that vector: queues of a function that share one are moderated together, by
    the first that has reached its count or time.  Of a queue that is not to be told of, what waits
    and what comes is dropped.
    The first buffers that a driver wants to be told of begin to wait; then all count that are used.
    Settings are ``coalescing`` of the queues; one that is changed counts for what waits already.
    Settings and what waits are in RAM, one queue looked at at a time: that of a notice, else one
    after another.  What waits always goes: a timer of 0 cycles holds nothing back.

    Latency
    -------
    Four cycles for what is not held back.  What is goes at the latest four cycles per queue
    behind its time, and while nothing else wants to be sent.  Where other queues of the function
    wait, two more per queue of the function follow an interrupt, to see which had its vector.
    Between two notices one queue is looked at, so that what waits goes however many come.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    notice : ``In(stream)`` of UsedBuffers
        Wanted or not.
    vector : ``In(VectorWrite)``
        Vectors of the queues, before any notice of them.
    interrupt : ``Out(stream)`` of Interrupt
    stored : ``In(PolicyWrite)``
    told : ``In(queues)``
        Queues whose drivers may be told; ``function * 2 * queue_pairs + queue`` numbers them.
    forget : ``In(queues)``
        Queues that are reset.
    ending : ``In(8)``; holds : ``Out(1)``
        Whether there is an interrupt of a function that has not been taken, a cycle ago.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.per = 2 * config.queue_pairs
        self.queues = config.functions * self.per
        super().__init__(
            {
                "notice": In(stream.Signature(UsedBuffers)),
                "vector": In(VectorWrite()),
                "interrupt": Out(stream.Signature(Interrupt)),
                "stored": In(PolicyWrite()),
                "told": In(self.queues),
                "forget": In(self.queues),
                "ending": In(8),
                "holds": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queues, notice = self.queues, self.notice.payload
        m.submodules.settings = settings = Memory(shape=QueueCoalescing, depth=queues, init=[])
        m.submodules.states = states = Memory(shape=_Waiting, depth=queues, init=[], attrs=BLOCK)
        m.submodules.sending = sending = StreamStage(Interrupt)
        connect(m, sending.o, flipped(self.interrupt))
        m.submodules.vectors = vectors = Memory(shape=16, depth=queues, init=[])
        setting, set_ = settings.read_port(), settings.write_port()
        state, put = states.read_port(), states.write_port()
        vector, assign = vectors.read_port(), vectors.write_port()
        # A setting that was never written is 0.
        known, waits = Signal(queues), Signal(queues)
        self._settings(m, set_, known)

        queue, scan, now = Signal(range(queues)), Signal(range(queues)), Signal(_TIME_BITS)
        fresh = Signal()  # the queue has a notice
        turn = Signal()  # of those that wait
        waiting, limits = Signal(_Waiting), Signal(QueueCoalescing)
        mine, audible = Signal(queues), Signal()
        functions = Array(Const(number // self.per, 8) for number in range(queues))
        others, next_of = self._function_mates(queue)
        told, last = Signal(16), Signal(range(queues))  # the vector that was told, for which queue
        moved = Signal()  # a queue may have it only since
        m.d.sync += [
            now.eq(now + 1),
            audible.eq((self.told & mine).any()),
            self.holds.eq(sending.o.valid & (sending.o.payload.function == self.ending)),
        ]
        m.d.comb += [
            mine.eq(1 << queue),
            setting.addr.eq(queue),
            state.addr.eq(queue),
            put.addr.eq(queue),
            put.data.eq(waiting),
            sending.i.payload.function.eq(functions[queue]),
            sending.i.payload.vector.eq(vector.data),
            vector.addr.eq(queue),
            assign.en.eq(self.vector.en),
            assign.addr.eq(self.vector.queue),
            assign.data.eq(self.vector.vector),
        ]
        most = (1 << _PACKET_BITS) - 1
        total = Signal(17)
        held, before = (waits & mine).any(), state.data
        m.d.comb += total.eq(Mux(held, before.packets, 0) + Mux(fresh, notice.amount, 0))
        with m.If((known & mine).any()):
            m.d.comb += limits.eq(setting.data)
        age, due = Signal(_TIME_BITS), Signal()
        m.d.comb += [
            age.eq(now - waiting.since),
            due.eq(
                (age >= limits.cycles)
                | ((limits.packets != 0) & (waiting.packets >= limits.packets))
            ),
        ]
        setting_waits, clearing = Signal(queues), Signal(queues)
        m.d.sync += waits.eq(((waits & ~clearing) | setting_waits) & ~self.forget)
        with m.FSM():
            with m.State("IDLE"):
                takes = self.notice.valid & ~turn
                m.d.sync += [fresh.eq(takes), turn.eq(0), queue.eq(scan)]
                with m.If(takes):
                    m.d.sync += [queue.eq(notice.queue), turn.eq(1)]
                    m.next = "LOOK"
                with m.Else():
                    m.d.sync += scan.eq(Mux(scan == queues - 1, 0, scan + 1))
                    with m.If((waits >> scan)[0]):
                        m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "WEIGH"
            with m.State("WEIGH"):
                m.d.sync += [
                    waiting.packets.eq(Mux(total > most, most, total)),
                    waiting.since.eq(Mux(held, before.since, now)),
                ]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "IDLE"
                with m.If(~held & ~(fresh & notice.wanted)):
                    m.d.comb += self.notice.ready.eq(fresh)
                with m.Elif(~audible):
                    m.d.comb += [self.notice.ready.eq(fresh), clearing.eq(mine)]
                with m.Else():
                    m.d.comb += sending.i.valid.eq(due)
                    with m.If(~due):
                        m.d.comb += [put.en.eq(1), setting_waits.eq(mine)]
                    with m.Elif(sending.i.ready):
                        m.d.comb += clearing.eq(mine)
                        m.d.sync += [told.eq(vector.data), last.eq(queue), moved.eq(0)]
                        with m.If((waits & others).any() & (vector.data != MSI_NO_VECTOR)):
                            m.d.sync += queue.eq(next_of)
                            m.next = "SHARE"
                    with m.Else():
                        m.next = "DECIDE"
                    m.d.comb += self.notice.ready.eq(fresh & (~due | sending.i.ready))
            with m.State("SHARE"):
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += queue.eq(next_of)
                m.next = "SHARE"
                with m.If((queue == last) | moved):
                    m.next = "IDLE"
                with m.Elif(vector.data == told):
                    m.d.comb += clearing.eq(mine)
        with m.If(self.vector.en):
            m.d.sync += moved.eq(1)
        return m

    def _function_mates(self, queue):
        """The other queues of a queue's function, and the one behind it, around."""
        numbers = range(self.queues)
        firsts = [number - number % self.per for number in numbers]
        group = (1 << self.per) - 1
        others = Array(
            Const((group << first) & ~(1 << number), self.queues)
            for number, first in zip(numbers, firsts, strict=True)
        )
        behind = Array(
            Const(first + (number - first + 1) % self.per, range(self.queues))
            for number, first in zip(numbers, firsts, strict=True)
        )
        return others[queue], behind[queue]

    def _settings(self, m: Module, port, known) -> None:
        """Follow the registers."""
        stored, within = self.stored, Signal(8)
        mine = Signal()
        m.d.comb += [
            within.eq(stored.word - _FIRST_WORD),
            mine.eq(stored.en & (stored.word >= _FIRST_WORD) & (within < self.per)),
            port.en.eq(mine),
            port.addr.eq(stored.function * self.per + within),
            port.data.eq(stored.data),
        ]
        with m.If(mine):
            m.d.sync += known.bit_select(port.addr, 1).eq(1)
