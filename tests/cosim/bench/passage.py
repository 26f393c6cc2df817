"""A design for testing the bench's buses: two AXI4 passages of different width."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus.axi import Axi4, Axi4Lite, Resp

__all__ = ["Passage"]

WIDE = Axi4(addr_width=56, data_width=64, id_width=4, user=12)
NARROW = Axi4(addr_width=40, data_width=32, id_width=8)


class Passage(wiring.Component):
    """Hands bursts from each subordinate to the manager beside it; counts register writes."""

    wide_in: In(WIDE)
    wide: Out(WIDE)
    narrow_in: In(NARROW)
    narrow: Out(NARROW)
    regs: In(Axi4Lite(addr_width=8))

    def elaborate(self, platform):
        m = Module()
        connect(m, flipped(self.wide_in), flipped(self.wide))
        connect(m, flipped(self.narrow_in), flipped(self.narrow))
        regs = self.regs
        m.d.comb += [
            regs.aw.ready.eq(regs.w.valid & (~regs.b.valid | regs.b.ready)),
            regs.w.ready.eq(regs.aw.valid & (~regs.b.valid | regs.b.ready)),
            regs.ar.ready.eq(~regs.r.valid | regs.r.ready),
        ]
        with m.If(regs.b.ready):
            m.d.sync += regs.b.valid.eq(0)
        with m.If(regs.aw.valid & regs.aw.ready):
            m.d.sync += [
                regs.b.valid.eq(1),
                regs.b.payload.resp.eq(regs.aw.payload.addr[-1].replicate(2) & Resp.SLVERR),
            ]
            with m.If(~regs.aw.payload.addr[-1]):
                m.d.sync += regs.r.payload.data.eq(regs.r.payload.data + regs.w.payload.data)
        with m.If(regs.r.ready):
            m.d.sync += regs.r.valid.eq(0)
        with m.If(regs.ar.valid & regs.ar.ready):
            m.d.sync += regs.r.valid.eq(regs.ar.payload.addr != 0xFC)  # which is never answered
        return m
