"""Waves checked by themselves: what the manifest names must be there, whole."""

import json

import pytest
from amaranth import Shape

from cosim.report.hit_rates import IOTLB, PORTS
from cosim.report.waves import WaveError, append_manifest, check, hit_counts
from models.spec.config import config
from models.spec.iotlb import IotlbLookup

SCOPE = f"bench.dut.{IOTLB}"
IOMMU = config("tiny").iommu
WIDTHS = {name: Shape.cast(shape).width for name, shape in PORTS.items()}


def manifest():
    return {
        "streams": {
            f"{IOTLB}.{name}": {"scope": SCOPE, "signal": name, "width": width, "fields": []}
            for name, width in WIDTHS.items()
        }
    }


def vcd(path, lookups, *, signals=None):
    """Write waves in which device 9 looks the same page up in each of some cycles."""
    codes = {"clk": "!", "rst": '"'}
    lines = ["$timescale 1 ns $end"]
    lines += [f"$scope module {name} $end" for name in SCOPE.split(".")]
    lines += [f"$var wire 1 {code} {name} $end" for name, code in codes.items()]
    for number, (name, width) in enumerate((signals or WIDTHS).items()):
        for part, bits in (("valid", 1), ("ready", 1), ("payload", width)):
            codes[f"{name}__{part}"] = code = f"{chr(ord('a') + number)}{part[0]}"
            lines.append(f"$var wire {bits} {code} {name}__{part} $end")
    lines += ["$upscope $end"] * len(SCOPE.split("."))
    lines += ["$enddefinitions $end", "#0"]
    lines += [f"b0 {c}" if n.endswith("payload") else f"0{c}" for n, c in codes.items()]
    lookup = IotlbLookup.const({"device_id": 9}).as_bits()
    if "lookup__valid" in codes:
        lines += [f"1{codes['lookup__ready']}", f"b{lookup:b} {codes['lookup__payload']}"]
    for cycle in range(1, 20):
        valid = codes.get("lookup__valid", "zz")
        lines += [f"#{10 * cycle}", "0!", f"{int(cycle in lookups)}{valid}"]
        lines += [f"#{10 * cycle + 5}", "1!"]
    path.write_text("\n".join(lines) + "\n")


def test_lookups_are_counted_from_the_ports_alone(tmp_path):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3, 4, 9})
    append_manifest(waves, manifest(), IOMMU, {9: (3, 3)})
    counts = hit_counts(waves)[9]
    assert (counts.hits, counts.misses) == (0, 3)
    assert [checked.equal for checked in check(waves)] == [True]


@pytest.mark.parametrize("counted", [{9: (4, 3)}, {9: (3, 2)}, {9: (3, 3), 10: (1, 0)}])
def test_other_counts_of_the_hardware_are_not_equal(tmp_path, counted):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3, 4, 9})
    append_manifest(waves, manifest(), IOMMU, counted)
    assert not all(checked.equal for checked in check(waves))


@pytest.mark.parametrize("name", PORTS)
def test_renamed_port_is_an_error(tmp_path, name):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3}, signals={n if n != name else "other": width for n, width in WIDTHS.items()})
    append_manifest(waves, manifest(), IOMMU, {9: (1, 1)})
    with pytest.raises(WaveError, match=f"no signal {SCOPE}.{name}__valid, which the manifest"):
        list(check(waves))


def test_port_of_another_width_is_an_error(tmp_path):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3}, signals={**WIDTHS, "fill": WIDTHS["fill"] + 1})
    append_manifest(waves, manifest(), IOMMU, {9: (1, 1)})
    with pytest.raises(WaveError, match=f"fill__payload has {WIDTHS['fill'] + 1} bits, not"):
        list(check(waves))


def test_manifest_that_lacks_a_port_is_an_error(tmp_path):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3})
    append_manifest(waves, manifest(), IOMMU, {9: (1, 1)})
    text = waves.read_text()
    head, mark, tail = text.partition("$comment iovirt manifest ")
    found = json.loads(tail.removesuffix(" $end\n"))
    del found["ports"]["invalidate"]
    waves.write_text(f"{head}{mark}{json.dumps(found)} $end\n")
    with pytest.raises(WaveError, match="damaged manifest"):
        list(check(waves))


def test_truncated_waves_are_an_error(tmp_path):
    waves = tmp_path / "a.vcd"
    vcd(waves, {3})
    with pytest.raises(WaveError, match="no manifest at its end"):
        list(check(waves))
