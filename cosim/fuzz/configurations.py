"""Configurations to fuzz: the named ones, and odd geometries and sets of capabilities."""

from dataclasses import replace

from models.spec.config import CAPABILITY_BITS, CONFIGS, IommuConfig, config

__all__ = ["configurations"]

#: What must go with a capability that is left out.
_WITH = {
    "sv39": ("sv48", "sv57"),
    "sv48": ("sv57",),
    "sv39x4": ("sv48x4", "sv57x4"),
    "sv48x4": ("sv57x4",),
    "ats": ("t2gpa",),
    "msi_flat": ("msi_mrif", "amo_mrif"),
    "msi_mrif": ("amo_mrif",),
    "pd8": ("pd17", "pd20"),
    "pd17": ("pd20",),
}


def configurations() -> dict[str, IommuConfig]:
    """All of them, by name."""
    full = config("full").iommu
    small = replace(full, context_entries=3, process_entries=2, iotlb_ways=2, iotlb_sets=4,
                    iotlb_superpages=2, misses=3, walkers=2, walk_cache=2)  # fmt: skip
    found = {name: system.iommu for name, system in CONFIGS.items() if name != "hyper"}
    found |= {
        "one-context": replace(full, context_entries=1, process_entries=1),
        "one-way": replace(full, iotlb_ways=1, iotlb_sets=2, iotlb_superpages=1),
        "three-ways": replace(full, iotlb_ways=3, iotlb_sets=8, iotlb_superpages=3),
        "one-miss": replace(small, misses=1, walkers=1),
        "one-walker": replace(full, misses=8, walkers=1),
        "many-misses": replace(full, misses=32, walkers=32, iotlb_sets=2, iotlb_ways=1),
        "no-walk-cache": replace(small, walk_cache=0),
        "walk-cache-16": replace(small, walk_cache=16),
        "pas-34": replace(small, pas=34),
        "pas-41": replace(small, pas=41),
        "pas-56": replace(small, pas=56),
        "bare-bones": IommuConfig(ats=False, hpm=False, igs=0, sv39x4=False, iotlb_sets=4),
        "second-stage-only": IommuConfig(sv39=False, iotlb_sets=4, iotlb_ways=2, igs=1),
        "sv32-only-x4": replace(small, sv39x4=False, sv48x4=False, sv57x4=False),
    }
    for name in CAPABILITY_BITS:
        gone = dict.fromkeys((name, *_WITH.get(name, ())), False)
        found[f"no-{name.replace('_', '-')}"] = replace(small, **gone)
    return found
