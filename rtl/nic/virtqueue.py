"""Virtqueue engine: serves every split virtqueue of the NIC."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl
from rtl.nic.seams import (
    Arrival,
    DmaDone,
    DmaRequest,
    DmaStatus,
    Doorbell,
    ErrorReport,
    FrameRef,
    Interrupt,
    LoadPort,
    LocalMemory,
    QueueCommand,
    QueueOp,
    RxPop,
    StatEvent,
    StorePort,
    TxFrame,
)
from rtl.nic.virtqueue_state import BEATS, Phase, QueueState, Scratch, ScratchBeat
from rtl.nic.virtqueue_steps import Steps

__all__ = ["VirtqueueEngine"]

#: Scratch beat that a phase looks at.
_BEAT_OF = {
    Phase.AVAIL: ScratchBeat.AVAIL,
    Phase.ENTRY: ScratchBeat.ENTRY,
    Phase.DESC: ScratchBeat.DESCRIPTOR,
    Phase.FINISH: ScratchBeat.HEADER,
}


class VirtqueueEngine(wiring.Component):
    """One engine for all queues, each a thread whose state rests in RAM.

    A doorbell, a frame, a free slot or the end of a DMA wakes a thread; it takes steps until it has
    asked for its next DMA or has nothing to do.  A queue has one DMA outstanding; all queues
    together have as many as there are.  Even queues of a function receive, odd ones transmit;
    frames are received on a function's first queue.

    Latency
    -------
    4 cycles to take a thread up and put it back, 2 per step; a frame in one descriptor behind its
    header takes 7 DMAs and at most 24 steps.

    Errors
    ------
    A malformed ring stops its queue with a ``QueueError``, and nobody else's.  A frame that cannot
    be sent (too short, too long, with a header that asks for what was not offered) is dropped,
    counted, and its chain returned; so is a chain one of whose pages is refused for good.

    Fairness
    --------
    Nobody waits for a page with a TX slot in hand.  A transmitter takes one when its data are about
    to be read, by DMA that ends with ABSENT instead of parking; then the slot goes back, and the
    piece is read to nowhere, parking as it must.  If it was the first it is then read again; else
    so is the rest of the chain, which begins again.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    command : ``In(stream)`` of QueueCommand; stopped : ``Out(stream)`` of 16
        Starts and stops queues; an error of a queue goes out before it is said to have stopped.
    doorbell : ``In(stream)`` of Doorbell; interrupt : ``Out(stream)`` of Interrupt
    error : ``Out(stream)`` of ErrorReport
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
    store : ``In(StorePort)``; load : ``In(LoadPort)``
        The DMA engine's way to scratch memory.
    tx_alloc : ``In(stream)`` of 8; tx_frame : ``Out(stream)`` of TxFrame
        Free TX slots, held only while data come; what has been gathered in them.
    arrival : ``In(stream)`` of Arrival; rx_pop : ``Out(RxPop)``
        Frames to receive, taken when a buffer is known.
    release : ``Out(stream)`` of FrameRef
        Slots and frames given back.
    stat : ``Out(stream)`` of StatEvent
    controls : ``In(ArrayLayout(FunctionControl))``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.bits = max(1, (config.queues - 1).bit_length())
        super().__init__(
            {
                "command": In(stream.Signature(QueueCommand)),
                "stopped": Out(stream.Signature(16)),
                "doorbell": In(stream.Signature(Doorbell)),
                "error": Out(stream.Signature(ErrorReport)),
                "interrupt": Out(stream.Signature(Interrupt)),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "store": In(StorePort()),
                "load": In(LoadPort()),
                "tx_alloc": In(stream.Signature(8)),
                "tx_frame": Out(stream.Signature(TxFrame)),
                "release": Out(stream.Signature(FrameRef)),
                "arrival": In(stream.Signature(Arrival)),
                "rx_pop": Out(RxPop()),
                "stat": Out(stream.Signature(StatEvent)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, queues = self.config, self.config.queues
        m.submodules.scratch = self.scratch = Scratch(config)
        connect(m, flipped(self.store), self.scratch.store)
        connect(m, flipped(self.load), self.scratch.load)
        m.submodules.states = states = memory.Memory(shape=QueueState, depth=queues, init=[])
        self.state_read, self.state_write = states.read_port(), states.write_port()
        # Per queue: runs at all, has a DMA outstanding, is to look at its ring, waits for a slot,
        # is being stopped.
        self.enabled, self.running, self.pending = Signal(queues), Signal(queues), Signal(queues)
        self.waiting, self.stopping = Signal(queues), Signal(queues)
        self.queue, self.status = Signal(self.bits), Signal(DmaStatus)
        self.now = Signal(QueueState)
        self.mine, self.function = Signal(queues), Signal(8)
        per = config.queues_per_function
        self.first = Signal()  # queue of its function
        firsts = Array(Const(queue % per == 0, 1) for queue in range(queues))
        m.d.comb += self.first.eq(firsts[self.queue])
        functions = Array(Const(queue // per, 8) for queue in range(queues))
        m.d.comb += [self.mine.eq(1 << self.queue), self.function.eq(functions[self.queue])]
        self._outputs(m)
        self._wake(m)
        self._thread(m)
        return m

    def _outputs(self, m: Module) -> None:
        """Queues before the outputs: a step is taken only if all have room."""
        self.out = {}
        room = Const(1, 1)
        for name in ("error", "interrupt", "request", "tx_frame", "release", "stat", "stopped"):
            port = getattr(self, name)
            queue = fifo.SyncFIFOBuffered(width=len(Value.cast(port.payload)), depth=4)
            m.submodules[f"{name}_queue"] = queue
            m.d.comb += [
                Value.cast(port.payload).eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
            room = room & queue.w_rdy
            shape = port.signature.members["payload"].shape
            self.out[name] = (
                data.View(shape, queue.w_data) if not isinstance(shape, int) else queue.w_data,
                queue.w_en,
            )
        self.calm = Signal()
        m.d.comb += self.calm.eq(room)

    def _wake(self, m: Module) -> None:
        """Note who has something to do, and choose among them in turn."""
        queues, per = self.config.queues, self.config.queues_per_function
        self.pending_clear, ring, frame = Signal(queues), Signal(queues), Signal(queues)
        self.pending_set = Signal(queues)
        m.d.comb += [self.doorbell.ready.eq(1), self.arrival.ready.eq(1)]
        for queue in range(queues):
            m.d.comb += ring[queue].eq(self.doorbell.valid & (self.doorbell.payload.queue == queue))
            if queue % per == 0:
                m.d.comb += frame[queue].eq(
                    self.arrival.valid & (self.arrival.payload.function == queue // per)
                )
        m.d.sync += self.pending.eq(
            (self.pending & ~self.pending_clear) | ring | frame | self.pending_set
        )
        able = Signal(queues)
        for queue in range(queues):
            wants = Mux(self.waiting[queue], self.tx_alloc.valid, self.pending[queue])
            m.d.comb += able[queue].eq(
                self.enabled[queue]
                & ~self.running[queue]
                & wants
                & self.controls[queue // per].enable
            )
        # The first one after the last served, else the first of all.
        last, after = Signal(queues), Signal(queues)  # last: ones up to the last served
        self.last = last
        m.d.comb += after.eq(able & ~last)
        chosen = Signal(queues)
        m.d.comb += chosen.eq(
            Mux(after.any(), after & (~after + 1)[:queues], able & (~able + 1)[:queues])
        )
        number = 0
        for queue in range(queues):
            number = number | Mux(chosen[queue], queue, 0)
        self.able, self.chosen = Signal(), Signal(self.bits)
        m.d.comb += [self.able.eq(able.any()), self.chosen.eq(number)]
        self.chosen_mask = chosen

    def _emit(self, m: Module, name: str, **fields) -> None:
        payload, en = self.out[name]
        m.d.comb += en.eq(1)
        if "value" in fields:
            m.d.comb += payload.eq(fields["value"])
            return
        for field, value in fields.items():
            m.d.comb += payload[field].eq(value)

    def _thread(self, m: Module) -> None:
        """Take a thread up, let it step, put it back."""
        now = self.now
        m.d.comb += [
            self.state_read.addr.eq(self.queue),
            self.state_read.en.eq(1),
            self.state_write.addr.eq(self.queue),
            self.state_write.data.eq(now),
        ]
        beat = Signal(3)
        with m.Switch(now.phase):
            for phase, number in _BEAT_OF.items():
                with m.Case(phase):
                    m.d.comb += beat.eq(number)
        m.d.comb += self.scratch.read_addr.eq(self.queue * BEATS + beat)
        ending = Signal()  # the thread is taken up to be ended
        with m.FSM():
            with m.State("CHOOSE"):
                self._choose(m, ending)
            with m.State("FETCH"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += now.eq(self.state_read.data)
                m.next = "LOAD"
                with m.If(ending):
                    m.next = "END"
            with m.State("LOAD"):
                with m.If(self.calm):
                    m.next = "ACT"
            with m.State("ACT"):
                self._step(m)
            with m.State("POPPED"):
                m.d.sync += [
                    now.has_frame.eq(self.rx_pop.valid),
                    now.memory.eq(self.rx_pop.frame.memory),
                    now.slot.eq(self.rx_pop.frame.slot),
                    now.length.eq(self.rx_pop.frame.length),
                    now.position.eq(0),
                ]
                m.next = "LOAD"
            with m.State("SAVE"):
                m.d.comb += self.state_write.en.eq(1)
                m.next = "CHOOSE"
            with m.State("FAIL"):  # the error has been reported
                self._let_go(m)
                m.d.sync += self.enabled.eq(self.enabled & ~self.mine)
                m.next = "SAVE"
            with m.State("END"):
                with m.If(self.calm):
                    self._let_go(m)
                    self._emit(m, "stopped", value=self.queue)
                    m.d.sync += [
                        self.enabled.eq(self.enabled & ~self.mine),
                        self.stopping.eq(self.stopping & ~self.mine),
                    ]
                    m.next = "SAVE"
            with m.State("ENABLE"):
                m.d.comb += self.state_write.en.eq(1)
                m.d.comb += self.pending_set.eq(self.mine)
                m.d.sync += [
                    self.enabled.eq(self.enabled | self.mine),
                    self.waiting.eq(self.waiting & ~self.mine),
                ]
                m.next = "CHOOSE"
            with m.State("DISABLE"):
                with m.If(self.calm):
                    m.next = "CHOOSE"
                    with m.If((self.running & self.mine).any()):
                        m.d.sync += self.stopping.eq(self.stopping | self.mine)
                        self._emit(m, "request", tag=self.queue, cancel=1)
                    with m.Elif((self.enabled & self.mine).any()):
                        m.d.sync += ending.eq(1)
                        m.next = "FETCH"
                    with m.Else():
                        self._emit(m, "stopped", value=self.queue)

    def _choose(self, m: Module, ending) -> None:
        """Ended DMAs first, then commands, then whoever is awake."""
        done, command = self.done, self.command
        stops = Signal()
        m.d.comb += stops.eq(self.stopping.bit_select(done.payload.tag[: self.bits], 1))
        m.d.sync += ending.eq(0)
        with m.If(done.valid):
            m.d.comb += done.ready.eq(1)
            ended = Signal(self.config.queues)
            m.d.comb += ended.eq(1 << done.payload.tag[: self.bits])
            m.d.sync += [
                self.queue.eq(done.payload.tag),
                self.status.eq(done.payload.status),
                self.running.eq(self.running & ~ended),
                ending.eq(stops),
            ]
            m.next = "FETCH"
        with m.Elif(command.valid):
            m.d.comb += command.ready.eq(1)
            order = command.payload
            m.d.sync += [
                self.queue.eq(order.queue),
                self.now.eq(0),
                self.now.size.eq(order.size),
                self.now.desc.eq(order.desc),
                self.now.driver.eq(order.driver),
                self.now.device.eq(order.device),
                self.now.vector.eq(order.msix_vector),
            ]
            with m.If(order.op == QueueOp.ENABLE):
                m.next = "ENABLE"
            with m.Else():
                m.next = "DISABLE"
        with m.Elif(self.able):
            m.d.comb += self.pending_clear.eq(self.chosen_mask)
            m.d.sync += [
                self.queue.eq(self.chosen),
                self.status.eq(DmaStatus.OK),
                self.waiting.eq(self.waiting & ~self.chosen_mask),
                self.last.eq(self.chosen_mask | (self.chosen_mask - 1)),
            ]
            m.next = "FETCH"

    def _let_go(self, m: Module) -> None:
        """Give back the frame or slot of a queue that ends."""
        now = self.now
        m.d.sync += now.has_frame.eq(0)
        with m.If(now.has_frame):
            self._emit(m, "release", memory=now.memory, slot=now.slot, length=now.length)

    def _step(self, m: Module) -> None:
        now = self.now
        steps = Steps(
            m,
            self.config,
            state=now,
            queue=self.queue,
            function=self.function,
            transmits=self.queue[0],
            first=self.first,
            slot_there=self.tx_alloc.valid,
            beat=self.scratch.read_data,
            status=self.status,
        )
        m.next = "LOAD"
        steps.build()
        with m.If(steps.failed):
            self._emit(m, "error", queue=self.queue, error=steps.error)
            m.next = "FAIL"
        with m.Elif(steps.issue):
            self._emit(
                m,
                "request",
                tag=self.queue,
                function=self.function,
                write=steps.write,
                iova=steps.iova,
                length=steps.length,
                memory=steps.memory,
                offset=steps.offset,
                hurried=steps.hurried,
            )
            m.d.sync += self.running.eq(self.running | self.mine)
            m.next = "SAVE"
        with m.Elif(steps.sleep):
            m.next = "SAVE"
        with m.Elif(steps.pop):
            m.next = "POPPED"
        with m.If(steps.wait_slot):
            m.d.sync += self.waiting.eq(self.waiting | self.mine)
        with m.If(steps.take_slot):
            m.d.comb += self.tx_alloc.ready.eq(1)
            m.d.sync += [
                now.has_frame.eq(1),
                now.memory.eq(LocalMemory.TX),
                now.slot.eq(self.tx_alloc.payload),
                now.length.eq(0),
            ]
        m.d.comb += [
            self.rx_pop.en.eq(steps.pop),
            self.rx_pop.function.eq(self.function),
            self.scratch.write_en.eq(steps.out_en),
            self.scratch.write_addr.eq(self.queue * BEATS + steps.out_beat),
            self.scratch.write_data.eq(steps.out_data),
        ]
        with m.If(steps.stat_en):
            self._emit(m, "stat", function=self.function, stat=steps.stat, amount=steps.amount)
        with m.If(steps.interrupt):
            self._emit(m, "interrupt", function=self.function, vector=now.vector)
        with m.If(steps.release):
            self._emit(m, "release", memory=now.memory, slot=now.slot, length=now.length)
        with m.If(steps.send):
            payload, en = self.out["tx_frame"]
            m.d.comb += [
                en.eq(1),
                payload.function.eq(self.function),
                payload.frame.memory.eq(LocalMemory.TX),
                payload.frame.slot.eq(now.slot),
                payload.frame.length.eq(now.position),
            ]
