"""MSI page tables: from a virtual interrupt file to a real or a memory-resident one."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, MsiPte, MsiPteMrif, MsiPteNotice
from rtl.bus.axi import Resp
from rtl.iommu.endian import reversed_bytes
from rtl.iommu.requests import QosId, WalkResult
from rtl.iommu.walk_records import Rights

__all__ = ["MsiUnit", "MsiWalk", "is_interrupt_file", "range_without_files"]

_MODE_MRIF, _MODE_BASIC = 1, 3
#: Mask bits looked at per cycle.
_STEP = 4
_PAGE_BITS = 52


def is_interrupt_file(page, mask, pattern):
    """Whether a page is a virtual interrupt file's (section "MSI address mask and pattern")."""
    return ((page ^ pattern) & ~mask) == 0


def range_without_files(m: Module, page, mask, pattern):
    """log2 of the largest range round a page, no file itself, that has none; returns 6 bits."""
    differs, limit = Signal(len(page)), Signal(6)
    m.d.comb += differs.eq((page ^ pattern) & ~mask)
    for bit in range(len(page)):
        with m.If(differs[bit]):  # the highest wins
            m.d.comb += limit.eq(min(12 + bit, 63))
    return limit


class MsiWalk(data.Struct):
    """A walk whose final guest address is an interrupt file's."""

    index: 8
    gpa: 64
    mask: _PAGE_BITS
    ppn: 44  # msiptp
    first: Rights
    executes: 1  # a read for execute, which is never allowed
    user: QosId


class MsiUnit(wiring.Component):
    """Finds the number of an interrupt file, reads its MSI PTE, and judges it; one at a time.

    Section "Process to translate addresses of MSIs".

    Latency
    -------
    14 cycles from ``walk`` to the read's address, 2 from its last data to ``result``.

    Members
    -------
    walk : ``In(stream.Signature(MsiWalk))``
    be : ``In(1)``
        fctl.BE.
    address : ``Out(stream)`` of ``addr`` (``config.pas`` bits) and ``user``
        Read of 16 bytes.
    answer_valid : ``In(1)``; answer : ``In(64)``; resp : ``In(Resp)``; last : ``In(1)``
        Its data, always taken.
    result : ``Out(stream.Signature(WalkResult))``
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        address = data.StructLayout({"addr": config.pas, "user": QosId})
        super().__init__(
            {
                "walk": In(stream.Signature(MsiWalk)),
                "be": In(1),
                "address": Out(stream.Signature(address)),
                "answer_valid": In(1),
                "answer": In(64),
                "resp": In(Resp),
                "last": In(1),
                "result": Out(stream.Signature(WalkResult)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        walk = Signal(MsiWalk)
        mask, value, number = (Signal(_PAGE_BITS, name=n) for n in ("mask", "value", "number"))
        groups = _PAGE_BITS // _STEP
        count = Signal(range(groups + 1))
        words = [Signal(64, name=f"word{n}") for n in range(2)]
        failed, corrupt = Signal(), Signal()
        place = Signal(60)
        beyond = place[self.config.pas :].any()
        m.d.comb += [
            place.eq(Cat(Const(0, 4), number) | Cat(Const(0, 12), walk.ppn)),
            self.address.payload.addr.eq(place),
            self.address.payload.user.eq(walk.user),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.walk.ready.eq(1)
                m.d.sync += [
                    walk.eq(self.walk.payload),
                    mask.eq(self.walk.payload.mask),
                    value.eq(self.walk.payload.gpa[12:]),
                    number.eq(0),
                    count.eq(0),
                    failed.eq(0),
                    corrupt.eq(0),
                ]
                with m.If(self.walk.valid):
                    m.next = "EXTRACT"
            with m.State("EXTRACT"):
                self._extract(m, mask, value, number)
                m.d.sync += count.eq(count + 1)
                with m.If(count == groups - 1):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.address.valid.eq(~beyond)
                with m.If(beyond):
                    m.d.sync += failed.eq(1)
                    m.next = "JUDGE"
                with m.Elif(self.address.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                word = Mux(self.be, reversed_bytes(self.answer), self.answer)
                with m.If(self.answer_valid):
                    m.d.sync += [
                        words[1].eq(word),
                        words[0].eq(words[1]),
                        failed.eq(failed | (self.resp == Resp.DECERR)),
                        corrupt.eq(corrupt | (self.resp == Resp.SLVERR)),
                    ]
                    with m.If(self.last):
                        m.next = "JUDGE"
            with m.State("JUDGE"):
                self._judge(m, walk, words, failed, corrupt)
                m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m

    def _extract(self, m: Module, mask, value, number) -> None:
        """Append the bits of the value under the mask's, from the top."""
        top, bits = mask[-_STEP:], value[-_STEP:]
        m.d.sync += [mask.eq(mask << _STEP), value.eq(value << _STEP)]
        with m.Switch(top):
            for chosen in range(1 << _STEP):
                with m.Case(chosen):
                    picked = [bits[n] for n in range(_STEP) if chosen >> n & 1]
                    m.d.sync += number.eq(Cat(*picked, number))

    def _judge(self, m: Module, walk, words, failed, corrupt) -> None:
        pte, notice = data.View(MsiPte, words[0]), data.View(MsiPteNotice, words[1])
        mrif = data.View(MsiPteMrif, words[0])
        is_mrif, basic = pte.m == _MODE_MRIF, pte.m == _MODE_BASIC
        wrong = pte.c | ~(is_mrif | basic)
        wrong |= basic & (pte.reserved.any() | pte.reserved2.any())
        if self.config.msi_mrif:
            wrong |= is_mrif & (
                mrif.reserved.any()
                | mrif.reserved2.any()
                | notice.reserved.any()
                | notice.reserved2.any()
            )
        else:
            wrong |= is_mrif
        cause = Signal(12, name="cause")
        with m.If(failed):
            m.d.comb += cause.eq(Cause.MSI_PTE_ACCESS_FAULT)
        with m.Elif(corrupt):
            m.d.comb += cause.eq(Cause.MSI_PT_CORRUPTION)
        with m.Elif(~pte.v):
            m.d.comb += cause.eq(Cause.MSI_PTE_INVALID)
        with m.Elif(wrong):
            m.d.comb += cause.eq(Cause.MSI_PTE_MISCONFIGURED)
        with m.Elif(walk.executes):
            m.d.comb += cause.eq(Cause.INSTRUCTION_ACCESS_FAULT)
        result, first = self.result.payload, walk.first
        m.d.sync += [
            result.index.eq(walk.index),
            result.cause.eq(cause),
            result.gpa.eq(walk.gpa),
            result.r.eq(first.r),
            result.w.eq(first.w),
            result.x.eq(0),
            result.u.eq(first.u),
            result.dirty.eq(first.dirty),
            result.pbmt.eq(first.pbmt),
            result.ppn.eq(pte.ppn),
            result.size.eq(12),
            result.mrif.eq(is_mrif),
            result.mrif_address.eq(mrif.address),
            result.nid.eq(Cat(notice.nid, notice.nid_high)),
            result.notice_ppn.eq(notice.ppn),
        ]
