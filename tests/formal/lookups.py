"""Harness of the pipeline: a lookup reads its own set of the IOTLB, or says that it does not."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Module, Signal

from models.spec.config import IommuConfig
from models.spec.iotlb import iotlb_set

from .ports import free, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Sets of the IOTLB, and contexts: the table of VMs has four rows.
SETS, CONTEXTS = 8, 1
#: Cycles after a lookup in which its VM is written down.
WRITTEN = 2


def lookups(module):
    """Contexts, replays and invalidations of any behaviour."""
    m, ports = Module(), []
    config = IommuConfig(context_entries=CONTEXTS, iotlb_sets=SETS)
    m.submodules.dut = dut = module.Pipeline(config)
    whatever = partial(anything, ports)
    free(m, ports, "request", dut.request)
    free(m, ports, "again", dut.again)
    take(m, ports, "verdict", dut.verdict)
    for name in ("directory", "context", "process", "replay_held"):
        target = getattr(dut, name).as_value()
        m.d.comb += target.eq(whatever(name, len(target)))
    for name in ("context_hit", "process_hit", "replay_valid", "room", "pause", "transfer"):
        m.d.comb += getattr(dut, name).eq(whatever(name))
    # The IOTLB is cleared after reset, and never waits afterwards.
    cleared = Signal()
    m.d.comb += dut.lookup.ready.eq(whatever("ready") | cleared)
    m.d.sync += cleared.eq(dut.lookup.ready)
    context = dut.context
    m.d.comb += Assume((context.g_levels != 0) | (context.gscid == 0))

    named, lookup = Signal.like(dut.next_set), dut.lookup.payload
    m.d.sync += named.eq(dut.next_set)
    here = named == iotlb_set(lookup.key.vpn, lookup.key.gscid, SETS)

    # One device that stays in one VM, as do others that share its row: who comes in when that has
    # been written down looks in the right set.
    device, vm = constant(m, ports, 24, "the_device"), constant(m, ports, 16, "the_vm")
    row = module._rows(config) - 1
    looks = dut.lookup.valid & ((lookup.device_id & row) == (device & row))
    enters = dut.replay_taken | dut.accepted | (dut.again.valid & dut.again.ready)
    leaves = dut.verdict.valid & dut.verdict.ready
    inside, since, before = Signal(range(3)), Signal(range(WRITTEN + 2)), Signal(range(3))
    m.d.comb += Assume(~looks | (lookup.key.gscid == vm))
    m.d.sync += [
        inside.eq(inside + enters - leaves),
        since.eq(since + ((looks | (since != 0)) & (since != WRITTEN + 1))),
    ]
    with m.If(since < WRITTEN):
        m.d.sync += before.eq(inside + enters - leaves)
    with m.Elif(leaves & (before != 0)):
        m.d.sync += before.eq(before - 1)
    known = (since >= WRITTEN) & (before == 0)
    m.d.comb += [
        Assert(~dut.lookup.valid | (lookup.elsewhere != here)),
        Assert(~(looks & known) | ~lookup.elsewhere),
        Cover(looks & lookup.elsewhere),
        Cover(looks & known & (vm[:3] != 0) & (lookup.device_id == device)),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="lookups",
        claim="a lookup is of the set that was named a cycle before or says that it is elsewhere; "
        "a device whose VM is known is never elsewhere",
        module="rtl.iommu.pipeline",
        harness=lookups,
        depth=12,
        quick=8,
        assumptions=(
            "requests on offer stay; the IOTLB is ready from some cycle on",
            "GSCID is 0 without a second stage",
            "of the second claim: devices that share a row of the table are of one VM",
        ),
        covers=("a device's first lookup", "one in the set that its VM has"),
        plants=(
            Plant(
                name="the set is not compared",
                old="payload.elsewhere.eq(self.vm != vm)",
                new="payload.elsewhere.eq(0)",
            ),
            Plant(
                name="a request that waits has the next one's set",
                old="Mux(moves, self._set(first, vm), self._set(self.held, self.vm))",
                new="self._set(first, vm)",
            ),
            Plant(
                name="the VM of another request goes along",
                old="self.vm.eq(vm),\n",
                new="self.vm.eq(self.vm_read.data),\n",
            ),
            Plant(
                name="what is elsewhere is not written down",
                old="self.vm_write.en.eq(looked & elsewhere)",
                new="self.vm_write.en.eq(0)",
            ),
        ),
    ),
)
