"""An IOMMU with one AXI4 port: what goes in front of any DMA-capable device.

``python -m rtl.iommu_bridge [CONFIG] [FILE]`` writes Verilog of a named configuration.
"""

import sys
from dataclasses import replace
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig, config
from models.spec.iommu_registers import MSI_CFG_TBL_ENTRIES
from models.spec.translation import DmaUser
from rtl.bus.axi import Axi4, Axi4Lite
from rtl.iommu.admission import IOVA_BITS
from rtl.iommu.bridge import Bridge, bridge_options, join
from rtl.iommu.iommu import Iommu
from rtl.iommu.register_file import PAGE_ADDR_WIDTH
from rtl.iommu.requests import QosId
from rtl.iommu.seams import TranslationPort

__all__ = ["IommuWithBridge", "main"]


class IommuWithBridge(wiring.Component):
    """An IOMMU, a bridge for one AXI4 manager, and a translation port for its ATS requests.

    ATS and PRI messages are left out: capabilities.ATS is 0 in ``config``.

    Parameters
    ----------
    config : IommuConfig
    data_width, id_width : int
        Of the AXI4 port.
    slots, beats : int
        Bursts under way per direction and beats of the longest write; see
        :class:`~rtl.iommu.bridge.Bridge`.

    Members
    -------
    regs : ``In(Axi4Lite)``
        Register page.
    dma : ``In(Axi4)``
        IOVAs, with a DmaUser.
    translate : ``In(TranslationPort)``
        Translations without an access.
    memory : ``Out(Axi4)``
        DMA after translation.
    tables : ``Out(Axi4)``, 64 bits
        The IOMMU's own accesses.
    interrupts : ``Out(16)``
        Wires by vector, level.
    """

    def __init__(
        self,
        config: IommuConfig,
        *,
        data_width: int = 64,
        id_width: int = 4,
        slots: int = 16,
        beats: int = 32,
    ):
        self.config = replace(config, ats=False, t2gpa=False)
        self._iommu = Iommu(self.config, clients=2)
        bus = {"data_width": data_width, "id_width": id_width}
        self._bridge = Bridge(**bridge_options(config), slots=slots, beats=beats, **bus)
        user = QosId if config.qosid else None
        super().__init__(
            {
                "regs": In(Axi4Lite(addr_width=PAGE_ADDR_WIDTH)),
                "dma": In(Axi4(addr_width=IOVA_BITS, user=DmaUser, **bus)),
                "translate": In(TranslationPort()),
                "memory": Out(Axi4(addr_width=config.pas, user=user, **bus)),
                "tables": Out(self._iommu.signature.members["memory"].signature),
                "interrupts": Out(MSI_CFG_TBL_ENTRIES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.iommu = iommu = self._iommu
        m.submodules.bridge = bridge = self._bridge
        connect(m, flipped(self.regs), iommu.regs)
        connect(m, flipped(self.dma), bridge.up)
        join(m, bridge, iommu)
        connect(m, flipped(self.translate), iommu.translate1)
        connect(m, bridge.down, flipped(self.memory))
        connect(m, iommu.memory, flipped(self.tables))
        m.d.comb += [
            iommu.group_response.ready.eq(1),
            iommu.invalidation.ready.eq(1),
            self.interrupts.eq(iommu.interrupts),
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
    text = verilog.convert(IommuWithBridge(system.iommu), name="iommu_with_bridge")
    if len(arguments) > 1:
        Path(arguments[1]).write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
