"""The RTL IOMMU as the fuzzer's implementation; runs inside of the simulator."""

from typing import Any

from cocotb.triggers import with_timeout

from cosim.bench.clockwork import PERIOD_NS
from cosim.conformance.rows import Mismatch
from cosim.conformance.rtl_target import RtlTarget, _response
from models.iommu import Response
from models.spec.iommu_registers import CQH, CQT

__all__ = ["FuzzTarget"]

_AT = {"u": 0, "a": 1, "t": 2}


class FuzzTarget(RtlTarget):
    """Adds requests beside a store; waits no longer than the memory's timing asks for."""

    CONCURRENT = 96

    def __init__(self, dut, *, pas: int, iotlb_sets: int) -> None:
        super().__init__(dut, pas=pas)
        #: Cycles of the longest invalidation, which goes through the sets with no transfer.
        self._sweep = iotlb_sets + 16

    def retime(self, *, latency: int, jitter: int, seed: int) -> None:
        """Set the memory's timing from the next reset on."""
        self._timing = {"latency": latency, "jitter": jitter, "seed": seed}
        self.QUIET = latency + jitter + 40

    async def settle(self) -> None:
        """Wait for commands too: those fetched together are done one after the other in silence."""
        before = -1
        while True:
            await super().settle()
            head, tail = [await self.read_register(r.offset, r.bytes) for r in (CQH, CQT)]
            if head in (before, tail):
                return
            before = head
            await self._machine.sleep(self._sweep)

    async def together(
        self, rows: list[list[Any]], store: tuple[int, int, int] | None
    ) -> list[Response]:
        """Translate concurrently, with a store to a register among them."""
        if store:
            offset, size, value = store
            self._machine.mmio_post("iommu", offset, value, size)
        found: list[Response] = []
        for base in range(0, len(rows), self.CONCURRENT):
            found += await self._rows(rows[base : base + self.CONCURRENT])
        await self.settle()
        return found

    async def _rows(self, rows: list[list[Any]]) -> list[Response]:
        self._check_answers()
        asked = self.bench.stream("translate0__request")
        self._answers, self._awaited = [], len(rows)
        self._complete.clear()
        pack, send, port = asked.pack, self.bench.library.send, asked.port
        for tag, (kind, access, privileged, device_id, process_id, iova) in enumerate(rows):
            fields = {
                "tag": tag,
                "at": _AT[kind],
                "device_id": device_id,
                "process_id": process_id or 0,
                "pv": int(process_id is not None),
                "priv": privileged,
                "exec": int(access in "xy"),
                "write": int(access in "wy"),
                "iova": iova,
            }
            send(port.number, pack(fields), port.words)
        await with_timeout(self._complete.wait(), self.PATIENCE * PERIOD_NS, "ns")
        unpack = self.bench.stream("translate0__response").unpack
        answers = {}
        for event in self._answers:
            fields = unpack(event.value)
            answers[fields["tag"]] = fields
        if set(answers) != set(range(len(rows))):
            raise Mismatch(f"{len(rows)} tags from 0 were asked, {sorted(answers)} answered")
        return [_response(answers[tag]) for tag in range(len(rows))]
