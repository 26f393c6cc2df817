"""Control queues of drivers that mean harm: malformed, never empty, of functions without trust."""

from random import Random

import pytest

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.malformed import CONTROL_WAYS, NOT_OWNED, OF_CONTROL_QUEUES
from cosim.guest.virtqueue import Piece
from models.spec.nic import FunctionControl, QueueError, Stat, offered_features
from models.spec.virtio import Feature
from models.spec.virtio_net import ControlAck, ControlClass, ControlCoalescing, HashType
from tests.cosim.drivers import exchange
from tests.cosim.platform import COMPLETE, frame, run

PLAIN = KNOWN_FEATURES & ~(1 << Feature.RING_PACKED)
GATEWAY = bytes.fromhex("02fe00000001")


def control_of(guest):
    """A guest's control queue."""
    return guest.driver.control._queue


async def settle(platform):
    await platform.machine.sleep(30_000)


# Trust -------------------------------------------------------------------------------------------


def group(number):
    return b"\x01\x00\x5e\x00\x00" + bytes((number,))


def test_who_is_not_trusted_has_nothing_of_others():
    async def scenario(platform):
        wire, rng = [], Random(1)
        platform.machine.on_frame(lambda content, _: wire.append(content))
        victim = await platform.guest(1)
        hostile = await platform.guest(2, assign={"spoof_check": True})
        await settle(platform)
        control = hostile.driver.control
        own, others = hostile.mac, (victim.mac, GATEWAY)

        def table(*macs):
            return len(macs).to_bytes(4, "little") + b"".join(macs)

        refused = [(ControlClass.RX, 0, b"\1"), (ControlClass.RX, 0, b"\xff")]
        refused += [(ControlClass.RX, mode, b"\1") for mode in range(2, 6)]
        for mac in others:
            refused += [
                (ControlClass.MAC, 0, table(mac) + table()),
                (ControlClass.MAC, 0, table(own, mac) + table(group(1))),
                (ControlClass.MAC, 0, table() + table(mac)),
                (ControlClass.MAC, 0, table() + table(group(1), mac)),
                (ControlClass.MAC, 1, mac),
            ]
        # What Linux sends without being told to, and what brings groups.
        allowed = [
            (ControlClass.RX, 0, b"\0"),
            (ControlClass.RX, 1, b"\1"),
            (ControlClass.RX, 1, b"\0"),
            (ControlClass.MAC, 0, table() + table()),
            (ControlClass.MAC, 1, own),
            # More than there are filters for.
            (ControlClass.MAC, 0, table(*[own] * 20) + table()),
            (ControlClass.MAC, 0, table(own) + table(*map(group, range(20)))),
            (ControlClass.MAC, 0, table(own, *map(group, range(20))) + table()),
            (ControlClass.MAC, 0, table(own) + table(group(1))),
        ]

        async def nothing_seen():
            sent = [frame(GATEWAY, victim.mac, rng, 60), frame(own, victim.mac, rng, 60)]
            for content in sent:
                await victim.driver.send(content)
            came = [frame(victim.mac, GATEWAY, rng, 60), frame(GATEWAY, GATEWAY, rng, 60)]
            for content in came:
                await platform.machine.send_frame(content)
            await platform.machine.sleep(4_000)
            assert wire == sent[:1]
            assert hostile.received == sent[1:]
            assert victim.received == came[:1]
            for frames in (wire, hostile.received, victim.received):
                frames.clear()

        for command in refused:
            assert await control.command(*command) == ControlAck.ERR, command
            await nothing_seen()
        for command in allowed:
            assert await control.command(*command) == ControlAck.OK, command
            await nothing_seen()
        for number in (1, 2):
            await platform.machine.send_frame(frame(group(number), GATEWAY, rng, 60))
        await settle(platform)
        assert [content[:6] for content in hostile.received] == [group(1)]

    run(scenario, nic=COMPLETE)


