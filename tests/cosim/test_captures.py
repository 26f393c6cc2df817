"""Captures through every combination of ring format and offload, byte for byte.

Golden machine and RTL each have to deliver what scapy makes of the capture.  The folder that
``IOVIRT_CAPTURES`` names is run as well, if it is set.
"""

import os
from itertools import product
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from cosim.capture import shipped_capture
from models.spec.nic import DROPS
from tests.cosim.captures_world import (
    OFFLOADS,
    RINGS,
    as_segments,
    capture_system,
    exchange,
    wholes,
)
from tests.cosim.platform import COMPLETE, run

ALL = list(product(product((0, 1), repeat=4), OFFLOADS, (0, 1)))
#: Each pair of choices once or more.
QUICK = [
    ((0, 0, 0, 0), "none", 0),
    ((1, 1, 1, 0), "segments", 1),
    ((0, 1, 0, 1), "checksum", 1),
    ((1, 0, 0, 1), "segments", 0),
]
MORE = os.environ.get("IOVIRT_CAPTURES")
CAPTURES = [shipped_capture(), *(sorted(Path(MORE).glob("*.pcap*")) if MORE else ())]


def name(combination):
    rings, offload, mergeable = combination
    words = [f.name.split("_")[1].lower() for f, on in zip(RINGS, rings, strict=True) if on]
    return "-".join([*(words or ["split"]), offload, *(["mergeable"] if mergeable else [])])


def limit_of(path):
    """Frames of a capture that are replayed; 0 is all."""
    return 0 if path.stat().st_size < 100_000 else 250


def golden(path, combination, limit):
    return run(lambda platform: exchange(platform, path, combination, limit), nic=COMPLETE, batch=3)


@pytest.fixture(scope="module")
def built():
    return build(Design("rtl.system:System", (capture_system(),)), "verilator", quick=True)


def on_rtl(built, path, combination, limit):
    options = {"path": str(path), "combination": combination, "limit": limit}
    return simulate(built, "tests.cosim.tb_captures", options=options, seed=1)


def check(found, combination):
    """Offloads were used if they were to be, and nothing was lost."""
    offload = combination[1]
    assert (found["TX_CHECKSUMS"][0] > 0) == (offload != "none")
    assert (sum(found["TX_SEGMENTED"]) > 0) == (offload == "segments")
    assert not any(count for stat in DROPS for count in found[stat.name])


@pytest.mark.parametrize("combination", QUICK, ids=name)
def test_shipped_capture(combination):
    check(golden(shipped_capture(), combination, 40), combination)


@pytest.mark.full
@pytest.mark.parametrize("combination", QUICK, ids=name)
def test_shipped_capture_on_the_rtl(built, combination):
    found = on_rtl(built, shipped_capture(), combination, 40)
    check(found, combination)
    assert found == golden(shipped_capture(), combination, 40)


@pytest.mark.full
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("combination", ALL, ids=name)
def test_every_combination(combination, path):
    assert golden(path, combination, limit_of(path))["TX_PACKETS"][0] > 0


@pytest.mark.full
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("combination", ALL, ids=name)
def test_every_combination_on_the_rtl(built, combination, path):
    assert on_rtl(built, path, combination, limit_of(path))["TX_PACKETS"][0] > 0


@pytest.mark.full
@pytest.mark.parametrize(
    "path", [path for path in CAPTURES if limit_of(path)], ids=lambda p: p.stem
)
@pytest.mark.parametrize("combination", QUICK, ids=name)
def test_all_frames_of_a_long_capture_on_the_rtl(built, combination, path):
    assert on_rtl(built, path, combination, 0)["TX_PACKETS"][0] > limit_of(path) // 2


def test_groups_of_a_bulk_transfer_are_found():
    """Wholes are cut again into the frames that they were made of, but for identification."""
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    frames = [
        bytes(ether / IP(src="1.2.3.4", dst="1.2.3.5", id=n) /
              TCP(seq=1000 + 100 * n, flags="A" if n < 4 else "PA") / bytes(100 if n < 4 else 7))
        for n in range(5)
    ]  # fmt: skip
    assert wholes(frames) == [frames]
    assert as_segments(frames) == frames
    assert wholes([frames[0], frames[2]]) == [[frames[0]], [frames[2]]]
