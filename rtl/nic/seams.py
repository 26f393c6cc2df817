"""Records between the blocks of the NIC.

=============== ================================ ===================
from            what                             to
=============== ================================ ===================
Registers       Doorbell, QueueCommand           VirtqueueEngine
VirtqueueEngine UsedBuffers                      Moderation
Registers       VectorWrite                      Moderation
Moderation      Interrupt                        Msix
VirtqueueEngine ErrorReport, queues that stopped Registers
VirtqueueEngine DmaRequest                       Dma
Dma             DmaDone                          VirtqueueEngine
Dma             StorePort, LoadPort              Scratch, FrameStore
VirtqueueEngine SentFrame                        Offload
Offload         TxFrame                          Switch
VirtqueueEngine RxPop                            Switch
Switch          Arrival                          VirtqueueEngine
PortIngress     PortFrame (``rtl.nic.port``)     Switch
Switch          FrameRef, to send                PortEgress
several         FrameRef, to give back           FrameStore
Switch          TagNote (``rtl.nic.tags``)       Tags
Switch          FrameShare (``rtl.nic.frames``)  FrameStore
Registers       Interrupt                        Msix
Msix            MsiWrite                         Dma
Dma             fences that came back            Registers
several         StatEvent                        Stats
Registers       StatRead (``rtl.nic.stats``)     Stats
Registers       FilterChange, PolicyWrite        Switch
Registers       RegisterPort (``rtl.bus.lite``)  Msix
=============== ================================ ===================

Queues are numbered over all functions, without control queues: ``NicConfig.data_queues``.
"""

from amaranth.hdl import Cat, Const
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.nic import QueueError, Stat

__all__ = [
    "BACKUP_BIT",
    "CHECKED_BIT",
    "LARGE_BIT",
    "Arrival",
    "DmaDone",
    "DmaRequest",
    "DmaStatus",
    "Doorbell",
    "ErrorReport",
    "FilterChange",
    "FrameForm",
    "FrameRef",
    "HeadRead",
    "Interrupt",
    "LoadPort",
    "LocalMemory",
    "MsiWrite",
    "Offloads",
    "PolicyWrite",
    "QueueCommand",
    "QueueOp",
    "RxPop",
    "SentFrame",
    "StatEvent",
    "StorePort",
    "TxFrame",
    "UsedBuffers",
    "VectorWrite",
    "lost",
    "receive_queue",
    "transmit_queue",
]


#: Bit of an offset in TX or RX memory: see :class:`DmaRequest`.
CHECKED_BIT = 23
#: Of an offset into scratch memory: it is not the virtqueue engine's, but of the backup rings.
BACKUP_BIT = 22
#: Of an offset into the TX memory to store to: it is into the large buffer.
LARGE_BIT = 23


class Doorbell(data.Struct):
    """A driver notified a queue (registers to virtqueue engine)."""

    queue: 16


class QueueOp(enum.IntEnum, shape=1):
    """What a :class:`QueueCommand` does."""

    DISABLE = 0
    ENABLE = 1


class Offloads(data.Struct):
    """Offloads that a driver has accepted (``Feature``, virtio 1.3, 5.1.3)."""

    csum: 1
    guest_csum: 1
    tso4: 1
    tso6: 1
    ecn: 1


class QueueCommand(data.Struct):
    """Starts or stops a queue (registers to virtqueue engine).

    ENABLE takes the rings and begins at index 0.  DISABLE stops the queue wherever it is, also
    parked; the engine answers on ``stopped`` when no access of the queue is or will be under way.
    A DISABLE of a queue that is not enabled is answered as well.
    """

    op: QueueOp
    queue: 16
    size: 16  # entries; of a split ring a power of two
    desc: 64
    driver: 64
    device: 64
    event_idx: 1  # accepted features
    indirect: 1
    packed: 1
    mergeable: 1
    in_order: 1
    offloads: Offloads


class ErrorReport(data.Struct):
    """A queue stopped for a reason (virtqueue engine to registers)."""

    queue: 16
    error: QueueError


class UsedBuffers(data.Struct):
    """Buffers of a queue were used (virtqueue engine to moderation)."""

    queue: 16
    amount: 16  # at least 1
    wanted: 1  # the driver has asked to be told of them


