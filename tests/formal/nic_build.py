"""Harnesses of what the virtqueue engine asks for: bytes of descriptors, once per job."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data
from amaranth.utils import exact_log2

from models.spec.ethernet import MACS_BYTES, VLAN_TAG_BYTES
from models.spec.nic import QueueError
from rtl.nic.engine.records import HEADER_BYTES, RingKind, Shapes, Unit
from rtl.nic.seams import DmaStatus, FrameForm, LocalMemory

from .ports import free, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: What the blocks look at of a configuration: two functions with a queue pair each.
FEW = SimpleNamespace(
    functions=2,
    queue_pairs=1,
    data_queues=4,
    frame_bytes=2048,
    frame_stride=2048,
    tx_quota=1,
    rx_quota=1,
    engine_tags=4,
    dma_slots=2,
    prefetch=0,
    segmentation=True,
    **dict.fromkeys(("packed", "indirect", "event_idx", "mergeable", "in_order"), True),
)
#: Queues of a direction, and descriptors that each has in its buffer.
QUEUES, POSTED = 2, 2


def send(module):
    """Frames that are sent."""
    return _build(module.SendBuild(FEW))


def receive(module):
    """Frames that are received."""
    return _build(module.ReceiveBuild(FEW))


def _delayed(m: Module, values, number):
    """What a RAM of one of ``values`` per queue answers."""
    read = Signal.like(values[0])
    m.d.sync += read.eq(Array(values)[number])
    return read


def _build(dut):
    """Two queues with arbitrary descriptors; jobs ask for bytes of those of their own."""
    m, ports = Module(), []
    m.submodules.dut = dut
    anyhow, shapes = partial(anything, ports), Shapes(FEW)
    layout = shapes.descriptor
    entries = [
        [data.View(layout, constant(m, ports, layout.size, f"entry{q}{n}")) for n in range(POSTED)]
        for q in range(QUEUES)
    ]
    kinds = [constant(m, ports, RingKind.as_shape().size, f"ring{q}") for q in range(QUEUES)]
    posted, built, done = (
        [Signal(3, name=f"{name}{q}") for q in range(QUEUES)]
        for name in ("posted", "built", "done")
    )
    for q in range(QUEUES):
        posts, ends = anyhow(f"posts{q}"), anyhow(f"ends{q}")
        m.d.comb += [
            dut.available[q].eq(posts),
            Assume(~posts | (posted[q] < POSTED)),
            Assume(~ends | (done[q] < built[q])),
        ]
        m.d.sync += [
            posted[q].eq(posted[q] + posts),
            built[q].eq(built[q] + (dut.record_en & (dut.queue == q))),
            done[q].eq(done[q] + ends),
        ]
    at, queue = Signal(shapes.buffer), Signal(shapes.lane)
    m.d.sync += [at.eq(dut.fetch_at), queue.eq(dut.queue)]
    entry = Signal(layout)
    with m.Switch(Cat(at[0], queue)):
        for number in range(QUEUES * POSTED):
            with m.Case(number):
                m.d.comb += entry.eq(entries[number // POSTED][number % POSTED])
    touching, drains = constant(m, ports, QUEUES, "touching"), anyhow("draining", QUEUES)
    if not dut.transmits:
        # What is received is kept by a queue that drains, and would come again.
        drained = Signal(QUEUES)
        m.d.sync += drained.eq(drains)
        m.d.comb += Assume((drained & ~drains) == 0)
    m.d.comb += [
        dut.able.eq(anyhow("able", QUEUES)),
        dut.unblock.eq(anyhow("unblock", QUEUES)),
        dut.draining.eq(drains),
        dut.touching.eq(touching),
        dut.touch_piece.eq(constant(m, ports, shapes.piece, "touch_piece")),
        dut.patient_room.eq(anyhow("patient_room")),
        dut.entry.eq(entry),
        dut.published.eq(_delayed(m, posted, dut.queue)),
        dut.done.eq(_delayed(m, done, dut.queue)),
        dut.ring.eq(_delayed(m, kinds, dut.queue)),
        dut.frames.eq(anyhow("frames", QUEUES)),
        dut.checking.eq(constant(m, ports, FEW.functions, "checking")),
        dut.segmenting.eq(constant(m, ports, FEW.functions, "segmenting")),
        dut.large_back.eq(anyhow("large_back")),
        dut.rx_pop.valid.eq(anyhow("popped")),
        dut.rx_pop.frame.length.eq(anyhow("length", 12)),
        dut.rx_pop.frame.memory.eq(Mux(anyhow("from_port"), LocalMemory.RX, LocalMemory.TX)),
        dut.rx_pop.frame.slot.eq(anyhow("popped_slot", 8)),
        dut.rx_pop.frame.form.eq(anyhow("form", 2)),
        Assume(dut.rx_pop.frame.length <= FEW.frame_bytes),
        Assume(dut.rx_pop.frame.length >= MACS_BYTES + VLAN_TAG_BYTES),
        Assume(dut.rx_pop.frame.form <= FrameForm.TAGGED),
    ]
    free(m, ports, "slot", dut.tx_alloc)
    take(m, ports, "job", dut.job)
    take(m, ports, "release", dut.release)
    stable(m, dut.job)
    job, asks = dut.job.payload, dut.job.valid & dut.job.ready
    offsets = [Signal(64, name=f"offset{n}") for n in range(POSTED)]
    inside = Signal(POSTED)
    good = Signal()
    for n in range(POSTED):
        its = Signal(layout, name=f"its{n}")
        m.d.comb += its.eq(Mux(dut.queue == 0, entries[0][n].as_value(), entries[1][n].as_value()))
        m.d.comb += [
            offsets[n].eq(job.iova - its.address),
            inside[n].eq(
                (its.error == QueueError.NONE)
                & ~its.absent
                & (n < Array(posted)[dut.queue])
                & (offsets[n] < its.length)
                & (offsets[n][:17] + job.length <= its.length)
            ),
        ]
    told = (job.memory == LocalMemory.NOWHERE) & ~dut.transmits  # num_buffers
    m.d.comb += [
        good.eq(Mux(told, inside.any(), inside.bit_select(at[0], 1))),
        Assert(~dut.job.valid | (job.owner.queue == Cat(Const(int(dut.transmits), 1), queue))),
        Assert(~dut.job.valid | (job.length != 0)),
        Assert(~dut.job.valid | (job.write == (not dut.transmits))),
        Assert(~dut.job.valid | good),
    ]
    _records(m, dut, touching)
    m.d.comb += Assume(Cat(e.absent for q in entries for e in q) == 0) if not dut.transmits else []
    second = offsets[0] != 0 if dut.transmits else told & (at[0] == 1) & ~inside[1]
    m.d.comb += [
        Cover(asks & second & (dut.queue == 1) & (at[0] == (not dut.transmits))),
        Cover(asks & (at == 1) & (dut.queue == 0) & ~told),
        Cover(dut.record_en & drains.bit_select(dut.queue, 1) & ~dut.record.drop),
    ]
    if not dut.transmits:
        # Of its slot a job moves header and frame, or of the tag before them.
        place = job.offset[: exact_log2(2 * FEW.frame_stride)]
        of_tag = place < VLAN_TAG_BYTES
        last = Mux(of_tag, VLAN_TAG_BYTES, FEW.frame_bytes + HEADER_BYTES + VLAN_TAG_BYTES)
        m.d.comb += [
            Assert(~dut.job.valid | told | (place + job.length <= last)),
            Cover(asks & of_tag & ~told & (job.length == VLAN_TAG_BYTES)),
        ]
    return m, ports


def _records(m: Module, dut, touching) -> None:
    """Every slot that is taken, and every frame that is popped, becomes one packet, or as many as
    it takes chains.
    """
    pops, slot, comes = Signal(), Signal(8), Signal()
    m.d.sync += pops.eq(dut.rx_pop.en)
    m.d.comb += Assume(pops | ~dut.rx_pop.valid)
    if dut.transmits:
        m.d.comb += comes.eq(dut.tx_alloc.valid & dut.tx_alloc.ready)
        m.d.comb += slot.eq(dut.tx_alloc.payload)
    else:
        m.d.comb += [comes.eq(dut.rx_pop.valid), slot.eq(dut.rx_pop.frame.slot)]
    record = dut.record
    for q in range(QUEUES):
        has, its = Signal(name=f"has{q}"), Signal(8, name=f"slot{q}")
        mine, touch = dut.queue == q, touching[q] & int(dut.transmits)
        closes = dut.record_en & mine
        with m.If(comes & mine):
            m.d.sync += [has.eq(1), its.eq(slot)]
        with m.Elif(closes & ~record.more):
            m.d.sync += has.eq(0)
        m.d.comb += [
            Assert(~(comes & mine) | ~has & ~touch),
            Assert(~closes | touch | has & (record.slot == its)),
            Assert(~closes | (record.has_slot == ~touching[q])),
        ]


def requests(module):
    """Follow one arbitrary job of four units; bit 0 of its address and piece tells it."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.Requests(FEW)
    anyhow, tags = partial(anything, ports), FEW.engine_tags
    marked = Signal()
    it = Signal(Shapes(FEW).job)
    m.d.comb += dut.stall.eq(anyhow("stall"))
    m.d.comb += dut.halted.eq(anyhow("halted", FEW.data_queues))
    comes, offers = [], []
    for number, job in enumerate(dut.jobs):
        free(m, ports, f"job{number}", job)
        mark = job.payload.iova[0]
        offers.append(job.valid & mark)
        comes.append(job.valid & job.ready & mark)
        m.d.comb += [
            Assume(job.payload.owner.piece[0] == mark),
            Assume(job.payload.owner.queue < FEW.data_queues),
            Assume(~job.valid | ~mark | ~marked),
        ]
        with m.If(comes[-1]):
            m.d.sync += [marked.eq(1), it.eq(job.payload)]
    m.d.comb += Assume(sum(offers) <= 1)
    free(m, ports, "cancel", dut.cancel)
    free(m, ports, "done", dut.done)
    for name in ("request", "ended"):
        take(m, ports, name, getattr(dut, name))
        stable(m, getattr(dut, name), name)
    request, done, ended = dut.request, dut.done, dut.ended
    asks, gone = request.valid & request.ready, done.valid & done.ready
    tag, doomed = request.payload.tag, Signal(2)
    busy, its, status = Signal(tags), Signal(2), Signal(DmaStatus)
    cancels = request.payload.cancel
    m.d.comb += [
        Assume(~done.valid | (done.payload.tag < tags)),
        Assume(~done.valid | busy.bit_select(done.payload.tag[:2], 1)),
        Assert(~request.valid | (tag < tags)),
        Assert(~request.valid | cancels | ~busy.bit_select(tag[:2], 1)),
    ]
    with m.If(asks & ~cancels):
        m.d.sync += busy.bit_select(tag[:2], 1).eq(1)
    with m.If(gone):
        m.d.sync += busy.bit_select(done.payload.tag[:2], 1).eq(0)
    with m.If(dut.cancel.valid & dut.cancel.ready):
        m.d.sync += doomed.eq(dut.cancel.payload)
    # The followed job: waits, is under way, or has been done and is to be told.
    waits, away, told, over = (Signal() for _ in range(4))
    goes = request.valid & ~cancels & request.payload.iova[0]
    ends = ended.valid & ended.payload.owner.piece[0]
    mine = gone & away & (done.payload.tag == its)
    with m.If(sum(comes)):
        m.d.sync += waits.eq(1)
    with m.If(goes & request.ready):
        m.d.sync += [waits.eq(0), away.eq(1), its.eq(tag)]
    with m.If(mine):
        m.d.sync += [away.eq(0), told.eq(1), status.eq(done.payload.status)]
    with m.If(ends & ended.ready):
        m.d.sync += [waits.eq(0), told.eq(0), over.eq(1)]
    same = [
        request.payload[name] == it[name]
        for name in ("write", "iova", "length", "memory", "offset")
    ]
    prompt = Signal()
    m.d.comb += prompt.eq(~it.patient & (it.owner.unit != Unit.PREFETCH))
    m.d.comb += [
        Assert(~goes | (waits & Cat(same).all())),
        Assert(~goes | (request.payload.function == it.owner.queue >> 1)),
        Assert(~goes | (request.payload.hurried == prompt)),
        Assert(~ends | (ended.payload.owner == it.owner)),
        Assert(~ends | Mux(told, ended.payload.status == status,
                           waits & (ended.payload.status == DmaStatus.CANCELLED))),
        # A cancel is of what is under way, and of the queue that was named.
        Assert(~(request.valid & cancels & away & (tag == its)) | (it.owner.queue == doomed)),
        Cover(ends & told & (status == DmaStatus.ABSENT)),
        Cover(ends & ended.ready & waits),
        Cover(request.valid & cancels & away & (tag == its)),
        Cover(over & busy.all()),
    ]  # fmt: skip
    return m, ports


