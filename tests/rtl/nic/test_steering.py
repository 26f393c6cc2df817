"""Receive-side scaling against the golden model, and against the published hashes."""

from random import Random

import pytest

from models.nic.steering import Steering as Golden
from models.spec.config import NicConfig
from models.spec.ethernet import IPV6_EXTENSIONS
from models.spec.nic import MANAGEMENT, RssControl
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH, HashType
from rtl.nic.seams import LocalMemory
from rtl.nic.steering import Steering
from tests.rtl.simulators import simulator

CONFIG = NicConfig(
    vfs=1, queue_pairs=4, tx_slots=8, rx_slots=8, control_queue=True, multiqueue=True, rss=True
)
MACS = bytes(range(12))


def ipv4(rng: Random, protocol: int, *, options: int = 0, fragment: int = 0, cut: int = 0) -> bytes:
    payload = rng.randbytes(rng.choice((4, 8, 20, 40)))
    header = bytes((0x45 + options, 0))
    header += (20 + 4 * options + len(payload)).to_bytes(2, "big") + bytes(2)
    header += fragment.to_bytes(2, "big") + bytes((64, protocol, 0, 0)) + rng.randbytes(8)
    packet = b"\x08\x00" + header + rng.randbytes(4 * options) + payload
    return packet[: len(packet) - cut] + bytes(0 if cut else rng.randrange(9))


def extensions(rng: Random, protocol: int) -> tuple[int, bytes]:
    """IPv6 extension headers before ``protocol``, most sound; returns the first one, and all."""
    found = b""
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.choice(IPV6_EXTENSIONS)
        length = rng.choice((0, 0, 1, 2, rng.randrange(30), 255))
        size = 4 * (length + 2) if kind == 51 else 8 if kind == 44 else 8 * (length + 1)
        size = rng.choice((size, size, size, 8))
        rest = bytes(2) if rng.random() < 0.8 else rng.randbytes(2)
        found = bytes((protocol, length)) + rest + rng.randbytes(size - 4) + found
        protocol = kind
    return protocol, found


def ipv6(rng: Random, protocol: int, *, cut: int = 0, extended: bool = False) -> bytes:
    payload = rng.randbytes(rng.choice((4, 8, 20, 40)))
    if extended:
        protocol, between = extensions(rng, protocol)
        payload = between + payload
    header = bytes((0x60, 0, 0, 0)) + len(payload).to_bytes(2, "big") + bytes((protocol, 64))
    packet = b"\x86\xdd" + header + rng.randbytes(32) + payload
    return packet[: len(packet) - cut]


def random_frame(rng: Random) -> bytes:
    """A frame of any kind, most of them hashed."""
    protocol = rng.choice((6, 6, 17, 17, 1, 0, 44))
    packet = rng.choice(
        (
            lambda: ipv4(rng, protocol),
            lambda: ipv4(rng, protocol, options=rng.randrange(11)),
            lambda: ipv4(rng, protocol, fragment=rng.choice((1, 0x2000))),
            lambda: ipv4(rng, protocol, cut=rng.randrange(1, 30)),
            lambda: ipv6(rng, protocol),
            lambda: ipv6(rng, protocol, cut=rng.randrange(1, 30)),
            lambda: ipv6(rng, protocol, extended=True),
            lambda: ipv6(rng, protocol, extended=True),
            lambda: ipv6(rng, protocol, extended=True, cut=rng.choice((0, 30))),
            lambda: rng.randbytes(rng.randrange(2, 60)),
        )
    )()
    tag = b"\x81\x00" + rng.randbytes(2) if rng.random() < 0.3 else b""
    return MACS + tag + packet


