"""Harness of the caches of contexts: they answer from fills that no later invalidation covers."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Shape, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig

from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Two sets of four ways.
CONFIG = IommuConfig(context_entries=8, process_entries=8, device_id_bits=3, pd8=True)
#: Bits of IDs that are free, and of each member of a context.
DEVICE, PROCESS, MEMBER = 3, 2, 2


class _Devices:
    """What an invalidation is about, and how the ports of the cache of devices are called."""

    def __init__(self, m: Module, ports: list, module) -> None:
        self.dut = dut = module.ContextCache(CONFIG)
        self.asked, self.filled, self.cleared = (
            anything(ports, name, DEVICE) for name in ("asked", "filled", "cleared")
        )
        m.d.comb += [
            dut.device_id.eq(self.asked),
            dut.fill_id.eq(self.filled),
            dut.clear_id.eq(self.cleared),
        ]
        self.fill, self.found = dut.fill_context, dut.context
        self.members = module._stored(CONFIG).members

    def covers(self, key):
        """What it must forget; and what it may."""
        dut = self.dut
        all_ = dut.clear_en & (dut.clear_all | (self.cleared == key))
        return all_, all_


class _Processes:
    """The same of the cache of processes."""

    def __init__(self, m: Module, ports: list, module) -> None:
        self.dut = dut = module.ProcessCache(CONFIG)
        self.asked, self.filled, self.cleared = (
            anything(ports, name, DEVICE + PROCESS) for name in ("asked", "filled", "cleared")
        )
        m.d.comb += [
            Cat(dut.device_id[:DEVICE], dut.process_id[:PROCESS]).eq(self.asked),
            dut.place.eq(dut.device_id ^ dut.process_id),
            Cat(dut.fill_device[:DEVICE], dut.fill_process[:PROCESS]).eq(self.filled),
            Cat(dut.clear_device[:DEVICE], dut.clear_process[:PROCESS]).eq(self.cleared),
            dut.clear_process_en.eq(anything(ports, "one")),
        ]
        self.fill, self.found = dut.fill_state, dut.process
        self.members = self.fill.shape().as_shape().members

    def covers(self, key):
        """What it must forget; and what it may."""
        dut = self.dut
        one, device = self.cleared == key, self.cleared[:DEVICE] == key[:DEVICE]
        whole = dut.clear_all | ~dut.clear_process_en
        must = dut.clear_all | (dut.clear_process_en & one) | (~dut.clear_process_en & device)
        return dut.clear_en & must, dut.clear_en & (whole | one)


def _narrow(kind, raw):
    """Content with fewer free bits, of members that are stored."""
    parts = []
    for name, field in data.Layout.cast(kind.fill.shape()):
        free = min(MEMBER, Shape.cast(kind.members.get(name, 0)).width)
        parts += [raw[field.offset : field.offset + free], Const(0, field.width - free)]
    return Cat(*parts)


def _harness(module, *, cache):
    """Follow one arbitrary key and what is known of it."""
    m, ports = Module(), []
    kind = cache(m, ports, module)
    m.submodules.dut = dut = kind.dut

    free = partial(anything, ports)

    fill, found, width = kind.fill, kind.found.as_value(), len(kind.fill.as_value())
    key = constant(m, ports, len(kind.asked), "the_key")
    content = _narrow(kind, constant(m, ports, width, "the_content"))
    before = Signal.like(kind.filled)
    m.d.sync += before.eq(kind.filled)
    m.d.comb += [
        dut.fill_en.eq(free("fill_en")),
        fill.as_value().eq(_narrow(kind, free("fill", width))),
        dut.clear_en.eq(free("clear_en")),
        dut.clear_all.eq(free("clear_all")),
        Assume(~dut.fill_en | (kind.filled == before)),
    ]
    must, may = kind.covers(key)
    mine = dut.fill_en & (kind.filled == key)
    maps = mine & (fill.as_value() == content)
    # Behind a fill or a clear nothing is kept.
    keeps, kept_before, cleared = Signal(), Signal(), Signal()
    m.d.comb += keeps.eq(dut.fill_en & ~dut.clear_en & ~cleared & ~kept_before)
    alive, replaced, owed, known, gone = (Signal() for _ in range(5))
    m.d.sync += [
        kept_before.eq(keeps),
        cleared.eq(dut.clear_en),
        # What is there in its place is found until the cycle after.
        replaced.eq(mine & keeps & ~maps),
        alive.eq(((alive & ~replaced) | maps) & ~must),
        owed.eq(((maps & keeps) | (owed & ~keeps)) & ~may),
        known.eq(owed),
        gone.eq((gone | (must & alive)) & ~mine),
    ]
    asks = kind.asked == key
    finds = asks & dut.hit & (found == content)
    m.d.comb += [
        Assert(~finds | alive),
        Assert(~(asks & owed & known) | finds),
        Cover(finds & ~owed),
        Cover(asks & owed & known),
        Cover(asks & gone & ~dut.hit),
    ]
    return m, ports


_SHARED = {
    "module": "rtl.iommu.context",
    "depth": 18,
    "quick": 9,
    "assumptions": (
        "what is to be stored is known by its ID since the cycle before",
        "two sets of four ways; IDs of 3 and 2 bits, and two bits of each member",
    ),
    "covers": (
        "an older fill is found",
        "the last fill is found",
        "what an invalidation covers is not found",
    ),
}
PROOFS = (
    Proof(
        name="context-cache",
        claim="a device context is of the last fill that was kept, which no later invalidation "
        "covers; none is lost",
        harness=partial(_harness, cache=_Devices),
        plants=(
            Plant(
                name="what is to be forgotten is found until it is",
                old="match.any() & ~(forgets & (all_ | (wanted == self.key)))",
                new="match.any()",
            ),
            Plant(
                name="a fill beside an invalidation takes away what that spares",
                old="self.fill_en & ~(self.forget | forgets | stores)",
                new="self.fill_en & ~(forgets | stores)",
            ),
            Plant(
                name="a context stays beside the new one of its device",
                old="Mux(found.any(), found[way], victim == way)",
                new="victim == way",
            ),
        ),
        **_SHARED,
    ),
    Proof(
        name="process-cache",
        claim="the same of process contexts",
        harness=partial(_harness, cache=_Processes),
        plants=(
            Plant(
                name="an invalidation of a device's processes forgets one",
                old="self.clear_all | ~self.clear_process_en",
                new="self.clear_all",
            ),
        ),
        **_SHARED,
    ),
)
