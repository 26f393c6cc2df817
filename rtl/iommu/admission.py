"""From an AXI address to a translated one: what both halves of the I/O bridge share."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.iommu import PAGE_SHIFT
from models.spec.translation import (
    DmaUser,
    TranslationRequest,
    TranslationResponse,
    TranslationStatus,
)
from rtl.bus.axi import Axi4, Resp
from rtl.bus.stream import round_robin
from rtl.iommu.burst_check import BurstCheck
from rtl.iommu.requests import QosId
from rtl.iommu.slots import SlotTable

__all__ = ["Admission"]

IOVA_BITS = 64


class Admission(wiring.Component):
    """Takes bursts into slots, has them translated, and gives them back as their order allows.

    Bursts of different IDs pass each other freely; those of one ID are issued in their order.  A
    burst that is refused comes out of ``error`` when all earlier ones of its ID are finished, and
    holds later ones of its ID until then.  ``error`` says DECERR when the translation was refused
    and SLVERR when the burst is malformed (see :class:`BurstCheck`).

    A burst to a memory-resident interrupt file comes out of ``error`` too (AIA, "MSI PTE, MRIF
    mode"): OKAY for a read of an aligned word, which reads 0, and for a write of one beat, which
    ``divert`` marks for whoever knows its data; SLVERR for all others.

    Latency
    -------
    Address to translation request: none.  Answer to ``issue``: two cycles.

    Parameters
    ----------
    slots : int
        Bursts on their way, a power of two from 2.
    beats : int
        Beats of the longest burst.
    addr_width : int
        Bits of a physical address.
    data_width, id_width : int
        Of the bus.
    write : bool
        The requests are for writes.
    mrif, qos : bool
        There may be MRIFs, else an answer that names one is a refusal; addresses carry a QosId.

    Members
    -------
    address : ``In(stream)``
        ``aw`` or ``ar`` with a DmaUser.
    hold : ``In(1)``
        Take nothing now.
    accepted, slot, malformed : ``Out``
        An address was taken into a slot, and whether it was refused at once: then its request is
        nobody's.
    request, response : streams
        Translation port; the tag is the slot.
    ready : ``In(slots)``
        Slots whose data is there.
    issue : ``Out(stream)`` of the translated address with its slot
    error : ``Out(stream)`` of ``slot, id, len, resp, divert``
        The slot is free after the transfer.
    answer, answer_id : ``In``
        The memory finished the oldest issued burst of the ID.
    live, finished : ``Out(slots)``
    """

    def __init__(
        self, *, slots, beats, addr_width, data_width, id_width, write, mrif=False, qos=False
    ):
        self.slots, self.beats, self.addr_width = slots, beats, addr_width
        self.id_width, self.write, self.mrif, self.qos = id_width, write, mrif, qos
        self._table = SlotTable(slots=slots, id_width=id_width)
        bus = {"data_width": data_width, "id_width": id_width}
        self._above = Axi4(addr_width=IOVA_BITS, user=DmaUser, **bus).address_layout
        user = QosId if qos else None
        below = Axi4(addr_width=addr_width, user=user, **bus).address_layout
        issue = data.StructLayout({"address": below, "slot": range(slots)})
        error = data.StructLayout(
            {"slot": range(slots), "id": id_width, "len": 8, "resp": Resp, "divert": 1}
        )
        super().__init__(
            {
                "address": In(stream.Signature(self._above)),
                "hold": In(1),
                "accepted": Out(1),
                "slot": Out(range(slots)),
                "malformed": Out(1),
                "request": Out(stream.Signature(TranslationRequest)),
                "response": In(stream.Signature(TranslationResponse)),
                "ready": In(slots),
                "issue": Out(stream.Signature(issue)),
                "error": Out(stream.Signature(error)),
                "answer": In(1),
                "answer_id": In(id_width),
                "live": Out(slots),
                "finished": Out(slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = BurstCheck(self._above, beats=self.beats)
        m.submodules.table = table = self._table
        translated, refused, bad = (Signal(self.slots) for _ in range(3))
        interrupt, single = Signal(self.slots), Signal(self.slots)

        # Into a slot, and to the translator
        address = self.address.payload
        room = Signal()
        m.d.comb += [
            check.address.eq(address),
            room.eq(table.available & ~self.hold),
            # Whether it is refused is known too late to decide whose turn it is.
            self.request.valid.eq(self.address.valid & room),
            self.address.ready.eq(room & self.request.ready),
            self.accepted.eq(self.address.valid & self.address.ready),
            self.malformed.eq(check.malformed),
            self.slot.eq(table.slot),
            table.allocate.eq(self.accepted),
            table.id.eq(address.id),
            self.live.eq(table.live),
            self.finished.eq(table.finished),
        ]
        self._ask(m, table.slot)
        with m.If(self.accepted):
            m.d.sync += [
                translated.bit_select(table.slot, 1).eq(0),
                refused.bit_select(table.slot, 1).eq(check.malformed),
                bad.bit_select(table.slot, 1).eq(check.malformed),
            ]
            if self.mrif:
                word = (address.size == 2) & ~address.addr[:2].any()
                m.d.sync += [
                    interrupt.bit_select(table.slot, 1).eq(0),
                    single.bit_select(table.slot, 1).eq((address.len == 0) & (self.write | word)),
                ]

        # The answer
        response = self.response.payload
        answered = response.tag[: len(table.slot)]
        fault = Signal()
        m.d.comb += [
            self.response.ready.eq(1),
            # An MRIF is not a place that a burst can go to.
            fault.eq((response.status != TranslationStatus.SUCCESS) | response.mrif),
        ]
        with m.If(self.response.valid):
            m.d.sync += [
                translated.bit_select(answered, 1).eq(1),
                refused.bit_select(answered, 1).eq(fault),
            ]
            if self.mrif:
                m.d.sync += interrupt.bit_select(answered, 1).eq(
                    (response.status == TranslationStatus.SUCCESS) & response.mrif
                )

        held, page = self._memories(m, table)
        self._issue(m, table, translated & ~refused & self.ready & table.in_turn, held, page)
        kinds = (bad, interrupt, single)
        self._error(m, table, refused & self.ready & table.first, held, kinds)
        m.d.comb += [table.answer.eq(self.answer), table.answer_id.eq(self.answer_id)]
        return m

    def _ask(self, m: Module, slot) -> None:
        """Translation request of the address at the port."""
        address, user = self.address.payload, self.address.payload.user
        m.d.comb += [
            self.request.payload.tag.eq(slot),
            self.request.payload.at.eq(user.at),
            self.request.payload.device_id.eq(user.device_id),
            self.request.payload.process_id.eq(user.process_id),
            self.request.payload.pv.eq(user.pv),
            self.request.payload.priv.eq(user.priv),
            self.request.payload.exec.eq(0 if self.write else user.exec),
            self.request.payload.write.eq(self.write),
            self.request.payload.iova.eq(address.addr),
        ]

    def _memories(self, m: Module, table):
        """Addresses and pages of the slots, each with a reader for ``issue``."""
        kept = data.StructLayout(
            {"offset": PAGE_SHIFT, "id": self.id_width, "len": 8, "size": 3, "burst": 2, "lock": 1}
        )
        m.submodules.held = held = Memory(shape=kept, depth=self.slots, init=[])
        target = {"page": self.addr_width - PAGE_SHIFT} | ({"user": QosId} if self.qos else {})
        pages = Memory(shape=data.StructLayout(target), depth=self.slots, init=[])
        m.submodules.pages = pages
        hold, turn = held.write_port(), pages.write_port()
        address, response = self.address.payload, self.response.payload
        m.d.comb += [
            hold.addr.eq(table.slot),
            hold.en.eq(self.accepted),
            hold.data.offset.eq(address.addr),
            hold.data.id.eq(address.id),
            hold.data.len.eq(address.len),
            hold.data.size.eq(address.size),
            hold.data.burst.eq(address.burst),
            hold.data.lock.eq(address.lock),
            turn.addr.eq(response.tag),
            turn.en.eq(self.response.valid),
            turn.data.page.eq(response.spa >> PAGE_SHIFT),
        ]
        if self.qos:
            m.d.comb += [
                turn.data.user.rcid.eq(response.rcid),
                turn.data.user.mcid.eq(response.mcid),
            ]
        return held, pages.read_port(domain="comb")

    def _issue(self, m: Module, table, candidates, held, page) -> None:
        """Registered: one of the bursts that may go, in turn."""
        chosen, last = Signal(range(self.slots)), Signal(range(self.slots))
        go = Signal()
        kept = held.read_port(domain="comb")
        round_robin(m, candidates, last, chosen)
        m.d.comb += [
            go.eq(candidates.any() & (~self.issue.valid | self.issue.ready)),
            kept.addr.eq(chosen),
            page.addr.eq(chosen),
            table.issue.eq(go),
            table.issued_slot.eq(chosen),
        ]
        out = self.issue.payload.address
        with m.If(~self.issue.valid | self.issue.ready):
            m.d.sync += [
                self.issue.valid.eq(candidates.any()),
                last.eq(chosen),
                self.issue.payload.slot.eq(chosen),
                out.addr.eq(Cat(kept.data.offset, page.data.page)),
                out.id.eq(kept.data.id),
                out.len.eq(kept.data.len),
                out.size.eq(kept.data.size),
                out.burst.eq(kept.data.burst),
                out.lock.eq(kept.data.lock),
            ]
            if self.qos:
                m.d.sync += out.user.eq(page.data.user)

    def _error(self, m: Module, table, candidates, held, kinds) -> None:
        """Registered: one of the bursts that were refused and whose turn it is."""
        chosen = Signal(range(self.slots))
        kept = held.read_port(domain="comb")
        error = self.error
        bad, interrupt, single = (kind.bit_select(chosen, 1) for kind in kinds)
        for n in reversed(range(self.slots)):
            with m.If(candidates[n]):
                m.d.comb += chosen.eq(n)
        m.d.comb += [
            kept.addr.eq(chosen),
            table.error.eq(error.valid & error.ready),
            table.error_slot.eq(error.payload.slot),
        ]
        with m.If(~error.valid):
            m.d.sync += [
                error.valid.eq(candidates.any()),
                error.payload.slot.eq(chosen),
                error.payload.id.eq(kept.data.id),
                error.payload.len.eq(kept.data.len),
                error.payload.resp.eq(
                    Mux(
                        bad | (interrupt & ~single),
                        Resp.SLVERR,
                        Mux(interrupt, Resp.OKAY, Resp.DECERR),
                    )
                ),
                error.payload.divert.eq(interrupt & single),
            ]
        with m.Elif(error.ready):
            m.d.sync += error.valid.eq(0)
