"""A case on the RTL; runs inside of the simulator, and starts QEMU."""

import sys
import time
from collections import Counter
from pathlib import Path

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.linux.cases import CASES, IGNORED, Case
from cosim.linux.figures import figures
from cosim.linux.guest_ram import GuestRam, Place
from cosim.linux.iommu_function import IommuFunction
from cosim.linux.machine_ram import MachineRam
from cosim.linux.pump import Pump
from cosim.linux.qemu import Guest
from cosim.linux.translations import TranslationWatcher
from cosim.linux.virtual_function import VirtualFunction
from cosim.linux.watcher import Watcher
from cosim.linux.wire import Cable, Recorder, WireHost
from models.spec.iommu import HpmEvent
from models.spec.nic import initial_mac

__all__ = ["PEER_IP", "PEER_MAC", "linux"]

#: The hypervisor's memory; on a guest's own machine there is no more than a page for messages,
#: where that machine has its interrupt files.
HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 27
_MACHINE_BASE, _MACHINE_BYTES = 0x2800_0000, 1 << 20
PEER_MAC, PEER_IP = bytes((2, 0, 0, 0, 1, 0)), bytes((10, 0, 0, 1))
#: Where x86 has its interrupt messages: no RAM is there.
_MESSAGE_GPA = 0xFEE0_0000
#: Cycles between two looks at what the hardware did, and seconds between two lines of progress.
_LOOK, _SAY_S = 200_000, 10.0
#: Cycles between two evictions, pages that go at once, pages that stay.
_EVICT_EVERY, _AT_ONCE, _KEPT = 10_000, 4, 8


def host_memory(case: Case) -> tuple[int, int]:
    """Return base and bytes of the memory that is no guest's."""
    return (_MACHINE_BASE, _MACHINE_BYTES) if case.owns_iommu else (HOST_BASE, HOST_BYTES)


