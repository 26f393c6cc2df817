"""How far a run is, told to whoever watches."""

import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """One line that renews itself on a terminal; elsewhere a line per tenth.

    Parameters
    ----------
    stream : TextIO
        Where it goes; standard error, so that results on standard output stay clean.
    """

    #: Seconds between two renewals.
    EVERY = 0.2

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._renews = stream, stream.isatty()
        self._next, self._tenth = 0.0, -1

    def __call__(self, arrived: int, expected: int, cycle: int) -> None:
        """Say that ``arrived`` of ``expected`` frames are there at ``cycle``."""
        text = f"{arrived} of {expected} frames arrived and checked, cycle {cycle:,}"
        done = arrived >= expected
        if self._renews:
            if done or time.monotonic() >= self._next:
                self._next = time.monotonic() + self.EVERY
                end = "\n" if done and self._tenth != 10 else ""
                self._tenth = 10 if done else 0
                print(f"\r{text}", end=end, file=self._stream, flush=True)
        elif (tenth := 10 * arrived // max(1, expected)) > self._tenth:
            self._tenth = tenth
            print(text, file=self._stream, flush=True)
