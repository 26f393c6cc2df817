"""Receive FIFOs: frames that wait for a function's driver to offer a buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from models.spec.config import NicConfig
from rtl.bus.stream import StreamRegister
from rtl.nic.seams import FrameRef, LocalMemory, RxPop

__all__ = ["ReceiveFifos"]


class ReceiveFifos(wiring.Component):
    """One FIFO per function, all in one RAM, with a quota per function and memory.

    Frames of the TX and of the RX memory wait in one order, but are counted apart until they are
    given back, so that a function whose driver sleeps keeps at most its share of either memory; the
    shares together leave a slot free (``NicConfig``).

    Counts are in three small RAMs, of what was pushed, popped and given back, each written by one
    side.
    What waits for a function that does not receive is taken out and given back, one function
    looked at per cycle in which the engine neither pops nor gives back.

    Latency
    -------
    A frame pushed in one cycle can be popped in the next.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ready : ``Out(1)``
        Cleared after reset; push nothing before.
    function : ``In(8)``
        Whose FIFO ``room`` and ``push`` are about.
    frame : ``In(FrameRef)``
    room : ``Out(1)``
        The quota has room for a frame of the memory of ``frame``.
    push : ``In(1)``
        Puts ``frame`` in; only with ``room``.
    pop : ``In(RxPop)``
    receiving : ``In(functions)``
    release : ``Out(stream)`` of FrameRef
        Frames of functions that do not receive.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.quotas = config.tx_quota, config.rx_quota
        self.index_bits = ceil_log2(1 + sum(self.quotas))
        super().__init__(
            {
                "ready": Out(1),
                "function": In(8),
                "frame": In(FrameRef),
                "room": Out(1),
                "push": In(1),
                "pop": In(RxPop()),
                "receiving": In(config.functions),
                "release": Out(stream.Signature(FrameRef)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, bits = self.config.functions, self.index_bits
        counts = data.StructLayout({"tx": bits, "rx": bits})  # modulo the places
        m.submodules.pushed = pushed = Memory(shape=counts, depth=functions, init=[])
        m.submodules.popped = popped = Memory(shape=counts, depth=functions, init=[])
        places = functions << bits
        m.submodules.frames = frames = Memory(shape=FrameRef, depth=places, init=[])
        m.submodules.kinds = kinds = Memory(shape=1, depth=places, init=[])
        m.submodules.gone = gone = Memory(shape=counts, depth=functions, init=[])
        push_count, pop_count = pushed.write_port(), popped.write_port()
        in_pushed, in_gone = (ram.read_port(domain="comb") for ram in (pushed, gone))
        out_pushed, out_popped = (ram.read_port(domain="comb") for ram in (pushed, popped))

        scan, clearing = Signal(8), Signal(init=1)
        m.d.comb += self.ready.eq(~clearing)
        m.d.sync += scan.eq(scan + 1)
        with m.If(scan == functions - 1):
            m.d.sync += [scan.eq(0), clearing.eq(0)]

        # In
        put_frame, put_kind = frames.write_port(), kinds.write_port()
        ours, theirs = in_pushed.data, in_gone.data
        tail, from_rx = Signal(bits), Signal()
        waiting_tx, waiting_rx = Signal(bits), Signal(bits)
        m.d.comb += [
            in_pushed.addr.eq(self.function),
            in_gone.addr.eq(self.function),
            tail.eq(ours.tx + ours.rx),
            from_rx.eq(self.frame.memory == LocalMemory.RX),
            waiting_tx.eq(ours.tx - theirs.tx),
            waiting_rx.eq(ours.rx - theirs.rx),
            self.room.eq(Mux(from_rx, waiting_rx != self.quotas[1], waiting_tx != self.quotas[0])),
            push_count.addr.eq(Mux(clearing, scan, self.function)),
            push_count.en.eq(clearing | self.push),
        ]
        with m.If(~clearing):
            m.d.comb += [
                push_count.data.tx.eq(ours.tx + ~from_rx),
                push_count.data.rx.eq(ours.rx + from_rx),
            ]
        for port in (put_frame, put_kind):
            m.d.comb += [port.en.eq(self.push), port.addr.eq(Cat(tail, self.function))]
        m.d.comb += [put_frame.data.eq(self.frame), put_kind.data.eq(from_rx)]

        # Out, for the engine or to give back
        m.submodules.returns = returns = StreamRegister(FrameRef)
        connect(m, returns.o, flipped(self.release))
        get_frame, get_kind = frames.read_port(), kinds.read_port(domain="comb")
        head, function, taken = Signal(bits), Signal(8), Signal()
        returned, returning = Signal(), Signal()
        filled = out_pushed.data.as_value() != out_popped.data.as_value()
        m.d.comb += [
            function.eq(Mux(self.pop.en, self.pop.function, scan)),
            out_pushed.addr.eq(function),
            out_popped.addr.eq(function),
            head.eq(out_popped.data.tx + out_popped.data.rx),
            # Of two in a row the second would find no place.
            returned.eq(
                ~self.pop.en
                & ~self.pop.back
                & ~self.receiving.bit_select(scan, 1)
                & returns.i.ready
                & ~returning
                & ~clearing
                & filled
            ),
            taken.eq((self.pop.en & filled & ~clearing) | returned),
            get_frame.addr.eq(Cat(head, function)),
            get_kind.addr.eq(Cat(head, function)),
            pop_count.addr.eq(Mux(clearing, scan, function)),
            pop_count.en.eq(clearing | taken),
        ]
        with m.If(~clearing):
            m.d.comb += [
                pop_count.data.tx.eq(out_popped.data.tx + ~get_kind.data),
                pop_count.data.rx.eq(out_popped.data.rx + get_kind.data),
            ]
        self._count_gone(m, gone, returned, scan, get_kind.data, clearing)
        m.d.sync += [returning.eq(returned), self.pop.valid.eq(self.pop.en & taken)]
        m.d.comb += [
            self.pop.frame.eq(get_frame.data),
            returns.i.valid.eq(returning),
            returns.i.payload.eq(get_frame.data),
        ]
        return m

    def _count_gone(self, m: Module, gone, returned, scan, kind, clearing) -> None:
        """Count what the engine gives back, and what was given back here."""
        write, read = gone.write_port(), gone.read_port(domain="comb")
        function, from_rx = Signal(8), Signal()
        m.d.comb += [
            function.eq(Mux(self.pop.back, self.pop.back_function, scan)),
            from_rx.eq(Mux(self.pop.back, self.pop.back_memory == LocalMemory.RX, kind)),
            read.addr.eq(function),
            write.addr.eq(Mux(clearing, scan, function)),
            write.en.eq(clearing | self.pop.back | returned),
        ]
        with m.If(~clearing):
            m.d.comb += [
                write.data.tx.eq(read.data.tx + ~from_rx),
                write.data.rx.eq(read.data.rx + from_rx),
            ]
