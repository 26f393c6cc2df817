"""``python -m tests.formal [--quick] [NAME ...]``: prove, cover, and find the planted bugs."""

import argparse
import sys

from .prover import Proof, run_sby
from .registry import PROOFS

__all__ = ["check", "main"]


def check(proof: Proof, *, quick: bool, plants: bool = True) -> list[str]:
    """Run a proof with its covers and bugs, printing what is done; returns what went wrong."""
    depth = proof.quick if quick else proof.depth
    wrong = []
    print(f"{proof.name}: {proof.claim}")
    for assumption in proof.assumptions:
        print(f"    assumes: {assumption}")
    runs = [("bmc", depth, f"holds for {depth} cycles from reset")]
    if proof.induction:
        runs.append(("prove", proof.induction, f"by induction over {proof.induction}: always"))
    runs.append(("cover", depth, "reached: " + "; ".join(proof.covers)))
    for mode, cycles, says in runs:
        done = run_sby(proof.make(), mode, cycles)
        print(f"    {done.status} {mode} {done.seconds:.0f} s: {says}", flush=True)
        if done.status != "PASS":
            wrong.append(f"{proof.name}: {mode} said {done.status}\n{done.log[-3000:]}")
    for plant in proof.plants if plants else ():
        done = run_sby(proof.make(plant), "bmc", plant.depth or depth)
        found = "found" if done.status == "FAIL" else f"NOT FOUND ({done.status})"
        print(f"    {found} {done.seconds:.0f} s: planted bug: {plant.name}", flush=True)
        if done.status != "FAIL":
            wrong.append(f"{proof.name}: planted bug not found: {plant.name}\n{done.log[-3000:]}")
    return wrong


def main() -> int:
    """Return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.formal")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="bounded to fewer cycles")
    asked = parser.parse_args()
    known = {proof.name: proof for proof in PROOFS}
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"no proof {', '.join(unknown)}; there are {', '.join(known)}")
    wrong = []
    for name in asked.names or known:
        wrong += check(known[name], quick=asked.quick)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
