"""Drivers that mean harm, or die, or come and go: their queue stops, and nobody else notices."""

import re
from functools import partial
from pathlib import Path
from random import Random

import pytest

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.malformed import CONTROL_WAYS, NOT_OWNED, WAYS
from cosim.guest.virtqueue import Piece
from cosim.nic_fuzz.memory_ways import MEMORY_WAYS
from models.spec.nic import QueueError, Stat
from models.spec.virtio import Feature
from tests.cosim.drivers import dying, exchange, forsaken, unbinding
from tests.cosim.platform import COMPLETE, frame, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "virtqueues.md"
LIMIT = 3_000_000
PLAIN = KNOWN_FEATURES & ~(1 << Feature.RING_PACKED)
QUICK = ("split-loop", "split-short-buffer", "packed-chain-into-what-is-not-available")


def test_the_document_lists_every_way_and_its_code():
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| `(\w+)` \|$", DOCUMENT.read_text(), re.M)
    assert rows == [(way.name, way.code.name) for way in (*WAYS, *CONTROL_WAYS)]


def test_the_document_lists_every_way_of_memory_and_its_code():
    rows = re.findall(
        r"^\| `([\w-]+)` \| [^|]* \| ([^|]*) \| `[^|]*::\w+` \|$", DOCUMENT.read_text(), re.M
    )
    assert [name for name, _ in rows] == [way.name for way in MEMORY_WAYS]
    for (_, outcome), way in zip(rows, MEMORY_WAYS, strict=True):
        assert outcome == f"`{way.code.name}`" or not way.code


def test_every_code_has_a_way_or_a_row():
    text = DOCUMENT.read_text()
    assert [code.name for code in QueueError if code and f"`{code.name}`" not in text] == []


async def stopped(platform, function, queue):
    """Wait for a queue to stop, and return why."""
    registers = platform.machine.nic.functions[function].queues[queue]
    await platform.until(lambda: registers.error)
    assert await platform.hypervisor.queue_error(function, queue) is registers.error
    return registers.error


def others_go_on(harm, *, features=KNOWN_FEATURES, nic=None, **options):
    """Guest 3 does ``harm``; guests 1 and 2 exchange frames before and after."""

    async def scenario(platform):
        guests = [await platform.guest(function) for function in (1, 2)]
        hostile = await platform.guest(3, features=features, **options)
        await exchange(platform, guests, count=2)
        await harm(platform, hostile, guests)
        await exchange(platform, guests, count=2, seed=2)

    run(scenario, nic=COMPLETE | (nic or {}), limit=LIMIT)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, id=way.name, marks=() if way.name in QUICK else pytest.mark.full)
        for way in WAYS
    ],
)
def test_a_malformed_queue_stops_alone(way):
    refused = 0 if way.packed else 1 << Feature.RING_PACKED
    refused |= 0 if way.indirect else 1 << Feature.RING_INDIRECT_DESC

    async def harm(platform, hostile, guests):
        number = 0 if way.receive else 1
        if number:
            await hostile.driver.send(frame(guests[0].mac, hostile.mac, Random(1)))
            await hostile.driver.drained()
        way.harm(hostile.driver.queue(number))
        hostile.driver.kick(number)
        if way.receive:
            # Longer than what buffers of the driver's own are there.
            await platform.machine.send_frame(frame(hostile.mac, guests[0].mac, Random(1), 1514))
        assert await stopped(platform, 3, number) is way.code
        # The other queue of the hostile guest goes on, and a reset mends everything.
        await hostile.driver.stop()
        await hostile.driver.start()
        await exchange(platform, [hostile, guests[1]], count=2)

    size = 64 if 64 in way.sizes and "ring" not in way.name else 8
    options = {"buffers": 0 if way.receive else 16, "queue_size": size}
    others_go_on(harm, features=KNOWN_FEATURES & ~refused, **options)


