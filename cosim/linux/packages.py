"""Fetches QEMU and kernels as Debian packages into a folder, and unpacks them there.

Nothing is installed.  QEMU comes with all the libraries that it needs, down to the C library, and
is run through its own loader, so that it does not matter how old the system is.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosim.bench.build import ToolError, build_folder

__all__ = [
    "Apt",
    "Kernel",
    "Qemu",
    "cache_folder",
    "fetch_busybox",
    "fetch_kernel",
    "fetch_netcat",
    "fetch_qemu",
    "local_qemu",
    "run",
    "unpack",
    "unpacked",
]

#: Where packages come from, by their architecture.
_SUITES = {"amd64": ("trixie", "trixie-backports"), "riscv64": ("sid",)}
_QEMU = ("qemu-system-x86", "qemu-system-riscv")
_QEMU_SUITE = "trixie-backports"
_KERNELS = {"amd64": "linux-image-cloud-amd64", "riscv64": "linux-image-riscv64"}
#: Machine names that QEMU uses.
_TARGETS = {"amd64": "x86_64", "riscv64": "riscv64"}
#: Packages of a netcat that speaks UDP, and what it is made of in a guest.
_NETCAT = ("netcat-openbsd", "libbsd0", "libmd0", "libc6")
_NETCAT_FILES = (
    *("nc.openbsd", "libbsd.so.0", "libmd.so.0", "libresolv.so.2", "libc.so.6"),
    "ld-linux-*.so.*",
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ARCHIVE = "http://deb.debian.org/debian"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kernel:
    """A kernel image, and the folder of its modules (``None``: none, all is built in)."""

    image: Path
    modules: Path | None


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU: ``command`` is followed by arguments."""

    command: tuple[str, ...]


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it says; :class:`ToolError` if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise ToolError(f"{command[0]} {command[1]} failed: {' / '.join(last)}")
    return done.stdout


class Apt:
    """Apt with a state of its own: other suites than the system's, and nothing installed.

    Parameters
    ----------
    folder : Path
        For lists and packages.
    architecture : str
        Of the packages.
    suites : tuple of str
        Where they come from, if not from where others of the architecture do.
    """

    def __init__(self, folder: Path, architecture: str, suites: tuple[str, ...] = ()) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if not shutil.which(tool):
                raise ToolError(f"{tool} is not there: name QEMU and kernel by options")
        if not _KEYRING.exists():
            raise ToolError("Debian's keys are not there (apt-get install debian-archive-keyring)")
        self.folder = folder / "-".join(("apt", architecture, *suites))
        self.architecture = architecture
        for part in ("lists/partial", "archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        sources = [
            f"deb [arch={architecture} signed-by={_KEYRING}] {_ARCHIVE} {suite} main\n"
            for suite in suites or _SUITES[architecture]
        ]
        (self.folder / "sources.list").write_text("".join(sources), encoding="utf-8")
        options = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": self.folder,
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder,
            "APT::Architecture": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
        }
        text = [f'{name} "{value}";\n' for name, value in options.items()]
        text.append(f'APT::Architectures {{ "{architecture}"; }};\n')
        (self.folder / "apt.conf").write_text("".join(text), encoding="utf-8")
        self._env = {"APT_CONFIG": str(self.folder / "apt.conf")}

    def update(self) -> None:
        """Fetch the lists of packages, unless there are any."""
        if not any((self.folder / "lists").glob("*_Packages")):
            run("apt-get", "update", env=self._env)

    def download(self, name: str, into: Path) -> None:
        """Fetch one package."""
        self.update()
        into.mkdir(parents=True, exist_ok=True)
        run("apt-get", "download", name, cwd=into, env=self._env)

    def unpack(self, names: Sequence[str], folder: Path) -> None:
        """Fetch packages, and unpack them into a folder."""
        kept = folder / "packages"
        for name in names:
            self.download(name, kept)
        unpack(sorted(kept.glob("*.deb")), folder)
        shutil.rmtree(kept)

    def download_all(self, names: Sequence[str], suite: str) -> list[Path]:
        """Fetch packages and everything that they need; return the files."""
        self.update()
        run(
            *("apt-get", "install", "--download-only", "--yes", "-t", suite, *names),
            env=self._env,
        )
        return sorted((self.folder / "archives").glob("*.deb"))

    def names(self, prefix: str) -> list[str]:
        """Return names of packages."""
        self.update()
        return run("apt-cache", "pkgnames", prefix, env=self._env).split()

    def needs(self, name: str, prefix: str) -> list[str]:
        """Return a package's needs whose name begins with ``prefix``."""
        self.update()
        found = run("apt-cache", "depends", "--important", name, env=self._env)
        words = [line.split() for line in found.splitlines() if "Depends:" in line]
        names = [parts[-1].partition(":")[0] for parts in words]
        return [found for found in names if found.startswith(prefix)]


