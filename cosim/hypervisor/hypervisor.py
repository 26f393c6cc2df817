"""The hypervisor: VMs, functions assigned to them, demand paging for their DMA."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cosim.guest.pci import PciDevice
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.function import FunctionPort
from cosim.hypervisor.host_bus import HostBus
from cosim.hypervisor.iommu_driver import IommuDriver, PageRequestEntry
from cosim.hypervisor.mailbox import Mailbox
from cosim.hypervisor.memory import HostPages, NotGuestMemory, VmMemory, read_only_table
from cosim.hypervisor.virtual_config import VirtualConfig
from cosim.hypervisor.vm import MESSAGE_GPA, Vm
from cosim.port import Port
from models.directory import Context
from models.pagetable import KIB_4, PageFlags
from models.spec.config import SystemConfig
from models.spec.iommu import Atp, HpmEvent, IoatpMode, PageResponse
from models.spec.nic import (
    MANAGEMENT,
    VLAN_FILTERS,
    FunctionControl,
    FunctionVlan,
    QueueError,
    RxQueueStat,
    Stat,
    TxQueueStat,
    function_block,
    queue_error_offset,
    queue_stat_offset,
    queue_stats_of,
    stat_offset,
)

__all__ = ["Assignment", "Hypervisor", "Service"]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A page request that was served: since when, and cycles until the answer was queued."""

    device_id: int
    index: int
    iova: int
    write: bool
    code: PageResponse
    since: int
    cycles: int


@dataclass
class Assignment:
    """A function given to a VM."""

    vm: Vm
    function: int
    device_id: int
    mac: bytes
    ats: bool
    counter: int | None
    device: PciDevice
    control: int = 0  # FunctionControl
    vlans: frozenset[int] | None = None  # that its driver may have; None for all
    first_stage: int = 0  # fsc of the device context
    pscid: int = 0
    requests: int = 0  # page requests that have come
    services: list[Service] = field(default_factory=list)

    @property
    def denied(self) -> list[Service]:
        """Requests for what the guest does not own."""
        return [service for service in self.services if service.code != PageResponse.SUCCESS]


