"""From AXI4-Lite to plain register accesses."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.axi import Axi4Lite, Resp

__all__ = ["LiteSubordinate", "RegisterPort"]


class RegisterPort(wiring.Signature):
    """Accesses of 32 bits, one at a time, each answered once, as their requester sees it.

    Members
    -------
    request : ``Out(stream)`` of ``addr`` (bytes), ``write``, ``data``, ``strb``
    response : ``In(stream)`` of 32 bits; 0 for writes
    """

    def __init__(self, *, addr_width):
        self.addr_width = addr_width
        request = data.StructLayout({"addr": addr_width, "write": 1, "data": 32, "strb": 4})
        super().__init__(
            {"request": Out(stream.Signature(request)), "response": In(stream.Signature(32))}
        )


class LiteSubordinate(wiring.Component):
    """AXI4-Lite subordinate in front of a register port.

    One access at a time; a read and a write that wait together are served in turn.  Every access
    is answered OKAY: what lies behind defines unmapped addresses.

    Latency
    -------
    From a request accepted to its response offered: two cycles and what the port takes.

    Parameters
    ----------
    addr_width : int
        Bits of a byte address.

    Members
    -------
    bus : ``In(Axi4Lite)``
    port : ``Out(RegisterPort)``
    """

    def __init__(self, *, addr_width):
        super().__init__(
            {
                "bus": In(Axi4Lite(addr_width=addr_width)),
                "port": Out(RegisterPort(addr_width=addr_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, port = self.bus, self.port
        wrote = Signal()  # the access under way, or the last one, is a write
        write, read = Signal(), Signal()
        m.d.comb += [
            write.eq(bus.aw.valid & bus.w.valid & ~(wrote & bus.ar.valid)),
            read.eq(bus.ar.valid & ~write),
            bus.b.payload.resp.eq(Resp.OKAY),
            bus.r.payload.resp.eq(Resp.OKAY),
        ]
        request = port.request.payload
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [bus.aw.ready.eq(write), bus.w.ready.eq(write), bus.ar.ready.eq(read)]
                m.d.sync += request.data.eq(bus.w.payload.data)
                with m.If(write):
                    m.d.sync += [
                        request.addr.eq(bus.aw.payload.addr),
                        request.strb.eq(bus.w.payload.strb),
                    ]
                with m.Else():
                    m.d.sync += [request.addr.eq(bus.ar.payload.addr), request.strb.eq(0)]
                with m.If(write | read):
                    m.d.sync += [
                        wrote.eq(write),
                        request.write.eq(write),
                        port.request.valid.eq(1),
                    ]
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                with m.If(port.request.ready):
                    m.d.sync += port.request.valid.eq(0)
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += port.response.ready.eq(1)
                m.d.sync += bus.r.payload.data.eq(port.response.payload)
                with m.If(port.response.valid):
                    m.d.sync += [bus.b.valid.eq(wrote), bus.r.valid.eq(~wrote)]
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If((bus.b.valid & bus.b.ready) | (bus.r.valid & bus.r.ready)):
                    m.d.sync += [bus.b.valid.eq(0), bus.r.valid.eq(0)]
                    m.next = "IDLE"
        return m
