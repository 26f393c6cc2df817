"""``iovirt fuzz``: what is drawn at random, and held against golden models."""

import argparse
from pathlib import Path
from typing import Any

from cosim.command import Parser, checked, give
from cosim.fuzz.main import main as fuzz_iommu
from cosim.nic_fuzz.main import STEPS, fuzz_nic, print_nic_fuzz

__all__ = ["add_fuzz"]


def add_fuzz(commands: Any) -> None:
    """Add ``fuzz iommu`` and ``fuzz nic`` to the command's parts."""
    fuzzing = commands.add_parser("fuzz", help="random agreement of RTL and golden models")
    kinds = fuzzing.add_subparsers(dest="what", required=True, parser_class=Parser)
    iommu = kinds.add_parser("iommu", help="tables, commands and concurrent requests")
    iommu.add_argument("--translations", type=int, default=10_000, metavar="N")
    iommu.add_argument("--config", default="default", metavar="NAME", help="names, or all")
    iommu.add_argument("--target", default="rtl", help="rtl, or golden to try the fuzzer itself")
    iommu.set_defaults(function=_iommu)
    nic = kinds.add_parser("nic", help="hostile and correct drivers side by side")
    nic.add_argument("--sessions", type=int, default=20, metavar="N")
    nic.add_argument("--steps", type=int, default=STEPS, metavar="N", help="of a session")
    nic.add_argument("--config", default="tiny", metavar="NAME", help="its NIC has everything")
    nic.add_argument(
        "--paged",
        action="store_true",
        help="a pager evicts at random in every session, not in some",
    )
    nic.add_argument("--quiet", action="store_true", help="no progress")
    nic.set_defaults(function=_nic)
    for one in (iommu, nic):
        one.add_argument("--seed", type=int, default=1, metavar="S")
        one.add_argument("--replay", type=Path, nargs="+", default=[], metavar="FILE")
        one.add_argument("--jobs", type=int, metavar="N", help="simulations at a time")
        one.add_argument("--shrink", type=float, default=600, metavar="SECONDS", help="at most")
        one.add_argument("--json", metavar="FILE", help="write the figures; - for standard output")


def _iommu(asked: argparse.Namespace) -> int:
    checked(asked)
    return fuzz_iommu(
        translations=asked.translations,
        seed=asked.seed,
        names=asked.config,
        target=asked.target,
        replay=asked.replay,
        result=asked.json,
        jobs=asked.jobs,
        shrinking=asked.shrink,
    )


def _nic(asked: argparse.Namespace) -> int:
    checked(asked)
    found = fuzz_nic(
        name=asked.config,
        sessions=asked.sessions,
        steps=asked.steps,
        paged=asked.paged or None,
        seed=asked.seed,
        replay=asked.replay,
        jobs=asked.jobs,
        shrinking=asked.shrink,
        progress=not asked.quiet,
    )
    give(found, asked.json, print_nic_fuzz)
    return int(bool(found["failures"]))
