"""The solver Bitwuzla as SymbiYosys wants it: a program that answers SMT-LIB on standard output.

The Python package is the library alone.  :func:`install` writes the program.
"""

import sys
from pathlib import Path

__all__ = ["SOLVER", "install"]

#: Name of the program, and of the solver for smtbmc.
SOLVER = "bitwuzla"


def install(folder: Path) -> None:
    """Write the program into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / SOLVER
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def _serve() -> None:
    from bitwuzla import Option, Options, Parser, TermManager

    options = Options()
    options.set(Option.PRODUCE_MODELS, True)
    parser = Parser(TermManager(), options)
    command, depth = "", 0
    for line in sys.stdin:
        command += line
        depth += line.count("(") - line.count(")")
        if depth or not command.strip():
            continue
        if command.strip() == "(exit)":
            return
        parser.parse(command, False, False)
        sys.stdout.flush()
        command = ""


if __name__ == "__main__":
    if "--help" in sys.argv:
        print("--lang smt2: answer SMT-LIB")  # smtbmc looks for this option
    else:
        _serve()
