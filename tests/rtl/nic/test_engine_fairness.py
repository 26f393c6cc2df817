"""Nobody waits in the virtqueue engine behind all that transmitters have to send."""

import pytest

from models.spec.config import NicConfig
from rtl.nic.engine.records import Unit
from rtl.nic.engine.requests import Requests
from rtl.nic.seams import LocalMemory
from tests.rtl.nic.rate_world import RateWorld
from tests.rtl.simulators import simulator

#: A PF at rest and eight VFs, with room for all that they send.
CONFIG = NicConfig(vfs=8, queue_pairs=1, tx_slots=128)
CHAINS = 64
BYTES = 12 + 64


class _Senders(RateWorld):
    """Every VF sends; how many of their reads are under way at once is kept."""

    def __init__(self, config: NicConfig, latency: int):
        super().__init__(config, latency)
        self.most = 0
        for queue in range(3, config.queues, 2):
            ring = self.ring(queue, CHAINS)
            for number in range(CHAINS):
                ring.post([(ring.buffers + 128 * number, BYTES)])

    def _begin(self, request) -> None:
        super()._begin(request)
        under_way = sum(one.memory == LocalMemory.TX for _, one in self._due[0])
        self.most = max(self.most, under_way)


@pytest.mark.parametrize(
    "begin", [200, *(pytest.param(begin, marks=pytest.mark.full) for begin in (300, 400))]
)
def test_a_receiver_is_served_while_all_send(begin):
    """Ends of DMA do not keep a queue from its turn in the ring fetch."""
    world = _Senders(CONFIG, 20)
    found = []

    async def test(ctx):
        await ctx.tick().repeat(begin)
        ring = world.ring(2, 8)
        ring.post([(ring.buffers, BYTES)])
        world.deliver(1, bytes(64), 0)
        start = world.now
        await world.until(ctx, lambda: world.released)
        found.append(world.now - start)
        assert len(world.sent) < 8 * CHAINS // 2, "senders still have most to send"
        await world.until(ctx, lambda: len(world.sent) == 8 * CHAINS)

    world.run(test)
    # Available index, entries, descriptor: each behind a few visits of others.
    assert found[0] <= 700


@pytest.mark.parametrize(
    ("slots", "least", "most"),
    [pytest.param(8, 6, 10, marks=pytest.mark.full), (16, 14, 18), (64, 24, 64)],
)
def test_senders_leave_the_dma_its_slots(slots, least, most):
    """More than the DMA has slots for would only be before what others ask for."""
    world = _Senders(NicConfig(vfs=8, queue_pairs=1, tx_slots=128, dma_slots=slots), 200)

    async def test(ctx):
        await world.until(ctx, lambda: len(world.sent) == 8 * CHAINS)

    world.run(test)
    assert least <= world.most <= most


@pytest.mark.parametrize("slots", [2, 4, 16])
def test_senders_keep_their_part_of_the_slots(slots):
    """Others that take every slot the DMA has leave a quarter, one at the least, to senders."""
    dut = Requests(NicConfig(vfs=8, queue_pairs=1, dma_slots=slots))
    sent = []

    async def ask(ctx, unit):
        jobs = dut.jobs[unit]
        ctx.set(jobs.payload.owner.unit, unit)
        for number in range(slots):
            ctx.set(jobs.payload.iova, unit << 32 | number)
            ctx.set(jobs.valid, 1)
            while not (await ctx.tick().sample(jobs.ready))[-1]:
                pass
        ctx.set(jobs.valid, 0)

    async def test(ctx):
        ctx.set(dut.request.ready, 1)
        await ctx.tick().repeat(100)  # until every tag is free
        await ask(ctx, Unit.FETCH)
        await ctx.tick().repeat(10)
        await ask(ctx, Unit.TRANSMIT)

    async def watch(ctx):
        for _ in range(200):
            *_, valid, request = await ctx.tick().sample(dut.request.valid, dut.request.payload)
            if valid:
                sent.append(request.iova >> 32)

    sim = simulator(dut)
    sim.add_testbench(test, background=True)
    sim.add_testbench(watch)
    sim.run()
    assert sent.count(Unit.FETCH) == slots, "nothing of theirs has ended"
    part = max(1, slots // 4)
    assert part <= sent.count(Unit.TRANSMIT) <= part + 2
