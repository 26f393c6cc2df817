"""Fault queue of the IOMMU (section "Fault/Event-Queue")."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.iommu import FaultRecord
from rtl.bus.axi import Axi4
from rtl.bus.stream import StreamArbiter
from rtl.iommu.record_writer import RecordWriter
from rtl.iommu.register_file import QueueRegisters

__all__ = ["FaultQueue"]

WORDS = 4


class FaultQueue(wiring.Component):
    """Writes fault records of several sources to memory.

    Records are dropped while the queue is off, full or in error; sources never wait for software.
    See :class:`~rtl.iommu.record_writer.RecordWriter` for order and status bits.

    Parameters
    ----------
    sources : int
        Streams of records, at least 2.
    addr_width : int
        Bits of a physical address.

    Members
    -------
    faults0, faults1, ... : ``In(stream)`` of FaultRecord
    registers : ``In(QueueRegisters)``
    be : ``In(1)``
        fctl.BE.
    interrupt : ``Out(1)``
        Condition of ipsr.fip.
    memory : ``Out(Axi4)``, writes only
    """

    def __init__(self, *, sources: int, addr_width: int):
        self._sources, self._addr_width = sources, addr_width
        super().__init__(
            {f"faults{n}": In(stream.Signature(FaultRecord)) for n in range(sources)}
            | {
                "registers": In(QueueRegisters()),
                "be": In(1),
                "interrupt": Out(1),
                "memory": Out(Axi4(addr_width=addr_width, data_width=64, id_width=1, read=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = StreamArbiter(FaultRecord, self._sources)
        m.submodules.writer = writer = RecordWriter(words=WORDS, addr_width=self._addr_width)
        for n, port in enumerate(arbiter.inputs):
            connect(m, flipped(getattr(self, f"faults{n}")), port)
        connect(m, flipped(self.registers), writer.registers)
        connect(m, writer.memory, flipped(self.memory))
        m.d.comb += [
            writer.record.valid.eq(arbiter.o.valid),
            writer.record.payload.as_value().eq(arbiter.o.payload.as_value()),
            arbiter.o.ready.eq(writer.record.ready),
            self.interrupt.eq(writer.interrupt),
            writer.be.eq(self.be),
        ]
        return m
