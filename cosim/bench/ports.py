"""Finds what a component's ports are, from its signature alone."""

import itertools
from dataclasses import dataclass, field
from functools import cached_property

from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Flow

from rtl.bus.axi import Axi4, FrameBeat

__all__ = ["Manager", "Ports", "StreamPort", "Tap", "classify", "layout_fields"]


@dataclass(frozen=True, kw_only=True)
class StreamPort:
    """A stream, or a plain signal treated as one.

    Parameters
    ----------
    name : str
        Path with ``__`` between the parts, as in the Verilog.
    number : int
        Port number in the library.
    to_design : bool
        Whether the bench drives it.
    shape : object
        Shape-castable of the payload.
    kind : str
        ``"stream"``, ``"frames"`` (Ethernet) or ``"signal"``.
    instance : str
        Path of the instance within the design that the port belongs to; empty for the top.
    """

    name: str
    number: int
    to_design: bool
    shape: object
    kind: str
    instance: str = ""

    @cached_property
    def width(self) -> int:
        """Bits of the payload."""
        return Shape.cast(self.shape).width

    @property
    def words(self) -> int:
        """32-bit words of the payload."""
        return (self.width + 31) // 32

    @cached_property
    def fields(self) -> dict[str, list[int]]:
        """Offset and width of every field; see :func:`layout_fields`."""
        return layout_fields(self.shape)


@dataclass(frozen=True, kw_only=True)
class Manager:
    """An AXI4 manager port, to be served by memory."""

    name: str
    number: int
    signature: Axi4


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Asks for the transfers of a stream inside of the design to be logged.

    Parameters
    ----------
    instance : str
        Path of instances below the top, with dots: ``"iommu.translator.iotlb"``.
    name : str
        Stream port of that instance.
    shape : object
        Shape-castable of its payload.
    """

    instance: str
    name: str
    shape: object

    @property
    def label(self) -> str:
        """Unique name of the tapped port."""
        return f"{self.instance}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All ports of a component."""

    streams: list[StreamPort] = field(default_factory=list)
    managers: list[Manager] = field(default_factory=list)

    def stream(self, name: str) -> StreamPort:
        """Return the stream of that name; ``KeyError`` with the names there are."""
        for port in self.streams:
            if port.name == name:
                return port
        raise KeyError(f"No stream {name!r}; there are {[port.name for port in self.streams]}")


def layout_fields(shape) -> dict[str, list[int]]:
    """Offset and width of every leaf of a layout, with dotted names; ``""`` for a plain shape."""
    layout = (
        shape if isinstance(shape, data.Layout) else getattr(shape, "as_shape", lambda: shape)()
    )
    if not isinstance(layout, data.Layout):
        return {"": [0, Shape.cast(shape).width]}
    found = {}
    for name, entry in iter(layout):  # type: ignore[arg-type]
        for below, (offset, width) in layout_fields(entry.shape).items():
            found[f"{name}.{below}".rstrip(".")] = [entry.offset + offset, width]
    return found


def _manager(name: str, number: int, signature: Axi4) -> Manager:
    limits = {"data_width": 128, "id_width": 8, "addr_width": 64}
    for what, most in limits.items():
        if getattr(signature, what) > most:
            wide = getattr(signature, what)
            raise ValueError(f"Manager {name} may have a {what} of at most {most}, not {wide}")
    if signature.user is not None and Shape.cast(signature.user).width > 64:
        raise ValueError(f"Manager {name} may have a user sideband of at most 64 bits")
    if number >= 8:
        raise ValueError("The bench has room for 8 managers")
    return Manager(name=name, number=number, signature=signature)


def classify(component: wiring.Component, taps: list[Tap]) -> Ports:
    """Number the ports of a component and its taps.

    Raises ``ValueError`` for what the bench cannot connect.
    """
    ports = Ports()

    def add(name: str, to_design: bool, shape, kind: str, instance: str = "") -> None:
        width = Shape.cast(shape).width
        if not 0 < width <= 512:
            raise ValueError(f"Port {name} must have 1 to 512 bits, not {width}")
        number = len(ports.streams)
        ports.streams.append(
            StreamPort(
                name=name,
                number=number,
                to_design=to_design,
                shape=shape,
                kind=kind,
                instance=instance,
            )
        )

    def visit(signature, path: str, to_design: bool) -> None:
        if isinstance(signature, wiring.FlippedSignature):
            visit(signature.flip(), path, not to_design)
        elif isinstance(signature, Axi4) and not to_design:
            ports.managers.append(_manager(path, len(ports.managers), signature))
        elif isinstance(signature, stream.Signature):
            if signature.always_ready or signature.always_valid:
                raise ValueError(f"Stream {path} must have valid and ready to be a port of a top")
            payload = signature.members["payload"].shape
            kind = "frames" if isinstance(payload, FrameBeat) else "stream"
            add(path, to_design, payload, kind)
        else:
            for name, member in signature.members.items():
                base = f"{path}__{name}" if path else name
                for index in itertools.product(*map(range, member.dimensions)):
                    inner = "__".join([base, *map(str, index)])
                    if member.is_port:
                        inward = to_design ^ (member.flow is Flow.In)
                        add(inner, inward, member.shape, "signal")
                    else:  # flipped already if it points inward
                        visit(member.signature, inner, to_design)

    visit(component.signature, "", False)
    for tap in taps:
        add(tap.name, False, tap.shape, "stream", tap.instance)
    if len(ports.streams) > 64:
        raise ValueError(f"The bench has room for 64 ports, not {len(ports.streams)}")
    return ports
