"""Measures the IOMMU with its bridge; runs inside of the simulator.

Cycles are those of transfers at ports: of the translation port (``iommu.translate1``), of the
table port (``iommu.memory``), of the bridge's addresses.  ``L`` is from an accepted read address to
its first data.
"""

from random import Random

import cocotb
import numpy as np

from cosim.bench.bench import Bench, options, report
from cosim.bench.initiator import Initiator
from cosim.bench.machine import Machine
from cosim.benchmarks.tables import CQ_LOG2, Tables, iotinval
from models.pagetable import KIB_4
from models.spec.config import IommuConfig
from models.spec.iommu import CommandFunc
from models.spec.translation import DmaUser

__all__ = ["measure"]

BASE, BYTES = 0x8000_0000, 1 << 27
REQUEST, RESPONSE = "iommu.translate1__request", "iommu.translate1__response"
TABLE_READ, TABLE_DATA = "iommu.memory__ar", "iommu.memory__r"
BRIDGE_IN, BRIDGE_OUT = "bridge.up__ar", "bridge.down__ar"
INVALIDATE = "iommu.translator.invalidate"
LOGS = (REQUEST, RESPONSE, TABLE_READ, TABLE_DATA, BRIDGE_IN, BRIDGE_OUT, INVALIDATE)
DEVICE, ONE_STAGE_DEVICE, IOVA = 1, 2, 0x4000_0000
#: Cycles that every cache takes to clear itself after reset.
CLEARING = 5000


