"""What the bench promises, from inside the simulator."""

import cocotb
import numpy as np
from cocotb.triggers import Timer

from cosim.bench.machine import Bench, Machine, options, report

RAM, FAR = 0x8000_0000, 0x40_0000_0000


async def copy(bench: Bench, source: int, target: int, tag: int):
    bench.stream("command").put({"source": source, "target": target, "tag": tag})
    done = await bench.stream("done").get(2_000)
    assert done.tag == tag
    return done.read, done.write


async def prepared(dut) -> tuple[Bench, Machine]:
    bench = Bench(dut)
    bench.timing("bus", latency=10, jitter=20, seed=options()["seed"])
    for name in ("done", "echo_out", "level_plus_one"):
        bench.stream(name).listen()
    machine = Machine(bench, {"regs": "regs"})
    await bench.start()
    return bench, machine


@cocotb.test()
async def everything(dut):
    bench, machine = await prepared(dut)
    rng = np.random.default_rng(options()["seed"])
    ram, far = bench.memory.map(RAM, 1 << 32), bench.memory.map(FAR, 1 << 20)
    bench.stream("echo.sink").log()

    # Copies between sparse regions; Python sees and changes the bytes without any call.
    ram[:64] = rng.integers(0, 256, 64, np.uint8)
    seen = []
    bench.watch(FAR + 0x40, 16, lambda address, value, cycle: seen.append((address, value)))
    for i in range(4):
        assert await copy(bench, RAM + 16 * i, FAR + 0x40 + 16 * i, 7 + i) == (0, 0)
    assert np.array_equal(far[0x40:0x80], ram[:64])
    assert seen == [(FAR + 0x40 + 4 * i, int(ram[4 * i : 4 * i + 4].view("<u4")[0]))
                    for i in range(4)]  # fmt: skip

    # Errors: of a range, and of nothing mapped.
    bench.memory.fault(RAM, 16, read=2)
    bench.memory.fault(FAR, 16, write=3)
    assert await copy(bench, RAM, FAR + 16, 1) == (2, 0)
    assert await copy(bench, RAM + 16, FAR, 2) == (0, 3)
    assert await copy(bench, 0x1000, FAR + 32, 3) == (3, 0)
    bench.memory.clear_faults()

    # Streams under stalls, registers, signals, frames.
    bench.stream("echo_out").stall(0.6, seed=3)
    bench.stream("echo_in").stall(0.3, seed=4)
    for i in range(50):
        bench.stream("echo_in").put(1000 + i)
    assert [await bench.stream("echo_out").get() for _ in range(50)] == [
        (1000 + i) ^ 1 for i in range(50)
    ]
    await machine.mmio_write("regs", 8, 0x11223344)
    await machine.mmio_write("regs", 9, 0xAB, size=1)
    assert await machine.mmio_read("regs", 0x5C) == 0x5C22AB44
    assert await machine.mmio_read("regs", 0x5D, size=1) == 0xAB
    bench.stream("level").put(9)
    assert [await bench.stream("level_plus_one").get() for _ in range(2)] == [1, 10]
    frames = []
    bench.on_frame(lambda frame, cycle: frames.append(frame))
    sent = [bytes(rng.integers(0, 256, size, np.uint8)) for size in (1, 15, 16, 17, 64, 1514)]
    for frame in sent:
        bench.send_frame(frame)
    await Timer(2_000, "ns")
    assert frames == sent

    log = bench.take_log("echo.sink")
    assert list(log["words"][:, 0]) == [1000 + i for i in range(50)], "the tap saw other payloads"
    assert (np.diff(log["cycle"]) > 0).all()
    report({"digest": f"{bench.library.digest:016x}", "cycle": bench.library.cycle})


@cocotb.test()
async def a_second_test_starts_from_nothing(dut):
    bench, _ = await prepared(dut)
    far = bench.memory.map(FAR, 1 << 20)
    assert not far.any()
    assert await copy(bench, RAM, FAR, 5) == (3, 0)


@cocotb.test()
async def silence_is_an_error(dut):
    bench, _ = await prepared(dut)
    try:
        await bench.stream("done").get(50)
    except cocotb.triggers.SimTimeoutError:
        return
    raise AssertionError("waiting for nothing must end")
