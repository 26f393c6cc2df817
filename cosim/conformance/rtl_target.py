"""The RTL IOMMU as a target, in a simulator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cocotb.triggers import Event, with_timeout

from cosim.bench.clockwork import PERIOD_NS
from cosim.bench.library import BenchEvent
from cosim.bench.machine import Bench, Machine
from models.iommu import (
    InvalidationMessage,
    Mrif,
    PageRequest,
    Parameters,
    Request,
    Response,
    ResponseMessage,
)
from models.memory import ErrorKind
from models.spec.config import CAPABILITY_BITS, IommuConfig, config
from models.spec.translation import TranslationStatus
from rtl.bus.axi import Resp

from .rows import Mismatch
from .target import Message
from .vectors import VectorError

__all__ = ["RtlTarget", "config_for"]


def config_for(profile: Parameters, geometry: Mapping[str, int] | None = None) -> IommuConfig:
    """Configuration of the RTL with a profile's capabilities.

    ``geometry``: sizes of caches and tables; by default caches that are always full.
    """
    capabilities = profile.capabilities
    sizes = {"process_entries": 2, "walk_cache": 4} | dict(geometry or {})
    try:
        return replace(
            config("tiny").iommu,
            **sizes,
            **{name: bool(getattr(capabilities, name)) for name in CAPABILITY_BITS},
            pas=capabilities.pas,
            igs=capabilities.igs,
            ddt_levels=profile.ddt_levels,
            hpm_counters=profile.hpm_counters,
            hpm_bits=profile.hpm_bits,
            queue_entries_log2_max=profile.queue_entries_log2_max,
            itags=profile.itags,
        )
    except ValueError as error:
        raise VectorError(f"no configuration has these capabilities: {error}") from None


class RtlTarget:
    """A :class:`~cosim.conformance.target.Target` inside of the simulator.

    Memory reaches from 0 to the end of physical addresses; access faults are answered DECERR and
    corrupt data SLVERR.

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
    QUIET = 64
    #: Cycles that the caches take to clear themselves after reset.
    CLEARING = 128
    #: The same in rests; one that is not to end fails the scenario.
    RESTS = 2_000
    #: Cycles for the answers to the translations offered at once.
    PATIENCE = 100_000
    #: AXI's answer to an access, by the kind of injected error.
    ERRORS = {ErrorKind.ACCESS_FAULT: Resp.DECERR, ErrorKind.CORRUPTION: Resp.SLVERR}

    def __init__(self, dut, *, pas: int, latency: int = 4, jitter: int = 0, seed: int = 1) -> None:
        self._dut, self._pas = dut, pas
        self._timing = {"latency": latency, "jitter": jitter, "seed": seed}
        self._bench: Bench | None = None
        self._messages: list[Message] = []
        self._answers: list[BenchEvent] = []
        self._awaited, self._complete = 0, Event()
        #: Cycles of the scenarios that have ended.
        self.cycles = 0

    @property
    def bench(self) -> Bench:
        """Bench of the scenario that runs."""
        assert self._bench is not None, "reset comes first"
        return self._bench

    async def reset(self, parameters: Parameters) -> None:
        """Begin anew, with a bench and memory of its own."""
        if self._bench is not None:
            self.cycles += self._bench.library.cycle
            self._bench.stop()
        await Bench.hold(self._dut)
        self._bench = bench = Bench(self._dut)
        bench.memory.sparse(self._pas)
        bench.timing("memory", **self._timing)
        self._machine = Machine(bench, {"iommu": "regs"})
        self._messages = []
        self._answers, self._awaited = [], 0
        bench.stream("translate0__response").listen(self._on_answer)
        bench.stream("invalidation").listen(self._on_invalidation)
        bench.stream("group_response").listen(self._on_group_response)
        # No DMA is outstanding here, so the fence's question is answered at once.
        done = bench.stream("fence__done")
        bench.stream("fence__request").listen(lambda event: done.put(event.value))
        await bench.start()
        await self._machine.sleep(self.CLEARING)

    def _on_answer(self, event: BenchEvent) -> None:
        self._answers.append(event)
        if len(self._answers) == self._awaited:
            self._complete.set()

    def _on_invalidation(self, event: BenchEvent) -> None:
        fields: Any = self.bench.stream("invalidation").layout.from_bits(event.value)
        self._messages.append(InvalidationMessage(**_to(fields), itag=fields.itag))

    def _on_group_response(self, event: BenchEvent) -> None:
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
        found: list[Response] = []
        for base in range(0, len(requests), self.CONCURRENT):
            found += await self._translate(requests[base : base + self.CONCURRENT])
        return found

    async def _translate(self, requests: list[Request]) -> list[Response]:
        self._check_answers()
        asked = self.bench.stream("translate0__request")
        self._answers, self._awaited = [], len(requests)
        self._complete.clear()
        for tag, request in enumerate(requests):
            asked.put(_request(tag, request))
        await with_timeout(self._complete.wait(), self.PATIENCE * PERIOD_NS, "ns")
        unpack = self.bench.stream("translate0__response").unpack
        answers = {}
        for event in self._answers:
            fields = unpack(event.value)
            answers[fields["tag"]] = fields
        if set(answers) != set(range(len(requests))):
            raise Mismatch(f"{len(requests)} tags from 0 were asked, {sorted(answers)} answered")
        return [_response(answers[tag]) for tag in range(len(requests))]

    def _check_answers(self) -> None:
        if len(self._answers) > self._awaited:
            raise Mismatch(f"{self._awaited} translations have {len(self._answers)} answers")

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
        """Answer accesses with an error that tells the kind."""
        self.bench.memory.clear_faults()
        for address, size, kind in errors:
            error = self.ERRORS[ErrorKind(kind)]
            self.bench.memory.fault(address, size, read=error, write=error)

    async def settle(self) -> None:
        """Wait until no transfer happened for a while."""
        before = None
        for _ in range(self.RESTS):
            before = self.bench.library.digest
            await self._machine.sleep(self.QUIET)
            if before == self.bench.library.digest:
                self._check_answers()
                return
        raise Mismatch(f"no rest within {self.RESTS * self.QUIET} cycles")


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


def _response(answer: dict[str, int]) -> Response:
    mrif = Mrif(answer["spa"], answer["nid"], answer["notice_ppn"] << 12)
    return Response(
        status=TranslationStatus(answer["status"]),
        cause=answer["cause"],
        spa=answer["spa"],
        size=1 << answer["size"],
        **{name: bool(answer[name]) for name in ("r", "w", "x", "priv", "glob", "u")},
        pbmt=answer["pbmt"],
        mrif=mrif if answer["mrif"] else None,
    )
