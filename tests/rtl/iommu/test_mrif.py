"""Storing of MSIs into memory-resident interrupt files: the unit alone."""

import pytest

from models.spec.iommu import Cause, Ttyp
from models.spec.translation import AddressType
from rtl.bus.axi import Resp
from rtl.iommu.mrif import MrifStore
from tests.rtl.agents import Sink, get, put, run, seeded
from tests.rtl.iommu.mrif_world import WordMemory, pending_bit
from tests.rtl.simulators import built

PAS = 40
FILE, NOTICE = 0x12_3456_7200, 0x77_7777_7000
TARGET = {
    "address": FILE >> 9,
    "nid": 0x5A5,
    "notice_ppn": NOTICE >> 12,
    "dtf": 0,
    "qos": {"rcid": 0x123, "mcid": 0x456},
    "iova": 0xABCD_E000,
    "user": {
        "device_id": 0x123456,
        "process_id": 0x54321,
        "pv": 1,
        "priv": 1,
        "exec": 0,
        "at": AddressType.UNTRANSLATED,
    },
}


class Bench:
    """A store, its memory and its faults."""

    def __init__(self, seed=1, *, atomic=True, qos=False, latency=(1, 1), **target):
        rng = seeded(seed)
        self.dut = built(MrifStore, addr_width=PAS, atomic=atomic, qos=qos)
        self.memory = WordMemory(self.dut.memory, rng, latency)
        self.faults = Sink(self.dut.faults, rng, 0.3)
        self.target = TARGET | target

    async def send(self, ctx, data: int, offset: int = 0, is_word: int = 1) -> int:
        """Store one MSI; returns the response."""
        ctx.set(self.dut.target, self.target)
        msi = {"is_word": is_word, "offset": offset >> 2, "data": data}
        await put(ctx, self.dut.request, msi)
        return await get(ctx, self.dut.response)

    def run(self, testbench) -> None:
        """Simulate."""
        run(self.dut, testbench, background=[*self.memory.processes(), self.faults.process])


def turned(value: int) -> int:
    """A word with its bytes the other way round."""
    return int.from_bytes(value.to_bytes(4, "little"), "big")


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_pending_bits_are_set_and_noticed(atomic, big):
    bench = Bench(atomic=atomic, latency=(0, 5))
    identities = [0, 1, 63, 64, 65, 127, 128, 1023, 1984, 2047]
    before = {}
    for identity in identities:
        addr, _ = pending_bit(FILE, identity)
        before[addr] = bench.memory.rng.getrandbits(64)
        before[addr + 8] = bench.memory.rng.getrandbits(64)
    bench.memory.data |= before
    expected = dict(before)

    async def testbench(ctx):
        for identity in identities:
            addr, bit = pending_bit(FILE, identity)
            expected[addr] |= 1 << bit
            written = turned(identity) if big else identity
            assert await bench.send(ctx, written, 4 * big) == Resp.OKAY
            assert bench.memory.load(addr) == expected[addr]
            # Noticed after the update, in little-endian order, whatever is enabled.
            assert bench.memory.log[-1][:4] == ("w", NOTICE, TARGET["nid"], 0)
            assert [item[:2] for item in bench.memory.log[-3:-1]] == [("r", addr), ("w", addr)]
            assert [item[3] for item in bench.memory.log[-3:-1]] == [atomic, atomic]

    bench.run(testbench)
    del bench.memory.data[NOTICE]
    assert bench.memory.data == expected
    assert not bench.faults.got


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (2048, 0),
        (0xFFFF_FFFF, 0),
        (turned(5), 0),  # big-endian where little-endian is due
        (5, 4),
        (turned(2048), 4),
        (5, 8),
        (5, 12),
        (turned(5), 12),
        (5, 0xFFC),
        (5, 0x800),
    ],
)
def test_other_words_are_accepted_and_discarded(data, offset):
    bench = Bench()

    async def testbench(ctx):
        assert await bench.send(ctx, data, offset) == Resp.OKAY

    bench.run(testbench)
    assert not bench.memory.log
    assert not bench.faults.got


def test_what_is_no_word_is_refused():
    bench = Bench()

    async def testbench(ctx):
        assert await bench.send(ctx, 5, is_word=0) == Resp.SLVERR
        assert await bench.send(ctx, 5) == Resp.OKAY

    bench.run(testbench)
    assert len(bench.memory.log) == 3


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_store_by_somebody_else_in_between_is_not_lost(times):
    bench = Bench(latency=(0, 3))
    addr, _ = pending_bit(FILE, 70)
    left = [times]

    def interfere(at):
        if left[0]:
            left[0] -= 1
            bench.memory.store(at, bench.memory.load(at) | 1 << 20 + left[0])

    bench.memory.interfere = interfere

    async def testbench(ctx):
        assert await bench.send(ctx, 70) == Resp.OKAY

    bench.run(testbench)
    assert bench.memory.load(addr) == (1 << times) - 1 << 20 | 1 << 6
    assert len(bench.memory.log) == 2 * (times + 1) + 1


