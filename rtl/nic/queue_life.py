"""How queues of the common configuration start, and what a reset leaves."""

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux

from models.spec.nic import MailboxEvent
from models.spec.virtio import Feature
from rtl.nic.config_state import ERROR_WORD, QUEUE_SHIFT, QUEUE_WORDS, reset_row, reset_words
from rtl.nic.seams import QueueOp

if TYPE_CHECKING:
    from rtl.nic.common_config import CommonConfig

__all__ = ["QueueLife"]


class QueueLife:
    """States of :class:`~rtl.nic.common_config.CommonConfig` in which a queue is started, and in
    which a queue, or a function and its queues, are swept at the end of a reset.

    Latency
    -------
    A start takes eleven cycles, a sweep eight per queue.

    Parameters
    ----------
    owner : CommonConfig
    """

    def __init__(self, owner: "CommonConfig") -> None:
        self._owner = owner

    def end_reset(self, m: Module, function, queue, whole) -> None:
        """Begin to sweep a function, or a queue of it."""
        owner = self._owner
        words = owner.config.queues_per_function * QUEUE_WORDS
        m.d.sync += [
            owner.function.eq(function),
            owner.queue.eq(queue),
            owner.sweep_word.eq(Mux(whole, function * words, queue << QUEUE_SHIFT)),
            owner.sweep_left.eq(Mux(whole, words - 1, QUEUE_WORDS - 1)),
            owner.sweep_all.eq(whole),
        ]
        m.next = "SWEEP"

    def sweep(self, m: Module) -> None:
        """Give a queue, or a function and its queues, their state after a reset."""
        owner = self._owner
        per, word = owner.config.queues_per_function, owner.sweep_word[:QUEUE_SHIFT]
        with m.State("SWEEP"):
            m.d.comb += [
                owner.word_write.en.eq((word != ERROR_WORD) | owner.fresh),
                owner.word_write.addr.eq(owner.sweep_word),
            ]
            with m.Switch(word):
                for number, value in enumerate(reset_words(owner.config)):
                    with m.Case(number):
                        m.d.comb += owner.word_write.data.eq(value)
            m.d.sync += [
                owner.sweep_word.eq(owner.sweep_word + 1),
                owner.sweep_left.eq(owner.sweep_left - 1),
            ]
            with m.If(owner.sweep_left == 0):
                m.next = "SETTLE"
                m.d.comb += owner.fence.ended.eq(owner.sweep_fenced)
                m.d.sync += owner.sweep_fenced.eq(0)
                of_function, of_queue = (1 << per) - 1 << (owner.function * per), 1 << owner.queue
                m.d.comb += owner.forgotten.eq(Mux(owner.sweep_all, of_function, of_queue))
                m.d.sync += [
                    owner.enabled.eq(owner.enabled & ~owner.forgotten),
                    owner.resetting.eq(owner.resetting & ~owner.forgotten),
                    owner.failed.eq(owner.failed & ~owner.forgotten),
                    owner.was_reset.eq(
                        Mux(
                            owner.sweep_all,
                            owner.was_reset & ~owner.forgotten,
                            owner.was_reset | owner.forgotten,
                        )
                    ),
                ]
                told = Mux(
                    owner.sweep_all,
                    owner.posted.bit_select(owner.function, 1),
                    owner.queue_posted.bit_select(owner.function, 1) & owner.control.is_control,
                )
                with m.If(owner.sweep_all | owner.control.is_control):
                    m.d.sync += owner.queue_posted.bit_select(owner.function, 1).eq(0)
                m.d.comb += [
                    owner.post.en.eq(~owner.fresh & ~told),
                    owner.post.events.eq(
                        Mux(
                            owner.control.is_control,
                            MailboxEvent.QUEUE_RESET,
                            MailboxEvent.DATA_RESET,
                        )
                    ),
                    owner.control.forget.eq(Mux(owner.sweep_all, 1 << owner.function, 0)),
                ]
                with m.If(owner.sweep_all):
                    m.d.comb += owner.post.events.eq(MailboxEvent.RESET)
                    m.d.comb += [owner.row_write.en.eq(1), owner.row_write.data.eq(reset_row())]
                    # A read of device configuration that goes on meanwhile must notice changes.
                    with m.If(~owner.levelled.bit_select(owner.function, 1)):
                        generation = owner.row_read.data.config_generation
                        m.d.comb += owner.row_write.data.config_generation.eq(generation)
                    m.d.comb += owner.notice_done.eq(1 << owner.function)
                    for bits in (owner.reset, owner.driver_ok, owner.levelled, owner.posted):
                        m.d.sync += bits.bit_select(owner.function, 1).eq(0)

    def start(self, m: Module) -> None:
        """Send ENABLE with what is in the queue's words."""
        owner = self._owner
        command, features = owner.command.payload, owner.row_read.data.driver_features
        with m.State("GATHER"):
            m.d.comb += owner.word_read.addr.eq(owner.queue << QUEUE_SHIFT | owner.step)
            m.d.sync += [
                owner.step.eq(owner.step + 1),
                owner.gathered.eq(
                    Cat(
                        owner.gathered.as_value()[len(owner.word_read.data) :], owner.word_read.data
                    )
                ),
            ]
            with m.If(owner.step == QUEUE_WORDS):
                m.next = "START"
        with m.State("START"):
            m.d.comb += [
                owner.word_write.en.eq(1),
                owner.word_write.addr.eq(owner.queue << QUEUE_SHIFT | ERROR_WORD),
                owner.word_write.data.eq(0),
            ]
            m.d.sync += [
                owner.running.bit_select(owner.queue, 1).eq(1),
                owner.command.valid.eq(1),
                command.op.eq(QueueOp.ENABLE),
                command.queue.eq(owner.control.data_of(owner.queue)),
                command.size.eq(owner.gathered.size),
                command.desc.eq(owner.gathered.desc),
                command.driver.eq(owner.gathered.driver),
                command.device.eq(owner.gathered.device),
                command.event_idx.eq(features[Feature.RING_EVENT_IDX]),
                command.indirect.eq(features[Feature.RING_INDIRECT_DESC]),
                command.packed.eq(features[Feature.RING_PACKED]),
                command.mergeable.eq(features[Feature.NET_MRG_RXBUF]),
                command.in_order.eq(features[Feature.IN_ORDER]),
                command.offloads.csum.eq(features[Feature.NET_CSUM]),
                command.offloads.guest_csum.eq(features[Feature.NET_GUEST_CSUM]),
                command.offloads.tso4.eq(features[Feature.NET_HOST_TSO4]),
                command.offloads.tso6.eq(features[Feature.NET_HOST_TSO6]),
                command.offloads.ecn.eq(features[Feature.NET_HOST_ECN]),
            ]
            m.next = "SETTLE"
