"""From descriptors to DMA: frames that are sent (virtio 1.3, 5.1.6.2)."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal

from models.spec.config import NicConfig
from models.spec.nic import SEGMENTED_BYTES_MAX, QueueError
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.engine.build import Build
from rtl.nic.engine.records import HEADER_BYTES
from rtl.nic.seams import LARGE_BIT, LocalMemory

__all__ = ["SendBuild"]

#: Bytes of the longest chain of a frame that is cut into segments.
_LONGEST = HEADER_BYTES + SEGMENTED_BYTES_MAX


class SendBuild(Build):
    """Descriptors into slots.

    A frame that does not fit its slot goes on in the large buffer, if its function's driver leaves
    it to be cut into segments.  There is one such buffer: who finds it taken stays open and waits.

    Parameters and members are those of :class:`Build`.
    """

    def __init__(self, config: NicConfig):
        super().__init__(config, transmits=True)

    def kept(self) -> dict[str, Any]:
        """What is kept of a frame that may be cut, beside what is kept of all."""
        if not self.config.segmentation:
            return {}
        slot = HEADER_BYTES + self.config.frame_bytes
        return {
            "part": slot.bit_length(),  # bytes of the descriptor that were asked for
            "large": 1,  # it has the large buffer
        }

    def prepare(self, m: Module) -> None:
        """Know whose the large buffer is."""
        self.large, self.take_large = Signal(), Signal()  # it is somebody's; is taken
        self.thirst = Signal(self.queues)
        m.d.sync += [
            self.large.eq((self.large & ~self.large_back) | self.take_large),
            self.thirsty.eq(Mux(self.large, self.thirsty, 0) | self.thirst),
        ]

    def states(self, m: Module) -> None:
        """Add the states."""
        self._descriptor(m)

    def _descriptor(self, m: Module) -> None:
        """Ask for what one descriptor of a chain to be sent says."""
        s, entry, job, width = self.s, self.entry, self.job.payload, self.shapes.length
        room, piece, rest = Signal(17), Signal(width), Signal(width)
        overflows, drop, asks = Signal(), Signal(), Signal()
        position, pieces = Signal(width), Signal(self.shapes.piece)
        # It goes on in the large buffer; it will; it waits for that.
        beyond, splits, waits = Signal(), Signal(), Signal()
        mark = (entry.error != QueueError.NONE) | entry.absent
        meets = ~mark & ~drop & (piece != 0)
        end = HEADER_BYTES + self.config.frame_bytes
        self.fill_job(m)
        m.d.comb += [
            rest.eq(entry.length),
            room.eq(end - s.position),
            piece.eq(Mux(rest < room, rest, room)),
            overflows.eq((rest > room) & ~mark & ~splits),
            drop.eq(s.drop | overflows),
            asks.eq(self.asks(meets)),
            position.eq(s.position + Mux(meets, piece, 0)),
            pieces.eq(s.pieces + asks),
            job.iova.eq(entry.address),
            job.length.eq(piece),
            job.memory.eq(Mux(s.touch, LocalMemory.NOWHERE, s.frame.memory)),
            job.offset.eq(self.shapes.slot_base(s.frame.slot) + 4 + s.position),
        ]
        needs = meets & beyond & ~s.touch
        if self.config.segmentation:
            allowed = self.segmenting.bit_select(self.function, 1)
            m.d.comb += [
                beyond.eq(allowed & (s.position >= end)),
                splits.eq(allowed & ~beyond & (rest > room) & ~mark & ~s.drop),
                waits.eq(needs & ~s.large & self.large),
                self.takes_large.eq(s.large | self.take_large),
                rest.eq(entry.length - s.part),
                job.iova.eq(entry.address + s.part),
                room.eq(Mux(beyond, _LONGEST, end) - s.position),
                job.offset.eq(
                    Mux(
                        beyond,
                        1 << LARGE_BIT | (s.position - end + BEAT_BYTES)[:width],
                        self.shapes.slot_base(s.frame.slot) + 4 + s.position,
                    )
                ),
            ]
        with m.State("DESCRIPTOR"):
            with m.If(s.head == self.published):
                m.next = "SAVE"
            with m.Elif(waits):
                m.d.comb += self.thirst.eq(self.mine)
                m.next = "SAVE"
            with m.Else():
                m.d.comb += self.job.valid.eq(asks)
                with m.If(self.job.ready):
                    m.d.sync += [
                        s.position.eq(position),
                        s.seen.eq(s.seen + meets),
                        s.pieces.eq(pieces),
                        s.drop.eq(drop),
                    ]
                    if self.config.segmentation:
                        m.d.comb += self.take_large.eq(needs & ~s.large)
                        m.d.sync += [
                            s.large.eq(s.large | needs),
                            s.part.eq(Mux(splits, s.part + piece, 0)),
                        ]
                    with m.If(~splits):
                        self.use(m)
                    with m.If(entry.last & ~splits):
                        self.close(
                            m, pieces, error=entry.error, absent=entry.absent, drop=drop,
                            length=position,
                        )  # fmt: skip
                        m.d.comb += self.block.eq(self.mine)
                        m.next = "OPEN"
