"""What an access to the common configuration reads and changes; combinational."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import DEVICE_OFFSET, ISR_OFFSET, offered_features
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus, Feature, NetConfig, common
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH, HashType
from rtl.nic.config_state import FunctionRow

__all__ = ["FunctionRegisters", "QueueRegisters", "WordWrite", "word_of"]

WORD_BITS = 32
#: Feature bits without which FEATURES_OK is refused.
_REQUIRED = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
#: Status bits that a driver may set.
_DRIVER_STATUS = (
    DeviceStatus.ACKNOWLEDGE
    | DeviceStatus.DRIVER
    | DeviceStatus.DRIVER_OK
    | DeviceStatus.FEATURES_OK
    | DeviceStatus.FAILED
)


def word_of(name: str) -> int:
    """Word of the common configuration that a register begins in."""
    return common(name).offset // 4


class WordWrite(wiring.Signature):
    """A write of a word, or of bytes of it."""

    def __init__(self):
        super().__init__({"en": Out(1), "data": Out(WORD_BITS), "strb": Out(4)})


def _merge(write, old):
    """A word after a write."""
    strobes = Cat(strobe.replicate(8) for strobe in write.strb)
    return (old & ~strobes) | (write.data & strobes)


def _part(name: str, word):
    """Bits of a register in its word."""
    register = common(name)
    low = register.offset % 4 * 8
    return word[low : low + min(register.width, WORD_BITS)]


def _strobed(name: str, write):
    """Whether a write has a byte of a register."""
    register = common(name)
    low = register.offset % 4
    return write.strb[low : low + min(register.bytes, 4)].any()


def _has(value, mask: int):
    """Whether the one bit of a mask is set."""
    return (value & mask) != 0


class FunctionRegisters(wiring.Component):
    """Registers of a function that are not per queue.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    word : ``In(10)``
        Word of the first page of a BAR.
    row : ``In(FunctionRow)``
    mac, link : ``In``
        Of the function.
    physical : ``In(1)``
        It is the PF.
    read : ``In(1)``
        Software reads the word; what reading clears is cleared.
    write : ``In(WordWrite)``
    value : ``Out(32)``
        What the word reads as.
    updated : ``Out(FunctionRow)``
        The row after the access.
    reset : ``Out(1)``
        0 is written to ``device_status``; ``updated`` means nothing then.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "word": In(10),
                "row": In(FunctionRow),
                "mac": In(48),
                "link": In(1),
                "physical": In(1),
                "read": In(1),
                "write": In(WordWrite()),
                "value": Out(WORD_BITS),
                "updated": Out(FunctionRow),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        row, new, write = self.row, self.updated, self.write
        word = Signal(WORD_BITS)
        m.d.comb += [new.eq(row), word.eq(_merge(write, self.value))]
        features_ok = _has(row.device_status, DeviceStatus.FEATURES_OK)
        half = row.driver_feature_select
        of_pf, of_vf = self.config.physical_queues, self.config.queues_per_function
        queues = Mux(self.physical, Const(of_pf, 16), Const(of_vf, 16))
        self.offered = offered = Signal(64)
        pf, vf = (offered_features(self.config, physical=physical) for physical in (True, False))
        m.d.comb += offered.eq(Mux(self.physical, pf, vf))
        with m.Switch(self.word):
            with m.Case(word_of("device_feature_select")):
                m.d.comb += self.value.eq(row.device_feature_select)
                with m.If(write.en):
                    m.d.comb += new.device_feature_select.eq(word)
            with m.Case(word_of("device_feature")):
                with m.Switch(row.device_feature_select):
                    with m.Case(0):
                        m.d.comb += self.value.eq(offered[:WORD_BITS])
                    with m.Case(1):
                        m.d.comb += self.value.eq(offered[WORD_BITS:])
            with m.Case(word_of("driver_feature_select")):
                m.d.comb += self.value.eq(half)
                with m.If(write.en):
                    m.d.comb += new.driver_feature_select.eq(word)
            with m.Case(word_of("driver_feature")):
                for number in range(2):
                    window = slice(WORD_BITS * number, WORD_BITS * (number + 1))
                    with m.If(half == number):
                        m.d.comb += self.value.eq(row.driver_features[window])
                        with m.If(write.en & ~features_ok):
                            m.d.comb += new.driver_features[window].eq(word)
            with m.Case(word_of("config_msix_vector")):
                m.d.comb += self.value.eq(Cat(row.config_msix_vector, queues))
                with m.If(write.en & _strobed("config_msix_vector", write)):
                    wanted = _part("config_msix_vector", word)
                    m.d.comb += new.config_msix_vector.eq(
                        Mux(wanted < self.config.msix_vectors, wanted, MSI_NO_VECTOR)
                    )
            with m.Case(word_of("device_status")):
                m.d.comb += self.value.eq(
                    Cat(row.device_status, row.config_generation, row.queue_select)
                )
                with m.If(write.en):
                    m.d.comb += new.queue_select.eq(_part("queue_select", word))
                with m.If(write.en & _strobed("device_status", write)):
                    self._status(m, _part("device_status", word))
            with m.Case(ISR_OFFSET // 4):
                m.d.comb += self.value.eq(row.isr)
                with m.If(self.read):
                    m.d.comb += new.isr.eq(0)
            self._device(m)
        return m

    def _status(self, m: Module, wanted) -> None:
        """Bits are set and never cleared, but for all at once."""
        features, before = self.row.driver_features, self.row.device_status
        acceptable, agreed = Signal(), Signal()
        m.d.comb += [
            acceptable.eq(
                ((features & _REQUIRED) == _REQUIRED) & ((features & ~self.offered) == 0)
            ),
            agreed.eq(
                _has(before, DeviceStatus.FEATURES_OK)
                | (_has(wanted, DeviceStatus.FEATURES_OK) & acceptable)
            ),
            self.reset.eq(wanted == 0),
            self.updated.device_status.eq(
                before
                | (wanted & _DRIVER_STATUS & ~(DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK))
                | Mux(agreed, DeviceStatus.FEATURES_OK, 0)
                | Mux(agreed, wanted & DeviceStatus.DRIVER_OK, 0)
            ),
        ]

    def _device(self, m: Module) -> None:
        """Device configuration."""
        net = Signal(NetConfig)
        m.d.comb += [
            net.mac.eq(self.mac),
            net.status.eq(self.link),
            net.max_virtqueue_pairs.eq(self.config.queue_pairs),
            net.mtu.eq(self.config.mtu),
        ]
        if self.config.rss:
            m.d.comb += [
                net.rss_max_key_size.eq(RSS_KEY_BYTES),
                net.rss_max_indirection_table_length.eq(RSS_TABLE_LENGTH),
                net.supported_hash_types.eq(sum(HashType)),
            ]
        for number in range(-(-len(net.as_value()) // WORD_BITS)):
            with m.Case(DEVICE_OFFSET // 4 + number):
                m.d.comb += self.value.eq(net.as_value().word_select(number, WORD_BITS))


class QueueRegisters(wiring.Component):
    """Registers of the selected queue.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    word : ``In(10)``
        Word of the common configuration.
    stored : ``In(32)``
        What the RAM has for it, where it has.
    number : ``In(16)``
        The queue within its function.
    enabled, resetting : ``In(1)``
    can_reset, packed : ``In(1)``
        RING_RESET and RING_PACKED were accepted.
    write : ``In(WordWrite)``
    value : ``Out(32)``
    index : ``Out(3)``
        Word of the RAM (QueueWords).
    kept : ``Out(1)``, ``updated`` : ``Out(32)``
        The word of the RAM changes.
    enable, reset : ``Out(1)``
        What the write asks for.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "word": In(10),
                "stored": In(WORD_BITS),
                "number": In(16),
                "enabled": In(1),
                "resetting": In(1),
                "can_reset": In(1),
                "packed": In(1),
                "write": In(WordWrite()),
                "value": Out(WORD_BITS),
                "index": Out(3),
                "kept": Out(1),
                "updated": Out(WORD_BITS),
                "enable": Out(1),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, write, word = self.config, self.write, Signal(WORD_BITS)
        first_area = word_of("queue_desc")
        m.d.comb += [
            self.value.eq(self.stored),
            self.updated.eq(word),
            word.eq(_merge(write, self.value)),
        ]
        with m.Switch(self.word):
            with m.Case(word_of("queue_size")):
                size, vector = (_part(name, word) for name in ("queue_size", "queue_msix_vector"))
                even = self.packed | (size & (size - 1) == 0)  # 2.7, 2.8.10.1
                sane = even & (size != 0) & (size <= config.queue_size_max)
                known = Mux(vector < config.msix_vectors, vector, MSI_NO_VECTOR)
                m.d.comb += [
                    self.kept.eq(write.en),
                    self.updated.eq(
                        Cat(
                            Mux(sane & ~self.enabled, size, _part("queue_size", self.stored)),
                            Mux(_strobed("queue_msix_vector", write), known, vector),
                        )
                    ),
                ]
            with m.Case(word_of("queue_enable")):
                m.d.comb += [
                    self.value.eq(Cat(self.enabled, Const(0, 15), self.number)),
                    self.enable.eq(
                        write.en
                        & _strobed("queue_enable", write)
                        & (_part("queue_enable", word) == 1)
                        & ~self.resetting
                    ),
                ]
            with m.Case(word_of("queue_notify_data")):
                m.d.comb += [
                    self.value.eq(Cat(self.number, self.resetting)),
                    self.reset.eq(
                        write.en
                        & _strobed("queue_reset", write)
                        & (_part("queue_reset", word) == 1)
                        & self.can_reset
                    ),
                ]
            for number in range(6):
                with m.Case(first_area + number):
                    m.d.comb += [self.index.eq(2 + number), self.kept.eq(write.en & ~self.enabled)]
            with m.Default():
                m.d.comb += self.value.eq(0)
        return m
