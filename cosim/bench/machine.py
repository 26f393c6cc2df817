"""The port of :mod:`cosim.port` on the RTL."""

from collections.abc import Callable, Coroutine
from typing import Any

import cocotb
from cocotb.task import Task as CocotbTask
from cocotb.triggers import Event as CocotbEvent

from cosim.bench.bench import Bench, Stream, options, report
from cosim.bench.clockwork import PERIOD_NS, sleep
from cosim.bench.library import BenchEvent, SharedMemory
from cosim.bench.registers import Access
from cosim.port import MessageHandler

__all__ = ["PERIOD_NS", "Bench", "Machine", "Stream", "options", "report", "started"]


class _Task:
    def __init__(self, task: CocotbTask):
        self._task = task

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self) -> Any:
        return await self._task

    def cancel(self) -> None:
        if not self._task.done():
            self._task.cancel()


class _Event:
    def __init__(self) -> None:
        self._event = CocotbEvent()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self) -> None:
        await self._event.wait()


class Machine:
    """A :class:`cosim.port.Port` on the RTL.

    Parameters
    ----------
    bench : Bench
        Bench of a design with AXI4-Lite ports ``<space>_regs`` and Ethernet ports ``eth_rx`` and
        ``eth_tx``, whichever it has.
    spaces : dict[str, str]
        Names of the register ports by space.
    """

    def __init__(self, bench: Bench, spaces: dict[str, str] | None = None):
        self.bench = bench
        if spaces is None:
            spaces = {name: f"{name}_regs" for name in ("iommu", "nic")}
            spaces["iommu_config"] = "iommu_config"
        self._spaces = {space: bench.registers(name) for space, name in spaces.items()}
        self._pin_handlers: list[Callable[[bool], None]] = []

    @property
    def memory(self) -> SharedMemory:
        """Memory of the machine."""
        return self.bench.memory

    def now(self) -> int:
        """Return the current cycle."""
        return self.bench.library.cycle

    async def mmio_read(self, space: str, offset: int, size: int = 4) -> int:
        """Load from a register."""
        registers = self._spaces[space]
        _check(offset, size)
        if size == 8:
            high = registers.submit(Access(offset + 4))
            low = registers.submit(Access(offset))
            return await high.wait() << 32 | await low.wait()
        word = await registers.submit(Access(offset & ~3)).wait()
        return word >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    async def mmio_write(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register."""
        for access in self._store(space, offset, value, size):
            await access.wait()

    def mmio_post(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register without waiting; an error as its answer ends the run."""
        self._store(space, offset, value, size)

    def _store(self, space: str, offset: int, value: int, size: int) -> list[Access]:
        registers = self._spaces[space]
        _check(offset, size)
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value:#x} does not fit into {size} bytes")
        if size == 8:
            parts = [
                Access(offset + 4, data=value >> 32, strobe=0xF),
                Access(offset, data=value & 0xFFFF_FFFF, strobe=0xF),
            ]
        else:
            lane = offset & 3
            strobe = ((1 << size) - 1) << lane
            parts = [Access(offset & ~3, data=value << 8 * lane, strobe=strobe)]
        return [registers.submit(part) for part in parts]

    async def sleep(self, cycles: int) -> None:
        """Let ``cycles`` pass."""
        await sleep(cycles)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> _Task:
        """Start a task."""
        return _Task(cocotb.start_soon(coroutine))

    def event(self) -> _Event:
        """Make a new event."""
        return _Event()

    def on_message(self, base: int, size: int, handler: MessageHandler) -> None:
        """Call ``handler`` for each 32-bit write of the hardware into a range."""
        self.bench.watch(base, size, handler)

    async def send_frame(self, frame: bytes) -> None:
        """Put a frame on the wire."""
        self.bench.send_frame(frame)

    def on_frame(self, handler: Callable[[bytes, int], None]) -> None:
        """Call ``handler`` with each frame that leaves the Ethernet port."""
        self.bench.on_frame(handler)

    def on_pin(self, handler: Callable[[bool], None]) -> None:
        """Call ``handler`` with the level of the NIC's interrupt pin whenever it changes."""
        if not self._pin_handlers:
            self.bench.stream("nic_interrupt").listen(self._pin)
        self._pin_handlers.append(handler)

    def _pin(self, event: BenchEvent) -> None:
        for handler in self._pin_handlers:
            handler(bool(event.value))


def _check(offset: int, size: int) -> None:
    if size not in (1, 2, 4, 8) or offset % size:
        raise ValueError(f"No access of {size} bytes at {offset:#x}: must be aligned, 1, 2, 4 or 8")


async def started(dut, *, base: int, size: int, latency: int, seed: int) -> Machine:
    """Bring a system up whose memory, DMA's and tables', answers after ``latency`` cycles."""
    bench = Bench(dut)
    bench.memory.map(base, size)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=latency - 1, jitter=0, seed=seed)
    machine = Machine(bench)
    await bench.start()
    return machine