class VectorWrite(wiring.Signature):
    """A queue has another vector (registers to moderation)."""

    def __init__(self):
        super().__init__({"en": Out(1), "queue": Out(16), "vector": Out(16)})


class Interrupt(data.Struct):
    """Raise a vector of a function: a used buffer notification, or a configuration change."""

    function: 8
    vector: 16  # MSI_NO_VECTOR is sent nowhere
    fence: 1  # nothing is raised; see :class:`MsiWrite`
    whole: 1  # a fence at the end of a function's reset: what is pending is forgotten
    read: 1  # a fence of a read, not of a reset


class LocalMemory(enum.IntEnum, shape=2):
    """Which of the NIC's memories a DMA moves to or from."""

    SCRATCH = 0  # of the virtqueue engine
    TX = 1  # frames from guests
    RX = 2  # frames from the port
    NOWHERE = 3  # reads touch guest memory and keep nothing; see :class:`DmaRequest` for writes


class DmaRequest(data.Struct):
    """One contiguous transfer between guest memory and a local memory.

    Any alignment on both sides.  What is read was there no earlier than what lies before it: pages
    are read one after another, and what is of one page by one ID.  So of a chain nothing is older
    than its head.  Whoever asks chooses the tag, below ``config.dma_tags``; one request per tag at
    a time.  A cancel goes the same way, so that it never meets a request that is
    younger than it.

    In TX and RX memory a slot is ``2 * frame_stride`` long for a DMA: 4 bytes, in which one reads
    the slot's tag, the virtio_net_hdr, the frame.  So header and frame are one transfer, unless a
    tag is added or left out.  ``CHECKED_BIT`` of the
    offset has the header of a received frame say what is known of its checksum.  With
    ``LARGE_BIT`` what is read goes to the large buffer: it holds, from byte 16 of the offset on,
    what of the frame is beyond its slot.  A write from
    NOWHERE is of the number ``offset // 16``, little-endian in bytes 10 and 11 of its 16:
    num_buffers.
    """

    tag: 16
    cancel: 1  # the tag's request is to end with CANCELLED, if it has one; the rest says nothing
    function: 8
    write: 1  # to guest memory
    iova: 64
    length: 16  # bytes; 0 asks for the translation alone
    memory: LocalMemory
    offset: 24  # byte address in the local memory
    hurried: 1  # ends with ABSENT instead of parking
    yields: 1  # goes when nobody else does, in pieces of the longest burst


class DmaStatus(enum.IntEnum, shape=3):
    """Outcome of a DMA."""

    OK = 0
    FAULT = 1  # the translation was refused, or without ATS the bus said so
    INVALID = 2  # group response "invalid request"
    FAILURE = 3  # group response "failure", or none in time
    BUS = 4  # error response after a good translation
    CANCELLED = 5
    ABSENT = 6  # of a hurried request: a page is not there; nothing was asked


class DmaDone(data.Struct):
    """Completion of a :class:`DmaRequest`; reads have landed, writes have their response."""

    tag: 16
    status: DmaStatus
    cause: 12


class MsiWrite(data.Struct):
    """One 32-bit write of an MSI-X message, untranslated.

    A fence is none: it tells the registers, who sent it behind a function's last interrupt, or for
    a read of software, that all messages before it have their responses.
    """

    function: 8
    address: 64
    data: 32
    fence: 1
    read: 1


