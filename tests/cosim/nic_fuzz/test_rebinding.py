"""Correct drivers that come and go while all others go on, in sessions of a hostile one."""

from collections import Counter
from dataclasses import replace

import pytest

from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.main import fuzz_nic
from cosim.nic_fuzz.world import CORRECT, World
from cosim.nic_fuzz.wrong import Wrong
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.nic.function import Function
from models.nic.switch import Switch
from tests.cosim.nic_fuzz.test_sessions import SIZES, golden


def rebinding(count, *, paged=False):
    """A session in which a driver comes and goes, time and again."""
    session = generate("5/1", steps=400, sizes=SIZES, paged=paged)
    steps = [step for step in session.steps if step[0] == "rebind"][:count]
    assert len(steps) == count
    return replace(session, steps=steps)


@pytest.mark.parametrize("paged", [False, True])
def test_drivers_come_and_go_while_others_go_on(monkeypatch, paged):
    lost, quiet = Counter(), World._quiet

    async def count(self, function):
        addressed = {source: len(frames) for source, frames in self._loose.items()}
        arrived = sum(self._arrived(source, function) for source in addressed)
        lost[sum(addressed.values()) > arrived] += 1
        await quiet(self, function)

    monkeypatch.setattr(World, "_quiet", count)
    counts = Counter()
    golden(rebinding(6, paged=paged), counts=counts)
    assert counts["rebind"] == 6
    assert lost[True] > 2


def away(number, monkeypatch):
    """Returns whether a function has no driver just now."""
    functions, reset = {}, Function.reset

    def note(self, *operands, **more):
        functions[self.number] = self
        reset(self, *operands, **more)

    monkeypatch.setattr(Function, "reset", note)
    return lambda: number in functions and not functions[number].live


def test_a_frame_between_others_that_is_lost_meanwhile_is_noticed(monkeypatch):
    session, lost = rebinding(1), []
    function = session.steps[0][1]
    gone, forward = away(function, monkeypatch), Switch.from_function

    def lose(self, source, frame, queue):
        if source in CORRECT and gone() and frame[:6] == guest_mac(OUTSIDE) and not lost:
            lost.append(frame)
            return None
        return forward(self, source, frame, queue)

    monkeypatch.setattr(Switch, "from_function", lose)
    with pytest.raises(Wrong, match=r"of .* frames"):
        golden(session)
    assert lost[0][6:12] != guest_mac(function)


@pytest.mark.full
def test_drivers_come_and_go_on_the_rtl(tmp_path):
    files = []
    for paged in (False, True):
        files.append(tmp_path / f"{paged}.json")
        rebinding(4, paged=paged).save(files[-1])
    found = fuzz_nic(
        name="tiny", sessions=1, replay=files, folder=tmp_path, progress=False
    )  # fmt: skip
    assert found["failures"] == []
    assert found["steps"] == {"rebind": 8}
