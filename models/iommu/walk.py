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
_INDEX_BITS = 9
_LEVELS = {IoatpMode.SV39: 3, IoatpMode.SV48: 4, IoatpMode.SV57: 5}
_LEVELS_X4 = {IohgatpMode.SV39X4: 3, IohgatpMode.SV48X4: 4, IohgatpMode.SV57X4: 5}


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

    levels: int
    root: int
    extra_bits: int  # of the root's index
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
        levels = _LEVELS_X4[IohgatpMode(context.second_stage)]

        def fault() -> Fault:
            return access.guest_page_fault(gpa, implicit=implicit, implicit_write=implicit_write)

        def load(address: int) -> int:
            return self.memory.load(
                address,
                8,
                access_fault=access.access_fault,
                corruption=Cause.PT_CORRUPTION,
                big_endian=self.big_endian,
            )[0]

        def store(address: int, entry: int) -> None:
            self.memory.store(
                address,
                [entry],
                access_fault=access.access_fault,
                corruption=Cause.PT_CORRUPTION,
                big_endian=self.big_endian,
            )

        if gpa >> PAGE_SHIFT + _INDEX_BITS * levels + 2:
            raise fault()
        stage = _Stage(
            levels=levels,
            root=context.second_stage_root,
            extra_bits=2,
            update=bool(context.gade),
            load=load,
            store=store,
            fault=fault,
        )
        return self._walk(stage, gpa, wanted)

    def first_stage(
        self, context: DeviceContext, mode: int, root: int, iova: int, access: Access
    ) -> Leaf:
        """Translate an IOVA to a guest physical address; table accesses use the second stage."""
        if mode == IoatpMode.BARE:
            return Leaf(address=iova)
        levels = _LEVELS[IoatpMode(mode)]
        big = bool(context.sbe)

        def load(address: int) -> int:
            spa = self.second_stage(context, address, access, implicit=True).address
            return self.memory.load(
                spa,
                8,
                access_fault=access.access_fault,
                corruption=Cause.PT_CORRUPTION,
                big_endian=big,
            )[0]

        def store(address: int, entry: int) -> None:
            leaf = self.second_stage(context, address, access, implicit=True, implicit_write=True)
            self.memory.store(
                leaf.address,
                [entry],
                access_fault=access.access_fault,
                corruption=Cause.PT_CORRUPTION,
                big_endian=big,
            )

        bits = PAGE_SHIFT + _INDEX_BITS * levels
        if iova >> bits - 1 not in (0, (1 << 65 - bits) - 1):  # not canonical
            raise access.page_fault()
        stage = _Stage(
            levels=levels,
            root=root,
            extra_bits=0,
            update=bool(context.sade),
            load=load,
            store=store,
            fault=access.page_fault,
        )
        return self._walk(stage, iova, access)

    def _walk(self, stage: _Stage, address: int, access: Access) -> Leaf:
        table, glob = stage.root, False
        for level in range(stage.levels - 1, -1, -1):
            bits = _INDEX_BITS + (stage.extra_bits if level == stage.levels - 1 else 0)
            shift = PAGE_SHIFT + _INDEX_BITS * level
            slot = table + 8 * (address >> shift & (1 << bits) - 1)
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