class StorePort(wiring.Signature):
    """DMA writes up to 16 consecutive bytes of a local memory; never stalls, and never repeats one.

    ``addr`` is the first byte's address, of any alignment.  Lane *n* of ``data``, and bit *n* of
    ``mask``, is for the byte whose address is *n* modulo 16.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "memory": Out(LocalMemory),
                "addr": Out(24),
                "data": Out(128),
                "mask": Out(16),
            }
        )


class LoadPort(wiring.Signature):
    """DMA reads 16 consecutive bytes of a local memory; never stalls.

    ``addr`` is the first byte's address, of any alignment; ``data`` follows ``en`` by one cycle,
    in lanes like :class:`StorePort`'s.
    """

    def __init__(self):
        super().__init__(
            {"en": Out(1), "memory": Out(LocalMemory), "addr": Out(24), "data": In(128)}
        )


class FrameForm(enum.IntEnum, shape=2):
    """What its receiver, or the wire, has of a frame in a slot."""

    WHOLE = 0  # all of it
    UNTAGGED = 1  # all but its VLAN tag
    TAGGED = 2  # the tag that is noted for its slot as well (``rtl.nic.tags``)


class FrameRef(data.Struct):
    """A frame in a slot: begins at byte ``slot * frame_stride`` of its memory."""

    memory: LocalMemory  # TX or RX
    slot: 8
    length: 16  # in the slot
    form: FrameForm


class HeadRead(wiring.Signature):
    """Reads 16 bytes of a frame that waits in TX or RX memory; waits for the DMA.

    ``addr`` is the first byte's address, of any alignment.  ``data`` follows a cycle with ``en``
    and ``ready`` by one cycle, in lanes like :class:`LoadPort`'s, for one cycle.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "memory": Out(LocalMemory),
                "addr": Out(24),
                "ready": In(1),
                "data": In(128),
            }
        )


class TxFrame(data.Struct):
    """A whole frame from a guest (offloads to switch)."""

    frame: FrameRef
    function: 8
    pair: 3  # queue pair of the function


class SentFrame(data.Struct):
    """A whole frame from a guest, and what its virtio_net_hdr asks for (engine to offloads)."""

    frame: FrameRef
    over: 1  # it has 65536 bytes more
    large: 1  # what is beyond its slot is in the large buffer
    function: 8
    pair: 3
    needs_csum: 1
    gso_type: 8


class Arrival(data.Struct):
    """A receive FIFO is no longer empty (switch to virtqueue engine).

    Sent once for every frame that enters the FIFO.
    """

    function: 8
    pair: 3  # queue pair of the function


class RxPop(wiring.Signature):
    """The virtqueue engine takes the oldest frame of a queue pair of a function.

    ``en`` with ``function`` and ``pair`` in cycle n; ``valid`` and ``frame`` in cycle n + 1.  With
    ``en`` comes ``looks``, which is known earlier; it may come alone.  The engine then owns one
    reference to the slot and gives it back on ``release``.  The frame counts for the function's
    quota until the engine has said so: ``back`` with ``back_function`` and the frame's
    ``back_memory``.
    """

    def __init__(self):
        super().__init__(
            {
                "looks": Out(1),
                "en": Out(1),
                "function": Out(8),
                "pair": Out(3),
                "valid": In(1),
                "frame": In(FrameRef),
                "back": Out(1),
                "back_function": Out(8),
                "back_memory": Out(LocalMemory),
            }
        )


class StatEvent(data.Struct):
    """Adds to a counter of a function; if ``queued``, also to that of its name of a queue."""

    function: 8
    queue: 4  # of the function
    queued: 1  # has no meaning for what is not counted per queue
    stat: Stat
    amount: 32


def lost(event, function, pair, amount=1, *, why=Stat.RX_DROPPED_QUEUE) -> list:
    """Make a StatEvent of frames that a queue pair was to receive and that are dropped."""
    return [
        event.function.eq(function),
        event.queue.eq(receive_queue(pair)),
        event.queued.eq(1),
        event.stat.eq(why),
        event.amount.eq(amount),
    ]


def receive_queue(pair):
    """Number of a queue pair's receive queue in its function."""
    return Cat(Const(0, 1), pair)


def transmit_queue(pair):
    """Number of a queue pair's transmit queue in its function."""
    return Cat(Const(1, 1), pair)


class FilterChange(data.Struct):
    """A function receives something else, or ceases to (registers to switch)."""

    vlan: 1  # of the VLANs, else of the MACs
    function: 8
    entry: 4  # 0 its own MAC or VLAN, from 1 on its filters
    old: 48  # a VLAN is in the lowest bits
    new: 48  # of its own VLAN it is the whole FunctionVlan
    valid: 1  # there is a new one


class PolicyWrite(wiring.Signature):
    """A word of a management block is written (registers to whom it concerns)."""

    def __init__(self):
        super().__init__({"en": Out(1), "function": Out(8), "word": Out(8), "data": Out(32)})
