"""The C library of the bench, as seen from Python in the simulator's process.

Simulator and Python load the very same file, so both see one state.
"""

import ctypes
import os
import struct
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

__all__ = ["BenchEvent", "Library", "Mode", "SharedMemory"]

_U32, _U64, _INT, _PTR = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p
_SIGNATURES = {
    "fm_reset": ([], None),
    "fm_map": ([_U64, _U64, _INT, _U64], _INT),
    "fm_unmap": ([_U64], _INT),
    "fm_sparse": ([_U32], _INT),
    "fm_sparse_read": ([_U64, _PTR, _U64], _INT),
    "fm_sparse_write": ([_U64, _PTR, _U64], _INT),
    "fm_sparse_pages": ([], _U64),
    "fm_fault": ([_U64, _U64, _U32, _U32], _INT),
    "fm_clear_faults": ([], None),
    "fm_watch": ([_U64, _U64], _INT),
    "fm_manager": ([_U32, _U32, _U32, _U32, _U32, _U32], _INT),
    "fm_mode": ([_U32, _U32, _U32, _U32], None),
    "fm_stall": ([_U32, _U32, _U32], _INT),
    "fm_limit": ([_U64], None),
    "fm_send": ([_U32, _PTR, _U32], _INT),
    "fm_send_frame": ([_U32, _PTR, _U32, _U32, _U32], _INT),
    "fm_unsent": ([_U32], _U32),
    "fm_take_events": ([_PTR, _U32], _U32),
    "fm_log_bytes": ([_U32], _U64),
    "fm_take_log": ([_U32, _PTR, _U64], _U64),
    "fm_digest": ([], _U64),
    "fm_cycle": ([], _U64),
    "fm_count": ([_U32, _U32], _U64),
}
#: Port numbers of events that come from no stream: watched writes, and the cycle limit.
WATCH_PORT, LIMIT_PORT = 0xFFFE, 0xFFFD
#: Channels of an AXI4 manager, in the order of their numbers.
CHANNELS = ("ar", "aw", "w", "r", "b")
_FIRST_CHANNEL = 64
_EVENT = struct.Struct("<IIQ")


class Mode(IntFlag):
    """What becomes of an output stream's transfers."""

    OFF = 0
    EVENT = 1
    LOG = 2
    FRAME = 4


@dataclass(frozen=True)
class BenchEvent:
    """A transfer that Python was told of."""

    port: int
    cycle: int
    data: bytes

    @property
    def value(self) -> int:
        """The payload as an integer."""
        return int.from_bytes(self.data, "little")


class Library:
    """Loaded library; every method maps to the function of that name in ``fastmem.h``.

    Parameters
    ----------
    path : str
        The very file that the simulator was linked with.
    """

    def __init__(self, path: str):
        self._lib = ctypes.CDLL(path)
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(self._lib, name)
            function.argtypes, function.restype = arguments, result
        self._room = ctypes.create_string_buffer(1 << 20)

    def reset(self) -> None:
        """Forget everything: mappings, faults, queues, events, log, digest."""
        self._lib.fm_reset()

    def manager(
        self,
        number: int,
        *,
        bus_bytes: int,
        latency: int = 20,
        jitter: int = 0,
        seed: int = 1,
        in_order: bool = False,
    ) -> None:
        """Answer a manager's bursts ``latency`` to ``latency + jitter`` cycles after acceptance."""
        if self._lib.fm_manager(number, bus_bytes, latency, jitter, seed, in_order):
            raise ValueError(f"No manager {number} with a bus of {bus_bytes} bytes")

    def mode(self, port: int, mode: Mode, *, words: int, frame_bytes: int = 0) -> None:
        """Choose what becomes of an output port's transfers."""
        self._lib.fm_mode(port, int(mode), words, frame_bytes)

    def stall(self, port: int, probability: float, seed: int) -> None:
        """Hold a port back in a share of all cycles, in steps of 1/256."""
        if not 0 <= probability < 1:
            raise ValueError(f"Stall probability must be in [0, 1), not {probability!r}")
        if self._lib.fm_stall(port, min(255, round(probability * 256)), seed & 0xFFFF_FFFF):
            raise ValueError(f"No port {port}")

    def stall_channel(self, manager: int, channel: str, probability: float, seed: int) -> None:
        """Hold one channel of a manager back, as :meth:`stall`."""
        self.stall(_FIRST_CHANNEL + 8 * manager + CHANNELS.index(channel), probability, seed)

    def limit(self, cycle: int) -> None:
        """Post one event of ``LIMIT_PORT`` in that cycle; 0 for never."""
        self._lib.fm_limit(cycle)

    def send(self, port: int, payload: int, words: int) -> None:
        """Queue one payload for an input port."""
        raw = payload.to_bytes(4 * words, "little")
        if self._lib.fm_send(port, raw, words):
            raise ValueError(f"Port {port} does not take {words} words")

    def send_frame(self, port: int, frame: bytes, bus_bytes: int, *, error: bool = False) -> None:
        """Queue one Ethernet frame for an input port."""
        if self._lib.fm_send_frame(port, frame, len(frame), bus_bytes, error):
            raise ValueError(f"Frame of {len(frame)} bytes cannot be sent")

    def unsent(self, port: int) -> int:
        """Payloads of an input port that the design has not been offered yet."""
        return self._lib.fm_unsent(port)

    def take_events(self) -> list[BenchEvent]:
        """Remove and return what has happened, oldest first."""
        size = self._lib.fm_take_events(self._room, len(self._room))
        raw, at, events = ctypes.string_at(self._room, size), 0, []
        while at < size:
            port, length, cycle = _EVENT.unpack_from(raw, at)
            at += _EVENT.size
            events.append(BenchEvent(port, cycle, raw[at : at + length]))
            at += (length + 7) & ~7
        return events

    def take_log(self, port: int, words: int) -> np.ndarray:
        """Remove and return a port's log: an array of ``cycle`` and ``words`` (32-bit)."""
        size = self._lib.fm_log_bytes(port)
        room = np.zeros(size, np.uint8)
        self._lib.fm_take_log(port, room.ctypes.data, size)
        padded = (words + 1) & ~1
        records = room.view([("cycle", "<u8"), ("words", "<u4", (padded,))])
        return records

    @property
    def cycle(self) -> int:
        """Cycles since the end of reset."""
        return self._lib.fm_cycle()

    @property
    def digest(self) -> int:
        """Hash of every transfer so far, with its cycle."""
        return self._lib.fm_digest()

    def count(self, manager: int, what: str) -> int:
        """Return how many ``"reads"``, ``"read_beats"``, ``"writes"``, ``"write_beats"`` came."""
        names = ("reads", "read_beats", "writes", "write_beats")
        return self._lib.fm_count(manager, names.index(what))


