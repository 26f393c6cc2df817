"""The control queue from the driver's side (virtio 1.3, 5.1.6.5)."""

from collections.abc import Sequence
from random import Random

from cosim.guest.memory import Allocator
from cosim.guest.transport import Transport
from cosim.guest.virtqueue import Piece, Virtqueue
from cosim.port import Event
from models.memory import ByteMemory
from models.spec.virtio_net import (
    RSS_KEY_BYTES,
    RSS_TABLE_LENGTH,
    Coalescing,
    ControlAck,
    ControlClass,
    ControlCoalescing,
    ControlHeader,
    ControlMac,
    ControlMq,
    ControlRx,
    ControlVlan,
    HashType,
    RssHead,
)

__all__ = ["CommandFailed", "ControlClient", "rss_command"]

_HEADER_BYTES = ControlHeader.as_shape().size // 8
_ROOM = 1024


class CommandFailed(RuntimeError):
    """The device did not answer a command with OK."""


def rss_command(types: int, table: Sequence[int], key: bytes, *, unclassified: int = 0) -> bytes:
    """Data of an RSS_CONFIG command (5.1.6.5.7.1)."""
    head = {"hash_types": types, "indirection_table_mask": len(table) - 1}
    raw = RssHead.const(head | {"unclassified_queue": unclassified}).as_bits()
    entries = b"".join(pair.to_bytes(2, "little") for pair in table)
    most = (max(table) + 1).to_bytes(2, "little")
    return raw.to_bytes(8, "little") + entries + most + bytes((len(key),)) + key


class ControlClient:
    """Sends commands, one at a time.

    Parameters
    ----------
    memory : ByteMemory
    allocator : Allocator
    transport : Transport
    queue : Virtqueue
    event : Event
        Set by the queue's interrupt.
    """

    def __init__(
        self,
        memory: ByteMemory,
        allocator: Allocator,
        transport: Transport,
        queue: Virtqueue,
        event: Event,
    ) -> None:
        self._memory, self._transport, self._queue, self._event = memory, transport, queue, event
        self._place = allocator.allocate(_ROOM)

    async def command(self, kind: ControlClass, command: int, data: bytes) -> ControlAck:
        """Send a command and return the answer."""
        return (await self.ask(kind, command, data, 0))[1]

    async def ask(
        self, kind: ControlClass, command: int, data: bytes, told: int
    ) -> tuple[bytes, ControlAck]:
        """Send a command that is answered with so many bytes; return them and the answer."""
        header = ControlHeader.const({"kind": kind, "command": command}).as_bits()
        content = header.to_bytes(_HEADER_BYTES, "little") + data
        answer = self._place + len(content)
        self._memory.write(self._place, content + b"\xee" * (told + 1))
        readable = [Piece(self._place, _HEADER_BYTES)]
        if data:
            readable.append(Piece(self._place + _HEADER_BYTES, len(data)))
        self._queue.add(readable, [Piece(answer, told + 1)], None)
        self._transport.notify(self._queue)
        while self._queue.take() is None:
            if not self._queue.enable_events():
                await self._event.wait()
            self._event.clear()
        return self._memory.read(answer, told), ControlAck(self._memory.read(answer + told, 1)[0])

    async def _demand(self, kind: ControlClass, command: int, data: bytes) -> None:
        if await self.command(kind, command, data) != ControlAck.OK:
            raise CommandFailed(f"{kind.name} {command} was refused")

    async def set_pairs(self, pairs: int) -> None:
        """Use so many queue pairs (5.1.6.5.5)."""
        await self._demand(ControlClass.MQ, ControlMq.PAIRS_SET, pairs.to_bytes(2, "little"))

    async def set_rss(
        self, types: int, table: Sequence[int], key: bytes, *, unclassified: int = 0
    ) -> None:
        """Configure receive-side scaling (5.1.6.5.7)."""
        data = rss_command(types, table, key, unclassified=unclassified)
        await self._demand(ControlClass.MQ, ControlMq.RSS_CONFIG, data)

    async def set_rss_evenly(self, pairs: int, rng: Random) -> None:
        """Spread flows over queue pairs, with a random key."""
        table = [n % pairs for n in range(RSS_TABLE_LENGTH)]
        await self.set_rss(sum(HashType), table, rng.randbytes(RSS_KEY_BYTES))

    async def set_promiscuous(self, on: bool) -> None:
        """Receive everything, or not (5.1.6.5.1)."""
        await self._demand(ControlClass.RX, ControlRx.PROMISC, bytes((on,)))

    async def set_all_multicast(self, on: bool) -> None:
        """Receive all of multicast, or not (5.1.6.5.1)."""
        await self._demand(ControlClass.RX, ControlRx.ALLMULTI, bytes((on,)))

    async def set_macs(self, unicast: Sequence[bytes], multicast: Sequence[bytes]) -> None:
        """Receive these MACs beside the device's own (5.1.6.5.2)."""
        data = b"".join(
            len(macs).to_bytes(4, "little") + b"".join(macs) for macs in (unicast, multicast)
        )
        await self._demand(ControlClass.MAC, ControlMac.TABLE_SET, data)

    async def set_mac(self, mac: bytes) -> None:
        """Change the device's own MAC (5.1.6.5.2)."""
        await self._demand(ControlClass.MAC, ControlMac.ADDR_SET, mac)

    async def set_coalescing(
        self, *, packets: int, usecs: int, transmit: bool = False, queue: int | None = None
    ) -> None:
        """Notify after so many packets or so long, in a direction or a queue (5.1.6.5.8)."""
        fields = {"max_packets": packets, "max_usecs": usecs}
        data = Coalescing.const(fields).as_bits().to_bytes(8, "little")
        command = ControlCoalescing.TX_SET if transmit else ControlCoalescing.RX_SET
        if queue is not None:
            data, command = queue.to_bytes(4, "little") + data, ControlCoalescing.VQ_SET
        await self._demand(ControlClass.NOTF_COAL, command, data)

    async def coalescing(self, queue: int) -> tuple[int, int]:
        """Packets and microseconds of a queue (5.1.6.5.8)."""
        data = queue.to_bytes(4, "little")
        told, ack = await self.ask(ControlClass.NOTF_COAL, ControlCoalescing.VQ_GET, data, 8)
        if ack != ControlAck.OK:
            raise CommandFailed("NOTF_COAL VQ_GET was refused")
        found = Coalescing.from_bits(int.from_bytes(told, "little"))
        return found.max_packets, found.max_usecs

    async def add_vlan(self, vlan: int) -> None:
        """Receive a VLAN (5.1.6.5.3)."""
        await self._demand(ControlClass.VLAN, ControlVlan.ADD, vlan.to_bytes(2, "little"))

    async def remove_vlan(self, vlan: int) -> None:
        """No longer receive a VLAN (5.1.6.5.3)."""
        await self._demand(ControlClass.VLAN, ControlVlan.DEL, vlan.to_bytes(2, "little"))
