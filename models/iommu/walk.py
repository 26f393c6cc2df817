"""Page-table walks of both stages.

RISC-V Privileged Architecture, "Virtual Address Translation Process" and "Two-Stage Address
Translation", as sections "Process to translate an IOVA" and "IOMMU updating of PTE accessed (A)
and dirty (D) updates" use them.  One walk for both stages; what differs is a :class:`_Stage`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from models.iommu.access import PhysicalMemory
from models.iommu.directory import DeviceContext
from models.iommu.parameters import Capabilities
from models.iommu.records import Access, Fault, bits_of, extractor
from models.spec.iommu import PAGE_SHIFT, Cause, IoatpMode, IohgatpMode, Pte

__all__ = ["UNLIMITED", "Leaf", "Walker"]

#: log2 of the range that a Bare stage translates alike.
UNLIMITED = 64

_V, _R, _W, _X, _U, _G, _A, _D = (bits_of(Pte, name) for name in "vrwxugad")
_N, _RESERVED, _RSW2 = bits_of(Pte, "n"), bits_of(Pte, "reserved"), bits_of(Pte, "rsw2")
_PPN, _PBMT = extractor(Pte, "ppn"), extractor(Pte, "pbmt")
_PBMT_BITS = bits_of(Pte, "pbmt")
_PBMT_RESERVED = 3
_NAPOT_64K = 0b1000
#: An Sv32 PTE has a narrower PPN and nothing above it (Privileged Architecture, "Sv32").
_SV32_PTE_BITS = 32


@dataclass(frozen=True)
class _Scheme:
    """Shape of a scheme's tables; the root of an x4 scheme has ``extra_bits`` more of index."""

    levels: int
    index_bits: int = 9
    pte_bytes: int = 8
    extra_bits: int = 0

    @property
    def address_bits(self) -> int:
        return PAGE_SHIFT + self.levels * self.index_bits + self.extra_bits


