"""Sessions of hostile drivers: made, kept, played, and found to differ when something is wrong."""

from collections import Counter
from random import Random

import pytest

from cosim.golden_machine import GoldenMachine
from cosim.guest.features import KNOWN_FEATURES, consistent
from cosim.guest.malformed import OF_CONTROL_QUEUES, WAYS
from cosim.hypervisor.net_control import NetControl
from cosim.nic_fuzz.commands import draw_command
from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.main import fuzz_nic, system
from cosim.nic_fuzz.memory_ways import MEMORY_WAYS, PAGE_TIMEOUT, RING_ADDRESS
from cosim.nic_fuzz.play import compared, observe
from cosim.nic_fuzz.session import DETERMINED, Session, SessionError
from cosim.nic_fuzz.world import HOST_BASE, HOST_BYTES, HOSTILE, HOSTILE_TYPE, World
from cosim.nic_fuzz.wrong import Wrong
from cosim.packets import vlan_tag
from cosim.scenarios.traffic import guest_mac
from models.nic.function import Function
from models.nic.rings import ChainBuilder, Direction
from models.nic.switch import Switch
from models.spec.nic import MailboxEvent
from models.spec.virtio import DescriptorFlag, Feature
from models.spec.virtio_net import ControlAck, ControlClass

SIZES = (4, 8, 64)
TINY = system("tiny")


def golden(session, *, latency=20, counts=None):
    """What comes of a session on a golden machine."""
    machine = GoldenMachine(TINY, memory_base=HOST_BASE, memory_bytes=HOST_BYTES, latency=latency)
    world = World(
        machine,
        TINY,
        features=KNOWN_FEATURES,
        seed=session.name,
        paging=session.paging,
        vlan=session.vlan,
    )

    async def main():
        await world.start()
        return await observe(world, session, counts)

    return machine.run(main())


def of_ways(*names):
    """A session of ways to be malformed, of packed queues."""
    session = generate("ways", steps=1, sizes=(8,))
    session.driver = {"features": KNOWN_FEATURES, "size": 8, "pairs": 1}
    session.paging = {}
    session.steps = [["way", name] for name in names]
    return session


def test_sessions_are_the_same_every_time_and_survive_a_file(tmp_path):
    session = generate("7/3", steps=40, sizes=SIZES)
    assert generate("7/3", steps=40, sizes=SIZES) == session
    session.save(tmp_path / "session.json")
    assert Session.load(tmp_path / "session.json") == session


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "iovirt-nic-fuzz/1", "x": 1}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(SessionError, match=r"other\.json"):
        Session.load(path)


def test_many_sessions_have_every_step_and_every_way():
    sessions = [generate(f"1/{n}", steps=40, sizes=SIZES) for n in range(150)]
    steps = [step for session in sessions for step in session.steps]
    assert {step[0] for step in steps} > set(DETERMINED)
    for kind, ways in (("way", WAYS), ("memory_way", MEMORY_WAYS)):
        assert {step[1] for step in steps if step[0] == kind} == {way.name for way in ways}
    names = {way.name for way in OF_CONTROL_QUEUES} | {RING_ADDRESS}
    assert {step[1] for step in steps if step[0] == "control_way"} == names


def test_what_comes_of_a_session_does_not_depend_on_time():
    session = generate("2/0", steps=8, sizes=SIZES)
    slow, fast = golden(session), golden(session, latency=5)
    assert compared(session, slow, fast) is None
    assert any(found.get("used") for found in slow)


def test_a_chain_that_is_not_refused_is_found(monkeypatch):
    session = of_ways("packed-writable-to-transmit")
    right = golden(session)
    add = ChainBuilder.add

    def lenient(self, address, length, flags):
        if self.setup.direction is Direction.READ:
            flags &= ~DescriptorFlag.WRITE
        add(self, address, length, flags)

    monkeypatch.setattr(ChainBuilder, "add", lenient)
    found = compared(session, right, golden(session))
    assert found is not None
    assert found.kind == "way errors"


def test_a_code_that_the_table_does_not_have_is_found():
    session = of_ways("packed-empty-table")
    found = golden(session)
    found[0]["expected"] = ["BAD_WRAP"]
    difference = compared(session, found, found)
    assert difference is not None
    assert difference.kind == "way code"


