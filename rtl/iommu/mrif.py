"""Storing of MSIs into memory-resident interrupt files (AIA, "MSI PTE, MRIF mode")."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import PAGE_SHIFT, Cause, FaultRecord, Ttyp
from models.spec.translation import AddressType
from rtl.bus.arbiter import set_address
from rtl.bus.axi import Axi4, Resp
from rtl.iommu.endian import in_order
from rtl.iommu.mrif_slots import FILE_SHIFT, WORD_BITS, IncomingMsi, MrifTarget
from rtl.iommu.requests import QosId

__all__ = ["MrifStore"]

#: log2 of the bytes of a pair of doublewords: pending, enabled.
PAIR_SHIFT = 4
#: Identities are below 2048, 64 to a pair.
IDENTITY_BITS, PAIR_BITS = 11, 6


class MrifStore(wiring.Component):
    """Sets the pending bit of an MSI in its file, then sends the notice MSI, one MSI at a time.

    The identity is little-endian at offset 0 of the page and big-endian at offset 4; other words
    and identities above 2047 are accepted and discarded.  Identity 0 is one like others, and the
    notice is sent whatever the enable bits say.  Answers:

    ======== ====================================================================================
    OKAY     stored and noticed, or discarded; also if the notice failed, which is cause 273
    SLVERR   not a write of one aligned 32-bit word; or corrupt data in the file (271)
    DECERR   the file could not be accessed (264), or memory does not know exclusive accesses
    ======== ====================================================================================

    Faults 264 and 271 are reported unless ``dtf`` is set.

    Latency
    -------
    Three accesses one after the other, with ``atomic`` more if others write the same doubleword.

    Parameters
    ----------
    addr_width : int
        Bits of a physical address.
    atomic : bool
        capabilities.AMO_MRIF: by exclusive accesses, repeated until they succeed; else a plain
        read and a plain write.
    qos : bool
        Accesses, the notice too, carry the device context's QoS ID.

    Members
    -------
    request : ``In(stream)`` of IncomingMsi
    target : ``In(MrifTarget)``
        Stable from ``request.valid`` until the response is taken.
    response : ``Out(stream)`` of Resp
    faults : ``Out(stream)`` of FaultRecord
    memory : ``Out(Axi4)``, 64 bits
    """

    def __init__(self, *, addr_width: int, atomic: bool, qos: bool):
        self._addr_width, self._atomic, self._qos = addr_width, atomic, qos
        user = QosId if qos else None
        super().__init__(
            {
                "request": In(stream.Signature(IncomingMsi)),
                "target": In(MrifTarget),
                "response": Out(stream.Signature(Resp)),
                "faults": Out(stream.Signature(FaultRecord)),
                "memory": Out(Axi4(addr_width=addr_width, data_width=64, id_width=1, user=user)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        memory, target, response = self.memory, self.target, self.response
        msi, identity = Signal(IncomingMsi), Signal(WORD_BITS)
        noticing, doubleword = Signal(), Signal(64)
        cause = Signal(12)
        m.d.comb += identity.eq(in_order(msi.data, msi.offset[0]))
        self._accesses(m, identity, noticing, doubleword)
        self._record(m, cause)
        beyond = (target.address >> (self._addr_width - FILE_SHIFT)).any()
        notice_beyond = (target.notice_ppn >> (self._addr_width - PAGE_SHIFT)).any()
        not_msi = msi.offset[1:].any() | identity[IDENTITY_BITS:].any()
        wanted = Resp.EXOKAY if self._atomic else Resp.OKAY

        def fail(why, answer) -> None:
            """Report a fault, and answer with it."""
            m.d.sync += [cause.eq(why), response.payload.eq(answer)]
            m.next = "RESPOND"
            with m.If((why == Cause.MSI_WRITE_ACCESS_FAULT) | ~target.dtf):
                m.d.sync += self.faults.valid.eq(1)
                m.next = "REPORT"

        def refuse(resp) -> None:
            """Memory did not do it."""
            with m.If(resp == Resp.SLVERR):
                fail(Cause.MRIF_CORRUPTION, Resp.SLVERR)
            with m.Else():
                fail(Cause.MRIF_ACCESS_FAULT, Resp.DECERR)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [msi.eq(self.request.payload), noticing.eq(0)]
                with m.If(self.request.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(~msi.is_word | not_msi):
                    m.d.sync += response.payload.eq(Mux(msi.is_word, Resp.OKAY, Resp.SLVERR))
                    m.next = "RESPOND"
                with m.Elif(beyond):
                    fail(Cause.MRIF_ACCESS_FAULT, Resp.DECERR)
                with m.Else():
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += memory.ar.valid.eq(1)
                with m.If(memory.ar.ready):
                    m.next = "LOADED"
            with m.State("LOADED"):
                m.d.comb += memory.r.ready.eq(1)
                pending = 1 << identity[:PAIR_BITS]
                m.d.sync += doubleword.eq(memory.r.payload.data | pending)
                with m.If(memory.r.valid):
                    with m.If(memory.r.payload.resp == wanted):
                        m.next = "ADDRESS"
                    with m.Else():
                        refuse(memory.r.payload.resp)
            with m.State("ADDRESS"):
                m.d.comb += memory.aw.valid.eq(1)
                with m.If(memory.aw.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += memory.w.valid.eq(1)
                with m.If(memory.w.ready):
                    m.next = "STORED"
            with m.State("STORED"):
                resp = memory.b.payload.resp
                m.d.comb += memory.b.ready.eq(1)
                with m.If(memory.b.valid):
                    with m.If(noticing):
                        m.d.sync += response.payload.eq(Resp.OKAY)
                        m.next = "RESPOND"
                        with m.If(resp != Resp.OKAY):
                            fail(Cause.MSI_WRITE_ACCESS_FAULT, Resp.OKAY)
                    with m.Elif(resp == wanted):
                        m.d.sync += noticing.eq(1)
                        m.next = "ADDRESS"
                        with m.If(notice_beyond):
                            fail(Cause.MSI_WRITE_ACCESS_FAULT, Resp.OKAY)
                    with m.Elif(resp == Resp.OKAY):
                        m.next = "LOAD"  # somebody else wrote meanwhile
                    with m.Else():
                        refuse(resp)
            with m.State("REPORT"):
                with m.If(self.faults.ready):
                    m.d.sync += self.faults.valid.eq(0)
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"
        return m

    def _accesses(self, m: Module, identity, noticing, doubleword) -> None:
        """Payloads of the pending bit's doubleword and of the notice."""
        memory, target = self.memory, self.target
        pair = identity[PAIR_BITS:IDENTITY_BITS]
        address = (target.address << FILE_SHIFT) | (pair << PAIR_SHIFT)
        notice = target.notice_ppn << PAGE_SHIFT
        m.d.comb += [
            *set_address(memory.ar, addr=address, size=3),
            *set_address(memory.aw, addr=Mux(noticing, notice, address), size=Mux(noticing, 2, 3)),
            # The upper lanes of a notice are not written.
            memory.w.payload.data.eq(
                Cat(Mux(noticing, target.nid, doubleword[:WORD_BITS]), doubleword[WORD_BITS:])
            ),
            memory.w.payload.strb.eq(Mux(noticing, 0x0F, 0xFF)),
            memory.w.payload.last.eq(1),
            memory.ar.payload.lock.eq(self._atomic),
            memory.aw.payload.lock.eq(self._atomic & ~noticing),
        ]
        if self._qos:
            m.d.comb += [
                memory.ar.payload.user.eq(target.qos),
                memory.aw.payload.user.eq(target.qos),
            ]

    def _record(self, m: Module, cause) -> None:
        """Fault record of a cause; the notice's is nobody's transaction."""
        target, record = self.target, self.faults.payload
        user = target.user
        m.d.comb += record.cause.eq(cause)
        with m.If(cause == Cause.MSI_WRITE_ACCESS_FAULT):
            m.d.comb += record.iotval.eq(target.notice_ppn << PAGE_SHIFT)
        with m.Else():
            m.d.comb += [
                record.pid.eq(Mux(user.pv, user.process_id, 0)),
                record.pv.eq(user.pv),
                record.priv.eq(user.pv & user.priv),
                record.ttyp.eq(
                    Mux(
                        user.at == AddressType.TRANSLATED,
                        Ttyp.TRANSLATED_WRITE,
                        Ttyp.UNTRANSLATED_WRITE,
                    )
                ),
                record.did.eq(user.device_id),
                record.iotval.eq(target.iova),
            ]
