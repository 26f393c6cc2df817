"""The PF's mailbox: what functions have for the hypervisor's software, and their control queues."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosim.hypervisor.control_queue import ControlQueue, GuestAccess
from cosim.hypervisor.memory import NotGuestMemory
from cosim.hypervisor.net_control import NetControl
from models.pagetable import KIB_4
from models.spec.nic import (
    MANAGEMENT,
    MSIX_ENTRY_BYTES,
    MSIX_TABLE_OFFSET,
    FunctionControl,
    MailboxEvent,
    bar_base,
    function_block,
)
from models.spec.virtio import MSI_NO_VECTOR

if TYPE_CHECKING:
    from cosim.hypervisor.hypervisor import Assignment, Hypervisor

__all__ = ["Mailbox"]

_PF = 0


@dataclass
class _Client:
    """A function whose control queue is served."""

    control: NetControl
    features: int = 0
    queue: ControlQueue | None = None


class Mailbox:
    """Serves the events of all functions, one at a time, by the PF's last vector.

    A guest that is given the PF itself has that vector: there is no mailbox then.

    Parameters
    ----------
    hypervisor : Hypervisor
    """

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor, self._port = hypervisor, hypervisor.port
        self._wake = self._port.event()
        self._clients: dict[int, _Client] = {}
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

    async def _load(self, function: int, name: str) -> int:
        return await self._port.mmio_read("nic", function_block(function) + MANAGEMENT[name].offset)

    async def _store(self, function: int, name: str, value: int) -> None:
        offset = function_block(function) + MANAGEMENT[name].offset
        await self._port.mmio_write("nic", offset, value)

    async def _load_long(self, function: int, name: str) -> int:
        low = await self._load(function, f"{name}_low")
        return low | await self._load(function, f"{name}_high") << 32

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._port.sleep(self._hypervisor.costs.interrupt)
            while found := await self._load(_PF, "mailbox"):
                function = found - 1
                events = MailboxEvent(await self._load(function, "events"))
                await self._store(function, "events", events)
                await self._handle(function, events)

    async def _handle(self, function: int, events: MailboxEvent) -> None:
        try:
            assignment = self._hypervisor.assignment(function)
        except KeyError:
            self._clients.pop(function, None)
            return
        client = self._clients.get(function)
        if client is None or events & MailboxEvent.RESET:
            client = self._client(function, assignment)
            self._clients[function] = client
            await client.control.reset()
        if events & (MailboxEvent.READY | MailboxEvent.QUEUE_RESET):
            client.queue = None
        if events & MailboxEvent.READY:
            client.features = await self._load_long(function, "features")
            await client.control.reset(client.features)
        if events & MailboxEvent.CONTROL:
            await self._commands(function, assignment, client)

    def _client(self, function: int, assignment: "Assignment") -> _Client:
        async def set_mac(mac: bytes) -> bool:
            trusted = not FunctionControl.from_bits(assignment.control).spoof_check
            if trusted:
                await self._hypervisor.set_mac(assignment, mac)
            return bool(trusted)

        return _Client(
            NetControl(
                lambda name, value: self._store(function, name, value),
                lambda: assignment.control,
                self._hypervisor.config.nic.queue_pairs,
                set_mac,
                assignment.vlans,
                clock_mhz=self._hypervisor.costs.clock_mhz,
            )
        )

    async def _commands(self, function: int, assignment: "Assignment", client: _Client) -> None:
        """Answer a control queue, and interrupt its driver."""
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
        before = self.commands

        async def answer(kind: int, command: int, data: bytes):
            self.commands += 1
            return await client.control.answer(kind, command, data)

        wanted = await client.queue.serve(answer)
        if wanted and self.commands > before:
            vector = await self._load(function, "control_vector")
            if vector != MSI_NO_VECTOR:
                await self._store(function, "interrupt", vector)

    def _access(self, assignment: "Assignment") -> GuestAccess:
        """A guest's memory as its device addresses it."""
        hypervisor, memory = self._hypervisor, assignment.vm.pages

        def pieces(iova: int, size: int, write: bool) -> list[tuple[int, int]] | None:
            found, done = [], 0
            while done < size:
                part = min(size - done, KIB_4 - (iova + done) % KIB_4)
                gpa = hypervisor.guest_address(assignment, iova + done, write=write)
                try:
                    if gpa is None:
                        return None
                    found.append((memory.make_resident(gpa), part))
                except NotGuestMemory:
                    return None
                done += part
            return found

        def read(iova: int, size: int) -> bytes | None:
            found = pieces(iova, size, False)
            if found is None:
                return None
            return b"".join(self._port.memory.read(spa, part) for spa, part in found)

        def write(iova: int, data: bytes) -> bool:
            found = pieces(iova, len(data), True)
            if found is None:
                return False
            done = 0
            for spa, part in found:
                self._port.memory.write(spa, data[done : done + part])
                done += part
            return True

        return GuestAccess(read, write)