class SharedMemory:
    """Memory of the simulated buses, as bytes and arrays; a :class:`cosim.port.PhysicalMemory`.

    Regions are memfds, or files, or descriptors received from other processes.  Round them there
    can be sparse memory, of any size, that takes room only where it was written.
    """

    def __init__(self, library: Library):
        self._library = library
        self._regions: list[tuple[int, int, np.ndarray]] = []

    def map(self, base: int, size: int, *, fd: int | None = None, offset: int = 0) -> np.ndarray:
        """Put ``size`` bytes on the bus at ``base`` and return them as an array.

        Without ``fd`` the bytes are a fresh, sparse memfd.  The descriptor is not kept.
        """
        own = os.memfd_create("region") if fd is None else os.dup(fd)
        with os.fdopen(own, "r+b") as file:
            if fd is None:
                os.ftruncate(own, size)
            elif os.fstat(own).st_size < offset + size:
                raise ValueError(f"File must hold {offset + size:#x} bytes")
            if self._library._lib.fm_map(base, size, own, offset):
                raise ValueError(f"Region {base:#x} + {size:#x} cannot be mapped")
            array = np.memmap(file, np.uint8, mode="r+", offset=offset, shape=(size,))
        self._regions.append((base, size, array))
        return array

    def unmap(self, base: int) -> None:
        """Take the region at ``base`` from the bus; its array keeps its bytes."""
        if self._library._lib.fm_unmap(base):
            raise ValueError(f"Nothing is mapped at {base:#x}")
        self._regions = [region for region in self._regions if region[0] != base]

    def sparse(self, bits: int) -> None:
        """Put memory at every address below ``2**bits`` that is not in a region; 56 at most.

        Its pages come with the first write to them and read as zeros before.  Python reaches it
        by :meth:`read` and :meth:`write` alone.
        """
        if self._library._lib.fm_sparse(bits):
            raise ValueError(f"Sparse memory must have 12 to 56 address bits, not {bits!r}")

    @property
    def sparse_pages(self) -> int:
        """Pages of sparse memory that have been written."""
        return self._library._lib.fm_sparse_pages()

    def _region(self, address: int, size: int) -> np.ndarray | None:
        """Bytes of a region; none if no region has any of them, ``ValueError`` if one has some."""
        for base, extent, array in self._regions:
            if base <= address and address + size <= base + extent:
                return array[address - base : address - base + size]
            if base < address + size and address < base + extent:
                raise ValueError(f"{address:#x} + {size:#x} is not in one region")
        return None

    def view(self, address: int, size: int) -> np.ndarray:
        """Return the bytes themselves; ``ValueError`` if they are not in one region."""
        if (found := self._region(address, size)) is None:
            raise ValueError(f"{address:#x} + {size:#x} is not memory")
        return found

    def read(self, address: int, size: int) -> bytes:
        """Return bytes."""
        if (view := self._region(address, size)) is not None:
            return view.tobytes()
        room = ctypes.create_string_buffer(size)
        if address < 0 or self._library._lib.fm_sparse_read(address, room, size):
            raise ValueError(f"{address:#x} + {size:#x} is not memory")
        return room.raw

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        size = len(data)
        if (view := self._region(address, size)) is not None:
            view[:] = np.frombuffer(data, np.uint8)
        elif address < 0 or self._library._lib.fm_sparse_write(address, bytes(data), size):
            raise ValueError(f"{address:#x} + {size:#x} is not memory")

    def fault(self, base: int, size: int, *, read: int = 0, write: int = 0) -> None:
        """Answer accesses that touch a range with the given AXI response; 0 leaves them alone."""
        if self._library._lib.fm_fault(base, size, read, write):
            raise ValueError("Too many fault ranges")

    def clear_faults(self) -> None:
        """Forget every :meth:`fault`."""
        self._library._lib.fm_clear_faults()

    def watch(self, base: int, size: int) -> None:
        """Tell Python of writes into a range."""
        if self._library._lib.fm_watch(base, size):
            raise ValueError("Too many watched ranges")
