"""Measures the NIC behind the IOMMU; runs inside of the simulator.

Cycles per packet are over all functions, from the second quarter of what arrives to the last.
"""

from collections.abc import Iterable

import cocotb
import numpy as np

from cosim.bench.dma_taps import DMA_READS, DMA_WRITES
from cosim.bench.machine import Bench, Machine, options, report
from cosim.benchmarks.nic_guest import WIRE_MAC, BenchGuest
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.mailbox import SERVED
from models.spec.config import SystemConfig
from models.spec.nic import Stat

__all__ = ["round_trip", "throughput"]

_BASE, _BYTES = 0x8000_0000, 1 << 28
#: Cycles between two looks; looks without anything new after which a run has ended.
_STEP, _PATIENCE = 50, 80
_BUS_BYTES = 16
#: Frames that are read beside each other: so many may come before the first of them leaves.
_BESIDE = 64
#: Frames that are offered, for each that is to be sent or received, before it is given up.
_MOST = 64


class _Run:
    """A system with guests on its first VFs."""

    def __init__(self, dut, asked: dict) -> None:
        self.asked = asked
        self.bench = bench = Bench(dut)
        self.system: SystemConfig = bench.built.design.arguments[0]
        bench.memory.map(_BASE, _BYTES)
        for manager in ("memory", "tables"):
            bench.timing(manager, latency=asked["latency"] - 1, jitter=0, seed=asked["seed"])
        self.machine = Machine(bench)
        self.sent: list[int] = []
        self.received: list[int] = []
        self.machine.on_frame(lambda frame, cycle: self.sent.append(cycle))

    async def boot(self) -> None:
        """Bring everything up."""
        asked = self.asked
        await self.bench.start()
        self.hypervisor = Hypervisor(self.machine, self.system, base=_BASE, size=_BYTES)
        await self.hypervisor.start()
        functions = asked.get("functions", 1)
        self.guests = [
            BenchGuest(
                self.machine,
                self.hypervisor,
                function,
                functions=functions,
                frame=asked.get("frame", 64),
                packed=asked.get("ring") == "packed",
                iommu=asked.get("iommu", "on") == "on",
            )
            for function in range(1, 1 + functions)
        ]
        if asked.get("iommu") == "off":
            await self.hypervisor.iommu.bypass()
        for guest in self.guests:
            await guest.boot()
            guest.driver.on_receive = lambda frame: self.received.append(self.machine.now())
        # Rings are read, contexts and rings' pages cached; software has done with who is new.
        served = SERVED if self.hypervisor.config.nic.control_queue else 2000
        await self.machine.sleep(served)
        for name in (DMA_READS, DMA_WRITES):
            self.bench.stream(name).log()

    def send_frame(self, guest: BenchGuest) -> None:
        """Put a frame to a guest on the wire."""
        filling = bytes(self.asked["frame"] - 14)
        self.bench.send_frame(guest.mac + WIRE_MAC + bytes([8, 0]) + filling)

    async def offer(self, count: int, gap: int, ends: list[int]) -> int:
        """Put frames on the wire, to the functions in turn, one every ``gap`` cycles or as many as
        go; until there are ``count`` of ``ends``, sent or received.  Returns how many.
        """
        offered, due = 0, 0.0
        beats = -(-self.asked["frame"] // _BUS_BYTES)
        while offered < count or (len(ends) < count and offered < _MOST * count):
            if gap:
                await self.machine.sleep(gap)
                due = 1
            else:
                await self.machine.sleep(_STEP)
                due += _STEP / beats
            while due >= 1:
                self.send_frame(self.guests[offered % len(self.guests)])
                offered, due = offered + 1, due - 1
            for guest in self.guests:
                guest.refill()
        return offered

    async def drain(self) -> None:
        """Run until nothing more arrives."""
        still, before = 0, -1
        patience = _PATIENCE + _BESIDE * self.asked["frame"] // _BUS_BYTES // _STEP
        while still < patience:
            await self.machine.sleep(_STEP)
            for guest in self.guests:
                guest.refill()
            now = len(self.sent) + len(self.received)
            still = still + 1 if now == before else 0
            before = now

    def ring_accesses(self, begin: int, end: int) -> int:
        """Bursts to rings between two cycles."""
        areas = sorted(area for guest in self.guests for area in guest.areas())
        starts = np.array([start for start, _ in areas], np.uint64)
        ends = np.array([start + size for start, size in areas], np.uint64)
        count = 0
        for name in (DMA_READS, DMA_WRITES):
            fields = self.bench.take_fields(name)
            within = (fields["cycle"] >= begin) & (fields["cycle"] < end)
            addresses = fields["addr"][within]
            # A burst begins at a whole beat.
            place = np.searchsorted(starts, addresses | np.uint64(_BUS_BYTES - 1), "right") - 1
            count += int((addresses < ends[place])[place >= 0].sum())
        return count

    async def faults(self) -> dict[str, str]:
        """Queues that have stopped, and why."""
        found = {}
        for guest in self.guests:
            for queue in (0, 1):
                if error := await self.hypervisor.queue_error(guest.function, queue):
                    found[f"{guest.function}/{queue}"] = error.name
        return found

    async def counters(self) -> dict[str, list[int]]:
        """Every counter that is not 0, by function."""
        found = {}
        for stat in Stat:
            each = [await self.hypervisor.stat(guest.function, stat) for guest in self.guests]
            if any(each):
                found[stat.name] = each
        return found

    async def count(self, stat: Stat) -> int:
        """A counter, over the functions and the PF, whose is what the port drops."""
        functions = (0, *(guest.function for guest in self.guests))
        return sum([await self.hypervisor.stat(function, stat) for function in functions])


def _pace(cycles: list[int]) -> tuple[float, int, int]:
    """Cycles per packet, and the first and last cycle that they are taken from."""
    quarter = len(cycles) // 4
    begin, end = cycles[quarter], cycles[-1]
    return (end - begin) / (len(cycles) - 1 - quarter), begin, end


@cocotb.test()
async def throughput(dut) -> None:
    """Send, receive or both, as the options ask."""
    asked = options()
    run = _Run(dut, asked)
    await run.boot()
    directions = ("tx", "rx") if asked["direction"] == "both" else (asked["direction"],)
    each = -(-asked["packets"] // len(run.guests))
    count = each * len(run.guests)
    if "tx" in directions:
        for guest in run.guests:
            guest.send(each)
    offered = 0
    if "rx" in directions:
        ends = run.sent if "tx" in directions else run.received
        offered = await run.offer(count, asked["gap"], ends)
    await run.drain()
    arrived = {"tx": run.sent, "rx": run.received}
    assert not await run.faults(), await run.faults()
    dropped = await run.count(Stat.RX_DROPPED_FULL)
    assert len(run.sent) == (count if "tx" in directions else 0), await run.counters()
    if "rx" in directions:
        assert len(run.received) + dropped == offered, await run.counters()
    paces = {way: _pace(arrived[way]) for way in directions}
    slowest = max(pace for pace, _, _ in paces.values())
    begin = max(begin for _, begin, _ in paces.values())
    end = min(end for _, _, end in paces.values())
    within = sum(begin <= cycle < end for way in directions for cycle in arrived[way])
    found = {
        "cycles_per_packet": slowest,
        "bus_share": asked["frame"] / _BUS_BYTES / min(pace for pace, _, _ in paces.values()),
        "ring_accesses_per_packet": run.ring_accesses(begin, end) / within,
        "dropped": dropped,
    }
    report(found)


@cocotb.test()
async def round_trip(dut) -> None:
    """Send one frame of 64 bytes, get its like back at once, and see when what is done."""
    asked = options()
    run = _Run(dut, {**asked, "frame": 64})
    await run.boot()
    machine, [guest] = run.machine, run.guests
    messages: list[int] = []
    machine.on_message(guest.vm.message_page, 4096, lambda at, data, cycle: messages.append(cycle))
    for _ in range(3):  # every cache has met everything, and all is quiet again
        for name in (DMA_READS, DMA_WRITES):
            run.bench.take_log(name)
        run.sent.clear()
        messages.clear()
        begin = machine.now()
        guest.send(1)
        while not run.sent:
            await machine.sleep(1)
        run.send_frame(guest)
        offered = machine.now()
        await run.drain()
    reads = run.bench.take_fields(DMA_READS)
    writes = run.bench.take_fields(DMA_WRITES)
    rings = guest.areas()

    def first(log: dict[str, np.ndarray], since: int, *, ring: bool, among=rings) -> int:
        return next(
            int(cycle)
            for cycle, address in zip(log["cycle"], log["addr"], strict=True)
            if cycle >= since and _within(int(address), among) == ring
        )

    marks = {
        "begin": begin,
        "doorbell_to_ring_read": first(reads, begin, ring=True),
        "ring_read_to_data_read": first(reads, begin, ring=False),
        "data_read_to_frame_out": run.sent[0],
        "frame_in_to_data_write": first(writes, offered, ring=False),
        # What was sent may be returned only now.
        "data_write_to_used_write": first(writes, offered, ring=True, among=guest.areas([0])),
        "used_write_to_message": min(cycle for cycle in messages if cycle > offered),
    }
    names, cycles = list(marks), list(marks.values())
    parts = {
        name: after - before
        for name, before, after in zip(names[1:], cycles, cycles[1:], strict=False)
    }
    report({**parts, "total": cycles[-1] - begin})


def _within(address: int, areas: Iterable[tuple[int, int]]) -> bool:
    return any(start - _BUS_BYTES < address < start + size for start, size in areas)
