"""A case on the RTL; runs inside of the simulator, and starts QEMU."""

import sys
import time
from pathlib import Path

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.linux.cases import CASES, Case
from cosim.linux.guest_ram import GuestRam, Place
from cosim.linux.pump import Pump
from cosim.linux.qemu import Guest
from cosim.linux.virtual_function import VirtualFunction
from cosim.linux.watcher import Watcher
from cosim.linux.wire import Cable, Recorder, WireHost
from models.spec.iommu import HpmEvent
from models.spec.nic import Stat, initial_mac

__all__ = ["PEER_IP", "PEER_MAC", "linux"]

HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 27
PEER_MAC, PEER_IP = bytes((2, 0, 0, 0, 1, 0)), bytes((10, 0, 0, 1))
#: Where x86 and its interrupt messages are: no RAM is there.
_MESSAGE_GPA = {"amd64": 0xFEE0_0000, "riscv64": 0x2800_0000}
#: Cycles between two looks at what the hardware did, and seconds between two lines of progress.
_LOOK, _SAY_S = 200_000, 10.0
#: Cycles between two evictions, pages that go at once, pages that stay.
_EVICT_EVERY, _AT_ONCE, _KEPT = 10_000, 4, 8
_TOTALS = ("packets", "interrupts", "lookups", "misses", "walks", "page_faults")


