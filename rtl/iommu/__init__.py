"""The RISC-V IOMMU.

``iommu`` is the top.  ``translator`` answers requests: ``context`` finds the device context,
``iotlb`` keeps translations, ``misses`` holds requests that wait, ``walker`` walks the tables.
``control`` is what software sees: ``register_file``, ``command_queue``, ``fault_queue``,
``page_request_queue``, ``interrupts``, ``counters``.  ``seams`` has the records between the two.
``bridge`` puts any AXI4 manager behind the translation port.
"""
