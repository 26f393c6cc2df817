"""What a pager may do, and what it has done."""

from dataclasses import dataclass

__all__ = ["Mechanisms", "PagerCounts"]


@dataclass(frozen=True, kw_only=True)
class Mechanisms:
    """What the pager may do."""

    swap: bool = True
    compression: bool = False
    sharing: bool = False
    balloon: bool = False


@dataclass
class PagerCounts:
    """What the pager has done.

    ``device_faults`` are page requests, ``processor_faults`` exits of guests; ``evictions`` frames
    taken away, ``clean`` those of them that needed no write; ``breaks`` copies on write,
    ``at_once`` those of them for processors that had not asked; ``emulated`` accesses of processors
    for which no frame was free; ``rescued`` pages wanted again while they were being evicted or
    merged; ``merged`` pages that gave up a frame of their own; ``ballooned`` pages that guests gave
    back.
    """

    device_faults: int = 0
    processor_faults: int = 0
    evictions: int = 0
    clean: int = 0
    breaks: int = 0
    at_once: int = 0
    emulated: int = 0
    rescued: int = 0
    merged: int = 0
    ballooned: int = 0
