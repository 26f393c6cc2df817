"""What benches of the NIC need of its PCI configuration spaces."""

from collections.abc import Awaitable, Callable

from models.spec.config import NicConfig
from models.spec.nic import config_base
from models.spec.pci import nic_space
from models.spec.pci_capabilities import page_request_capacity
from models.spec.registers import Register
from rtl.nic.seams import QueueOp
from tests.rtl.agents import Sink, Source

__all__ = ["configure", "obey", "settings", "without_fences"]

#: Fields to set, by register, when everything is to work.
_PF = {
    "command": {"memory": 1, "bus_master": 1},
    "msix_control": {"enable": 1},
    "ats_control": {"enable": 1},
    "pri_control": {"enable": 1},
}
_VF = {
    "command": {"bus_master": 1},
    "msix_control": {"enable": 1},
    "ats_control": {"enable": 1},
}


def settings(config: NicConfig, function: int) -> list[tuple[Register, int]]:
    """Registers of a function and what to store in them, in order, so that everything works."""
    space = nic_space(config, function)
    chosen = _VF if function else _PF
    found = [
        (space[name], sum(space[name][field].insert(v) for field, v in fields.items()))
        for name, fields in chosen.items()
    ]
    if function == 0:
        control = space["sriov_control"]
        on = control["vf_enable"].mask | control["vf_memory"].mask
        found.insert(0, (space["pri_allocation"], page_request_capacity(config)))
        found += [(space["num_vfs"], config.vfs), (control, on)]
    return found


async def configure(ctx, write32: Callable[..., Awaitable[None]], config: NicConfig) -> None:
    """Enable all functions by their configuration spaces, as the PF's owner does."""
    for function in range(config.functions):
        for register, value in settings(config, function):
            lane = register.offset % 4
            strobes = (1 << register.bytes) - 1 << lane
            address = config_base(function) + register.offset - lane
            await write32(ctx, address, value << 8 * lane, strobes)


async def obey(ctx, commands: Sink, stopped: Source) -> None:
    """Play an engine that stops each queue that it is told to."""
    seen = 0
    while True:
        await ctx.tick()
        for command in commands.got[seen:]:
            seen += 1
            if command.op == QueueOp.DISABLE:
                stopped.queue.append(command.queue)


def without_fences(dut, rng, stall) -> Sink:
    """What registers raise, but for the fences among it."""
    return Sink(dut.interrupt, rng, stall, keep=lambda interrupt: not interrupt.fence)
