"""The RTL IOMMU as a target of conformance vectors: runs inside the simulator.

Replays are plain, blocking Python; they run in a thread of their own and call the simulation
through cocotb's bridge.
"""

from collections import namedtuple
from typing import Any

from cocotb.task import resume

from cosim.bench.machine import Bench, Machine
from models.spec.translation import AddressType, TranslationStatus

__all__ = ["Message", "Response", "RtlIommu"]

#: Answer to a translation request; fields as in the vectors' description.
Response = namedtuple(
    "Response",
    "status spa pbmt mrif r w x priv g u size",
    defaults=(0, 0, None, 0, 0, 0, 0, 0, 0, 4096),
)
#: Outgoing ATS message; ``dseg`` and ``pid`` are None if not valid.
Message = namedtuple("Message", "kind rid dseg pid payload tag", defaults=(0,))
_AT = {
    "u": AddressType.UNTRANSLATED,
    "t": AddressType.TRANSLATED,
    "a": AddressType.ATS_REQUEST,
}


class RtlIommu:
    """One IOMMU under a bench, with memory from 0 to the end of its physical addresses.

    Parameters
    ----------
    dut : object
        cocotb's handle of the bench.
    pas : int
        Physical address bits, at most 46.
    latency, jitter : int
        Of the memory, in cycles.
    seed : int
        Of the memory's order.
    """

    #: Translations offered at once; tags have to tell them apart.
    CONCURRENT = 32
    #: Cycles without a transfer after which nothing is under way.
    QUIET = 96

    def __init__(self, dut, *, pas: int, latency: int = 4, jitter: int = 0, seed: int = 1):
        self._dut, self._pas = dut, pas
        self._timing = {"latency": latency, "jitter": jitter, "seed": seed}
        self.cycles = 0

    async def _reset(self) -> None:
        if hasattr(self, "bench"):
            self.cycles += self.bench.library.cycle
            self.bench.stop()
        # What a failed replay left under way must not reach the next one's memory.
        await Bench.hold(self._dut)
        self.bench = Bench(self._dut)
        self.bench.memory.map(0, 1 << self._pas)
        self.bench.timing("memory", **self._timing)
        self.machine = Machine(self.bench, {"iommu": "regs"})
        self._messages: list[Message] = []
        self.bench.stream("translate0__response").listen()
        self.bench.stream("invalidation").listen(self._on_invalidation)
        self.bench.stream("group_response").listen(self._on_group_response)
        # No DMA is outstanding here: the fence's question is answered as soon as it is asked.
        done = self.bench.stream("fence__done")
        self.bench.stream("fence__request").listen(lambda event: done.put(event.value))
        await self.bench.start()
        # The caches clear themselves first.
        await self.machine.sleep(600)

    def _on_invalidation(self, event) -> None:
        self._message("inv", event, "invalidation")

    def _on_group_response(self, event) -> None:
        self._message("prgr", event, "group_response")

    def _message(self, kind: str, event, name: str) -> None:
        fields: Any = self.bench.stream(name).layout.from_bits(event.value)
        self._messages.append(
            Message(
                kind,
                fields.device_id & 0xFFFF,
                fields.device_id >> 16 if fields.dsv else None,
                fields.process_id if fields.pv else None,
                fields.payload,
                fields.itag if kind == "inv" else 0,
            )
        )

    async def _settle(self) -> None:
        before = None
        while before != self.bench.library.digest:
            before = self.bench.library.digest
            await self.machine.sleep(self.QUIET)

    async def _translate(self, requests: list) -> list[Response]:
        found: dict[int, Response] = {}
        stream = self.bench.stream("translate0__request")
        answers = self.bench.stream("translate0__response")
        for base in range(0, len(requests), self.CONCURRENT):
            part = requests[base : base + self.CONCURRENT]
            for tag, request in enumerate(part):
                stream.put(
                    {
                        "tag": tag,
                        "at": _AT[request.at],
                        "device_id": request.did,
                        "process_id": request.pid or 0,
                        "pv": request.pid is not None,
                        "priv": request.priv,
                        "exec": request.exec_,
                        "write": request.write,
                        "iova": request.iova,
                    }
                )
            for _ in part:
                answer = await answers.get()
                if base + answer.tag in found:
                    raise AssertionError(f"tag {answer.tag} was answered twice")
                found[base + answer.tag] = self._response(answer)
        return [found[index] for index in range(len(requests))]

    @staticmethod
    def _response(answer) -> Response:
        if answer.status != TranslationStatus.SUCCESS:
            return Response(int(answer.status))
        mrif = None
        if answer.mrif:
            mrif = (answer.spa, answer.nid, answer.notice_ppn << 12)
        return Response(
            0,
            answer.spa,
            answer.pbmt,
            mrif,
            answer.r,
            answer.w,
            answer.x,
            answer.priv,
            answer.glob,
            answer.u,
            1 << answer.size,
        )

    # What replays call, from their thread.

    def reset(self, header: dict) -> None:
        """Reset the IOMMU; all memory zero, no injected errors."""
        resume(self._reset)()

    def mem_write(self, addr: int, data: bytes) -> None:
        """Store as software."""
        self.bench.memory.write(addr, data)

    def mem_read(self, addr: int, n: int) -> bytes:
        """Load as software."""
        return self.bench.memory.read(addr, n)

    def reg_write(self, off: int, n: int, value: int) -> None:
        """Store to a register, and wait until it has taken effect."""
        resume(self.machine.mmio_write)("iommu", off, value, n)
        resume(self._settle)()

    def reg_read(self, off: int, n: int) -> int:
        """Load from a register."""
        return resume(self.machine.mmio_read)("iommu", off, n)

    def translate(self, reqs: list) -> list[Response]:
        """Offer independent requests; answers in the same order."""
        return resume(self._translate)(reqs)

    def page_request(self, rid, dseg, pid, priv, exec_, payload) -> None:
        """Deliver a page request message."""
        self.bench.stream("page_request").put(
            {
                "device_id": rid | (dseg or 0) << 16,
                "process_id": pid or 0,
                "pv": pid is not None,
                "priv": priv,
                "exec": exec_,
                "payload": payload,
            }
        )
        resume(self._settle)()

    def inval_completion(self, rid, dseg, itag_vector, cc) -> None:
        """Deliver an invalidation completion message."""
        self.bench.stream("invalidation_completion").put(
            {"device_id": rid | (dseg or 0) << 16, "itag_vector": itag_vector, "count": cc & 7}
        )
        resume(self._settle)()

    def messages(self) -> list[Message]:
        """Messages sent since the last call, in order."""
        found, self._messages = self._messages, []
        return found

    def inject(self, errors: list) -> None:
        """Make accesses to ranges fail: ``(address, size, kind)``; replaces all before."""
        self.bench.memory.clear_faults()
        for addr, size, _ in errors:
            self.bench.memory.fault(addr, size, read=2, write=2)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        resume(self._settle)()
