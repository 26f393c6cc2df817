"""The whole: NIC, I/O bridge and IOMMU.

``python -m rtl.system [CONFIG] [FILE]`` writes Verilog of a named configuration.
"""

import sys
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import SystemConfig, config
from models.spec.iommu_registers import MSI_CFG_TBL_ENTRIES
from models.spec.nic import ADDRESS_BITS, CONFIG_BYTES
from rtl.bus.axi import Axi4, Axi4Lite, AxiStream
from rtl.iommu.bridge import Bridge, bridge_options, join
from rtl.iommu.iommu import Iommu
from rtl.iommu.pci_config import IommuPci
from rtl.iommu.register_file import PAGE_ADDR_WIDTH
from rtl.iommu.requests import QosId
from rtl.nic.nic import Nic

__all__ = ["System", "main"]


class System(wiring.Component):
    """NIC and IOMMU, joined by the I/O bridge and the ATS and PRI messages.

    The IOMMU's translation ports are 0 for the bridge and 1 for the NIC's ATS.

    Parameters
    ----------
    config : SystemConfig

    Members
    -------
    iommu_regs, nic_regs : ``In(Axi4Lite)``
        Register pages of the two.
    iommu_config : ``In(Axi4Lite)``
        PCI configuration space of the IOMMU; those of the NIC are in its own map.
    memory : ``Out(Axi4)``, 128 bits
        DMA after translation.
    tables : ``Out(Axi4)``, 64 bits
        The IOMMU's own accesses: tables, queues, fences, interrupt messages.
    eth_rx, eth_tx : ``In(AxiStream)``, ``Out(AxiStream)``
        The Ethernet port.
    interrupts : ``Out(16)``
        The IOMMU's interrupt wires, level.
    nic_interrupt : ``Out(1)``
        Interrupt pin of the NIC's PF, level.
    """

    def __init__(self, config: SystemConfig):
        self.config = config
        self._nic = Nic(config.nic, address_bits=config.address_bits)
        self._iommu = Iommu(config.iommu, clients=2)
        self._bridge = Bridge(
            **bridge_options(config.iommu),
            slots=config.bridge_slots,
            data_width=config.nic.data_width,
            id_width=self._nic.id_width,
            beats=config.nic.max_burst_beats,
        )
        user = QosId if config.iommu.qosid else None
        ethernet = AxiStream(data_width=config.nic.data_width)
        super().__init__(
            {
                "iommu_regs": In(Axi4Lite(addr_width=PAGE_ADDR_WIDTH)),
                "iommu_config": In(Axi4Lite(addr_width=exact_log2(CONFIG_BYTES))),
                "nic_regs": In(Axi4Lite(addr_width=ADDRESS_BITS)),
                "memory": Out(
                    Axi4(
                        addr_width=config.iommu.pas,
                        data_width=config.nic.data_width,
                        id_width=self._nic.id_width,
                        user=user,
                    )
                ),
                "tables": Out(
                    Axi4(
                        addr_width=config.iommu.pas,
                        data_width=config.iommu.memory_width,
                        id_width=self._iommu.id_width,
                        user=user,
                    )
                ),
                "eth_rx": In(ethernet),
                "eth_tx": Out(ethernet),
                "interrupts": Out(MSI_CFG_TBL_ENTRIES),
                "nic_interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.nic = nic = self._nic
        m.submodules.iommu = iommu = self._iommu
        m.submodules.bridge = bridge = self._bridge
        connect(m, nic.dma, bridge.up)
        join(m, bridge, iommu)
        connect(m, nic.translate, iommu.translate1)
        for name in ("page_request", "invalidation_completion"):
            connect(m, getattr(nic, name), getattr(iommu, name))
        for name in ("group_response", "invalidation"):
            connect(m, getattr(iommu, name), getattr(nic, name))

        m.submodules.iommu_pci = iommu_pci = IommuPci()
        connect(m, flipped(self.iommu_config), iommu_pci.bus)
        m.d.comb += iommu.held.eq(iommu_pci.held)
        connect(m, flipped(self.iommu_regs), iommu.regs)
        connect(m, flipped(self.nic_regs), nic.regs)
        connect(m, bridge.down, flipped(self.memory))
        connect(m, iommu.memory, flipped(self.tables))
        connect(m, flipped(self.eth_rx), nic.eth_rx)
        connect(m, nic.eth_tx, flipped(self.eth_tx))
        m.d.comb += [
            self.interrupts.eq(iommu.interrupts),
            self.nic_interrupt.eq(nic.interrupt),
        ]
        return m


def main(arguments: list[str] | None = None) -> int:
    """Write Verilog of a configuration to a file or standard output."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        system = config(arguments[0] if arguments else "default")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    text = verilog.convert(System(system), name="system")
    if len(arguments) > 1:
        Path(arguments[1]).write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
