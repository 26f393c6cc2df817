"""Two correct drivers beside the hostile one, on either machine."""

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from cosim.guest.memory import Allocator
from cosim.guest.stack import Outgoing, large, partial, plain
from cosim.guest.virtio_net import VirtioNet
from cosim.hypervisor.backup import BackupRings
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.mailbox import SERVED
from cosim.hypervisor.paging.memory import PagedMemory
from cosim.hypervisor.vm import RAM_GPA, Vm
from cosim.nic_fuzz.books import Books
from cosim.nic_fuzz.paging import PAGING_COSTS, RandomPager
from cosim.nic_fuzz.wrong import Wrong
from cosim.packets import ipv4, summed, vlan_tag
from cosim.port import Port
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.nic.offload import segment
from models.spec.config import SystemConfig
from models.spec.ethernet import EtherType, IpProtocol
from models.spec.nic import MANAGEMENT, QueueError, Stat, function_block
from models.spec.virtio import Feature, NetHeader

__all__ = ["CORRECT", "HOSTILE", "HOSTILE_TYPE", "HOST_BASE", "HOST_BYTES", "World"]

#: Functions of the correct drivers, and of the hostile one.
CORRECT, HOSTILE = (1, 2), 3
#: EtherTypes of what they send, for experiments (IEEE 802).
CORRECT_TYPE, HOSTILE_TYPE = b"\x88\xb5", b"\x88\xb6"
HOST_BASE, HOST_BYTES = 0x8000_0000, 1 << 28
_GUEST_BYTES = 1 << 22
#: Frames of a guest that are under way at most, and the longest.
_FRAMES, _FRAME_BYTES = 6, 4500
#: Payload of a segment.
_SEGMENT = 1448
_SIZES = (60, 61, 64, 90, 590, 1513, 1514)
_PATIENCE = 400_000
#: Cycles between frames to a driver that may not be there; frames that one sends last, which may be
#: lost without a word: in the window there is room for the parts of a large frame beside them.
_PACE, _LAST = 500, 2
#: Attempts to reach one that is back, and cycles between looks.
_ATTEMPTS, _LOOK = 10, 200
#: Frames that wait for a page of a correct driver at most.
_BACKUP_ENTRIES = 64
#: Frames on their way to one place from guests, and from the wire; what the hostile driver sends to
#: the same place has room beside them.  No more than a function's own share: for what is beyond it
#: all functions that wait for pages have few places together, and what finds none is dropped.
_WINDOW = 5


def _addresses(target: bytes, source: bytes) -> tuple[bytes, bytes]:
    return bytes((192, 0, 2, source[5])), bytes((192, 0, 2, target[5]))


def _ipv4(target: bytes, source: bytes, protocol: IpProtocol, content: bytes) -> bytes:
    """An IPv4 packet in a frame."""
    packet = ipv4(*_addresses(target, source), protocol, content)
    return target + source + EtherType.IPV4.to_bytes(2, "big") + packet


def _tcp(target: bytes, source: bytes, payload: bytes) -> bytes:
    """A TCP packet in a frame, without a checksum."""
    head = b"\x10\x01\x20\x01" + payload[:8] + b"\x50\x18\x10\0" + bytes(4)
    return _ipv4(target, source, IpProtocol.TCP, head + payload)


def _udp(target: bytes, source: bytes, payload: bytes) -> bytes:
    """A UDP packet in a frame, with its checksum."""
    datagram = b"\x10\x00\x20\x00" + (8 + len(payload)).to_bytes(2, "big") + bytes(2) + payload
    datagram = summed(*_addresses(target, source), IpProtocol.UDP, datagram)
    return _ipv4(target, source, IpProtocol.UDP, datagram)