class Run:
    """One case under way."""

    def __init__(self, bench: Bench, case: Case, asked: dict) -> None:
        self.case, self._asked, self._bench = case, asked, bench
        self.config = case.system(asked["config"])
        self.machine = Machine(bench)
        self.watcher = Watcher(bench)
        self.translations: TranslationWatcher | None = None
        base, size = host_memory(case)
        self.hypervisor = Hypervisor(
            self.machine, self.config, base=base, size=size, owns_iommu=not case.owns_iommu
        )
        self.pump = Pump(self.machine, lambda: bench.library.digest)
        self.place = Place()
        self._windows: Counter[tuple[int, int]] = Counter()
        #: Functions by number, and each guest's own.
        self.functions: dict[int, VirtualFunction] = {}
        self.numbers: list[int] = []
        self.iommu: IommuFunction | None = None
        self.guests: list[Guest] = []
        #: First of two event counters of each function: walks, untranslated requests.
        self.counters: dict[int, int | None] = {}
        self.evictions = self._evicted = 0
        self._looked, self._said, self.began = 0, 0.0, time.monotonic()
        self.cable = Cable(self.pump, self._to_hardware)
        self._recorder = Recorder(Path(asked["capture"])) if asked["capture"] else None
        self.wire = WireHost(
            self.cable.send, mac=PEER_MAC, ip=PEER_IP, content=Path(asked["payload"]).read_bytes()
        )
        self.pump.on_silence = self.wire.repeat
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
            await self._functions(number, guest["sockets"])
            self.guests.append(Guest(self.pump, guest["line"], Path(guest["log"])))

    def _machine_ram(self) -> MachineRam:
        return MachineRam(self.machine.memory, self.hypervisor.pages, self._windows)

    def _ram(self) -> GuestRam | MachineRam:
        """Memory of a guest, which comes when QEMU does."""
        case, memory, pages = self.case, self.machine.memory, self.hypervisor.pages
        if case.owns_iommu:
            return self._machine_ram()
        views = 4 if case.paged else 1
        return GuestRam(
            memory, pages, self.place, self.machine.now, resident=not case.paged, views=views
        )

    async def _functions(self, guest: int, sockets: dict[str, str]) -> None:
        """Offer a guest its functions."""
        case, hypervisor, ram = self.case, self.hypervisor, self._ram()
        vm: Vm = hypervisor.new_vm(
            f"guest{guest}",
            0,
            memory=ram,
            message_gpa=None if case.owns_iommu else _MESSAGE_GPA,
        )
        number = case.function(guest)
        if case.owns_iommu:
            ignored = IGNORED.get(self._asked["plant"], 0)
            self.iommu = IommuFunction(hypervisor, vm, self._machine_ram(), ignored=ignored)
            self.pump.serve(Path(sockets["iommu"]), self.iommu)
        bar = await hypervisor.assign(vm, number, initial_mac(number), ats=case.ats)
        function = VirtualFunction(hypervisor, vm, ram, bar)
        function.invalidates = self._asked["plant"] != "no-invalidation"
        device_id = hypervisor.assignment(number).device_id
        walk = HpmEvent.FIRST_STAGE_WALK if case.owns_iommu else HpmEvent.SECOND_STAGE_WALK
        if self.iommu is not None:
            self.iommu.watcher = self.translations = TranslationWatcher(
                self._bench,
                self.machine.memory,
                device_id,
                extended=self.config.iommu.msi_flat,
            )
        events = (walk, HpmEvent.UNTRANSLATED_REQUEST)
        self.counters[number] = await hypervisor.count(events, device_id)
        self.functions[number] = function
        self.numbers.append(number)
        self.pump.serve(Path(sockets["nic"]), function)

    def finished(self) -> bool:
        """Whether all guests have ended, time is up, or a planted mistake has been found.

        Looks after the watcher, the pager, guests that wait for each other, and the user.
        """
        now = time.monotonic()
        if self.translations is not None:
            self.translations.look()
        if self.machine.now() - self._looked > _LOOK:
            self.look()
        if self.case.paged and self.machine.now() - self._evicted > _EVICT_EVERY:
            self._evicted = self.machine.now()
            for function in self.functions.values():
                self.machine.spawn(self._evict(function), "eviction")
        if now - self._said > _SAY_S and self._asked["progress"]:
            self._said = now
            self._say(now - self.began)
        here = [guest for guest in self.guests if not guest.over]
        if all(guest.outcome.waits for guest in here):
            for guest in here:
                guest.go_on()
        ended = not here and not self.pump.clients
        return ended or self.caught or now - self.began > self._asked["limit"]

    @property
    def caught(self) -> bool:
        """Whether a planted mistake has been found."""
        return bool(self._asked["plant"] and self.stale)

    @property
    def stale(self) -> int:
        """What the watchers have found."""
        return self.watcher.stale + (self.translations.stale if self.translations else 0)

    async def _evict(self, function: VirtualFunction) -> None:
        """Take the pages away that have been there longest, but a few."""
        self.pump.pending += 1
        oldest = list(function.ram.resident_addresses)[:-_KEPT]
        await function.evict(oldest[:_AT_ONCE])
        self.evictions += len(oldest[:_AT_ONCE])
        self.pump.pending -= 1

    def look(self) -> None:
        """Let the watcher judge what has been done until now."""
        self._looked = self.machine.now()
        rams = [function.ram for function in self.functions.values()]
        self.watcher.look(ram for ram in rams if isinstance(ram, GuestRam))

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


@cocotb.test()
async def linux(dut) -> None:
    """Run the case that the options name, and report its figures."""
    asked = options()
    case = CASES[asked["case"]]
    bench = Bench(dut)
    bench.memory.map(*host_memory(case))
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=asked["latency"], jitter=asked["jitter"])
    run = Run(bench, case, asked)
    await bench.start()
    await run.start()
    try:
        await run.pump.run(run.finished)
    finally:
        for guest in run.guests:
            guest.stop()
    found = await figures(run)
    found["cycles_per_s"] = bench.usage().cycles_per_second
    report(found)
