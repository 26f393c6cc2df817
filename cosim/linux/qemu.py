"""Starts a guest in QEMU, and follows what it says on its serial line."""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosim.bench.build import ToolError
from cosim.linux.pump import Pump

__all__ = ["Guest", "Outcome", "command_line", "device_tree"]

#: Milliseconds that QEMU waits for an answer of the function.
_PATIENCE_MS = 600_000
_MACHINES = {
    "amd64": ("-M", "q35,memory-backend=mem", "-cpu", "max"),
    "riscv64": ("-M", "virt,aia=aplic-imsic,memory-backend=mem", "-cpu", "rv64"),
}
_KERNEL_OPTIONS = (
    *("console=ttyS0", "quiet", "panic=-1", "ipv6.disable=1", "random.trust_cpu=on"),
    # An emulated processor can be too slow for x86's test of the timer, which then panics.
    "no_timer_check",
)
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def _machine(
    program: Sequence[str], architecture: str, memory_mb: int, cpus: int, more: str = ""
) -> list[str]:
    """Return the part of a command line that makes the bare machine."""
    option, machine, *rest = _MACHINES[architecture]
    memory = f"memory-backend-memfd,id=mem,size={memory_mb}M,share=on"
    line = [*program, option, machine + more, *rest, "-accel", "tcg", "-m", f"{memory_mb}M"]
    return [*line, "-smp", str(cpus), "-object", memory, "-nodefaults", "-display", "none"]


def device_tree(
    program: Sequence[str],
    path: Path,
    *,
    architecture: str,
    memory_mb: int,
    cpus: int,
    iommu_slot: str,
) -> None:
    """Write the device tree of a machine whose functions are behind an IOMMU, a PCI function.

    It is QEMU's own tree for a machine with QEMU's IOMMU: nothing in it tells the two apart but the
    node's name for a kernel that reads vendor and device from the function.
    """
    line = _machine(program, architecture, memory_mb, cpus, f",dumpdtb={path}")
    line += ["-device", f"riscv-iommu-pci,addr={iommu_slot}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode or not path.exists():
        raise ToolError(f"QEMU writes no device tree: {done.stderr.strip()[-200:]}")


def command_line(
    program: Sequence[str],
    *,
    architecture: str,
    kernel: str,
    initramfs: str,
    sockets: dict[str, str],
    memory_mb: int,
    cpus: int = 1,
    tree: str = "",
) -> list[str]:
    """Return QEMU's command line; ``sockets`` by the slot of their function.

    ``tree`` is a file with the device tree to boot with, in place of QEMU's own.
    """
    line = _machine(program, architecture, memory_mb, cpus)
    line += ["-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initramfs]
    line += ["-append", " ".join(_KERNEL_OPTIONS)]
    if tree:
        line += ["-dtb", tree]
    for slot, path in sockets.items():
        device = {
            "driver": "vfio-user-pci",
            "rombar": 0,
            "addr": slot,
            "x-msg-timeout": _PATIENCE_MS,
            "socket": {"type": "unix", "path": path},
        }
        if slot.endswith(".0") and slot[:-1] + "1" in sockets:
            device["multifunction"] = True
        line += ["-device", json.dumps(device)]
    return line


@dataclass
class Outcome:
    """What a guest has said.

    Parameters
    ----------
    passed, failed : list of str
        Tests; failed ones with the reason.
    ended : bool
        Whether it has come to its end.
    lines : list of str
        All that it has said.
    waits : bool
        Whether it waits for the other guests.
    """

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    running: str = ""
    ended: bool = False
    booted: str = ""
    sent: int = 0
    received: int = 0
    lines: list[str] = field(default_factory=list)
    waits: bool = False

    def take(self, line: str) -> None:
        """Take one line."""
        self.lines.append(line)
        word, _, rest = line.partition(" ")
        if word == "@TEST":
            self.running = rest
        elif word == "@PASS":
            self.passed.append(rest)
            self.running = ""
        elif word == "@FAIL":
            self.failed.append(rest)
            self.running = ""
        elif word == "@WAIT":
            self.waits = True
        elif word == "@BOOT":
            self.booted = rest
        elif word == "@STATISTICS":
            sent, _, received = rest.partition(" ")
            self.sent, self.received = int(sent or 0), int(received or 0)
        elif word == "@END":
            self.ended = True


class Guest:
    """One QEMU.

    Parameters
    ----------
    pump : Pump
    line : list of str
        Its command line.
    log : Path
        Gets everything that it says.
    """

    def __init__(self, pump: Pump, line: list[str], log: Path) -> None:
        self.outcome = Outcome()
        self._pump, self._rest = pump, b""
        self._log = log.open("wb", buffering=0)
        self._process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        self._reading = True
        pump.watch(self._fd, self._read)

    @property
    def over(self) -> bool:
        """Whether it has ended and all that it said has been read."""
        return not self._reading

    def _read(self) -> None:
        data = os.read(self._fd, 1 << 16)
        self._log.write(data)
        if not data:
            self._pump.forget(self._fd)
            self._reading = False
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.outcome.take(line.decode(errors="replace").strip())

    def go_on(self) -> None:
        """Let it go on that waits for the others."""
        assert self._process.stdin is not None
        self.outcome.waits = False
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it, wherever it is."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._log.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
