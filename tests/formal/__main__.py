"""``python -m tests.formal [--quick] [NAME ...]``: prove, cover, and find the planted bugs."""

import argparse
import os
import sys
from concurrent.futures import Executor, ThreadPoolExecutor

from .fixed import fixed_inputs
from .prover import Outcome, Plant, Proof, emit, run_sby
from .registry import PROOFS

__all__ = ["check", "main"]


def _runs(proof: Proof, *, quick: bool) -> tuple[dict[str, int], list[tuple]]:
    """Inputs that are held fixed, and what to run: harness, mode, cycles, what it says, and the bug
    it is to find, if any.
    """
    depth = proof.quick if quick else proof.depth
    made = proof.make()
    fixed, text = fixed_inputs(made[0]), emit(made)
    runs: list[tuple] = [(text, "bmc", depth, f"holds for {depth} cycles from reset", None)]
    if proof.induction:
        says = f"by induction over {proof.induction}: always"
        runs.append((text, "prove", proof.induction, says, None))
    reach = max(depth, proof.reach)
    runs.append((text, "cover", reach, "reached: " + "; ".join(proof.covers), None))
    for plant in proof.plants:
        runs.append((emit(proof.make(plant)), "bmc", plant.depth or depth, "", plant))
    return fixed, runs


def _judge(proof: Proof, mode: str, says: str, plant: Plant | None, done: Outcome) -> list[str]:
    """Print one outcome; returns what is wrong with it."""
    if plant is None:
        print(f"    {done.status} {mode} {done.seconds:.0f} s: {says}", flush=True)
        what, good = f"{mode} said {done.status}", done.status == "PASS"
    else:
        good = done.status == "FAIL"
        found = "found" if good else f"NOT FOUND ({done.status})"
        print(f"    {found} {done.seconds:.0f} s: planted bug: {plant.name}", flush=True)
        what = f"planted bug not found: {plant.name}"
    return [] if good else [f"{proof.name}: {what}\n{done.log[-3000:]}"]


def _begin(proof: Proof, pool: Executor, *, quick: bool) -> tuple[dict[str, int], list[tuple]]:
    """Hand the runs of a proof to ``pool``; returns what is fixed, and each with its outcome to
    come.
    """
    fixed, runs = _runs(proof, quick=quick)
    return fixed, [(run, pool.submit(run_sby, *run[:3])) for run in runs]


def _end(proof: Proof, fixed: dict[str, int], begun: list[tuple]) -> list[str]:
    """Print what is done of a proof as it ends; returns what went wrong."""
    print(f"{proof.name}: {proof.claim}")
    for assumption in proof.assumptions:
        print(f"    assumes: {assumption}", flush=True)
    if fixed:
        held = ", ".join(f"{name} {value:#x}" for name, value in fixed.items())
        print(f"    never changes: {held}", flush=True)
    wrong = []
    for (_, mode, _, says, plant), done in begun:
        wrong += _judge(proof, mode, says, plant, done.result())
    return wrong


def check(proofs: list[Proof], *, quick: bool, jobs: int = 1) -> list[str]:
    """Run proofs with their covers and bugs, printing what is done; returns what went wrong.

    Runs of one proof go on beside those of the one before: no processor waits for the longest.
    """
    with ThreadPoolExecutor(jobs) as pool:
        begun = [_begin(proof, pool, quick=quick) for proof in proofs]
        return [
            text for proof, one in zip(proofs, begun, strict=True) for text in _end(proof, *one)
        ]


def main() -> int:
    """Return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.formal")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="bounded to fewer cycles")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    asked = parser.parse_args()
    known = {proof.name: proof for proof in PROOFS if proof.quick or not asked.quick}
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"no proof {', '.join(unknown)}; there are {', '.join(known)}")
    proofs = [known[name] for name in asked.names or known]
    wrong = check(proofs, quick=asked.quick, jobs=asked.jobs)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
