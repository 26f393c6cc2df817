"""``iovirt linux``: prepares guests, runs cases, shows what they did."""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from cosim.bench.build import Built, Design, ToolError, build
from cosim.bench.dma_taps import dma_taps
from cosim.bench.run import run as simulate
from cosim.linux import kernel, packages
from cosim.linux.cases import CASES, Case
from cosim.linux.initramfs import initramfs, modules_with_needs
from cosim.linux.qemu import command_line, device_tree
from cosim.linux.translations import translation_taps
from cosim.report.hit_rates import TAPS
from cosim.report.waves import append_manifest
from cosim.scenarios.on_rtl import SHOWN
from models.spec.nic import initial_mac, offered_features
from models.spec.virtio import Feature

__all__ = ["LinuxOptions", "print_cases", "run_cases"]

_BENCH = "cosim.linux.rtl_bench"
_WIRE = "10.0.0.1"
_MODULES = ("virtio_pci", "virtio_net")
#: Features that no Linux takes.
_NOT_TAKEN = {Feature.IN_ORDER}


@dataclass(frozen=True, kw_only=True)
class LinuxOptions:
    """What the user asks for.

    Parameters
    ----------
    config : str
        Named configuration of the hardware.
    latency, jitter : int
        Of memory, in cycles.
    seed : int
        Of the file that is moved.
    limit_s : float
        Seconds that a case may take.
    qemu, kernel, modules, busybox : Path or None
        Programs and files in place of those that are fetched.
    logs : Path or None
        Folder for what guests say, and for captures of what is on the wire.
    waves : Path or None
        Folder for waves of the ports of the system and of its IOTLB, a VCD file of each case.
    plant : str
        What is made wrong, so that the case must fail: ``"no-invalidation"`` of pages that are
        taken away, ``"no-iotinval"`` or ``"tenth-iotinval"``, invalidations of a guest's own that
        the IOMMU does not see; or nothing.  The case ends when it has been found.
    progress : bool
    """

    config: str = "default"
    latency: int = 20
    jitter: int = 20
    seed: int = 1
    limit_s: float = 1200.0
    qemu: Path | None = None
    kernel: Path | None = None
    modules: Path | None = None
    busybox: Path | None = None
    logs: Path | None = None
    waves: Path | None = None
    plant: str = ""
    progress: bool = True


class _Preparation:
    """Everything that guests of a case need, in a folder."""

    def __init__(self, case: Case, asked: LinuxOptions, folder: Path, say: Callable[..., None]):
        self._case, self._folder = case, folder
        self._asked, self._say = asked, say
        self.payload = random.Random(asked.seed).randbytes(case.payload)
        (folder / "payload").write_bytes(self.payload)
        self._program = (
            packages.fetch_qemu(case.architecture, say)
            if asked.qemu is None
            else packages.local_qemu(asked.qemu)
        )
        if asked.kernel is not None:
            self._kernel = packages.Kernel(asked.kernel, asked.modules)
        elif case.builds:
            self._kernel = kernel.build_kernel(say)
        else:
            self._kernel = packages.fetch_kernel(case.architecture, say)
        self._busybox = asked.busybox or packages.fetch_busybox(case.architecture, say)
        self._netcat = (
            packages.fetch_netcat(case.architecture, say) if "datagrams" in case.tests else {}
        )
        self._tree = ""
        if case.owns_iommu:
            tree = folder / "tree"
            device_tree(
                self._program.command,
                tree,
                architecture=case.architecture,
                memory_mb=case.memory_mb,
                cpus=case.cpus,
                iommu_slot=case.slots[0],
            )
            self._tree = str(tree)
        for path in (self._kernel.image, self._kernel.modules, self._busybox):
            if path is not None and not path.exists():
                raise ToolError(f"{path} is not there")

    def guest(self, number: int) -> dict[str, Any]:
        """Return sockets, command line and log of a guest; the first is number 1."""
        case, folder = self._case, self._folder
        nic = case.system(self._asked.config).nic
        offered = offered_features(nic, physical=case.physical)
        bits = [bit for bit in Feature if offered >> bit & 1 and bit not in _NOT_TAKEN]
        settings = {
            "ADDRESS": _address(number),
            "PEER": _address(number % case.guests + 1) if case.guests > 1 else _WIRE,
            "WIRE": _WIRE,
            "MAC": initial_mac(case.function(number)).hex(":"),
            "FEATURES": " ".join(str(int(bit)) for bit in bits),
            "QUEUES": str(nic.queue_pairs if nic.multiqueue else 1),
            "FLOOD": str(case.flood),
            "BYTES": str(case.payload),
            "DOMAIN": case.domain,
            "TESTS": " ".join(case.tests),
        }
        head = "".join(f"{name}='{value}'\n" for name, value in settings.items())
        script = Path(__file__).with_name("guest.sh").read_text(encoding="utf-8")
        folder_of_modules = self._kernel.modules
        modules = modules_with_needs(folder_of_modules, _MODULES) if folder_of_modules else {}
        image = folder / f"initramfs{number}"
        files = {name: path.read_bytes() for name, path in self._netcat.items()}
        files["payload"] = self.payload
        image.write_bytes(initramfs(self._busybox, modules, head + script, files))
        logs = self._asked.logs or folder
        slots: dict[str, str] = dict(zip(("iommu", "nic"), case.slots, strict=True))
        sockets = {name: str(folder / f"{name}{number}") for name, slot in slots.items() if slot}
        line = command_line(
            self._program.command,
            architecture=case.architecture,
            kernel=str(self._kernel.image),
            initramfs=str(image),
            sockets={slots[name]: path for name, path in sockets.items()},
            memory_mb=case.memory_mb,
            cpus=case.cpus,
            tree=self._tree,
        )
        log = (logs / f"{case.name}-guest{number}.log").resolve()
        return {"sockets": sockets, "line": line, "log": str(log)}


