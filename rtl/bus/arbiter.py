"""Several AXI4 managers in front of one port."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.bus.axi import Axi4, Burst
from rtl.bus.stream import StreamRegister, round_robin

__all__ = ["AxiReadArbiter", "AxiWriteArbiter", "set_address"]


def set_address(channel, *, addr, size, length=0, id=0) -> list:
    """Assignments of an ``aw`` or ``ar`` payload: an incrementing burst of ``length + 1`` beats."""
    payload = channel.payload
    return [
        payload.addr.eq(addr),
        payload.size.eq(size),
        payload.len.eq(length),
        payload.id.eq(id),
        payload.burst.eq(Burst.INCR),
        payload.lock.eq(0),
    ]


def _check(id_widths: Sequence[int]) -> None:
    if len(id_widths) < 2:
        raise ValueError(f"An arbiter needs at least 2 managers, not {len(id_widths)!r}")


class _Arbiter(wiring.Component):
    """What both directions share: ports and the prefix of IDs.

    The number of the manager is put above the ID, so that answers of different managers may come
    in any order.
    """

    def __init__(self, *, addr_width, data_width, id_widths, read, write, user=None):
        _check(id_widths)
        self.count = len(id_widths)
        self.low_width = max(id_widths)
        self.id_width = self.low_width + ceil_log2(self.count)

        def port(id_width):
            return Axi4(
                addr_width=addr_width,
                data_width=data_width,
                id_width=id_width,
                user=user,
                read=read,
                write=write,
            )

        members = {f"up{n}": In(port(width)) for n, width in enumerate(id_widths)}
        members["down"] = Out(port(self.id_width))
        super().__init__(members)

    @property
    def managers(self) -> list:
        """Ports of the managers in order."""
        return [getattr(self, f"up{n}") for n in range(self.count)]

    def prefixed(self, number: int, payload):
        """Address payload of manager ``number`` as the port below sees it."""
        prefix = Const(number, self.id_width - self.low_width)
        wide = Cat((payload.id | Const(0, self.low_width))[: self.low_width], prefix)
        return [
            wide if name == "id" else Value.cast(payload[name]) for name in payload.shape().members
        ]


class AxiReadArbiter(_Arbiter):
    """Reads of several managers, round robin.

    Latency
    -------
    None either way: addresses and answers pass through.  What is offered below stays until it is
    accepted, whoever else asks.

    Parameters
    ----------
    addr_width, data_width : int
        Of all ports.
    id_widths : Sequence[int]
        Bits of the IDs of each manager.
    user : Shape-castable
        ARUSER of all ports, ``None`` for none.

    Members
    -------
    up0, up1, ... : ``In(Axi4)``, reads only
    down : ``Out(Axi4)``, reads only
        IDs have ``ceil_log2`` of the number of managers more bits than the widest above.
    """

    def __init__(self, *, addr_width, data_width, id_widths, user=None):
        super().__init__(
            addr_width=addr_width,
            data_width=data_width,
            id_widths=id_widths,
            read=True,
            write=False,
            user=user,
        )

    def elaborate(self, platform):
        m = Module()
        down, managers = self.down, self.managers
        asking = Cat(manager.ar.valid for manager in managers)
        # ``served`` had the last turn; while it is ``held`` its address is still offered.
        served, held = Signal(range(self.count)), Signal()
        following, grant = Signal(range(self.count)), Signal(range(self.count))
        round_robin(m, asking, served, following)
        m.d.comb += [
            grant.eq(Mux(held, served, following)),
            down.ar.valid.eq(asking.any()),
        ]
        with m.If(down.ar.valid):
            m.d.sync += [served.eq(grant), held.eq(~down.ar.ready)]
        with m.Switch(grant):
            for number, manager in enumerate(managers):
                with m.Case(number):
                    m.d.comb += [
                        down.ar.payload.as_value().eq(
                            Cat(self.prefixed(number, manager.ar.payload))
                        ),
                        manager.ar.ready.eq(down.ar.ready),
                    ]
        answer = down.r
        with m.Switch(answer.payload.id[self.low_width :]):
            for number, manager in enumerate(managers):
                with m.Case(number):
                    m.d.comb += [
                        manager.r.valid.eq(answer.valid),
                        answer.ready.eq(manager.r.ready),
                    ]
            with m.Default():
                m.d.comb += answer.ready.eq(1)  # of nobody
        for manager in managers:
            for name in ("data", "resp", "last", "id"):
                m.d.comb += manager.r.payload[name].eq(answer.payload[name])
        return m


class AxiWriteArbiter(_Arbiter):
    """Writes of several managers, round robin, a burst at a time.

    Latency
    -------
    Two cycles down, one up; a burst of n beats takes n + 2 cycles.

    Parameters
    ----------
    addr_width, data_width : int
        Of all ports.
    id_widths : Sequence[int]
        Bits of the IDs of each manager.
    user : Shape-castable
        AWUSER of all ports, ``None`` for none.

    Members
    -------
    up0, up1, ... : ``In(Axi4)``, writes only
    down : ``Out(Axi4)``, writes only
        IDs have ``ceil_log2`` of the number of managers more bits than the widest above.
    """

    def __init__(self, *, addr_width, data_width, id_widths, user=None):
        super().__init__(
            addr_width=addr_width,
            data_width=data_width,
            id_widths=id_widths,
            read=False,
            write=True,
            user=user,
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.aw = aw = StreamRegister(self.down.aw.payload.shape())
        m.submodules.w = w = StreamRegister(self.down.w.payload.shape())
        m.submodules.b = b = StreamRegister(self.down.b.payload.shape())
        wiring.connect(m, aw.o, wiring.flipped(self.down.aw))
        wiring.connect(m, w.o, wiring.flipped(self.down.w))
        wiring.connect(m, wiring.flipped(self.down.b), b.i)

        # Whose turn it is is registered, so that wide payloads are chosen by registers alone.
        turn, following = Signal(range(self.count)), Signal(range(self.count))
        asking = Cat(manager.aw.valid for manager in self.managers)
        round_robin(m, asking, turn, following)
        address, beats = Signal(), Signal()
        with m.Switch(turn):
            for number, manager in enumerate(self.managers):
                with m.Case(number):
                    m.d.comb += [
                        aw.i.payload.as_value().eq(Cat(self.prefixed(number, manager.aw.payload))),
                        aw.i.valid.eq(address & manager.aw.valid),
                        manager.aw.ready.eq(address & aw.i.ready),
                        w.i.payload.eq(manager.w.payload),
                        w.i.valid.eq(beats & manager.w.valid),
                        manager.w.ready.eq(beats & w.i.ready),
                    ]
        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += turn.eq(following)
                with m.If(asking.any()):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += address.eq(1)
                with m.If(aw.i.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += beats.eq(1)
                with m.If(w.i.valid & w.i.ready & w.i.payload.last):
                    m.next = "CHOOSE"

        with m.Switch(b.o.payload.id[self.low_width :]):
            for number, manager in enumerate(self.managers):
                with m.Case(number):
                    m.d.comb += [manager.b.valid.eq(b.o.valid), b.o.ready.eq(manager.b.ready)]
            with m.Default():
                m.d.comb += b.o.ready.eq(1)  # of nobody
        for manager in self.managers:
            m.d.comb += [
                manager.b.payload.id.eq(b.o.payload.id),
                manager.b.payload.resp.eq(b.o.payload.resp),
            ]
        return m
