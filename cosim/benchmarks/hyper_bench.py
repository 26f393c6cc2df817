"""Drives the translation port as a device far away with many tenants; runs in the simulator."""

from collections import deque

import cocotb

from cosim.bench.bench import Bench
from cosim.bench.machine import Machine, options, report
from cosim.benchmarks.tables import Tables
from models.pagetable import KIB_4
from models.spec.config import IommuConfig
from models.timing.hyper import LINK, Traffic

__all__ = ["hyper"]

BASE, BYTES, IOVA = 0x8000_0000, 1 << 30, 0x4000_0000
CLEARING = 5000


class Device:
    """A window of translations, each answered one way later than the IOMMU answers.

    Cycles are those of the bench; requests that are due are handed to the port at the next look,
    every ``GRAIN`` cycles, so times are exact to that.
    """

    GRAIN = 8

    def __init__(self, bench: Bench, traffic: Traffic, window: int) -> None:
        self.bench, self.traffic, self.window = bench, traffic, window
        self.requests = bench.stream("translate__request")
        self.answers = bench.stream("translate__response")
        self.answers.listen(self._answered)
        self.ready: deque[tuple[int, int, int]] = deque()  # cycle, tenant, page
        self.coming: deque[int] = deque()  # cycles at which answers reach the device
        self.left = [LINK.translations_per_packet] * traffic.count
        self.under_way = self.done = 0
        self.ends: list[int] = []

    def _answered(self, event) -> None:
        fields = self.answers.unpack(event.value)
        assert not fields["status"], f"refused with cause {fields['cause']}"
        self.coming.append(event.cycle + LINK.one_way_ns)

    async def run(self, machine: Machine) -> None:
        """Carry all packets."""
        traffic = self.traffic
        wanted = deque(
            (int(number * LINK.packet_ns), tenant, page)
            for number in range(traffic.count)
            for tenant, pages in (traffic.pages(number),)
            for page in pages
        )
        total, begun = len(wanted), machine.now()
        while self.done < total:
            now = machine.now()
            while self.coming and self.coming[0] <= now:
                self.ends.append(self.coming.popleft())
                self.under_way -= 1
                self.done += 1
            while wanted and self.under_way < self.window and wanted[0][0] + begun <= now:
                _, tenant, page = wanted.popleft()
                self.ready.append((now + LINK.one_way_ns, tenant, page))
                self.under_way += 1
            while self.ready and self.ready[0][0] <= now:
                _, tenant, page = self.ready.popleft()
                iova = IOVA + page * KIB_4
                self.requests.put({"tag": page % 64, "device_id": tenant + 1, "iova": iova})
            await machine.sleep(self.GRAIN)


@cocotb.test()
async def hyper(dut) -> None:
    """Report the share of the link."""
    asked = options()
    bench = Bench(dut)
    config: IommuConfig = bench.built.design.arguments[0]
    bench.memory.map(BASE, BYTES)
    bench.timing("tables", latency=asked["memory_ns"] - 1)
    machine = Machine(bench, {"iommu": "regs"})
    tables = Tables(machine, BASE, BYTES, extended=config.msi_flat, levels=config.ddt_levels)
    traffic = Traffic(tenants=asked["tenants"], packets=asked["packets"])
    for tenant in range(traffic.tenants):
        tables.two_stage(tenant + 1, IOVA, 2 + traffic.buffers)
    await bench.start()
    await machine.sleep(CLEARING)
    await tables.start()
    device = Device(bench, traffic, min(traffic.window, config.misses))
    await device.run(machine)
    skipped = 3 * (traffic.count // 4)
    ends = sorted(device.ends)
    carried = (len(ends) - 1 - skipped) / LINK.translations_per_packet
    report({"share": min(1.0, carried * LINK.packet_ns / (ends[-1] - ends[skipped]))})
