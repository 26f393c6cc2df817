"""Accesses of a VM's processor to paged memory: they cannot wait, so none of this does.

Guest software here is Python whose loads and stores return at once.  A page that is not there is
filled at once, and its time is owed (:meth:`cosim.hypervisor.vm.Vm.pay`).  If no frame is free, the
hypervisor carries the access out on the stored copy instead, as it would emulate an instruction.  A
store to a shared page gives the VM a copy of its own at once; until no translation of the shared
one is left, its doorbells are held back.  Software that asks first
(:meth:`cosim.hypervisor.paging.pager.Pager.prepare`) never meets the last case.
"""

from typing import TYPE_CHECKING

from cosim.hypervisor.paging.contents import Content, Operation, Page
from models.pagetable import KIB_4

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["ProcessorAccess"]


class ProcessorAccess:
    """Loads and stores by page.

    Parameters
    ----------
    pager : Pager
    """

    def __init__(self, pager: "Pager") -> None:
        self._pager = pager
        self._memory = pager.port.memory

    def _yield(self, page: Page) -> None:
        """Take a page out of an operation that lets it, and map it again."""
        if page.quiet is not None and page.quiet.yields:
            page.quiet = None
            self._pager.counts.rescued += 1
        content = page.content
        if content.frame is not None and page.quiet is None and not page.mapped:
            self._pager.stage.map(page, write=False)

    def _fill(self, content: Content) -> bool:
        """Let a content be resident; return whether it is."""
        if content.frame is not None:
            return True
        self._pager.counts.processor_faults += 1
        return self._pager.fill(content)

    def present(self, page: Page) -> int:
        """Fill and map a page; return its frame, ``MemoryError`` if none is free."""
        if not self._fill(page.content):
            raise MemoryError("The pager has no frame left")
        self._yield(page)
        assert page.content.frame is not None
        return page.content.frame

    def read(self, page: Page, offset: int, size: int) -> bytes:
        """Load bytes of one page."""
        content = page.content
        if not self._fill(content):
            self._pager.counts.emulated += 1
            return self._pager.stored(content)[offset : offset + size]
        self._yield(page)
        content.referenced = True
        assert content.frame is not None
        return self._memory.read(content.frame + offset, size)

    def write(self, page: Page, offset: int, data: bytes) -> None:
        """Store bytes into one page."""
        if page.content.shared:
            self._break(page)
        content = page.content
        if not self._fill(content):
            self._pager.counts.emulated += 1
            self.patch(page, offset, data)
            return
        self._yield(page)
        content.referenced = content.dirty = True
        assert content.frame is not None
        self._memory.write(content.frame + offset, data)

    def patch(self, page: Page, offset: int, data: bytes) -> None:
        """Store bytes without making the page resident if it is not."""
        content = page.content
        if content.frame is not None:
            self._memory.write(content.frame + offset, data)
            content.dirty = True
            return
        changed = bytearray(self._pager.stored(content))
        changed[offset : offset + len(data)] = data
        if content.copy is not None:
            self._pager.store.drop(content.copy)
        content.copy = self._pager.put(bytes(changed))

    def _break(self, page: Page) -> None:
        """Give a page that is shared a content of its own, and forget the other one's address."""
        pager, old = self._pager, page.content
        new = Content()
        data = self._memory.read(old.frame, KIB_4) if old.frame else pager.stored(old)
        if (frame := pager.take_frame()) is not None:
            self._memory.write(frame, data)
            pager.own(new, frame)
            new.dirty = True
        else:
            new.copy = pager.put(data)
        pager.stage.unmap(page)
        pager.show(page, new)
        pager.counts.breaks += 1
        pager.counts.at_once += 1
        page.quiet = operation = Operation(yields=False, ended=pager.port.event())
        vm = page.memory.vm
        vm.hold()

        async def forget() -> None:
            await pager.stage.forget([page])
            pager.stage.end(operation, [page])
            vm.release()

        pager.port.spawn(forget(), "break")
