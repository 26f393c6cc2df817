"""The golden NIC: functions, their virtqueues, the switch between them, MSI-X."""

from models.nic.atc import Atc, invalidated_pages
from models.nic.backup import Backup
from models.nic.dma import Dma, Parked, Stopped, Surroundings
from models.nic.function import Function
from models.nic.moderation import Moderation
from models.nic.packed_ring import PackedRing
from models.nic.pci import NicPci
from models.nic.rings import Direction, RingSetup
from models.nic.service import RunningQueue, Servant
from models.nic.split_ring import SplitRing
from models.nic.switch import Switch
from models.pci import all_ones
from models.spec.config import NicConfig
from models.spec.iommu import GroupResponsePayload, PageResponse
from models.spec.nic import (
    BAR_BYTES,
    CONFIG_BASE,
    FUNCTION_BYTES,
    MANAGEMENT_BASE,
    Isr,
    Stat,
)
from models.spec.virtio import Feature

__all__ = ["GoldenNic"]


class GoldenNic:
    """One PF and its VFs.

    Software's accesses act at once; :meth:`step` lets one queue go on with one thing.

    Parameters
    ----------
    config : NicConfig
    surroundings : Surroundings
    batch : int
        Transmit chains that are given back together.
    """

    def __init__(self, config: NicConfig, surroundings: Surroundings, *, batch: int = 1) -> None:
        self.config, self._outside = config, surroundings
        self.functions: list[Function] = []
        self.pci = NicPci(
            config,
            self._bar,
            lambda number: self.functions[number].function_level_reset(),
            lambda: bool(self.functions[0].isr),
            self._configured,
        )
        self._asking: list[tuple[int, Parked]] = []
        self._dma: list[Dma] = []
        for number in range(config.functions):
            self._add(number)
        backup = Backup(config, self.functions, self._dma[0], self._waits)
        self.switch = Switch(self.functions, config, surroundings.transmit, backup, self._runs)
        self._moderations = [self._moderation(function) for function in self.functions]
        self._servants = [
            Servant(function, self.switch, batch, moderation)
            for function, moderation in zip(self.functions, self._moderations, strict=True)
        ]
        self.functions[0].mailbox = self._mailbox
        self._queues: dict[int, RunningQueue] = {}
        self._turn = 0

    def _receiver(self, number: int, pair: int) -> RunningQueue | None:
        """A receive queue, if it runs."""
        return self._queues.get(number * self.config.queues_per_function + 2 * pair)

    def _runs(self, number: int, pair: int) -> bool:
        """Whether a receive queue runs, and takes frames."""
        closed = self.functions[number].steering.closed >> pair & 1
        return self._receiver(number, pair) is not None and not closed

    def _receiving(self, number: int) -> int:
        """Bit n: a function's receive queue pair n has something under way."""
        found = 0
        for pair in range(self.config.queue_pairs):
            queue = self._receiver(number, pair)
            found |= (queue is not None and queue.service is not None) << pair
        return found

    def _waits(self, number: int, pair: int) -> bool:
        """Whether a receive queue waits for a page."""
        queue = self._receiver(number, pair)
        return queue is not None and queue.parked is not None

    def _moderation(self, function: Function) -> Moderation:
        def vector(queue: int) -> int:
            return function.queues[queue].queue_msix_vector

        return Moderation(
            lambda queue: function.coalescing[queue],
            vector,
            lambda queue: function.interrupt(vector(queue), Isr.QUEUE),
            lambda: self._outside.now(),
        )

    def _add(self, number: int) -> None:
        function = Function(
            self.config,
            number,
            lambda what, queue: self._changed(number, what, queue),
            lambda address, data: self._dma[number].message(address, data),
            lambda right: getattr(self.pci, right)(number),
        )
        function.receiving = lambda: self._receiving(number)
        self.functions.append(function)
        self._dma.append(
            Dma(
                self._outside,
                function.device_id,
                lambda: function.ats,
                function.count,
                Atc() if self.config.atc_entries else None,
            )
        )

    # Register port -----------------------------------------------------------------------------

    def read_register(self, address: int, size: int) -> int:
        """Load 1, 2, 4 or 8 bytes of the register port; what is nobody's reads 0."""
        if address >= CONFIG_BASE:
            return self.pci.read(address - CONFIG_BASE, size)
        if not self._answers(address):
            return all_ones(size)
        if address >= MANAGEMENT_BASE:
            number, offset = divmod(address - MANAGEMENT_BASE, FUNCTION_BYTES)
            if number >= len(self.functions):
                return 0
            value = self.functions[number].read_management(offset & ~3)
            if size == 8:
                value |= self.functions[number].read_management(offset + 4) << 32
            return value >> 8 * (offset & 3) & (1 << 8 * size) - 1
        number, offset = divmod(address, BAR_BYTES)
        return self.functions[number].read(offset, size) if number < len(self.functions) else 0

    def write_register(self, address: int, size: int, value: int) -> None:
        """Store 1, 2, 4 or 8 bytes."""
        if address >= CONFIG_BASE:
            self.pci.write(address - CONFIG_BASE, size, value)
            return
        if not self._answers(address):
            return
        if address < MANAGEMENT_BASE:
            number, offset = divmod(address, BAR_BYTES)
            if number < len(self.functions):
                self.functions[number].write(offset, value, size)
            return
        number, offset = divmod(address - MANAGEMENT_BASE, FUNCTION_BYTES)
        if number >= len(self.functions):
            return
        if size == 8:
            self.functions[number].write_management(offset + 4, value >> 32)
        if size >= 4:
            self.functions[number].write_management(offset, value & 0xFFFF_FFFF)

    def _answers(self, address: int) -> bool:
        """Whether PCI configuration lets an access through; the management pages are the PF's."""
        number = 0 if address >= MANAGEMENT_BASE else address // BAR_BYTES
        return number >= len(self.functions) or self.pci.decodes(number)

    def _bar(self, number: int, offset: int, size: int, value: int | None) -> int:
        if value is None:
            return self.functions[number].read(offset, size)
        self.functions[number].write(offset, value, size)
        return 0

    def _configured(self) -> None:
        """Do what configuration spaces have come to allow, and not what they do not any more."""
        self._drop()
        for function in self.functions:
            function.send_pending()
        self._ask()

    def _ask(self) -> None:
        """Send page requests, as many as may be outstanding."""
        while self._asking and self.pci.may_ask:
            key, parked = self._asking.pop(0)
            self.pci.asked(key)
            self._outside.page_request(parked.message(key))

    def _changed(self, number: int, what: str, queue: int) -> None:
        base = number * self.config.queues_per_function
        if what == "notify":
            if base + queue in self._queues:
                self._queues[base + queue].doorbell = True
        elif what == "queue_reset":
            self._end(number, queue)
            self._moderations[number].forget(queue)
        elif what == "coalescing":
            self._moderations[number].serve()
        elif what == "rss":
            self._close(number)
        elif what == "events":
            self.functions[0].raise_vector(self.functions[0].mailbox_vector)
        elif what == "reset":
            for index in range(self.config.queues_per_function):
                self._end(number, index)
                self._moderations[number].forget(index)
            self.switch.flush(number)
        else:  # a queue may be able to run now
            self._drop()
            for index in range(self.config.queues_per_function):
                self._start(number, index)

    def _close(self, number: int) -> None:
        """Drop what waits for receive queues that take no frames any more."""
        for pair in range(self.config.queue_pairs):
            queue = self._receiver(number, pair)
            if queue is not None and not self._runs(number, pair):
                self.switch.drop(number, pair)
                queue.doorbell = True  # its buffers may do for the next one

    def _end(self, number: int, index: int) -> None:
        """Let a queue run no longer; what it had to receive is dropped and counted."""
        queue = self._queues.pop(number * self.config.queues_per_function + index, None)
        if queue is not None and not index & 1:
            self.switch.drop(number, index // 2, int(queue.delivering))

    def _mailbox(self) -> int:
        """First function with events, plus 1; 0 if there is none."""
        return next((f.number + 1 for f in self.functions if f.events), 0)

    def _start(self, number: int, index: int) -> None:
        function, key = self.functions[number], number * self.config.queues_per_function + index
        registers = function.queues[index]
        if not (function.live and registers.queue_enable) or key in self._queues:
            return
        if registers.error or index in (function.control_index, 2 * self.config.queue_pairs):
            return
        setup = RingSetup(
            size=registers.queue_size,
            desc=registers.queue_desc,
            driver=registers.queue_driver,
            device=registers.queue_device,
            direction=Direction.READ if index & 1 else Direction.WRITE,
            indirect=function.accepted(Feature.RING_INDIRECT_DESC),
            event_idx=function.accepted(Feature.RING_EVENT_IDX),
            in_order=function.accepted(Feature.IN_ORDER),
        )
        kind = PackedRing if function.accepted(Feature.RING_PACKED) else SplitRing
        self._queues[key] = RunningQueue(kind(self._dma[number], setup), doorbell=True)

    # Work --------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """Take a frame from the Ethernet port."""
        self.switch.from_port(frame)

    def group_response(self, device_id: int, payload: int) -> None:
        """Take a PRG Response Message; one that nobody waits for is ignored."""
        response = GroupResponsePayload.from_bits(payload)
        self.pci.answered(response.index, response.code)
        self._ask()
        queue = self._queues.get(response.index)
        if queue is None or queue.parked is None or queue.parked.device_id != device_id:
            return
        if queue.other is not None:  # it has not asked
            return
        code = response.code  # those that nobody has defined are failures (PCIe 10.4.2.1)
        known = code in (PageResponse.SUCCESS, PageResponse.INVALID)
        self._resume(response.index, queue, PageResponse(code) if known else PageResponse.FAILURE)

    def invalidate(self, device_id: int, payload: int) -> None:
        """Take an Invalidate Request Message; nothing older is used when this returns."""
        number = device_id - self.config.device_id
        if 0 <= number < len(self.functions):
            self.functions[number].count(Stat.INVALIDATIONS, 1)
            atc = self._dma[number].atc
            if atc is not None:
                atc.forget(invalidated_pages(payload))

    def _drop(self) -> None:
        """Functions that do not translate by ATS keep no translations (PCIe 10.5.1.3); those that
        may do no DMA, no frames.
        """
        for function, dma in zip(self.functions, self._dma, strict=True):
            if dma.atc is not None and not (function.enabled and function.ats):
                dma.atc.drop()
            if not function.enabled:
                self.switch.flush(function.number)

    @property
    def deadline(self) -> int | None:
        """Cycle at which :meth:`step` has a time-out to act on, if any."""
        of_queues = [queue.deadline for queue in self._queues.values()]
        of_functions = [moderation.deadline for moderation in self._moderations]
        return min(
            (deadline for deadline in of_queues + of_functions if deadline is not None),
            default=None,
        )

    def step(self) -> bool:
        """Let one queue go on until it parks or has done one thing; ``False`` if none can."""
        served = [moderation.serve() for moderation in self._moderations]
        if any(served) or self.switch.give_back():
            return True
        keys = sorted(self._queues)
        parked = any(queue.parked for queue in self._queues.values())
        stalled = self.functions[0].fault_stall and parked
        for position in range(len(keys)):
            key = keys[(self._turn + position) % len(keys)]
            queue = self._queues[key]
            if queue.deadline is not None and queue.deadline <= self._outside.now():
                self._resume(key, queue, PageResponse.FAILURE)
                return True
            if queue.parked is not None and self._other_has_ended(queue):
                self._resume(key, queue, PageResponse.SUCCESS)
                return True
            if queue.parked is None and not stalled and self._serve(key, queue):
                self._turn = (self._turn + position + 1) % max(1, len(keys))
                return True
        return False

    def _serve(self, key: int, queue: RunningQueue) -> bool:
        number, index = divmod(key, self.config.queues_per_function)
        if not self.functions[number].enabled or not queue.doorbell:
            return False
        if index & 1:
            queue.service = self._servants[number].transmit(index, queue)
        elif not self.switch.waiting(number, index // 2):
            return False
        else:
            queue.service = self._servants[number].receive(index, queue)
        self._advance(key, queue, None)
        return True

    def _resume(self, key: int, queue: RunningQueue, code: PageResponse) -> None:
        queue.parked = queue.deadline = queue.other = None
        self._advance(key, queue, code)

    def _advance(self, key: int, queue: RunningQueue, code: PageResponse | None) -> None:
        number, index = divmod(key, self.config.queues_per_function)
        function = self.functions[number]
        assert queue.service is not None
        try:
            parked = next(queue.service) if code is None else queue.service.send(code)
        except StopIteration:
            queue.service = None
        except Stopped as stopped:
            self._end(number, index)
            function.stop_queue(index, stopped.error)
        else:
            queue.parked = parked
            timeout = self.functions[0].page_timeout
            if timeout:
                queue.deadline = self._outside.now() + timeout
            queue.other = self._asked_already(parked)
            if queue.other is None:
                function.count(Stat.PAGE_REQUESTS)
                self._asking.append((key, parked))
                self._ask()
            else:
                function.count(Stat.PAGE_WAITS)

    def _asked_already(self, parked: Parked) -> tuple[RunningQueue, Parked] | None:
        """A queue that waits for the answer to a page request for the same page."""
        for queue in self._queues.values():
            asked = queue.parked
            if asked is None or asked is parked or queue.other is not None:
                continue
            if asked.serves(parked):
                return queue, asked
        return None

    def _other_has_ended(self, queue: RunningQueue) -> bool:
        """Whether the queue's page was asked for by another one that does not wait any longer."""
        if queue.other is None:
            return False
        other, asked = queue.other
        return other.parked is not asked or all(q is not other for q in self._queues.values())
