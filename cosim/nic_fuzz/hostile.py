"""The hostile function: does the steps of a session, and tells what came of them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from cosim.guest.features import NEEDED_FEATURES
from cosim.guest.malformed import NOT_OWNED, OF_CONTROL_QUEUES, WAYS, Way
from cosim.guest.memory import Allocator
from cosim.guest.queue_format import queue_format
from cosim.guest.transport import Transport
from cosim.guest.virtqueue import Virtqueue
from cosim.hypervisor.iommu_driver import PageRequestEntry
from cosim.hypervisor.mailbox import SERVED
from cosim.hypervisor.vm import RAM_GPA
from cosim.nic_fuzz.chains import ChainWriter
from cosim.nic_fuzz.interrupts import EVERY, Wish, judge
from cosim.nic_fuzz.memory_ways import (
    MEMORY_WAYS,
    NOWHERE_GPA,
    NOWHERE_SPA,
    PAGE_TIMEOUT,
    LostArea,
    lost_area,
    post,
)
from cosim.nic_fuzz.session import Session
from cosim.nic_fuzz.watch import COUNTED, Counts, Watch, used_by_device
from cosim.nic_fuzz.world import HOSTILE, HOSTILE_TYPE, World
from cosim.nic_fuzz.wrong import Wrong
from cosim.packets import vlan_tag
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.spec.iommu import PageResponse
from models.spec.nic import (
    COMMON_OFFSET,
    MANAGEMENT,
    NOTIFY_OFFSET,
    QueueError,
    Stat,
    bar_base,
    function_block,
)
from models.spec.virtio import DeviceStatus, Feature
from models.spec.virtio import common as common_register
from models.spec.virtio_net import control_index

__all__ = ["Hostile", "Observed"]

#: What came of a step, as plain data.
Observed = dict[str, Any]

_BYTES, _AREA_BYTES = 1 << 20, 3 << 16
#: Bytes of a block of memory that is compared.
_BLOCK = 256
#: Cycles between two looks; how many without anything new mean that nothing more comes; most.
_STEP, _QUIET, _LOOKS = 500, 20, 400
#: Registers that are read back, for each queue.
_READ = ("queue_size", "queue_msix_vector", "queue_enable", "queue_notify_off", "queue_desc",
         "queue_driver", "queue_device", "queue_reset")  # fmt: skip
_WAYS = {way.name: way for way in WAYS}
_CONTROL_WAYS = {way.name: way for way in OF_CONTROL_QUEUES}
_MEMORY_WAYS = {way.name: way for way in MEMORY_WAYS}
#: Cycles after which a page request has failed; those of correct drivers take some hundreds.
_TIMEOUT = 20_000
#: Of the frames in ways of memory.
_FRAME = guest_mac(OUTSIDE) + guest_mac(HOSTILE) + HOSTILE_TYPE + bytes(1500)


class Hostile:
    """One session's hostile VM and driver on one machine.

    Parameters
    ----------
    world : World
    session : Session
    """

    def __init__(self, world: World, session: Session) -> None:
        self.world, self.session, self.port = world, session, world.port
        self._setup = session.driver
        self._vlan = session.vlan.get("hostile", 0)
        self._base = bar_base(HOSTILE)

    async def start(self) -> None:
        """Make the VM, give it the function, and bring its device up."""
        world, hypervisor = self.world, self.world.hypervisor
        paged = bool(self.session.paging.get("hostile"))
        self.vm = world.new_vm("hostile", _BYTES, paged=paged)
        self._watch = Watch(hypervisor, self.vm)
        self.vm.pages.map_device(NOWHERE_GPA, NOWHERE_SPA)
        if not self.session.ats:
            hypervisor.pin(self.vm)
        self.bus = await hypervisor.assign(
            self.vm,
            HOSTILE,
            guest_mac(HOSTILE),
            ats=self.session.ats,
            count=False,
            vlan=self._vlan or None,
            spoof_check=not self.session.trusted,
        )
        self._allocator = Allocator(RAM_GPA, _BYTES)
        area = self._allocator.allocate(_AREA_BYTES, align=4096)
        self.writer = ChainWriter(self.vm.memory, area, _AREA_BYTES)
        self._ring_start = self._allocator.allocate(1, align=4096)
        self.transport = Transport(world.port, self.bus, None)
        await self.transport.find()
        await self.restart()

    async def end(self) -> None:
        """Take the function away, whatever it is doing."""
        await self.world.hypervisor.revoke(self.vm, HOSTILE)
        await self.world.forget(self.vm)

    async def restart(self, lost: tuple[int, int] | None = None) -> None:
        """Reset the device and set everything up anew, in the same memory.

        Queue and area of ``lost`` are where the guest has no memory.
        """
        transport, setup = self.transport, self._setup
        self._allocator = Allocator(self._ring_start, RAM_GPA + _BYTES - self._ring_start)
        self.features = await transport.begin(setup["features"], NEEDED_FEATURES)
        for vector in range(transport.vectors):
            await transport.route(vector, lambda: None)
        await transport.store("config_msix_vector", self._config_vector)
        self.queues: list[Virtqueue] = []
        most = await self._pairs()
        for number in range(2 * min(setup["pairs"], most)):
            self.queues.append(await self._enable(number, lost))
        number = self._control_index
        self.control = None if number is None else await self._enable(number, lost)
        await transport.add_status(DeviceStatus.DRIVER_OK)

    async def _enable(self, number: int, lost: tuple[int, int] | None) -> Virtqueue:
        """Make a queue, and tell the device of it."""
        kind, options = queue_format(self.features)
        size = await self.transport.queue_size(number, self._setup["size"])
        space = LostArea()
        queue = kind(
            self.vm.memory,
            self._allocator,
            space,
            number=number,
            size=size,
            options=options,
        )
        if lost is not None and lost[0] == number:
            packed = self._accepted(Feature.RING_PACKED)
            space.gpa = queue.areas[lost_area(lost[1], packed=packed)][0]
        await self.transport.enable_queue(queue, self._vector(queue))
        return queue

    @property
    def _control_index(self) -> int | None:
        return control_index(self.features, self.world.config.nic.queue_pairs)

    @property
    def _config_vector(self) -> int:
        return self.transport.vectors - 1

    def _vector(self, queue: Virtqueue) -> int:
        return queue.number % self._config_vector

    def _accepted(self, feature: Feature) -> bool:
        return bool(self.features >> feature & 1)

    async def _pairs(self) -> int:
        if not (self._accepted(Feature.NET_MQ) or self._accepted(Feature.NET_RSS)):
            return 1
        config = await self.transport.net_config()
        assert isinstance(config.max_virtqueue_pairs, int)
        return config.max_virtqueue_pairs

    # Steps ---------------------------------------------------------------------------------------

    async def act(self, kind: str, *operands: Any) -> Observed:
        """Do a step; return what came of it, as far as that is determined."""
        return await getattr(self, f"_do_{kind}")(*operands) or {}

    def _queue(self, number: int) -> Virtqueue:
        return self.queues[number % len(self.queues)]

    def _post(self, queue: Virtqueue, chains: list[dict[str, Any]]) -> None:
        self.writer.begin()
        for chain in chains:
            self.writer.post(queue, chain)

    async def _doorbell(self, queue: int) -> None:
        offset = self._base + NOTIFY_OFFSET + 4 * queue
        await self.port.mmio_write("nic", offset, queue, 2)

    async def _do_post(
        self,
        number: int,
        fresh: int,
        chains: list[dict[str, Any]],
        sizes: list[int],
        wanted: int = EVERY,
    ) -> Observed:
        queue = self._queue(number)
        if fresh and self._accepted(Feature.RING_RESET):
            await self.transport.reset_queue(queue.number)
            queue.clear()
            await self.transport.enable_queue(queue, self._vector(queue))
        before = await self._begin()
        wish = Wish(self.vm.memory, queue, wanted)
        self._post(queue, chains)
        await self._doorbell(queue.number)
        await self._frames(sizes)
        found = await self._settled(before)
        await self._judge(found, wish)
        # Buffers of a frame that waits for more of them may have been written, or not.
        whole = found["counters"].get(Stat.RX_PACKETS.name, 0) == len(sizes)
        if self.writer.owned and whole and not any(found["errors"]):
            found["content"] = self._content()
        await self._again(found, always=queue.number == 0)
        return found

    def _content(self) -> list[str]:
        """What is in the area of chains, in blocks."""
        content = self.writer.content()
        return [
            hashlib.sha256(content[at : at + _BLOCK]).hexdigest()[:16]
            for at in range(0, len(content), _BLOCK)
        ]

    async def _frames(self, sizes: list[int]) -> None:
        """Frames from the wire to the hostile function."""
        rng = Random(len(sizes))
        for size in sizes:
            macs = guest_mac(HOSTILE) + guest_mac(OUTSIDE)
            tag = vlan_tag(self._vlan) if self._vlan else b""
            frame = macs + tag + HOSTILE_TYPE + rng.randbytes(size - 14)
            await self.port.send_frame(frame)

    async def _again(self, found: Observed, *, always: bool = False) -> None:
        """Start again if a queue has stopped, or if frames or buffers may be left."""
        if always or any(found["errors"]):
            await self.restart()

    def _fits(self, way: Way) -> bool:
        """Whether the driver is set up for a way; the step that has done so may be left out."""
        accepted = self._accepted
        return (way.packed, way.indirect) == (
            accepted(Feature.RING_PACKED),
            accepted(Feature.RING_INDIRECT_DESC),
        ) and (self.queues[0].size in way.sizes and accepted(Feature.NET_MRG_RXBUF) >= way.merged)

    async def _do_way(self, name: str, wanted: int = EVERY) -> Observed:
        way = _WAYS[name]
        if not self._fits(way):
            return {}
        await self.restart()  # what was posted before may have gone over itself
        queue = self._queue(0 if way.receive else 1)
        before = await self._begin()
        wish = Wish(self.vm.memory, queue, wanted)
        way.harm(queue)
        await self._doorbell(queue.number)
        if way.receive:
            await self._frames([1514])
        found = await self._settled(before)
        await self._judge(found, wish)
        found["expected"] = [way.code.name]
        await self.restart()
        return found

    async def _do_control_way(self, name: str, area: int = 0) -> Observed:
        """Do harm to the control queue, or with RING_ADDRESS have an ``area`` of it nowhere."""
        index, way = self._control_index, _CONTROL_WAYS.get(name)
        if index is None or (way is not None and not self._fits(way)):
            return {}
        await self.restart(lost=(index, area) if way is None else None)
        await self.port.sleep(SERVED)
        assert self.control is not None
        before = await self._begin()
        wish = Wish(self.vm.memory, self.control, EVERY)
        if way is None:
            post(self.control, bytes(1), None, receive=False)
        else:
            way.harm(self.control)
        await self._doorbell(index)
        await self.port.sleep(SERVED)
        found = await self._settled(before)
        await self._of_control(found, wish, known=way is not None)
        found["expected"] = [(QueueError.RING_ADDRESS if way is None else way.code).name]
        await self.restart()
        await self.port.sleep(SERVED)
        return found

    async def _do_memory_way(self, name: str, number: int, area: int = 0) -> Observed:
        way = _MEMORY_WAYS[name]
        if way.ats not in (None, self.session.ats):
            return {}
        await self.restart(lost=(number, area) if way.buffer is None else None)
        queue, receive = self._queue(number), number % 2 == 0
        before = await self._begin()
        wish = Wish(self.vm.memory, queue, EVERY)
        # Accesses to a page that one has asked for ask again, one by one, when that has failed: one
        # for the frame, and one ahead of it.
        size = 60 if name == PAGE_TIMEOUT else len(_FRAME)
        post(queue, _FRAME[:size], way.buffer, receive=receive)
        if name == PAGE_TIMEOUT:
            await self._time_out(queue, [size] * receive)
        else:
            await self._doorbell(queue.number)
            await self._frames([size] * receive)
        found = await self._settled(before)
        # What is asked for is in the area that may be lost.
        await self._judge(found, wish, known=way.buffer is not None)
        found["expected"] = [way.code.name] if way.code else []
        await self.restart()
        return found

    async def _time_out(self, queue: Virtqueue, sizes: list[int]) -> None:
        """Use a queue while software does not answer for the page that nobody owns, or too late."""
        hypervisor, late = self.world.hypervisor, list[PageRequestEntry]()
        device_id = hypervisor.assignment(HOSTILE).device_id

        def ignore(request: PageRequestEntry) -> bool:
            ours = request.device_id == device_id and request.iova >> 12 == NOT_OWNED >> 12
            if ours:
                late.append(request)
            return ours

        hypervisor.ignores = ignore
        await self._page_timeout(_TIMEOUT)
        await self._doorbell(queue.number)
        await self._frames(sizes)
        for _ in range(30):
            await self.port.sleep(_TIMEOUT // 10)
            if await hypervisor.queue_error(HOSTILE, queue.number):
                break
        await self._page_timeout(0)
        for request in late:
            await hypervisor.iommu.respond(device_id, request.index, PageResponse.SUCCESS)
        hypervisor.ignores = lambda _: False

    async def _page_timeout(self, cycles: int) -> None:
        register = function_block(0) + MANAGEMENT["page_timeout"].offset
        await self.port.mmio_write("nic", register, cycles)

    async def _do_control(self, chains: list[dict[str, Any]], wanted: int = EVERY) -> Observed:
        if self.control is None:
            return {}
        await self.restart()
        await self.port.sleep(SERVED)
        before = await self._begin()
        wish = Wish(self.vm.memory, self.control, wanted)
        self._post(self.control, chains)
        await self._doorbell(self.control.number)
        found = await self._settled(before)
        await self._of_control(found, wish)
        if self.writer.owned and not any(found["errors"]):
            found["content"] = self._content()
        found["settings"] = await self._watch.settings()
        await self.restart()
        await self.port.sleep(SERVED)
        return found

    async def _of_control(self, found: Observed, wish: Wish, *, known: bool = True) -> None:
        """Add what came of the control queue: of its end the driver is told nothing."""
        await self._judge(found, wish, known=known)
        error = await self.world.hypervisor.queue_error(HOSTILE, wish.queue.number)
        found["errors"].append(error.value)

    async def _do_registers(self, stores: list[list[Any]], bells: list[int]) -> Observed:
        await self.transport.reset()
        for name, value in stores:
            register = common_register(name)
            value &= (1 << 8 * register.bytes) - 1
            offset = self._base + COMMON_OFFSET + register.offset
            await self.port.mmio_write("nic", offset, value, register.bytes)
        for queue in bells:
            await self._doorbell(queue)
        found = await self._settled(await self._begin(), used=False)
        found["registers"] = await self._registers()
        await self.restart()
        return found

    async def _do_chaos(
        self, number: int, area: int, offset: int, garbage: str, chains: list[dict[str, Any]]
    ) -> None:
        queue = self._queue(number)
        self._post(queue, chains)
        await self._doorbell(queue.number)
        gpa, size = queue.areas[area]
        content = bytes.fromhex(garbage)[:size]
        self.vm.memory.write(gpa + offset % (size - len(content) + 1), content)
        await self._doorbell(queue.number)
        await self._frames([200])
        await self.port.sleep(2000)
        await self.restart()

    async def _do_poke(
        self, number: int, chains: list[dict[str, Any]], accesses: list[list[Any]]
    ) -> None:
        queue = self._queue(number)
        self._post(queue, chains)
        await self._doorbell(queue.number)
        await self._frames([200])
        for offset, size, value in accesses:
            if value is None:
                await self.port.mmio_read("nic", self._base + offset, size)
            else:
                await self.port.mmio_write("nic", self._base + offset, value, size)
        await self.port.sleep(2000)
        await self.restart()

    async def _do_reset(
        self, kind: str, delay: int, number: int, chains: list[dict[str, Any]]
    ) -> None:
        queue = self._queue(number)
        self._post(queue, chains)
        await self._doorbell(queue.number)
        await self._frames([1514, 60])
        await self.port.sleep(delay)
        if kind == "function":
            await self.world.hypervisor.reset(HOSTILE)
            await self.transport.find()
        elif kind == "queue" and self._accepted(Feature.RING_RESET):
            await self.transport.reset_queue(queue.number)
        await self.restart()

    async def _do_evict(self, function: int, pages: list[int]) -> None:
        vm = self.vm if function == HOSTILE else self.world.guests[function].vm
        if function != HOSTILE or self.session.ats:
            await self.world.evict(vm, pages)

    async def _do_rebind(
        self, function: int, delay: int = 0, number: int = 1, chains: Sequence[dict] = ()
    ) -> None:
        """Work, and restart, while the world restarts a correct driver."""
        await self._do_reset("device", delay, number, list(chains))

    async def _do_setup(self, driver: dict[str, int]) -> None:
        self._setup = driver
        await self.restart()

    # What came of them ---------------------------------------------------------------------------

    async def _begin(self) -> Counts:
        """What counters are at before a step."""
        self._told = self._interrupts()
        return await self._watch.counts()

    def _interrupts(self) -> Counter[int]:
        return self._watch.interrupts(self.transport.vectors)

    async def _judge(self, found: Observed, wish: Wish, *, known: bool = True) -> None:
        """Add what the driver was told, and see that it is what it has to be.

        Parameters
        ----------
        found : dict
            What came of a step that has used one queue.
        wish : Wish
            What its driver has asked for.
        known : bool
            Whether the device knows that, too.
        """
        queue, stopped = wish.queue, sum(map(bool, found["errors"]))
        came = self._interrupts() - self._told
        finished = not stopped and queue.number % 2 == 1
        judge(
            came,
            self._vector(queue) if known else None,
            wish.bounds(finished=finished),
            changes=stopped,
            config=self._config_vector,
        )
        found["interrupts"] = sorted(came)
        status = await self.transport.load("device_status")
        found["needs reset"] = bool(status & DeviceStatus.DEVICE_NEEDS_RESET)
        if found["needs reset"] is not bool(stopped):
            raise Wrong("status", f"{status:#x}, {stopped} queues have stopped")

    async def _settled(self, counts: Counts, *, used: bool = True) -> Observed:
        """Wait until nothing changes any more; return what there is."""
        before, of_queues = counts
        last, since, requests = await self._look(before, used), 0, -1
        for _ in range(_LOOKS):
            await self.port.sleep(_STEP)
            now = await self._look(before, used)
            asked = await self.world.hypervisor.stat(HOSTILE, Stat.PAGE_REQUESTS)
            # What it has sent to others may wait for pages of theirs.
            waits = await self.world.receiving()
            since = since + 1 if (now, asked) == (last, requests) and not waits else 0
            if since == _QUIET:
                break
            last, requests = now, asked
        del last["told"]
        last["frames"] = self.world.take_hostile()
        last["queue counters"] = +(await self._watch.of_queues() - of_queues)
        return last

    async def _look(self, before: list[int], used: bool) -> Observed:
        errors = [
            (await self.world.hypervisor.queue_error(HOSTILE, number)).value
            for number in range(len(self.queues))
        ]
        counters = [
            now - then for now, then in zip(await self._watch.counters(), before, strict=True)
        ]
        found: Observed = {
            "errors": errors,
            "counters": {
                name: count for name, count in zip(COUNTED, counters, strict=True) if count
            },
        }
        if used:
            queues = [*self.queues, *([self.control] if self.control else [])]
            found["used"] = [used_by_device(self.vm.memory, queue) for queue in queues]
        found["told"] = sum(self._interrupts().values())
        return found

    async def _registers(self) -> dict[str, list[int]]:
        transport, found = self.transport, {}
        found["status"] = [await transport.load("device_status")]
        for number in range(2 * await self._pairs()):
            await transport.store("queue_select", number)
            found[str(number)] = [await transport.load(name) for name in _READ]
        return found

    def codes(self, found: Observed) -> list[str]:
        """Names of the reasons for which queues have stopped."""
        return [QueueError(code).name for code in found.get("errors", ()) if code]
