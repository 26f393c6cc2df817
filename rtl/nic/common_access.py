"""Accesses of software to the common configuration."""

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal

from models.spec.nic import DEVICE_OFFSET, MANAGEMENT, MailboxEvent, queue_error_offset
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus, Feature
from rtl.nic.config_access import FunctionRegisters, QueueRegisters, word_of
from rtl.nic.config_state import ERROR_WORD, QUEUE_SHIFT
from rtl.nic.register_map import BLOCK_BITS, PAGE_BITS, is_management

if TYPE_CHECKING:
    from rtl.nic.common_config import CommonConfig

__all__ = ["SoftwareAccess"]

#: Words of the common configuration.
_COMMON_WORDS = 1 + word_of("queue_reset")
#: First and last register of a block that tell how a control queue is set up: its size, its vector,
#: and its areas, which lie as in QueueWords.
_CONTROL_WORDS = ("control_size", "control_device_high")


class SoftwareAccess:
    """States of :class:`~rtl.nic.common_config.CommonConfig` in which a word is read or written.

    A function's row is read first; registers of the selected queue, and what a management block
    tells of queues, are in a word that is read then.

    Parameters
    ----------
    owner : CommonConfig
        Whose ``access`` it is.
    """

    def __init__(self, owner: "CommonConfig"):
        self.owner = owner

    def wire(self, m: Module) -> None:
        """Give both halves of the registers what they need."""
        owner = self.owner
        config, access = owner.config, owner.access
        m.submodules.function_registers = functions = FunctionRegisters(config)
        m.submodules.queue_registers = queues = QueueRegisters(config)
        self.functions, self.queues = functions, queues
        row, word = owner.row_read.data, access.addr[2:PAGE_BITS]
        m.d.comb += [
            functions.word.eq(word),
            functions.row.eq(row),
            functions.row.isr.eq(owner.isr),
            owner.mac_of.eq(owner.function),
            functions.mac.eq(owner.mac),
            functions.physical.eq(owner.function == 0),
            functions.link.eq(owner.links.bit_select(owner.function, 1)),
            queues.word.eq(word),
            queues.stored.eq(owner.word_read.data),
            queues.number.eq(row.queue_select),
            queues.enabled.eq(owner.enabled.bit_select(owner.queue, 1)),
            queues.resetting.eq(owner.resetting.bit_select(owner.queue, 1)),
            queues.can_reset.eq(row.driver_features[Feature.RING_RESET]),
            # Features do not change any more.
            queues.packed.eq(
                row.driver_features[Feature.RING_PACKED]
                & (row.device_status & int(DeviceStatus.FEATURES_OK)).any()
            ),
            owner.post.function.eq(owner.function),
        ]
        # A cycle later, while the access is answered.
        self.ready, self.late = Signal(), Signal()
        m.d.sync += self.late.eq(self.ready)
        with m.If(self.late):
            m.d.comb += [owner.post.en.eq(1), owner.post.events.eq(MailboxEvent.READY)]
        for write in (functions.write, queues.write):
            m.d.comb += [write.data.eq(access.data), write.strb.eq(access.strb)]

    def states(self, m: Module) -> None:
        """Read or write a word."""
        owner, functions, queues = self.owner, self.functions, self.queues
        access, per = owner.access, owner.config.queues_per_function
        row, word = owner.row_read.data, access.addr[2:PAGE_BITS]
        busy = owner.reset.bit_select(owner.function, 1)
        of_pf = owner.config.physical_queues
        error_word = queue_error_offset(0) // 4
        shows = (word == word_of("config_generation")) | (word >= DEVICE_OFFSET // 4)
        block_word = access.addr[2:BLOCK_BITS]
        first, last = (MANAGEMENT[name].offset // 4 for name in _CONTROL_WORDS)
        of_control = Signal()
        control_word = block_word - first
        # While the row is read it is found out which word that is.
        managed, of_status, of_error, of_queue, halves = (Signal(n) for n in (1, 1, 1, 1, 2))
        of_enables, of_resets = Signal(), Signal()
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)
        names = ("features_low", "features_high")
        with m.State("ACCESS"):
            m.d.sync += [
                owner.answer.eq(0),
                managed.eq(is_management(access.addr)),
                of_control.eq((block_word >= first) & (block_word <= last)),
                of_status.eq(block_word == MANAGEMENT["status"].offset // 4),
                of_enables.eq(block_word == MANAGEMENT["queue_enables"].offset // 4),
                of_resets.eq(block_word == MANAGEMENT["queue_resets"].offset // 4),
                of_error.eq((block_word >= error_word) & (block_word < error_word + per)),
                halves.eq(Cat(block_word == MANAGEMENT[name].offset // 4 for name in names)),
                of_queue.eq((word >= word_of("queue_size")) & (word < _COMMON_WORDS)),
            ]
            m.next = "ROW"
        with m.State("ROW"):
            m.next = "RESPOND"
            with m.If(managed):
                m.d.sync += owner.queue.eq(owner.function * per + (block_word - error_word))
                with m.If(of_status):
                    m.d.sync += owner.answer.eq(Mux(access.write, 0, row.device_status))
                with m.Elif(of_error):
                    m.next = "WORD"
                with m.If(of_enables & ~access.write):
                    m.d.sync += owner.answer.eq(owner.enabled.word_select(owner.function, per))
                with m.If(of_resets):
                    resets = owner.was_reset.word_select(owner.function, per)
                    with m.If(access.write):
                        m.d.sync += resets.eq(resets & ~(access.data & strobes))
                    with m.Else():
                        m.d.sync += owner.answer.eq(resets)
                for half in range(len(names)):
                    with m.If(halves[half] & ~access.write):
                        m.d.sync += owner.answer.eq(row.driver_features.word_select(half, 32))
                with m.If(of_control):
                    none = ~access.write & (control_word == 1)
                    m.d.sync += [
                        owner.queue.eq(owner.function * per + owner.control.index),
                        owner.answer.eq(Mux(none, MSI_NO_VECTOR, 0)),
                    ]
                    with m.If(owner.control.there):
                        m.next = "WORD"
            with m.Elif(of_queue):
                m.d.sync += owner.queue.eq(owner.function * per + row.queue_select)
                with m.If(row.queue_select < Mux(owner.function == 0, of_pf, per)):
                    m.next = "WORD"
            with m.Else():
                m.d.comb += [
                    functions.read.eq(~access.write),
                    functions.write.en.eq(access.write & ~busy),
                    owner.row_write.en.eq((functions.read | functions.write.en) & ~functions.reset),
                    owner.row_write.data.eq(functions.updated),
                ]
                status = functions.updated.device_status
                with m.If(functions.write.en):
                    with m.If(functions.reset):
                        m.d.sync += owner.reset.bit_select(owner.function, 1).eq(1)
                    with m.Elif((status & DeviceStatus.DRIVER_OK) != 0):
                        m.d.sync += owner.driver_ok.bit_select(owner.function, 1).eq(1)
                        m.d.comb += [
                            self.ready.eq(~owner.driver_ok.bit_select(owner.function, 1)),
                            owner.control.ready.eq(self.ready),
                        ]
                with m.Else():
                    m.d.sync += owner.answer.eq(functions.value)
                with m.If(functions.read & shows):
                    m.d.sync += owner.unseen.bit_select(owner.function, 1).eq(0)
        with m.State("WORD"):
            index = Mux(control_word < 2, 0, control_word)
            m.d.comb += owner.word_read.addr.eq(
                owner.queue << QUEUE_SHIFT
                | Mux(managed, Mux(of_control, index, ERROR_WORD)[:QUEUE_SHIFT], queues.index)
            )
            m.next = "QUEUE"
        vector = owner.word_read.data[16:]
        with m.State("QUEUE"):
            m.d.comb += [
                queues.write.en.eq(access.write & ~busy & ~managed),
                owner.word_write.en.eq(queues.kept),
                owner.word_write.addr.eq(owner.queue << QUEUE_SHIFT | queues.index),
                owner.word_write.data.eq(queues.updated),
            ]
            with m.If(queues.enable):
                m.d.sync += owner.enabled.bit_select(owner.queue, 1).eq(1)
            with m.If(queues.reset):
                m.d.sync += owner.resetting.bit_select(owner.queue, 1).eq(1)
            with m.If(~access.write):
                m.d.sync += owner.answer.eq(Mux(managed, owner.word_read.data, queues.value))
                with m.If(managed & of_control & (control_word == 0)):
                    size = owner.word_read.data[:16]
                    m.d.sync += owner.answer.eq(Mux(queues.enabled, size, 0))
                with m.If(managed & of_control & (control_word == 1)):
                    m.d.sync += owner.answer.eq(vector)
            m.next = "RESPOND"
            with m.If(access.write & managed & of_control & (control_word == 1)):
                self._raise(m, vector)
        with m.State("RESPOND"):
            m.d.comb += owner.bus.response.valid.eq(1)
            with m.If(owner.bus.response.ready):
                m.next = "IDLE"
                with m.If(self.late):  # which queues are control queues is known a cycle later
                    m.next = "SETTLE"

    def _raise(self, m: Module, vector) -> None:
        """Raise a control queue's vector, which nobody changes meanwhile."""
        owner = self.owner
        told = owner.control.controlled.bit_select(owner.function, 1)
        told &= ~owner.resetting.bit_select(owner.queue, 1)
        with m.If(owner.interrupt.valid):
            m.next = "WORD"
        with m.Else():
            owner.offer(m, vector, told)
