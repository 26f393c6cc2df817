"""What cells take of an ECP5-85."""

from collections.abc import Mapping

__all__ = ["SITES", "describe_sites", "fits", "sites_of"]

#: What LFE5U-85F and LFE5UM5G-85F have (FPGA-DS-02012, table 1.1): LUTs, block RAMs, multipliers.
SITES: dict[str, int] = {"LUT": 83_640, "DP16KD": 208, "MULT18X18D": 156}
#: LUTs that each cell takes the place of.  A TRELLIS_DPR16X4 is four, and its write side the two of
#: a slice beside them.
_LUTS = {"LUT4": 1, "CCU2C": 2, "DPR": 6}


def sites_of(cells: Mapping[str, int]) -> dict[str, int]:
    """Return how many sites of each kind cells take, as ``SITES`` has them.

    nextpnr counts about 1% less: what drives nothing is not in its netlist any more.
    """
    return {
        "LUT": sum(number * cells[name] for name, number in _LUTS.items()),
        "DP16KD": cells["DP16KD"],
        "MULT18X18D": cells["MULT18X18D"],
    }


def fits(cells: Mapping[str, int]) -> bool:
    """Return whether the device has so many sites; placing takes some room beside."""
    return all(number <= SITES[name] for name, number in sites_of(cells).items())


def describe_sites(cells: Mapping[str, int]) -> str:
    """Return sites taken and there, as text."""
    return ", ".join(
        f"{number:,} of {SITES[name]:,} {name} ({number / SITES[name]:.0%})"
        for name, number in sites_of(cells).items()
    )
