"""The process to translate an IOVA, step by step (section of that name).

Step numbers in comments are those of the specification.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.iommu.access import PhysicalMemory
from models.iommu.directory import DeviceContext, locate_device, locate_process
from models.iommu.msi import is_interrupt_file, range_without_files, translate_msi
from models.iommu.parameters import Parameters
from models.iommu.records import Access, Fault, Mrif, Request
from models.iommu.walk import Leaf, Walker
from models.spec.iommu import Cause, DdtpMode, IoatpMode, IohgatpMode
from models.spec.iommu_registers import DDTP, FCTL
from models.spec.translation import AddressType

__all__ = ["Identity", "Translation", "Translator"]

_PT_CAUSES = (Cause.INSTRUCTION_ACCESS_FAULT, Cause.READ_ACCESS_FAULT, Cause.WRITE_ACCESS_FAULT)


@dataclass
class Identity:
    """What became known of a transaction on its way, for filters and fault records."""

    context: DeviceContext | None = None
    gscid: int | None = None
    pscid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A successful translation, both stages together.

    ``address`` is what the requester gets: the SPA, or the GPA for ATS requests with T2GPA.
    """

    address: int
    size_log2: int
    r: bool
    w: bool
    x: bool
    glob: bool
    pbmt: int
    mrif: Mrif | None = None


