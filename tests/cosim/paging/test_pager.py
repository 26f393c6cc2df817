"""The pager on the golden machine: nothing is lost, whatever is evicted, shared or lent."""

from random import Random

import pytest

from cosim.guest.balloon import BalloonDriver
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.paging.balloon import Balloon
from cosim.hypervisor.paging.mechanisms import Mechanisms
from cosim.hypervisor.paging.pager import Pager
from cosim.hypervisor.vm import RAM_GPA
from models.pagetable import KIB_4, PageFlags
from models.spec.nic import QueueError
from tests.cosim.platform import frame, run

PLAIN = b"\x88\xb5"


async def exchange(platform, guests, count, rng, *, pause=3000):
    """Each guest sends frames to the others; all of them arrive, in order and byte for byte."""
    sent = {}

    async def sender(number):
        guest = guests[number]
        for turn in range(count):
            target = guests[(number + 1 + turn % (len(guests) - 1)) % len(guests)]
            content = frame(target.mac, guest.mac, rng)
            sent.setdefault((guest.mac, target.mac), []).append(content)
            await guest.driver.send(content)
            await platform.machine.sleep(rng.randrange(pause))

    senders = [platform.machine.spawn(sender(number)) for number in range(len(guests))]
    for task in senders:
        await task.join()
    total = count * len(guests)
    await platform.until(lambda: sum(len(g.received) for g in guests) == total, 20_000_000)
    got = {}
    for guest in guests:
        for content in guest.received:
            got.setdefault((content[6:12], content[:6]), []).append(content)
    assert got == sent


def unharmed(platform):
    """No queue has stopped, and every page came back as it was."""
    assert platform.pager.store.mismatches == 0
    for guest in platform.hypervisor.assignments.values():
        for queue in platform.machine.nic.functions[guest.function].queues:
            assert queue.error == QueueError.NONE
    assert not platform.hypervisor.iommu.faults
    assert platform.pager.resident_peak <= platform.pager.memory_bytes
    assert platform.pager.frames == len(platform.pager.clock)
    assert platform.hypervisor.pages.used >= platform.pager.frames


ALL = Mechanisms(compression=True, sharing=True, balloon=True)


@pytest.mark.parametrize("name", ["default", "tiny"])
@pytest.mark.parametrize(
    ("frames", "mechanisms"),
    [
        (16, Mechanisms()),
        (24, Mechanisms(compression=True)),
        (24, ALL),
        (200, Mechanisms(swap=False)),
    ],
)
def test_every_frame_arrives_with_a_fraction_of_memory(name, frames, mechanisms):
    """With hardware A and D bits (``default``) and without (``tiny``)."""

    async def scenario(platform):
        guests = [await platform.guest(function, frame_bytes=1514) for function in (1, 2, 3)]
        await exchange(platform, guests, 16, Random(1))
        unharmed(platform)
        counts = platform.pager.counts
        assert counts.device_faults > 0
        assert (counts.evictions > 0) == mechanisms.swap
        if name == "tiny" or not mechanisms.swap:
            assert counts.clean == 0

    run(scenario, name=name, frames=frames, mechanisms=mechanisms, scan_cycles=2000)


def test_what_a_processor_has_written_comes_back_from_swap():
    async def scenario(platform):
        vm = platform.pager.new_vm("guest", 64 * KIB_4)
        rng = Random(5)
        contents = [rng.randbytes(KIB_4) for _ in range(64)]
        for number, content in enumerate(contents):
            vm.memory.write(RAM_GPA + number * KIB_4, content)
            await vm.pay()
        for number in rng.sample(range(64), 64):
            assert vm.memory.read(RAM_GPA + number * KIB_4, KIB_4) == contents[number]
            await vm.pay()
        assert platform.pager.counts.evictions >= 48
        assert platform.pager.store.swap.written >= 48
        assert vm.exits["page_fault"] >= 64 + 48
        unharmed(platform)

    run(scenario, frames=16)


def test_with_no_frame_at_all_accesses_are_carried_out_on_the_copy():
    """64 pages are written in no time, while nothing can be evicted."""

    async def scenario(platform):
        vm = platform.pager.new_vm("guest", 64 * KIB_4)
        rng = Random(6)
        contents = [rng.randbytes(KIB_4) for _ in range(64)]
        for number, content in enumerate(contents):
            vm.memory.write(RAM_GPA + number * KIB_4, content)
        assert platform.pager.counts.emulated == 48
        assert vm.memory.read(RAM_GPA, 64 * KIB_4) == b"".join(contents)
        await platform.machine.sleep(100_000)
        assert vm.memory.read(RAM_GPA, 64 * KIB_4) == b"".join(contents)
        unharmed(platform)

    run(scenario, frames=16)


