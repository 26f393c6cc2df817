"""Registers of all functions: negotiation, queues, notifications, management."""

import pytest

from models.spec.nic import (
    BASE_FEATURES,
    CONFIG_BASE,
    DEVICE_OFFSET,
    ISR_OFFSET,
    MSIX_PBA_OFFSET,
    NOTIFY_OFFSET,
    Stat,
    bar_base,
    function_block,
    initial_mac,
    offered_features,
    stat_offset,
)
from models.spec.virtio import MSI_NO_VECTOR, Feature
from tests.rtl.agents import run, wait_for
from tests.rtl.nic.registers_world import COMMAND, PER, RING, TINY, Machine, S, fields


def test_values_after_power_on():
    machine = Machine()

    async def bench(ctx):
        for f in range(TINY.functions):
            for name, value in {
                "device_feature_select": 0,
                "device_feature": offered_features(TINY) & 0xFFFF_FFFF,
                "driver_feature_select": 0,
                "driver_feature": 0,
                "config_msix_vector": MSI_NO_VECTOR,
                "num_queues": PER,
                "device_status": 0,
                "config_generation": 0,
                "queue_select": 0,
                "queue_size": TINY.queue_size_max,
                "queue_msix_vector": MSI_NO_VECTOR,
                "queue_enable": 0,
                "queue_notify_off": 0,
                "queue_desc": 0,
                "queue_driver": 0,
                "queue_device": 0,
                "queue_notify_data": 0,
                "queue_reset": 0,
            }.items():
                assert await machine.read(ctx, f, name) == value, name
            device = [
                await machine.bus.read32(ctx, bar_base(f) + DEVICE_OFFSET + 4 * n) for n in range(4)
            ]
            content = b"".join(word.to_bytes(4, "little") for word in device)
            expected = (
                initial_mac(f) + bytes([0, 0, TINY.queue_pairs, 0]) + (1500).to_bytes(2, "little")
            )
            assert content == expected + bytes(4)
            assert await machine.bus.read32(ctx, bar_base(f) + ISR_OFFSET) == 0
            assert await machine.managed(ctx, f, "device_id") == TINY.device_id + f

    machine.run(bench)
    assert not machine.commands.got


def test_the_pf_alone_offers_sr_iov():
    machine, sr_iov = Machine(), 1 << Feature.SR_IOV

    async def bench(ctx):
        for f in (0, 1):
            await machine.write(ctx, f, "device_feature_select", 1)
            found = await machine.read(ctx, f, "device_feature") << 32
            assert found & sr_iov == (0 if f else sr_iov)
            status = await machine.negotiate(ctx, f, BASE_FEATURES | sr_iov)
            assert bool(status & S.FEATURES_OK) == (f == 0)

    machine.run(bench)


def test_features_by_halves_and_selects_kept():
    machine = Machine()

    async def bench(ctx):
        for half, value in ((1, BASE_FEATURES >> 32), (2, 0), (0xFFFF_FFFF, 0), (0, 0x1_002B)):
            await machine.write(ctx, 1, "device_feature_select", half)
            assert await machine.read(ctx, 1, "device_feature") == value
            assert await machine.read(ctx, 1, "device_feature_select") == half
        await machine.write(ctx, 1, "driver_feature_select", 1)
        await machine.write(ctx, 1, "driver_feature", 0x1234_5678)
        await machine.write(ctx, 1, "driver_feature_select", 2)
        await machine.write(ctx, 1, "driver_feature", 0xFFFF_FFFF)  # there are none
        assert await machine.read(ctx, 1, "driver_feature") == 0
        await machine.write(ctx, 1, "driver_feature_select", 0)
        assert await machine.read(ctx, 1, "driver_feature") == 0
        await machine.write(ctx, 1, "driver_feature_select", 1)
        assert await machine.read(ctx, 1, "driver_feature") == 0x1234_5678
        # Functions are apart.
        await machine.write(ctx, 2, "driver_feature_select", 1)
        assert await machine.read(ctx, 2, "driver_feature") == 0

    machine.run(bench)


