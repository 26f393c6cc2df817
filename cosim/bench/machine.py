"""The bench from inside the simulator: streams, memory, events; and the port on top of them.

Python sleeps until the hardware has something for it.  No pin but ``rst`` and ``notify`` is
touched; everything else goes through the library's queues.
"""

import json
import os
import pickle
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data
from cocotb.task import Task as CocotbTask
from cocotb.triggers import Event as CocotbEvent
from cocotb.triggers import Lock, Timer, ValueChange, with_timeout

from cosim.bench.build import Built
from cosim.bench.library import WATCH_PORT, BenchEvent, Library, Mode, SharedMemory
from cosim.bench.ports import StreamPort
from cosim.port import MessageHandler

__all__ = ["PERIOD_NS", "Bench", "Machine", "Stream", "options", "report"]

#: Nanoseconds of simulated time a cycle takes.
PERIOD_NS = 2


def options() -> dict:
    """Return what the caller of :func:`cosim.bench.run.run` asked for."""
    return json.loads(Path(os.environ["IOVIRT_OPTIONS"]).read_text(encoding="utf-8"))


def report(results: dict) -> None:
    """Hand results to the caller of :func:`cosim.bench.run.run`; a later call adds to them."""
    path = Path(os.environ["IOVIRT_REPORT"])
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**old, **results}), encoding="utf-8")


class Stream:
    """One stream port of the design, from Python."""

    def __init__(self, bench: "Bench", port: StreamPort):
        self._bench, self.port = bench, port
        self._arrived: deque[BenchEvent] = deque()
        self._wake = CocotbEvent()
        self.handler: Callable[[BenchEvent], None] | None = None

    def put(self, payload: "int | dict[str, Any]") -> None:
        """Queue one payload: a number, or the fields of the port's layout."""
        if isinstance(payload, dict):
            payload = self.layout.const(payload).as_bits()
        self._bench.library.send(self.port.number, payload, self.port.words)

    @property
    def layout(self) -> data.Layout:
        """Layout of the payload."""
        return data.Layout.cast(self.port.shape)

    @property
    def unsent(self) -> int:
        """Payloads that wait to be offered."""
        return self._bench.library.unsent(self.port.number)

    def listen(self, handler: Callable[[BenchEvent], None] | None = None) -> None:
        """Have transfers of an output port delivered, to ``handler`` or to :meth:`get`."""
        self.handler = handler
        self._bench.mode(self.port, Mode.EVENT)

    def log(self) -> None:
        """Have transfers of an output port logged, without waking Python."""
        self._bench.mode(self.port, Mode.LOG)

    def stall(self, probability: float, seed: int = 1) -> None:
        """Hold transfers back at random."""
        self._bench.library.stall(self.port.number, probability, seed)

    async def get_event(self, cycles: int = 100_000) -> BenchEvent:
        """Return the next transfer; fails after ``cycles`` without one."""
        while not self._arrived:
            self._wake.clear()
            await with_timeout(self._wake.wait(), cycles * PERIOD_NS, "ns")
        return self._arrived.popleft()

    async def get(self, cycles: int = 100_000) -> Any:
        """Return the next payload by its layout, as a number if it has none; fails in time."""
        value = (await self.get_event(cycles)).value
        plain = isinstance(self.port.shape, (int, range, Shape))
        return value if plain else self.layout.from_bits(value)

    def deliver(self, event: BenchEvent) -> None:
        """Take an event from the bench."""
        if self.handler is not None:
            self.handler(event)
        else:
            self._arrived.append(event)
            self._wake.set()


