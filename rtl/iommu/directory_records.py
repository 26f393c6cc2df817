"""Records between the translator and the directory."""

from amaranth.lib import data

from models.spec.translation import AddressType
from rtl.iommu.requests import Context, ProcessState

__all__ = ["ContextFill", "DirectoryRequest"]


class DirectoryRequest(data.Struct):
    """Whose contexts are wanted, for which request (miss-table entry ``index``)."""

    index: 8
    at: AddressType
    device_id: 24
    process_id: 20
    pv: 1


class ContextFill(data.Struct):
    """What was found, or why not (``cause`` not 0).

    ``process_id`` is 0 for a request without one.  With ``guest`` the second stage refused ``gpa``
    while the process directory was read: a guest page fault, implicit, of the request's own kind
    of access (``cause`` then need not be exact).  A device context can be good though ``cause`` is
    set: it is the process context's.  Without ``process_valid`` and ``cause`` none was needed, or
    the request is refused (:func:`~rtl.iommu.context_checks.refused`).
    """

    device_id: 24
    process_id: 20
    cause: 12
    guest: 1
    gpa: 64
    implicit_write: 1
    context_valid: 1
    context: Context  # of the device alone
    process_valid: 1
    process: ProcessState
    ddt_walk: 1  # what was read, for the counters
    pdt_walk: 1