class _Guest:
    """A correct driver with its VM; what it sends lies in the same places again and again."""

    def __init__(self, world: "World", function: int) -> None:
        self.world, self.function = world, function
        self.received: list[bytes] = []
        self.sent = 0

    async def start(self, features: int) -> None:
        world, function = self.world, self.function
        hypervisor = world.hypervisor
        self.vm = world.new_vm(f"guest {function}", _GUEST_BYTES)
        self.bus = await hypervisor.assign(
            self.vm,
            function,
            guest_mac(function),
            count=False,
            vlan=world.vlan.get("vid"),
            priority=world.vlan.get("priority", 0),
        )
        allocator = Allocator(RAM_GPA, _GUEST_BYTES)
        self.driver = VirtioNet(
            world.port,
            self.bus,
            self.vm.memory,
            allocator,
            Random(f"{world.seed}/{function}"),
            pay=self.vm.pay,
            prepare=self._prepare if world.paging else None,
            features=features,
            buffers=32,
        )
        self.driver.on_receive = lambda frame: world.arrive(function, frame)
        rng = Random(f"{world.seed}/{function}/areas")
        self.areas = [allocator.scattered(_FRAME_BYTES, rng) for _ in range(_FRAMES)]
        await self.driver.start()

    async def send(self, number: int, frame: bytes) -> None:
        outgoing = partial(frame) if self.driver.accepted(Feature.NET_CSUM) else plain(frame)
        self.sent += 1
        await self._submit(number, outgoing)

    async def send_large(self, number: int, frame: bytes, segments: int) -> None:
        self.sent += segments
        await self._submit(number, large(frame, _SEGMENT))

    async def _prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Wait until the processor can write to pages."""
        assert self.world.paging is not None
        await self.world.paging.pager.prepare(self.vm.pages, ranges)

    async def _submit(self, number: int, outgoing: Outgoing) -> None:
        if self.world.paging:
            await self._prepare([(self.areas[number], len(outgoing.content))])
        self.vm.memory.write(self.areas[number], outgoing.content)
        await self.driver.send_from(
            self.areas[number], len(outgoing.content), header=outgoing.header
        )


class World:
    """One machine with hypervisor and correct drivers.

    Parameters
    ----------
    port : Port
    config : SystemConfig
    features : int
        Features that the correct drivers accept.
    seed : str
        Of what they send.
    paging, vlan : dict or None
        Those of a session.
    """

    def __init__(
        self,
        port: Port,
        config: SystemConfig,
        *,
        features: int,
        seed: str,
        paging: dict[str, int] | None = None,
        vlan: dict[str, int] | None = None,
    ) -> None:
        self.port, self.config, self.seed, self.vlan = port, config, seed, vlan or {}
        self._tag = vlan_tag(vlan["vid"], vlan["priority"]) if vlan else b""
        costs = PAGING_COSTS if paging else Costs()
        self.hypervisor = Hypervisor(port, config, base=HOST_BASE, size=HOST_BYTES, costs=costs)
        self.paging = RandomPager(self.hypervisor, paging, seed) if paging else None
        self.guests = {function: _Guest(self, function) for function in CORRECT}
        self.books = Books(self.hypervisor, CORRECT, config.nic.prefetch_share)
        self._features = features
        self._window = min(_WINDOW, config.nic.tx_quota, config.nic.rx_quota)
        self._wire: list[bytes] = []
        self._round = 0
        #: Frames to a driver that comes and goes, by who has sent them.
        self._loose: dict[int, list[bytes]] = {}
        #: Frames on their way to a place: from guests, from the wire.
        self._under_way: Counter[tuple[int, bool]] = Counter()
        port.on_frame(lambda frame, _: self.arrive(OUTSIDE, frame))

    def new_vm(self, name: str, memory_bytes: int, *, paged: bool = True) -> Vm:
        """Make a VM, whose memory the pager has if there is one and it is to be ``paged``."""
        if self.paging and paged:
            return self.paging.pager.new_vm(name, memory_bytes)
        return self.hypervisor.new_vm(name, memory_bytes)

    async def start(self) -> None:
        """Start hypervisor and correct drivers."""
        await self.hypervisor.start()
        if self.paging:
            self.paging.start()
        if self.config.nic.backup:
            rings = BackupRings(self.hypervisor, _BACKUP_ENTRIES)
            await rings.start()
            for function in CORRECT:
                await rings.enable(function)
        for guest in self.guests.values():
            await guest.start(self._features)
        await self.port.sleep(SERVED)

    async def until(self, done: Callable[[], bool], what: Callable[[], str]) -> None:
        """Wait for a condition; :class:`Wrong` if it does not come true in time."""
        end = self.port.now() + _PATIENCE
        while not done():
            if self.port.now() > end:
                raise Wrong("hang", f"not within {_PATIENCE} cycles: {what()}")
            await self.port.sleep(100)

    # What correct drivers do ---------------------------------------------------------------------

    async def exchange(self, *, without: int | None = None) -> None:
        """Exchange some frames among the two and the wire, and see that all arrive as they were.

        One that comes and goes can be left out: it sends nothing, others send to it at a pace, and
        what comes of that is for :meth:`rebind` to judge.
        """
        rng = Random(f"{self.seed}/{self._round}")
        self._round += 1
        places = (*CORRECT, OUTSIDE)
        sent: dict[tuple[int, int], list[bytes]] = {}

        def missing() -> str:
            return ", ".join(
                f"{way[0]} -> {way[1]}: {self._arrived(*way)} of {len(frames)} frames"
                for way, frames in sent.items()
                if self._arrived(*way) < len(frames)
            )

        for number in range(_FRAMES):
            for source in places:
                target = rng.choice([place for place in places if place != source])
                if source == without or (source == OUTSIDE and number >= _FRAMES // 2):
                    continue
                frame, parts = self._draw(target, source, rng)
                if target == without:
                    self._loose[source] += parts
                    await self.port.sleep(_PACE)
                else:
                    way = target, source == OUTSIDE
                    for _ in parts:
                        await self.until(
                            lambda way=way: self._under_way[way] < self._window, missing
                        )
                        self._under_way[way] += 1
                    sent.setdefault((source, target), []).extend(parts)
                await self._send(source, number, frame, parts)
        await self.until(lambda: not missing(), missing)
        for way, frames in sent.items():
            if self._taken(*way) != frames:
                raise Wrong("frames", f"{way[0]} -> {way[1]}: frames are not what was sent")
        for guest in self.guests.values():
            if guest.function != without:
                await guest.driver.drained()

    async def _send(self, source: int, number: int, frame: bytes, parts: list[bytes]) -> None:
        """Send a frame that becomes ``parts``."""
        if source == OUTSIDE:
            await self.port.send_frame(frame[:12] + self._tag + frame[12:])
        elif parts == [frame]:
            await self.guests[source].send(number, frame)
        else:
            await self.guests[source].send_large(number, frame, len(parts))

    def _draw(self, target: int, source: int, rng: Random) -> tuple[bytes, list[bytes]]:
        """A frame to send, and the frames that come of it."""
        macs, size = (guest_mac(target), guest_mac(source)), rng.choice(_SIZES)
        cuts = source != OUTSIDE and self.guests[source].driver.accepted(Feature.NET_HOST_TSO4)
        if cuts and rng.random() < 0.2:
            frame = _tcp(*macs, rng.randbytes(rng.randrange(10, 3 * _SEGMENT)))
            header = NetHeader.from_bits(int.from_bytes(large(frame, _SEGMENT).header, "little"))
            return frame, segment(frame, header, 4)
        if size > 61 and rng.random() < 0.5:
            frame = _udp(*macs, rng.randbytes(size - 42))
        else:
            frame = macs[0] + macs[1] + CORRECT_TYPE + rng.randbytes(size - 14)
        return frame, [frame]

    def _place(self, place: int) -> list[bytes]:
        return self._wire if place == OUTSIDE else self.guests[place].received

    def arrive(self, place: int, frame: bytes) -> None:
        """Take a frame that has arrived at a driver, or on the wire.

        There what a correct driver has sent has its function's tag.
        """
        if place == OUTSIDE and frame[12:].startswith(self._tag):
            frame = frame[:12] + frame[12 + len(self._tag) :]
        self._place(place).append(frame)
        source = self._source(frame)
        if source is not None:
            self._under_way[place, source == OUTSIDE] -= 1

    @staticmethod
    def _source(frame: bytes) -> int | None:
        """Which of the correct ones has sent a frame."""
        if frame[12:14] == HOSTILE_TYPE:
            return None
        return next((s for s in (*CORRECT, OUTSIDE) if frame[6:12] == guest_mac(s)), None)

    def _arrived(self, source: int, target: int) -> int:
        return sum(self._source(frame) == source for frame in self._place(target))

    def _taken(self, source: int, target: int) -> list[bytes]:
        place = self._place(target)
        found = [frame for frame in place if self._source(frame) == source]
        place[:] = [frame for frame in place if self._source(frame) != source]
        return found

    def take_hostile(self) -> dict[str, list[str]]:
        """Return, in hexadecimal, what else has arrived where since the last time."""
        found = {}
        for place in (*CORRECT, OUTSIDE):
            frames = self._place(place)
            found[str(place)] = [f.hex() for f in frames if self._source(f) is None]
            if found[str(place)] and place in CORRECT and self._apart:
                raise Wrong("isolation", f"function {place} has had a frame of another VLAN")
            frames[:] = [f for f in frames if self._source(f) is not None]
        return found

    @property
    def _apart(self) -> bool:
        """Whether the hostile driver's function is in another VLAN than the others."""
        return bool(self.vlan) and self.vlan["hostile"] not in (0, self.vlan["vid"])

    # Drivers that come and go --------------------------------------------------------------------

    async def rebind(self, function: int, delay: int = 0) -> None:
        """Shut a correct driver down and start it again, while all others go on.

        Of what is sent to it meanwhile, and of what it has sent last, frames may be lost, but
        neither changed nor doubled nor out of order.
        """
        guest = self.guests[function]
        self._loose = {place: [] for place in (*CORRECT, OUTSIDE)}
        begun = guest.sent
        task = self.port.spawn(self._restart(guest, delay), "rebinding")
        while not task.done:
            await self.exchange(without=function)
        last = await task.join()
        await self._quiet(function)
        arrived = 0
        for target, frames in last.items():
            taken = self._taken(function, target)
            arrived += len(taken)
            if taken != frames[: len(taken)]:
                raise Wrong("frames", f"{function} -> {target}: not the first that were sent")
        guest.sent = await self.hypervisor.stat(function, Stat.TX_PACKETS)
        if guest.sent - begun != arrived:
            what = f"{guest.sent - begun} frames sent, {arrived} have arrived"
            raise Wrong("counter", f"function {function}: {what}")
        self._under_way.clear()

    async def _restart(self, guest: _Guest, delay: int) -> dict[int, list[bytes]]:
        """Restart a driver that has frames under way; returns those that it has sent last."""
        rng, targets = Random(f"{self.seed}/{self._round}/last"), (*CORRECT, OUTSIDE)
        last: dict[int, list[bytes]] = {}
        await self.port.sleep(delay)
        for number in range(_LAST):
            target = rng.choice([place for place in targets if place != guest.function])
            macs = guest_mac(target) + guest_mac(guest.function)
            frame = macs + CORRECT_TYPE + rng.randbytes(rng.choice(_SIZES) - 14)
            self._under_way[target, False] += 1
            last.setdefault(target, []).append(frame)
            await guest.send(number, frame)
        await guest.driver.stop()
        self.books.rebound(guest.function)
        await self.port.sleep(delay)
        await guest.driver.start()
        return last

    async def _quiet(self, function: int) -> None:
        """Take what has come to a driver that is back, until nothing is under way to it."""
        for source, frames in self._loose.items():
            if source == function:
                continue
            for attempt in range(_ATTEMPTS):
                # Behind it nothing is left of what this one has sent before.
                mark = (
                    guest_mac(function) + guest_mac(source) + CORRECT_TYPE + bytes([attempt] * 46)
                )
                frames.append(mark)
                await self._send(source, attempt % _FRAMES, mark, [mark])
                for _ in range(_PATIENCE // _ATTEMPTS // _LOOK):
                    await self.port.sleep(_LOOK)
                    if mark in self._place(function):
                        break
                else:
                    continue
                break
            else:
                raise Wrong("hang", f"{source} -> {function}: nothing arrives any more")
            rest = iter(frames)
            if not all(frame in rest for frame in self._taken(source, function)):
                raise Wrong("frames", f"{source} -> {function}: frames are not what was sent")

    async def receiving(self) -> bool:
        """Whether a frame is on its way into the memory of a correct driver."""
        registers = [function_block(f) + MANAGEMENT["receiving"].offset for f in CORRECT]
        return any([await self.port.mmio_read("nic", register) for register in registers])

    async def unharmed(self) -> None:
        """See that no queue of theirs has stopped, and that all frames were counted."""
        for function, guest in self.guests.items():
            for queue in (0, 1):
                error = await self.hypervisor.queue_error(function, queue)
                if error is not QueueError.NONE:
                    raise Wrong("stopped", f"function {function}: queue {queue}: {error.name}")
            packets = await self.hypervisor.stat(function, Stat.TX_PACKETS)
            if packets != guest.sent:
                raise Wrong("counter", f"function {function}: {packets} sent, not {guest.sent}")

    async def settle(self) -> dict[str, int]:
        """See that all books balance when nothing is under way; return what was counted."""
        received = {function: guest.driver.received for function, guest in self.guests.items()}
        found = await self.books.balance(received)
        if self.paging:
            if wrong := self.paging.wrong():
                raise Wrong("books", wrong)
            counts = self.paging.pager.counts
            if counts.device_faults < found["page requests"]:
                raise Wrong("books", f"the pager has served only {counts.device_faults}")
            found += Counter(evictions=counts.evictions, rescued=counts.rescued)
        return {f"paging {name}": count for name, count in found.items()}

    async def evict(self, vm: Vm, pages: list[int]) -> None:
        """Take pages of a VM away, those that are there."""
        if self.paging and isinstance(vm.pages, PagedMemory):
            await self.paging.evict(vm, pages)
            return
        there = sorted(vm.pages.resident_addresses)
        for number in pages:
            gpa = there[number % len(there)]
            if vm.pages.resident(gpa):
                await self.hypervisor.evict(vm, gpa)

    async def forget(self, vm: Vm) -> None:
        """Give the pages of a VM that has ended back to the host."""
        if self.paging and isinstance(vm.pages, PagedMemory):
            await self.paging.forget(vm)
            self.hypervisor.vms.remove(vm)
            return
        for gpa in list(vm.pages.resident_addresses):
            vm.pages.unmap(gpa)
            vm.pages.page_out(gpa)
        self.hypervisor.vms.remove(vm)
