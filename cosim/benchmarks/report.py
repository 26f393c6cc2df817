"""Figures in the terminal."""

import sys
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

__all__ = ["print_hyper", "print_interrupts", "print_iommu", "print_nic", "print_overcommit"]


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_iommu(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per figure, a column per latency."""
    table = Table(box=None, title="IOMMU, cycles unless a share or a count", title_justify="left")
    table.add_column("figure")
    columns = {name: _flat(figures) for name, figures in found.items()}
    for name in columns:
        table.add_column(f"L = {name.removeprefix('latency_')}", justify="right")
    rows = dict.fromkeys(key for figures in columns.values() for key in figures)
    for key in rows:
        table.add_row(key, *(_shown(figures.get(key, "")) for figures in columns.values()))
    Console(file=file or sys.stdout, width=110).print(table)


def print_hyper(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per number of tenants, a column per variant; points of the RTL are marked."""
    table = Table(box=None, title="share of a 200 Gb/s link (* RTL)", title_justify="left")
    table.add_column("tenants", justify="right")
    variants = found["variants"]
    for name in variants:
        table.add_column(name, justify="right")
    for count in sorted({int(count) for curve in variants.values() for count in curve}):
        cells = []
        for curve in variants.values():
            point = curve.get(str(count))
            if point is None:
                cells.append("")
                continue
            mark, error = (
                ("*", f" (model {point['error']:+.1%})") if "error" in point else (" ", "")
            )
            cells.append(f"{point['share']:.2%}{mark}{error}")
        table.add_row(str(count), *cells)
    Console(file=file or sys.stdout, width=110).print(table)


def print_nic(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per point, then the parts of the round trip."""
    table = Table(box=None, title="NIC, over all functions", title_justify="left")
    names = dict.fromkeys(name for point in found["points"] for name in point)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for point in found["points"]:
        table.add_row(*(_shown(point.get(name, "")) for name in names))
    console = Console(file=file or sys.stdout, width=140)
    console.print(table)
    parts = Table(box=None, title="round trip of 64 bytes, cycles", title_justify="left")
    parts.add_column("part")
    trips = found["round_trip_cycles"]
    for name in trips:
        parts.add_column(f"L = {name.removeprefix('latency_')}", justify="right")
    for key in dict.fromkeys(key for trip in trips.values() for key in trip):
        parts.add_row(key, *(_shown(trip.get(key, "")) for trip in trips.values()))
    console.print(parts)


def print_interrupts(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per load and moderation."""
    table = Table(box=None, title="interrupts of one function", title_justify="left")
    for name in found["points"][0]:
        table.add_column(name, justify="right")
    for point in found["points"]:
        table.add_row(*(_shown(value) for value in point.values()))
    Console(file=file or sys.stdout, width=110).print(table)


#: Columns of the table of overcommitted memory, by the key of each.
_OVERCOMMIT = {
    "resident_bytes": "resident KiB",
    "faults": "faults",
    "evictions": "evictions",
    "swapped_out": "swapped out",
    "compressed_bytes": "compressed KiB",
    "shared_pages": "shared pages",
    "breaks": "copies",
    "ballooned": "lent pages",
    "throughput": "bytes/cycle",
    "cycles": "cycles",
    "lost": "lost",
    "mismatches": "wrong",
}


def print_overcommit(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per point."""
    table = Table(box=None, title="overcommitted memory", title_justify="left")
    table.add_column("on")
    table.add_column("memory", justify="right")
    for title in _OVERCOMMIT.values():
        table.add_column(title, justify="right", overflow="fold")
    for point in found["points"]:
        named = " ".join(name for name, on in point["mechanisms"].items() if on)
        values = [
            point[key] // 1024 if key.endswith("_bytes") else point[key] for key in _OVERCOMMIT
        ]
        share = point["memory_bytes"] / point["guest_bytes"]
        table.add_row(named or "pinned", f"{share:.0%}", *map(_shown, values))
    Console(file=file or sys.stdout, width=150).print(table)


def print_faults(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print a row per point."""
    table = Table(box=None, title="DMA page faults of one function", title_justify="left")
    names = [name for name in found["points"][0] if name != "service_cycles"]
    parts = list(found["points"][0]["service_cycles"])
    for name in (*names, *parts):
        table.add_column(name, justify="right", overflow="fold")
    for point in found["points"]:
        shown = [point[name] for name in names] + [point["service_cycles"][part] for part in parts]
        table.add_row(*map(_shown, shown))
    Console(file=file or sys.stdout, width=160).print(table)
