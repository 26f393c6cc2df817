"""Answers to ATS translation requests (section "PCIe ATS translation request handling")."""

from models.iommu.records import Fault, Request, Response
from models.iommu.translate import Translation
from models.spec.iommu import Cause
from models.spec.translation import TranslationStatus

__all__ = ["completion", "failure"]

#: Configuration errors; data errors are "Completer Abort" by the hardware guidelines, "RAS".
_COMPLETER_ABORT = {
    Cause.INSTRUCTION_ACCESS_FAULT,
    Cause.READ_ACCESS_FAULT,
    Cause.WRITE_ACCESS_FAULT,
    Cause.MSI_PTE_ACCESS_FAULT,
    Cause.MSI_PTE_MISCONFIGURED,
    Cause.PDT_ACCESS_FAULT,
    Cause.PDT_MISCONFIGURED,
    Cause.DDT_CORRUPTION,
    Cause.PDT_CORRUPTION,
    Cause.MSI_PT_CORRUPTION,
    Cause.MRIF_CORRUPTION,
    Cause.INTERNAL_ERROR,
    Cause.PT_CORRUPTION,
}
#: Permanent errors.
_UNSUPPORTED_REQUEST = {
    Cause.ALL_INBOUND_DISALLOWED,
    Cause.DDT_ACCESS_FAULT,
    Cause.DDT_INVALID,
    Cause.DDT_MISCONFIGURED,
    Cause.TYPE_DISALLOWED,
}
#: Range answered where both stages are Bare: 1 GiB.
_BARE_SIZE_LOG2 = 30
_ADDRESS_BITS = 56


def failure(fault: Fault) -> Response:
    """Answer a request that met a fault; without a record if the status is success."""
    status = TranslationStatus.SUCCESS
    if fault.cause in _COMPLETER_ABORT:
        status = TranslationStatus.COMPLETER_ABORT
    elif fault.cause in _UNSUPPORTED_REQUEST:
        status = TranslationStatus.UNSUPPORTED_REQUEST
    return Response(status=status, cause=int(fault.cause))


def completion(request: Request, translation: Translation) -> Response:
    """Answer a request that was translated."""
    pasid = request.process_id is not None
    size_log2 = translation.size_log2
    if size_log2 > _ADDRESS_BITS:
        size_log2 = _BARE_SIZE_LOG2
    return Response(
        spa=translation.address,
        size=1 << size_log2,
        r=translation.r,
        w=translation.w,
        # Execute is granted only with read, and if it was asked for.
        x=translation.x and translation.r and request.execute,
        priv=request.supervisor,
        glob=translation.glob and pasid,
        u=translation.mrif is not None,
        pbmt=translation.pbmt,
    )
