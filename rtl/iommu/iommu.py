"""Top of the IOMMU."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from models.spec.iommu_registers import MSI_CFG_TBL_ENTRIES
from models.spec.translation import (
    GroupResponse,
    InvalidationCompletion,
    InvalidationRequest,
    PageRequest,
)
from rtl.bus.arbiter import AxiReadArbiter, AxiWriteArbiter
from rtl.bus.axi import Axi4, Axi4Lite
from rtl.bus.stream import StreamBypass
from rtl.iommu.client_mux import ClientMux
from rtl.iommu.control import Control
from rtl.iommu.register_file import PAGE_ADDR_WIDTH
from rtl.iommu.requests import QosId
from rtl.iommu.seams import Drain, TranslationPort
from rtl.iommu.translator import Translator

__all__ = ["Iommu"]


class Iommu(wiring.Component):
    """RISC-V IOMMU (v1.0): translator, control and what joins them.

    Parameters
    ----------
    config : IommuConfig
        Capabilities and sizes.
    clients : int
        Translation ports, 1 to 3.  One more client, inside, looks contexts up for page requests.

    Members
    -------
    regs : ``In(Axi4Lite)``
        The 4 KiB register page.
    translate0, translate1, ... : ``In(TranslationPort)``
        One per client; only the low ``tag_bits`` bits of the tag are the client's.
    memory : ``Out(Axi4)``
        All accesses of the IOMMU's own: tables, queues, fence data, MSIs.
    page_request : ``In(stream)`` of PageRequest
    group_response : ``Out(stream)`` of GroupResponse
    invalidation : ``Out(stream)`` of InvalidationRequest
    invalidation_completion : ``In(stream)`` of InvalidationCompletion
    fence : ``Out(Drain)``
        Asks the outside to finish the DMA that it had accepted.
    interrupt_files : ``In(Axi4)``, bridge_faults : ``In(stream)`` of FaultRecord
        Only with MSI_MRIF: the bridge's accesses for MSIs to memory-resident interrupt files, which
        go to ``memory``, and their faults.
    held : ``In(1)``
        PCI configuration holds interrupt messages back.
    interrupts : ``Out(16)``
        Wires by vector, level.
    """

    def __init__(self, config: IommuConfig, clients: int = 2):
        if not 1 <= clients <= 3:
            raise ValueError(f"An IOMMU has 1 to 3 clients, not {clients!r}")
        self.config, self.clients = config, clients
        self._translator = Translator(config)
        self._control = Control(config)
        self._mux = ClientMux(clients + 1)
        self.tag_bits = self._mux.tag_bits
        sizes = {
            "addr_width": config.pas,
            "data_width": 64,
            "user": QosId if config.qosid else None,
        }
        walker = self._translator.memory.signature.id_width
        fetch = self._translator.directory_memory.signature.id_width
        files = [1] if config.msi_mrif else []
        writer = self._control.write_id_width
        # Who accesses exclusively has the same place, and so the same IDs, in both directions.
        first = max(walker, fetch, writer) if files else walker
        self._reads = AxiReadArbiter(**sizes, id_widths=[first, *files, fetch, 1])
        self._writes = AxiWriteArbiter(**sizes, id_widths=[first, *files, writer])
        self.id_width = max(self._reads.id_width, self._writes.id_width)
        members = {f"translate{n}": In(TranslationPort()) for n in range(clients)}
        if config.msi_mrif:
            members["interrupt_files"] = In(Axi4(**sizes, id_width=1))
            members["bridge_faults"] = In(stream.Signature(FaultRecord))
        super().__init__(
            members
            | {
                "regs": In(Axi4Lite(addr_width=PAGE_ADDR_WIDTH)),
                "memory": Out(Axi4(**sizes, id_width=self.id_width)),
                "page_request": In(stream.Signature(PageRequest)),
                "group_response": Out(stream.Signature(GroupResponse)),
                "invalidation": Out(stream.Signature(InvalidationRequest)),
                "invalidation_completion": In(stream.Signature(InvalidationCompletion)),
                "fence": Out(Drain()),
                "held": In(1),
                "interrupts": Out(MSI_CFG_TBL_ENTRIES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.translator = translator = self._translator
        m.submodules.control = control = self._control
        m.submodules.mux = mux = self._mux

        for n in range(self.clients):
            connect(m, flipped(getattr(self, f"translate{n}")), getattr(mux, f"client{n}"))
        connect(m, control.translate, getattr(mux, f"client{self.clients}"))
        connect(m, mux.port, translator.translate)

        connect(m, translator.faults, control.faults)
        connect(m, control.invalidate, translator.invalidate)
        m.d.comb += [
            translator.directory.eq(control.directory),
            control.request_event.eq(translator.request_event),
            control.walk_event.eq(translator.walk_event),
            translator.drain.request.eq(control.drain.request),
            control.drain.done.eq(translator.drain.done),
            self.interrupts.eq(control.interrupts),
            control.held.eq(self.held),
        ]
        for name in ("regs", "page_request", "invalidation_completion"):
            connect(m, flipped(getattr(self, name)), getattr(control, name))
        for name in ("group_response", "invalidation", "fence"):
            connect(m, getattr(control, name), flipped(getattr(self, name)))
        if self.config.msi_mrif:
            connect(m, flipped(self.bridge_faults), control.bridge_faults)
        self._memory(m, translator, control)
        return m

    def _memory(self, m: Module, translator, control) -> None:
        """Reads and writes of both halves on one port."""
        m.submodules.reads, m.submodules.writes = self._reads, self._writes
        reads, writes, memory = self._reads, self._writes, self.memory
        files = [self.interrupt_files] if self.config.msi_mrif else []
        walker, fetch = translator.memory, translator.directory_memory
        # Who walks need not know in the same cycle whether others are served first.
        m.submodules.walks = walks = StreamBypass(walker.ar.payload.shape())
        m.submodules.fetches = fetches = StreamBypass(fetch.ar.payload.shape())
        self._channel(m, walker.ar, walks.i)
        self._channel(m, fetch.ar, fetches.i)
        asking = [walks.o, *(port.ar for port in files), fetches.o, control.read.ar]
        answered = [walker.r, *(port.r for port in files), fetch.r, control.read.r]
        for ar, r, sink in zip(asking, answered, reads.managers, strict=True):
            self._channel(m, ar, sink.ar)
            self._channel(m, sink.r, r)
        writers = [walker, *files, control.write]
        for source, sink in zip(writers, writes.managers, strict=True):
            self._channel(m, source.aw, sink.aw)
            self._channel(m, source.w, sink.w)
            self._channel(m, sink.b, source.b)
        self._channel(m, reads.down.ar, memory.ar)
        self._channel(m, memory.r, reads.down.r)
        self._channel(m, writes.down.aw, memory.aw)
        self._channel(m, writes.down.w, memory.w)
        self._channel(m, memory.b, writes.down.b)

    @staticmethod
    def _channel(m: Module, source, sink) -> None:
        """Connect two channels that may differ in the width of the ID."""
        m.d.comb += [sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        for field in source.payload.shape().members:
            m.d.comb += sink.payload[field].eq(source.payload[field])
