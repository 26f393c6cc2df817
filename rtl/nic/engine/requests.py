"""Tags of the virtqueue engine's DMA."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from rtl.bus.stream import StreamArbiter, StreamFifo, StreamRegister, StreamStage
from rtl.nic.engine.records import Shapes, Unit
from rtl.nic.seams import DmaDone, DmaRequest, DmaStatus

__all__ = ["Requests"]


class Requests(wiring.Component):
    """Gives each job a tag, and tells its owner how it ended.

    Patient jobs may wait for a page for ever, with their tags; so they may have no more than
    ``patient`` tags together, and whoever has a patient job asks for ``patient_room`` first.  Jobs
    of a queue that is halted end as if they had been cancelled; those under way are cancelled by
    ``cancel``, which looks at one tag a cycle.

    Frames that are sent can wait where they are, others cannot: jobs of the transmitters go only
    while the DMA has slots for more, or less than a quarter of them, one at the least, are theirs.

    Latency
    -------
    Three cycles to a request, two from its end; one job and one end a cycle, of one unit a job
    every other cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    jobs0 to jobs4 : ``In(stream)`` of ``Shapes.job``
    halted : ``In(queues)``
    cancel : ``In(stream)`` of a queue
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
    ended : ``Out(stream)`` of ``Shapes.ended``
    patient_room : ``Out(1)``
        Four more patient jobs may come.
    waits : ``Out(queues)``
        Queues with patient jobs.
    stall : ``In(1)``
        No other job begins while there is a patient one.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        #: Tags for patient jobs: neither those kept for others nor those that prefetch.
        self.patient = config.engine_tags - max(2, config.engine_tags // 4) - config.prefetch
        #: Those that ask: nothing is asked for ahead of use without room for it.
        self.units = len(Unit) - (not config.prefetch)
        job = stream.Signature(self.shapes.job)
        super().__init__(
            {f"jobs{number}": In(job) for number in range(self.units)}
            | {
                "halted": In(config.data_queues),
                "cancel": In(stream.Signature(self.shapes.queue)),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "ended": Out(stream.Signature(self.shapes.ended)),
                "patient_room": Out(1),
                "waits": Out(config.data_queues),
                "stall": In(1),
            }
        )

    @property
    def jobs(self) -> list:
        """The streams of jobs, in the order of :class:`Unit`."""
        return [getattr(self, f"jobs{number}") for number in range(self.units)]

    def elaborate(self, platform):
        m = Module()
        shapes, tags = self.shapes, self.config.engine_tags
        m.submodules.arbiter = arbiter = StreamArbiter(shapes.job, self.units)
        m.submodules.free = free = StreamFifo(shapes.tag, tags)
        m.submodules.out = out = StreamRegister(DmaRequest)
        m.submodules.ends = ends = StreamRegister(shapes.ended)
        entry = data.StructLayout({"owner": shapes.owner, "patient": 1})
        m.submodules.table = table = Memory(shape=entry, depth=max(2, tags), init=[])
        note, look = table.write_port(), table.read_port(domain="comb")
        walk = table.read_port(domain="comb")
        patient = []  # such jobs that are taken in
        send_room = Signal()
        for number, (job, target) in enumerate(zip(self.jobs, arbiter.inputs, strict=True)):
            m.submodules[f"stage{number}"] = stage = StreamStage(shapes.job)
            connect(m, flipped(job), stage.i)
            goes = send_room if number == Unit.TRANSMIT else 1
            m.d.comb += [
                target.payload.eq(stage.o.payload),
                target.valid.eq(stage.o.valid & goes),
                stage.o.ready.eq(target.ready & goes),
            ]
            patient.append(job.valid & job.ready & job.payload.patient)
        connect(m, out.o, flipped(self.request))
        connect(m, ends.o, flipped(self.ended))

        job, fresh, busy = arbiter.o, Signal(range(tags + 1)), Signal(tags)
        queue = job.payload.owner.queue
        halted, refuses, sends, cancels = Signal(), Signal(), Signal(), Signal()
        tag, doomed = Signal(shapes.tag), Signal(shapes.queue)
        # Patient jobs that are under way; and those, with what is on its way here.
        waiting, claimed = Signal(range(tags + 1)), Signal(range(tags + 8))
        m.d.comb += halted.eq(self.halted.bit_select(queue, 1))
        with m.FSM():
            with m.State("SERVE"):
                m.d.sync += [tag.eq(0), doomed.eq(self.cancel.payload)]
                with m.If(self.cancel.valid):
                    m.d.comb += self.cancel.ready.eq(1)
                    m.next = "WALK"
                with m.Elif(job.valid & halted):
                    m.d.comb += [
                        refuses.eq(ends.i.ready & ~self.done.valid),
                        job.ready.eq(refuses),
                    ]
                with m.Elif(job.valid & (~self.stall | (waiting == 0) | job.payload.patient)):
                    m.d.comb += [sends.eq(free.o.valid & out.i.ready), job.ready.eq(sends)]
            with m.State("WALK"):
                m.d.comb += cancels.eq(busy.bit_select(tag, 1) & (walk.data.owner.queue == doomed))
                with m.If(~cancels | out.i.ready):
                    m.d.sync += tag.eq(tag + 1)
                    with m.If(tag == tags - 1):
                        m.next = "SERVE"

        fields, asked = out.i.payload, job.payload
        m.d.comb += [
            walk.addr.eq(tag),
            out.i.valid.eq(sends | cancels),
            fields.tag.eq(free.o.payload),
            fields.function.eq(shapes.function_of(queue)),
            fields.hurried.eq(~asked.patient & (asked.owner.unit != Unit.PREFETCH)),
            free.o.ready.eq(sends),
            note.en.eq(sends),
            note.addr.eq(free.o.payload),
            note.data.owner.eq(asked.owner),
            note.data.patient.eq(asked.patient),
        ]
        for name in ("write", "iova", "length", "memory", "offset"):
            m.d.comb += fields[name].eq(asked[name])
        with m.If(cancels):
            m.d.comb += [fields.eq(0), fields.cancel.eq(1), fields.tag.eq(tag)]

        done, end = self.done, ends.i
        finishes = Signal()
        m.d.comb += [
            look.addr.eq(done.payload.tag),
            done.ready.eq(end.ready & (fresh == tags)),
            finishes.eq(done.valid & done.ready),
            end.valid.eq(finishes | refuses),
            end.payload.owner.eq(look.data.owner),
            end.payload.status.eq(done.payload.status),
            free.i.valid.eq(finishes | (fresh != tags)),
            free.i.payload.eq(done.payload.tag),
        ]
        with m.If(refuses):
            m.d.comb += [
                end.payload.owner.eq(asked.owner),
                end.payload.status.eq(DmaStatus.CANCELLED),
            ]
        with m.If(fresh != tags):
            m.d.comb += free.i.payload.eq(fresh)
            m.d.sync += fresh.eq(fresh + 1)

        sent, gone = Signal(tags), Signal(tags)
        begun, over, dropped = Signal(), Signal(), Signal()
        fresh_patient = Signal(self.units)
        m.d.comb += [
            sent.eq(sends << free.o.payload),
            gone.eq(finishes << done.payload.tag[: shapes.tag]),
            begun.eq(sends & asked.patient),
            over.eq(finishes & look.data.patient),
            dropped.eq(refuses & asked.patient),
        ]
        m.d.sync += [
            # Who has just taken some of the room does not see it in the next cycle.
            fresh_patient.eq(Cat(patient)),
            self.patient_room.eq(
                (claimed + sum(fresh_patient) + 4 <= self.patient) & ~Cat(patient).any()
            ),
            busy.eq((busy | sent) & ~gone),
            waiting.eq(waiting + begun - over),
            claimed.eq(claimed + sum(fresh_patient) - over - dropped),
        ]
        self._count(m, begun, over, queue, look.data.owner.queue)
        begins, ends = sends & ~asked.patient, finishes & ~look.data.patient
        self._send_room(m, send_room, (begins, asked.owner.unit), (ends, look.data.owner.unit))
        return m

    def _send_room(self, m: Module, room, begins, ends) -> None:
        """Count jobs that do not wait for pages, and those of transmitters among them."""
        slots, most = self.config.dma_slots, range(self.config.engine_tags + 1)
        every, sent = Signal(most), Signal(most)
        (begun, beginner), (over, ender) = begins, ends
        m.d.sync += [
            every.eq(every + begun - over),
            sent.eq(
                sent + (begun & (beginner == Unit.TRANSMIT)) - (over & (ender == Unit.TRANSMIT))
            ),
            room.eq((every < slots) | (sent < max(1, slots // 4))),
        ]

    def _count(self, m: Module, begun, over, beginner, ender) -> None:
        """Count patient jobs of each queue: at most one of each unit that serves it."""
        for number in range(self.config.data_queues):
            count = Signal(2, name=f"patient{number}")
            m.d.sync += count.eq(
                count + (begun & (beginner == number)) - (over & (ender == number))
            )
            m.d.comb += self.waits[number].eq(count.any())
