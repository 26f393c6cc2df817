"""The command ``iovirt``: bad input is one line and status 2, with nothing written."""

import os
import stat

import pytest

from cosim import cli
from cosim.bench.build import ToolError, build_folder
from cosim.bench.run import SimulationError
from cosim.scenarios.result import Result


@pytest.fixture
def no_run(monkeypatch):
    """Running anything is a failure."""

    def run_demo(*_, **__):
        raise AssertionError("must not run")

    monkeypatch.setattr(cli, "run_demo", run_demo)


def refused(arguments, capsys):
    try:
        status = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "nothing"], "invalid choice: 'nothing'"),
        (["run", "demo", "--sim", "vcs"], "no simulator 'vcs'; there are verilator, icarus"),
        (["run", "demo", "--config", "huge"], "No configuration 'huge'; there are tiny, "),
        (["run", "demo", "--packets", "-1"], "packets must be in 0 to"),
        (["run", "demo", "--latency", "0"], "latency must be in 1 to"),
        (["run", "demo", "--seed", "x"], "invalid int value: 'x'"),
        (["run", "demo", "--hostile", "bite"], "No harm 'bite'; there are address, descriptor"),
        (["run", "demo", "--pcap", "/none.pcap"], "/none.pcap: no such file"),
        (["run", "demo", "--json", "/none/a.json"], "'/none/a.json' cannot be written"),
        (["run", "demo", "--json", "/proc/a.json"], "'/proc/a.json' cannot be written"),
        (["run", "demo", "--json", ""], "cannot be written"),
        (["run", "demo", "--json", "/"], "'/' cannot be written"),
        (["run", "demo", "--waves", "/none/a.vcd"], "'/none/a.vcd' cannot be written"),
        (["run", "demo", "--waves", "/dev/null"], "/dev/null: waves are VCD"),
        (["waves", "check", "/none.vcd"], "/none.vcd: No such file"),
        (["fuzz", "nic", "--config", "huge"], "no configuration 'huge'; there are tiny, "),
        (["fuzz", "nic", "--steps", "0"], "sessions and steps are at least 1"),
        (["fuzz", "nic", "--replay", "/none.json"], "/none.json: "),
        (["bench", "overcommit", "--config", "huge"], "no configuration 'huge'; there are tiny, "),
        (["bench", "overcommit", "--guests", "9"], "guests must be in 2 to 8 with default, not 9"),
        (["bench", "overcommit", "--guests", "1"], "guests must be in 2 to 8 with default, not 1"),
        (["bench", "overcommit", "--pages", "47"], "pages must be in 48 to 4096 with default"),
        (["bench", "overcommit", "--pages", "1000000"], "pages must be in 48 to 4096"),
        (["bench", "overcommit", "--frames", "0"], "frames must be in 2 to 100000"),
        (["bench", "overcommit", "--json", "/none/a.json"], "'/none/a.json' cannot be written"),
        (["conformance", "/none"], "/none: no such file"),
        (["conformance", "/", "--target", "fpga"], "no target 'fpga'; there are golden, rtl"),
    ],
)
def test_bad_input(no_run, capsys, arguments, message):
    assert message in refused(arguments, capsys)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ToolError("g++ is not installed"), 2),
        (OSError(28, "No space left on device"), 2),
        (SimulationError("failed: demo"), 1),
    ],
)
def test_what_goes_wrong_leaves_no_file(monkeypatch, tmp_path, capsys, error, status):
    def run_demo(*_, **__):
        raise error

    monkeypatch.setattr(cli, "run_demo", run_demo)
    json = tmp_path / "a.json"
    assert cli.main(["run", "demo", "--quiet", "--json", str(json)]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_build_folder_that_cannot_be_made(monkeypatch, capsys):
    monkeypatch.setenv("IOVIRT_BUILD", "/proc/none")
    assert str(build_folder()) in refused(["run", "demo", "--quiet"], capsys)


def empty_result():
    settings = {"sim": "verilator", "config": "tiny", "seed": 1}
    return Result(capture={"name": "x", "skipped": {}}, settings=settings)


def test_devices_are_written_to_and_never_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "run_demo", lambda *_, **__: empty_result())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert cli.main(["run", "demo", "--quiet", "--json", str(pipe)]) == 0
    assert os.read(reader, 100).startswith(b"{")
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_json_replaces_a_file_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "run_demo", lambda *_, **__: empty_result())
    path = tmp_path / "a.json"
    path.write_text("x" * 10_000)
    assert cli.main(["run", "demo", "--quiet", "--json", str(path)]) == 0
    assert path.read_text().endswith("}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_problems_are_status_1(monkeypatch, capsys):
    result = empty_result()
    result.problems.append("a frame is missing")
    monkeypatch.setattr(cli, "run_demo", lambda *_, **__: result)
    assert cli.main(["run", "demo", "--quiet"]) == 1
    assert "PROBLEM: a frame is missing" in capsys.readouterr().out
