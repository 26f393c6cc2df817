"""Hardware and models held against each other, and the software that drives them.

``bench`` builds and runs simulations, ``guest`` and ``hypervisor`` are plain asynchronous Python
over a port, ``scenarios`` has one file per claim, ``report`` reads waves, ``cli`` is the command
``iovirt``.  May import ``cosim``, ``models`` and ``rtl``.
"""