def record(bench) -> dict:
    """The only fault record."""
    (got,) = bench.faults.got
    names = ("cause", "ttyp", "did", "pid", "pv", "priv", "iotval", "iotval2")
    return {name: int(getattr(got, name)) for name in names}


@pytest.mark.parametrize("direction", ["r", "w"])
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("resp", "cause", "answer"),
    [
        (Resp.DECERR, Cause.MRIF_ACCESS_FAULT, Resp.DECERR),
        (Resp.SLVERR, Cause.MRIF_CORRUPTION, Resp.SLVERR),
    ],
)
def test_faults_of_the_file(direction, atomic, resp, cause, answer):
    bench = Bench(atomic=atomic)
    bench.memory.failing[direction].append((range(FILE, FILE + 512), resp))

    async def testbench(ctx):
        assert await bench.send(ctx, 3) == answer

    bench.run(testbench)
    assert record(bench) == {
        "cause": cause,
        "ttyp": Ttyp.UNTRANSLATED_WRITE,
        "did": 0x123456,
        "pid": 0x54321,
        "pv": 1,
        "priv": 1,
        "iotval": 0xABCD_E000,
        "iotval2": 0,
    }
    assert all(addr != NOTICE for _, addr, *_ in bench.memory.log)


def test_a_file_beyond_the_address_space_is_an_access_fault():
    bench = Bench(address=1 << PAS - 9)

    async def testbench(ctx):
        assert await bench.send(ctx, 3) == Resp.DECERR

    bench.run(testbench)
    assert record(bench)["cause"] == Cause.MRIF_ACCESS_FAULT
    assert not bench.memory.log


def test_memory_without_exclusive_accesses_is_an_access_fault():
    """An exclusive access that is answered OKAY at once was a plain one (IHI 0022, A7.2)."""
    bench = Bench()
    bench.memory.exclusives = False

    async def testbench(ctx):
        assert await bench.send(ctx, 3) == Resp.DECERR

    bench.run(testbench)
    assert record(bench)["cause"] == Cause.MRIF_ACCESS_FAULT
    assert len(bench.memory.log) == 1


@pytest.mark.parametrize("dtf", [0, 1])
@pytest.mark.parametrize("beyond", [False, True])
def test_a_notice_that_fails_is_reported_as_a_failed_message(dtf, beyond):
    page = 1 << PAS - 12 if beyond else NOTICE >> 12
    bench = Bench(dtf=dtf, notice_ppn=page)
    bench.memory.failing["w"].append((range(NOTICE, NOTICE + 4), Resp.DECERR))

    async def testbench(ctx):
        assert await bench.send(ctx, 3) == Resp.OKAY

    bench.run(testbench)
    assert bench.memory.load(FILE) == 8
    expected = dict.fromkeys(("did", "pid", "pv", "priv", "iotval2"), 0)
    expected |= {"cause": Cause.MSI_WRITE_ACCESS_FAULT, "ttyp": Ttyp.NONE, "iotval": page << 12}
    assert record(bench) == expected


def test_dtf_keeps_faults_of_the_file_from_being_reported():
    bench = Bench(dtf=1)
    bench.memory.failing["r"].append((range(FILE, FILE + 512), Resp.DECERR))

    async def testbench(ctx):
        assert await bench.send(ctx, 3) == Resp.DECERR

    bench.run(testbench)
    assert not bench.faults.got


def test_translated_requests_without_process():
    user = TARGET["user"] | {"pv": 0, "at": AddressType.TRANSLATED}
    bench = Bench(user=user)
    bench.memory.failing["r"].append((range(FILE, FILE + 512), Resp.DECERR))

    async def testbench(ctx):
        await bench.send(ctx, 3)

    bench.run(testbench)
    got = record(bench)
    assert got["ttyp"] == Ttyp.TRANSLATED_WRITE
    assert (got["pid"], got["pv"], got["priv"]) == (0, 0, 0)


def test_accesses_carry_the_devices_qos_id():
    bench = Bench(qos=True)

    async def testbench(ctx):
        await bench.send(ctx, 3)

    bench.run(testbench)
    assert [user for *_, user in bench.memory.log] == [(0x123, 0x456)] * 3
