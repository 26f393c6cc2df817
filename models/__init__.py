"""What the hardware must do, in plain Python without a simulator.

``spec`` holds every bit's one definition.  ``iommu`` and ``nic`` are the golden models, written
from the specifications; ``cache`` models cache contents; ``pagetable`` builds and walks tables;
``manual`` makes documents and the C header of ``spec``.
May import ``models`` only: never ``rtl``, never ``cosim``.
"""
