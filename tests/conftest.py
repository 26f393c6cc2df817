"""What holds for all tests."""

import gc
import os

from tests.collisions import collide

# Short runs: simulations are built fast rather than to be fast.  Cycles are the same.
os.environ.setdefault("IOVIRT_QUICK", "1")

# Elaborating a design makes millions of objects that stay: to look at them less often is a sixth.
gc.set_threshold(100_000, 20, 50)

# Whether memories give nonsense where block RAM may (tests/collisions.py): simulations of its own.
if os.environ.get("IOVIRT_COLLIDE"):
    os.environ["IOVIRT_BUILD"] = os.environ.get("IOVIRT_BUILD", "build") + "/collisions"
    collide()
