"""``include/iovirt.h``: registers, records and encodings for authors of drivers in C."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from amaranth.lib import data

from models.manual.pci import pci_families, spaces
from models.manual.records import ENUMS, IN_MEMORY, members
from models.manual.tables import Bits, Family, families, fields_of, first_line
from models.spec import nic, virtio
from models.spec.iommu_registers import PAGE_BYTES, VERSION_1_0
from models.spec.iommu_registers import REGISTERS as IOMMU

__all__ = ["header"]

_HEAD = r"""/* SPDX-License-Identifier: BSD-2-Clause

   Registers, records and encodings of iovirt's IOMMU and NIC, for authors of drivers in C11.
   Made from models/spec by `make docs`; do not edit.  docs/registers.md and docs/records.md say
   more.

   NAME is the offset of a register, NAME_MASK and NAME_SHIFT are those of a field.  A record that
   has fields of its own sizes is a struct of them; in any other, NAME_WORD tells the element of
   `word` that a field is in.  All are little-endian: on other machines, swap.

     uint64_t ddtp = IOVIRT_PUT(IOVIRT_IOMMU_DDTP_PPN, page) |
                     IOVIRT_PUT(IOVIRT_IOMMU_DDTP_MODE, IOVIRT_IOMMU_DDTP_MODE_LVL1);
     unsigned cause = IOVIRT_RECORD_GET(record, IOVIRT_IOMMU_FAULT_RECORD_CAUSE); */
