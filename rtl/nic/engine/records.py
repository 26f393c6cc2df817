"""What the units of the virtqueue engine tell each other."""

from amaranth.hdl import Array, Cat, Const, Mux
from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from models.spec.config import NicConfig
from models.spec.nic import QueueError
from models.spec.virtio import NetHeader
from rtl.nic.seams import DmaStatus, LocalMemory

__all__ = [
    "BATCH",
    "BUFFER",
    "ELEMENT_BEAT",
    "EVENT_BEAT",
    "FLAGS_BEAT",
    "HEADER_BYTES",
    "HEADS",
    "INDEX_BEAT",
    "INNER_BEAT",
    "INNER_WINDOW",
    "INWARD_BEATS",
    "PACKETS",
    "RECEIVE_BUFFER",
    "SCRATCH_BEATS",
    "SHORTEST",
    "TABLE_BEAT",
    "USED_PLACES",
    "WINDOW",
    "FetchPhase",
    "QueueSetup",
    "RingKind",
    "Shapes",
    "Unit",
    "absent",
    "accepted",
    "advance",
    "without",
]

#: Bytes of virtio_net_hdr.
HEADER_BYTES = NetHeader.as_shape().size // 8
#: Bytes of the shortest frame.
SHORTEST = 14
#: Descriptors that wait per queue that transmits, and per queue that receives.  Their pages are
#: asked for meanwhile: those of what is sent are needed soon, others perhaps not for long.
BUFFER, RECEIVE_BUFFER = 64, 16
#: Packets under way per queue.
PACKETS = 16
#: Used elements that wait per queue.
USED_PLACES = 16
#: Used elements that are written at once when there are so many.
BATCH = 4
#: Beats of scratch memory: used elements, the used index, avail_event or a packed ring's event
#: suppression structure of the device, and where the driver's flags land.  None is the first: a DMA
#: may begin to load up to 15 bytes before what it is to move.
ELEMENT_BEAT = 1
INDEX_BEAT = 18
EVENT_BEAT = 19
FLAGS_BEAT = 1
#: Heads that are read at once.
HEADS = 12
#: 16-byte beats of scratch memory per queue, in both directions.
SCRATCH_BEATS = 32
#: The first beat of what was read of the descriptor table, and how many there are at most.
TABLE_BEAT = 4
WINDOW = 12
#: Likewise of indirect tables.
INNER_BEAT = 16
INNER_WINDOW = 12
#: Beats per queue that are kept of what is read: those of 36 queues fit the least block RAMs.
INWARD_BEATS = INNER_BEAT + INNER_WINDOW


class Unit(enum.IntEnum, shape=3):
    """Who asked for a DMA."""

    FETCH = 0
    USED = 1
    RECEIVE = 2
    TRANSMIT = 3
    PREFETCH = 4  # owner.packet says which


class FetchPhase(enum.IntEnum, shape=2):
    """What a queue's DMA is for."""

    AVAIL = 0  # flags and index of the available ring
    HEADS = 1  # entries of the available ring
    TABLE = 2  # descriptors
    EVENT = 3  # avail_event, or the device's: up to where everything has been seen


class QueueSetup(data.Struct):
    """A queue as the driver set it up."""

    size: 16
    desc: 64
    driver: 64
    device: 64
    event_idx: 1
    indirect: 1
    packed: 1
    mergeable: 1
    in_order: 1


class RingKind(data.Struct):
    """What a queue's ring is like."""

    size: 16
    packed: 1
    mergeable: 1  # frames may take several chains


def absent(config: NicConfig) -> set[str]:
    """Features of a QueueSetup that are not built in, so that no driver can accept them."""
    names = ("event_idx", "indirect", "packed", "mergeable", "in_order")
    return {name for name in names if not getattr(config, name)}


def accepted(config: NicConfig, ring):
    """A QueueSetup or RingKind of which what is not built in is known to be 0."""
    layout, unknown = ring.shape(), absent(config)
    members = layout.as_shape().members
    return data.View(layout, Cat(Const(0, 1) if n in unknown else ring[n] for n in members))