_SV32, _SV32X4 = (_Scheme(2, 10, _SV32_PTE_BITS // 8, extra) for extra in (0, 2))
_SCHEMES = {
    IoatpMode.SV39: _Scheme(3),
    IoatpMode.SV48: _Scheme(4),
    IoatpMode.SV57: _Scheme(5),
}
_SCHEMES_X4 = {
    IohgatpMode.SV39X4: _Scheme(3, extra_bits=2),
    IohgatpMode.SV48X4: _Scheme(4, extra_bits=2),
    IohgatpMode.SV57X4: _Scheme(5, extra_bits=2),
}
#: Limit of guest physical addresses with DC.tc.SXL 1 (section "Translation control").
_SXL_GPA_BITS = 34


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """Result of one stage: where an address goes and what may be done there."""

    address: int
    size_log2: int = UNLIMITED
    r: bool = True
    w: bool = True
    x: bool = True
    glob: bool = False
    pbmt: int = 0


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One stage of one walk."""

    scheme: _Scheme
    root: int
    update: bool  # A and D are updated by hardware
    load: Callable[[int], int]
    store: Callable[[int, int], None]
    fault: Callable[[], Fault]


class Walker:
    """Walks page tables in memory, with no cache.

    Parameters
    ----------
    memory : PhysicalMemory
    capabilities : Capabilities
    """

    def __init__(self, memory: PhysicalMemory, capabilities: Capabilities) -> None:
        self.memory, self.capabilities = memory, capabilities
        #: ``fctl.BE``: byte order of second-stage tables.
        self.big_endian = False
        #: ``fctl.GXL``: 32-bit schemes of the second stage.
        self.gxl = False

    def second_stage(
        self,
        context: DeviceContext,
        gpa: int,
        access: Access,
        *,
        implicit: bool = False,
        implicit_write: bool = False,
    ) -> Leaf:
        """Translate a guest physical address.

        ``implicit``: the access is to a table of the first stage (or a process directory); faults
        are then still reported with the access type of ``access``.
        """
        if context.second_stage == IohgatpMode.BARE:
            return Leaf(address=gpa)
        wanted = access
        if implicit:
            wanted = replace(access, read=True, write=implicit_write, execute=False, strict=True)
        # The U bit is judged as for a transaction without supervisor privilege.
        wanted = replace(wanted, supervisor=False)
        scheme = _SV32X4 if self.gxl else _SCHEMES_X4[IohgatpMode(context.second_stage)]

        def fault() -> Fault:
            return access.guest_page_fault(gpa, implicit=implicit, implicit_write=implicit_write)

        def load(address: int) -> int:
            return self._load(scheme, address, access, self.big_endian)

        def store(address: int, entry: int) -> None:
            self._store(scheme, address, entry, access, self.big_endian)

        if gpa >> (_SXL_GPA_BITS if context.sxl else scheme.address_bits):
            raise fault()
        stage = _Stage(
            scheme=scheme,
            root=context.second_stage_root,
            update=bool(context.gade),
            load=load,
            store=store,
            fault=fault,
        )
        leaf = self._walk(stage, gpa, wanted)
        if context.sxl:  # a page beyond the limit is not whole
            return replace(leaf, size_log2=min(leaf.size_log2, _SXL_GPA_BITS))
        return leaf

    def first_stage(
        self, context: DeviceContext, mode: int, root: int, iova: int, access: Access
    ) -> Leaf:
        """Translate an IOVA to a guest physical address; table accesses use the second stage."""
        if mode == IoatpMode.BARE:
            return Leaf(address=iova)
        scheme = _SV32 if context.sxl else _SCHEMES[IoatpMode(mode)]
        big = bool(context.sbe)

        def load(address: int) -> int:
            spa = self.second_stage(context, address, access, implicit=True).address
            return self._load(scheme, spa, access, big)

        def store(address: int, entry: int) -> None:
            leaf = self.second_stage(context, address, access, implicit=True, implicit_write=True)
            self._store(scheme, leaf.address, entry, access, big)

        bits = scheme.address_bits
        if context.sxl:
            if iova >> bits:
                raise access.page_fault()
        elif iova >> bits - 1 not in (0, (1 << 65 - bits) - 1):  # not canonical
            raise access.page_fault()
        stage = _Stage(
            scheme=scheme,
            root=root,
            update=bool(context.sade),
            load=load,
            store=store,
            fault=access.page_fault,
        )
        return self._walk(stage, iova, access)

    def _load(self, scheme: _Scheme, address: int, access: Access, big_endian: bool) -> int:
        """Read a PTE."""
        return self.memory.load(
            address,
            scheme.pte_bytes,
            access_fault=access.access_fault,
            corruption=Cause.PT_CORRUPTION,
            big_endian=big_endian,
        )[0]

    def _store(
        self, scheme: _Scheme, address: int, entry: int, access: Access, big_endian: bool
    ) -> None:
        """Write a PTE."""
        self.memory.store_bytes(
            address,
            entry.to_bytes(scheme.pte_bytes, "big" if big_endian else "little"),
            access_fault=access.access_fault,
            corruption=Cause.PT_CORRUPTION,
        )

    def _walk(self, stage: _Stage, address: int, access: Access) -> Leaf:
        table, glob, scheme = stage.root, False, stage.scheme
        bits = scheme.index_bits + scheme.extra_bits
        for level in range(scheme.levels - 1, -1, -1):
            shift = PAGE_SHIFT + scheme.index_bits * level
            slot = table + scheme.pte_bytes * (address >> shift & (1 << bits) - 1)
            bits = scheme.index_bits
            pte = stage.load(slot)
            if not pte & _V or self._reserved(pte):
                raise stage.fault()
            glob = glob or bool(pte & _G)
            if pte & (_R | _X):
                return self._leaf(stage, address, access, slot, pte, shift, glob)
            if pte & (_A | _D | _U | _N | _PBMT_BITS):
                raise stage.fault()  # reserved in a pointer
            table = _PPN(pte) << PAGE_SHIFT
        raise stage.fault()

    def _reserved(self, pte: int) -> bool:
        """Encodings that are reserved at any level."""
        if pte & _RSW2 and not self.capabilities.svrsw60t59b:
            return True
        if pte & _PBMT_BITS and not self.capabilities.svpbmt:
            return True
        if _PBMT(pte) == _PBMT_RESERVED:
            return True
        # W without R; with X=0 that is Zicfiss' shadow stack, reserved for I/O.
        return bool(pte & _RESERVED) or pte & (_R | _W) == _W

    def _leaf(
        self,
        stage: _Stage,
        address: int,
        access: Access,
        slot: int,
        pte: int,
        shift: int,
        glob: bool,
    ) -> Leaf:
        r, w, x = bool(pte & _R), bool(pte & _W), bool(pte & _X)
        # Privilege.  Supervisors reach user pages with SUM only, and never execute from them.
        if pte & _U:
            if access.supervisor:
                x = False
                if not access.sum:
                    raise stage.fault()
        elif not access.supervisor:
            raise stage.fault()
        if access.strict and (
            (access.read and not r) or (access.write and not w) or (access.execute and not x)
        ):
            raise stage.fault()
        base = _PPN(pte) << PAGE_SHIFT
        if pte & _N:  # Svnapot: 64 KiB at the lowest level only
            if shift != PAGE_SHIFT or _PPN(pte) & 0xF != _NAPOT_64K:
                raise stage.fault()
            shift += 4
            base &= -1 << shift
        if base & (1 << shift) - 1:  # misaligned superpage
            raise stage.fault()
        w = self._accessed(stage, access, slot, pte, w)
        return Leaf(
            address=base | address & (1 << shift) - 1,
            size_log2=shift,
            r=r,
            w=w,
            x=x,
            glob=glob,
            pbmt=_PBMT(pte),
        )

    def _accessed(self, stage: _Stage, access: Access, slot: int, pte: int, w: bool) -> bool:
        """Judge and update A and D; return whether writing is granted."""
        wanted = _A | (_D if access.write and w else 0)
        missing = wanted & ~pte
        if missing and stage.update:
            # Nobody else writes between the load and this store, so it is atomic.
            stage.store(slot, pte | wanted)
            return bool(w and (pte | wanted) & _D)
        if missing & _A or (missing and access.strict):
            raise stage.fault()
        return bool(w and pte & _D)
