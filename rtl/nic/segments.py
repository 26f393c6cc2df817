"""What the parts of the DMA engine tell each other, and how segments become bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum

from models.spec.config import NicConfig
from models.spec.translation import AddressType, DmaUser
from rtl.nic.seams import LocalMemory

__all__ = [
    "BUS_BYTES",
    "PAGE_BYTES",
    "PATIENCE",
    "SLOT_BITS",
    "TAG_BITS",
    "Again",
    "Answer",
    "AnswerKind",
    "Begun",
    "Cut",
    "End",
    "EndKind",
    "Segment",
    "burst_bytes",
    "burst_length",
    "drive_user",
    "turned",
    "yielding_slots",
]

BUS_BYTES = 16
PAGE_BYTES = 4096
#: Cycles for which a segment that yields waits for others at the most.
PATIENCE = 128
#: Bits of the number of a slot: up to 64 of them, and messages.
SLOT_BITS = 7
#: Bits of the tag of a request.
TAG_BITS = 8


class Again(data.Struct):
    """A request that goes on."""

    tag: TAG_BITS
    following: 1  # with its next segment, else with the same one


class Cut(data.Struct):
    """A segment that is to begin: what a request has of a page, or of a piece if it ``yields``."""

    tag: TAG_BITS
    function: 8
    write: 1
    hurried: 1
    iova: 64
    length: 13
    memory: LocalMemory
    offset: 24
    more: 1  # the request goes on after it
    yields: 1


class Begun(data.Struct):
    """A segment that has taken a slot: all that is known before its translation."""

    slot: SLOT_BITS
    tag: TAG_BITS
    function: 8
    write: 1
    hurried: 1
    iova: 64
    length: 13
    memory: LocalMemory
    offset: 24
    more: 1
    yields: 1
    ats: 1
    colour: 1  # of the invalidator


class AnswerKind(enum.IntEnum, shape=2):
    """What a segment's translation says."""

    PAGE = 0  # rights and the page
    UNTRANSLATED = 1  # go untranslated
    REFUSED = 2
    DISABLED = 3  # was not asked for: the function is disabled


class Answer(data.Struct):
    """The translation of a segment."""

    slot: SLOT_BITS
    kind: AnswerKind
    r: 1
    w: 1
    large: 1  # the page is part of a range of 2 MiB or more, all of it translated likewise
    value: 47  # page number, or the cause


class Segment(data.Struct):
    """A transfer within one page, translated.  ``slot`` is its AXI ID."""

    slot: SLOT_BITS
    address: 64
    length: 13
    function: 8
    translated: 1
    memory: LocalMemory
    offset: 24


class EndKind(enum.IntEnum, shape=3):
    """How a segment ends."""

    MOVED = 0
    ERROR = 1  # of the bus
    REFUSED = 2
    DISABLED = 3
    CANCELLED = 4
    ABSENT = 5
    PARKED = 6  # the request is to wait for its page
    STALE = 7  # its translation is older than an invalidation; it asks again


class End(data.Struct):
    """The end of a segment; its slot is free."""

    slot: SLOT_BITS
    kind: EndKind
    cause: 12


def burst_bytes(m: Module, address, left, config: NicConfig, name: str):
    """Bytes of the next burst, no further than the next multiple of the longest burst, and whether
    it is the last one.
    """
    size = config.max_burst_beats * BUS_BYTES
    bits = (size - 1).bit_length()
    end, taken = Signal(14, name=f"{name}_end"), Signal(13, name=f"{name}_bytes")
    last = Signal(name=f"{name}_last")
    m.d.comb += [
        end.eq(address[:bits] + left),
        last.eq((end[bits:] == 0) | (end == size)),
        taken.eq(Mux(last, left, size - address[:bits])),
    ]
    return taken, last


def yielding_slots(config: NicConfig) -> int:
    """Slots that segments which yield have at most, together."""
    return max(1, config.dma_slots * 3 // 8)


def burst_length(address, taken):
    """AxLEN of a burst of ``taken`` bytes from ``address``."""
    return ((address[:4] + taken + (BUS_BYTES - 1)) >> 4) - 1


def drive_user(m: Module, user, segment, config: NicConfig) -> None:
    """Drive a :class:`DmaUser` with whose access a segment is."""
    assert user.shape() is DmaUser
    m.d.comb += [
        user.device_id.eq(config.device_id + segment.function),
        user.at.eq(Mux(segment.translated, AddressType.TRANSLATED, AddressType.UNTRANSLATED)),
    ]


def turned(value, lanes):
    """A beat, or a bit per byte of it, whose lane *n* has come to lane *n + lanes* modulo 16."""
    width = len(value) // BUS_BYTES
    for level in range(4):
        value = Mux(lanes[level], value.rotate_left(width << level), value)
    return value
