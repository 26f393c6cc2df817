"""Caches of device and process contexts."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import DeviceContext, DeviceContextBase
from rtl.iommu.context_checks import device_context
from rtl.iommu.requests import Context, ProcessState

__all__ = ["ContextCache", "ProcessCache"]


def _any(bits: Iterable[Value]) -> Value:
    """Whether any bit is set, as a tree: there may be a thousand."""
    found = list(bits) or [Const(0, 1)]
    while len(found) > 1:
        pairs = zip(found[::2], [*found[1::2], Const(0, 1)], strict=False)
        found = [left | right for left, right in pairs]
    return found[0]


class _Cache(wiring.Component):
    """Fully associative cache with keys in registers and contents in RAM, replaced in turn.

    Whoever fills must ``remove`` the entries of the same key in that cycle, so that no two answer.
    It has a bit per entry and looks at ``keys``; fills come after it.
    """

    def __init__(self, entries: int, key_bits: int, content):
        self.entries = entries
        self.keys = [Signal(key_bits, name=f"key{i}", reset_less=True) for i in range(entries)]
        super().__init__(
            {
                "key": In(key_bits),
                "hit": Out(1),
                "content": Out(content),
                "fill_en": In(1),
                "fill_key": In(key_bits),
                "fill_content": In(content),
                "remove": In(entries),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.entries
        bits = max(1, (count - 1).bit_length())
        m.submodules.ram = ram = memory.Memory(
            shape=self.fill_content.shape(), depth=count, init=[]
        )
        read, write = ram.read_port(domain="comb"), ram.write_port()
        victim, valid = Signal(bits), Signal(count)
        match = [Signal(name=f"match{i}") for i in range(count)]
        # At most one matches.
        index = Cat(_any(match[i] for i in range(count) if i >> bit & 1) for bit in range(bits))
        for i, own in enumerate(self.keys):
            m.d.comb += match[i].eq(valid[i] & (own == self.key))
            with m.If(self.remove[i]):
                m.d.sync += valid[i].eq(0)
            with m.If(self.fill_en & (victim == i)):
                m.d.sync += [valid[i].eq(1), own.eq(self.fill_key)]
        with m.If(self.fill_en):
            m.d.sync += victim.eq(Mux(victim == count - 1, 0, victim + 1))
        m.d.comb += [
            self.hit.eq(_any(match)),
            read.addr.eq(index),
            self.content.eq(read.data),
            write.addr.eq(victim),
            write.data.eq(self.fill_content),
            write.en.eq(self.fill_en),
        ]
        return m


def _stored(config: IommuConfig) -> data.StructLayout:
    """Members of Context that are not always 0."""
    layout = DeviceContext if config.msi_flat else DeviceContextBase
    made = device_context(config, Signal(layout), gxl=Const(0, 1))
    full = Context.as_shape()
    return data.StructLayout(
        {name: min(len(value), full[name].width) for name, value in made.items()}
    )


class ContextCache(wiring.Component):
    """Fully associative cache of device contexts, replaced in turn.

    Latency
    -------
    ``hit`` and ``context`` follow ``device_id`` in the same cycle.  Fills and clears show in the
    next one.

    Members
    -------
    device_id : ``In(24)``; hit : ``Out(1)``; context : ``Out(Context)``
        Search.  Only ``config.device_id_bits`` are looked at, here and below.
    fill_en : ``In(1)``; fill_id : ``In(24)``; fill_context : ``In(Context)``
        Store in place of what there is of that device.  Members that the configuration does not
        need are not kept and read 0.
    clear_en : ``In(1)``; clear_all : ``In(1)``; clear_id : ``In(24)``
        Forget one device, or all.  Comes before a fill in the same cycle; since both then want the
        same comparators, everything is forgotten but what is filled.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "device_id": In(24),
                "hit": Out(1),
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
        bits, kept = self.config.device_id_bits, _stored(self.config)
        m.submodules.cache = cache = _Cache(self.config.context_entries, bits, kept)
        m.d.comb += [
            cache.key.eq(self.device_id),
            self.hit.eq(cache.hit),
            cache.fill_en.eq(self.fill_en),
            cache.fill_key.eq(self.fill_id),
        ]
        for name in kept.members:
            m.d.comb += [
                self.context[name].eq(cache.content[name]),
                cache.fill_content[name].eq(self.fill_context[name]),
            ]
        everything = self.clear_en & (self.clear_all | self.fill_en)
        wanted = Signal(bits)
        m.d.comb += wanted.eq(Mux(self.clear_en, self.clear_id, self.fill_id))
        for i, own in enumerate(cache.keys):
            covered = (self.clear_en | self.fill_en) & (own == wanted)
            m.d.comb += cache.remove[i].eq(everything | covered)
        return m


class ProcessCache(wiring.Component):
    """Fully associative cache of process contexts, replaced in turn.

    Latency
    -------
    As :class:`ContextCache`.

    Members
    -------
    device_id : ``In(24)``; process_id : ``In(20)``
        What to search.
    hit : ``Out(1)``; process : ``Out(ProcessState)``
        What is found.
    fill_en : ``In(1)``; fill_state : ``In(ProcessState)``
        Store in place of what there is of that process,
    fill_device : ``In(24)``; fill_process : ``In(20)``
        which is this one.
    clear_en : ``In(1)``; clear_all : ``In(1)``; clear_device : ``In(24)``
        Forget everything or all of a device; with a fill as :class:`ContextCache`.
    clear_process_en : ``In(1)``; clear_process : ``In(20)``
        Of the device, forget this process only.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "device_id": In(24),
                "process_id": In(20),
                "hit": Out(1),
                "process": Out(ProcessState),
                "fill_en": In(1),
                "fill_device": In(24),
                "fill_process": In(20),
                "fill_state": In(ProcessState),
                "clear_en": In(1),
                "clear_all": In(1),
                "clear_device": In(24),
                "clear_process_en": In(1),
                "clear_process": In(20),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        device_bits = config.device_id_bits
        process_bits = 20 if config.pd20 else 17 if config.pd17 else 8
        key = data.StructLayout({"process": process_bits, "device": device_bits})
        m.submodules.cache = cache = _Cache(config.process_entries, key.size, ProcessState)
        m.d.comb += [
            key(cache.key).process.eq(self.process_id),
            key(cache.key).device.eq(self.device_id),
            self.hit.eq(cache.hit & ~self.process_id[process_bits:].any()),
            self.process.eq(cache.content),
            cache.fill_en.eq(self.fill_en),
            key(cache.fill_key).process.eq(self.fill_process),
            key(cache.fill_key).device.eq(self.fill_device),
            cache.fill_content.eq(self.fill_state),
        ]
        everything = self.clear_en & (self.clear_all | self.fill_en)
        whole_device = self.clear_en & ~self.clear_process_en
        wanted = Signal(key)
        m.d.comb += [
            wanted.process.eq(Mux(self.clear_en, self.clear_process, self.fill_process)),
            wanted.device.eq(Mux(self.clear_en, self.clear_device, self.fill_device)),
        ]
        for i, raw in enumerate(cache.keys):
            own = key(raw)
            process = whole_device | (own.process == wanted.process)
            covered = (self.clear_en | self.fill_en) & (own.device == wanted.device) & process
            m.d.comb += cache.remove[i].eq(everything | covered)
        return m