def test_a_page_that_was_only_read_is_evicted_without_a_write():
    """The D bit says so: hardware sets it, or it does not."""

    async def scenario(platform):
        guest = await platform.guest(1)
        other = await platform.guest(2)
        rng = Random(7)
        sent = [frame(other.mac, guest.mac, rng, 1514) for _ in range(24)]
        places = []
        for content in sent:
            gpa = guest.allocator.allocate(KIB_4, align=KIB_4)
            guest.vm.pages.store_image(gpa, content)
            places.append(gpa)
        written = platform.pager.store.swap.written
        for _ in range(2):
            for gpa in places:
                await guest.driver.send_from(gpa, 1514)
                await platform.machine.sleep(20_000)
        await platform.until(lambda: len(other.received) == 48)
        assert other.received == sent + sent
        assert platform.pager.counts.clean >= 24
        assert platform.pager.store.swap.written - written < platform.pager.counts.evictions
        unharmed(platform)

    run(scenario, frames=24)


async def equal_guests(platform, pages):
    """Two guests with the same content in some pages, shared."""
    guests = [await platform.guest(function, frame_bytes=1514) for function in (1, 2)]
    rng = Random(8)
    contents = [rng.randbytes(KIB_4) for _ in range(pages)]
    places = []
    for guest in guests:
        base = guest.allocator.allocate(pages * KIB_4, align=KIB_4)
        guest.vm.memory.write(base, b"".join(contents))
        places.append(base)
    await platform.until(lambda: platform.pager.sharing.shared >= 2 * pages, 1_000_000)
    return guests, places, contents


def test_equal_pages_of_two_guests_are_one_and_read_only():
    async def scenario(platform):
        guests, places, contents = await equal_guests(platform, 8)
        for at in range(8):
            leaves = [
                guest.vm.pages.table.walk(base + at * KIB_4)
                for guest, base in zip(guests, places, strict=True)
            ]
            assert leaves[0].target == leaves[1].target
            assert not any(leaf.flags & PageFlags.W for leaf in leaves)
        before = platform.pager.frames
        for guest, base in zip(guests, places, strict=True):
            assert guest.vm.memory.read(base, 8 * KIB_4) == b"".join(contents)
        # Sent as they are: DMA reads go to the shared page.
        mac = guests[1].mac + guests[0].mac + PLAIN
        guests[0].vm.memory.write(head := guests[0].allocator.allocate(14), mac)
        await guests[0].driver.send_pieces([Piece(head, 14), Piece(places[0] + 100, 1500)])
        await platform.until(lambda: guests[1].received)
        assert guests[1].received == [mac + contents[0][100:1600]]
        assert platform.pager.counts.breaks == 0
        assert platform.pager.frames <= before + 4
        unharmed(platform)

    run(scenario, frames=400, mechanisms=Mechanisms(sharing=True), scan_cycles=2000)


@pytest.mark.parametrize("name", ["default", "tiny"])
def test_dma_that_writes_a_shared_page_gets_a_copy(name):
    """Receive buffers of three guests are zeros at first, hence one page."""

    async def scenario(platform):
        guests = [await platform.guest(function, start=False) for function in (1, 2, 3)]
        for guest in guests:
            guest.vm.memory.write(RAM_GPA, bytes(40 * KIB_4))
        await platform.until(lambda: platform.pager.sharing.shared >= 120)
        assert platform.pager.frames < 10
        for guest in guests:
            await guest.driver.start()
        at_once = platform.pager.counts.at_once
        await exchange(platform, guests, 20, Random(9))
        assert platform.pager.counts.breaks > 20
        assert platform.pager.counts.at_once == at_once, "drivers ask before they write"
        unharmed(platform)

    run(scenario, name=name, frames=300, mechanisms=Mechanisms(sharing=True), scan_cycles=1000)


def test_a_processor_that_writes_a_shared_page_without_asking_gets_a_copy_at_once():
    async def scenario(platform):
        guests, places, contents = await equal_guests(platform, 4)
        [first, second], vm = places, guests[0].vm
        vm.memory.write(first + 10, b"mine")
        mine = contents[0][:10] + b"mine" + contents[0][14:]
        assert vm.memory.read(first, KIB_4) == mine
        assert guests[1].vm.memory.read(second, KIB_4) == contents[0]
        # Until no translation of the old page is left, its doorbells wait.
        rung = []
        vm.post(lambda: rung.append(platform.machine.now()))
        assert not rung
        await platform.machine.sleep(5000)
        assert rung
        assert vm.memory.read(first, KIB_4) == mine
        assert platform.pager.counts.breaks == 1
        unharmed(platform)

    run(scenario, frames=400, mechanisms=Mechanisms(sharing=True), scan_cycles=2000)


def test_shared_pages_are_stored_once_and_come_back_shared():
    async def scenario(platform):
        guests, places, contents = await equal_guests(platform, 8)
        written = platform.pager.store.swap.written
        while platform.pager.sharing.shared:
            await platform.pager.reclaim.evict(16)
        assert platform.pager.store.swap.written > written
        for at in range(8):
            for guest, base in zip(guests, places, strict=True):
                assert guest.vm.memory.read(base + at * KIB_4, KIB_4) == contents[at]
                await guest.vm.pay()
        pages = [g.vm.pages.page(base) for g, base in zip(guests, places, strict=True)]
        assert pages[0].content is pages[1].content
        unharmed(platform)

    run(scenario, frames=400, mechanisms=Mechanisms(sharing=True), scan_cycles=2000)


