"""Captures: pcap and pcapng files of any link type that carries Ethernet or IP, as frames."""

import gzip
import io
import logging
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from models.spec.ethernet import EtherType

__all__ = ["Capture", "CaptureError", "read_capture", "shipped_capture"]

_ETHERNET_BYTES = 14
_VLAN_BYTES = 4
_VLAN_TYPES = (EtherType.VLAN, EtherType.SERVICE_VLAN)
#: Link types (tcpdump.org/linktypes.html).
_LINK_ETHERNET, _LINK_SLL, _LINK_SLL2 = 1, 113, 276
_LINK_RAW = (12, 14, 101, 228, 229)
_LINK_LOOPBACK = (0, 108)
_PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
#: Block types that hold a packet: obsolete, simple, enhanced.
_PCAPNG_PACKETS = (2, 3, 6)


class CaptureError(ValueError):
    """A file that is no usable capture; the message is one clear line."""


@dataclass(frozen=True)
class Capture:
    """Frames in the order of the file.

    ``skipped`` counts, by reason, what is not among them.
    """

    name: str
    frames: tuple[bytes, ...]
    skipped: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes of all frames."""
        return sum(map(len, self.frames))


def shipped_capture() -> Path:
    """The capture that comes with the project."""
    return Path(__file__).parent / "captures" / "veth.pcapng"


def read_capture(path: Path | str, *, mtu: int = 1500) -> Capture:
    """Read a file; raises :class:`CaptureError` if it is missing, damaged or has no frames.

    Frames with more than ``mtu`` bytes behind their Ethernet header (and VLAN tags) are left out
    and counted, since cutting them would make frames that nobody sent.
    """
    path = Path(path)
    frames: list[bytes] = []
    skipped: dict[str, int] = {}
    for link, raw in _packets(path):
        frame = _as_ethernet(link, raw)
        if frame is None:
            reason = f"link type {link} carries no Ethernet or IP"
        elif len(frame) < _ETHERNET_BYTES:
            reason = "shorter than an Ethernet header"
        elif len(frame) - _header_bytes(frame) > mtu:
            reason = f"longer than the MTU of {mtu}"
        else:
            frames.append(frame)
            continue
        skipped[reason] = skipped.get(reason, 0) + 1
    if not frames:
        reasons = "; ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise CaptureError(f"{path}: no frames to replay{f' ({reasons})' if reasons else ''}")
    return Capture(path.name, tuple(frames), skipped)


def _packets(path: Path) -> list[tuple[int, bytes]]:
    """Link type and bytes of every packet."""
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise CaptureError(f"{path}: is a directory") from None
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise CaptureError(f"{path}: {error}") from None
    expected = _check_whole(path, raw)
    from scapy.utils import RawPcapNgReader, RawPcapReader

    # Scapy warns of damage, stops reading there and calls that the end; the count tells.
    logging.getLogger("scapy").setLevel(logging.ERROR)
    found = []
    try:
        if raw[:4] == _PCAPNG_MAGIC:
            reader = RawPcapNgReader(io.BytesIO(raw))  # type: ignore[arg-type]
            for content, meta in reader:
                found.append((meta.linktype, content))
        else:
            reader = RawPcapReader(io.BytesIO(raw))  # type: ignore[arg-type]
            found = [(reader.linktype, content) for content, _ in reader]
    except Exception as error:  # scapy raises many kinds
        raise CaptureError(f"{path}: not readable as a capture ({error})") from None
    if len(found) != expected:
        raise CaptureError(f"{path}: damaged, {len(found)} of {expected} packets are readable")
    return found


def _check_whole(path: Path, raw: bytes) -> int:
    """Make sure that a file is a capture and ends where a record ends; returns its packets."""
    if not raw:
        raise CaptureError(f"{path}: is empty")
    if raw[:4] == _PCAPNG_MAGIC:
        return _check_pcapng(path, raw)
    if raw[:4] in _PCAP_MAGICS:
        return _check_pcap(path, raw, _PCAP_MAGICS[raw[:4]])
    raise CaptureError(f"{path}: neither pcap nor pcapng")


def _check_pcap(path: Path, raw: bytes, order: str) -> int:
    at, packets = 24, 0
    while at < len(raw):
        if at + 16 > len(raw):
            raise CaptureError(f"{path}: truncated in the header of a packet, at byte {at}")
        at += 16 + struct.unpack_from(f"{order}I", raw, at + 8)[0]
        packets += 1
    if at > len(raw):
        raise CaptureError(f"{path}: truncated, {at - len(raw)} bytes are missing")
    return packets


def _check_pcapng(path: Path, raw: bytes) -> int:
    at, order, packets = 0, "<", 0
    while at < len(raw):
        if at + 12 > len(raw):
            raise CaptureError(f"{path}: truncated in the header of a block, at byte {at}")
        if raw[at : at + 4] == _PCAPNG_MAGIC:
            order = "<" if raw[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
        kind, length = struct.unpack_from(f"{order}II", raw, at)
        packets += kind in _PCAPNG_PACKETS
        if length < 12 or length % 4:
            raise CaptureError(f"{path}: damaged, a block of {length} bytes at byte {at}")
        if at + length > len(raw):
            missing = at + length - len(raw)
            raise CaptureError(f"{path}: truncated, {missing} bytes are missing")
        at += length
    return packets


def _header_bytes(frame: bytes) -> int:
    """Bytes of Ethernet header and VLAN tags."""
    size = _ETHERNET_BYTES
    while int.from_bytes(frame[size - 2 : size], "big") in _VLAN_TYPES:
        size += _VLAN_BYTES
    return size


def _as_ethernet(link: int, raw: bytes) -> bytes | None:
    """The packet as an Ethernet frame; IP without one is given one with MACs of zeros."""
    if link == _LINK_ETHERNET:
        return raw
    if link in _LINK_LOOPBACK:
        raw = raw[4:]
    elif link == _LINK_SLL:
        raw = raw[16:]
    elif link == _LINK_SLL2:
        raw = raw[20:]
    elif link not in _LINK_RAW:
        return None
    kind = {4: EtherType.IPV4, 6: EtherType.IPV6}.get(raw[0] >> 4 if raw else 0)
    return None if kind is None else bytes(12) + kind.to_bytes(2, "big") + raw
