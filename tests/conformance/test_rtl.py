"""The RTL IOMMU judged by an independent implementation's vectors."""

from pathlib import Path

import pytest

from cosim.conformance import main
from cosim.conformance.rtl_runs import run
from cosim.conformance.rtl_target import config_for
from cosim.conformance.vectors import VectorError, find
from models.iommu import Capabilities, Parameters
from models.spec.config import IommuConfig

HERE = Path(__file__).parent
FILES = find([HERE])


def of_profile(name):
    return [file for file in FILES if file.header.profile == name]


@pytest.mark.parametrize("profile", ["base", "full"])
def test_configuration_is_the_profile_itself(profile):
    """So nothing can be skipped, and nothing has to be asked of the golden model first."""
    for file in of_profile(profile):
        parameters = file.header.parameters
        assert Parameters.from_config(config_for(parameters)) == parameters


def test_profiles_are_what_their_description_says():
    base, full = (config_for(of_profile(name)[0].header.parameters) for name in ("base", "full"))
    assert (base.pas, base.ddt_levels, base.igs, base.pd8, base.pd17) == (40, 3, 1, True, False)
    assert (full.pas, full.ddt_levels, full.igs, full.pd20, full.s) == (50, 3, 2, True, True)
    assert (full.msi_flat, base.msi_flat, base.ats, full.t2gpa) == (True, False, False, True)
    assert base.hpm_bits == full.hpm_bits == 40
    assert base.walk_cache < IommuConfig().iotlb_sets


@pytest.mark.parametrize("profile", ["base", "full"])
def test_rtl_passes_all_and_skips_none(profile):
    files, seen = of_profile(profile), []
    results = run(files, lambda result: seen.append(result.name), jobs=2)
    assert [text for result in results for text in result.failures] == []
    assert not any(result.skipped for result in results)
    assert [result.passed for result in results] == [len(file) for file in files]
    assert sorted(seen) == sorted(file.name for file in files)


def test_impossible_capabilities_are_an_error_of_the_file():
    odd = Capabilities(sv48=1, sv39x4=1)
    with pytest.raises(VectorError, match="no configuration has these capabilities: sv48 needs"):
        config_for(Parameters(capabilities=odd))


def test_jobs_must_make_sense(capsys):
    assert main([HERE], "rtl", jobs=0) == 2
    assert capsys.readouterr().err == "iovirt: at least one job is needed, not 0\n"
