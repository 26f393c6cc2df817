"""What the configuration spaces of the NIC's functions control, and their resets."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.pci import pf_space, vf_space
from models.spec.registers import Field, Register
from rtl.pci.store import Commit

__all__ = ["PciState", "PriPort"]

WORD_BITS = 32
_PAGE_SHIFT = 12


class PriPort(wiring.Signature):
    """The page request interface (PCIe 10.5.2), as its registers see it.

    Members
    -------
    enable : ``Out(1)``, allocation : ``Out(32)``
    reset : ``Out(1)``
        Forget what is outstanding.
    idle : ``In(1)``
        Nothing is outstanding.
    failure, unexpected : ``In(1)``
        A response said so, for one cycle.
    """

    def __init__(self):
        super().__init__(
            {
                "enable": Out(1),
                "allocation": Out(32),
                "reset": Out(1),
                "idle": In(1),
                "failure": In(1),
                "unexpected": In(1),
            }
        )


def _place(register: Register, field: Field) -> int:
    """Lowest bit of a field in its word."""
    return 8 * (register.offset & 3) + field.low


class PciState(wiring.Component):
    """Bits of configuration space that steer, in flip-flops, and function level resets.

    A reset of a function (PCIe 6.6.2) begins with its configuration space and its right to DMA,
    then stops its queues as a reset by its driver does, wherever they are, then clears its MSI-X
    table; until it is over the function is not visible.  A VF is reset too when VF Enable is
    cleared or the PF is reset.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    commit : ``In(Commit)``
    refused, hidden, live : ``Out(32)``
        For the word at ``commit``: bits that keep their value, that read 0, that hardware sets.
    wipe : ``Out(functions)``, wiped : ``In(functions)``
        Configuration spaces to reset.
    visible, decodes : ``Out(functions)``
        Functions whose configuration space and whose BAR answer.
    masters, messages, ats, by_pin, pin_enabled, waiting, flr, resetting, clear, cleared, pri
        As in :class:`~rtl.nic.pci_config.PciConfig`.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        functions = config.functions
        super().__init__(
            {
                "commit": In(Commit()),
                "refused": Out(WORD_BITS),
                "hidden": Out(WORD_BITS),
                "live": Out(WORD_BITS),
                "wipe": Out(functions),
                "wiped": In(functions),
                "visible": Out(functions),
                "decodes": Out(functions),
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
        functions = self.config.functions
        self.pf, self.vf = pf_space(self.config), vf_space(self.config)
        self.trigger = Signal(functions)  # resets that begin
        self.mine = Signal(functions)  # the function at commit
        m.d.comb += self.mine.eq(1 << self.commit.function)
        self._resets(m)
        bus_master, ats, msix, masked = (
            self._everybody(m, name, field)
            for name, field in (
                ("command", "bus_master"),
                ("ats_control", "enable"),
                ("msix_control", "enable"),
                ("msix_control", "function_mask"),
            )
        )
        memory = self._own(m, "command", "memory")
        pin_disabled = self._own(m, "command", "interrupt_disable")
        power = self._own(m, "pm_control", "power_state")
        vf_enable = self._own(m, "sriov_control", "vf_enable")
        vf_memory = self._own(m, "sriov_control", "vf_memory")
        number = self._own(m, "num_vfs", "value")
        awake, present = Signal(), Signal(functions)
        many, few = number[8:].any(), number[:8]
        m.d.comb += [
            awake.eq(power == 0),
            present.eq(Cat(1, (vf_enable & (many | (few >= f)) for f in range(1, functions)))),
            self.visible.eq(present & ~self.busy),
            self.decodes.eq(
                self.visible
                & awake.replicate(functions)
                & Cat(memory, vf_memory.replicate(functions - 1))
            ),
            self.masters.eq(bus_master & self.visible & awake.replicate(functions)),
            self.messages.eq(msix & ~masked & self.masters),
            self.ats.eq(ats & self.pri.enable.replicate(functions)),
            self.by_pin.eq(~msix[0]),
            self.pin_enabled.eq(~pin_disabled),
        ]
        self._keep(m, vf_enable)
        self._page_requests(m)
        self._begin(m, vf_enable)
        return m

    # Registers

    def _at(self, name: str):
        """Whether a register is at commit, of whichever function it is of."""
        word, function = self.commit.word, self.commit.function
        own = word == self.pf[name].offset // 4
        if name not in self.vf:
            return own & (function == 0)
        return Mux(function == 0, own, word == self.vf[name].offset // 4)

    def _new(self, name: str, field: str):
        """A field as the commit leaves it."""
        entry = self.pf[name][field]
        low = _place(self.pf[name], entry)
        return self.commit.value[low : low + entry.high - entry.low + 1]

    def _ones(self, name: str, field: str):
        """Whether a bit is being written to 1."""
        at = self.commit.en & self._at(name)
        return at & self.commit.ones[_place(self.pf[name], self.pf[name][field])]

    def _everybody(self, m: Module, name: str, field: str):
        """One bit of every function."""
        bits = Signal(self.config.functions, name=f"{name}_{field}")
        if _place(self.pf[name], self.pf[name][field]) != _place(
            self.vf[name], self.vf[name][field]
        ):
            raise ValueError(f"{name} is not at the same bits of its word in PF and VF")
        with m.If(self.commit.en & self._at(name)):
            m.d.sync += bits.eq((bits & ~self.mine) | Mux(self._new(name, field), self.mine, 0))
        with m.If(self.trigger.any()):
            m.d.sync += bits.eq(bits & ~self.trigger)
        return bits

    def _own(self, m: Module, name: str, field: str):
        """A field of the PF alone."""
        entry = self.pf[name][field]
        value = Signal(entry.high - entry.low + 1, name=f"{name}_{field}", init=entry.reset or 0)
        at = (self.commit.function == 0) & (self.commit.word == self.pf[name].offset // 4)
        with m.If(self.commit.en & at):
            m.d.sync += value.eq(self._new(name, field))
        with m.If(self.trigger[0]):
            m.d.sync += value.eq(value.init)
        return value

    def _keep(self, m: Module, vf_enable) -> None:
        """Writes that do nothing, and bits that depend on others."""
        pages = self.pf["system_page_size"]
        page = Signal(max(entry.high for entry in pages.fields.values()) + 1, init=1)
        with m.If(self.commit.en & self._at(pages.name)):
            m.d.sync += page.eq(self.commit.value)
        with m.If(self.trigger[0]):
            m.d.sync += page.eq(page.init)
        wanted = self.commit.ones[:2]
        with m.If(self._at("num_vfs") & vf_enable):
            m.d.comb += self.refused.eq(-1)
        with m.If(self._at("pm_control") & ((wanted == 1) | (wanted == 2))):
            m.d.comb += self.refused.eq(3)
        with m.If(self._at("status") & (self.commit.function == 0)):
            place = _place(self.pf["status"], self.pf["status"]["interrupt"])
            m.d.comb += [self.hidden[place].eq(1), self.live[place].eq(self.waiting)]
        with m.If(self._at("vf_bar0")):  # VFs lie at multiples of the page size
            m.d.comb += self.hidden.eq((page - 1)[: len(page)] << _PAGE_SHIFT)

    def _page_requests(self, m: Module) -> None:
        """Page request interface."""
        pri, status = self.pri, self.pf["pri_status"]
        enable = self._own(m, "pri_control", "enable")
        allocation = self._own(m, "pri_allocation", "value")
        m.d.comb += [
            pri.enable.eq(enable),
            pri.allocation.eq(allocation),
            pri.reset.eq(
                (self._ones("pri_control", "reset") & ~self._new("pri_control", "enable"))
                | self.trigger[0]
            ),
        ]
        noted = {}
        for name in ("failure", "unexpected"):
            noted[name] = bit = Signal(name=name)
            with m.If(getattr(pri, name)):
                m.d.sync += bit.eq(1)
            with m.Elif(self._ones("pri_status", name) | self.trigger[0]):
                m.d.sync += bit.eq(0)
        noted["stopped"] = ~enable & pri.idle
        with m.If(self._at("pri_status")):
            for name, bit in noted.items():
                place = _place(status, status[name])
                m.d.comb += [self.hidden[place].eq(1), self.live[place].eq(bit)]

    # Resets

    def _begin(self, m: Module, vf_enable) -> None:
        """What begins resets."""
        flr = self._ones("device_control", "flr")
        gone = self.commit.en & self._at("sriov_control") & vf_enable
        all_vfs = (flr & (self.commit.function == 0)) | (
            gone & ~self._new("sriov_control", "vf_enable")
        )
        with m.If(flr):
            m.d.comb += self.trigger.eq(self.mine)
        with m.If(all_vfs):
            m.d.comb += self.trigger.eq(Mux(flr, -1, ~1))

    def _resets(self, m: Module) -> None:
        """Phases of resets."""
        functions = self.config.functions
        stopping, self.busy = Signal(functions), Signal(functions)
        stopped = Signal(functions)
        m.d.comb += [
            self.busy.eq(self.flr | stopping | self.clear | self.wipe),
            stopped.eq(stopping & ~self.flr & ~self.resetting),
        ]
        m.d.sync += [
            self.flr.eq((self.flr & ~self.resetting) | self.trigger),
            stopping.eq((stopping & ~stopped) | self.trigger),
            self.clear.eq((self.clear & ~self.cleared) | stopped),
            self.wipe.eq((self.wipe & ~self.wiped) | self.trigger),
        ]
