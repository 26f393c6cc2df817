"""Toeplitz hash (virtio 1.3, 5.1.6.4.3.3), one for all functions."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from models.spec.config import NicConfig
from models.spec.nic import MANAGEMENT, RssControl
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH
from rtl.nic.seams import FrameRef, PolicyWrite

__all__ = ["HASHED_BYTES", "Hashing", "Steered", "Toeplitz"]

#: Bytes that are hashed at once at most.
HASHED_BYTES = 16
_KEY_WORDS, _TABLE_WORDS = RSS_KEY_BYTES // 4, RSS_TABLE_LENGTH // 4
#: Words of a function: the table, then the key.
_WORDS_BITS = ceil_log2(_TABLE_WORDS + _KEY_WORDS)


class Hashing(data.Struct):
    """Some of the bytes by which a frame is steered, in the order of the frame."""

    frame: FrameRef
    function: 8
    first: 1
    last: 1
    steered: 1  # else it goes to queue pair 0
    words: range(HASHED_BYTES // 4 + 1)  # of 4 bytes; a frame of none has no hash
    start: 2  # the first of them: word n has lanes 2 + 4 n to 5 + 4 n, modulo 16
    data: 8 * HASHED_BYTES  # as they were read


class Steered(data.Struct):
    """A frame, and where it goes."""

    frame: FrameRef
    function: 8
    pair: 3


class Toeplitz(wiring.Component):
    """Hashes what frames are steered by, and looks up their queue pairs.

    Four bytes are hashed in a cycle.  A queue pair that a function does not have is taken as 0.

    Latency
    -------
    A frame that is not steered, or has no hash, takes 3 cycles; another 5, and one for 4 bytes.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of Hashing; o : ``Out(stream)`` of Steered
    stored : ``In(PolicyWrite)``
        Keys, tables and RssControl are followed.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(Hashing)),
                "o": Out(stream.Signature(Steered)),
                "stored": In(PolicyWrite()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, part = self.config.functions, self.i.payload
        m.submodules.words = words = Memory(shape=32, depth=functions << _WORDS_BITS, init=[])
        m.submodules.controls = controls = Memory(
            shape=RssControl, depth=max(2, functions), init=[]
        )
        self._follow(m, words, controls)
        self._read, control = words.read_port(), controls.read_port(domain="comb")
        rules = control.data
        self._hashed, chosen = Signal(32), Signal(8)
        index = self._hashed[:7] & rules.table_mask
        m.d.comb += [
            control.addr.eq(part.function),
            self.o.payload.frame.eq(part.frame),
            self.o.payload.function.eq(part.function),
            self.o.payload.pair.eq(Mux(chosen < self.config.queue_pairs, chosen, 0)),
        ]
        self._add(m, part)
        with m.FSM():
            self._hash(m, part)
            with m.State("INDEX"):
                m.d.comb += self._read.addr.eq(Cat(index[2:7], Const(0, 1), part.function))
                m.next = "ENTRY"
            with m.State("ENTRY"):
                m.d.sync += chosen.eq(self._read.data.word_select(index[:2], 8))
                m.next = "TELL"
            with m.State("PLAIN"):
                m.d.sync += chosen.eq(Mux(part.steered, rules.unclassified, 0))
                m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m

    def _follow(self, m: Module, words, controls) -> None:
        """Keep tables, and keys with their first byte highest."""
        stored = self.stored
        keep, rules = words.write_port(), controls.write_port()
        first_key = MANAGEMENT["rss_key0"].offset // 4
        first_entry = MANAGEMENT["rss_table0"].offset // 4
        of_key = (stored.word >= first_key) & (stored.word < first_key + _KEY_WORDS)
        of_table = (stored.word >= first_entry) & (stored.word < first_entry + _TABLE_WORDS)
        entry, key = (stored.word - first for first in (first_entry, first_key))
        swapped = Cat(stored.data.word_select(3 - byte, 8) for byte in range(4))
        m.d.comb += [
            keep.en.eq(stored.en & (of_key | of_table)),
            keep.addr.eq(
                Cat(Mux(of_key, key + _TABLE_WORDS, entry)[:_WORDS_BITS], stored.function)
            ),
            keep.data.eq(Mux(of_key, swapped, stored.data)),
            rules.en.eq(stored.en & (stored.word == MANAGEMENT["rss"].offset // 4)),
            rules.addr.eq(stored.function),
            rules.data.eq(stored.data),
        ]

    def _add(self, m: Module, part) -> None:
        """What 4 bytes add to the hash: for each bit that is set, the key from there on."""
        self._done, self._key, self._added = Signal(2), Signal(32), Signal(32)
        place, four, window = Signal(2), Signal(32), Cat(self._read.data, self._key)
        m.d.comb += place.eq(part.start + self._done)
        with m.Switch(place):
            for number in range(4):
                with m.Case(number):
                    lanes = [(2 + 4 * number + byte) % HASHED_BYTES for byte in range(4)]
                    m.d.comb += four.eq(Cat(part.data.word_select(lane, 8) for lane in lanes))
        added = Const(0, 32)
        for bit in range(32):
            of_data = four[8 * (bit // 8) + 7 - bit % 8]
            added = added ^ Mux(of_data, window[32 - bit : 64 - bit], 0)
        m.d.comb += self._added.eq(added)

    def _hash(self, m: Module, part) -> None:
        """Add 4 bytes in a cycle; the word of the key behind them is read a cycle before."""
        read, hashed, key, done = self._read, self._hashed, self._key, self._done
        word, at = Signal(range(_KEY_WORDS + 2)), Signal(range(_KEY_WORDS + 2))
        m.d.comb += [
            read.addr.eq(Cat((at + _TABLE_WORDS)[:_WORDS_BITS], part.function)),
            at.eq(word),
        ]
        with m.State("IDLE"):
            m.d.sync += done.eq(0)
            with m.If(part.first):
                m.d.comb += at.eq(0)
            with m.If(self.i.valid):
                m.d.sync += word.eq(at + 1)
                m.next = "HASH"
                with m.If(part.first):
                    m.d.sync += hashed.eq(0)
                    m.next = "KEY"
                    with m.If(part.words == 0):
                        m.next = "PLAIN"
        with m.State("KEY"):
            m.d.sync += [key.eq(read.data), word.eq(word + 1)]
            m.next = "HASH"
        with m.State("HASH"):
            m.d.sync += [hashed.eq(hashed ^ self._added), key.eq(read.data), done.eq(done + 1)]
            with m.If(done + 1 != part.words):
                m.d.sync += word.eq(word + 1)
            with m.Elif(part.last):
                m.next = "INDEX"
            with m.Else():
                m.d.comb += self.i.ready.eq(1)
                m.next = "IDLE"
