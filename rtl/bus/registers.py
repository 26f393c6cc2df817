"""A register file made from tables of :mod:`models.spec.registers`."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.registers import Access, Register
from rtl.bus.lite import RegisterPort

__all__ = ["RegisterBank", "RegisterDecoder"]

WORD_BITS = 32


class RegisterBank(wiring.Component):
    """Registers of a table behind a register port.

    Registers of 64 bits are two words that are written and read apart, in either order.  Reserved
    bits, read-only bits and addresses of no register are read-only 0 or what hardware says.

    Latency
    -------
    An access is answered in the cycle after it was accepted.

    Parameters
    ----------
    registers : iterable of Register
        The table.
    addr_width : int
        Bits of a byte address.
    writable : Mapping[str, int]
        Bits of a register that software may write, where these are fewer than the table's RW.
    reset : Mapping[str, int]
        Reset values that are not 0.
    loadable : iterable of str
        Registers that hardware may write too.

    Members
    -------
    bus : ``In(RegisterPort)``
    <name> : ``Out(layout)``
        RW fields as they stand; other fields are 0.
    <name>_in : ``In(layout)``
        What the other fields read as; only if there are such.
    <name>_ones : ``Out(width)``
        Ones that software is writing to RW1C and RW1S fields, for one cycle; only if there are.
    <name>_written : ``Out(words)``
        A bit per word, in the first cycle in which the value written is seen.
    <name>_load, <name>_next : ``In(1)``, ``In(layout)``
        Hardware's write of the RW fields; software's write in the same cycle wins.
    """

    def __init__(
        self,
        registers: Iterable[Register],
        *,
        addr_width: int,
        writable: Mapping[str, int] | None = None,
        reset: Mapping[str, int] | None = None,
        loadable: Iterable[str] = (),
    ):
        self._registers = tuple(registers)
        self._loadable = frozenset(loadable)
        writable, reset = dict(writable or {}), dict(reset or {})
        names = {register.name for register in self._registers}
        unknown = (writable.keys() | reset.keys() | self._loadable) - names
        if unknown:
            raise ValueError(f"No register in this bank is called {sorted(unknown)!r}")
        self._writable = {
            register.name: register.mask(Access.RW) & writable.get(register.name, -1)
            for register in self._registers
        }
        members = {"bus": In(RegisterPort(addr_width=addr_width))}
        for register in self._registers:
            name, layout = register.name, register.layout
            initial = layout.from_bits(reset.get(name, 0))
            members[name] = Out(layout, init=initial)
            members[f"{name}_written"] = Out(self._words(register))
            if register.mask(Access.RO) | self._ones_mask(register):
                members[f"{name}_in"] = In(layout)
            if self._ones_mask(register):
                members[f"{name}_ones"] = Out(register.width)
            if name in self._loadable:
                members[f"{name}_load"] = In(1)
                members[f"{name}_next"] = In(layout)
        super().__init__(members)

    @staticmethod
    def _words(register: Register) -> int:
        return -(-register.width // WORD_BITS)

    @staticmethod
    def _ones_mask(register: Register) -> int:
        return register.mask(Access.RW1C) | register.mask(Access.RW1S)

    def _readable(self, register: Register):
        """What software reads."""
        value = getattr(self, register.name).as_value()
        hardware = register.mask(Access.RO) | self._ones_mask(register)
        if hardware:
            value = value | (getattr(self, f"{register.name}_in").as_value() & hardware)
        return value

    def elaborate(self, platform):
        m = Module()
        request, response = self.bus.request, self.bus.response
        accept, write = Signal(), Signal()
        m.d.comb += [
            request.ready.eq(~response.valid | response.ready),
            accept.eq(request.valid & request.ready),
            write.eq(accept & request.payload.write),
        ]
        with m.If(request.ready):
            m.d.sync += response.valid.eq(request.valid)

        word = request.payload.addr[2:]
        strobes = Cat(strobe.replicate(8) for strobe in request.payload.strb)
        ones = Signal(WORD_BITS)
        m.d.comb += ones.eq(request.payload.data & strobes)
        for register in self._registers:
            self._hold(m, register, write=write, word=word, strobes=strobes, ones=ones)

        with m.If(accept):
            m.d.sync += response.payload.eq(0)
            with m.If(~request.payload.write):
                with m.Switch(word):
                    for register in self._registers:
                        value = self._readable(register)
                        for part in range(self._words(register)):
                            with m.Case(register.offset // 4 + part):
                                m.d.sync += response.payload.eq(value.word_select(part, WORD_BITS))
        return m

    def _hold(self, m: Module, register: Register, *, write, word, strobes, ones) -> None:
        """Storage of one register and its writes by hardware and software."""
        name = register.name
        stored, written = getattr(self, name).as_value(), getattr(self, f"{name}_written")
        if name in self._loadable:
            with m.If(getattr(self, f"{name}_load")):
                following = getattr(self, f"{name}_next").as_value()
                m.d.sync += stored.eq(following & register.mask(Access.RW))
        m.d.sync += written.eq(0)
        ones_mask = self._ones_mask(register)
        if ones_mask:
            m.d.sync += getattr(self, f"{name}_ones").eq(0)
        for part in range(self._words(register)):
            low = WORD_BITS * part
            mask = self._writable[name] >> low & 0xFFFF_FFFF
            window = slice(low, min(low + WORD_BITS, register.width))
            with m.If(write & (word == register.offset // 4 + part)):
                m.d.sync += written[part].eq(1)
                if mask:
                    kept = stored[window] & ~(strobes & mask)
                    m.d.sync += stored[window].eq(kept | (ones & mask))
                if ones_mask >> low & 0xFFFF_FFFF:
                    m.d.sync += getattr(self, f"{name}_ones")[window].eq(ones & (ones_mask >> low))


class RegisterDecoder(wiring.Component):
    """Splits a register port by address; the targets' ranges must not overlap.

    An address of no target goes to the first one.

    Parameters
    ----------
    targets : Mapping[str, tuple[int, int] | None]
        First and last byte of each target; ``None`` for the first, which takes the rest.
    addr_width : int
        Bits of a byte address; targets see whole addresses.

    Members
    -------
    bus : ``In(RegisterPort)``
    <target> : ``Out(RegisterPort)``
    """

    def __init__(self, targets: Mapping[str, tuple[int, int] | None], *, addr_width: int):
        self._targets = dict(targets)
        members = {"bus": In(RegisterPort(addr_width=addr_width))}
        members |= {name: Out(RegisterPort(addr_width=addr_width)) for name in self._targets}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        names = list(self._targets)
        chosen, busy = Signal(range(max(2, len(names)))), Signal()
        current = Signal.like(chosen)
        addr = self.bus.request.payload.addr
        for index, name in enumerate(names):
            bounds = self._targets[name]
            if bounds is not None:
                with m.If((addr >= bounds[0]) & (addr <= bounds[1])):
                    m.d.comb += chosen.eq(index)
        # One access at a time, so that answers cannot pass each other.
        with m.If(self.bus.request.valid & self.bus.request.ready):
            m.d.sync += [current.eq(chosen), busy.eq(1)]
        with m.If(self.bus.response.valid & self.bus.response.ready):
            m.d.sync += busy.eq(0)
        for index, name in enumerate(names):
            target = getattr(self, name)
            m.d.comb += target.request.payload.eq(self.bus.request.payload)
            with m.If(~busy & (chosen == index)):
                m.d.comb += [
                    target.request.valid.eq(self.bus.request.valid),
                    self.bus.request.ready.eq(target.request.ready),
                ]
            with m.If(busy & (current == index)):
                m.d.comb += [
                    self.bus.response.valid.eq(target.response.valid),
                    self.bus.response.payload.eq(target.response.payload),
                    target.response.ready.eq(self.bus.response.ready),
                ]
        return m
