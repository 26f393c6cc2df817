"""The golden switch, where the hardware once differed from it."""

from cosim.packets import vlan_tag
from models.nic.function import Function
from models.nic.packets import Packet
from models.spec.config import config
from models.spec.nic import (
    MANAGEMENT,
    FunctionControl,
    FunctionVlan,
    MacFilterHigh,
    Stat,
    initial_mac,
)
from models.spec.virtio import DeviceStatus
from tests.models.switch_alone import switch_alone

TINY = config("tiny").nic


def make(**controls):
    """A switch, its functions, and what it sends; more of FunctionControl for function 3."""
    sent: list[bytes] = []
    functions = [
        Function(TINY, number, lambda *_: None, lambda *_: None) for number in range(TINY.functions)
    ]
    for function in functions:
        more = controls if function.number == 3 else {}
        function.control = FunctionControl.const({"enable": 1} | more).as_bits()
        function.status = DeviceStatus.DRIVER_OK
    return switch_alone(functions, TINY, sent.append), functions, sent


def counted(functions):
    return [
        (f.number, Stat(stat)) for f in functions for stat, count in enumerate(f.stats) if count
    ]


def test_promiscuous_functions_get_everything_but_their_own():
    switch, _, sent = make(promiscuous=1)
    known = initial_mac(1) + bytes(54)
    unknown = bytes(60)
    switch.from_function(2, known)
    switch.from_function(2, unknown)
    switch.from_function(3, known)
    switch.from_port(unknown)
    assert [switch.take(3) for _ in range(3)] == [known, unknown, unknown]
    assert not switch.waiting(3)
    assert [switch.take(1) for _ in range(2)] == [known, known]
    assert sent == [unknown]


def test_a_tag_has_the_functions_vlan_and_priority():
    switch, functions, sent = make(mirror=1)
    functions[1].vlan = FunctionVlan.const({"vid": 0x123, "priority": 5, "enable": 1}).as_bits()
    frame = b"\xff" * 6 + initial_mac(1) + b"\x08\x06" + bytes(46)
    assert switch.from_function(1, frame) is None
    assert sent == [frame[:12] + bytes.fromhex("8100a123") + frame[12:]]
    assert switch.take(3) == sent[0]
    assert switch.take(2) == sent[0]  # in no VLAN: a trunk


def test_behind_a_tag_that_was_taken_away_no_other_is_looked_at():
    """Neither for the queue pair nor for checksums: on the wire there were two."""
    switch, functions, _ = make()
    frame = b"\xff" * 6 + initial_mac(9)
    packet = bytes.fromhex("0800 4500001c000000004011 0000 c0000201 c0000202 1000 2000 0008 0000")
    functions[1].vlan = FunctionVlan.const({"vid": 7, "enable": 1}).as_bits()
    for tags in (1, 2):
        tagged = frame + vlan_tag(7) * tags + packet
        switch.from_port(tagged)
        received = frame + vlan_tag(7) * (tags - 1) + packet
        assert (switch.take(1), switch.take(2)) == (received, tagged)
        assert (Packet.of(received, bare=functions[1].untagged) is None) == (tags == 2)
        assert (Packet.of(tagged, bare=functions[2].untagged) is None) == (tags == 2)


def test_a_frame_that_nobody_gets_is_counted_once():
    switch, functions, _ = make()
    functions[2].status = DeviceStatus(0)
    switch.from_function(1, initial_mac(2) + bytes(54))
    switch.from_function(1, initial_mac(1) + bytes(54))
    switch.from_port(b"\x02\x99" + bytes(58))
    assert counted(functions) == [
        (0, Stat.RX_DROPPED_FILTER),
        (1, Stat.TX_DROPPED),
        (1, Stat.TX_DROPPED_NOBODY),
        (2, Stat.RX_DROPPED_FILTER),
    ]


def test_what_others_see_of_a_frame_does_not_make_up_for_its_owner():
    for control in ("mirror", "promiscuous"):
        switch, functions, _ = make(**{control: 1})
        functions[2].status = DeviceStatus(0)
        for source in (switch.from_port, lambda frame, s=switch: s.from_function(1, frame)):
            source(initial_mac(2) + bytes(54))
        assert functions[2].stats[Stat.RX_DROPPED_FILTER] == 2
        assert counted(functions) == [(2, Stat.RX_DROPPED_FILTER)]
        assert len([switch.take(3) for _ in range(2)]) == 2
        # Nobody's: a promiscuous function asks for it, one that mirrors does not.
        switch.from_port(b"\x02\x99" + bytes(58))
        assert functions[0].stats[Stat.RX_DROPPED_FILTER] == (control == "mirror")
        assert switch.waiting(3)
        # A filter for it makes another its receiver.
        for half, part in (("low", initial_mac(2)[:4]), ("high", initial_mac(2)[4:])):
            valid = (half == "high") * MacFilterHigh.const({"valid": 1}).as_bits()
            register = MANAGEMENT[f"mac_filter_{half}0"].offset
            functions[1].write_management(register, int.from_bytes(part, "little") | valid)
        switch.from_port(initial_mac(2) + bytes(54))
        assert functions[2].stats[Stat.RX_DROPPED_FILTER] == 2
