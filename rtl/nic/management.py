"""Management pages: what the hypervisor sets and counts per function."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from models.spec.config import NicConfig
from models.spec.nic import (
    COALESCED_QUEUES,
    MAC_FILTERS,
    MANAGEMENT,
    VLAN_FILTERS,
    BackupRing,
    FunctionControl,
    FunctionVlan,
    MacFilterHigh,
    RssControl,
    Stat,
    VlanFilter,
    initial_mac,
    queue_stat_offset,
    stat_offset,
)
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH
from rtl.bus.lite import RegisterPort
from rtl.bus.ram import SETTLED
from rtl.nic.register_map import BLOCK_BITS, block_function_of
from rtl.nic.seams import FilterChange, PolicyWrite
from rtl.nic.stats import StatRead

__all__ = ["Management"]

WORD_BITS = 32
#: Bits of the number of a word that is kept: those of the table of RSS follow the others.
_KEPT_BITS = 7


def _word(name: str) -> int:
    return MANAGEMENT[name].offset // 4


def _mask(layout) -> int:
    """Bits that are not reserved."""
    fields = dict(layout.as_shape())
    ones = {name: -1 for name in fields if not name.startswith("reserved")}
    return layout.const(ones).as_bits()


#: Words that are kept, with their bits.
_KEPT = {
    "control": _mask(FunctionControl),
    "mac_low": 0xFFFF_FFFF,
    "mac_high": 0xFFFF,
    "vlan": _mask(FunctionVlan),
    "backup_low": 0xFFFF_FFFF,
    "backup_high": 0xFFFF_FFFF,
    "backup": _mask(BackupRing),
    "rss": _mask(RssControl),
    "rss_types": 0xFFFF_FFFF,
    **{f"rss_key{n}": 0xFFFF_FFFF for n in range(RSS_KEY_BYTES // 4)},
    **{f"mac_filter_low{n}": 0xFFFF_FFFF for n in range(MAC_FILTERS)},
    **{f"mac_filter_high{n}": _mask(MacFilterHigh) for n in range(MAC_FILTERS)},
    **{f"vlan_filter{n}": _mask(VlanFilter) for n in range(VLAN_FILTERS)},
    **{f"coalescing{n}": 0xFFFF_FFFF for n in range(COALESCED_QUEUES)},
    **{f"rss_table{n}": 0xFFFF_FFFF for n in range(RSS_TABLE_LENGTH // 4)},
}
#: What a reset of the device clears: it is in flip-flops.
_STEERING = RssControl.const({"enable": 1, "closed": -1}).as_bits()


class Management(wiring.Component):
    """Control, MAC, filters, VLAN, steering, page time-out, device_id, counters of each function.

    What is set is kept in one RAM, a word for each register; who steers by it follows the writes.
    ``controls``, ``steering`` and ``closed`` are in flip-flops.  After reset the RAM is filled, one
    word per cycle, and accesses wait: functions begin disabled, with their ``initial_mac`` and
    without filters.  The page time-out is one for all, in the PF's block; in others it reads 0.
    The high half of a counter is that of the last low half read.

    Latency
    -------
    Four cycles, five of a counter; a write of a MAC, VLAN or filter takes until the switch has
    taken it.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``
        Accesses to the management pages, but for ``status`` and queue errors.
    stat : ``Out(StatRead)``
    controls : ``Out(ArrayLayout(FunctionControl))``
    stored : ``Out(PolicyWrite)``
        Every write of a word that is kept.
    filter : ``Out(stream)`` of FilterChange
    mac_of : ``In(8)``; mac : ``Out(48)``
        MAC of a function, in the same cycle; first byte lowest.
    steering : ``Out(functions)``; closed : ``Out(receivers)``; unsteer : ``In(functions)``
        ``rss.enable`` and ``rss.closed`` of the functions; functions to clear them for.
    under_way : ``In(receivers)``
        Receive queues with frames that may still be received.
    page_timeout : ``Out(32)``; fault_stall : ``Out(1)``
    changed : ``Out(functions)``
        MAC or link (which is up while a function is enabled and not ``link_down``) was set.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=24)),
                "stat": Out(StatRead()),
                "controls": Out(data.ArrayLayout(FunctionControl, config.functions)),
                "stored": Out(PolicyWrite()),
                "filter": Out(stream.Signature(FilterChange)),
                "mac_of": In(8),
                "mac": Out(48),
                "steering": Out(config.functions),
                "closed": Out(config.receivers),
                "unsteer": In(config.functions),
                "under_way": In(config.receivers),
                "page_timeout": Out(32),
                "fault_stall": Out(1),
                "changed": Out(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request, response = self.bus.request, self.bus.response
        self.access, self.answer = Signal.like(request.payload), Signal(WORD_BITS)
        high = Signal(16)
        access, answer = self.access, self.answer
        self.function, self.word = block_function_of(access.addr), access.addr[2:BLOCK_BITS]
        is_stat, second = self._counter(m)
        m.d.comb += response.payload.eq(answer)
        self.mac_set = Signal(self.config.functions)
        self.before, self.after = Signal(WORD_BITS), Signal(WORD_BITS)  # a word that is written
        self._storage(m)
        self._decode(m)
        with m.FSM(init="FILL"):
            self._fill(m)
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += [access.eq(request.payload), answer.eq(0)]
                with m.If(request.valid):
                    m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += self.stat.en.eq(is_stat & ~access.write & ~second)
                m.next = "RESPOND"
                with m.If(is_stat & ~access.write):
                    m.next = "READ"
                with m.Elif(self.kept):
                    m.next = "WORD"
                with m.Else():
                    self._plain(m)
            with m.State("READ"):
                m.next = "COUNTER"
            with m.State("COUNTER"):
                with m.If(second):
                    m.d.sync += answer.eq(high)
                with m.Else():
                    m.d.sync += Cat(answer, high).eq(self.stat.value)
                m.next = "RESPOND"
            self._in_ram(m)
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"
        self._links(m)
        return m

    def _counter(self, m: Module):
        """The counter that a word is of: whether it is of one, and its second half."""
        first, first_of_queues = stat_offset(0) // 4, queue_stat_offset(0, 0) // 4
        all_queues = exact_log2(first_of_queues)  # what follows is theirs
        one_queue = exact_log2(queue_stat_offset(1, 0) // 4 - first_of_queues)
        place, read = Signal(range(2 * len(Stat))), self.stat
        m.d.comb += [
            place.eq(self.word - first),
            read.function.eq(self.function),
            read.queued.eq(self.word[all_queues:].any()),
            read.queue.eq(self.word[one_queue:all_queues]),
            read.stat.eq(Mux(read.queued, self.word[1:one_queue], place[1:])),
        ]
        of_function = (self.word >= first) & (self.word < first + 2 * len(Stat))
        of_queue = read.queued & (read.queue < 2 * self.config.queue_pairs)
        return of_function | of_queue, self.word[0]

    def _storage(self, m: Module) -> None:
        """The RAM of words, and that of MACs, which others read."""
        functions, access = self.config.functions, self.access
        # What is read beside a write is the word's partner.
        depth = functions << _KEPT_BITS
        m.submodules.words = words = Memory(shape=WORD_BITS, depth=depth, init=[], attrs=SETTLED)
        self.read, self.write = words.read_port(), words.write_port()
        self.filling = Signal(_KEPT_BITS + 1 + ceil_log2(functions))
        self.kept, self.mask = Signal(), Signal(WORD_BITS)
        with m.Switch(self.word):
            for name, mask in _KEPT.items():
                with m.Case(_word(name)):
                    m.d.comb += [self.kept.eq(1), self.mask.eq(mask)]
        self.place = Cat(self.word[:6], self.word[7])
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)
        self.new, merged = Signal(WORD_BITS), Signal(WORD_BITS)
        m.d.comb += [
            merged.eq((self.read.data & ~strobes) | (access.data & strobes)),
            self.new.eq(merged & self.mask),
            self.read.addr.eq(Cat(self.place, self.function)),
            self.write.addr.eq(Cat(self.place, self.function)),
            self.write.data.eq(self.new),
            self.stored.function.eq(self.function),
            self.stored.word.eq(self.word),
            self.stored.data.eq(self.new),
        ]
        m.submodules.macs = macs = Memory(shape=48, depth=max(2, functions), init=[])
        self.set_mac, get_mac = macs.write_port(granularity=16), macs.read_port(domain="comb")
        m.d.comb += [
            get_mac.addr.eq(self.mac_of),
            self.mac.eq(get_mac.data),
            self.set_mac.addr.eq(self.function),
            self.set_mac.data.eq(Cat(self.new, self.new[:16])),
        ]

    def _fill(self, m: Module) -> None:
        """Give every word its value after reset."""
        functions = self.config.functions
        at, high = self.filling, Signal(16)
        function, word = at[_KEPT_BITS:], at[:_KEPT_BITS]
        macs = [int.from_bytes(initial_mac(number), "little") for number in range(functions)]
        low = macs[0] & 0xFFFF_FFFF
        assert all(mac & 0xFFFF_FFFF == low for mac in macs)
        with m.State("FILL"):
            with m.Switch(function):
                for number, mac in enumerate(macs):
                    with m.Case(number):
                        m.d.comb += high.eq(mac >> 32)
            m.d.sync += at.eq(at + 1)
            m.d.comb += [
                self.write.en.eq(1),
                self.write.addr.eq(at),
                self.write.data.eq(0),
                self.set_mac.addr.eq(function),
                self.set_mac.data.eq(Cat(Const(low, 32), high)),
                self.set_mac.en.eq(-1),
            ]
            with m.If(word == _word("mac_low")):
                m.d.comb += self.write.data.eq(low)
            with m.If(word == _word("mac_high")):
                m.d.comb += self.write.data.eq(high)
            with m.If(at == (functions << _KEPT_BITS) - 1):
                m.next = "IDLE"

    def _plain(self, m: Module) -> None:
        """Registers that are not in RAM."""
        access, answer = self.access, self.answer
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)
        with m.If((self.word == _word("device_id")) & ~access.write):
            m.d.sync += answer.eq(self.config.device_id + self.function)
        with m.If((self.word == _word("receiving")) & ~access.write):
            m.d.sync += answer.eq(self._pairs(self.under_way))
        with m.If((self.word == _word("page_timeout")) & (self.function == 0)):
            with m.If(access.write):
                timeout = self.page_timeout
                m.d.sync += timeout.eq((timeout & ~strobes) | (access.data & strobes))
            with m.Else():
                m.d.sync += answer.eq(self.page_timeout)
        with m.If((self.word == _word("fault_stall")) & (self.function == 0)):
            with m.If(access.write & access.strb[0]):
                m.d.sync += self.fault_stall.eq(access.data[0])
            with m.Elif(~access.write):
                m.d.sync += answer.eq(self.fault_stall)

    def _pairs(self, bits):
        """Of a bit per receive queue, those of the function that is accessed."""
        return bits.word_select(self.function, self.config.queue_pairs)

    def _decode(self, m: Module) -> None:
        """What kind of word is accessed."""
        word = self.word
        first_mac, first_vlan = _word("mac_filter_low0"), _word("vlan_filter0")
        last_mac, last_vlan = first_mac + 2 * MAC_FILTERS, first_vlan + VLAN_FILTERS
        self.own_mac, self.is_mac = Signal(), Signal()
        self.filters, self.entry = Signal(), Signal(4)
        m.d.comb += [
            self.own_mac.eq((word == _word("mac_low")) | (word == _word("mac_high"))),
            self.is_mac.eq(self.own_mac),
            self.filters.eq(self.own_mac),
        ]
        with m.If((word >= first_mac) & (word < last_mac)):
            m.d.comb += [
                self.is_mac.eq(1),
                self.filters.eq(1),
                self.entry.eq(((word - first_mac) >> 1) + 1),
            ]
        with m.If((word >= first_vlan) & (word < last_vlan)):
            m.d.comb += [self.filters.eq(1), self.entry.eq(word - first_vlan + 1)]
        with m.If(word == _word("vlan")):
            m.d.comb += self.filters.eq(1)
        open_ = Cat(~bit.replicate(self.config.queue_pairs) for bit in self.unsteer)
        m.d.sync += [
            self.steering.eq(self.steering & ~self.unsteer),
            self.closed.eq(self.closed & open_),
        ]

    def _in_ram(self, m: Module) -> None:
        """Registers in RAM: the word is read, then changed; the switch is told of filters."""
        function, word, change = self.function, self.word, self.filter.payload
        is_high = word[0]  # the second word of a MAC
        with m.State("WORD"):
            m.d.sync += [self.before.eq(self.read.data), self.after.eq(self.new)]
            m.d.comb += self.read.addr.eq(Cat(self.place ^ 1, function))
            m.next = "RESPOND"
            with m.If(~self.access.write):
                m.d.sync += self.answer.eq(self.read.data)
                with m.If(word == _word("rss")):
                    steering = Signal(RssControl)
                    m.d.comb += [
                        steering.enable.eq(self.steering.bit_select(function, 1)),
                        steering.closed.eq(self._pairs(self.closed)),
                    ]
                    m.d.sync += self.answer.eq(self.read.data & ~_STEERING | steering.as_value())
            with m.Else():
                m.d.comb += [self.write.en.eq(1), self.stored.en.eq(1)]
                with m.If(self.filters):
                    m.next = "PARTNER"
                with m.If(self.own_mac):
                    m.d.comb += self.set_mac.en.eq(Mux(is_high, 0b100, 0b011))
                self._flip_flops(m)
        with m.State("PARTNER"):
            before, after = (
                Mux(is_high, Cat(self.read.data, half), Cat(half, self.read.data))
                for half in (self.before, self.after)
            )
            m.d.sync += [
                change.vlan.eq(~self.is_mac),
                change.function.eq(function),
                change.entry.eq(self.entry),
                change.old.eq(Mux(self.is_mac, before, self.before[:12])),
                change.new.eq(Mux(self.is_mac, after, self.after)),
                change.valid.eq(Mux(self.is_mac, self.own_mac | after[63], self.after[31])),
            ]
            m.next = "CHANGE"
        with m.State("CHANGE"):
            m.d.comb += self.filter.valid.eq(1)
            with m.If(self.filter.ready):
                m.d.comb += self.mac_set.eq(self.own_mac << function)
                m.next = "RESPOND"

    def _flip_flops(self, m: Module) -> None:
        """Follow what is stored."""
        for number in range(self.config.functions):
            with m.If(self.function == number):
                with m.If(self.word == _word("control")):
                    m.d.sync += self.controls[number].eq(self.new)
                with m.If(self.word == _word("rss")):
                    rss, pairs = data.View(RssControl, self.new), self.config.queue_pairs
                    m.d.sync += [
                        self.steering[number].eq(rss.enable),
                        self.closed.word_select(number, pairs).eq(rss.closed),
                    ]

    def _links(self, m: Module) -> None:
        """Tell of what a driver sees."""
        functions = self.config.functions
        links, before = Signal(functions), Signal(functions)
        m.d.comb += links.eq(
            Cat(
                self.controls[number].enable & ~self.controls[number].link_down
                for number in range(functions)
            )
        )
        m.d.sync += before.eq(links)
        m.d.comb += self.changed.eq((links ^ before) | self.mac_set)
