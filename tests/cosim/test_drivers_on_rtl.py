"""What drivers do, on the RTL, as the golden machine's tests have it."""

import pytest

from cosim.bench.run import run as simulate
from tests.cosim.drivers import REFUSABLE, SCENARIOS
from tests.cosim.features_world import receiving_rtl
from tests.cosim.policies import POLICIES


@pytest.fixture(scope="module")
def built():
    """All features."""
    return receiving_rtl()


@pytest.fixture(scope="module")
def large():
    """Likewise, rings of up to 1,024 entries and frames of up to 9,014 bytes."""
    return receiving_rtl(queue_size_max=1024, mtu=9000, frame_bytes=16384)


def on_rtl(built, scenario, **arguments):
    assert scenario in {**SCENARIOS, **POLICIES}
    asked = {"seed": 1, "scenario": scenario, "arguments": arguments}
    assert simulate(built, "tests.cosim.tb_drivers", options=asked)["cycles"] > 1000


@pytest.mark.full
@pytest.mark.parametrize("mergeable", [False, True])
def test_frames_of_9014_bytes(large, mergeable):
    on_rtl(large, "jumbo", mergeable=mergeable)


@pytest.mark.full
@pytest.mark.parametrize(
    ("packed", "size"), [(0, 2), (0, 1024), (1, 2), (1, 5), (1, 1023), (1, 1024)]
)
def test_queue_sizes(large, packed, size):
    on_rtl(large, "sizes", packed=packed, size=size, direct=False)


@pytest.mark.parametrize("place", range(0, len(REFUSABLE), 2))
def test_refusing_any_one_feature_still_works(built, place):
    on_rtl(built, "refusing", place=place)


def test_refusing_everything_works(built):
    on_rtl(built, "bare")


@pytest.mark.parametrize("packed", [True, pytest.param(False, marks=pytest.mark.full)])
def test_unbinding_and_binding_under_traffic(built, packed):
    on_rtl(built, "unbinding", packed=packed)


def test_a_driver_that_dies_and_its_function_is_given_to_another(built):
    on_rtl(built, "dying")


def test_frames_for_a_function_that_was_reset_stay_inside(built):
    on_rtl(built, "forsaken")


def test_a_function_that_is_reset_sends_nothing_that_is_being_cut(built):
    on_rtl(built, "cut_off")


def test_queues_that_share_a_vector_are_moderated_together(built):
    on_rtl(built, "sharing")


@pytest.mark.parametrize("name", POLICIES)
def test_policies(built, name):
    on_rtl(built, name, **POLICIES[name][1])
