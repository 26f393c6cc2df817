"""What the parts of the device TLB tell each other."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.nic.segments import SLOT_BITS

__all__ = [
    "LARGE",
    "PAGE_BITS",
    "VALUE_BITS",
    "AtcAnswer",
    "AtcFill",
    "AtcKey",
    "AtcLook",
    "AtcRange",
]

#: Bits of the number of a page, and of one that it is translated to.
PAGE_BITS = 52
VALUE_BITS = 47
#: Bits of a page's number within a large range, 2 MiB.
LARGE = 9


class AtcKey(data.Struct):
    """A page of a function.  No DMA has a PASID."""

    function: 8
    page: PAGE_BITS


class AtcFill(data.Struct):
    """A translation that the IOMMU has answered, with at least one right."""

    key: AtcKey
    large: 1  # the whole of 2 MiB round it is translated likewise
    r: 1
    w: 1
    value: VALUE_BITS


class AtcRange(data.Struct):
    """Pages of a function, aligned."""

    key: AtcKey
    open: PAGE_BITS  # bits of the page number that may be anything, the lowest ones


class AtcLook(wiring.Signature):
    """Looks a page up, one a cycle.

    ``en`` with ``next`` in cycle n; from cycle n + 1 to the next ``en``, with the same ``key``,
    ``hit`` is whether it may be read, or with ``write`` written, at ``page``.  What is being
    forgotten does not hit any more, even if it did.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "next": Out(AtcKey),
                "key": Out(AtcKey),
                "write": Out(1),
                "hit": In(1),
                "page": In(VALUE_BITS),
            }
        )


class AtcAnswer(wiring.Signature):
    """Shows what the IOMMU has answered.

    ``slot`` is whose answer is looked at; ``stale`` in the same cycle is whether it is too old to
    be used.  With ``answered`` that slot's segment goes on; with ``fills`` too, ``fill`` is what
    the answer was, or what a lookup was of a slot that did not ask.
    """

    def __init__(self):
        super().__init__(
            {
                "slot": Out(SLOT_BITS),
                "stale": In(1),
                "answered": Out(1),
                "fill": Out(AtcFill),
                "fills": Out(1),
            }
        )