def cache_folder() -> Path:
    """Return the folder that everything is kept in."""
    return build_folder() / "linux"


def unpacked(name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder that ``fill`` has filled once."""
    final = cache_folder() / name
    if not final.exists():
        part = final.with_name(f".{name}.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            fill(part)
            part.rename(final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return final


def unpack(packages: Sequence[Path], folder: Path) -> None:
    """Unpack packages into a folder."""
    for package in packages:
        run("dpkg-deb", "-x", package, folder)


def fetch_qemu(architecture: str, say: Say) -> Qemu:
    """Return QEMU for guests of an architecture, fetched if need be."""

    def fill(folder: Path) -> None:
        say(f"fetching {' and '.join(_QEMU)} of {_QEMU_SUITE} (about 45 MB)")
        unpack(Apt(cache_folder(), "amd64").download_all(_QEMU, _QEMU_SUITE), folder)

    root = unpacked("qemu", fill)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = next(libraries.glob("ld-linux-x86-64.so*"), None)
    program = root / "usr/bin" / f"qemu-system-{_TARGETS[architecture]}"
    if loader is None or not program.exists():
        raise ToolError(f"{root} does not hold QEMU: remove it and try again")
    path = f"{libraries}:{libraries / 'systemd'}"
    command = [str(loader), "--library-path", path, str(program)]
    for part in ("qemu", "seabios"):
        command += ["-L", str(root / "usr/share" / part)]
    return Qemu(tuple(command))


def local_qemu(program: Path) -> Qemu:
    """Return a QEMU of the user's; :class:`ToolError` if it knows no ``vfio-user-pci``."""
    if "vfio-user-pci" not in run(program, "-device", "help"):
        raise ToolError(f"{program} has no vfio-user-pci: QEMU 10.1 or newer is needed")
    return Qemu((str(program),))


def fetch_kernel(architecture: str, say: Say) -> Kernel:
    """Return Debian's kernel of an architecture, fetched if need be."""
    name = _KERNELS[architecture]

    def fill(folder: Path) -> None:
        say(f"fetching {name}")
        apt = Apt(cache_folder(), architecture)
        image = apt.needs(name, "linux-image-")
        if not image:
            raise ToolError(f"No kernel package {name} is to be had")
        wanted = image[:1]
        for prefix in ("linux-binary-", "linux-modules-"):
            wanted += apt.needs(image[0], prefix)
        apt.unpack(wanted, folder)

    root = unpacked(f"kernel-{architecture}", fill)
    modules = next((root / "usr/lib/modules").iterdir())
    image = next((path for path in root.rglob("vmlinu*") if path.is_file()), None)
    if image is None:
        raise ToolError(f"{root} does not hold a kernel: remove it and try again")
    return Kernel(image, modules)


def _fetch(name: str, packages: Sequence[str], architecture: str, say: Say) -> Path:
    """Return a folder with the contents of packages, fetched if need be."""

    def fill(folder: Path) -> None:
        say(f"fetching {packages[0]} for {architecture}")
        Apt(cache_folder(), architecture).unpack(packages, folder)

    return unpacked(f"{name}-{architecture}", fill)


def fetch_busybox(architecture: str, say: Say) -> Path:
    """Return a static busybox, fetched if need be."""
    root = _fetch("busybox", ("busybox-static",), architecture, say)
    found = [path for path in root.rglob("busybox") if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise ToolError(f"{root} does not hold busybox: remove it and try again")
    return found[0]


def fetch_netcat(architecture: str, say: Say) -> dict[str, Path]:
    """Return a netcat that speaks UDP, fetched if need be: files by their names in a guest."""
    root = _fetch("netcat", _NETCAT, architecture, say)
    found = {}
    for pattern in _NETCAT_FILES:
        path = next((path for path in sorted(root.rglob(pattern)) if path.is_file()), None)
        if path is None:
            raise ToolError(f"{root} does not hold {pattern}: remove it and try again")
        if pattern == "nc.openbsd":
            found["bin/netcat"] = path
        else:
            found[("lib64/" if path.name.startswith("ld-") else "lib/") + path.name] = path
    return found
