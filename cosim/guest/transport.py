"""Virtio over PCI from the driver's side: negotiation, queues, configuration (virtio 1.3, 4.1)."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from cosim.guest.virtio_pci import GuestBus, VirtioPci
from cosim.guest.virtqueue import BrokenDevice, Virtqueue
from cosim.port import Event, Task
from models.spec.nic import Isr
from models.spec.pci_capabilities import VirtioStructure
from models.spec.virtio import DeviceStatus, NetConfig, common

__all__ = ["Processor", "Transport"]

_CONFIG_BYTES = NetConfig.as_shape().size // 8


class Processor(Protocol):
    """What the driver needs of the machine that it runs on."""

    def sleep(self, cycles: int) -> Awaitable[None]:
        """Let cycles pass."""
        ...

    def spawn(self, coroutine, name: str = "") -> Task:
        """Start a task."""
        ...

    def event(self) -> Event:
        """Make an event."""
        ...


class Transport:
    """One device's registers.

    Parameters
    ----------
    cpu : Processor
    bus : GuestBus
        Where the device is to be found.
    message_address : int or None
        The interrupt file as the device addresses it; ``None``: what the platform says.
    messages : bool
        Interrupts are messages; else they come by the pin.
    """

    def __init__(
        self, cpu: Processor, bus: GuestBus, message_address: int | None, *, messages: bool = True
    ) -> None:
        self._cpu, self._bus, self._message_address = cpu, bus, message_address
        self._messages = messages
        self.device: VirtioPci
        self._places: dict[int, int] = {}

    async def find(self) -> None:
        """Find the device on its bus."""
        self.device = await VirtioPci.find(self._bus, messages=self._messages)

    @property
    def vectors(self) -> int:
        """MSI-X vectors of the device."""
        return self.device.vectors

    def load(self, name: str) -> Awaitable[int]:
        """Load a register of the common configuration."""
        register = common(name)
        return self.device.load(VirtioStructure.COMMON, register.offset, register.bytes)

    async def store(self, name: str, value: int) -> None:
        """Store a register; 64-bit ones in two halves (4.1.3.1)."""
        register, kind = common(name), VirtioStructure.COMMON
        if register.bytes < 8:
            await self.device.store(kind, register.offset, register.bytes, value)
            return
        await self.device.store(kind, register.offset, 4, value & 0xFFFF_FFFF)
        await self.device.store(kind, register.offset + 4, 4, value >> 32)

    async def add_status(self, bit: DeviceStatus) -> None:
        """Set a bit of the device status."""
        await self.store("device_status", await self.load("device_status") | bit)

    async def reset(self) -> None:
        """Reset the device, and wait until it is (4.1.4.3.2)."""
        await self.store("device_status", 0)
        while await self.load("device_status"):
            await self._cpu.sleep(50)

    async def begin(self, known: int, needed: int) -> int:
        """Reset the device and negotiate; returns the features accepted (3.1.1)."""
        await self.reset()
        await self.add_status(DeviceStatus.ACKNOWLEDGE)
        await self.add_status(DeviceStatus.DRIVER)
        return await self.negotiate(known, needed)

    async def negotiate(self, known: int, needed: int) -> int:
        """Accept what is offered of the features ``known``, and return it (3.1.1)."""
        offered = 0
        for half in (0, 1):
            await self.store("device_feature_select", half)
            offered |= await self.load("device_feature") << 32 * half
        if offered & needed != needed:
            raise BrokenDevice(f"Features {offered:#x} lack what this driver needs")
        accepted = offered & known
        for half in (0, 1):
            await self.store("driver_feature_select", half)
            await self.store("driver_feature", accepted >> 32 * half & 0xFFFF_FFFF)
        await self.add_status(DeviceStatus.FEATURES_OK)
        if not await self.load("device_status") & DeviceStatus.FEATURES_OK:
            await self.add_status(DeviceStatus.FAILED)
            raise BrokenDevice(f"The device refuses features {accepted:#x}")
        return accepted

    async def queue_size(self, number: int, wanted: int) -> int:
        """Select a queue, and return the most entries that it can have, up to ``wanted``."""
        await self.store("queue_select", number)
        largest = await self.load("queue_size")
        if not largest:
            raise BrokenDevice(f"There is no queue {number}")
        return min(wanted, largest)

    async def route(self, vector: int, handler: Callable[[], None]) -> None:
        """Route a vector to a handler."""
        await self.device.set_vector(vector, handler, address=self._message_address)

    async def by_pin(self, causes: Callable[[Isr], None]) -> None:
        """Take interrupts from the pin, for ever: tell of the causes, which reading clears."""
        asserted = self._cpu.event()
        self.device.route_pin(asserted.set)
        asserted.set()  # it may be already
        while True:
            await asserted.wait()
            asserted.clear()
            # The pin falls when nothing is left; only then can it be seen to rise again.
            while found := await self.device.load(VirtioStructure.ISR, 0, 1):
                causes(Isr(found))

    async def enable_queue(self, queue: Virtqueue, vector: int) -> None:
        """Tell the device of a queue and its vector, and enable it (4.1.5.1.3)."""
        await self.store("queue_select", queue.number)
        await self.store("queue_size", queue.size)
        if await self.load("queue_size") != queue.size:
            raise BrokenDevice(f"Queue {queue.number} cannot have {queue.size} entries")
        names = ("queue_desc", "queue_driver", "queue_device")
        for name, address in zip(names, queue.addresses, strict=True):
            await self.store(name, address)
        self._places[queue.number] = await self.load("queue_notify_off")
        await self.store("queue_msix_vector", vector)
        if await self.load("queue_msix_vector") != vector:
            raise BrokenDevice(f"The device has no room for vector {vector}")
        await self.store("queue_enable", 1)

    async def reset_queue(self, number: int) -> None:
        """Reset one queue, and wait until it is (4.1.5.1.4); RING_RESET was accepted."""
        await self.store("queue_select", number)
        await self.store("queue_reset", 1)
        while await self.load("queue_reset"):
            await self._cpu.sleep(50)

    async def net_config(self):
        """Return the device configuration, read again if it changed meanwhile (2.5.1)."""
        while True:
            before = await self.load("config_generation")
            words = [
                await self.device.load(VirtioStructure.DEVICE, n, 4)
                for n in range(0, _CONFIG_BYTES, 4)
            ]
            if await self.load("config_generation") == before:
                break
        return NetConfig.from_bits(sum(word << 32 * n for n, word in enumerate(words)))

    def notify(self, queue: Virtqueue) -> None:
        """Ring a queue's doorbell unless the device asks not to."""
        if queue.wants_notify:
            self.device.notify(self._places[queue.number], queue.number)
