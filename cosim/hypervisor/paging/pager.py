"""Serves faults on guest pages, of devices and of processors, within a limit of host memory.

Every change of state is made in one go, without waiting; whoever has waited looks again.
"""

from collections.abc import Iterable, Sequence

from cosim.hypervisor.hypervisor import Assignment, Hypervisor
from cosim.hypervisor.memory import NotGuestMemory, VmMemory, read_only_table
from cosim.hypervisor.paging.contents import Content, Page
from cosim.hypervisor.paging.mechanisms import Mechanisms, PagerCounts
from cosim.hypervisor.paging.memory import PagedMemory
from cosim.hypervisor.paging.page_store import Copy, PageStore
from cosim.hypervisor.paging.processor import ProcessorAccess
from cosim.hypervisor.paging.reclaim import Reclaim
from cosim.hypervisor.paging.second_stage import SecondStage
from cosim.hypervisor.paging.sharing import Sharing
from cosim.hypervisor.paging.swap_file import SwapFile
from cosim.hypervisor.vm import Vm
from models.pagetable import KIB_4
from models.spec.iommu import Atp

__all__ = ["Pager"]

#: Share of memory for compressed pages: a quarter (Linux' zswap has a fifth).
_POOL_SHARE = 4


class Pager:
    """One host's.

    Parameters
    ----------
    hypervisor : Hypervisor
        Whose VMs have its memory.
    memory_bytes : int
        Most bytes of guests' pages and compressed pages together.  At least 16 pages.
    mechanisms : Mechanisms
    swap : SwapFile or None
        ``None`` makes one.
    scan_cycles : int
        From one search for equal pages to the next.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        memory_bytes: int,
        mechanisms: Mechanisms | None = None,
        *,
        swap: SwapFile | None = None,
        scan_cycles: int = 20_000,
    ) -> None:
        if memory_bytes < 16 * KIB_4:
            raise ValueError(f"A pager needs 16 pages of {KIB_4} bytes, not {memory_bytes} bytes")
        self.hypervisor, self.port, self.costs = hypervisor, hypervisor.port, hypervisor.costs
        self.memory_bytes, self.mechanisms = memory_bytes, mechanisms or Mechanisms()
        pool = memory_bytes // _POOL_SHARE if self.mechanisms.compression else 0
        self.store = PageStore(swap or SwapFile(), pool)
        #: Whether hardware keeps A and D bits; without, eviction is by age, and writes all pages.
        self.tracks = hypervisor.config.iommu.amo_hwad
        self.counts = PagerCounts()
        self.frames = 0
        #: Bytes of frames and compressed pages at most.
        self.resident_peak = 0
        #: Contents with a frame, in the order in which the clock's hand meets them.
        self.clock: dict[Content, None] = {}
        self._freed = self.port.event()
        self.stage = SecondStage(self)
        self.cpu = ProcessorAccess(self)
        self.reclaim = Reclaim(self)
        self.sharing = Sharing(self, scan_cycles)

    def start(self) -> None:
        """Begin to evict and to share."""
        if self.mechanisms.swap:
            self.port.spawn(self.reclaim.run(), "reclaim")
        if self.mechanisms.sharing:
            self.port.spawn(self.sharing.run(), "sharing")

    def new_vm(self, name: str, memory_bytes: int) -> Vm:
        """Make a VM whose memory this pager has, nothing of it resident."""
        memory = PagedMemory(self, memory_bytes)
        memory.vm = self.hypervisor.new_vm(name, memory_bytes, memory=memory)
        return memory.vm

    # Frames --------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Frames that may still be taken."""
        return (self.memory_bytes - self.store.pool_bytes) // KIB_4 - self.frames

    @property
    def resident_bytes(self) -> int:
        """Bytes of frames and of compressed pages."""
        return self.frames * KIB_4 + self.store.pool_bytes

    def take_frame(self) -> int | None:
        """Return a zeroed frame, ``None`` if there is none."""
        if self.free <= 0:
            self.reclaim.kick()
            return None
        self.frames += 1
        self.resident_peak = max(self.resident_peak, self.resident_bytes)
        if self.free < self.reclaim.low:
            self.reclaim.kick()
        return self.hypervisor.pages.allocate(1)

    async def await_frame(self) -> None:
        """Wait until a frame may be taken."""
        while self.free <= 0:
            if not self.mechanisms.swap:
                raise MemoryError("The pager has no frame left, and may not swap")
            self.reclaim.kick()
            self._freed.clear()
            await self._freed.wait()

    def give_frame(self, content: Content) -> None:
        """Free a content's frame, which nothing can access any more."""
        assert content.frame is not None
        self.hypervisor.pages.free(content.frame)
        content.frame = None
        del self.clock[content]
        self.frames -= 1
        self._freed.set()

    def own(self, content: Content, frame: int) -> None:
        """Let a frame be a content's."""
        content.frame = frame
        self.clock[content] = None

    def put(self, data: bytes) -> Copy:
        """Store a page, compressed if there is room for that."""
        copy = self.store.put(data, pooled=self.free > 0)
        self.resident_peak = max(self.resident_peak, self.resident_bytes)
        return copy

    def stored(self, content: Content) -> bytes:
        """Return what a content without a frame holds."""
        return bytes(KIB_4) if content.copy is None else self.store.get(content.copy)

    def fill(self, content: Content) -> bool:
        """Give a content a frame with its bytes, at once; return whether there was one."""
        frame = self.take_frame()
        if frame is None:
            return False
        self.port.memory.write(frame, self.stored(content))
        self.own(content, frame)
        content.dirty = False
        if content.copy is not None and not (self.tracks and content.copy.slot is not None):
            # Only a slot, and only if it is known whether the page was written, is kept with it.
            self.store.drop(content.copy)
            content.copy = None
        return True

    def show(self, page: Page, content: Content) -> None:
        """Let a page show another content; what nobody shows any more is forgotten."""
        old, page.content = page.content, content
        del old.pages[page]
        content.pages[page] = None
        if old.pages:
            return
        if old.frame is not None:
            self.give_frame(old)
        if old.copy is not None:
            self.store.drop(old.copy)
            old.copy = None

    # Faults --------------------------------------------------------------------------------------

    def service(self, content: Content) -> int:
        """Cycles to make a content resident and map it."""
        costs = self.costs
        if costs.service_cycles is not None:
            return costs.service_cycles
        ns = costs.map_ns
        if content.frame is not None:
            ns += costs.page_copy_ns * content.shared
        elif content.copy is None:
            ns += costs.page_copy_ns
        else:
            ns += costs.decompress_ns if content.copy.blob is not None else costs.swap_read_ns
        return costs.cycles(ns)

    async def serve(self, memory: VmMemory, gpa: int, *, write: bool) -> bool:
        """Serve a page request; return whether the guest has that memory."""
        assert isinstance(memory, PagedMemory)
        self.counts.device_faults += 1
        try:
            page = memory.page(gpa)
        except NotGuestMemory:
            return False
        await self.make_present(page, write=write)
        return True

    async def pin(self, memory: VmMemory, ranges: Iterable[tuple[int, int]]) -> None:
        """Let pages stay where they are from now on."""
        assert isinstance(memory, PagedMemory)
        ranges = list(ranges)
        await self.prepare(memory, ranges)
        for gpa, size in ranges:
            for at, _ in memory.pieces(gpa, size):
                memory.page(at).content.pinned = True

    async def pin_walk(self, assignment: Assignment, iova: int) -> None:
        """Pin the tables of a guest's first stage that translate an address.

        Messages of a function are written untranslated, and nobody waits for a page that they need:
        the tables for them must stay.
        """
        memory, read = assignment.vm.pages, []

        def load(gpa: int, size: int) -> bytes:
            read.append((gpa, size))
            return memory.load(gpa, size)

        read_only_table(load, Atp.from_bits(assignment.first_stage).ppn << 12).walk(iova)
        await self.pin(memory, read)

    async def discard(self, pages: Sequence[Page]) -> None:
        """Forget what pages hold; they are zeros if they are touched again."""
        operation = await self.stage.quiesce(pages, yields=False)
        for page in pages:
            self.show(page, Content())
        self.stage.end(operation, pages)

    async def prepare(self, memory: VmMemory, ranges: Iterable[tuple[int, int]]) -> None:
        """Return when a VM's processor can write all of some ranges without an exit.

        They stay so until the caller waits again.
        """
        assert isinstance(memory, PagedMemory)
        pages = {
            memory.page(at): None for gpa, size in ranges for at, _ in memory.pieces(gpa, size)
        }
        while missing := [page for page in pages if not memory.ready(page.gpa, write=True)]:
            for page in missing:
                memory.vm.exit("page_fault")
                self.counts.processor_faults += 1
                await memory.vm.pay()
                await self.make_present(page, write=True)

    async def make_present(self, page: Page, *, write: bool) -> None:
        """Return when a page is mapped with the rights that are wanted."""
        while True:
            content = page.content
            if page.quiet is not None:
                if page.quiet.yields:
                    page.quiet = None
                    self.counts.rescued += 1
                else:
                    await page.quiet.ended.wait()
            elif content.frame is None:
                await self._bring(content)
            elif write and content.shared:
                await self.sharing.break_off(page)
            elif not page.mapped:
                await self.port.sleep(self.service(content))
                if page.quiet is None and page.content.frame is not None and not page.mapped:
                    self.stage.map(page, write=write)
            elif write and not page.writable:  # it was shared, and the others have left
                operation = await self.stage.quiesce([page], yields=False)
                self.stage.end(operation, [page])
            else:
                return

    async def _bring(self, content: Content) -> None:
        """Give a content a frame, once however many want it."""
        if content.arriving is not None:
            await content.arriving.wait()
            return
        content.arriving = arriving = self.port.event()
        await self.port.sleep(self.service(content))
        await self.await_frame()
        if content.frame is None and content.pages:
            self.fill(content)
        content.arriving = None
        arriving.set()
