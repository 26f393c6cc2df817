"""Generated documents: up to date, complete, and the C header says what Python says."""

import random
import subprocess

import pytest
from amaranth.lib import data, enum

from models.iommu import GoldenIommu, Parameters
from models.manual.configurations import descriptions
from models.manual.files import ROOT, texts
from models.manual.header import _member, _snake
from models.manual.records import ENUMS, IN_MEMORY, STREAMS, members
from models.manual.tables import families, fields_of
from models.memory import Memory
from models.spec import iommu, nic, translation, virtio
from models.spec.config import CONFIGS, IommuConfig, NicConfig, config
from models.spec.iommu_registers import REGISTERS

ROOMS = {"iommu": iommu, "nic": nic, "virtio": virtio, "translation": translation}


@pytest.mark.parametrize("name", texts())
def test_file_is_up_to_date(name):
    assert (ROOT / name).read_text(encoding="utf-8") == texts()[name], "run `make docs`"


@pytest.mark.parametrize("room", ROOMS)
def test_no_record_and_no_encoding_is_forgotten(room):
    shown = {*STREAMS, *(cls for classes in IN_MEMORY.values() for cls in classes)}
    for cls in list(shown):
        shown |= {field.shape for _, field in cls.as_shape() if isinstance(field.shape, type)}
    shown |= {cls for classes in ENUMS.values() for cls in classes}
    for name in ROOMS[room].__all__:
        thing = getattr(ROOMS[room], name)
        if isinstance(thing, type) and issubclass(thing, (data.Struct, enum.IntEnum, enum.IntFlag)):
            assert thing in shown, name


@pytest.mark.parametrize("cls", [IommuConfig, NicConfig])
def test_every_parameter_is_described(cls):
    found = descriptions(cls)
    assert set(found) == set(cls.__dataclass_fields__)
    assert all(found.values())


def test_numbered_registers_are_joined():
    names = {family.name: family.count for family in families(REGISTERS)}
    assert names["iohpmctr"] == names["iohpmevt"] == 31
    assert names["msi_addr"] == names["msi_data"] == names["msi_vec_ctl"] == 16
    assert sum(names.values()) == len(REGISTERS)


@pytest.mark.parametrize("name", ["tiny", "default"])
def test_reset_values_are_those_of_the_golden_model(name):
    golden = GoldenIommu(Memory(), Parameters.from_config(config(name).iommu))
    for register in REGISTERS:
        value = golden.read_register(register.offset, register.bytes)
        for field, entry in register.fields.items():
            if entry.reset is not None:
                assert entry.extract(value) == entry.reset, f"{register.name}.{field}"


def test_every_configuration_has_a_column():
    text = texts()["docs/configurations.md"]
    assert all(f"| `{name}` | " in text for name in CONFIGS)


def compiled(source: str, folder) -> str:
    """Output of a C program that includes the header."""
    (folder / "try.c").write_text('#include "iovirt.h"\n' + source, encoding="utf-8")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT / 'include'}"]
    command = ["gcc", *flags, str(folder / "try.c"), "-o", str(folder / "try")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "try"], capture_output=True, text=True, check=True).stdout


def program(statements: list[str]) -> str:
    body = "\n".join(f"    {statement}" for statement in statements)
    return (
        f"#include <stdio.h>\n#include <string.h>\nint main(void) {{\n{body}\n    return 0;\n}}\n"
    )


def test_header_has_every_register_and_field(tmp_path):
    lines, expected = [], []

    def show(text: str, value: int) -> None:
        lines.append(f'printf("%llx\\n", (unsigned long long)({text}));')
        expected.append(value)

    groups = {
        "IOVIRT_IOMMU": REGISTERS,
        "IOVIRT_NIC_FUNCTION": tuple(nic.MANAGEMENT.values()),
        "IOVIRT_VIRTIO_COMMON": virtio.COMMON_CONFIG,
    }
    for prefix, registers in groups.items():
        for family in families(registers):
            name = f"{prefix}_{family.name.upper()}"
            places = [f"{name}({n})" for n in range(family.first, family.last + 1)]
            for index, place in enumerate(places if family.stride else [name]):
                show(place, family.register.offset + index * family.stride)
            for field, entry in family.register.fields.items():
                if field != "value":
                    show(f"{name}_{field.upper()}_MASK", entry.mask)
                    show(f"{name}_{field.upper()}_SHIFT", entry.low)
    for function, queue in ((0, 0), (5, 3)):
        show(f"IOVIRT_NIC_BAR({function}u)", nic.bar_base(function))
        show(f"IOVIRT_NIC_FUNCTION({function}u)", nic.function_block(function))
        show(f"IOVIRT_NIC_FUNCTION_QUEUE_ERROR({queue}u)", nic.queue_error_offset(queue))
        show(f"IOVIRT_NIC_FUNCTION_STAT({queue}u)", nic.stat_offset(queue))
        place = nic.queue_stat_offset(queue, 5)
        show(f"IOVIRT_NIC_FUNCTION_QUEUE_STAT({queue}u, 5u)", place)
    show("IOVIRT_NIC_BASE_FEATURES", nic.BASE_FEATURES)
    for room, classes in ENUMS.items():
        for cls in classes:
            if room != "translation":
                prefix = f"IOVIRT_{room}_{_snake(cls.__name__)}".upper()
                for member, value in members(cls):
                    show(f"{prefix}_{member}", value)
    printed = compiled(program(lines), tmp_path).split()
    assert [int(text, 16) for text in printed] == expected
    assert len(expected) > 400


def test_records_in_c_are_those_of_python(tmp_path):
    """Every field is set from C, alone and all together; the bytes are those of the layout."""
    rng, lines, expected = random.Random(1), [], []
    for room, classes in IN_MEMORY.items():
        for cls in classes:
            size = cls.as_shape().size // 8
            name = f"iovirt_{room}_{_snake(cls.__name__)}".lower()
            fields = [bits for bits in fields_of(cls) if not bits.reserved]
            as_members = all(_member(bits) for bits in fields_of(cls))
            lines += [
                f"{{ struct {name} r;",
                "unsigned char b[sizeof r];",
                "memset(&r, 0, sizeof r);",
            ]
            total = 0
            for bits in fields:
                value = rng.getrandbits(bits.width)
                total |= value << bits.low
                if as_members:
                    raw = ",".join(str(byte) for byte in value.to_bytes(bits.width // 8, "little"))
                    lines.append(f"memcpy(&r.{bits.name}, (unsigned char[]){{{raw}}}, "
                                 f"sizeof r.{bits.name});")  # fmt: skip
                else:
                    field = f"{name}_{_snake(bits.name)}".upper()
                    lines.append(f"IOVIRT_RECORD_PUT(&r, {field}, 0x{value:x}ull);")
                    lines.append(f"if (IOVIRT_RECORD_GET(&r, {field}) != 0x{value:x}ull) return 1;")
            lines += ["memcpy(b, &r, sizeof r);", "for (unsigned i = 0; i < sizeof r; i++)",
                      'printf("%02x", b[i]);', 'printf("\\n"); }']  # fmt: skip
            expected.append(total.to_bytes(size, "little").hex())
    assert compiled(program(lines), tmp_path).split() == expected
