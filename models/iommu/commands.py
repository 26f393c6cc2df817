"""The command queue (section "Command-Queue").

There are no caches here, so invalidations have nothing to do but to be legal.  Commands are done
when ``cqt`` is written.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.iommu.access import PhysicalMemory
from models.iommu.interrupts import Interrupts
from models.iommu.parameters import Capabilities
from models.iommu.records import Fault, InvalidationMessage, ResponseMessage, bits_of, extractor
from models.iommu.registers import QUEUES, RegisterFile
from models.spec.iommu import (
    AtsCommand,
    Cause,
    Command,
    CommandFunc,
    CommandOpcode,
    Iodir,
    Iofence,
    Iotinval,
)
from models.spec.iommu_registers import FCTL

__all__ = ["CommandQueue"]

_OPCODE, _FUNC3 = extractor(Command, "opcode"), extractor(Command, "func3")
_INVAL = {name: extractor(Iotinval, name) for name in ("pscv", "nl", "s")}
_INVAL_RESERVED = bits_of(Iotinval, *(f"reserved{n}" for n in ("", 2, 3, 4, 5)))
_FENCE = {name: extractor(Iofence, name) for name in ("av", "wsi", "data", "addr")}
_FENCE_RESERVED = bits_of(Iofence, "reserved", "reserved2")
_DIR = {name: extractor(Iodir, name) for name in ("pid", "dv", "did")}
_DIR_RESERVED = bits_of(Iodir, *(f"reserved{n}" for n in ("", 2, 3, 4)))
_ATS = {n: extractor(AtsCommand, n) for n in ("pid", "pv", "dsv", "rid", "dseg", "payload")}
_ATS_RESERVED = bits_of(AtsCommand, "reserved", "reserved2")
_ERRORS = ("cqmf", "cmd_to", "cmd_ill")


class _Illegal(Exception):
    """A command that is illegal or not supported."""


class _Wait(Exception):
    """A command that cannot complete yet."""


class _MemoryFault(Exception):
    """A command whose store met a fault."""


@dataclass
class _Invalidation:
    """An Invalidate Request that a device has not completed."""

    rid: int
    segment: int | None
    completions: int = 0


class CommandQueue:
    """Fetches and does commands.

    Parameters
    ----------
    registers : RegisterFile
    memory : PhysicalMemory
    interrupts : Interrupts
    send : callable
        Takes messages to devices.
    """

    def __init__(
        self,
        registers: RegisterFile,
        memory: PhysicalMemory,
        interrupts: Interrupts,
        send: Callable[[InvalidationMessage | ResponseMessage], None],
    ) -> None:
        self._registers, self._memory, self._interrupts = registers, memory, interrupts
        self._send = send
        self._queue = QUEUES["cq"]
        self._outstanding: dict[int, _Invalidation] = {}
        self._timed_out = False
        self._do = {
            CommandOpcode.IOTINVAL: self._iotinval,
            CommandOpcode.IOFENCE: self._iofence,
            CommandOpcode.IODIR: self._iodir,
            CommandOpcode.ATS: self._ats,
        }

    @property
    def _capabilities(self) -> Capabilities:
        return self._registers.parameters.capabilities

    @property
    def _big_endian(self) -> bool:
        return bool(FCTL["be"].extract(self._registers["fctl"]))

    def stop(self) -> None:
        """Forget what is outstanding; the queue was turned off."""
        self._outstanding.clear()
        self._timed_out = False

    def run(self) -> None:
        """Do commands until there are none, or one cannot go on."""
        registers, queue = self._registers, self._queue
        while registers.field("cqcsr", "cqon") and registers["cqh"] != registers["cqt"]:
            if any(registers.field("cqcsr", error) for error in _ERRORS):
                break
            try:
                command = self._fetch()
                opcode = _OPCODE(command)
                if opcode not in self._do:
                    raise _Illegal
                self._do[CommandOpcode(opcode)](command)
            except _Wait:
                break
            except _Illegal:
                registers.set_field("cqcsr", "cmd_ill", 1)
            except _MemoryFault:
                registers.set_field("cqcsr", "cqmf", 1)
            else:
                if not registers.field("cqcsr", "cmd_to"):
                    registers["cqh"] = (registers["cqh"] + 1) % registers.entries(queue)
        self._interrupts.update()

    def _fetch(self) -> int:
        try:
            low, high = self._memory.load(
                self._registers.slot(self._queue, self._registers["cqh"]),
                self._queue.entry_bytes,
                access_fault=lambda: Fault(Cause.INTERNAL_ERROR),
                corruption=Cause.INTERNAL_ERROR,
                big_endian=self._big_endian,
            )
        except Fault:
            raise _MemoryFault from None
        return high << 64 | low

    def _iotinval(self, command: int) -> None:
        function = _FUNC3(command)
        if function not in (CommandFunc.VMA, CommandFunc.GVMA) or command & _INVAL_RESERVED:
            raise _Illegal
        if function == CommandFunc.GVMA and _INVAL["pscv"](command):
            raise _Illegal
        if _INVAL["nl"](command) and not self._capabilities.nl:
            raise _Illegal
        if _INVAL["s"](command) and not self._capabilities.s:
            raise _Illegal

    def _iofence(self, command: int) -> None:
        wsi = _FENCE["wsi"](command)
        if _FUNC3(command) != CommandFunc.C or command & _FENCE_RESERVED:
            raise _Illegal
        if wsi and not FCTL["wsi"].extract(self._registers["fctl"]):
            raise _Illegal
        if self._outstanding:
            raise _Wait
        if self._timed_out:
            self._timed_out = False
            self._registers.set_field("cqcsr", "cmd_to", 1)
            return
        if _FENCE["av"](command):
            raw = _FENCE["data"](command).to_bytes(4, "big" if self._big_endian else "little")
            try:
                self._memory.store_bytes(
                    _FENCE["addr"](command) << 2,
                    raw,
                    access_fault=lambda: Fault(Cause.INTERNAL_ERROR),
                    corruption=Cause.INTERNAL_ERROR,
                )
            except Fault:
                raise _MemoryFault from None
        if wsi:
            self._registers.set_field("cqcsr", "fence_w_ip", 1)

    def _iodir(self, command: int) -> None:
        function = _FUNC3(command)
        if command & _DIR_RESERVED:
            raise _Illegal
        if function == CommandFunc.INVAL_DDT:
            if _DIR["pid"](command):
                raise _Illegal
        elif function == CommandFunc.INVAL_PDT:
            bits = self._capabilities.process_id_bits
            if not _DIR["dv"](command) or not bits or _DIR["pid"](command) >> bits:
                raise _Illegal
        else:
            raise _Illegal

    def _ats(self, command: int) -> None:
        function = _FUNC3(command)
        if not self._capabilities.ats or command & _ATS_RESERVED:
            raise _Illegal
        if function not in (CommandFunc.INVAL, CommandFunc.PRGR):
            raise _Illegal
        rid, payload = _ATS["rid"](command), _ATS["payload"](command)
        segment = _ATS["dseg"](command) if _ATS["dsv"](command) else None
        process_id = _ATS["pid"](command) if _ATS["pv"](command) else None
        if function == CommandFunc.PRGR:
            self._send(
                ResponseMessage(rid=rid, segment=segment, process_id=process_id, payload=payload)
            )
            return
        free = (tag for tag in range(self._registers.parameters.itags))
        itag = next((tag for tag in free if tag not in self._outstanding), None)
        if itag is None:
            raise _Wait
        self._outstanding[itag] = _Invalidation(rid, segment)
        self._send(
            InvalidationMessage(
                rid=rid, segment=segment, process_id=process_id, payload=payload, itag=itag
            )
        )

    def completion(self, *, rid: int, segment: int | None, itag_vector: int, count: int) -> None:
        """Take an Invalidate Completion Message; ``count`` messages (0: 8) complete a tag."""
        for itag, request in list(self._outstanding.items()):
            if not itag_vector >> itag & 1 or request.rid != rid:
                continue
            if (request.segment or 0) != (segment or 0):
                continue
            request.completions += 1
            if request.completions >= (count or 8):
                del self._outstanding[itag]
        self.run()

    def time_out(self) -> None:
        """Give up on everything outstanding; the next IOFENCE.C reports that."""
        self._timed_out = self._timed_out or bool(self._outstanding)
        self._outstanding.clear()
        self.run()
