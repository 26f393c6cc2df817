"""Harness of commit: every chain is returned once, with what its frame has come to."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.nic import Stat
from rtl.nic.engine.records import RingKind, Shapes
from rtl.nic.seams import LocalMemory

from .ports import take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: What the block looks at of a configuration: two functions with a queue pair each.
FEW = SimpleNamespace(
    functions=2,
    queue_pairs=1,
    data_queues=4,
    frame_bytes=2048,
    tx_quota=1,
    rx_quota=1,
    engine_tags=4,
    segmentation=False,
)
#: Queues of a direction, and packets that each has in a proof.
QUEUES, PACKETS = 2, 3
#: Cycles in which everything is taken until the books balance, at the most.
BALANCED = 12


def _read(m: Module, values, number):
    """What a RAM of one of ``values`` per queue answers."""
    read = Signal.like(values[0])
    m.d.sync += read.eq(Array(values)[number])
    return read


def _total(m: Module, name: str, event):
    """Count events."""
    total = Signal(range(2 * PACKETS), name=name)
    m.d.sync += total.eq(total + event)
    return total


def _lane(m: Module, ports: list, dut):
    """What the lane keeps for commit; returns records, what has ended, and who drains."""
    anyhow, shapes = partial(anything, ports), Shapes(FEW)
    layout, ring = shapes.record, RingKind.as_shape()
    records, places, built, flushed, ended, kinds = ([] for _ in range(6))
    drains = Signal(QUEUES)
    for q in range(QUEUES):
        kinds.append(data.View(RingKind, constant(m, ports, ring.size, f"ring{q}")))
        places.append(Signal(shapes.place, name=f"place{q}"))
        built.append(Signal(shapes.packet + 1, name=f"built{q}"))
        flushed.append(Signal(16, name=f"flushed{q}"))
        ended.append(Signal(PACKETS, name=f"ended{q}"))
        builds, ends, flushes = anyhow(f"builds{q}"), anyhow(f"ends{q}", PACKETS), anyhow(f"f{q}")
        m.d.sync += [
            built[q].eq(built[q] + builds),
            ended[q].eq(ended[q] | ends),
            flushed[q].eq(Mux(flushes, places[q].chains, flushed[q])),
        ]
        m.d.comb += Assume(~builds | (built[q] < PACKETS))
        for n in range(PACKETS):
            record = Signal(layout, name=f"record{q}{n}")
            raw = data.View(layout, constant(m, ports, layout.size, f"raw{q}{n}"))
            m.d.comb += [
                Assume(~ends[n] | (n < built[q])),
                record.eq(raw),
                record.slot.eq(n),
                record.memory.eq(LocalMemory.TX),
                record.has_slot.eq(~raw.touch),
                record.pieces.eq(1),
                record.large.eq(0),
                record.more.eq(0),
            ]
            records.append(record)
        with m.If(dut.move_en & (dut.move_queue == q)):
            m.d.sync += places[q].eq(dut.moved)
    number = Signal(range(QUEUES * PACKETS))
    m.d.comb += number.eq(dut.queue * PACKETS + Mux(dut.packet < PACKETS, dut.packet, 0))
    statuses = [constant(m, ports, 3, f"status{n}") for n in range(QUEUES * PACKETS)]
    m.d.comb += [
        dut.record.eq(_read(m, records, number)),
        dut.outcome.status.eq(_read(m, statuses, number)),
        dut.outcome.count.eq(_read(m, list(Cat(ended)), number)),
        dut.place.eq(_read(m, places, dut.queue)),
        dut.built.eq(_read(m, built, dut.queue)),
        dut.flushed.eq(_read(m, flushed, dut.queue)),
        dut.ring.eq(_read(m, kinds, dut.queue)),
        dut.progress.eq(anyhow("progress", QUEUES)),
        dut.settled.eq(anyhow("settled", QUEUES)),
        dut.flushing.eq(anyhow("flushing", QUEUES)),
        dut.cleared.eq(anyhow("cleared")),
        dut.header.eq(anyhow("header", 16)),
        dut.draining.eq(drains),
        dut.error.ready.eq(1),
    ]
    m.d.sync += drains.eq(drains | dut.rewind | dut.fail | anyhow("halts", QUEUES))
    return records, ended, drains


def commit(module):
    """Follow one of two queues that transmit."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.Commit(FEW, transmits=True)
    records, ended, drains = _lane(m, ports, dut)
    who = constant(m, ports, 1, "who")
    # Used elements: of the oldest packet that has ended, one after another.
    uses = dut.used_en & (dut.queue == who)
    used = _total(m, "used", uses)
    heads = Array(record.head for record in records)
    at = Signal(range(QUEUES * PACKETS))
    m.d.comb += [
        at.eq(who * PACKETS + Mux(used < PACKETS, used, 0)),
        Assert(~uses | (used < PACKETS)),
        Assert(~uses | (dut.used.id == heads[at])),
        Assert(~uses | (dut.used_at == used) & (dut.used.len == 0)),
        Assert(~uses | Array(list(Cat(ended)))[at]),
    ]
    # Where slots go: once, in order.
    for name, port in (("sent", dut.tx_frame), ("given", dut.release), ("stat", dut.stat)):
        take(m, ports, name, port)
    sends, gives, counts = (
        port.valid & port.ready & (port.payload.function == who)
        for port in (dut.tx_frame, dut.release, dut.stat)
    )
    sent_slot = dut.tx_frame.payload.frame.slot
    given_slot = dut.release.payload.frame.slot
    gone, latest = Signal(4), Signal(4)
    out = Mux(sends, 1 << sent_slot[:2], 0)[:4]
    back = Mux(gives, 1 << given_slot[:2], 0)[:4]
    m.d.sync += gone.eq(gone | out | back)
    with m.If(sends):
        m.d.sync += latest.eq(1 << sent_slot[:2])
    m.d.comb += [
        Assert((gone & (out | back)) == 0),
        Assert((out & back) == 0),
        Assert(~sends | (out > latest)),
    ]
    # Every chain that is returned is a frame that was handed on or counted as dropped.
    sent, given = _total(m, "sent_total", sends), _total(m, "given_total", gives)
    drops = counts & (dut.stat.payload.stat == Stat.TX_DROPPED)
    dropped, age = _total(m, "dropped", drops), Signal(range(BALANCED + 2))
    calm = dut.tx_frame.ready & dut.release.ready & dut.stat.ready & dut.cleared
    balanced = Signal()
    m.d.comb += balanced.eq(used == sent + dropped)
    m.d.sync += age.eq(Mux(balanced, 0, age + calm))
    m.d.comb += [
        Assert(age <= BALANCED),
        Cover((used == 2) & (sent == 1) & (dropped == 1) & balanced),
        Cover((used == 1) & drains.bit_select(who, 1) & (given == 1) & (sent == 1)),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="commit",
        claim="a queue's chains are returned once, in order, when their DMA has ended; each is a "
        f"frame handed on or one more drop within {BALANCED} cycles; a slot leaves once",
        module="rtl.nic.engine.commit",
        harness=commit,
        depth=20,
        quick=13,
        reach=26,
        assumptions=(
            f"two queues that transmit, {PACKETS} packets each, without segmentation",
            "a queue that drains does for good",
        ),
        covers=(
            "one chain of a frame that was sent and one of a dropped one",
            "of two packets the second is given back, as its queue drains",
        ),
        plants=(
            Plant(
                name="a dropped frame is not counted",
                old="stat.valid.eq(drop if self.transmits else 1)",
                new="stat.valid.eq(0 if self.transmits else 1)",
                depth=26,
            ),
            Plant(
                name="a chain is returned before its DMA has ended",
                old="with m.Elif((outcome.count != record.pieces) |",
                new="with m.Elif(",
            ),
            Plant(
                name="a frame that is handed on is given back too",
                old="self.releases.i.valid.eq(drop & record.has_slot)",
                new="self.releases.i.valid.eq(record.has_slot)",
            ),
        ),
    ),
)
