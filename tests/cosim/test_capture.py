"""Captures: every form is read, and damage is one line, never fewer frames."""

import gzip
import random
import struct
from contextlib import suppress

import pytest

from cosim.capture import CaptureError, read_capture, shipped_capture

FRAMES = tuple(bytes(range(6)) * 2 + b"\x08\x00" + bytes([n]) * (46 + n) for n in range(9))


def pcap(order="<", link=1, frames=FRAMES):
    header = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return header + b"".join(
        struct.pack(f"{order}IIII", 1, 2, len(frame), len(frame)) + frame for frame in frames
    )


def block(kind, body):
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def pcapng(interface=0):
    """Each frame in an enhanced packet block."""
    raw = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    raw += block(1, struct.pack("<HHI", 1, 0, 0))
    for frame in FRAMES:
        head = struct.pack("<IIIII", interface, 0, 0, len(frame), len(frame))
        raw += block(6, head + frame + bytes(-len(frame) % 4))
    return raw


def read(tmp_path, raw, **options):
    path = tmp_path / "capture"
    path.write_bytes(raw)
    return read_capture(path, **options)


def refused(tmp_path, raw):
    with pytest.raises(CaptureError) as caught:
        read(tmp_path, raw)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    "raw", [pcap("<"), pcap(">"), pcapng(), gzip.compress(pcapng())], ids=["le", "be", "ng", "gz"]
)
def test_every_form_has_the_same_frames(tmp_path, raw):
    capture = read(tmp_path, raw)
    assert capture.frames == FRAMES
    assert capture.skipped == {}


def test_ip_without_ethernet_is_given_a_header(tmp_path):
    packet = b"\x45" + bytes(39)
    (frame,) = read(tmp_path, pcap(link=101, frames=[packet])).frames
    assert frame == bytes(12) + b"\x08\x00" + packet


def test_long_frames_are_left_out_and_counted(tmp_path):
    capture = read(tmp_path, pcap(), mtu=50)
    assert capture.frames == FRAMES[:5]
    assert capture.skipped == {"longer than the MTU of 50": 4}


def test_shipped_capture_is_whole_and_small():
    assert len(read_capture(shipped_capture()).frames) > 200
    assert shipped_capture().stat().st_size < 300_000


@pytest.mark.parametrize("raw", [pcap("<"), pcap(">"), pcapng()], ids=["le", "be", "ng"])
def test_a_cut_is_refused_except_between_packets(tmp_path, raw):
    accepted = []
    for size in range(len(raw)):
        with suppress(CaptureError):
            frames = read(tmp_path, raw[:size]).frames
            assert frames == FRAMES[: len(frames)]
            accepted.append(len(frames))
    assert accepted == list(range(1, len(FRAMES)))


def test_damage_that_the_reader_takes_for_the_end_is_refused(tmp_path):
    assert refused(tmp_path, pcapng(interface=7)).endswith("damaged, 0 of 9 packets are readable")


def test_damaged_compression_is_refused(tmp_path):
    raw = bytearray(gzip.compress(random.Random(2).randbytes(2000) + pcapng()))
    raw[10:14] = b"\xff" * 4
    assert "capture: " in refused(tmp_path, bytes(raw))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"no capture at all", "neither pcap nor pcapng"),
        (pcap()[:20], "truncated, 4 bytes are missing"),
        (pcap()[:-1], "truncated, 1 bytes are missing"),
        (gzip.compress(pcap(), mtime=0)[:-9], "Compressed file ended"),
        (pcap(link=147), "no frames to replay (9 link type 147 carries no Ethernet or IP)"),
    ],
)
def test_what_is_no_capture(tmp_path, raw, message):
    assert message in refused(tmp_path, raw)


def test_missing_file_and_folder(tmp_path):
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(CaptureError, match=message):
            read_capture(path)
