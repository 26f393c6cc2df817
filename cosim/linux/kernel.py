"""Builds a kernel that Debian does not have: RISC-V, with domains for DMA behind an IOMMU.

It is Debian's source with one word more: ``RISCV`` among the architectures of IOMMU_DMA.  All that
it needs is built in (``riscv64.config``).
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cosim.bench.build import ToolError
from cosim.linux.packages import Apt, Kernel, cache_folder, run, unpack, unpacked

__all__ = ["add_word", "build_kernel", "missing_options", "newest"]

_SOURCES = "linux-source-"
#: The compiler and what else the build calls; of the oldest system that this runs on, so that its
#: own C library is new enough for them.
_SUITE, _TOOLS = "bookworm", ("gcc-12-riscv64-linux-gnu", "flex", "bison", "bc", "m4")
#: What runs on this machine but is the system's own, or is for programs of the target.
_NOT_UNPACKED = re.compile(
    r"(libc6|libgcc-s1|libstdc\+\+6|libtinfo6|dpkg|tar|debconf|perl.*|lib.*-cross|gcc-\d+-base)_"
)
_PREFIX = "riscv64-linux-gnu-"
#: Programs of the system that the build needs.
_NEEDED = ("make", "gcc", "tar", "xz")
_KCONFIG = "drivers/iommu/Kconfig"
_OPTION = re.compile(r"(?m)^(config IOMMU_DMA\n\tdef_bool )([^\n]*)$")
_CONFIG = Path(__file__).with_name("riscv64.config")
_SAY_S = 30.0

Say = Callable[[str], None]


def newest(names: list[str]) -> str:
    """Return the package with the source of the newest kernel; ``""`` if there is none."""
    versions = {}
    for name in names:
        if found := re.fullmatch(rf"{_SOURCES}(\d+)\.(\d+)", name):
            versions[tuple(map(int, found.groups()))] = name
    return versions[max(versions)] if versions else ""


def add_word(kconfig: str) -> str:
    """Return ``drivers/iommu/Kconfig`` with IOMMU_DMA for RISC-V."""
    found = _OPTION.search(kconfig)
    if found is None:
        raise ToolError(f"{_KCONFIG} has no IOMMU_DMA as it was known")
    if "RISCV" in found[2].split():
        return kconfig
    return _OPTION.sub(r"\1\2 || RISCV", kconfig, count=1)


def missing_options(wanted: str, found: str) -> list[str]:
    """Return lines of a configuration that another one lacks."""
    there = set(found.splitlines())
    return [line for line in wanted.splitlines() if line[:1] not in ("", "#") and line not in there]


def _tools(say: Say) -> Path:
    """Return a folder of commands, fetched if need be."""

    def fill(folder: Path) -> None:
        say(f"fetching {_TOOLS[0]} of {_SUITE} (about 45 MB)")
        packages = Apt(cache_folder(), "amd64", (_SUITE,)).download_all(_TOOLS, _SUITE)
        unpack([p for p in packages if not _NOT_UNPACKED.match(p.name)], folder)
        # Each command is called with libraries of its own, and nothing else is.
        (folder / "bin").mkdir()
        for program in (folder / "usr/bin").iterdir():
            name = program.name.removesuffix("-12")
            if not name.startswith(_PREFIX) and name not in _TOOLS:
                continue
            script = (folder / "bin" / name).open("w", encoding="utf-8")
            with script:
                script.write(
                    '#!/bin/sh\nroot=$(dirname "$(dirname "$(readlink -f "$0")")")/usr\n'
                    "export LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu\n"
                    "export BISON_PKGDATADIR=$root/share/bison M4=$root/bin/m4\n"
                    f'exec "$root/bin/{program.name}" "$@"\n'
                )
            (folder / "bin" / name).chmod(0o755)

    return unpacked("kernel-tools", fill) / "bin"


def _make(source: Path, tools: Path, objects: Path, *targets: str, say: Say) -> None:
    """Run the kernel's make; what it says is in a file beside the objects."""
    command = ["make", "-C", str(source), f"O={objects}", "ARCH=riscv", f"CROSS_COMPILE={_PREFIX}"]
    command += [f"-j{os.cpu_count() or 1}", *targets]
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    env |= {"KCONFIG_ALLCONFIG": str(_CONFIG)}
    log, began = objects / "log", time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_SAY_S)
                    break
                last = (log.read_text(encoding="utf-8").splitlines() or [""])[-1]
                say(f"  {time.monotonic() - began:5.0f} s, {last.strip()[:70]}")
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        last = " / ".join(log.read_text(encoding="utf-8").splitlines()[-5:])
        raise ToolError(f"The kernel's make {' '.join(targets)} failed: {last}")


def build_kernel(say: Say) -> Kernel:
    """Return the kernel, built if need be: takes some 10 minutes and 3 GB, which are given back."""

    def fill(folder: Path) -> None:
        for tool in _NEEDED:
            if not shutil.which(tool):
                raise ToolError(f"{tool} is not there: --kernel names a kernel that is built")
        tools = _tools(say)
        apt = Apt(cache_folder(), "amd64")
        name = newest(apt.names(_SOURCES))
        if not name:
            raise ToolError(f"No package {_SOURCES}* is to be had")
        say(f"building a kernel of {name}: once, in some 10 minutes")
        source, objects = folder / "source", folder / "objects"
        apt.unpack([name], folder / "package")
        source.mkdir()
        objects.mkdir()
        archive = next((folder / "package/usr/src").glob("*.tar.xz"))
        run("tar", "-xf", archive, "-C", source, "--strip-components=1")
        kconfig = source / _KCONFIG
        kconfig.write_text(add_word(kconfig.read_text(encoding="utf-8")), encoding="utf-8")
        _make(source, tools, objects, "allnoconfig", say=say)
        wanted = _CONFIG.read_text(encoding="utf-8")
        made = (objects / ".config").read_text(encoding="utf-8")
        if missing := missing_options(wanted, made):
            raise ToolError(f"{name} cannot have {', '.join(missing)}")
        _make(source, tools, objects, "Image", say=say)
        (objects / "arch/riscv/boot/Image").rename(folder / "Image")
        for part in ("source", "objects", "package"):
            shutil.rmtree(folder / part)

    return Kernel(unpacked("kernel-riscv64-dma", fill) / "Image", None)
