"""Page requests (sections "PCIe ATS Page Request handling" and "Page-Request-Queue")."""

from collections.abc import Callable

from models.iommu.queues import RecordQueue
from models.iommu.records import Fault, PageRequest, Request, ResponseMessage, extractor
from models.iommu.registers import RegisterFile
from models.iommu.translate import Identity, Translator
from models.spec.iommu import (
    Cause,
    DdtpMode,
    GroupResponsePayload,
    PageRequestPayload,
    PageRequestRecord,
    PageResponse,
)
from models.spec.iommu_registers import DDTP, FCTL
from models.spec.translation import PAGE_REQUEST_MESSAGE, AddressType

__all__ = ["PageRequestHandler"]

_R, _W = extractor(PageRequestPayload, "r"), extractor(PageRequestPayload, "w")
_LAST, _INDEX = extractor(PageRequestPayload, "last"), extractor(PageRequestPayload, "index")
_RECORD = PageRequestRecord.as_shape()
_RESPONSE = GroupResponsePayload.as_shape()
#: Faults that "Invalid Request" answers; all others are answered "Response Failure".
_INVALID = {Cause.TYPE_DISALLOWED}


class PageRequestHandler:
    """Queues page requests for software, and answers for it where it cannot.

    Parameters
    ----------
    registers : RegisterFile
    queue : RecordQueue
        The page-request queue.
    translator : Translator
        Finds device contexts.
    send : callable
        Takes messages to devices.
    record : callable
        ``record(request, identity, fault, iotval)`` reports a fault.
    """

    def __init__(
        self,
        registers: RegisterFile,
        queue: RecordQueue,
        translator: Translator,
        send: Callable[[ResponseMessage], None],
        record: Callable[[Request, Identity, Fault, int], None],
    ) -> None:
        self._registers, self._queue, self._translator = registers, queue, translator
        self._send, self._record = send, record

    def receive(self, message: PageRequest) -> None:
        """Take one message."""
        identity = Identity()
        try:
            self._locate(message, identity)
        except Fault as fault:
            request = Request(
                device_id=message.device_id,
                iova=0,
                at=AddressType.MESSAGE,
                process_id=message.process_id,
                privileged=message.privileged,
            )
            self._record(request, identity, fault, PAGE_REQUEST_MESSAGE)
            invalid = fault.cause in _INVALID
            code = PageResponse.INVALID if invalid else PageResponse.FAILURE
            self._respond(message, identity, code)
            return
        big = bool(FCTL["be"].extract(self._registers["fctl"]))
        if self._queue.push(self._encode(message), big_endian=big):
            return
        if not self._queue.on or self._queue.failed:
            self._respond(message, identity, PageResponse.FAILURE)
        else:
            self._respond(message, identity, PageResponse.SUCCESS)

    def _locate(self, message: PageRequest, identity: Identity) -> None:
        mode = DDTP["mode"].extract(self._registers["ddtp"])
        if mode == DdtpMode.OFF:
            raise Fault(Cause.ALL_INBOUND_DISALLOWED)
        if mode == DdtpMode.BARE:
            raise Fault(Cause.TYPE_DISALLOWED)
        identity.context = self._translator.locate(message.device_id)
        if not identity.context.en_pri:
            raise Fault(Cause.TYPE_DISALLOWED)

    def _encode(self, message: PageRequest) -> list[int]:
        fields = {"did": message.device_id}
        if message.process_id is not None:
            fields |= {
                "pid": message.process_id,
                "pv": 1,
                "priv": int(message.privileged),
                "exec": int(message.execute),
            }
        head = 0
        for name, value in fields.items():
            head |= value << _RECORD[name].offset
        return [head, message.payload]

    def _respond(self, message: PageRequest, identity: Identity, code: PageResponse) -> None:
        """Answer the last request of a group; stop markers need no answer."""
        payload = message.payload
        if not _LAST(payload) or not (_R(payload) or _W(payload)):
            return
        process_id = message.process_id
        prpr = identity.context is not None and identity.context.prpr
        if code is not PageResponse.FAILURE and not prpr:
            process_id = None
        self._send(
            ResponseMessage(
                rid=message.rid,
                segment=message.segment,
                process_id=process_id,
                payload=message.rid << _RESPONSE["destination"].offset
                | int(code) << _RESPONSE["code"].offset
                | _INDEX(payload) << _RESPONSE["index"].offset,
            )
        )
