"""What the backup rings have to do with the rest of the NIC."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.nic.offload.findings import FindingNote, FindingRead
from rtl.nic.seams import DmaDone, DmaRequest, StorePort

__all__ = ["BackupPorts"]


class BackupPorts(wiring.Signature):
    """Members of :class:`~rtl.nic.backup.backup.Backup`, as those see them who are connected."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "waits": Out(config.receivers),
                "alloc": Out(stream.Signature(8)),
                "needs_slot": In(1),
                "request": In(stream.Signature(DmaRequest)),
                "done": Out(stream.Signature(DmaDone)),
                "emptying": In(config.functions),
                "store": Out(StorePort()),
                "finding": In(FindingRead()),
                "note": In(FindingNote()),
                "note_free": Out(1),
            }
        )
