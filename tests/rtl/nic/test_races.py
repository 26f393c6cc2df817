"""Races of the DMA engine, each at every cycle of a window.

=============================================  ==================================================
an invalidation against                        is tried in
=============================================  ==================================================
a hit of the ATC                               ``test_atc_dma.py``: ``moment_of_a_transfer``, warm
an answer on its way into the ATC              ``test_atc.py``: ``neither_kept_nor_used``
a translation request, its walk                ``test_atc_dma.py``: ``moment_of_a_transfer``, cold
a walk in the IOMMU, fence and all             ``tests/rtl/iommu/test_races.py``
data on the bus                                ``test_dma.py``: ``older_uses_only``
a request that is parked, and its retry        ``test_atc_dma.py``: ``moment_of_a_retry``
a DMA write to a page that is evicted          ``tests/cosim/test_evictions.py``
=============================================  ==================================================

=============================================  ==================================================
others                                         are tried in
=============================================  ==================================================
a group response against a reset, a cancel,    here: ``response_against``
or the time-out
two queues that fault on one page, and what    here: ``two_queues``, ``each_its_own_answer``
they are answered
a reset during a transfer, a walk, a retry,    ``test_atc_dma.py``: ``reset_at_every_moment``
an invalidation
a reset while two queues wait and the page     here: ``reset_while_two_wait``
is invalidated
a cancel during a transfer and a retry         ``test_dma.py``: ``cancel_at_any_moment``
a reset of a function in all its registers     ``test_function_reset.py``: ``any_moment``
a reset of a function with driver and IOMMU    ``tests/cosim/test_resets.py``
=============================================  ==================================================

Whatever comes first: a request that was parked is retried, fails or is dropped, one of these and
once; nobody gets to a page by a translation whose invalidation was answered or whose function was
reset; bytes are right; the tag can be used again.
"""

import pytest

from models.spec.iommu import PageResponse
from rtl.nic.dma_parking import RECENT
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.dma_world import CONFIG, World
from tests.rtl.nic.test_dma import check, filled

TAG, OTHER, STRANGER = 3, 5, 6
PAGE, NEXT = 5, 9
DEVICE = CONFIG.device_id + 1
P = {"tag": TAG, "function": 1, "write": 0, "memory": 1, "offset": 0x100, "length": 100}
HERE = {**P, "iova": (PAGE << 12) + 0x20}
#: How a request ends that is answered so.
ANSWERED = {
    PageResponse.SUCCESS: {DmaStatus.OK},
    PageResponse.INVALID: {DmaStatus.INVALID},
    PageResponse.FAILURE: {DmaStatus.FAILURE},
}
#: Distance between two moments that are tried.
EVERY = pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.full)])
SELDOM = pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.full)])


class Ledger:
    """Counts of a world since the last time: pages asked for, and what came of that."""

    def __init__(self, world):
        self.world = world
        self._before = [0] * 4

    def take(self):
        """Return page requests, parked without one, retries and faults."""
        now = self.world.page_counts()
        found = [new - old for new, old in zip(now, self._before, strict=True)]
        self._before = now
        return found


async def later(ctx, cycles):
    """Wait so many cycles, maybe none."""
    for _ in range(cycles):
        await ctx.tick()


async def reset(world, ctx, tags, *, back=True):
    """Disable the function, cancel what it has begun, and enable it again."""
    ctx.set(world.dut.controls[1].enable, 0)
    for tag in tags:
        await world.cancel(ctx, tag)
    for tag in tags:
        await world.wait(ctx, tag)
    world.rules.drop(DEVICE)
    if back:
        ctx.set(world.dut.controls[1].enable, 1)


def respond(world, number, code):
    """Answer a page request; with success the page is there."""
    _, request, payload = world.page_requests[number]
    if code == PageResponse.SUCCESS:
        world.missing.discard((request.device_id - CONFIG.device_id, payload.address))
    world.respond(request.device_id, payload.index, code)


