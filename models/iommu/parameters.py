"""What an implementation may choose: capabilities and sizes of the golden IOMMU."""

from dataclasses import dataclass, field, fields

from models.spec.config import CAPABILITY_BITS, IommuConfig
from models.spec.iommu_registers import CAPABILITIES, FCTL, VERSION_1_0
from models.spec.registers import field_mask

__all__ = ["IGS_BOTH", "IGS_MSI", "IGS_WSI", "Capabilities", "Parameters"]

#: ``capabilities.IGS``.
IGS_MSI, IGS_WSI, IGS_BOTH = range(3)


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """``capabilities`` decoded; the fields are named as in the register."""

    sv32: int = 0
    sv39: int = 0
    sv48: int = 0
    sv57: int = 0
    svrsw60t59b: int = 0
    svpbmt: int = 0
    sv32x4: int = 0
    sv39x4: int = 0
    sv48x4: int = 0
    sv57x4: int = 0
    amo_mrif: int = 0
    msi_flat: int = 0
    msi_mrif: int = 0
    amo_hwad: int = 0
    ats: int = 0
    t2gpa: int = 0
    end: int = 0
    igs: int = 0
    hpm: int = 0
    dbg: int = 0
    pas: int = 56
    pd8: int = 0
    pd17: int = 0
    pd20: int = 0
    qosid: int = 0
    nl: int = 0
    s: int = 0

    @classmethod
    def from_bits(cls, bits: int) -> "Capabilities":
        """Decode a register value."""
        return cls(**{f.name: CAPABILITIES[f.name].extract(bits) for f in fields(cls)})

    @property
    def bits(self) -> int:
        """The register's value."""
        value = CAPABILITIES["version"].insert(VERSION_1_0)
        for f in fields(self):
            value |= CAPABILITIES[f.name].insert(getattr(self, f.name))
        return value

    @property
    def process_id_bits(self) -> int:
        """Widest process_id that a process directory can hold."""
        return 20 if self.pd20 else 17 if self.pd17 else 8 if self.pd8 else 0

    @property
    def gpa_bits(self) -> int:
        """Largest width of guest physical addresses (section "MSI address mask and pattern")."""
        schemes = ((self.sv57x4, 59), (self.sv48x4, 50), (self.sv39x4, 41), (self.sv32x4, 34))
        return next((bits for there, bits in schemes if there), self.pas)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """An implementation's choices.

    Parameters
    ----------
    capabilities : Capabilities
    fctl : int
        Reset value of ``fctl``.
    fctl_writable : int
        Bits of ``fctl`` that can be written.
    ddt_levels : int
        Deepest device directory.
    hpm_counters, hpm_bits : int
        Programmable event counters, and width of all counters.
    vector_bits : int
        Writable bits of each field of ``icvec``.
    queue_entries_log2_max : int
        Largest LOG2SZ.
    itags : int
        Invalidation requests outstanding.
    """

    capabilities: Capabilities = field(default_factory=Capabilities)
    fctl: int = 0
    fctl_writable: int = 0
    ddt_levels: int = 3
    hpm_counters: int = 31
    hpm_bits: int = 64
    vector_bits: int = 4
    queue_entries_log2_max: int = 32
    itags: int = 32

    @classmethod
    def from_config(cls, config: IommuConfig) -> "Parameters":
        """Choices of the RTL in a configuration (section "Features-control register").

        What there is only one of is fixed in ``fctl``.
        """
        wired, both = config.igs == IGS_WSI, config.igs == IGS_BOTH
        wide = config.sv39x4 or config.sv48x4 or config.sv57x4
        fixed = {"wsi": wired, "gxl": config.sv32x4 and not wide}
        choices = {"be": config.end, "wsi": both, "gxl": config.sv32x4 and wide}
        return cls(
            capabilities=Capabilities(
                **{name: int(getattr(config, name)) for name in CAPABILITY_BITS},
                igs=config.igs,
                pas=config.pas,
            ),
            fctl=field_mask(FCTL, *(name for name, only in fixed.items() if only)),
            fctl_writable=field_mask(FCTL, *(name for name, there in choices.items() if there)),
            ddt_levels=config.ddt_levels,
            hpm_counters=config.hpm_counters,
            hpm_bits=config.hpm_bits,
            queue_entries_log2_max=config.queue_entries_log2_max,
            itags=config.itags,
        )
