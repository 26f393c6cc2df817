"""How a ring fetch takes descriptors: chains, tables, lists (virtio 1.3, 2.7.5 and 2.8.6)."""

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data

from models.spec.nic import QueueError
from models.spec.virtio import Descriptor, DescriptorFlag, PackedDescriptor
from rtl.nic.engine.records import (
    BUFFER,
    INNER_BEAT,
    INNER_WINDOW,
    RECEIVE_BUFFER,
    TABLE_BEAT,
    WINDOW,
    FetchPhase,
    advance,
)

if TYPE_CHECKING:
    from rtl.nic.engine.ring_fetch import RingFetch

__all__ = ["Chains"]

#: Heads no further apart than this are read with what lies between them.
_STRIDE = 4


class Chains:
    """States of a ring fetch from PARSE on: it comes there with what has been read of the ring.

    Parameters
    ----------
    fetch : RingFetch
    """

    def __init__(self, fetch: "RingFetch") -> None:
        self._fetch = fetch

    def add(self, m: Module) -> None:
        """Add the states to the machine that is being described."""
        self._parse(m)
        self._scan(m)
        self._descriptor(m)
        if self._fetch.config.packed:
            self._packed(m)

    def _publish(self, m: Module, to) -> None:
        fetch = self._fetch
        m.d.comb += [fetch.publish.eq(1), fetch.publish_to.eq(to)]
        m.d.sync += fetch.s.published.eq(to)

    def _parse(self, m: Module) -> None:
        """Find the next descriptor: of the chain, or of the next head."""
        fetch = self._fetch
        s, size = fetch.s, fetch.ring.size
        wanted, at, room, there = Signal(16), Signal(16), Signal(), Signal()
        waiting = Signal(fetch.shapes.buffer + 1)
        m.d.comb += [
            wanted.eq(
                Mux(
                    fetch.ring.packed & ~s.inner,
                    s.next[:15],
                    Mux(s.linked, s.link, fetch.entry),
                )
            ),
            at.eq(wanted - Mux(s.inner, s.inner_base, s.base)),
            there.eq(at < Mux(s.inner, s.inner_window, s.window)),
            waiting.eq(s.tail - fetch.head),
            room.eq(waiting < Mux(fetch.transmits, BUFFER, RECEIVE_BUFFER)),
        ]
        with m.State("PARSE"):
            fetch.beat(m, Mux(s.inner, INNER_BEAT, TABLE_BEAT) + at[:4])
            with m.If(~room):
                m.d.sync += fetch.stalled.eq(fetch.stalled | fetch.mine)
                m.next = "STALL"
            with m.Elif(s.error != QueueError.NONE):
                m.d.comb += [
                    fetch.put.eq(1),
                    fetch.put_entry.error.eq(s.error),
                    fetch.put_entry.last.eq(1),
                ]
                self._publish(m, s.tail + 1)
                m.d.sync += [s.tail.eq(s.tail + 1), s.error.eq(0), s.dead.eq(1)]
                m.next = "SAVE"
            if fetch.config.packed:
                with m.Elif(fetch.ring.packed & ~s.inner):
                    self._next_packed(m, wanted, there)
            with m.Elif(~s.linked & (s.left == 0)):
                m.next = "SAVE"
                with m.If(s.seen != s.next):
                    fetch.read_heads(m)
                with m.Elif(fetch.ring.event_idx | (fetch.rung & fetch.mine).any()):
                    fetch.read_index(m)
            with m.Elif(wanted >= Mux(s.inner, s.entries, size)):
                fetch.fail(m, Mux(s.inner, QueueError.BAD_INDIRECT, QueueError.BAD_HEAD))
            with m.Elif(s.linked & (s.count >= size)):
                fetch.fail(m, QueueError.BAD_CHAIN)
            with m.Elif(there):
                m.next = "DESCRIPTOR"
            with m.Elif(s.inner):
                left = s.entries - wanted
                m.d.sync += [
                    s.inner_base.eq(wanted),
                    s.inner_window.eq(Mux(left < INNER_WINDOW, left, INNER_WINDOW)),
                    s.phase.eq(FetchPhase.TABLE),
                ]
                m.next = "ISSUE"
            with m.Else():
                m.d.sync += [
                    s.base.eq(wanted),
                    s.window.eq(1),
                    fetch.scan.eq(wanted),
                    fetch.scan_at.eq(s.taken + 1),
                    fetch.others.eq(s.left - 1),
                ]
                m.next = "SCAN"
        # Room that appears before the queue is known to be stalled wakes nobody.
        with m.State("STALL"):
            m.next = "STALLED"
        with m.State("STALLED"):
            m.next = "SAVE"
            with m.If(room):
                m.d.sync += fetch.stalled.eq(fetch.stalled & ~fetch.mine & ~fetch.unstall)
                m.next = "PARSE"
            with m.Elif(s.linked & (s.published == fetch.head)):
                self._publish(m, s.tail)
                m.d.sync += s.exposed.eq(1)

    def _next_packed(self, m: Module, wanted, there) -> None:
        """Take the next descriptor of a packed ring, or read some from there to the ring's end."""
        fetch = self._fetch
        s, left = fetch.s, Signal(16)
        m.d.comb += left.eq(fetch.ring.size - wanted)
        with m.If(there):
            m.next = "PACKED"
        with m.Else():
            m.d.sync += [
                s.base.eq(wanted),
                s.window.eq(Mux(left < WINDOW, left, WINDOW)),
                s.phase.eq(FetchPhase.TABLE),
            ]
            m.next = "ISSUE"

    def _packed(self, m: Module) -> None:
        """Take a descriptor of a packed ring, if it is available (2.8.1)."""
        fetch = self._fetch
        s = fetch.s
        found = data.View(PackedDescriptor, fetch.scratch_data)
        wrap, size = ~s.next[15], fetch.ring.size
        available = found.flags[7] == wrap, found.flags[15] != wrap
        linked, taken = found.flags[0], Signal(16)
        lapped = s.next[15] != fetch.index[15]
        m.d.comb += taken.eq(s.next[:15] + Mux(lapped, size, 0) - fetch.index[:15])
        with m.State("PACKED"):
            m.next = "PARSE"
            with m.If(((available[0] & available[1]) | s.linked) & (taken >= size)):
                fetch.fail(m, Mux(s.linked, QueueError.BAD_CHAIN, QueueError.BAD_INDEX))
            with m.Elif(available[0] & available[1]):
                m.d.comb += fetch.put_entry.head.eq(found.id)
                following = advance(s.next, 1, fetch.ring)
                m.d.sync += [s.linked.eq(linked), s.next.eq(following), s.head.eq(found.id)]
                self._append(m, found, found.flags, linked, ends=~linked)
            with m.Elif(~s.fresh):  # it may have become so
                m.d.sync += s.window.eq(0)
            with m.Elif(s.linked):
                fetch.fail(m, QueueError.BAD_WRAP)
            with m.Else():
                m.d.sync += s.window.eq(0)
                m.next = "SAVE"
                fetch.ask(m)

    def _append(self, m: Module, found, flags, linked, *, ends) -> None:
        """Put a descriptor into the buffer, or enter the table that it is of."""
        fetch = self._fetch
        s, entry = fetch.s, fetch.put_entry
        packed = fetch.ring.packed
        count = Mux(s.linked, s.count, 0)
        indirect = (flags & int(DescriptorFlag.INDIRECT)).any() & ~(packed & s.inner)
        writable = (flags & int(DescriptorFlag.WRITE)).any()
        with m.If(indirect):
            self._enter(m, found.addr, found.len, linked | (packed & s.linked))
        with m.Elif(writable == fetch.transmits):
            fetch.fail(m, QueueError.BAD_CHAIN)
        with m.Else():
            m.d.comb += [
                fetch.put.eq(1),
                entry.address.eq(found.addr),
                entry.length.eq(Mux(found.len[len(entry.length) :].any(), -1, found.len)),
                entry.last.eq(ends),
                entry.span.eq(Mux(packed & ~s.inner, count + 1, 1)),
            ]
            m.d.sync += [s.tail.eq(s.tail + 1), s.count.eq(count + 1)]
            with m.If(ends):
                self._publish(m, s.tail + 1)
                m.d.sync += [s.exposed.eq(0), s.inner.eq(0)]

    def _scan(self, m: Module) -> None:
        """See which heads are near: the table is read from the first of them to the last.

        Mostly all are at one distance.  So behind the second the last one is looked at; only if it
        is not near, one after another.
        """
        fetch = self._fetch
        s = fetch.s
        head, span, step, reach = fetch.further, Signal(16), Signal(16), Signal(17)
        left = Signal(16)  # descriptors from the base to the table's end
        m.d.comb += [
            step.eq(head - fetch.scan),
            span.eq(head - s.base + step),  # with what may be linked to the last one
            reach.eq(step + s.window),  # likewise, behind the second
            left.eq(fetch.ring.size - s.base),
        ]
        near = (step != 0) & (step <= _STRIDE) & (head < fetch.ring.size)
        with m.State("SCAN"):
            with m.If(s.linked):
                m.d.sync += s.window.eq(Mux(left < _STRIDE, left, _STRIDE))
            with m.If(~s.linked & (fetch.others != 0) & near & (span <= WINDOW) & (span <= left)):
                m.d.sync += [
                    fetch.scan.eq(head),
                    fetch.scan_at.eq(fetch.scan_at + 1),
                    s.window.eq(span),
                    fetch.others.eq(fetch.others - 1),
                ]
                with m.If((fetch.others == s.left - 1) & (fetch.others != 1)):
                    m.d.sync += fetch.scan_at.eq(s.taken + s.left - 1)
                    m.next = "REACH"
            with m.Else():
                m.d.sync += s.phase.eq(FetchPhase.TABLE)
                m.next = "ISSUE"
        with m.State("REACH"):
            m.d.sync += fetch.scan_at.eq(s.taken + 2)
            m.next = "SCAN"
            with m.If((reach <= WINDOW) & (reach <= left)):
                m.d.sync += [s.window.eq(reach), s.phase.eq(FetchPhase.TABLE)]
                m.next = "ISSUE"

    def _descriptor(self, m: Module) -> None:
        """Take a descriptor; go on with what it links to, or the next head."""
        fetch = self._fetch
        s, packed = fetch.s, fetch.ring.packed
        found = data.View(Descriptor, fetch.scratch_data)
        inner = data.View(PackedDescriptor, fetch.scratch_data)
        flags = Mux(packed, inner.flags, found.flags)
        following = (s.link + 1)[:16]
        # All of a packed ring's table is the chain (2.8.7).
        linked = Mux(packed, following != s.entries, found.flags[0])
        with m.State("DESCRIPTOR"):
            m.next = "PARSE"
            m.d.comb += fetch.put_entry.head.eq(Mux(s.linked, s.head, fetch.entry))
            m.d.sync += [s.linked.eq(linked), s.link.eq(Mux(packed, following, found.next))]
            with m.If(~s.linked):
                m.d.sync += [
                    s.head.eq(fetch.entry),
                    s.taken.eq(s.taken + 1),
                    s.left.eq(s.left - 1),
                ]
            self._append(m, found, flags, linked, ends=~linked)

    def _enter(self, m: Module, table, length, broken) -> None:
        """Go on in an indirect table, which ends the chain (2.7.5.3, 2.8.7)."""
        fetch = self._fetch
        s, entries = fetch.s, length[4:]
        odd = broken | length[:4].any() | (entries == 0)
        if not fetch.config.indirect:
            fetch.fail(m, QueueError.BAD_FLAGS)
            return
        with m.If(~fetch.ring.indirect & ~s.inner):
            fetch.fail(m, QueueError.BAD_FLAGS)
        with m.Elif(s.inner | odd):
            fetch.fail(m, QueueError.BAD_INDIRECT)
        with m.Else():
            m.d.sync += [
                s.linked.eq(1),
                s.link.eq(0),
                s.inner.eq(1),
                s.table.eq(table),
                s.entries.eq(Mux(entries[16:].any(), 1 << 16, entries)),
                s.inner_window.eq(0),
                s.count.eq(Mux(s.linked, s.count, 0)),
            ]
