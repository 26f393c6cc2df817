"""Harnesses of the DMA's bus: bursts and strobes are those of a segment's bytes, and no others."""

from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal

from rtl.nic.segments import Segment

from .ports import free, stable, take
from .prover import Plant, Proof, anything

__all__ = ["PROOFS"]

#: What the blocks look at of a configuration: fewer slots, and shorter bursts, than a NIC has.
FEW = SimpleNamespace(dma_slots=4, max_burst_beats=4, device_id=8)
#: Bytes of the longest burst.
PIECE = 64
PAGE = 4096
#: The longest segment whose bursts are followed.
LONGEST = 80


def _offer(m: Module, ports: list, name: str, way, *, message=False) -> None:
    """Offer segments within a page."""
    free(m, ports, name, way)
    slot = way.payload.slot
    m.d.comb += [
        Assume(~way.valid | (way.payload.length != 0)),
        Assume(~way.valid | (way.payload.length <= LONGEST)),
        Assume(~way.valid | (way.payload.address[6:12] < PAGE // PIECE - 2)),
        Assume(~way.valid | (slot == FEW.dma_slots if message else slot < FEW.dma_slots)),
    ]


def _segments(m: Module, ports: list, ways):
    """Return the segment that begins, whether one does, and whether it is the followed one."""
    segment, begins = Signal(Segment), Signal()
    taken = [way.valid & way.ready for way in ways]
    for way, goes in zip(ways, taken, strict=True):
        with m.If(goes):
            m.d.comb += [begins.eq(1), segment.eq(way.payload)]
    m.d.comb += Assert(sum(taken) <= 1)
    followed, it = Signal(), Signal(Segment)
    marks = begins & anything(ports, "mark") & ~followed
    with m.If(marks):
        m.d.sync += [followed.eq(1), it.eq(segment)]
    return segment, begins, marks, followed, it


def _last(m: Module, segment, name: str):
    """Place of a segment's last byte, from the multiple of a burst before its first one."""
    top = Signal(8, name=name)
    m.d.comb += top.eq(segment.address[:6] + segment.length - 1)
    return top


def _before(m: Module, name: str, following, amount, moves):
    """Count what is owed for all that began: whether there is any, what is before the followed
    one, and what of that has moved.
    """
    _, begins, marks, followed, _ = following
    owed, before, own = (Signal(6, name=f"{name}_{what}") for what in ("owed", "before", "own"))
    m.d.sync += owed.eq(owed + Mux(begins, amount, 0) - moves)
    m.d.comb += Assert(~moves | (owed != 0))
    with m.If(marks):
        m.d.sync += before.eq(owed - moves)
    with m.Elif(moves & followed):
        with m.If(before != 0):
            m.d.sync += before.eq(before - 1)
        with m.Else():
            m.d.sync += own.eq(own + (own != 15))
    return before, own


def _bursts(m: Module, channel, following) -> None:
    """Assert that a segment's bursts tile its beats, cut at multiples of the longest."""
    segment, _, _, followed, it = following
    top, final = _last(m, segment, "top"), _last(m, it, "final")
    sends = channel.valid & channel.ready
    before, own = _before(m, "bursts", following, top[6:] + 1, sends)
    burst, first, count = own[:3], it.address[:6], final[6:] + 1
    address, begin, end, block = channel.payload, Signal(2), Signal(2), Signal(58)
    mine = followed & (before == 0) & (own < count) & channel.valid
    m.d.comb += [
        begin.eq(Mux(burst == 0, first[4:], 0)),
        end.eq(Mux(burst == count - 1, final[4:6], 3)),
        block.eq(it.address[6:] + burst),
        Assert(~mine | (address.addr == Cat(Const(0, 4), begin, block))),
        Assert(~mine | (address.len == end - begin)),
        Assert(~mine | (address.id == it.slot)),
        Assert(~mine | (address.user.device_id == FEW.device_id + it.function)),
        Cover(mine & sends & (burst == 1) & (count == 2) & (it.slot == 0)),
    ]


def read(module):
    """Segments of both kinds; bursts of one of them."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.DmaRead(FEW, 3)
    ways, address = (dut.segment, dut.later), dut.bus.ar
    for number, way in enumerate(ways):
        _offer(m, ports, f"way{number}", way)
    take(m, ports, "ar", address)
    stable(m, address)
    m.d.comb += [dut.done.ready.eq(1), dut.yielded.eq(anything(ports, "yielded"))]
    _bursts(m, address, _segments(m, ports, ways))
    return m, ports


def write(module):
    """Segments and messages in any order; bursts and strobes of one of them."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.DmaWrite(FEW, 3)
    bus, ways = dut.bus, (dut.message, dut.segment, dut.later)
    for number, way in enumerate(ways):
        _offer(m, ports, f"way{number}", way, message=way is dut.message)
    for name in ("aw", "w"):
        take(m, ports, name, getattr(bus, name))
        stable(m, getattr(bus, name), name)
    m.d.comb += [
        dut.done.ready.eq(1),
        dut.value.eq(anything(ports, "value", 32)),
        dut.load.data.eq(anything(ports, "loaded", len(dut.load.data))),
    ]
    following = segment, _, _, followed, it = _segments(m, ports, ways)
    _bursts(m, bus.aw, following)
    # A byte of a beat is written if it is the segment's, and only then.
    top, final = _last(m, segment, "top_byte"), _last(m, it, "final_byte")
    moves, first = bus.w.valid & bus.w.ready, it.address[:6]
    beats = top[4:] - segment.address[4:6] + 1
    before, own = _before(m, "beats", following, beats, moves)
    at, last = Signal(5), Signal(4)
    m.d.comb += [at.eq(first[4:] + own), last.eq(final[4:])]
    w, mine = bus.w.payload, followed & bus.w.valid & (before == 0) & (at <= last)
    for lane in range(16):
        written = ((at != first[4:]) | (lane >= first[:4])) & ((at != last) | (lane <= final[:4]))
        m.d.comb += Assert(~mine | (w.strb[lane] == written))
    m.d.comb += [
        Assert(~mine | (w.last == ((at[:2] == 3) | (at == last)))),
        Cover(mine & moves & (own == 2) & (first[:4] == 5) & (final[:4] == 3)),
    ]
    return m, ports


_SHARED = {
    "depth": 9,
    "quick": 9,
    "reach": 14,
}
_ASSUMED = (
    f"segments of 1 to {LONGEST} bytes that begin before the last two bursts of a page; bursts of "
    f"{PIECE} bytes",
    "segments are of four slots, any number of one slot",
)
PROOFS = (
    Proof(
        name="dma-reads",
        claim="the bursts of a segment are those of the beats that its bytes are in, of its "
        "function",
        module="rtl.nic.dma_read",
        harness=read,
        assumptions=(*_ASSUMED, "nothing is answered: as many bursts as may be under way"),
        covers=("a segment of two bursts",),
        plants=(
            Plant(
                name="a segment begins where the last one ended",
                old="within.eq(first.address),",
                new="within.eq(within),",
            ),
        ),
        **_SHARED,
    ),
    Proof(
        name="dma-writes",
        claim="of a segment every byte is written and no other: bursts and strobes are its range's",
        module="rtl.nic.dma_write",
        harness=write,
        assumptions=(
            *_ASSUMED,
            "messages have a slot of their own",
            "nothing is answered: as many bursts as may be under way",
        ),
        covers=("a segment of two bursts", "a third beat of a segment that begins and ends within"),
        plants=(
            Plant(
                name="the last beat is written whole",
                old="Mux(is_last, 0xFFFF >> ~end, 0xFFFF)",
                new="0xFFFF",
            ),
            Plant(
                name="another segment's length",
                old="left.eq(first.length), busy.eq(1)",
                new="left.eq(held.length), busy.eq(1)",
            ),
        ),
        **_SHARED,
    ),
)
