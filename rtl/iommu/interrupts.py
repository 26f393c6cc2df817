"""Interrupts of the IOMMU: ipsr, msi_cfg_tbl, messages and wires."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig
from models.spec.iommu import Cause, FaultRecord, Ttyp
from rtl.bus.arbiter import set_address
from rtl.bus.axi import Axi4, Resp
from rtl.bus.lite import RegisterPort
from rtl.iommu.endian import in_order
from rtl.iommu.register_file import IGS_WSI, PAGE_ADDR_WIDTH

__all__ = ["Interrupts"]

VECTORS = regs.MSI_CFG_TBL_ENTRIES
SOURCES = 4
#: Words of an entry of msi_cfg_tbl.
ADDR_LOW, ADDR_HIGH, DATA, CONTROL = range(4)


class Interrupts(wiring.Component):
    """Interrupt-pending register, message table and both ways of telling software.

    A bit of ipsr is set while its condition holds and set again if it still holds after software
    cleared it.  With fctl.WSI 0 each 0 to 1 of a bit makes the bit's vector pending; a pending
    vector that is not masked is sent once.  With fctl.WSI 1 the wire of a vector is high while a
    bit of that vector is set, and nothing is pending.  A failed message is reported as a fault
    record with cause 273; an address beyond the physical address width fails without a write.

    Latency
    -------
    Condition to ipsr and wire: one cycle.  A message takes 5 cycles and its write.

    Parameters
    ----------
    config : IommuConfig
        ``igs`` and ``pas`` count.

    Members
    -------
    causes : ``In(4)``
        Conditions of cip, fip, pmip, pip.
    clear : ``In(4)``
        Ones written to ipsr.
    pending : ``Out(4)``
        ipsr.
    icvec : ``In(16)``
    held : ``In(1)``
        PCI configuration holds all messages back.
    wsi, be : ``In(1)``
        fctl.WSI; fctl.BE, the byte order of messages.
    bus : ``In(RegisterPort)``
        msi_cfg_tbl.
    faults : ``Out(stream)`` of FaultRecord
    memory : ``Out(Axi4)``, writes only
    lines : ``Out(16)``
        Wires by vector, level.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "causes": In(SOURCES),
                "clear": In(SOURCES),
                "pending": Out(SOURCES),
                "icvec": In(4 * SOURCES),
                "held": In(1),
                "wsi": In(1),
                "be": In(1),
                "bus": In(RegisterPort(addr_width=PAGE_ADDR_WIDTH)),
                "faults": Out(stream.Signature(FaultRecord)),
                "memory": Out(Axi4(addr_width=config.pas, data_width=64, id_width=1, read=False)),
                "lines": Out(VECTORS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        waiting = Signal(VECTORS)  # messages to send
        masked = Signal(VECTORS)
        sent = Signal(VECTORS)
        raised = Signal(VECTORS)

        # ipsr
        before = Signal(SOURCES)
        m.d.comb += before.eq(self.pending & ~self.clear)
        m.d.sync += self.pending.eq(before | self.causes)
        rising = Signal(SOURCES)
        m.d.comb += rising.eq(self.causes & ~before)
        for source in range(SOURCES):
            vector = self.icvec.word_select(source, 4)
            with m.If(rising[source]):
                m.d.comb += raised.bit_select(vector, 1).eq(1)
        lines = Signal(VECTORS)
        for source in range(SOURCES):
            with m.If(self.pending[source] & self.wsi):
                m.d.comb += lines.bit_select(self.icvec.word_select(source, 4), 1).eq(1)
        m.d.comb += self.lines.eq(lines)

        if self.config.igs == IGS_WSI:
            self._no_table(m)
            return m
        # A vector raised in the cycle in which its message is taken is sent again.
        m.d.sync += waiting.eq(Mux(self.wsi, 0, waiting & ~sent | raised))
        table = self._table(m, masked)
        self._sender(m, table, waiting & ~masked, sent)
        return m

    def _no_table(self, m: Module) -> None:
        """msi_cfg_tbl reads 0 when there are only wires."""
        request, response = self.bus.request, self.bus.response
        m.d.comb += request.ready.eq(~response.valid | response.ready)
        with m.If(request.ready):
            m.d.sync += response.valid.eq(request.valid)

    def _table(self, m: Module, masked):
        """msi_cfg_tbl in RAM, its mask bits beside it; returns the sender's read port."""
        m.submodules.table = table = Memory(shape=32, depth=4 * VECTORS, init=[])
        writer = table.write_port(granularity=8)
        reader, sender = table.read_port(), table.read_port()
        request, response = self.bus.request, self.bus.response
        payload = request.payload
        word = (payload.addr - regs.msi_addr(0).offset)[2:8]
        accept = Signal()
        was_read, is_control, mask_read = Signal(), Signal(), Signal()
        m.d.comb += [
            request.ready.eq(~response.valid | response.ready),
            accept.eq(request.valid & request.ready),
            writer.addr.eq(word),
            reader.addr.eq(word),
            reader.en.eq(accept),
            writer.en.eq(Mux(accept & payload.write, payload.strb, 0)),
            response.payload.eq(Mux(was_read, Mux(is_control, mask_read, reader.data), 0)),
        ]
        with m.Switch(word[:2]):
            with m.Case(ADDR_LOW):
                m.d.comb += writer.data.eq(payload.data & regs.msi_addr(0)["addr"].mask)
            with m.Case(ADDR_HIGH):
                m.d.comb += writer.data.eq(payload.data & regs.msi_addr(0)["addr"].mask >> 32)
            with m.Case(DATA):
                m.d.comb += writer.data.eq(payload.data)
        with m.If(request.ready):
            m.d.sync += response.valid.eq(request.valid)
        with m.If(accept):
            m.d.sync += [
                was_read.eq(~payload.write),
                is_control.eq(word[:2] == CONTROL),
                mask_read.eq(masked.bit_select(word[2:], 1)),
            ]
            with m.If(payload.write & (word[:2] == CONTROL) & payload.strb[0]):
                m.d.sync += masked.bit_select(word[2:], 1).eq(payload.data[0])
        return sender

    def _sender(self, m: Module, table, ready, sent) -> None:
        """Sends the message of one vector at a time, lowest first."""
        memory, faults = self.memory, self.faults
        vector, word = Signal(range(VECTORS)), Signal(2)
        address, message = Signal(64), Signal(32)
        lowest = Signal(range(VECTORS))
        for n in reversed(range(VECTORS)):
            with m.If(ready[n]):
                m.d.comb += lowest.eq(n)
        record = FaultRecord(faults.payload.as_value())
        m.d.comb += [
            table.addr.eq(Cat(word, vector)),
            *set_address(memory.aw, addr=address, size=2),
            memory.w.payload.data.eq(in_order(message, self.be).replicate(2)),
            memory.w.payload.strb.eq(Mux(address[2], 0xF0, 0x0F)),
            memory.w.payload.last.eq(1),
            record.cause.eq(Cause.MSI_WRITE_ACCESS_FAULT),
            record.ttyp.eq(Ttyp.NONE),
            record.iotval.eq(address),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [vector.eq(lowest), word.eq(0)]
                with m.If(ready.any() & ~self.wsi & ~self.held):
                    m.next = "FETCH"
            with m.State("FETCH"):
                # The word addressed in a cycle comes in the next.
                m.d.sync += word.eq(word + 1)
                with m.Switch(word):
                    with m.Case(ADDR_LOW):
                        m.d.comb += sent.bit_select(vector, 1).eq(1)
                    with m.Case(ADDR_LOW + 1):
                        m.d.sync += address[:32].eq(table.data)
                    with m.Case(ADDR_HIGH + 1):
                        m.d.sync += address[32:].eq(table.data)
                    with m.Case(DATA + 1):
                        m.d.sync += message.eq(table.data)
                        m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(address[self.config.pas :].any()):
                    m.d.sync += faults.valid.eq(1)
                    m.next = "FAULT"
                with m.Else():
                    m.d.sync += memory.aw.valid.eq(1)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                with m.If(memory.aw.ready):
                    m.d.sync += [memory.aw.valid.eq(0), memory.w.valid.eq(1)]
                    m.next = "DATA"
            with m.State("DATA"):
                with m.If(memory.w.ready):
                    m.d.sync += memory.w.valid.eq(0)
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += memory.b.ready.eq(1)
                with m.If(memory.b.valid):
                    m.next = "IDLE"
                    with m.If(memory.b.payload.resp != Resp.OKAY):
                        m.d.sync += faults.valid.eq(1)
                        m.next = "FAULT"
            with m.State("FAULT"):
                with m.If(faults.ready):
                    m.d.sync += faults.valid.eq(0)
                    m.next = "IDLE"
