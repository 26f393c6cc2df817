"""Where the parts of a packet are, found while its frame passes by."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from models.spec.ethernet import EtherType
from rtl.nic.byte_memory import BEAT_BYTES

__all__ = ["Packet", "PacketFinder", "big_endian"]


class Packet(data.Struct):
    """An IP packet behind at most one VLAN tag; offsets are of bytes of its frame."""

    v4: 1
    v6: 1
    fragment: 1
    protocol: 8
    network: 8
    header: 4  # words of an IPv4 header
    transport: 8
    end: 17
    addresses: 8  # where the addresses begin, and what follows them
    behind: 8


def big_endian(beat, lane: int):
    """The 16 bits at a lane of a beat, as they are read on the wire."""
    return Cat(beat.word_select(lane + 1, 8), beat.word_select(lane, 8))


class PacketFinder(wiring.Component):
    """Reads the headers' first parts out of the first two beats of a frame.

    Of one with fewer beats nothing can be said; whether all lies in the frame is not looked at.

    Latency
    -------
    ``packet`` follows the second beat by a cycle and stays until that of another frame.

    Members
    -------
    en, first, second, data : ``In``
        A beat, whether it is the first or the second.
    packet : ``Out(Packet)``
    """

    en: In(1)
    first: In(1)
    second: In(1)
    data: In(8 * BEAT_BYTES)
    packet: Out(Packet)

    def elaborate(self, platform):
        m = Module()
        beat, packet = self.data, self.packet
        kind, version = Signal(16), Signal(8)  # of the first beat: at bytes 12 and 14
        with m.If(self.en & self.first):
            m.d.sync += [kind.eq(big_endian(beat, 12)), version.eq(beat.word_select(14, 8))]

        tagged, real, start = Signal(), Signal(16), Signal(8)
        m.d.comb += [
            tagged.eq(kind == EtherType.VLAN),
            real.eq(Mux(tagged, big_endian(beat, 0), kind)),
            start.eq(Mux(tagged, beat.word_select(2, 8), version)),
        ]
        # Byte 16 is byte 2 of the IP header, or with a tag byte -2.
        words = [Signal(16, name=f"word{n}") for n in range(4)]  # bytes 2 to 9 of the IP header
        for number, word in enumerate(words):
            plain = big_endian(beat, 2 * number)
            m.d.comb += word.eq(Mux(tagged, big_endian(beat, 2 * number + 4), plain))
        total, sizes, fragment, last = words
        v4, v6, network, transport = Signal(), Signal(), Signal(8), Signal(8)
        m.d.comb += [
            v4.eq((real == EtherType.IPV4) & (start[4:] == 4)),
            v6.eq((real == EtherType.IPV6) & (start[4:] == 6)),
            network.eq(Mux(tagged, 18, 14)),
            transport.eq(network + Mux(v6, 40, start[:4] << 2)),
        ]
        with m.If(self.en & self.second):
            m.d.sync += [
                packet.v4.eq(v4),
                packet.v6.eq(v6),
                packet.fragment.eq(v4 & fragment[:14].any()),
                packet.protocol.eq(Mux(v4, last[:8], fragment[8:])),
                packet.network.eq(network),
                packet.header.eq(start[:4]),
                packet.transport.eq(transport),
                packet.end.eq(network + Mux(v6, sizes + 40, total)),
                packet.addresses.eq(network + Mux(v6, 8, 12)),
                packet.behind.eq(Mux(v6, transport, network + 20)),
            ]
        return m
