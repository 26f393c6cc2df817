"""Checks of device and process contexts against the golden model's."""

import dataclasses
from typing import NamedTuple

import pytest

from models.iommu.access import PhysicalMemory
from models.iommu.directory import locate_device, locate_process
from models.iommu.parameters import Parameters
from models.iommu.records import Fault
from models.memory import Memory
from models.spec.config import IommuConfig
from models.spec.iommu import (
    Cause,
    DdtpMode,
    DeviceContext,
    ProcessContext,
)
from models.spec.iommu_registers import FCTL
from rtl.iommu.context_judge import ContextJudge
from tests.rtl.agents import mostly_full, run, seeded
from tests.rtl.simulators import built

WIDE = dict.fromkeys(("sv48", "sv48x4", "sv57", "sv57x4", "pd8", "pd17", "pd20"), True)
CONFIGS = {
    "default": IommuConfig(),
    "no_ats": IommuConfig(ats=False, pd8=True),
    "one_stage": IommuConfig(sv39x4=False, msi_flat=True, pas=40),
    "second_stage_only": IommuConfig(sv39=False, sv48x4=True, t2gpa=True, msi_flat=True),
    "all": IommuConfig(
        **WIDE, t2gpa=True, amo_hwad=True, msi_flat=True, end=True, qosid=True, svpbmt=True
    ),
    "sv48": IommuConfig(sv48=True, pd8=True, pd17=True, qosid=True, msi_flat=True),
}
_ROOT = 0x1000


def offset(name: str, member: str | None = None) -> int:
    """Bit position of a field of a device context."""
    field = DeviceContext.as_shape()[name]
    return field.offset + (field.shape.as_shape()[member].offset if member else 0)


_V = 1
_G8 = 8 << offset("iohgatp", "mode")
_FSC_MODE, _G_MODE = offset("fsc", "mode"), offset("iohgatp", "mode")
_MSI_MODE = offset("msiptp", "mode")
_TC = {
    name: 1 << TC.offset
    for name, TC in DeviceContext.as_shape()["tc"].shape.as_shape()
    if TC.width == 1
}


class Case(NamedTuple):
    """A context to judge under fctl."""

    raw: int
    be: int = 0


def cases(config: IommuConfig) -> list[Case]:
    """Each bit by itself, every mode with every other, all of the low half of tc."""
    rng = seeded(0)
    size = 512 if config.msi_flat else 256
    found = [Case(_V)]
    bases = [
        _V,
        _V | _G8,
        _V | _G8 | 8 << _FSC_MODE,
        _V | _TC["en_ats"] | _TC["en_pri"] | _TC["pdtv"] | 1 << _FSC_MODE | _G8,
        _V | _G8 | 1 << _MSI_MODE,
    ]
    for base in bases:
        found += [Case(base ^ 1 << bit) for bit in range(size) if bit < size]
    for first in range(16):
        for second in range(16):
            modes = first << _FSC_MODE | second << _G_MODE
            for tc in (0, _TC["pdtv"]):
                found += [Case(_V | tc | modes | msi << _MSI_MODE) for msi in (0, 1, 2, 15)]
    for tc in range(1 << 12):
        modes = rng.choice((0, 1, 8)) << _FSC_MODE | rng.choice((0, 8)) << _G_MODE
        found.append(Case(tc | modes, rng.getrandbits(1)))
    found += [Case(_V | _G8 | rng.getrandbits(44) << offset("iohgatp")) for _ in range(64)]
    for _ in range(1000):  # good ones, mostly, with all that is not checked at random
        raw = _V | rng.choice((0, 8, 8, 9, 10)) << _G_MODE
        raw |= rng.choice((0, 8, 9, 10)) << _FSC_MODE
        raw |= rng.getrandbits(20) << offset("ta", "pscid") | rng.getrandbits(44) << offset("fsc")
        raw |= rng.getrandbits(16) << offset("iohgatp", "gscid")
        raw |= rng.getrandbits(42) << offset("iohgatp") + 2
        raw |= rng.getrandbits(1) * _TC["dtf"] | rng.getrandbits(8) << 24
        if rng.getrandbits(1):
            raw = raw & ~(15 << _FSC_MODE) | rng.getrandbits(2) << _FSC_MODE | _TC["pdtv"]
        if config.ats:
            raw |= rng.choice((0, _TC["en_ats"], _TC["en_ats"] | _TC["en_pri"]))
        if config.amo_hwad:
            raw |= rng.choice((0, _TC["sade"], _TC["gade"]))
        if config.end:
            raw |= rng.choice((0, _TC["sbe"]))
        if config.qosid:
            raw |= rng.getrandbits(24) << offset("ta", "rcid")
        if config.msi_flat and raw >> _G_MODE & 15:
            raw |= rng.getrandbits(1) << _MSI_MODE | rng.getrandbits(44) << offset("msiptp")
            raw |= rng.getrandbits(29) << offset("msi_addr_mask")
            raw |= rng.getrandbits(29) << offset("msi_addr_pattern")
        found.append(Case(raw, rng.getrandbits(1)))
    return [Case(raw & (1 << size) - 1, be) for raw, be in found]


