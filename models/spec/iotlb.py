"""What crosses the ports of the IOTLB, and how its contents follow from that.

The cache model (:mod:`models.cache`) and the analysis of waves rest on these records alone.

Contents
--------
Two arrays: 4 KiB translations in ``sets`` sets of ``ways`` ways, chosen by page number and VM
(:func:`iotlb_set`); everything larger in ``superpages`` fully associative entries.  A translation's
size is the smaller of its two stages' sizes; a Bare stage does not count.  Beside interrupt files
it is the largest size of a page table's page that has none, and it is never that of a page larger
than physical memory.  A fill takes the entry with equal tag if there is one, else the lowest free
way (or entry), else the victim: a FIFO pointer per set, one for the superpages, which advances by
one (modulo) with every fill that had to evict, and starts at 0.
Invalidations clear entries and leave the pointers alone.  A lookup changes nothing.

Order
-----
An operation takes effect in the cycle in which its port accepts it.  Within one cycle the lookup
comes first, then the invalidation, then the fill.

A lookup finds an entry that matches in ``gscid`` (if second stage on), ``pscid`` (if first stage
on; a global entry ignores it), the flags of both stages and of MSI page tables, and the page
number, whatever its permissions are.  The set is named before the VM is known, by what it was at
the device's last lookup; one that is ``elsewhere`` finds no page of 4 KiB.  If its rights do not
suffice, or A or D is to be set, the lookup is walked again and counts as a miss:
``HpmEvent.TLB_MISS`` counts walks and joins; ``IotlbResult.hit`` says which.  A request that had to
wait for an entry of the miss table looks ``again``, and its first lookup alone counts.  Requests
for addresses of interrupt files without a first stage, and ATS requests of devices with T2GPA,
always walk: they are misses, but no lookups.

Details
-------
Of several entries that match, ways come before superpages, lower numbers first.

A request is a supervisor's if ``priv`` is set and its first stage is on.  Others may use an entry
only with ``u``.  Supervisors may use one with ``u`` only with ``sum``, and never execute from it.
Rights suffice if the entry may be used and: for ATS, ``r`` is set, and with ``write`` set ``w``
implies ``dirty``; for others, ``x`` for ``exec``, ``w`` and ``dirty`` for ``write``, and ``r`` with
neither or with ``also_read``.

A fill's tag equals an entry's if the entry's space matches the key as for a lookup, and ``glob``,
the size and the page (aligned to the size) are equal.

VMA is about entries whose first stage is on: of the VM ``gscid`` if ``gv``, else those without
second stage; ``pscv`` spares global entries; ``av`` takes those whose range has a page in common
with ``addr``, or, with ``s``, with the range that ``addr`` encodes: with X ones below its lowest
zero 2^(X + 1) pages, aligned.  A piece of a larger page of the first stage counts as touched by
every address, since ``addr`` may be anywhere in that page.  GVMA is about entries whose second
stage is on, of ``gscid`` if ``gv``.  ``nl`` is not looked at.
"""

from amaranth.lib import data

__all__ = ["IotlbFill", "IotlbInvalidate", "IotlbKey", "IotlbLookup", "IotlbResult", "iotlb_set"]


def iotlb_set(vpn, gscid, sets: int):
    """The set of a 4 KiB page, of integers as of values.

    VMs made alike have the same page numbers, which would meet in one set; their GSCIDs tell them
    apart.  No other ID does, since one command removes a page for all PSCIDs of a VM and visits
    one set.
    """
    return (vpn ^ gscid) & (sets - 1)


class IotlbKey(data.Struct):
    """What a translation is looked up by."""

    gv: 1  # second stage is not Bare
    gscid: 16  # 0 if gv is 0
    pv: 1  # first stage is not Bare
    pscid: 20  # of no meaning if pv is 0
    vpn: 52  # IOVA[63:12]
    msi: 1  # second stage with an MSI page table: its range has no interrupt file


class IotlbLookup(data.Struct):
    """One lookup.  What follows ``tag`` is what rights are judged by."""

    key: IotlbKey
    device_id: 24
    tag: 8
    write: 1
    exec: 1
    priv: 1
    sum: 1
    ats: 1
    also_read: 1
    again: 1  # the request has looked before; it is one lookup
    elsewhere: 1  # another set was read than the page's


class IotlbResult(data.Struct):
    """Outcome of a lookup, in order.  ``hit``: answered from the cache without a walk."""

    hit: 1
    ppn: 44
    size: 6  # log2 bytes
    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1  # W may be granted without an update of D
    pbmt: 2


class IotlbFill(data.Struct):
    """A finished walk's translation, rights of both stages combined; ``u`` is the first's."""

    key: IotlbKey
    ppn: 44
    size: 6  # log2 bytes, 12 to 56
    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1
    pbmt: 2
    piece: 1  # the first stage's page is larger than ``size``


class IotlbInvalidate(data.Struct):
    """IOTINVAL as the IOTLB sees it (section "IOMMU Page-Table cache invalidation commands").

    ``gvma`` 0 is IOTINVAL.VMA, 1 IOTINVAL.GVMA.  Operands as in the command.  GVMA with an
    address removes every entry of the GSCID, since entries are not kept by GPA.
    """

    gvma: 1
    av: 1
    pscv: 1
    gv: 1
    nl: 1
    s: 1
    pscid: 20
    gscid: 16
    addr: 52
