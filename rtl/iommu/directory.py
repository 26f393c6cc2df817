"""Fetches device and process contexts through their directories."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import (
    Cause,
    DdtpMode,
)
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.iommu.context_checks import needs_process
from rtl.iommu.context_judge import ContextJudge
from rtl.iommu.directory_records import ContextFill, DirectoryRequest
from rtl.iommu.endian import in_order
from rtl.iommu.requests import Guest, QosId, WalkResult, WalkStart
from rtl.iommu.seams import DirectoryControl

__all__ = ["ContextFill", "Directory", "DirectoryRequest"]

_ACCESS_FAULTS = (
    Cause.INSTRUCTION_ACCESS_FAULT,
    Cause.READ_ACCESS_FAULT,
    Cause.WRITE_ACCESS_FAULT,
)
_MODES = {DdtpMode.LVL1: 1, DdtpMode.LVL2: 2, DdtpMode.LVL3: 3}
#: Bits of process_id and device_id that index each level, lowest first.
_PDI, _DDI_BASE, _DDI_EXTENDED = (8, 9, 3), (7, 9, 8), (6, 9, 9)
_GPA_BITS_SXL = 34


def _index(number, widths: tuple[int, ...], level: int):
    first = sum(widths[:level])
    return number[first : first + widths[level]]


class Directory(wiring.Component):
    """Locates and checks contexts, one request at a time ("Process to locate the Device-context"
    and "Process to locate the Process-context").

    The device context is always read; then, if the request needs one and is not refused, the
    process context.  Each access to a process directory first asks for a second-stage walk if that
    stage is on.

    Latency
    -------
    From ``request`` to the first address 2 cycles; from last data to the next address 4, to
    ``fill`` 3 after an error or a process context, else 4.  A second-stage walk adds its own time
    and two cycles.

    Members
    -------
    request : ``In(stream.Signature(DirectoryRequest))``
        Taken when nothing is under way.
    fill : ``Out(stream.Signature(ContextFill))``
        The answer.
    directory : ``In(DirectoryControl)``
        Mode and root count when the request is taken.  Whether the device_id fits the mode is not
        looked at.  Modes without a directory: cause 256.
    walk : ``Out(stream.Signature(WalkStart))``; walked : ``In(stream.Signature(WalkResult))``
        Second-stage walks, one at a time.
    guest : ``Out(Guest)``
        Second stage for these, constant from ``walk`` to ``walked``.
    memory : ``Out(Axi4(...))``
        Reads of an entry or a context each.  DECERR and addresses beyond ``config.pas`` are access
        faults, SLVERR is corruption.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "request": In(stream.Signature(DirectoryRequest)),
                "fill": Out(stream.Signature(ContextFill)),
                "directory": In(DirectoryControl),
                "walk": Out(stream.Signature(WalkStart)),
                "walked": In(stream.Signature(WalkResult)),
                "guest": Out(Guest),
                "memory": Out(
                    Axi4(
                        addr_width=config.pas,
                        data_width=64,
                        id_width=1,
                        write=False,
                        user=QosId if config.qosid else None,
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        fill = self.fill.payload
        asked = Signal(DirectoryRequest)
        self.asked, self.process, self.level = asked, Signal(), Signal(2)
        self.table, self.address, self.translated = Signal(44), Signal(56), Signal(44)
        self.access_fault, self.corrupt = Signal(), Signal()
        self.beyond = Signal()  # a 32-bit guest has no such address
        self.outside = Signal()  # physical memory has no such address
        self.asks = Signal()  # the address is on offer: a register, since that goes far
        m.submodules.judge = judge = self.judge = ContextJudge(self.config)
        self.raw = Signal(judge.context_bits)
        m.d.comb += [
            fill.device_id.eq(asked.device_id),
            judge.raw.eq(self.raw),
            judge.pointer.eq(self.level != 0),
            judge.of_process.eq(self.process),
            judge.be.eq(self.directory.be),
            judge.gxl.eq(self.directory.gxl),
            judge.sxl.eq(fill.context.sxl),
        ]
        self._payloads(m)
        for name in Guest.as_shape().members:
            m.d.comb += self.guest[name].eq(fill.context[name])
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                self._begin(m)
            with m.State("LOCATE"):
                self._locate(m)
            if self.config.pd8:
                with m.State("WALK"):
                    self._second_stage(m)
                with m.State("WALKED"):
                    self._walked(m)
                with m.State("JUDGED"):
                    self._judged(m)
            with m.State("ADDRESS"):
                self._ask(m)
            with m.State("DATA"):
                self._take(m)
            with m.State("CHECK"):  # the judge has its register
                m.next = "DECIDE"
            with m.State("DECIDE"):
                self._decide(m)
            with m.State("PROCESS"):
                self._begin_process(m)
            with m.State("FILL"):
                m.d.comb += self.fill.valid.eq(1)
                with m.If(self.fill.ready):
                    m.next = "IDLE"
        return m

    def _payloads(self, m: Module) -> None:
        """What is offered to memory and to the walker, whenever it is valid."""
        ar, context, start = self.memory.ar, self.fill.payload.context, self.walk.payload
        beats = self.judge.context_bits // 64
        m.d.comb += [
            ar.valid.eq(self.asks),
            start.index.eq(self.asked.index),
            start.directory.eq(1),
            start.gpa.eq(self.address),
            ar.payload.addr.eq(self.address),
            ar.payload.len.eq(Mux(self.level != 0, 0, Mux(self.process, 1, beats - 1))),
            ar.payload.size.eq(3),
            ar.payload.burst.eq(Burst.INCR),
        ]
        if self.config.qosid:
            qos, user = self.directory.qos, ar.payload.user
            m.d.comb += [
                user.rcid.eq(Mux(self.process, context.rcid, qos.rcid)),
                user.mcid.eq(Mux(self.process, context.mcid, qos.mcid)),
            ]

    def _begin(self, m: Module) -> None:
        """Take a request."""
        fill, asks = self.fill.payload, self.request.payload
        off = Const(1, 1)
        for mode, levels in _MODES.items():
            if levels <= self.config.ddt_levels:
                here = self.directory.mode == mode.value
                off = off & ~here
                with m.If(here):
                    m.d.sync += self.level.eq(levels - 1)
        with m.If(self.request.valid):
            m.d.sync += [
                self.asked.eq(asks),
                fill.process_id.eq(Mux(asks.pv, asks.process_id, 0)),
                self.table.eq(self.directory.ppn),
                self.process.eq(0),
                fill.cause.eq(Mux(off, Cause.ALL_INBOUND_DISALLOWED, 0)),
                fill.guest.eq(0),
                fill.context_valid.eq(0),
                fill.process_valid.eq(0),
                fill.ddt_walk.eq(~off),
                fill.pdt_walk.eq(0),
            ]
            with m.If(off):
                m.next = "FILL"
            with m.Else():
                m.next = "LOCATE"

    def _locate(self, m: Module) -> None:
        """Register the address of the entry, or of the context."""
        config, asked = self.config, self.asked
        widths = _DDI_EXTENDED if config.msi_flat else _DDI_BASE
        offset = Signal(12)
        context_log2 = (self.judge.context_bits // 8).bit_length() - 1
        with m.Switch(self.level):
            with m.Case(0):
                m.d.comb += offset.eq(_index(asked.device_id, widths, 0) << context_log2)
            for level in range(1, config.ddt_levels):
                with m.Case(level):
                    m.d.comb += offset.eq(_index(asked.device_id, widths, level) << 3)
        if config.pd8:
            number = self.fill.payload.process_id
            with m.If(self.process):
                with m.Switch(self.level):
                    with m.Case(0):
                        m.d.comb += offset.eq(_index(number, _PDI, 0) << 4)
                    for level in range(1, 3 if config.pd20 else 2 if config.pd17 else 1):
                        with m.Case(level):
                            m.d.comb += offset.eq(_index(number, _PDI, level) << 3)
        walks = Const(0, 1)
        if config.pd8:
            walks = self.process & (self.fill.payload.context.g_levels != 0)
        m.d.sync += [
            self.address.eq(Cat(offset, self.table)),
            self.outside.eq(self._is_outside(self.table)),
            self.asks.eq(~self._is_outside(self.table) & ~walks),
            self.access_fault.eq(0),
            self.corrupt.eq(0),
            # Whatever its second stage could translate.
            self.beyond.eq(self.fill.payload.context.sxl & self.table[_GPA_BITS_SXL - 12 :].any()),
        ]
        m.next = "ADDRESS"
        if config.pd8:
            with m.If(walks):
                m.next = "WALK"

    def _second_stage(self, m: Module) -> None:
        """Ask for a walk to an entry of the process directory."""
        fill = self.fill.payload
        m.d.comb += self.walk.valid.eq(~self.beyond)
        with m.If(self.beyond):
            m.d.sync += [
                fill.cause.eq(Cause.READ_GUEST_PAGE_FAULT),
                fill.guest.eq(1),
                fill.gpa.eq(self.address),
                fill.implicit_write.eq(0),
            ]
            m.next = "FILL"
        with m.Elif(self.walk.ready):
            m.next = "WALKED"

    def _walked(self, m: Module) -> None:
        """Go on at the system physical address, or end."""
        fill, result = self.fill.payload, self.walked.payload
        m.d.comb += self.walked.ready.eq(1)
        m.d.sync += [
            self.translated.eq(result.ppn),
            fill.cause.eq(result.cause),
            fill.implicit_write.eq(result.implicit_write),
        ]
        with m.If(self.walked.valid):
            m.next = "JUDGED"

    def _judged(self, m: Module) -> None:
        """What the walk's end means here."""
        fill, cause = self.fill.payload, self.fill.payload.cause
        refused = Cat(cause == fault.value for fault in _ACCESS_FAULTS).any()
        corrupt = cause == Cause.PT_CORRUPTION.value
        m.d.sync += [
            self.address.eq(Cat(self.address[:12], self.translated)),
            self.outside.eq(self._is_outside(self.translated)),
            self.asks.eq(~self._is_outside(self.translated) & (cause == 0)),
            fill.guest.eq(~refused & ~corrupt & (cause != 0)),
            fill.gpa.eq(self.address),
        ]
        with m.If(refused):
            m.d.sync += fill.cause.eq(Cause.PDT_ACCESS_FAULT)
        with m.Elif(corrupt):
            m.d.sync += fill.cause.eq(Cause.PDT_CORRUPTION)
        m.next = "FILL"
        with m.If(cause == 0):
            m.next = "ADDRESS"

    def _ask(self, m: Module) -> None:
        """Read, unless the address cannot be."""
        with m.If(self.outside):
            m.d.sync += self.access_fault.eq(1)
            m.next = "CHECK"
        with m.Elif(self.memory.ar.ready):
            m.d.sync += self.asks.eq(0)
            m.next = "DATA"

    def _is_outside(self, page):
        """Whether there is no such physical page."""
        return page[self.config.pas - 12 :].any()

    def _take(self, m: Module) -> None:
        """Shift the answer in from above, in our byte order."""
        r = self.memory.r
        word = r.payload.data
        if self.config.end:
            word = in_order(
                word, Mux(self.process, self.fill.payload.context.sbe, self.directory.be)
            )
        m.d.comb += r.ready.eq(1)
        with m.If(r.valid):
            m.d.sync += [
                self.raw.eq(Cat(self.raw[64:], word)),
                self.access_fault.eq(self.access_fault | (r.payload.resp == Resp.DECERR)),
                self.corrupt.eq(self.corrupt | (r.payload.resp == Resp.SLVERR)),
            ]
            with m.If(r.payload.last):
                m.next = "CHECK"

    def _decide(self, m: Module) -> None:
        """Go on to the next level, or end."""
        fill, judge, process = self.fill.payload, self.judge, self.process
        m.next = "FILL"
        with m.If(self.access_fault):
            m.d.sync += fill.cause.eq(Mux(process, Cause.PDT_ACCESS_FAULT, Cause.DDT_ACCESS_FAULT))
        with m.Elif(self.corrupt):
            m.d.sync += fill.cause.eq(Mux(process, Cause.PDT_CORRUPTION, Cause.DDT_CORRUPTION))
        with m.Elif(~judge.present):
            m.d.sync += fill.cause.eq(Mux(process, Cause.PDT_INVALID, Cause.DDT_INVALID))
        with m.Elif(judge.wrong):
            m.d.sync += fill.cause.eq(
                Mux(process, Cause.PDT_MISCONFIGURED, Cause.DDT_MISCONFIGURED)
            )
        with m.Elif(self.level != 0):
            m.d.sync += [self.level.eq(self.level - 1), self.table.eq(judge.table)]
            m.next = "LOCATE"
        with m.Elif(process):
            m.d.sync += [fill.process_valid.eq(1), fill.process.eq(judge.process)]
        with m.Else():
            m.d.sync += [fill.context_valid.eq(1), fill.context.eq(judge.context)]
            m.next = "PROCESS"

    def _begin_process(self, m: Module) -> None:
        """Read the process context too, if it is wanted."""
        fill = self.fill.payload
        m.next = "FILL"
        if self.config.pd8:
            m.d.sync += [
                self.level.eq(fill.context.pd_levels - 1),
                self.table.eq(fill.context.s_ppn),
            ]
            with m.If(needs_process(self.asked, fill.context)):
                m.d.sync += [self.process.eq(1), fill.pdt_walk.eq(1)]
                m.next = "LOCATE"
