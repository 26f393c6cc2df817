"""Plays scenarios on a target and compares everything that comes back."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from models.iommu import InvalidationMessage, PageRequest, Parameters
from models.spec.iommu_registers import (
    CQB,
    CQCSR,
    CQH,
    CQT,
    FQB,
    FQCSR,
    FQH,
    FQT,
    PQB,
    PQH,
    PQT,
    TR_REQ_CTL,
    TR_REQ_IOVA,
    TR_RESPONSE,
)
from models.spec.registers import Register, field_mask

from .rows import Expected, Mismatch, Record, check_response, expected_record, parse_request
from .target import Target
from .vectors import Scenario, VectorError

__all__ = ["replay"]

_COMMAND_BYTES, _FAULT_BYTES, _PAGE_REQUEST_BYTES = 16, 32, 16
_ERRORS = field_mask(CQCSR, "cqmf", "cmd_to", "cmd_ill")
_ERRORS_SHIFT = CQCSR["cqmf"].low


async def replay(scenario: Scenario, target: Target, parameters: Parameters) -> None:
    """Play one scenario; :class:`Mismatch` says at which step something else happened."""
    await target.reset(parameters)
    for address, data in scenario.memory:
        await target.write_memory(int(address, 16), bytes.fromhex(data))
    player = _Player(target)
    for number, (kind, *operands) in enumerate(scenario.steps):
        step = player.steps.get(kind)
        if step is None:
            raise VectorError(f"{scenario.name}: step {number} is of unknown kind {kind!r}")
        try:
            await step(*operands)
        except Mismatch as mismatch:
            text = json.dumps([kind, *operands])[:120]
            raise Mismatch(f"{scenario.name}: step {number} {text}: {mismatch}") from None


class _Player:
    """The steps, one coroutine each."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._invalidations: list[InvalidationMessage] = []
        self.steps = {
            "w": self._store_register,
            "r": self._compare_register,
            "m": self._store_memory,
            "e": self._compare_memory,
            "x": self._translate_one,
            "g": self._translate_group,
            "X": self._translate_unread,
            "F": self._compare_faults,
            "C": self._commands,
            "W": self._compare_command_queue,
            "p": self._page_request,
            "q": self._compare_page_requests,
            "o": self._compare_messages,
            "k": self._complete_invalidation,
            "i": self._inject,
            "d": self._debug,
        }

    # Registers and memory ----------------------------------------------------------------------

    async def _load(self, register: Register) -> int:
        return await self._target.read_register(register.offset, register.bytes)

    async def _store_register(self, offset: int, size: int, value: str) -> None:
        await self._target.write_register(offset, size, int(value, 16))

    async def _compare_register(self, offset: int, size: int, value: str, mask: str) -> None:
        await self._target.settle()
        got = await self._target.read_register(offset, size)
        if (got ^ int(value, 16)) & int(mask, 16):
            raise Mismatch(f"register {offset} is {got:#x}, expected {value} in mask {mask}")

    async def _store_memory(self, address: str, data: str) -> None:
        await self._target.write_memory(int(address, 16), bytes.fromhex(data))

    async def _compare_memory(self, address: str, data: str, mask: str | None = None) -> None:
        await self._target.settle()
        want = bytes.fromhex(data)
        bits = bytes.fromhex(mask) if mask else b"\xff" * len(want)
        got = await self._target.read_memory(int(address, 16), len(want))
        if any((a ^ b) & c for a, b, c in zip(got, want, bits, strict=True)):
            raise Mismatch(f"memory at {address} is {got.hex()}, expected {data}")

    # Translations and faults -------------------------------------------------------------------

    async def _translate(self, rows: Sequence[list[Any]]) -> list[Expected]:
        requests = [parse_request(row) for row in rows]
        responses = await self._target.translate(requests)
        for row, request, response in zip(rows, requests, responses, strict=True):
            check_response(row, request, response)
        expected = (expected_record(row) for row in rows)
        return [record for record in expected if record]

    async def _translate_one(self, *row: Any) -> None:
        await self._match(await self._translate([list(row)]))

    async def _translate_group(self, rows: list[list[Any]]) -> None:
        await self._match(await self._translate(rows))

    async def _translate_unread(self, *row: Any) -> None:
        await self._translate([list(row)])

    async def _compare_faults(self, records: list[list[Any]]) -> None:
        await self._match(
            [
                Expected.of(causes, ttyp, did, pid, bool(priv), int(iotval, 16), int(iotval2, 16))
                for causes, ttyp, did, pid, priv, iotval, iotval2 in records
            ]
        )

    async def _match(self, expected: list[Expected]) -> None:
        """Pop the fault queue; equal faults may have been reported once or several times."""
        found = Counter(await self._pop_faults())
        wanted = Counter(expected)
        for (cause, record), times in found.items():
            most = sum(count for want, count in wanted.items() if want.allows(cause, record))
            if times > most:
                raise Mismatch(f"{times} times cause {cause} {record}, expected {most} times")
        for want in wanted:
            if not any(want.allows(cause, record) for cause, record in found):
                raise Mismatch(f"no {want}; found {list(found)}")

    async def _pop_faults(self) -> list[tuple[int, Record]]:
        await self._target.settle()
        if not FQCSR["fqon"].extract(await self._load(FQCSR)):
            return []
        return [Record.decode(raw) for raw in await self._pop(FQB, FQH, FQT, _FAULT_BYTES)]

    async def _pop(self, base: Register, head: Register, tail: Register, size: int) -> list[bytes]:
        await self._target.settle()
        value, index, end = await self._load(base), await self._load(head), await self._load(tail)
        if index == end:
            return []
        start, entries = base["ppn"].extract(value) << 12, 2 << base["log2szm1"].extract(value)
        records = []
        while index != end:
            records.append(await self._target.read_memory(start + size * index, size))
            index = (index + 1) % entries
        await self._target.write_register(head.offset, head.bytes, end)
        return records

    # Commands ----------------------------------------------------------------------------------

    async def _commands(self, commands: list[list[str]], head: int, errors: int) -> None:
        value, tail = await self._load(CQB), await self._load(CQT)
        start, entries = CQB["ppn"].extract(value) << 12, 2 << CQB["log2szm1"].extract(value)
        for words in commands:
            raw = b"".join(int(word, 16).to_bytes(8, "little") for word in words)
            await self._target.write_memory(start + _COMMAND_BYTES * tail, raw)
            tail = (tail + 1) % entries
        await self._target.write_register(CQT.offset, CQT.bytes, tail)
        await self._compare_command_queue(head, errors)

    async def _compare_command_queue(self, head: int, errors: int) -> None:
        await self._target.settle()
        got = await self._load(CQH), (await self._load(CQCSR) & _ERRORS) >> _ERRORS_SHIFT
        if got != (head, errors):
            raise Mismatch(f"cqh and errors are {got}, expected {(head, errors)}")

    # ATS and PRI -------------------------------------------------------------------------------

    async def _page_request(
        self,
        rid: int,
        segment: int | None,
        process_id: int | None,
        privileged: int,
        execute: int,
        payload: str,
    ) -> None:
        await self._target.page_request(
            PageRequest(
                rid=rid,
                segment=segment,
                process_id=process_id,
                privileged=bool(privileged),
                execute=bool(execute),
                payload=int(payload, 16),
            )
        )

    async def _compare_page_requests(self, records: list[list[str]]) -> None:
        got = [
            [f"{int.from_bytes(raw[start : start + 8], 'little'):x}" for start in (0, 8)]
            for raw in await self._pop(PQB, PQH, PQT, _PAGE_REQUEST_BYTES)
        ]
        if got != records:
            raise Mismatch(f"page requests are {got}, expected {records}")

    async def _compare_messages(self, messages: list[list[Any]], optional: int = 0) -> None:
        await self._target.settle()
        sent = await self._target.messages()
        self._invalidations += [m for m in sent if isinstance(m, InvalidationMessage)]
        got = [
            [
                "inv" if isinstance(m, InvalidationMessage) else "prgr",
                m.rid,
                m.segment,
                m.process_id,
                f"{m.payload:x}",
            ]
            for m in sent
        ]
        if got != messages and (got or not optional):
            raise Mismatch(f"messages are {got}, expected {messages}")

    async def _complete_invalidation(
        self, which: int, rid: int, segment: int | None, count: int
    ) -> None:
        itag = self._invalidations[which].itag
        await self._target.invalidation_completion(
            rid=rid, segment=segment, itag_vector=1 << itag, count=count
        )

    async def _inject(self, errors: list[list[Any]]) -> None:
        await self._target.inject(
            [(int(address, 16), size, kind) for address, size, kind in errors]
        )

    # Debug -------------------------------------------------------------------------------------

    async def _debug(
        self,
        device_id: int,
        process_id: int | None,
        flags: int,
        iova: str,
        expected: list[Any] | None,
        causes: int | list[int] = 0,
    ) -> None:
        address = int(iova, 16)
        control = TR_REQ_CTL["did"].insert(device_id) | flags << TR_REQ_CTL["priv"].low
        control |= TR_REQ_CTL["go_busy"].mask
        if process_id is not None:
            control |= TR_REQ_CTL["pid"].insert(process_id) | TR_REQ_CTL["pv"].mask
        write = self._target.write_register
        await write(TR_REQ_IOVA.offset, 8, address & TR_REQ_IOVA["vpn"].mask)
        await write(TR_REQ_CTL.offset + 4, 4, control >> 32)
        await write(TR_REQ_CTL.offset, 4, control & 0xFFFF_FFFF)
        await self._target.settle()
        if TR_REQ_CTL["go_busy"].extract(await self._load(TR_REQ_CTL)):
            raise Mismatch("the debug request does not end")
        response = await self._load(TR_RESPONSE)
        faults = [cause for cause, _ in await self._pop_faults()]
        failed = bool(TR_RESPONSE["fault"].extract(response))
        if failed != (expected is None):
            raise Mismatch(f"fault is {failed}, recorded {faults}")
        if expected is None:  # whether a record is written is left open
            allowed = causes if isinstance(causes, list) else [causes]
            if any(allowed) and not set(faults) <= set(allowed):
                raise Mismatch(f"causes {faults}, expected {allowed}")
            return
        ppn, size = TR_RESPONSE["ppn"].extract(response), 4096
        if TR_RESPONSE["s"].extract(response):  # ones below the lowest zero give the size
            size = ((ppn ^ ppn + 1) + 1) << 12
        spa = (ppn << 12) & -size | address & size - 1
        got = [f"{spa:x}", TR_RESPONSE["pbmt"].extract(response)]
        if faults or got != expected:
            raise Mismatch(f"answer is {got}, faults {faults}, expected {expected}")
