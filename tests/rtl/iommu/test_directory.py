"""Fetching of contexts against the golden model, in random directories with random errors."""

from collections import Counter

import pytest

from models.iommu.access import PhysicalMemory
from models.iommu.directory import locate_device, locate_process
from models.iommu.records import Fault
from models.memory import FaultyMemory, Memory
from models.spec.config import IommuConfig
from models.spec.iommu import Cause, DdtpMode, IohgatpMode
from models.spec.translation import AddressType
from rtl.iommu.directory import Directory
from tests.rtl.agents import get, put, run, seeded
from tests.rtl.iommu.directory_world import SECOND_STAGE_CAUSES, Builder, Scene, World
from tests.rtl.iommu.test_context_judge import LEVELS, WIDE, expected_context, parameters_of

_FINAL = {
    **dict.fromkeys(SECOND_STAGE_CAUSES[:3], Cause.PDT_ACCESS_FAULT),
    Cause.PT_CORRUPTION: Cause.PDT_CORRUPTION,
}


class Recorder:
    """A memory that remembers what was read."""

    def __init__(self, memory):
        self.memory, self.reads = memory, []

    def read(self, address: int, size: int) -> bytes:
        """Return bytes."""
        self.reads.append((address, size))
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.memory.write(address, data)


def disallowed(scene: Scene, device) -> bool:
    """Step 7 of the process to translate an IOVA, in the test's own words."""
    if scene.at in (AddressType.TRANSLATED, AddressType.ATS_REQUEST) and not device.en_ats:
        return True
    bits = device.process_id_bits
    return bool(scene.pv and (not device.pdtv or (bits is not None and scene.process_id >> bits)))


def judge(config: IommuConfig, scene: Scene) -> Cause | int:
    """Compare the answer with the golden model's; returns the cause."""
    answer, parameters = scene.answer, parameters_of(config)
    recorder = Recorder(scene.memory)
    memory = PhysicalMemory(recorder, config.pas)
    walks: list[int] = []

    def translate(gpa: int) -> int:
        if device.second_stage == IohgatpMode.BARE:
            return gpa
        walks.append(gpa)
        found = scene.pages[gpa >> 12]
        if isinstance(found, Cause):
            raise Fault(_FINAL.get(found, found), gpa)
        return found << 12 | gpa & 0xFFF

    assert answer.device_id == scene.device_id
    assert answer.process_id == (scene.process_id if scene.pv else 0)
    assert answer.ddt_walk
    device = process = None
    cause, gpa = 0, None
    needed = False
    try:
        device = locate_device(
            memory,
            parameters,
            mode=DdtpMode(1 + scene.levels),
            root=scene.root << 12,
            fctl=scene.be,
            device_id=scene.device_id,
        )
        needed = (
            not disallowed(scene, device)
            and scene.at in (AddressType.UNTRANSLATED, AddressType.ATS_REQUEST)
            and device.process_id_bits is not None
            and bool(scene.pv or device.dpe)
        )
        if needed:
            process = locate_process(
                memory,
                parameters.capabilities,
                device,
                scene.process_id if scene.pv else 0,
                translate=translate,
            )
    except Fault as fault:
        cause, gpa = fault.cause, fault.iotval2
    assert answer.cause == cause
    assert answer.context_valid == (device is not None)
    assert answer.process_valid == (process is not None)
    assert answer.pdt_walk == needed
    guest_fault = cause in SECOND_STAGE_CAUSES[4:]
    assert answer.guest == guest_fault
    if guest_fault:
        assert answer.gpa == gpa
    if device is not None:
        wanted = expected_context(device)
        assert {name: answer.context[name] for name in wanted} == wanted
    if process is not None:
        levels = LEVELS[process.fsc_mode]
        found = answer.process
        assert (found.ens, found.sum, found.s_levels) == (process.ens, process.sum, levels)
        assert found.pscid == (process.pscid if levels else 0)
        assert found.s_ppn == process.fsc_root >> 12
    # What was accessed for it, as whom.
    assert [read[:2] for read in scene.reads] == recorder.reads
    assert [gpa for gpa, _ in scene.walks] == walks
    for _, guest in scene.walks:
        assert (guest.gade, guest.gscid) == (device.gade, device.gscid)
        assert guest.g_ppn == device.second_stage_root >> 12
        assert guest.g_levels == LEVELS[device.second_stage]
        assert (guest.rcid, guest.mcid) == (answer.context.rcid, answer.context.mcid)
    if config.qosid:
        own = (scene.qos & 0xFFF, scene.qos >> 12)
        for n, (_, _, user) in enumerate(scene.reads):
            process_id = (answer.context.rcid, answer.context.mcid)
            assert user == (own if n < scene.levels else process_id)
    return Cause(cause) if cause else 0