class _Run:
    """One case under way."""

    def __init__(self, bench: Bench, case: Case, asked: dict) -> None:
        self.case, self._asked, self._bench = case, asked, bench
        self.config = case.system(asked["config"])
        self.machine = Machine(bench)
        self.watcher = Watcher(bench)
        self.hypervisor = Hypervisor(self.machine, self.config, base=HOST_BASE, size=HOST_BYTES)
        self.pump = Pump(self.machine, lambda: bench.library.digest)
        self.place = Place()
        self.functions: list[VirtualFunction] = []
        self.guests: list[Guest] = []
        self._walks: dict[int, int | None] = {}
        self.evictions = self._evicted = 0
        self._looked, self._said, self._began = 0, 0.0, time.monotonic()
        self.cable = Cable(self.pump, self._to_hardware)
        self._recorder = Recorder(Path(asked["capture"])) if asked["capture"] else None
        self.wire = WireHost(
            self.cable.send, mac=PEER_MAC, ip=PEER_IP, content=Path(asked["payload"]).read_bytes()
        )
        bench.on_frame(self._from_hardware)

    def _to_hardware(self, frame: bytes) -> None:
        if self._recorder is not None:
            self._recorder.record(frame, self.machine.now())
        self._bench.send_frame(frame)

    def _from_hardware(self, frame: bytes, cycle: int) -> None:
        if self._recorder is not None:
            self._recorder.record(frame, cycle)
        self.wire.receive(frame)

    async def start(self) -> None:
        """Set hardware and hypervisor up, and start the guests."""
        await self.hypervisor.start()
        for number, guest in enumerate(self._asked["guests"], 1):
            await self._function(number, Path(guest["socket"]))
            self.guests.append(Guest(self.pump, guest["line"], Path(guest["log"])))

    async def _function(self, number: int, path: Path) -> None:
        case, hypervisor = self.case, self.hypervisor
        ram = GuestRam(
            self.machine.memory,
            hypervisor.pages,
            self.place,
            self.machine.now,
            resident=not case.paged,
            views=4 if case.paged else 1,
        )
        vm: Vm = hypervisor.new_vm(
            f"guest{number}", 0, memory=ram, message_gpa=_MESSAGE_GPA[case.architecture]
        )
        bar = await hypervisor.assign(vm, number, initial_mac(number), ats=case.ats)
        function = VirtualFunction(hypervisor, vm, ram, bar)
        function.invalidates = self._asked["plant"] != "no-invalidation"
        device_id = hypervisor.assignment(number).device_id
        self._walks[number] = await hypervisor.count([HpmEvent.SECOND_STAGE_WALK], device_id)
        self.functions.append(function)
        self.pump.serve(path, function)

    def finished(self) -> bool:
        """Whether all guests have ended or time is up; looks after the watcher and the user."""
        now = time.monotonic()
        if self.machine.now() - self._looked > _LOOK:
            self._look()
        if self.case.paged and self.machine.now() - self._evicted > _EVICT_EVERY:
            self._evicted = self.machine.now()
            for function in self.functions:
                self.machine.spawn(self._evict(function), "eviction")
        if now - self._said > _SAY_S and self._asked["progress"]:
            self._said = now
            self._say(now - self._began)
        return all(guest.over for guest in self.guests) or now - self._began > self._asked["limit"]

    async def _evict(self, function: VirtualFunction) -> None:
        """Take the pages away that have been there longest, but a few."""
        self.pump.pending += 1
        oldest = function.ram.resident_addresses[:-_KEPT]
        await function.evict(oldest[:_AT_ONCE])
        self.evictions += len(oldest[:_AT_ONCE])
        self.pump.pending -= 1

    def _look(self) -> None:
        self._looked = self.machine.now()
        self.watcher.look(function.ram for function in self.functions)

    def _say(self, seconds: float) -> None:
        doing = [
            guest.outcome.running or ("boots" if not guest.outcome.booted else "-")
            for guest in self.guests
        ]
        print(
            f"  {seconds:5.0f} s, {self.machine.now() / 1e6:.2f} M cycles, "
            f"{self.pump.commands} commands, {sum(self.wire.received.values())} frames on the "
            f"wire: {', '.join(doing)}",
            file=sys.stderr,
            flush=True,
        )

    async def results(self) -> dict:
        """Return what is told to the user."""
        self._look()
        hypervisor = self.hypervisor
        found: dict = {"name": self.case.name, "cycles": self.machine.now()}
        found["wall_s"] = time.monotonic() - self._began
        found["slept_s"] = self.pump.slept
        found["commands"] = self.pump.commands
        found["guests"] = []
        totals = dict.fromkeys(_TOTALS, 0)
        problems = [*self.wire.problems, *self.watcher.problems]
        for guest, function in zip(self.guests, self.functions, strict=True):
            outcome, assignment = guest.outcome, hypervisor.assignment(function.number)
            counted = await hypervisor.lookups(assignment) or (0, 0)
            counts = {stat: await hypervisor.stat(function.number, stat) for stat in Stat}
            totals["packets"] += counts[Stat.TX_PACKETS] + counts[Stat.RX_PACKETS]
            totals["interrupts"] += function.interrupts
            totals["lookups"] += counted[0]
            totals["misses"] += counted[1]
            totals["page_faults"] += len(assignment.services)
            if (counter := self._walks.get(function.number)) is not None:
                totals["walks"] += await hypervisor.iommu.counted(counter)
            if not outcome.ended:
                doing = outcome.running or "nothing"
                problems.append(f"a guest has not come to its end; it was at: {doing}")
                problems += outcome.lines[-5:]
            for queue in range(self.config.nic.queues_per_function):
                if error := await hypervisor.queue_error(function.number, queue):
                    problems.append(f"queue {queue} of function {function.number}: {error.name}")
            found["guests"].append(
                {
                    "booted": outcome.booted,
                    "passed": outcome.passed,
                    "failed": outcome.failed,
                    "counters": {
                        stat.name.lower(): count for stat, count in counts.items() if count
                    },
                }
            )
        problems += [str(fault) for fault in hypervisor.iommu.faults[:5]]
        problems += [f"{self.wire.tftp.different} files came back changed"] * bool(
            self.wire.tftp.different
        )
        lookups = totals["lookups"]
        found |= {
            "packets": totals["packets"],
            "interrupts": totals["interrupts"],
            "translations": lookups,
            "iotlb_hit_rate": 1 - totals["misses"] / lookups if lookups else 0.0,
            "walks": totals["walks"],
            "invalidations": hypervisor.iommu.invalidations,
            "page_faults": totals["page_faults"],
            "evictions": self.evictions,
            "stale_hits": self.watcher.stale,
            "bursts": self.watcher.bursts,
            "problems": problems,
        }
        found["passed"] = not problems and not any(g["failed"] for g in found["guests"])
        return found


@cocotb.test()
async def linux(dut) -> None:
    """Run the case that the options name, and report its figures."""
    asked = options()
    case = CASES[asked["case"]]
    bench = Bench(dut)
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=asked["latency"], jitter=asked["jitter"])
    run = _Run(bench, case, asked)
    await bench.start()
    await run.start()
    try:
        await run.pump.run(run.finished)
    finally:
        for guest in run.guests:
            guest.stop()
    found = await run.results()
    found["cycles_per_s"] = bench.usage().cycles_per_second
    report(found)
