"""PCI face of the IOMMU: its configuration space, and whether messages may go."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.nic import CONFIG_BYTES
from models.spec.pci import iommu_space
from rtl.bus.axi import Axi4Lite
from rtl.bus.lite import LiteSubordinate
from rtl.pci.store import ConfigStore

__all__ = ["IommuPci"]

_ADDRESS_BITS = exact_log2(CONFIG_BYTES)


class IommuPci(wiring.Component):
    """Configuration space of the IOMMU (:func:`models.spec.pci.iommu_space`).

    Latency
    -------
    An access takes three cycles more than :class:`~rtl.bus.lite.LiteSubordinate` does.

    Members
    -------
    bus : ``In(Axi4Lite)``
        The 4 KiB of configuration space.
    held : ``Out(1)``
        Messages may not go: MSI-X is disabled or masked, or the IOMMU is no bus master or not
        in D0.
    """

    bus: In(Axi4Lite(addr_width=_ADDRESS_BITS))
    held: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = LiteSubordinate(addr_width=_ADDRESS_BITS)
        m.submodules.store = store = ConfigStore((iommu_space(),), 1)
        connect(m, flipped(self.bus), lite.bus)
        connect(m, store.answer, lite.port.response)
        request, access, commit = lite.port.request, store.access, store.commit
        m.d.comb += [
            access.valid.eq(request.valid),
            request.ready.eq(access.ready),
            access.payload.word.eq(request.payload.addr[2:]),
            access.payload.write.eq(request.payload.write),
            access.payload.data.eq(request.payload.data),
            access.payload.strb.eq(request.payload.strb),
        ]
        state = {}
        for name, field in (
            ("command", "bus_master"),
            ("msix_control", "enable"),
            ("msix_control", "function_mask"),
            ("pm_control", "power_state"),
        ):
            register = iommu_space()[name]
            entry, shift = register[field], 8 * (register.offset & 3)
            state[field] = value = Signal(entry.high - entry.low + 1, name=field)
            with m.If(commit.en & (commit.word == register.offset // 4)):
                m.d.sync += value.eq(commit.value[shift + entry.low : shift + entry.high + 1])
        wanted = commit.ones[:2]
        power = iommu_space()["pm_control"].offset // 4
        with m.If((commit.word == power) & ((wanted == 1) | (wanted == 2))):
            m.d.comb += store.refused.eq(3)
        allowed = state["bus_master"] & state["enable"] & ~state["function_mask"]
        m.d.comb += self.held.eq(~(allowed & (state["power_state"] == 0)))
        return m
