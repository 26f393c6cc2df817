"""One step of a walk: what a page-table entry means for whoever walks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, Pte
from models.spec.translation import AddressType
from rtl.bus.axi import Resp
from rtl.iommu.requests import Guest, Held

__all__ = [
    "GPA_BITS",
    "Goal",
    "Outcome",
    "Rights",
    "StepKind",
    "WalkState",
    "WalkStep",
    "reversed_bytes",
]

#: Bits of a guest physical address by the levels of the second stage; no more than those of two
#: levels with SXL.
GPA_BITS = {2: 34, 3: 41, 4: 50, 5: 59}
#: Bits of an IOVA by the levels of the first stage.
IOVA_BITS = {2: 32, 3: 39, 4: 48, 5: 57}
_PBMT_RESERVED = 3
_NAPOT_64K = 0b1000
#: Range of a stage that is off.
UNLIMITED = 63


class StepKind(enum.IntEnum, shape=2):
    """Why a walk moves on."""

    START = 0
    READ = 1  # the entry that it had asked for is there
    STORED = 2  # its update of A and D is answered
    RESUME = 3  # the MSI unit is free


class Goal(enum.IntEnum, shape=3):
    """What a walk does next."""

    DONE = 0
    READ = 1  # the entry of ``state``'s table
    FIRST = 2  # begin the first stage at table ``state.table``
    TABLE = 3  # translate the address of the first-stage entry in table ``state.table``
    FINAL = 4  # translate ``state.gpa``
    STORE = 5  # ``data`` over the entry of ``state``'s table, if nobody else did


class Rights(data.Struct):
    """Rights of a leaf."""

    r: 1
    w: 1
    x: 1
    u: 1
    dirty: 1  # W needs no update of D
    pbmt: 2


class WalkState(data.Struct):
    """A walk between two accesses to memory."""

    directory: 1
    second: 1  # in the second stage; else at an entry of the first
    final: 1  # the second stage translates the final address, not a table's
    implicit_write: 1  # the second stage must allow to write a first-stage entry
    locked: 1  # the entry was asked for exclusively
    s_level: 3
    g_level: 3
    table: 44  # page that holds the entry asked for
    gpa: 64  # translated by the second stage; later the entry's that was reached so
    first: Rights
    glob: 1
    size: 6  # of the first stage
    cut: 1  # the first stage's page is larger than that, but for interrupt files in it


class Outcome(data.Struct):
    """What a step decides.  ``cause`` and what follows are of use with DONE."""

    goal: Goal
    state: WalkState
    lock: 1
    data: 64
    cause: 12
    implicit: 1
    implicit_write: 1
    second: Rights
    ppn: 44
    size: 6
    table_first: 1  # a first-stage table of the state's s_level was found at page ``found``
    table_second: 1  # likewise a second-stage table of the state's g_level
    found: 44


def reversed_bytes(value):
    """Bytes in the opposite order."""
    count = len(value) // 8
    return Cat(value[8 * (count - 1 - n) : 8 * (count - n)] for n in range(count))


class WalkStep(wiring.Component):
    """Decides from a walk's state and what memory answered.  Combinational.

    Privileged Architecture, "Virtual Address Translation Process" and "Two-Stage Address
    Translation"; specification, "Process to translate an IOVA" steps 17 to 19 and "IOMMU updating
    of PTE accessed (A) and dirty (D) updates".

    Members
    -------
    kind : ``In(StepKind)``
    state : ``In(WalkState)``
        Not of use with START.
    held : ``In(Held)``
        The request with its context.
    guest : ``In(Guest)``
        In place of the context's second stage for the directory's walks.
    start_directory : ``In(1)``; start_gpa : ``In(64)``
        For START.
    answer : ``In(64)``; resp : ``In(Resp)``
        What memory answered.
    be : ``In(1)``
        fctl.BE.
    outcome : ``Out(Outcome)``
    s_levels, g_levels : ``Out(3)``
        Stages of this walk.
    directory : ``Out(1)``
        It is the directory's.
    executes : ``Out(1)``
        It is for a read for execute.
    access_fault, guest_fault : ``Out(12)``
        Causes by the kind of access.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "kind": In(StepKind),
                "state": In(WalkState),
                "held": In(Held),
                "guest": In(Guest),
                "start_directory": In(1),
                "start_gpa": In(64),
                "answer": In(64),
                "resp": In(Resp),
                "be": In(1),
                "outcome": Out(Outcome),
                "s_levels": Out(3),
                "g_levels": Out(3),
                "directory": Out(1),
                "executes": Out(1),
                "access_fault": Out(12),
                "guest_fault": Out(12),
            }
        )

    def elaborate(self, platform):
        m = Module()
        held, state = self.held, self.state
        request, context = held.request, held.context
        m.d.comb += self.directory.eq(
            Mux(self.kind == StepKind.START, self.start_directory, state.directory)
        )
        # Stages
        self.gade = Signal()
        by_gpa = self.directory | (request.at == AddressType.TRANSLATED)
        m.d.comb += [
            self.g_levels.eq(Mux(self.directory, self.guest.g_levels, context.g_levels)),
            self.s_levels.eq(Mux(by_gpa, 0, context.s_levels)),
            self.gade.eq(Mux(self.directory, self.guest.gade, context.gade)),
        ]
        # What the request wants, and the causes that it is refused with
        self.strict = request.at != AddressType.ATS_REQUEST
        self.supervisor = request.pv & request.priv
        self.read = ~self.strict | request.also_read | ~(request.write | request.exec)
        self.causes = {}
        for name, codes in (
            ("access", (Cause.INSTRUCTION_ACCESS_FAULT, Cause.WRITE_ACCESS_FAULT, 5)),
            ("page", (Cause.INSTRUCTION_PAGE_FAULT, Cause.WRITE_PAGE_FAULT, 13)),
            ("guest", (Cause.INSTRUCTION_GUEST_PAGE_FAULT, Cause.WRITE_GUEST_PAGE_FAULT, 21)),
        ):
            execute, write, read = codes
            self.causes[name] = Mux(
                request.exec & self.strict, execute, Mux(request.write, write, read)
            )
        out = self.outcome
        m.d.comb += [
            out.state.eq(state),
            self.executes.eq(request.exec & self.strict),
            self.access_fault.eq(self.causes["access"]),
            self.guest_fault.eq(self.causes["guest"]),
        ]
        pte = self._entry(m)
        with m.Switch(self.kind):
            with m.Case(StepKind.START):
                self._start(m)
            with m.Case(StepKind.RESUME):
                m.d.comb += out.goal.eq(Goal.FINAL)
            with m.Case(StepKind.STORED):
                # Whoever was faster, the entry is looked at again.
                m.d.comb += [out.goal.eq(Goal.READ), out.state.locked.eq(0)]
                self._errors(m, Resp.OKAY)
            with m.Case(StepKind.READ):
                with m.If(state.second):
                    self._second_stage(m, pte)
                with m.Else():
                    self._first_stage(m, pte)
                # Memory without exclusive accesses cannot hold entries that are to be updated.
                self._errors(m, Mux(state.locked, Resp.EXOKAY, Resp.OKAY))
        return m

    def _errors(self, m: Module, good) -> None:
        """End a walk whose access failed."""
        out = self.outcome
        fails = (self.resp == Resp.DECERR) | (self.resp == Resp.SLVERR)
        with m.If(fails | ((good == Resp.EXOKAY) & (self.resp != Resp.EXOKAY))):
            m.d.comb += [
                out.goal.eq(Goal.DONE),
                out.cause.eq(
                    Mux(self.resp == Resp.SLVERR, Cause.PT_CORRUPTION, self.causes["access"])
                ),
                out.implicit.eq(0),
                out.implicit_write.eq(0),
                out.table_first.eq(0),
                out.table_second.eq(0),
            ]

    def _entry(self, m: Module):
        """The entry in the byte order and the width of its stage."""
        config, state = self.config, self.state
        word = Signal(64)
        m.d.comb += word.eq(self.answer)
        self.big = Signal()
        self.narrow = Signal()
        if config.end:
            m.d.comb += self.big.eq(Mux(state.second, self.be, self.held.context.sbe))
        if config.sv32 or config.sv32x4:
            m.d.comb += self.narrow.eq(Mux(state.second, self.g_levels, self.s_levels) == 2)
        swapped = Signal(64)
        m.d.comb += swapped.eq(Mux(self.big, reversed_bytes(word), word))
        pte = Signal(Pte)
        m.d.comb += pte.eq(swapped)
        if config.sv32 or config.sv32x4:
            address = Mux(state.second, state.gpa, self.held.request.iova)
            level = Mux(state.second, state.g_level, state.s_level)
            self.upper = Mux(level == 0, address[12], address[22])
            half = Mux(self.upper ^ self.big, swapped[32:], swapped[:32])
            with m.If(self.narrow):
                m.d.comb += pte.eq(half)
        return pte

    def _stored(self, m: Module, pte, bits) -> None:
        """Bytes of an entry with more bits set, where its access had them."""
        config = self.config
        value = Signal(64)
        m.d.comb += value.eq(pte.as_value() | bits)
        if config.sv32 or config.sv32x4:
            with m.If(self.narrow):
                m.d.comb += value.eq((pte.as_value()[:32] | bits).replicate(2))
        m.d.comb += self.outcome.data.eq(Mux(self.big, reversed_bytes(value), value))

    def _start(self, m: Module) -> None:
        """First goal of a walk, or its end before any."""
        out, context, request = self.outcome, self.held.context, self.held.request
        state, iova = out.state, request.iova
        by_gpa = self.s_levels == 0
        m.d.comb += [
            state.eq(0),
            state.directory.eq(self.directory),
            state.first.r.eq(1),
            state.first.w.eq(1),
            state.first.x.eq(1),
            state.first.u.eq(1),
            state.first.dirty.eq(1),
            state.size.eq(self._unlimited()),
            state.gpa.eq(Mux(self.directory, self.start_gpa, iova)),
            state.final.eq(by_gpa & ~self.directory),
            state.second.eq(by_gpa),
            state.s_level.eq(self.s_levels - 1),
            state.table.eq(context.s_ppn),
            out.goal.eq(Mux(by_gpa, Goal.FINAL, Goal.FIRST)),
        ]
        wrong = Signal()
        with m.Switch(self.s_levels):
            for levels, bits in IOVA_BITS.items():
                with m.Case(levels):
                    tail = iova[bits:] if levels == 2 else iova[bits - 1 :]
                    m.d.comb += wrong.eq(tail.any() if levels == 2 else tail.any() & ~tail.all())
        with m.If(wrong):
            m.d.comb += [out.goal.eq(Goal.DONE), out.cause.eq(self.causes["page"])]

    def _unlimited(self):
        """Range of a first stage that is off."""
        if not (self.config.sv32 or self.config.sv32x4):
            return UNLIMITED
        return Mux(self.held.context.sxl & (self.g_levels != 0), GPA_BITS[2], UNLIMITED)

    def _geometry(self, m: Module, pte, level, name: str):
        """Whether a leaf is well placed, its size, and the mask of its offset in pages."""
        size, low = Signal(6, name=f"{name}_size"), Signal(44, name=f"{name}_low")
        bad = Signal(name=f"{name}_bad")
        with m.Switch(level):
            for number in range(5):
                with m.Case(number):
                    m.d.comb += [size.eq(12 + 9 * number), low.eq((1 << 9 * number) - 1)]
        if self.config.sv32 or self.config.sv32x4:
            with m.If(self.narrow & (level == 1)):
                m.d.comb += [size.eq(22), low.eq((1 << 10) - 1)]
        with m.If(pte.n):
            m.d.comb += [size.eq(16), low.eq(0xF)]
        m.d.comb += bad.eq(
            Mux(pte.n, (level != 0) | (pte.ppn[:4] != _NAPOT_64K), (pte.ppn & low).any())
        )
        return bad, size, low

    def _reserved(self, pte, leaf, level):
        """Encodings that no entry may have."""
        config = self.config
        pbmt = pte.pbmt == _PBMT_RESERVED if config.svpbmt else pte.pbmt.any()
        software = Const(0, 1) if config.svrsw60t59b else pte.rsw2.any()
        pointer = ~leaf & (Cat(pte.a, pte.d, pte.u, pte.n, pte.pbmt).any() | (level == 0))
        return ~pte.v | pte.reserved.any() | (pte.w & ~pte.r) | pbmt | software | pointer

    def _accessed(self, m: Module, pte, wants_write, strict, update, name: str):
        """A and D: whether they refuse, or are to be updated; and the bits to set."""
        need = Signal(2, name=f"{name}_need")
        m.d.comb += need.eq(Cat(~pte.a, wants_write & pte.w & ~pte.d))
        if not self.config.amo_hwad:
            update = Const(0, 1)
        refused = ~update & (need[0] | (need.any() & strict))
        return refused, update & need.any(), need << 6

    def _rights(self, m: Module, rights, pte) -> None:
        m.d.comb += [
            rights.r.eq(pte.r),
            rights.w.eq(pte.w),
            rights.x.eq(pte.x),
            rights.u.eq(pte.u),
            rights.dirty.eq(pte.d),
            rights.pbmt.eq(pte.pbmt),
        ]

    def _first_stage(self, m: Module, pte) -> None:
        out, state = self.outcome, self.state
        request, context = self.held.request, self.held.context
        leaf = pte.r | pte.x
        bad, size, low = self._geometry(m, pte, state.s_level, "first")
        # Supervisors reach user pages with SUM only, and never execute from them.
        refused = Mux(pte.u, self.supervisor & ~context.sum, ~self.supervisor)
        execute = pte.x & ~(self.supervisor & pte.u)
        missing = self.strict & (
            (self.read & ~pte.r) | (request.write & ~pte.w) | (request.exec & ~execute)
        )
        unfit, updates, bits = self._accessed(
            m, pte, request.write, self.strict, context.sade, "first"
        )
        fault = self._reserved(pte, leaf, state.s_level) | (
            leaf & (bad | refused | missing | unfit)
        )
        target = Signal(56, name="first_target")
        iova = request.iova
        m.d.comb += [
            target.eq(Cat(iova[:12], (pte.ppn & ~low) | (iova[12:56] & low))),
            out.state.glob.eq(state.glob | pte.g),
        ]
        two = self.g_levels != 0
        with m.If(fault):
            m.d.comb += [out.goal.eq(Goal.DONE), out.cause.eq(self.causes["page"])]
        with m.Elif(~leaf):
            m.d.comb += [
                out.goal.eq(Mux(two, Goal.TABLE, Goal.READ)),
                out.state.s_level.eq(state.s_level - 1),
                out.state.table.eq(pte.ppn),
                out.state.final.eq(0),
                out.state.second.eq(two),
                out.state.implicit_write.eq(0),
                out.state.locked.eq(0),
                out.table_first.eq(~two),
                out.found.eq(pte.ppn),
            ]
        with m.Elif(updates):
            # The second stage must allow the store, before the entry is asked for exclusively.
            ask = two & ~state.implicit_write
            m.d.comb += [
                out.goal.eq(Mux(ask, Goal.TABLE, Mux(state.locked, Goal.STORE, Goal.READ))),
                out.lock.eq(1),
                out.state.locked.eq(1),
                out.state.implicit_write.eq(two),
                out.state.glob.eq(state.glob),
            ]
            with m.If(ask):
                m.d.comb += [
                    out.state.table.eq(state.gpa[12:56]),
                    out.state.locked.eq(0),
                    out.state.second.eq(1),
                ]
            self._stored(m, pte, bits)
        with m.Else():
            self._rights(m, out.state.first, pte)
            m.d.comb += [
                out.goal.eq(Mux(two, Goal.FINAL, Goal.DONE)),
                out.state.size.eq(size),
                out.state.gpa.eq(target),
                out.state.final.eq(1),
                out.state.second.eq(two),
                out.state.implicit_write.eq(0),
                out.state.locked.eq(0),
                out.ppn.eq(target[12:]),
                out.size.eq(size),
                out.second.r.eq(1),
                out.second.w.eq(1),
                out.second.x.eq(1),
                out.second.dirty.eq(1),
            ]

    def _second_stage(self, m: Module, pte) -> None:
        out, state, request = self.outcome, self.state, self.held.request
        leaf = pte.r | pte.x
        bad, size, low = self._geometry(m, pte, state.g_level, "second")
        # A table is read, and written where A or D change there, whatever the request wants.
        strict = ~state.final | self.strict
        read = ~state.final | self.read
        write = Mux(state.final, request.write, state.implicit_write)
        execute = state.final & request.exec
        missing = strict & ((read & ~pte.r) | (write & ~pte.w) | (execute & ~pte.x))
        unfit, updates, bits = self._accessed(m, pte, write, strict, self.gade, "second")
        fault = self._reserved(pte, leaf, state.g_level) | (leaf & (bad | ~pte.u | missing | unfit))
        target = Signal(44, name="second_target")
        m.d.comb += target.eq((pte.ppn & ~low) | (state.gpa[12:56] & low))
        m.d.comb += [
            out.ppn.eq(target),
            out.size.eq(Mux(size < state.size, size, state.size)),
        ]
        self._rights(m, out.second, pte)
        with m.If(fault):
            m.d.comb += [
                out.goal.eq(Goal.DONE),
                out.cause.eq(self.causes["guest"]),
                out.implicit.eq(~state.final),
                out.implicit_write.eq(~state.final & state.implicit_write),
            ]
        with m.Elif(~leaf):
            m.d.comb += [
                out.goal.eq(Goal.READ),
                out.state.g_level.eq(state.g_level - 1),
                out.state.table.eq(pte.ppn),
                out.state.locked.eq(0),
                out.table_second.eq(~state.directory),
                out.found.eq(pte.ppn),
            ]
        with m.Elif(updates):
            m.d.comb += [
                out.goal.eq(Mux(state.locked, Goal.STORE, Goal.READ)),
                out.lock.eq(1),
                out.state.locked.eq(1),
            ]
            self._stored(m, pte, bits)
        with m.Elif(state.final | state.directory):
            m.d.comb += out.goal.eq(Goal.DONE)
        with m.Else():
            m.d.comb += [
                out.goal.eq(Goal.READ),
                out.state.second.eq(0),
                out.state.locked.eq(0),
                out.state.table.eq(target),
                out.table_first.eq(~state.implicit_write),
                out.found.eq(target),
            ]
