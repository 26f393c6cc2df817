"""Memory of beats at any byte, against an array of bytes."""

import pytest

from rtl.nic import byte_memory
from rtl.nic.byte_memory import ByteMemory
from tests.rtl.agents import run, seeded


@pytest.mark.parametrize(("beats", "words"), [(4, 2048), (7, 2048), (8, 2), (9, 2)])
def test_any_bytes_are_stored_and_loaded_in_a_cycle(beats, words, monkeypatch):
    """``words``: of a RAM; a bank has as many RAMs as it takes.

    What is loaded of a word that is stored to in the same cycle is not looked at.
    """
    monkeypatch.setattr(byte_memory, "_WORDS", words)
    dut, rng = ByteMemory(beats), seeded(5)
    size = 16 * beats

    async def bench(ctx):
        content, expected, starts, whole = bytearray(size), {}, set(), 0
        for step in range(1500):
            loads, at = rng.random() < 0.7, rng.randrange(size - 15)
            ctx.set(dut.read_en, loads)
            ctx.set(dut.read_addr, at)
            if loads:
                expected = {i % 16: content[i] for i in range(at, at + 16)}
                starts.add(at)
            to, count = rng.randrange(size), rng.randrange(17)
            value = rng.randbytes(16)
            mask, stored = 0, range(to, min(to + count, size))
            if loads:
                for i in range(at, at + 16):
                    if i // 16 in {j // 16 for j in stored}:
                        del expected[i % 16]
            for i in stored:
                mask |= 1 << i % 16
                content[i] = value[i % 16]
            ctx.set(dut.write_addr, to)
            ctx.set(dut.write_data, int.from_bytes(value, "little"))
            ctx.set(dut.write_mask, mask)
            await ctx.tick()
            if expected:
                found = ctx.get(dut.read_data).to_bytes(16, "little")
                assert {lane: found[lane] for lane in expected} == expected, f"step {step}"
                whole += len(expected) == 16
        assert len(starts) == size - 15
        assert whole > 100

    run(dut, bench)


@pytest.mark.parametrize("words", [2048, 1])
def test_a_beat_may_begin_before_the_first_byte(words, monkeypatch):
    """As the first beat of the bus does whose first bytes are not wanted."""
    monkeypatch.setattr(byte_memory, "_WORDS", words)
    dut = ByteMemory(4)

    async def bench(ctx):
        ctx.set(dut.write_addr, -5)
        ctx.set(dut.write_data, 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10)
        ctx.set(dut.write_mask, 0x07FF)
        await ctx.tick()
        ctx.set(dut.write_mask, 0)
        ctx.set(dut.read_en, 1)
        await ctx.tick()
        assert ctx.get(dut.read_data) == 0x06_0708_090A_0B0C_0D0E_0F10

    run(dut, bench)
