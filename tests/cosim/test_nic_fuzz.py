"""Random harm on the golden machine beside correct drivers, which never notice."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.malformed import WAYS
from cosim.guest.packed_queue import PackedQueue
from cosim.guest.virtqueue import BrokenDevice, Piece
from cosim.nic_fuzz.generator import STORED
from models.spec.nic import (
    BAR_BYTES,
    COMMON_OFFSET,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    FunctionControl,
    QueueError,
    bar_base,
)
from models.spec.virtio import Feature, common
from models.spec.virtio_net import ControlClass
from tests.cosim.platform import COMPLETE, frame, run

#: What would take frames of the others, were it granted: tables, a MAC, a mode.
TAKING = (
    (1, 0, b"\2\0\0\0" + bytes.fromhex("021000000001 021000000002") + bytes(4)),
    (1, 0, bytes(4) + b"\1\0\0\0" + bytes.fromhex("021000000002")),
    (1, 1, bytes.fromhex("021000000001")),
    (0, 0, b"\1"),
)

registers = st.tuples(
    st.just("register"),
    st.sampled_from(STORED),
    st.one_of(st.integers(0, 16), st.integers(0, (1 << 64) - 1)),
)
offsets = st.tuples(st.just("offset"), st.integers(0, BAR_BYTES - 4), st.integers(0, (1 << 32) - 1))
rings = st.tuples(
    st.just("ring"), st.integers(0, 2), st.integers(0, 1023), st.binary(min_size=1, max_size=24)
)
kicks = st.tuples(st.just("kick"), st.integers(0, 4))
ways = st.tuples(st.just("way"), st.integers(0, len(WAYS) - 1))
sends = st.tuples(st.just("send"), st.binary(min_size=12, max_size=12), st.integers(1, 3000))
kinds = st.sampled_from((*map(int, ControlClass), 0xFF))
any_command = st.tuples(kinds, st.integers(0, 4), st.binary(max_size=80))
commands = st.tuples(
    st.just("command"),
    st.lists(
        st.tuples(st.one_of(any_command, st.sampled_from(TAKING)), st.integers(0, 10)),
        min_size=1,
        max_size=12,
    ),
)
restarts = st.tuples(st.just("restart"))
waits = st.tuples(st.just("wait"), st.integers(1, 5000))
actions = st.lists(
    st.one_of(registers, offsets, rings, kicks, ways, ways, ways, sends, commands, restarts, waits),
    min_size=3,
    max_size=25,
)


class Tolerant:
    """A processor on which a driver that finds its device broken just ends."""

    def __init__(self, machine):
        self.sleep, self.event, self._machine = machine.sleep, machine.event, machine

    def spawn(self, coroutine, name=""):
        async def tolerate():
            with suppress(BrokenDevice):
                await coroutine

        return self._machine.spawn(tolerate(), name)


class Hostile:
    """Does what is drawn, with a driver whose queues it may break."""

    def __init__(self, platform, guest):
        self.platform, self.guest = platform, guest
        self.memory, self.machine = guest.vm.memory, platform.machine

    async def act(self, kind, *rest):
        await getattr(self, f"_{kind}")(*rest)
        await self.machine.sleep(200)
        function = self.machine.nic.functions[3]
        assert not FunctionControl.from_bits(function.control).promiscuous
        assert all(mac[0] & 1 for mac in function.mac_filters)

    async def _write(self, offset, value, size):
        await self.machine.mmio_write("nic", bar_base(3) + offset, value, size)

    async def _register(self, name, value):
        register = common(name)
        size = register.bytes
        await self._write(COMMON_OFFSET + register.offset, value & (1 << 8 * size) - 1, size)

    async def _offset(self, offset, value):
        if not offset >= MSIX_TABLE_OFFSET:  # which a guest does not reach
            await self._write(offset & ~3, value, 4)

    async def _ring(self, area, offset, content):
        gpa, size = self.guest.driver.queue(1)._areas[area]
        content = content[:size]
        self.memory.write(gpa + offset % max(1, size - len(content) + 1), content)

    async def _kick(self, queue):
        await self._write(NOTIFY_OFFSET + 4 * queue, queue, 2)

    async def _way(self, number):
        packed = isinstance(self.guest.driver.queue(1), PackedQueue)
        mine = [way for way in WAYS if way.packed == packed]
        way = mine[number % len(mine)]
        queue = self.guest.driver.queue(0 if way.receive else 1)
        way.harm(queue)
        await self._kick(queue.number)

    async def _send(self, header, length):
        queue = self.guest.driver.queue(1)
        gpa = self.guest.allocator.allocate(length + 12)
        content = bytes.fromhex("02100000000102100000000388b5") + bytes(length)
        self.memory.write(gpa, header + content[:length])
        if queue.fits(1):
            queue.add([Piece(gpa, 12 + length)], (), gpa)
        await self._kick(1)

    async def _command(self, commands):
        """Commands at once, with room for an answer of some bytes."""
        client = self.guest.driver.control
        if client is None:
            return
        queue = client._queue
        with suppress(BrokenDevice):
            while queue.take() is not None:
                pass
        for (kind, command, data), room in commands:
            if not queue.fits(2):
                break
            content = bytes((kind, command)) + data
            writable = [Piece(queue.store(bytes(room)), room)] if room else []
            queue.add([Piece(queue.store(content), len(content))], writable, None)
        await self._kick(queue.number)

    async def _restart(self):
        with suppress(BrokenDevice):
            await self.guest.driver.stop()
            await self.guest.driver.start()

    async def _wait(self, cycles):
        await self.machine.sleep(cycles)


def beside_correct_drivers(harm, *, packed, ats, seed):
    """Do harm while two others exchange frames; they get all of them, and nothing else."""

    async def scenario(platform):
        features = KNOWN_FEATURES & ~(0 if packed else 1 << Feature.RING_PACKED)
        guests = [await platform.guest(f, features=features, pairs=f) for f in (1, 2)]
        guest = await platform.guest(3, features=features, ats=ats, fragments=2, start=False,
                                     assign={"spoof_check": True})  # fmt: skip
        guest.driver._cpu = Tolerant(platform.machine)
        await guest.driver.start()
        hostile = Hostile(platform, guest)

        async def act():
            for action in harm:
                await hostile.act(*action)

        task = platform.machine.spawn(act(), "hostile")
        await exchange_among(platform, guests, seed)
        await platform.until(lambda: task.done, cycles=3_000_000)
        await exchange_among(platform, guests, seed + 1)
        for function in (1, 2):
            queues = platform.machine.nic.functions[function].queues
            assert all(queue.error is QueueError.NONE for queue in queues)

    run(scenario, nic=COMPLETE, limit=20_000_000)


async def exchange_among(platform, guests, seed):
    """Exchange frames; those of the hostile one may come between them."""
    rng = Random(seed)
    sent = [[frame(guests[1 - n].mac, guests[n].mac, rng) for _ in range(6)] for n in (0, 1)]
    for guest in guests:
        guest.received.clear()
    for pair in zip(*sent, strict=True):
        for guest, content in zip(guests, pair, strict=True):
            await guest.driver.send(content)

    def arrived(n):
        return [f for f in guests[n].received if f[6:12] == guests[1 - n].mac]

    await platform.until(lambda: all(len(arrived(n)) == 6 for n in (0, 1)))
    assert [arrived(n) for n in (0, 1)] == [sent[1], sent[0]]


cases = given(harm=actions, packed=st.booleans(), ats=st.booleans(), seed=st.integers(0, 1 << 20))
few = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@few
@cases
def test_correct_drivers_never_notice(harm, packed, ats, seed):
    beside_correct_drivers(harm, packed=packed, ats=ats, seed=seed)


@pytest.mark.full
@settings(few, max_examples=400, derandomize=False)
@cases
def test_correct_drivers_never_notice_at_length(harm, packed, ats, seed):
    beside_correct_drivers(harm, packed=packed, ats=ats, seed=seed)
