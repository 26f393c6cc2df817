"""Whether the checksum of a TCP or UDP packet is right (virtio 1.3, 5.1.6.4.1)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.ethernet import IpProtocol
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.offload.packet import Packet, PacketFinder, big_endian
from rtl.nic.offload.sums import SUM_LATENCY, LaneSum, add, exchanged, folded

__all__ = ["CHECK_LATENCY", "CheckedBeat", "Checker", "Finding"]

#: Cycles from the last beat to the finding.
CHECK_LATENCY = SUM_LATENCY + 2
_LEAST = {IpProtocol.TCP: 20, IpProtocol.UDP: 8}


class Finding(enum.IntEnum, shape=2):
    """What is known of a frame's checksum."""

    NONE = 0  # there is none to look at
    GOOD = 1
    BAD = 2


class CheckedBeat(data.Struct):
    """A beat of a frame on its way through a :class:`Checker`."""

    data: 8 * BEAT_BYTES
    index: 12  # of the beat within its frame
    last: 1  # of those that come
    length: 17  # of the frame; needed with the last beat, with ``partial`` always
    tag: 8  # of the frame, with the last beat


class Checker(wiring.Component):
    """Sums the pseudo header and what the packet holds, and says whether that comes to nothing.

    A packet is looked at if it is TCP or UDP with all its header, no fragment, without IPv6
    extension headers, and lies in its frame; a UDP packet also if its length is the packet's, and
    over IPv4 only if it has a checksum.

    The beats of a frame come in order from the first on.  With ``partial`` those may be left out of
    which every byte is summed; the others are subtracted from ``total``, the sum of the frame.  The
    last may be one behind the frame.

    Latency
    -------
    One beat per cycle; the finding comes ``CHECK_LATENCY`` cycles after the last beat.

    Members
    -------
    en, beat : ``In``
        Beats; the next frame may follow at once.
    partial, total : ``In``
        As long as beats of the frame come, and ``SUM_LATENCY`` cycles longer.
    packet : ``Out(Packet)``
        What has been found in the first two beats, 1 cycle after the second.
    done, tag, finding : ``Out``
        A frame's finding, for one cycle.
    """

    en: In(1)
    beat: In(CheckedBeat)
    partial: In(1)
    total: In(16)
    packet: Out(Packet)
    done: Out(1)
    tag: Out(8)
    finding: Out(Finding)

    def elaborate(self, platform):
        m = Module()
        m.submodules.finder = finder = PacketFinder()
        m.submodules.lanes = lanes = LaneSum()
        en, beat = Signal(), Signal(CheckedBeat)  # one cycle later, when the finder has seen it
        m.d.sync += [en.eq(self.en), beat.eq(self.beat)]
        m.d.comb += [
            finder.en.eq(self.en),
            finder.first.eq(self.beat.index == 0),
            finder.second.eq(self.beat.index == 1),
            finder.data.eq(self.beat.data),
            self.packet.eq(finder.packet),
            lanes.data.eq(beat.data),
        ]
        packet = finder.packet
        summed = Signal(BEAT_BYTES)
        reach = {
            name: self._from(m, beat.index, place, name)
            for name, place in (
                ("addresses", packet.addresses),
                ("behind", packet.behind),
                ("transport", packet.transport),
                ("end", packet.end),
                ("length", beat.length),
            )
        }
        m.d.comb += [
            summed.eq(
                (reach["addresses"] & ~reach["behind"]) | (reach["transport"] & ~reach["end"])
            ),
            lanes.mask.eq(Mux(self.partial, ~summed & ~reach["length"], summed)),
        ]
        with m.If(beat.index == 0):  # before the second beat nothing is known
            m.d.comb += lanes.mask.eq(Mux(self.partial, ~reach["length"], 0))

        first, last, there = beat.index == 0, beat.last, en
        for stage in range(SUM_LATENCY):
            later = [Signal(name=f"{name}{stage}") for name in ("first", "last", "there")]
            for target, source in zip(later, (first, last, there), strict=True):
                m.d.sync += target.eq(source)
            first, last, there = later
        base, sum_ = Signal(16), Signal(16)
        m.d.comb += base.eq(Mux(first, Mux(self.partial, self.total, 0), sum_))
        with m.If(there):
            m.d.sync += sum_.eq(add(m, base, Mux(self.partial, ~lanes.sum, lanes.sum), "running"))
        self._judge(m, en, beat, there & last, sum_)
        return m

    @staticmethod
    def _from(m: Module, index, place, name: str):
        """Lanes of a beat at or behind a place in its frame."""
        lanes = Signal(BEAT_BYTES, name=f"from_{name}")
        with m.If(index > place[4:]):
            m.d.comb += lanes.eq(-1)
        with m.Elif(index == place[4:]):
            m.d.comb += lanes.eq(Cat(place[:4] <= lane for lane in range(BEAT_BYTES)))
        return lanes

    def _judge(self, m: Module, en, beat, summed, sum_) -> None:
        """What can be said without the sum is decided while it is on its way."""
        packet = self.packet
        length, stored = Signal(16), Signal(16)  # of the UDP header
        for target, offset in ((length, 4), (stored, 6)):
            place = packet.transport + offset
            with m.If(en & (beat.index == place[4:])):
                with m.Switch(place[2:4]):
                    for word in range(4):
                        with m.Case(word):
                            lane = 4 * word + (2 if offset == 4 else 0)
                            m.d.sync += target.eq(big_endian(beat.data, lane))

        ending, size = Signal(data.StructLayout({"length": 17, "tag": 8})), Signal(17)
        m.d.sync += [ending.length.eq(beat.length), ending.tag.eq(beat.tag)]
        m.d.comb += size.eq(packet.end - packet.transport)
        sound, looked_at, missing = Signal(), Signal(), Signal()
        least = Mux(
            packet.protocol == IpProtocol.TCP, _LEAST[IpProtocol.TCP], _LEAST[IpProtocol.UDP]
        )
        udp = packet.protocol == IpProtocol.UDP
        m.d.comb += [
            sound.eq(
                (packet.v6 | (packet.v4 & ~packet.fragment & (packet.header >= 5)))
                & (ending.length > BEAT_BYTES)
                & (packet.end <= ending.length)
                & (packet.end >= packet.transport)
                & (ending.length >= packet.behind)
            ),
            looked_at.eq(
                sound
                & ((packet.protocol == IpProtocol.TCP) | (udp & (length == size)))
                & (size >= least)
                & ~(udp & packet.v4 & (stored == 0))
            ),
            missing.eq(udp & (stored == 0)),
        ]
        pseudo = Signal(18)
        m.d.comb += pseudo.eq((packet.protocol << 8) + exchanged(size[:16]))
        kept = Signal(data.StructLayout({"tag": 8, "looked_at": 1, "missing": 1, "pseudo": 16}))
        m.d.sync += [
            kept.tag.eq(ending.tag),
            kept.looked_at.eq(looked_at),
            kept.missing.eq(missing),
            kept.pseudo.eq(folded(m, pseudo, "pseudo")),
        ]
        stage = kept
        for number in range(SUM_LATENCY - 1):
            later = Signal.like(kept, name=f"kept{number}")
            m.d.sync += later.eq(stage)
            stage = later
        m.d.sync += self.done.eq(summed)
        total = add(m, sum_, stage.pseudo, "whole")
        m.d.comb += self.tag.eq(stage.tag)
        with m.If(stage.looked_at):
            m.d.comb += self.finding.eq(
                Mux((total == 0xFFFF) & ~stage.missing, Finding.GOOD, Finding.BAD)
            )