def test_rings_outside_of_memory():
    async def harm(platform, hostile, guests):
        queue = hostile.driver.queue(1)
        queue._areas = ((NOT_OWNED, queue._areas[0][1]), *queue._areas[1:])
        transport = hostile.driver.transport
        await transport.reset_queue(1)
        await transport.enable_queue(queue, 1)
        queue.set_available(1)
        hostile.driver.kick()
        assert await stopped(platform, 3, 1) is QueueError.RING_ADDRESS
        assert len(platform.hypervisor.assignment(3).denied) == 1

    others_go_on(harm, features=PLAIN)


def post(queue, address):
    """Make a frame at an address available."""
    queue.write_descriptor(0, address, 80, 0, 0)
    queue.publish(0)


def test_a_refused_buffer_fails_alone():
    async def harm(platform, hostile, guests):
        driver = hostile.driver
        driver.queue(1).add([Piece(NOT_OWNED, 80)], (), driver._header())
        driver.kick()
        await driver.drained()
        for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_REFUSED):
            assert platform.stat(3, stat) == 1
        await exchange(platform, [hostile, guests[1]], count=2)

    others_go_on(harm, features=PLAIN)


def test_buffers_outside_of_memory_without_ats():
    async def harm(platform, hostile, guests):
        post(hostile.driver.queue(1), NOT_OWNED)
        hostile.driver.kick()
        assert await stopped(platform, 3, 1) is QueueError.BUFFER_ADDRESS

    others_go_on(harm, features=PLAIN, ats=False)


@pytest.mark.parametrize("ats", [True, False])
def test_a_mapping_to_nowhere(ats):
    """Without ATS the device does not know that there was a translation."""

    async def harm(platform, hostile, guests):
        hostile.vm.pages.map_device(0x3000_0000, 0x1_0000_0000)
        post(hostile.driver.queue(1), 0x3000_0000)
        hostile.driver.kick()
        code = QueueError.BUS if ats else QueueError.BUFFER_ADDRESS
        assert await stopped(platform, 3, 1) is code

    others_go_on(harm, features=PLAIN, ats=ats)


def test_a_page_request_without_answer():
    async def harm(platform, hostile, guests):
        platform.machine.nic.functions[0].page_timeout = 1000
        hypervisor = platform.hypervisor
        served = hypervisor._serve

        async def ignore(request, since):
            if request.device_id != hypervisor.assignment(3).device_id:
                await served(request, since)

        hypervisor._serve = ignore
        post(hostile.driver.queue(1), hostile.allocator.allocate(8192) + 4096)
        hostile.driver.kick()
        assert await stopped(platform, 3, 1) is QueueError.PAGE_REQUEST_FAILED

    others_go_on(harm, features=PLAIN)


@pytest.mark.parametrize("refuses", [False, True])
def test_two_queues_that_wait_for_one_page(refuses):
    """One page request for both; when it is refused the second asks for itself."""

    async def harm(platform, hostile, guests):
        page = NOT_OWNED
        if not refuses:
            page = hostile.allocator.allocate(8192, align=4096) + 4096
            hostile.vm.pages.store_image(page, bytes(80))
        stats = (Stat.PAGE_REQUESTS, Stat.PAGE_WAITS, Stat.PAGE_RETRIES, Stat.TX_DROPPED)
        before = [platform.stat(3, stat) for stat in stats]
        for number in (1, 3):
            hostile.driver.queue(number).add([Piece(page, 80)], (), number)
            hostile.driver.kick(number)
        await hostile.driver.drained()
        counts = [platform.stat(3, s) - n for s, n in zip(stats, before, strict=True)]
        assert counts[:3] == ([2, 1, 1] if refuses else [1, 1, 2])
        assert counts[3] == 2 * refuses

    others_go_on(harm, features=PLAIN, pairs=2)


# Coming and going --------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, pytest.param(False, marks=pytest.mark.full)])
def test_unbinding_and_binding_under_traffic(packed):
    run(partial(unbinding, packed=packed), nic=COMPLETE, limit=LIMIT)


def test_a_driver_that_dies_and_its_function_is_given_to_another():
    run(dying, nic=COMPLETE, limit=LIMIT)


def test_frames_for_a_function_that_was_reset_stay_inside():
    run(forsaken, nic=COMPLETE, limit=LIMIT)
