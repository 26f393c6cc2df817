"""What is kept of DMA requests that wait for a page."""

from amaranth.lib import data, enum

from rtl.nic.segments import TAG_BITS

__all__ = ["PAGE_BITS", "Owed", "ParkedRecord", "Wait"]

#: Bits by which pages are told apart that were not there again.
PAGE_BITS = 12


class Wait(enum.IntEnum, shape=2):
    """What a parked request waits for."""

    ANSWER = 0  # to its page request, of its generation
    INDEX = 1  # to ask with
    OTHER = 2  # until another one does not wait any more, which has asked for the same page
    TIME = 3  # the answer was Success, and the page was not there: it asks again, but later


class Owed(data.Struct):
    """A page request that has not been answered, maybe of a request that has ended since."""

    valid: 1
    function: 8


class ParkedRecord(data.Struct):
    """What is kept per tag."""

    parked: 1
    wait: Wait
    generation: 1  # of its latest page request
    leader: TAG_BITS  # with OTHER: the other one, and the generation of its page request
    leader_generation: 1
    stamp: 32  # cycle of parking, or when it went on
    retried: 1  # the latter, because the page was said to be there
    page: PAGE_BITS  # lowest bits of the page's number
    times: 3  # that it was not there though it was said to be
    owed: data.ArrayLayout(Owed, 2)  # per generation

    @property
    def asking(self):
        """Whether it waits for the answer to its own page request."""
        return self.parked & (self.wait == Wait.ANSWER)
