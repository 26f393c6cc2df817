"""Coroutines that never wait, run like functions."""

from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish"]

Result = TypeVar("Result")


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that awaits nothing but coroutines of its kind."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("This coroutine waits, so it needs a scheduler")
