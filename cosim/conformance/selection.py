"""Which scenarios a configuration can run, and what it lacks for the others.

A scenario was made for a profile.  It holds for a configuration with other capabilities if and only
if the golden IOMMU with these capabilities passes it, so that is what is asked; nothing depends on
how a scenario is named or tagged.  The reason of a skip is the first difference between profile and
configuration that breaks the scenario on its own.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

from models.iommu import Capabilities, Parameters
from models.memory import AccessFault
from models.spec.iommu_registers import CAPABILITIES

from .golden_target import GoldenTarget
from .replayer import replay
from .rows import Mismatch
from .sync import finish
from .vectors import Scenario

__all__ = ["Selector"]

#: Capabilities that come with others in the order in which they explain a skip best.
_FIRST = ("msi_flat", "pd20", "pd17", "pd8", "sv57", "sv48", "sv57x4", "sv48x4")


def _label(name: str, wanted: int, there: int) -> str:
    if name == "msi_flat":
        return f"table form: device contexts of {64 if wanted else 32} bytes"
    if CAPABILITIES[name].high > CAPABILITIES[name].low:
        return f"capability {name.upper()}: {wanted} wanted, {there} there"
    return f"capability {name.upper()}: {'wanted' if wanted else 'must be absent'}"


def _differences(profile: Parameters, there: Parameters) -> Iterator[tuple[str, Parameters]]:
    """Each single difference: what to call it, and the profile with it alone."""
    names = [f.name for f in fields(Capabilities)]
    for name in (*_FIRST, *(name for name in names if name not in _FIRST)):
        wanted, got = getattr(profile.capabilities, name), getattr(there.capabilities, name)
        if wanted != got:
            alone = replace(profile, capabilities=replace(profile.capabilities, **{name: got}))
            yield _label(name, wanted, got), alone
    if profile.ddt_levels > there.ddt_levels:
        alone = replace(profile, ddt_levels=there.ddt_levels)
        yield f"table form: device directory of more than {there.ddt_levels} levels", alone
    for name in (f.name for f in fields(Parameters)):
        wanted, got = getattr(profile, name), getattr(there, name)
        if name not in ("capabilities", "ddt_levels") and wanted != got:
            alone = replace(profile, **{name: got})
            yield f"parameter {name}: {wanted} wanted, {got} there", alone


class Selector:
    """Decides for one configuration.

    Parameters
    ----------
    parameters : Parameters or None
        What the target has; ``None``: a target that takes every profile's.
    """

    def __init__(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._golden = GoldenTarget(parameters)

    def reason(self, scenario: Scenario, profile: Parameters) -> str | None:
        """Return why a scenario must be skipped; ``None`` if it holds."""
        if self._parameters is None or self._parameters == profile:
            return None
        if _passes(scenario, self._golden, profile):
            return None
        for label, alone in _differences(profile, self._parameters):
            if not _passes(scenario, GoldenTarget(alone), profile):
                return label
        return "several capabilities together"


def _passes(scenario: Scenario, target: GoldenTarget, profile: Parameters) -> bool:
    try:
        finish(replay(scenario, target, profile))
    except (Mismatch, AccessFault):
        return False
    return True
