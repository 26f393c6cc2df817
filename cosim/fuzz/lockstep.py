"""Plays a scenario on the oracle and on an implementation side by side, comparing everything."""

from collections import Counter
from typing import Any, Protocol

from cosim.conformance.rows import Mismatch, Record
from cosim.conformance.sync import finish
from cosim.conformance.target import Message, Target
from models.iommu import InvalidationMessage, PageRequest, Parameters, Response
from models.spec import iommu_registers as regs
from models.spec.registers import Register, field_mask

from .commands import fence
from .difference import difference, same_but_dirty, same_word, unreadable
from .failure import Differs, Failure
from .oracle import Oracle
from .scenario import Scenario
from .statistics import Statistics

__all__ = ["Implementation", "Lockstep"]

_FAULT_BYTES, _REQUEST_BYTES, _COMMAND_BYTES = 32, 16, 16
_QUEUES = {
    "cq": (regs.CQB, regs.CQH, regs.CQT, regs.CQCSR),
    "fq": (regs.FQB, regs.FQH, regs.FQT, regs.FQCSR),
    "pq": (regs.PQB, regs.PQH, regs.PQT, regs.PQCSR),
}
_COMPARED = (
    *("CAPABILITIES", "FCTL", "DDTP", "CQB", "CQH", "CQT", "FQB", "FQH", "FQT"),
    *("PQB", "PQH", "PQT", "CQCSR", "FQCSR", "PQCSR", "IPSR", "IOCOUNTINH", "IOMMU_QOSID", "ICVEC"),
)
_ERRORS = {
    "cq": field_mask(regs.CQCSR, "cqmf", "cmd_to", "cmd_ill", "fence_w_ip"),
    "fq": field_mask(regs.FQCSR, "fqmf", "fqof"),
    "pq": field_mask(regs.PQCSR, "pqmf", "pqof"),
}
_EXACT_EVENTS = (1, 2, 3)
_PAGE = 4096


class Implementation(Target, Protocol):
    """What is tried: a target that can take requests and a register store at the same time."""

    async def together(
        self, rows: list[list[Any]], store: tuple[int, int, int] | None
    ) -> list[Response]:
        """Translate concurrently, with a store to a register under way."""
        ...


