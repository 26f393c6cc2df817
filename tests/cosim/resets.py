"""A function is reset, or all VFs go, while its DMA is on its way; on any machine.

Guest 1 sends from memory that is not resident to guest 2 and to the wire, and receives from guest
2.  After so many cycles its function is reset; its driver then binds again and frames must flow in
every direction.  Guest 2 and 3 exchange frames all the while and must notice nothing.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import QueueStopped, VirtioNet
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import RAM_GPA, Vm
from cosim.port import Port
from models.spec.nic import Stat
from models.spec.virtio import MSI_NO_VECTOR

__all__ = ["Resets"]

_BYTES = 1 << 20
_PATIENCE = 60_000
#: Cycles that a message takes at most.
_MESSAGE = 1500
_COUNTERS = (Stat.DMA_READ_BYTES, Stat.DMA_WRITE_BYTES, Stat.TRANSLATIONS, Stat.INTERRUPTS)


def _mac(number: int) -> bytes:
    return bytes((2, 0x20, 0, 0, 0, number))


@dataclass
class _Guest:
    vm: Vm
    driver: VirtioNet
    allocator: Allocator
    number: int
    received: list[bytes] = field(default_factory=list)


class Resets:
    """The scenario.

    Parameters
    ----------
    port : Port
    hypervisor : Hypervisor
        Not started.
    frame_bytes : int
        Of a receive buffer.
    """

    def __init__(self, port: Port, hypervisor: Hypervisor, frame_bytes: int) -> None:
        self._port, self._hypervisor, self._frame_bytes = port, hypervisor, frame_bytes
        self._rng = Random(5)
        self._serial = 0
        self.guests: dict[int, _Guest] = {}
        #: Function level resets, and those that came while a page request was being served.
        self.resets = self.with_page_request = 0
        #: Those that came while an invalidation had been sent to the function, and not carried out.
        self.with_invalidation = 0
        #: Messages that came between a reset and its end.
        self.interrupted = 0

    async def _boot(self, number: int) -> None:
        vm = self._hypervisor.new_vm(f"guest{number}", _BYTES)
        bus = await self._hypervisor.assign(vm, number, _mac(number), count=False)
        allocator = Allocator(RAM_GPA, _BYTES)
        driver = VirtioNet(
            self._port,
            bus,
            vm.memory,
            allocator,
            Random(number),
            queue_size=16,
            fragments=2,
            buffers=4,
            frame_bytes=self._frame_bytes,
            pay=vm.pay,
        )
        guest = self.guests[number] = _Guest(vm, driver, allocator, number)
        driver.on_receive = guest.received.append
        await driver.start()

    def _frame(self, source: int, target: int) -> bytes:
        self._serial += 1
        head = _mac(target) + _mac(source) + b"\x88\xb5" + self._serial.to_bytes(4, "little")
        return head + self._rng.randbytes(self._rng.choice((50, 700, 1400)))

    async def _arrives(self, guest: _Guest, frame: bytes) -> None:
        """Wait for a frame; the test fails if it does not come."""
        end = self._port.now() + _PATIENCE
        while frame not in guest.received:
            assert self._port.now() < end, f"a frame to guest {guest.number} never arrives"
            await self._port.sleep(100)

    async def _exchange(self, *pairs: tuple[int, int]) -> None:
        """Send a frame per pair, and wait for all of them."""
        sent = [(target, self._frame(source, target)) for source, target in pairs]
        for (source, _), (_, frame) in zip(pairs, sent, strict=True):
            await self.guests[source].driver.send(frame)
        for target, frame in sent:
            await self._arrives(self.guests[target], frame)

    async def _send_absent(self, number: int, target: int) -> None:
        """Send a frame whose page is not resident: its DMA parks."""
        guest = self.guests[number]
        frame = self._frame(number, target)
        gpa = guest.allocator.allocate(len(frame), align=4096)
        guest.vm.pages.store_image(gpa, frame)
        with suppress(QueueStopped):
            await guest.driver.send_from(gpa, len(frame))

    async def start(self) -> None:
        """Bring everything up."""
        await self._hypervisor.start()
        for number in (1, 2, 3):
            await self._boot(number)
        await self._exchange((1, 2), (2, 1), (2, 3))

    async def _traffic(self, number: int) -> None:
        await self._send_absent(1, 2)
        for _ in range(2):
            await self.guests[2].driver.send(self._frame(2, 1))

    async def reset_after(self, delay: int, *, evict: bool = False, quiesce: bool = True) -> None:
        """Reset function 1 so many cycles after it has begun to send; ``quiesce`` as in HostBus."""
        await self._traffic(1)
        bystanders = self._port.spawn(self._exchange((2, 3), (3, 2)), "bystanders")
        await self._port.sleep(delay)
        hypervisor, guest = self._hypervisor, self.guests[1]
        assignment = hypervisor.assignment(1)
        self.with_page_request += assignment.requests > len(assignment.services)
        work = [await self._begin_to_evict(guest)] if evict else []
        await hypervisor.reset(1, quiesce=quiesce)
        for task in work:
            await task.join()
        self.resets += 1
        await bystanders.join()
        await self._bind_again(1)

    async def _begin_to_evict(self, guest: _Guest) -> Any:
        """Return when the function is to invalidate a page, before it has, and who goes on."""
        hypervisor, vm = self._hypervisor, guest.vm
        iommu = hypervisor.iommu
        device = hypervisor.assignment(guest.number).device_id
        gpa = next(g for g in self._pages(guest) if vm.pages.resident(g))
        done = await hypervisor.stat(guest.number, Stat.INVALIDATIONS)
        vm.pages.unmap(gpa)
        await iommu.invalidate_second_stage(vm.gscid, gpa)
        await iommu.fence()
        await iommu.invalidate_device(device, gpa)

        async def finish() -> None:
            await iommu.fence()
            vm.pages.page_out(gpa)

        task = self._port.spawn(finish(), "eviction")
        while not task.done and not await iommu.only_fence_left():
            pass
        same = await hypervisor.stat(guest.number, Stat.INVALIDATIONS) == done
        self.with_invalidation += same and not task.done
        return task

    @staticmethod
    def _pages(guest: _Guest):
        return range(guest.vm.pages.base, guest.vm.pages.base + guest.vm.pages.size, 4096)

    async def _bind_again(self, number: int) -> None:
        """A driver that finds its function reset starts over, and everything works."""
        guest = self.guests[number]
        await guest.driver.stop()
        await guest.driver.start()
        await self._exchange((number, 2), (2, number), (number, 3))

    async def vfs_gone_after(self, delay: int) -> None:
        """Let all VFs go under traffic, and come again."""
        await self._traffic(1)
        await self._port.sleep(delay)
        bus = self._hypervisor.bus
        await bus.set_vfs(False)
        assert await bus.config_read(bus.routing_id(1), 4, 4) == 0xFFFF_FFFF
        await self._port.sleep(500)
        await bus.set_vfs(True)
        await self._all_again()

    async def physical_after(self, delay: int) -> None:
        """Reset the PF under traffic, and all VFs with it, while all are bus masters."""
        await self._traffic(1)
        await self._port.sleep(delay)
        await self._hypervisor.bus.reset_physical(quiesce=False)
        await self._all_again()

    async def _all_again(self) -> None:
        """All functions have been reset; their drivers start over."""
        for number in (1, 2, 3):
            await self._hypervisor.reset(number)
        for guest in self.guests.values():
            await guest.driver.stop()
            await guest.driver.start()
        await self._exchange((1, 2), (2, 1), (3, 1))

    async def _silence(self, how: str) -> None:
        """Let a driver see to it that no message comes any more, and read what it has written."""
        transport = self.guests[1].driver.transport
        if how == "reset":
            await self.guests[1].driver.stop()
        elif how == "mask":
            for vector in range(transport.vectors):
                await transport.device.mask_vector(vector)
        elif how == "mask function":
            await transport.device.mask_function(True)
            await transport.device.device.read(4, 2)
        else:
            assert how == "vector"
            for queue in (0, 1):
                await transport.store("queue_select", queue)
                await transport.store("queue_msix_vector", MSI_NO_VECTOR)
                assert await transport.load("queue_msix_vector") == MSI_NO_VECTOR

    async def silent_after(self, delay: int, how: str) -> None:
        """A driver silences its device so long after a message has begun: none comes after it finds
        that the device is reset (virtio 1.3, 2.4.1), or has read anything behind a mask (PCI Base
        6.0, 2.4.1) or a queue's vector that is none (4.1.5.1.2).  It is a long way that the message
        has, for its page's translation is thrown away again and again.
        """
        guest, hypervisor = self.guests[1], self._hypervisor
        page = guest.vm.gscid, guest.vm.message_gpa
        begun = await hypervisor.stat(1, Stat.INTERRUPTS)
        await self.guests[2].driver.send(self._frame(2, 1))
        while await hypervisor.stat(1, Stat.INTERRUPTS) == begun:
            await hypervisor.iommu.invalidate_second_stage(*page)
        await self._port.sleep(delay)
        before = guest.vm.interrupts.total()
        await self._silence(how)
        told = guest.vm.interrupts.total()
        self.interrupted += told - before
        await self._port.sleep(_MESSAGE)
        assert guest.vm.interrupts.total() == told, f"a message after a {how} {delay} cycles on"
        await self._bind_again(1)

    async def without_bus_master(self) -> None:
        """Neither DMA nor messages without bus master enable (PCIe 7.5.1.1.3)."""
        device = self.guests[1].driver.transport.device.device
        await self._port.sleep(3000)
        await device.change(4, 2, off=4)
        await self._port.sleep(200)  # what was on its way
        before = [await self._hypervisor.stat(1, stat) for stat in _COUNTERS]
        received = len(self.guests[1].received)
        for _ in range(3):
            await self.guests[2].driver.send(self._frame(2, 1))
        await self._send_absent(1, 2)
        await self._port.sleep(3000)
        assert [await self._hypervisor.stat(1, stat) for stat in _COUNTERS] == before
        assert len(self.guests[1].received) == received
        await self._bind_again(1)

    async def masked(self) -> None:
        """Messages of a masked function are pending, and come when the mask goes (PCIe 7.7.2.2)."""
        transport = self.guests[1].driver.transport.device
        before = await self._hypervisor.stat(1, Stat.INTERRUPTS_MASKED)
        await transport.mask_function(True)
        frame = self._frame(2, 1)
        await self.guests[2].driver.send(frame)
        end = self._port.now() + _PATIENCE
        while not await transport.is_pending(0):
            assert self._port.now() < end, "no message is pending"
            await self._port.sleep(100)
        assert frame not in self.guests[1].received
        assert await self._hypervisor.stat(1, Stat.INTERRUPTS_MASKED) > before
        await transport.mask_function(False)
        await self._arrives(self.guests[1], frame)
        assert not await transport.is_pending(0)

    async def pending_at_reset(self) -> None:
        """What is pending when a driver resets its device is not sent (virtio 1.3, 2.4.1)."""
        guest = self.guests[1]
        transport = guest.driver.transport.device
        await transport.mask_function(True)
        await self.guests[2].driver.send(self._frame(2, 1))
        end = self._port.now() + _PATIENCE
        while not await transport.is_pending(0):
            assert self._port.now() < end, "no message is pending"
            await self._port.sleep(100)
        await guest.driver.stop()
        assert not await transport.is_pending(0)
        told = guest.vm.interrupts.total()
        await transport.mask_function(False)
        await self._port.sleep(_MESSAGE)
        assert guest.vm.interrupts.total() == told, "what was pending came behind a reset"
        await self._bind_again(1)

    async def silent(self, delays: list[int], how: str) -> dict[str, Any]:
        """Resets by a driver, or what else should silence its device; returns how many messages
        came before they ended.
        """
        await self.start()
        for delay in delays:
            await self.silent_after(delay, how)
        return {"interrupted": self.interrupted}

    async def run(self, delays: list[int], *, evict: bool = False) -> dict[str, Any]:
        """All of it; returns how often what happened."""
        await self.start()
        for number, delay in enumerate(delays):
            await self.reset_after(delay, evict=evict, quiesce=number % 2 == 0)
        for delay in delays[:: max(1, len(delays) // 3)]:
            await self.vfs_gone_after(delay)
            await self.physical_after(delay)
        await self.masked()
        await self.pending_at_reset()
        await self.without_bus_master()
        faults = [f for f in self._hypervisor.iommu.faults if f.cause != 0]
        return {
            "resets": self.resets,
            "page_requests": self.with_page_request,
            "invalidations": self.with_invalidation,
            "requests": sum(a.requests for a in self._hypervisor.assignments.values()),
            "faults": [f"{fault.cause} of {fault.device_id}" for fault in faults],
        }
