"""Offloads of the network device: checksums and segments (virtio 1.3, 5.1.6.2 and 5.1.6.4).

=============== ============================================================ ==============
unit            does                                                         file
=============== ============================================================ ==============
LaneSum         ones' complement sum of chosen bytes of a beat               ``sums``
SlotSums        sums of frames while they are written into their slots       ``slot_sums``
HeaderNotes     headers of what is sent                                      ``notes``
Negotiated      what each function's driver has accepted                     ``negotiated``
Completer       puts checksums into frames that are sent                     ``completer``
Segmenter       writes segments of a TCP packet, with HeaderReader           ``segmenter``
Segmentation    the segmenter with the large buffer, and the frame it cuts   ``segmentation``
Checker         whether a packet's checksum is right, while it passes by     ``checker``
Verdicts        what has been found of frames that wait to be received       ``verdicts``
Verifier        has frames from one function to another checked              ``verifier``
Offload         between virtqueue engine and switch: all that sending needs  ``offload``
=============== ============================================================ ==============

Sums are of 16-bit words whose first byte is the lower one; a sum of words is its own, with its
bytes exchanged, when they are taken the other way round (RFC 1071, 2), so lanes are never turned.
"""
