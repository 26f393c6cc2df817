"""Hypervisor and drivers on the golden machine, in configurations that differ for software."""

from dataclasses import replace
from random import Random

import pytest

from cosim.hypervisor.iommu_driver import IommuError
from models.directory import directory_levels
from models.spec.config import CONFIGS, config
from tests.cosim.platform import frame, run


def exchange(functions, name):
    """Frames both ways between guests of two functions, with nothing resident at first."""

    async def scenario(platform):
        rng = Random(1)
        guests = [await platform.guest(function) for function in functions]
        sent = [[frame(guests[1 - n].mac, guests[n].mac, rng) for _ in range(5)] for n in range(2)]
        for n, guest in enumerate(guests):
            for content in sent[n]:
                await guest.driver.send(content)
        await platform.until(lambda: all(len(guest.received) == 5 for guest in guests))
        assert [guest.received for guest in guests] == [sent[1], sent[0]]
        return platform.hypervisor.iommu.directory

    return run(scenario, name=name)


def named(monkeypatch, name, **iommu):
    system = config("wide")
    system = replace(system, name=name, iommu=replace(system.iommu, **iommu))
    monkeypatch.setitem(CONFIGS, name, system)


@pytest.mark.parametrize(("msi_flat", "levels"), [(False, 1), (True, 2)])
def test_directory_is_as_deep_as_the_last_function_needs(monkeypatch, msi_flat, levels):
    """64 VFs from device_id 8: more than the 64 extended contexts of a page, not than 128."""
    named(monkeypatch, "other", msi_flat=msi_flat, ddt_levels=levels)
    directory = exchange((1, 64), "other")
    assert (directory.levels, directory.extended) == (levels, msi_flat)


def test_directory_that_is_not_deep_enough_is_an_error(monkeypatch):
    named(monkeypatch, "flat", msi_flat=True, ddt_levels=1)
    with pytest.raises(IommuError, match="No directory of 2 levels"):
        exchange((1, 2), "flat")


def test_default():
    exchange((1, 2), "default")


@pytest.mark.parametrize(
    ("last", "extended", "levels"),
    [
        *((63, True, 1), (64, True, 2), (0x7FFF, True, 2), (0x8000, True, 3)),
        *((127, False, 1), (128, False, 2), (0xFFFF, False, 2), (0x1_0000, False, 3)),
        *((0xFF_FFFF, True, 3), (0xFF_FFFF, False, 3)),
    ],
)
def test_levels(last, extended, levels):
    assert directory_levels(last, extended=extended) == levels


def test_too_wide_a_device_is_refused():
    with pytest.raises(ValueError, match="24 bits, too few for 0x1000000"):
        directory_levels(1 << 24, extended=False)
