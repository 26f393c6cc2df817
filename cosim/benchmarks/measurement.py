"""What every measurement of the IOMMU needs: memory, tables, requests and their cycles."""

from random import Random

import numpy as np

from cosim.bench.bench import Bench
from cosim.bench.machine import Machine
from cosim.bench.ports import TOP
from cosim.benchmarks.tables import Tables
from models.pagetable import KIB_4
from models.spec.config import IommuConfig

__all__ = ["DEVICE", "IOVA", "KIB_4", "ONE_STAGE_DEVICE", "OTHER_DEVICE", "Measurement", "paired"]

BASE, BYTES = 0x8000_0000, 1 << 27
DEVICE, ONE_STAGE_DEVICE, OTHER_DEVICE, IOVA = 1, 2, 3, 0x4000_0000
#: Cycles that every cache takes to clear itself after reset.
CLEARING = 5000
#: Cycles without an answer after which a measurement is given up.
PATIENCE = 200_000


class Measurement:
    """The design, its memory and its tables.

    Parameters
    ----------
    dut
        Handle of cocotb.
    asked : dict
        ``latency`` and ``data_latency``: L of the two memory ports; ``seed``.
    """

    REQUEST, RESPONSE = f"{TOP}.translate__request", f"{TOP}.translate__response"
    TABLE_READ, TABLE_DATA = f"{TOP}.tables__ar", f"{TOP}.tables__r"
    TABLE_WRITE = f"{TOP}.tables__aw"
    BRIDGE_IN, BRIDGE_OUT = f"{TOP}.dma__ar", f"{TOP}.memory__ar"
    LOGS = (REQUEST, RESPONSE, TABLE_READ, TABLE_DATA, TABLE_WRITE, BRIDGE_IN, BRIDGE_OUT)

    def __init__(self, dut, asked: dict) -> None:
        self.asked, self.rng = asked, Random(asked["seed"])
        self.bench = Bench(dut)
        self.config: IommuConfig = self.bench.built.design.arguments[0]
        self.bench.memory.map(BASE, BYTES)
        self.latency("memory", asked["data_latency"], in_order=True)
        self.latency("tables", asked["latency"])
        for name in self.LOGS:
            self.bench.stream(name).log()
        self.machine = Machine(self.bench, {"iommu": "regs"})
        self.tables = Tables(
            self.machine,
            BASE,
            BYTES,
            extended=self.config.msi_flat,
            queue_log2=min(9, self.config.queue_entries_log2_max),
            sweep=max(4 * self.config.walk_cache, self.config.iotlb_sets) + 8,
        )
        self._requests = self.bench.stream("translate__request")

    async def start(self) -> None:
        """Let caches clear themselves, then turn the IOMMU on."""
        await self.bench.start()
        await self.machine.sleep(CLEARING)
        await self.tables.start()

    def latency(self, port: str, cycles: int, **how) -> None:
        """Set the L of a port."""
        self.bench.timing(port, latency=cycles - 1, **how)

    def ask(self, tag: int, iova: int, device: int = DEVICE) -> None:
        """Queue a read's translation for the next free cycle."""
        self._requests.put({"tag": tag, "device_id": device, "iova": iova})

    async def answered(self, count: int) -> dict[str, np.ndarray]:
        """Wait for that many answers, all of them successes; returns fields and cycles."""
        parts: list[dict[str, np.ndarray]] = []
        waited = have = 0
        while have < count:
            assert waited < PATIENCE, f"{have} of {count} answers after {waited} cycles"
            step = min(1000, 20 + count - have)
            await self.machine.sleep(step)
            parts.append(self.bench.take_fields(self.RESPONSE))
            got = len(parts[-1]["cycle"])
            have, waited = have + got, 0 if got else waited + step
        fields = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert have == count, f"{have} answers to {count} requests"
        assert not fields["status"].any(), f"refused: {fields['cause'][fields['status'] != 0]}"
        fields["cycle"] = fields["cycle"].astype(np.int64)
        return fields

    async def ask_all(self, iovas: list[int], device: int = DEVICE) -> np.ndarray:
        """Ask for translations, one a cycle if taken; returns cycles from request to answer.

        Rows are request, answer; in order of requests.  At most 64 may be under way at once out
        of order, since tags are 6 bits.
        """
        self.clear()
        for number, iova in enumerate(iovas):
            self.ask(number % 64, iova, device)
        given = await self.answered(len(iovas))
        asked = self.bench.take_fields(self.REQUEST)
        return paired(asked, given)

    def clear(self) -> None:
        """Forget what was logged."""
        for name in self.LOGS:
            self.bench.take_log(name)

    def cycles(self, name: str) -> np.ndarray:
        """Remove and return the cycles of a port's transfers."""
        return self.bench.take_log(name)["cycle"].astype(np.int64)

    async def walk(self, device: int, iova: int) -> tuple[int, int]:
        """Reads and cycles of one request."""
        [[begun, given]] = (await self.ask_all([iova], device)).T.tolist()
        return len(self.cycles(self.TABLE_READ)), given - begun

    async def measured_latency(self) -> int:
        """L as it is, by one walk's reads."""
        await self.walk(DEVICE, IOVA)
        await self.tables.forget()
        await self.walk(DEVICE, IOVA)
        self.clear()
        await self.tables.forget()
        self.clear()
        self.ask(0, IOVA)
        await self.answered(1)
        read, data = self.cycles(self.TABLE_READ), self.cycles(self.TABLE_DATA)
        return int(data[0] - read[0])


def paired(asked: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> np.ndarray:
    """Cycles of requests and, below, of their answers, by tag; of a tag, in order."""
    order = np.argsort(asked["tag"], kind="stable")
    answers = np.argsort(given["tag"], kind="stable")
    assert (asked["tag"][order] == given["tag"][answers]).all(), "answers to nothing"
    cycles = np.empty((2, len(order)), np.int64)
    cycles[0] = asked["cycle"]
    cycles[1, order] = given["cycle"][answers]
    return cycles
