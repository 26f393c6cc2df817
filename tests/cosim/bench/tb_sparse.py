"""What sparse memory promises, from inside the simulator."""

import random

import cocotb
import pytest

from cosim.bench.bench import Bench, options, report
from cosim.bench.initiator import Initiator
from models.memory import Memory
from rtl.bus.axi import Resp

BITS = 50
TOP = 1 << BITS
RAM, SIZE = 0x8000_0000, 1 << 16


async def prepared(dut) -> tuple[Bench, Initiator, Initiator]:
    bench = Bench(dut)
    bench.memory.map(RAM, SIZE)
    bench.memory.sparse(BITS)
    wide, narrow = Initiator(bench, "wide_in"), Initiator(bench, "narrow_in")
    await bench.start()
    return bench, wide, narrow


@cocotb.test()
async def agrees_with_a_model(dut):
    """Bursts and Python write to few and many pages, low and high; both read the same."""
    rng = random.Random(options()["seed"])
    bench, wide, narrow = await prepared(dut)
    for name in ("wide", "narrow"):
        bench.timing(name, latency=2, jitter=30, seed=rng.randrange(1 << 30))
        for channel in ("ar", "aw", "w", "r", "b"):
            bench.stall(f"{name}.{channel}", rng.choice([0, 0.3]), rng.randrange(1 << 30))
    model, pages = Memory(BITS), [0, 1, RAM >> 12, (RAM + SIZE >> 12), (1 << 28) - 1]
    pages += [(TOP >> 12) - 1, *(rng.randrange(TOP >> 12) for _ in range(60))]
    for page in pages:
        port = narrow if page < 1 << 28 and rng.random() < 0.5 else wide
        offset = rng.randrange(4096)
        data = rng.randbytes(rng.randint(1, min(4096 - offset, 100)))
        at = (page << 12) + offset
        model.write(at, data)
        if rng.random() < 0.3:
            bench.memory.write(at, data)
        else:
            assert (await port.write(at, data, id=rng.randrange(16))).resp == Resp.OKAY
    for page in pages:
        read = await wide.read(page << 12, 2048)
        assert read.resps == [Resp.OKAY] * read.beats
        assert read.data == model.read(page << 12, 2048), hex(page)
        assert bench.memory.read(page << 12, 4096) == model.read(page << 12, 4096)
    assert bench.memory.sparse_pages == len(set(pages)) - 1, "one of them is in the region"
    report({"digest": f"{bench.library.digest:016x}", "cycle": bench.library.cycle})


@cocotb.test()
async def reading_makes_no_pages(dut):
    bench, wide, _ = await prepared(dut)
    read = await wide.read(TOP - 4096, 4096 // 2)
    assert (read.resp, read.data) == (Resp.OKAY, bytes(2048))
    assert bench.memory.read(TOP - (1 << 20), 1 << 20) == bytes(1 << 20)
    assert bench.memory.sparse_pages == 0
    assert (await wide.write(TOP - 8, b"no bytes", mask=bytes(8))).resp == Resp.OKAY
    assert bench.memory.sparse_pages == 0
    bench.memory.write(TOP - 4097, b"across")
    assert bench.memory.sparse_pages == 2
    assert (await wide.read(TOP - 4096, 8)).data == b"cross\0\0\0"


@cocotb.test()
async def many_pages(dut):
    """The table grows, and finds what it held before."""
    bench, wide, _ = await prepared(dut)
    rng = random.Random(options()["seed"])
    numbers = rng.sample(range(TOP >> 12), 20_000)
    for number in numbers:
        bench.memory.write(number << 12, number.to_bytes(8, "little"))
    assert bench.memory.sparse_pages == len(numbers)
    for number in numbers:
        assert bench.memory.read(number << 12, 8) == number.to_bytes(8, "little")
    assert (await wide.read(numbers[0] << 12, 8)).data == numbers[0].to_bytes(8, "little")


@cocotb.test()
async def ends_where_it_should(dut):
    bench, wide, _ = await prepared(dut)
    assert (await wide.read(TOP, 8)).resp == Resp.DECERR
    assert (await wide.write(TOP, bytes(8))).resp == Resp.DECERR
    assert (await wide.write(TOP - 8, bytes(8))).resp == Resp.OKAY
    for address, size in ((TOP, 1), (TOP - 1, 2), (-1, 1)):
        with pytest.raises(ValueError, match="is not memory"):
            bench.memory.read(address, size)
        with pytest.raises(ValueError, match="is not memory"):
            bench.memory.write(address, bytes(size))
    with pytest.raises(ValueError, match="is not in one region"):
        bench.memory.read(RAM + SIZE - 4, 8)
    with pytest.raises(ValueError, match="is not memory"):
        bench.memory.view(0x1000, 8)
    for bits in (11, 57):
        with pytest.raises(ValueError, match=f"12 to 56 address bits, not {bits}"):
            bench.memory.sparse(bits)


@cocotb.test()
async def faults_watches_and_exclusives(dut):
    bench, wide, narrow = await prepared(dut)
    at, seen = 0x1234_5678, []
    bench.watch_writes(at & ~7, 8, seen.append)
    assert (await wide.write(at, b"watched", mask=b"\1\1\1\1\0\0\0")).resp == Resp.OKAY
    assert [(w.address, w.strobe, w.data[:4]) for w in seen] == [(at, 0xF, b"watc")]

    bench.memory.fault(TOP - 8, 8, read=Resp.SLVERR, write=Resp.DECERR)
    assert (await wide.read(TOP - 8, 8)).resp == Resp.SLVERR
    assert (await wide.write(TOP - 8, bytes(8))).resp == Resp.DECERR
    assert bench.memory.sparse_pages == 1, "a refused write makes no page"
    bench.memory.clear_faults()

    async def attempt(value: bytes) -> int:
        return (await wide.write(at, value, id=3, lock=True)).resp

    async def reserve() -> None:
        assert (await wide.read(at, 8, id=3, lock=True)).resp == Resp.EXOKAY

    at = 0xAB_0000_1000  # a page that is not there yet
    await reserve()
    assert bench.memory.sparse_pages == 1
    assert await attempt(b"reserved") == Resp.EXOKAY
    assert bench.memory.read(at, 8) == b"reserved"
    assert await attempt(b"again???") == Resp.OKAY
    at = 0xCD_0000_1000
    await reserve()
    bench.memory.write(at + 1, b"\1")
    assert await attempt(b"too late") == Resp.OKAY
    at = 0x5_0000_1000
    await reserve()
    await narrow.write(at + 4, b"\0")  # the same byte, but a write
    assert await attempt(b"too late") == Resp.OKAY
    assert bench.memory.read(at, 8) == bytes(8)


@cocotb.test()
async def a_new_bench_has_none(dut):
    bench = Bench(dut)
    wide = Initiator(bench, "wide_in")
    await bench.start()
    assert bench.memory.sparse_pages == 0
    assert (await wide.read(0x1234_5678, 8)).resp == Resp.DECERR
    with pytest.raises(ValueError, match="is not memory"):
        bench.memory.read(0x1234_5678, 8)
