"""The receiving end of interrupts: IMSIC interrupt files and memory-resident interrupt files.

RISC-V Advanced Interrupt Architecture 1.0, chapters "Incoming MSI Controller" (an interrupt file's
page in memory, its arrays of pending and enable bits) and "IOMMU support for MSIs to virtual
machines" (memory-resident interrupt files, and the notice MSI for a store into one).
"""

from collections.abc import Callable

from models.memory import ByteMemory

__all__ = ["InterruptFile", "MemoryInterruptFile", "MsiFabric"]

_PAGE = 4096
_SETEIPNUM_LE, _SETEIPNUM_BE = 0, 4
_IDENTITIES_MAX = 2047
_WORD_BITS = 64
_MRIF_BYTES = 512


def _check(identity: int, identities: int) -> bool:
    """Whether an identity is implemented; 0 never is."""
    return 0 < identity <= identities


class InterruptFile:
    """One interrupt file of an IMSIC: a page that takes MSIs, and its pending and enable bits.

    Parameters
    ----------
    identities : int
        Implemented identities, 63 to 2047, one less than a multiple of 64.
    """

    def __init__(self, identities: int = 255) -> None:
        if not 63 <= identities <= _IDENTITIES_MAX or (identities + 1) % _WORD_BITS:
            raise ValueError(f"Identities must be 64 n - 1 from 63 to 2047, not {identities!r}")
        self.identities = identities
        self._pending = self._enabled = 0
        #: Identities in the order in which they came, pending already or not.
        self.received: list[int] = []
        #: Whether the file delivers at all (``eidelivery``), and below which identity (0: all).
        self.delivery, self.threshold = True, 0

    def write(self, offset: int, data: bytes) -> None:
        """Take a write into the page; all but aligned 32-bit ones to ``seteipnum`` do nothing."""
        if not 0 <= offset < _PAGE:
            raise ValueError(f"Offset {offset:#x} is not in the page")
        if len(data) != 4 or offset not in (_SETEIPNUM_LE, _SETEIPNUM_BE):
            return
        identity = int.from_bytes(data, "little" if offset == _SETEIPNUM_LE else "big")
        if _check(identity, self.identities):
            self.received.append(identity)
            self._pending |= 1 << identity

    def read(self, offset: int, size: int) -> bytes:
        """Loads from the page read zero."""
        if not 0 <= offset <= _PAGE - size:
            raise ValueError(f"Offset {offset:#x} is not in the page")
        return bytes(size)

    def pending(self, identity: int) -> bool:
        """Whether an identity is pending."""
        return bool(self._pending >> identity & 1)

    def enable(self, identity: int, on: bool = True) -> None:
        """Set or clear an identity's enable bit."""
        if not _check(identity, self.identities):
            raise ValueError(f"Identity must be in 1 to {self.identities}, not {identity!r}")
        self._enabled = self._enabled & ~(1 << identity) | on << identity

    def eip(self, register: int) -> int:
        """Array of pending bits, 64 a register (``eip0``, ``eip2``, ... of RV64)."""
        return self._pending >> _WORD_BITS * register & (1 << _WORD_BITS) - 1

    @property
    def top(self) -> int:
        """Lowest identity that is pending and enabled (``topei``); 0 if there is none."""
        if not self.delivery:
            return 0
        bits = self._pending & self._enabled
        identity = (bits & -bits).bit_length() - 1 if bits else 0
        return identity if not self.threshold or identity < self.threshold else 0

    def claim(self) -> int:
        """Return :attr:`top` and clear its pending bit."""
        identity = self.top
        self._pending &= ~(1 << identity) if identity else ~0
        return identity


class MemoryInterruptFile:
    """A memory-resident interrupt file: 512 bytes, pending and enable bits by turns, 64 each.

    Parameters
    ----------
    memory : ByteMemory
        Where it is; the IOMMU stores pending bits there.
    address : int
        A multiple of 512.
    """

    def __init__(self, memory: ByteMemory, address: int) -> None:
        if address % _MRIF_BYTES:
            raise ValueError(f"Address must be a multiple of 512, not {address:#x}")
        self._memory, self._address = memory, address

    def _slot(self, identity: int, enable: bool) -> int:
        if not _check(identity, _IDENTITIES_MAX):
            raise ValueError(f"Identity must be in 1 to {_IDENTITIES_MAX}, not {identity!r}")
        return self._address + 16 * (identity // _WORD_BITS) + 8 * enable

    def _load(self, slot: int) -> int:
        return int.from_bytes(self._memory.read(slot, 8), "little")

    def _store(self, slot: int, value: int) -> None:
        self._memory.write(slot, value.to_bytes(8, "little"))

    def set_pending(self, identity: int) -> None:
        """Store an MSI as the IOMMU must; a notice MSI is due then, enabled or not."""
        slot, bit = self._slot(identity, False), 1 << identity % _WORD_BITS
        self._store(slot, self._load(slot) | bit)

    def pending(self, identity: int) -> bool:
        """Whether an identity is pending."""
        return bool(self._load(self._slot(identity, False)) >> identity % _WORD_BITS & 1)

    def enable(self, identity: int, on: bool = True) -> None:
        """Set or clear an enable bit, which is the guest's: it does not hold back notice MSIs."""
        slot, bit = self._slot(identity, True), 1 << identity % _WORD_BITS
        self._store(slot, self._load(slot) & ~bit | on * bit)

    def take(self) -> list[int]:
        """Clear all pending bits; return the identities that had one (as a hypervisor moves)."""
        found = []
        for word in range(_MRIF_BYTES // 16):
            slot = self._address + 16 * word
            bits = self._load(slot)
            found += [64 * word + n for n in range(_WORD_BITS) if bits >> n & 1]
            self._store(slot, 0)
        return [identity for identity in found if identity]


class MsiFabric:
    """Interrupt files at their addresses: takes writes as a bus would.

    Parameters
    ----------
    on_write : callable or None
        Called as ``on_write(address, data)`` for writes that reach no file.
    """

    def __init__(self, on_write: Callable[[int, bytes], None] | None = None) -> None:
        self._files: dict[int, InterruptFile] = {}
        self._other = on_write

    def add(self, address: int, file: InterruptFile) -> InterruptFile:
        """Put a file's page at an address."""
        if address % _PAGE or address in self._files:
            raise ValueError(f"Page {address:#x} is not free or not aligned")
        self._files[address] = file
        return file

    def write(self, address: int, data: bytes) -> None:
        """Deliver a write."""
        file = self._files.get(address & -_PAGE)
        if file is not None:
            file.write(address & _PAGE - 1, data)
        elif self._other is not None:
            self._other(address, data)
