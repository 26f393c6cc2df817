"""Drives an AXI4 subordinate port of the design, such as an I/O bridge, with bursts from Python."""

from collections import deque
from typing import TYPE_CHECKING

from cocotb.triggers import Event

from cosim.bench.library import BenchEvent
from cosim.bench.ports import layout_fields
from rtl.bus.axi import Burst

if TYPE_CHECKING:
    from cosim.bench.bench import Bench

__all__ = ["Initiator", "Transfer"]


class Transfer:
    """One burst under way, and then its result.

    ``data`` are the bytes that were read, ``resps`` the response of each beat (of the burst, for
    writes) and ``cycle`` when the last came.
    """

    def __init__(self, address: int, size: int, step: int, identifier: int):
        self.address, self.size, self.step, self.id = address, size, step, identifier
        self.beats = (address % step + size + step - 1) // step
        self.data, self.resps, self.cycle, self.done = b"", [], 0, False
        self._ended = Event()

    @property
    def resp(self) -> int:
        """The worst response."""
        return max(self.resps)

    def end(self, cycle: int) -> None:
        """Note the end, and wake who waits."""
        self.cycle, self.done = cycle, True
        self._ended.set()

    async def wait(self) -> "Transfer":
        """Wait for the end; returns the transfer."""
        if not self.done:
            await self._ended.wait()
        return self


class Initiator:
    """The manager of an ``In(Axi4)`` port.

    Any number of bursts may be under way; answers are matched by ID, in order within one.

    Parameters
    ----------
    bench : Bench
        Bench of the design.
    name : str
        The port.
    """

    def __init__(self, bench: "Bench", name: str):
        self._name = name
        self._streams = {
            part: bench.stream(f"{name}__{part}") for part in ("aw", "w", "b", "ar", "r")
        }
        self._streams["b"].listen(self._answered)
        self._streams["r"].listen(self._read_beat)
        self.bus_bytes = layout_fields(self._streams["w"].port.shape)["strb"][1]
        self._writes: dict[int, deque[Transfer]] = {}
        self._reads: dict[int, deque[Transfer]] = {}

    def start_read(
        self,
        address: int,
        size: int,
        *,
        id: int = 0,
        user: int = 0,
        step: int = 0,
        lock: bool = False,
    ) -> Transfer:
        """Ask for ``size`` bytes in one burst with beats of ``step`` bytes (the bus by default)."""
        transfer = self._address("ar", address, size, id, user, step, lock)
        self._reads.setdefault(id, deque()).append(transfer)
        return transfer

    def start_write(
        self,
        address: int,
        data: bytes,
        *,
        id: int = 0,
        user: int = 0,
        step: int = 0,
        lock: bool = False,
        mask: bytes | None = None,
    ) -> Transfer:
        """Send bytes in one burst; those with a zero in ``mask`` are not strobed."""
        transfer = self._address("aw", address, len(data), id, user, step, lock)
        self._writes.setdefault(id, deque()).append(transfer)
        at = 0
        for beat in range(transfer.beats):
            lane, count = self._place(transfer, at)
            strobe = 0
            for i in range(count):
                strobe |= bool(mask is None or mask[at + i]) << (lane + i)
            value = int.from_bytes(data[at : at + count], "little") << 8 * lane
            last = int(beat == transfer.beats - 1)
            self._streams["w"].put({"data": value, "strb": strobe, "last": last})
            at += count
        return transfer

    async def read(self, address: int, size: int, **how) -> Transfer:
        """Read and wait; arguments of :meth:`start_read`."""
        return await self.start_read(address, size, **how).wait()

    async def write(self, address: int, data: bytes, **how) -> Transfer:
        """Write and wait; arguments of :meth:`start_write`."""
        return await self.start_write(address, data, **how).wait()

    def _address(self, channel, address, size, identifier, user, step, lock) -> Transfer:
        step = step or self.bus_bytes
        if step > self.bus_bytes or step & (step - 1):
            raise ValueError(f"Beats must have a power of two up to {self.bus_bytes}, not {step!r}")
        transfer = Transfer(address, size, step, identifier)
        if not 0 < transfer.beats <= 256 or address // 4096 != (address + size - 1) // 4096:
            raise ValueError(f"{size} bytes at {address:#x} are no single burst")
        stream = self._streams[channel]
        fields = {
            "addr": address,
            "id": identifier,
            "len": transfer.beats - 1,
            "size": step.bit_length() - 1,
            "burst": int(Burst.INCR),
            "lock": int(lock),
        }
        payload = stream.pack(fields)
        if user:
            payload |= user << min(
                offset
                for name, (offset, _) in layout_fields(stream.port.shape).items()
                if name == "user" or name.startswith("user.")
            )
        stream.put(payload)
        return transfer

    def _place(self, transfer: Transfer, at: int) -> tuple[int, int]:
        """Lane and number of the bytes of the beat that begins ``at`` bytes into a transfer."""
        address, step = transfer.address + at, transfer.step
        return address % self.bus_bytes, min(step - address % step, transfer.size - at)

    def _answered(self, event: BenchEvent) -> None:
        answer = self._streams["b"].unpack(event.value)
        transfer = self._oldest(self._writes, answer["id"])
        transfer.resps.append(answer["resp"])
        self._writes[transfer.id].popleft()
        transfer.end(event.cycle)

    def _read_beat(self, event: BenchEvent) -> None:
        answer = self._streams["r"].unpack(event.value)
        transfer = self._oldest(self._reads, answer["id"])
        at = len(transfer.data)
        lane, count = self._place(transfer, at)
        raw = answer["data"].to_bytes(self.bus_bytes, "little")
        transfer.data += raw[lane : lane + count]
        transfer.resps.append(answer["resp"])
        last = len(transfer.resps) == transfer.beats
        if bool(answer["last"]) != last:
            raise AssertionError(f"{self._name}: RLAST at beat {len(transfer.resps)}")
        if last:
            self._reads[transfer.id].popleft()
            transfer.end(event.cycle)

    def _oldest(self, transfers: dict[int, deque[Transfer]], identifier: int) -> Transfer:
        queue = transfers.get(identifier)
        if not queue:
            raise AssertionError(f"{self._name}: an answer with ID {identifier} to nothing")
        return queue[0]
