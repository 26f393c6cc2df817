"""What can be seen of the hostile function from outside of its driver."""

from collections import Counter

from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import Virtqueue
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.nic_fuzz.world import HOSTILE
from models.spec.nic import MAC_FILTERS, MANAGEMENT, VLAN_FILTERS, Stat, function_block
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH

__all__ = ["COUNTED", "Counts", "Watch", "used_by_device"]

#: Counters whose value does not depend on when things happen: frames for a queue that ends find no
#: room while it does, or no queue.
COUNTED: dict[str, tuple[Stat, ...]] = {
    **{s.name: (s,) for s in (Stat.TX_PACKETS, Stat.TX_BYTES, Stat.RX_PACKETS, Stat.RX_BYTES)},
    **{s.name: (s,) for s in Stat if s.name.startswith("TX_DROPPED")},
    **{s.name: (s,) for s in (Stat.TX_CHECKSUMS, Stat.TX_SEGMENTED)},
    **{s.name: (s,) for s in (Stat.RX_DROPPED_BUFFER, Stat.RX_DROPPED_REFUSED)},
    "RX_DROPPED": (Stat.RX_DROPPED_FULL, Stat.RX_DROPPED_QUEUE),
}
#: Likewise of queues; their drivers ring as often as a step says.
_OF_QUEUES = {*COUNTED, "NOTIFICATIONS"}
#: Counters of the function, and of its queues.
Counts = tuple[list[int], Counter[str]]
#: Registers that commands change.
_SETTINGS = (
    *("control", "mac_low", "mac_high", "rss", "rss_types"),
    *(f"rss_key{n}" for n in range(RSS_KEY_BYTES // 4)),
    *(f"rss_table{n}" for n in range(RSS_TABLE_LENGTH // 4)),
    *(f"mac_filter_{half}{n}" for n in range(MAC_FILTERS) for half in ("low", "high")),
    *(f"vlan_filter{n}" for n in range(VLAN_FILTERS)),
    *(f"coalescing{n}" for n in range(4)),
)


class Watch:
    """Looks at the function of a VM.

    Parameters
    ----------
    hypervisor : Hypervisor
    vm : Vm
    """

    def __init__(self, hypervisor: Hypervisor, vm: Vm) -> None:
        self._hypervisor, self._vm = hypervisor, vm

    async def counts(self) -> Counts:
        """What counters are at."""
        return await self.counters(), await self.of_queues()

    def interrupts(self, vectors: int) -> Counter[int]:
        """Messages that have come, by vector."""
        return Counter({v: self._vm.interrupts[HOSTILE << 8 | v] for v in range(vectors)})

    async def counters(self) -> list[int]:
        """Those of the function, as in ``COUNTED``."""
        stat = self._hypervisor.stat
        return [sum([await stat(HOSTILE, s) for s in stats]) for stats in COUNTED.values()]

    async def of_queues(self) -> Counter[str]:
        """Counters of the queues there can be."""
        queues = range(2 * self._hypervisor.config.nic.queue_pairs)
        found: Counter[str] = Counter()
        for queue in queues:
            for name, count in (await self._hypervisor.queue_stats(HOSTILE, queue)).items():
                if name in _OF_QUEUES:
                    found[f"{queue} {name}"] = count
        return found

    async def settings(self) -> list[int]:
        """What commands change in the function's management block."""
        block = function_block(HOSTILE)
        return [
            await self._hypervisor.port.mmio_read("nic", block + MANAGEMENT[name].offset)
            for name in _SETTINGS
        ]


def used_by_device(memory, queue: Virtqueue) -> list[list[int]]:
    """What the device has given back, in the order of the ring."""
    desc, _, device = queue.areas
    if isinstance(queue, SplitQueue):
        index = int.from_bytes(memory.read(device[0] + 2, 2), "little")
        raw = memory.read(device[0] + 4, 8 * queue.size)
        words = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        return [[index], words]
    raw = memory.read(desc[0], desc[1])
    return [[int.from_bytes(raw[at + 8 : at + 16], "little")] for at in range(0, len(raw), 16)]
