"""A golden NIC whose PF a test drives by its registers: memory at its own addresses, no IOMMU."""

from dataclasses import replace
from typing import Any

from cosim.golden_machine import FlatMemory
from cosim.guest.memory import Allocator, DeviceSpace
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import Piece
from models.iommu.records import PageRequest, Request, Response
from models.nic import GoldenNic
from models.spec.config import config
from models.spec.iommu import GroupResponsePayload, PageRequestPayload, PageResponse
from models.spec.nic import (
    BASE_FEATURES,
    DEVICE_OFFSET,
    FEATURE_FLAGS,
    ISR_OFFSET,
    MANAGEMENT,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    RX_QUEUE_DROPS,
    FunctionControl,
    MsixEntry,
    QueueError,
    RssControl,
    RxQueueStat,
    Stat,
    config_base,
    function_block,
    initial_mac,
    queue_error_offset,
)
from models.spec.pci import nic_space
from models.spec.translation import AddressType
from models.spec.virtio import DeviceStatus, common

__all__ = ["NicAlone", "frame"]

#: A NIC of two queue pairs with everything built in, without VLANs' and VFs' work.
_NIC = replace(
    config("tiny").nic, **(dict.fromkeys((*FEATURE_FLAGS, "backup"), True) | {"queue_pairs": 2})
)
_BASE, _BYTES, _MESSAGES = 0x10_0000, 1 << 20, 0x1F_F000
_RUNS = DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FEATURES_OK
_SETTINGS = {
    "command": {"memory": 1, "bus_master": 1},
    "msix_control": {"enable": 1},
    "ats_control": {"enable": 1},
    "pri_allocation": {"value": 8},
    "pri_control": {"enable": 1},
}


def frame(number: int, size: int = 60) -> bytes:
    """A frame to the PF that has a number, and no hash."""
    return initial_mac(0) + bytes((2, 0, 0, 0, 9, 9, 0x88, 0xB5)) + bytes((number,)) * (size - 14)


