"""Starts a guest in QEMU, and follows what it says on its serial line."""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosim.linux.pump import Pump

__all__ = ["Guest", "Outcome", "command_line"]

#: Milliseconds that QEMU waits for an answer of the function.
_PATIENCE_MS = 600_000
_MACHINES = {
    "amd64": ("-M", "q35,memory-backend=mem", "-cpu", "max"),
    "riscv64": ("-M", "virt,aia=aplic-imsic,memory-backend=mem", "-cpu", "rv64"),
}
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def command_line(
    program: Sequence[str],
    *,
    architecture: str,
    kernel: str,
    initramfs: str,
    sockets: dict[str, str],
    memory_mb: int,
) -> list[str]:
    """Return QEMU's command line; ``sockets`` by the slot of their function."""
    memory = f"memory-backend-memfd,id=mem,size={memory_mb}M,share=on"
    line = [*program, *_MACHINES[architecture], "-accel", "tcg", "-m", f"{memory_mb}M"]
    line += ["-object", memory, "-nodefaults", "-no-reboot", "-display", "none"]
    line += ["-serial", "stdio", "-kernel", kernel, "-initrd", initramfs]
    console = {"amd64": "ttyS0", "riscv64": "ttyS0"}[architecture]
    line += ["-append", f"console={console} quiet panic=-1 ipv6.disable=1 random.trust_cpu=on"]
    for slot, path in sockets.items():
        device = {
            "driver": "vfio-user-pci",
            "rombar": 0,
            "addr": slot,
            "x-msg-timeout": _PATIENCE_MS,
            "socket": {"type": "unix", "path": path},
        }
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
    """

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    running: str = ""
    ended: bool = False
    booted: str = ""
    sent: int = 0
    received: int = 0
    lines: list[str] = field(default_factory=list)

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
            stdin=subprocess.DEVNULL,
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

    def stop(self) -> None:
        """End it, wherever it is."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