class Hypervisor:
    """Runs VMs on one machine.

    Parameters
    ----------
    port : Port
    config : SystemConfig
    base, size : int
        Host memory that it may use.
    costs : Costs
    owns_iommu : bool
        Else a guest has it, with all the contexts of functions, and there is no paging.
    """

    def __init__(
        self,
        port: Port,
        config: SystemConfig,
        *,
        base: int,
        size: int,
        costs: Costs | None = None,
        owns_iommu: bool = True,
    ) -> None:
        if not owns_iommu and config.nic.control_queue:
            raise ValueError("The mailbox's messages need an IOMMU of the hypervisor's own")
        self.owns_iommu = owns_iommu
        self.mailbox: Mailbox | None = None
        #: Page requests are answered "invalid" while the page is brought: DMA is dropped, not late.
        self.refuses = False
        #: Page requests that are not answered.
        self.ignores: Callable[[PageRequestEntry], bool] = lambda _: False
        self.port, self.config, self.costs = port, config, costs or Costs()
        self.bus = HostBus(port, config.nic)
        self.pages = HostPages(port.memory, base, size)
        self.vms: list[Vm] = []
        self.assignments: dict[int, Assignment] = {}
        self._counters = 0
        self._requests: list[tuple[PageRequestEntry, int]] = []
        last = config.nic.device_id + config.nic.vfs
        self.iommu = IommuDriver(port, self.pages.allocate, self._page_requested, last_device=last)

    async def start(self) -> None:
        """Enumerate the bus, bring the IOMMU up and begin to serve page requests."""
        await self.bus.start()
        if not self.owns_iommu:
            return
        await self.iommu.start()
        self._wake = self.port.event()
        self.port.spawn(self._pager(), "pager")
        if self.config.nic.control_queue:
            self.mailbox = Mailbox(self)
            await self.mailbox.start()

    def new_vm(
        self,
        name: str,
        memory_bytes: int,
        *,
        memory: VmMemory | None = None,
        message_gpa: int | None = MESSAGE_GPA,
    ) -> Vm:
        """Make a VM with nothing resident, or with the ``memory`` that is given."""
        vm = Vm(
            self.port,
            self.pages,
            self.costs,
            name=name,
            number=len(self.vms) + 1,
            memory_bytes=memory_bytes,
            memory=memory,
            message_gpa=message_gpa,
        )
        self.vms.append(vm)
        return vm

    # Functions -----------------------------------------------------------------------------------

    async def assign(
        self,
        vm: Vm,
        function: int,
        mac: bytes,
        *,
        ats: bool = True,
        count: bool = True,
        vlan: int | None = None,
        priority: int = 0,
        vlans: frozenset[int] | None = None,
        spoof_check: bool = False,
        mirror: bool = False,
    ) -> FunctionPort:
        """Reset a function, give it to a VM and enable it; DMA waits for the guest's driver.

        Without ``ats`` its DMA cannot wait for pages: the caller pins what it may use
        (:meth:`pin`).  With ``count``, two event counters count its IOTLB lookups and misses.
        ``vlan`` is the function's own, in which it sends with ``priority``; one without may be
        allowed at most eight ``vlans``, ``None`` allows all.  The others are members of
        FunctionControl; with ``spoof_check`` the guest is not trusted, and its control queue
        brings it no frames that are for others (:class:`~cosim.hypervisor.net_control.NetControl`).
        """
        if vlans is not None and len(vlans) > VLAN_FILTERS:
            raise ValueError(f"A function can be held to {VLAN_FILTERS} VLANs, not {len(vlans)}")
        block = function_block(function)
        await self._manage(block, "control", 0)
        device = await self.bus.virtual(function)
        if function:
            await self.bus.reset(device)
        elif self.mailbox is not None:
            await self.mailbox.lose_vector()
        device_id = await self.port.mmio_read("nic", block + MANAGEMENT["device_id"].offset)
        counter = None
        if count:
            counter = await self.count((HpmEvent.LOOKUP, HpmEvent.TLB_MISS), device_id)
        assignment = Assignment(vm, function, device_id, mac, ats, counter, device)
        assignment.vlans = vlans
        self.assignments[device_id] = assignment
        await self.set_mac(assignment, mac)
        await self._set_context(assignment)
        await self.set_vlan(function, vlan, priority)
        fields = {"enable": 1, "ats": ats, "spoof_check": spoof_check, "mirror": mirror}
        fields["attended"] = self.mailbox is not None
        control = {name: int(value) for name, value in fields.items()}
        assignment.control = FunctionControl.const(control).as_bits()
        await self._manage(block, "control", assignment.control)
        await self.bus.enable_ats(device, ats)
        shown = VirtualConfig(device, {0: self.bus.vf_bar_bytes}, lambda: self.reset(function))
        await shown.start()
        return FunctionPort(vm, function, shown)

    async def reset(self, function: int, *, quiesce: bool = True) -> None:
        """Function level reset of a function that is assigned; what is the hypervisor's stays.

        ``quiesce``: it is no bus master any more when it is reset.
        """
        assignment = self.assignment(function)
        if function:
            await self.bus.reset(assignment.device, quiesce=quiesce)
        else:
            await self.bus.reset_physical(quiesce=quiesce)
        await self.bus.enable_ats(assignment.device, assignment.ats)

    async def set_mac(self, assignment: Assignment, mac: bytes) -> None:
        """Change a function's MAC."""
        block = function_block(assignment.function)
        assignment.mac = mac
        await self._manage(block, "mac_low", int.from_bytes(mac[:4], "little"))
        await self._manage(block, "mac_high", int.from_bytes(mac[4:], "little"))

    async def set_vlan(self, function: int, vlan: int | None, priority: int = 0) -> None:
        """Put a function into a VLAN of its own, or into none."""
        tag = {} if vlan is None else {"vid": vlan, "priority": priority, "enable": 1}
        block = function_block(function)
        await self._manage(block, "vlan", FunctionVlan.const(tag).as_bits())

    async def set_link(self, function: int, up: bool) -> None:
        """Let a function's link be up or down."""
        offset = function_block(function) + MANAGEMENT["control"].offset
        down = FunctionControl.const({"link_down": 1}).as_bits()
        assignment = self.assignment(function)
        assignment.control = assignment.control & ~down | (0 if up else down)
        control = await self.port.mmio_read("nic", offset)
        await self.port.mmio_write("nic", offset, control & ~down | (0 if up else down))

    async def revoke(self, vm: Vm, function: int) -> None:
        """Take a function away from its VM, whatever its driver has left behind."""
        assignment = self.assignment(function)
        assert assignment.vm is vm
        # What is left of its commands does not enable it again.
        assignment.control &= ~FunctionControl.const({"enable": 1}).as_bits()
        await self._manage(function_block(function), "control", 0)
        if function:
            await self.bus.reset(assignment.device)
        del self.assignments[assignment.device_id]
        await self.iommu.remove_context(assignment.device_id)
        await self.iommu.invalidate_device(assignment.device_id)
        await self.iommu.invalidate_second_stage(vm.gscid)
        await self.iommu.fence()

    async def own_physical_function(self) -> None:
        """Let the PF do DMA for the hypervisor itself, with host addresses."""
        block = function_block(0)
        device_id = await self.port.mmio_read("nic", block + MANAGEMENT["device_id"].offset)
        if device_id in self.assignments:
            raise ValueError("The physical function is a guest's")
        await self.iommu.set_context(device_id, Context())
        await self._manage(block, "control", FunctionControl.const({"enable": 1}).as_bits())

    def assignment(self, function: int) -> Assignment:
        """Return what is known of a function that is assigned."""
        for assignment in self.assignments.values():
            if assignment.function == function:
                return assignment
        raise KeyError(f"Function {function} is not assigned")

    async def _manage(self, block: int, name: str, value: int) -> None:
        await self.port.mmio_write("nic", block + MANAGEMENT[name].offset, value)

    async def _set_context(self, assignment: Assignment) -> None:
        if not self.owns_iommu:
            return
        vm = assignment.vm
        context = Context(
            iohgatp=vm.pages.table.iohgatp(vm.gscid),
            fsc=assignment.first_stage,
            pscid=assignment.pscid,
            en_ats=assignment.ats,
            en_pri=assignment.ats,
            gade=vm.pages.updates_accessed,
        )
        await self.iommu.set_context(assignment.device_id, context)

    async def queue_error(self, function: int, queue: int) -> QueueError:
        """Why a queue has stopped; software knows that of control queues."""
        offset = function_block(function) + queue_error_offset(queue)
        found = QueueError(await self.port.mmio_read("nic", offset) & 0xFF)
        if not found and self.mailbox is not None and self.mailbox.serves(function, queue):
            return self.mailbox.error(function)
        return found

    async def stat(self, function: int, stat: Stat) -> int:
        """A counter of a function."""
        return await self.port.mmio_read("nic", function_block(function) + stat_offset(stat), 4)

    async def queue_stat(self, function: int, queue: int, stat: RxQueueStat | TxQueueStat) -> int:
        """A counter of a queue of a function."""
        offset = function_block(function) + queue_stat_offset(queue, stat)
        return await self.port.mmio_read("nic", offset, 4)

    async def queue_stats(self, function: int, queue: int) -> dict[str, int]:
        """All counters of a queue of a function, by their names."""
        return {
            stat.name: await self.queue_stat(function, queue, stat)
            for stat in queue_stats_of(queue)
        }

    async def count(self, events: Sequence[HpmEvent], device_id: int) -> int | None:
        """Let counters that are free count events of a device; return the first, if there are."""
        first = self._counters + 1
        if self._counters + len(events) > self.config.iommu.hpm_counters:
            return None
        self._counters += len(events)
        for number, event in enumerate(events, first):
            await self.iommu.count(number, event, device_id)
        return first

    async def lookups(self, assignment: Assignment) -> tuple[int, int] | None:
        """IOTLB lookups and misses of a function by hardware counter, if it has counters."""
        if assignment.counter is None:
            return None
        lookups = await self.iommu.counted(assignment.counter)
        return lookups, await self.iommu.counted(assignment.counter + 1)

    # Hypercalls of a guest with a first stage ----------------------------------------------------

    async def attach_first_stage(self, vm: Vm, function: int, fsc: int, pscid: int) -> None:
        """Let a guest's own tables translate its function's IOVAs: an exit (``viommu``)."""
        vm.exit("viommu")
        await vm.pay()
        assignment = self.assignment(function)
        assignment.first_stage, assignment.pscid = fsc, pscid
        await self._set_context(assignment)
        if assignment.ats:
            await self.iommu.invalidate_device(assignment.device_id)
            await self.iommu.fence()

    async def invalidate_first_stage(self, vm: Vm, function: int, iova: int | None = None) -> None:
        """Forget translations of a guest's own tables: an exit (``viommu``)."""
        vm.exit("viommu")
        await vm.pay()
        assignment = self.assignment(function)
        await self.iommu.invalidate_first_stage(vm.gscid, assignment.pscid, iova)
        await self.iommu.fence()
        if assignment.ats:
            await self.iommu.invalidate_device(assignment.device_id, iova)
            await self.iommu.fence()

    # Paging --------------------------------------------------------------------------------------

    def pin(self, vm: Vm) -> None:
        """Make all of a VM's memory resident, for functions that cannot wait for pages."""
        for gpa in range(vm.pages.base, vm.pages.base + vm.pages.size, KIB_4):
            vm.pages.make_resident(gpa)

    async def evict(self, vm: Vm, gpa: int) -> None:
        """Move a resident page to the backing store, while devices may be using it."""
        vm.pages.unmap(gpa)
        await self.iommu.invalidate_second_stage(vm.gscid, gpa & -KIB_4)
        await self.iommu.fence()
        for assignment in self.assignments.values():
            if assignment.vm is vm and assignment.ats:
                # Where a first stage maps the page is the guest's business.
                iova = None if assignment.first_stage else gpa & -KIB_4
                await self.iommu.invalidate_device(assignment.device_id, iova)
        await self.iommu.fence()
        vm.pages.page_out(gpa)

    def _page_requested(self, request: PageRequestEntry) -> None:
        self._requests.append((request, self.port.now()))
        self._wake.set()

    async def _pager(self) -> None:
        """Serve page requests, each in a task of its own."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            requests, self._requests = self._requests, []
            for request, since in requests:
                self.port.spawn(self._serve(request, since), "page request")

    async def _serve(self, request: PageRequestEntry, since: int) -> None:
        await self.port.sleep(self.costs.interrupt)
        if self.ignores(request):
            return
        assignment = self.assignments.get(request.device_id)
        code = PageResponse.INVALID
        if request.last and self.refuses:
            await self.iommu.respond(request.device_id, request.index, code)
        if assignment is not None:
            assignment.requests += 1
            if await self._page_served(assignment, request):
                code = PageResponse.SUCCESS
        if request.last and not self.refuses:
            await self.iommu.respond(request.device_id, request.index, code)
        if assignment is not None:
            cycles = self.port.now() - since
            assignment.services.append(
                Service(
                    device_id=request.device_id,
                    index=request.index,
                    iova=request.iova,
                    write=request.write,
                    code=code,
                    since=since,
                    cycles=cycles,
                )
            )

    async def _page_served(self, assignment: Assignment, request: PageRequestEntry) -> bool:
        """Serve a request, by the memory's own pager if it has one; return as below."""
        server = assignment.vm.pages.server
        if server is None:
            await self.port.sleep(self.costs.page_service)
            return self._make_resident(assignment, request)
        gpa = self.guest_address(assignment, request.iova, write=request.write)
        if gpa is None:
            return False
        return await server.serve(assignment.vm.pages, gpa, write=request.write)

    def _make_resident(self, assignment: Assignment, request: PageRequestEntry) -> bool:
        """Let the page of an IOVA be there; return whether the guest may have it."""
        gpa = self.guest_address(assignment, request.iova, write=request.write)
        try:
            if gpa is not None:
                assignment.vm.pages.make_resident(gpa)
        except NotGuestMemory:
            return False
        return gpa is not None

    def guest_address(self, assignment: Assignment, iova: int, *, write: bool) -> int | None:
        """Walk a guest's own tables as hardware would; ``None`` if they do not allow the access."""
        memory = assignment.vm.pages
        atp = Atp.from_bits(assignment.first_stage)
        if atp.mode == IoatpMode.BARE:
            return iova

        try:
            leaf = read_only_table(memory.load, atp.ppn << 12).walk(iova)
        except ValueError:
            return None
        needed = PageFlags.W if write else PageFlags.R
        if leaf is None or not leaf.flags & needed or not leaf.flags & PageFlags.U:
            return None
        return leaf.target + iova % leaf.size
