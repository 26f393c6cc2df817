"""Commands for the control queue of the hostile function, sensible and not."""

from random import Random
from typing import Any

from cosim.guest.control import rss_command
from cosim.nic_fuzz.world import CORRECT, HOSTILE
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.spec.virtio import DescriptorFlag
from models.spec.virtio_net import (
    RSS_KEY_BYTES,
    Coalescing,
    ControlClass,
    ControlCoalescing,
    ControlHeader,
    ControlMac,
    HashType,
)

__all__ = ["draw_command"]

_HEADER_BYTES = ControlHeader.as_shape().size // 8
_MACS = (
    *(guest_mac(place) for place in (*CORRECT, HOSTILE, OUTSIDE)),
    *(b"\x01\x00\x5e\x00\x00" + bytes((number,)) for number in range(1, 4)),
)
#: Chance that something is as no driver would have it.
_ODD = 0.08


def _table(rng: Random) -> bytes:
    macs = rng.choices(_MACS, k=rng.choice((0, 1, 2, 20)))
    count = len(macs) if rng.random() > _ODD else rng.getrandbits(32)
    return count.to_bytes(4, "little") + b"".join(macs)


def _steering(rng: Random) -> bytes:
    entries = 1 << rng.randrange(8) if rng.random() > _ODD else rng.randint(1, 200)
    pairs = 2 if rng.random() > _ODD else 5
    types = rng.getrandbits(32) if rng.random() < _ODD else rng.getrandbits(32) & sum(HashType)
    key = rng.randbytes(RSS_KEY_BYTES if rng.random() > _ODD else rng.randrange(60))
    return rss_command(types, [rng.randrange(pairs) for _ in range(entries)], key)


def _data(rng: Random, kind: int, command: int) -> bytes:
    """Data of a command, mostly as its class has it."""
    if rng.random() < _ODD:
        return rng.randbytes(rng.choice((0, 1, 2, 3, 6, 8, 40)))
    match kind:
        case ControlClass.RX:
            return bytes((rng.randrange(2),))
        case ControlClass.MAC:
            single = command == ControlMac.ADDR_SET
            return rng.choice(_MACS) if single else _table(rng) + _table(rng)
        case ControlClass.VLAN:
            return rng.choice((0, 1, 7, 0xFFF, 0x1000)).to_bytes(2, "little")
        case ControlClass.MQ:
            return _steering(rng) if command else rng.randrange(4).to_bytes(2, "little")
        case ControlClass.NOTF_COAL:
            fields = {
                "max_packets": rng.choice((0, 1, 9)),
                "max_usecs": rng.choice((0, 5, 1 << 20)),
            }
            data = Coalescing.const(fields).as_bits().to_bytes(8, "little")
            queue = rng.randrange(6).to_bytes(4, "little")
            if command == ControlCoalescing.VQ_GET:
                return queue
            return queue + data if command == ControlCoalescing.VQ_SET else data
    return rng.randbytes(rng.randrange(9))


def draw_command(rng: Random, *, tables: bool) -> dict[str, Any]:
    """A chain with a command, now and then wrong in some way.

    Parameters
    ----------
    rng : Random
    tables : bool
        Whether indirect tables were negotiated.
    """
    kind = rng.choice(list(ControlClass)) if rng.random() > _ODD else rng.randrange(256)
    command = rng.randrange(4) if kind == ControlClass.NOTF_COAL else rng.randrange(2)
    if rng.random() < _ODD:
        command = rng.randrange(256)
    data = _data(rng, kind, command)
    header = ControlHeader.const({"kind": kind, "command": command}).as_bits()
    head = header.to_bytes(_HEADER_BYTES, "little") + data
    told = 9 if (kind, command) == (ControlClass.NOTF_COAL, ControlCoalescing.VQ_GET) else 1
    if rng.random() < _ODD:
        told = rng.choice((0, 1, 2, 64))
    # The header in a piece of its own, as drivers have it, or not (2.7.4.1).
    cut = _HEADER_BYTES if rng.random() < 0.8 else rng.randint(1, len(head))
    lengths = [cut, len(head) - cut] if cut < len(head) else [cut]
    flags = [int(DescriptorFlag.NEXT) for _ in lengths] + [int(DescriptorFlag.WRITE)]
    if rng.random() < _ODD:
        flags[rng.randrange(len(flags))] = rng.getrandbits(16)
    pieces = [
        [flag, length, rng.choice((0, 1, 16)), None, None if rng.random() > _ODD / 4 else 1 << 62]
        for flag, length in zip(flags, [*lengths, told], strict=True)
    ]
    return {
        "table": int(rng.random() < (0.4 if tables else _ODD)),
        "odd": 0 if rng.random() > _ODD / 2 else rng.choice((8, -16, 1)),
        "flags": 0,
        "pieces": pieces,
        "head": head.hex(),
        "seed": rng.getrandbits(32),
    }