class World:
    """Frame memories, and the registers of each function."""

    def __init__(self, seed: int):
        self.dut, self.rng = Steering(CONFIG), Random(seed)
        self.golden = [Golden() for _ in range(CONFIG.functions)]
        size = CONFIG.rx_slots * CONFIG.frame_stride
        self.memory = {kind: bytearray(size) for kind in (LocalMemory.TX, LocalMemory.RX)}
        self.writes: list[tuple[int, int, int]] = []

    def _store(self, function: int, name: str, value: int) -> None:
        self.writes.append((function, MANAGEMENT[name].offset // 4, value))

    def set_up(self, function: int, *, types: int, key: bytes, table: bytes, **control) -> None:
        model = self.golden[function]
        model.key[:], model.table[:], model.types = key, table, types
        model.control = RssControl.const({"enable": 1, **control}).as_bits()
        for name, content in (("rss_key", key), ("rss_table", table)):
            for n in range(len(content) // 4):
                word = int.from_bytes(content[4 * n : 4 * n + 4], "little")
                self._store(function, f"{name}{n}", word)
        self._store(function, "rss_types", types)
        self._store(function, "rss", model.control)

    async def memories(self, ctx):
        """Answer reads, when the DMA leaves time for it."""
        head = self.dut.head
        while True:
            ready = self.rng.random() < 0.7
            ctx.set(head.ready, ready)
            _, _, en, memory, addr = await ctx.tick().sample(head.en, head.memory, head.addr)
            if en and ready:
                found = self.memory[LocalMemory(memory)][addr : addr + 16].ljust(16, b"\0")
                turned = found[-addr % 16 :] + found[: -addr % 16]
                ctx.set(head.data, int.from_bytes(turned, "little"))
            else:
                ctx.set(head.data, self.rng.getrandbits(128))

    def run(self, jobs: list[tuple[int, LocalMemory, bytes]]) -> list[int]:
        """Steer frames; returns their queue pairs."""
        dut, pairs = self.dut, []

        async def feed(ctx):
            stored = dut.stored
            ctx.set(dut.steering, -1)
            for function, word, value in self.writes:
                ctx.set(stored.function, function)
                ctx.set(stored.word, word)
                ctx.set(stored.data, value)
                ctx.set(stored.en, 1)
                await ctx.tick()
            ctx.set(stored.en, 0)
            for number, (function, memory, frame) in enumerate(jobs):
                slot = number % CONFIG.rx_slots
                base = slot * CONFIG.frame_stride
                self.memory[memory][base : base + len(frame)] = frame
                fields = {"memory": memory, "slot": slot, "length": len(frame)}
                ctx.set(dut.i.payload, {"frame": fields, "function": function})
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)

        async def collect(ctx):
            ctx.set(dut.o.ready, 1)
            for number in range(len(jobs)):
                (found,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
                assert (found.function, found.frame.length) == (
                    jobs[number][0],
                    len(jobs[number][2]),
                )
                pairs.append(found.pair)

        sim = simulator(dut)
        sim.add_testbench(self.memories, background=True)
        sim.add_testbench(feed)
        sim.add_testbench(collect)
        sim.run()
        return pairs


@pytest.mark.parametrize("seed", [1, 2])
def test_frames_go_where_the_golden_model_says(seed):
    world = World(seed)
    rng = Random(seed)
    for function in range(CONFIG.functions):
        world.set_up(
            function,
            types=rng.choice((sum(HashType), HashType.TCPV4 | HashType.IPV6 | HashType.UDPV6)),
            key=rng.randbytes(RSS_KEY_BYTES),
            table=bytes(rng.randrange(5) for _ in range(RSS_TABLE_LENGTH)),  # 4 is no pair
            table_mask=rng.choice((127, 31, 0)),
            unclassified=rng.randrange(4),
        )
    jobs = [
        (rng.randrange(CONFIG.functions), rng.choice((LocalMemory.TX, LocalMemory.RX)),
         random_frame(rng))
        for _ in range(160)
    ]  # fmt: skip
    expected = [
        world.golden[function].pair(frame, CONFIG.queue_pairs) for function, _, frame in jobs
    ]
    assert world.run(jobs) == expected
    assert len(set(expected)) == 4