def of_commands(count):
    """A session of commands for the control queue."""
    session = generate("commands", steps=1, sizes=(16,))
    session.driver = {"features": consistent(KNOWN_FEATURES), "size": 16, "pairs": 2}
    session.paging, session.trusted = {}, False
    rng = Random(3)
    session.steps = [
        ["control", [draw_command(rng, tables=True) for _ in range(12)]] for _ in range(count)
    ]
    return session


def test_commands_of_every_kind_are_drawn_and_answered(monkeypatch):
    answers: dict[bool, set[int]] = {True: set(), False: set()}
    answer = NetControl.answer

    async def note(self, kind, command, data):
        told, ack = await answer(self, kind, command, data)
        answers[ack == ControlAck.OK].add(kind)
        return told, ack

    monkeypatch.setattr(NetControl, "answer", note)
    counts = Counter()
    found = golden(of_commands(12), counts=counts)
    assert counts["control"] == 12
    served = {ControlClass.RX, ControlClass.MAC, ControlClass.VLAN, ControlClass.MQ}
    assert answers[True] >= served | {ControlClass.NOTF_COAL}
    assert len(answers[False]) > 4
    assert len({tuple(one["settings"]) for one in found}) > 5
    assert len({name for name in counts if name.startswith("code ")}) > 1


def test_a_notification_of_a_control_queue_that_is_lost_is_found(monkeypatch):
    session = of_commands(6)
    right, post, lost = golden(session), Function.post, []

    def lose(self, event):
        if event & MailboxEvent.CONTROL and self.number == HOSTILE:
            lost.append(event)
            if len(lost) == 2:
                return
        post(self, event)

    monkeypatch.setattr(Function, "post", lose)
    found = compared(session, right, golden(session))
    assert found is not None
    assert found.kind.startswith("control")


def test_a_frame_that_a_correct_driver_loses_is_noticed(monkeypatch):
    forward, count = Switch.from_function, []

    def lose(self, function, frame, queue):
        count.append(frame)
        return None if len(count) == 5 else forward(self, function, frame, queue)

    monkeypatch.setattr(Switch, "from_function", lose)
    with pytest.raises(Wrong, match=r"of .* frames"):
        golden(generate("3/0", steps=1, sizes=SIZES))


def in_vlans(**vlan):
    """A session with functions in VLANs of their own, and frames of the hostile one to others."""
    session = generate("9/5", steps=1, sizes=(64,))
    session.driver = {"features": KNOWN_FEATURES, "size": 64, "pairs": 1}
    session.paging, session.vlan = {}, {"vid": 7, "priority": 3} | vlan
    chains = []
    for target in (guest_mac(1), guest_mac(2), b"\xff" * 6):
        for tag in (b"", vlan_tag(7), vlan_tag(8)):
            head = bytes(12) + target + guest_mac(HOSTILE) + tag + HOSTILE_TYPE
            piece = [0, 200, 1, None, None]
            chains.append({"table": 0, "odd": 0, "flags": 0, "pieces": [piece],
                           "head": head.hex(), "seed": len(chains)})  # fmt: skip
    room = [
        {"table": 0, "odd": 0, "flags": 0, "head": "", "seed": seed,
         "pieces": [[3, 26, 0, None, None], [2, 1600, 0, None, None]]}
        for seed in range(2)
    ]  # fmt: skip
    session.steps = [["post", 1, 0, chains, []], ["post", 0, 0, room, [60, 1514]]]
    return session


@pytest.mark.parametrize(("hostile", "received"), [(0, 1), (7, 1), (8, 0)])
def test_functions_in_vlans(hostile, received):
    """A trunk reaches VLAN 7 with its tag, a function in it without, one in another not at all."""
    found, own = golden(in_vlans(hostile=hostile))
    # Two unicast frames and one to all.
    assert [len(found["frames"][str(n)]) for n in (1, 2)] == [2 * received] * 2
    refused = 6 if hostile else 0
    assert found["counters"].get("TX_DROPPED", 0) == refused
    assert own["counters"]["RX_PACKETS"] == 2
    assert own["counters"]["RX_BYTES"] == 60 + 1514


def test_a_frame_of_another_vlan_is_noticed(monkeypatch):
    monkeypatch.setattr(Switch, "_member", lambda *_: True)
    with pytest.raises(Wrong, match="another VLAN"):
        golden(in_vlans(hostile=8))


