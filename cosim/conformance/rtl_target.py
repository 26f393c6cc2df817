"""The RTL IOMMU as a target, in a simulation of its own.

What a configuration can run is decided before the simulator starts; the simulation
(:mod:`cosim.conformance.rtl_bench`) gets the numbers of the scenarios.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cosim.bench.build import Design, ToolError, build
from cosim.bench.machine import Bench, Machine
from cosim.bench.run import SimulationError
from cosim.bench.run import run as simulate
from models.iommu import (
    InvalidationMessage,
    Mrif,
    PageRequest,
    Parameters,
    Request,
    Response,
    ResponseMessage,
)
from models.spec.config import IommuConfig, config
from models.spec.translation import TranslationStatus

from .report import Result
from .selection import Selector
from .target import Message
from .vectors import VectorError, VectorFile

__all__ = ["RtlTarget", "config_for", "run"]

_BENCH = "cosim.conformance.rtl_bench"
#: Physical address bits at most: all of memory is mapped, twice, into one process.
_PAS_MAX = 44
#: Cycles of jitter of the memory, so that walks finish out of order.
_JITTER = 20


def config_for(profile: Parameters) -> IommuConfig:
    """Configuration of the RTL that is nearest to a profile, with small caches."""
    capabilities, tiny = profile.capabilities, config("tiny").iommu
    return replace(
        tiny,
        pas=min(capabilities.pas, _PAS_MAX),
        ats=bool(capabilities.ats),
        hpm=bool(capabilities.hpm),
        igs=capabilities.igs,
        hpm_counters=profile.hpm_counters,
        hpm_bits=profile.hpm_bits,
        queue_entries_log2_max=config("default").iommu.queue_entries_log2_max,
    )


class RtlTarget:
    """A :class:`~cosim.conformance.target.Target` inside of the simulator.

    Memory reaches from 0 to the end of physical addresses.

    Parameters
    ----------
    dut : object
        cocotb's handle of the bench.
    pas : int
        Physical address bits.
    latency, jitter : int
        Of the memory, in cycles.
    seed : int
        Of the memory's order.
    """

    #: Translations offered at once; tags tell them apart.
    CONCURRENT = 32
    #: Cycles without any transfer after which nothing is under way.
    QUIET = 96
    #: Cycles that the caches take to clear themselves after reset.
    CLEARING = 600
    #: AXI's SLVERR.
    ERROR = 2

    def __init__(self, dut, *, pas: int, latency: int = 4, jitter: int = 0, seed: int = 1) -> None:
        self._dut, self._pas = dut, pas
        self._timing = {"latency": latency, "jitter": jitter, "seed": seed}
        self._bench: Bench | None = None
        self._messages: list[Message] = []

    @property
    def bench(self) -> Bench:
        """Bench of the scenario that runs."""
        assert self._bench is not None, "reset comes first"
        return self._bench

    async def reset(self, parameters: Parameters) -> None:
        """Begin anew, with a bench and memory of its own."""
        if self._bench is not None:
            self._bench.stop()
        await Bench.hold(self._dut)
        self._bench = bench = Bench(self._dut)
        bench.memory.map(0, 1 << self._pas)
        bench.timing("memory", **self._timing)
        self._machine = Machine(bench, {"iommu": "regs"})
        self._messages = []
        bench.stream("translate0__response").listen()
        bench.stream("invalidation").listen(self._on_invalidation)
        bench.stream("group_response").listen(self._on_group_response)
        # No DMA is outstanding here, so the fence's question is answered at once.
        done = bench.stream("fence__done")
        bench.stream("fence__request").listen(lambda event: done.put(event.value))
        await bench.start()
        await self._machine.sleep(self.CLEARING)

    def _on_invalidation(self, event) -> None:
        fields: Any = self.bench.stream("invalidation").layout.from_bits(event.value)
        self._messages.append(InvalidationMessage(**_to(fields), itag=fields.itag))

    def _on_group_response(self, event) -> None:
        fields = self.bench.stream("group_response").layout.from_bits(event.value)
        self._messages.append(ResponseMessage(**_to(fields)))

    async def read_memory(self, address: int, size: int) -> bytes:
        """Load as software."""
        return self.bench.memory.read(address, size)

    async def write_memory(self, address: int, data: bytes) -> None:
        """Store as software."""
        self.bench.memory.write(address, data)

    async def read_register(self, offset: int, size: int) -> int:
        """Load 4 or 8 bytes."""
        return await self._machine.mmio_read("iommu", offset, size)

    async def write_register(self, offset: int, size: int, value: int) -> None:
        """Store 4 or 8 bytes, and wait until that has taken effect."""
        await self._machine.mmio_write("iommu", offset, value, size)
        await self.settle()

    async def translate(self, requests: list[Request]) -> list[Response]:
        """Offer requests at once; the answers come in any order."""
        found: dict[int, Response] = {}
        stream = self.bench.stream("translate0__request")
        answers = self.bench.stream("translate0__response")
        for base in range(0, len(requests), self.CONCURRENT):
            part = requests[base : base + self.CONCURRENT]
            for tag, request in enumerate(part):
                stream.put(_request(tag, request))
            for _ in part:
                answer = await answers.get()
                if base + answer.tag in found or answer.tag >= len(part):
                    raise AssertionError(f"tag {answer.tag} was answered but not asked")
                found[base + answer.tag] = _response(answer)
        return [found[index] for index in range(len(requests))]

    async def page_request(self, message: PageRequest) -> None:
        """Deliver a Page Request Message."""
        self.bench.stream("page_request").put(
            {
                "device_id": message.device_id,
                "process_id": message.process_id or 0,
                "pv": message.process_id is not None,
                "priv": message.privileged,
                "exec": message.execute,
                "payload": message.payload,
            }
        )
        await self.settle()

    async def invalidation_completion(
        self, *, rid: int, segment: int | None, itag_vector: int, count: int
    ) -> None:
        """Deliver an Invalidate Completion Message."""
        device_id = (segment or 0) << 16 | rid
        self.bench.stream("invalidation_completion").put(
            {"device_id": device_id, "itag_vector": itag_vector, "count": count & 7}
        )
        await self.settle()

    async def messages(self) -> list[Message]:
        """Return messages sent since the last call."""
        found, self._messages = self._messages, []
        return found

    async def inject(self, errors: list[tuple[int, int, int]]) -> None:
        """Answer accesses with SLVERR; AXI cannot tell corruption from other errors."""
        self.bench.memory.clear_faults()
        for address, size, _ in errors:
            self.bench.memory.fault(address, size, read=self.ERROR, write=self.ERROR)

    async def settle(self) -> None:
        """Wait until no transfer happened for a while."""
        before = None
        while before != self.bench.library.digest:
            before = self.bench.library.digest
            await self._machine.sleep(self.QUIET)


def _to(fields) -> dict:
    """Addressee, PASID and payload of a message."""
    return {
        "rid": fields.device_id & 0xFFFF,
        "segment": fields.device_id >> 16 if fields.dsv else None,
        "process_id": fields.process_id if fields.pv else None,
        "payload": fields.payload,
    }


def _request(tag: int, request: Request) -> dict:
    return {
        "tag": tag,
        "at": request.at,
        "device_id": request.device_id,
        "process_id": request.process_id or 0,
        "pv": request.process_id is not None,
        "priv": request.privileged,
        "exec": request.execute,
        "write": request.write,
        "iova": request.iova,
    }


def _response(answer) -> Response:
    return Response(
        status=TranslationStatus(answer.status),
        cause=answer.cause,
        spa=answer.spa,
        size=1 << answer.size,
        r=bool(answer.r),
        w=bool(answer.w),
        x=bool(answer.x),
        priv=bool(answer.priv),
        glob=bool(answer.glob),
        u=bool(answer.u),
        pbmt=answer.pbmt,
        mrif=Mrif(answer.spa, answer.nid, answer.notice_ppn << 12) if answer.mrif else None,
    )


def _select(file: VectorFile, rtl: IommuConfig, result: Result) -> list[int]:
    """Numbers of the scenarios that a configuration can run; notes the others as skipped."""
    selector = Selector(Parameters.from_config(rtl))
    chosen = []
    for number, scenario in enumerate(file):
        reason = selector.reason(scenario, file.header.parameters)
        if reason:
            result.skipped[reason] += 1
        else:
            chosen.append(number)
    return chosen


def run(files: list[VectorFile], finished: Callable[[Result], None]) -> list[Result]:
    """Replay files on the RTL under Verilator, each in the configuration nearest to its profile."""
    results = []
    for file in files:
        rtl, result = config_for(file.header.parameters), Result(file.name)
        chosen = _select(file, rtl, result)
        if chosen:
            options = {"path": str(file.path.resolve()), "scenarios": chosen, "jitter": _JITTER}
            try:
                built = build(Design("rtl.iommu.iommu:Iommu", (rtl, 1)))
                outcome = simulate(built, _BENCH, options={**options, "pas": rtl.pas})
            except (ToolError, SimulationError) as error:
                raise VectorError(str(error)) from error
            result.passed, result.failures = outcome["passed"], outcome["failures"]
        results.append(result)
        finished(result)
    return results
