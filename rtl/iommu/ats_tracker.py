"""Outstanding ATS invalidation requests."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.translation import InvalidationCompletion

__all__ = ["AtsTracker"]

#: Completions per request when the completion count is 0 (PCIe Base 6.0, 10.3.2).
COUNT_OF_ZERO = 8


class AtsTracker(wiring.Component):
    """Gives ITAGs away and counts completions until the device has sent all of each.

    A completion for a tag that is free, or from another device than the request went to, changes
    nothing.  When no request was sent and no completion came for ``timeout`` cycles, all tags are
    given up and ``timed_out`` is set until ``forget``.

    Latency
    -------
    A completion is processed in ``itags`` + 1 cycles.

    Parameters
    ----------
    itags : int
        Requests outstanding, 2 to 32, a power of two.
    timeout : int
        Cycles.

    Members
    -------
    allocate : ``In(stream)`` of a device_id
        Ready when ``itag`` is free.
    itag : ``Out(5)``
        Tag of the request transferred on ``allocate``.
    completion : ``In(stream)`` of InvalidationCompletion
    pending : ``Out(1)``
        Some tag is outstanding.
    timed_out, forget : ``Out(1)``, ``In(1)``
    abandon : ``In(1)``
        Give up all tags without a word.
    """

    def __init__(self, *, itags: int, timeout: int):
        if not 2 <= itags <= 32 or itags & (itags - 1):
            raise ValueError(f"ITAGs must be a power of two in 2 to 32, not {itags!r}")
        if timeout < 2:
            raise ValueError(f"Time-out must be at least 2 cycles, not {timeout!r}")
        self._itags, self._timeout = itags, timeout
        super().__init__(
            {
                "allocate": In(stream.Signature(24)),
                "itag": Out(5),
                "completion": In(stream.Signature(InvalidationCompletion)),
                "pending": Out(1),
                "timed_out": Out(1),
                "forget": In(1),
                "abandon": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self._itags
        busy, scanned = Signal(count), Signal(range(count))
        device = Memory(shape=24, depth=count, init=[])
        received = Memory(shape=3, depth=count, init=[])
        m.submodules.device, m.submodules.received = device, received
        device_write, device_read = device.write_port(), device.read_port(domain="comb")
        received_write, received_read = received.write_port(), received.read_port(domain="comb")
        timer = Signal(range(self._timeout + 1))
        message = Signal(InvalidationCompletion)
        done, counted, scanning = Signal(), Signal(), Signal()

        # Tags are given in turn, so that a late completion meets another tag.
        tag = Signal(range(count))
        take = Signal()
        m.d.comb += [
            self.itag.eq(tag),
            self.pending.eq(busy.any()),
            self.allocate.ready.eq(~busy.bit_select(tag, 1) & ~scanning),
            take.eq(self.allocate.valid & self.allocate.ready),
            device_write.addr.eq(tag),
            device_write.data.eq(self.allocate.payload),
            device_write.en.eq(take),
        ]
        with m.If(take | busy.bit_select(tag, 1)):
            m.d.sync += tag.eq(tag + 1)

        # Completions
        expected = Mux(message.count == 0, COUNT_OF_ZERO, message.count)
        m.d.comb += [
            device_read.addr.eq(scanned),
            received_read.addr.eq(scanned),
            counted.eq(
                scanning
                & message.itag_vector.bit_select(scanned, 1)
                & busy.bit_select(scanned, 1)
                & (device_read.data == message.device_id)
            ),
            done.eq(counted & (received_read.data + 1 >= expected)),
            received_write.addr.eq(Mux(scanning, scanned, tag)),
            received_write.data.eq(Mux(scanning, received_read.data + 1, 0)),
            received_write.en.eq(take | counted),
            self.completion.ready.eq(~scanning),
        ]
        with m.If(~scanning):
            m.d.sync += [message.eq(self.completion.payload), scanned.eq(0)]
            m.d.sync += scanning.eq(self.completion.valid)
        with m.Else():
            m.d.sync += scanned.eq(scanned + 1)
            with m.If(scanned == count - 1):
                m.d.sync += scanning.eq(0)

        with m.If(take):
            m.d.sync += busy.bit_select(tag, 1).eq(1)
        with m.If(done):
            m.d.sync += busy.bit_select(scanned, 1).eq(0)

        # Time-out
        with m.If(self.forget):
            m.d.sync += self.timed_out.eq(0)
        m.d.sync += timer.eq(timer + 1)
        with m.If(take | counted | ~busy.any()):
            m.d.sync += timer.eq(0)
        with m.Elif(timer == self._timeout):
            m.d.sync += [timer.eq(0), busy.eq(0), self.timed_out.eq(1)]
        with m.If(self.abandon):
            m.d.sync += [busy.eq(0), self.timed_out.eq(0)]
        return m
