"""Judges what was read from a directory, and takes it apart."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import DeviceContext, DeviceContextBase, NonLeafEntry, ProcessContext
from rtl.iommu.context_checks import (
    device_context,
    device_rules,
    pointer_rules,
    process_rules,
    process_state,
)
from rtl.iommu.requests import Context, ProcessState

__all__ = ["ContextJudge"]


class ContextJudge(wiring.Component):
    """Checks a non-leaf entry, a device context or a process context, whichever is at the end
    (the high bits) of ``raw``.

    Latency
    -------
    ``present`` and ``wrong`` follow one cycle after the other inputs, the rest in the same cycle.

    Members
    -------
    raw : ``In(context_bits)``
        Doublewords in our byte order, last one on top.
    pointer : ``In(1)``; of_process : ``In(1)``
        Kind of what is judged: a non-leaf entry of any directory; else a process context.
    be, gxl, sxl : ``In(1)``
        fctl.BE, fctl.GXL, and for process contexts tc.SXL of the device context.
    present : ``Out(1)``; wrong : ``Out(1)``
        V; and whether a check fails.
    table : ``Out(44)``; context : ``Out(Context)``; process : ``Out(ProcessState)``
        What it says, as one of each.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.layout = DeviceContext if config.msi_flat else DeviceContextBase
        self.context_bits = self.layout.as_shape().size
        super().__init__(
            {
                "raw": In(self.context_bits),
                "pointer": In(1),
                "of_process": In(1),
                "be": In(1),
                "gxl": In(1),
                "sxl": In(1),
                "present": Out(1),
                "wrong": Out(1),
                "table": Out(44),
                "context": Out(Context),
                "process": Out(ProcessState),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        dc, pc, entry = Signal(self.layout), Signal(ProcessContext), Signal(NonLeafEntry)
        m.d.comb += [dc.eq(self.raw), pc.eq(self.raw[-128:]), entry.eq(self.raw[-64:])]

        # Rules, a register, and the sum of what applies.
        device = Cat(device_rules(config, dc, be=self.be, gxl=self.gxl))
        process = Cat(process_rules(config, pc, sxl=self.sxl))
        pointer = Cat(pointer_rules(entry))
        broken_device, broken_process = Signal(len(device)), Signal(len(process))
        broken_pointer = Signal(len(pointer))
        m.d.sync += [
            broken_device.eq(device),
            broken_process.eq(process),
            broken_pointer.eq(pointer),
            self.present.eq(Mux(self.pointer, entry.v, Mux(self.of_process, pc.ta.v, dc.tc.v))),
        ]
        leaf = Mux(self.of_process, broken_process.any(), broken_device.any())
        m.d.comb += self.wrong.eq(Mux(self.pointer, broken_pointer.any(), leaf))

        made = device_context(config, dc, gxl=self.gxl)
        state = process_state(config, pc, sxl=self.sxl)
        m.d.comb += self.table.eq(entry.ppn)
        m.d.comb += [self.context[name].eq(value) for name, value in made.items()]
        m.d.comb += [self.process[name].eq(value) for name, value in state.items()]
        return m