def parameters_of(config: IommuConfig) -> Parameters:
    """The golden model's view of a configuration."""
    found = Parameters.from_config(config)
    if config.end:
        found = dataclasses.replace(found, fctl_writable=found.fctl_writable | FCTL["be"].mask)
    return found


def golden(config: IommuConfig, parameters: Parameters, case: Case):
    """Return the golden context, or the cause of its refusal."""
    memory = Memory(config.pas)
    size = 512 if config.msi_flat else 256
    order = "big" if case.be else "little"
    for n in range(size // 64):
        memory.write(_ROOT + 8 * n, (case.raw >> 64 * n & (1 << 64) - 1).to_bytes(8, order))
    try:
        return locate_device(
            PhysicalMemory(memory, config.pas),
            parameters,
            mode=DdtpMode.LVL1,
            root=_ROOT,
            fctl=case.be,
            device_id=0,
        )
    except Fault as fault:
        return fault.cause


LEVELS = {0: 0, 8: 3, 9: 4, 10: 5}


def expected_context(context) -> dict[str, int]:
    """Members of Context that a golden context stands for."""
    same = [name for name in _TC if name != "v"]
    first = 0 if context.pdtv else LEVELS[context.fsc_mode]
    second = LEVELS[context.second_stage]
    return {name: getattr(context, name) for name in same} | {
        "pd_levels": context.fsc_mode if context.pdtv else 0,
        "g_levels": second,
        "gscid": context.gscid if second else 0,
        "g_ppn": context.second_stage_root >> 12,
        "s_levels": first,
        "pscid": context.pscid if first else 0,
        "s_ppn": context.fsc_root >> 12,
        "msi": context.msi_mode,
        "msi_ppn": context.msi_root >> 12,
        "msi_mask": context.msi_mask,
        "msi_pattern": context.msi_pattern,
    }


@pytest.mark.parametrize("name", mostly_full(sorted(CONFIGS), 3))
def test_device_contexts(name):
    config = CONFIGS[name]
    parameters = parameters_of(config)
    dut = built(ContextJudge, config)
    seen = set()

    async def bench(ctx):
        for case in cases(config):
            ctx.set(dut.raw, case.raw)
            be = case.be if config.end else 0
            ctx.set(dut.be, be)
            expected = golden(config, parameters, Case(case.raw, be))
            good = not isinstance(expected, Cause)
            if good:
                found, wanted = ctx.get(dut.context), expected_context(expected)
                if not config.pd8:
                    del wanted["dpe"]  # means nothing
                assert {member: found[member] for member in wanted} == wanted
                ta = DeviceContext.from_bits(case.raw).ta
                assert (found.rcid, found.mcid) == (ta.rcid, ta.mcid)
            await ctx.tick()
            present, wrong = ctx.get(dut.present), ctx.get(dut.wrong)
            judged = Cause.DDT_INVALID if not present else Cause.DDT_MISCONFIGURED if wrong else 0
            assert judged == (0 if good else expected), f"{case.raw:#x}"
            seen.add(judged)

    run(dut, bench)
    assert seen == {0, Cause.DDT_INVALID, Cause.DDT_MISCONFIGURED}


@pytest.mark.parametrize("name", ["default", "all", "sv48"])
def test_process_contexts(name):
    config = CONFIGS[name]
    dut = built(ContextJudge, config)
    rng = seeded(1)
    capabilities = parameters_of(config).capabilities
    mode = ProcessContext.as_shape()["fsc"].offset + 60
    raws = [1 ^ 1 << bit for bit in range(128)] + [1 | n << mode for n in range(16)]
    for _ in range(300):
        raws.append(
            1
            | rng.getrandbits(2) << 1
            | rng.getrandbits(20) << 12
            | rng.getrandbits(44) << 64
            | rng.choice((0, 8, 9, 10)) << mode
        )
    device = expected = None

    async def bench(ctx):
        nonlocal device, expected
        ctx.set(dut.of_process, 1)
        device = golden(config, parameters_of(config), Case(1 | 8 << _FSC_MODE))
        device = dataclasses.replace(device, pdtv=1, fsc_mode=1, fsc_root=_ROOT)
        for raw in raws:
            memory = Memory(config.pas)
            memory.write(_ROOT, raw.to_bytes(16, "little"))
            try:
                expected = locate_process(
                    PhysicalMemory(memory, config.pas),
                    capabilities,
                    device,
                    0,
                    translate=lambda gpa: gpa,
                )
                cause = 0
            except Fault as fault:
                cause = fault.cause
            ctx.set(dut.raw, raw << dut.context_bits - 128)
            if not cause:
                found = ctx.get(dut.process)
                levels = LEVELS[expected.fsc_mode]
                assert (found.ens, found.sum) == (expected.ens, expected.sum)
                assert found.s_levels == levels
                assert found.pscid == (expected.pscid if levels else 0)
                assert found.s_ppn == expected.fsc_root >> 12
            await ctx.tick()
            present, wrong = ctx.get(dut.present), ctx.get(dut.wrong)
            judged = Cause.PDT_INVALID if not present else Cause.PDT_MISCONFIGURED if wrong else 0
            assert judged == cause, f"{raw:#x}"

    run(dut, bench)


def test_reserved_bits_of_pointers():
    dut = ContextJudge(CONFIGS["default"])

    async def bench(ctx):
        ctx.set(dut.pointer, 1)
        for bit in range(64):
            ctx.set(dut.raw, (1 ^ 1 << bit) << dut.context_bits - 64)
            await ctx.tick()
            assert ctx.get(dut.present) == (bit != 0)
            assert ctx.get(dut.wrong) == (1 <= bit <= 9 or bit >= 54)
            assert ctx.get(dut.table) == ((1 << bit) >> 10 if 10 <= bit < 54 else 0)

    run(dut, bench)


#: (sxl, gxl) legal with GXL writable, or fixed.
WRITABLE = {(0, 0), (1, 0), (1, 1)}


@pytest.mark.parametrize("sv32", [False, True])
@pytest.mark.parametrize("sv32x4", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_schemes_of_32_bits(sv32, sv32x4, wide):
    """SXL and GXL by the tables of iosatp and iohgatp encodings."""
    config = IommuConfig(sv32=sv32, sv32x4=sv32x4, sv39x4=wide, pd8=True)
    dut = built(ContextJudge, config)
    fixed = 1 if sv32x4 else 0  # GXL when it is not writable
    writable = sv32x4 and wide
    first_there = {0: {0: 0, 8: 3}, 1: {0: 0} | ({8: 2} if sv32 else {})}
    second_there = {
        0: {0: 0} | ({8: 3} if wide else {}),
        1: {0: 0} | ({8: 2} if sv32x4 else {}),
    }

    async def bench(ctx):
        for gxl in (0, 1) if writable else (fixed,):
            for sxl in (0, 1):
                legal = (sxl, gxl) in WRITABLE if writable else sxl == gxl
                for first in range(16):
                    for second in range(16):
                        ctx.set(dut.of_process, 0)
                        raw = _V | sxl * _TC["sxl"] | first << _FSC_MODE | second << _G_MODE
                        ctx.set(dut.raw, raw)
                        ctx.set(dut.gxl, gxl)
                        s_levels = first_there[sxl].get(first)
                        g_levels = second_there[gxl].get(second)
                        good = legal and s_levels is not None and g_levels is not None
                        found = ctx.get(dut.context)
                        if good:
                            assert (found.s_levels, found.g_levels) == (s_levels, g_levels)
                            assert found.sxl == sxl
                        await ctx.tick()
                        assert ctx.get(dut.wrong) == (not good)
                    ctx.set(dut.of_process, 1)
                    ctx.set(dut.sxl, sxl)
                    ctx.set(dut.raw, (1 | first << 124) << dut.context_bits - 128)
                    await ctx.tick()
                    assert ctx.get(dut.wrong) == (first not in first_there[sxl])

    run(dut, bench)
