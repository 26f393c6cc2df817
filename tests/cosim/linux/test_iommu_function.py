"""IOMMU and NIC of the golden machine in the hands of one guest, each behind a connection."""

from collections import Counter
from random import Random

import pytest

from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.hypervisor.iommu_driver import IommuDriver
from cosim.linux.iommu_function import IommuFunction
from cosim.linux.machine_ram import MachineRam
from cosim.linux.pump import Pump
from cosim.linux.virtual_function import VirtualFunction
from models.directory import Context
from models.spec import iommu_registers as spec
from models.spec.iommu import CommandOpcode
from tests.cosim.platform import frame, run
from tests.cosim.vfio_user.client import ClientBus, ClientMemory

RAM_BASE, RAM_BYTES = 0x1_0000_0000, 1 << 21
MAC, HOST = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 1, 0))
TABLE, TABLE_END = spec.msi_addr(0).offset, spec.msi_addr(0).offset + 0x100


class GuestPort:
    """The port of a guest's IOMMU driver: registers by vfio-user, messages as eventfds."""

    def __init__(self, machine, bus, memory):
        self._bus, self.memory = bus, memory
        self.now, self.sleep, self.spawn = machine.now, machine.sleep, machine.spawn
        self.event, self._machine = machine.event, machine
        self._table: dict[int, int] = {}
        self._handlers = []

    def on_message(self, base, size, handler):
        self._machine.on_message(base, size, handler)
        self._handlers.append(handler)

    async def mmio_read(self, space, offset, size=4):
        assert space == "iommu"
        return await self._bus.read(0, offset, size)

    async def mmio_write(self, space, offset, value, size=4):
        if not TABLE <= offset < TABLE_END:
            await self._bus.write(0, offset, size, value)
            return
        self._table[offset] = value
        vector, within = divmod(offset - TABLE, 16)
        if within == 12:
            self._bus.route(vector, lambda: self._interrupt(vector))
            await self._bus.set_mask(vector, bool(value & 1))

    def _interrupt(self, vector):
        entry = TABLE + 16 * vector
        for handler in self._handlers:
            handler(self._table[entry], self._table[entry + 8], self.now())


class Rig:
    """The two functions, the server, and a guest's drivers."""

    def __init__(self, platform, path):
        self.platform, self.path = platform, path
        self.machine, self.hypervisor = platform.machine, platform.hypervisor
        self.left: list[bytes] = []
        self.machine.on_frame(lambda content, cycle: self.left.append(content))

    async def start(self):
        hypervisor, machine = self.hypervisor, self.machine
        users = Counter()
        ram, again = (MachineRam(machine.memory, hypervisor.pages, users) for _ in range(2))
        vm = hypervisor.new_vm("guest", 0, memory=ram, message_gpa=None)
        bar = await hypervisor.assign(vm, 1, MAC, ats=False)
        self.function = VirtualFunction(hypervisor, vm, ram, bar)
        self.iommu = IommuFunction(hypervisor, vm, again)
        pump = Pump(machine, machine.now)  # golden time is free: never asleep
        pump.serve(self.path / "nic", self.function)
        pump.serve(self.path / "iommu", self.iommu)
        machine.spawn(pump.run(lambda: False), "pump")

    async def drivers(self, **context):
        """Start the guest's drivers, with a device context unless there is to be none."""
        memory = ClientMemory(RAM_BASE, RAM_BYTES)
        allocator = Allocator(RAM_BASE, RAM_BYTES)
        buses = [ClientBus(self.machine, self.path / name) for name in ("iommu", "nic")]
        for bus in buses:
            await bus.start(memory)
        port = GuestPort(self.machine, buses[0], memory)
        iommu = IommuDriver(port, lambda pages: allocator.allocate(pages << 12, 4096), print)
        await iommu.start()
        device_id = self.hypervisor.assignment(1).device_id
        await iommu.set_context(device_id, Context(**context))
        driver = VirtioNet(self.machine, buses[1], memory, allocator, Random(1), queue_size=16)
        received: list[bytes] = []
        driver.on_receive = received.append
        await driver.start()
        return iommu, driver, received, buses


def on_rig(path, scenario):
    async def main(platform):
        rig = Rig(platform, path)
        await rig.start()
        return await scenario(rig)

    run(main, name="tiny", owns_iommu=False, limit=400_000)


async def exchange(rig, driver, received, rng):
    del rig.left[:], received[:]
    there = [frame(HOST, MAC, rng) for _ in range(5)]
    back = [frame(MAC, HOST, rng) for _ in range(5)]
    for content in there:
        await driver.send(content)
    for content in back:
        await rig.machine.send_frame(content)
    await rig.platform.until(lambda: len(rig.left) == 5 and len(received) == 5)
    assert (rig.left, received) == (there, back)


def test_a_guest_drives_iommu_and_nic(tmp_path):
    async def scenario(rig):
        iommu, driver, received, _ = await rig.drivers()
        await exchange(rig, driver, received, Random(2))
        assert rig.function.interrupts
        assert rig.iommu.commands[CommandOpcode.IODIR] == 1
        assert rig.iommu.commands[CommandOpcode.IOFENCE] >= 1
        assert not iommu.faults

    on_rig(tmp_path, scenario)


def test_a_fault_interrupts_the_guest(tmp_path):
    async def scenario(rig):
        iommu, driver, _, _ = await rig.drivers()
        await iommu.remove_context(rig.hypervisor.assignment(1).device_id)
        await driver.send(frame(HOST, MAC, Random(3)))
        await rig.platform.until(lambda: bool(iommu.faults))
        assert rig.iommu.interrupts
        assert not rig.left

    on_rig(tmp_path, scenario)


def test_the_next_guest_finds_everything_off(tmp_path):
    async def scenario(rig):
        _, driver, received, buses = await rig.drivers()
        await exchange(rig, driver, received, Random(4))
        buses[0].hang_up()
        await rig.machine.sleep(20_000)
        for register in (spec.DDTP, spec.CQCSR, spec.FQCSR, spec.PQCSR):
            assert not await rig.machine.mmio_read("iommu", register.offset) & 0xF
        assert rig.machine.memory.read(RAM_BASE, 1), "the NIC's connection has it still"
        buses[1].hang_up()
        await rig.machine.sleep(20_000)
        with pytest.raises(ValueError, match="not memory"):
            rig.machine.memory.read(RAM_BASE, 1)
        _, driver, received, _ = await rig.drivers()
        await exchange(rig, driver, received, Random(5))

    on_rig(tmp_path, scenario)
