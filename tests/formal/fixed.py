"""What a harness holds fixed: inputs of its block that it drives with constants, or not at all."""

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.hdl._ast import Assign, Slice, Switch
from amaranth.lib import data, wiring

__all__ = ["fixed_inputs"]


def _assigns(statements, always: bool) -> Iterator[tuple[Assign, bool]]:
    """Every assignment, and whether it always holds."""
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement, always
        elif isinstance(statement, Switch):
            for _, body, *_ in statement.cases:
                yield from _assigns(body, False)


def _place(value: Value) -> tuple[Value, int]:
    """The signal that a value is bits of, and where they begin; of others the value itself."""
    if isinstance(value, Slice):
        whole, start = _place(value.value)
        return whole, start + value.start
    return value, 0


def _free_bits(m: Module) -> tuple[dict[int, int], dict[int, int]]:
    """By signal: bits that something may change, and values of the others."""
    free: dict[int, int] = {}
    values: dict[int, int] = {}
    m._flush()  # what the last condition holds
    for domain, statements in m._statements.items():
        for one, always in _assigns(statements, domain == "comb"):
            target, start = _place(one.lhs)
            if not isinstance(target, Signal):
                free.update((id(signal), -1) for signal in one._lhs_signals())
                continue
            bits, key = ((1 << len(one.lhs)) - 1) << start, id(target)
            if always and isinstance(one.rhs, Const):  # whatever was said before
                free[key] = free.get(key, 0) & ~bits
                values[key] = values.get(key, 0) & ~bits | one.rhs.value << start & bits
            else:
                free[key] = free.get(key, 0) | bits
    return free, values


def _leaves(port: Any, name: str, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Name, place and width of everything that a port is made of."""
    if isinstance(port, data.View):
        for key, field in data.Layout.cast(port.shape()):
            yield from _leaves(port[key], f"{name}.{key}", start + field.offset)
    else:
        yield name, start, len(Value.cast(port))


def fixed_inputs(m: Module) -> dict[str, int]:
    """Values of the inputs that never change, by name: of components that are the harness's own,
    not of those within a bench.  Payloads of streams that offer nothing are left out.
    """
    free, values = _free_bits(m)
    found: dict[str, int] = {}
    for block, *_ in m._named_submodules.values():
        if not isinstance(block, wiring.Component):
            continue
        for path, member, port in block.signature.flatten(block):
            signal = Value.cast(port)
            if member.flow == wiring.Out or not isinstance(signal, Signal):
                continue
            for name, start, width in _leaves(port, ".".join(map(str, path))):
                mask = (1 << width) - 1
                if width and not free.get(id(signal), 0) >> start & mask:
                    found[name] = values.get(id(signal), signal.init) >> start & mask
    silent = [name.removesuffix("valid") + "payload" for name, value in found.items()
              if name.endswith(".valid") and not value]  # fmt: skip
    return {name: value for name, value in found.items() if not name.startswith(tuple(silent))}