@pytest.mark.parametrize(
    ("features", "accepted"),
    [
        (BASE_FEATURES, True),
        (1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM, True),
        (1 << Feature.VERSION_1, False),
        (1 << Feature.ACCESS_PLATFORM, False),
        (BASE_FEATURES | 1 << Feature.RING_EVENT_IDX, False),
        (BASE_FEATURES | 1 << 63, False),
    ],
)
def test_features_ok(features, accepted):
    machine = Machine()

    async def bench(ctx):
        status = await machine.negotiate(ctx, 1, features)
        assert status == S.ACKNOWLEDGE | S.DRIVER | (S.FEATURES_OK if accepted else 0)
        await machine.set_up(ctx, 1, 0)
        await machine.driver_ok(ctx, 1)
        # DRIVER_OK needs FEATURES_OK; asking once more does not help.
        expected = status | (S.DRIVER_OK if accepted else 0)
        assert await machine.read(ctx, 1, "device_status") == expected
        assert await machine.managed(ctx, 1, "status") == expected
        assert ctx.get(machine.dut.live) == (2 if accepted else 0)
        # Features are settled.
        await machine.write(ctx, 1, "driver_feature_select", 0)
        await machine.write(ctx, 1, "driver_feature", 0x20)
        expected = features & 0xFFFF_FFFF if accepted else 0x20
        assert await machine.read(ctx, 1, "driver_feature") == expected
        await wait_for(ctx, lambda: True, then=40)

    machine.run(bench)
    assert len(machine.commands.got) == accepted


@pytest.mark.parametrize("stall", [0.0, 0.7])
def test_queues_start_with_driver_ok(stall):
    machine = Machine(stall=stall)

    async def bench(ctx):
        await machine.negotiate(ctx, 2)
        await machine.set_up(ctx, 2, 0, size=16, vector=3)
        await machine.notify(ctx, 2, 0)
        for _ in range(60):
            await ctx.tick()
        assert not machine.commands.got
        assert not machine.doorbells.got
        await machine.driver_ok(ctx, 2)
        await wait_for(ctx, lambda: machine.doorbells.got)
        assert [fields(c, COMMAND) for c in machine.commands.got] == [machine.enable(2, 0, 16)]
        assert machine.vectors[2 * PER] == 3
        assert [d.queue for d in machine.doorbells.got] == [2 * PER]
        # Later ones start at once.
        await machine.set_up(ctx, 2, 1, size=256, vector=MSI_NO_VECTOR)
        await wait_for(ctx, lambda: len(machine.commands.got) == 2, then=30)
        assert fields(machine.commands.got[1], COMMAND) == machine.enable(2, 1, 256)
        assert machine.vectors[2 * PER + 1] == MSI_NO_VECTOR
        assert await machine.read(ctx, 2, "queue_enable") == 1

    machine.run(bench)
    assert len(machine.doorbells.got) == 1


def test_bytes_of_a_word_are_written_apart():
    machine = Machine()

    async def bench(ctx):
        base = bar_base(1)
        await machine.write(ctx, 1, "queue_select", 1)
        await machine.write(ctx, 1, "queue_size", 32)
        assert await machine.bus.read32(ctx, base + 24) == MSI_NO_VECTOR << 16 | 32
        await machine.write(ctx, 1, "queue_msix_vector", 2)
        assert await machine.bus.read32(ctx, base + 24) == 2 << 16 | 32
        await machine.bus.write32(ctx, base + 24, 0x0001_0040, 0xF)
        assert await machine.bus.read32(ctx, base + 24) == 0x0001_0040
        await machine.bus.write32(ctx, base + 32, 0x1122_3344, 0b0110)
        assert await machine.bus.read32(ctx, base + 32) == 0x0022_3300
        await machine.bus.write32(ctx, base + 32, 0xFFFF_FFFF, 0)
        assert await machine.bus.read32(ctx, base + 32) == 0x0022_3300
        # The status beside the queue's number
        await machine.write(ctx, 1, "device_status", 3)
        assert await machine.bus.read32(ctx, base + 20) == 1 << 16 | 3
        await machine.write(ctx, 1, "queue_select", 0)
        assert await machine.bus.read32(ctx, base + 20) == 3
        assert await machine.read(ctx, 1, "queue_size") == TINY.queue_size_max

    machine.run(bench)