_ASSUMED = (
    f"two functions with a queue each, {POSTED} descriptors in the buffer of each, with any "
    "address, length and error, published one after another",
    "queues that are set up; none begins again, or gives back the frames that it has",
    "what a ring is like, who touches which piece, whose checksums are told and who may send what "
    "is cut stay as they are",
    "packets that end have been built",
)
PROOFS = (
    Proof(
        name="build-send",
        claim="a job reads bytes of a descriptor that its queue has posted, and of no other; every "
        "slot that is taken becomes one packet",
        module="rtl.nic.engine.build_send",
        harness=send,
        depth=12,
        quick=9,
        reach=18,
        assumptions=(*_ASSUMED, "slots of 2048 bytes"),
        covers=(
            "the rest of a descriptor, for the large buffer",
            "a second descriptor",
            "a packet that is closed as its queue drains",
        ),
        plants=(
            Plant(
                name="of a descriptor longer than its slot all is asked for again",
                old="rest.eq(entry.length - s.part)",
                new="rest.eq(entry.length)",
            ),
            Plant(
                name="a frame goes on in a slot that it does not have",
                old="s.drop.eq(drop),\n",
                new="s.drop.eq(drop), s.frame.slot.eq(self.tx_alloc.payload),\n",
                depth=12,
            ),
            Plant(
                name="a descriptor with an error is read",
                old="mark = (entry.error != QueueError.NONE) | entry.absent",
                new="mark = entry.absent",
            ),
        ),
    ),
    Proof(
        name="build-receive",
        claim="a job writes bytes of a descriptor that its queue has posted, and of no other; "
        "num_buffers goes into one of them too; every frame becomes the packets of its chains",
        module="rtl.nic.engine.build_receive",
        harness=receive,
        depth=13,
        quick=0,
        reach=18,
        assumptions=(
            *_ASSUMED,
            f"frames of {MACS_BYTES + VLAN_TAG_BYTES} to 2048 bytes, as they are, without their "
            "tag or with one; one comes when it is asked for",
            "descriptors whose page was not there are of what is sent alone (ring fetch)",
            "a queue that drains does for good",
        ),
        covers=(
            "num_buffers goes into an earlier descriptor than the last",
            "a second descriptor",
            "a packet that is closed as its queue drains",
            "a tag that is added",
        ),
        plants=(
            Plant(
                name="of a frame with a tag that is added as much is left out",
                old="first.eq(_FIRST - VLAN_TAG_BYTES)",
                new="first.eq(_FIRST)",
                depth=16,
            ),
            Plant(
                name="a frame is written beyond its descriptor",
                old="Mux(entry.length < room, entry.length, room)",
                new="room",
            ),
            Plant(
                name="the second byte of num_buffers goes behind the first, into whatever is there",
                old="s.second_byte.eq(entry.address)",
                new="s.second_byte.eq(s.first_byte + 1)",
                depth=18,
            ),
        ),
    ),
    Proof(
        name="dma-requests",
        claim="a job becomes one request, of its queue's function, unchanged, with a tag that "
        "nobody has, and ends once, as that did, or cancelled without it",
        module="rtl.nic.engine.requests",
        harness=requests,
        depth=9,
        quick=0,
        reach=18,
        assumptions=(
            "four tags, four queues of two functions",
            "the followed job comes once, of one unit; its address and piece are odd, others' even",
            "an end is of a tag that is in use",
        ),
        covers=(
            "an end as the request's",
            "one without it",
            "a cancel",
            "all tags in use after it",
        ),
        plants=(
            Plant(
                name="the tag of a patient job stays free",
                old="free.o.ready.eq(sends)",
                new="free.o.ready.eq(sends & ~asked.patient)",
            ),
            Plant(
                name="a request is of another queue's function",
                old="shapes.function_of(queue)",
                new="shapes.function_of(doomed)",
            ),
            Plant(
                name="a job of a halted queue hides the end of another",
                old="refuses.eq(ends.i.ready & ~self.done.valid)",
                new="refuses.eq(ends.i.ready)",
                depth=12,
            ),
        ),
    ),
)