class Translator:
    """Translates requests; every fault is a :class:`~models.iommu.records.Fault`.

    Parameters
    ----------
    memory : PhysicalMemory
    parameters : Parameters
    registers : callable
        Returns a register's value by name.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        parameters: Parameters,
        registers: Callable[[str], int],
    ) -> None:
        self.memory, self.parameters, self._registers = memory, parameters, registers
        self.walker = Walker(memory, parameters.capabilities)

    def features(self, fctl: int) -> None:
        """Take over ``fctl.BE`` and ``fctl.GXL``."""
        self.walker.big_endian = bool(FCTL["be"].extract(fctl))
        self.walker.gxl = bool(FCTL["gxl"].extract(fctl))

    def locate(self, device_id: int) -> DeviceContext:
        """Find the context of a device; only when ``ddtp`` points to a directory."""
        ddtp = self._registers("ddtp")
        return locate_device(
            self.memory,
            self.parameters,
            mode=DdtpMode(DDTP["mode"].extract(ddtp)),
            root=DDTP["ppn"].extract(ddtp) << 12,
            fctl=self._registers("fctl"),
            device_id=device_id,
        )

    def translate(self, request: Request, identity: Identity) -> Translation:
        """Return the translation of a request or raise its fault; fills ``identity`` in."""
        translated = request.at is AddressType.TRANSLATED
        ats = request.at is AddressType.ATS_REQUEST
        mode = DDTP["mode"].extract(self._registers("ddtp"))
        if mode == DdtpMode.OFF:  # 1
            raise Fault(Cause.ALL_INBOUND_DISALLOWED)
        if mode == DdtpMode.BARE:  # 2
            if translated or ats:
                raise Fault(Cause.TYPE_DISALLOWED)
            return self._untranslated(request)
        context = self.locate(request.device_id)  # 3 to 6
        identity.context = context
        if context.second_stage != IohgatpMode.BARE:
            identity.gscid = context.gscid
        self._check_type(request, context)  # 7
        if translated:
            if not context.t2gpa:  # 8
                return self._untranslated(request)
            bare = Leaf(address=request.iova)  # 9
            return self._guest_to_system(request, context, bare, Access.of(request, sum=False))
        mode, root, sum = self._first_stage_tables(request, context, identity)  # 10 to 16
        access = Access.of(request, sum=sum)
        first = self.walker.first_stage(context, mode, root, request.iova, access)  # 17
        return self._guest_to_system(request, context, first, access)

    def _check_type(self, request: Request, context: DeviceContext) -> None:
        """Step 7: transaction types that the context does not allow."""
        if request.at in (AddressType.TRANSLATED, AddressType.ATS_REQUEST) and not context.en_ats:
            raise Fault(Cause.TYPE_DISALLOWED)
        if request.process_id is None:
            return
        if not context.pdtv:
            raise Fault(Cause.TYPE_DISALLOWED)
        bits = context.process_id_bits
        if bits is not None and request.process_id >> bits:
            raise Fault(Cause.TYPE_DISALLOWED)

    def _first_stage_tables(
        self, request: Request, context: DeviceContext, identity: Identity
    ) -> tuple[int, int, bool]:
        """Steps 10 to 16: mode and root of the first stage, and SUM."""
        if not context.pdtv:  # 10
            if context.fsc_mode != IoatpMode.BARE:
                identity.pscid = context.pscid
            return context.fsc_mode, context.fsc_root, False
        process_id = request.process_id
        if process_id is None:
            if not context.dpe:  # 12
                return IoatpMode.BARE, 0, False
            process_id = 0  # 11
        if context.process_id_bits is None:  # 13
            return IoatpMode.BARE, 0, False
        process = locate_process(  # 14
            self.memory,
            self.parameters.capabilities,
            context,
            process_id,
            translate=lambda gpa: self._directory_address(request, context, gpa),
        )
        if request.supervisor and not process.ens:  # 15
            raise Fault(Cause.TYPE_DISALLOWED)
        if process.fsc_mode != IoatpMode.BARE:
            identity.pscid = process.pscid
        return process.fsc_mode, process.fsc_root, bool(process.sum)  # 16

    def _directory_address(self, request: Request, context: DeviceContext, gpa: int) -> int:
        """Second stage for process directories: its own errors are those of the directory."""
        try:
            access = Access.of(request, sum=False)
            return self.walker.second_stage(context, gpa, access, implicit=True).address
        except Fault as fault:
            if fault.cause in _PT_CAUSES:
                raise Fault(Cause.PDT_ACCESS_FAULT) from None
            if fault.cause is Cause.PT_CORRUPTION:
                raise Fault(Cause.PDT_CORRUPTION) from None
            raise

    def _guest_to_system(
        self, request: Request, context: DeviceContext, first: Leaf, access: Access
    ) -> Translation:
        """Steps 18 to 20: MSI page table or second stage."""
        gpa = first.address
        ats = request.at is AddressType.ATS_REQUEST
        to_gpa = bool(ats and context.t2gpa)
        if is_interrupt_file(context, gpa):
            target = translate_msi(
                self.memory,
                self.parameters.capabilities,
                context,
                gpa,
                execute=access.execute and access.strict,
                big_endian=bool(FCTL["be"].extract(self._registers("fctl"))),
            )
            mrif = target if isinstance(target, Mrif) else None
            if not isinstance(target, Mrif):
                self._check_physical(target, access)
            address = gpa if mrif or to_gpa else target
            assert isinstance(address, int)
            second = Leaf(address=address, size_log2=12, x=False)
            return _combine(first, second, address, mrif=mrif, msi=True)
        second = self.walker.second_stage(context, gpa, access)
        self._check_physical(second.address, access)
        result = _combine(first, second, gpa if to_gpa else second.address)
        size_log2 = range_without_files(context, gpa, result.size_log2)
        if size_log2 == result.size_log2:
            return result
        return _combine(Leaf(**{**first.__dict__, "size_log2": size_log2}), second, result.address)

    def _untranslated(self, request: Request) -> Translation:
        """Pass an address on as it is, if it can be a physical one."""
        self._check_physical(request.iova, Access.of(request, sum=False))
        leaf = Leaf(address=request.iova)
        return _combine(leaf, leaf, request.iova)

    def _check_physical(self, address: int, access: Access) -> None:
        """An address beyond ``capabilities.PAS`` is an access fault, whatever led to it.

        The specification leaves that to the platform; nobody else could tell it any more.
        """
        if address >> self.parameters.capabilities.pas:
            raise access.access_fault()


def _combine(
    first: Leaf, second: Leaf, address: int, *, mrif: Mrif | None = None, msi: bool = False
) -> Translation:
    """Rights of both stages, the smaller page, and the memory type (Svpbmt, "two-stage")."""
    return Translation(
        address=address,
        size_log2=min(first.size_log2, second.size_log2),
        r=first.r and second.r,
        w=first.w and second.w,
        x=first.x and second.x,
        glob=first.glob and not msi,
        pbmt=first.pbmt or second.pbmt,
        mrif=mrif,
    )
