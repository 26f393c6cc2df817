"""Content-based page sharing: equal pages of all VMs in one frame, copied when one is written."""

import hashlib
from typing import TYPE_CHECKING

from cosim.hypervisor.paging.contents import Content, Operation, Page
from models.pagetable import KIB_4

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["Sharing"]

#: Pages merged at once: they wait for their invalidations together.
_BATCH = 32


class Sharing:
    """Looks for equal pages, merges them, and breaks them off again.

    A page is merged when two looks in a row find the same bytes.  Equal digests only nominate:
    bytes are compared once no device can write them any more.

    Parameters
    ----------
    pager : Pager
    scan_cycles : int
        From one look to the next.
    """

    def __init__(self, pager: "Pager", scan_cycles: int) -> None:
        self._pager, self._scan_cycles = pager, scan_cycles
        #: Pages that showed a shared, resident content, at most.
        self.shared_peak = 0

    @property
    def shared(self) -> int:
        """Pages that show a resident content which others show too."""
        shared = [content for content in self._pager.clock if content.shared]
        return sum(len(content.pages) for content in shared)

    async def run(self) -> None:
        """Look now and then."""
        while True:
            await self._pager.port.sleep(self._scan_cycles)
            await self.look()

    async def look(self) -> None:
        """Look at all resident pages once, and merge equal ones."""
        pager = self._pager
        groups: dict[bytes, list[Content]] = {}
        contents = list(pager.clock)
        costs = pager.costs
        if costs.service_cycles is None:
            await pager.port.sleep(costs.cycles(costs.page_copy_ns * len(contents)))
        for content in contents:
            if content.frame is None or content.quiet or content.pinned:
                continue
            data = pager.port.memory.read(content.frame, KIB_4)
            digest = hashlib.blake2b(data, digest_size=16).digest()
            if digest == content.digest:
                groups.setdefault(digest, []).append(content)
            content.digest = digest
        group: list[list[Content]] = []
        for equal in groups.values():
            if len(equal) > 1:
                equal.sort(key=lambda content: -len(content.pages))
                group.append(equal[:_BATCH])
            if sum(map(len, group)) >= _BATCH:
                await self._merge(group)
                group = []
        if group:
            await self._merge(group)

    async def _merge(self, groups: list[list[Content]]) -> None:
        """Merge each group into its first content."""
        pager = self._pager
        groups = [
            [c for c in group if c.frame and not c.quiet and not c.pinned] for group in groups
        ]
        pages = [
            page
            for group in groups
            for content in group
            if not content.shared
            for page in content.pages
        ]
        mapped = [page for page in pages if page.mapped]
        operation = await pager.stage.quiesce(pages, yields=True)
        for group in groups:
            if group:
                self._join(group[0], group[1:], operation)
        pager.stage.end(operation, pages)
        for page in mapped:
            if page.quiet is None and not page.mapped and page.content.frame is not None:
                pager.stage.map(page, write=False)
        self.shared_peak = max(self.shared_peak, self.shared)

    def _join(self, base: Content, others: list[Content], operation: Operation) -> None:
        """Let pages of the others show the base, as far as nobody can write either."""
        if not self._constant(base, operation):
            return
        pager = self._pager
        assert base.frame is not None
        data = pager.port.memory.read(base.frame, KIB_4)
        for content in others:
            if content is base or not self._constant(content, operation):
                continue
            assert content.frame is not None
            if pager.port.memory.read(content.frame, KIB_4) != data:
                continue
            pages = list(content.pages)
            if content.shared:  # mapped read-only, elsewhere: not worth the trouble
                continue
            for page in pages:
                pager.show(page, base)
                pager.counts.merged += 1

    def _constant(self, content: Content, operation: Operation) -> bool:
        """Whether nobody can write a content any more without the pager."""
        if content.frame is None or not content.pages:
            return False
        return content.shared or all(page.quiet is operation for page in content.pages)

    async def break_off(self, page: Page) -> None:
        """Give a page that is to be written a copy of its own; whoever has asked looks again."""
        pager, old = self._pager, page.content
        await pager.await_frame()
        operation = await pager.stage.quiesce([page], yields=False)
        costs = pager.costs
        if costs.service_cycles is None:
            await pager.port.sleep(costs.cycles(costs.page_copy_ns))
        if page.content is old and old.shared and old.frame is not None:
            frame = pager.take_frame()
            if frame is not None:
                pager.port.memory.write(frame, pager.port.memory.read(old.frame, KIB_4))
                new = Content(dirty=True)
                pager.own(new, frame)
                pager.show(page, new)
                pager.counts.breaks += 1
        pager.stage.end(operation, [page])
