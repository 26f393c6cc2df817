"""Interrupt moderation of queues, by control queue."""

import asyncio

import pytest

from cosim.guest.control import CommandFailed
from cosim.hypervisor.coalescing import CoalescingControl
from cosim.hypervisor.costs import Costs
from models.spec.nic import QueueCoalescing, Stat
from models.spec.virtio import Feature
from models.spec.virtio_net import (
    ControlAck,
    ControlCoalescing,
)
from tests.cosim.control_world import mac, raw, scenario, settle
from tests.cosim.drivers import sharing
from tests.cosim.platform import COMPLETE, run


def test_notifications_are_coalesced_by_count_and_by_time():
    frames = [raw(mac(1), mark=n) for n in range(8)]

    async def steps(platform, guests, wire):
        control, cycles = guests[1].driver.control, platform.hypervisor.costs.clock_mhz

        async def interrupts():
            before = platform.stat(1, Stat.INTERRUPTS)
            guests[1].received.clear()
            for content in frames:
                await platform.machine.send_frame(content)
                await platform.machine.sleep(1500)
            await settle(platform)
            assert guests[1].received == frames
            return platform.stat(1, Stat.INTERRUPTS) - before

        alone = await interrupts()
        assert alone > 2
        await control.set_coalescing(packets=8, usecs=200)
        assert await interrupts() == 1
        assert await control.coalescing(0) == (8, 200)
        assert await control.coalescing(1) == (0, 0)
        await control.set_coalescing(packets=9, usecs=100, queue=0)
        since = platform.machine.now()
        guests[1].received.clear()
        await platform.machine.send_frame(frames[0])
        await platform.until(lambda: guests[1].received)
        assert 100 * cycles <= platform.machine.now() - since <= 100 * cycles + 2000
        # If one of the two is 0, every packet is told of.
        for packets, usecs in ((0, 100), (8, 0)):
            await control.set_coalescing(packets=packets, usecs=usecs, queue=0)
            assert await control.coalescing(0) == (packets, usecs)
            assert await interrupts() == alone
        await control.set_coalescing(packets=0, usecs=0)
        assert await interrupts() == alone
        await control.set_coalescing(packets=5, usecs=1000, transmit=True)
        assert await control.coalescing(1) == (5, 1000)
        with pytest.raises(CommandFailed):
            await control.set_coalescing(packets=1, usecs=1, queue=9)
        with pytest.raises(CommandFailed):
            await control.coalescing(9)
        # A new driver begins without.
        await guests[1].driver.stop()
        await guests[1].driver.start()
        await settle(platform)
        assert await guests[1].driver.control.coalescing(1) == (0, 0)
        assert platform.machine.nic.functions[1].coalescing[1] == 0

    scenario(steps)


def test_queues_that_share_a_vector_are_moderated_together():
    run(sharing, nic=COMPLETE)


def test_coalescing_of_a_queue_that_is_not_enabled_is_refused():
    async def steps(platform, guests, wire):
        control = guests[1].driver.control
        for queue in (2, 3):
            with pytest.raises(CommandFailed):
                await control.set_coalescing(packets=8, usecs=200, queue=queue)
            with pytest.raises(CommandFailed):
                await control.coalescing(queue)
        await control.set_coalescing(packets=8, usecs=200, queue=1)

    scenario(steps)


def test_a_queue_that_is_reset_has_the_coalescing_of_its_direction():
    async def steps(platform, guests, wire):
        driver = guests[1].driver
        control = driver.control
        await control.set_coalescing(packets=4, usecs=50)
        for queue in range(2):
            await control.set_coalescing(packets=8, usecs=200, queue=queue)
        await driver.reset_queues(0)
        assert [await control.coalescing(queue) for queue in range(2)] == [(4, 50), (0, 0)]
        # What comes at once behind a reset stays.
        await driver.reset_queues(0)
        await control.set_coalescing(packets=7, usecs=70, queue=0)
        await settle(platform)
        assert await control.coalescing(0) == (7, 70)
        setting = QueueCoalescing.from_bits(platform.machine.nic.functions[1].coalescing[0])
        assert (setting.packets, setting.cycles) == (7, 7000)

    scenario(steps)


def test_coalescing_of_a_queue_that_is_enabled_again_before_software_looks():
    async def steps(platform, guests, wire):
        driver, function = guests[1].driver, platform.machine.nic.functions[1]
        await driver.control.set_coalescing(packets=4, usecs=50)
        await driver.control.set_coalescing(packets=8, usecs=200, queue=0)
        await driver.reset_queues(0)
        setting = QueueCoalescing.from_bits(function.coalescing[0])
        assert function.queues[0].queue_enable
        assert (setting.packets, setting.cycles) == (8, 20_000)  # nobody has looked
        await settle(platform)
        setting = QueueCoalescing.from_bits(function.coalescing[0])
        assert (setting.packets, setting.cycles) == (4, 5000)

    scenario(steps, costs=Costs(interrupt_ns=20_000))


def test_coalescing_follows_queues_that_are_enabled_and_reset():
    """Without a machine, as hardware that tells of them lets it."""
    features = 1 << Feature.NET_NOTF_COAL | 1 << Feature.NET_VQ_NOTF_COAL
    registers, enabled = {}, 0b0111

    async def steps():
        async def write(name, value):
            registers[name] = value

        async def which():
            return enabled

        def data(packets, usecs, queue=None):
            head = b"" if queue is None else queue.to_bytes(4, "little")
            return head + packets.to_bytes(4, "little") + usecs.to_bytes(4, "little")

        async def get(queue):
            told, ack = await control.answer(ControlCoalescing.VQ_GET, queue.to_bytes(4, "little"))
            return told if ack == ControlAck.OK else None

        async def put(command, content):
            return (await control.answer(command, content))[1]

        control = CoalescingControl(write, 2, 100, which)
        # With neither MQ nor RSS number 2 is the control queue, which has none.
        await control.reset(features)
        for queue in range(3):
            expected = ControlAck.OK if queue < 2 else ControlAck.ERR
            assert await put(ControlCoalescing.VQ_SET, data(8, 200, queue)) == expected
        await control.reset(features | 1 << Feature.NET_MQ)
        assert await put(ControlCoalescing.RX_SET, data(4, 50)) == ControlAck.OK
        for queue in range(4):
            expected = ControlAck.OK if queue < 3 else ControlAck.ERR
            assert await put(ControlCoalescing.VQ_SET, data(8, 200, queue)) == expected
        assert [await get(queue) for queue in range(4)] == [data(8, 200)] * 3 + [None]
        await control.restore([0, 1])
        assert [await get(queue) for queue in range(3)] == [data(4, 50), data(0, 0), data(8, 200)]
        assert [registers[f"coalescing{n}"] & 0x3FF for n in range(4)] == [4, 0, 8, 0]
        await control.reset(features | 1 << Feature.NET_MQ)
        assert [await get(queue) for queue in range(3)] == [data(0, 0)] * 3

    asyncio.run(steps())
