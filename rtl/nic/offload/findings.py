"""What has been found of the checksums of frames that wait to be received."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.nic.offload.checker import Finding
from rtl.nic.seams import LocalMemory

__all__ = ["FindingNote", "FindingRead", "Findings"]


class FindingNote(wiring.Signature):
    """Notes what has been found of the frame in a slot."""

    def __init__(self):
        super().__init__({"en": Out(1), "slot": Out(8), "finding": Out(Finding)})


class FindingRead(wiring.Signature):
    """Asks for a slot's finding; ``finding`` follows a cycle later."""

    def __init__(self):
        super().__init__({"memory": Out(LocalMemory), "slot": Out(8), "finding": In(Finding)})


class Findings(wiring.Component):
    """A finding per slot of TX and RX memory.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    tx, rx : ``In(FindingNote)``
    header, count, backup : ``In(FindingRead)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "tx": In(FindingNote()),
                "rx": In(FindingNote()),
                "header": In(FindingRead()),
                "count": In(FindingRead()),
                "backup": In(FindingRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ports, readers = [], (self.header, self.count, self.backup)
        for name, slots in (("tx", self.config.tx_slots), ("rx", self.config.rx_slots)):
            m.submodules[name] = ram = Memory(shape=Finding, depth=slots, init=[])
            note, write = getattr(self, name), ram.write_port()
            m.d.comb += [
                write.en.eq(note.en),
                write.addr.eq(note.slot),
                write.data.eq(note.finding),
            ]
            ports.append([ram.read_port() for _ in readers])
        for reader, tx, rx in zip(readers, *ports, strict=True):
            from_rx = Signal()
            m.d.sync += from_rx.eq(reader.memory == LocalMemory.RX)
            m.d.comb += [
                tx.addr.eq(reader.slot),
                rx.addr.eq(reader.slot),
                reader.finding.eq(Mux(from_rx, rx.data, tx.data)),
            ]
        return m
