"""Taps on the system's DMA after translation."""

import gc
import warnings
from functools import cache

from amaranth.hdl import UnusedElaboratable

from cosim.bench.ports import TOP, Tap
from models.spec.config import SystemConfig
from rtl.bus.axi import Axi4

__all__ = ["DMA_READS", "DMA_WRITES", "dma_taps"]

_CHANNELS = ("memory__ar", "memory__aw")
#: Streams of the addresses of reads and writes, as the bench names them.
DMA_READS, DMA_WRITES = (f"{TOP}.{name}" for name in _CHANNELS)


@cache
def dma_taps(config: SystemConfig) -> tuple[Tap, ...]:
    """Return taps on the addresses of the system's DMA."""
    # Inside of a simulation the names are enough.
    from rtl.system import System

    # The component is made for its signature alone; it says so when it is collected.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        memory = System(config).signature.members["memory"].signature
        gc.collect()
    assert isinstance(memory, Axi4)
    return tuple(Tap(instance=TOP, name=name, shape=memory.address_layout) for name in _CHANNELS)
