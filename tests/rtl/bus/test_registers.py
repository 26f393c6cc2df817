"""Register bank, decoder and AXI4-Lite front end."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from models.spec.registers import Access, Field, Register
from rtl.bus.axi import Axi4Lite
from rtl.bus.lite import LiteSubordinate
from rtl.bus.registers import RegisterBank, RegisterDecoder
from tests.rtl.agents import Registers, get, put, run

CONTROL = Register(
    name="control",
    offset=0,
    width=32,
    fields={
        "mode": Field(3, 0, Access.RW, ""),
        "flag": Field(8, 8, Access.RW1C, ""),
        "state": Field(17, 16, Access.RO, ""),
    },
)
BASE = Register(name="base", offset=8, width=64, fields={"address": Field(47, 4, Access.RW, "")})
COUNT = Register(name="count", offset=16, width=64, fields={"value": Field(63, 0, Access.RW, "")})


class Bench(wiring.Component):
    """A bank behind the front end, and a second one behind the decoder."""

    bus: wiring.In(Axi4Lite(addr_width=8))

    def __init__(self):
        super().__init__()
        self.bank = RegisterBank(
            [CONTROL, BASE, COUNT],
            addr_width=8,
            writable={"base": 0xFF_FFFF_FFFF},
            reset={"control": 5},
            loadable=["count"],
        )
        self.other = RegisterBank([CONTROL], addr_width=8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = LiteSubordinate(addr_width=8)
        m.submodules.decoder = decoder = RegisterDecoder(
            {"bank": None, "other": (128, 191)}, addr_width=8
        )
        m.submodules.bank, m.submodules.other = self.bank, self.other
        wiring.connect(m, wiring.flipped(self.bus), lite.bus)
        wiring.connect(m, lite.port, decoder.bus)
        wiring.connect(m, decoder.bank, self.bank.bus)
        m.d.comb += [
            self.other.bus.request.valid.eq(decoder.other.request.valid),
            decoder.other.request.ready.eq(self.other.bus.request.ready),
            self.other.bus.request.payload.eq(decoder.other.request.payload),
            self.other.bus.request.payload.addr.eq(decoder.other.request.payload.addr - 128),
            decoder.other.response.valid.eq(self.other.bus.response.valid),
            decoder.other.response.payload.eq(self.other.bus.response.payload),
            self.other.bus.response.ready.eq(decoder.other.response.ready),
        ]
        return m


def test_fields_follow_their_access_and_limits():
    dut = Bench()
    software = Registers(dut.bus)
    ones = []

    async def watch(ctx):
        while True:
            *_, value = await ctx.tick().sample(dut.bank.control_ones)
            if value:
                ones.append(value)

    async def testbench(ctx):
        ctx.set(dut.bank.control_in, {"flag": 1, "state": 2, "mode": 9})
        assert await software.read(ctx, CONTROL) == 5 | 1 << 8 | 2 << 16
        await software.write(ctx, CONTROL, 0xFFFF_FFFF)
        assert await software.read(ctx, CONTROL) == 15 | 1 << 8 | 2 << 16
        assert ones == [1 << 8]
        for high_first in (True, False):
            await software.write(ctx, BASE, 0, high_first=high_first)
            await software.write(ctx, BASE, 2**64 - 1, high_first=high_first)
            assert await software.read(ctx, BASE) == 0xFF_FFFF_FFF0
            assert ctx.get(dut.bank.base.address) == 0xF_FFFF_FFFF
        await software.write32(ctx, BASE.offset, 0x1234_5678, strb=0b0010)
        assert await software.read(ctx, BASE) == 0xFF_FFFF_56F0
        await software.write32(ctx, BASE.offset, 0, strb=0)
        assert await software.read(ctx, BASE) == 0xFF_FFFF_56F0
        for addr in (4, 24, 124):
            await software.write32(ctx, addr, 0xFFFF_FFFF)
            assert await software.read32(ctx, addr) == 0
        assert await software.read(ctx, CONTROL) == 15 | 1 << 8 | 2 << 16

    run(dut, testbench, background=[watch])


def test_decoder_reaches_the_other_bank():
    dut = Bench()
    software = Registers(dut.bus)

    async def testbench(ctx):
        await software.write32(ctx, 128, 3)
        assert await software.read32(ctx, 128) == 3
        assert await software.read32(ctx, 0) == 5
        assert await software.read32(ctx, 192) == 0

    run(dut, testbench)


def test_hardware_load_yields_to_software():
    dut = Bench()
    software = Registers(dut.bus)

    async def testbench(ctx):
        ctx.set(dut.bank.count_next, {"value": 0x1111_2222_3333_4444})
        ctx.set(dut.bank.count_load, 1)
        await ctx.tick()
        ctx.set(dut.bank.count_load, 0)
        assert await software.read(ctx, COUNT) == 0x1111_2222_3333_4444
        ctx.set(dut.bank.count_load, 1)
        seen = []
        ctx.set(dut.bus.aw.payload.addr, COUNT.offset)
        ctx.set(dut.bus.w.payload, {"data": 0xAAAA_AAAA, "strb": 15})
        ctx.set(dut.bus.aw.valid, 1)
        ctx.set(dut.bus.w.valid, 1)
        ctx.set(dut.bus.b.ready, 1)
        for _ in range(8):
            *_, ready, value = await ctx.tick().sample(dut.bus.aw.ready, dut.bank.count.value)
            if ready:
                ctx.set(dut.bus.aw.valid, 0)
                ctx.set(dut.bus.w.valid, 0)
            seen.append(value)
        # The other half is hardware's, in the very cycle of the write.
        assert seen.count(0x1111_2222_AAAA_AAAA) == 1

    run(dut, testbench)


def test_read_and_write_that_wait_together_take_turns():
    dut = Bench()
    order = []

    async def writes(ctx):
        for n in range(5):
            ctx.set(dut.bus.aw.payload.addr, 0)
            ctx.set(dut.bus.w.payload, {"data": n, "strb": 15})
            ctx.set(dut.bus.aw.valid, 1)
            ctx.set(dut.bus.w.valid, 1)
            await ctx.tick().until(dut.bus.aw.ready)
            ctx.set(dut.bus.aw.valid, 0)
            ctx.set(dut.bus.w.valid, 0)
            await get(ctx, dut.bus.b)
            order.append("w")

    async def reads(ctx):
        for n in range(5):
            await put(ctx, dut.bus.ar, {"addr": 0})
            order.append("r")
            answer = await get(ctx, dut.bus.r)
            assert answer.data & 15 in (n - 1, n, n + 1, 5)

    run(dut, writes, reads)
    assert len(order) == 10
    assert "www" not in "".join(order)
    assert "rrr" not in "".join(order)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="No register in this bank is called"):
        RegisterBank([CONTROL], addr_width=8, reset={"contrl": 1})
