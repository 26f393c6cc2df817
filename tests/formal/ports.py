"""Streams of a harness: driven and taken by the outside, and what is asserted of them."""

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Signal, Value
from amaranth.lib import data

__all__ = ["fair", "free", "narrow", "promise", "stable", "take"]


def _unchanged(m: Module, port, name: str):
    """Whether a payload that waits is still offered, and the same."""
    payload = Value.cast(port.payload)
    waiting, before = Signal(name=f"{name}_waiting"), Signal(len(payload), name=f"{name}_before")
    m.d.sync += [waiting.eq(port.valid & ~port.ready), before.eq(payload)]
    return ~waiting | (port.valid & (payload == before))


def stable(m: Module, port, name: str = "o", *, unless=0) -> None:
    """Assert that a payload on offer stays until it is taken; ``unless``: the cycle before."""
    excused = Signal(name=f"{name}_excused")
    m.d.sync += excused.eq(unless)
    m.d.comb += Assert(excused | _unchanged(m, port, name))


def promise(m: Module, port, name: str) -> None:
    """Assume the same of what comes in."""
    m.d.comb += Assume(_unchanged(m, port, name))


def free(m: Module, ports: list, name: str, target) -> None:
    """Let the outside drive a stream: it may do anything but withdraw."""
    width = len(Value.cast(target.payload))
    valid, payload = Signal(name=f"{name}_valid"), Signal(width, name=f"{name}_data")
    ports += [valid, payload]
    m.d.comb += [target.valid.eq(valid), Value.cast(target.payload).eq(payload)]
    promise(m, target, name)


def narrow(view, free: dict[str, int], signed=()):
    """Bits of a record of whose members only so many are free, the lowest; others are 0, of
    ``signed`` ones as the highest that is free.
    """
    parts = []
    for name, _ in data.Layout.cast(view.shape()):
        value = view[name]
        if isinstance(value, data.View):
            parts.append(narrow(value, free, signed))
            continue
        bits = Value.cast(value)
        kept = min(free.get(name, len(bits)), len(bits))
        high = bits[kept - 1] if name in signed else Const(0, 1)
        parts += [bits[:kept], high.replicate(len(bits) - kept)]
    return Cat(*parts)


def take(m: Module, ports: list, name: str, source) -> None:
    """Let the outside take from a stream when it likes."""
    ready = Signal(name=f"{name}_ready")
    ports.append(ready)
    m.d.comb += source.ready.eq(ready)


def fair(m: Module, asking, taken) -> None:
    """While one input waits, at most ``count - 1`` transfers of others come first."""
    count = len(asking)
    for number in range(count):
        others = Signal(range(count + 1), name=f"before{number}")
        served = Cat(bit for n, bit in enumerate(taken) if n != number).any()
        with m.If(taken[number] | ~asking[number]):
            m.d.sync += others.eq(0)
        with m.Elif(served):
            m.d.sync += others.eq(others + 1)
        m.d.comb += Assert(others <= count - 1)
        m.d.comb += Assert(~(asking[number] & served & ~taken[number]) | (others < count - 1))
        m.d.comb += Cover(taken[number] & (others == count - 1))