@pytest.mark.parametrize("seed", range(2))
def test_random_commands_harm_nobody(seed):
    """Whatever a driver that is not trusted asks for, others go on and it sees nothing."""

    async def scenario(platform):
        rng = Random(seed)
        guests = [await platform.guest(function) for function in (1, 2)]
        hostile = await platform.guest(3, features=PLAIN, assign={"spoof_check": True})
        seen = []
        hostile.driver.on_receive = seen.append
        await settle(platform)
        macs = [*(guest.mac for guest in guests), GATEWAY, hostile.mac, group(1), bytes(6)]

        def data(kind):
            choices = [b"", b"\1", b"\0", rng.randbytes(2), rng.randbytes(rng.randrange(64))]
            if kind == ControlClass.MAC:
                for _ in range(4):
                    tables = [rng.choices(macs, k=rng.choice((0, 1, 2, 9))) for _ in range(2)]
                    parts = [len(t).to_bytes(4, "little") + b"".join(t) for t in tables]
                    choices += [b"".join(parts), rng.choice(macs)]
            return rng.choice(choices)

        for _ in range(10):
            for _ in range(30):
                kind = rng.choice((*ControlClass, ControlClass.MAC, rng.randrange(256)))
                content = bytes((kind, rng.choice((0, 1, 2, 3, rng.randrange(256))))) + data(kind)
                queue = control_of(hostile)
                readable = Piece(queue.store(content), len(content))
                queue.add([readable], [Piece(queue.store(bytes(16)), rng.randint(1, 16))], None)
                hostile.driver.transport.notify(queue)
                while queue.outstanding:
                    await platform.machine.sleep(100)
                    queue.take()
            await exchange(platform, guests, count=2, seed=rng.random())
            assert all(content[:6] == hostile.mac or content[0] & 1 for content in seen)
        assert await platform.hypervisor.queue_error(3, control_of(hostile).number) == 0

    run(scenario, nic=COMPLETE)


# Turns -------------------------------------------------------------------------------------------


def accesses_of_a_turn(nic):
    """Most accesses to registers in a function's turn.

    Who it is (the mailbox, events of the others), events (2), DRIVER_OK (filters and steering 27,
    coalescing, features 2), queues that were reset (which, that it
    is known, coalescing), the queue (7), eight commands (RSS: 45, queue
    pairs one more), the interrupt (2).
    """
    return nic.functions + 2 + 27 + 2 * nic.queue_pairs + 2 + 2 + 2 * nic.queue_pairs + (
        7 + 8 * 46 + 2
    )  # fmt: skip


RSS = b"\4\1" + bytes(4) + b"\x7f\0" + bytes(2) + bytes(256) + bytes(2) + b"\x28" + bytes(40)


@pytest.mark.parametrize(
    ("function", "content"), [(1, RSS), (3, RSS), (1, b"\4\0\1\0")], ids=["rss", "behind", "pairs"]
)
def test_a_control_queue_that_is_never_empty_holds_nobody_up(function, content):
    """Another's command waits for the turn that is under way, and its own."""

    async def scenario(platform):
        machine = platform.machine
        hostile = await platform.guest(function, features=PLAIN)
        victim = await platform.guest(2)
        await settle(platform)
        queue = control_of(hostile)
        command = Piece(queue.store(content), len(content))
        answer = Piece(queue.store(bytes(1)), 1)
        answered = 0

        async def ask_for_ever():
            nonlocal answered
            while True:
                while queue.take() is not None:
                    answered += 1
                while queue.fits(2):
                    queue.add([command], [answer], None)
                hostile.driver.transport.notify(queue)
                await machine.sleep(200)

        machine.spawn(ask_for_ever())
        await settle(platform)
        nic, costs = platform.hypervisor.config.nic, platform.hypervisor.costs
        bound = 2 * accesses_of_a_turn(nic) * machine._access + 2 * costs.interrupt
        for number in range(6):
            await machine.sleep(777 * number)
            before, since = answered, machine.now()
            await victim.driver.control.set_promiscuous(bool(number % 2))
            assert machine.now() - since <= bound
            assert answered > before or number == 0
        assert answered > 50
        assert hostile.vm.memory.read(answer.gpa, 1) == b"\0"

    run(scenario, nic=COMPLETE, limit=3_000_000)


