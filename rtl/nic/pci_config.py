"""PCI face of the NIC: configuration spaces of all functions, and what they allow."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import ADDRESS_BITS, BAR_BYTES, CONFIG_BYTES
from models.spec.pci import pf_space, vf_space
from rtl.bus.lite import RegisterPort
from rtl.nic.pci_state import PciState, PriPort
from rtl.nic.register_map import (
    BAR_BITS,
    config_function_of,
    function_of,
    is_config,
    is_management,
)
from rtl.pci.store import ConfigStore

__all__ = ["PciConfig"]

WORD_BITS = 32
_CONFIG_WORDS = CONFIG_BYTES // 4


class PciConfig(wiring.Component):
    """Stands between the register port and what lies behind it (:mod:`models.spec.pci`).

    Accesses to configuration spaces end here.  Others pass if the BAR that they are in answers:
    that of a function if its memory space is enabled, the management pages, which are the PF's, if
    the PF's is.  What is not there reads all ones, and writes to it are ignored: VFs that are not
    enabled, functions in a function level reset, BARs that do not answer.

    The window of a virtio PCI configuration access capability passes an access on to its BAR, also
    while memory space is disabled (virtio 1.3, 4.1.4.9).

    Latency
    -------
    An access that passes takes no longer.  One to configuration space takes five cycles, through
    the window 16 and the access itself.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``; down : ``Out(RegisterPort)``
    masters, messages, ats : ``Out(functions)``
        Functions that may do DMA, may send messages, may ask for translations.
    by_pin, pin_enabled : ``Out(1)``; waiting : ``In(1)``
        The PF has MSI-X disabled, its interrupt pin not; an interrupt of it waits.
    flr : ``Out(functions)``
        Functions to reset; held until ``resetting``.
    resetting : ``In(functions)``
        Resets of functions that are going on.
    clear : ``Out(functions)``, cleared : ``In(functions)``
        Functions whose MSI-X tables are to be reset; those that have been, for one cycle.
    pri : ``Out(PriPort)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        functions = config.functions
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=ADDRESS_BITS)),
                "down": Out(RegisterPort(addr_width=ADDRESS_BITS)),
                "masters": Out(functions),
                "messages": Out(functions),
                "ats": Out(functions),
                "by_pin": Out(1),
                "pin_enabled": Out(1),
                "waiting": In(1),
                "flr": Out(functions),
                "resetting": In(functions),
                "clear": Out(functions),
                "cleared": In(functions),
                "pri": Out(PriPort()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        spaces = (pf_space(config), vf_space(config))
        m.submodules.store = self.store = store = ConfigStore(spaces, config.functions)
        m.submodules.state = self.state = state = PciState(config)
        wiring.connect(m, store.commit, state.commit)
        wiring.connect(m, state.pri, wiring.flipped(self.pri))
        m.d.comb += [
            store.refused.eq(state.refused),
            store.cleared.eq(state.hidden),
            store.live.eq(state.live),
            store.wipe.eq(state.wipe),
            state.wiped.eq(store.wiped),
            state.resetting.eq(self.resetting),
            state.cleared.eq(self.cleared),
            state.waiting.eq(self.waiting),
        ]
        for name in ("masters", "messages", "ats", "by_pin", "pin_enabled", "flr", "clear"):
            m.d.comb += getattr(self, name).eq(getattr(state, name))
        self._front(m)
        return m

    def _front(self, m: Module) -> None:
        """Decide where an access goes."""
        config, store, state = self.config, self.store, self.state
        request, response, down = self.bus.request, self.bus.response, self.down
        addr, access = request.payload.addr, store.access.payload
        to_config, function = Signal(), Signal(9)
        answer, number, word = Signal(WORD_BITS), Signal(8), Signal(range(_CONFIG_WORDS))
        kept = Signal.like(request.payload)
        m.d.comb += [
            to_config.eq(is_config(addr)),
            function.eq(Mux(to_config, config_function_of(addr), function_of(addr))),
        ]
        known, there, answers = Signal(), Signal(), Signal()
        m.d.comb += [
            known.eq(function < config.functions),
            there.eq(known & state.visible.bit_select(function[:8], 1)),
            answers.eq(~known | state.decodes.bit_select(function[:8], 1)),
        ]
        with m.If(is_management(addr)):
            m.d.comb += answers.eq(state.decodes[0])
        window = Signal()
        m.d.comb += [
            window.eq(word == self._window_word(number)),
            access.function.eq(number),
            access.word.eq(word),
            access.write.eq(kept.write),
            access.data.eq(kept.data),
            access.strb.eq(kept.strb),
            down.request.payload.eq(request.payload),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    kept.eq(request.payload),
                    number.eq(function),
                    word.eq(addr[2:]),
                    answer.eq(Mux(request.payload.write, 0, 0xFFFF_FFFF)),
                ]
                with m.If(to_config):
                    m.d.comb += request.ready.eq(1)
                    with m.If(request.valid):
                        m.next = "RESPOND"
                        with m.If(there):
                            m.next = "CONFIG"
                with m.Elif(answers):
                    m.d.comb += [
                        down.request.valid.eq(request.valid),
                        request.ready.eq(down.request.ready),
                    ]
                    with m.If(request.valid & request.ready):
                        m.next = "PASS"
                with m.Else():
                    m.d.comb += request.ready.eq(1)
                    with m.If(request.valid):
                        m.next = "RESPOND"
            with m.State("PASS"):
                m.d.comb += [
                    response.valid.eq(down.response.valid),
                    response.payload.eq(down.response.payload),
                    down.response.ready.eq(response.ready),
                ]
                with m.If(response.valid & response.ready):
                    m.next = "IDLE"
            with m.State("CONFIG"):
                m.d.comb += store.access.valid.eq(~window)
                with m.If(window):
                    m.next = "WINDOW"
                with m.Elif(store.access.ready):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += store.answer.ready.eq(1)
                m.d.sync += answer.eq(store.answer.payload)
                with m.If(store.answer.valid):
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += [response.valid.eq(1), response.payload.eq(answer)]
                with m.If(response.ready):
                    m.next = "IDLE"
            self._window(m, kept, number, answer)

    def _window_word(self, number):
        """Word of the window's data in a function's space."""
        words = [
            space["virtio_pci_data"].offset // 4
            for space in (pf_space(self.config), vf_space(self.config))
        ]
        return Mux(number == 0, *words)

    def _window(self, m: Module, kept, number, answer) -> None:
        """Read BAR, offset and length, which stand before the data, then access the BAR."""
        store, down, access = self.store, self.down, self.store.access.payload
        step = Signal(range(3))
        bar, offset, length = Signal(8), Signal(WORD_BITS), Signal(WORD_BITS)
        lane, sane = Signal(2), Signal()
        m.d.comb += [
            lane.eq(offset[:2]),
            sane.eq(
                (bar == 0)
                & (offset < BAR_BYTES)
                & ((length == 1) | ((length == 2) & ~lane[0]) | ((length == 4) & (lane == 0)))
            ),
        ]
        with m.State("WINDOW"):
            m.d.comb += [
                store.access.valid.eq(1),
                access.word.eq(self._window_word(number) - 3 + step),
                access.write.eq(0),
            ]
            with m.If(store.access.ready):
                m.next = "FIELD"
        with m.State("FIELD"):
            m.d.comb += store.answer.ready.eq(1)
            with m.If(store.answer.valid):
                with m.Switch(step):
                    for value, field in enumerate((bar, offset, length)):
                        with m.Case(value):
                            m.d.sync += field.eq(store.answer.payload)
                m.d.sync += step.eq(Mux(step == 2, 0, step + 1))
                m.next = "WINDOW"
                with m.If(step == 2):
                    m.next = "CHECK"
        with m.State("CHECK"):
            m.d.sync += answer.eq(0)
            m.next = "RESPOND"
            with m.If(sane & (~kept.write | kept.strb[0])):
                m.next = "ACCESS"
        with m.State("ACCESS"):
            through = down.request.payload
            m.d.comb += [
                down.request.valid.eq(1),
                through.addr.eq(Cat(Const(0, 2), offset[2:BAR_BITS], number)),
                through.write.eq(kept.write),
                through.data.eq(kept.data << (lane << 3)),
                through.strb.eq(Cat(length >= n + 1 for n in range(4)) << lane),
            ]
            with m.If(~kept.write):
                m.d.comb += through.strb.eq(0)
            with m.If(down.request.ready):
                m.next = "THROUGH"
        with m.State("THROUGH"):
            m.d.comb += down.response.ready.eq(1)
            bytes_mask = Cat((length >= n + 1).replicate(8) for n in range(4))
            m.d.sync += answer.eq((down.response.payload >> (lane << 3)) & bytes_mask)
            with m.If(down.response.valid):
                m.next = "RESPOND"
