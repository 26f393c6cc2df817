"""Which command it is, and whether this IOMMU may execute it."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig
from models.spec.iommu import (
    AtsCommand,
    Command,
    CommandFunc,
    CommandOpcode,
    DdtpMode,
    Iodir,
    Iofence,
    Iotinval,
)
from rtl.iommu.register_file import capabilities
from rtl.iommu.seams import Invalidate, InvalidateKind

__all__ = ["CommandDecoder", "CommandKind"]

#: device_id bits below each DDT depth, for base and extended device contexts.
DEVICE_BITS = {
    False: {DdtpMode.LVL1: 7, DdtpMode.LVL2: 16, DdtpMode.LVL3: 24},
    True: {DdtpMode.LVL1: 6, DdtpMode.LVL2: 15, DdtpMode.LVL3: 24},
}


class CommandKind(enum.IntEnum, shape=3):
    """What the command queue has to do."""

    ILLEGAL = 0
    INVALIDATE = 1
    FENCE = 2
    ATS_INVALIDATE = 3
    GROUP_RESPONSE = 4


class CommandDecoder(wiring.Component):
    """Checks a command bit by bit (section "Command-Queue"); combinational.

    Unknown opcodes and functions, reserved bits that are set, and operands of capabilities that
    the configuration has not make a command illegal, as do process_ids wider than the deepest PDT
    that there is.  A device_id that is too wide for the DDT is illegal where it is valid; with the
    DDT off or Bare none is too wide.

    Parameters
    ----------
    config : IommuConfig
        Capabilities.

    Members
    -------
    command : ``In(Command)``
    mode : ``In(4)``
        ddtp.mode.
    wsi : ``In(1)``
        fctl.WSI.
    kind : ``Out(CommandKind)``
    invalidate : ``Out(Invalidate)``
        Of use if ``kind`` is INVALIDATE.
    """

    command: In(Command)
    mode: In(4)
    wsi: In(1)
    kind: Out(CommandKind)
    invalidate: Out(Invalidate)

    def __init__(self, config: IommuConfig):
        self._features = regs.CAPABILITIES.layout.const(
            {
                name: field.extract(capabilities(config))
                for name, field in regs.CAPABILITIES.fields.items()
            }
        )
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        with m.Switch(self.command.opcode):
            with m.Case(CommandOpcode.IOTINVAL):
                self._iotinval(m, Iotinval(self.command.as_value()))
            with m.Case(CommandOpcode.IOFENCE):
                self._iofence(m, Iofence(self.command.as_value()))
            with m.Case(CommandOpcode.IODIR):
                self._iodir(m, Iodir(self.command.as_value()))
            if self._features.ats:
                with m.Case(CommandOpcode.ATS):
                    self._ats(m, AtsCommand(self.command.as_value()))
        return m

    def _iotinval(self, m: Module, command) -> None:
        reserved = Cat(
            command.reserved,
            command.reserved2,
            command.reserved3,
            command.reserved4,
            command.reserved5,
            0 if self._features.nl else command.nl,
            0 if self._features.s else command.s,
        )
        is_gvma = command.func3 == CommandFunc.GVMA
        known = (command.func3 == CommandFunc.VMA) | (is_gvma & ~command.pscv)
        out = self.invalidate
        m.d.comb += [
            out.kind.eq(InvalidateKind.VMA),
            out.av.eq(command.av),
            out.pscv.eq(command.pscv),
            out.gv.eq(command.gv),
            out.nl.eq(command.nl),
            out.s.eq(command.s),
            out.pscid.eq(command.pscid),
            out.gscid.eq(command.gscid),
            out.addr.eq(command.addr),
        ]
        with m.If(is_gvma):
            m.d.comb += out.kind.eq(InvalidateKind.GVMA)
        with m.If(known & ~reserved.any()):
            m.d.comb += self.kind.eq(CommandKind.INVALIDATE)

    def _iofence(self, m: Module, command) -> None:
        reserved = Cat(command.reserved, command.reserved2, command.wsi & ~self.wsi)
        with m.If((command.func3 == CommandFunc.C) & ~reserved.any()):
            m.d.comb += self.kind.eq(CommandKind.FENCE)

    def _iodir(self, m: Module, command) -> None:
        features = self._features
        widths = ((features.pd20, 20), (features.pd17, 17), (features.pd8, 8))
        process_bits = next((bits for there, bits in widths if there), 0)
        too_wide = Signal()
        with m.Switch(self.mode):
            for mode, bits in DEVICE_BITS[bool(features.msi_flat)].items():
                with m.Case(mode):
                    m.d.comb += too_wide.eq(command.dv & (command.did >> bits).any())
        reserved = Cat(command.reserved, command.reserved2, command.reserved3, command.reserved4)
        is_ddt = (command.func3 == CommandFunc.INVAL_DDT) & ~command.pid.any()
        is_pdt = (
            (command.func3 == CommandFunc.INVAL_PDT)
            & command.dv
            & ~(command.pid >> process_bits).any()
            & bool(process_bits)
        )
        out = self.invalidate
        m.d.comb += [
            out.kind.eq(InvalidateKind.DDT),
            out.dv.eq(command.dv),
            out.did.eq(command.did),
            out.pscid.eq(command.pid),
        ]
        with m.If(is_pdt):
            m.d.comb += out.kind.eq(InvalidateKind.PDT)
        with m.If((is_ddt | is_pdt) & ~reserved.any() & ~too_wide):
            m.d.comb += self.kind.eq(CommandKind.INVALIDATE)

    def _ats(self, m: Module, command) -> None:
        with m.If(~Cat(command.reserved, command.reserved2).any()):
            with m.Switch(command.func3):
                with m.Case(CommandFunc.INVAL):
                    m.d.comb += self.kind.eq(CommandKind.ATS_INVALIDATE)
                with m.Case(CommandFunc.PRGR):
                    m.d.comb += self.kind.eq(CommandKind.GROUP_RESPONSE)
