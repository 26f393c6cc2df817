"""Guests that send from pages which are not there, while things go wrong; of either machine."""

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

__all__ = ["BASE", "BYTES", "overflow"]

BASE, BYTES = 0x8000_0000, 1 << 26
_GUEST_BYTES, _PATIENCE = 1 << 20, 4_000_000
_COUNTED = (
    *(Stat.PAGE_REQUESTS, Stat.PAGE_WAITS, Stat.PAGE_RETRIES),
    *(Stat.DMA_FAULTS, Stat.TX_PACKETS),
)


async def overflow(port: Port, system: SystemConfig, *, frames: int, entries_log2: int) -> dict:
    """Let three guests send at once, each frame from a page of its own, over a short queue of page
    requests that nobody looks at for a while.  Returns frames on the wire, and counts.
    """
    costs = Costs(service_cycles=2000, interrupt_ns=20_000)
    hypervisor = Hypervisor(port, system, base=BASE, size=BYTES, costs=costs)
    hypervisor.iommu.requests_log2 = entries_log2
    hypervisor.iommu.requests_delay = 500  # more come meanwhile than find room
    await hypervisor.start()
    wire: list[bytes] = []
    port.on_frame(lambda frame, _: wire.append(frame))
    sent, senders = [], []
    for function in (1, 2, 3):
        vm = hypervisor.new_vm(f"guest {function}", _GUEST_BYTES)
        bus = await hypervisor.assign(vm, function, guest_mac(function), count=False)
        allocator = Allocator(RAM_GPA, _GUEST_BYTES)
        rng = Random(function)
        driver = VirtioNet(port, bus, vm.memory, allocator, rng, pay=vm.pay, fragments=1)
        await driver.start()
        places = []
        for _ in range(frames):
            head = guest_mac(OUTSIDE) + guest_mac(function) + b"\x88\xb5"
            content = head + rng.randbytes(rng.randrange(46, 1500))
            gpa = allocator.allocate(KIB_4, align=KIB_4)
            vm.pages.store_image(gpa, content)
            places.append((gpa, len(content)))
            sent.append(content)

        senders += [driver.send_from(gpa, length) for gpa, length in places]
    tasks = [port.spawn(sender) for sender in senders]
    end = port.now() + _PATIENCE
    while len(wire) < len(sent):
        assert port.now() < end, f"{len(wire)} of {len(sent)} frames"
        await port.sleep(500)
    for task in tasks:
        await task.join()
    await port.sleep(20_000)
    counts = {
        stat.name: sum([await hypervisor.stat(function, stat) for function in (1, 2, 3)])
        for stat in _COUNTED
    }
    counts["served"] = sum(a.requests for a in hypervisor.assignments.values())
    return {
        "exact": sorted(wire) == sorted(sent),
        "overflows": hypervisor.iommu.overflows,
        "counts": counts,
    }
