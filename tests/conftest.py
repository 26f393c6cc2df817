"""What holds for all tests."""

import os

# Short runs: simulations are built in a third of the time.  Cycles are the same.
os.environ.setdefault("IOVIRT_QUICK", "1")