@pytest.mark.parametrize("delay", range(0, 400, 45))
def test_a_function_that_is_revoked_amid_its_commands_stays_disabled(delay):
    async def scenario(platform):
        hostile = await platform.guest(1, features=PLAIN)
        await settle(platform)
        queue = control_of(hostile)
        command = Piece(queue.store(b"\1\0" + bytes(8)), 10)
        answer = Piece(queue.store(bytes(1)), 1)
        while queue.fits(2):
            queue.add([command], [answer], None)
        hostile.driver.transport.notify(queue)
        await platform.machine.sleep(300 + delay)
        hostile.driver.die()
        await platform.hypervisor.revoke(hostile.vm, 1)
        await settle(platform)
        function = platform.machine.nic.functions[1]
        assert not FunctionControl.from_bits(function.control).enable

    run(scenario, nic=COMPLETE)


# Malformed ---------------------------------------------------------------------------------------

QUICK = ("split-loop", "split-table-longer-than-queue", "packed-chain-longer-than-queue")


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            way,
            id=way.name,
            marks=() if way in CONTROL_WAYS or way.name in QUICK else pytest.mark.full,
        )
        for way in OF_CONTROL_QUEUES
    ],
)
def test_a_malformed_control_queue_stops_alone_and_the_hypervisor_knows_why(way):
    refused = 0 if way.packed else 1 << Feature.RING_PACKED
    refused |= 0 if way.indirect else 1 << Feature.RING_INDIRECT_DESC

    async def scenario(platform):
        guest = await platform.guest(1)
        hostile = await platform.guest(2, features=KNOWN_FEATURES & ~refused)
        await settle(platform)
        queue = control_of(hostile)
        await hostile.driver.control.set_all_multicast(True)

        async def why():
            return await platform.hypervisor.queue_error(2, queue.number)

        way.harm(queue)
        hostile.driver.transport.device.notify(queue.number, queue.number)
        await settle(platform)
        assert await why() is way.code
        assert platform.hypervisor.mailbox.error(2) is way.code
        assert platform.hypervisor.mailbox.error(1) is QueueError.NONE
        await guest.driver.control.set_all_multicast(True)
        await exchange(platform, [guest, hostile], count=2)
        # A reset mends it.
        await hostile.driver.stop()
        await hostile.driver.start()
        await settle(platform)
        assert await why() is QueueError.NONE
        await hostile.driver.control.set_all_multicast(True)

    run(scenario, nic=COMPLETE)


def test_a_control_queue_outside_of_memory():
    async def scenario(platform):
        hostile = await platform.guest(1, features=PLAIN)
        await settle(platform)
        queue, transport = control_of(hostile), hostile.driver.transport
        queue._areas = (queue._areas[0], (NOT_OWNED, queue._areas[1][1]), queue._areas[2])
        await transport.reset_queue(queue.number)
        await transport.enable_queue(queue, 2)
        transport.device.notify(queue.number, queue.number)
        await settle(platform)
        why = await platform.hypervisor.queue_error(1, queue.number)
        assert why is QueueError.RING_ADDRESS

    run(scenario, nic=COMPLETE)


#: Bytes of a chain that can be read and written, and what is written.
NO_COMMANDS = {
    "no header": (1, 1, b"\1"),
    "nothing": (0, 2, b"\1"),
    "no room for an answer": (2, 0, b""),
    "more than any command has": ((1 << 16) + 1, 1, b"\1"),
    "no room for what is told": (6, 8, b"\1"),
}


@pytest.mark.parametrize("name", NO_COMMANDS)
@pytest.mark.parametrize("packed", [False, True])
def test_chains_that_are_no_command_come_back_with_an_interrupt(name, packed):
    readable, writable, expected = NO_COMMANDS[name]

    async def scenario(platform):
        guest = await platform.guest(1, features=KNOWN_FEATURES if packed else PLAIN)
        await settle(platform)
        queue = control_of(guest)
        place, answer = queue.store(bytes(readable)), queue.store(b"\xee" * 8)
        header = bytes((ControlClass.NOTF_COAL, ControlCoalescing.VQ_GET))
        guest.vm.memory.write(place, header[:readable])
        before = platform.stat(1, Stat.INTERRUPTS)
        pieces = [Piece(place, readable)] if readable else []
        queue.add(pieces, [Piece(answer, writable)] if writable else [], "it")
        guest.driver.transport.notify(queue)
        await settle(platform)
        assert queue.take() == ("it", len(expected))
        assert guest.vm.memory.read(answer, 8) == expected.ljust(8, b"\xee")
        assert platform.stat(1, Stat.INTERRUPTS) == before + 1
        queue.enable_events()
        await guest.driver.control.set_all_multicast(True)  # it goes on

    run(scenario, nic=COMPLETE)


