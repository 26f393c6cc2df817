"""Frames for queues that wait for pages, on the golden machine: dropped or kept in rings."""

from random import Random

import pytest

from cosim.benchmarks.faulting import Workload, measure
from cosim.hypervisor.backup import BackupRings
from cosim.hypervisor.costs import Costs
from models.spec.nic import Stat
from tests.cosim.platform import frame, run


@pytest.mark.parametrize("direction", ["tx", "rx"])
@pytest.mark.parametrize("policy", ["pin", "drop", "stall", "retry"])
def test_nothing_is_lost_that_is_not_counted(policy, direction):
    work = Workload(policy=policy, rate=0.05, direction=direction, packets=100)

    async def scenario(platform):
        return await measure(platform.machine, platform.hypervisor, work)

    print(f"seed {work.seed}")
    found = run(scenario, costs=Costs(service_cycles=2000))
    assert found["lost"] == found["mismatches"] == 0
    assert (found["faults"] > 2) == (policy != "pin")
    if policy == "retry":
        assert found["dropped_counted"] == 0
    if (policy, direction) == ("retry", "rx"):
        assert found["backed_up"] > 10
    if (policy, direction) == ("drop", "tx"):
        assert found["dropped_counted"] == found["faults"]


def test_a_full_ring_drops_what_comes_then_and_no_more():
    async def scenario(platform):
        rng, hypervisor = Random(3), platform.hypervisor
        rings = BackupRings(hypervisor, 8)
        await rings.start()
        guest = await platform.guest(1)
        await rings.enable(1)
        frames = [frame(guest.mac, b"\x02" * 6, rng) for _ in range(20)]
        for number, one in enumerate(frames):
            await platform.machine.send_frame(one)
            await platform.machine.sleep(0 if number else 2000)  # the first meets the page
        await platform.until(
            lambda: len(guest.received) + platform.stat(1, Stat.RX_DROPPED_FULL) == 20
        )
        return frames, guest.received, platform.stat(1, Stat.RX_BACKUP)

    frames, received, kept = run(scenario, costs=Costs(service_cycles=20_000))
    assert received == [one for one in frames if one in received]
    assert kept >= 8
    assert 8 <= len(received) < 20


def test_a_ring_that_is_disabled_drops_what_is_in_it_and_counts_it():
    async def scenario(platform):
        rng = Random(4)
        rings = BackupRings(platform.hypervisor, 16)
        await rings.start()
        guest = await platform.guest(1)
        await rings.enable(1)
        for number in range(10):
            await platform.machine.send_frame(frame(guest.mac, b"\x02" * 6, rng, 1514))
            await platform.machine.sleep(0 if number else 2000)
        await platform.machine.sleep(2000)  # all are off the wire
        await rings.disable(1)
        await platform.until(
            lambda: len(guest.received) + platform.stat(1, Stat.RX_DROPPED_FULL) == 10
        )
        return len(guest.received), platform.stat(1, Stat.RX_BACKUP)

    received, kept = run(scenario, costs=Costs(service_cycles=20_000))
    assert (received, kept) == (1, 9)
