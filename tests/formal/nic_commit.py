"""Harness of commit: every chain is returned once, with what its frame has come to."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.nic import Stat
from rtl.nic.engine.records import RingKind, Shapes
from rtl.nic.seams import LocalMemory

from . import nic_build
from .ports import take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: What the block looks at of a configuration: two functions with a queue pair each.
FEW = SimpleNamespace(**{**vars(nic_build.FEW), "segmentation": False})
#: Queues of a direction, and packets that each has in a proof.
QUEUES, PACKETS = 2, 3
#: Cycles in which everything is taken until the books balance, at the most.
BALANCED = 6


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


def _lane(m: Module, ports: list, dut, *, transmits: bool):
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
        frame = 0  # the slot: the one before goes on
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
                record.slot.eq(frame),
                record.memory.eq(LocalMemory.TX),
                record.has_slot.eq(~raw.touch),
                record.pieces.eq(1),
                record.large.eq(0),
                record.more.eq(0 if transmits else raw.more),
            ]
            frame = Mux(record.more, frame, frame + 1)
            records.append(record)
        with m.If(dut.move_en & (dut.move_queue == q)):
            m.d.sync += places[q].eq(dut.moved)
    number = Signal(range(QUEUES * PACKETS))
    m.d.comb += number.eq(dut.queue * PACKETS + Mux(dut.packet < PACKETS, dut.packet, 0))
    statuses = [constant(m, ports, 3, f"status{n}") for n in range(QUEUES * PACKETS)]
    m.d.comb += [
        dut.record.eq(_read(m, records, number)),
        dut.outcome.status.eq(_read(m, statuses, number)),
        dut.outcome.piece.eq(anyhow("piece", len(dut.outcome.piece))),
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
        dut.checking.eq(constant(m, ports, FEW.functions, "checking")),
        dut.draining.eq(drains),
        dut.error.ready.eq(anyhow("error_ready")),
    ]
    m.d.sync += drains.eq(drains | dut.rewind | dut.fail | anyhow("halts", QUEUES))
    return records, ended, drains


def transmit(module):
    """Follow one of two queues that transmit."""
    m, ports = Module(), []
    dut, world = _followed(m, ports, module, transmits=True)
    # Where slots go: once, in order.
    gone, latest, out = Signal(4), Signal(4), Signal(4)
    m.d.comb += out.eq(Mux(world.sends, 1 << dut.tx_frame.payload.frame.slot[:2], 0))
    m.d.sync += gone.eq(gone | out | world.back)
    with m.If(world.sends):
        m.d.sync += latest.eq(out)
    m.d.comb += [
        Assert((gone & (out | world.back)) == 0),
        Assert((out & world.back) == 0),
        Assert(~world.sends | (out > latest)),
        Assert(~world.uses | (dut.used.len == 0)),
    ]
    # Every chain that is returned is a frame that was handed on or counted as dropped.
    sent = _total(m, "sent", world.sends)
    dropped = _total(m, "dropped", world.counts(Stat.TX_DROPPED))
    why = world.counts(Stat.TX_DROPPED_LENGTH) | world.counts(Stat.TX_DROPPED_REFUSED)
    reasons = _total(m, "reasons", why)
    balanced = _balance(m, dut, (world.used == sent + dropped) & (reasons == dropped))
    m.d.comb += [
        Cover((world.used == 2) & (sent == 1) & (dropped == 1) & balanced),
        Cover((world.used == 1) & world.drains & (world.given == 1) & (sent == 1)),
    ]
    return m, ports


def receive(module):
    """Follow one of two queues that receive; a frame may take several chains."""
    m, ports = Module(), []
    dut, world = _followed(m, ports, module, transmits=False)
    gone = Signal(4)
    m.d.sync += gone.eq(gone | world.back)
    first = Signal(init=1)  # of a frame's chains
    with m.If(world.uses):
        m.d.sync += first.eq(~world.record.more)
    frames = _total(m, "frames", world.uses & first)
    packets = _total(m, "packets", world.counts(Stat.RX_PACKETS))
    why = world.counts(Stat.RX_DROPPED_BUFFER) | world.counts(Stat.RX_DROPPED_REFUSED)
    dropped = _total(m, "dropped", why)
    m.d.comb += [
        Assert((world.back == 0) | (world.back > gone)),  # once, in order
        Assert(~dut.tx_frame.valid),
        Assert(~world.uses | ~world.record.more | world.following),
        Assert(~world.uses | (dut.used.len == 0) | (dut.used.len == world.record.length)),
    ]
    whole = (frames == packets + dropped) & (frames == world.given)
    balanced = _balance(m, dut, whole)
    m.d.comb += [
        Cover((world.used == 2) & (frames == 1) & (packets == 1) & first & balanced),
        Cover((frames == 2) & (dropped == 1) & balanced),
    ]
    return m, ports


def _balance(m: Module, dut, balanced):
    """Assert that the books balance soon."""
    calm = dut.tx_frame.ready & dut.release.ready & dut.stat.ready & dut.cleared & dut.error.ready
    age, so = Signal(range(BALANCED + 2)), Signal()
    m.d.comb += [so.eq(balanced), Assert(age <= BALANCED)]
    m.d.sync += age.eq(Mux(so, 0, age + calm))
    return so


def _followed(m: Module, ports: list, module, *, transmits: bool):
    """Follow one queue: used elements are its oldest packets, one after another."""
    m.submodules.dut = dut = module.Commit(FEW, transmits=transmits)
    records, ended, drains = _lane(m, ports, dut, transmits=transmits)
    who = constant(m, ports, 1, "who")
    uses = dut.used_en & (dut.queue == who)
    used = _total(m, "used", uses)
    at, all_ended = Signal(range(QUEUES * PACKETS)), Signal(QUEUES * PACKETS + 1)
    m.d.comb += [at.eq(who * PACKETS + Mux(used < PACKETS, used, 0)), all_ended.eq(Cat(ended))]
    record = Signal(Shapes(FEW).record)
    m.d.comb += record.eq(Array(records)[at])
    for name, port in (("sent", dut.tx_frame), ("given", dut.release), ("stat", dut.stat)):
        take(m, ports, name, port)
    sends, gives, counts = (
        port.valid & port.ready & (port.payload.function == who)
        for port in (dut.tx_frame, dut.release, dut.stat)
    )
    back = Signal(4)
    m.d.comb += [
        back.eq(Mux(gives, 1 << dut.release.payload.frame.slot[:2], 0)),
        Assert(~uses | (used < PACKETS)),
        Assert(~uses | (dut.used.id == record.head)),
        Assert(~uses | (dut.used_at == used)),
        Assert(~uses | all_ended.bit_select(at, 1)),
    ]
    world = SimpleNamespace(
        uses=uses,
        used=used,
        record=record,
        following=all_ended.bit_select(at + 1, 1) & (used != PACKETS - 1),
        sends=sends,
        back=back,
        given=_total(m, "given_total", gives),
        counts=lambda stat: counts & (dut.stat.payload.stat == stat),
        drains=drains.bit_select(who, 1),
    )
    return dut, world


_SHARED = (
    "a packet's DMA ends after it is built, once, in any way",
    "rings, and whose checksums are told, stay as they are; no queue begins again",
    "a queue drains from when it rewinds or fails, or is told to, for good",
    "books balance while all that comes out is taken, and the ring of chains can be cleared",
)
PROOFS = (
    Proof(
        name="commit-send",
        claim="a queue's chains are returned once, in order, when their DMA has ended; each is a "
        f"frame handed on or one more drop, with its reason, within {BALANCED} cycles; a slot "
        "leaves once",
        module="rtl.nic.engine.commit",
        harness=transmit,
        depth=18,
        quick=13,
        reach=26,
        assumptions=(
            f"two queues that transmit, {PACKETS} packets each, of one piece, in slots of the TX "
            "memory, without segmentation",
            *_SHARED,
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
                depth=18,
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
    Proof(
        name="commit-receive",
        claim="the same of frames that are received: each is given back once and is one more "
        f"packet or one more drop within {BALANCED} cycles, however many chains it takes; they "
        "are returned when all have ended",
        module="rtl.nic.engine.commit",
        harness=receive,
        depth=18,
        quick=0,
        reach=26,
        assumptions=(
            f"two queues that receive, {PACKETS} chains each, of one piece; a frame's are of one "
            "slot, of the TX memory",
            *_SHARED,
        ),
        covers=("a frame in two chains", "one frame that is received and one that is dropped"),
        plants=(
            Plant(
                name="a frame is returned when its first chain has ended",
                old="with m.If((ahead == self.built) | (outcome.count != record.pieces)):",
                new="with m.If(ahead == self.built):",
                depth=16,
            ),
            Plant(
                name="every chain of a frame gives it back",
                old="            self._merge(m)\n",
                new="            self._merge(m)\n"
                "            m.d.comb += self.releases.i.valid.eq(1)\n",
                depth=18,
            ),
        ),
    ),
)