def test_nonsense_is_ignored():
    machine = Machine()

    async def bench(ctx):
        await machine.negotiate(ctx, 1)
        await machine.write(ctx, 1, "queue_size", 8)
        for size in (0, 3, 48, 2 * TINY.queue_size_max, 0xFFFF):
            await machine.write(ctx, 1, "queue_size", size)
            assert await machine.read(ctx, 1, "queue_size") == 8
        for vector in (TINY.msix_vectors, 0x100, 0xFFFE):
            await machine.write(ctx, 1, "queue_msix_vector", 1)
            await machine.write(ctx, 1, "queue_msix_vector", vector)
            assert await machine.read(ctx, 1, "queue_msix_vector") == MSI_NO_VECTOR
            await machine.write(ctx, 1, "config_msix_vector", 1)
            await machine.write(ctx, 1, "config_msix_vector", vector)
            assert await machine.read(ctx, 1, "config_msix_vector") == MSI_NO_VECTOR
        await machine.write(ctx, 1, "queue_enable", 2)
        assert await machine.read(ctx, 1, "queue_enable") == 0
        await machine.write(ctx, 1, "queue_reset", 1)  # of a queue that is not enabled
        assert await machine.read(ctx, 1, "queue_reset") == 0
        for name in ("num_queues", "device_feature", "queue_notify_off", "queue_notify_data"):
            before = await machine.read(ctx, 1, name)
            await machine.write(ctx, 1, name, before ^ 0x0505)
            assert await machine.read(ctx, 1, name) == before
        # Once enabled a queue stays as it is, but for its vector.
        await machine.set_up(ctx, 1, 0, size=8, vector=2)
        for name, value in {"queue_size": 16, "queue_enable": 0}.items():
            await machine.write(ctx, 1, name, value)
        for name in RING:
            await machine.write(ctx, 1, name, 0)
        assert await machine.read(ctx, 1, "queue_size") == 8
        assert await machine.read(ctx, 1, "queue_enable") == 1
        assert machine.vectors[PER] == 2
        for vector, known in ((1, 1), (MSI_NO_VECTOR, MSI_NO_VECTOR), (3, 3)):
            await machine.write(ctx, 1, "queue_msix_vector", vector)
            assert await machine.read(ctx, 1, "queue_msix_vector") == known
            assert machine.vectors[PER] == known
        assert await machine.managed(ctx, 1, "queue_enables") == 1
        assert await machine.managed(ctx, 2, "queue_enables") == 0
        for name, value in RING.items():
            assert await machine.read(ctx, 1, name) == value + (1 << 40)
        # There is no such queue.
        await machine.write(ctx, 1, "queue_select", PER)
        for name in ("queue_size", "queue_msix_vector", "queue_enable", *RING, "queue_reset"):
            await machine.write(ctx, 1, name, 1)
            assert await machine.read(ctx, 1, name) == 0
        assert await machine.read(ctx, 1, "queue_select") == PER
        # A driver cannot take back a bit, nor set the device's.
        await machine.write(ctx, 1, "device_status", S.ACKNOWLEDGE | S.DEVICE_NEEDS_RESET)
        expected = S.ACKNOWLEDGE | S.DRIVER | S.FEATURES_OK
        assert await machine.read(ctx, 1, "device_status") == expected

    machine.run(bench)
    assert not machine.commands.got


