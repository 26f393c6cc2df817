"""Harness of the used ring: what is committed is written once, in order, before it is told."""

from functools import partial

from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Module, Mux, Signal

from rtl.nic.engine.records import ELEMENT_BEAT, SCRATCH_BEATS, QueueSetup, Shapes
from rtl.nic.seams import DmaStatus

from .nic_commit import FEW
from .ports import free, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

QUEUES = FEW.data_queues
#: Entries of the rings, and chains that are committed.
SIZE, CHAINS = 2, 5


def used_ring(module):
    """Follow one of four queues with split rings, whose DMA ends as it likes."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.UsedRing(FEW)
    anyhow, shapes = partial(anything, ports), Shapes(FEW)
    who = constant(m, ports, shapes.queue, "who")
    device = constant(m, ports, 64, "device")
    setup, chains = Signal(QueueSetup), [Signal(16, name=f"chains{q}") for q in range(QUEUES)]
    event_idx, able = constant(m, ports, 1, "event_idx"), Signal(QUEUES, init=-1)
    in_order = constant(m, ports, 1, "in_order")
    read = Signal(16)
    m.d.sync += read.eq(Array(chains)[dut.queue])
    m.d.comb += [
        setup.size.eq(SIZE),
        setup.device.eq(device),
        setup.event_idx.eq(event_idx),
        setup.in_order.eq(in_order),
        dut.setup.eq(setup),
        dut.chains.eq(read),
        dut.committed.eq(anyhow("committed", QUEUES)),
        dut.urgent.eq(anyhow("urgent", QUEUES)),
        dut.flags.eq(anyhow("flags", 32)),
        dut.able.eq(able),
        dut.patient_room.eq(anyhow("patient_room")),
        dut.used.ready.eq(anyhow("used_ready")),
        dut.error.ready.eq(anyhow("error_ready")),
    ]
    m.d.sync += able.eq(able & ~dut.fail & ~anyhow("stops", QUEUES))
    for q in range(QUEUES):
        m.d.comb += Assume(~dut.committed[q] | (chains[q] != CHAINS))
        m.d.sync += chains[q].eq(chains[q] + dut.committed[q])
    take(m, ports, "job", dut.job)
    stable(m, dut.job)
    free(m, ports, "ended", dut.ended)
    job, end, away = dut.job.payload, dut.ended.payload, Signal(QUEUES)
    asks, ends = dut.job.valid & dut.job.ready, dut.ended.valid & dut.ended.ready
    began, over = Signal(QUEUES), Signal(QUEUES)
    m.d.comb += [
        began.eq(Mux(asks, 1 << job.owner.queue, 0)),
        over.eq(Mux(ends, 1 << end.owner.queue, 0)),
        Assume(~dut.ended.valid | away.bit_select(end.owner.queue, 1)),
        Assert((began & away) == 0),
    ]
    m.d.sync += away.eq((away | began) & ~over)
    # Of the followed queue: elements that are written, those of the DMA under way, what is told.
    written, amount, told, number = Signal(16), Signal(16), Signal(16), Signal(16)
    indexing, flagging = Signal(), Signal()
    mine, well = asks & (job.owner.queue == who), Signal()
    last, again = Signal(shapes.job), Signal()
    place = Signal(1)
    m.d.comb += [
        well.eq(ends & (end.owner.queue == who) & (end.status == DmaStatus.OK)),
        place.eq(written),
    ]
    index = job.write & (job.iova == (device + 2)[:64])
    elements = job.write & ~index
    at = (job.owner.queue * SCRATCH_BEATS + ELEMENT_BEAT) << 4
    # One element stands for all up to it.
    skips, count = in_order & who[0], Signal(16)
    m.d.comb += count.eq(Mux(skips, ((job.offset - at) >> 3) + 1 - written, job.length >> 3))
    with m.If(mine):
        m.d.sync += [
            amount.eq(Mux(elements, count, 0)),
            indexing.eq(index),
            flagging.eq(~job.write),
            last.eq(job),
        ]
    with m.If(ends & (end.owner.queue == who)):
        m.d.sync += again.eq(end.status == DmaStatus.ABSENT)
    with m.If(well):
        m.d.sync += written.eq(written + amount)
        with m.If(indexing):
            m.d.sync += told.eq(written)
    with m.If(dut.number_en & (dut.queue == who)):
        m.d.sync += number.eq(dut.number)
    flushes = dut.flushed_en & (dut.flushed_queue == who)
    m.d.comb += [
        # Elements follow one another, in the ring and in scratch memory; none is there twice.
        Assert(~(mine & elements) | (job.iova == (device + 4 + (place << 3))[:64])),
        Assert(~(mine & elements) | (job.length[:3] == 0) & (count != 0)),
        Assert(~(mine & elements) | (place + (job.length >> 3) <= SIZE)),
        Assert(~(mine & elements & skips) | (job.length == 8)),
        Assert(~(mine & elements) | (written + count <= Array(chains)[who])),
        Assert(~(mine & elements & ~skips) | (job.offset == at + (written << 3))),
        # The index says what has been written, and what has been told goes on from there.
        Assert(~(mine & index) | (job.length == 2) & (number == written) & (written != told)),
        Assert(~(mine & ~job.write) | (told == written)),
        Assert(~flushes | (dut.flushed == told) & (told == written)),
        # What met a page that is not there is asked for again, as it was.
        Assert(~(mine & again) | Cat(job.iova == last.iova, job.length == last.length).all()),
        Assert(~mine | (job.patient == again)),
        Cover(mine & index & (written == 3) & (told == 0) & ~skips),
        Cover(mine & elements & skips & (count == 3)),
        Cover(mine & elements & (told == 1)),
        Cover(flagging & again & mine),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="used-ring",
        claim="elements of committed chains are written one after another, each once, inside the "
        "ring; the index tells of exactly those that are written; of a transmitter that is in "
        "order one element stands for all up to it",
        module="rtl.nic.engine.used_ring",
        harness=used_ring,
        depth=20,
        quick=0,
        reach=42,
        assumptions=(
            f"four queues with split rings of {SIZE} entries, all at one address, with event index "
            f"or without, {CHAINS} chains each",
            "a DMA ends once, in any way; a queue that has failed, or is stopped, is not able any "
            "more; none begins again",
        ),
        covers=(
            "a batch of three is told, written in two parts",
            "one element of a queue in order that stands for three",
            "the second batch",
            "the flags are read again",
        ),
        plants=(
            Plant(
                name="elements go beyond the end of the ring",
                old="room.eq(size - (s.written & (size - 1)))",
                new="room.eq(size + 1 - (s.written & (size - 1)))",
                depth=26,
            ),
            Plant(
                name="the index tells of what was committed meanwhile",
                old="self.number.eq(self.s.target)",
                new="self.number.eq(self.chains)",
            ),
            Plant(
                name="the index is told with the rest of the batch unwritten",
                old="with m.If(written != s.target):",
                new="with m.If(0):",
                depth=20,
            ),
        ),
    ),
)
