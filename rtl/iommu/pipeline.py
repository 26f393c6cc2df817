"""The pipeline: looks contexts and translations up, one request a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import DdtpMode
from models.spec.iotlb import IotlbKey, IotlbLookup, iotlb_set
from models.spec.translation import AddressType, TranslationRequest
from rtl.iommu.answer import Verdict
from rtl.iommu.context_checks import needs_process, refused, wants_process
from rtl.iommu.msi import is_interrupt_file
from rtl.iommu.permissions import is_ats
from rtl.iommu.requests import Again, Context, Held, Lane, ProcessState
from rtl.iommu.seams import DirectoryControl

__all__ = ["Pipeline"]

#: Of ddtp, with a directory.
_MODES = (DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3)


def _rows(config: IommuConfig) -> int:
    """Devices whose VMs are remembered, by their lowest bits: four for each context."""
    return 1 << (4 * config.context_entries - 1).bit_length()


class Pipeline(wiring.Component):
    """From a request to a verdict on it.

    Two registers: contexts are looked for while a request is in the first, the IOTLB's set is read
    on the way to the second, and compared there; what it answers comes a cycle after the verdict.
    A device's first request after its VM has changed looks for it in the wrong set.
    Requests that had waited for a context pass again as replays.

    Latency
    -------
    A request accepted in cycle *n* has its verdict in cycle *n + 2*; one a cycle.

    Members
    -------
    request : ``In(stream.Signature(TranslationRequest))``
        New requests.
    verdict : ``Out(stream.Signature(Verdict))``
        What is known of them.
    directory : ``In(DirectoryControl)``
    device_id, process_id, place : ``Out``; context_hit, context, process_hit, process : ``In``
        Caches of contexts, in the same cycle.
    next_set, lookup
        IOTLB.
    replay_valid, replay_held, replay_taken
        Replays, before new requests.
    replay_looks : ``Out(1)``
        A replay looks for its contexts.
    again : ``In(stream.Signature(Again))``
        Requests that had missed while there was no entry for them, before new ones.
    room : ``In(1)``
        New requests may be accepted.
    pause : ``In(1)``
        Accept no request in this cycle.
    transfer : ``In(1)``
        An invalidation takes effect.
    epoch : ``In(1)``; accepted : ``Out(1)``
        For drains: requests accepted now are of ``epoch``.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "request": In(stream.Signature(TranslationRequest)),
                "directory": In(DirectoryControl),
                "device_id": Out(24),
                "process_id": Out(20),
                "place": Out(20),
                "context_hit": In(1),
                "context": In(Context),
                "process_hit": In(1),
                "process": In(ProcessState),
                "next_set": Out(range(config.iotlb_sets)),
                "lookup": Out(stream.Signature(IotlbLookup)),
                "replay_valid": In(1),
                "replay_held": In(Held),
                "replay_taken": Out(1),
                "replay_looks": Out(1),
                "again": In(stream.Signature(Again)),
                "room": In(1),
                "pause": In(1),
                "verdict": Out(stream.Signature(Verdict)),
                "transfer": In(1),
                "epoch": In(1),
                "accepted": Out(1),
            }
        )

    def elaborate(self, platform):
        m, config = Module(), self.config
        self.held, self.valid, self.stale = Signal(Held), Signal(), Signal()
        self.found, self.process_found = Signal(), Signal()
        self.second_process = Signal(ProcessState)
        self.leaves, self.wide = Signal(), Signal(len(_MODES))
        # Sets of the VMs, from which the sets of their pages follow: read as a request comes in,
        # since by its context it would be known too late.
        m.submodules.places = places = Memory(
            shape=range(config.iotlb_sets), depth=_rows(config), init=[]
        )
        self.vm_read, self.vm_write = places.read_port(domain="comb"), places.write_port()
        self.vm = Signal.like(self.next_set)  # of the request in the second register
        self._front(m)
        self._ask(m)
        return m

    def _front(self, m: Module) -> None:
        """First register: a new request or a replay.  Then look for its contexts."""
        request, comes = self.request, Signal(TranslationRequest)
        first, first_valid, vm = Signal(Held), Signal(), Signal.like(self.vm)
        moves = ~self.valid | self.leaves
        free = ~first_valid | moves
        # The IOTLB is cleared after reset, and never waits afterwards.
        again, open_ = self.again, free & ~self.replay_valid & ~self.pause & self.lookup.ready
        m.d.comb += [
            self.replay_taken.eq(self.replay_valid & free),
            again.ready.eq(open_),
            request.ready.eq(open_ & ~again.valid & self.room),
            self.accepted.eq(request.valid & request.ready),
            self.replay_looks.eq(first_valid & first.replay),
            self.device_id.eq(first.request.device_id),
            self.next_set.eq(
                Mux(moves, self._set(first, vm), self._set(self.held, self.vm)),
            ),
            self.vm_read.addr.eq(comes.device_id),
        ]
        m.d.comb += comes.eq(request.payload)
        with m.If(self.replay_valid):
            m.d.comb += comes.eq(self.replay_held.request)
        with m.Elif(again.valid):
            m.d.comb += comes.eq(again.payload.request)
        process = Mux(comes.pv, comes.process_id, 0)
        with m.If(free):
            m.d.sync += [
                first_valid.eq(self.replay_valid | self.accepted | (again.valid & again.ready)),
                first.eq(self.replay_held),
                first.request.eq(comes),
                first.replay.eq(1),
                self.process_id.eq(process),
                self.place.eq(process ^ comes.device_id),
                vm.eq(self.vm_read.data),
            ]
            with m.If(~self.replay_valid):
                m.d.sync += [
                    first.replay.eq(0),
                    first.lane.eq(Lane.NONE),
                    first.counted.eq(0),
                    first.epoch.eq(self.epoch),
                ]
                with m.If(again.valid):
                    m.d.sync += [
                        first.lane.eq(again.payload.lane),
                        first.counted.eq(again.payload.counted),
                        first.epoch.eq(again.payload.epoch),
                    ]
        with m.If(moves):
            m.d.sync += [
                self.valid.eq(first_valid),
                self.held.eq(first),
                self.vm.eq(vm),
                self.wide.eq(self._too_wide(first.request.device_id)),
                self.held.context.eq(self.context),  # of use if it is found
                self.found.eq(self.context_hit),
                self.second_process.eq(self.process),
                self.process_found.eq(self.process_hit),
                self.stale.eq(self.transfer),
            ]
        with m.Else():
            m.d.sync += self.stale.eq(self.stale | self.transfer)

    def _set(self, held, vm):
        """Where the IOTLB has what is asked for."""
        return iotlb_set(held.request.iova[12:], vm, self.config.iotlb_sets)

    def _too_wide(self, device_id):
        """Whether a device_id is more than the configuration, or a directory of each mode, has."""
        widths = (6, 15, 24) if self.config.msi_flat else (7, 16, 24)
        bits = self.config.device_id_bits
        return Cat(device_id[min(width, bits) :].any() for width in widths)

    def _fits(self):
        """Whether the device_id fits the mode of the directory."""
        mode = self.directory.mode
        return ~Cat((mode == m) & bit for m, bit in zip(_MODES, self.wide, strict=True)).any()

    def _merge(self, m: Module, merged, needed) -> None:
        """Put the process context into the device's."""
        context = self.held.context
        m.d.comb += merged.eq(context)
        with m.If(needed):
            for name in ProcessState.as_shape().members:
                m.d.comb += merged[name].eq(self.second_process[name])
        with m.Elif(context.pdtv):
            m.d.comb += merged.s_levels.eq(0)

    def _key(self):
        """As lookup_key has it of the merged context, if the request is looked up at all."""
        request, context = self.held.request, self.held.context
        process, none = self.second_process, ~context.pdtv
        first, pscid = none & (context.s_levels != 0), context.pscid
        if self.config.pd8:
            wants = context.pdtv & (context.pd_levels != 0) & (request.pv | context.dpe)
            first = Mux(wants, process.s_levels != 0, first)
            pscid = Mux(wants, process.pscid, pscid)
        second = context.g_levels != 0
        fields = {
            "gv": second,
            "gscid": context.gscid,
            "pv": first & (request.at != AddressType.TRANSLATED),
            "pscid": pscid,
            "vpn": request.iova[12:],
            "msi": context.msi & second,
        }
        return Cat(fields[name] for name in IotlbKey.as_shape().members)

    def _ask(self, m: Module) -> None:
        """Judge what contexts alone decide; ask the IOTLB."""
        config = self.config
        verdict, lookup, mode = self.verdict.payload, self.lookup, self.directory.mode
        payload = lookup.payload
        request, context = self.held.request, self.held.context
        untranslated = request.at == AddressType.UNTRANSLATED
        translated = request.at == AddressType.TRANSLATED
        message = request.at == AddressType.MESSAGE
        bare, directory = mode == DdtpMode.BARE, mode > DdtpMode.BARE
        located, needed, disallowed = Signal(), Signal(), Signal()
        fits = Signal()
        no_process = Signal()
        ends = Signal()  # without any translation
        supervised = request.pv & request.priv
        if self.config.pd8:
            m.d.comb += needed.eq(self.found & needs_process(request, context))
        m.d.comb += [
            fits.eq(self._fits()),
            located.eq(directory & fits & self.found),
            disallowed.eq(Mux(message, ~context.en_pri, refused(request, context))),
            no_process.eq(needed & ~self.process_found),
            ends.eq(message | (translated & ~context.t2gpa)),
        ]
        no_type = verdict.disallowed
        with m.If(mode == DdtpMode.OFF):
            m.d.comb += verdict.off.eq(1)
        with m.Elif(bare):
            m.d.comb += no_type.eq(~untranslated)
        with m.Elif(~fits):
            m.d.comb += no_type.eq(1)
        with m.Elif(~self.found):
            m.d.comb += verdict.missing.eq(1)
        with m.Elif(disallowed):
            m.d.comb += no_type.eq(1)
        with m.Elif(no_process):
            m.d.comb += verdict.missing.eq(1)
        with m.Elif(needed & supervised & ~self.second_process.ens):
            m.d.comb += no_type.eq(1)
        held = verdict.held
        m.d.comb += held.eq(self.held)
        self._merge(m, held.context, needed)
        with m.If(~located):
            # Without a context there is nothing that DTF could silence.
            m.d.comb += [
                held.context.eq(0),
                held.context.rcid.eq(self.directory.qos.rcid),
                held.context.mcid.eq(self.directory.qos.mcid),
            ]
        # The IOTLB holds no addresses of interrupt files, and none for answers with a GPA.
        # What a request without a sound context would look for does not matter.
        key = payload.key
        first, second = key.pv, key.gv
        direct = is_ats(request) & context.t2gpa
        if self.config.msi_flat:
            file = is_interrupt_file(request.iova[12:], context.msi_mask, context.msi_pattern)
            direct = direct | (context.msi & second & ~first & file)
        # Of the context that counts, found or not: nobody looks without one.
        sum_ = context.sum
        if self.config.pd8:
            sum_ = Mux(wants_process(request, context), self.second_process.sum, sum_)
        # None of the faults above, without their order.
        open_, looks, served = Signal(), Signal(), Signal(init=1)
        if self.config.pd8:
            refuses = supervised & ~self.second_process.ens
            m.d.comb += served.eq(
                ~wants_process(request, context) | (self.process_found & ~refuses)
            )
        sound = located & ~refused(request, context) & served
        m.d.comb += open_.eq(sound & ~ends & (first | second))
        # The context's GSCID is 0 without second stage.
        vm = iotlb_set(0, context.gscid, self.config.iotlb_sets)
        looked, elsewhere = Signal(), Signal()
        m.d.sync += [
            self.vm_write.addr.eq(request.device_id),
            self.vm_write.data.eq(vm),
            looked.eq(lookup.valid),
            elsewhere.eq(payload.elsewhere),
        ]
        m.d.comb += self.vm_write.en.eq(looked & elsewhere)
        m.d.comb += [
            looks.eq(open_ & ~direct),
            verdict.lookup.eq(looks),
            verdict.walks.eq(open_ & direct),
            verdict.beyond.eq(request.iova[config.pas :].any() & ~message),
            verdict.stale.eq(self.stale | self.transfer),
            key.eq(self._key()),
            payload.device_id.eq(request.device_id),
            payload.tag.eq(request.tag),
            payload.write.eq(request.write),
            payload.exec.eq(request.exec),
            payload.priv.eq(supervised),
            payload.sum.eq(sum_),
            payload.ats.eq(is_ats(request)),
            payload.also_read.eq(request.also_read),
            payload.again.eq(self.held.counted),
            payload.elsewhere.eq(self.vm != vm),
            self.leaves.eq(self.verdict.ready),
            lookup.valid.eq(self.valid & looks & self.verdict.ready),
            self.verdict.valid.eq(self.valid),
        ]
