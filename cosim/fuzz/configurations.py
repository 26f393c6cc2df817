"""Configurations to fuzz: the named ones, and odd geometries and sets of capabilities."""

from dataclasses import replace

from models.spec.config import CONFIGS, IommuConfig, config

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


#: Capabilities left out together, with an odd geometry each: a build takes a minute.
_LESS: tuple[tuple[tuple[str, ...], dict[str, int]], ...] = (
    (("sv32x4", "svrsw60t59b", "ats", "nl"),
     {"context_entries": 1, "process_entries": 1, "misses": 8, "walkers": 8}),
    (("sv32", "svpbmt", "amo_hwad", "amo_mrif", "dbg", "s"), {"misses": 8, "walkers": 1}),
    (("sv57", "sv48x4", "msi_mrif", "hpm", "pd20"), {"walk_cache": 0, "pas": 41}),
    (("sv48", "sv57x4", "end", "qosid", "t2gpa", "pd17"), {"iotlb_sets": 2, "iotlb_ways": 1}),
    (("sv39", "pd8"), {"iotlb_superpages": 1}),
    (("sv39x4", "msi_flat"), {"walk_cache": 16, "igs": 0}),
)  # fmt: skip


def configurations() -> dict[str, IommuConfig]:
    """All of them, by name."""
    full = config("full").iommu
    small = replace(full, context_entries=3, process_entries=2, iotlb_ways=2, iotlb_sets=4,
                    iotlb_superpages=2, misses=3, walkers=2, walk_cache=2)  # fmt: skip
    # That of ``complete`` is that of ``default``.
    left_out = "hyper", "complete"
    found = {name: system.iommu for name, system in CONFIGS.items() if name not in left_out}
    found |= {
        "smallest": replace(small, context_entries=1, process_entries=1, iotlb_ways=1,
                            iotlb_sets=2, iotlb_superpages=1, misses=1, walkers=1, walk_cache=0,
                            pas=34),
        "three-ways": replace(full, iotlb_ways=3, iotlb_sets=8, iotlb_superpages=3, misses=5,
                              walkers=3, walk_cache=8, pas=56),
        "many-misses": replace(full, misses=32, walkers=32, iotlb_sets=2, iotlb_ways=1),
        "bare-bones": IommuConfig(ats=False, hpm=False, igs=0, sv39x4=False, iotlb_sets=4),
        "second-stage-only": IommuConfig(sv39=False, iotlb_sets=4, iotlb_ways=2, igs=1),
    }  # fmt: skip
    for names, geometry in _LESS:
        gone = {also: False for name in names for also in (name, *_WITH.get(name, ()))}
        changed = replace(small, **gone, **geometry)
        found["no-" + "-".join(names[:2]).replace("_", "-")] = changed
    return found
