"""A run's figures for people."""

from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.table import Table

from cosim.scenarios.result import FunctionResult, Result

__all__ = ["print_result"]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _rows(result: Result) -> list[tuple[str, Callable[[FunctionResult], str]]]:
    per_cycle = max(1, result.cycles)
    causes = sorted({cause for function in result.functions for cause in function.vm_exits})
    return [
        ("packets sent", lambda f: f"{f.tx_packets:,}"),
        ("packets received", lambda f: f"{f.rx_packets:,}"),
        ("bytes sent", lambda f: f"{f.tx_bytes:,}"),
        ("  per cycle", lambda f: f"{f.tx_bytes / per_cycle:.3f}"),
        ("bytes received", lambda f: f"{f.rx_bytes:,}"),
        ("  per cycle", lambda f: f"{f.rx_bytes / per_cycle:.3f}"),
        ("DMA page faults", lambda f: f"{f.page_faults:,}"),
        ("  mean service, cycles", lambda f: f"{f.fault_service_cycles:,.0f}"),
        ("VM exits", lambda f: f"{sum(f.vm_exits.values()):,}"),
        *(
            (f"  {cause}", lambda f, cause=cause: f"{f.vm_exits.get(cause, 0):,}")
            for cause in causes
        ),
        ("interrupts", lambda f: f"{f.interrupts:,}"),
        ("IOTLB lookups", lambda f: f"{f.lookups:,}"),
        ("IOTLB hits, by counter", lambda f: _rate(f.iotlb_hit_rate.counter)),
        ("  by cache model", lambda f: _rate(f.iotlb_hit_rate.model)),
        ("  from the waves", lambda f: _rate(f.iotlb_hit_rate.waves)),
    ]


def print_result(result: Result, stream: TextIO) -> None:
    """Print figures per function, then what holds for the run."""
    console = Console(file=stream, highlight=False, soft_wrap=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for function in result.functions:
        table.add_column(function.name, justify="right")
    for title, figure in _rows(result):
        table.add_row(title, *map(figure, result.functions))
    console.print(table)
    settings = result.settings
    console.print(
        f"{result.packets:,} frames of {result.capture['name']} arrived, "
        f"{result.mismatches} differ, {result.lost} lost, in {result.cycles:,} cycles"
    )
    console.print(
        f"{settings['sim']}, configuration {settings['config']}, seed {settings['seed']}: "
        f"{result.cycles_per_s:,.0f} cycles per second of processor time, "
        f"{100 * result.python_share:.0f} % of it outside the simulator's own code"
    )
    for reason, count in result.capture["skipped"].items():
        console.print(f"{count} frames of the capture were left out: {reason}")
    if result.hostile is not None:
        harm = result.hostile
        console.print(
            f"{harm.name} did harm ({harm.kind}): its transmit queue stopped with "
            f"{harm.queue_error}, {harm.fault_records} fault records, "
            f"{harm.requests_denied} page requests denied"
            f"{'; the others went on' if not (result.lost or result.mismatches) else ''}"
        )
    for problem in result.problems:
        console.print(f"PROBLEM: {problem}", style="bold red")
