"""Configurations: what the named ones have, and what is refused."""

import re
from dataclasses import replace

import pytest

from models.spec.config import CAPABILITY_BITS, CONFIGS, IommuConfig, NicConfig, config
from models.spec.nic import FEATURE_FLAGS


def test_names():
    assert {"tiny", "default", "full", "wide"} <= set(CONFIGS)
    assert all(system.name == name for name, system in CONFIGS.items())
    with pytest.raises(ValueError, match="No configuration 'huge'; there are tiny, default"):
        config("huge")


def test_full_has_every_capability():
    full, default = config("full"), config("default")
    assert all(getattr(full.iommu, name) for name in CAPABILITY_BITS)
    assert (full.iommu.pas, full.iommu.ddt_levels, full.iommu.igs) == (50, 3, 2)
    assert all(getattr(full.nic, flag) for flag in FEATURE_FLAGS)
    queues = ("checksum", "control_queue", "multiqueue", "rss")
    plain = dict.fromkeys(FEATURE_FLAGS, False) | dict.fromkeys(queues, True)
    assert replace(full.nic, **plain) == default.nic
    sizes = ("iotlb_ways", "iotlb_sets", "iotlb_superpages", "misses", "walkers", "hpm_counters")
    for name in sizes:
        assert getattr(full.iommu, name) == getattr(default.iommu, name)


def test_default_has_what_the_demonstration_needs():
    iommu = config("default").iommu
    there = {name for name in CAPABILITY_BITS if getattr(iommu, name)}
    assert there == {"sv39", "sv39x4", "ats", "hpm", "pd8", "msi_flat", "amo_hwad"}
    assert (iommu.pas, iommu.hpm_counters, iommu.walk_cache) == (46, 8, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sv48": True, "sv57": True, "sv39": False}, "sv48 needs sv39"),
        ({"pd17": True}, "pd17 needs pd8"),
        ({"msi_mrif": True}, "msi_mrif needs msi_flat"),
        ({"ats": False, "t2gpa": True}, "t2gpa needs ats"),
        ({"pas": 57}, "pas must be in 34 to 56, not 57"),
        ({"iotlb_sets": 12}, "iotlb_sets must be a power of two in 2 to 4096, not 12"),
    ],
)
def test_iommu_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        IommuConfig(**changes)


def test_nic_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="leaves no room for 8 VFs"):
        NicConfig(device_id=(1 << 24) - 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vfs": 64, "queue_pairs": 4, "tx_slots": 256, "rx_slots": 256},
         "A NIC has at most 512 queues, not 520"),
        ({"dma_tags": 257}, "dma_tags must be in 8 to 256, not 257"),
        ({"vfs": 19}, "tx_slots must be at least 41 for 20 functions, not 40"),
        ({"tx_slots": 256, "rx_slots": 18}, "rx_slots must be at least 19 for 9 functions, not 18"),
        ({"mtu": 1519}, "mtu must be in 68 to 1518, not 1519"),
        ({"dma_slots": 128}, "dma_slots must be a power of two in 2 to 64, not 128"),
    ],
)  # fmt: skip
def test_nic_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NicConfig(**fields)
