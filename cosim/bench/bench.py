"""The bench from inside the simulator: streams, memory, events.

Python sleeps until the hardware has something for it.  No pin but ``rst`` and ``notify`` is
touched; everything else goes through the library's queues.
"""

import json
import os
import pickle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data
from cocotb.task import Task as CocotbTask
from cocotb.triggers import Event as CocotbEvent
from cocotb.triggers import Timer, ValueChange, with_timeout

from cosim.bench.build import Built
from cosim.bench.clockwork import PERIOD_NS, PythonClock, Usage, between_edges, sleep
from cosim.bench.library import (
    CHANNELS,
    LIMIT_PORT,
    WATCH_PORT,
    BenchEvent,
    Library,
    Mode,
    SharedMemory,
)
from cosim.bench.ports import Manager, StreamPort
from cosim.bench.registers import Registers
from cosim.port import MessageHandler

__all__ = ["Bench", "CycleLimit", "MemoryWrite", "Stream", "options", "report"]


@cache
def _built(path: str) -> Built:
    """What is simulated: the same for every bench of a process."""
    return pickle.loads(Path(path).read_bytes())


class CycleLimit(RuntimeError):
    """The run has not ended after the cycles it was given."""


def options() -> dict:
    """Return what the caller of :func:`cosim.bench.run.run` asked for."""
    return json.loads(Path(os.environ["IOVIRT_OPTIONS"]).read_text(encoding="utf-8"))


def report(results: dict) -> None:
    """Hand results to the caller of :func:`cosim.bench.run.run`; a later call adds to them."""
    path = Path(os.environ["IOVIRT_REPORT"])
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**old, **results}), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class MemoryWrite:
    """One beat of a manager's write into a watched range.

    ``address`` is that of the first byte of the bus, ``data`` the whole bus, and bit *i* of
    ``strobe`` tells whether byte *i* was written; ``user`` is the sideband of the burst.
    """

    address: int
    strobe: int
    manager: int
    user: int
    data: bytes
    cycle: int