def test_undefined_addresses_read_0():
    machine = Machine()
    holes = [
        60, 0x104, 0x20C, 0xFFC, NOTIFY_OFFSET, NOTIFY_OFFSET + 4 * PER,
        bar_base(TINY.functions), bar_base(TINY.functions) + 0x2000, 0x7F_FFFC,
        function_block(1) + 0x10, function_block(0) + 0x100 + 4 * PER,
        function_block(0) + 0x280, function_block(0) + 0x37C, function_block(TINY.functions),
        CONFIG_BASE - 4,
    ]  # fmt: skip

    async def bench(ctx):
        for address in holes:
            await machine.bus.write32(ctx, address, 0xFFFF_FFFF)
            assert await machine.bus.read32(ctx, address) == 0, hex(address)
        # What is another block's goes there with its address.
        address = bar_base(2) + MSIX_PBA_OFFSET + 8
        assert await machine.bus.read32(ctx, address) == address
        await machine.bus.write32(ctx, address, 1)
        assert await machine.managed(ctx, 0, "status") == 0

    machine.run(bench)
    assert not machine.doorbells.got


def test_management():
    machine = Machine()

    async def bench(ctx):
        assert [ctx.get(machine.dut.controls[f].as_value()) for f in range(4)] == [0] * 4
        await machine.start(ctx, 2)
        await machine.write(ctx, 2, "config_msix_vector", 3)
        await machine.manage(ctx, 2, "control", 0xFFFF_FF7F)
        assert await machine.managed(ctx, 2, "control") == 0x17F
        assert ctx.get(machine.dut.controls[2].enable) == 1
        assert ctx.get(machine.dut.controls[1].enable) == 0
        await machine.manage(ctx, 0, "page_timeout", 123456)
        await machine.manage(ctx, 1, "page_timeout", 5)
        assert ctx.get(machine.dut.page_timeout) == 123456
        assert await machine.managed(ctx, 0, "page_timeout") == 123456
        assert await machine.managed(ctx, 1, "page_timeout") == 0
        # The link came up: a configuration change.
        await wait_for(ctx, lambda: machine.interrupts.got)
        assert machine.interrupts.got[0].vector == 3
        assert await machine.read(ctx, 2, "config_generation") == 1
        assert await machine.bus.read32(ctx, bar_base(2) + DEVICE_OFFSET + 4) >> 16 == 1
        await machine.manage(ctx, 2, "mac_low", 0x4433_2211)
        await machine.manage(ctx, 2, "mac_high", 0xFFFF_6655)
        assert await machine.managed(ctx, 2, "mac_high") == 0x6655
        assert await machine.bus.read32(ctx, bar_base(2) + DEVICE_OFFSET) == 0x4433_2211
        assert await machine.bus.read32(ctx, bar_base(2) + DEVICE_OFFSET + 4) == 0x0001_6655
        assert await machine.read(ctx, 2, "config_generation") == 2  # nobody looked between
        assert await machine.read(ctx, 1, "config_generation") == 0
        await machine.manage(ctx, 2, "device_id", 1)
        assert await machine.managed(ctx, 2, "device_id") == TINY.device_id + 2

    machine.run(bench)


def test_counters_are_read_low_half_first():
    machine = Machine()

    async def stats(ctx):
        """Counter s of function f is f << 40 | s << 32 | reads so far."""
        reads, value = 0, 0
        stat = machine.dut.stat
        while True:
            *_, en, f, s = await ctx.tick().sample(stat.en, stat.function, stat.stat)
            if en:
                reads += 1
                value = f << 40 | int(s) << 32 | reads
            ctx.set(stat.value, value)

    async def bench(ctx):
        at = function_block(3) + stat_offset(Stat.RX_BYTES)
        assert await machine.bus.read32(ctx, at) == 1
        assert await machine.bus.read32(ctx, at + 4) == 3 << 8 | Stat.RX_BYTES
        at = function_block(1) + stat_offset(Stat.DMA_FAULTS)
        assert await machine.bus.read32(ctx, at) == 2
        assert await machine.bus.read32(ctx, at + 4) == 1 << 8 | Stat.DMA_FAULTS

    parts = (machine.commands, machine.doorbells, machine.interrupts)
    run(
        machine.dut,
        machine.configured(bench),
        background=[part.process for part in parts] + [stats],
    )
