"""``docs/records.md``."""

from amaranth.lib import data, enum

from models.manual.tables import Bits, comments, fields_of, first_line, table
from models.spec import iommu, nic, pci_capabilities, translation, virtio, virtio_net

__all__ = ["ENUMS", "IN_MEMORY", "STREAMS", "records"]

#: Records in memory or in registers: who they belong to, and the records.
IN_MEMORY: dict[str, tuple[type[data.Struct], ...]] = {
    "iommu": (
        iommu.DeviceContextBase,
        iommu.DeviceContext,
        iommu.ProcessContext,
        iommu.NonLeafEntry,
        iommu.Pte,
        iommu.MsiPte,
        iommu.MsiPteMrif,
        iommu.MsiPteNotice,
        iommu.Command,
        iommu.Iotinval,
        iommu.Iofence,
        iommu.Iodir,
        iommu.AtsCommand,
        iommu.InvalidationPayload,
        iommu.GroupResponsePayload,
        iommu.FaultRecord,
        iommu.PageRequestRecord,
        iommu.PageRequestPayload,
    ),
    "virtio": (
        virtio.Descriptor,
        virtio.PackedDescriptor,
        virtio.EventSuppression,
        virtio.UsedElement,
        virtio.NetHeader,
        virtio.NetConfig,
        virtio_net.ControlHeader,
        virtio_net.RssHead,
    ),
    "nic": (
        nic.MsixEntry,
        nic.BackupRing,
        nic.BackupEntry,
        nic.FunctionControl,
        nic.FunctionVlan,
        nic.MacFilterHigh,
        nic.VlanFilter,
        nic.RssControl,
        nic.QueueCoalescing,
    ),
}
#: Records on streams between blocks, not seen by software.
STREAMS = (
    translation.TranslationRequest,
    translation.TranslationResponse,
    translation.DmaUser,
    translation.PageRequest,
    translation.GroupResponse,
    translation.InvalidationRequest,
    translation.InvalidationCompletion,
)
ENUMS: dict[str, tuple[type, ...]] = {
    "pci": (
        pci_capabilities.CapabilityId,
        pci_capabilities.ExtendedId,
        pci_capabilities.VirtioStructure,
    ),
    "iommu": (
        iommu.DdtpMode,
        iommu.IohgatpMode,
        iommu.IoatpMode,
        iommu.PdtpMode,
        iommu.MsiptpMode,
        iommu.CommandOpcode,
        iommu.CommandFunc,
        iommu.Cause,
        iommu.Ttyp,
        iommu.PageResponse,
        iommu.HpmEvent,
    ),
    "virtio": (
        virtio.DeviceStatus,
        virtio.Feature,
        virtio.DescriptorFlag,
        virtio.EventFlags,
        virtio.NetHeaderFlag,
        virtio.GsoType,
        virtio.NetStatus,
        virtio_net.ControlClass,
        virtio_net.ControlRx,
        virtio_net.ControlMac,
        virtio_net.ControlVlan,
        virtio_net.ControlMq,
        virtio_net.ControlAck,
        virtio_net.HashType,
    ),
    "nic": (
        nic.Isr,
        nic.MailboxEvent,
        nic.QueueError,
        nic.Stat,
        nic.RxQueueStat,
        nic.TxQueueStat,
    ),
    "translation": (translation.AddressType, translation.TranslationStatus),
}
_TITLES = {
    "iommu": "IOMMU: in memory",
    "virtio": "Virtio: in memory",
    "nic": "NIC",
    "translation": "Translation port",
    "pci": "PCI capabilities",
}
_HEAD = """# Records and encodings

Made from `models/spec` by `make docs`; do not edit.  Bit 0 is the lowest bit of the lowest byte:
all records are little-endian, those of the IOMMU unless `fctl.BE` or `DC.tc.SBE` says otherwise.
"""


def _range(bits: Bits, base: int = 0) -> str:
    low, high = bits.low - base, bits.high - base
    return str(low) if low == high else f"{high}:{low}"


def _record(cls: type[data.Struct], *, by_doubleword: bool) -> list[str]:
    size = cls.as_shape().size
    unit = f"{size // 8} bytes" if by_doubleword else f"{size} bits"
    rows = []
    for bits in fields_of(cls):
        name = "reserved" if bits.reserved else f"`{bits.name}`"
        if not by_doubleword:
            rows.append((_range(bits), name, bits.doc))
            continue
        byte = bits.low // 64 * 8
        rows.append((f"+{byte}", _range(bits, 8 * byte), name, bits.doc))
    head = ("Bits", "Field", "") if not by_doubleword else ("Byte", "Bits", "Field", "")
    return [f"### `{cls.__name__}`, {unit}", "", first_line(cls), "", *table(head, rows)]


_ACRONYMS = {"ATS", "DDT", "DMA", "ID", "MRIF", "MSI", "PDT", "PT", "PTE", "RX", "TLB", "TX"}


def _readable(name: str) -> str:
    words = name.split("_")
    return " ".join(word if word in _ACRONYMS else word.lower() for word in words)


def members(cls: type) -> list[tuple[str, int]]:
    """Names and values of an enumeration, second names of a value too."""
    return [(name, int(member)) for name, member in cls.__members__.items()]


def _enum(cls: type) -> list[str]:
    docs = comments(cls)
    rows = [
        (str(value), f"`{name}`", docs.get(name) or _readable(name)) for name, value in members(cls)
    ]
    kind = "bits" if issubclass(cls, enum.IntFlag) else "values"
    return [f"### `{cls.__name__}`", "", first_line(cls), "", *table((kind, "Name", ""), rows)]


def records() -> str:
    """Text of the document."""
    lines = [_HEAD]
    for room, classes in IN_MEMORY.items():
        lines += [f"## {_TITLES[room]}", ""]
        for cls in classes:
            lines += _record(cls, by_doubleword=True)
    lines += ["## Streams between blocks", ""]
    for cls in STREAMS:
        lines += _record(cls, by_doubleword=False)
    for room, classes in ENUMS.items():
        lines += [f"## Encodings: {_TITLES[room].partition(':')[0]}", ""]
        for cls in classes:
            lines += _enum(cls)
    return "\n".join(lines).rstrip() + "\n"