#ifndef IOVIRT_H
#define IOVIRT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define IOVIRT_GET(value, field) (((value) & field##_MASK) >> field##_SHIFT)
#define IOVIRT_PUT(field, value) (((uint64_t)(value) << field##_SHIFT) & field##_MASK)
#define IOVIRT_RECORD_GET(record, field) IOVIRT_GET((record)->word[field##_WORD], field)
#define IOVIRT_RECORD_PUT(record, field, value) \
    ((record)->word[field##_WORD] = \
         ((record)->word[field##_WORD] & ~field##_MASK) | IOVIRT_PUT(field, value))
"""
_NIC_CONSTANTS = (
    *("ADDRESS_BITS", "BAR_BYTES", "COMMON_OFFSET", "ISR_OFFSET", "DEVICE_OFFSET"),
    *("NOTIFY_OFFSET", "NOTIFY_MULTIPLIER", "MSIX_TABLE_OFFSET", "MSIX_ENTRY_BYTES"),
    *(
        "MSIX_PBA_OFFSET",
        "MANAGEMENT_BASE",
        "FUNCTION_BYTES",
        "CONFIG_BASE",
        "CONFIG_BYTES",
        "BASE_FEATURES",
        "PORT_SOURCE",
    ),
)
_COLUMNS = 100


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace(".", "_")


def _commented(line: str, doc: str) -> Iterator[str]:
    if doc and len(line) + len(doc) + 7 > _COLUMNS:
        yield f"/* {doc} */"
        doc = ""
    yield f"{line} /* {doc} */" if doc else line


def _define(name: str, value: str, doc: str = "") -> Iterator[str]:
    yield from _commented(f"#define {name} {value}", doc)


def _number(value: int, width: int = 32) -> str:
    return f"{value:#x}{'ull' if width > 32 or value >> 32 else 'u'}"


def _register(prefix: str, family: Family) -> Iterator[str]:
    register = family.register
    name, what = f"{prefix}_{family.name.upper()}", register.doc
    fields = dict(register.fields)
    if list(fields) == ["value"]:
        what = what or fields.pop("value").doc
    if family.stride:
        index = f"((n) - {family.first}u)" if family.first else "(n)"
        place = f"({_number(register.offset)} + {family.stride:#x}u * {index})"
        yield from _define(f"{name}(n)", place, f"{family.first} to {family.last}: {what}")
    else:
        yield from _define(name, _number(register.offset), what)
    for field, entry in fields.items():
        yield from _define(f"{name}_{field.upper()}_SHIFT", str(entry.low))
        mask = _number(entry.mask, register.width)
        yield from _define(f"{name}_{field.upper()}_MASK", mask, entry.doc)


def _registers(prefix: str, found: Iterable[Family]) -> Iterator[str]:
    for family in found:
        yield from _register(prefix, family)
        yield ""


def _member(bits: Bits) -> str | None:
    """Member of a struct for a field; ``None`` if it is not made of whole bytes."""
    if bits.low % 8 or bits.width % 8:
        return None
    if bits.width in (8, 16, 32, 64) and not bits.low % bits.width:
        return f"uint{bits.width}_t {bits.name}"
    return f"uint8_t {bits.name}[{bits.width // 8}]"


def _record(room: str, cls: type[data.Struct]) -> Iterator[str]:
    name, size = f"iovirt_{room}_{_snake(cls.__name__).lower()}", cls.as_shape().size
    fields = list(fields_of(cls))
    natural = [_member(bits) for bits in fields]
    yield f"/* {first_line(cls).replace('``', '')} */"
    yield f"struct {name} {{"
    if all(natural):
        for bits, member in zip(fields, natural, strict=True):
            yield from _commented(f"    {member};", bits.doc)
        yield "};"
        for bits in fields:
            place = f"offsetof(struct {name}, {bits.name}) == {bits.low // 8}"
            yield f'static_assert({place}, "offset");'
    else:
        width = 32 if size % 64 else 64
        yield f"    uint{width}_t word[{size // width}];"
        yield "};"
        for bits in fields:
            yield from _bits(f"{name.upper()}_{_snake(bits.name).upper()}", bits, width)
    yield f'static_assert(sizeof(struct {name}) == {size // 8}, "size");'
    yield ""


def _bits(name: str, bits: Bits, width: int) -> Iterator[str]:
    if bits.reserved:
        return
    word, low = divmod(bits.low, width)
    if low + bits.width > width:
        raise ValueError(f"{name} crosses words")
    yield from _define(f"{name}_WORD", str(word))
    yield from _define(f"{name}_SHIFT", str(low))
    mask = (1 << low + bits.width) - (1 << low)
    yield from _define(f"{name}_MASK", _number(mask, width), bits.doc)


def _enum(room: str, cls: type) -> Iterator[str]:
    name = f"iovirt_{room}_{_snake(cls.__name__).lower()}"
    yield f"/* {first_line(cls).replace('``', '')} */"
    yield f"enum {name} {{"
    for member, value in members(cls):
        yield f"    {name.upper()}_{member} = {value},"
    yield "};"
    yield ""


def _nic() -> Iterator[str]:
    for name in _NIC_CONSTANTS:
        yield from _define(f"IOVIRT_NIC_{name}", _number(getattr(nic, name)))
    yield from _define("IOVIRT_NIC_BAR(f)", "((f) * IOVIRT_NIC_BAR_BYTES)", "of function f")
    block = "(IOVIRT_NIC_MANAGEMENT_BASE + (f) * IOVIRT_NIC_FUNCTION_BYTES)"
    yield from _define("IOVIRT_NIC_FUNCTION(f)", block, "management of function f")
    place = "(IOVIRT_NIC_CONFIG_BASE + (f) * IOVIRT_NIC_CONFIG_BYTES)"
    yield from _define("IOVIRT_NIC_CONFIG(f)", place, "PCI configuration space of function f")
    error, stat = (_number(place(0)) for place in (nic.queue_error_offset, nic.stat_offset))
    yield from _define("IOVIRT_NIC_FUNCTION_QUEUE_ERROR(q)", f"({error} + 4u * (q))")
    yield from _define("IOVIRT_NIC_FUNCTION_STAT(s)", f"({stat} + 8u * (s))")
    first, second = (nic.queue_stat_offset(queue, 0) for queue in (0, 1))
    of_queue = f"({_number(first)} + {_number(second - first)} * (q) + 8u * (s))"
    yield from _define("IOVIRT_NIC_FUNCTION_QUEUE_STAT(q, s)", of_queue)
    yield ""


def _banner(text: str) -> list[str]:
    return [f"/* ---- {text} {'-' * (_COLUMNS - 13 - len(text))} */", ""]


def header() -> str:
    """Text of the header."""
    lines = [_HEAD, *_banner("IOMMU: registers")]
    lines += _define("IOVIRT_IOMMU_PAGE_BYTES", _number(PAGE_BYTES))
    lines += _define("IOVIRT_IOMMU_VERSION_1_0", _number(VERSION_1_0))
    lines += ["", *_registers("IOVIRT_IOMMU", families(IOMMU))]
    lines += [*_banner("NIC: registers"), *_nic()]
    management = families(tuple(nic.MANAGEMENT.values()))
    lines += _registers("IOVIRT_NIC_FUNCTION", management)
    for space in spaces():
        lines += _banner(f"PCI configuration space: {space.name}")
        lines += _registers(f"IOVIRT_PCI_{space.name.upper()}", pci_families(space))
    lines += [*_banner("Virtio: common configuration")]
    lines += _define("IOVIRT_VIRTIO_MSI_NO_VECTOR", _number(virtio.MSI_NO_VECTOR))
    lines += ["", *_registers("IOVIRT_VIRTIO_COMMON", families(virtio.COMMON_CONFIG))]
    for title, made, rooms in (("records", _record, IN_MEMORY), ("encodings", _enum, ENUMS)):
        for room, classes in rooms.items():
            if room == "translation":  # software does not see it
                continue
            lines += _banner(f"{room.upper() if room != 'virtio' else 'Virtio'}: {title}")
            for cls in classes:
                lines += made(room, cls)
    lines += ["#endif"]
    squeezed = [line for line, group in groupby(lines) for _ in ([1] if not line else group)]
    return "\n".join(squeezed) + "\n"
