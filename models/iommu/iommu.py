"""The golden IOMMU: what the specification says, in its order, with no caches and no time."""

from models.iommu.access import PhysicalMemory
from models.iommu.ats import completion, failure
from models.iommu.commands import CommandQueue
from models.iommu.hpm import PerformanceMonitor
from models.iommu.interrupts import Interrupts
from models.iommu.parameters import Parameters
from models.iommu.pri import PageRequestHandler
from models.iommu.queues import RecordQueue
from models.iommu.records import (
    Fault,
    InvalidationMessage,
    PageRequest,
    Request,
    Response,
    ResponseMessage,
)
from models.iommu.registers import QUEUES, RegisterFile
from models.iommu.translate import Identity, Translation, Translator
from models.memory import ByteMemory
from models.spec.iommu import Cause, FaultRecord, HpmEvent
from models.spec.iommu_registers import FCTL, TR_REQ_CTL, TR_REQ_IOVA, TR_RESPONSE
from models.spec.translation import AddressType, TranslationStatus

__all__ = ["GoldenIommu"]

#: Faults that are recorded even if ``DC.tc.DTF`` is set (table of causes).
_RECORDED_WITH_DTF = {
    Cause.ALL_INBOUND_DISALLOWED,
    Cause.DDT_ACCESS_FAULT,
    Cause.DDT_INVALID,
    Cause.DDT_MISCONFIGURED,
    Cause.DDT_CORRUPTION,
    Cause.INTERNAL_ERROR,
    Cause.MSI_WRITE_ACCESS_FAULT,
}
_REQUEST_EVENTS = {
    AddressType.UNTRANSLATED: HpmEvent.UNTRANSLATED_REQUEST,
    AddressType.TRANSLATED: HpmEvent.TRANSLATED_REQUEST,
    AddressType.ATS_REQUEST: HpmEvent.ATS_REQUEST,
}
_FAULT = FaultRecord.as_shape()


