"""The demonstration on the RTL; runs inside of the simulator."""

import sys
from dataclasses import asdict
from pathlib import Path

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.capture import read_capture
from cosim.report.hit_rates import IOTLB, PORTS, counts_from_transfers
from cosim.scenarios.demo import HOST_BASE, HOST_BYTES, Demo, DemoOptions
from cosim.scenarios.progress import Progress
from cosim.scenarios.result import Result
from cosim.scenarios.settings import Settings
from cosim.scenarios.traffic import plan
from models.spec.config import SystemConfig

__all__ = ["demo"]

#: Managers of the system that memory serves.
_MANAGERS = ("memory", "tables")


def _transfers(bench: Bench, name: str) -> list[tuple[int, int]]:
    """Transfers of a port of the IOTLB, from the bench's log."""
    log = bench.take_log(f"{IOTLB}.{name}")
    cycles = log["cycle"].tolist()
    return [
        (cycle, int.from_bytes(words.tobytes(), "little"))
        for cycle, words in zip(cycles, log["words"], strict=True)
    ]


def _model_rates(bench: Bench, config: SystemConfig, result: Result) -> None:
    transfers = {name: _transfers(bench, name) for name in PORTS}
    counts = counts_from_transfers(transfers, config.iommu)
    for function in result.functions:
        found = counts.get(function.device_id)
        if found is not None:
            function.iotlb_hit_rate.model = found.rate
        result.problems += function.counted_elsewhere(found, "by the cache model")


@cocotb.test()
async def demo(dut) -> None:
    """Run the demonstration as the options say, and report its result."""
    asked = options()
    settings = Settings.from_dict(asked["settings"])
    config: SystemConfig = settings.system
    bench = Bench(dut)
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for number, manager in enumerate(_MANAGERS):
        bench.timing(
            manager,
            latency=settings.latency,
            jitter=settings.jitter,
            seed=settings.seed + number,
        )
    for name in PORTS:
        bench.stream(f"{IOTLB}.{name}").log()
    machine = Machine(bench)
    await bench.start()

    capture = read_capture(Path(asked["capture"]), mtu=config.nic.mtu)
    frames = plan(capture.frames, limit=settings.packets)
    choices = DemoOptions(
        seed=settings.seed,
        queue_size=min(128, config.nic.queue_size_max),
        windows=settings.windows,
        outside_window=settings.outside_window,
        service_cycles=settings.service_cycles,
        resident=settings.resident,
        offload=settings.offload,
        hostile=settings.hostile,
    )
    progress = Progress(sys.stderr) if asked["progress"] else None
    result = await Demo(machine, config, frames, choices, progress).run()
    usage = bench.usage()
    result.cycles_per_s = usage.cycles_per_second
    result.python_share = usage.python_share
    result.capture = {
        "name": capture.name,
        "frames": len(capture.frames),
        "bytes": capture.bytes,
        "skipped": capture.skipped,
        "conversations": frames.conversations,
        "rounds": frames.rounds,
    }
    result.settings = {**asdict(settings), "total_cycles": usage.cycles}
    _model_rates(bench, config, result)
    report(result.as_dict())
