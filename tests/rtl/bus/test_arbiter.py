"""AXI arbiters: every burst arrives once, every answer finds its manager."""

import pytest

from rtl.bus.arbiter import AxiReadArbiter, AxiWriteArbiter
from rtl.bus.axi import Burst, Resp
from tests.rtl.agents import AxiMemory, Sink, Source, run, seeded, wait_for

BURSTS = 40


def address(rng, number, id_width):
    """A burst in a range of the manager's own."""
    length = rng.choice([0, 1, 3])
    return {
        "addr": number << 16 | rng.randrange(64) * 64,
        "id": rng.randrange(1 << id_width),
        "len": length,
        "size": 3,
        "burst": Burst.INCR,
        "lock": 0,
    }


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_reads_of_three_managers(stall):
    dut = AxiReadArbiter(addr_width=32, data_width=64, id_widths=[2, 1, 3])
    rng = seeded(3)
    memory = AxiMemory(dut.down, rng, latency=(1, 12), stall=stall, reorder=True)
    memory.failing.append(range(1 << 16, (1 << 16) + 512))
    sources, sinks, asked = [], [], []
    for number, (manager, width) in enumerate(zip(dut.managers, [2, 1, 3], strict=True)):
        asked.append([address(rng, number, width) for _ in range(BURSTS)])
        sources.append(Source(manager.ar, rng, stall))
        sources[-1].queue.extend(asked[-1])
        sinks.append(Sink(manager.r, rng, stall))
        for addr in range(0, 64 * 64 + 32, 8):
            memory.store(number << 16 | addr, 8, number << 32 | addr)
    beats = [sum(burst["len"] + 1 for burst in bursts) for bursts in asked]

    async def wait(ctx):
        await wait_for(ctx, lambda: [len(sink.got) for sink in sinks] == beats, then=20)

    agents = [*memory.processes(), *(agent.process for agent in (*sources, *sinks))]
    run(dut, wait, background=agents)
    for number, (bursts, sink) in enumerate(zip(asked, sinks, strict=True)):
        for id in range(8):
            expected = [
                (
                    number << 32 | (addr := (burst["addr"] & 0xFFFF) + 8 * beat),
                    beat == burst["len"],
                    Resp.SLVERR if number == 1 and addr < 512 else Resp.OKAY,
                )
                for burst in bursts
                if burst["id"] == id
                for beat in range(burst["len"] + 1)
            ]
            got = [(beat.data, beat.last, beat.resp) for beat in sink.got if beat.id == id]
            assert got == expected


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_writes_of_three_managers(stall):
    dut = AxiWriteArbiter(addr_width=32, data_width=64, id_widths=[1, 1, 2])
    rng = seeded(4)
    memory = AxiMemory(dut.down, rng, latency=(1, 12), stall=stall, reorder=True)
    memory.failing.append(range(2 << 16, (2 << 16) + 64))
    agents, answers, asked = list(memory.processes()), [], []
    for number, (manager, width) in enumerate(zip(dut.managers, [1, 1, 2], strict=True)):
        bursts = [address(rng, number, width) for _ in range(BURSTS)]
        addresses, beats = Source(manager.aw, rng, stall), Source(manager.w, rng, stall)
        addresses.queue.extend(bursts)
        values = []
        for burst in bursts:
            values.append([rng.getrandbits(64) for _ in range(burst["len"] + 1)])
            beats.queue.extend(
                {"data": value, "strb": 0xFF, "last": at == burst["len"]}
                for at, value in enumerate(values[-1])
            )
        answers.append(Sink(manager.b, rng, stall))
        asked.append((bursts, values))
        agents += [addresses.process, beats.process, answers[-1].process]

    async def wait(ctx):
        await wait_for(ctx, lambda: all(len(sink.got) == BURSTS for sink in answers), then=20)

    run(dut, wait, background=agents)
    assert len(memory.writes) == 3 * BURSTS
    for number, (bursts, values) in enumerate(asked):
        seen = [
            (addr, b"".join(bytes([byte]) for byte in content))
            for addr, content in memory.writes
            if addr >> 16 == number
        ]
        assert seen == [
            (burst["addr"], b"".join(value.to_bytes(8, "little") for value in beats))
            for burst, beats in zip(bursts, values, strict=True)
        ]
        for id in range(4):
            expected = [
                Resp.SLVERR if number == 2 and burst["addr"] & 0xFFFF == 0 else Resp.OKAY
                for burst in bursts
                if burst["id"] == id
            ]
            assert [answer.resp for answer in answers[number].got if answer.id == id] == expected


def test_one_manager_is_refused():
    with pytest.raises(ValueError, match="An arbiter needs at least 2 managers, not 1"):
        AxiReadArbiter(addr_width=32, data_width=64, id_widths=[1])
