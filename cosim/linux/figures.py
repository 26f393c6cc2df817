"""What a case has found: figures for the user, and whether it has passed."""

import time
from typing import TYPE_CHECKING, Any

from models.spec.iommu import CommandOpcode
from models.spec.nic import Stat

if TYPE_CHECKING:
    from cosim.linux.qemu import Outcome
    from cosim.linux.rtl_bench import Run

__all__ = ["caught", "figures", "passed"]

_TOTALS: tuple[str, ...] = (
    "packets",
    "interrupts",
    "requests",
    "lookups",
    "misses",
    "walks",
    "page_faults",
)
#: Opcodes of commands that invalidate.
_INVALIDATE = (CommandOpcode.IOTINVAL, CommandOpcode.IODIR)


def passed(case: dict[str, Any]) -> bool:
    """Whether a case has passed, by its figures."""
    wrong = case["problems"] or case["stale_hits"] or case["wrong_frames"]
    return not wrong and not any(guest["failed"] for guest in case["guests"])


def caught(case: dict[str, Any]) -> bool:
    """Whether a case with invalidations left out has failed for what the watcher found."""
    return not case["passed"] and case["stale_hits"] > 0


async def figures(run: "Run") -> dict[str, Any]:
    """Return what is told to the user of a run that is over."""
    run.look()
    hypervisor, wire, watcher = run.hypervisor, run.wire, run.watcher
    found: dict[str, Any] = {"name": run.case.name, "cycles": run.machine.now()}
    found["wall_s"] = time.monotonic() - run.began
    found["slept_s"] = run.pump.slept
    found["commands"] = run.pump.commands
    totals: dict[str, int] = dict.fromkeys(_TOTALS, 0)
    translations = run.translations
    problems = [*wire.problems, *watcher.problems]
    if translations is not None:
        problems += translations.problems
    guests = []
    for guest, number in zip(run.guests, run.numbers, strict=True):
        assignment = hypervisor.assignment(number)
        counts = {stat: await hypervisor.stat(number, stat) for stat in Stat}
        lookups = await hypervisor.lookups(assignment) or (0, 0)
        await _add(run, number, counts, lookups, totals)
        if not guest.outcome.ended and not run.caught:
            problems += _unfinished(guest.outcome)
        for queue in range(run.config.nic.queues_per_function):
            if error := await hypervisor.queue_error(number, queue):
                problems.append(f"queue {queue} of function {number}: {error.name}")
        guests.append(
            {
                "device_id": assignment.device_id,
                "counted": lookups,
                "booted": guest.outcome.booted,
                "passed": guest.outcome.passed,
                "failed": guest.outcome.failed,
                "counters": _nonzero({stat.name: count for stat, count in counts.items()}),
                "queues": [
                    _nonzero(await hypervisor.queue_stats(number, queue))
                    for queue in range(2 * run.config.nic.queue_pairs)
                ],
            }
        )
    problems += [str(fault) for fault in hypervisor.iommu.faults[:5]]
    if wire.tftp.different:
        problems.append(f"{wire.tftp.different} files came back changed")
    asked = totals["lookups"]
    found |= {
        "packets": totals["packets"],
        "interrupts": totals["interrupts"],
        "untranslated_requests": totals["requests"],
        "translations": asked,
        "iotlb_hit_rate": 1 - totals["misses"] / asked if asked else 0.0,
        "walks": totals["walks"],
        "invalidations": _invalidations(run),
        "page_faults": totals["page_faults"],
        "evictions": run.evictions,
        "stale_hits": run.stale,
        "bursts": watcher.bursts,
        "judged": translations.judged if translations is not None else 0,
        "wrong_frames": wire.received["wrong"],
        "guests": guests,
        "problems": problems,
    }
    return found | {"passed": passed(found)}


async def _add(
    run: "Run",
    number: int,
    counts: dict[Stat, int],
    lookups: tuple[int, int],
    totals: dict[str, int],
) -> None:
    """Add what a function has done; ``lookups`` and misses of the IOTLB."""
    hypervisor, function = run.hypervisor, run.functions[number]
    assignment = hypervisor.assignment(number)
    totals["packets"] += counts[Stat.TX_PACKETS] + counts[Stat.RX_PACKETS]
    totals["interrupts"] += function.interrupts
    totals["lookups"] += lookups[0]
    totals["misses"] += lookups[1]
    totals["page_faults"] += len(assignment.services)
    if (counter := run.counters.get(number)) is not None:
        totals["walks"] += await hypervisor.iommu.counted(counter)
        totals["requests"] += await hypervisor.iommu.counted(counter + 1)


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name.lower(): count for name, count in counts.items() if count}


def _unfinished(outcome: "Outcome") -> list[str]:
    doing = outcome.running or "nothing"
    return [f"a guest has not come to its end; it was at: {doing}", *outcome.lines[-5:]]


def _invalidations(run: "Run") -> int:
    """Count commands that invalidate, whoever has queued them."""
    if run.iommu is None:
        return run.hypervisor.iommu.invalidations
    return sum(run.iommu.commands[opcode] for opcode in _INVALIDATE)
