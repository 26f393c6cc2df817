"""The page request interface that functions share: limits, status, reset, against a set."""

from models.spec.iommu import GroupResponsePayload, PageRequestPayload, PageResponse
from rtl.nic.page_request_limit import PageRequestLimit
from tests.rtl.agents import Sink, Source, run, seeded, wait_for


def request(index):
    payload = PageRequestPayload.const({"index": index, "r": 1, "last": 1, "address": 7 * index})
    return {"device_id": 9, "payload": payload.as_bits()}


def response(index, code=PageResponse.SUCCESS):
    payload = GroupResponsePayload.const({"index": index, "code": code})
    return {"device_id": 9, "payload": payload.as_bits()}


class World:
    def __init__(self, stall=0.0):
        self.dut, rng = PageRequestLimit(), seeded(3)
        self.requests = Source(self.dut.request, rng, stall)
        self.responses = Source(self.dut.response, rng, stall)
        self.asked = Sink(self.dut.asked, rng, stall)
        self.answered = Sink(self.dut.answered, rng, stall)
        self.failures = self.unexpected = 0

    async def _status(self, ctx):
        pri = self.dut.pri
        while True:
            *_, failure, unexpected = await ctx.tick().sample(pri.failure, pri.unexpected)
            self.failures += failure
            self.unexpected += unexpected

    def run(self, bench):
        parts = (self.requests, self.responses, self.asked, self.answered)
        run(self.dut, bench, background=[part.process for part in parts] + [self._status])

    def allow(self, ctx, allocation, enable=1):
        ctx.set(self.dut.pri.allocation, allocation)
        ctx.set(self.dut.pri.enable, enable)

    async def settle(self, ctx, cycles=40):
        await wait_for(ctx, lambda: True, then=cycles)


def test_no_more_requests_than_are_allocated():
    world = World()

    async def bench(ctx):
        world.requests.queue += [request(i) for i in range(6)]
        world.allow(ctx, 0)
        await world.settle(ctx, 600)  # and the reset after power-on
        assert not world.asked.got
        world.allow(ctx, 3, enable=0)
        await world.settle(ctx)
        assert not world.asked.got
        assert ctx.get(world.dut.pri.idle)
        world.allow(ctx, 3)
        await world.settle(ctx)
        assert len(world.asked.got) == 3
        assert not ctx.get(world.dut.pri.idle)
        # Responses pass though requests wait.
        world.responses.queue += [response(1)]
        await world.settle(ctx)
        assert len(world.answered.got) == 1
        assert len(world.asked.got) == 4
        world.allow(ctx, 5)
        await world.settle(ctx)
        assert len(world.asked.got) == 6
        world.responses.queue += [response(i) for i in (0, 2, 3, 4)]
        await world.settle(ctx)
        assert not ctx.get(world.dut.pri.idle)
        world.responses.queue += [response(5)]
        await world.settle(ctx)
        assert ctx.get(world.dut.pri.idle)

    world.run(bench)
    assert (world.failures, world.unexpected) == (0, 0)


def test_status_of_responses():
    world = World()

    async def bench(ctx):
        world.allow(ctx, 8)
        world.requests.queue += [request(1), request(0x101)]
        await world.settle(ctx, 600)
        world.responses.queue += [response(2)]  # nobody waits for it
        await world.settle(ctx)
        assert (world.failures, world.unexpected) == (0, 1)
        world.responses.queue += [response(1, PageResponse.FAILURE), response(1)]
        await world.settle(ctx)
        assert (world.failures, world.unexpected) == (1, 2)
        world.responses.queue += [response(0x101, PageResponse.INVALID)]
        await world.settle(ctx)
        assert (world.failures, world.unexpected) == (1, 2)
        assert ctx.get(world.dut.pri.idle)
        assert len(world.answered.got) == 4  # all of them reach the DMA engine

    world.run(bench)


def test_reset_forgets_what_is_outstanding():
    world = World()

    async def bench(ctx):
        world.allow(ctx, 2)
        world.requests.queue += [request(i) for i in range(4)]
        await world.settle(ctx, 600)
        assert len(world.asked.got) == 2
        world.allow(ctx, 2, enable=0)
        ctx.set(world.dut.pri.reset, 1)
        await ctx.tick()
        ctx.set(world.dut.pri.reset, 0)
        await world.settle(ctx, 600)
        assert ctx.get(world.dut.pri.idle)
        world.responses.queue += [response(0)]
        world.allow(ctx, 2)
        await world.settle(ctx)
        assert world.unexpected == 1
        assert len(world.asked.got) == 4

    world.run(bench)


def test_an_index_that_is_used_again_counts_once():
    """A request whose function was reset may be asked for again before it is answered."""
    world = World()

    async def bench(ctx):
        world.allow(ctx, 2)
        world.requests.queue += [request(1)] * 5
        await world.settle(ctx, 600)
        assert len(world.asked.got) == 5
        world.responses.queue += [response(1)]
        await world.settle(ctx)
        assert ctx.get(world.dut.pri.idle)

    world.run(bench)


def test_random_traffic():
    """Nothing is lost, changed or overtaken, whoever stalls."""
    world, rng = World(stall=0.4), seeded(9)
    indices = rng.sample(range(512), 120)

    async def bench(ctx):
        world.allow(ctx, 7)
        world.requests.queue += [request(i) for i in indices]
        answered = 0
        while answered < len(indices):
            await ctx.tick()
            assert len(world.asked.got) - world.responses.sent <= 7 + 1
            while answered < len(world.asked.got) and rng.random() < 0.1:
                world.responses.queue.append(response(indices[answered]))
                answered += 1
        await world.settle(ctx, 200)
        assert ctx.get(world.dut.pri.idle)

    world.run(bench)
    assert [int(a.payload) for a in world.asked.got] == [request(i)["payload"] for i in indices]
    assert [int(a.payload) for a in world.answered.got] == [response(i)["payload"] for i in indices]
    assert (world.failures, world.unexpected) == (0, 0)
