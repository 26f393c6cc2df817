"""Coverage of RTL runs: what counts, what is a hole."""

from pathlib import Path

from cosim.cli import main
from cosim.conformance.vectors import VectorFile
from cosim.fuzz import coverage
from cosim.fuzz.coverage import add, cover, holes, required
from cosim.fuzz.statistics import Statistics

VECTORS = Path(__file__).parents[2] / "conformance"


def test_vectors_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "add", lambda statistics: seen.add(statistics))
    seen = Statistics()
    for topic in ("commands", "ats", "two-stage"):
        file = VectorFile(VECTORS / f"{topic}.full.jsonl.gz")
        cover(file, set(range(len(file))), file.header.parameters)
    assert seen.translations > 50
    assert seen.rows["IOFENCE.C AV"]
    assert seen.causes["260"]
    assert any(name.startswith("4K x ") for name in seen.pages)
    assert any(name.startswith("SUCCESS") for name in seen.ats)


def test_holes_fail_and_full_coverage_passes(tmp_path, capsys):
    path = tmp_path / "coverage.json"
    assert main(["coverage", "--file", str(path)]) == 2
    full = Statistics()
    for topic, wanted in required().items():
        getattr(full, topic).update(wanted)
    add(full, path)
    assert main(["coverage", "--file", str(path)]) == 0
    del full.causes["262"]
    add(full, tmp_path / "other.json")
    capsys.readouterr()
    assert main(["coverage", "--file", str(tmp_path / "other.json")]) == 1
    assert "262                                HOLE" in capsys.readouterr().out
    assert holes(full)["causes"] == ["262"]


def test_counts_add_up(tmp_path):
    path = tmp_path / "coverage.json"
    one = Statistics(translations=3)
    one.rows["IODIR.INVAL_DDT"] = 2
    for _ in range(2):
        add(one, path)
    found = Statistics.from_dict(coverage._load(path))
    assert (found.translations, found.rows["IODIR.INVAL_DDT"]) == (6, 4)