class NicAlone:
    """The NIC, what surrounds it, and a driver of its PF.

    Parameters
    ----------
    features : int
        Beside those that every function has.
    """

    def __init__(self, features: int = 0) -> None:
        self.memory = FlatMemory(_BASE, _BYTES)
        self.allocator = Allocator(_BASE, _BYTES - 0x1000)
        self.features, self.absent, self.cycles = BASE_FEATURES | features, set[int](), 0
        self.sent: list[bytes] = []
        #: RssControl.closed.
        self.closed = 0
        self.requests: list[PageRequest] = []
        self.nic = GoldenNic(_NIC, self)
        self.function = self.nic.functions[0]
        self.queues: dict[int, SplitQueue] = {}
        space = nic_space(_NIC, 0)
        for name, fields in _SETTINGS.items():
            value = sum(space[name][field].insert(value) for field, value in fields.items())
            address = config_base(0) + space[name].offset
            self.nic.write_register(address, space[name].bytes, value)
        for vector in range(_NIC.msix_vectors):
            entry = MsixEntry.const({"address": _MESSAGES + 4 * vector, "data": 1}).as_bits()
            for half in (0, 8):
                at = MSIX_TABLE_OFFSET + 16 * vector + half
                self.nic.write_register(at, 8, entry >> 8 * half & (1 << 64) - 1)
        self.manage("control", FunctionControl.const({"enable": 1, "ats": 1}).as_bits())

    # Surroundings ------------------------------------------------------------------------------

    def translate(self, request: Request) -> Response:
        page = request.iova & ~0xFFF
        there = request.at is not AddressType.ATS_REQUEST or page not in self.absent
        return Response(spa=request.iova, r=there, w=there)

    def page_request(self, message: PageRequest) -> None:
        self.requests.append(message)

    def transmit(self, frame: bytes) -> None:
        self.sent.append(frame)

    def now(self) -> int:
        return self.cycles

    # Software ----------------------------------------------------------------------------------

    def load(self, name: str) -> int:
        return self.nic.read_register(common(name).offset, common(name).bytes)

    def store(self, name: str, value: int) -> None:
        self.nic.write_register(common(name).offset, common(name).bytes, value)

    def manage(self, name: str, value: int, function: int = 0) -> None:
        self.nic.write_register(function_block(function) + MANAGEMENT[name].offset, 4, value)

    def managed(self, name: str, function: int = 0) -> int:
        return self.nic.read_register(function_block(function) + MANAGEMENT[name].offset, 4)

    def negotiate(self) -> None:
        for half in (0, 1):
            self.store("driver_feature_select", half)
            self.store("driver_feature", self.features >> 32 * half & 0xFFFF_FFFF)
        self.store("device_status", _RUNS)

    def enable(self, number: int, vector: int = 0) -> None:
        if number not in self.queues:
            self.queues[number] = SplitQueue(
                self.memory, self.allocator, DeviceSpace(), number=number, size=16
            )
        queue = self.queues[number]
        queue.clear()
        self.store("queue_select", number)
        self.store("queue_size", queue.size)
        self.store("queue_msix_vector", vector)
        for name, value in zip(("desc", "driver", "device"), queue.addresses, strict=True):
            self.store(f"queue_{name}", value)
        self.store("queue_enable", 1)

    def reset(self, number: int) -> None:
        self.store("queue_select", number)
        self.store("queue_reset", 1)

    def start(self, *queues: int) -> None:
        """Bring the function up with these queues."""
        self.negotiate()
        for number in queues:
            self.enable(number)
        self.store("device_status", _RUNS | DeviceStatus.DRIVER_OK)

    def buffers(self, number: int, *lengths: int) -> None:
        """Post receive buffers."""
        self.post(number, *(Piece(self.allocator.allocate(n), n) for n in lengths))

    def absent_buffer(self, number: int) -> None:
        """Post a receive buffer in a page that is not there."""
        page = self.allocator.allocate(4096, align=4096)
        self.absent.add(page)
        self.post(number, Piece(page, 2048))

    def post(self, number: int, *pieces: Piece) -> None:
        for piece in pieces:
            self.queues[number].add((), [piece], piece)
        self.ring(number)

    def ring(self, number: int) -> None:
        self.nic.write_register(NOTIFY_OFFSET + 4 * number, 4, number)

    def used(self, number: int) -> list[int]:
        """Bytes written to each buffer that has come back."""
        found = []
        while (done := self.queues[number].take()) is not None:
            found.append(done[1])
        return found

    def steer(self, pair: int) -> None:
        """Let frames go to a queue pair."""
        control = {"enable": 1, "unclassified": pair, "closed": self.closed}
        self.manage("rss", RssControl.const(control).as_bits())

    def close(self, *pairs: int) -> None:
        """Let these receive queue pairs take no frames, and all others."""
        self.closed = sum(1 << pair for pair in pairs)
        self.steer(0)

    def receive(self, pair: int, *frames: bytes) -> None:
        self.steer(pair)
        for one in frames:
            self.nic.receive(one)

    def answer(self, code: PageResponse) -> None:
        """Answer the oldest page request."""
        index = PageRequestPayload.from_bits(self.requests.pop(0).payload).index
        payload = GroupResponsePayload.const({"index": index, "code": code}).as_bits()
        self.nic.group_response(_NIC.device_id, payload)

    def settle(self) -> None:
        """Let the NIC do all that it can."""
        while self.nic.step():
            self.cycles += 1

    # What there is to see ----------------------------------------------------------------------

    def stat(self, stat: Stat) -> int:
        return self.function.stats[stat]

    @property
    def dropped(self) -> tuple[int, int, int]:
        """What the function has dropped of its queues' frames, and its two receive queues."""
        name, queues = RxQueueStat.RX_DROPPED.name, self.function.queue_stats
        return sum(map(self.stat, RX_QUEUE_DROPS)), queues[0][name], queues[2][name]

    def error(self, number: int) -> QueueError:
        address = function_block(0) + queue_error_offset(number)
        return QueueError(self.nic.read_register(address, 4))

    def isr(self) -> int:
        return self.nic.read_register(ISR_OFFSET, 1)

    def config_word(self, number: int) -> int:
        return self.nic.read_register(DEVICE_OFFSET + 4 * number, 4)

    def messages(self, vector: int) -> int:
        """Whether a message of a vector came since asked last."""
        address = _MESSAGES + 4 * vector
        found = int.from_bytes(self.memory.read(address, 4), "little")
        self.memory.write(address, bytes(4))
        return found

    @property
    def depth(self) -> int:
        """Frames that a function may have to receive, all of its queues together."""
        return _NIC.tx_slots + _NIC.rx_slots

    def backup_rings(self) -> Any:
        """Give the function backup rings of four entries."""
        size = 2 * 4 * _NIC.backup_stride
        self.manage("backup_low", self.allocator.allocate(size, align=4096))
        self.manage("backup", 1 << 31 | 2)
