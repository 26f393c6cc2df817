"""The golden switch under random policies, and how hardware is told of them."""

from models.nic.function import Function
from models.nic.packets import vlan_of
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
from rtl.nic.seams import FrameForm
from tests.models.switch_alone import switch_alone

TINY = config("tiny").nic
ALL = range(TINY.functions)
MACS = [bytes((2, n & 1, 0, 0, n >> 1, 7)) for n in range(4)]
GROUPS = [b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x33\x33\x00\x00\x00\x01"]
#: One of them often, so that frames and functions meet.
VLANS = (0, 5, 5, 5, 0x45, 0x105)
SENT = (Stat.TX_PACKETS, Stat.TX_BYTES, Stat.TX_MULTICAST, Stat.TX_BROADCAST)


def formed(frame: bytes, form: FrameForm, tag: bytes) -> bytes:
    """A frame in a slot, as its receiver has it."""
    cut, added = (4, b"") if form == FrameForm.UNTAGGED else (0, b"")
    if form == FrameForm.TAGGED:
        added = tag
    return frame[:12] + added + frame[12 + cut :]


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

    @staticmethod
    def head(frame):
        """What ingress finds of a frame."""
        vlan = vlan_of(frame)
        return {
            "destination": int.from_bytes(frame[:6], "little"),
            "tagged": vlan is not None,
            "tci": int.from_bytes(frame[14:16], "big"),
        }

    def frame(self):
        rng = self.rng
        tag = b"" if rng.random() < 0.5 else b"\x81\x00" + rng.choice(VLANS).to_bytes(2, "big")
        size = rng.choice((0, 44, 1486, 1498, 1500, 1501, 1518))
        frame = self._macs() + rng.choice(MACS) + (tag + b"\x88\xb5" + rng.randbytes(size))
        # Now and then what begins with a tag ends in it, or with it.
        return frame if rng.random() < 0.9 else frame[: rng.choice((14, 15, 16))]

    def forward(self, source, frame):
        """Return what each function gets of it, and the port, and what is counted."""
        for function in self.functions:
            function.stats = [0] * len(Stat)
        sent = len(self.wire)
        if source == PORT_SOURCE:
            self.switch.from_port(frame)
        else:
            dropped = Stat.TX_DROPPED_LINK
            if self.functions[source].may:
                dropped = self.switch.from_function(source, frame)
            self._count(self.functions[source], frame, dropped)
        have = {n: self.switch.take(n) for n in ALL if self.switch.waiting(n)}
        counts = {
            (n, Stat(stat)): value
            for n, function in enumerate(self.functions)
            for stat, value in enumerate(function.stats)
            if value
        }
        return have, self.wire[sent:], counts

    @staticmethod
    def _count(function, frame, dropped):
        """As the golden servant does."""
        if dropped is not None:
            function.count(Stat.TX_DROPPED)
            function.count(dropped)
            return
        function.count(Stat.TX_PACKETS)
        function.count(Stat.TX_BYTES, len(frame))
        if frame[0] & 1:
            broadcast = frame[:6] == GROUPS[0]
            function.count(Stat.TX_BROADCAST if broadcast else Stat.TX_MULTICAST)
