"""What the processor's work costs, in one place.

The hardware is simulated to the cycle; processors are not.  Their work is charged in nanoseconds
and turned into cycles of the hardware's clock.  Ratios and orderings rest on these figures, not
absolute ones: change them here and run again.
"""

from dataclasses import dataclass

__all__ = ["Costs"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of software.

    Parameters
    ----------
    clock_mhz : int
        Clock of the simulated hardware.  Source: goal for the IOMMU in the design of record.
    exit_ns : int
        From guest to hypervisor and back, without the work done there.  Source: about 1500 cycles
        at 3 GHz, the order that kvm-unit-tests ``vmexit`` reports on x86 servers (2015 to 2023);
        no RISC-V server with the H extension was at hand.
    map_ns : int
        Finding a page and writing its second-stage entry.  Source: assumption, some 300
        instructions and four cache misses of 80 ns.
    page_copy_ns : int
        Filling a page of 4 KiB from backing store in memory.  Source: assumption, 10 GB/s.
    swap_read_ns, swap_write_ns : int
        Reading a page of 4 KiB from the swap file's disk, and writing some at once.  Source: order
        of data sheets of NVMe drives with flash, random read 80 us, write into their buffer 20 us.
    compress_ns, decompress_ns : int
        LZ4 of a page of text.  Source: timed here with Python's lz4 on a loaded core, 20 us each;
        half of that.
    interrupt_ns : int
        From message to handler, host or guest.  Source: assumption, the order of a Linux
        interrupt entry.
    service_cycles : int or None
        Cycles from waking for a page request to its answer, in place of all of the above that is
        not an exit or an interrupt.
    """

    clock_mhz: int = 100
    exit_ns: int = 500
    map_ns: int = 400
    page_copy_ns: int = 400
    swap_read_ns: int = 80_000
    swap_write_ns: int = 20_000
    compress_ns: int = 10_000
    decompress_ns: int = 10_000
    interrupt_ns: int = 300
    service_cycles: int | None = None

    def cycles(self, ns: int) -> int:
        """Cycles of the hardware's clock, rounded up."""
        return -(-ns * self.clock_mhz // 1000)

    @property
    def page_service(self) -> int:
        """Cycles for making one page resident."""
        if self.service_cycles is not None:
            return self.service_cycles
        return self.cycles(self.map_ns + self.page_copy_ns)

    @property
    def exit(self) -> int:
        """Cycles of an exit."""
        return self.cycles(self.exit_ns)

    @property
    def interrupt(self) -> int:
        """Cycles from message to handler."""
        return self.cycles(self.interrupt_ns)
