"""What a hostile driver asks for of interrupts, and what it then has to have."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import DESCRIPTOR_BYTES, Virtqueue
from cosim.nic_fuzz.wrong import Wrong
from models.memory import ByteMemory
from models.spec.virtio import (
    AVAIL_F_NO_INTERRUPT,
    DescriptorFlag,
    EventFlags,
    EventSuppression,
    PackedDescriptor,
    used_event_offset,
)

__all__ = ["EVERY", "NONE", "Wish", "draw_wish", "judge"]

#: What a driver asks for: every interrupt, none; else, with EVENT_IDX, one after so many more.
EVERY, NONE = -1, -2
_WRAP = 0xFFFF
_MARKS = DescriptorFlag.AVAIL | DescriptorFlag.USED


def draw_wish(rng: Random) -> int:
    """What a step asks for."""
    return rng.choice((EVERY, EVERY, NONE, 0, 0, 1, 2, 4))


@dataclass
class Wish:
    """What the driver of an idle queue asks for (virtio 1.3, 2.7.7, 2.8.14).

    Parameters
    ----------
    memory : ByteMemory
        The guest's.
    queue : Virtqueue
    wanted : int
        Without EVENT_IDX, a number asks for every interrupt; a split queue with it cannot ask for
        every one, and asks for the next.
    """

    memory: ByteMemory
    queue: Virtqueue
    wanted: int

    def __post_init__(self) -> None:
        queue, split = self.queue, isinstance(self.queue, SplitQueue)
        if not queue.options.event_idx:
            self.wanted = min(self.wanted, EVERY)
        elif split and self.wanted == EVERY:
            self.wanted = 0
        if split:
            self._before = self._used_index()
            self._store_split()
        else:
            self._before = self._position
            self._store_packed()

    def _used_index(self) -> int:
        return int.from_bytes(self.memory.read(self.queue.areas[2][0] + 2, 2), "little")

    def _store_split(self) -> None:
        queue, driver = self.queue, self.queue.areas[1][0]
        if queue.options.event_idx:
            # Of what has gone by there is none.
            event = self._before + (-1 if self.wanted == NONE else self.wanted) & _WRAP
            self.memory.write(driver + used_event_offset(queue.size), event.to_bytes(2, "little"))
            return
        flags = AVAIL_F_NO_INTERRUPT if self.wanted == NONE else 0
        self.memory.write(driver, int(flags).to_bytes(2, "little"))

    @property
    def _position(self) -> int:
        """Where the next descriptor of a packed queue goes."""
        assert isinstance(self.queue, PackedQueue)
        return self.queue.next_position

    def _wrap(self, position: int) -> bool:
        return not position // self.queue.size & 1

    def _store_packed(self) -> None:
        fields = {"flags": EventFlags.DISABLE if self.wanted == NONE else EventFlags.ENABLE}
        if self.wanted >= 0:
            position = self._before + self.wanted % self.queue.size
            fields = {
                "offset": position % self.queue.size,
                "wrap": int(self._wrap(position)),
                "flags": EventFlags.DESC,
            }
        raw = EventSuppression.const(fields).as_bits().to_bytes(4, "little")
        self.memory.write(self.queue.areas[1][0], raw)

    def _any_used(self) -> bool:
        """Whether the first chain of a packed queue has come back."""
        place = self.queue.areas[0][0] + DESCRIPTOR_BYTES * (self._before % self.queue.size)
        raw = int.from_bytes(self.memory.read(place, DESCRIPTOR_BYTES), "little")
        flags = PackedDescriptor.from_bits(raw).flags
        return flags & _MARKS == (_MARKS if self._wrap(self._before) else 0)

    def bounds(self, *, finished: bool) -> tuple[int, int]:
        """Least and most interrupts that what has come back brings.

        Parameters
        ----------
        finished : bool
            Whether all chains of a packed queue have come back.
        """
        queue = self.queue
        if isinstance(queue, SplitQueue):
            used = self._used_index() - self._before & _WRAP
        elif not self._any_used():
            used = 0
        elif finished:
            used = self._position - self._before
        elif self.wanted > 0:
            return 0, 1  # how far is not to be seen
        else:
            used = queue.size  # no more
        if self.wanted == NONE or not used:
            return 0, 0
        if self.wanted == EVERY:
            return 1, used
        past = int(
            used > (self.wanted if isinstance(queue, SplitQueue) else self.wanted % queue.size)
        )
        return past, past


def judge(
    came: Counter[int], vector: int | None, bounds: tuple[int, int], changes: int, config: int
) -> None:
    """See that a driver has had the interrupts that it wants, and no others.

    Parameters
    ----------
    came : Counter
        Messages that came, by vector.
    vector : int or None
        Of the one queue that was used, if its interrupts are known.
    bounds : tuple of int
        Least and most that it may have.
    changes, config : int
        Configuration changes that the driver must be told of, and their vector.

    Raises
    ------
    Wrong
        If there is one too few or too many.
    """
    if came[config] != changes:
        raise Wrong("interrupts", f"{came[config]} configuration changes, not {changes}")
    if vector is not None and not bounds[0] <= came[vector] <= bounds[1]:
        raise Wrong(
            "interrupts", f"vector {vector}: {came[vector]}, not {bounds[0]} to {bounds[1]}"
        )
    others = {one: count for one, count in (+came).items() if one not in (vector, config)}
    if vector is not None and others:
        raise Wrong("interrupts", f"of queues that were not used, by vector: {others}")
