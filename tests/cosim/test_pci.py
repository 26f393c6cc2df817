"""Enumeration and what follows from it: good buses, and functions that make no sense."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from cosim.guest.pci import PciDevice, PciError, Window, devices, probe, size_bar
from cosim.guest.virtio_pci import VirtioPci
from models.pci import ConfigFunction
from models.spec.config import config
from models.spec.pci import iommu_space, pf_space
from models.spec.pci_capabilities import CapabilityId, ExtendedId, VirtioStructure
from models.spec.virtio import Feature
from tests.cosim.platform import run

NIC = config("tiny").nic
PF = pf_space(NIC)


class Bus:
    """Functions of the golden model by routing ID, with bytes forged on the way."""

    functions = range(16)
    window = (0x1_0000_0000, 1 << 28)

    def __init__(self, **functions: ConfigFunction):
        self._functions = dict(enumerate(functions.values()))
        self.forged: dict[int, int] = {}
        self.stuck: dict[int, int] = {}
        self.memory: dict[int, int] = {}

    async def config_read(self, function, offset, size):
        if function not in self._functions:
            return (1 << 8 * size) - 1
        value = self._functions[function].read(offset, size)
        for place in range(size):
            if offset + place in self.forged:
                value &= ~(0xFF << 8 * place)
                value |= self.forged[offset + place] << 8 * place
        return value

    async def config_write(self, function, offset, size, value):
        if function in self._functions:
            self._functions[function].write(offset, size, value)

    async def memory_read(self, address, size):
        return self.memory.get(address, 0)

    async def memory_write(self, address, size, value):
        self.memory[address] = value

    def memory_post(self, address, size, value):
        self.memory[address] = value

    def route(self, vector, handler):
        return 0xFEE0_0000, vector

    def forge(self, offset: int, value: int, size: int) -> None:
        for place in range(size):
            self.forged[offset + place] = value >> 8 * place & 0xFF


def nic_bus() -> Bus:
    return Bus(nic=ConfigFunction(PF))


def on(bus: Bus, work: Callable):
    return asyncio.run(work(bus))


def test_finds_what_there_is():
    bus = Bus(iommu=ConfigFunction(iommu_space()), nic=ConfigFunction(PF))

    async def look(bus):
        found = await devices(bus, bus.functions)
        window = Window(*bus.window)
        for device in found:
            await device.place(window)
        return found

    iommu, nic = on(bus, look)
    assert (iommu.vendor, iommu.device, iommu.class_code) == (0x1EFD, 8, 0x08_0600)
    assert {n: b.size for n, b in iommu.bars.items()} == {0: 4096}
    assert [i for i, _ in iommu.capabilities] == [
        CapabilityId.POWER_MANAGEMENT, CapabilityId.PCI_EXPRESS, CapabilityId.MSIX,
    ]  # fmt: skip
    assert not iommu.extended
    assert (nic.vendor, nic.device, nic.class_code) == (0x1AF4, 0x1041, 0x02_0000)
    assert {n: b.size for n, b in nic.bars.items()} == {0: 0x4000, 2: 0x2000}
    assert [i for i, _ in nic.extended] == [
        ExtendedId.ARI, ExtendedId.SR_IOV, ExtendedId.ATS,
        ExtendedId.PRI, ExtendedId.PASID, ExtendedId.ACS,
    ]  # fmt: skip
    places = [(d.addresses[n], b.size) for d in (iommu, nic) for n, b in d.bars.items()]
    assert all(address % size == 0 for address, size in places)
    places.sort()
    assert all(a + size <= b for (a, size), (b, _) in pairwise(places))


def test_virtio_structures_are_found_by_their_capabilities():
    bus = nic_bus()
    found = on(bus, VirtioPci.find)
    base = found.device.addresses[0]
    places = {k.name: (s.address - base, s.multiplier) for k, s in found.structures.items()}
    assert places == {
        "COMMON": (0, 0), "NOTIFY": (0x1000, 4), "ISR": (0x100, 0), "DEVICE": (0x200, 0),
    }  # fmt: skip
    assert found.vectors == NIC.msix_vectors
    with pytest.raises(PciError, match="COMMON has no 4 bytes at 0x1000"):
        found.load(VirtioStructure.COMMON, 0x1000, 4)


def first(kind: VirtioStructure) -> int:
    return PF.capabilities[f"virtio_{kind.name.lower()}"]


def swapped(bus):
    """A second common structure before the first, which a driver takes: it comes first."""
    bus.forge(first(VirtioStructure.NOTIFY) + 3, VirtioStructure.COMMON, 1)


#: What is forged, and what the driver says.
HOSTILE = {
    "pointer into the header": (lambda b: b.forge(0x34, 0x10, 1), "0x10 is in the header"),
    "list into itself": (lambda b: b.forge(0x49, 0x40, 1), "comes back to 0x40"),
    "capability that points at itself": (lambda b: b.forge(0x41, 0x40, 1), "comes back to 0x40"),
    "list into nothing": (lambda b: b.forge(0x48, 0xFF, 1), "no capability at 0x48"),
    "extended list into itself": (
        lambda b: b.forge(0x108, 0x1081_0010, 4), "come back to 0x108",
    ),
    "extended list backwards": (
        lambda b: b.forge(0x108, 0x0401_0010, 4), "extended capability at 0x40",
    ),
    "extended list into nothing": (
        lambda b: b.forge(0x108, 0xF001_0010, 4), "no extended capability at 0xf00",
    ),
    "a bridge": (lambda b: b.forge(0x0E, 1, 1), "is no endpoint"),
    "BAR of I/O space": (lambda b: b.forge(0x10, 1, 1), "BAR 0 is of I/O space"),
    "BAR of an unknown type": (lambda b: b.forge(0x10, 6, 1), "of a type 3"),
    "BAR with a hole": (lambda b: b.forge(0x12, 0xF0, 1), "that is no size"),
    "BAR of 64 bits at the end": (lambda b: b.forge(0x24, 0xFFFF_F004, 4), "upper half"),
    "BAR larger than the window": (
        lambda b: (b.forge(0x10, 0x04, 4), b.forge(0x14, 0xFFFF_FFF0, 4)), "no room",
    ),
    "no MSI-X": (lambda b: b.forge(0x84, 5, 1), "has no capability 0x11"),
    "MSI-X table beyond its BAR": (lambda b: b.forge(0x88, 0x3FF8, 4), "is nowhere"),
    "MSI-X table in no BAR": (lambda b: b.forge(0x88, 5, 1), "BAR 5 is nowhere"),
    "common structure beyond its BAR": (
        lambda b: b.forge(first(VirtioStructure.COMMON) + 8, 0x3FF0, 4), "no usable COMMON",
    ),
    "common structure too small": (
        lambda b: b.forge(first(VirtioStructure.COMMON) + 12, 32, 4), "no usable COMMON",
    ),
    "notify structure askew": (
        lambda b: b.forge(first(VirtioStructure.NOTIFY) + 8, 0x1001, 4), "no usable NOTIFY",
    ),
    "notify structure without multiplier": (
        lambda b: b.forge(first(VirtioStructure.NOTIFY) + 2, 16, 1), "no usable NOTIFY",
    ),
    "odd multiplier": (
        lambda b: b.forge(first(VirtioStructure.NOTIFY) + 16, 3, 4), "no usable NOTIFY",
    ),
    "device structure in a reserved BAR": (
        lambda b: b.forge(first(VirtioStructure.DEVICE) + 4, 6, 1), "no usable DEVICE",
    ),
    "ISR structure of no type": (
        lambda b: b.forge(first(VirtioStructure.ISR) + 3, 0x77, 1), "no usable ISR",
    ),
    "common structure instead of notify": (swapped, "no usable NOTIFY"),
    "another vendor": (lambda b: b.forge(0x00, 0x8086, 2), "no virtio network device"),
    "another device": (lambda b: b.forge(0x02, 0x1042, 2), "no virtio network device"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_function_that_makes_no_sense_is_an_error_that_says_why(kind):
    forge, message = HOSTILE[kind]
    bus = nic_bus()
    forge(bus)
    with pytest.raises(PciError, match=message):
        on(bus, VirtioPci.find)


def test_a_window_that_is_full():
    bus = nic_bus()
    bus.window = (0x1000, 0x5000)
    with pytest.raises(PciError, match="no room for a BAR of 0x4000 bytes"):
        on(bus, VirtioPci.find)


def test_nothing_is_not_a_function():
    assert on(Bus(), lambda bus: probe(bus, 3)) is None


def test_sizing_leaves_a_bar_as_it_was():
    bus = nic_bus()

    async def look(bus):
        await bus.config_write(0, 0x10, 4, 0xABCD_0000)
        device = await probe(bus, 0)
        assert isinstance(device, PciDevice)
        assert await size_bar(device, 0x20, "BAR 4") is None
        return await device.read(0x10, 4)

    assert on(bus, look) == 0xABCD_0004


# On the golden machine


def test_guest_sees_a_whole_function():
    """What a VF's header lacks is there; what is the hypervisor's is not."""

    async def scenario(platform):
        guest = await platform.guest(1, start=False)
        (device,) = await devices(guest.bar, guest.bar.functions)
        assert (device.vendor, device.device) == (0x1AF4, 0x1041)
        assert {n: b.size for n, b in device.bars.items()} == {0: 0x4000}
        assert not device.extended
        assert guest.vm.exits["pci_config"] > 20
        # No memory space, no BAR.
        await device.place(Window(*guest.bar.window))
        address = device.addresses[0]
        assert await guest.bar.memory_read(address + 20, 1) == 0
        await device.change(4, 2, off=2)
        assert await guest.bar.memory_read(address + 20, 1) == 0xFF
        # The hardware's own registers stay out of reach.
        express = device.find(CapabilityId.PCI_EXPRESS)
        await device.write(express + 8, 2, 0x7FFF)
        await device.write(0x150, 4, 1)
        assert platform.machine.nic.pci.messages(1) is False

    run(scenario)


def test_function_level_reset_by_the_guest():
    async def scenario(platform):
        guest = await platform.guest(1)
        device = guest.driver.transport.device.device
        control = platform.machine.nic.functions[1]
        assert control.live
        assert platform.machine.nic.pci.master(1)
        await device.write(device.find(CapabilityId.PCI_EXPRESS) + 8, 2, 0x8000)
        assert not control.live
        assert not platform.machine.nic.pci.master(1)
        assert platform.machine.nic.pci.functions[1].field("ats_control", "enable") == 1
        await device.place(Window(*guest.bar.window))
        await guest.driver.stop()
        await guest.driver.start()
        assert control.live
        await platform.machine.sleep(10)

    run(scenario)


def test_vfs_come_and_go():
    async def scenario(platform):
        bus = platform.hypervisor.bus
        guest = await platform.guest(2)
        control = bus.pf.find_extended(ExtendedId.SR_IOV) + 8
        await bus.pf.change(control, 2, off=1)
        assert await bus.config_read(bus.routing_id(2), 4, 4) == 0xFFFF_FFFF
        nic = platform.machine.nic
        assert not nic.functions[2].live
        assert nic.read_register(2 * 0x4000 + 20, 4) == 0xFFFF_FFFF
        await bus.pf.change(control, 2, on=1)
        assert await bus.config_read(bus.routing_id(2), 4, 2) == 0
        assert guest.vm.name == "guest2"

    run(scenario)


@pytest.mark.parametrize("function", [0, 1])
def test_the_pf_alone_offers_sr_iov(function):
    async def scenario(platform):
        guest = await platform.guest(function)
        load, store = guest.driver.transport.load, guest.driver.transport.store
        await store("device_feature_select", 1)
        offered = await load("device_feature") << 32
        assert offered >> Feature.SR_IOV & 1 == (function == 0)
        await platform.machine.sleep(10)

    run(scenario)
