"""Page-table walker: many two-stage walks at once, one step per memory answer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Pte
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.iommu.seams import PIPELINE_DEPTH

__all__ = ["Outcome", "WalkResult", "WalkStart", "WalkStatus", "Walker"]

#: Levels of Sv39 and Sv39x4.
_TOP = 2
_INDEX = 9
#: Bits of a GPA under Sv39x4, and of an IOVA under Sv39.
_GPA_BITS = 41
_IOVA_BITS = 39


class WalkStatus(enum.IntEnum, shape=3):
    """How a walk ended."""

    OK = 0
    FIRST_STAGE = 1  # page fault of the first stage
    IMPLICIT = 2  # guest page fault while reaching a first-stage PTE; gpa is the PTE's
    FINAL = 3  # guest page fault on the translated address; gpa is that
    ACCESS = 4  # a PTE could not be read; before the first-stage leaf
    FINAL_ACCESS = 5  # likewise, after it


class Rights(data.Struct):
    """Rights of a leaf."""

    r: 1
    w: 1
    x: 1
    u: 1
    a: 1
    d: 1


class WalkStart(data.Struct):
    """A walk to begin.  ``index`` names it until its result is taken."""

    index: 8
    iova: 64
    g_on: 1
    g_ppn: 44
    s_on: 1
    s_ppn: 44


class WalkResult(data.Struct):
    """Both leaves of a walk, unjudged.  A stage that is off has every right.

    ``size`` is log2 of the range that both stages map alike; ``ppn`` holds the page of the IOVA.
    """

    index: 8
    status: WalkStatus
    gpa: 64
    first: Rights
    second: Rights
    glob: 1
    ppn: 44
    size: 6


class _State(data.Struct):
    """A walk between two memory accesses."""

    iova: 64
    g_on: 1
    g_ppn: 44
    s_on: 1
    second: 1  # in the second stage; else at a first-stage PTE
    final: 1  # the second stage translates the final address, not a PTE's
    s_level: 2
    g_level: 2
    gpa: 56  # being translated by the second stage
    first: Rights
    glob: 1
    size: 6  # of the first-stage leaf


#: Everything is allowed.
_ALL = Const((1 << 6) - 1, 6)


class Outcome(data.Struct):
    """What a step decides: read ``address`` next, or end with ``result``."""

    done: 1
    address: 64
    state: _State
    result: WalkResult


class _Step(wiring.Component):
    """Decides from a walk's state and the PTE it had asked for.  Combinational.

    Section "Process to translate an IOVA", steps 17 to 19; Privileged Architecture, "Virtual
    Address Translation Process" and "Two-Stage Address Translation".
    """

    index: In(8)
    state: In(_State)
    pte: In(Pte)
    bad: In(1)
    outcome: Out(Outcome)

    def elaborate(self, platform):
        m = Module()
        state, pte, out = self.state, self.pte, self.outcome
        result = out.result
        level = Mux(state.second, state.g_level, state.s_level)
        leaf = pte.r | pte.x
        napot = pte.n
        low = Signal(18)  # PPN bits that a superpage must leave 0
        with m.Switch(level):
            with m.Case(1):
                m.d.comb += low.eq((1 << _INDEX) - 1)
            with m.Case(2):
                m.d.comb += low.eq((1 << 2 * _INDEX) - 1)
        invalid = (
            ~pte.v
            | (pte.w & ~pte.r)
            | pte.reserved.any()
            | pte.rsw2.any()
            | pte.pbmt.any()
            | Mux(
                leaf,
                (pte.ppn & low).any() | (napot & ((level != 0) | (pte.ppn[:4] != 0b1000))),
                pte.a | pte.d | pte.u | napot | (level == 0),
            )
        )
        size = Signal(6)
        m.d.comb += size.eq(Mux(napot, 16, 12 + level * _INDEX))
        rights = Signal(Rights)
        m.d.comb += rights.eq(Cat(pte.r, pte.w, pte.x, pte.u, pte.a, pte.d))
        # Address that a leaf gives: its page, with the lower bits of what was translated.
        source = Mux(state.second, state.gpa, state.iova[:56])
        mask, target = Signal(56), Signal(56)
        m.d.comb += [
            mask.eq((Const(1, 57) << size) - 1),
            target.eq(((pte.ppn << 12) & ~mask) | (source & mask)),
        ]
        # Defaults: go on with the same state.
        m.d.comb += [
            out.state.eq(state),
            result.index.eq(self.index),
            result.gpa.eq(state.gpa),
            result.first.eq(state.first),
            result.second.eq(_ALL),
            result.glob.eq(state.glob),
        ]
        with m.If(self.bad):
            m.d.comb += out.done.eq(1)
            m.d.comb += result.status.eq(
                Mux(state.second & state.final, WalkStatus.FINAL_ACCESS, WalkStatus.ACCESS)
            )
        with m.Elif(state.second):
            self._second_stage(m, invalid, leaf, rights, size, target)
        with m.Else():
            self._first_stage(m, invalid, leaf, rights, size, target)
        return m

    def _finish(self, m: Module, target, size) -> None:
        """End with a translation."""
        result = self.outcome.result
        m.d.comb += [
            self.outcome.done.eq(1),
            result.status.eq(WalkStatus.OK),
            result.ppn.eq(target[12:]),
            result.size.eq(size),
        ]

    def _enter_second(self, m: Module, gpa, final) -> None:
        """Translate a GPA by the second stage."""
        out, state = self.outcome, self.state
        index = gpa[30:_GPA_BITS]
        m.d.comb += [
            out.state.second.eq(1),
            out.state.final.eq(final),
            out.state.g_level.eq(_TOP),
            out.state.gpa.eq(gpa),
            out.address.eq((state.g_ppn << 12) + (index << 3)),
        ]
        with m.If(gpa[_GPA_BITS:].any()):
            m.d.comb += [
                out.done.eq(1),
                out.result.gpa.eq(gpa),
                out.result.status.eq(WalkStatus.FINAL if final else WalkStatus.IMPLICIT),
            ]

    def _first_stage(self, m: Module, invalid, leaf, rights, size, target) -> None:
        out, state, pte = self.outcome, self.state, self.pte
        result = out.result
        m.d.comb += [
            out.state.glob.eq(state.glob | pte.g),
            result.glob.eq(state.glob | pte.g),
        ]
        with m.If(invalid):
            m.d.comb += [out.done.eq(1), result.status.eq(WalkStatus.FIRST_STAGE)]
        with m.Elif(leaf):
            m.d.comb += [
                out.state.first.eq(rights),
                result.first.eq(rights),
                out.state.size.eq(size),
            ]
            with m.If(state.g_on):
                self._enter_second(m, target, 1)
            with m.Else():
                self._finish(m, target, size)
        with m.Else():
            table = Signal(56, name="table")
            index = Mux(state.s_level == _TOP, state.iova[21:30], state.iova[12:21])
            m.d.comb += [
                table.eq((pte.ppn << 12) + (index << 3)),
                out.state.s_level.eq(state.s_level - 1),
                out.state.second.eq(0),
                out.address.eq(table),
            ]
            with m.If(state.g_on):
                self._enter_second(m, table, 0)

    def _second_stage(self, m: Module, invalid, leaf, rights, size, target) -> None:
        out, state, pte = self.outcome, self.state, self.pte
        result = out.result
        fault = invalid | (leaf & ~pte.u)
        # Reaching a first-stage PTE is a read.
        fault_implicit = leaf & ~state.final & (~pte.r | ~pte.a)
        with m.If(fault | fault_implicit):
            m.d.comb += [
                out.done.eq(1),
                result.status.eq(Mux(state.final, WalkStatus.FINAL, WalkStatus.IMPLICIT)),
            ]
        with m.Elif(leaf & state.final):
            m.d.comb += result.second.eq(rights)
            self._finish(m, target, Mux(~state.s_on | (size < state.size), size, state.size))
        with m.Elif(leaf):
            m.d.comb += [out.state.second.eq(0), out.address.eq(target)]
        with m.Else():
            index = Mux(state.g_level == _TOP, state.gpa[21:30], state.gpa[12:21])
            m.d.comb += [
                out.state.g_level.eq(state.g_level - 1),
                out.address.eq((pte.ppn << 12) + (index << 3)),
            ]


class Walker(wiring.Component):
    """Advances as many walks as the miss table has entries, their states in RAM, one step a cycle.

    Latency
    -------
    From an accepted read address to the next one of the same walk: the memory's latency + 2.

    Members
    -------
    start : ``In(stream.Signature(WalkStart))``
        Begins walk ``index``, which must not be under way.
    result : ``Out(stream.Signature(WalkResult))``
        Ends one.
    memory : ``Out(Axi4(...))``
        Reads of 8 bytes, the walk as ID.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.id_width = (config.misses + PIPELINE_DEPTH - 1).bit_length()
        super().__init__(
            {
                "start": In(stream.Signature(WalkStart)),
                "result": Out(stream.Signature(WalkResult)),
                "memory": Out(
                    Axi4(addr_width=config.pas, data_width=64, id_width=self.id_width, write=False)
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.states = states = memory.Memory(
            shape=_State, depth=self.config.misses + PIPELINE_DEPTH, init=[]
        )
        read, write = states.read_port(), states.write_port()
        m.submodules.step = step = _Step()
        ar, r = self.memory.ar, self.memory.r

        # An answer is taken while the step before it can leave; its state is read meanwhile.
        pending, index = Signal(), Signal(8)
        pte, bad = Signal(64), Signal()
        out, can_leave = step.outcome, Signal()
        beyond = Signal()
        taken = Signal()
        m.d.comb += [
            r.ready.eq(~pending | can_leave),
            read.addr.eq(Mux(r.ready, r.payload.id, index)),
            read.en.eq(1),
            step.index.eq(index),
            step.state.eq(read.data),
            step.pte.eq(pte),
            step.bad.eq(bad),
        ]
        with m.If(r.ready):
            m.d.sync += [
                pending.eq(r.valid),
                index.eq(r.payload.id),
                pte.eq(r.payload.data),
                bad.eq(r.payload.resp != Resp.OKAY),
            ]

        # Steps share the address register with new walks, and come first.
        first = Signal(Outcome)
        self._begin(m, first)
        chosen, valid = Signal(Outcome), Signal()
        result_free = ~self.result.valid | self.result.ready
        address_free = ~ar.valid | ar.ready
        m.d.comb += [
            chosen.eq(Mux(pending, out.as_value(), first.as_value())),
            valid.eq(pending | self.start.valid),
            beyond.eq(chosen.address[self.config.pas :].any()),
            taken.eq(valid & Mux(chosen.done | beyond, result_free, address_free)),
            can_leave.eq(pending & taken),
            self.start.ready.eq(~pending & taken),
            write.addr.eq(Mux(pending, index, self.start.payload.index)),
            write.data.eq(chosen.state),
            write.en.eq(taken & ~chosen.done & ~beyond),
        ]
        with m.If(ar.ready):
            m.d.sync += ar.valid.eq(0)
        with m.If(self.result.ready):
            m.d.sync += self.result.valid.eq(0)
        with m.If(taken):
            with m.If(chosen.done | beyond):
                m.d.sync += [self.result.valid.eq(1), self.result.payload.eq(chosen.result)]
                with m.If(~chosen.done):
                    m.d.sync += self.result.payload.status.eq(
                        Mux(
                            chosen.state.second & chosen.state.final,
                            WalkStatus.FINAL_ACCESS,
                            WalkStatus.ACCESS,
                        )
                    )
            with m.Else():
                m.d.sync += [
                    ar.valid.eq(1),
                    ar.payload.addr.eq(chosen.address),
                    ar.payload.id.eq(write.addr),
                    ar.payload.size.eq(3),
                    ar.payload.burst.eq(Burst.INCR),
                ]
        return m

    def _begin(self, m: Module, out) -> None:
        """First access of a walk, or its end before any."""
        start, state = self.start.payload, out.state
        iova, tail = start.iova, start.iova[_IOVA_BITS - 1 :]
        table = Signal(56, name="root")
        gpa = Signal(64, name="start_gpa")
        m.d.comb += [
            table.eq((start.s_ppn << 12) + (iova[30:39] << 3)),
            gpa.eq(Mux(start.s_on, table, iova)),
            state.iova.eq(iova),
            state.g_on.eq(start.g_on),
            state.g_ppn.eq(start.g_ppn),
            state.s_on.eq(start.s_on),
            state.second.eq(start.g_on),
            state.final.eq(~start.s_on),
            state.s_level.eq(_TOP),
            state.g_level.eq(_TOP),
            state.gpa.eq(gpa),
            state.first.eq(_ALL),
            state.size.eq(63),
            out.result.index.eq(start.index),
            out.result.gpa.eq(gpa),
            out.result.first.eq(_ALL),
            out.result.second.eq(_ALL),
            out.address.eq(Mux(start.g_on, (start.g_ppn << 12) + (gpa[30:_GPA_BITS] << 3), table)),
        ]
        with m.If(start.s_on & ~(tail.all() | ~tail.any())):
            m.d.comb += [out.done.eq(1), out.result.status.eq(WalkStatus.FIRST_STAGE)]
        with m.Elif(start.g_on & gpa[_GPA_BITS:].any()):
            m.d.comb += out.done.eq(1)
            m.d.comb += out.result.status.eq(Mux(start.s_on, WalkStatus.IMPLICIT, WalkStatus.FINAL))
