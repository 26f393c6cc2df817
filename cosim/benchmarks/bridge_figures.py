"""Figures of the bridge: latency, random reads, streams."""

from cosim.bench.initiator import Initiator
from cosim.benchmarks.measurement import DEVICE, IOVA, KIB_4, Measurement
from models.spec.translation import DmaUser

__all__ = ["BridgeFigures"]


class BridgeFigures:
    """Measures through the bridge, as one device."""

    def __init__(self, run: Measurement, initiator: Initiator) -> None:
        self.run, self.initiator = run, initiator
        self._user = DmaUser.const({"device_id": DEVICE}).as_bits()

    async def hits(self) -> int:
        """Cycles from address in to address out."""
        run = self.run
        await self.initiator.read(IOVA, 64, user=self._user)
        run.clear()
        for _ in range(20):
            await self.initiator.read(IOVA, 64, user=self._user)
        # An address that comes is accepted in the same cycle when nothing is before it.
        latencies = set((run.cycles(run.BRIDGE_OUT) - run.cycles(run.BRIDGE_IN)).tolist())
        assert len(latencies) == 1, f"hits take {sorted(latencies)} cycles"
        return latencies.pop()

    async def random_reads(self, pages: int, count: int = 1024) -> float:
        """Cycles per read of 64 bytes, anywhere in the pages, slots of the bridge all used."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        run.clear()
        reads = [
            self.initiator.start_read(
                IOVA + run.rng.randrange(pages) * KIB_4 + 64 * run.rng.randrange(64),
                64,
                id=number % 16,
                user=self._user,
            )
            for number in range(count)
        ]
        for read in reads:
            assert not (await read.wait()).resp
        begun = int(run.cycles(run.BRIDGE_IN)[0])
        return (max(read.cycle for read in reads) - begun) / count

    async def stream(self, pages: int) -> float:
        """Share of the bus's cycles with data, reading pages one after another."""
        run = self.run
        await run.tables.forget()
        run.clear()
        reads = [
            self.initiator.start_read(IOVA + at, 256, id=at // 256 % 16, user=self._user)
            for at in range(0, pages * KIB_4, 256)
        ]
        for read in reads:
            assert not (await read.wait()).resp
        beats = pages * KIB_4 // self.initiator.bus_bytes
        # From the first burst's end on: its walk is the same for any length of stream.
        first = 256 // self.initiator.bus_bytes
        return (beats - first) / (reads[-1].cycle - reads[0].cycle)