@pytest.mark.full
@pytest.mark.parametrize("hostile", [0, 7, 8])
def test_functions_in_vlans_on_the_rtl(tmp_path, hostile):
    in_vlans(hostile=hostile).save(tmp_path / "session.json")
    found = fuzz_nic(
        name="tiny", sessions=1, replay=[tmp_path / "session.json"], folder=tmp_path,
        progress=False,
    )  # fmt: skip
    assert found["failures"] == []


def of_every_way(*, packed, indirect, ats):
    """A session of all ways of one kind of rings, with EVENT_IDX and without."""
    refused = 0 if packed else 1 << Feature.RING_PACKED
    refused |= 0 if indirect else 1 << Feature.RING_INDIRECT_DESC
    session, kinds = of_ways(), (packed, indirect)
    features = consistent(KNOWN_FEATURES & ~refused & ~(1 << Feature.IN_ORDER))
    session.driver, session.ats = {"features": features, "size": 8, "pairs": 1}, ats
    rings = [["memory_way", RING_ADDRESS, queue, area] for queue in (0, 1) for area in range(3)]
    rings += [["control_way", RING_ADDRESS, area] for area in range(3)]
    steps = [["way", w.name] for w in WAYS if (w.packed, w.indirect) == kinds and 8 in w.sizes]
    steps += [["control_way", w.name] for w in OF_CONTROL_QUEUES if (w.packed, w.indirect) == kinds]
    steps += [
        ["memory_way", way.name, queue]
        for queue in (0, 1)
        for way in MEMORY_WAYS[1:]
        if way.ats in (None, ats)
    ]
    large = {"features": features & ~(1 << Feature.RING_EVENT_IDX), "size": 64, "pairs": 1}
    more = [["way", w.name] for w in WAYS if (w.packed, w.indirect) == kinds and 8 not in w.sizes]
    session.steps = [*steps, *rings, ["setup", large], *more, *rings]
    return session


def names_of(steps, kind):
    return {step[1] for step in steps if step[0] == kind}


@pytest.mark.parametrize("ats", [False, True])
@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=pytest.mark.full)])
@pytest.mark.parametrize("indirect", [False, pytest.param(True, marks=pytest.mark.full)])
def test_every_way_has_its_code(packed, indirect, ats):
    session, counts = of_every_way(packed=packed, indirect=indirect, ats=ats), Counter()
    found = golden(session, counts=counts)
    assert compared(session, found, golden(session, latency=5)) is None
    assert len([one for one in found if "expected" in one]) == len(session.steps) - 1
    for kind in ("way", "control_way", "memory_way"):
        done = {name.split()[1] for name in counts if name.startswith(f"{kind} ")}
        assert done == names_of(session.steps, kind)


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("indirect", [False, True])
def test_every_way_to_be_malformed_on_the_rtl(tmp_path, packed, indirect):
    session = of_every_way(packed=packed, indirect=indirect, ats=packed != indirect)
    session.save(tmp_path / "session.json")
    found = fuzz_nic(
        name="tiny", sessions=1, replay=[tmp_path / "session.json"], folder=tmp_path,
        progress=False,
    )  # fmt: skip
    assert found["failures"] == []
    groups = {
        "way": "ways",
        "control_way": "ways of control queues",
        "memory_way": "ways of memory",
    }
    for kind, group in groups.items():
        done = {name for name, count in found[group].items() if count}
        assert done == names_of(session.steps, kind)


def test_a_page_timeout_that_is_never_over_is_found():
    session = of_ways()
    session.driver["features"] &= ~(1 << Feature.IN_ORDER)
    session.ats, session.steps = True, [["memory_way", PAGE_TIMEOUT, 1]]
    found = golden(session)
    assert found[0]["expected"] == ["PAGE_REQUEST_FAILED"]
    found[0]["errors"] = [0, 0]
    difference = compared(session, found, found)
    assert difference is not None
    assert difference.kind == "memory_way code"


@pytest.mark.full
def test_commands_on_the_rtl(tmp_path):
    of_commands(30).save(tmp_path / "session.json")
    found = fuzz_nic(
        name="tiny", sessions=1, replay=[tmp_path / "session.json"], folder=tmp_path,
        progress=False,
    )  # fmt: skip
    assert found["failures"] == []
    assert found["steps"] == {"control": 30}


@pytest.mark.full
def test_rtl_and_golden_machine_agree(tmp_path):
    found = fuzz_nic(name="tiny", sessions=12, seed=5, folder=tmp_path, progress=False)
    assert found["failures"] == []
    assert found["sessions"] == 12