# The PF ------------------------------------------------------------------------------------------


def test_control_queues_are_served_while_a_guest_has_the_physical_function():
    """Its vectors are the guest's: there are no messages for the mailbox."""
    control = 1 << Feature.NET_CTRL_VQ

    async def scenario(platform):
        physical = await platform.guest(0)
        virtual = await platform.guest(1, pairs=2)
        await exchange(platform, [physical, virtual])
        await virtual.driver.control.set_rss(HashType.TCPV4, [0, 1], bytes(40))
        if not offered_features(platform.hypervisor.config.nic, physical=True) & control:
            assert physical.driver.control is None
            assert physical.driver.pairs == 1

    run(scenario, nic=COMPLETE)


@pytest.mark.parametrize("delay", range(0, 3000, 250))
@pytest.mark.parametrize("whole", [True, False])
def test_a_control_queue_is_not_touched_behind_its_reset(delay, whole):
    """Nor is its driver interrupted, and what it had set up is gone (virtio 1.3, 2.4.1, 2.6.1)."""

    async def scenario(platform):
        machine = platform.machine
        guest = await platform.guest(1, features=PLAIN)
        await settle(platform)
        await guest.driver.control.set_promiscuous(True)
        function = machine.nic.functions[1]
        queue = control_of(guest)
        command = Piece(queue.store(RSS), len(RSS))
        answer = Piece(queue.store(bytes(1)), 1)
        while queue.fits(2):
            queue.add([command], [answer], None)
        guest.driver.transport.notify(queue)
        await machine.sleep(delay)
        if whole:
            await guest.driver.transport.reset()
            control = FunctionControl.from_bits(function.control)
            assert (control.enable, control.promiscuous, function.steering.control & 1) == (1, 0, 0)
        else:
            await guest.driver.transport.reset_queue(queue.number)
        memory = guest.vm.memory
        marks = {at: memory.read(at, 16) for at in (queue.areas[2][0], answer.gpa & ~15)}
        told = guest.vm.interrupts.total()
        await machine.sleep(30_000)
        assert {at: memory.read(at, 16) for at in marks} == marks
        assert guest.vm.interrupts.total() == told

    run(scenario, nic=COMPLETE)


@pytest.mark.parametrize("reset", [False, True])
def test_a_command_that_is_held_holds_up_nobody_and_keeps_nobody_busy(reset):
    """And is not answered behind a reset of its queue, nor holds what comes after that."""

    async def scenario(platform):
        machine, mailbox = platform.machine, platform.hypervisor.mailbox
        guest, other = await platform.guest(1, pairs=2), await platform.guest(2)
        await settle(platform)
        function, looks = machine.nic.functions[1], 0

        def receiving():
            nonlocal looks
            looks += 1
            return 2

        function.receiving = receiving
        queue = control_of(guest)
        command = Piece(queue.store(b"\4\0\1\0"), 4)
        answer = Piece(queue.store(b"\xff"), 1)
        queue.add([command], [answer], "it")
        guest.driver.transport.notify(queue)
        since = machine.now()
        for mode in (True, False):
            await other.driver.control.set_promiscuous(mode)
        assert machine.now() - since < 10_000
        await settle(platform)
        assert queue.take() is None
        assert 20 < looks < 60
        if reset:
            await guest.driver.transport.reset_queue(queue.number)
            looks = 0
            await settle(platform)
            assert looks == 0
            assert guest.vm.memory.read(answer.gpa, 1) == b"\xff"
            return
        function.receiving = lambda: 0
        await settle(platform)
        assert queue.take() == ("it", 1)
        assert function.steering.closed == 2
        queue.enable_events()
        before = mailbox.commands
        await guest.driver.control.set_pairs(2)
        assert mailbox.commands == before + 1
        assert function.steering.closed == 0

    run(scenario, nic=COMPLETE)
