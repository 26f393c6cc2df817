"""The PF's mailbox: what functions have for the hypervisor's software, and their control queues."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosim.hypervisor.control_queue import ControlQueue, GuestAccess
from cosim.hypervisor.net_control import NetControl
from models.pagetable import KIB_4
from models.spec.nic import (
    MANAGEMENT,
    MSIX_ENTRY_BYTES,
    MSIX_TABLE_OFFSET,
    MailboxEvent,
    QueueError,
    bar_base,
    function_block,
)
from models.spec.virtio import MSI_NO_VECTOR
from models.spec.virtio_net import control_index

if TYPE_CHECKING:
    from cosim.hypervisor.hypervisor import Assignment, Hypervisor

__all__ = ["SERVED", "Mailbox"]

#: Cycles until it has seen drivers come and go, and carried out a few commands of theirs.
SERVED = 20_000
_PF = 0
#: Most commands of a function before it is others' turn.
_COMMANDS = 8
#: Cycles between two looks without a vector.
_LOOK = 5_000
#: Cycles between two looks whether a command may be answered.
_HELD = 1_000


@dataclass
class _Client:
    """A function whose control queue is served."""

    control: NetControl
    features: int = 0
    queue: ControlQueue | None = None


class Mailbox:
    """Serves the events of all functions, by the PF's last vector.

    Functions have their turns one after the other: in a turn, what has happened is taken note of,
    and at most eight commands are answered.  A reset has a turn of its own, and ends with it.

    A guest that is given the PF itself has that vector: from then on software looks now and then.
    The PF has no control queue.

    Parameters
    ----------
    hypervisor : Hypervisor
    """

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor, self._port = hypervisor, hypervisor.port
        self._wake = self._port.event()
        self._clients: dict[int, _Client] = {}
        #: Functions whose queue may have more commands.
        self._left: set[int] = set()
        #: Functions with a command that is answered later.
        self._held: set[int] = set()
        self._last = _PF
        self._has_vector = True
        #: Commands answered.
        self.commands = 0

    async def start(self) -> None:
        """Let the PF raise an interrupt of the host for events, and serve them."""
        page = self._hypervisor.pages.allocate(1)
        self._port.on_message(page, KIB_4, lambda *_: self._wake.set())
        await self._hypervisor.bus.enable_messages()
        vector = self._hypervisor.config.nic.msix_vectors - 1
        entry = bar_base(_PF) + MSIX_TABLE_OFFSET + vector * MSIX_ENTRY_BYTES
        for offset, value in ((0, page & 0xFFFF_FFFF), (4, page >> 32), (8, 0), (12, 0)):
            await self._port.mmio_write("nic", entry + offset, value)
        await self._store(_PF, "mailbox_vector", vector)
        await self._hypervisor.own_physical_function()
        self._port.spawn(self._serve(), "mailbox")

    async def lose_vector(self) -> None:
        """The PF is given to a guest, and its vectors with it."""
        await self._store(_PF, "mailbox_vector", MSI_NO_VECTOR)
        if self._has_vector:
            self._has_vector = False
            self._port.spawn(self._look(), "mailbox without vector")

    async def _look_again(self, function: int) -> None:
        """Let a function have its turn in a while: an answer of its is held."""
        await self._port.sleep(_HELD)
        self._held.remove(function)
        self._left.add(function)
        self._wake.set()

    async def _look(self) -> None:
        while True:
            self._wake.set()
            await self._port.sleep(_LOOK)

    def serves(self, function: int, queue: int) -> bool:
        """Whether a queue of a function is its control queue, as its driver has negotiated."""
        features = self._clients[function].features if function in self._clients else 0
        return queue == control_index(features, self._hypervisor.config.nic.queue_pairs)

    def error(self, function: int) -> QueueError:
        """Why the control queue of a function has stopped."""
        client = self._clients.get(function)
        return client.queue.error if client and client.queue else QueueError.NONE

    async def _load(self, function: int, name: str) -> int:
        return await self._port.mmio_read("nic", function_block(function) + MANAGEMENT[name].offset)

    async def _store(self, function: int, name: str, value: int) -> None:
        offset = function_block(function) + MANAGEMENT[name].offset
        await self._port.mmio_write("nic", offset, value)

    async def _load_long(self, function: int, name: str) -> int:
        low = await self._load(function, f"{name}_low")
        return low | await self._load(function, f"{name}_high") << 32

    # Turns ---------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._port.sleep(self._hypervisor.costs.interrupt)
            while (function := await self._next()) is not None:
                self._last = function
                await self._turn(function)

    async def _next(self) -> int | None:
        """The function whose turn it is: the first behind the last one that has something."""
        first = await self._load(_PF, "mailbox") - 1  # those before it have no events
        functions = range(self._hypervisor.config.nic.functions)
        behind = self._last + 1
        for function in (*functions[behind:], *functions[:behind]):
            if function == first or function in self._left:
                return function
            if 0 <= first < function and await self._load(function, "events"):
                return function
        return None

    async def _turn(self, function: int) -> None:
        events = MailboxEvent(await self._load(function, "events"))
        for reset in (MailboxEvent.RESET, MailboxEvent.QUEUE_RESET):
            if events & reset:
                await self._forget(function, reset)
                return
        if events:
            await self._store(function, "events", events)
        if function in self._left:
            self._left.remove(function)
            if not events & MailboxEvent.READY:  # of the queue that there was
                events |= MailboxEvent.CONTROL
        await self._handle(function, events)

    async def _forget(self, function: int, reset: MailboxEvent) -> None:
        """Forget the ring of a control queue, and what its driver had set up if all was reset.

        The reset ends when its event is cleared, and not before: until then the ring was there.
        """
        self._left.discard(function)
        if reset == MailboxEvent.QUEUE_RESET:
            if function in self._clients:
                self._clients[function].queue = None
                self._clients[function].control.abandon()
        else:
            self._clients.pop(function, None)
            with suppress(KeyError):
                await self._new_client(function, self._hypervisor.assignment(function))
        await self._store(function, "events", reset)

    async def _new_client(self, function: int, assignment: "Assignment") -> _Client:
        client = self._clients[function] = self._client(function, assignment)
        await client.control.reset()
        return client

    async def _handle(self, function: int, events: MailboxEvent) -> None:
        try:
            assignment = self._hypervisor.assignment(function)
        except KeyError:
            self._clients.pop(function, None)
            return
        client = self._clients.get(function)
        if client is None:
            client = await self._new_client(function, assignment)
        if events & MailboxEvent.READY:
            client.queue = None
            client.features = await self._load_long(function, "features")
            await client.control.reset(client.features)
        if events & MailboxEvent.DATA_RESET:
            await self._queues_reset(function, client.control)
        if events & MailboxEvent.CONTROL:
            await self._commands(function, assignment, client)

    def _client(self, function: int, assignment: "Assignment") -> _Client:
        async def enabled() -> int:
            # A reset that came before the command is not to be taken for one that came after it.
            if await self._load(function, "events") & MailboxEvent.DATA_RESET:
                await self._store(function, "events", MailboxEvent.DATA_RESET)
                await self._queues_reset(function, control)
            return await self._load(function, "queue_enables")

        control = NetControl(
            lambda name, value: self._store(function, name, value),
            lambda: assignment.control,
            self._hypervisor.config.nic.queue_pairs,
            mac=lambda: assignment.mac,
            set_mac=lambda mac: self._hypervisor.set_mac(assignment, mac),
            vlans=assignment.vlans,
            clock_mhz=self._hypervisor.costs.clock_mhz,
            enabled=enabled,
            receiving=lambda: self._load(function, "receiving"),
        )
        return _Client(control)

    async def _queues_reset(self, function: int, control: NetControl) -> None:
        """Data queues were reset; they may be enabled again."""
        reset = await self._load(function, "queue_resets")
        await self._store(function, "queue_resets", reset)
        queues = range(2 * self._hypervisor.config.nic.queue_pairs)
        await control.coalescing.restore(n for n in queues if reset >> n & 1)

    async def _commands(self, function: int, assignment: "Assignment", client: _Client) -> None:
        """Answer commands of a control queue, and interrupt its driver."""
        if client.queue is None:
            size = await self._load(function, "control_size")
            if not size:
                return
            areas = {
                area: await self._load_long(function, f"control_{area}")
                for area in ("desc", "driver", "device")
            }
            access = self._access(assignment)
            client.queue = ControlQueue(access, client.features, size=size, **areas)

        async def answer(kind: int, command: int, data: bytes):
            self.commands += 1
            return await client.control.answer(kind, command, data)

        wanted, more = await client.queue.serve(answer, client.control.settled, _COMMANDS)
        if more:
            self._left.add(function)
        if client.queue.holds and function not in self._held:
            self._held.add(function)
            self._port.spawn(self._look_again(function), "a command that is held")
        if wanted:
            await self._store(function, "control_vector", 0)

    # Memory --------------------------------------------------------------------------------------

    def _access(self, assignment: "Assignment") -> GuestAccess:
        """A guest's memory as its device addresses it."""
        hypervisor, memory = self._hypervisor, assignment.vm.pages

        def pieces(iova: int, size: int, write: bool) -> list[tuple[int, int]] | None:
            """GPA and bytes of each part, ``None`` if the guest has not all of them."""
            found, done = [], 0
            while done < size:
                part = min(size - done, KIB_4 - (iova + done) % KIB_4)
                gpa = hypervisor.guest_address(assignment, iova + done, write=write)
                if gpa is None or not memory.owns(gpa):
                    return None
                found.append((gpa, part))
                done += part
            return found

        def read(iova: int, size: int) -> bytes | None:
            found = pieces(iova, size, False)
            if found is None:
                return None
            return b"".join(memory.load(gpa, part) for gpa, part in found)

        def write(iova: int, data: bytes) -> bool:
            found = pieces(iova, len(data), True)
            if found is None:
                return False
            done = 0
            for gpa, part in found:
                memory.store(gpa, data[done : done + part])
                done += part
            return True

        return GuestAccess(read, write)
