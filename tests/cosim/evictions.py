"""Pages taken away while a DMA writes them, at any moment of it; independent of the machine.

A frame comes from the wire for a driver with one receive buffer.  Some cycles later the page of the
buffer, or of the ring in which the device says so, is evicted: unmapped, forgotten by the IOMMU and
by the NIC, copied away.  The host uses it for something else at once.  Nobody may write there any
more, and the guest gets the frame byte for byte.
"""

from collections.abc import Sequence
from itertools import product
from random import Random

from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import RAM_GPA
from cosim.port import Port
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.pagetable import KIB_4
from models.spec.config import SystemConfig
from models.spec.nic import Stat

__all__ = ["BASE", "BYTES", "COSTS", "Evictions"]

BASE, BYTES = 0x8000_0000, 1 << 26
COSTS = Costs(service_cycles=300)
_FUNCTION, _GUEST_BYTES = 1, 1 << 20
_PATIENCE = 60_000
#: What the host keeps in a page that it has taken away.
_ITS_OWN = b"\xa5\x5a\xc3\x3c" * (KIB_4 // 4)


class Evictions:
    """A guest that receives, and a host that needs its pages.

    Parameters
    ----------
    port : Port
    system : SystemConfig
    plant : str
        What is forgotten: ``"device"``, the NIC's translations; ``"iommu"``, the IOMMU's.
    """

    def __init__(self, port: Port, system: SystemConfig, plant: str = "") -> None:
        self.port, self.plant = port, plant
        self.hypervisor = Hypervisor(port, system, base=BASE, size=BYTES, costs=COSTS)

    async def _start(self) -> None:
        hypervisor = self.hypervisor
        await hypervisor.start()
        self.vm = hypervisor.new_vm("guest", _GUEST_BYTES)
        bus = await hypervisor.assign(self.vm, _FUNCTION, guest_mac(_FUNCTION), count=False)
        self.driver = VirtioNet(
            self.port,
            bus,
            self.vm.memory,
            Allocator(RAM_GPA, _GUEST_BYTES),
            Random(1),
            pay=self.vm.pay,
            fragments=1,
            buffers=1,
            frame_bytes=1514,
        )
        self.received: list[bytes] = []
        self.driver.on_receive = self.received.append
        await self.driver.start()
        if self.plant == "device":
            hypervisor.iommu.invalidate_device = _nothing
        elif self.plant == "iommu":
            hypervisor.iommu.invalidate_second_stage = _nothing

    def _page(self, which: str) -> int:
        """The page of the receive buffer, or of the used ring."""
        table, _, used = (gpa for gpa, _ in self.driver.queue(0).areas)
        first = int.from_bytes(self.vm.memory.read(table, 8), "little")  # of all descriptors
        return (first if which == "buffer" else used) & -KIB_4

    async def _receive(self, number: int) -> bool:
        """Return when so many frames have come in all, or whether they do not."""
        end = self.port.now() + _PATIENCE
        while len(self.received) < number:
            if self.port.now() > end:
                return False
            await self.port.sleep(20)
        return True

    async def _evict(self, gpa: int) -> int:
        """Evict a page; return where it was, which is the host's now."""
        hypervisor = self.hypervisor
        await hypervisor.evict(self.vm, gpa)
        frame = hypervisor.pages.allocate(1)  # what was freed last
        self.port.memory.write(frame, _ITS_OWN)
        return frame

    async def run(self, delays: Sequence[int], pages: Sequence[str], sizes: Sequence[int]) -> dict:
        """For each delay, page and size: a frame, and an eviction so many cycles after it."""
        await self._start()
        rng, found, tried = Random(2), {}, 0
        for delay, which, size in product(delays, pages, sizes):
            head = guest_mac(_FUNCTION) + guest_mac(OUTSIDE) + b"\x88\xb5"
            frame = head + rng.randbytes(size - 14)
            asked = await self._race(frame, which, delay)
            tried += 1
            key = f"{which} {'asked' if asked else 'written'}"
            found[key] = found.get(key, 0) + 1
        await self.port.sleep(10_000)  # pages may have been asked for ahead of use
        return {"tried": tried, "found": found, "counts": await self._counts()}

    async def _race(self, frame: bytes, which: str, delay: int) -> int:
        """Evict a page ``delay`` cycles after a frame, or before it; return page requests."""
        where = f"{which} page, {len(frame)} bytes, {delay} cycles after the frame"
        await self.port.send_frame(frame)  # then everything is there, and known
        count = len(self.received) + 1
        assert await self._receive(count), f"{where}: the frame before it does not come"
        await self.port.sleep(100)
        page, requests = self._page(which), await self._requests()
        if delay < 0:
            task = self.port.spawn(self._evict(page), "eviction")
            await self.port.sleep(-delay)
            await self.port.send_frame(frame)
            taken = await task.join()
        else:
            await self.port.send_frame(frame)
            await self.port.sleep(delay)
            taken = await self._evict(page)
        came = await self._receive(count + 1)
        await self.port.sleep(200)
        now = self.port.memory.read(taken, KIB_4)
        assert now == _ITS_OWN, f"{where}: written after it was taken away"
        assert came, f"{where}: the frame does not come"
        assert self.received[count - 1 :] == [frame, frame], f"{where}: not what was sent"
        self.hypervisor.pages.free(taken)
        return await self._requests() - requests

    async def _requests(self) -> int:
        return await self.hypervisor.stat(_FUNCTION, Stat.PAGE_REQUESTS)

    async def _counts(self) -> dict[str, int]:
        """Counters of the function, of its driver, and of the host."""
        stats = (Stat.PAGE_REQUESTS, Stat.PAGE_WAITS, Stat.PAGE_RETRIES)
        stats += (Stat.DMA_FAULTS, Stat.RX_PACKETS)
        found = {stat.name: await self.hypervisor.stat(_FUNCTION, stat) for stat in stats}
        found["served"] = self.hypervisor.assignment(_FUNCTION).requests
        found["received"] = len(self.received)
        found["faults"] = len(self.hypervisor.iommu.faults)
        return found


async def _nothing(*_: object) -> None:
    """Do not invalidate."""