FULL = {
    **WIDE,
    **dict.fromkeys(("t2gpa", "amo_hwad", "msi_flat", "end", "qosid"), True),
    "ddt_levels": 3,
}
CONFIGS = {
    "default": IommuConfig(),
    "base_pd8": IommuConfig(pas=40, ddt_levels=3, ats=False, pd8=True),
    "base_pd17": IommuConfig(ddt_levels=2, pd8=True, pd17=True, end=True),
    "full": IommuConfig(pas=50, **FULL),
    "full_pas56": IommuConfig(pas=56, **FULL),
}
_DDT_CAUSES = {
    Cause.DDT_ACCESS_FAULT,
    Cause.DDT_INVALID,
    Cause.DDT_MISCONFIGURED,
    Cause.DDT_CORRUPTION,
}
_PDT_CAUSES = {
    *(Cause.PDT_ACCESS_FAULT, Cause.PDT_INVALID, Cause.PDT_MISCONFIGURED, Cause.PDT_CORRUPTION),
    *SECOND_STAGE_CAUSES[4:],
}


@pytest.mark.parametrize(
    "name",
    [
        name if name != "full_pas56" else pytest.param(name, marks=pytest.mark.full)
        for name in CONFIGS
    ],
)
def test_random_directories(name):
    config = CONFIGS[name]
    rng = seeded(3)
    world, builder = World(config, rng), Builder(config, rng)
    seen: Counter = Counter()
    good: Counter = Counter()

    async def bench(ctx):
        for _ in range(1000 if config.pd20 else 300):
            scene = builder.scene()
            await world.serve(ctx, scene)
            seen[judge(config, scene)] += 1
            if scene.answer.process_valid:
                context = scene.answer.context
                good[int(context.pd_levels), context.g_levels != 0] += 1

    run(world.dut, bench, background=world.processes())
    print(seen, good)
    assert seen[0] > sum(seen.values()) // 4
    wanted = _DDT_CAUSES | (_PDT_CAUSES if config.pd20 else set())
    assert wanted <= set(seen)
    if config.pd20:
        assert set(good) == {(levels, guest) for levels in (1, 2, 3) for guest in (False, True)}


@pytest.mark.parametrize("mode", [DdtpMode.OFF, DdtpMode.BARE])
def test_nothing_is_read_without_a_directory(mode):
    dut = Directory(CONFIGS["full"])

    async def bench(ctx):
        ctx.set(dut.directory.mode, mode)
        await put(ctx, dut.request, {"device_id": 5})
        while not ctx.get(dut.fill.valid):
            assert not ctx.get(dut.memory.ar.valid)
            await ctx.tick()
        answer = await get(ctx, dut.fill)
        assert answer.cause == Cause.ALL_INBOUND_DISALLOWED
        assert not answer.ddt_walk
        assert not answer.context_valid

    run(dut, bench)


def test_addresses_of_32_bit_guests_end_at_34_bits():
    """SXL 1 with GXL 0: the second stage never sees more."""
    config = IommuConfig(sv32=True, sv32x4=True, pd8=True)
    world = World(config, seeded(0))
    tables = {}
    for page, reached in (((1 << 22) - 1, True), (1 << 22, False)):
        scene = Scene(
            levels=1,
            root=1,
            device_id=3,
            process_id=9,
            pv=1,
            at=AddressType.UNTRANSLATED,
            be=0,
            qos=0,
            memory=FaultyMemory(Memory(config.pas)),
            pages={page: 2},
        )
        words = [1 | 1 << 5 | 1 << 11, 8 << 60, 0, 1 << 60 | page]
        raw = b"".join(word.to_bytes(8, "little") for word in words)
        scene.memory.write(0x1000 + 3 * 32, raw)
        scene.memory.write(0x2000 + 9 * 16, (1).to_bytes(8, "little"))
        tables[reached] = scene

    async def bench(ctx):
        for reached, scene in tables.items():
            await world.serve(ctx, scene)
            answer = scene.answer
            assert len(scene.walks) == reached
            assert answer.guest != reached
            assert answer.process_valid == reached
            if not reached:
                assert answer.gpa == 1 << 34 | 9 * 16
                assert answer.context_valid

    run(world.dut, bench, background=world.processes())


def test_latency():
    """Two cycles to the first address; from last data four to the next, or to the answer."""
    dut = Directory(IommuConfig(ddt_levels=2))

    async def edge(ctx, signal) -> int:
        cycles = 1
        while not ctx.get(signal):
            await ctx.tick()
            cycles += 1
        return cycles

    async def bench(ctx):
        ctx.set(dut.directory, {"mode": DdtpMode.LVL2, "ppn": 1})
        await put(ctx, dut.request, {"device_id": 5})
        ctx.set(dut.memory.ar.ready, 1)
        assert await edge(ctx, dut.memory.ar.valid) == 2
        await ctx.tick()
        await put(ctx, dut.memory.r, {"data": 1 | 2 << 10, "last": 1})
        assert await edge(ctx, dut.memory.ar.valid) == 4
        await ctx.tick()
        for n in range(4):
            await put(ctx, dut.memory.r, {"data": 1 if n == 0 else 0, "last": n == 3})
        assert await edge(ctx, dut.fill.valid) == 4

    run(dut, bench)
