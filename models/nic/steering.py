"""Receive-side scaling: which queue pair a frame goes to (virtio 1.3, 5.1.6.5.7)."""

from dataclasses import dataclass, field

from models.nic.packets import Packet
from models.spec.nic import RssControl
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH

__all__ = ["Steering", "toeplitz"]


def toeplitz(key: bytes, data: bytes) -> int:
    """Toeplitz hash: the 32 bits of the key from each bit on that is set in the data, added."""
    bits, found = int.from_bytes(key, "big"), 0
    for place in range(8 * len(data)):
        if data[place // 8] >> (7 - place % 8) & 1:
            found ^= bits >> (8 * len(key) - 32 - place) & 0xFFFF_FFFF
    return found


@dataclass
class Steering:
    """A function's RSS registers."""

    control: int = 0
    types: int = 0
    key: bytearray = field(default_factory=lambda: bytearray(RSS_KEY_BYTES))
    table: bytearray = field(default_factory=lambda: bytearray(RSS_TABLE_LENGTH))

    @property
    def closed(self) -> int:
        """Bit n: receive queue pair n takes no frames."""
        return RssControl.from_bits(self.control).closed

    def pair(self, frame: bytes, pairs: int, *, bare: bool = False) -> int:
        """Queue pair of a frame; one that the function does not have is taken as 0.

        ``bare`` as for :meth:`Packet.of`.
        """
        control = RssControl.from_bits(self.control)
        if not control.enable:
            return 0
        packet = Packet.of(frame, bare=bare)
        data = None if packet is None else packet.hash_input(self.types)
        if data is None:
            chosen = control.unclassified
        else:
            chosen = self.table[toeplitz(bytes(self.key), data) & control.table_mask]
        return chosen if chosen < pairs else 0