class Stream:
    """One stream port of the design, or a tapped one, from Python."""

    def __init__(self, bench: "Bench", port: StreamPort):
        self._bench, self.port = bench, port
        self._fields = port.fields
        self._arrived: deque[BenchEvent] = deque()
        self._wake = CocotbEvent()
        self.handler: Callable[[BenchEvent], None] | None = None

    @property
    def layout(self) -> data.Layout:
        """Layout of the payload."""
        return data.Layout.cast(self.port.shape)

    def put(self, payload: "int | dict[str, Any]") -> None:
        """Queue one payload: a number, or the fields of the port's layout; for signals, a value."""
        if not self.port.to_design:
            raise ValueError(f"{self.port.name} is an output")
        value = self.pack(payload) if isinstance(payload, dict) else payload
        self._bench.library.send(self.port.number, value, self.port.words)

    def pack(self, fields: dict[str, Any]) -> int:
        """Return the payload with these fields, and zero in all others."""
        value = 0
        for name, part in fields.items():
            place = self._fields.get(name)
            if place is None or not isinstance(part, int):
                return self.layout.const(fields).as_bits()  # nested: slower
            offset, width = place
            if not -(1 << width) < part < 1 << width:
                raise ValueError(f"{self.port.name}.{name} has {width} bits; {part:#x} has more")
            value |= (part & (1 << width) - 1) << offset
        return value

    def unpack(self, value: int) -> dict[str, int]:
        """Return the fields of a payload, nested ones with dots in their names."""
        return {name: value >> at & (1 << width) - 1 for name, (at, width) in self._fields.items()}

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

    def off(self) -> None:
        """Have transfers of an output port accepted and forgotten."""
        self._bench.mode(self.port, Mode.OFF)

    def stall(self, probability: float, seed: int = 1) -> None:
        """Hold transfers back at random."""
        self._bench.library.stall(self.port.number, probability, seed)

    async def get_event(self, cycles: int = 100_000) -> BenchEvent:
        """Return the next transfer; ``SimTimeoutError`` after ``cycles`` without one."""
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

    State of the library is made new, so any number of tests can run in a process; what the design
    does before :meth:`start` has reset it is ignored.  (Memories inside of the design keep their
    contents, as in hardware.)

    Parameters
    ----------
    dut : object
        cocotb's handle of module ``bench``.
    """

    #: Cycles between looks for register accesses that nobody answers.
    HEARTBEAT = 50_000

    def __init__(self, dut):
        self.dut = dut
        self.built = _built(os.environ["IOVIRT_BUILT"])
        self.library = Library(os.environ["IOVIRT_LIBRARY"])
        self.library.reset()
        self.library.limit(int(os.environ["IOVIRT_CYCLES"]))
        self.memory = SharedMemory(self.library)
        self._streams = {
            f"{port.instance}.{port.name}".lstrip("."): Stream(self, port)
            for port in self.built.ports.streams
        }
        self._by_number = {stream.port.number: stream for stream in self._streams.values()}
        self._watchers: list[tuple[int, int, Callable[[MemoryWrite], None]]] = []
        self._registers: dict[str, Registers] = {}
        self._tasks: list[CocotbTask] = []
        self._clock = PythonClock.installed()
        self._began = self._clock.read()
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

    def registers(self, name: str) -> Registers:
        """Return the manager of an AXI4-Lite port."""
        if name not in self._registers:
            self._registers[name] = Registers(self, name)
        return self._registers[name]

    def manager(self, name: str) -> Manager:
        """Return a manager port of the design; ``KeyError`` with the names there are."""
        for manager in self.built.ports.managers:
            if manager.name == name:
                return manager
        names = [manager.name for manager in self.built.ports.managers]
        raise KeyError(f"No manager {name!r}; there are {names}")

    def timing(self, name: str, **how: Any) -> None:
        """Set latency, jitter, seed and order of a manager's memory."""
        manager = self.manager(name)
        self.library.manager(manager.number, bus_bytes=manager.signature.data_width // 8, **how)

    def stall(self, name: str, probability: float, seed: int = 1) -> None:
        """Hold back a stream, or a channel of a manager (``"bus.ar"``)."""
        manager, _, channel = name.rpartition(".")
        if manager and channel in CHANNELS:
            number = self.manager(manager).number
            self.library.stall_channel(number, channel, probability, seed)
        else:
            self.stream(name).stall(probability, seed)

    def mode(self, port: StreamPort, mode: Mode) -> None:
        """Choose what becomes of an output port's transfers."""
        bus = (port.width - 2) // 9 if port.kind == "frames" else 0
        self.library.mode(port.number, mode, words=port.words, frame_bytes=bus)

    def take_log(self, name: str) -> np.ndarray:
        """Remove and return a stream's log: an array of ``cycle`` and 32-bit ``words``."""
        port = self.stream(name).port
        return self.library.take_log(port.number, port.words)

    def take_fields(self, name: str) -> dict[str, np.ndarray]:
        """Remove and return a stream's log, a column per field, and ``cycle``.

        Columns are ``uint64``; a field of more than 64 bits is a column of Python integers.
        """
        log = self.take_log(name)
        columns = {"cycle": log["cycle"].copy()}
        for field, (offset, width) in self.stream(name).port.fields.items():
            columns[field or "value"] = _column(log["words"], offset, width)
        return columns

    def watch(self, base: int, size: int, handler: MessageHandler) -> None:
        """Call ``handler`` with address, 32-bit data and cycle of writes into a range."""

        def words(write: MemoryWrite) -> None:
            for at in range(0, len(write.data), 4):
                if write.strobe >> at & 0xF and base <= write.address + at < base + size:
                    value = int.from_bytes(write.data[at : at + 4], "little")
                    handler(write.address + at, value, write.cycle)

        self.watch_writes(base, size, words)

    def watch_writes(self, base: int, size: int, handler: Callable[[MemoryWrite], None]) -> None:
        """Call ``handler`` with every beat that writes into a range."""
        self.memory.watch(base, size)
        self._watchers.append((base, size, handler))

    def on_frame(self, handler: Callable[[bytes, int], None], name: str = "eth_tx") -> None:
        """Call ``handler`` with every Ethernet frame that leaves a port, and its last cycle."""
        self.mode(self.built.ports.stream(name), Mode.FRAME)
        self.stream(name).handler = lambda event: handler(event.data, event.cycle)

    def send_frame(self, frame: bytes, name: str = "eth_rx", *, error: bool = False) -> None:
        """Queue one Ethernet frame for a port."""
        port = self.built.ports.stream(name)
        self.library.send_frame(port.number, frame, (port.width - 2) // 9, error=error)

    def usage(self) -> Usage:
        """Processor time since :meth:`start`."""
        python, total = self._clock.read()
        return Usage(
            cycles=self.library.cycle,
            python_ns=python - self._began[0],
            total_ns=total - self._began[1],
        )

    @staticmethod
    async def hold(dut) -> None:
        """Put the design into reset; ends with a start."""
        await between_edges()
        dut.rst.value = 1
        await Timer(4 * PERIOD_NS, "ns")

    def stop(self) -> None:
        """Deliver no more events; another bench may take over."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    async def start(self) -> None:
        """Reset the design for four cycles; ``rst`` changes between clock edges."""
        self.stop()
        await self.hold(self.dut)
        self._began = self._clock.read()
        self.dut.rst.value = 0
        await Timer(2 * PERIOD_NS, "ns")
        self._tasks = [cocotb.start_soon(self._dispatch()), cocotb.start_soon(self._look_after())]

    async def _dispatch(self) -> None:
        while True:
            for event in self.library.take_events():
                self.events += 1
                if event.port == WATCH_PORT:
                    self._written(event)
                elif event.port == LIMIT_PORT:
                    raise CycleLimit(f"No end after {event.cycle} cycles")
                else:
                    self._by_number[event.port].deliver(event)
            await ValueChange(self.dut.notify)

    async def _look_after(self) -> None:
        while True:
            await sleep(self.HEARTBEAT)
            for registers in self._registers.values():
                if what := registers.overdue(self.library.cycle):
                    raise CycleLimit(what)

    def _written(self, event: BenchEvent) -> None:
        address, strobe, manager, user = np.frombuffer(event.data, "<u8", 4).tolist()
        write = MemoryWrite(
            address=address,
            strobe=strobe,
            manager=manager,
            user=user,
            data=event.data[32:],
            cycle=event.cycle,
        )
        first = address + (strobe & -strobe).bit_length() - 1
        end = address + strobe.bit_length()
        for base, size, handler in self._watchers:
            if base < end and first < base + size:
                handler(write)


def _column(words: np.ndarray, offset: int, width: int) -> np.ndarray:
    first, shift = divmod(offset, 32)
    if width > 64:
        raw = [int.from_bytes(row.tobytes(), "little") for row in words]
        return np.array([value >> offset & (1 << width) - 1 for value in raw], object)
    value = np.zeros(len(words), np.uint64)
    for index in range(first, (offset + width + 31) // 32):
        move = 32 * (index - first) - shift
        word = words[:, index].astype(np.uint64)
        value |= word << np.uint64(move) if move >= 0 else word >> np.uint64(-move)
    return value & np.uint64((1 << width) - 1)
