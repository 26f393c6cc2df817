"""MSI-X: tables, pending bits, and who gets which message when."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from models.spec.config import NicConfig
from models.spec.nic import MsixEntry, Stat
from rtl.bus.lite import RegisterPort
from rtl.bus.priority import lowest
from rtl.bus.ram import SETTLED
from rtl.bus.stream import StreamRegister, StreamStage
from rtl.nic.register_map import PAGE_BITS, Page, function_of, page_of
from rtl.nic.seams import Interrupt, MsiWrite, StatEvent

__all__ = ["Msix"]

WORD_BITS = 32
#: Interrupts that may go before other work.
_IN_ROW = 16


class _Entry(data.Struct):
    """What is kept per vector: a table entry whose reserved bits hold the pending bit."""

    address: 64
    data: 32
    mask: 1
    reserved: 30
    pending: 1


class Msix(wiring.Component):
    """Turns interrupts into messages (PCI Base 6.0, 6.1.4).

    An interrupt of a masked vector, or of a function that may not send, sets the pending bit; the
    message goes when the vector is not masked and the function may send.  An interrupt of a vector
    that the table does not have is dropped, MSI_NO_VECTOR too.  A fence goes on among the messages;
    that of a whole function clears its pending bits first, one per cycle (virtio 1.3, 2.4.1).

    All entries are in RAM and looked at one at a time: software's accesses first, then interrupts,
    then vectors that may have become free to send, function by function, and tables to reset, in
    turn.  After 16 interrupts in a row one of the others has its turn.
    A reset masks all vectors of a function and clears their pending bits, one per cycle.

    Latency
    -------
    Interrupt to message offered: four cycles.  Table access: three cycles, pending bits as many as
    there are vectors and three.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``
        Accesses to the MSI-X table and pending-bit pages of a BAR.
    allowed : ``In(functions)``
        Functions that may send.
    clear : ``In(functions)``, cleared : ``Out(functions)``
        Functions to reset, held until they are, which is told for one cycle.
    interrupt : ``In(stream)`` of Interrupt
    message : ``Out(stream)`` of MsiWrite
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.vector_bits = ceil_log2(config.msix_vectors)
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=24)),
                "allowed": In(config.functions),
                "clear": In(config.functions),
                "cleared": Out(config.functions),
                "interrupt": In(stream.Signature(Interrupt)),
                "message": Out(stream.Signature(MsiWrite)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, vectors = self.config.functions, self.config.msix_vectors
        depth = functions << self.vector_bits
        m.submodules.table = table = Memory(shape=128, depth=depth, init=[], attrs=SETTLED)
        load, store = table.read_port(), table.write_port(granularity=8)
        m.submodules.messages = messages = StreamStage(MsiWrite)
        m.submodules.counts = counts = StreamRegister(StatEvent)
        connect(m, messages.o, flipped(self.message))
        connect(m, counts.o, flipped(self.stat))

        request, response = self.bus.request, self.bus.response
        access = Signal.like(request.payload)  # the one under way
        function, vector = Signal(8), Signal(self.vector_bits)  # being looked at
        entry = data.View(_Entry, load.data)
        enabled, recheck = Signal(functions), Signal(functions)
        m.d.comb += [
            enabled.eq(self.allowed),
            load.addr.eq(Cat(vector, function)),
            store.addr.eq(Cat(vector, function)),
        ]
        enabled_before = Signal.like(enabled)
        m.d.sync += enabled_before.eq(enabled)

        # Vectors that may have become free to send: of functions enabled or unmasked just now
        unmasked, checked = Signal(functions), Signal(functions)
        m.d.sync += recheck.eq((recheck & ~checked) | unmasked | (enabled & ~enabled_before))
        candidate, stale, first_stale = Signal(8), Signal(functions), Signal(8)
        # All functions are reset when the power comes.
        fresh = Signal(functions, init=-1)
        m.d.comb += stale.eq(self.clear | fresh)
        # In turn: those that have had none, then all again; and tables between them.
        served, left, others = Signal(functions), Signal(functions), Signal()
        m.d.comb += left.eq(recheck & ~served)
        lowest(m, Mux(left.any(), left, recheck), candidate)
        lowest(m, stale, first_stale)
        in_row, late = Signal(range(_IN_ROW + 1)), Signal()  # interrupts while others wait
        m.d.comb += late.eq((in_row == _IN_ROW) & (recheck.any() | stale.any()))

        message, count = messages.i.payload, counts.i.payload
        send, pend, raised = Signal(), Signal(), Signal()  # raised: by an interrupt, not a recheck
        fence, of_read = Signal(), Signal()
        able = Signal()
        m.d.comb += [
            able.eq(enabled.bit_select(function, 1) & ~entry.mask),
            message.function.eq(function),
            message.address.eq(entry.address),
            message.data.eq(entry.data),
            message.fence.eq(fence),
            message.read.eq(of_read),
            messages.i.valid.eq(fence | (send & counts.i.ready)),
            counts.i.valid.eq((send & messages.i.ready) | pend),
            count.function.eq(function),
            count.stat.eq(Mux(pend, Stat.INTERRUPTS_MASKED, Stat.INTERRUPTS)),
            count.amount.eq(1),
        ]
        pending_byte = 1 << 15
        m.d.comb += store.data[127].eq(pend)

        word, part = access.addr[2:4], Signal(range(WORD_BITS))
        asked_vector = request.payload.addr[4:PAGE_BITS]
        in_table = page_of(request.payload.addr) == Page.MSIX_TABLE
        bits_base = Signal(PAGE_BITS + 5)  # first vector of a word of pending bits
        m.d.comb += bits_base.eq(request.payload.addr[2:PAGE_BITS] << 5)
        answer = Signal(WORD_BITS)
        m.d.comb += response.payload.eq(answer)

        with m.FSM(init="IDLE"):
            with m.State("CLEAR"):
                m.d.comb += [
                    store.en.eq(-1),
                    store.data.eq(_Entry.const({"mask": 1}).as_bits()),
                ]
                m.d.sync += vector.eq(vector + 1)
                with m.If(vector == vectors - 1):
                    m.d.comb += self.cleared.eq(1 << function)
                    m.d.sync += fresh.eq(fresh & ~self.cleared)
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.sync += [answer.eq(0), part.eq(0)]
                with m.If(request.valid & ~fresh.any()):
                    m.d.comb += request.ready.eq(1)
                    m.d.sync += access.eq(request.payload)
                    m.d.sync += function.eq(function_of(request.payload.addr))
                    with m.If(in_table):
                        m.d.sync += vector.eq(asked_vector)
                        m.next = "ACCESS"
                        with m.If(asked_vector >= vectors):
                            m.next = "RESPOND"
                    with m.Else():
                        m.d.sync += vector.eq(bits_base)
                        m.next = "PENDING"
                        with m.If(bits_base >= vectors):
                            m.next = "RESPOND"
                with m.Elif(self.interrupt.valid & ~fresh.any() & ~late):
                    interrupt = self.interrupt.payload
                    m.d.comb += self.interrupt.ready.eq(1)
                    with m.If(~recheck.any() & ~stale.any()):
                        m.d.sync += in_row.eq(0)
                    with m.Elif(in_row != _IN_ROW):
                        m.d.sync += in_row.eq(in_row + 1)
                    m.d.sync += [
                        function.eq(interrupt.function),
                        vector.eq(interrupt.vector),
                        raised.eq(1),
                        of_read.eq(interrupt.read),
                    ]
                    with m.If(interrupt.fence):
                        m.next = "FENCE"
                        with m.If(interrupt.whole):
                            m.d.sync += vector.eq(0)
                            m.next = "FORGET"
                    with m.Elif((interrupt.vector < vectors) & (interrupt.function < functions)):
                        m.next = "LOOK"
                with m.Elif(recheck.any() & ~(others & stale.any())):
                    m.d.sync += [in_row.eq(0), others.eq(1)]
                    m.d.sync += served.eq(Mux(left.any(), served, 0) | checked)
                    m.d.comb += checked.eq(1 << candidate)
                    m.d.sync += [function.eq(candidate), vector.eq(0), raised.eq(0)]
                    m.next = "LOOK"
                with m.Elif(stale.any()):
                    m.d.sync += [in_row.eq(0), others.eq(0), function.eq(first_stale), vector.eq(0)]
                    m.next = "CLEAR"
            with m.State("FORGET"):
                m.d.comb += store.en.eq(pending_byte)
                m.d.sync += vector.eq(vector + 1)
                with m.If(vector == vectors - 1):
                    m.next = "FENCE"
            with m.State("FENCE"):
                m.d.comb += fence.eq(1)
                with m.If(messages.i.ready):
                    m.next = "IDLE"
            with m.State("LOOK"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(raised & ~able):
                    m.d.comb += pend.eq(1)
                    with m.If(counts.i.ready):
                        m.d.comb += store.en.eq(pending_byte)
                        m.next = "IDLE"
                with m.Elif(able & (raised | entry.pending)):
                    m.d.comb += send.eq(1)
                    with m.If(messages.i.ready & counts.i.ready):
                        m.d.comb += store.en.eq(pending_byte)
                        m.next = "NEXT"
                with m.Else():
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += vector.eq(vector + 1)
                m.next = "LOOK"
                with m.If(raised | (vector == vectors - 1)):
                    m.next = "IDLE"
            with m.State("ACCESS"):
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                visible = Signal(MsixEntry)
                m.d.comb += [visible.eq(load.data), visible.reserved.eq(0)]
                with m.If(access.write):
                    strobes = access.strb
                    # Of the last word only the mask is kept.
                    with m.Switch(word):
                        for number in range(3):
                            with m.Case(number):
                                m.d.comb += store.en.eq(strobes << 4 * number)
                        with m.Default():
                            m.d.comb += store.en.eq(strobes[0] << 12)
                            m.d.comb += unmasked.eq((strobes[0] & ~access.data[0]) << function)
                    m.d.comb += store.data.eq(access.data.replicate(4))
                    m.d.comb += store.data[97:104].eq(0)
                    m.d.comb += store.data[:2].eq(0)  # messages are aligned (PCI Base 6.0, 7.7.2.1)
                with m.Else():
                    m.d.sync += answer.eq(visible.as_value().word_select(word, WORD_BITS))
                m.next = "RESPOND"
            with m.State("PENDING"):
                # One vector per two cycles into its bit
                m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.sync += answer.bit_select(part, 1).eq(entry.pending)
                m.d.sync += [part.eq(part + 1), vector.eq(vector + 1)]
                m.next = "PENDING"
                with m.If((part == WORD_BITS - 1) | (vector == vectors - 1)):
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"
        return m
