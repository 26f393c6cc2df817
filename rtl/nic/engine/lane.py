"""Packets of one direction, from descriptors to used elements."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from rtl.bus.ram import SETTLED
from rtl.bus.stream import StreamArbiter
from rtl.nic.byte_memory import BEAT_BYTES, ByteMemory
from rtl.nic.engine.build_receive import ReceiveBuild
from rtl.nic.engine.build_send import SendBuild
from rtl.nic.engine.commit import Commit
from rtl.nic.engine.completions import Completions
from rtl.nic.engine.fork import Fork
from rtl.nic.engine.records import (
    BUFFER,
    ELEMENT_BEAT,
    PACKETS,
    RECEIVE_BUFFER,
    SCRATCH_BEATS,
    USED_PLACES,
    RingKind,
    Shapes,
    accepted,
)
from rtl.nic.seams import ErrorReport, LocalMemory, RxPop, SentFrame, StatEvent, TxFrame

__all__ = ["Lane"]

#: Bytes of scratch memory per queue that used elements are in.
ELEMENTS_BYTES = SCRATCH_BEATS * BEAT_BYTES


class Lane(wiring.Component):
    """Build, completions and commit of one direction, with what they keep per queue.

    A queue drains because it is halted, has failed, or begins again: at a page that is not there,
    or to give back the frames that it has.

    Parameters
    ----------
    config : NicConfig
    transmits : bool
        The direction.

    Members
    -------
    Queues are those of one direction.

    init : ``In(stream)`` of a queue; ring : ``In(RingKind)``
        A queue to begin anew, and what its ring is like.
    able, halted, failing : ``In(queues)``
        Queues that may build packets; queues to drain; queues whose used ring cannot be reached.
    over, sheds : ``In(queues)``
        Queues that have ended; that are to give back what is not committed, and that hear of no
        more frames.
    rewind : ``Out(queues)``; rewound : ``In(queues)``
        Queues that have drained and are to begin again; and do so.
    quiet, draining, failed, touching, content : ``Out(queues)``
        Queues that have drained and hold nothing; that drain; that have failed; that touch; of
        these those that need no more descriptors for it.
    under_way : ``Out(queues)``
        Queues with frames that were taken, and of whose used elements not all are written.
    patient_room : ``In(1)``
    put, put_at, put_entry, publish, publish_to, put_queue : ``In``
        Ring fetch's side of the buffers: stores, publishes, for ``put_queue``.
    fetch_queue : ``In``; head : ``Out``
        Up to where the buffer of ``fetch_queue`` has been used, a cycle later.
    unstall : ``Out(queues)``
    fetch_index : ``Out(16)``
        Places of the ring of ``fetch_queue`` that are committed, a cycle later.
    used_queue : ``In``; used_chains : ``Out(16)``; span_at : ``In``; span : ``Out(16)``
        Chains of ``used_queue`` that are committed, and the span of one of its used elements, a
        cycle later.
    committed, urgent : ``Out(queues)``; flushing, moved : ``In(queues)``
    flushed_en, flushed_queue, flushed : ``In``
    load_at : ``In``; load_data : ``Out(128)``
        Used elements as they are in scratch memory, from any byte, in lanes; a cycle later.
    header_memory, header_at : ``Out``; header : ``In(16)``
        See :class:`Commit`.
    ended : ``In(stream)``; job : ``Out(stream)``
    frames : ``In(queues)``; checking, segmenting : ``In(functions)``
    cut, large_back : ``In(1)``
        A frame has been cut, or will not be; the large buffer is free again.
    tx_alloc : ``In(stream)`` of 8; rx_pop : ``Out(RxPop)``
    error, tx_frame, stat : ``Out(stream)``; release : ``Out(stream)`` of TxFrame
    """

    def __init__(self, config: NicConfig, *, transmits: bool):
        self.config, self.shapes, self.transmits = config, Shapes(config), transmits
        self.queues = queues = config.data_queues // 2
        shapes = self.shapes
        inward = ("able", "halted", "failing", "over", "sheds", "rewound", "flushing", "moved")
        outward = (
            *("rewind", "quiet", "draining", "failed", "touching", "content", "under_way"),
            *("unstall", "committed", "urgent"),
        )
        super().__init__(
            {name: In(queues) for name in inward}
            | {name: Out(queues) for name in outward}
            | {
                "init": In(stream.Signature(shapes.lane)),
                "ring": In(RingKind),
                "patient_room": In(1),
                "put": In(1),
                "put_queue": In(shapes.lane),
                "put_at": In(shapes.buffer),
                "put_entry": In(shapes.descriptor),
                "publish": In(1),
                "publish_to": In(shapes.buffer + 1),
                "fetch_queue": In(shapes.lane),
                "head": Out(shapes.buffer + 1),
                "fetch_index": Out(16),
                "used_queue": In(shapes.lane),
                "used_chains": Out(16),
                "span_at": In(range(USED_PLACES)),
                "span": Out(16),
                "flushed_en": In(1),
                "flushed_queue": In(shapes.lane),
                "flushed": In(16),
                "load_at": In(range(queues * ELEMENTS_BYTES)),
                "load_data": Out(128),
                "header_memory": Out(LocalMemory),
                "header_at": Out(8),
                "header": In(16),
                "ended": In(stream.Signature(shapes.ended)),
                "job": Out(stream.Signature(shapes.job)),
                "frames": In(queues),
                "checking": In(config.functions),
                "segmenting": In(config.functions),
                "cut": In(1),
                "large_back": In(1),
                "tx_alloc": In(stream.Signature(8)),
                "rx_pop": Out(RxPop()),
                "error": Out(stream.Signature(ErrorReport)),
                "release": Out(stream.Signature(TxFrame)),
                "tx_frame": Out(stream.Signature(SentFrame)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queues = self.queues
        make = SendBuild if self.transmits else ReceiveBuild
        m.submodules.build = build = make(self.config)
        m.submodules.completions = completions = Completions(self.config)
        m.submodules.commit = commit = Commit(self.config, transmits=self.transmits)
        self.build, self.commit = build, commit
        connect(m, flipped(self.ended), completions.ended)
        connect(m, build.job, flipped(self.job))
        connect(m, flipped(self.tx_alloc), build.tx_alloc)
        connect(m, build.rx_pop, flipped(self.rx_pop))
        m.submodules.releases = releases = StreamArbiter(TxFrame, 2)
        connect(m, build.release, releases.i0)
        connect(m, commit.release, releases.i1)
        connect(m, releases.o, flipped(self.release))
        for name in ("error", "tx_frame"):
            connect(m, getattr(commit, name), flipped(getattr(self, name)))
        if self.transmits:
            connect(m, commit.stat, flipped(self.stat))
        else:
            m.submodules.stats = stats = StreamArbiter(StatEvent, 2)
            connect(m, build.stat, stats.i0)
            connect(m, commit.stat, stats.i1)
            connect(m, stats.o, flipped(self.stat))
        self._begin(m)
        self._buffers(m)
        self._packets(m, completions)
        self._used(m)
        self._states(m, completions)
        m.d.comb += [build.frames.eq(self.frames), build.able.eq(self.able)]
        m.d.comb += build.patient_room.eq(self.patient_room)
        m.d.comb += [build.checking.eq(self.checking), commit.checking.eq(self.checking)]
        m.d.comb += [
            build.segmenting.eq(self.segmenting),
            build.large_back.eq(self.large_back | commit.large_back),
            commit.cut.eq(self.cut),
        ]
        delayed = Signal(queues)
        moves = commit.move_en << commit.move_queue
        m.d.sync += delayed.eq(moves)
        m.d.comb += build.unblock.eq(delayed)
        return m

    def _begin(self, m: Module) -> None:
        """Both begin anew before the queue is enabled."""
        build, commit = self.build, self.commit
        m.submodules.fork = fork = Fork(self.shapes.lane, 2)
        connect(m, flipped(self.init), fork.i)
        connect(m, fork.o1, commit.init)
        self.started = Signal()
        m.d.comb += [
            build.init.payload.eq(fork.o0.payload),
            build.init.valid.eq(fork.o0.valid & ~self.publish),
            self.started.eq(build.init.valid & build.init.ready),
            fork.o0.ready.eq(self.started),
        ]

    def _ram(self, m: Module, name: str, shape, depth: int, **more) -> Memory:
        m.submodules[name] = ram = Memory(shape=shape, depth=max(2, depth), init=[], **more)
        return ram

    def _buffers(self, m: Module) -> None:
        """Descriptors between ring fetch and build."""
        shapes, queues, build = self.shapes, self.queues, self.build
        # A descriptor is not looked at before it has been published, and that is known later.
        room = BUFFER if self.transmits else RECEIVE_BUFFER
        places = exact_log2(room)
        entries = self._ram(m, "buffers", shapes.descriptor, queues * room, attrs=SETTLED)
        published = self._ram(m, "published", shapes.buffer + 1, queues)
        heads = self._ram(m, "heads", shapes.buffer + 1, queues)
        store, load = entries.write_port(), entries.read_port()
        tell, told = published.write_port(), published.read_port()
        use, used = heads.write_port(), heads.read_port()
        m.d.comb += [
            store.en.eq(self.put),
            store.addr.eq(Cat(self.put_at[:places], self.put_queue)),
            store.data.eq(self.put_entry),
            load.addr.eq(Cat(build.fetch_at[:places], build.queue)),
            build.entry.eq(load.data),
            tell.en.eq(self.publish | self.started),
            tell.addr.eq(Mux(self.publish, self.put_queue, self.init.payload)),
            tell.data.eq(Mux(self.publish, self.publish_to, 0)),
            told.addr.eq(build.queue),
            build.published.eq(told.data),
            build.available.eq(self.publish << self.put_queue),
            use.en.eq(build.head_en | self.started),
            use.addr.eq(Mux(build.head_en, build.queue, self.init.payload)),
            use.data.eq(Mux(build.head_en, build.head, 0)),
            used.addr.eq(self.fetch_queue),
            self.head.eq(used.data),
            self.unstall.eq(build.unstall),
            self.content.eq(build.content),
        ]

    def _packets(self, m: Module, completions) -> None:
        """Packets between build and commit."""
        shapes, queues, build, commit = self.shapes, self.queues, self.build, self.commit
        # Likewise of records: they count from the cycle on in which ``builts`` says so.
        records = self._ram(m, "records", shapes.record, queues * PACKETS, attrs=SETTLED)
        builts = self._ram(m, "builts", shapes.packet + 1, queues)
        places = self._ram(m, "places", shapes.place, queues)
        touches = self._ram(m, "touches", shapes.piece, queues)
        store, load = records.write_port(), records.read_port()
        count, counted = builts.write_port(), builts.read_port()
        move, touch, touched = places.write_port(), touches.write_port(), touches.read_port()
        ours, build_place, fetch_place, used_place = (places.read_port() for _ in range(4))
        started = self.started
        m.d.comb += [
            store.en.eq(build.record_en),
            store.addr.eq(Cat(build.record_at, build.queue)),
            store.data.eq(build.record),
            load.addr.eq(Cat(commit.packet, commit.queue)),
            commit.record.eq(load.data),
            count.en.eq(build.record_en | started),
            count.addr.eq(Mux(started, self.init.payload, build.queue)),
            count.data.eq(Mux(started, 0, build.built)),
            counted.addr.eq(commit.queue),
            commit.built.eq(counted.data),
            completions.queue.eq(commit.queue),
            completions.packet.eq(commit.packet),
            commit.outcome.eq(completions.outcome),
            completions.clear.eq(commit.clear),
            completions.clear_packet.eq(commit.clear_packet),
            commit.cleared.eq(completions.cleared),
            move.en.eq(commit.move_en),
            move.addr.eq(commit.move_queue),
            move.data.eq(commit.moved),
            ours.addr.eq(commit.queue),
            commit.place.eq(ours.data),
            build_place.addr.eq(build.queue),
            build.done.eq(build_place.data.done),
            build.committed.eq(build_place.data.frames),
            fetch_place.addr.eq(self.fetch_queue),
            self.fetch_index.eq(fetch_place.data["index" if self.config.packed else "chains"]),
            used_place.addr.eq(self.used_queue),
            self.used_chains.eq(used_place.data.chains),
            touch.en.eq(commit.touch),
            touch.addr.eq(commit.queue),
            touch.data.eq(commit.touch_piece),
            touched.addr.eq(build.queue),
            build.touch_piece.eq(touched.data),
            self.header_memory.eq(commit.header_memory),
            self.header_at.eq(commit.header_at),
            commit.header.eq(self.header),
        ]

    def _used(self, m: Module) -> None:
        """Used elements between commit and the used ring."""
        queues, commit = self.queues, self.commit
        # Of a split ring's, heads and lengths have 16 bits, unless frames may be longer.
        short = not (self.config.packed or self.config.segmentation)
        lanes = (0, 1, 4, 5, 8, 9, 12, 13) if short else range(BEAT_BYTES)
        beats = queues * ELEMENTS_BYTES // BEAT_BYTES
        m.submodules.elements = elements = ByteMemory(beats, lanes=lanes)
        flushed = self._ram(m, "flushed_table", 16, queues)
        note, noted = flushed.write_port(), flushed.read_port()
        kinds = self._ram(m, "kinds", RingKind, queues)
        tell, kind, build_kind = kinds.write_port(), kinds.read_port(), kinds.read_port()
        packed = accepted(self.config, kind.data).packed
        beat, mask, element = Signal(5), Signal(BEAT_BYTES), Signal(8 * BEAT_BYTES)
        # A packed ring's are descriptors: their first half means nothing.
        descriptor = Cat(Const(0, 64), commit.used.len, commit.used.id[:16], commit.used_flags)
        m.d.comb += [
            beat.eq(Mux(packed, commit.used_at, commit.used_at[1:]) + ELEMENT_BEAT),
            mask.eq(Mux(packed, 0xFFFF, Mux(commit.used_at[0], 0xFF00, 0x00FF))),
            element.eq(Mux(packed, descriptor, commit.used.as_value().replicate(2))),
            elements.write_addr.eq(Cat(Const(0, 4), beat, commit.queue)),
            elements.write_data.eq(element),
            elements.write_mask.eq(Mux(commit.used_en, mask, 0)),
            tell.en.eq(self.started),
            tell.addr.eq(self.init.payload),
            tell.data.eq(self.ring),
            kind.addr.eq(commit.queue),
            commit.ring.eq(kind.data),
            build_kind.addr.eq(self.build.queue),
            self.build.ring.eq(build_kind.data),
            elements.read_en.eq(1),
            elements.read_addr.eq(self.load_at),
            self.load_data.eq(elements.read_data),
            note.en.eq(self.flushed_en),
            note.addr.eq(self.flushed_queue),
            note.data.eq(self.flushed),
            noted.addr.eq(commit.queue),
            commit.flushed.eq(noted.data),
            commit.flushing.eq(self.flushing),
            self.committed.eq(commit.used_en << commit.queue),
            self.urgent.eq(commit.urgent),
        ]
        self._spans(m)

    def _spans(self, m: Module) -> None:
        """Places of the ring that used elements take: of a split ring one each."""
        if not self.config.packed:
            m.d.comb += self.span.eq(1)
            return
        commit = self.commit
        spans = self._ram(m, "spans", 16, self.queues * USED_PLACES)
        keep, kept = spans.write_port(), spans.read_port()
        m.d.comb += [
            keep.en.eq(commit.used_en),
            keep.addr.eq(Cat(commit.used_at, commit.queue)),
            keep.data.eq(commit.used_span),
            kept.addr.eq(Cat(self.span_at, self.used_queue)),
            self.span.eq(kept.data),
        ]

    def _states(self, m: Module, completions) -> None:
        """Why queues drain, and when they have."""
        queues, build, commit = self.queues, self.build, self.commit
        rewinding, touches = Signal(queues), Signal(queues)
        begins, shedding = Signal(queues), Signal(queues)
        drained, was_halted = Signal(queues), Signal(queues)
        settled = ~build.open & ~build.visiting
        m.d.sync += [
            was_halted.eq(self.halted),
            rewinding.eq((((rewinding | commit.rewind) & ~self.rewound) | begins) & ~self.over),
            shedding.eq(((shedding & ~self.rewound) | begins) & ~self.over),
            self.failed.eq((self.failed | commit.fail | self.failing) & ~self.over),
            drained.eq((drained | commit.drained) & ~self.rewound & ~self.over),
            touches.eq(
                (touches & ~commit.rewind & ~self.over) | Mux(commit.touch, commit.rewind, 0)
            ),
            self.under_way.eq(
                (self.under_way & ~(commit.rests & settled & ~build.owing) & ~self.over)
                | build.takes
            ),
            self.touching.eq(
                (self.touching & ~self.rewound & ~self.over) | (self.rewound & touches & ~shedding)
            ),
        ]
        sheds = shedding & build.holding
        m.d.comb += [
            begins.eq(self.sheds & self.under_way),
            self.draining.eq(self.halted | self.failed | rewinding),
            self.rewind.eq(rewinding & drained & ~self.halted & ~self.failed & ~sheds),
            self.quiet.eq(drained & settled & ~build.holding),
            build.draining.eq(self.draining),
            build.cleaning.eq((self.halted | shedding) & drained),
            build.rewound.eq(self.rewound),
            build.touching.eq(self.touching),
            commit.draining.eq(self.draining),
            commit.settled.eq(settled),
            commit.progress.eq(
                completions.progress
                | build.left
                | self.moved
                | self.rewound
                | self.failing
                | (self.halted & ~was_halted)
                | begins
            ),
        ]
