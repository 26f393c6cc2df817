"""A register file made from tables of :mod:`models.spec.registers`."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.registers import Access, Register
from rtl.bus.lite import RegisterPort

__all__ = ["RegisterBank", "RegisterDecoder"]

WORD_BITS = 32


class RegisterBank(wiring.Component):
    """Registers of a table behind a register port.

    Registers of 64 bits are two words that are written and read apart, in either order.  Reserved
    bits, read-only bits and addresses of no register are read-only 0 or what hardware says.  Bytes
    without strobe keep what they were when the write began.

    Latency
    -------
    A read is answered in the second cycle after it was accepted, a write in the third, in which the
    value written is seen.

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
        data, strobes, write = Signal(WORD_BITS), Signal(WORD_BITS // 8), Signal()
        looking, storing = Signal(), Signal()
        accept = Signal()
        m.d.comb += [
            request.ready.eq(~looking & ~storing & ~response.valid),
            accept.eq(request.valid & request.ready),
        ]

        # One register per word says that it is meant; then the word is read; then, if it is to be
        # written, it is, and bytes without strobe as they were.
        selected = {
            register.name: Signal(self._words(register), name=f"{register.name}_selected")
            for register in self._registers
        }
        words = []
        for register in self._registers:
            value = self._readable(register)
            for part in range(self._words(register)):
                chosen = selected[register.name][part]
                place = register.offset // 4 + part
                with m.If(accept):
                    m.d.sync += chosen.eq(request.payload.addr[2:] == place)
                words.append(value.word_select(part, WORD_BITS) & chosen.replicate(WORD_BITS))
        with m.If(accept):
            m.d.sync += [
                data.eq(request.payload.data),
                strobes.eq(request.payload.strb),
                write.eq(request.payload.write),
            ]
        was = Signal(WORD_BITS)
        with m.If(looking):
            m.d.sync += was.eq(reduce(or_, words, Const(0, WORD_BITS)))
        m.d.sync += [looking.eq(accept), storing.eq(looking & write)]
        with m.If((looking & ~write) | storing):
            m.d.sync += response.valid.eq(1)
        with m.Elif(response.ready):
            m.d.sync += response.valid.eq(0)
        m.d.comb += response.payload.eq(Mux(write, 0, was))

        merged, ones = Signal(WORD_BITS), Signal(WORD_BITS)
        mask = Cat(strobe.replicate(8) for strobe in strobes)
        m.d.comb += [merged.eq((was & ~mask) | (data & mask)), ones.eq(data & mask)]
        for register in self._registers:
            chosen = selected[register.name]
            self._hold(m, register, chosen & storing.replicate(len(chosen)), merged, ones)
        return m

    def _hold(self, m: Module, register: Register, store, merged, ones) -> None:
        """Storage of one register and its writes by hardware and software, word by word."""
        name = register.name
        stored, written = getattr(self, name).as_value(), getattr(self, f"{name}_written")
        if name in self._loadable:
            with m.If(getattr(self, f"{name}_load")):
                following = getattr(self, f"{name}_next").as_value()
                m.d.sync += stored.eq(following & register.mask(Access.RW))
        ones_mask = self._ones_mask(register)
        if ones_mask:
            m.d.sync += getattr(self, f"{name}_ones").eq(0)
        m.d.sync += written.eq(store)
        for part in range(self._words(register)):
            low = WORD_BITS * part
            mask = self._writable[name] >> low & 0xFFFF_FFFF
            window = slice(low, min(low + WORD_BITS, register.width))
            with m.If(store[part]):
                if mask:
                    kept = stored[window] & ~Const(mask, WORD_BITS)
                    m.d.sync += stored[window].eq(kept | (merged & mask))
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
