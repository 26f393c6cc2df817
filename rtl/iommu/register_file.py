"""Register page of the IOMMU."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec import iommu_registers as regs
from models.spec.config import CAPABILITY_BITS, IommuConfig
from models.spec.iommu import DdtpMode
from models.spec.registers import Register, field_mask
from rtl.bus.lite import RegisterPort
from rtl.bus.registers import RegisterBank, RegisterDecoder
from rtl.iommu.debug import DebugRegisters
from rtl.iommu.seams import DirectoryControl

__all__ = [
    "PAGE_ADDR_WIDTH",
    "QueueRegisters",
    "RegisterFile",
    "capabilities",
]

#: Bits of a byte address in the register page.
PAGE_ADDR_WIDTH = 12
#: capabilities.IGS.
IGS_MSI, IGS_WSI, IGS_BOTH = 0, 1, 2


def capabilities(config: IommuConfig) -> int:
    """Value of the ``capabilities`` register of a configuration."""
    values = {name: getattr(config, name) for name in CAPABILITY_BITS}
    values |= {"version": regs.VERSION_1_0, "igs": config.igs, "pas": config.pas}
    return sum(regs.CAPABILITIES[name].insert(int(value)) for name, value in values.items())


class QueueRegisters(wiring.Signature):
    """Registers of one queue, as the register file sees them; flip it for the queue.

    Members
    -------
    enable, interrupt_enable : ``Out(1)``
    ppn : ``Out(44)``
        Page at which the queue begins.
    mask : ``Out(32)``
        Number of entries, minus one.
    index : ``Out(32)``
        Software's index: tail of commands, head of reports.
    clear : ``Out(4)``
        Ones written to the status bits, csr bits 11:8, for one cycle.
    on : ``In(1)``
    position : ``In(32)``
        Hardware's index.
    flags : ``In(4)``
        Status bits, csr bits 11:8.
    """

    def __init__(self):
        super().__init__(
            {
                "enable": Out(1),
                "interrupt_enable": Out(1),
                "ppn": Out(44),
                "mask": Out(32),
                "index": Out(32),
                "clear": Out(4),
                "on": In(1),
                "position": In(32),
                "flags": In(4),
            }
        )


class RegisterFile(wiring.Component):
    """Register page: global and queue registers here, counters and msi_cfg_tbl behind ports.

    What the configuration does not have reads 0.  ``ddtp.mode`` keeps its value when software
    writes a mode that there is not; LOG2SZ is limited to ``queue_entries_log2_max``.  fctl keeps
    its value while ddtp.mode is not Off or a queue is enabled or on.

    Parameters
    ----------
    config : IommuConfig
        Capabilities and sizes.

    Members
    -------
    bus : ``In(RegisterPort)``
    counters, msi : ``Out(RegisterPort)``
        iohpmcycles to iohpmevt31 with iocountovf and iocountinh; msi_cfg_tbl.
    directory : ``Out(DirectoryControl)``
        With fctl.BE, fctl.GXL and iommu_qosid.
    directory_written : ``Out(1)``
        ddtp was written; ``directory`` shows what was.
    directory_busy : ``In(1)``
        ddtp.busy.
    wsi : ``Out(1)``
        fctl.WSI.
    command, fault, page : ``Out(QueueRegisters)``
        ``page`` is of use only with ATS.
    debug : ``Out(DebugRegisters)``
        Of use only with DBG.
    pending : ``In(4)``, clear : ``Out(4)``
        ipsr and the ones written to it.
    icvec : ``Out(16)``
        Vectors, four bits each: civ, fiv, pmiv, piv.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=PAGE_ADDR_WIDTH)),
                "counters": Out(RegisterPort(addr_width=PAGE_ADDR_WIDTH)),
                "msi": Out(RegisterPort(addr_width=PAGE_ADDR_WIDTH)),
                "directory": Out(DirectoryControl),
                "directory_written": Out(1),
                "directory_busy": In(1),
                "wsi": Out(1),
                "command": Out(QueueRegisters()),
                "fault": Out(QueueRegisters()),
                "page": Out(QueueRegisters()),
                "debug": Out(DebugRegisters()),
                "pending": In(4),
                "clear": Out(4),
                "icvec": Out(16),
            }
        )

    def _bank(self) -> RegisterBank:
        """The table that this configuration has, with its WARL limits."""
        config = self.config
        queues = [
            regs.CQB,
            regs.CQH,
            regs.CQT,
            regs.FQB,
            regs.FQH,
            regs.FQT,
            regs.CQCSR,
            regs.FQCSR,
        ]
        if config.ats:
            queues += [regs.PQB, regs.PQH, regs.PQT, regs.PQCSR]
        others = [regs.IPSR, regs.ICVEC]
        if config.dbg:
            others += [regs.TR_REQ_IOVA, regs.TR_REQ_CTL, regs.TR_RESPONSE]
        if config.qosid:
            others += [regs.IOMMU_QOSID]
        # Physical pages within the address space; the field starts at bit 10.
        pages = (1 << config.pas - 12) - 1 << regs.DDTP["ppn"].low
        bases = pages | regs.CQB["log2szm1"].mask
        vectors = ["civ", "fiv"] + ["pmiv"] * config.hpm + ["piv"] * config.ats
        return RegisterBank(
            [regs.CAPABILITIES, regs.FCTL, regs.DDTP, *queues, *others],
            addr_width=PAGE_ADDR_WIDTH,
            writable={
                "fctl": self._features_writable,
                "icvec": field_mask(regs.ICVEC, *vectors),
                "ddtp": pages | regs.DDTP["mode"].mask,
                "cqb": bases,
                "fqb": bases,
            }
            | ({"pqb": bases} if config.ats else {}),
            reset={"fctl": self._features_reset},
            loadable=["fctl", "ddtp", "cqb", "fqb", "cqt", "fqh"]
            + (["pqb", "pqh"] if config.ats else []),
        )

    @property
    def _features_writable(self) -> int:
        """Bits of fctl that software may choose."""
        config = self.config
        wide = config.sv39x4 or config.sv48x4 or config.sv57x4
        there = {
            "be": config.end,
            "wsi": config.igs == IGS_BOTH,
            "gxl": config.sv32x4 and wide,
        }
        return field_mask(regs.FCTL, *(name for name, choice in there.items() if choice))

    @property
    def _features_reset(self) -> int:
        """Value of fctl after reset: what there is but one of is fixed."""
        config = self.config
        wide = config.sv39x4 or config.sv48x4 or config.sv57x4
        fixed = {"wsi": config.igs == IGS_WSI, "gxl": config.sv32x4 and not wide}
        return field_mask(regs.FCTL, *(name for name, only in fixed.items() if only))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        ranges = {
            "bank": None,
            "counters": (regs.IOCOUNTOVF.offset, regs.IOHPMEVT[-1].offset + 7),
            "msi": (regs.msi_addr(0).offset, regs.PAGE_BYTES // 4 - 1),
        }
        m.submodules.decoder = decoder = RegisterDecoder(ranges, addr_width=PAGE_ADDR_WIDTH)
        m.submodules.bank = bank = self._bank()
        connect(m, flipped(self.bus), decoder.bus)
        connect(m, decoder.bank, bank.bus)
        connect(m, decoder.counters, flipped(self.counters))
        connect(m, decoder.msi, flipped(self.msi))

        m.d.comb += [
            bank.capabilities_in.eq(regs.CAPABILITIES.layout.from_bits(capabilities(config))),
            bank.ipsr_in.as_value().eq(self.pending),
            self.clear.eq(bank.ipsr_ones),
            self.icvec.eq(bank.icvec.as_value()),
        ]
        self._features(m, bank)
        self._directory(m, bank)
        self._queue(m, bank, self.command, (regs.CQB, regs.CQT, regs.CQH, regs.CQCSR), "cq", "cie")
        self._queue(m, bank, self.fault, (regs.FQB, regs.FQH, regs.FQT, regs.FQCSR), "fq", "fie")
        if config.ats:
            self._queue(m, bank, self.page, (regs.PQB, regs.PQH, regs.PQT, regs.PQCSR), "pq", "pie")
        if config.dbg:
            m.d.comb += [
                self.debug.go.eq(bank.tr_req_ctl_ones[0]),
                self.debug.vpn.eq(bank.tr_req_iova.vpn),
                self.debug.control.eq(bank.tr_req_ctl),
                bank.tr_req_ctl_in.go_busy.eq(self.debug.busy | self.debug.go),
                bank.tr_response_in.eq(self.debug.response),
            ]
        if config.qosid:
            m.d.comb += [
                self.directory.qos.rcid.eq(bank.iommu_qosid.rcid),
                self.directory.qos.mcid.eq(bank.iommu_qosid.mcid),
            ]
        return m

    def _features(self, m: Module, bank: RegisterBank) -> None:
        """Nothing of fctl changes while it is in use."""
        ports = [self.command, self.fault, self.page]
        layout = regs.FCTL.layout
        features = Signal(layout, init=layout.from_bits(self._features_reset))
        used = Signal()
        m.d.comb += [
            used.eq(
                (self.directory.mode != DdtpMode.OFF)
                | Cat((port.enable, port.on) for port in ports).any()
            ),
            bank.fctl_load.eq(bank.fctl_written & used),
            bank.fctl_next.eq(features),
            self.wsi.eq(features.wsi),
            self.directory.be.eq(features.be),
            self.directory.gxl.eq(features.gxl),
        ]
        with m.If(bank.fctl_written & ~used):
            m.d.sync += features.eq(bank.fctl)

    def _directory(self, m: Module, bank: RegisterBank) -> None:
        """ddtp: only legal modes get through."""
        legal = [DdtpMode.OFF, DdtpMode.BARE, DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3]
        legal = legal[: 2 + self.config.ddt_levels]
        mode, is_legal = Signal(4), Signal()
        written = bank.ddtp_written
        m.d.comb += [
            is_legal.eq(Cat(bank.ddtp.mode == value for value in legal).any()),
            bank.ddtp_load.eq(written[0] & ~is_legal),
            bank.ddtp_next.mode.eq(mode),
            bank.ddtp_next.ppn.eq(bank.ddtp.ppn),
            bank.ddtp_in.busy.eq(self.directory_busy | written.any() | self.directory_written),
            self.directory.mode.eq(mode),
            self.directory.ppn.eq(bank.ddtp.ppn),
        ]
        with m.If(written[0] & is_legal):
            m.d.sync += mode.eq(bank.ddtp.mode)
        m.d.sync += self.directory_written.eq(written.any())

    def _queue(
        self,
        m: Module,
        bank: RegisterBank,
        port,
        registers: tuple[Register, Register, Register, Register],
        prefix: str,
        interrupt_enable: str,
    ) -> None:
        """Registers of one queue: base, software's index, hardware's index, csr."""
        names = [register.name for register in registers]
        base, index, _, csr = (getattr(bank, name) for name in names)
        base_written, index_written = (getattr(bank, f"{name}_written") for name in names[:2])
        largest = self.config.queue_entries_log2_max - 1
        too_large = base.log2szm1 > largest
        base_next = getattr(bank, f"{names[0]}_next")
        position_in = getattr(bank, f"{names[2]}_in")
        csr_in = getattr(bank, f"{names[3]}_in")
        m.d.comb += [
            # 2 ** (LOG2SZ - 1 + 1) entries
            port.mask.eq(Cat(base.log2szm1 >= bit for bit in range(largest + 1))),
            port.ppn.eq(base.ppn),
            port.index.eq(index.index & port.mask),
            getattr(bank, f"{names[0]}_load").eq(base_written[0] & too_large),
            base_next.eq(base),
            base_next.log2szm1.eq(Mux(too_large, largest, base.log2szm1)),
            getattr(bank, f"{names[1]}_load").eq(base_written.any() | index_written.any()),
            getattr(bank, f"{names[1]}_next").index.eq(index.index & port.mask),
            position_in.index.eq(port.position),
            port.enable.eq(csr[f"{prefix}en"]),
            port.interrupt_enable.eq(csr[interrupt_enable]),
            port.clear.eq(getattr(bank, f"{names[3]}_ones")[8:12]),
            csr_in.as_value()[8:12].eq(port.flags),
            csr_in[f"{prefix}on"].eq(port.on),
            csr_in.busy.eq(csr[f"{prefix}en"] ^ port.on),
        ]
