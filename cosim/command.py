"""What every part of the command ``iovirt`` needs: one-line errors, figures, whole files."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.spec.config import CONFIGS

__all__ = [
    "Parser",
    "Wrong",
    "checked",
    "give",
    "is_special",
    "must_be_known",
    "must_be_writable",
    "say",
    "write",
]


class Wrong(Exception):
    """What was asked makes no sense; the message is one line."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def give(found: dict[str, Any], where: str | None, show: Callable[..., None]) -> None:
    """Print figures, and write them as JSON where that is asked for."""
    show(found, sys.stderr if where == "-" else sys.stdout)
    text = json.dumps(found, indent=2) + "\n"
    if where == "-":
        print(text, end="")
    elif where:
        write(Path(where), text)


def checked(asked: argparse.Namespace) -> None:
    """Make sure that ``--json`` can be written."""
    if asked.json and asked.json != "-":
        must_be_writable(Path(asked.json))


def must_be_known(name: str) -> None:
    """Make sure that there is a configuration of that name."""
    if name not in CONFIGS:
        raise Wrong(f"no configuration {name!r}; there are {', '.join(CONFIGS)}")


def must_be_writable(path: Path) -> None:
    """Make sure, before hours of work, that :func:`write` can put a file there."""
    try:
        if not path.name or path.is_dir():
            raise IsADirectoryError
        if is_special(path):
            return
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError:
        raise Wrong(f"{str(path)!r} cannot be written") from None


def is_special(path: Path) -> bool:
    """Whether a path is a device or a pipe: written to, never replaced."""
    return path.exists() and not path.is_file()


def write(path: Path, text: str) -> None:
    """Put a file in its place, whole."""
    if is_special(path):
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except OSError:
            with suppress(OSError):
                os.unlink(file.name)
            raise
