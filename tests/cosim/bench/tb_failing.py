"""Runs that must fail, each with a clear message."""

import cocotb

from cosim.bench.machine import Machine
from tests.cosim.bench.tb_passage import RAM, prepared


@cocotb.test()
async def hang(dut):
    bench, _, _ = await prepared(dut)
    while True:
        await Machine(bench, {}).sleep(10)


@cocotb.test()
async def unanswered_register(dut):
    bench, _, _ = await prepared(dut)
    machine = Machine(bench, {"regs": "regs"})
    await machine.mmio_read("regs", 0xFC)


@cocotb.test()
async def posted_error(dut):
    bench, _, _ = await prepared(dut)
    machine = Machine(bench, {"regs": "regs"})
    machine.mmio_post("regs", 0x80, 1)
    await machine.sleep(1000)


@cocotb.test()
async def wrong_last(dut):
    bench, _, _ = await prepared(dut)
    fields = {"addr": RAM, "len": 1, "size": 3, "burst": 1}
    bench.stream("wide_in__aw").put(fields)
    bench.stream("wide_in__w").put({"strb": 0xFF, "last": 1})
    await Machine(bench, {}).sleep(100)


@cocotb.test()
async def wrong_strobe(dut):
    bench, _, _ = await prepared(dut)
    bench.stream("wide_in__aw").put({"addr": RAM + 4, "len": 0, "size": 2, "burst": 1})
    bench.stream("wide_in__w").put({"strb": 0x01, "last": 1})
    await Machine(bench, {}).sleep(100)


@cocotb.test()
async def too_long(dut):
    bench, _, _ = await prepared(dut)
    bench.stream("wide_in__ar").put({"addr": RAM + 4088, "len": 1, "size": 3, "burst": 1})
    await Machine(bench, {}).sleep(100)
