"""A design with every kind of port, for testing the bench: copies words, echoes, inverts frames."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus.axi import Axi4, Axi4Lite, AxiStream, Burst

__all__ = ["COMMAND", "Copier"]

COMMAND = data.StructLayout({"source": 64, "target": 64, "tag": 8})


class Echo(wiring.Component):
    """Passes a payload on, one cycle later, with its low bit inverted."""

    sink: In(stream.Signature(32))
    source: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.sink.ready.eq(~self.source.valid | self.source.ready)
        with m.If(self.sink.ready):
            m.d.sync += [
                self.source.valid.eq(self.sink.valid),
                self.source.payload.eq(self.sink.payload ^ 1),
            ]
        return m


class Copier(wiring.Component):
    """Copies 16 bytes from one address to another per command; reports tag and response codes."""

    command: In(stream.Signature(COMMAND))
    done: Out(stream.Signature(data.StructLayout({"tag": 8, "read": 2, "write": 2})))
    bus: Out(Axi4(addr_width=56, data_width=128, id_width=4, user=8))
    regs: In(Axi4Lite(addr_width=8))
    echo_in: In(stream.Signature(32))
    echo_out: Out(stream.Signature(32))
    eth_rx: In(AxiStream(data_width=128))
    eth_tx: Out(AxiStream(data_width=128))
    level: In(4)
    level_plus_one: Out(5)

    def elaborate(self, platform):
        m = Module()
        m.submodules.echo = echo = Echo()
        connect(m, flipped(self.echo_in), echo.sink)
        connect(m, echo.source, flipped(self.echo_out))
        m.d.sync += self.level_plus_one.eq(self.level + 1)
        m.d.comb += [
            self.eth_tx.payload.eq(self.eth_rx.payload),
            self.eth_tx.valid.eq(self.eth_rx.valid),
            self.eth_rx.ready.eq(self.eth_tx.ready),
        ]
        self._copy(m)
        self._registers(m)
        return m

    def _copy(self, m: Module) -> None:
        bus, held = self.bus, Signal(128)
        command, status = Signal(COMMAND), Signal(2)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += command.eq(self.command.payload)
                with m.If(self.command.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += bus.ar.valid.eq(1)
                with m.If(bus.ar.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += bus.r.ready.eq(1)
                m.d.sync += [held.eq(bus.r.payload.data), status.eq(bus.r.payload.resp)]
                with m.If(bus.r.valid):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += bus.aw.valid.eq(1)
                with m.If(bus.aw.ready):
                    m.next = "BEAT"
            with m.State("BEAT"):
                m.d.comb += bus.w.valid.eq(1)
                with m.If(bus.w.ready):
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += [
                    bus.b.ready.eq(self.done.ready),
                    self.done.valid.eq(bus.b.valid),
                    self.done.payload.tag.eq(command.tag),
                    self.done.payload.read.eq(status),
                    self.done.payload.write.eq(bus.b.payload.resp),
                ]
                with m.If(bus.b.valid & self.done.ready):
                    m.next = "IDLE"
        for address, value in ((bus.ar, command.source), (bus.aw, command.target)):
            m.d.comb += [
                address.payload.addr.eq(value),
                address.payload.size.eq(4),
                address.payload.burst.eq(Burst.INCR),
                address.payload.id.eq(command.tag),
                address.payload.user.eq(command.tag),
            ]
        m.d.comb += [
            bus.w.payload.data.eq(held),
            bus.w.payload.strb.eq(0xFFFF),
            bus.w.payload.last.eq(1),
        ]

    def _registers(self, m: Module) -> None:
        regs = self.regs
        word = Signal(32)
        take = Signal()
        m.d.comb += [
            take.eq(regs.aw.valid & regs.w.valid & ~regs.b.valid),
            regs.aw.ready.eq(take),
            regs.w.ready.eq(take),
            regs.ar.ready.eq(~regs.r.valid),
        ]
        with m.If(take):
            m.d.sync += regs.b.valid.eq(1)
            for i in range(4):
                with m.If(regs.w.payload.strb[i]):
                    m.d.sync += word.word_select(i, 8).eq(regs.w.payload.data.word_select(i, 8))
        with m.If(regs.b.valid & regs.b.ready):
            m.d.sync += regs.b.valid.eq(0)
        with m.If(regs.ar.valid & regs.ar.ready):
            m.d.sync += [
                regs.r.valid.eq(1),
                regs.r.payload.data.eq(Cat(word[:24], regs.ar.payload.addr)),
            ]
        with m.If(regs.r.valid & regs.r.ready):
            m.d.sync += regs.r.valid.eq(0)
