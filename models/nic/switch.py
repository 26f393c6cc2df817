"""The switch between functions and Ethernet port: by VLAN and destination MAC."""

from collections import deque
from collections.abc import Callable, Sequence

from models.nic.backup import Backup
from models.nic.function import Function
from models.nic.packets import vlan_of
from models.spec.config import NicConfig
from models.spec.ethernet import MACS_BYTES, VLAN_TAG_BYTES, EtherType
from models.spec.nic import PORT_SOURCE, FunctionControl, FunctionVlan, Stat

__all__ = ["Switch"]

_FRAME_BYTES_MIN = 14
_BROADCAST = b"\xff" * 6


class Switch:
    """Forwards whole frames, in order, into one FIFO per queue pair of a function.

    Within the switch a frame is as it would be on the wire.  A function with a VLAN sends and
    receives frames of that VLAN alone, without the tag, which the switch adds and takes away; any
    other function sends what it likes and receives untagged frames and, unless it filters VLANs,
    tagged ones.  Among those whose VLAN it is:

    - a frame to a function's MAC or MAC filter goes there alone, and if there is no such function
      to the port (from the port: to nobody);
    - one to a group goes to all but its sender, and to the port; multicast only to functions that
      do not filter it, or to whose filters it matches;
    - promiscuous functions get everything but their own.

    Mirroring functions get everything but their own of all VLANs, as on the wire.

    A receive queue that does not run, or is closed, gets nothing and holds nothing up: its frames
    are dropped (virtio 1.3, 5.1.6.5.6 and 5.1.6.5.7 say so of one that is being reset).

    Parameters
    ----------
    functions : sequence of Function
    config : NicConfig
    transmit : callable
        Sends a frame out of the port.
    backup : Backup
        Where frames wait whose queue waits for a page.
    runs : callable
        ``runs(function, pair)`` tells whether a receive queue runs; frames for others are dropped.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        config: NicConfig,
        transmit: Callable[[bytes], None],
        backup: Backup,
        runs: Callable[[int, int], bool],
    ) -> None:
        self._functions, self._config, self._transmit = functions, config, transmit
        self._backup, self._runs = backup, runs
        self._fifos: list[dict[int, deque[bytes]]] = [
            {pair: deque() for pair in range(config.queue_pairs)} for _ in functions
        ]
        self._depth = config.tx_slots + config.rx_slots

    def waiting(self, number: int, pair: int = 0) -> bool:
        """Whether a function has a frame to receive."""
        return bool(self._fifos[number][pair])

    @property
    def frame_bytes(self) -> int:
        """Longest frame that is forwarded."""
        return self._config.frame_bytes

    def oldest(self, number: int, pair: int = 0) -> bytes:
        """Return a function's oldest frame."""
        return self._fifos[number][pair][0]

    def take(self, number: int, pair: int = 0) -> bytes:
        """Remove and return a function's oldest frame."""
        return self._fifos[number][pair].popleft()

    def flush(self, number: int) -> None:
        """Drop and count what waits for a function that does not receive any longer."""
        for pair in self._fifos[number]:
            self.drop(number, pair)
        self._backup.flush(number)

    def drop(self, number: int, pair: int, more: int = 0) -> None:
        """Drop and count what waits for a queue that does not run any longer, and so many more."""
        fifo = self._fifos[number][pair]
        self._lose(number, pair, len(fifo) + more)
        fifo.clear()

    def _lose(self, number: int, pair: int, frames: int = 1) -> None:
        self._functions[number].count(Stat.RX_DROPPED_QUEUE, frames, queue=2 * pair)

    def _full(self, number: int) -> bool:
        """Whether the FIFOs of a function have no room."""
        return sum(map(len, self._fifos[number].values())) >= self._depth

    def give_back(self) -> bool:
        """Let a frame that waited in a backup ring go to its queue; return whether there is one."""
        found = self._backup.back(lambda number: not self._full(number))
        if found is not None:
            self._put(*found)
        return found is not None

    def _put(self, number: int, pair: int, frame: bytes) -> None:
        if self._runs(number, pair):
            self._fifos[number][pair].append(frame)
        else:
            self._lose(number, pair)

    def from_port(self, frame: bytes) -> None:
        """Forward a frame from the wire; too short or too long ones are dropped and counted."""
        if not _FRAME_BYTES_MIN <= len(frame) <= self._config.frame_bytes:
            self._functions[0].count(Stat.RX_DROPPED_WIRE)
            return
        self._forward(frame, PORT_SOURCE)

    def from_function(self, number: int, frame: bytes, queue: int = 1) -> Stat | None:
        """Forward a frame of a function's queue; return the reason if it may not be sent."""
        function = self._functions[number]
        control, vlan = self._control(function), FunctionVlan.from_bits(function.vlan)
        if control.link_down or not function.enabled:
            return Stat.TX_DROPPED_LINK
        if control.spoof_check and frame[6:12] != function.mac:
            return Stat.TX_DROPPED_MAC
        if vlan.enable:
            if vlan_of(frame) is not None:
                return Stat.TX_DROPPED_VLAN
            tag = (EtherType.VLAN << 16 | vlan.priority << 13 | vlan.vid).to_bytes(4, "big")
            frame = frame[:MACS_BYTES] + tag + frame[MACS_BYTES:]
        elif control.spoof_check and control.vlan_filter and not function.passes(vlan_of(frame)):
            return Stat.TX_DROPPED_VLAN
        self._forward(frame, number, queue)
        return None

    @staticmethod
    def _control(function: Function):
        return FunctionControl.from_bits(function.control)

    def _member(self, function: Function, tagged: int | None) -> bool:
        """Whether frames of a VLAN, ``None`` for untagged ones, are a function's to have."""
        vlan, control = FunctionVlan.from_bits(function.vlan), self._control(function)
        if vlan.enable:
            return tagged == vlan.vid
        return not control.vlan_filter or function.passes(tagged)

    def _wants(self, function: Function, target: bytes) -> bool:
        """Whether a function receives frames to a group."""
        control = self._control(function)
        return (
            target == _BROADCAST or not control.multicast_filter or target in function.mac_filters
        )

    def _forward(self, frame: bytes, source: int, queue: int | None = None) -> None:
        target, tagged = frame[:6], vlan_of(frame)
        group = bool(frame[0] & 1)
        members, receivers, asks = [], [], []
        for number, function in enumerate(self._functions):
            control = self._control(function)
            if not control.enable or control.link_down:
                continue
            if self._member(function, tagged):
                owner = target == function.mac or target in function.mac_filters
                if owner:
                    members.append(number)
                if owner or control.promiscuous or (group and self._wants(function, target)):
                    asks.append(number)
            if control.mirror or number in asks:
                receivers.append(number)
        there = {n for n, f in enumerate(self._functions) if n != source and f.receives}
        for number in receivers:
            if number in there:
                self._deliver(number, frame)
        to_port = source != PORT_SOURCE and (group or not members)
        if to_port:
            self._transmit(frame)
        owners = [n for n, f in enumerate(self._functions) if f.mac == target and n != source]
        # Who promiscuously has a frame of another's, or mirrors, does not make up for its owner.
        if not to_port and there.isdisjoint(members if owners else asks):
            self._blame(source, queue, owners)

    def _blame(self, source: int, queue: int | None, owners: list[int]) -> None:
        """Count a frame that nobody gets for whom it is."""
        if source == PORT_SOURCE or owners:
            self._functions[min(owners, default=0)].count(Stat.RX_DROPPED_FILTER)
        else:
            for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_NOBODY):
                self._functions[source].count(stat, queue=queue)

    def _deliver(self, number: int, frame: bytes) -> None:
        function = self._functions[number]
        tagged = vlan_of(frame)
        if function.untagged:
            frame, tagged = frame[:MACS_BYTES] + frame[MACS_BYTES + VLAN_TAG_BYTES :], None
        header = _FRAME_BYTES_MIN + (0 if tagged is None else VLAN_TAG_BYTES)
        if len(frame) - header > self._config.mtu:
            function.count(Stat.RX_DROPPED_LONG)
            return
        pair, full = function.pair_of(frame), self._full(number)
        backed_up = self._backup.takes(number, pair, full=full)
        if full and not backed_up:
            function.count(Stat.RX_DROPPED_FULL)
            return
        if backed_up and self._runs(number, pair):
            self._backup.put(number, pair, frame)
        else:
            self._put(number, pair, frame)
        function.count_group(frame, Stat.RX_MULTICAST, Stat.RX_BROADCAST)
