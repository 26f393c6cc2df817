"""A golden switch of a NIC whose functions have no backup rings."""

from collections.abc import Callable, Sequence
from typing import cast

from models.nic.backup import Backup
from models.nic.dma import Dma
from models.nic.function import Function
from models.nic.switch import Switch
from models.spec.config import NicConfig

__all__ = ["switch_alone"]


def switch_alone(
    functions: Sequence[Function], config: NicConfig, transmit: Callable[[bytes], None]
) -> Switch:
    """Return the switch; there is no DMA, and all queues run and none waits for a page."""
    backup = Backup(config, functions, cast(Dma, None), lambda *_: False)
    return Switch(functions, config, transmit, backup, lambda *_: True)
