"""I/O bridge: any AXI4 manager behind the IOMMU."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.translation import TAG_BITS, DmaUser, TranslationRequest
from rtl.bus.axi import Axi4
from rtl.bus.stream import StreamArbiter, StreamBypass
from rtl.iommu.admission import IOVA_BITS
from rtl.iommu.bridge_read import BridgeRead
from rtl.iommu.bridge_write import BridgeWrite
from rtl.iommu.requests import QosId
from rtl.iommu.seams import Drain, TranslationPort

__all__ = ["Bridge", "bridge_options", "join"]


def bridge_options(config: IommuConfig) -> dict:
    """What a bridge must know of the IOMMU beside it, as arguments of :class:`Bridge`."""
    return {
        "addr_width": config.pas,
        "mrif": config.msi_mrif,
        "atomic": config.amo_mrif,
        "qos": config.qosid,
    }


def join(m: Module, bridge, iommu) -> None:
    """Connect a bridge to an :class:`~rtl.iommu.iommu.Iommu` as its translation client 0."""
    connect(m, bridge.translate, iommu.translate0)
    connect(m, iommu.fence, bridge.drain)
    if iommu.config.msi_mrif:
        connect(m, bridge.interrupt_files, iommu.interrupt_files)
        connect(m, bridge.faults, iommu.bridge_faults)


class Bridge(wiring.Component):
    """Passes AXI bursts through the translation port to memory.

    Order is AXI's: bursts of one ID and direction stay in order, all others pass each other, so a
    miss of one device holds nobody else.  IDs are kept.  Bursts are issued as they are, at the
    translated address; write data waits in the bridge until then.  Answers:

    ======== =====================================================================
    memory's the burst was issued
    DECERR   the translation was refused; the IOMMU's fault record says why
    SLVERR   the burst crosses 4 KiB, is a write of more than ``beats`` beats, or its
             ``user.at`` is neither untranslated nor translated
    ======== =====================================================================

    An error comes for the whole burst, in its turn among those of its ID.

    With ``mrif`` a page may be a memory-resident interrupt file (AIA): a write of one aligned word
    is an MSI, which :class:`~rtl.iommu.mrif.MrifStore` stores in its turn among the bursts of its
    ID and answers when the notice is sent; an aligned word reads 0; all else gets SLVERR.

    Latency
    -------
    Address to translation request: one cycle.  Answer to address on ``down``: two cycles; a write
    goes when its data has come.  Data and responses: one cycle.

    Parameters
    ----------
    addr_width : int
        Bits of a physical address.
    data_width, id_width : int
        Of both buses.
    slots : int
        Bursts on their way in each direction, a power of two; its log2 and one fit in a tag.
    beats : int
        Beats of the longest write burst, a power of two.
    mrif, atomic, qos : bool
        ``capabilities`` MSI_MRIF, AMO_MRIF and QOSID.

    Members
    -------
    up : ``In(Axi4)``
        64-bit IOVAs, ``user`` is a DmaUser.
    down : ``Out(Axi4)``
        With QOSID its ``user`` is the QosId that came with the translation.
    interrupt_files : ``Out(Axi4)``, 64 bits, faults : ``Out(stream)`` of FaultRecord
        Only with ``mrif``.
    translate : ``Out(TranslationPort)``
    drain : ``In(Drain)``
        Done when memory has answered all bursts accepted before the request rose.
    """

    def __init__(
        self,
        *,
        addr_width: int,
        data_width: int = 128,
        id_width: int = 4,
        slots: int = 16,
        beats: int = 16,
        mrif: bool = False,
        atomic: bool = False,
        qos: bool = False,
    ):
        self.slots = slots
        self.tag_bits = slots.bit_length()
        if self.tag_bits > TAG_BITS:
            raise ValueError(f"Tags have no room for {slots!r} slots in each direction")
        if beats < 2 or beats & (beats - 1) or beats > 256:
            raise ValueError(f"Beats must be a power of two in 2 to 256, not {beats!r}")
        shared = {"slots": slots, "addr_width": addr_width, "mrif": mrif, "qos": qos}
        shared |= {"data_width": data_width, "id_width": id_width}
        self._read = BridgeRead(**shared)
        self._write = BridgeWrite(**shared, beats=beats, atomic=atomic)
        self._mrif = mrif
        bus = {"data_width": data_width, "id_width": id_width}
        names = ("interrupt_files", "faults") if mrif else ()
        members = {name: self._write.signature.members[name] for name in names}
        super().__init__(
            members
            | {
                "up": In(Axi4(addr_width=IOVA_BITS, user=DmaUser, **bus)),
                "down": Out(Axi4(addr_width=addr_width, user=QosId if qos else None, **bus)),
                "translate": Out(TranslationPort()),
                "drain": In(Drain()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.read = read = self._read
        m.submodules.write = write = self._write
        for half, addresses, others in (
            (read, ("ar",), ("r",)),
            (write, ("aw", "w"), ("b",)),
        ):
            for name in addresses:
                connect(m, flipped(getattr(self.up, name)), getattr(half.up, name))
                connect(m, getattr(half.down, name), flipped(getattr(self.down, name)))
            for name in others:
                connect(m, getattr(half.up, name), flipped(getattr(self.up, name)))
                connect(m, flipped(getattr(self.down, name)), getattr(half.down, name))

        if self._mrif:
            connect(m, write.interrupt_files, flipped(self.interrupt_files))
            connect(m, write.faults, flipped(self.faults))

        # The tag is the slot, and above it whether it is a write's.
        asked = data.StructLayout({"request": TranslationRequest, "void": 1})
        m.submodules.requests = requests = StreamArbiter(asked, 2)
        first, request = requests.o, self.translate.request
        m.d.comb += [
            request.valid.eq(first.valid & ~first.payload.void),
            request.payload.eq(first.payload.request),
            first.ready.eq(request.ready | first.payload.void),
        ]
        response, direction = self.translate.response, self.tag_bits - 1
        m.d.comb += response.ready.eq(1)
        for number, half in enumerate((read, write)):
            # So that no burst waits in the same cycle for what the translator does, nor for
            # whether the other direction has one.
            m.submodules[f"asking{number}"] = asking = StreamBypass(asked)
            connect(m, asking.o, requests.inputs[number])
            target = asking.i
            m.d.comb += [
                target.valid.eq(half.request.valid),
                half.request.ready.eq(target.ready),
                target.payload.request.eq(half.request.payload),
                target.payload.request.tag.eq(half.request.payload.tag | number << direction),
                target.payload.void.eq(half.void),
                half.response.payload.eq(response.payload),
                half.response.valid.eq(
                    response.valid & (response.payload.tag[direction] == number)
                ),
            ]

        # Drain: the slots taken before the request rose
        taken, waiting = Signal(), Signal(2 * self.slots)
        live, finished = Cat(read.live, write.live), Cat(read.finished, write.finished)
        m.d.sync += [
            taken.eq(self.drain.request),
            waiting.eq(Mux(taken, waiting, live) & ~finished),
        ]
        m.d.comb += self.drain.done.eq(self.drain.request & taken & ~waiting.any())
        return m
