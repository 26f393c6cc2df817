"""Receive-side scaling: which queue pair a frame goes to (virtio 1.3, 5.1.6.4.3 and 5.1.6.5.7)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import (
    IPV6_AUTHENTICATION,
    IPV6_EXTENSIONS,
    IPV6_FRAGMENT,
    IPV6_FRAGMENT_MASK,
    MACS_BYTES,
    STEERING_REACH,
    VLAN_TAG_BYTES,
    EtherType,
    IpProtocol,
)
from models.spec.nic import MANAGEMENT
from models.spec.virtio_net import HashType
from rtl.bus.stream import StreamRegister
from rtl.nic.seams import HeadRead, PolicyWrite, TxFrame
from rtl.nic.toeplitz import Hashing, Steered, Toeplitz

__all__ = ["Steering"]

_TYPE_BYTES = 2
_IPV4_BYTES, _IPV6_BYTES = 20, 40
_TCP_BYTES, _UDP_BYTES = 20, 8
_TYPES_BITS = max(HashType).bit_length()


def _is_extension(protocol):
    return Cat(protocol == number for number in IPV6_EXTENSIONS).any()


class Steering(wiring.Component):
    """Reads the headers of frames that a function steers, and has their addresses and ports hashed.

    One frame at a time is read, while the one before it is hashed; frames come out in order.  Of a
    function that does not steer (``RssControl.enable``) no frame is read.  A packet's ports count
    if the packet is whole: no fragment, and its lengths lie in the frame.  They are looked for
    behind IPv6 extension headers, in the first ``STEERING_REACH`` bytes.

    Latency
    -------
    A frame takes 8 cycles over TCP or UDP and IPv4, 18 over IPv6: those of the hash.  Longer while
    the DMA has the frame memory, and with extension headers: 3 for each and 1 behind them.  5 if it
    has no hash, 3 if its function does not steer.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of TxFrame
        A frame and the function that receives it.
    o : ``Out(stream)`` of Steered
    head : ``Out(HeadRead)``
    stored : ``In(PolicyWrite)``; steering : ``In(functions)``
        How functions steer; those that do.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(TxFrame)),
                "o": Out(stream.Signature(Steered)),
                "head": Out(HeadRead()),
                "stored": In(PolicyWrite()),
                "steering": In(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.toeplitz = toeplitz = Toeplitz(self.config)
        m.submodules.parts = self.parts = StreamRegister(Hashing)
        connect(m, self.parts.o, toeplitz.i)
        connect(m, toeplitz.o, flipped(self.o))
        connect(m, flipped(self.stored), toeplitz.stored)
        frame, function = self.i.payload.frame, self.i.payload.function
        functions = self.config.functions
        m.submodules.types = types = Memory(shape=_TYPES_BITS, depth=max(2, functions), init=[])
        store, self.types = types.write_port(), types.read_port(domain="comb")
        part = self.parts.i.payload
        self.at, self.tagged = Signal(8), Signal()
        # What is to be read of the headers: addresses, ports.
        self.six, self.ports, self.ports_at, self.step = Signal(), Signal(), Signal(8), Signal(2)
        # Behind extension headers: what the next one is, and bytes of the packet from there on.
        self.protocol, self.left, self.size = Signal(8), Signal(17), Signal(12)
        m.d.comb += [
            store.en.eq(self.stored.en & (self.stored.word == MANAGEMENT["rss_types"].offset // 4)),
            store.addr.eq(self.stored.function),
            store.data.eq(self.stored.data),
            self.types.addr.eq(function),
            self.head.memory.eq(frame.memory),
            self.head.addr.eq((frame.slot << exact_log2(self.config.frame_stride)) + self.at),
            part.frame.eq(frame),
            part.function.eq(function),
            part.start.eq(self.at[2:4]),
            part.data.eq(self.head.data),
        ]
        with m.FSM(init="IDLE"):
            with m.State("IDLE"):
                m.d.sync += [self.at.eq(MACS_BYTES), self.tagged.eq(0)]
                with m.If(self.i.valid):
                    m.next = "PLAIN"
                    with m.If(self.steering.bit_select(function, 1)):
                        m.next = "TYPE"
            with m.State("TYPE"):
                m.d.comb += self.head.en.eq(1)
                with m.If(self.head.ready):
                    m.next = "JUDGE"
            self._judge(m, frame.length)
            self._extensions(m)
            with m.State("READ"):
                m.d.comb += self.head.en.eq(self.parts.i.ready)
                with m.If(self.head.ready & self.parts.i.ready):
                    m.next = "PART"
            with m.State("PART"):
                self._part(m, part)
            with m.State("PLAIN"):
                m.d.comb += [
                    self.parts.i.valid.eq(1),
                    part.first.eq(1),
                    part.last.eq(1),
                    part.steered.eq(self.steering.bit_select(function, 1)),
                    self.i.ready.eq(self.parts.i.ready),
                ]
                with m.If(self.parts.i.ready):
                    m.next = "IDLE"
        return m

    def _judge(self, m: Module, length) -> None:
        """Look at type and beginning of the packet, which is 4 lanes further behind a tag; then at
        what its lengths come to.
        """
        found, network, rest = Signal(128), Signal(5), Signal(16)
        behind_tag = Cat(self.head.data[96:], self.head.data[:96])
        m.d.comb += [
            found.eq(Mux(self.tagged, self.head.data, behind_tag)),
            network.eq(MACS_BYTES + _TYPE_BYTES + Mux(self.tagged, VLAN_TAG_BYTES, 0)),
            rest.eq(Mux(length > network, length - network, 0)),
        ]
        kind, ip = found[:16], found[16:]

        def byte(number):
            return ip.word_select(number, 8)

        def big(number):
            return Cat(byte(number + 1), byte(number))

        tag = (
            ~self.tagged
            & (kind == EtherType.VLAN.in_memory)
            & (length >= MACS_BYTES + VLAN_TAG_BYTES)
        )
        four = (kind == EtherType.IPV4.in_memory) & (rest >= _IPV4_BYTES) & (byte(0)[4:] == 4)
        six = (kind == EtherType.IPV6.in_memory) & (rest >= _IPV6_BYTES) & (byte(0)[4:] == 6)
        header, total, room, fragment = Signal(6), Signal(17), Signal(16), Signal()
        is_ip, network_at = Signal(), Signal(5)
        with m.State("JUDGE"):
            m.d.sync += [
                is_ip.eq(four | six),
                self.six.eq(six),
                header.eq(Mux(six, _IPV6_BYTES, byte(0)[:4] << 2)),
                total.eq(Mux(six, _IPV6_BYTES + big(4), big(2))),
                room.eq(rest),
                fragment.eq(big(6)[:14].any()),
                network_at.eq(network),
                self.protocol.eq(Mux(six, byte(6), byte(9))),
            ]
            m.next = "WEIGH"
            with m.If(tag):
                m.d.sync += [self.at.eq(MACS_BYTES + VLAN_TAG_BYTES), self.tagged.eq(1)]
                m.next = "TYPE"
        six, protocol = self.six, self.protocol
        payload, whole, ports = Signal(17), Signal(), Signal()
        m.d.comb += [
            whole.eq(
                (total <= room) & (six | (~fragment & (header >= _IPV4_BYTES) & (header <= total)))
            ),
            payload.eq(total - header),
            ports.eq(whole & self._by_ports(protocol, payload, six)),
        ]
        further = (self.types.data & int(HashType.TCPV6 | HashType.UDPV6)).any()
        with m.State("WEIGH"):
            m.d.sync += [
                self.left.eq(payload),
                self.ports.eq(ports),
                self.ports_at.eq(network_at + header),
                self.step.eq(0),
                self.at.eq(network_at + Mux(six, 8, 12)),
            ]
            m.next = "PLAIN"
            with m.If(six & whole & _is_extension(protocol) & further):
                m.d.sync += self.at.eq(network_at + _IPV6_BYTES)
                m.next = "EXTENSION"
            with m.Elif(is_ip & (ports | self._wanted(six, HashType.IPV4, HashType.IPV6))):
                m.next = "READ"

    def _wanted(self, six, of_four: HashType, of_six: HashType):
        """Whether the function hashes packets so."""
        types = self.types.data
        return Mux(six, (types & int(of_six)).any(), (types & int(of_four)).any())

    def _by_ports(self, protocol, payload, six):
        """Whether ports of a whole packet count."""
        tcp = (protocol == IpProtocol.TCP) & (payload >= _TCP_BYTES)
        udp = (protocol == IpProtocol.UDP) & (payload >= _UDP_BYTES)
        return (tcp & self._wanted(six, HashType.TCPV4, HashType.TCPV6)) | (
            udp & self._wanted(six, HashType.UDPV4, HashType.UDPV6)
        )

    def _extensions(self, m: Module) -> None:
        """Go from one IPv6 extension header to the next (RFC 8200, 4)."""
        with m.State("EXTENSION"):
            m.d.comb += self.head.en.eq(1)
            with m.If(self.head.ready):
                m.next = "SKIP"
        with m.State("SKIP"):
            two, flags = (
                self.head.data.word_select((self.at + offset)[1:4], 16) for offset in (0, 2)
            )
            length, size, behind = two[8:], Signal(12), Signal(13)
            fragment, partial = self.protocol == IPV6_FRAGMENT, Signal()
            m.d.comb += size.eq((length + 1) << 3)
            with m.If(fragment):
                m.d.comb += size.eq(8)
            with m.Elif(self.protocol == IPV6_AUTHENTICATION):
                m.d.comb += size.eq((length + 2) << 2)
            mask = int.from_bytes(IPV6_FRAGMENT_MASK.to_bytes(2, "big"), "little")
            m.d.sync += [
                partial.eq(fragment & (flags & mask).any()),
                self.protocol.eq(two[:8]),
                self.size.eq(size),
            ]
            m.next = "PASS"
        with m.State("PASS"):
            m.d.comb += behind.eq(self.at + self.size)
            m.d.sync += [self.at.eq(behind), self.left.eq(self.left - self.size)]
            m.next = "BEHIND"
            with m.If(partial | (self.size > self.left) | (behind >= STEERING_REACH)):
                m.d.sync += self.protocol.eq(0)
            with m.Elif(_is_extension(self.protocol)):
                m.next = "EXTENSION"
        with m.State("BEHIND"):
            ports = self._by_ports(self.protocol, self.left, 1)
            addresses = MACS_BYTES + _TYPE_BYTES + Mux(self.tagged, VLAN_TAG_BYTES, 0) + 8
            m.d.sync += [self.ports.eq(ports), self.ports_at.eq(self.at), self.at.eq(addresses)]
            m.next = "PLAIN"
            with m.If(ports | self._wanted(1, HashType.IPV4, HashType.IPV6)):
                m.next = "READ"

    def _part(self, m: Module, part) -> None:
        """Hand on what was read: both addresses, or one of IPv6; the ports with or behind them."""
        adjacent = ~self.six & (self.ports_at == self.at + 8)
        addresses = self.six & (self.step == 0)  # the other one follows
        of_ports = self.step == 2
        m.d.comb += [
            self.parts.i.valid.eq(1),
            part.first.eq(self.step == 0),
            part.steered.eq(1),
            part.words.eq(Mux(self.six, 4, Mux(self.ports & adjacent, 3, 2))),
            part.last.eq(of_ports | ~addresses & (~self.ports | adjacent)),
        ]
        with m.If(of_ports):
            m.d.comb += part.words.eq(1)
        with m.If(part.last):
            m.d.comb += self.i.ready.eq(1)
            m.next = "IDLE"
        with m.Else():
            m.d.sync += [
                self.at.eq(Mux(addresses, self.at + 16, self.ports_at)),
                self.step.eq(Mux(addresses, 1, 2)),
            ]
            m.next = "READ"
