"""Device contexts: a cache, and the unit that fetches and checks them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import (
    Cause,
    DeviceContext,
    DeviceContextBase,
    IoatpMode,
    IohgatpMode,
    MsiptpMode,
    PdtpMode,
)
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.iommu.seams import DirectoryControl

__all__ = ["Context", "ContextCache", "ContextFetch", "ContextFill"]


class Context(data.Struct):
    """What of a device context steers translation.  IDs are 0 if their stage is off."""

    en_ats: 1
    en_pri: 1
    prpr: 1
    dtf: 1
    pdtv: 1
    g_on: 1
    gscid: 16
    g_ppn: 44
    s_on: 1
    pscid: 20
    s_ppn: 44


class ContextFill(data.Struct):
    """A fetched context, or why there is none (``cause`` not 0)."""

    device_id: 24
    cause: 12
    context: Context


class ContextCache(wiring.Component):
    """Fully associative cache of device contexts, replaced in turn.

    Latency
    -------
    ``hit`` and ``index`` follow ``device_id`` in the same cycle; ``context`` follows ``read_index``
    in the same cycle.

    Members
    -------
    device_id : ``In(24)``; hit : ``Out(1)``; index : ``Out(range(entries))``
        Search.
    read_index : ``In(range(entries))``; context : ``Out(Context)``
        Read.
    fill_en : ``In(1)``; fill_id : ``In(24)``; fill_context : ``In(Context)``
        Store; there must be no entry of that device.
    clear_en : ``In(1)``; clear_all : ``In(1)``; clear_id : ``In(24)``
        Forget one device, or all.  Comes before a fill in the same cycle.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.index_bits = max(1, (config.context_entries - 1).bit_length())
        super().__init__(
            {
                "device_id": In(24),
                "hit": Out(1),
                "index": Out(self.index_bits),
                "read_index": In(self.index_bits),
                "context": Out(Context),
                "fill_en": In(1),
                "fill_id": In(24),
                "fill_context": In(Context),
                "clear_en": In(1),
                "clear_all": In(1),
                "clear_id": In(24),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.config.context_entries
        m.submodules.ram = ram = memory.Memory(shape=Context, depth=count, init=[])
        read, write = ram.read_port(domain="comb"), ram.write_port()
        victim = Signal(self.index_bits)
        ids = [Signal(24, name=f"id{i}") for i in range(count)]
        valid, match = Signal(count), Signal(count)
        index = 0
        for i, own in enumerate(ids):
            m.d.comb += match[i].eq(valid[i] & (own == self.device_id))
            index = index | Mux(match[i], i, 0)
            with m.If(self.clear_en & (self.clear_all | (own == self.clear_id))):
                m.d.sync += valid[i].eq(0)
            with m.If(self.fill_en & (victim == i)):
                m.d.sync += [valid[i].eq(1), own.eq(self.fill_id)]
        with m.If(self.fill_en):
            m.d.sync += victim.eq(Mux(victim == count - 1, 0, victim + 1))
        m.d.comb += [
            self.hit.eq(match.any()),
            self.index.eq(index),
            read.addr.eq(self.read_index),
            self.context.eq(read.data),
            write.addr.eq(victim),
            write.data.eq(self.fill_context),
            write.en.eq(self.fill_en),
        ]
        return m


def _misconfigured(config: IommuConfig, dc):
    """Conditions of section "Device-context configuration checks" for this configuration."""
    tc, hgatp, ta, fsc = dc.tc, dc.iohgatp, dc.ta, dc.fsc
    stage1 = [IoatpMode.BARE] + ([IoatpMode.SV39] if config.sv39 else [])
    stage2 = [IohgatpMode.BARE] + ([IohgatpMode.SV39X4] if config.sv39x4 else [])
    wrong = [
        tc.reserved.any(),
        tc.reserved2.any(),
        tc.en_pri & ~tc.en_ats,
        tc.prpr & ~tc.en_pri,
        tc.t2gpa,
        tc.gade | tc.sade,
        tc.dpe & ~tc.pdtv,
        tc.sbe,
        tc.sxl,
        ta.reserved.any() | ta.reserved2.any() | ta.rcid.any() | ta.mcid.any(),
        fsc.reserved.any(),
        # Process directories are not built; a Bare one is.
        tc.pdtv & (fsc.mode != PdtpMode.BARE),
        ~tc.pdtv & ~Cat(fsc.mode == mode for mode in stage1).any(),
        ~Cat(hgatp.mode == mode for mode in stage2).any(),
        (hgatp.mode != IohgatpMode.BARE) & hgatp.ppn[:2].any(),
    ]
    if not config.ats:
        wrong.append(tc.en_ats | tc.en_pri | tc.prpr)
    if config.msi_flat:
        wrong += [
            dc.msiptp.mode != MsiptpMode.OFF,
            dc.msiptp.reserved.any(),
            dc.msi_addr_mask[52:].any(),
            dc.msi_addr_pattern[52:].any(),
            dc.reserved.any(),
        ]
    return Cat(wrong).any()


class ContextFetch(wiring.Component):
    """Reads a device's context through the one-level DDT, and checks it.

    Members
    -------
    request : ``In(stream.Signature(24))``
        Device whose context is wanted; one at a time.
    fill : ``Out(stream.Signature(ContextFill))``
        The answer.
    directory : ``In(DirectoryControl)``
        Where the DDT is.
    memory : ``Out(Axi4(...))``
        One burst of the context's size per request.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.layout = DeviceContext if config.msi_flat else DeviceContextBase
        self.bytes = self.layout.as_shape().size // 8
        super().__init__(
            {
                "request": In(stream.Signature(24)),
                "fill": Out(stream.Signature(ContextFill)),
                "directory": In(DirectoryControl),
                "memory": Out(Axi4(addr_width=config.pas, data_width=64, id_width=1, write=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beats = self.bytes // 8
        device, count, failed = Signal(24), Signal(range(beats + 1)), Signal()
        words = Signal(self.layout)
        raw = words.as_value()
        address = Signal(57)
        ar, r = self.memory.ar, self.memory.r
        beyond = address[self.config.pas :].any()
        m.d.comb += [
            address.eq((self.directory.ppn << 12) + (device * self.bytes)[:12]),
            ar.payload.addr.eq(address),
            ar.payload.len.eq(beats - 1),
            ar.payload.size.eq(3),
            ar.payload.burst.eq(Burst.INCR),
        ]
        fill = self.fill.payload
        m.d.comb += fill.device_id.eq(device)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [device.eq(self.request.payload), count.eq(0), failed.eq(0)]
                with m.If(self.request.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += ar.valid.eq(~beyond)
                m.d.sync += failed.eq(beyond)
                with m.If(beyond):
                    m.next = "CHECK"
                with m.Elif(ar.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += r.ready.eq(1)
                with m.If(r.valid):
                    m.d.sync += [
                        raw.eq(Cat(raw[64:], r.payload.data)),
                        failed.eq(failed | (r.payload.resp != Resp.OKAY)),
                    ]
                    with m.If(r.payload.last):
                        m.next = "CHECK"
            with m.State("CHECK"):
                self._decode(m, words, failed)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.fill.valid.eq(1)
                with m.If(self.fill.ready):
                    m.next = "IDLE"
        return m

    def _decode(self, m: Module, words, failed) -> None:
        """Register the answer."""
        g_on = words.iohgatp.mode != IohgatpMode.BARE
        # With PDTV the context names a process directory; ours can only be Bare.
        s_on = ~words.tc.pdtv & (words.fsc.mode != IoatpMode.BARE)
        fill = self.fill.payload
        m.d.sync += [
            fill.cause.eq(
                Mux(
                    failed,
                    Cause.DDT_ACCESS_FAULT,
                    Mux(
                        ~words.tc.v,
                        Cause.DDT_INVALID,
                        Mux(_misconfigured(self.config, words), Cause.DDT_MISCONFIGURED, 0),
                    ),
                )
            ),
            fill.context.en_ats.eq(words.tc.en_ats),
            fill.context.en_pri.eq(words.tc.en_pri),
            fill.context.prpr.eq(words.tc.prpr),
            fill.context.dtf.eq(words.tc.dtf),
            fill.context.pdtv.eq(words.tc.pdtv),
            fill.context.g_on.eq(g_on),
            fill.context.gscid.eq(Mux(g_on, words.iohgatp.gscid, 0)),
            fill.context.g_ppn.eq(words.iohgatp.ppn),
            fill.context.s_on.eq(s_on),
            fill.context.pscid.eq(Mux(s_on, words.ta.pscid, 0)),
            fill.context.s_ppn.eq(words.fsc.ppn),
        ]
