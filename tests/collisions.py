"""Memories that give nonsense for a row that is read in the cycle in which it is written.

So do block RAMs, and memories that say ``no_rw_check`` (:mod:`rtl.bus.ram`) may become such.  A
simulation gives the old row and would not show who reads it in earnest.  With ``IOVIRT_COLLIDE``
set, suites run on such memories: ``make test-collisions``.
"""

from amaranth.hdl import Cat, Const, MemoryInstance, Module, Mux, Shape, Signal, Value
from amaranth.lib.memory import Memory

__all__ = ["collide"]

_elaborate = Memory.elaborate


def _nonsense(self: Memory, platform: object):
    """Elaborate a memory; what is read by a port that is clocked is inverted after a collision."""
    if not self.attrs.get("no_rw_check"):
        return _elaborate(self, platform)
    m = Module()
    self._frozen = True
    self._data.freeze()
    m.submodules.array = array = MemoryInstance(
        data=self._data, attrs=self.attrs, src_loc=self.src_loc
    )
    places = {}
    for port in self.write_ports:
        places[port] = array.write_port(
            domain=port.domain, addr=port.addr, data=port.data, en=port.en
        )
    for number, port in enumerate(self.read_ports):
        found = Signal(Shape.cast(self.shape), name=f"found{number}")
        array.read_port(
            domain=port.domain,
            data=found,
            addr=port.addr,
            en=port.en,
            transparent_for=tuple(places[other] for other in port.transparent_for),
        )
        data = Value.cast(port.data)
        if port.domain == "comb":
            m.d.comb += data.eq(found)
            continue
        collided = Signal(name=f"collided{number}")
        hits = [
            Value.cast(other.en).any() & (Value.cast(other.addr) == Value.cast(port.addr))
            for other in self.write_ports
            if other not in port.transparent_for
        ]
        with m.If(port.en):
            m.d[port.domain] += collided.eq(Cat(hits).any() if hits else Const(0))
        m.d.comb += data.eq(Mux(collided, ~found, found))
    return m


def collide() -> None:
    """Let all memories that are elaborated from here on be so."""
    Memory.elaborate = _nonsense
