"""``iovirt bench hyper``: more tenants than one page of a device directory holds."""

from types import SimpleNamespace

import pytest

from cosim.benchmarks.hyper import bench_hyper
from cosim.benchmarks.tables import Tables
from models.memory import Memory
from models.spec.config import config
from models.timing.hyper import TENANTS

BASE, BYTES, IOVA = 0x8000_0000, 1 << 24, 0x4000_0000


def test_every_tenant_of_the_curve_has_a_place_in_the_directory():
    iommu = config("hyper").iommu
    machine = SimpleNamespace(memory=Memory())
    tables = Tables(machine, BASE, BYTES, extended=iommu.msi_flat, levels=iommu.ddt_levels)
    for device in (1, 64, max(TENANTS)):
        tables.one_stage(device, IOVA, 1)
        assert tables.directory.slot(device) is not None


@pytest.mark.full
def test_rtl_runs_tenants_of_several_pages_as_the_model_says():
    found = bench_hyper(rtl=(65,), quick=True)
    point = found["variants"]["parallel"]["65"]
    assert point["by"] == "RTL"
    assert abs(point["error"]) < 0.05
