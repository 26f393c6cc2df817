"""A VF of the golden machine behind the vfio-user server, driven by a client as QEMU is."""

from random import Random

import pytest

from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.linux.guest_ram import FIRST_FILE, GuestRam, Place
from cosim.linux.pump import Pump
from cosim.linux.virtual_function import VirtualFunction, pieces
from models.spec.nic import Stat
from tests.cosim.platform import frame, run
from tests.cosim.vfio_user.client import ClientBus, ClientMemory

RAM_BASE, RAM_BYTES = 0x10_0000, 1 << 20
MAC, HOST = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 1, 0))


class Rig:
    """Hypervisor, function, server; and a client's driver."""

    def __init__(self, platform, path, *, paged=False, number=1):
        self.platform, self.path, self.paged, self.number = platform, path, paged, number
        self.machine, self.hypervisor = platform.machine, platform.hypervisor
        self.left: list[bytes] = []
        self.machine.on_frame(lambda content, cycle: self.left.append(content))

    async def start(self):
        hypervisor, machine = self.hypervisor, self.machine
        self.ram = GuestRam(
            machine.memory,
            hypervisor.pages,
            Place(),
            machine.now,
            resident=not self.paged,
            views=3 if self.paged else 1,
        )
        vm = hypervisor.new_vm("guest", 0, memory=self.ram, message_gpa=0xFEE0_0000)
        bar = await hypervisor.assign(vm, self.number, MAC, ats=self.paged)
        self.function = VirtualFunction(hypervisor, vm, self.ram, bar)
        self.pump = Pump(machine, machine.now)  # golden time is free: never asleep
        self.pump.serve(self.path, self.function)
        machine.spawn(self.pump.run(lambda: False), "pump")

    async def driver(self):
        memory = ClientMemory(RAM_BASE, RAM_BYTES)
        bus = ClientBus(self.machine, self.path)
        await bus.start(memory)
        allocator = Allocator(RAM_BASE, RAM_BYTES)
        made = VirtioNet(
            self.machine,
            bus,
            memory,
            allocator,
            Random(1),
            queue_size=16,
            messages=self.number != 0,
        )
        received: list[bytes] = []
        made.on_receive = received.append
        await made.start()
        return bus, made, received

    async def exchange(self, driver, received, rng, count=6):
        """Frames both ways, checked."""
        del self.left[:]
        there = [frame(HOST, driver.mac, rng) for _ in range(count)]
        back = [frame(driver.mac, HOST, rng) for _ in range(count)]
        for content in there:
            await driver.send(content)
        for content in back:
            await self.machine.send_frame(content)
        await self.platform.until(lambda: len(self.left) == count and len(received) == count)
        assert (self.left, received) == (there, back)
        del received[:]


def on_rig(path, scenario, **options):
    async def main(platform):
        rig = Rig(platform, path / "function", **options)
        await rig.start()
        return await scenario(rig)

    run(main, name="tiny")


@pytest.mark.parametrize("paged", [False, True])
def test_a_driver_behind_the_protocol_exchanges_frames(tmp_path, paged):
    async def scenario(rig):
        _, driver, received = await rig.driver()
        assert driver.mac == MAC
        await rig.exchange(driver, received, Random(2))
        assert rig.function.interrupts
        services = rig.hypervisor.assignment(1).services
        assert bool(services) == paged

    on_rig(tmp_path, scenario, paged=paged)


def test_a_physical_function_interrupts_by_its_pin(tmp_path):
    """Its driver has MSI-X disabled; a reset, with all that is behind it, is survived."""

    async def scenario(rig):
        for again in (False, True):
            bus, driver, received = await rig.driver()
            for seed in (2, 3):
                await rig.machine.sleep(5000)
                before = rig.function.interrupts
                await rig.exchange(driver, received, Random(seed))
                assert rig.function.interrupts > before
            assert not rig.platform.stat(0, Stat.INTERRUPTS)
            if not again:
                driver.die()
                await rig.function.reset()
                bus.hang_up()
                await rig.machine.sleep(20_000)

    on_rig(tmp_path, scenario, number=0)


def test_pages_that_were_taken_away_come_back_elsewhere(tmp_path):
    async def scenario(rig):
        _, driver, received = await rig.driver()
        await rig.exchange(driver, received, Random(3))
        before = {gpa: rig.ram.make_resident(gpa) for gpa in rig.ram.resident_addresses}
        await rig.function.evict(list(before))
        assert not rig.ram.resident_pages
        await rig.exchange(driver, received, Random(4))
        after = {gpa: rig.ram.make_resident(gpa) for gpa in rig.ram.resident_addresses}
        both = before.keys() & after.keys()
        assert both
        assert all(before[gpa] != after[gpa] >= FIRST_FILE for gpa in both)
        for gpa in both:
            (stay,) = rig.ram.history[before[gpa]]
            (now,) = rig.ram.history[after[gpa]]
            assert stay.begin < stay.end <= now.begin
            assert now.end is None

    on_rig(tmp_path, scenario, paged=True)


def test_memory_that_the_client_takes_away_is_not_written_any_more(tmp_path):
    async def scenario(rig):
        bus, driver, received = await rig.driver()
        await rig.exchange(driver, received, Random(5))
        await bus.unmap(0, 1 << 40)
        assert not rig.ram.resident_pages
        await rig.machine.send_frame(frame(driver.mac, HOST, Random(6)))
        await rig.machine.sleep(20_000)
        assert not received
        assert rig.hypervisor.iommu.faults
        assert rig.platform.stat(1, Stat.DMA_FAULTS)

    on_rig(tmp_path, scenario)


def test_a_client_that_dies_leaves_a_function_for_the_next_one(tmp_path):
    async def scenario(rig):
        bus, driver, received = await rig.driver()
        await rig.exchange(driver, received, Random(7))
        await driver.send(frame(HOST, driver.mac, Random(8)))
        bus.hang_up()
        await rig.machine.sleep(20_000)
        assert not rig.ram.resident_pages
        assert not rig.pump.pending
        _, second, came = await rig.driver()
        await rig.exchange(second, came, Random(9))

    on_rig(tmp_path, scenario)


def test_pieces_of_an_access_are_aligned():
    assert list(pieces(1, 7)) == [(1, 1, 0), (2, 2, 1), (4, 4, 3)]
    assert list(pieces(0, 8)) == [(0, 4, 0), (4, 4, 4)]
    assert list(pieces(6, 3)) == [(6, 2, 0), (8, 1, 2)]
    assert list(pieces(8, 12, largest=8)) == [(8, 8, 0), (16, 4, 8)]
