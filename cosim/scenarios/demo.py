"""Three guests on three VFs and a host on the wire exchange a capture, their memory not resident.

``guest1`` and ``guest3`` have a second stage, ``guest2`` a first stage of its own as well.  Guests
send from memory that they have not touched since they were resumed, and receive into memory that
nobody has touched: device accesses fault, park and are retried.  Independent of the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cosim.guest.memory import Allocator, FirstStage
from cosim.guest.split_queue import SplitQueue
from cosim.guest.stack import partial, plain
from cosim.guest.virtio_net import VirtioNet
from cosim.hypervisor.backup import BackupRings
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Assignment, Hypervisor
from cosim.hypervisor.vm import MESSAGE_GPA, RAM_GPA, Vm
from cosim.port import Port
from cosim.scenarios.exchange import Exchange
from cosim.scenarios.result import FunctionResult, HitRates, Hostile, Result
from cosim.scenarios.traffic import OUTSIDE, Plan, guest_mac
from models.nic.packets import Packet
from models.spec.config import SystemConfig
from models.spec.nic import DROPS, QueueError, Stat
from models.spec.virtio import DescriptorFlag, Feature

__all__ = ["HOSTILE", "HOST_BASE", "HOST_BYTES", "Demo", "DemoOptions"]

#: Host memory that the demonstration uses.
HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 28
#: Kinds of harm that guest 3 can do.
HOSTILE = ("address", "descriptor")
_GUESTS = (1, 2, 3)
_NESTED, _HOSTILE = 2, 3
_PAGE = 4096
#: An address beyond what any guest owns.
_NOT_OWNED = 0x4000_0000
#: Cycles without any arrival after which what is on its way is lost.
_PATIENCE = 400_000
#: Frames that wait for a page of a guest at most.
_BACKUP_ENTRIES = 64


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How to run.

    Parameters
    ----------
    seed : int
        Of fragments and alignments.
    queue_size, fragments, buffers : int
        Virtqueue entries, most pieces of a frame, receive buffers posted.
    windows : (int, int)
        Frames on their way to a guest from guests, and from outside.
    outside_window : int
        Frames on their way out.
    service_cycles : int or None
        Cycles of a page request's service, ``None``: by :class:`~cosim.hypervisor.costs.Costs`.
    resident : bool
        Make all memory resident beforehand.
    offload : bool
        Guests leave checksums to their function.
    hostile : str
        Harm that guest 3 does after half of its frames, one of ``HOSTILE``, or nothing.
    """

    seed: int = 1
    queue_size: int = 128
    fragments: int = 4
    buffers: int = 16
    windows: tuple[int, int] = (3, 3)
    outside_window: int = 8
    service_cycles: int | None = None
    resident: bool = False
    offload: bool = False
    hostile: str = ""


