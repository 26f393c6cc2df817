"""Synthesizable hardware in Amaranth: how the machine does it.

May import ``rtl`` and ``models.spec`` (records, registers, configurations), nothing else of the
project.  ``bus`` holds bus signatures and plumbing, ``iommu`` the IOMMU, ``nic`` the NIC, and
``system`` the synthesizable top that joins them.
"""
