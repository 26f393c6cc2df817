"""What memories say of themselves to synthesis."""

__all__ = ["BLOCK", "SETTLED"]

#: Attributes of a memory of whose rows none is read in the cycle in which it is written, or not in
#: earnest: what is read then is not defined in block RAM.  Where it is (the old row), each port
#: has a register for what is written, a comparator, and a multiplexer.
SETTLED: dict[str, int | str] = {"no_rw_check": 1}
#: Of one that is block RAM besides, though it is shallow.
BLOCK: dict[str, int | str] = {"ram_style": "block", **SETTLED}
