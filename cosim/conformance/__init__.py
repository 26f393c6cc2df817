"""Replays of conformance vectors (format ``iovirt-iommu-vectors/1``) against any IOMMU.

``vectors`` reads files, ``target`` names what an implementation must offer, ``replayer`` plays
scenarios, ``selection`` decides which of them a configuration can run, ``golden_target`` and
``rtl_target`` are implementations, ``main`` is the command.
"""

from cosim.conformance.main import main

__all__ = ["main"]