class Lockstep:
    """Oracle and implementation.

    Parameters
    ----------
    implementation : Implementation
    statistics : Statistics
        What is counted on the way.
    """

    def __init__(self, implementation: Implementation, statistics: Statistics) -> None:
        self._other, self._statistics = implementation, statistics
        self._steps = {
            "w": self._store_register,
            "m": self._store_memory,
            "c": self._commands,
            "g": self._group,
            "p": self._page_request,
            "k": self._complete,
            "i": self._inject,
            "d": self._debug,
            "f": self._replace,
            "q": self._compare,
        }

    async def play(self, scenario: Scenario) -> None:
        """Raise :class:`Mismatch` at the first step where they differ."""
        self._config = scenario.config
        parameters = Parameters.from_config(scenario.config)
        self._oracle = Oracle(parameters)
        await self._other.reset(parameters)
        self._outstanding: tuple[list[Message], list[Message]] = ([], [])
        self._messages: tuple[list[Message], list[Message]] = ([], [])
        self._written: set[int] = set()
        self._selectors: dict[int, int] = {}
        for address, size, value in scenario.memory:
            await self._write(address, value.to_bytes(size, "little"))
        for number, (kind, *operands) in enumerate(scenario.steps):
            try:
                await self._steps[kind](*operands)
            except Mismatch as mismatch:
                failure = Failure.of(mismatch)
                where = f"{scenario.name}: step {number} ({kind})"
                raise Differs(failure.kind, f"{where}: {failure.what}") from None

    # Both --------------------------------------------------------------------------------------

    async def _write(self, address: int, data: bytes) -> None:
        finish(self._oracle.write_memory(address, data))
        await self._other.write_memory(address, data)

    async def _set(self, offset: int, size: int, value: int) -> None:
        finish(self._oracle.write_register(offset, size, value))
        await self._other.write_register(offset, size, value)

    def _value(self, register: Register) -> int:
        """Value of a register of the oracle."""
        return self._oracle.iommu.read_register(register.offset, register.bytes)

    async def _same(self, register: Register, mask: int = -1) -> int:
        """Compare a register; returns the implementation's value."""
        want = self._value(register)
        got = await self._other.read_register(register.offset, register.bytes)
        if (want ^ got) & mask:
            raise Differs(register.name, f"{register.name} is {got:#x}, expected {want:#x}")
        return got

    # Steps -------------------------------------------------------------------------------------

    async def _store_register(self, offset: int, size: int, value: int) -> None:
        await self._set(offset, size, value)

    async def _store_memory(self, stores: list[list[int]]) -> None:
        for address, size, value in stores:
            await self._write(address, value.to_bytes(size, "little"))

    async def _inject(self, errors: list[list[int]]) -> None:
        ranges = [(address, size, kind) for address, size, kind in errors]
        finish(self._oracle.inject(ranges))
        await self._other.inject(ranges)

    async def _enqueue(self, commands: list[int]) -> tuple[int, int, int]:
        """Put commands into the queue's memory; returns the store that makes them known."""
        base, tail = self._value(regs.CQB), self._value(regs.CQT)
        start, entries = (
            regs.CQB["ppn"].extract(base) << 12,
            2 << regs.CQB["log2szm1"].extract(base),
        )
        order = "big" if regs.FCTL["be"].extract(self._value(regs.FCTL)) else "little"
        for command in commands:
            raw = b"".join(
                (command >> shift & (1 << 64) - 1).to_bytes(8, order) for shift in (0, 64)
            )
            await self._write(start + _COMMAND_BYTES * tail, raw)
            tail = (tail + 1) % entries
            self._statistics.command(command)
        return regs.CQT.offset, regs.CQT.bytes, tail

    async def _commands(self, commands: list[int]) -> None:
        store = await self._enqueue(commands)
        await self._set(*store)
        await self._same(regs.CQH)
        await self._same(regs.CQCSR)

    async def _replace(self) -> None:
        """Put a fence in place of the command at the head and clear the errors."""
        if not self._value(regs.CQCSR) & _ERRORS["cq"]:
            return
        base, head = self._value(regs.CQB), self._value(regs.CQH)
        order = "big" if regs.FCTL["be"].extract(self._value(regs.FCTL)) else "little"
        raw = fence().to_bytes(16, "little")
        if order == "big":
            raw = raw[7::-1] + raw[:7:-1]
        await self._write((regs.CQB["ppn"].extract(base) << 12) + _COMMAND_BYTES * head, raw)
        await self._set(regs.CQCSR.offset, 4, self._value(regs.CQCSR))
        await self._same(regs.CQH)

    async def _page_request(
        self,
        rid: int,
        segment: int | None,
        process_id: int | None,
        privileged: int,
        execute: int,
        payload: int,
    ) -> None:
        message = PageRequest(
            rid=rid,
            segment=segment,
            process_id=process_id,
            privileged=bool(privileged),
            execute=bool(execute),
            payload=payload,
        )
        self._statistics.page_requests += 1
        finish(self._oracle.page_request(message))
        await self._other.page_request(message)
        await self._faults(self._oracle.take_records(), {})

    async def _complete(self) -> None:
        await self._collect()
        for target, sent in zip((self._oracle, self._other), self._outstanding, strict=True):
            for message in sent:
                assert isinstance(message, InvalidationMessage)
                await target.invalidation_completion(
                    rid=message.rid, segment=message.segment, itag_vector=1 << message.itag, count=1
                )
            sent.clear()
        await self._same(regs.CQH)

    # Requests ----------------------------------------------------------------------------------

    async def _group(self, rows: list[list[Any]], commands: list[int]) -> None:
        oracle, statistics = self._oracle, self._statistics
        store = await self._enqueue(commands) if commands else None
        oracle.stored = False
        judged = oracle.judge(rows)
        # Requests that change A and D bits can change what others beside them meet.
        again = judged
        if any(j.record is None for j in judged) and oracle.stored and self._config.amo_hwad:
            again = oracle.second_opinion(rows)
        if store:
            finish(oracle.write_register(*store))
        responses = await self._other.together(rows, store)
        if store:
            await self._same(regs.CQH)
            await self._same(regs.CQCSR)
        records: list[bytes] = []
        either: dict[int, bytes] = {}
        for number, (first, second, response) in enumerate(
            zip(judged, again, responses, strict=True)
        ):
            chosen = first
            why = difference(first, response)
            if why and second is not first and not difference(second, response):
                chosen, why = second, None
            if why and unreadable(first) and not difference(oracle.reading(first), response):
                why = None
            if why:
                raise Differs(why.kind, f"row {number} {rows[number]}: {why}")
            if chosen.record:
                records.append(chosen.record)
            statistics.request(chosen)
        expected = oracle.take_records()
        if again is not judged:
            expected = records
        await self._faults(expected, either)
        self._follow()

    def _follow(self) -> None:
        """Where the RTL has left D alone, as it may, go on with that."""
        oracle = self._oracle
        for at in oracle.open_dirty:
            want, got = (finish(each.read_memory(at, 8)) for each in (oracle, self._other))
            if same_but_dirty(*(int.from_bytes(raw, "little") for raw in (want, got))):
                finish(oracle.write_memory(at, got))
        oracle.open_dirty.clear()

    async def _faults(self, expected: list[bytes], either: dict[int, bytes]) -> None:
        """Pop the fault queue of both, and compare as multisets."""
        await self._other.settle()
        got = await self._pop("fq", _FAULT_BYTES)
        wanted = Counter(self._record(raw) for raw in expected)
        found = Counter(self._record(raw) for raw in got)
        dropped = self._value(regs.FQCSR) & _ERRORS["fq"]
        for record in found:
            if found[record] > wanted[record]:
                missing = next(iter(wanted - found), None)
                raise Differs(
                    f"record of cause {record[0]}",
                    f"{found[record]} records {record}, expected {wanted[record]}; "
                    f"missing is {missing}",
                )
        if not dropped and found != wanted and self._fault_queue_on():
            missing = next(iter(wanted - found))
            raise Differs(f"no record of cause {missing[0]}", f"no record {missing}")
        for cause, _ in found:
            self._statistics.record(cause)
        if dropped:
            await self._same(regs.FQCSR)
            await self._set(regs.FQCSR.offset, 4, self._value(regs.FQCSR))

    def _fault_queue_on(self) -> bool:
        return bool(regs.FQCSR["fqon"].extract(self._value(regs.FQCSR)))

    def _record(self, raw: bytes) -> tuple[int, Record]:
        if regs.FCTL["be"].extract(self._value(regs.FCTL)):
            raw = b"".join(raw[start : start + 8][::-1] for start in range(0, len(raw), 8))
        return Record.decode(raw)

    async def _pop(self, queue: str, size: int) -> list[bytes]:
        base, head, tail, _ = _QUEUES[queue]
        value, index, end = self._value(base), self._value(head), self._value(tail)
        got = await self._other.read_register(tail.offset, tail.bytes)
        if got != end:
            raise Differs(tail.name, f"{tail.name} is {got}, expected {end}")
        if index == end:
            return []
        start, entries = base["ppn"].extract(value) << 12, 2 << base["log2szm1"].extract(value)
        records = []
        while index != end:
            address = start + size * index
            records.append(await self._other.read_memory(address, size))
            if queue == "fq":  # the order is the implementation's own
                finish(self._oracle.write_memory(address, records[-1]))
            index = (index + 1) % entries
        finish(self._oracle.write_register(head.offset, head.bytes, end))
        await self._other.write_register(head.offset, head.bytes, end)
        return records

    async def _debug(self, device_id: int, process_id: int | None, flags: int, iova: int) -> None:
        control = regs.TR_REQ_CTL["did"].insert(device_id) | flags << regs.TR_REQ_CTL["priv"].low
        control |= regs.TR_REQ_CTL["go_busy"].mask
        if process_id is not None:
            control |= regs.TR_REQ_CTL["pid"].insert(process_id) | regs.TR_REQ_CTL["pv"].mask
        await self._set(regs.TR_REQ_IOVA.offset, 8, iova)
        await self._set(regs.TR_REQ_CTL.offset + 4, 4, control >> 32)
        await self._set(regs.TR_REQ_CTL.offset, 4, control & 0xFFFF_FFFF)
        self._statistics.debug += 1
        want = self._value(regs.TR_RESPONSE)
        got = await self._other.read_register(regs.TR_RESPONSE.offset, 8)
        if _translated(want, iova) != _translated(got, iova):
            raise Differs("tr_response", f"tr_response is {got:#x}, expected {want:#x}")
        await self._same(regs.TR_REQ_CTL)
        await self._faults(self._oracle.take_records(), {})

    # Everything --------------------------------------------------------------------------------

    async def _collect(self) -> None:
        await self._other.settle()
        for number, target in enumerate((self._oracle, self._other)):
            sent = await target.messages()
            self._messages[number].extend(sent)
            self._outstanding[number].extend(m for m in sent if isinstance(m, InvalidationMessage))

    async def _compare(self) -> None:
        await self._collect()
        want, got = ([_plain(m) for m in messages] for messages in self._messages)
        if want != got:
            raise Differs("messages", f"messages are {got}, expected {want}")
        for messages in self._messages:
            messages.clear()
        if self._config.ats:
            await self._page_request_queue()
        for name in _COMPARED:
            await self._same(getattr(regs, name))
        await self._counters()
        self._compare_memory()
        for register in (regs.PQCSR, regs.FQCSR, regs.IPSR):
            await self._set(register.offset, 4, self._value(register))

    async def _page_request_queue(self) -> None:
        base, head, tail, _ = _QUEUES["pq"]
        start = base["ppn"].extract(self._value(base)) << 12
        index, entries = self._value(head), 2 << base["log2szm1"].extract(self._value(base))
        want = []
        while index != self._value(tail):
            address = start + _REQUEST_BYTES * index
            want.append(finish(self._oracle.read_memory(address, _REQUEST_BYTES)))
            index = (index + 1) % entries
        got = await self._pop("pq", _REQUEST_BYTES)
        if got != want:
            raise Differs("page requests", f"page requests are {got}, expected {want}")

    async def _counters(self) -> None:
        """Counters of events that do not depend on caches."""
        if not self._config.hpm:
            return
        exact = 0
        for index in range(self._config.hpm_counters):
            selector = regs.IOHPMEVT[index]
            event = selector["eventid"].extract(self._value(selector))
            if event in _EXACT_EVENTS:
                exact |= 2 << index
                await self._same(selector)
                await self._same(regs.IOHPMCTR[index])
            elif event:
                count = await self._other.read_register(regs.IOHPMCTR[index].offset, 8)
                self._statistics.event(event, count, self._selectors.get(index, 0))
                self._selectors[index] = count
        await self._same(regs.IOCOUNTOVF, exact)

    def _compare_memory(self) -> None:
        """Every page that the oracle has written; :meth:`Target.read_memory` never waits."""
        for number, page in sorted(self._oracle._memory._pages.items()):
            got = finish(self._other.read_memory(number * _PAGE, _PAGE))
            if got == page:
                continue
            for at in range(0, _PAGE, 8):
                want, found = (int.from_bytes(x[at : at + 8], "little") for x in (page, got))
                if not same_word(want, found):
                    where = f"memory at {number * _PAGE + at:#x}"
                    raise Differs("memory", f"{where} is {found:#x}, expected {want:#x}")


def _plain(message: Message) -> tuple:
    """A message without the tag, which is the implementation's choice."""
    kind = "inv" if isinstance(message, InvalidationMessage) else "prgr"
    return kind, message.rid, message.segment, message.process_id, message.payload


def _translated(response: int, iova: int) -> tuple:
    """Fault, or address and memory type, whatever range was answered."""
    if regs.TR_RESPONSE["fault"].extract(response):
        return (True,)
    ppn, size = regs.TR_RESPONSE["ppn"].extract(response), 4096
    if regs.TR_RESPONSE["s"].extract(response):
        size = ((ppn ^ ppn + 1) + 1) << 12
    spa = (ppn << 12) & -size | iova & size - 1
    return False, spa & (1 << 56) - 1, regs.TR_RESPONSE["pbmt"].extract(response)
