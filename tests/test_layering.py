"""Who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"rtl", "models", "cosim", "tests"}
ALLOWED = {
    "models/spec": {"models.spec"},
    "models": {"models"},
    "rtl": {"rtl", "models.spec"},  # RTL and oracle share records, never behaviour
    "cosim": {"cosim", "models", "rtl"},
}
#: Software that must run on anything: no simulator below it.
FREE_OF_SIMULATOR = ("cosim/guest", "cosim/hypervisor", "models", "rtl")


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("room", ALLOWED)
def test_room_imports_only_what_it_may(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        for module in imported(path):
            if module.split(".")[0] in ROOMS:
                assert any(
                    module == allowed or module.startswith(allowed + ".")
                    for allowed in ALLOWED[room]
                ), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("room", FREE_OF_SIMULATOR)
def test_room_knows_no_simulator(room):
    for path in (ROOT / room).rglob("*.py"):
        for module in imported(path):
            assert module.split(".")[0] != "cocotb", f"{path.relative_to(ROOT)} imports {module}"


def test_every_room_says_what_it_is_for():
    for room in ("rtl", "models", "models/spec", "cosim", "cosim/bench", "cosim/guest"):
        text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{room} has no docstring"


def test_no_future_annotations_beside_layouts():
    """They make every ``data.Struct`` empty, without a word (Amaranth 0.5)."""
    for room in ("rtl", "models/spec"):
        for path in (ROOT / room).rglob("*.py"):
            assert "__future__" not in set(imported(path)), path
