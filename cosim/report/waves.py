"""Hit rates recomputed from a wave file alone.

A wave file of ours ends with a comment: which port signals the analysis needs and how wide they
are (as generated beside the Verilog), the geometry of the IOTLB, and what the hardware counted.
A signal that the comment names and the waves lack is an error, not a silent zero.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcdvcd import VCDVCD, StreamParserCallbacks

from cosim.report.hit_rates import IOTLB, PORTS, counts_from_transfers
from models.cache import HitCounts
from models.spec.config import IommuConfig

__all__ = ["Checked", "WaveError", "append_manifest", "check", "hit_counts", "read_manifest"]

_MARK = "$comment iovirt manifest "
_END = " $end"
_GEOMETRY = ("iotlb_ways", "iotlb_sets", "iotlb_superpages")
#: Bytes at the end of a file in which the comment is looked for.
_TAIL = 1 << 16


class WaveError(ValueError):
    """A wave file that cannot be analysed; the message is one clear line."""


@dataclass(frozen=True)
class Checked:
    """Counts of one device, from waves and as the hardware counted (lookups, misses)."""

    device_id: int
    waves: HitCounts
    counted: tuple[int, int] | None

    @property
    def equal(self) -> bool:
        """Whether the hardware counted the same; true if it did not count."""
        found = self.waves.hits + self.waves.misses, self.waves.misses
        return self.counted is None or self.counted == found


def append_manifest(
    path: Path, ports: dict[str, Any], config: IommuConfig, counted: dict[int, tuple[int, int]]
) -> None:
    """Put the manifest behind a wave file; ``ports`` is that of :func:`cosim.bench.build`."""
    streams = ports["streams"]
    manifest = {
        "ports": {name: streams[f"{IOTLB}.{name}"] for name in PORTS},
        "geometry": {name: getattr(config, name) for name in _GEOMETRY},
        "counted": {str(device): list(counts) for device, counts in counted.items()},
    }
    for port in manifest["ports"].values():
        del port["fields"]
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{_MARK}{json.dumps(manifest)}{_END}\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what :func:`append_manifest` wrote."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read().decode("ascii", errors="replace")
    except IsADirectoryError:
        raise WaveError(f"{path}: is a directory") from None
    except OSError as error:
        raise WaveError(f"{path}: {error.strerror}") from None
    _, mark, text = tail.rpartition(_MARK)
    if not mark:
        raise WaveError(f"{path}: no manifest at its end; not waves of 'iovirt run', or truncated")
    try:
        found = json.loads(text.partition(_END)[0])
        for name in PORTS:
            signal = found["ports"][name]
            if not {"scope", "signal", "width"} <= signal.keys():
                raise KeyError(name)
        IommuConfig(**{name: found["geometry"][name] for name in _GEOMETRY})
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise WaveError(f"{path}: damaged manifest ({error})") from None
    return found


class _Sampler(StreamParserCallbacks):
    """Values just before each rising edge of the clock, out of reset."""

    def __init__(self, clock: str, reset: str, ports: dict[str, tuple[str, str, str]]) -> None:
        super().__init__()
        self._clock, self._reset, self._ports = clock, reset, ports
        self._was, self._before = "x", {}
        self._cycle = 0
        self.transfers: dict[str, list[tuple[int, int]]] = {name: [] for name in ports}

    def time(self, vcd, time, cur_sig_vals) -> None:
        """Take note of one moment, all of its changes made."""
        clock = cur_sig_vals[self._clock]
        if clock == "1" and self._was == "0":
            self._edge()
        self._was = clock
        self._before = {}
        if clock == "0" and cur_sig_vals[self._reset] == "0":
            for name, (valid, ready, payload) in self._ports.items():
                if cur_sig_vals[valid] == "1" and cur_sig_vals[ready] == "1":
                    self._before[name] = cur_sig_vals[payload]

    def _edge(self) -> None:
        self._cycle += 1
        for name, payload in self._before.items():
            self.transfers[name].append((self._cycle, int(payload, 2)))


def _identifiers(path: Path, wanted: list[str]) -> dict[str, str]:
    """Reference and identifier code of each signal by its name without range."""
    try:
        header = VCDVCD(str(path), only_sigs=True)
    except Exception as error:  # the parser has no errors of its own
        raise WaveError(f"{path}: not readable as VCD ({error})") from None
    found = {ref.partition("[")[0]: ref for ref in header.references_to_ids}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise WaveError(f"{path}: no signal {missing[0]}, which the manifest names")
    return {name: found[name] for name in wanted}


def _names(port: dict[str, Any]) -> list[str]:
    return [f"{port['scope']}.{port['signal']}__{part}" for part in ("valid", "ready", "payload")]


def _transfers(path: Path, manifest: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    ports = manifest["ports"]
    scope = ports["lookup"]["scope"]
    clock, reset = f"{scope}.clk", f"{scope}.rst"
    references = _identifiers(
        path, [clock, reset, *(name for port in ports.values() for name in _names(port))]
    )
    header = VCDVCD(str(path), only_sigs=True)
    codes = {name: header.references_to_ids[ref] for name, ref in references.items()}
    for port in ports.values():
        width = int(header.data[codes[_names(port)[2]]].size)
        if width != port["width"]:
            raise WaveError(f"{path}: {_names(port)[2]} has {width} bits, not {port['width']}")
    sampler = _Sampler(
        codes[clock],
        codes[reset],
        {name: tuple(codes[n] for n in _names(port)) for name, port in ports.items()},  # type: ignore[misc]
    )
    try:
        VCDVCD(str(path), signals=list(references.values()), store_tvs=False, callbacks=sampler)
    except Exception as error:
        raise WaveError(f"{path}: not readable as VCD ({error})") from None
    return sampler.transfers


def hit_counts(path: Path) -> dict[int, HitCounts]:
    """Return hits and misses by device_id, from port signals of the waves."""
    manifest = read_manifest(path)
    config = IommuConfig(**manifest["geometry"])
    return counts_from_transfers(dict(_transfers(path, manifest)), config)


def check(path: Path) -> Iterator[Checked]:
    """Compare what the waves say with what the hardware counted."""
    counted = {int(key): tuple(value) for key, value in read_manifest(path)["counted"].items()}
    found = hit_counts(path)
    for device_id in sorted(found.keys() | counted.keys()):
        yield Checked(device_id, found.get(device_id, HitCounts()), counted.get(device_id))
