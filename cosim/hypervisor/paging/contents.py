"""Guest pages and what they show: contents, each resident, stored or both, each of any pages."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cosim.hypervisor.paging.page_store import Copy
from cosim.port import Event

if TYPE_CHECKING:
    from cosim.hypervisor.paging.memory import PagedMemory

__all__ = ["Content", "Operation", "Page"]


@dataclass(eq=False)
class Operation:
    """Why pages are unmapped for a while.

    ``yields``: whoever touches a page takes it out of the operation, which then leaves it alone;
    else he waits for ``ended``.
    """

    yields: bool
    ended: Event


@dataclass(eq=False)
class Page:
    """A page of a VM.

    ``mapped`` and ``writable`` are what the second-stage entry says.  ``quiet`` is the operation
    that has it unmapped.  ``stale``: a translation may be cached somewhere; ``maps`` counts how
    often it was mapped, so that an invalidation knows whether it was again meanwhile.
    """

    memory: "PagedMemory"
    gpa: int
    content: "Content"
    mapped: bool = False
    writable: bool = False
    quiet: Operation | None = None
    stale: bool = False
    maps: int = 0


@dataclass(eq=False)
class Content:
    """4096 bytes that one page shows, or several that share them.

    Neither ``frame`` nor ``copy``: zeros that nobody has written.  With both, ``copy`` is what
    ``frame`` holds unless ``dirty``.  Pages of a content with several are mapped read-only.  What
    is ``pinned`` is neither evicted nor shared.
    """

    pages: dict[Page, None] = field(default_factory=dict)
    frame: int | None = None
    copy: Copy | None = None
    dirty: bool = False
    referenced: bool = False
    pinned: bool = False
    arriving: Event | None = None
    digest: bytes = b""

    @property
    def shared(self) -> bool:
        """Whether several pages show it."""
        return len(self.pages) > 1

    @property
    def quiet(self) -> bool:
        """Whether any of its pages is in an operation."""
        return any(page.quiet is not None for page in self.pages)