@EVERY
@pytest.mark.parametrize("end", ["reset", "cancel", "time-out"])
def test_response_against(end, step):
    """The tag's next request asks for a page of its own, and does not take the answer for its."""
    world = World(CONFIG, seed=51, latency=4, jitter=0, stall=0)
    world.answer_code = None
    first, last = (-24, 24) if end == "time-out" else (-14, 14)

    async def race(ctx, code, offset):
        """Answer ``offset`` cycles after the end."""
        world.missing |= {(1, PAGE), (1, NEXT)}
        number = len(world.page_requests)
        await world.request(ctx, **HERE)
        await world.until_asked(ctx, number + 1)
        if offset < 0:
            respond(world, number, code)
            await later(ctx, -offset)
        match end:
            case "reset":
                ctx.set(world.dut.controls[1].enable, 0)
            case "cancel":
                await world.cancel(ctx, TAG)
            case "time-out":
                ctx.set(world.dut.page_timeout, 1)  # it has waited longer than that
        if offset >= 0:
            await later(ctx, offset)
            respond(world, number, code)
        if end == "reset":
            await reset(world, ctx, [TAG])
        status, _ = await world.wait(ctx, TAG)
        ctx.set(world.dut.page_timeout, 0)
        return status

    async def test(ctx):
        before, ledger, found = filled(world), Ledger(world), set()
        early = {"reset": DmaStatus.CANCELLED, "cancel": DmaStatus.CANCELLED}
        early = early.get(end, DmaStatus.FAILURE)
        for offset in range(first, last, step):
            code = list(ANSWERED)[offset % 3]
            status = await race(ctx, code, offset)
            found.add((status == early, code))
            allowed = ANSWERED[code] | {early}
            if end == "reset" and code == PageResponse.SUCCESS:
                allowed |= {DmaStatus.FAULT}  # it was about to be retried
            assert status in allowed, (offset, code, status)
            if status == DmaStatus.OK:
                check(world, HERE, before)
            quiet, count = len(world.accesses), len(world.page_requests)
            after = {**HERE, "iova": NEXT << 12}
            await world.request(ctx, **after)
            await world.until_asked(ctx, count + 1)
            await later(ctx, 12)
            assert TAG not in world.done, "it took an answer for its own"
            pages = [payload.address for *_, payload in world.page_requests[count:]]
            assert pages == [NEXT], f"{offset}: asked for {pages}"
            requests, waits, retries, faults = ledger.take()
            dropped = requests - 1 - retries - faults
            assert (requests, waits) == (2, 0)
            assert 0 <= dropped <= (status == DmaStatus.CANCELLED), (offset, retries, faults)
            respond(world, count, PageResponse.SUCCESS)
            assert (await world.wait(ctx, TAG))[0] == DmaStatus.OK
            check(world, after, before)
            assert (world.guest, world.local) == before
            at = {world.place(address, user) >> 12 for *_, address, user in world.accesses[quiet:]}
            assert at == {NEXT}, f"{offset}: accesses after the end"
            # Neither page is known when the next one begins.
            await reset(world, ctx, [TAG])
            await later(ctx, 4)
            assert ledger.take() == [0, 0, 1, 0]
        if step == 1:
            assert len(found) >= 5, found

    world.run(test)


