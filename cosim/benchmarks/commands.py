"""``iovirt bench``: its options, and what they run."""

import argparse
from dataclasses import replace
from typing import Any

from cosim.benchmarks.faulting import POLICIES
from cosim.benchmarks.faults import DIRECTIONS as FAULT_DIRECTIONS
from cosim.benchmarks.faults import RATES, bench_faults
from cosim.benchmarks.hyper import bench_hyper
from cosim.benchmarks.interrupts import bench_interrupts
from cosim.benchmarks.iommu import LATENCIES, WALKERS, bench_iommu
from cosim.benchmarks.nic import QUICK as QUICK_POINTS
from cosim.benchmarks.nic import Points, bench_nic
from cosim.benchmarks.overcommit import FRAMES as OVERCOMMIT_FRAMES
from cosim.benchmarks.overcommit import GUESTS, PAGES, bench_overcommit
from cosim.benchmarks.report import (
    print_faults,
    print_hyper,
    print_interrupts,
    print_iommu,
    print_nic,
    print_overcommit,
)
from cosim.command import Parser, Wrong, checked, give, must_be_known, say
from models.spec.config import CONFIGS

__all__ = ["add_bench"]

#: Options of ``iovirt bench nic`` that choose points, and the member of ``Points`` each sets.
_POINTS = {
    "frame": "frames",
    "ring": "rings",
    "functions": "functions",
    "direction": "directions",
    "iommu": "iommu",
    "latency": "latencies",
}


def add_bench(commands: Any) -> None:
    """Add ``iovirt bench`` to the commands."""
    bench = commands.add_parser("bench", help="measure the RTL in cycles (docs/figures.md)")
    kinds = bench.add_subparsers(dest="kind", required=True, parser_class=Parser)
    iommu = kinds.add_parser("iommu", help="figures of the IOMMU alone, by memory latency")
    iommu.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    iommu.add_argument("--latency", type=int, nargs="+", metavar="L", help="1, 20 and 100 if not")
    iommu.add_argument("--walkers", type=int, nargs="+", metavar="N", help="points of the curve")
    hyper = kinds.add_parser("hyper", help="share of a 200 Gb/s link against tenants")
    hyper.add_argument("--rtl", type=int, nargs="*", metavar="N", help="tenants to run on RTL")
    nic = kinds.add_parser("nic", help="cycles per packet of the NIC behind the IOMMU")
    nic.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    every = Points()
    for name, what in _POINTS.items():
        known = getattr(every, what)
        nic.add_argument(f"--{name}", type=type(known[0]), nargs="+", dest=what, metavar="X",
                         choices=known, help=f"of {', '.join(map(str, known))}")  # fmt: skip
    nic.add_argument("--packets", type=int, metavar="N", help="frames of a point, in all")
    nic.add_argument(
        "--gap", type=int, default=0, metavar="N", help="cycles from a received frame to the next"
    )
    interrupts = kinds.add_parser("interrupts", help="interrupts per packet, and latency")
    interrupts.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    overcommit = kinds.add_parser("overcommit", help="guests with more memory than there is")
    overcommit.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    overcommit.add_argument("--guests", type=int, metavar="N", help=f"{GUESTS}, or all VFs")
    overcommit.add_argument("--pages", type=int, default=PAGES, metavar="N", help="of each guest")
    overcommit.add_argument(
        "--frames", type=int, default=OVERCOMMIT_FRAMES, metavar="N", help="that each guest sends"
    )
    faults = kinds.add_parser("faults", help="DMA page faults: pin, drop, stall, retry")
    faults.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    faults.add_argument("--policy", nargs="+", choices=POLICIES, default=POLICIES, metavar="P",
                        help=f"of {', '.join(POLICIES)}; pin is always measured")  # fmt: skip
    faults.add_argument("--rate", type=float, nargs="+", default=RATES, metavar="R",
                        help="faults per packet")  # fmt: skip
    faults.add_argument("--direction", nargs="+", choices=FAULT_DIRECTIONS,
                        default=FAULT_DIRECTIONS, metavar="D", help="of tx, rx")  # fmt: skip
    faults.add_argument("--functions", type=int, metavar="N", help="8, or all VFs; one faults")
    for one in (iommu, hyper, nic, interrupts, overcommit, faults):
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--quick", action="store_true", help="fewer points and shorter runs")
        one.add_argument("--json", metavar="FILE", help="write the figures; - for standard output")
    iommu.set_defaults(function=_bench_iommu)
    hyper.set_defaults(function=_bench_hyper)
    nic.set_defaults(function=_bench_nic)
    interrupts.set_defaults(function=_bench_interrupts)
    overcommit.set_defaults(function=_bench_overcommit)
    faults.set_defaults(function=_bench_faults)


