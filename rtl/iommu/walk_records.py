"""Records of a walk on its way through the walker."""

from amaranth.lib import data, enum

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from rtl.iommu.context_checks import gpa_bits
from rtl.iommu.requests import QosId

__all__ = [
    "GPA_BITS",
    "IOVA_BITS",
    "UNLIMITED",
    "AccessKind",
    "Form",
    "Goal",
    "Rights",
    "StepKind",
    "TableOfStage",
    "WalkFault",
    "WalkFound",
    "WalkGoal",
    "WalkJudged",
    "WalkState",
    "gpa_page_bits",
]

#: Bits of a guest physical address by the levels of the second stage; no more than those of two
#: levels with SXL.
GPA_BITS = {2: 34, 3: 41, 4: 50, 5: 59}
#: Bits of an IOVA by the levels of the first stage.
IOVA_BITS = {2: 32, 3: 39, 4: 48, 5: 57}
#: Range of a stage that is off.
UNLIMITED = 63


def gpa_page_bits(config: IommuConfig) -> int:
    """Bits of the page number of a GPA that its second stage can translate."""
    return gpa_bits(config) - PAGE_SHIFT


class StepKind(enum.IntEnum, shape=3):
    """Why a walk moves on."""

    START = 0
    READ = 1  # the entry that it had asked for is there
    STORED = 2  # its update of A and D is answered
    RESUME = 3  # the MSI unit is free
    MSI = 4  # the MSI unit has judged it


class Goal(enum.IntEnum, shape=3):
    """What a walk does next."""

    DONE = 0
    READ = 1  # the entry of ``state``'s table
    FIRST = 2  # begin the first stage at table ``state.table``
    TABLE = 3  # translate the address of the first-stage entry in table ``gpa_page``
    FINAL = 4  # translate ``gpa_page``
    STORE = 5  # ``data`` over the entry of ``state``'s table, if nobody else did


class WalkFault(enum.IntEnum, shape=3):
    """Why a walk ends; what cause that is depends on the access."""

    NONE = 0
    ACCESS = 1
    PAGE = 2
    GUEST = 3
    CORRUPT = 4


class AccessKind(enum.IntEnum, shape=2):
    """What tells causes of a fault apart."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


class Rights(data.Struct):
    """Rights of a leaf."""

    r: 1
    w: 1
    x: 1
    u: 1
    dirty: 1  # W needs no update of D
    pbmt: 2


class Form(data.Struct):
    """How an entry that was asked for stands in what memory answers."""

    big: 1  # its byte order
    narrow: 1  # it is one of 32 bits
    upper: 1  # which are the higher half, in the order of memory


class WalkState(data.Struct):
    """A walk between two accesses to memory."""

    directory: 1
    second: 1  # in the second stage; else at an entry of the first
    final: 1  # the second stage translates the final address, not a table's
    implicit_write: 1  # the second stage must allow to write a first-stage entry
    locked: 1  # the entry was asked for exclusively
    form: Form
    s_level: 3
    g_level: 3
    table: 44  # page that holds the entry asked for
    gpa_page: 47  # translated by the second stage; later the table's that was reached so
    first: Rights
    glob: 1
    size: 6  # of the first stage
    cut: 1  # the first stage's page is larger than that, but for interrupt files in it


class WalkGoal(data.Struct):
    """What a step decides, with what of its context the access needs.

    With DONE ``fault`` tells why and ``state.table`` is the page translated to; ``implicit`` and
    ``implicit_write`` are of use with the fault GUEST.
    """

    index: 8
    goal: Goal
    state: WalkState
    gpa_page: 52  # of which the second stage may find that it is too wide
    lock: 1
    data: 64
    fault: WalkFault
    implicit: 1
    implicit_write: 1
    second: Rights
    size: 6
    piece: 1  # the second stage's page is smaller than the first's
    table_first: 1  # a first-stage table of the state's s_level was found at page ``state.table``
    table_second: 1  # likewise a second-stage table of the state's g_level
    iova: 64
    s_levels: 3
    g_levels: 3
    sxl: 1
    big: 1  # byte order of the first stage's entries
    g_ppn: 44
    gscid: 16
    pscid: 20
    user: QosId
    msi: 1
    msi_ppn: 44
    msi_mask: 52
    msi_pattern: 52
    access: AccessKind
    resumed: 1
    judged: 1  # by the MSI unit, which holds its result
    keeps: 1  # its walk may fill caches
    cacheable: 1


class WalkJudged(data.Struct):
    """What is known of a walk when a step has looked at what moves it on.

    ``goal`` has what does not depend on it, with the state before the step.
    """

    goal: WalkGoal
    kind: StepKind
    resp: 2
    page: 52  # that the entry points to; with START the table's, or that of the GPA
    leaf: 1
    size: 6  # of the leaf
    rights: Rights
    glob: 1
    fault: 1  # the entry refuses the access
    updates: 1  # A or D is to be set
    turns: 1  # that page is the next GPA's
    strange: 1  # with START: no IOVA of the first stage


class TableOfStage(data.Struct):
    """Where a table is.  ``gpa_page`` and ``glob`` are of use to the first stage alone."""

    ppn: 44  # system physical page
    gpa_page: 47
    glob: 1  # G was set on the way


class WalkFound(data.Struct):
    """What is known of a goal before its entry is chosen.

    ``hits`` are of the stage that begins, by levels of :data:`~rtl.iommu.walk_cache.CACHED_LEVELS`.
    """

    hits: 2
    first: 1  # these are the first stage's
    enters: 1  # the second stage begins
    second: 1  # the stage of the access, and its levels
    s_level: 3
    g_level: 3
    table0: TableOfStage
    table1: TableOfStage
    too_wide: 1  # no GPA of the second stage has that ``gpa_page``
    file: 1  # the final address is an interrupt file's
    limit: 6  # log2 of the largest range round it without files
