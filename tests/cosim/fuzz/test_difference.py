"""What the fuzzer takes for a difference, and that shrinking keeps its kind."""

from dataclasses import replace

import pytest

from cosim.conformance.sync import finish
from cosim.fuzz.difference import difference, same_word, unreadable
from cosim.fuzz.failure import Differs, Failure
from cosim.fuzz.golden import GoldenImplementation
from cosim.fuzz.lockstep import Lockstep
from cosim.fuzz.main import shrink_on_golden
from cosim.fuzz.oracle import Facts, Judged
from cosim.fuzz.scenario import Scenario
from cosim.fuzz.statistics import Statistics
from cosim.fuzz.tables import PTE
from models.iommu import Parameters, Request, Response
from models.spec.config import config
from models.spec.translation import AddressType, TranslationStatus

PAGE = PTE.V | PTE.R | PTE.W | PTE.U | PTE.A | 0x1238 << 10
NAPOT = PAGE | 1 << PTE.N
AD_CLEAR = ~(PTE.A | PTE.D)


def swapped(pte: int) -> int:
    return int.from_bytes(pte.to_bytes(8, "little"), "big")


@pytest.mark.parametrize("order", [lambda pte: pte, swapped], ids=["little", "big"])
def test_only_a_and_d_of_napot_leafs_are_open(order):
    for pte in (NAPOT & AD_CLEAR, NAPOT, NAPOT | PTE.D):
        assert same_word(order(NAPOT), order(pte))
    for bit in range(64):
        agrees = 1 << bit in (PTE.A, PTE.D)
        assert same_word(order(NAPOT), order(NAPOT ^ 1 << bit)) == agrees, f"bit {bit}"
        assert not same_word(order(PAGE), order(PAGE ^ 1 << bit)), f"bit {bit}"


@pytest.mark.parametrize(
    "other", [NAPOT & ~PTE.V, NAPOT & ~PTE.R & ~PTE.X, NAPOT | 1 << 10], ids=hex
)
def test_what_is_no_napot_leaf_is_compared_whole(other):
    assert not same_word(other, other ^ PTE.A)
    assert not same_word(other, other ^ PTE.D)


class Scribbler(GoldenImplementation):
    """Changes a word of memory when it is asked to translate."""

    def __init__(self, parameters, address, value):
        super().__init__(parameters)
        self._change = address, value

    async def together(self, rows, store):
        address, value = self._change
        await self.write_memory(address, value.to_bytes(8, "little"))
        return await super().together(rows, store)


@pytest.mark.parametrize(
    ("there", "found", "agrees"),
    [
        (NAPOT, NAPOT | PTE.D, True),
        (NAPOT, NAPOT ^ PTE.G, False),
        (PAGE, PAGE | PTE.D, False),
    ],
)
def test_memory_is_compared_so(there, found, agrees):
    rtl = config("full").iommu
    memory, row = [[0x8000, 8, there], [0x9000, 8, 1]], ["u", "r", 0, 1, None, 0]
    scenario = Scenario(rtl, memory=memory, steps=[["g", [row], []], ["q"]])
    implementation = Scribbler(Parameters.from_config(rtl), 0x8000, found)
    play = Lockstep(implementation, Statistics()).play(scenario)
    if agrees:
        finish(play)
        return
    with pytest.raises(Differs) as raised:
        finish(play)
    assert raised.value.kind == "memory"


def test_a_napot_page_may_be_granted_for_writing_by_another_entry():
    request = Request(device_id=1, iova=0, at=AddressType.ATS_REQUEST)
    want = Response(status=TranslationStatus.SUCCESS, r=True, size=4096)
    got = replace(want, w=True)
    assert difference(Judged(request, want, None, Facts(first=16, second=12)), got) is None
    found = difference(Judged(request, want, None, Facts(first=12, second=12)), got)
    assert found is not None
    assert found.kind == "w"
    wrong = difference(Judged(request, want, None, Facts(first=16)), replace(got, spa=4096))
    assert wrong is not None


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("read", [False, True])
def test_only_who_wants_to_write_and_gets_nothing_may_have_been_cached_for_reading(write, read):
    request = Request(device_id=1, iova=0, at=AddressType.ATS_REQUEST, write=write)
    want = Response(status=TranslationStatus.SUCCESS, r=read, size=4096)
    assert unreadable(Judged(request, want, None, Facts())) == (write and not read)


def test_shrinking_keeps_the_kind_of_failure():
    def play(scenario):
        """Two kinds: with step 7 the one looked for; without, but with any other, another."""
        numbers = [step[1] for step in scenario.steps]
        if 7 in numbers and 3 in numbers:
            return Failure("SPA", f"in {len(numbers)}")
        return Failure("memory", "of another cause") if numbers else None

    scenario = Scenario(config("tiny").iommu, steps=[["w", n, 4, 0] for n in range(10)])
    small = shrink_on_golden(scenario, play, 10)
    assert [step[1] for step in small.steps] == [3, 7]
    failure = play(small)
    assert failure is not None
    assert failure.kind == "SPA"


def test_napot_pages_are_not_taken_apart():
    page = [[0x8000 + 8 * n, 8, NAPOT] for n in range(16)]
    alone = [[0x9000, 8, 1], [0x9010, 8, 1]]

    def play(scenario):
        stores = scenario.memory + [store for step in scenario.steps for store in step[1]]
        taken_apart = 0 < sum(store in page for store in scenario.memory) < 16
        return Failure("SPA", "apart" if taken_apart else "") if page[3] in stores else None

    scenario = Scenario(config("tiny").iommu, memory=[*page, *alone], steps=[["m", alone]])
    small = shrink_on_golden(scenario, play, 10)
    assert small.memory == page
    assert small.steps == []
    moved = Scenario(config("tiny").iommu, memory=[], steps=[["m", [*alone, *page]]])
    assert shrink_on_golden(moved, play, 10).steps == [["m", page]]


def test_what_fails_no_more_is_not_shrunk():
    scenario = Scenario(config("tiny").iommu, steps=[["q"], ["q"]])
    assert shrink_on_golden(scenario, lambda smaller: None, 10) is scenario
