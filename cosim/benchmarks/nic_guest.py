"""Guests with frames to send and buffers to fill, made before the clock counts."""

from collections.abc import Iterable
from random import Random

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.memory import Allocator, DeviceSpace
from cosim.guest.virtio_net import VirtioNet
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import RAM_GPA, Vm
from cosim.port import Port
from cosim.scenarios.traffic import guest_mac
from models.pagetable import KIB_4
from models.spec.virtio import Feature, NetHeader

__all__ = ["HEADER_BYTES", "WIRE_MAC", "BenchGuest"]

HEADER_BYTES = NetHeader.as_shape().size // 8
WIRE_MAC = b"\x02\xff\xff\xff\xff\xff"
#: One leaf table of the second stage, so that the pages lie one behind the other.
_RAM_BYTES = 512 * KIB_4
#: Bytes of receive buffers of all functions: their pages fit the IOTLB beside the rings'.
_BUFFER_BYTES = 128 * KIB_4


class _HostSpace(DeviceSpace):
    """Host addresses, for a device that no IOMMU is before."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    def address(self, gpa: int, size: int) -> int:
        """Return the SPA; ``ValueError`` if the bytes do not lie together."""
        spa = self._vm.pages.make_resident(gpa)
        for at, _ in self._vm.pages.pieces(gpa, size):
            if self._vm.pages.make_resident(at) - spa != at - gpa:
                raise ValueError(f"{size} bytes at {gpa:#x} are not contiguous in host memory")
        return spa


class BenchGuest:
    """A guest with a VF of its own, all of its memory resident; frame and header in one piece.

    Parameters
    ----------
    port : Port
    hypervisor : Hypervisor
    function : int
    functions : int
        How many such guests there are.
    frame : int
        Bytes of each frame.
    packed : bool
        Ring format.
    iommu : bool
        Whether the second stage and ATS are in use; host addresses if not.
    """

    def __init__(
        self,
        port: Port,
        hypervisor: Hypervisor,
        function: int,
        *,
        functions: int,
        frame: int,
        packed: bool,
        iommu: bool,
    ) -> None:
        self.port, self.hypervisor, self.function = port, hypervisor, function
        self.functions, self.size, self.packed, self.iommu = functions, frame, packed, iommu
        self.vm: Vm
        self.driver: VirtioNet
        self.waiting = 0

    @property
    def mac(self) -> bytes:
        """Its function's."""
        return guest_mac(self.function)

    async def boot(self) -> None:
        """Bring the driver up, receive buffers posted."""
        self.vm = vm = self.hypervisor.new_vm(f"guest{self.function}", _RAM_BYTES)
        self.hypervisor.pin(vm)
        bus = await self.hypervisor.assign(vm, self.function, self.mac, ats=self.iommu, count=False)
        # The tables of the second stage lie between the first page and the others.
        self.allocator = Allocator(RAM_GPA + KIB_4, _RAM_BYTES - KIB_4)
        share = _BUFFER_BYTES // self.functions // (HEADER_BYTES + self.size)
        self.driver = VirtioNet(
            self.port,
            bus,
            vm.memory,
            self.allocator,
            Random(self.function),
            space=None if self.iommu else _HostSpace(vm),
            message_address=None if self.iommu else vm.message_page,
            features=KNOWN_FEATURES & ~((not self.packed) << Feature.RING_PACKED),
            queue_size=256,
            fragments=1,
            buffers=max(8, min(share, 128)),
            frame_bytes=self.size,
        )
        await self.driver.start()
        frame = WIRE_MAC + self.mac + bytes([8, 0]) + bytes(self.size - 14)
        self.gpa = self.allocator.allocate(HEADER_BYTES + self.size, align=64)
        vm.memory.write(self.gpa, bytes(HEADER_BYTES) + frame)

    def send(self, count: int) -> None:
        """Send so many frames, as many at once as the ring takes."""
        self.waiting = count
        self.refill()

    def refill(self) -> None:
        """Put frames that wait into the ring."""
        queue = self.driver.queue(1)
        before = self.waiting
        while self.waiting and queue.fits(1):
            queue.add([Piece(self.gpa, HEADER_BYTES + self.size)], (), 0)
            self.waiting -= 1
        if self.waiting != before:
            self.driver.kick()

    def areas(self, queues: Iterable[int] = (0, 1)) -> list[tuple[int, int]]:
        """Host addresses and bytes of these queues' rings, page by page."""
        return [
            (self.vm.pages.make_resident(gpa), part)
            for number in queues
            for area, size in self.driver.queue(number).areas
            for gpa, part in self.vm.pages.pieces(area, size)
        ]
