"""Virtqueue engine: its units, and what they share."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl
from models.spec.virtio import EventFlags, EventSuppression
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamArbiter, StreamStage
from rtl.nic.byte_memory import BEAT_BYTES, ByteMemory
from rtl.nic.engine.fork import Fork
from rtl.nic.engine.lane import Lane
from rtl.nic.engine.lifecycle import Lifecycle
from rtl.nic.engine.prefetch import Prefetch
from rtl.nic.engine.records import (
    EVENT_BEAT,
    FLAGS_BEAT,
    INDEX_BEAT,
    INWARD_BEATS,
    SCRATCH_BEATS,
    QueueSetup,
    Shapes,
    Unit,
    absent,
    without,
)
from rtl.nic.engine.requests import Requests
from rtl.nic.engine.ring_fetch import RingFetch
from rtl.nic.engine.used_ring import UsedRing
from rtl.nic.offload.findings import FindingRead
from rtl.nic.seams import (
    Arrival,
    DmaDone,
    DmaRequest,
    Doorbell,
    ErrorReport,
    FrameRef,
    LoadPort,
    LocalMemory,
    QueueCommand,
    RxPop,
    SentFrame,
    StatEvent,
    StorePort,
    UsedBuffers,
)

__all__ = ["VirtqueueEngine"]


class VirtqueueEngine(wiring.Component):
    """Serves the virtqueues of the NIC that frames go through, with many packets of each under way.

    Even queues of a function receive, odd ones transmit; control queues are not numbered here.
    Frames are moved with their headers: as DMA sees it, a slot of TX or RX memory is
    ``2 * frame_stride`` long, with the header from byte 4 and the frame from byte 16.

    Errors
    ------
    A malformed ring stops its queue with a ``QueueError``, and nobody else's.  A frame that cannot
    be sent (too short, too long) is dropped, counted, and its chain returned; so is a chain one of
    whose pages is refused for good.

    Fairness
    --------
    All DMA is hurried, but for one request each of a queue's ring fetch, its used ring and its
    packets, that has met a page that is not there; those have a share of the tags.  Packets behind
    a page that is not there are taken back with their TX slots until it is.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    command : ``In(stream)`` of QueueCommand; stopped : ``Out(stream)`` of 16
        Starts and stops queues; an error of a queue goes out before it is said to have stopped.
    doorbell : ``In(stream)`` of Doorbell; used : ``Out(stream)`` of UsedBuffers
    error : ``Out(stream)`` of ErrorReport
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
    store : ``In(StorePort)``; load : ``In(LoadPort)``
        The DMA engine's way to scratch memory; of what is stored to TX memory, headers are noted.
    tx_alloc : ``In(stream)`` of 8; tx_frame : ``Out(stream)`` of SentFrame
        Free TX slots, held only while data come; what has been gathered in them.
    arrival : ``In(stream)`` of Arrival; rx_pop : ``Out(RxPop)``
        Frames to receive, taken when a buffer is known.
    closed : ``In(receivers)``; under_way : ``Out(receivers)``
        Receive queues whose frames are withheld: those that have been taken and are in no used
        element are given back; queues with such frames, or whose used elements are not all written.
    release : ``Out(stream)`` of FrameRef
        Slots and frames given back.
    checking : ``In(functions)``; finding : ``Out(FindingRead)``
        Functions to which checksums are told; what has been found of a frame that is received.
    segmenting : ``In(functions)``
        Functions that may send what is to be cut into segments.
    cut, large_back : ``In(1)``
        A frame has been cut, or will not be; the large buffer is free again.
    stat : ``Out(stream)`` of StatEvent
    controls : ``In(ArrayLayout(FunctionControl))``
    waits : ``Out(receivers)``
        Receive queues that wait for a page.
    stall : ``In(1)``
        While a queue waits for a page no other's DMA begins.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        super().__init__(
            {
                "waits": Out(config.receivers),
                "closed": In(config.receivers),
                "under_way": Out(config.receivers),
                "stall": In(1),
                "command": In(stream.Signature(QueueCommand)),
                "stopped": Out(stream.Signature(16)),
                "doorbell": In(stream.Signature(Doorbell)),
                "error": Out(stream.Signature(ErrorReport)),
                "used": Out(stream.Signature(UsedBuffers)),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "store": In(StorePort()),
                "load": In(LoadPort()),
                "tx_alloc": In(stream.Signature(8)),
                "tx_frame": Out(stream.Signature(SentFrame)),
                "checking": In(config.functions),
                "finding": Out(FindingRead()),
                "segmenting": In(config.functions),
                "cut": In(1),
                "large_back": In(1),
                "release": Out(stream.Signature(FrameRef)),
                "arrival": In(stream.Signature(Arrival)),
                "rx_pop": Out(RxPop()),
                "stat": Out(stream.Signature(StatEvent)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.requests = self.requests = Requests(config)
        m.submodules.fetch = self.fetch = RingFetch(config)
        m.submodules.used_ring = self.used_ring = UsedRing(config)
        m.submodules.receive = self.receive = Lane(config, transmits=False)
        m.submodules.transmit = self.transmit = Lane(config, transmits=True)
        m.submodules.lifecycle = self.lifecycle = Lifecycle(config)
        #: By the lowest bit of a queue's number.
        self.lanes = self.receive, self.transmit
        self._dma(m)
        self._lives(m)
        self._setups(m)
        self._scratch(m)
        self._frames(m)
        if config.prefetch:
            self._prefetch(m)
        for number, lane in enumerate(self.lanes):
            self._rings(m, number, lane)
        return m

    def _dma(self, m: Module) -> None:
        """Jobs to the DMA engine, ends to whoever asked."""
        requests, units = self.requests, {Unit.FETCH: self.fetch, Unit.USED: self.used_ring,
                                          Unit.RECEIVE: self.receive,
                                          Unit.TRANSMIT: self.transmit}  # fmt: skip
        connect(m, requests.request, flipped(self.request))
        connect(m, flipped(self.done), requests.done)
        m.d.comb += [self.waits.eq(Cat(requests.waits[::2])), requests.stall.eq(self.stall)]
        ended = requests.ended
        if self.config.prefetch:
            m.submodules.prefetch = units[Unit.PREFETCH] = self.prefetch = Prefetch(self.config)
        for unit, block in units.items():
            connect(m, block.job, requests.jobs[unit])
            target = block.ended
            m.d.comb += target.payload.eq(ended.payload)
            with m.If(ended.payload.owner.unit == unit):
                m.d.comb += [target.valid.eq(ended.valid), ended.ready.eq(target.ready)]
        for unit in (self.fetch, self.used_ring):
            m.d.comb += unit.patient_room.eq(requests.patient_room)
        for lane in self.lanes:
            m.d.comb += lane.patient_room.eq(requests.patient_room)

    def _prefetch(self, m: Module) -> None:
        """Descriptors on their way to their buffers."""
        prefetch, receive, transmit = self.prefetch, self.receive, self.transmit
        m.d.comb += [
            prefetch.put.eq(receive.put | transmit.put),
            prefetch.queue.eq(Cat(transmit.put, transmit.put_queue)),
            prefetch.entry.eq(transmit.put_entry),
            prefetch.able.eq(self.fetch.able),
            prefetch.controls.eq(self.controls),
        ]

    def _both(self, name: str):
        """A bit per queue, from a bit per queue of each direction."""
        receive, transmit = (getattr(lane, name) for lane in self.lanes)
        return Cat(bit for pair in zip(receive, transmit, strict=True) for bit in pair)

    def _lives(self, m: Module) -> None:
        """Starts and ends of queues."""
        config, lifecycle, fetch, used = self.config, self.lifecycle, self.fetch, self.used_ring
        queues, per = config.data_queues, 2 * config.queue_pairs
        connect(m, flipped(self.command), lifecycle.command)
        m.submodules.stops = stops = StreamStage(16)
        connect(m, lifecycle.stopped, stops.i)
        connect(m, stops.o, flipped(self.stopped))
        connect(m, lifecycle.cancel, self.requests.cancel)
        m.submodules.fork = fork = Fork(self.shapes.queue, 3)
        connect(m, lifecycle.init, fork.i)
        connect(m, fork.o0, fetch.init)
        connect(m, fork.o1, used.init)
        for number, lane in enumerate(self.lanes):
            m.d.comb += [
                lane.init.payload.eq(fork.o2.payload[1:]),
                lane.ring.size.eq(lifecycle.setup.size),
                lane.ring.packed.eq(lifecycle.setup.packed),
                lane.ring.mergeable.eq(lifecycle.setup.mergeable),
            ]
            with m.If(fork.o2.payload[0] == number):
                m.d.comb += [
                    lane.init.valid.eq(fork.o2.valid),
                    fork.o2.ready.eq(lane.init.ready),
                ]
        allowed, able, draining = Signal(queues), Signal(queues), Signal(queues)
        m.d.comb += [
            allowed.eq(
                Cat(self.controls[f].enable.replicate(per) for f in range(config.functions))
            ),
            draining.eq(self._both("draining")),
            able.eq(lifecycle.enabled & allowed & ~draining),
            self.requests.halted.eq(lifecycle.halted),
            lifecycle.failed.eq(self._both("failed")),
            lifecycle.quiet.eq(self._both("quiet") & ~fetch.busy & ~used.busy),
            fetch.able.eq(able),
            fetch.quiet.eq(draining),
            used.able.eq(lifecycle.enabled & ~lifecycle.halted & ~self._both("failed")),
        ]
        for number, lane in enumerate(self.lanes):
            for target, source in (
                (lane.able, able),
                (lane.halted, lifecycle.halted),
                (lane.over, lifecycle.over),
                (lane.rewound, fetch.rewound),
                (lane.failing, used.fail),
                (lane.moved, used.moved),
                (lane.flushing, used.busy),
            ):
                m.d.comb += target.eq(Cat(source[number::2]))

    def _setups(self, m: Module) -> None:
        """Rings of each queue: of each unit what it looks at, in block RAM."""
        config, setup = self.config, self.lifecycle.setup
        of_fetch = {"in_order"} | (set() if config.event_idx else {"device"})
        of_used = {"indirect"} | (set() if config.packed else {"desc"})
        for name, unit, more in (
            ("fetch", self.fetch, of_fetch),
            ("used", self.used_ring, of_used),
        ):
            shape = without(QueueSetup.as_shape(), absent(config) | more)
            setups = Memory(shape=shape, depth=config.data_queues, init=[], attrs=BLOCK)
            m.submodules[f"{name}_setups"] = setups
            write, read = setups.write_port(), setups.read_port()
            m.d.comb += [
                write.en.eq(self.lifecycle.setup_en),
                write.addr.eq(self.lifecycle.init.payload),
                read.addr.eq(unit.queue),
            ]
            for member in shape.members:
                m.d.comb += [
                    write.data[member].eq(setup[member]),
                    unit.setup[member].eq(read.data[member]),
                ]

    def _rings(self, m: Module, number: int, lane) -> None:
        """A direction's side of ring fetch and used ring."""
        fetch, used = self.fetch, self.used_ring
        mine, theirs = fetch.queue[0] == number, used.queue[0] == number
        # Descriptors come a cycle later: no path goes from one unit through the other.
        m.d.sync += [
            lane.put.eq(fetch.put & mine),
            lane.publish.eq(fetch.publish & mine),
            lane.put_queue.eq(fetch.queue[1:]),
            *(
                getattr(lane, name).eq(getattr(fetch, name))
                for name in ("put_at", "put_entry", "publish_to")
            ),
        ]
        m.d.comb += [
            lane.fetch_queue.eq(fetch.queue[1:]),
            lane.used_queue.eq(used.queue[1:]),
            lane.flushed_en.eq(used.flushed_en & (used.flushed_queue[0] == number)),
            lane.flushed_queue.eq(used.flushed_queue[1:]),
            lane.flushed.eq(used.flushed),
            lane.span_at.eq(used.span_at),
        ]
        with m.If(mine):
            m.d.comb += [fetch.head.eq(lane.head), fetch.index.eq(lane.fetch_index)]
        with m.If(theirs):
            m.d.comb += [used.chains.eq(lane.used_chains), used.span.eq(lane.span)]

    def _scratch(self, m: Module) -> None:
        """Scratch memory: what DMA stores is read here, what it loads is written here."""
        queues, store, load, fetch = self.config.data_queues, self.store, self.load, self.fetch
        m.submodules.inward = inward = ByteMemory(queues * INWARD_BEATS)
        here = store.en & (store.memory == LocalMemory.SCRATCH)
        m.d.comb += [
            inward.write_addr.eq(self._inward(store.addr)),
            inward.write_data.eq(store.data),
            inward.write_mask.eq(Mux(here, store.mask, 0)),
            inward.read_en.eq(1),
            inward.read_addr.eq(self._inward(Cat(Const(0, 4), fetch.scratch_addr))),
            fetch.scratch_data.eq(inward.read_data),
        ]
        bits = exact_log2(SCRATCH_BEATS)
        for lane in range(4):  # the driver's flags, or used_event
            beat = self._beat(store, lane)
            flags = self._bytes(m, f"flags{lane}", queues, store, lane, beat[bits:],
                                here & (beat[:bits] == FLAGS_BEAT))  # fmt: skip
            m.d.comb += [
                flags.addr.eq(self.used_ring.queue),
                self.used_ring.flags.word_select(lane, 8).eq(flags.data),
            ]
        self._numbers(m, bits)
        for lane in self.lanes:
            m.d.comb += lane.load_at.eq(Cat(load.addr[: 4 + bits], load.addr[5 + bits :]))

    @staticmethod
    def _inward(addr):
        """Where a queue's beats are kept: without those that are never read.

        What is stored may begin in the beat before the queue's first one.
        """
        queue = (addr + BEAT_BYTES - 1) >> exact_log2(SCRATCH_BEATS * BEAT_BYTES)
        return addr - queue * ((SCRATCH_BEATS - INWARD_BEATS) * BEAT_BYTES)

    def _numbers(self, m: Module, bits: int) -> None:
        """Used index of each queue, and where it was asked to be notified; used elements are in the
        lanes.
        """
        queues, load = self.config.data_queues, self.load
        beat = self._beat(load, 0)
        queue, found = beat[bits:], []
        units = (
            (INDEX_BEAT, self.used_ring, self.used_ring.number_en, self.used_ring.number),
            (EVENT_BEAT, self.fetch, self.fetch.event_en, self.fetch.event),
        )
        for place, unit, en, number in units:
            ram = Memory(shape=16, depth=queues, init=[])
            m.submodules[f"numbers{place}"] = ram
            write, read, chosen = ram.write_port(), ram.read_port(), Signal(name=f"beat{place}")
            m.d.sync += chosen.eq(beat[:bits] == place)
            m.d.comb += [
                write.en.eq(en),
                write.addr.eq(unit.queue),
                write.data.eq(number),
                read.addr.eq(queue),
            ]
            found.append((chosen, read.data))
        transmits = Signal()
        m.d.sync += transmits.eq(load.addr[4 + bits])
        m.d.comb += load.data.eq(Mux(transmits, self.transmit.load_data, self.receive.load_data))
        for chosen, number in found:
            with m.If(chosen):
                m.d.comb += load.data[:16].eq(number)  # other lanes may be of the beat before
        if self.config.packed and self.config.event_idx:
            event = data.View(EventSuppression, load.data[:32])
            with m.If(found[1][0]):  # of a split ring these bytes go nowhere
                m.d.comb += event.flags.eq(EventFlags.DESC)

    @staticmethod
    def _beat(port, lane: int):
        """Beat of a lane's byte."""
        return (port.addr[4:] + (port.addr[:4] > lane))[: len(port.addr) - 4]

    def _bytes(self, m: Module, name: str, depth: int, store, lane: int, addr, en):
        """Keep one lane of what is stored; returns its read port."""
        m.submodules[name] = ram = Memory(shape=8, depth=depth, init=[])
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.en.eq(en & store.mask[lane]),
            write.addr.eq(addr),
            write.data.eq(store.data.word_select(lane, 8)),
        ]
        return read

    def _frames(self, m: Module) -> None:
        """To and from the switch; headers of what is transmitted."""
        config, store = self.config, self.store
        receive, transmit = self.lanes
        m.submodules.releases = releases = StreamArbiter(FrameRef, 2)
        m.submodules.errors = errors = StreamArbiter(ErrorReport, 3)
        m.submodules.stats = stats = StreamArbiter(StatEvent, 2)
        for number, lane in enumerate(self.lanes):
            given, target = lane.release, releases.inputs[number]
            m.d.comb += [
                target.valid.eq(given.valid),
                target.payload.eq(given.payload.frame),
                given.ready.eq(target.ready),
            ]
        given = receive.release
        m.d.comb += [
            self.rx_pop.back.eq(given.valid & given.ready),
            self.rx_pop.back_function.eq(given.payload.function),
            self.rx_pop.back_memory.eq(given.payload.frame.memory),
        ]
        for number, unit in enumerate((receive, transmit, self.used_ring)):
            connect(m, unit.error, errors.inputs[number])
        for number, lane in enumerate(self.lanes):
            connect(m, lane.stat, stats.inputs[number])
        for arbiter, port in ((releases, self.release), (errors, self.error), (stats, self.stat)):
            connect(m, arbiter.o, flipped(port))
        connect(m, self.used_ring.used, flipped(self.used))
        connect(m, flipped(self.tx_alloc), transmit.tx_alloc)
        connect(m, transmit.tx_frame, flipped(self.tx_frame))
        pop = receive.rx_pop
        m.d.comb += [
            self.rx_pop.looks.eq(pop.looks),
            self.rx_pop.en.eq(pop.en),
            self.rx_pop.function.eq(pop.function),
            self.rx_pop.pair.eq(pop.pair),
            pop.valid.eq(self.rx_pop.valid),
            pop.frame.eq(self.rx_pop.frame),
        ]

        # What waits for a queue that was closed is looked for once more.
        was_closed, opened = Signal(config.receivers), Signal(config.receivers)
        m.d.sync += [was_closed.eq(self.closed), receive.sheds.eq(self.closed & ~was_closed)]
        m.d.comb += opened.eq(was_closed & ~self.closed)

        fetch, used, wake = self.fetch, self.used_ring, Signal(config.data_queues)
        # A cycle later: a buffer that is found full meanwhile is looked at once more.
        m.d.sync += fetch.unstall.eq(self._both("unstall"))
        arrival, receiver = self.arrival.payload, Signal(self.shapes.lane)
        m.d.comb += [
            receiver.eq(arrival.function * config.queue_pairs + arrival.pair),
            self.doorbell.ready.eq(1),
            self.arrival.ready.eq(1),
            wake.eq(self.doorbell.valid << self.doorbell.payload.queue[: self.shapes.queue]),
            fetch.wake.eq(wake),
            fetch.rewind.eq(self._both("rewind")),
            fetch.touching.eq(self._both("touching")),
            fetch.content.eq(self._both("content")),
            used.committed.eq(self._both("committed")),
            used.urgent.eq(self._both("urgent")),
            receive.frames.eq((self.arrival.valid << receiver) | opened),
            self.under_way.eq(receive.under_way),
        ]

        m.d.comb += [
            self.finding.memory.eq(receive.header_memory),
            self.finding.slot.eq(receive.header_at),
            receive.header.eq(self.finding.finding),
        ]
        m.d.comb += [lane.checking.eq(self.checking) for lane in self.lanes]
        for name in ("segmenting", "cut", "large_back"):
            m.d.comb += getattr(transmit, name).eq(getattr(self, name))

        # flags and gso_type: bytes 4 and 5 of a slot
        bits = exact_log2(2 * config.frame_stride // BEAT_BYTES)
        from_tx = store.en & (store.memory == LocalMemory.TX)
        for number, lane in enumerate((4, 5)):
            beat = self._beat(store, lane)
            header = self._bytes(m, f"header{number}", config.tx_slots, store, lane, beat[bits:],
                                 from_tx & (beat[:bits] == 0))  # fmt: skip
            m.d.comb += [
                header.addr.eq(transmit.header_at),
                transmit.header.word_select(number, 8).eq(header.data),
            ]
