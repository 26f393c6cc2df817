"""Command queue of the IOMMU (section "Command-Queue")."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.iommu import AtsCommand, Command, Iofence
from models.spec.translation import GroupResponse, InvalidationCompletion, InvalidationRequest
from rtl.bus.arbiter import set_address
from rtl.bus.axi import Axi4, Resp
from rtl.iommu.ats_tracker import AtsTracker
from rtl.iommu.command_decoder import CommandDecoder, CommandKind
from rtl.iommu.command_fetch import CommandFetch
from rtl.iommu.endian import in_order
from rtl.iommu.register_file import QueueRegisters
from rtl.iommu.seams import Drain, Invalidate

__all__ = ["CommandQueue"]

#: Places of the status bits in ``QueueRegisters.flags``: cqcsr bits 8 to 11.
MEMORY_FAULT, TIMED_OUT, ILLEGAL, FENCE_WIRE = range(4)
#: Status bits that stop the queue.
STOPPING = 0b0111


class CommandQueue(wiring.Component):
    """Fetches, checks and executes commands in order; ``cqh`` is the first that is not done.

    Commands are fetched ahead in bursts.  A command whose fetch failed is fetched once more by
    itself before ``cqmf`` is set, so a fault of a neighbour in the same burst does not hit it.
    A status bit stops the queue at the command concerned, which is fetched and tried again when
    software has cleared all of ``cqmf``, ``cmd_to`` and ``cmd_ill``.  Enabling clears ``cqh`` and
    the status bits, and forgets ATS invalidations that are outstanding.  Disabling takes effect
    after the command under way; one that waits (a fence, or an ATS invalidation for a tag) is left
    undone.

    IOFENCE.C waits until the translator has answered what it had accepted, with PR or PW until the
    outside has finished earlier DMA, and until all ATS invalidations are completed or given up; in
    the latter case it sets ``cmd_to`` once.  Its data is in memory, response received, before
    ``cqh`` moves.

    Latency
    -------
    An invalidation that is accepted at once takes 4 cycles.

    Parameters
    ----------
    config : IommuConfig
        Capabilities, ``itags`` and ``ats_timeout``.

    Members
    -------
    registers : ``In(QueueRegisters)``
    mode, wsi, be : ``In(4)``, ``In(1)``, ``In(1)``
        ddtp.mode, fctl.WSI and fctl.BE, which is the byte order of commands and of IOFENCE.C data.
    interrupt : ``Out(1)``
        Condition of ipsr.cip.
    invalidate : ``Out(stream)`` of Invalidate
    drain, fence : ``Out(Drain)``
        Of the translator and of the outside.
    invalidation, completion, group_response : streams
        ATS.INVAL, its completions, ATS.PRGR.
    fetch, write : ``Out(Axi4)``
        Reads of commands, writes of IOFENCE.C data.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "registers": In(QueueRegisters()),
                "mode": In(4),
                "wsi": In(1),
                "be": In(1),
                "interrupt": Out(1),
                "invalidate": Out(stream.Signature(Invalidate)),
                "drain": Out(Drain()),
                "fence": Out(Drain()),
                "invalidation": Out(stream.Signature(InvalidationRequest)),
                "completion": In(stream.Signature(InvalidationCompletion)),
                "group_response": Out(stream.Signature(GroupResponse)),
                "fetch": Out(Axi4(addr_width=config.pas, data_width=64, id_width=1, write=False)),
                "write": Out(Axi4(addr_width=config.pas, data_width=64, id_width=1, read=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        registers = self.registers
        m.submodules.fetcher = fetcher = CommandFetch(addr_width=self.config.pas)
        m.submodules.decoder = decoder = CommandDecoder(self.config)
        m.submodules.tracker = tracker = AtsTracker(
            itags=self.config.itags, timeout=self.config.ats_timeout
        )
        connect(m, fetcher.memory, flipped(self.fetch))
        connect(m, flipped(self.completion), tracker.completion)

        # Status bits that enabling is about to clear raise nothing more.
        opens = registers.enable & ~registers.on
        head, single = Signal(32), Signal()
        flags, set_flags = Signal(4), Signal(4)
        command, failed = Signal(Command), Signal()
        m.d.sync += flags.eq(flags & ~registers.clear | set_flags)
        m.d.comb += [
            registers.position.eq(head),
            registers.flags.eq(flags),
            self.interrupt.eq(registers.interrupt_enable & flags.any() & ~opens),
            fetcher.single.eq(single),
            fetcher.head.eq(head),
            fetcher.tail.eq(registers.index),
            fetcher.mask.eq(registers.mask),
            fetcher.ppn.eq(registers.ppn),
            fetcher.be.eq(self.be),
            decoder.command.eq(command),
            decoder.mode.eq(self.mode),
            decoder.wsi.eq(self.wsi),
        ]
        self._messages(m, command, tracker)
        self._fence_write(m, Iofence(command.as_value()))
        fence = Iofence(command.as_value())
        needs_outside = fence.pr | fence.pw

        with m.FSM():
            with m.State("STOPPED"):  # nothing fetched, nothing under way
                with m.If(registers.enable != registers.on):
                    m.d.sync += [registers.on.eq(registers.enable), single.eq(0)]
                    with m.If(registers.enable):
                        m.d.sync += [head.eq(0), flags.eq(0)]
                        m.d.comb += tracker.abandon.eq(1)
                with m.Elif(registers.on & fetcher.idle & ~(flags & STOPPING).any()):
                    m.next = "FETCH"
            with m.State("FLUSH"):
                with m.If(fetcher.idle):
                    m.next = "STOPPED"
            with m.State("FETCH"):
                m.d.comb += fetcher.run.eq(1)
                m.d.sync += [
                    command.eq(fetcher.command.payload.command),
                    failed.eq(fetcher.command.payload.failed),
                ]
                with m.If(~registers.enable):
                    m.next = "FLUSH"
                with m.Elif(fetcher.command.valid):
                    m.d.comb += fetcher.command.ready.eq(1)
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.d.comb += fetcher.run.eq(1)
                m.d.sync += self.invalidate.payload.eq(decoder.invalidate)
                with m.If(failed):
                    m.d.comb += set_flags[MEMORY_FAULT].eq(single)
                    m.d.sync += single.eq(~single)
                    m.next = "FLUSH"
                with m.Else():
                    m.d.sync += single.eq(0)
                    with m.Switch(decoder.kind):
                        with m.Case(CommandKind.INVALIDATE):
                            m.d.sync += self.invalidate.valid.eq(1)
                            m.next = "INVALIDATE"
                        with m.Case(CommandKind.FENCE):
                            m.next = "FENCE"
                        with m.Case(CommandKind.ATS_INVALIDATE):
                            m.next = "ALLOCATE"
                        with m.Case(CommandKind.GROUP_RESPONSE):
                            m.d.sync += self.group_response.valid.eq(1)
                            m.next = "RESPOND"
                        with m.Default():
                            m.d.comb += set_flags[ILLEGAL].eq(1)
                            m.next = "FLUSH"
            with m.State("INVALIDATE"):
                m.d.comb += fetcher.run.eq(1)
                with m.If(self.invalidate.ready):
                    m.d.sync += self.invalidate.valid.eq(0)
                    m.next = "RETIRE"
            with m.State("ALLOCATE"):
                m.d.comb += [fetcher.run.eq(1), tracker.allocate.valid.eq(registers.enable)]
                m.d.sync += self.invalidation.payload.itag.eq(tracker.itag)
                with m.If(~registers.enable):
                    m.next = "FLUSH"
                with m.Elif(tracker.allocate.ready):
                    m.d.sync += self.invalidation.valid.eq(1)
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += fetcher.run.eq(1)
                with m.If(self.invalidation.ready):
                    m.d.sync += self.invalidation.valid.eq(0)
                    m.next = "RETIRE"
            with m.State("RESPOND"):
                m.d.comb += fetcher.run.eq(1)
                with m.If(self.group_response.ready):
                    m.d.sync += self.group_response.valid.eq(0)
                    m.next = "RETIRE"
            with m.State("FENCE"):
                m.d.comb += [
                    fetcher.run.eq(1),
                    self.drain.request.eq(1),
                    self.fence.request.eq(needs_outside),
                ]
                with m.If(~registers.enable):
                    m.next = "FLUSH"
                with m.Elif(tracker.timed_out):
                    m.d.comb += [set_flags[TIMED_OUT].eq(1), tracker.forget.eq(1)]
                    m.next = "FLUSH"
                with m.Elif(
                    self.drain.done & (self.fence.done | ~needs_outside) & ~tracker.pending
                ):
                    m.next = "FENCE DONE"
                    with m.If(fence.av):
                        m.next = "FENCE WRITE"
                        with m.If((fence.addr >> (self.config.pas - 2)).any()):
                            m.d.comb += set_flags[MEMORY_FAULT].eq(1)
                            m.next = "FLUSH"
                        with m.Else():
                            m.d.sync += self.write.aw.valid.eq(1)
            with m.State("FENCE WRITE"):
                m.d.comb += [fetcher.run.eq(1), self.write.b.ready.eq(1)]
                with m.If(self.write.aw.valid & self.write.aw.ready):
                    m.d.sync += [self.write.aw.valid.eq(0), self.write.w.valid.eq(1)]
                with m.If(self.write.w.valid & self.write.w.ready):
                    m.d.sync += self.write.w.valid.eq(0)
                with m.If(self.write.b.valid):
                    m.next = "FENCE DONE"
                    with m.If(self.write.b.payload.resp != Resp.OKAY):
                        m.d.comb += set_flags[MEMORY_FAULT].eq(1)
                        m.next = "FLUSH"
            with m.State("FENCE DONE"):
                m.d.comb += [fetcher.run.eq(1), set_flags[FENCE_WIRE].eq(fence.wsi)]
                m.next = "RETIRE"
            with m.State("RETIRE"):
                m.d.comb += fetcher.run.eq(1)
                m.d.sync += head.eq((head + 1) & registers.mask)
                m.next = "FETCH"
        return m

    def _messages(self, m: Module, command, tracker) -> None:
        """Payloads of the messages to devices; stable while the command is under way."""
        ats = AtsCommand(command.as_value())
        device_id = Signal(24)
        m.d.comb += [
            device_id.eq(Cat(ats.rid, Mux(ats.dsv, ats.dseg, 0))),
            tracker.allocate.payload.eq(device_id),
        ]
        for message in (self.invalidation.payload, self.group_response.payload):
            m.d.sync += [
                message.device_id.eq(device_id),
                message.dsv.eq(ats.dsv),
                message.process_id.eq(Mux(ats.pv, ats.pid, 0)),
                message.pv.eq(ats.pv),
                message.payload.eq(ats.payload),
            ]

    def _fence_write(self, m: Module, fence) -> None:
        """The 4 bytes of an IOFENCE.C."""
        write = self.write
        m.d.comb += [
            *set_address(write.aw, addr=fence.addr << 2, size=2),
            write.w.payload.data.eq(in_order(fence.data, self.be).replicate(2)),
            write.w.payload.strb.eq(Mux(fence.addr[0], 0xF0, 0x0F)),
            write.w.payload.last.eq(1),
        ]
