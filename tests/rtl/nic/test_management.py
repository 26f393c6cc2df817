"""Management pages against the golden function: every register, and what the switch is told."""

from models.nic.function import Function
from models.spec.config import config
from models.spec.nic import MANAGEMENT, FunctionVlan, RssControl, function_block, initial_mac
from rtl.nic.management import Management
from tests.rtl.agents import Sink, get, put, run, seeded

TINY = config("tiny").nic
ALL = range(TINY.functions)
#: Registers that the component does not have.
ELSEWHERE = (
    "status",
    "events",
    "mailbox",
    "features",
    "control_",
    "queue_enables",
    "queue_resets",
)
#: Those that are in no RAM.
PLAIN = "device_id", "receiving", "page_timeout", "fault_stall"
NAMES = [name for name in MANAGEMENT if not name.startswith(ELSEWHERE)]
OFTEN = ("control", "mac_low", "mac_high", "rss", "mac_filter_high2", "vlan_filter1", "vlan")


def test_registers_are_as_the_golden_functions():
    dut, rng = Management(TINY), seeded(52)
    changes = Sink(dut.filter, rng, 0.3)
    golden = [Function(TINY, number, lambda *_: None, lambda *_: None) for number in ALL]
    stored: list = []
    changed = [0] * TINY.functions

    async def watch(ctx):
        port = dut.stored
        while True:
            *_, en, function, word, value, moved = await ctx.tick().sample(
                port.en, port.function, port.word, port.data, dut.changed
            )
            if en:
                stored.append((function, word, value))
            for number in ALL:
                changed[number] += moved >> number & 1

    async def access(ctx, function, name, value=None, strobes=15):
        addr = function_block(function) + MANAGEMENT[name].offset
        request = {"addr": addr, "write": value is not None, "data": value or 0, "strb": strobes}
        await put(ctx, dut.bus.request, request)
        return await get(ctx, dut.bus.response)

    def read(function, name):
        return golden[function].read_management(MANAGEMENT[name].offset)

    async def bench(ctx):
        for function in ALL:
            for name in NAMES:
                assert await access(ctx, function, name) == read(function, name), name
        writes = 0
        for _ in range(70):
            function, name = rng.choice(ALL), rng.choice(rng.choice((NAMES, OFTEN)))
            offset, value = MANAGEMENT[name].offset, rng.getrandbits(32)
            golden[function].write_management(offset, value)
            golden[function].unseen = False  # as if its driver had looked
            await access(ctx, function, name, value)
            assert await access(ctx, function, name) == read(function, name), name
            writes += name not in PLAIN
            for number in ALL:
                assert ctx.get(dut.controls[number].as_value()) == golden[number].control
                ctx.set(dut.mac_of, number)
                await ctx.delay(1e-10)
                assert ctx.get(dut.mac) == int.from_bytes(golden[number].mac, "little")
        assert len(stored) == writes
        assert all(value == read(f, _name(word)) for f, word, value in stored[-1:])
        # The driver's reset stops steering, and nothing else.
        enable = RssControl.const({"enable": 1, "table_mask": 7, "closed": -1}).as_bits()
        for function in ALL:
            golden[function].write_management(MANAGEMENT["rss"].offset, enable)
            await access(ctx, function, "rss", enable)
        assert ctx.get(dut.steering) == (1 << TINY.functions) - 1
        assert ctx.get(dut.closed) == (1 << TINY.receivers) - 1
        golden[1].stop_steering()
        ctx.set(dut.unsteer, 2)
        await ctx.tick()
        ctx.set(dut.unsteer, 0)
        pairs = TINY.queue_pairs
        assert ctx.get(dut.closed) == (1 << TINY.receivers) - 1 & ~((1 << pairs) - 1 << pairs)
        ctx.set(dut.under_way, (1 << pairs) - 1 << pairs)
        golden[1].receiving = lambda: (1 << pairs) - 1
        for function in ALL:
            for name in NAMES:
                assert await access(ctx, function, name) == read(function, name), name
        _follow(changes.got, golden)
        moved = [function.generation for function in golden]
        assert changed == moved
        assert sum(moved) > 4

    run(dut, bench, background=[changes.process, watch])


def _name(word):
    return next(name for name, register in MANAGEMENT.items() if register.offset == 4 * word)


def _follow(changes, golden):
    """What the switch was told leads from what functions began with to what they have."""
    macs = {(n, 0): (int.from_bytes(initial_mac(n), "little"), 1) for n in ALL}
    vlans: dict = {}
    owns: dict = {}
    for change in changes:
        if change.vlan and not change.entry:
            owns[change.function] = change.new
        held, key = (vlans if change.vlan else macs), (change.function, change.entry)
        width = (1 << 12) - 1 if change.vlan else (1 << 48) - 1
        assert held.get(key, (0, 0))[0] & width == change.old & width
        held[key] = change.new & width, change.valid
    for function in golden:
        found = {value for (n, entry), (value, valid) in macs.items()
                 if n == function.number and entry and valid}  # fmt: skip
        assert {mac.to_bytes(6, "little") for mac in found} == function.mac_filters
        assert macs[function.number, 0] == (int.from_bytes(function.mac, "little"), 1)
        own = FunctionVlan.from_bits(function.vlan)
        value, valid = vlans.get((function.number, 0), (0, 0))
        assert (value & 0xFFF, valid, owns.get(function.number, 0)) == (
            own.vid,
            own.enable,
            function.vlan,
        )
        for vlan in range(1, 1 << 12):
            passes = any(
                n == function.number and entry and valid and value == vlan
                for (n, entry), (value, valid) in vlans.items()
            )
            assert passes == function.passes(vlan)
