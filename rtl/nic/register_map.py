"""Parts of an address on the NIC's register port."""

from amaranth.lib import enum
from amaranth.utils import exact_log2

from models.spec.nic import (
    ADDRESS_BITS,
    BAR_BYTES,
    CONFIG_BASE,
    CONFIG_BYTES,
    FUNCTION_BYTES,
    MANAGEMENT_BASE,
    MSIX_PBA_OFFSET,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
)

__all__ = [
    "BAR_BITS",
    "BLOCK_BITS",
    "PAGE_BITS",
    "Page",
    "block_function_of",
    "config_function_of",
    "function_of",
    "is_config",
    "is_management",
    "page_of",
]

PAGE_BITS = 12
BAR_BITS = exact_log2(BAR_BYTES)
BLOCK_BITS = exact_log2(FUNCTION_BYTES)
_MANAGEMENT_BIT = exact_log2(MANAGEMENT_BASE)
_CONFIG_BITS = exact_log2(CONFIG_BYTES)
#: Management and configuration spaces, each as large as what is between them.
_REGION_BIT = exact_log2(CONFIG_BASE - MANAGEMENT_BASE)


class Page(enum.Enum, shape=BAR_BITS - PAGE_BITS):
    """Pages of a BAR."""

    CONFIG = 0
    NOTIFY = NOTIFY_OFFSET >> PAGE_BITS
    MSIX_TABLE = MSIX_TABLE_OFFSET >> PAGE_BITS
    MSIX_PBA = MSIX_PBA_OFFSET >> PAGE_BITS


def is_management(addr):
    """Whether an address is in the management pages."""
    return addr[_REGION_BIT:ADDRESS_BITS] == MANAGEMENT_BASE >> _REGION_BIT


def is_config(addr):
    """Whether an address is in a PCI configuration space."""
    return addr[_REGION_BIT:ADDRESS_BITS] == CONFIG_BASE >> _REGION_BIT


def function_of(addr):
    """Function whose BAR an address is in."""
    return addr[BAR_BITS:_MANAGEMENT_BIT]


def page_of(addr):
    """Page of a BAR, to compare with :class:`Page`."""
    return Page(addr[PAGE_BITS:BAR_BITS])


def block_function_of(addr):
    """Function whose management block an address is in."""
    return addr[BLOCK_BITS:_REGION_BIT]


def config_function_of(addr):
    """Function whose configuration space an address is in."""
    return addr[_CONFIG_BITS:_REGION_BIT]
