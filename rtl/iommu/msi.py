"""MSI page tables: from a virtual interrupt file to a real or a memory-resident one."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT, Cause, MsiPte, MsiPteMrif, MsiPteNotice
from rtl.bus.axi import Resp
from rtl.iommu.context_checks import gpa_bits
from rtl.iommu.endian import in_order
from rtl.iommu.requests import QosId

__all__ = ["MsiResult", "MsiUnit", "MsiWalk", "is_interrupt_file", "range_without_files"]

_MODE_MRIF, _MODE_BASIC = 1, 3
#: Mask bits looked at per cycle.
_STEP = 2
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
    page: _PAGE_BITS  # of the GPA
    mask: _PAGE_BITS
    ppn: 44  # msiptp
    executes: 1  # a read for execute, which is never allowed
    user: QosId


class MsiResult(data.Struct):
    """What an MSI PTE says, or what is wrong with it (``cause`` not 0)."""

    index: 8
    cause: 12
    outside: 1  # there is no such physical page, and nothing else is wrong
    ppn: 44
    mrif: 1
    mrif_address: 47  # bits 55:9
    nid: 11
    notice_ppn: 44


class MsiUnit(wiring.Component):
    """Finds the number of an interrupt file, reads its MSI PTE, and judges it; one at a time.

    Section "Process to translate addresses of MSIs".

    Latency
    -------
    From ``walk`` to the read's address one cycle per two bits of a guest page number, and two; from
    its last data to ``result`` 2.

    Members
    -------
    walk : ``In(stream.Signature(MsiWalk))``
    be : ``In(1)``
        fctl.BE.
    address : ``Out(stream)`` of ``addr`` (``config.pas`` bits) and ``user``
        Read of 16 bytes.
    answer_valid : ``In(1)``; answer : ``In(64)``; resp : ``In(Resp)``; last : ``In(1)``
        Its data, always taken.
    result : ``Out(stream.Signature(MsiResult))``
        Payload stays until the next walk's data.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self._bits = gpa_bits(config) - PAGE_SHIFT
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
                "result": Out(stream.Signature(MsiResult)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        walk, number = Signal(MsiWalk), Signal(self._bits)
        groups = -(-self._bits // _STEP)
        count = Signal(range(groups))
        words = [Signal(64, name=f"word{n}") for n in range(2)]
        failed, corrupt = Signal(), Signal()
        place = Signal(60)
        beyond = place[self.config.pas :].any()
        m.d.comb += [
            place.eq(Cat(Const(0, 4), number) | Cat(Const(0, PAGE_SHIFT), walk.ppn)),
            self.address.payload.addr.eq(place),
            self.address.payload.user.eq(walk.user),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.walk.ready.eq(1)
                m.d.sync += [
                    walk.eq(self.walk.payload),
                    number.eq(0),
                    count.eq(groups - 1),
                    failed.eq(0),
                    corrupt.eq(0),
                ]
                with m.If(self.walk.valid):
                    m.next = "EXTRACT"
            with m.State("EXTRACT"):
                self._extract(m, walk, number, count)
                m.d.sync += count.eq(count - 1)
                with m.If(count == 0):
                    m.next = "PLACE"
            with m.State("PLACE"):
                m.d.sync += failed.eq(beyond)
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.address.valid.eq(~failed)
                with m.If(failed):
                    m.next = "JUDGE"
                with m.Elif(self.address.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                word = in_order(self.answer, self.be) if self.config.end else self.answer
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
        self._result(m, walk, words)
        return m

    def _extract(self, m: Module, walk, number, count) -> None:
        """Append the bits of a group of the page that are under the mask's, from the top."""
        mask, bits = (x[: self._bits].word_select(count, _STEP) for x in (walk.mask, walk.page))
        with m.Switch(mask):
            for chosen in range(1, 1 << _STEP):
                with m.Case(chosen):
                    picked = [bits[n] for n in range(_STEP) if chosen >> n & 1]
                    m.d.sync += number.eq(Cat(*picked, number))

    def _judge(self, m: Module, walk, words, failed, corrupt) -> None:
        """Register the cause."""
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
        cause, outside = self.result.payload.cause, self.result.payload.outside
        m.d.sync += [cause.eq(0), outside.eq(0)]
        with m.If(failed):
            m.d.sync += cause.eq(Cause.MSI_PTE_ACCESS_FAULT)
        with m.Elif(corrupt):
            m.d.sync += cause.eq(Cause.MSI_PT_CORRUPTION)
        with m.Elif(~pte.v):
            m.d.sync += cause.eq(Cause.MSI_PTE_INVALID)
        with m.Elif(wrong):
            m.d.sync += cause.eq(Cause.MSI_PTE_MISCONFIGURED)
        with m.Elif(walk.executes):
            m.d.sync += cause.eq(Cause.INSTRUCTION_ACCESS_FAULT)
        with m.Else():
            m.d.sync += outside.eq(basic & pte.ppn[self.config.pas - PAGE_SHIFT :].any())

    def _result(self, m: Module, walk, words) -> None:
        """What the PTE says stands in the words."""
        result = self.result.payload
        pte, mrif = data.View(MsiPte, words[0]), data.View(MsiPteMrif, words[0])
        m.d.comb += [result.index.eq(walk.index), result.ppn.eq(pte.ppn)]
        if self.config.msi_mrif:
            notice = data.View(MsiPteNotice, words[1])
            m.d.comb += [
                result.mrif.eq(pte.m == _MODE_MRIF),
                result.mrif_address.eq(mrif.address),
                result.nid.eq(Cat(notice.nid, notice.nid_high)),
                result.notice_ppn.eq(notice.ppn),
            ]
