"""``iovirt conformance``: what it prints, its exit status, and bad input."""

import gzip
import json
from pathlib import Path

import pytest

from cosim.conformance import main

HERE = Path(__file__).parent
GOOD = HERE / "ddt.base.jsonl.gz"


def lines():
    return gzip.decompress(GOOD.read_bytes()).decode().splitlines(keepends=True)


def test_totals_and_status(capsys):
    assert main([GOOD], "golden") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ddt.base ")
    assert out[-1] == f"{len(lines()) - 1} passed, 0 failed, 0 skipped"


def test_failure_is_status_1(tmp_path, capsys):
    header, scenario = lines()[:2]
    broken = json.loads(scenario)
    broken["steps"].append(["r", 0, 4, "0", "ff"])
    path = tmp_path / "one.jsonl.gz"
    path.write_bytes(gzip.compress((header + json.dumps(broken)).encode()))
    assert main([path], "golden") == 1
    out = capsys.readouterr().out
    assert "register 0 is" in out
    assert out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def refused(paths, capsys, target="golden"):
    assert main(paths, target) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_missing_file(capsys):
    assert refused(["/nonexistent.jsonl.gz"], capsys).endswith("no such file")


def test_truncated_file(tmp_path, capsys):
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(GOOD.read_bytes()[:-500])
    # Nothing runs, not even the good file before it.
    assert refused([GOOD, path], capsys).endswith("cut.jsonl.gz: truncated")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text", "cannot be read"),
        (gzip.compress(b"", mtime=0), "empty"),
        (gzip.compress(b"no json", mtime=0), "line 1 is not JSON"),
        (gzip.compress(b"[1]", mtime=0), "line 1 is not an object"),
        (gzip.compress(b'{"format": "other/9"}', mtime=0), "format 'other/9'"),
        (gzip.compress(b'{"format": "iovirt-iommu-vectors/1"}', mtime=0), "bad header"),
    ],
)
def test_what_is_no_vector_file(tmp_path, capsys, content, message):
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(content)
    assert message in refused([path], capsys)


def test_folder_without_vectors(tmp_path, capsys):
    assert "no *.jsonl.gz in this folder" in refused([tmp_path], capsys)


def test_nothing_given(capsys):
    assert "no files" in refused([], capsys)


def test_unknown_target(capsys):
    assert (
        refused([GOOD], capsys, "silicon") == "iovirt: no target 'silicon'; there are golden, rtl"
    )