class Bench:
    """Reset, memory, streams and managers of module ``bench``.

    State of the library is made new, so any number of tests can run in a process.
    """

    def __init__(self, dut):
        self.dut = dut
        self.built: Built = pickle.loads(Path(os.environ["IOVIRT_BUILT"]).read_bytes())
        self.library = Library(os.environ["IOVIRT_LIBRARY"])
        self.library.reset()
        self.memory = SharedMemory(self.library)
        self._streams = {
            f"{port.instance}.{port.name}".lstrip("."): Stream(self, port)
            for port in self.built.ports.streams
        }
        self._by_number = {
            port.number: stream
            for port, stream in zip(self.built.ports.streams, self._streams.values(), strict=True)
        }
        self._watchers: list[tuple[int, int, MessageHandler]] = []
        self._frame_handlers: list[Callable[[bytes, int], None]] = []
        self._task: CocotbTask | None = None
        self.events = 0
        for stream in self._streams.values():
            self.mode(stream.port, Mode.OFF)
        for manager in self.built.ports.managers:
            self.library.manager(manager.number, bus_bytes=manager.signature.data_width // 8)

    def stream(self, name: str) -> Stream:
        """Return a stream port; taps are named ``instance.port``."""
        if name not in self._streams:
            raise KeyError(f"No stream {name!r}; there are {sorted(self._streams)}")
        return self._streams[name]

    def timing(self, name: str, **how: int) -> None:
        """Set latency, jitter, seed and order of a manager's memory."""
        for manager in self.built.ports.managers:
            if manager.name == name:
                self.library.manager(
                    manager.number, bus_bytes=manager.signature.data_width // 8, **how
                )
                return
        raise KeyError(f"No manager {name!r}")

    def mode(self, port: StreamPort, mode: Mode) -> None:
        """Choose what becomes of an output port's transfers."""
        bus = (port.width - 2) // 9 if port.kind == "frames" else 0
        self.library.mode(port.number, mode, words=port.words, frame_bytes=bus)

    def take_log(self, name: str) -> np.ndarray:
        """Remove and return a stream's log: an array of ``cycle`` and 32-bit ``words``."""
        port = self.stream(name).port
        return self.library.take_log(port.number, port.words)

    def watch(self, base: int, size: int, handler: MessageHandler) -> None:
        """Call ``handler`` with address, 32-bit data and cycle of writes into a range."""
        self.memory.watch(base, size)
        self._watchers.append((base, size, handler))

    def on_frame(self, handler: Callable[[bytes, int], None], name: str = "eth_tx") -> None:
        """Call ``handler`` with every Ethernet frame that leaves a port."""
        port = self.built.ports.stream(name)
        self.mode(port, Mode.FRAME)
        self.stream(name).handler = lambda event: handler(event.data, event.cycle)

    def send_frame(self, frame: bytes, name: str = "eth_rx", *, error: bool = False) -> None:
        """Queue one Ethernet frame for a port."""
        port = self.built.ports.stream(name)
        self.library.send_frame(port.number, frame, (port.width - 2) // 9, error=error)

    @staticmethod
    async def hold(dut) -> None:
        """Put the design into reset, so that it leaves the library alone; ends with a start."""
        dut.rst.value = 1
        await Timer(4 * PERIOD_NS, "ns")

    def stop(self) -> None:
        """Deliver no more events; another bench may take over."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def start(self) -> None:
        """Reset the design for four cycles; ``rst`` changes between clock edges."""
        self.stop()
        self.dut.rst.value = 1
        await Timer(4 * PERIOD_NS, "ns")
        self.dut.rst.value = 0
        await Timer(2 * PERIOD_NS, "ns")
        self._task = cocotb.start_soon(self._dispatch())

    async def _dispatch(self) -> None:
        while True:
            for event in self.library.take_events():
                self.events += 1
                if event.port == WATCH_PORT:
                    self._written(event)
                else:
                    self._by_number[event.port].deliver(event)
            await ValueChange(self.dut.notify)

    def _written(self, event: BenchEvent) -> None:
        words = [int.from_bytes(event.data[at : at + 8], "little") for at in (0, 8)]
        beat, strobe = words
        content = event.data[32:]
        while strobe:
            low = (strobe & -strobe).bit_length() - 1
            address = beat + (low & ~3)
            value = int.from_bytes(content[low & ~3 : (low & ~3) + 4], "little")
            strobe &= ~(0xF << (low & ~3))
            for base, size, handler in self._watchers:
                if base <= address < base + size:
                    handler(address, value, event.cycle)


class _Task:
    def __init__(self, task: CocotbTask):
        self._task = task

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self) -> Any:
        return await self._task

    def cancel(self) -> None:
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


class _Registers:
    """An AXI4-Lite port, one access at a time."""

    #: Cycles after which an access that is not answered is an error.
    PATIENCE = 100_000

    def __init__(self, bench: Bench, name: str):
        self.lock = Lock()
        self.streams = {channel: bench.stream(f"{name}__{channel}") for channel in
                        ("aw", "w", "b", "ar", "r")}  # fmt: skip
        self.streams["b"].listen()
        self.streams["r"].listen()

    async def read(self, offset: int) -> int:
        self.streams["ar"].put({"addr": offset})
        answer = await self.streams["r"].get(self.PATIENCE)
        if answer.resp:
            raise ValueError(f"Register read at {offset:#x} was answered {answer.resp!r}")
        return answer.data

    async def write(self, offset: int, value: int, strobe: int) -> None:
        self.streams["aw"].put({"addr": offset})
        self.streams["w"].put({"data": value, "strb": strobe})
        answer = await self.streams["b"].get(self.PATIENCE)
        if answer.resp:
            raise ValueError(f"Register write at {offset:#x} was answered {answer.resp!r}")


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
        spaces = spaces or {"iommu": "iommu_regs", "nic": "nic_regs"}
        self._registers = {space: _Registers(bench, name) for space, name in spaces.items()}

    @property
    def memory(self) -> SharedMemory:
        """Memory of the machine."""
        return self.bench.memory

    def now(self) -> int:
        """Return the current cycle."""
        return self.bench.library.cycle

    async def mmio_read(self, space: str, offset: int, size: int = 4) -> int:
        """Load from a register."""
        registers = self._registers[space]
        async with registers.lock:
            if size == 8:
                high = await registers.read(offset + 4)
                return high << 32 | await registers.read(offset)
            word = await registers.read(offset & ~3)
            return word >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    async def mmio_write(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register."""
        registers = self._registers[space]
        async with registers.lock:
            if size == 8:
                await registers.write(offset + 4, value >> 32, 0xF)
                await registers.write(offset, value & 0xFFFF_FFFF, 0xF)
            else:
                lane = offset & 3
                strobe = ((1 << size) - 1) << lane
                await registers.write(offset & ~3, value << 8 * lane, strobe)

    def mmio_post(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register without waiting."""
        cocotb.start_soon(self.mmio_write(space, offset, value, size))

    async def sleep(self, cycles: int) -> None:
        """Let ``cycles`` pass."""
        if cycles > 0:
            await Timer(cycles * PERIOD_NS, "ns")

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
