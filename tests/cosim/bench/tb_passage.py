"""What the simulated memory and the drivers of buses promise, from inside the simulator."""

import os
import random
import socket
import subprocess
import sys

import cocotb
import numpy as np
import pytest

from cosim.bench.bench import Bench, options, report
from cosim.bench.initiator import Initiator
from cosim.bench.machine import Machine
from rtl.bus.axi import Resp

RAM, FAR, SIZE = 0x8000_0000, 0x7F_0000_0000_0000, 1 << 20


async def prepared(dut) -> tuple[Bench, Initiator, Initiator]:
    bench = Bench(dut)
    bench.memory.map(RAM, SIZE)
    wide, narrow = Initiator(bench, "wide_in"), Initiator(bench, "narrow_in")
    await bench.start()
    return bench, wide, narrow


def random_burst(rng: random.Random, bus: int) -> tuple[int, int, int]:
    """Return offset in a page, size and bytes of a beat; aligned or not, narrow or not."""
    step = rng.choice([1 << i for i in range(bus.bit_length()) if 1 << i <= bus])
    offset = rng.randrange(4095)
    size = rng.randint(1, min(4096 - offset, rng.choice([1, 8, 64, 250 * step])))
    return offset, size, step


@cocotb.test()
async def random_bursts_read_and_write_what_they_should(dut):
    rng = random.Random(options()["seed"])
    bench, wide, narrow = await prepared(dut)
    bench.timing("wide", latency=5, jitter=40, seed=rng.randrange(1 << 30))
    bench.timing("narrow", latency=0, jitter=3, seed=rng.randrange(1 << 30))
    for name in ("wide", "narrow"):
        for channel in ("ar", "aw", "w", "r", "b"):
            bench.stall(f"{name}.{channel}", rng.choice([0, 0.2, 0.7]), rng.randrange(1 << 30))
    model = np.zeros(SIZE, np.uint8)
    for _ in range(20):
        pages = rng.sample(range(SIZE // 4096), 6)
        writes = []
        for page in pages:
            port = rng.choice([wide, narrow])
            offset, size, step = random_burst(rng, port.bus_bytes)
            data, mask = rng.randbytes(size), bytes(rng.randrange(4) > 0 for _ in range(size))
            at = 4096 * page + offset
            where = np.frombuffer(mask, bool)
            model[at : at + size][where] = np.frombuffer(data, np.uint8)[where]
            how = {"id": rng.randrange(16), "step": step, "mask": mask}
            writes.append(port.start_write(RAM + at, data, **how))
        for write in writes:
            assert (await write.wait()).resps == [Resp.OKAY]
        reads = []
        for page in pages:
            port = rng.choice([wide, narrow])
            offset, size, step = random_burst(rng, port.bus_bytes)
            how = {"id": rng.randrange(16), "step": step}
            reads.append(port.start_read(RAM + 4096 * page + offset, size, **how))
        for read in reads:
            await read.wait()
            at = read.address - RAM
            assert read.data == model[at : at + read.size].tobytes(), hex(read.address)
            assert read.resps == [Resp.OKAY] * read.beats
    assert bench.memory.read(RAM, SIZE) == model.tobytes()
    assert bench.library.count(0, "writes") + bench.library.count(1, "writes") == 120
    report({"digest": f"{bench.library.digest:016x}", "cycle": bench.library.cycle})


@cocotb.test()
async def longest_burst_and_latency(dut):
    """A read of 256 beats; latency moves the end of a transfer by exactly as many cycles."""
    bench, wide, narrow = await prepared(dut)
    machine = Machine(bench, {"regs": "regs"})
    view = bench.memory.view(RAM, 1024)
    view[:] = np.arange(1024) % 251
    read = await narrow.read(RAM, 1024)
    assert (read.beats, read.data) == (256, view.tobytes())
    took = []
    for latency in (3, 53):
        bench.timing("wide", latency=latency)
        await machine.sleep(3)
        start = machine.now()
        took.append((await wide.read(RAM, 8)).cycle - start)
    assert took[1] - took[0] == 50
    for cycles in (1, 2, 7):  # after an event, at an edge; and between edges
        start = machine.now()
        await machine.sleep(cycles)
        assert machine.now() == start + cycles


@cocotb.test()
async def answers_overtake_unless_in_order(dut):
    bench, wide, _ = await prepared(dut)
    for in_order in (True, False):
        bench.timing("wide", latency=5, jitter=60, seed=3, in_order=in_order)
        reads = [wide.start_read(RAM + 8 * i, 8, id=i % 4) for i in range(16)]
        ends = [(await read.wait()).cycle for read in reads]
        assert (ends == sorted(ends)) == in_order
        for identifier in range(4):
            assert ends[identifier::4] == sorted(ends[identifier::4]), "one ID must stay in order"


@cocotb.test()
async def errors_by_address(dut):
    bench, wide, _ = await prepared(dut)
    bench.memory.write(RAM, bytes(range(64)))
    bench.memory.fault(RAM + 16, 8, read=Resp.SLVERR)
    bench.memory.fault(RAM + 33, 1, write=Resp.DECERR)
    read = await wide.read(RAM, 64)
    assert read.resps == [0, 0, 2, 0, 0, 0, 0, 0], "one beat of eight fails"
    assert read.data[16:24] == bytes(8)
    assert read.data[:16] + read.data[24:] == bytes([*range(16), *range(24, 64)])
    assert (await wide.write(RAM + 16, bytes(8))).resp == Resp.OKAY, "only reads fail here"
    assert (await wide.write(RAM + 32, b"\xaa" * 16)).resp == Resp.DECERR
    assert bench.memory.read(RAM + 32, 16) == bytes(range(32, 40)) + b"\xaa" * 8
    assert (await wide.write(RAM + 32, b"\xbb" * 8, mask=b"\1\0\1\1\1\1\1\1")).resp == Resp.OKAY
    assert (await wide.read(RAM + SIZE, 8)).resp == Resp.DECERR
    assert (await wide.write(RAM + SIZE, bytes(8))).resp == Resp.DECERR
    bench.memory.clear_faults()
    assert (await wide.read(RAM, 64)).resp == Resp.OKAY


@cocotb.test()
async def exclusive_accesses(dut):
    bench, wide, narrow = await prepared(dut)

    async def reserve(identifier: int = 1) -> None:
        read = await wide.read(RAM + 64, 8, id=identifier, lock=True)
        assert read.resp == Resp.EXOKAY

    async def attempt(value: bytes, identifier: int = 1) -> int:
        return (await wide.write(RAM + 64, value, id=identifier, lock=True)).resp

    assert await attempt(b"unasked!") == Resp.OKAY
    await reserve()
    assert await attempt(b"reserved") == Resp.EXOKAY
    assert bench.memory.read(RAM + 64, 8) == b"reserved"
    assert await attempt(b"again???") == Resp.OKAY, "a reservation serves once"
    await reserve()
    await narrow.write(RAM + 67, b"V")
    assert await attempt(b"too late") == Resp.OKAY
    assert bench.memory.read(RAM + 64, 8) == b"resVrved"
    await reserve()
    bench.memory.write(RAM + 64, b"software")
    assert await attempt(b"too late") == Resp.OKAY
    await reserve(1)
    await reserve(2)
    await narrow.write(RAM + 72, b"beside")
    assert await attempt(b"second  ", 2) == Resp.EXOKAY
    assert await attempt(b"first   ", 1) == Resp.OKAY
    assert bench.memory.read(RAM + 64, 14) == b"second  beside"
    bench.memory.fault(RAM + 64, 8, read=Resp.SLVERR)
    assert (await wide.read(RAM + 64, 8, id=1, lock=True)).resp == Resp.SLVERR
    assert await attempt(b"no right") == Resp.OKAY


@cocotb.test()
async def watched_writes_tell_everything(dut):
    bench, wide, _ = await prepared(dut)
    seen, words = [], []
    bench.memory.map(FAR, 4096)
    bench.watch_writes(FAR + 0x100, 0x10, seen.append)
    bench.watch(FAR + 0x100, 0x10, lambda address, value, cycle: words.append((address, value)))
    await wide.write(FAR + 0xF8, bytes(range(32)), user=0xABC)
    await wide.write(FAR + 0x106, b"\x77\x88", id=3)
    await wide.write(FAR + 0x10E, b"x", mask=b"\0")
    await wide.write(FAR + 0x110, b"outside.")
    assert [(w.address - FAR, w.strobe, w.manager, w.user) for w in seen] == [
        (0x100, 0xFF, 0, 0xABC),
        (0x108, 0xFF, 0, 0xABC),
        (0x100, 0xC0, 0, 0),
    ]
    assert seen[1].data[:8] == bytes(range(16, 24))
    assert words == [
        (FAR + 0x100, 0x0B0A0908),
        (FAR + 0x104, 0x0F0E0D0C),
        (FAR + 0x108, 0x13121110),
        (FAR + 0x10C, 0x17161514),
        (FAR + 0x104, 0x88770000),
    ]
    assert bench.memory.read(FAR + 0x106, 2) == b"\x77\x88", "watched writes are stored as well"


@cocotb.test()
async def registers_keep_their_order(dut):
    bench, _, _ = await prepared(dut)
    machine = Machine(bench, {"regs": "regs"})
    total = 0
    for value in range(1, 20):
        machine.mmio_post("regs", 0x10, value)
        total += value
        if value % 3 == 0:
            assert await machine.mmio_read("regs", 0x20) == total, "a read overtook a posted write"
    await machine.mmio_write("regs", 0x10, 0x1_0000_0005, size=8)
    assert await machine.mmio_read("regs", 0x20, size=8) == (total + 6) << 32 | total + 6
    assert await machine.mmio_read("regs", 0x22, size=2) == 0
    for bad in ((0x11, 0, 4), (0x10, 0, 3), (0x10, 1 << 16, 2)):
        with pytest.raises(ValueError, match=r"must be aligned|does not fit"):
            await machine.mmio_write("regs", *bad)
    with pytest.raises(ValueError, match="Register write at 0x80 was answered 2"):
        await machine.mmio_write("regs", 0x80, 1)


HELPER = """
import mmap, os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as link:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 1 << 16)
    ram = mmap.mmap(fd, 1 << 16)
    ram[:8] = b"question"
    socket.send_fds(link, [b"m"], [fd])
    assert link.recv(1) == b"?"
    link.sendall(ram[4096:4104])
"""


@cocotb.test()
async def another_process_shares_memory(dut):
    bench, wide, _ = await prepared(dut)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", HELPER, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as helper:
            _, fds, _, _ = socket.recv_fds(ours, 16, 1)
            bench.memory.map(FAR, 1 << 16, fd=fds[0])
            os.close(fds[0])
            assert (await wide.read(FAR, 8)).data == b"question"
            await wide.write(FAR + 4096, b"answered")
            ours.sendall(b"?")
            assert ours.recv(8) == b"answered"
            assert helper.wait(timeout=10) == 0


@cocotb.test()
async def time_in_python_is_measured(dut):
    bench, _, _ = await prepared(dut)
    machine = Machine(bench, {"regs": "regs"})
    await machine.sleep(20_000)
    idle = bench.usage()
    assert 0 <= idle.python_share < 0.5
    assert abs(idle.cycles - 20_000) <= 4
    await bench.start()
    for _ in range(50):
        await machine.sleep(4)
        sum(range(40_000))
    busy = bench.usage()
    assert 0.8 < busy.python_share <= 1
    assert busy.cycles < 300
    report({"idle_share": idle.python_share, "busy_share": busy.python_share})
