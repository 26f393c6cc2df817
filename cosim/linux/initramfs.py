"""Builds what a guest boots into: busybox, a few kernel modules, a script."""

import gzip
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["archive", "initramfs", "modules_with_needs"]

_FOLDER, _FILE, _DEVICE = 0o040755, 0o100755, 0o020600
_FOLDERS = ("bin", "dev", "etc", "lib", "lib/modules", "lib64", "proc", "root", "sys", "tmp")


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive (format "newc") with folders, a console, and files that may be run."""
    out = bytearray()

    def add(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        raw = name.encode() + b"\0"
        numbers = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0]
        out.extend(b"070701" + b"".join(b"%08X" % value for value in numbers) + raw)
        out.extend(bytes(-len(out) % 4))
        out.extend(data + bytes(-len(data) % 4))

    number = 1
    for folder in _FOLDERS:
        add(folder, _FOLDER)
        number += 1
    add("dev/console", _DEVICE, device=(5, 1))
    for name, data in files.items():
        number += 1
        add(name, _FILE, data)
    add("TRAILER!!!", 0)
    return bytes(out)


def _load(path: Path) -> bytes:
    raw = path.read_bytes()
    return lzma.decompress(raw) if path.suffix == ".xz" else raw


def _needs(module: bytes) -> list[str]:
    """Names in a module's ``depends``."""
    at = module.find(b"\0depends=")
    if at < 0:
        return []
    names = module[at + 9 : module.index(b"\0", at + 9)].decode()
    return [name for name in names.split(",") if name]


def modules_with_needs(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Return modules and all that they need, in an order in which they can be loaded.

    What is not there as a module is taken to be built into the kernel.
    """
    paths = {
        path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")
    }
    found: dict[str, bytes] = {}

    def take(name: str) -> None:
        name = name.replace("-", "_")
        if name in found or name not in paths:
            return
        data = _load(paths[name])
        for need in _needs(data):
            take(need)
        found[name] = data

    for name in names:
        take(name)
    return found


def initramfs(
    busybox: Path, modules: Mapping[str, bytes], script: str, files: Mapping[str, bytes]
) -> bytes:
    """Return a compressed archive whose ``init`` loads the modules and goes on with ``script``."""
    loads = "".join(f"insmod /lib/modules/{name}.ko\n" for name in modules)
    head = "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n"
    head += "mount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\n"
    contents = {
        "init": (head + loads + script).encode(),
        "bin/busybox": busybox.read_bytes(),
        **{f"lib/modules/{name}.ko": data for name, data in modules.items()},
        **files,
    }
    return gzip.compress(archive(contents), compresslevel=1, mtime=0)