def without(layout: data.StructLayout, names) -> data.StructLayout:
    """A record without some of its members."""
    return data.StructLayout({n: s for n, s in layout.members.items() if n not in names})


def advance(position, places, ring):
    """Position in a ring so many places on, at most as many as it has.

    Of a split ring positions count on; of a packed one the highest of the 16 bits changes with
    every lap, the others are a place.
    """
    place = position[:15] + places
    over = place >= ring.size
    lap = Cat(Mux(over, place - ring.size, place)[:15], position[15] ^ over)
    return Mux(ring.packed, lap, (position + places)[:16])


class Shapes:
    """Records whose widths depend on the configuration.

    Attributes
    ----------
    queue, lane, packet, piece, buffer, span : int
        Bits of: a queue; a queue among those of one direction; a place in a queue's ring of
        packets; a piece of a packet, one more than that as a count; a place in its buffer; places
        of the ring that a chain takes, of a split ring always 1.
    owner, job, ended : StructLayout
        Whose a DMA is; what is asked for; how it ended.
    descriptor : StructLayout
        What a queue's buffer holds.
    record : StructLayout
        A packet, all of whose DMA has been asked for.
    place : StructLayout
        Packets, places of the ring, chains and frames of a queue that are committed.
    outcome : StructLayout
        What has come of its DMA.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.queue = max(1, ceil_log2(config.data_queues))
        self.lane = max(1, ceil_log2(config.data_queues // 2))
        self.packet = ceil_log2(PACKETS)
        self.buffer = ceil_log2(BUFFER)
        self.piece = (config.frame_bytes + HEADER_BYTES).bit_length()
        self.span = 16 if config.packed else 1
        #: Frames that a receive queue may have under way.
        self.window = 1 << ceil_log2(min(PACKETS, config.tx_quota + config.rx_quota))
        #: Bits of the length of a chain, or of a descriptor.
        self.length = 17 if config.segmentation else 16
        self.tag = max(1, ceil_log2(config.engine_tags))
        self.owner = data.StructLayout(
            {"unit": Unit, "queue": self.queue, "packet": self.packet, "piece": self.piece}
        )
        self.job = data.StructLayout(
            {
                "owner": self.owner,
                "write": 1,
                "patient": 1,  # parks where a page is not there
                "iova": 64,
                "length": 16,
                "memory": LocalMemory,
                "offset": 24,
            }
        )
        self.ended = data.StructLayout({"owner": self.owner, "status": DmaStatus})
        self.descriptor = data.StructLayout(
            {
                "address": 64,
                "length": self.length,  # all ones are that much or more
                "last": 1,
                "head": 16,  # of a packed chain its buffer ID, with the last one
                "span": self.span,  # places in the ring of the chain so far
                "error": QueueError,  # instead of a descriptor
                "absent": 1,  # likewise: the page of a descriptor is not there
            }
        )
        self.record = data.StructLayout(
            {
                "head": 16,
                "span": self.span,
                "memory": LocalMemory,
                "slot": 8,
                "has_slot": 1,
                "length": self.length,  # bytes in the chain, with the header
                "large": 1,  # some of them are in the large buffer
                "more": 1,  # the frame goes on in the next chain
                "pieces": self.piece,
                "drop": 1,
                "error": QueueError,
                "absent": 1,
                "touch": 1,
            }
        )
        # ``index`` is a position in a packed ring; in a split one it is that of the chain.
        self.place = data.StructLayout(
            {"done": self.packet + 1, "chains": 16, "frames": 16}
            | ({"index": 16} if config.packed else {})
        )
        self.outcome = data.StructLayout(
            {"count": self.piece, "status": DmaStatus, "piece": self.piece}
        )

    def function_of(self, queue):
        """The function of a queue of either direction."""
        per, queues = 2 * self.config.queue_pairs, self.config.data_queues
        return Array(Const(number // per, 8) for number in range(queues))[queue]

    def slot_base(self, slot):
        """Byte address of a slot as DMA sees it: 4 bytes, the header, the frame."""
        return slot * (2 * self.config.frame_stride)