class GoldenIommu:
    """A RISC-V IOMMU (v1.0) in plain Python.

    Every call returns when all of its effects are there; ``busy`` bits always read 0.

    Parameters
    ----------
    memory : ByteMemory
        System memory; refuse an access with :class:`ValueError` (access fault) or
        :class:`~models.memory.DataCorruption`.  The IOMMU's own MSIs are 4-byte writes to it.
    parameters : Parameters
        Capabilities and sizes.
    """

    def __init__(self, memory: ByteMemory, parameters: Parameters) -> None:
        self.parameters = parameters
        self._memory = PhysicalMemory(memory, parameters.capabilities.pas)
        self.registers = RegisterFile(parameters, self._register_written)
        self.interrupts = Interrupts(self.registers, self._memory, self._report_internal)
        self._faults = RecordQueue("fq", self.registers, self._memory, self.interrupts)
        self._messages: list[InvalidationMessage | ResponseMessage] = []
        self._commands = CommandQueue(
            self.registers, self._memory, self.interrupts, self._messages.append
        )
        self._translator = Translator(self._memory, parameters, self.registers.__getitem__)
        self._translator.features(parameters.fctl)
        self._page_requests = PageRequestHandler(
            self.registers,
            RecordQueue("pq", self.registers, self._memory, self.interrupts),
            self._translator,
            self._messages.append,
            self._record,
        )
        self.monitor = PerformanceMonitor(self.registers, self.interrupts)

    # Registers ---------------------------------------------------------------------------------

    def read_register(self, offset: int, size: int) -> int:
        """Load 4 or 8 bytes of the register page."""
        return self.registers.read(offset, size)

    def write_register(self, offset: int, size: int, value: int) -> None:
        """Store 4 or 8 bytes of the register page, with everything that this sets off."""
        self.registers.write(offset, size, value)

    def _register_written(self, name: str, old: int, stored: int) -> None:
        for queue in QUEUES.values():
            if name == queue.csr:
                self._control(queue.prefix, old)
        if name in ("cqt", "cqcsr"):
            self._commands.run()
        elif name == "fctl":
            self._translator.features(self.registers["fctl"])
        elif name.startswith("msi_vec_ctl"):
            self.interrupts.unmasked()
        elif name == "tr_req_ctl" and stored & TR_REQ_CTL["go_busy"].mask:
            self._debug()
        self.interrupts.update()

    def _control(self, prefix: str, old: int) -> None:
        """Turn a queue on or off."""
        queue, registers = QUEUES[prefix], self.registers
        enabled = registers.field(queue.csr, queue.enable)
        if enabled and not old & 1:
            registers[queue.iommu_index] = 0
            for error in queue.errors:
                registers.set_field(queue.csr, error, 0)
        if not enabled and prefix == "cq":
            self._commands.stop()
        registers.set_field(queue.csr, queue.on, enabled)

    # Translation -------------------------------------------------------------------------------

    def translate(self, request: Request) -> Response:
        """Answer one request, and record its fault."""
        identity = Identity()
        try:
            translation = self._translator.translate(request, identity)
        except Fault as fault:
            response = self._failed(request, identity, fault)
        else:
            response = self._succeeded(request, translation)
        self._count(request, identity)
        return response

    def _failed(self, request: Request, identity: Identity, fault: Fault) -> Response:
        if request.at is AddressType.ATS_REQUEST:
            response = failure(fault)
            if response.status is TranslationStatus.SUCCESS:
                return response
        else:
            response = Response(
                status=TranslationStatus.UNSUPPORTED_REQUEST, cause=int(fault.cause)
            )
        self._record(request, identity, fault)
        return response

    def _succeeded(self, request: Request, translation: Translation) -> Response:
        if request.at is AddressType.ATS_REQUEST:
            return completion(request, translation)
        return Response(
            spa=translation.address,
            size=1 << min(translation.size_log2, 56),
            r=translation.r,
            w=translation.w,
            x=translation.x,
            pbmt=translation.pbmt,
            mrif=translation.mrif,
        )

    def _count(self, request: Request, identity: Identity) -> None:
        event = _REQUEST_EVENTS.get(request.at)
        if event is not None:
            self.monitor.count(
                event,
                device_id=request.device_id,
                process_id=request.process_id,
                gscid=identity.gscid,
                pscid=identity.pscid,
            )

    # Fault queue -------------------------------------------------------------------------------

    def _record(
        self, request: Request, identity: Identity, fault: Fault, iotval: int | None = None
    ) -> None:
        """Put a fault into the fault queue unless the context says not to."""
        context = identity.context
        if context and context.dtf and fault.cause not in _RECORDED_WITH_DTF:
            return
        fields = {
            "cause": fault.cause,
            "pid": request.process_id or 0,
            "pv": request.process_id is not None,
            "priv": request.supervisor,
            "ttyp": request.ttyp,
            "did": request.device_id,
            "iotval": request.iova if iotval is None else iotval,
            "iotval2": fault.iotval2,
        }
        self._push_fault(fields)

    def _report_internal(self, cause: Cause, iotval: int) -> None:
        self._push_fault({"cause": cause, "iotval": iotval})

    def _push_fault(self, fields: dict[str, int]) -> None:
        record = 0
        for name, value in fields.items():
            record |= int(value) << _FAULT[name].offset
        doublewords = [record >> shift & (1 << 64) - 1 for shift in range(0, 256, 64)]
        big = bool(FCTL["be"].extract(self.registers["fctl"]))
        self._faults.push(doublewords, big_endian=big)

    # Messages ----------------------------------------------------------------------------------

    def page_request(self, message: PageRequest) -> None:
        """Take a Page Request Message (section "PCIe ATS Page Request handling")."""
        self._page_requests.receive(message)

    def invalidation_completion(
        self, *, rid: int, itag_vector: int, count: int, segment: int | None = None
    ) -> None:
        """Take an Invalidate Completion Message of a device."""
        self._commands.completion(rid=rid, segment=segment, itag_vector=itag_vector, count=count)

    def invalidation_timeout(self) -> None:
        """Let the time for outstanding invalidations run out."""
        self._commands.time_out()

    def take_messages(self) -> list[InvalidationMessage | ResponseMessage]:
        """Return the messages sent to devices since the last call, in order."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    # Debug -------------------------------------------------------------------------------------

    def _debug(self) -> None:
        """Translate for ``tr_req_ctl`` (section "Translation-request control").

        Counters may count it, as an untranslated request (section "Debug support"): they do.
        """
        control = self.registers["tr_req_ctl"]
        valid = TR_REQ_CTL["pv"].extract(control)
        request = Request(
            device_id=TR_REQ_CTL["did"].extract(control),
            iova=self.registers["tr_req_iova"] & TR_REQ_IOVA["vpn"].mask,
            process_id=TR_REQ_CTL["pid"].extract(control) if valid else None,
            write=not TR_REQ_CTL["nw"].extract(control),
            execute=bool(TR_REQ_CTL["exe"].extract(control)),
            privileged=bool(TR_REQ_CTL["priv"].extract(control)),
            also_read=not TR_REQ_CTL["nw"].extract(control),
        )
        identity = Identity()
        try:
            translation = self._translator.translate(request, identity)
            if translation.mrif:
                raise Fault(Cause.TYPE_DISALLOWED)
        except Fault as fault:
            self._record(request, identity, fault)
            self.registers["tr_response"] = TR_RESPONSE["fault"].mask
        else:
            ppn = translation.address >> 12
            pages_log2 = min(translation.size_log2, 56) - 12
            large = pages_log2 > 0
            if large:  # NAPOT: ones below a zero, which is the highest bit of the offset
                ppn = ppn & -1 << pages_log2 | (1 << pages_log2 - 1) - 1
            self.registers["tr_response"] = (
                TR_RESPONSE["pbmt"].insert(translation.pbmt)
                | TR_RESPONSE["s"].insert(large)
                | TR_RESPONSE["ppn"].insert(ppn & TR_RESPONSE["ppn"].extract(~0))
            )
        self._count(request, identity)
        self.registers.set_field("tr_req_ctl", "go_busy", 0)
