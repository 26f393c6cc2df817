"""Commands of a guest's control queue, carried out by the PF's management registers."""

from collections.abc import Awaitable, Callable

from cosim.hypervisor.coalescing import CoalescingControl
from models.spec.nic import (
    MAC_FILTERS,
    VLAN_FILTERS,
    FunctionControl,
    MacFilterHigh,
    RssControl,
    VlanFilter,
)
from models.spec.virtio import Feature
from models.spec.virtio_net import (
    RSS_KEY_BYTES,
    RSS_TABLE_LENGTH,
    ControlAck,
    ControlClass,
    ControlMac,
    ControlMq,
    ControlRx,
    ControlVlan,
    HashType,
    RssHead,
)

__all__ = ["NetControl"]

_MAC_BYTES, _COUNT_BYTES = 6, 4
_HEAD_BYTES = RssHead.as_shape().size // 8
#: Steering by flow when the driver leaves it to the device (5.1.6.5.5): any key will do.
_FLOW_KEY = bytes((37 * n + 109) % 256 for n in range(RSS_KEY_BYTES))

_OK, _ERR = ControlAck.OK, ControlAck.ERR


class NetControl:
    """Filters and steering of one function.

    Filters are best effort (virtio 1.3, 5.1.6.5.1): with more MACs or VLANs than the function has
    filters for, it is promiscuous, or receives all multicast, or all VLANs.

    A function whose sender is checked (``spoof_check``) is not trusted: it has its own MAC and
    groups, and whatever would bring it frames to others is refused.

    Parameters
    ----------
    write : callable
        ``await write(register, value)`` stores to the function's management block.
    control : callable
        Returns FunctionControl as the hypervisor has set it.
    pairs : int
        Queue pairs of the function.
    mac : callable
        Returns the function's MAC.
    set_mac : callable
        ``await set_mac(mac)`` changes it.
    vlans : frozenset of int or None
        VLANs that the driver may have, ``None`` for all.
    clock_mhz : int
        Clock of the hardware.
    enabled : callable
        As CoalescingControl has it.
    receiving : callable
        ``await receiving()`` returns the function's register of that name.
    """

    def __init__(
        self,
        write: Callable[[str, int], Awaitable[None]],
        control: Callable[[], int],
        pairs: int,
        *,
        mac: Callable[[], bytes],
        set_mac: Callable[[bytes], Awaitable[None]],
        vlans: frozenset[int] | None,
        clock_mhz: int,
        enabled: Callable[[], Awaitable[int]],
        receiving: Callable[[], Awaitable[int]],
    ) -> None:
        self._receiving = receiving
        self._write, self._base, self._pairs = write, control, pairs
        self._mac, self._set_mac, self._allowed = mac, set_mac, vlans
        #: Coalescing of its queues.
        self.coalescing = CoalescingControl(write, pairs, clock_mhz, enabled)
        self._forget(0)

    def _forget(self, features: int) -> None:
        self._features = features
        self._promiscuous = self._all_multicast = False
        #: What FunctionControl says of filters; at first it is not known.
        self._filtering = False, True, True
        self._unicast: list[bytes] = []
        self._multicast: list[bytes] = []
        self._filters_macs = False
        self._vlans: list[int] = []
        #: Receive queue pairs that are closed, and of them those that may have frames under way.
        self._closed = self._closing = 0

    def accepted(self, feature: Feature) -> bool:
        """Whether the driver has accepted a feature."""
        return bool(self._features >> feature & 1)

    @property
    def trusted(self) -> bool:
        """Whether the driver may have frames that are for others."""
        return not FunctionControl.from_bits(self._base()).spoof_check

    def _may_have(self, mac: bytes) -> bool:
        """Whether the driver may have frames to a MAC."""
        return self.trusted or bool(mac[0] & 1) or mac == self._mac()

    async def reset(self, features: int = 0) -> None:
        """Begin anew, for a driver with these features."""
        self._forget(features)
        await self._write("rss", 0)
        await self._filter()
        await self.coalescing.reset(features)

    async def answer(self, kind: int, command: int, data: bytes) -> tuple[bytes, ControlAck]:
        """Carry out a command; returns what the driver is told before the answer."""
        if kind == ControlClass.NOTF_COAL:
            return await self.coalescing.answer(command, data)
        return b"", await self._carry_out(kind, command, data)

    def abandon(self) -> None:
        """The last command will not be answered."""
        self._closing = 0

    async def settled(self) -> bool:
        """Whether what the last command has ended is over: before that it must not be answered."""
        if self._closing:
            self._closing &= await self._receiving()
        return not self._closing

    async def _carry_out(self, kind: int, command: int, data: bytes) -> ControlAck:
        if kind == ControlClass.RX and self.accepted(Feature.NET_CTRL_RX):
            return await self._receive(command, data)
        if kind == ControlClass.MAC:
            return await self._macs(command, data)
        if kind == ControlClass.VLAN and self.accepted(Feature.NET_CTRL_VLAN):
            return await self._vlan(command, data)
        if kind == ControlClass.MQ and command == ControlMq.PAIRS_SET:
            return await self._pairs_set(data)
        if kind == ControlClass.MQ and command == ControlMq.RSS_CONFIG:
            return await self._rss(data)
        return _ERR

    # Filters -------------------------------------------------------------------------------------

    async def _receive(self, command: int, data: bytes) -> ControlAck:
        if len(data) != 1:
            return _ERR
        if command == ControlRx.PROMISC:
            if data[0] and not self.trusted:
                return _ERR
            self._promiscuous = bool(data[0])
        elif command == ControlRx.ALLMULTI:
            self._all_multicast = bool(data[0])
        else:
            return _ERR
        await self._filter()
        return _OK

    async def _macs(self, command: int, data: bytes) -> ControlAck:
        if command == ControlMac.ADDR_SET and self.accepted(Feature.NET_CTRL_MAC_ADDR):
            if len(data) != _MAC_BYTES or data[0] & 1 or not self._may_have(data):
                return _ERR
            if data != self._mac():  # else nothing changes of which drivers were to be told
                await self._set_mac(data)
            return _OK
        if command != ControlMac.TABLE_SET or not self.accepted(Feature.NET_CTRL_RX):
            return _ERR
        tables = []
        for _ in range(2):
            entries, data = data[:_COUNT_BYTES], data[_COUNT_BYTES:]
            count = int.from_bytes(entries, "little")
            if len(data) < _MAC_BYTES * count or len(entries) < _COUNT_BYTES:
                return _ERR
            tables.append([data[n * _MAC_BYTES : (n + 1) * _MAC_BYTES] for n in range(count)])
            data = data[_MAC_BYTES * count :]
        unicast, multicast = tables
        if not all(map(self._may_have, unicast + multicast)):
            return _ERR
        if not self.trusted:  # its own MAC needs no filter, and too many make nothing promiscuous
            unicast, multicast = [], [mac for mac in unicast + multicast if mac[0] & 1]
        self._unicast, self._multicast = unicast, multicast
        self._filters_macs = True
        await self._filter()
        return _OK

    async def _vlan(self, command: int, data: bytes) -> ControlAck:
        vlan = int.from_bytes(data, "little")
        if len(data) != 2 or vlan >= 1 << 12 or command not in list(ControlVlan):
            return _ERR
        if command == ControlVlan.ADD:
            if self._allowed is not None and vlan not in self._allowed:
                return _ERR
            if vlan in self._vlans:
                return _OK
            self._vlans = [*self._vlans, vlan]
        else:
            self._vlans = [known for known in self._vlans if known != vlan]
        await self._filter()
        return _OK

    async def _filter(self) -> None:
        """Set the function's filters; what passes before and afterwards does so meanwhile."""
        macs = self._unicast + self._multicast
        room = len(macs) <= MAC_FILTERS
        vlans, filtered = self._vlans, self.accepted(Feature.NET_CTRL_VLAN)
        if self._allowed is not None and not filtered:
            vlans, filtered = sorted(self._allowed), True
        if len(vlans) > VLAN_FILTERS:
            vlans, filtered = [], False
        base = FunctionControl.from_bits(self._base())
        before, after = self._filtering, self._filtering_of(base, room, filtered)
        widest = before[0] or after[0], before[1] and after[1], before[2] and after[2]
        self._filtering = after
        if widest != before:
            await self._write("control", self._control(base, widest))
        for number in range(MAC_FILTERS):
            mac = macs[number] if room and number < len(macs) else b""
            high = {"mac": int.from_bytes(mac[4:], "little"), "valid": bool(mac)}
            await self._write(f"mac_filter_low{number}", int.from_bytes(mac[:4], "little"))
            await self._write(f"mac_filter_high{number}", MacFilterHigh.const(high).as_bits())
        for number in range(VLAN_FILTERS):
            fields = {"vid": vlans[number], "valid": 1} if number < len(vlans) else {}
            await self._write(f"vlan_filter{number}", VlanFilter.const(fields).as_bits())
        await self._write("control", self._control(base, after))

    def _filtering_of(self, base, room: bool, filtered: bool) -> tuple:
        """promiscuous, multicast_filter, vlan_filter of FunctionControl."""
        return (
            base.promiscuous or self._promiscuous or (self._unicast and not room),
            self._filters_macs and room and not self._all_multicast,
            filtered,
        )

    @staticmethod
    def _control(base, filtering: tuple) -> int:
        """FunctionControl: promiscuous, multicast_filter, vlan_filter; the rest is the base's."""
        fields = {name: getattr(base, name) for name, _ in FunctionControl.as_shape()}
        names = "promiscuous", "multicast_filter", "vlan_filter"
        fields |= {name: int(bool(on)) for name, on in zip(names, filtering, strict=True)}
        return FunctionControl.const(fields).as_bits()

    # Steering ------------------------------------------------------------------------------------

    async def _pairs_set(self, data: bytes) -> ControlAck:
        """Steer by flow over some queue pairs; others receive nothing any more (5.1.6.5.5)."""
        pairs = int.from_bytes(data, "little")
        if not self.accepted(Feature.NET_MQ) or len(data) != 2 or not 1 <= pairs <= self._pairs:
            return _ERR
        table = bytes(n % pairs for n in range(RSS_TABLE_LENGTH))
        await self._steer(sum(HashType), table, _FLOW_KEY, 0, closed=-(1 << pairs))
        return _OK

    async def _rss(self, data: bytes) -> ControlAck:
        """Steer as the driver says (5.1.6.5.7)."""
        if not self.accepted(Feature.NET_RSS) or len(data) < _HEAD_BYTES:
            return _ERR
        head = RssHead.from_bits(int.from_bytes(data[:_HEAD_BYTES], "little"))
        entries, data = head.indirection_table_mask + 1, data[_HEAD_BYTES:]
        table, data = data[: 2 * entries], data[2 * entries :]
        key = data[3:]
        pairs = [int.from_bytes(table[n : n + 2], "little") for n in range(0, len(table), 2)]
        sound = (
            entries <= RSS_TABLE_LENGTH
            and not entries & (entries - 1)
            and len(pairs) == entries
            and len(data) >= 3
            and data[2] == len(key) <= RSS_KEY_BYTES
            and all(pair < self._pairs for pair in (*pairs, head.unclassified_queue))
            and not head.hash_types & ~sum(HashType)
        )
        if not sound:
            return _ERR
        await self._steer(head.hash_types, bytes(pairs), key, head.unclassified_queue)
        return _OK

    async def _steer(
        self, types: int, table: bytes, key: bytes, unclassified: int, *, closed: int = 0
    ) -> None:
        """Set key and table, with steering off meanwhile; close some receive queue pairs."""
        closed &= (1 << self._pairs) - 1
        before, self._closed, self._closing = self._closed, closed, closed
        await self._write("rss", RssControl.const({"closed": before | closed}).as_bits())
        await self._write("rss_types", types)
        key, entries = key.ljust(RSS_KEY_BYTES, b"\0"), len(table)
        table = table.ljust(RSS_TABLE_LENGTH, b"\0")
        for name, content in (("rss_key", key), ("rss_table", table)):
            for number in range(len(content) // 4):
                word = int.from_bytes(content[4 * number : 4 * number + 4], "little")
                await self._write(f"{name}{number}", word)
        control = {"table_mask": entries - 1, "unclassified": unclassified, "enable": 1}
        await self._write("rss", RssControl.const(control | {"closed": closed}).as_bits())
