"""The golden rings against the driver's queues, over plain memory."""

from random import Random

import pytest

from cosim.guest.malformed import WAYS
from cosim.guest.memory import Allocator, DeviceSpace
from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import Piece, QueueOptions
from models.nic.dma import Stopped
from models.nic.packed_ring import PackedRing
from models.nic.rings import Direction, RingSetup, Used
from models.nic.split_ring import SplitRing
from models.spec.nic import MERGED_BUFFERS, QueueError
from models.spec.virtio import DescriptorFlag


class Memory:
    """Guest memory and the device's access to it."""

    def __init__(self):
        self.content, self.accesses = bytearray(1 << 20), 0

    def read(self, address, size, *refused):
        raw = bytes(self.content[address : address + size])
        return self._step(raw) if refused else raw

    def write(self, address, data, *refused):
        self.content[address : address + len(data)] = data
        return self._step(b"") if refused else None

    def _step(self, raw):
        self.accesses += 1
        return raw
        yield


def now(steps):
    """What a transfer that never waits returns."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class World:
    """A queue, from both sides."""

    def __init__(self, *, packed, size=8, direction=Direction.READ, **options):
        self.memory = Memory()
        self.allocator = Allocator(0x1000, 0xF0000)
        driver, device = (PackedQueue, PackedRing) if packed else (SplitQueue, SplitRing)
        self.queue = driver(
            self.memory,
            self.allocator,
            DeviceSpace(),
            number=0,
            size=size,
            options=QueueOptions(**options),
        )
        desc, avail, used = self.queue.addresses
        setup = RingSetup(
            size=size, desc=desc, driver=avail, device=used, direction=direction, **options
        )
        self.ring = device(self.memory, setup)

    def pieces(self, count, length=8):
        return [Piece(self.allocator.allocate(length), length) for _ in range(count)]

    def take(self):
        return now(self.ring.take())

    def give_back(self, *used):
        return now(self.ring.give_back(used))


#: Where all memory is there.
_WAYS = [way for way in WAYS if way.code is not QueueError.RING_ADDRESS]


@pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.name)
def test_each_way_to_be_malformed_has_its_code(way):
    direction = Direction.WRITE if way.receive else Direction.READ
    size = 8 if 8 in way.sizes else 64
    world = World(packed=way.packed, size=size, direction=direction, indirect=way.indirect)
    for _ in range(size + 3):  # so that the harm is done in a later lap
        pieces = world.pieces(1)
        world.queue.add(*(((), pieces) if way.receive else (pieces, ())), token=None)
        world.give_back(Used(world.take(), 0))
        assert world.queue.take() == (None, 0)
    way.harm(world.queue)
    if way.code is QueueError.BAD_LENGTH:  # which is for the service to refuse
        chains = list(iter(world.take, None))
        assert (min(chain.write_bytes for chain in chains) < 12) is not way.merged
        whole = sum(chain.slots for chain in chains) == size
        assert sum(chain.write_bytes for chain in chains) < 12 + 1514
        assert not way.merged or whole or len(chains) == MERGED_BUFFERS
        return
    with pytest.raises(Stopped) as caught:
        world.take()
    assert caught.value.error is way.code


def test_readable_after_writable_is_refused_where_both_may_be():
    for packed in (False, True):
        world = World(packed=packed, direction=Direction.BOTH)
        one, two = world.pieces(2)
        if packed:
            world.queue.write_descriptor(1, two.gpa, 8, 0, 0)
            world.queue.write_descriptor(0, one.gpa, 8, 0, DescriptorFlag.WRITE | 1)
        else:
            world.queue.write_descriptor(0, one.gpa, 8, DescriptorFlag.WRITE | 1, 1)
            world.queue.write_descriptor(1, two.gpa, 8, 0, 0)
            world.queue.publish(0)
        with pytest.raises(Stopped) as caught:
            world.take()
        assert caught.value.error is QueueError.BAD_CHAIN


def test_split_chain_may_end_in_a_table_and_the_tables_write_flag_is_ignored():
    world = World(packed=False, indirect=True)
    one, two = world.pieces(2)
    table = SplitQueue._table(world.queue, 99, 1)
    world.queue._write(table, 0, two.gpa, 8, 0, 0)
    world.queue.write_descriptor(3, one.gpa, 8, DescriptorFlag.NEXT, 5)
    flags = DescriptorFlag.INDIRECT | DescriptorFlag.WRITE
    world.queue.write_descriptor(5, table, 16, flags, 0)
    world.queue.publish(3)
    assert [b.address for b in world.take().readable] == [one.gpa, two.gpa]


def test_packed_queue_with_more_than_it_holds_is_refused():
    world = World(packed=True, size=2)
    for position in range(3):  # the third one, before any came back
        world.queue.write_descriptor(position, 0x1000, 8, 0, 0)
        if position < 2:
            assert world.take() is not None
    with pytest.raises(Stopped) as caught:
        world.take()
    assert caught.value.error is QueueError.BAD_INDEX


@pytest.mark.parametrize("packed", [False, True])
def test_packed_needs_fewer_accesses(packed):
    world = World(packed=packed)
    world.queue.add(world.pieces(1), (), None)
    world.give_back(Used(world.take(), 0))
    assert world.memory.accesses == (3 if packed else 6)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_random_traffic(packed, indirect, event_idx, in_order):
    """Chains of any length, given back in batches and in any order; nobody ever waits in vain."""
    rng = Random(f"{packed}{indirect}{event_idx}{in_order}")
    for size in (2, 4, 8, *((3, 7, 13) if packed else ())):
        world = World(
            packed=packed,
            size=size,
            direction=Direction.BOTH,
            indirect=indirect,
            event_idx=event_idx,
            in_order=in_order,
        )
        # The driver has been told; the device has been told; what each waits for.
        told, notified, held, sent, back = True, True, [], 0, 0
        for _ in range(150):
            if rng.random() < 0.5:
                pieces = [Piece(0x80000 + n, 8) for n in range(rng.randint(1, min(size, 4)))]
                cut = rng.randint(0, len(pieces))
                if world.queue.fits(len(pieces)):
                    world.queue.add(pieces[:cut], pieces[cut:], (sent, pieces[:cut], pieces[cut:]))
                    sent += 1
                    notified = world.queue.wants_notify or notified
            if notified and rng.random() < 0.7:
                chain = world.take()
                if chain is None:
                    notified = False
                else:
                    held.append(chain)
            if held and rng.random() < 0.5:
                if not in_order:
                    rng.shuffle(held)
                count = rng.randint(1, len(held))
                used, held = held[:count], held[count:]
                told = world.give_back(*(Used(c, c.write_bytes) for c in used)) or told
            if told and rng.random() < 0.7:
                world.queue.disable_events()
                while (found := world.queue.take()) is not None:
                    (number, _, writable), length = found
                    assert length == sum(p.length for p in writable)
                    assert not in_order or number == back
                    back += 1
                delay = rng.choice((0, world.queue.outstanding // 2))
                told = world.queue.enable_events(delay=delay)
        assert sent > 15
        for _ in range(4 * size + 4):  # to the end, by notifications and interrupts alone
            if notified and (chain := world.take()) is not None:
                held.append(chain)
            elif notified:
                notified = False
            if held:
                told = world.give_back(*(Used(c, c.write_bytes) for c in held)) or told
                held = []
            if told:
                while world.queue.take() is not None:
                    back += 1
                told = world.queue.enable_events()
        assert back == sent
