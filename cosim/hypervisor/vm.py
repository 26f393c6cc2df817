"""Virtual machines: memory with exits on first touch, interrupts, counted exits."""

from collections import Counter, deque
from collections.abc import Callable

from cosim.hypervisor.costs import Costs
from cosim.hypervisor.memory import HostPages, VmMemory
from cosim.port import Port
from models.pagetable import KIB_4

__all__ = ["MESSAGE_GPA", "RAM_GPA", "GuestMemory", "Vm"]

#: Where a guest sees its RAM, and the page of its interrupt file.
RAM_GPA = 0x8000_0000
MESSAGE_GPA = 0x2800_0000


class GuestMemory:
    """A VM's memory as its own processor sees it; a :class:`models.memory.ByteMemory` by GPA.

    The first touch of a page that is not resident is an exit; its cost is owed until the guest
    next pays (:meth:`Vm.pay`).
    """

    def __init__(self, vm: "Vm", memory: VmMemory) -> None:
        self._vm, self._memory = vm, memory
        self.base, self.size = memory.base, memory.size

    def _touch(self, gpa: int, *, write: bool) -> None:
        if not self._memory.ready(gpa, write=write):
            work = self._memory.service(gpa, self._vm.costs)
            self._vm.exit("page_fault", work=work)

    def read(self, address: int, size: int) -> bytes:
        """Load bytes; ``ValueError`` if they are not the VM's."""
        found = []
        for gpa, part in self._memory.pieces(address, size):
            self._touch(gpa, write=False)
            found.append(self._memory.load(gpa, part))
        return b"".join(found)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes, likewise."""
        done = 0
        for gpa, part in self._memory.pieces(address, len(data)):
            self._touch(gpa, write=True)
            self._memory.store(gpa, data[done : done + part])
            done += part


class Vm:
    """One virtual machine.

    Interrupts come as messages to a page of its own, which stands for its processor's guest
    interrupt file (AIA): hardware delivers them without an exit.  Its processor is its own: waiting
    is not an exit.

    Parameters
    ----------
    port : Port
    pages : HostPages
    costs : Costs
    name : str
    number : int
        GSCID.
    memory_bytes : int
        RAM.
    memory : VmMemory or None
        That RAM, if another has made it.
    message_gpa : int or None
        Where it sees its interrupt file; ``None`` if its addresses are the system's.
    """

    def __init__(
        self,
        port: Port,
        pages: HostPages,
        costs: Costs,
        *,
        name: str,
        number: int,
        memory_bytes: int,
        memory: VmMemory | None = None,
        message_gpa: int | None = MESSAGE_GPA,
    ) -> None:
        self.port, self.costs, self.name, self.gscid = port, costs, name, number
        self.pages = memory or VmMemory(port.memory, pages, RAM_GPA, memory_bytes)
        self.memory = GuestMemory(self, self.pages)
        #: Exits by cause, counted where they happen.
        self.exits: Counter[str] = Counter()
        #: Messages delivered, by vector.
        self.interrupts: Counter[int] = Counter()
        self._owed = self._held = 0
        self._posts: deque[Callable[[], None]] = deque()
        self._handlers: dict[int, Callable[[], None]] = {}
        #: Host address of the interrupt file.
        self.message_page = pages.allocate(1)
        self.message_gpa = self.message_page if message_gpa is None else message_gpa
        if message_gpa is not None:
            self.pages.map_device(message_gpa, self.message_page)
        port.on_message(self.message_page, KIB_4, self._message)

    def exit(self, cause: str, *, work: int = 0) -> None:
        """Count an exit; its cycles, and those of the work done there, are owed."""
        self.exits[cause] += 1
        self._owed += self.costs.exit + work

    async def pay(self) -> None:
        """Let the cycles pass that exits have taken from the guest."""
        owed, self._owed = self._owed, 0
        if owed:
            await self.port.sleep(owed)

    def hold(self) -> None:
        """Keep doorbells back until :meth:`release` was called as often."""
        self._held += 1

    def release(self) -> None:
        """Let doorbells go, those that were kept back first."""
        self._held -= 1
        while self._posts and not self._held:
            self._posts.popleft()()

    def post(self, ring: Callable[[], None]) -> None:
        """Ring a doorbell, now or once nothing holds it back."""
        self._posts.append(ring)
        if not self._held:
            self._posts.popleft()()

    def on_interrupt(self, identity: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` when the interrupt of that identity comes."""
        self._handlers[identity] = handler

    def _message(self, address: int, data: int, cycle: int) -> None:
        self.interrupts[data] += 1
        handler = self._handlers.get(data)
        if handler is not None:
            handler()
