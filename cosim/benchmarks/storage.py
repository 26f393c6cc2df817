"""Bits that caches hold, counted in the generated Verilog."""

import re

__all__ = ["storage_bits"]

_MODULE = re.compile(r"^module \\?(\S+)\s*\(.*?^endmodule", re.MULTILINE | re.DOTALL)
_MEMORY = re.compile(r"^  reg \[(\d+):0\] \S+ \[(\d+):0\]", re.MULTILINE)
#: Registers have an initial value; what blocks assign without a clock has none.
_REGISTER = re.compile(r"^  reg (?:\[(\d+):0\] )?\S+ +=", re.MULTILINE)
_CACHE = re.compile(r"iotlb|cache|contexts", re.IGNORECASE)


def storage_bits(verilog: str) -> dict[str, int]:
    """Return the bits of memories and registers of each cache, by path of instances.

    A cache is an instance whose name, or that of one round it, says that it is one.  What it needs
    to work, as its pointers, is counted with it.
    """
    found: dict[str, int] = {}
    for module in _MODULE.finditer(verilog):
        path = module.group(1).split(".", 1)[-1]
        inside = next((n for n, part in enumerate(path.split(".")) if _CACHE.search(part)), None)
        if inside is None:
            continue
        name = ".".join(path.split(".")[: inside + 1])
        text = module.group(0)
        bits = sum((int(w) + 1) * (int(d) + 1) for w, d in _MEMORY.findall(text))
        bits += sum(int(width or 0) + 1 for width in _REGISTER.findall(text))
        found[name] = found.get(name, 0) + bits
    return dict(sorted(found.items()))
