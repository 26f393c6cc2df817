"""An invalidation and its fence at every phase of a request; runs inside of the simulator.

Per phase: caches cold or warm, a request is offered, so many cycles later software moves the page
and posts IOTINVAL and IOFENCE.C.  The request must be answered, from the old page or the new one;
one offered once the fence has written its data must get the new page.
"""

import cocotb

from cosim.bench.machine import options, report
from models.directory import Context, DirectoryBuilder
from models.iommu import Parameters
from models.pagetable import PageTable
from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig

from .commands import fence, ginval, inval, iodir
from .rtl_target import FuzzTarget

__all__ = ["every_phase"]

_CQ, _MARK, _TABLES = 0x10_0000, 0x11_0000, 0x20_0000
_OLD, _NEW = 0x100_0000, 0x200_0000
_IOVA, _GPA, _OTHER_GPA = 0x4000_5000, 0x8000_0000, 0x8000_1000
_DEVICE, _GSCID, _PSCID = 1, 5, 7
_PATIENCE = 4000
_MODES = {
    "first": [inval(gv=1, gscid=_GSCID, av=1, addr=_IOVA >> 12, pscv=1, pscid=_PSCID)],
    "second": [ginval(gv=1, gscid=_GSCID, av=1, addr=_GPA >> 12)],
}


class _World:
    """Tables of one device, and the command queue."""

    def __init__(self, target: FuzzTarget, config: IommuConfig) -> None:
        self.target, self.bench, self.tail, self.mark = target, target.bench, 0, 0
        memory, pages = self.bench.memory, [_TABLES]

        def allocate(count: int) -> int:
            size = 4096 * count
            pages[0] = (pages[0] + size - 1) & -size
            pages[0] += size
            return pages[0] - size

        access = (memory.read, memory.write, allocate)
        self.first, self.second = PageTable(*access), PageTable(*access, x4=True)
        self.directory = DirectoryBuilder(*access, extended=config.msi_flat)
        for page in range(_TABLES, _TABLES + 0x4_0000, 0x1000):
            self.second.map(page, page)
        self.first.map(_IOVA, _GPA)
        self.second.map(_GPA, _OLD)
        self.second.map(_OTHER_GPA, _NEW)
        context = Context(fsc=self.first.iosatp, iohgatp=self.second.iohgatp(_GSCID), pscid=_PSCID)
        self.directory.set(_DEVICE, context)

    async def start(self) -> None:
        write = self.target.write_register
        await write(regs.CQB.offset, 8, _CQ >> 12 << 10 | 7)
        await write(regs.CQCSR.offset, 4, 1)
        await write(regs.DDTP.offset, 8, self.directory.ddtp)

    def post(self, *commands: int) -> None:
        """Queue commands and a fence that writes a new mark."""
        self.mark += 1
        for command in (*commands, fence(pr=1, pw=1, av=1, addr=_MARK >> 2, data=self.mark)):
            self.bench.memory.write(_CQ + 16 * self.tail, command.to_bytes(16, "little"))
            self.tail = (self.tail + 1) % 256
        self.target._machine.mmio_post("iommu", regs.CQT.offset, self.tail)

    async def fenced(self) -> None:
        """Wait until the mark is there."""
        for _ in range(_PATIENCE):
            if int.from_bytes(self.bench.memory.read(_MARK, 4), "little") == self.mark:
                return
            await self.target._machine.sleep(1)
        raise AssertionError("the fence does not complete")

    def ask(self, tag: int) -> None:
        self.bench.stream("translate0__request").put(
            {"tag": tag, "device_id": _DEVICE, "iova": _IOVA}
        )

    async def answers(self, count: int) -> dict[int, int]:
        """Wait for answers; their addresses by tag."""
        for _ in range(_PATIENCE):
            if len(self.target._answers) >= count:
                break
            await self.target._machine.sleep(1)
        unpack = self.bench.stream("translate0__response").unpack
        found = {}
        for event in self.target._answers:
            fields = unpack(event.value)
            assert fields["status"] == 0, f"tag {fields['tag']}: cause {fields['cause']}"
            assert fields["tag"] not in found, f"tag {fields['tag']} is answered twice"
            found[fields["tag"]] = fields["spa"]
        assert len(found) == count, f"answered are {sorted(found)} of {count}"
        self.target._answers = []
        return found

    def move(self, stage: str, new: bool) -> None:
        """Let the page be elsewhere."""
        if stage == "first":
            self.first.move(_IOVA, _OTHER_GPA if new else _GPA)
        else:
            self.second.move(_GPA, _NEW if new else _OLD)


@cocotb.test()
async def every_phase(dut):
    """For each phase in ``phases``, in each mode."""
    asked = options()
    config = IommuConfig(**asked["config"])
    target, tried = FuzzTarget(dut, pas=config.pas, iotlb_sets=config.iotlb_sets), 0
    target.retime(latency=asked["latency"], jitter=asked["jitter"], seed=1)
    for stage, commands in _MODES.items():
        await target.reset(Parameters.from_config(config))
        target._awaited = 1 << 30
        world = _World(target, config)
        await world.start()
        for warm in (False, True):
            for phase in range(asked["phases"]):
                where = f"{stage} stage, {'warm' if warm else 'cold'}, phase {phase}"
                world.move(stage, False)
                world.post(iodir(), inval(gv=1, gscid=_GSCID), ginval(gv=1, gscid=_GSCID))
                await world.fenced()
                if warm:
                    world.ask(0)
                    assert await world.answers(1) == {0: _OLD}, where
                world.ask(1)
                await target._machine.sleep(phase)
                world.move(stage, True)
                world.post(*commands)
                for tag in range(2, 6):  # hits and joins go on
                    world.ask(tag)
                await world.fenced()
                world.ask(6)
                found = await world.answers(6)
                assert set(found.values()) <= {_OLD, _NEW}, f"{where}: {found}"
                assert found[6] == _NEW, f"{where}: old page after the fence"
                tried += 1
    report({"tried": tried})