def _address(number: int) -> str:
    """IP address of a guest."""
    return f"10.0.0.{1 + number}"


def _built(case: Case, config: str, *, waves: bool) -> Built:
    system = case.system(config)
    taps = dma_taps(system)
    if case.owns_iommu:
        taps += translation_taps()
    if waves:
        return build(Design("rtl.system:System", (system,), (*taps, *TAPS), SHOWN), trace="vcd")
    return build(Design("rtl.system:System", (system,), taps))


def _run_case(case: Case, asked: LinuxOptions, say: Callable[..., None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="iovirt-linux-") as scratch:
        folder = Path(scratch)
        prepared = _Preparation(case, asked, folder, say)
        say(f"{case.name}: building {asked.config}")
        built = _built(case, asked.config, waves=asked.waves is not None)
        options = {
            "case": case.name,
            "config": asked.config,
            "latency": asked.latency,
            "jitter": asked.jitter,
            "limit": asked.limit_s,
            "progress": asked.progress,
            "plant": asked.plant,
            "payload": str(folder / "payload"),
            "capture": str((asked.logs / f"{case.name}.pcap").resolve()) if asked.logs else "",
            "guests": [prepared.guest(number) for number in range(1, case.guests + 1)],
        }
        say(f"{case.name}: {case.what}")
        waves = asked.waves / f"{case.name}.vcd" if asked.waves is not None else None
        found = simulate(
            built,
            _BENCH,
            options=options,
            seed=asked.seed,
            waves=waves,
            timeout=asked.limit_s + 600,
            cycles=10_000_000_000,
        )
    if waves is not None:
        manifest = json.loads(built.manifest.read_text(encoding="utf-8"))
        counted = {guest["device_id"]: tuple(guest["counted"]) for guest in found["guests"]}
        append_manifest(waves, manifest, case.system(asked.config).iommu, counted)
    return found


def run_cases(names: Sequence[str], asked: LinuxOptions) -> dict[str, Any]:
    """Run cases one after another, or all that can be run; return their figures under ``cases``.

    Raises :class:`~cosim.bench.build.ToolError` for what cannot be had.
    """

    def say(text: str) -> None:
        if asked.progress:
            print(text, file=sys.stderr, flush=True)

    cases = [CASES[name] for name in names or CASES]
    for case in cases:
        if asked.plant and not _can_plant(case, asked.plant):
            raise ToolError(f"{asked.plant} cannot be planted in {case.name}")
    return {"cases": [_run_case(case, asked, say) for case in cases]}


def _can_plant(case: Case, plant: str) -> bool:
    """Whether a case does what a planted mistake is in."""
    return case.paged if plant == "no-invalidation" else case.domain == "DMA"


def print_cases(found: dict[str, Any], stream: TextIO) -> None:
    """Print a table of cases, then what went wrong."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    cases = found["cases"]
    for case in cases:
        table.add_column(case["name"], justify="right")
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("kernel", lambda c: (c["guests"][0]["booted"] or "-").split()[0].partition("+")[0]),
        ("tests passed", lambda c: str(sum(len(g["passed"]) for g in c["guests"]))),
        ("tests failed", lambda c: str(sum(len(g["failed"]) for g in c["guests"]))),
        ("packets", lambda c: f"{c['packets']:,}"),
        ("interrupts", lambda c: f"{c['interrupts']:,}"),
        ("untranslated requests", lambda c: f"{c['untranslated_requests']:,}"),
        ("translations", lambda c: f"{c['translations']:,}"),
        ("IOTLB hit rate", lambda c: f"{100 * c['iotlb_hit_rate']:.2f} %"),
        ("walks", lambda c: f"{c['walks']:,}"),
        ("invalidations", lambda c: f"{c['invalidations']:,}"),
        ("page faults", lambda c: f"{c['page_faults']:,}"),
        ("pages taken away", lambda c: f"{c['evictions']:,}"),
        ("DMA bursts watched", lambda c: f"{c['bursts']:,}"),
        ("translations judged", lambda c: f"{c['judged']:,}"),
        ("  stale, of both", lambda c: f"{c['stale_hits']:,}"),
        ("wrong frames on the wire", lambda c: f"{c['wrong_frames']:,}"),
        ("register accesses", lambda c: f"{c['commands']:,}"),
        ("cycles", lambda c: f"{c['cycles']:,}"),
        ("wall time, s", lambda c: f"{c['wall_s']:.0f}"),
        ("  simulation asleep, s", lambda c: f"{c['slept_s']:.0f}"),
        ("cycles per second", lambda c: f"{c['cycles_per_s']:,.0f}"),
    ]
    for name, text in rows:
        table.add_row(name, *(text(case) for case in cases))
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 200)
    console.print(table)
    for case in cases:
        for guest in case["guests"]:
            for reason in guest["failed"]:
                console.print(f"{case['name']}: failed: {reason}", markup=False)
        for problem in case["problems"]:
            console.print(f"{case['name']}: {problem}", markup=False)