def _sensible(asked: argparse.Namespace) -> None:
    checked(asked)
    must_be_known(asked.config)


def _bench_iommu(asked: argparse.Namespace) -> int:
    _sensible(asked)
    latencies = tuple(asked.latency or LATENCIES)
    walkers = tuple(asked.walkers or WALKERS)
    if min(latencies) < 1:
        raise Wrong(f"latencies begin at 1, not {min(latencies)}")
    if not all(1 <= count <= 128 for count in walkers):
        raise Wrong("walk contexts are 1 to 128")
    found = bench_iommu(
        name=asked.config,
        latencies=latencies,
        walkers=walkers,
        seed=asked.seed,
        quick=asked.quick,
        say=say,
    )
    give(found, asked.json, print_iommu)
    return 0


def _bench_hyper(asked: argparse.Namespace) -> int:
    checked(asked)
    found = bench_hyper(
        rtl=None if asked.rtl is None else tuple(asked.rtl),
        seed=asked.seed,
        quick=asked.quick,
        say=say,
    )
    give(found, asked.json, print_hyper)
    return 0


def _bench_nic(asked: argparse.Namespace) -> int:
    _sensible(asked)
    chosen = {name: tuple(value) for name in _POINTS.values() if (value := getattr(asked, name))}
    points = replace(QUICK_POINTS if asked.quick else Points(), **chosen)
    if asked.packets is not None and asked.packets < 32:
        raise Wrong("a point needs 32 frames at least")
    if CONFIGS[asked.config].nic.vfs < max(points.functions):
        raise Wrong(f"{asked.config} has {CONFIGS[asked.config].nic.vfs} VFs; choose --functions")
    if asked.gap < 0:
        raise Wrong("--gap is 0 or more cycles")
    found = bench_nic(
        name=asked.config,
        points=points,
        packets=asked.packets,
        gap=asked.gap,
        seed=asked.seed,
        say=say,
    )
    give(found, asked.json, print_nic)
    return 0


def _bench_interrupts(asked: argparse.Namespace) -> int:
    _sensible(asked)
    found = bench_interrupts(name=asked.config, seed=asked.seed, quick=asked.quick, say=say)
    give(found, asked.json, print_interrupts)
    return 0


def _bench_overcommit(asked: argparse.Namespace) -> int:
    _sensible(asked)
    try:
        found = bench_overcommit(
            name=asked.config,
            guests=asked.guests,
            pages=asked.pages,
            frames=asked.frames,
            seed=asked.seed,
            quick=asked.quick,
            say=say,
        )
    except ValueError as error:
        raise Wrong(str(error)) from None
    give(found, asked.json, print_overcommit)
    return int(any(point["lost"] or point["mismatches"] for point in found["points"]))


def _bench_faults(asked: argparse.Namespace) -> int:
    _sensible(asked)
    nic = CONFIGS[asked.config].nic
    functions = min(8, nic.vfs) if asked.functions is None else asked.functions
    if not 2 <= functions <= nic.vfs:
        raise Wrong(f"--functions is from 2 to the {nic.vfs} VFs of {asked.config}")
    if not all(0 <= rate <= 1 for rate in asked.rate):
        raise Wrong("rates are from 0 to 1")
    if not nic.backup:
        raise Wrong(f"the NIC of {asked.config} has no backup rings")
    found = bench_faults(
        name=asked.config,
        policies=tuple(asked.policy),
        rates=tuple(asked.rate),
        directions=tuple(asked.direction),
        functions=functions,
        seed=asked.seed,
        quick=asked.quick,
        say=say,
    )
    give(found, asked.json, print_faults)
    return int(any(point["lost"] or point["mismatches"] for point in found["points"]))
