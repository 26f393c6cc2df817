"""Management pages: what the hypervisor sets and counts per function."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import MANAGEMENT, FunctionControl, Stat, initial_mac, stat_offset
from rtl.bus.lite import RegisterPort
from rtl.nic.register_map import BLOCK_BITS, block_function_of
from rtl.nic.stats import StatRead

__all__ = ["Management"]

WORD_BITS = 32
#: Bits of FunctionControl that are kept.
_CONTROL_MASK = FunctionControl.const({"enable": 1, "ats": 1, "promiscuous": 1}).as_bits()


class Management(wiring.Component):
    """Control, MAC, page time-out, device_id and counters of every function.

    Functions begin disabled, with their ``initial_mac``.  The page time-out is one for all, in the
    PF's block; in others it reads 0.  The high half of a counter is that of the last low half read.

    Latency
    -------
    Three cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``
        Accesses to the management pages, but for ``status`` and queue errors.
    stat : ``Out(StatRead)``
    controls : ``Out(ArrayLayout(FunctionControl))``
    macs : ``Out(ArrayLayout(48))``
        First byte lowest.
    page_timeout : ``Out(32)``
    changed : ``Out(functions)``
        MAC or link (which is up while a function is enabled) has changed.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        controls = data.ArrayLayout(FunctionControl, config.functions)
        macs = data.ArrayLayout(48, config.functions)
        initial = [int.from_bytes(initial_mac(f), "little") for f in range(config.functions)]
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=24)),
                "stat": Out(StatRead()),
                "controls": Out(controls),
                "macs": Out(macs, init=macs.const(initial)),
                "page_timeout": Out(32),
                "changed": Out(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, request, response = self.config, self.bus.request, self.bus.response
        access, answer, high = Signal.like(request.payload), Signal(WORD_BITS), Signal(16)
        function, word = block_function_of(access.addr), access.addr[2:BLOCK_BITS]
        first_stat = stat_offset(0) // 4
        stat_word = Signal(range(2 * len(Stat)))
        is_stat = (word >= first_stat) & (word < first_stat + 2 * len(Stat))
        m.d.comb += [
            stat_word.eq(word - first_stat),
            self.stat.function.eq(function),
            self.stat.stat.eq(stat_word[1:]),
            response.payload.eq(answer),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += [access.eq(request.payload), answer.eq(0)]
                with m.If(request.valid):
                    m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += self.stat.en.eq(is_stat & ~access.write & ~stat_word[0])
                m.next = "RESPOND"
                with m.If(is_stat & ~access.write):
                    m.next = "COUNTER"
                with m.Else():
                    self._registers(m, access, answer, function, word)
            with m.State("COUNTER"):
                with m.If(stat_word[0]):
                    m.d.sync += answer.eq(high)
                with m.Else():
                    m.d.sync += Cat(answer, high).eq(self.stat.value)
                m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

        links = Cat(self.controls[n].enable for n in range(config.functions))
        macs_before, links_before = Signal.like(self.macs), Signal.like(links)
        m.d.sync += [macs_before.eq(self.macs), links_before.eq(links)]
        for number in range(config.functions):
            m.d.comb += self.changed[number].eq(
                (self.macs[number] != macs_before[number]) | (links[number] != links_before[number])
            )
        return m

    def _registers(self, m: Module, access, answer, function, word) -> None:
        """Registers in flip-flops."""
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)

        def merged(old):
            return (old & ~strobes) | (access.data & strobes)

        def at(name: str):
            return word == MANAGEMENT[name].offset // 4

        read, value = ~access.write, Signal(WORD_BITS)
        m.d.sync += answer.eq(Mux(read, value, 0))
        with m.If(at("device_id")):
            m.d.comb += value.eq(self.config.device_id + function)
        with m.If(at("page_timeout") & (function == 0)):
            m.d.comb += value.eq(self.page_timeout)
            with m.If(access.write):
                m.d.sync += self.page_timeout.eq(merged(self.page_timeout))
        for number in range(self.config.functions):
            control, mac = self.controls[number].as_value(), self.macs[number]
            low, high = mac[:32], mac[32:]
            with m.If(function == number):
                for name, field, mask in (
                    ("control", control, _CONTROL_MASK),
                    ("mac_low", low, -1),
                    ("mac_high", high, -1),
                ):
                    with m.If(at(name)):
                        m.d.comb += value.eq(field)
                        with m.If(access.write):
                            m.d.sync += field.eq(merged(field) & mask)
