"""An unmodified Linux in QEMU drives the hardware (``docs/linux.md``).

QEMU, without KVM, is one process; the simulation is another, and answers it by ``vfio_user``.
``packages`` fetches QEMU and kernels, ``initramfs`` and ``guest.sh`` are what runs in a guest,
``virtual_function`` and ``guest_ram`` put a VF and a guest's memory behind the protocol, ``pump``
lets simulated time pass, ``wire`` is the host at the other end of the Ethernet cable, ``watcher``
judges every DMA burst, ``cases`` says what is run, ``rtl_bench`` runs it in the simulator.
"""
