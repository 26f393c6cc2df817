"""The NIC: a physical function and virtual functions that speak virtio-net.

``nic`` is the top.  A doorbell reaches ``registers``; ``virtqueue`` steps the queue, its accesses
go to ``dma``, which asks for translations, parks what faults and retries; frames rest in
``frames``; ``offload`` does what their headers ask for; ``switch`` sends them to functions or the
Ethernet ``port``; ``msix`` sends interrupts; ``stats`` counts.  ``seams`` has the records between
them.
"""
