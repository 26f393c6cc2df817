"""Write half of the I/O bridge."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.iommu import PAGE_SHIFT, FaultRecord
from models.spec.translation import DmaUser, TranslationRequest, TranslationResponse
from rtl.bus.axi import Axi4, Resp
from rtl.bus.ram import SETTLED
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.iommu.admission import IOVA_BITS, Admission
from rtl.iommu.mrif import MrifStore
from rtl.iommu.mrif_slots import MrifSlots, find_word
from rtl.iommu.requests import QosId

__all__ = ["BridgeWrite", "WriteStore"]


class WriteStore(wiring.Component):
    """Write data of all slots in block RAM: in as it comes, out a burst at a time.

    A burst takes its ``len + 1`` beats, whatever ``last`` says, so that no slot shows what an
    earlier burst left.  Of a burst that is too long, beats overwrite each other; it is never sent.

    Latency
    -------
    Burst to first beat: two cycles; then a beat per cycle, also from burst to burst.

    Parameters
    ----------
    slots, beats : int
        Slots, and beats of each; powers of two.
    data_width : int
        Of the bus.

    Members
    -------
    expect : ``In(stream)`` of ``slot, len``
        Bursts whose data will come next.
    i, o : ``In(stream)``, ``Out(stream)``
        AXI write data.
    complete : ``Out(1)``, complete_slot : ``Out``
        All of a slot's data is there.
    send : ``In(stream)`` of ``slot, len, divert``
        Give a slot's data out.
    diverted : ``Out(1)``
        The beat on ``o`` is of a burst sent with ``divert``.
    """

    def __init__(self, *, slots, beats, data_width):
        self._slots, self._beats, self._data_width = slots, beats, data_width
        bus = Axi4(addr_width=1, data_width=data_width, id_width=1)
        number = range(slots)
        send = data.StructLayout({"slot": number, "len": 8, "divert": 1})
        super().__init__(
            {
                "expect": In(stream.Signature(data.StructLayout({"slot": number, "len": 8}))),
                "i": In(stream.Signature(bus.write_layout)),
                "o": Out(stream.Signature(bus.write_layout)),
                "complete": Out(1),
                "complete_slot": Out(number),
                "send": In(stream.Signature(send)),
                "diverted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_bits = self._beats.bit_length() - 1
        width = self._data_width + self._data_width // 8
        # A burst goes out when all of it is there.
        store = Memory(shape=width, depth=self._slots * self._beats, init=[], attrs=SETTLED)
        m.submodules.store = store
        writer, reader = store.write_port(), store.read_port()

        # In
        expect, received = self.expect, Signal(8)
        taken, is_last = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(expect.valid),
            taken.eq(self.i.valid & expect.valid),
            is_last.eq(received == expect.payload.len),
            writer.addr.eq(Cat(received[:beat_bits], expect.payload.slot)),
            writer.data.eq(Cat(self.i.payload.data, self.i.payload.strb)),
            writer.en.eq(taken),
            expect.ready.eq(taken & is_last),
            self.complete.eq(taken & is_last),
            self.complete_slot.eq(expect.payload.slot),
        ]
        with m.If(taken):
            m.d.sync += received.eq(Mux(is_last, 0, received + 1))

        # Out
        sending, current, sent = Signal(), Signal.like(self.send.payload), Signal(8)
        step, ends = Signal(), Signal()
        m.d.comb += [
            step.eq(sending & (~self.o.valid | self.o.ready)),
            ends.eq(sent == current.len),
            reader.addr.eq(Cat(sent[:beat_bits], current.slot)),
            reader.en.eq(step),
            Cat(self.o.payload.data, self.o.payload.strb).eq(reader.data),
            self.send.ready.eq(~sending | (step & ends)),
        ]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(sending),
                self.o.payload.last.eq(ends),
                self.diverted.eq(current.divert),
            ]
        with m.If(step):
            m.d.sync += sent.eq(sent + 1)
        with m.If(self.send.ready):
            m.d.sync += [sending.eq(self.send.valid), current.eq(self.send.payload), sent.eq(0)]
        return m


class BridgeWrite(wiring.Component):
    """Writes: address to translation, data to a slot, both to memory when both are there.

    A refused write is answered with an error response and its data is dropped; nothing of it
    reaches memory.  A write to a memory-resident interrupt file takes the place of an error: when
    its turn comes, its beat goes to a :class:`~rtl.iommu.mrif.MrifStore`, which answers.

    Parameters
    ----------
    slots, beats, addr_width, data_width, id_width, mrif, atomic, qos
        As of :class:`~rtl.iommu.bridge.Bridge`.

    Members
    -------
    up, down : ``In(Axi4)``, ``Out(Axi4)``, writes only
    request, void, response : streams
        Translation port; the tag is the slot.
    live, finished : ``Out(slots)``
    interrupt_files : ``Out(Axi4)``, faults : ``Out(stream)`` of FaultRecord
        Only with ``mrif``.
    """

    def __init__(self, *, slots, beats, addr_width, data_width, id_width, mrif, atomic, qos):
        self._slots = slots
        user = QosId if qos else None
        self._mrif = MrifStore(addr_width=addr_width, atomic=atomic, qos=qos) if mrif else None
        self._admission = Admission(
            slots=slots,
            beats=beats,
            addr_width=addr_width,
            data_width=data_width,
            id_width=id_width,
            write=True,
            mrif=mrif,
            qos=qos,
        )
        self._store = WriteStore(slots=slots, beats=beats, data_width=data_width)
        bus = {"data_width": data_width, "id_width": id_width, "read": False}
        more = {}
        if self._mrif is not None:
            more = {
                "interrupt_files": Out(self._mrif.memory.signature),
                "faults": Out(stream.Signature(FaultRecord)),
            }
        super().__init__(
            more
            | {
                "up": In(Axi4(addr_width=IOVA_BITS, user=DmaUser, **bus)),
                "down": Out(Axi4(addr_width=addr_width, user=user, **bus)),
                "request": Out(stream.Signature(TranslationRequest)),
                "void": Out(1),
                "response": In(stream.Signature(TranslationResponse)),
                "live": Out(slots),
                "finished": Out(slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.admission = admission = self._admission
        m.submodules.store = store = self._store
        m.submodules.expected = expected = StreamFifo(store.expect.payload.shape(), self._slots)
        m.submodules.answers = answers = StreamRegister(self.up.b.payload.shape())
        connect(m, flipped(self.up.aw), admission.address)
        connect(m, admission.request, flipped(self.request))
        m.d.comb += self.void.eq(admission.malformed)
        connect(m, flipped(self.response), admission.response)
        connect(m, expected.o, store.expect)
        connect(m, flipped(self.up.w), store.i)
        connect(m, answers.o, flipped(self.up.b))
        m.d.comb += [
            self.live.eq(admission.live),
            self.finished.eq(admission.finished),
            admission.hold.eq(~expected.i.ready),
            expected.i.valid.eq(admission.accepted),
            expected.i.payload.slot.eq(admission.slot),
            expected.i.payload.len.eq(self.up.aw.payload.len),
        ]
        complete = Signal(self._slots)
        m.d.comb += admission.ready.eq(complete)
        with m.If(store.complete):
            m.d.sync += complete.bit_select(store.complete_slot, 1).eq(1)
        with m.If(admission.accepted):
            m.d.sync += complete.bit_select(admission.slot, 1).eq(0)

        # Address and data leave together, each as soon as there is room.
        issue, to_store, to_bus = admission.issue, Signal(), Signal()
        stored, sent, divert = Signal(), Signal(), Signal()
        m.d.comb += [
            self.down.aw.valid.eq(issue.valid & ~sent),
            self.down.aw.payload.eq(issue.payload.address),
            store.send.valid.eq((issue.valid & ~stored) | divert),
            store.send.payload.slot.eq(issue.payload.slot),
            store.send.payload.len.eq(issue.payload.address.len),
            to_bus.eq(sent | self.down.aw.ready),
            to_store.eq(stored | (store.send.ready & ~divert)),
            issue.ready.eq(to_bus & to_store),
            self.down.w.valid.eq(store.o.valid & ~store.diverted),
            self.down.w.payload.eq(store.o.payload),
            store.o.ready.eq(self.down.w.ready),
        ]
        m.d.sync += [
            sent.eq(issue.valid & to_bus & ~issue.ready),
            stored.eq(issue.valid & to_store & ~issue.ready),
        ]

        # Responses of memory, and of errors when there are none.
        error, answered, resp = admission.error, Signal(), Signal(Resp)
        m.d.comb += [answered.eq(1), resp.eq(error.payload.resp)]
        if self._mrif is not None:
            self._divert(m, self._mrif, divert, answered, resp)
        with m.If(self.down.b.valid):
            m.d.comb += [
                answers.i.valid.eq(1),
                answers.i.payload.eq(self.down.b.payload),
                self.down.b.ready.eq(answers.i.ready),
                admission.answer.eq(answers.i.ready),
                admission.answer_id.eq(self.down.b.payload.id),
            ]
        with m.Else():
            m.d.comb += [
                answers.i.valid.eq(error.valid & answered),
                answers.i.payload.id.eq(error.payload.id),
                answers.i.payload.resp.eq(resp),
                error.ready.eq(answers.i.ready & answered),
            ]
        return m

    def _divert(self, m: Module, mrif: MrifStore, divert, answered, resp) -> None:
        """Have an MSI stored in place of an error's answer.

        ``divert`` asks the store for the beat; ``answered`` and ``resp`` are the answer.
        """
        admission, store = self._admission, self._store
        m.submodules.mrif = mrif
        m.submodules.mrif_slots = slots = MrifSlots(self._slots)
        connect(m, mrif.memory, flipped(self.interrupt_files))
        connect(m, mrif.faults, flipped(self.faults))
        error, asked = admission.error, Signal()
        m.d.comb += [
            slots.accepted.eq(admission.accepted),
            slots.slot.eq(admission.slot),
            slots.iova.eq(self.up.aw.payload.addr),
            slots.user.eq(self.up.aw.payload.user),
            slots.answered.eq(self.response.valid),
            slots.response.eq(self.response.payload),
            slots.chosen.eq(error.payload.slot),
            mrif.target.eq(slots.target),
        ]
        msi = find_word(m, store.o.payload, slots.target.iova[:PAGE_SHIFT])
        m.d.comb += [
            mrif.request.valid.eq(store.o.valid & store.diverted),
            mrif.request.payload.eq(msi),
        ]
        with m.If(store.diverted):
            m.d.comb += store.o.ready.eq(mrif.request.ready)
        # One beat of one burst at a time, before the burst that waits.
        with m.If(error.valid & error.payload.divert):
            m.d.comb += [
                divert.eq(~asked),
                answered.eq(mrif.response.valid),
                resp.eq(mrif.response.payload),
                mrif.response.ready.eq(error.ready),
            ]
        with m.If(divert):
            m.d.comb += [
                store.send.payload.slot.eq(error.payload.slot),
                store.send.payload.len.eq(0),
                store.send.payload.divert.eq(1),
            ]
            m.d.sync += asked.eq(store.send.ready)
        with m.If(error.valid & error.ready):
            m.d.sync += asked.eq(0)
