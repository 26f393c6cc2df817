"""The estimate of paths on netlists that are written by hand."""

import json

import pytest

from rtl.fpga.paths import Netlist, describe

#: Ports that drive nets, by kind of cell.
OUTPUTS = {"LUT4": "Z", "TRELLIS_FF": "Q", "TRELLIS_DPR16X4": "DO"}


def netlist(tmp_path, cells: dict[str, tuple[str, dict]]) -> Netlist:
    """A module of cells: kind and nets by port."""
    numbers: dict[str, int] = {}

    def bit(net: str) -> int:
        return numbers.setdefault(net, len(numbers) + 2)

    made = {
        name: {
            "type": kind,
            "port_directions": {p: "output" if p == OUTPUTS.get(kind) else "input" for p in nets},
            "connections": {
                port: [bit(one) for one in (net if isinstance(net, list) else [net])]
                for port, net in nets.items()
            },
        }
        for name, (kind, nets) in cells.items()
    }
    for scope in ("a", "b", "b.c"):
        made[scope] = {"type": "$scopeinfo", "port_directions": {}, "connections": {}}
    names = {net: {"bits": [number]} for net, number in numbers.items()}
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": made, "netnames": names}}}))
    return Netlist(path, "top")


def chain(tmp_path, extra=()) -> Netlist:
    """From a register of one block through a second's logic to a RAM of a third."""
    return netlist(
        tmp_path,
        {
            "a.begin": ("TRELLIS_FF", {"CLK": "clk", "DI": "q", "Q": "q"}),
            "a.one": ("LUT4", {"A": "q", "Z": "first"}),
            "b.two": ("LUT4", {"A": "first", "B": "q", "Z": "second"}),
            "b.c.ram": ("TRELLIS_DPR16X4", {"WCK": "clk", "DI": ["second"], "DO": ["out"]}),
            **dict(extra),
        },
    )


def test_a_path_is_told_by_the_blocks_it_crosses(tmp_path):
    groups = chain(tmp_path).groups(0)
    longest = groups[0]
    assert longest.blocks == ("a", "b", "b.c")
    assert longest.path == ("q", "first", "second", "b.c.ram.DI")
    assert (longest.levels, longest.ends) == (2, 1)
    # The register that feeds itself.
    assert groups[1].blocks == ("a",)
    assert groups[1].delay < longest.delay
    table = describe(groups, 1)
    assert "a > b > b.c" in table
    assert table.count("\n") == 1


def test_a_net_with_more_readers_is_slower(tmp_path):
    alone = chain(tmp_path).groups(0)[0].delay
    readers = {
        f"b.more{n}": ("TRELLIS_FF", {"CLK": "clk", "DI": "first", "Q": f"x{n}"}) for n in range(7)
    }
    assert chain(tmp_path, readers).groups(0)[0].delay > alone + 0.4


def test_only_what_is_longer_than_the_bound_is_listed(tmp_path):
    timing = chain(tmp_path)
    delay = timing.groups(0)[0].delay
    assert timing.groups(delay) == []
    assert len(timing.groups(delay - 0.01)) == 1


@pytest.mark.parametrize("port", ["RAD", "WAD"])
def test_reads_of_small_rams_go_on_and_writes_end(tmp_path, port):
    ram = {"a.ram": ("TRELLIS_DPR16X4", {"WCK": "clk", port: ["first"], "DO": ["read"]})}
    end = {"b.end": ("TRELLIS_FF", {"CLK": "clk", "DI": "read", "Q": "y"})}
    timing = chain(tmp_path, ram | end)
    ends = {name: timing.path(net) for _, name, _, net in timing.ends()}
    assert ("a.ram" in ends) == (port == "WAD")
    assert len(ends["b.end"]) == (3 if port == "RAD" else 1)
