"""The scheduler: order, sleeping, joining, cancelling, and how a run ends badly."""

from asyncio import CancelledError

import pytest

from cosim.kernel import Kernel, Stuck


def test_tasks_run_by_cycle_and_then_by_order_of_scheduling():
    kernel, seen = Kernel(), []

    async def worker(name: str, *naps: int) -> str:
        for nap in naps:
            await kernel.sleep(nap)
            seen.append((kernel.now(), name))
        return name

    async def main():
        tasks = [kernel.spawn(worker(*work)) for work in (("a", 5, 5), ("b", 3, 7), ("c", 10))]
        return [await task.join() for task in tasks]

    assert kernel.run(main()) == ["a", "b", "c"]
    assert seen == [(3, "b"), (5, "a"), (10, "c"), (10, "b"), (10, "a")]
    assert kernel.now() == 10


def test_event_wakes_everyone_once_and_stays_set():
    kernel, woken = Kernel(), []
    event = kernel.event()

    async def waiter(name: str) -> None:
        await event.wait()
        woken.append((name, kernel.now()))

    async def main():
        first, second = kernel.spawn(waiter("first")), kernel.spawn(waiter("second"))
        await kernel.sleep(4)
        assert not first.done
        assert not event.is_set
        event.set()
        await first.join()
        await second.join()
        await waiter("late")
        event.clear()
        assert not event.is_set

    kernel.run(main())
    assert woken == [("first", 4), ("second", 4), ("late", 4)]


def test_failure_reaches_who_joins():
    kernel = Kernel()

    async def bad():
        await kernel.sleep(1)
        raise ValueError("wrong")

    async def main():
        with pytest.raises(ValueError, match="wrong"):
            await kernel.spawn(bad()).join()
        return "survived"

    assert kernel.run(main()) == "survived"


def test_failure_that_nobody_joins_ends_the_run():
    kernel = Kernel()

    async def bad():
        raise ValueError("wrong")

    async def main():
        kernel.spawn(bad())
        await kernel.sleep(1000)

    with pytest.raises(ValueError, match="wrong"):
        kernel.run(main())
    assert kernel.now() == 0


def test_cancelled_task_cleans_up_and_is_not_resumed():
    kernel, seen = Kernel(), []
    event = kernel.event()

    async def worker():
        try:
            await event.wait()
            seen.append("resumed")
        finally:
            seen.append("cleaned")

    async def main():
        task, early = kernel.spawn(worker()), kernel.spawn(worker())
        early.cancel()
        await kernel.sleep(2)
        assert early.done
        event.set()  # and in the same cycle:
        task.cancel()
        with pytest.raises(CancelledError):
            await task.join()
        assert task.done

    kernel.run(main())
    assert seen == ["cleaned"]


def test_hang_and_limit_are_told_apart():
    async def forever(kernel):
        while True:
            await kernel.sleep(10)

    async def silence(kernel):
        await kernel.event().wait()

    kernel = Kernel()
    with pytest.raises(TimeoutError, match="forever has not ended after 95 cycles"):
        kernel.run(forever(kernel), limit=95)
    assert kernel.now() == 90
    with pytest.raises(Stuck, match="silence waits for what cannot happen"):
        kernel.run(silence(Kernel()))


def test_foreign_awaitable_is_refused():
    class Foreign:
        def __await__(self):
            yield "asyncio"

    async def main():
        await Foreign()

    with pytest.raises(TypeError, match="awaits 'asyncio', which is not of this kernel"):
        Kernel().run(main())


def test_plain_functions_can_be_scheduled():
    kernel, seen = Kernel(), []

    async def main():
        kernel.call_later(7, lambda: seen.append(kernel.now()))
        await kernel.sleep(8)

    kernel.run(main())
    assert seen == [7]