class Measurement:
    """The design, its memory and its tables."""

    def __init__(self, dut, asked: dict) -> None:
        self.asked, self.rng = asked, Random(asked["seed"])
        self.bench = Bench(dut)
        self.config: IommuConfig = self.bench.built.design.arguments[0]
        self.bench.memory.map(BASE, BYTES)
        self.bench.timing("memory", latency=asked["data_latency"], in_order=True)
        self.latency(asked["latency"])
        for name in LOGS:
            self.bench.stream(name).log()
        self.machine = Machine(self.bench, {"iommu": "regs"})
        self.tables = Tables(self.machine, BASE, BYTES, extended=self.config.msi_flat)
        self.answers = self.bench.stream("translate__response")
        self.answers.listen()
        self.requests = self.bench.stream("translate__request")

    def latency(self, cycles: int) -> None:
        """Set L of the table port: the bench's memory offers data a cycle after they are due."""
        self.bench.timing("tables", latency=max(0, cycles - 1))

    def ask(self, tag: int, iova: int, device: int = DEVICE, write: int = 0) -> None:
        """Queue a request for the next free cycle."""
        self.requests.put({"tag": tag, "device_id": device, "iova": iova, "write": write})

    async def answered(self, count: int) -> None:
        """Wait for answers; each must be a success."""
        for _ in range(count):
            answer = await self.answers.get()
            assert not answer.status, f"tag {answer.tag} was refused with cause {answer.cause}"

    def clear(self) -> None:
        """Forget what was logged."""
        for name in LOGS:
            self.bench.take_log(name)

    def cycles(self, name: str) -> np.ndarray:
        """Remove and return the cycles of a port's transfers."""
        return self.bench.take_log(name)["cycle"].astype(np.int64)

    def by_tag(self) -> dict[int, tuple[int, int]]:
        """Remove and return cycles of request and answer by tag."""
        asked = self.bench.take_fields(REQUEST)
        given = self.bench.take_fields(RESPONSE)
        begun = dict(zip(asked["tag"].tolist(), asked["cycle"].tolist(), strict=True))
        return {
            tag: (begun[tag], cycle)
            for tag, cycle in zip(given["tag"].tolist(), given["cycle"].tolist(), strict=True)
        }

    # Figures -------------------------------------------------------------------------------------

    async def hits(self) -> dict:
        """Throughput and latency of hits, alone and behind a miss."""
        self.ask(0, IOVA)
        await self.answered(1)
        self.clear()
        count = 2000
        for tag in range(count):
            self.ask(tag % 64, IOVA + 8 * (tag % 512))
        await self.answered(count)
        begun, given = self.cycles(REQUEST), self.cycles(RESPONSE)
        latencies = set((given - begun).tolist())
        assert len(latencies) == 1, f"hits take {sorted(latencies)} cycles"
        throughput = (count - 1) / int(given[-1] - given[0])
        await self.tables.forget()
        self.ask(0, IOVA)
        await self.answered(1)
        self.clear()
        self.ask(0, IOVA + 5 * KIB_4)
        for tag in range(1, 9):
            self.ask(tag, IOVA)
        await self.answered(9)
        under = {given - begun for tag, (begun, given) in self.by_tag().items() if tag}
        return {
            "hit_throughput": throughput,
            "hit_latency": latencies.pop(),
            "hit_under_miss_latency": max(under),
        }

    async def walk(self, device: int, iova: int) -> tuple[int, int]:
        """Reads and cycles of one request."""
        self.clear()
        self.ask(0, iova, device)
        await self.answered(1)
        [(begun, given)] = self.by_tag().values()
        return len(self.cycles(TABLE_READ)), given - begun

    async def measured_latency(self) -> int:
        """L as it is, by one walk's reads."""
        await self.tables.forget()
        await self.walk(DEVICE, IOVA)
        self.clear()
        await self.tables.forget()
        self.clear()
        self.ask(0, IOVA)
        await self.answered(1)
        read, data = self.cycles(TABLE_READ), self.cycles(TABLE_DATA)
        return int((data - read)[0])

    async def walks(self) -> dict:
        """Cold and warm walks of one and two stages; the context is warm."""
        found = {}
        for name, device in (("two_stage", DEVICE), ("one_stage", ONE_STAGE_DEVICE)):
            await self.walk(device, IOVA)
            await self.tables.forget()
            cold = await self.walk(device, IOVA)
            warm = await self.walk(device, IOVA + KIB_4)
            for kind, (reads, cycles) in (("cold", cold), ("warm", warm)):
                found[f"{name}_{kind}_reads"] = reads
                found[f"{name}_{kind}_cycles"] = cycles
        return found

    async def outstanding(self) -> int:
        """Walks under way at once while memory is silent."""
        await self.tables.forget()
        await self.walk(DEVICE, IOVA)
        await self.tables.forget()
        self.latency(1500)
        self.clear()
        for tag in range(60):
            self.ask(tag, IOVA + tag % 64 * KIB_4)
        await self.machine.sleep(1000)
        reads = len(self.cycles(TABLE_READ))
        self.latency(self.asked["latency"])
        await self.answered(60)
        return reads

    async def bridge_hits(self, initiator: Initiator) -> int:
        """Cycles from address in to address out."""
        user = DmaUser.const({"device_id": DEVICE}).as_bits()
        await initiator.read(IOVA, 64, user=user)
        self.clear()
        for _ in range(20):
            await initiator.read(IOVA, 64, user=user)
        # An address that comes is accepted in the same cycle when nothing is before it.
        latencies = set((self.cycles(BRIDGE_OUT) - self.cycles(BRIDGE_IN)).tolist())
        assert len(latencies) == 1, f"hits take {sorted(latencies)} cycles"
        return latencies.pop()

    async def random_reads(self, initiator: Initiator, pages: int) -> float:
        """Cycles per read of 64 bytes, anywhere in the pages, slots of the bridge all used."""
        user = DmaUser.const({"device_id": DEVICE}).as_bits()
        await self.walk(DEVICE, IOVA)
        self.clear()
        count = 1024
        reads = [
            initiator.start_read(
                IOVA + self.rng.randrange(pages) * KIB_4 + 64 * self.rng.randrange(64),
                64,
                id=number % 16,
                user=user,
            )
            for number in range(count)
        ]
        for read in reads:
            assert not (await read.wait()).resp
        begun = int(self.cycles(BRIDGE_IN)[0])
        return (max(read.cycle for read in reads) - begun) / count

    async def stream(self, initiator: Initiator, pages: int) -> float:
        """Share of the bus's cycles with data, reading pages one after another."""
        user = DmaUser.const({"device_id": DEVICE}).as_bits()
        await self.tables.forget()
        self.clear()
        reads = [
            initiator.start_read(IOVA + at, 256, id=at // 256 % 16, user=user)
            for at in range(0, pages * KIB_4, 256)
        ]
        for read in reads:
            assert not (await read.wait()).resp
        beats = pages * KIB_4 // initiator.bus_bytes
        # From the first page's data on: its walk is the same for any length of stream.
        return (beats - 32) / (reads[-1].cycle - reads[0].cycle)

    async def all_miss(self, pages: int) -> float:
        """Translations per 1000 cycles when every request walks."""
        await self.walk(DEVICE, IOVA)
        await self.tables.forget()
        self.clear()
        count = min(pages, 1000)
        for number in range(count):
            self.ask(number % 60, IOVA + number * KIB_4)
        await self.answered(count)
        given = self.cycles(RESPONSE)
        quarter = count // 4
        return 1000 * (count - quarter - 1) / int(given[-1] - given[quarter])

    async def invalidations(self) -> dict:
        """Cycles per command of a long queue; hits go on meanwhile."""
        forms = {
            "vma_gv_av_pscv": {"gv": 1, "gscid": 1, "av": 1, "pscv": 1, "pscid": 1},
            "vma_gv_av": {"gv": 1, "gscid": 1, "av": 1},
            "vma_gv_pscv": {"gv": 1, "gscid": 1, "pscv": 1, "pscid": 1},
            "vma_gv": {"gv": 1, "gscid": 1},
            "vma": {},
            "gvma_gv_av": {"gv": 1, "gscid": 1, "av": 1},
            "gvma_gv": {"gv": 1, "gscid": 1},
            "gvma": {},
        }
        found = {}
        count = min(256, (1 << CQ_LOG2) - 1)
        for name, operands in forms.items():
            func = CommandFunc.GVMA if name.startswith("gvma") else CommandFunc.VMA
            self.clear()
            pages = [(IOVA >> 12) + 64 + n % 32 for n in range(count)]
            commands = [
                iotinval(func, **operands, addr=page if "av" in operands else 0) for page in pages
            ]
            await self.tables.command(*commands)
            done = self.cycles(INVALIDATE)
            assert len(done) == count
            found[name] = int(done[-1] - done[0]) / (count - 1)
        return {
            "iotinval_cycles": found.pop("vma_gv_av_pscv"),
            "iotinval_other_cycles": found,
        }


@cocotb.test()
async def measure(dut) -> None:
    """Measure what the options ask for."""
    asked = options()
    run = Measurement(dut, asked)
    pages = asked["pages"]
    await run.bench.start()
    await run.machine.sleep(CLEARING)
    run.tables.two_stage(DEVICE, IOVA, pages)
    run.tables.one_stage(ONE_STAGE_DEVICE, IOVA, 8)
    await run.tables.start()
    found: dict = {}
    parts = asked["parts"]
    if "hits" in parts:
        found["measured_latency"] = await run.measured_latency()
        assert found["measured_latency"] == asked["latency"], found
        found |= await run.hits()
        found |= await run.walks()
        found["outstanding_misses"] = await run.outstanding()
        found |= await run.invalidations()
    initiator = Initiator(run.bench, "dma")
    if "bridge" in parts:
        found["bridge_hit_latency"] = await run.bridge_hits(initiator)
        found["stream_efficiency"] = await run.stream(initiator, min(pages, 64))
    if "random" in parts:
        found["random_cycles_per_request"] = await run.random_reads(initiator, 64)
    if "all_miss" in parts:
        found["all_miss_per_kcycle"] = await run.all_miss(pages)
    report(found)