def test_balloon_takes_what_the_guest_chooses_and_gives_it_back():
    async def scenario(platform):
        guest = await platform.guest(1)
        memory, vm = guest.vm.pages, guest.vm
        rng = Random(10)
        array = guest.allocator.allocate(KIB_4, align=KIB_4)
        free = [guest.allocator.allocate(KIB_4, align=KIB_4) for _ in range(20)]
        for gpa in free:
            vm.memory.write(gpa, rng.randbytes(KIB_4))
        balloon = Balloon(platform.pager, memory)
        driver = BalloonDriver(platform.machine, balloon, vm.memory, array, free)
        before = platform.pager.frames
        balloon.ask(15)
        await platform.until(lambda: balloon.actual == 15)
        await platform.machine.sleep(10_000)
        assert (driver.free, platform.pager.frames) == (5, before - 15 + 1)
        assert not any(memory.resident(gpa) for gpa in free[:15])
        assert vm.exits["balloon"] == 1
        # More than it has: it gives what it can.
        balloon.ask(100)
        await platform.until(lambda: balloon.actual == 20)
        # It needs a page, tells so, and finds it empty.
        gpa = await driver.claim()
        assert balloon.actual == 19
        assert vm.memory.read(gpa, KIB_4) == bytes(KIB_4)
        vm.memory.write(gpa, b"in use")
        balloon.ask(0)
        await platform.until(lambda: balloon.actual == 0)
        assert vm.memory.read(gpa, 6) == b"in use"
        assert balloon.refused == 0
        assert platform.pager.store.swap.used == 0
        unharmed(platform)

    run(scenario, frames=400)


def test_page_numbers_that_are_not_the_guests_are_refused():
    async def scenario(platform):
        vm = platform.pager.new_vm("guest", 16 * KIB_4)
        balloon = Balloon(platform.pager, vm.pages)
        numbers = [RAM_GPA + KIB_4, RAM_GPA + KIB_4, 0, RAM_GPA + 16 * KIB_4]
        vm.memory.write(RAM_GPA, b"".join((n >> 12).to_bytes(4, "little") for n in numbers))
        await balloon.inflate(RAM_GPA, 4)
        assert (balloon.actual, balloon.refused) == (1, 3)
        await balloon.deflate(RAM_GPA, 4)
        assert (balloon.actual, balloon.refused) == (0, 6)

    run(scenario, frames=16)


@pytest.mark.parametrize("seed", range(2))
def test_pages_taken_at_random_under_active_dma(seed):
    """Eviction, merging and breaking all the time, on top of what the pager wants itself."""

    async def scenario(platform):
        rng = Random(seed)
        guests = [await platform.guest(function, start=False) for function in (1, 2, 3)]
        for guest in guests:
            guest.vm.memory.write(RAM_GPA, bytes(40 * KIB_4))
            await guest.driver.start()

        async def disturb():
            while True:
                await platform.pager.reclaim.evict(rng.randint(1, 12))
                await platform.machine.sleep(rng.randrange(400))

        platform.machine.spawn(disturb())
        await exchange(platform, guests, 25, rng, pause=400)
        counts = platform.pager.counts
        assert min(counts.evictions, counts.rescued, counts.merged, counts.breaks) > 20
        unharmed(platform)

    run(scenario, frames=300, mechanisms=ALL, scan_cycles=300, costs=Costs(service_cycles=100))


def test_a_first_stage_is_walked_through_paged_memory():
    async def scenario(platform):
        guests = [
            await platform.guest(function, frame_bytes=1514, first_stage=function == 1)
            for function in (1, 2)
        ]
        await exchange(platform, guests, 16, Random(11))
        assert platform.pager.counts.evictions
        unharmed(platform)

    run(scenario, frames=20)


def test_bad_sizes_are_refused():
    async def scenario(platform):
        await platform.machine.sleep(1)
        with pytest.raises(ValueError, match="needs 16 pages of 4096 bytes, not 4096 bytes"):
            Pager(platform.hypervisor, KIB_4)
        pager = Pager(platform.hypervisor, 16 * KIB_4, Mechanisms(swap=False))
        pager.start()
        vm = pager.new_vm("guest", 32 * KIB_4)
        for number in range(16):
            vm.pages.make_resident(RAM_GPA + number * KIB_4)
        with pytest.raises(MemoryError, match="no frame left"):
            vm.pages.make_resident(RAM_GPA + 16 * KIB_4)
        with pytest.raises(TypeError, match="A pager has this memory"):
            await platform.hypervisor.evict(vm, RAM_GPA)

    run(scenario)
