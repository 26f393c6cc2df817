"""What reads of the DMA engine leave in local memory."""

from collections import Counter

import pytest

from models.spec.config import NicConfig
from rtl.nic.dma_read import DmaRead
from rtl.nic.seams import LocalMemory
from tests.rtl.agents import AxiMemory, Sink, Source, run, seeded, wait_for

CONFIG = NicConfig(vfs=3, queue_pairs=1, dma_slots=4, max_burst_beats=4)


@pytest.mark.parametrize("stall", [0.0, 0.7])
def test_every_byte_is_stored_once(stall):
    """Also while the end of a segment is not taken: what listens to the stores adds bytes up."""
    rng = seeded(71)
    dut = DmaRead(CONFIG, id_width=4)
    content = rng.randbytes(4096)
    memory = AxiMemory(dut.bus, rng)
    memory.store(0, len(content), int.from_bytes(content, "little"))
    segments, ends = Source(dut.segment, rng), Sink(dut.done, rng, stall)
    wanted, stored = set(), Counter()
    for slot in range(4):
        address, length = rng.randrange(3000), rng.choice([1, 16, 150, 300])
        offset = 0x400 * slot + rng.randrange(0x100)
        segments.queue.append(
            {
                "slot": slot,
                "address": address,
                "length": length,
                "memory": LocalMemory.TX,
                "offset": offset,
            }
        )
        wanted |= {(offset + n, content[address + n]) for n in range(length)}

    async def watch(ctx):
        port = dut.store
        while True:
            _, _, en, addr, data, mask = await ctx.tick().sample(
                port.en, port.addr, port.data, port.mask
            )
            for at in range(addr, addr + 16):
                if en and mask >> at % 16 & 1:
                    stored[at, data >> 8 * (at % 16) & 0xFF] += 1

    async def bench(ctx):
        await wait_for(ctx, lambda: len(ends.got) == 4)

    parts = [segments.process, ends.process, *memory.processes(), watch]
    run(dut, bench, background=parts)
    assert stored == Counter(wanted)
