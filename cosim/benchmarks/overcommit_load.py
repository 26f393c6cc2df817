"""Guests with more memory than there is, all busy: one point of ``iovirt bench overcommit``.

Independent of the machine.
"""

from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from cosim.benchmarks.overcommit_guest import OvercommitGuest, corpus
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.paging.mechanisms import Mechanisms
from cosim.hypervisor.paging.pager import Pager
from cosim.port import Port
from cosim.scenarios.exchange import Exchange
from cosim.scenarios.traffic import OUTSIDE, Frame, guest_mac
from models.pagetable import KIB_4
from models.spec.config import SystemConfig
from models.spec.nic import DROPS

__all__ = ["HOST_BASE", "HOST_BYTES", "Load", "run_load"]

#: Host memory; far more than guests may have, which the pager sees to.
HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 28
#: Cycles between two looks; looks without any change after which memory has settled, and at most.
_LOOK, _QUIET, _LOOKS = 10_000, 6, 60


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is run.

    Parameters
    ----------
    guests : int
        VMs, each with a VF.
    pages : int
        Of each guest.
    memory_pages : int
        That exist for all of them.
    frames : int
        That each guest sends; the outside host sends half as many to each.
    mechanisms : dict
        Members of :class:`~cosim.hypervisor.paging.pager.Mechanisms`.
    seed : int
    plant : str
        ``"no-invalidation"``: translations are never forgotten, a mistake that must be found.
    patience : int
        Cycles without any arrival after which what is on its way is lost.
    """

    guests: int
    pages: int
    memory_pages: int
    frames: int
    mechanisms: dict[str, bool]
    seed: int = 1
    plant: str = ""
    patience: int = 2_000_000


class _Run:
    def __init__(self, port: Port, config: SystemConfig, load: Load) -> None:
        self.port, self.config, self.load = port, config, load
        self.hypervisor = Hypervisor(port, config, base=HOST_BASE, size=HOST_BYTES, costs=Costs())
        mechanisms = Mechanisms(**load.mechanisms)
        self.pager = Pager(self.hypervisor, load.memory_pages * KIB_4, mechanisms)
        if load.plant == "no-invalidation":
            self.pager.stage.forgets = False
        share = min(3, config.nic.rx_quota)
        outside = min(8, config.nic.tx_slots // 2)
        self.exchange = Exchange(port, (share, share), outside, guests=load.guests)
        common = corpus(load.pages, load.seed)
        self.guests = [
            OvercommitGuest(
                self.pager,
                self.exchange,
                host,
                hosts=load.guests,
                pages=load.pages,
                frames=load.frames,
                seed=load.seed,
                common=common,
            )
            for host in range(1, 1 + load.guests)
        ]
        self.sent_outside = 0

    def _figures(self) -> dict[str, int]:
        """Counters now."""
        store = self.pager.store
        counts = asdict(self.pager.counts)
        return counts | {
            "swapped_out": store.swap.written,
            "swapped_in": store.swap.read_back,
            "compressed": store.compressed,
        }

    async def boot(self) -> None:
        """Boot all guests, and wait until the pager has done what it can."""
        await self.hypervisor.start()
        self.pager.start()
        short = self.load.pages - self.load.memory_pages // self.load.guests
        for guest in self.guests:
            await guest.boot()
            if self.pager.mechanisms.balloon:
                guest.balloon.ask(max(0, short))
        before, quiet = None, 0
        for _ in range(_LOOKS if self.pager.mechanisms != Mechanisms(swap=False) else 0):
            await self.port.sleep(_LOOK)
            now = self._figures()
            quiet = quiet + 1 if now == before else 0
            before = now
            if quiet == _QUIET:
                break

    async def _outside(self) -> None:
        """Send frames of random content to the guests in turn."""
        rng = Random(f"{self.load.seed}/outside")
        for number in range(self.load.frames // 2 * self.load.guests):
            target = 1 + number % self.load.guests
            size = rng.choice((46, 200, 576, 1500))
            content = guest_mac(target) + guest_mac(OUTSIDE) + b"\x88\xb5" + rng.randbytes(size)
            frame = Frame(OUTSIDE, (target,), content)
            await self.exchange.depart(frame)
            await self.port.send_frame(frame.content)

    def _left(self, frame: bytes, cycle: int) -> None:
        self.sent_outside += len(frame)
        self.exchange.arrive(OUTSIDE, frame)

    async def traffic(self) -> dict[str, Any]:
        """Send everything; return what was measured meanwhile."""
        port, exchange = self.port, self.exchange
        port.on_frame(self._left)
        begin, before = port.now(), self._figures()
        exchange.last_cycle = begin
        senders = [port.spawn(guest.send(), f"sender {guest.host}") for guest in self.guests]
        senders.append(port.spawn(self._outside(), "outside"))
        while not (all(sender.done for sender in senders) and not exchange.on_the_way):
            await port.sleep(500)
            if port.now() - exchange.last_cycle > self.load.patience:
                break
        else:
            for sender in senders:
                await sender.join()
        during = {name: value - before[name] for name, value in self._figures().items()}
        expected = self.load.guests * (self.load.frames + self.load.frames // 2)
        cycles = exchange.last_cycle - begin
        delivered = sum(guest.received_bytes for guest in self.guests) + self.sent_outside
        return {
            "faults": during["device_faults"] + during["processor_faults"],
            **during,
            "ballooned": self.pager.counts.ballooned,
            "boot_evictions": before["evictions"],
            "boot_swapped_out": before["swapped_out"],
            "frames": exchange.delivered,
            "bytes": delivered,
            "throughput": delivered / cycles if cycles else 0.0,
            "cycles": cycles,
            "lost": expected - exchange.delivered,
        }

    def wrong(self) -> int:
        """Return how many frames and pages are not what they should be."""
        pages = sum(guest.verify() for guest in self.guests)
        return self.exchange.mismatches + pages + self.pager.store.mismatches

    async def dropped(self) -> int:
        """Return how many frames the NIC has dropped."""
        every = [
            await self.hypervisor.stat(guest.host, stat) for guest in self.guests for stat in DROPS
        ]
        return sum(every)


async def run_load(port: Port, config: SystemConfig, load: Load) -> dict[str, Any]:
    """Run one point; returns its figures (docs/overcommit.md)."""
    run = _Run(port, config, load)
    await run.boot()
    found = await run.traffic()
    pager = run.pager
    if not found["lost"]:
        mismatches = run.wrong()
    else:  # a queue may have stopped, and a page may not come
        mismatches = run.exchange.mismatches + pager.store.mismatches
    point = {
        "mechanisms": dict(load.mechanisms),
        "guest_bytes": load.guests * load.pages * KIB_4,
        "memory_bytes": load.memory_pages * KIB_4,
        "resident_bytes": pager.resident_peak,
        **found,
        "compressed_bytes": pager.store.pool_bytes_peak,
        "shared_pages": pager.sharing.shared_peak,
        "dropped": await run.dropped(),
        "fault_records": len(run.hypervisor.iommu.faults),
        "mismatches": mismatches,
        "problems": run.exchange.problems,
    }
    pager.store.swap.close()
    return point
