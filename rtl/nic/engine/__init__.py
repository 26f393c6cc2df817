"""Virtqueue engine: many packets of many queues under way at once.

================ ========================================================= =====================
unit             does                                                      file
================ ========================================================= =====================
RingFetch        reads rings; puts descriptors into each queue's buffer    ``ring_fetch``
Chains           the part of it that takes descriptors                     ``chains``
Build            descriptors to DMA: one packet after another, any queue   ``build``
SendBuild        the same of frames that are sent                          ``build_send``
ReceiveBuild     and of those that are received                            ``build_receive``
Completions      ends of DMA: pieces of a packet, how it fared             ``completions``
Commit           packets in order: to the switch, back, into used elements ``commit``
UsedRing         used elements in batches, used index, interrupt           ``used_ring``
Prefetch         translations of the pages that descriptors name            ``prefetch``
Requests         tags: who asked for which DMA                             ``requests``
Lifecycle        starts and stops queues                                   ``lifecycle``
================ ========================================================= =====================

``Build``, ``Completions`` and ``Commit`` are there twice, in a :class:`~rtl.nic.engine.lane.Lane`
for each direction; the others serve all queues.  Records are in ``records``.
"""

from rtl.nic.engine.engine import VirtqueueEngine

__all__ = ["VirtqueueEngine"]
