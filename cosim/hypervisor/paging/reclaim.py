"""Eviction: victims by second chance, taken away under active DMA, and only then reused."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cosim.hypervisor.paging.contents import Content, Operation, Page
from models.pagetable import KIB_4, PageFlags

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["Reclaim"]

#: Frames freed at once: the wait for invalidations is shared.
_BATCH = 16
#: Processors of the host that compress.
_COMPRESSORS = 4
#: Cycles until the next try when nothing could be evicted.
_PAUSE = 500


class Reclaim:
    """Keeps some frames free.

    Parameters
    ----------
    pager : Pager
    """

    def __init__(self, pager: "Pager") -> None:
        self._pager = pager
        frames = pager.memory_bytes // KIB_4
        #: It begins with fewer free frames than ``low``, and ends with ``high``.
        self.low, self.high = max(2, frames // 16), max(4, frames // 8)
        self._wake = pager.port.event()

    def kick(self) -> None:
        """Let it look whether frames are wanted."""
        self._wake.set()

    async def run(self) -> None:
        """Evict whenever there are too few free frames."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pager.free < self.high:
                if not await self.evict(min(_BATCH, self.high - self._pager.free)):
                    await self._pager.port.sleep(_PAUSE)

    def victims(self, count: int) -> tuple[list[Content], list[Page]]:
        """Choose contents; return them, and pages that got a second chance.

        The hand passes a content that was used since it last came by, by the A bits of its second
        stage entries where hardware keeps them; a lap later nobody is spared.
        """
        clock, found, spared = self._pager.clock, [], []
        for _ in range(2 * len(clock)):
            if len(found) == count or not clock:
                break
            content = next(iter(clock))
            del clock[content]
            clock[content] = None  # behind the hand
            if content.pinned or content.quiet or content in found:
                continue
            if self._pager.tracks and self._used(content, spared):
                continue
            found.append(content)
        return found, spared

    def _used(self, content: Content, spared: list[Page]) -> bool:
        """Whether a content was used; clears what tells."""
        used, content.referenced = content.referenced, False
        for page in content.pages:
            if page.mapped:
                leaf = page.memory.table.walk(page.gpa)
                assert leaf is not None
                if leaf.flags & PageFlags.A:
                    page.memory.table.protect(page.gpa, leaf.flags & ~PageFlags.A)
                    spared.append(page)
                    used = True
        return used

    async def evict(self, count: int) -> int:
        """Evict up to ``count`` frames; return how many."""
        return await self.take(*self.victims(count))

    async def take(self, found: list[Content], spared: Sequence[Page] = ()) -> int:
        """Evict contents, none of them pinned or quiet; return how many frames that has freed.

        Translations of ``spared`` are forgotten with theirs.
        """
        pager = self._pager
        if not found:
            await pager.stage.forget(spared)
            return 0
        pages = [page for content in found for page in content.pages]
        operation = await self._quiesce(pages, spared)
        found = [content for content in found if self._still(content, operation)]
        freed = 0
        pressed = pager.mechanisms.compression
        ns = pager.costs.compress_ns if pressed else pager.costs.swap_write_ns
        at_once = _COMPRESSORS if pressed else _BATCH
        for first in range(0, len(found), at_once):
            part = found[first : first + at_once]
            await pager.port.sleep(max(self._cost(content, ns) for content in part))
            freed += sum([self._store(content, operation) for content in part])
        pager.stage.end(operation, pages)
        return freed

    async def _quiesce(self, pages: list[Page], spared: Sequence[Page]) -> Operation:
        """Quiesce the victims' pages; the others' translations are forgotten with theirs."""
        operation = Operation(yields=True, ended=self._pager.port.event())
        for page in pages:
            self._pager.stage.unmap(page)
            page.quiet = operation
        await self._pager.stage.forget([*pages, *spared])
        return operation

    def _still(self, content: Content, operation: Operation) -> bool:
        """Whether nobody has wanted any of its pages."""
        return bool(content.pages) and all(page.quiet is operation for page in content.pages)

    def _cost(self, content: Content, ns: int) -> int:
        """Cycles to store a content, if that is necessary and takes ``ns``."""
        costs = self._pager.costs
        needed = content.dirty or content.copy is None
        return costs.cycles(ns) if needed and costs.service_cycles is None else 0

    def _store(self, content: Content, operation: Operation) -> bool:
        """Store a content and free its frame, unless it is wanted again."""
        pager = self._pager
        if not self._still(content, operation) or content.frame is None:
            return False
        data = pager.port.memory.read(content.frame, KIB_4)
        if content.copy is not None and not content.dirty:
            pager.store.verify(content.copy, data)
            pager.counts.clean += 1
        else:
            if content.copy is not None:
                pager.store.drop(content.copy)
                content.copy = None
        content.dirty = content.referenced = False
        pager.give_frame(content)
        if content.copy is None and any(data):
            content.copy = pager.put(data)
        pager.counts.evictions += 1
        return True
