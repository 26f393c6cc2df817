"""Sparse physical memory for models: bytes by address, zero until written, errors on request."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol

__all__ = ["AccessFault", "ByteMemory", "DataCorruption", "ErrorKind", "FaultyMemory", "Memory"]

_PAGE_BYTES = 4096


class AccessFault(ValueError):
    """An access that memory refuses."""


class DataCorruption(Exception):
    """An access that memory answers with data marked as corrupt ("poisoned")."""


class ErrorKind(IntEnum):
    """What an access to a range with an injected error meets."""

    ACCESS_FAULT = 1
    CORRUPTION = 2


class ByteMemory(Protocol):
    """What models, table builders and software need of a memory.

    Accesses that are not to memory raise :class:`ValueError`, of which :class:`AccessFault` is one.
    """

    def read(self, address: int, size: int, /) -> bytes:
        """Return ``size`` bytes."""
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Store bytes."""
        ...


class Memory:
    """Byte-addressed memory of any extent; only pages that were written take room.

    Parameters
    ----------
    address_bits : int
        Accesses that reach beyond raise :class:`AccessFault`.
    """

    def __init__(self, address_bits: int = 64) -> None:
        self._limit = 1 << address_bits
        self._pages: dict[int, bytearray] = {}

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self._limit:
            raise AccessFault(f"{size} bytes at {address:#x} are not memory")

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes; never written ones are 0."""
        self._check(address, size)
        number, offset = divmod(address, _PAGE_BYTES)
        if offset + size <= _PAGE_BYTES:
            page = self._pages.get(number)
            return bytes(size) if page is None else bytes(page[offset : offset + size])
        first = _PAGE_BYTES - offset
        return self.read(address, first) + self.read(address + first, size - first)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self._check(address, len(data))
        position = 0
        while position < len(data):
            number, offset = divmod(address + position, _PAGE_BYTES)
            page = self._pages.setdefault(number, bytearray(_PAGE_BYTES))
            part = data[position : position + _PAGE_BYTES - offset]
            page[offset : offset + len(part)] = part
            position += len(part)

    def clear(self) -> None:
        """Make everything 0."""
        self._pages.clear()


class FaultyMemory:
    """A memory some of whose ranges answer with errors.

    Parameters
    ----------
    memory : ByteMemory
        Where the other accesses go.
    """

    def __init__(self, memory: ByteMemory) -> None:
        self.memory = memory
        self._errors: tuple[tuple[int, int, ErrorKind], ...] = ()

    def inject(self, errors: Iterable[tuple[int, int, int]]) -> None:
        """Fail accesses that overlap ``(address, size, kind)`` from now on; replaces all."""
        self._errors = tuple(
            (address, address + size, ErrorKind(kind)) for address, size, kind in errors
        )

    def _check(self, address: int, size: int) -> None:
        for low, high, kind in self._errors:
            if address < high and low < address + size:
                if kind is ErrorKind.ACCESS_FAULT:
                    raise AccessFault(f"{size} bytes at {address:#x}: injected access fault")
                raise DataCorruption(f"{size} bytes at {address:#x}: injected corruption")

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes, or raise what was injected."""
        if self._errors:
            self._check(address, size)
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes, or raise what was injected and store nothing."""
        if self._errors:
            self._check(address, len(data))
        self.memory.write(address, data)
