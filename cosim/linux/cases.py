"""What is run: guests, their functions, what they test."""

from dataclasses import dataclass, field, replace
from typing import Any

from models.spec.config import SystemConfig, config
from models.spec.nic import CONTROLLED_FLAGS

__all__ = ["CASES", "IGNORED", "PLANTS", "Case"]

#: Planted mistakes: of how many invalidations of a guest's own one is not seen by the IOMMU.
IGNORED = {"no-iotinval": 1, "tenth-iotinval": 10}
#: All of them: and none of pages that are taken away.
PLANTS = ("no-invalidation", *IGNORED)

_BASIC = ("probe", "ping", "ping_large", "flood", "udp", "tcp")
_LIFE = ("rebind", "rebind_pci", "reset", "updown", "mtu", "tcp")
_END = ("checksums", "log")
#: Guests talk to one another; none begins before all are ready, or ends before all are done.
_TALK = ("probe", "serve", "meet", "ping", "ping_large", "flood", "datagrams", "tcp", "meet")
_RINGS = ("queues", "spread", "address", "promiscuous")
_PAIRS = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case.

    Parameters
    ----------
    name, what : str
        What users call it, and what it shows.
    architecture : str
        Of the guests: Debian's name.
    tests : tuple of str
        Of ``guest.sh``, in order.
    paged : bool
        Pages are not present at first, and are taken away again; else all are there.
    ats : bool
        The function translates by ATS.
    guests : int
        Each has a function of its own.  With several, the tests' peer of each is the next one.
    owns_iommu : bool
        The guest has the IOMMU too, as on a machine without hypervisor.
    domain : str
        Type of the NIC's domain that such a guest's kernel must have chosen.
    physical : bool
        The function is the PF, with its interrupt pin; else a VF.
    builds : bool
        It needs a kernel that Debian does not have, which is built (:mod:`cosim.linux.kernel`).
    nic, iommu : dict
        Members of :class:`~models.spec.config.NicConfig` and
        :class:`~models.spec.config.IommuConfig` that differ from the configuration's.
    cpus : int
        Processors of a guest.
    flood : int
        Pings of the test ``flood``.
    payload : int
        Bytes of the file that is moved by UDP and TCP.
    memory_mb : int
        RAM of a guest.
    """

    name: str
    what: str
    architecture: str = "amd64"
    tests: tuple[str, ...] = _BASIC + _LIFE + _END
    guests: int = 1
    owns_iommu: bool = False
    domain: str = "identity"
    physical: bool = False
    builds: bool = False
    paged: bool = False
    ats: bool = False
    nic: dict[str, Any] = field(default_factory=dict)
    iommu: dict[str, Any] = field(default_factory=dict)
    cpus: int = 1
    flood: int = 100
    payload: int = 60_000
    memory_mb: int = 128

    @property
    def slots(self) -> tuple[str, str]:
        """Slots of IOMMU and NIC function on the guest's root bus.

        With the IOMMU in the guest's hands, the function's routing ID there is its device_id.
        """
        if self.physical:
            return "2.0", "1.0"
        return ("1.0", "1.1") if self.owns_iommu else ("", "5.0")

    def function(self, guest: int) -> int:
        """Number of a guest's function; the first guest is number 1."""
        return 0 if self.physical else guest

    def system(self, name: str) -> SystemConfig:
        """Return the hardware: a named configuration with this case's changes."""
        base = config(name)
        return replace(
            base, nic=replace(base.nic, **self.nic), iommu=replace(base.iommu, **self.iommu)
        )


_RISCV = Case(
    name="riscv64-identity",
    what="the kernel's own riscv-iommu driver on the IOMMU, the NIC in an identity domain",
    architecture="riscv64",
    tests=(*_BASIC, "iommu", *_LIFE, "iommu", *_END),
    owns_iommu=True,
    # Who answers control queues needs the IOMMU.
    nic=dict.fromkeys(CONTROLLED_FLAGS, False),
    # Linux 7.2 asks its page tables for what they lack if the IOMMU has Svpbmt.
    iommu={"svpbmt": False},
    memory_mb=256,
)
CASES = {
    case.name: case
    for case in (
        Case(name="amd64-vf", what="a VF, all memory present behind a second stage"),
        Case(
            name="amd64-paged",
            what="no page present at first, and pages taken away under traffic: ATS, PRI, retry",
            paged=True,
            ats=True,
        ),
        Case(
            name="two-guests",
            what="two guests on two VFs talk to each other through the switch",
            tests=(*_TALK, "outside", *_END),
            guests=2,
        ),
        Case(
            name="split-rings",
            what="split rings, two queue pairs with RSS, a control queue",
            tests=(*_BASIC, *_RINGS, *_END),
            nic={
                **dict.fromkeys(("control_queue", "multiqueue", "rss"), True),
                "queue_pairs": _PAIRS,
                "msix_vectors": 8,
            },
            cpus=_PAIRS,
        ),
        Case(
            name="rings",
            what="packed rings, two queue pairs with RSS, mergeable buffers, a control queue",
            tests=(*_BASIC, *_RINGS, *_LIFE, *_RINGS, *_END),
            nic={
                **dict.fromkeys(("packed", "indirect", "event_idx", "mergeable"), True),
                **dict.fromkeys(("control_queue", "multiqueue", "rss"), True),
                "queue_pairs": _PAIRS,
                "msix_vectors": 8,
            },
            cpus=_PAIRS,
        ),
        _RISCV,
        replace(
            _RISCV,
            name="riscv64-dma",
            what="the PF in a DMA domain: tables of the kernel's, and invalidations",
            tests=("pin", *_BASIC, "iommu", *_LIFE, "domains", "flood", "tcp", "iommu", *_END),
            domain="DMA",
            physical=True,
            builds=True,
        ),
    )
}
