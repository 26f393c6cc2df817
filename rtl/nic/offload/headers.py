"""Headers of a TCP packet that is to be cut into segments, word by word."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from models.spec.ethernet import EtherType, IpProtocol
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.offload.packet import big_endian
from rtl.nic.offload.sums import add

__all__ = ["ByteRead", "HeaderReader", "Headers"]


class ByteRead(wiring.Signature):
    """Reads of 16 consecutive bytes of a frame, in lanes like LoadPort's (:mod:`rtl.nic.seams`).

    ``data`` follows a cycle with ``en`` and ``ready`` by one cycle.  ``head`` is set if the bytes
    are of the first 256, and begin a beat.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "head": Out(1),
                "addr": Out(17),
                "ready": In(1),
                "data": In(8 * BEAT_BYTES),
            }
        )


class Headers(data.Struct):
    """What is known of a packet's headers; offsets are of bytes of its frame."""

    v4: 1
    v6: 1
    tcp: 1
    network: 8
    transport: 8
    payload: 8
    identity: 16  # of IPv4
    sequence: 32
    flags: 16  # the word with data offset and flags
    ip_sum: 16  # of the IPv4 header without length, identity and checksum
    tcp_sum: 16  # of addresses and TCP header without sequence, flags and checksum
    rest_sum: 16  # of all words but those that differ among segments


class HeaderReader(wiring.Component):
    """Reads headers, a word a cycle; words are taken as they are on the wire.

    Of a frame that is something else it says something, too, in at most as many cycles.

    Latency
    -------
    Up to 69 cycles and 2 per beat.

    Members
    -------
    start : ``In(1)``; busy : ``Out(1)``
    read : ``Out(ByteRead)``
        Beats from the first on.
    headers : ``Out(Headers)``
        When it is not busy.
    """

    start: In(1)
    busy: Out(1)
    read: Out(ByteRead())
    headers: Out(Headers)

    def elaborate(self, platform):
        m = Module()
        place = Signal(8)
        beat = Signal(8 * BEAT_BYTES)
        word = Signal(16)
        m.d.comb += [
            self.read.head.eq(1),
            self.read.addr.eq(place & ~(BEAT_BYTES - 1)),
        ]
        with m.Switch(place[1:4]):
            for number in range(BEAT_BYTES // 2):
                with m.Case(number):
                    m.d.comb += word.eq(big_endian(beat, 2 * number))
        found = self.headers
        sized = Signal()  # it is known where the TCP header ends
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [place.eq(0), sized.eq(0)]
                with m.If(self.start):
                    m.d.sync += [found.eq(0), found.network.eq(14), found.transport.eq(0xFF)]
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.en.eq(1)
                with m.If(self.read.ready):
                    m.next = "BEAT"
            with m.State("BEAT"):
                m.d.sync += beat.eq(self.read.data)
                m.next = "WORD"
            with m.State("WORD"):
                self._word(m, place, word, sized)
                m.d.sync += place.eq(place + 2)
                with m.If(place[1:4] == BEAT_BYTES // 2 - 1):
                    m.next = "READ"
                with m.If(sized & (place + 2 >= found.payload)):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _word(self, m: Module, place, word, sized) -> None:
        """Take note of a word."""
        found = self.headers
        network, transport = Signal(9), Signal(9)  # offsets into the headers
        kind, of_tcp, of_ip = Signal(), Signal(), Signal()
        kept, address = Signal(), Signal()
        m.d.comb += [
            network.eq(place - found.network),
            transport.eq(place - found.transport),
            kind.eq(place == found.network - 2),
            of_tcp.eq(place >= found.transport),
            of_ip.eq((place >= found.network) & ~of_tcp),
            kept.eq(1),
        ]
        with m.If((place == 12) & (word == EtherType.VLAN)):
            m.d.sync += found.network.eq(18)
        with m.Elif(kind):
            m.d.sync += [found.v4.eq(word == EtherType.IPV4), found.v6.eq(word == EtherType.IPV6)]
        with m.If(of_ip):
            with m.Switch(network):
                with m.Case(0):
                    length = Mux(found.v6, 40, word[8:12] << 2)
                    m.d.sync += [
                        found.transport.eq(found.network + length),
                        found.v4.eq(found.v4 & (word[12:] == 4)),
                        found.v6.eq(found.v6 & (word[12:] == 6)),
                    ]
                with m.Case(2):
                    m.d.comb += kept.eq(~found.v4)
                with m.Case(4):
                    m.d.sync += found.identity.eq(word)
                    m.d.comb += kept.eq(0)
                with m.Case(6):
                    with m.If(found.v6):
                        m.d.sync += found.tcp.eq(word[8:] == IpProtocol.TCP)
                with m.Case(8):
                    with m.If(~found.v6):
                        m.d.sync += found.tcp.eq(word[:8] == IpProtocol.TCP)
                with m.Case(10):
                    m.d.comb += kept.eq(~found.v4)
            m.d.comb += address.eq(Mux(found.v6, network >= 8, (network >= 12) & (network < 20)))
        with m.If(of_tcp):
            with m.Switch(transport):
                with m.Case(4):
                    m.d.sync += found.sequence[16:].eq(word)
                    m.d.comb += kept.eq(0)
                with m.Case(6):
                    m.d.sync += found.sequence[:16].eq(word)
                    m.d.comb += kept.eq(0)
                with m.Case(12):
                    m.d.sync += [
                        found.flags.eq(word),
                        found.payload.eq(found.transport + (word[12:] << 2)),
                        sized.eq(1),
                    ]
                    m.d.comb += kept.eq(0)
                with m.Case(16):
                    m.d.comb += kept.eq(0)
        for chosen, total, name in (
            (kept, found.rest_sum, "rest"),
            (kept & of_ip, found.ip_sum, "ip"),
            (kept & (of_tcp | address), found.tcp_sum, "tcp"),
        ):
            with m.If(chosen):
                m.d.sync += total.eq(add(m, total, word, name))