class _Guest:
    """One guest: its VM, driver, and the frames that it is to send."""

    def __init__(self, demo: "Demo", host: int):
        self.demo, self.host = demo, host
        self.frames = demo.plan.of(host)
        leave = partial if demo.options.offload else plain
        self.outgoing = [leave(frame.content) for frame in self.frames]
        self.checksums = dict.fromkeys((True, False, None), 0)  # of received frames: good, bad
        self.sent = self.sent_bytes = self.received = self.received_bytes = 0
        self.withheld = 0
        self.vm: Vm
        self.assignment: Assignment
        self.driver: VirtioNet

    async def boot(self) -> None:
        """Make the VM, put what it will send into its image, start its driver."""
        demo, options = self.demo, self.demo.options
        content = sum(len(frame.content) + 64 for frame in self.frames)
        size = -(-(content + (1 << 19)) // _PAGE) * _PAGE
        self.vm = vm = demo.hypervisor.new_vm(f"guest{self.host}", size)
        rng = Random(f"{options.seed}/{self.host}")
        allocator = Allocator(RAM_GPA, size)
        self.places = []
        for outgoing in self.outgoing:
            gpa = allocator.scattered(len(outgoing.content), rng)
            vm.pages.store_image(gpa, outgoing.content)
            self.places.append(gpa)
        allocator.allocate(0, align=_PAGE)
        pinned = options.hostile == "address" and self.host == _HOSTILE
        if pinned or options.resident:
            demo.hypervisor.pin(vm)
        bar = await demo.hypervisor.assign(vm, self.host, guest_mac(self.host), ats=not pinned)
        space = message_address = None
        if self.host == _NESTED:
            space = FirstStage(
                vm.memory,
                allocator,
                lambda iova: demo.hypervisor.invalidate_first_stage(vm, self.host, iova),
            )
            message_address = space.map_page(MESSAGE_GPA)
            await demo.hypervisor.attach_first_stage(vm, self.host, space.fsc, pscid=self.host)
        self.assignment = demo.hypervisor.assignment(self.host)
        self.driver = VirtioNet(
            demo.port,
            bar,
            vm.memory,
            allocator,
            rng,
            space=space,
            message_address=message_address,
            queue_size=options.queue_size,
            fragments=options.fragments,
            buffers=options.buffers,
            frame_bytes=demo.config.nic.frame_bytes,
            pay=vm.pay,
        )
        self.driver.on_receive = self._received
        await self.driver.start()
        if self.driver.mac != guest_mac(self.host):
            raise RuntimeError(f"{vm.name} reads MAC {self.driver.mac.hex(':')}")

    def _received(self, content: bytes) -> None:
        self.received += 1
        self.received_bytes += len(content)
        packet = Packet.of(content)
        self.checksums[packet.checksum_good() if packet else None] += 1
        self.demo.exchange.arrive(self.host, content)

    async def send(self) -> None:
        """Send all frames, or half of them and then do harm."""
        hostile = self.demo.options.hostile if self.host == _HOSTILE else ""
        frames = self.frames[: len(self.frames) // 2] if hostile else self.frames
        for frame, outgoing, gpa in zip(frames, self.outgoing, self.places, strict=False):
            await self.demo.exchange.depart(frame)
            await self.driver.send_from(gpa, len(frame.content), header=outgoing.header)
            self.sent += 1
            self.sent_bytes += len(frame.content)
        if hostile:
            self.withheld = len(self.frames) - len(frames)
            await self.driver.drained()
            self._harm(hostile)

    def _harm(self, kind: str) -> None:
        queue = self.driver.queue(1)
        assert isinstance(queue, SplitQueue)
        if kind == "address":
            queue.write_descriptor(0, _NOT_OWNED, 64, DescriptorFlag(0), 0)
            queue.publish(0)
        else:
            queue.publish(queue.size + 5)
        self.driver.kick()


class Demo:
    """The demonstration on any machine.

    Parameters
    ----------
    port : Port
    config : SystemConfig
    plan : Plan
        Who sends what.
    options : DemoOptions
    progress : callable or None
        Called as ``progress(arrived, expected, cycle)`` now and then.
    """

    def __init__(
        self,
        port: Port,
        config: SystemConfig,
        plan: Plan,
        options: DemoOptions,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self.port, self.config, self.plan, self.options = port, config, plan, options
        self._progress = progress
        costs = Costs(service_cycles=options.service_cycles)
        self.hypervisor = Hypervisor(port, config, base=HOST_BASE, size=HOST_BYTES, costs=costs)
        self.exchange = Exchange(port, options.windows, options.outside_window)
        self.guests = [_Guest(self, host) for host in _GUESTS]

    async def run(self) -> Result:
        """Run everything; returns what was found, without what only the machine knows."""
        port = self.port
        port.on_frame(lambda frame, cycle: self.exchange.arrive(OUTSIDE, frame))
        await self.hypervisor.start()
        if self.config.nic.backup:
            rings = BackupRings(self.hypervisor, _BACKUP_ENTRIES)
            await rings.start()
            for host in _GUESTS:
                await rings.enable(host)
        for guest in self.guests:
            await guest.boot()
        begin = port.now()
        senders = [port.spawn(guest.send(), f"sender {guest.host}") for guest in self.guests]
        senders.append(port.spawn(self._send_outside(), "outside"))
        lost = await self._watch(senders)
        for sender in senders:
            if not lost:
                await sender.join()
        result = Result(
            cycles=self.exchange.last_cycle - begin,
            mismatches=self.exchange.mismatches,
            lost=lost,
            packets=self.exchange.delivered,
            problems=list(self.exchange.problems),
        )
        await self._after(result)
        return result

    async def _send_outside(self) -> None:
        for frame in self.plan.of(OUTSIDE):
            await self.exchange.depart(frame)
            await self.port.send_frame(frame.content)

    async def _watch(self, senders: list) -> int:
        """Wait until all is sent and has arrived; return how many frames never did."""
        expected = sum(len(frame.targets) for frame in self.plan.frames)
        self.exchange.last_cycle = self.port.now()
        while True:
            await self.port.sleep(1_000)
            if self._progress is not None:
                self._progress(self.exchange.delivered, expected, self.port.now())
            done = all(sender.done for sender in senders)
            if done and not self.exchange.on_the_way:
                return 0
            if self.port.now() - self.exchange.last_cycle > _PATIENCE:
                kept_back = (f for g in self.guests for f in g.frames[len(g.frames) - g.withheld :])
                withheld = sum(len(frame.targets) for frame in kept_back)
                return expected - withheld - self.exchange.delivered

    async def _after(self, result: Result) -> None:
        """Let the hardware come to rest, and read its counters."""
        hostile = self.guests[_HOSTILE - 1] if self.options.hostile else None
        if hostile is not None:
            result.hostile = await self._judge(hostile)
            result.problems += result.hostile.problems
        await self.port.sleep(2_000)
        for guest in self.guests:
            result.functions.append(await self._figures(guest))
            for queue in (0, 1):
                error = await self.hypervisor.queue_error(guest.host, queue)
                if error and not (guest is hostile and queue == 1):
                    result.problems.append(f"guest{guest.host} queue {queue}: {error.name}")
            for stat in DROPS:
                count = await self.hypervisor.stat(guest.host, stat)
                if count:
                    result.problems.append(f"guest{guest.host}: {stat.name} {count}")
            await self._check_checksums(guest, result)
        for pair, count in self.exchange.missing().items():
            result.problems.append(f"{count} frames from host {pair[0]} to {pair[1]} are missing")
        allowed = {hostile.assignment.device_id} if hostile else set()
        for fault in self.hypervisor.iommu.faults:
            if fault.device_id not in allowed:
                result.problems.append(f"unexpected fault record: {fault}")

    async def _check_checksums(self, guest: _Guest, result: Result) -> None:
        """Compare what was said and counted of checksums with what frames hold."""
        told = guest.driver.accepted(Feature.NET_GUEST_CSUM)
        left = [outgoing.header[0] for outgoing in guest.outgoing[: guest.sent]]
        good, bad = (told * guest.checksums[found] for found in (True, False))
        for name, count, expected in (
            ("frames said to be valid", guest.driver.validated, good),
            ("RX_CHECKSUM_GOOD", await self._stat(guest, Stat.RX_CHECKSUM_GOOD), good),
            ("RX_CHECKSUM_BAD", await self._stat(guest, Stat.RX_CHECKSUM_BAD), bad),
            ("TX_CHECKSUMS", await self._stat(guest, Stat.TX_CHECKSUMS), sum(left)),
        ):
            if count != expected:
                result.problems.append(f"guest{guest.host}: {name} {count}, not {expected}")

    async def _stat(self, guest: _Guest, stat: Stat) -> int:
        return await self.hypervisor.stat(guest.host, stat)

    async def _judge(self, guest: _Guest) -> Hostile:
        """Wait for the queue to stop, and say what is known of it."""
        error = QueueError.NONE
        for _ in range(200):
            error = await self.hypervisor.queue_error(guest.host, 1)
            if error:
                break
            await self.port.sleep(500)
        await self.port.sleep(2_000)  # the record's own way
        records = [
            fault
            for fault in self.hypervisor.iommu.faults
            if fault.device_id == guest.assignment.device_id
        ]
        return Hostile(
            name=guest.vm.name,
            kind=self.options.hostile,
            queue_error=error.name,
            fault_records=len(records),
            requests_denied=len(guest.assignment.denied),
            withheld=guest.withheld,
        )

    async def _figures(self, guest: _Guest) -> FunctionResult:
        services = guest.assignment.services
        counted = await self.hypervisor.lookups(guest.assignment)
        rates = HitRates()
        if counted and counted[0]:
            rates.counter = (counted[0] - counted[1]) / counted[0]
        return FunctionResult(
            name=guest.vm.name,
            device_id=guest.assignment.device_id,
            tx_packets=guest.sent,
            rx_packets=guest.received,
            tx_bytes=guest.sent_bytes,
            rx_bytes=guest.received_bytes,
            page_faults=len(services),
            fault_service_cycles=sum(s.cycles for s in services) / len(services)
            if services
            else 0.0,
            vm_exits=dict(sorted(guest.vm.exits.items())),
            interrupts=sum(guest.vm.interrupts.values()),
            lookups=counted[0] if counted else 0,
            misses=counted[1] if counted else 0,
            iotlb_hit_rate=rates,
        )