@SELDOM
def test_two_queues_fault_on_one_page(step):
    """The second comes before the first has asked, while it waits, and when the page is there.
    What writes asks for itself while what reads waits; else there is one page request.
    """
    world = World(CONFIG, seed=52, latency=6, jitter=0, stall=0)
    world.service = 20

    async def test(ctx):
        before, ledger, found = filled(world), Ledger(world), set()
        for gap in range(0, 90, step):
            page = 4 + gap % 60
            world.missing.add((1, page))
            await world.move(ctx, DEVICE, gap % 32, page)
            while world.leaving:
                await ctx.tick()
            count = len(world.page_requests)
            one = {**P, "write": gap % 2, "memory": 2, "iova": (page << 12) + 0x20}
            two = {**P, "tag": OTHER, "write": gap // 2 % 2, "iova": (page << 12) + 0x810}
            two |= {"offset": 0x2000}
            await world.request(ctx, **one)
            await later(ctx, gap)
            await world.request(ctx, **two)
            for p in (one, two):
                assert (await world.wait(ctx, p["tag"]))[0] == DmaStatus.OK
                check(world, p, before)
            assert (world.guest, world.local) == before
            await later(ctx, 10)
            requests, waits, retries, faults = ledger.take()
            assert (requests, faults) == (len(world.page_requests) - count, 0)
            assert retries == requests + waits
            tags = [payload.index % 256 for *_, payload in world.page_requests[count:]]
            assert sorted(tags) == [TAG, OTHER][: len(tags)]
            if len(tags) == 2 and two["write"] <= one["write"]:  # the first does not wait any more
                asked = [cycle for cycle, *_ in world.page_requests[count:]]
                assert asked[1] - asked[0] >= world.service
            found.add((requests, waits))
        assert found >= {(1, 0), (1, 1)}
        if step == 1:
            assert (2, 0) in found

    world.run(test)


@EVERY
def test_each_its_own_answer(step):
    """Two requests have asked for one page, the second to write; answers come in either order, so
    far from each other.
    """
    world = World(CONFIG, seed=53, latency=4, jitter=0, stall=0)
    world.answer_code = None
    codes = list(ANSWERED)

    async def test(ctx):
        before, ledger = filled(world), Ledger(world)
        for number, gap in enumerate(range(-14, 14, step)):
            page = 8 + number
            plans = [
                {**P, "tag": tag, "offset": 0x400 * tag, "write": write, "iova": page << 12}
                for write, tag in enumerate((TAG, OTHER))
            ]
            world.missing.add((1, page))
            count = len(world.page_requests)
            for p in plans:
                await world.request(ctx, **p)
            await world.until_asked(ctx, count + 2)
            # The one that is answered well is answered last; else it would ask again.
            gave = codes[gap % 2 + 1], codes[gap % 3]
            order = [0, 1] if gap < 0 else [1, 0]
            respond(world, count + order[0], gave[0])
            await later(ctx, abs(gap))
            respond(world, count + order[1], gave[1])
            for which, code in zip(order, gave, strict=True):
                assert (await world.wait(ctx, plans[which]["tag"]))[0] in ANSWERED[code]
                if code == PageResponse.SUCCESS:
                    check(world, plans[which], before)
            assert (world.guest, world.local) == before
            await reset(world, ctx, [TAG])
            await later(ctx, 10)
            well = gave.count(PageResponse.SUCCESS)
            assert ledger.take() == [2, 0, well, 2 - well]

    world.run(test)


@pytest.mark.parametrize("code", [*ANSWERED, None])
def test_one_page_request_for_all_that_wait_for_the_page(code):
    """Without an answer the one that has asked is cancelled.  What the answer does not bring in
    asks for itself; another function's requests always do.
    """
    world = World(CONFIG, seed=55)
    world.answer_code = None
    tags, write = [1, 2, 4, 5], [1, 0, 0, 0]

    async def test(ctx):
        before, ledger = filled(world), Ledger(world)
        world.missing |= {(1, PAGE), (2, PAGE)}
        plans = [
            {**P, "tag": tag, "write": w, "memory": 2, "offset": 0x400 * tag,
             "iova": (PAGE << 12) + 0x100 * tag}
            for tag, w in zip(tags, write, strict=True)
        ]  # fmt: skip
        await world.request(ctx, **plans[0])
        await world.until_asked(ctx, 1)
        for p in plans[1:]:
            await world.request(ctx, **p)
        await later(ctx, 200)
        assert len(world.page_requests) == 1
        await world.request(ctx, **{**HERE, "tag": STRANGER, "function": 2})
        await world.until_asked(ctx, 2)
        assert ledger.take() == [2, 3, 0, 0]
        if code is None:
            await world.cancel(ctx, tags[0])
            assert (await world.wait(ctx, tags[0]))[0] == DmaStatus.CANCELLED
        else:
            respond(world, 0, code)
            assert (await world.wait(ctx, tags[0]))[0] in ANSWERED[code]
        if code != PageResponse.SUCCESS:
            await world.until_asked(ctx, 3)
            await later(ctx, 300)
            assert len(world.page_requests) == 3, "one of those that are left asks for all"
            respond(world, 2, PageResponse.SUCCESS)
        for p in plans[1:]:
            assert (await world.wait(ctx, p["tag"]))[0] == DmaStatus.OK
        for p in plans[code != PageResponse.SUCCESS :]:
            check(world, p, before)
        assert STRANGER not in world.done
        respond(world, 1, PageResponse.SUCCESS)
        assert (await world.wait(ctx, STRANGER))[0] == DmaStatus.OK
        check(world, {**HERE, "tag": STRANGER}, before)
        assert (world.guest, world.local) == before
        await later(ctx, 20)
        requests, waits, retries, faults = ledger.take()
        assert requests == (code != PageResponse.SUCCESS)
        failed = code not in (PageResponse.SUCCESS, None)
        assert (retries, faults) == (5 + requests + waits - failed - (code is None), failed)

    world.run(test)


@SELDOM
@pytest.mark.parametrize("responds", [True, pytest.param(False, marks=pytest.mark.full)])
def test_reset_while_two_wait_and_the_page_is_invalidated(responds, step):
    """Another function's request waits for the page of the same number, and does not notice."""
    world = World(CONFIG, seed=54, latency=6, jitter=0, stall=0)
    world.service = 20 if responds else 150

    async def test(ctx):
        before = filled(world)
        plans = [
            {**HERE, "write": 1, "memory": 2},
            {**HERE, "tag": OTHER, "offset": 0x2000},
            {**HERE, "tag": STRANGER, "function": 2, "offset": 0x3000},
        ]
        for delay in range(0, 70, step):
            await later(ctx, RECENT)  # else it backs off, longer every time
            for function in (1, 2):
                world.missing.add((function, PAGE))
                await world.invalidate(ctx, CONFIG.device_id + function, function, PAGE)
            while len(world.completions) < 2:
                await ctx.tick()
            world.completions.clear()
            for p in plans:
                await world.request(ctx, **p)
            await later(ctx, delay)
            for function in (1, 2):
                await world.invalidate(ctx, CONFIG.device_id + function, function, PAGE)
            await reset(world, ctx, [TAG, OTHER])
            quiet = len(world.accesses)
            for p in plans[:2]:
                status, _ = world.done[p["tag"]]
                assert status in (DmaStatus.OK, DmaStatus.CANCELLED, DmaStatus.FAULT)
            assert (await world.wait(ctx, STRANGER))[0] == DmaStatus.OK
            check(world, plans[2], before)
            assert {user.device_id for *_, user in world.accesses[quiet:]} <= {DEVICE + 1}
            while len(world.completions) < 2:
                await ctx.tick()
            world.completions.clear()
            # What was cancelled may have been written, and is written again.
            for p in plans[:2]:
                await world.request(ctx, **p)
            for p in plans[:2]:
                assert (await world.wait(ctx, p["tag"]))[0] == DmaStatus.OK
                check(world, p, before)
            assert (world.guest, world.local) == before

    world.run(test)
