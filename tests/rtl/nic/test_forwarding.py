"""Who is to have a frame: the switch's lookup against the golden switch."""

from models.nic.function import Function
from models.spec.config import config
from models.spec.nic import (
    MAC_FILTERS,
    MANAGEMENT,
    PORT_SOURCE,
    VLAN_FILTERS,
    FunctionControl,
    FunctionVlan,
    MacFilterHigh,
    Stat,
    VlanFilter,
)
from models.spec.virtio import DeviceStatus
from rtl.nic.forwarding import Lookup
from rtl.nic.seams import LocalMemory
from tests.models.switch_alone import switch_alone
from tests.rtl.agents import Sink, put, run, seeded, wait_for

TINY = config("tiny").nic
ALL = range(TINY.functions)
MACS = [bytes((2, n & 1, 0, 0, n >> 1, 7)) for n in range(4)]
GROUPS = [b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x33\x33\x00\x00\x00\x01"]
VLANS = (0, 5, 0x45, 0x105)
SENT = (Stat.TX_PACKETS, Stat.TX_BYTES, Stat.TX_MULTICAST, Stat.TX_BROADCAST)


class World:
    """The golden switch, and how its functions are told of in hardware's terms."""

    def __init__(self, rng):
        self.rng = rng
        self.wire: list[bytes] = []
        self.functions = [
            Function(TINY, number, lambda *_: None, lambda *_: None) for number in ALL
        ]
        for function in self.functions:
            function.status = DeviceStatus.DRIVER_OK
        self.switch = switch_alone(self.functions, TINY, self.wire.append)

    def _macs(self):
        return self.rng.choice([*MACS, *GROUPS])

    def change(self):
        """Change something at random; return function and what a FilterChange says, if one."""
        rng, number = self.rng, self.rng.choice(ALL)
        function = self.functions[number]
        before = self._filters(function)
        match rng.randrange(6):
            case 0 | 1:
                bits = {name: rng.random() < 0.2 for name, _ in FunctionControl.as_shape()}
                bits |= {"enable": rng.random() < 0.9, "reserved": 0}
                self._write(function, "control", FunctionControl.const(bits).as_bits())
            case 2:
                self._store_mac(function, "mac_low", "mac_high", rng.choice(MACS))
            case 3:
                at, valid = rng.randrange(MAC_FILTERS), rng.random() < 0.7
                self._store_mac(
                    function, f"mac_filter_low{at}", f"mac_filter_high{at}", self._macs(), valid
                )
            case 4:
                bits = {"vid": rng.choice(VLANS), "valid": rng.random() < 0.7}
                at = rng.randrange(VLAN_FILTERS)
                self._write(function, f"vlan_filter{at}", VlanFilter.const(bits).as_bits())
            case 5:
                bits = {"vid": rng.choice(VLANS), "enable": rng.random() < 0.4, "priority": 3}
                self._write(function, "vlan", FunctionVlan.const(bits).as_bits())
        after = self._filters(function)
        return [
            {"vlan": vlan, "function": number, "entry": entry, "old": before[vlan, entry][0],
             "new": value, "valid": valid}
            for (vlan, entry), (value, valid) in after.items()
            if before[vlan, entry] != (value, valid)
        ]  # fmt: skip

    def _write(self, function, name, value):
        function.write_management(MANAGEMENT[name].offset, value)

    def _store_mac(self, function, low, high, mac, valid=True):
        self._write(function, low, int.from_bytes(mac[:4], "little"))
        bits = {"mac": int.from_bytes(mac[4:], "little"), "valid": valid and "filter" in high}
        self._write(function, high, MacFilterHigh.const(bits).as_bits())

    def _filters(self, function):
        """Value and validity by table and entry."""

        def load(name):
            return function.read_management(MANAGEMENT[name].offset)

        found = {(0, 0): (load("mac_low") | load("mac_high") << 32, 1)}
        own = FunctionVlan.from_bits(load("vlan"))
        found[1, 0] = (load("vlan") & 0xFFFF_FFFF, own.enable)
        for at in range(MAC_FILTERS):
            high = MacFilterHigh.from_bits(load(f"mac_filter_high{at}"))
            found[0, 1 + at] = (load(f"mac_filter_low{at}") | high.mac << 32, high.valid)
        for at in range(VLAN_FILTERS):
            entry = VlanFilter.from_bits(load(f"vlan_filter{at}"))
            found[1, 1 + at] = (entry.vid, entry.valid)
        return found

    def frame(self):
        rng = self.rng
        tag = b"" if rng.random() < 0.5 else b"\x81\x00" + rng.choice(VLANS).to_bytes(2, "big")
        size = rng.choice((0, 44, 1486, 1498, 1500, 1501, 1518))
        return self._macs() + rng.choice(MACS) + (tag + b"\x88\xb5" + rng.randbytes(size))

    def forward(self, source, frame):
        """Return who gets it, whether the port does, and what is counted."""
        for function in self.functions:
            function.stats = [0] * len(Stat)
        sent = len(self.wire)
        if source == PORT_SOURCE:
            self.switch.from_port(frame)
        else:
            dropped = Stat.TX_DROPPED
            if self.functions[source].may:
                dropped = self.switch.from_function(source, frame)
            self._count(self.functions[source], frame, dropped)
        have = {n for n in ALL if self.switch.waiting(n)}
        for number in have:
            self.switch.take(number)
        counts = {
            (n, Stat(stat)): value
            for n, function in enumerate(self.functions)
            for stat, value in enumerate(function.stats)
            if value
        }
        return have, len(self.wire) > sent, counts

    @staticmethod
    def _count(function, frame, dropped):
        """As the golden servant does."""
        if dropped is not None:
            function.count(Stat.TX_DROPPED)
            if dropped != Stat.TX_DROPPED:
                function.count(dropped)
            return
        function.count(Stat.TX_PACKETS)
        function.count(Stat.TX_BYTES, len(frame))
        if frame[0] & 1:
            broadcast = frame[:6] == GROUPS[0]
            function.count(Stat.TX_BROADCAST if broadcast else Stat.TX_MULTICAST)


def test_random_policies_agree_with_the_golden_switch():
    dut, rng = Lookup(TINY), seeded(41)
    world = World(rng)
    results, stats = Sink(dut.result, rng, 0.3), Sink(dut.stat, rng, 0.3)
    beat = {"now": 0}
    seen = {"functions": 0, "port": 0, "long": 0, "kinds": set()}

    async def header(ctx):
        while True:
            ctx.set(dut.header.ready, rng.random() < 0.5)
            *_, en, ready = await ctx.tick().sample(dut.header.en, dut.header.ready)
            ctx.set(dut.header.data, beat["now"] if en and ready else rng.getrandbits(128))

    async def forward(ctx, number):
        frame, source = world.frame(), rng.choice([*ALL, PORT_SOURCE])
        have, port, counts = world.forward(source, frame)
        beat["now"] = int.from_bytes(frame[:16].ljust(16, b"\x99"), "little")
        memory = LocalMemory.RX if source == PORT_SOURCE else LocalMemory.TX
        reference = {"memory": memory, "slot": number % 16, "length": len(frame)}
        before = len(stats.got)
        if source == PORT_SOURCE:
            tagged = frame[12:14] == b"\x81\x00"
            head = {
                "destination": int.from_bytes(frame[:6], "little"),
                "tagged": tagged,
                "tci": int.from_bytes(frame[14:16], "big"),
            }
            await put(ctx, dut.port_frame, {"frame": reference, "head": head})
        else:
            await put(ctx, dut.tx_frame, {"frame": reference, "function": source})
        await wait_for(ctx, lambda: len(results.got) == number + 1, then=20)
        result = results.got[-1]
        found = {n for n in ALL if result.functions >> n & 1}
        mine: dict = {}
        for event in stats.got[before:]:
            key = event.function, Stat(event.stat)
            mine[key] = mine.get(key, 0) + event.amount
        # The switch's second half drops what is too long, and counts that and groups.
        kind = Stat.RX_DROPPED_FILTER if result.long else None
        if result.group and not result.long:
            kind = Stat.RX_BROADCAST if result.broadcast else Stat.RX_MULTICAST
        for n in found if kind is not None else ():
            mine[n, kind] = mine.get((n, kind), 0) + 1
        if result.long:
            found = set()
        assert (found, bool(result.port), mine) == (have, port, counts), (number, frame[:20])
        assert result.frame.length == len(frame)
        seen["functions"] += len(found)
        seen["port"] += port
        seen["long"] += result.long
        seen["kinds"] |= {stat for _, stat in counts}

    async def bench(ctx):
        for function in world.functions:
            function.write_management(MANAGEMENT["control"].offset, 1)
        number = 0
        for _ in range(140):
            for change in world.change():
                await put(ctx, dut.filter, change)
            for n in ALL:
                bits = world.functions[n].control
                ctx.set(dut.controls[n], FunctionControl.from_bits(bits))
            ctx.set(dut.receiving, (1 << TINY.functions) - 1)
            for _ in range(rng.choice((0, 1, 2))):
                await forward(ctx, number)
                number += 1

    run(dut, bench, background=[results.process, stats.process, header])
    assert seen["functions"] > 50, seen
    assert seen["port"] > 20, seen
    assert seen["long"] > 5, seen
    assert set(SENT) | {Stat.TX_DROPPED_MAC, Stat.TX_DROPPED_VLAN} <= seen["kinds"]
