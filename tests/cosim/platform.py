"""A golden machine with a hypervisor and guests, for tests of software."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from cosim.golden_machine import GoldenMachine
from cosim.guest.memory import Allocator, FirstStage
from cosim.guest.virtio_net import VirtioNet
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.function import FunctionPort
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.paging.mechanisms import Mechanisms
from cosim.hypervisor.paging.pager import Pager
from cosim.hypervisor.vm import MESSAGE_GPA, RAM_GPA, Vm
from models.pagetable import KIB_4
from models.spec.config import config
from models.spec.nic import FEATURE_FLAGS, Stat

#: A NIC with everything built in.
COMPLETE = dict.fromkeys(FEATURE_FLAGS, True)
HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 26
GUEST_BYTES = 1 << 22


@dataclass
class Guest:
    """A VM with its driver."""

    vm: Vm
    bar: FunctionPort
    driver: VirtioNet
    allocator: Allocator
    function: int
    received: list[bytes] = field(default_factory=list)

    @property
    def mac(self) -> bytes:
        return self.driver.mac


@dataclass
class Platform:
    """Everything that a test needs."""

    machine: GoldenMachine
    hypervisor: Hypervisor
    seed: int
    pager: Pager | None = None

    async def guest(
        self,
        function: int,
        *,
        ats: bool = True,
        first_stage: bool = False,
        start: bool = True,
        assign: dict[str, Any] | None = None,
        **options: Any,
    ) -> Guest:
        if self.pager is not None:
            vm = self.pager.new_vm(f"guest{function}", GUEST_BYTES)
            options["prepare"] = partial(self.pager.prepare, vm.pages)
        else:
            vm = self.hypervisor.new_vm(f"guest{function}", GUEST_BYTES)
        if not ats:
            self.hypervisor.pin(vm)
        mac = bytes((0x02, 0x10, 0, 0, 0, function))
        bar = await self.hypervisor.assign(vm, function, mac, ats=ats, **(assign or {}))
        allocator = Allocator(RAM_GPA, GUEST_BYTES)
        space = None
        if first_stage:
            space = FirstStage(
                vm.memory,
                allocator,
                lambda iova: self.hypervisor.invalidate_first_stage(vm, function, iova),
            )
            options["message_address"] = space.map_page(MESSAGE_GPA)
            await self.hypervisor.attach_first_stage(vm, function, space.fsc, pscid=function)
            if self.pager is not None:
                assignment = self.hypervisor.assignment(function)
                await self.pager.pin_walk(assignment, options["message_address"])
        driver = VirtioNet(
            self.machine,
            bar,
            vm.memory,
            allocator,
            Random(f"{self.seed}/{function}"),
            space=space,
            pay=vm.pay,
            **options,
        )
        guest = Guest(vm, bar, driver, allocator, function)
        driver.on_receive = guest.received.append
        if start:
            await driver.start()
        return guest

    def stat(self, function: int, stat: Stat) -> int:
        """A counter of a function."""
        return self.machine.nic.functions[function].stats[stat]

    async def until(self, done: Callable[[], bool], cycles: int = 1_000_000) -> None:
        """Wait for a condition; fail if it does not come true in time."""
        end = self.machine.now() + cycles
        while not done():
            assert self.machine.now() < end, "what was waited for did not happen"
            await self.machine.sleep(50)


def run(
    scenario: Callable[[Platform], Coroutine[Any, Any, Any]],
    *,
    name: str = "default",
    nic: dict[str, Any] | None = None,
    batch: int = 1,
    seed: int = 1,
    costs: Costs | None = None,
    limit: int = 50_000_000,
    owns_iommu: bool = True,
    frames: int = 0,
    mechanisms: Mechanisms | None = None,
    scan_cycles: int = 20_000,
    iommu: dict[str, Any] | None = None,
) -> Any:
    """Run a scenario on a new golden machine, with a NIC that may differ from the named one.

    With ``frames``, a pager has so many for all guests.
    """
    system = config(name)
    system = replace(
        system,
        nic=replace(system.nic, **(nic or {})),
        iommu=replace(system.iommu, **(iommu or {})),
    )
    machine = GoldenMachine(system, memory_base=HOST_BASE, memory_bytes=HOST_BYTES, batch=batch)
    hypervisor = Hypervisor(
        machine, system, base=HOST_BASE, size=HOST_BYTES, costs=costs, owns_iommu=owns_iommu
    )
    platform = Platform(machine, hypervisor, seed)

    async def main() -> Any:
        await hypervisor.start()
        if frames:
            platform.pager = Pager(hypervisor, frames * KIB_4, mechanisms, scan_cycles=scan_cycles)
            platform.pager.start()
        return await scenario(platform)

    return machine.run(main(), limit=limit)


def frame(target: bytes, source: bytes, rng: Random, size: int | None = None) -> bytes:
    """A frame of random content, 60 to 1514 bytes if not said otherwise."""
    size = rng.choice((60, 61, 64, 128, 590, 1513, 1514)) if size is None else size
    return target + source + b"\x88\xb5" + rng.randbytes(size - 14)
