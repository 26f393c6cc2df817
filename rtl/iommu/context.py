"""Caches of device and process contexts."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import DeviceContext, DeviceContextBase
from rtl.iommu.context_checks import device_context
from rtl.iommu.requests import Context, ProcessState

__all__ = ["ContextCache", "ProcessCache"]


def _geometry(entries: int) -> tuple[int, int]:
    """Ways and sets: as many sets, a power of two, as leave four ways at least."""
    sets = 1
    while entries % (2 * sets) == 0 and entries // (2 * sets) >= 4:
        sets *= 2
    return entries // sets, sets


class _Cache(wiring.Component):
    """Set-associative cache in distributed RAM, each set replaced in turn.

    Parameters
    ----------
    entries, key_bits : int
        The lowest bits of ``place`` choose one of the sets.
    content : ShapeLike

    Members
    -------
    place, key : ``In``; hit : ``Out(1)``; content : ``Out``
        Search.
    fill_en : ``In(1)``; fill_content : ``In``; fill_place, fill_key : ``In``
        Store in place of what there is of that key, which is there since the cycle before; not
        right behind another fill, or a forget.
    forget, forget_all : ``In(1)``; forget_place, forget_key : ``In``
        Forget a key, or everything, with what is stored in the same cycle.
    """

    def __init__(self, entries: int, key_bits: int, content):
        self.ways, self.sets = _geometry(entries)
        self.key_bits = key_bits
        place = range(max(2, self.sets))
        super().__init__(
            {
                "place": In(place),
                "key": In(key_bits),
                "hit": Out(1),
                "content": Out(content),
                "fill_en": In(1),
                "fill_content": In(content),
                "fill_place": In(place),
                "fill_key": In(key_bits),
                "forget": In(1),
                "forget_all": In(1),
                "forget_place": In(place),
                "forget_key": In(key_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ways, sets = self.ways, self.sets
        mask = sets - 1
        # What is to be forgotten is looked for, and forgotten, a cycle later, and not found until
        # then.  What is to be stored has been looked for, and is written a cycle later.
        forgets, stores, all_ = Signal(), Signal(), Signal()
        wanted, wanted_place = Signal(self.key_bits), Signal.like(self.place)
        self.new = Signal.like(self.fill_content)
        m.d.sync += [
            forgets.eq(self.forget),
            stores.eq(self.fill_en & ~(self.forget | forgets | stores)),
            all_.eq(self.forget & self.forget_all),
            wanted.eq(Mux(self.forget, self.forget_key, self.fill_key)),
            wanted_place.eq(Mux(self.forget, self.forget_place, self.fill_place) & mask),
            self.new.eq(self.fill_content),
        ]
        place, filled = self.place & mask, self.fill_place & mask
        match, same, found, chosen = (Signal(ways) for _ in range(4))
        victim = Signal(range(max(2, ways)))
        for way in range(ways):
            ram = memory.Memory(shape=self.key_bits, depth=max(2, sets), init=[])
            m.submodules[f"keys{way}"] = ram
            look, upkeep = ram.read_port(domain="comb"), ram.read_port(domain="comb")
            write = ram.write_port()
            valid = Signal(sets, name=f"valid{way}")
            m.d.comb += [
                look.addr.eq(place),
                upkeep.addr.eq(wanted_place),
                write.addr.eq(wanted_place),
                write.data.eq(wanted),
                write.en.eq(stores & chosen[way]),
                match[way].eq(valid.bit_select(place, 1) & (look.data == self.key)),
                same[way].eq(valid.bit_select(wanted_place, 1) & (upkeep.data == wanted)),
                chosen[way].eq(Mux(found.any(), found[way], victim == way)),
            ]
            m.d.sync += found[way].eq(same[way])
            stored, removed = stores & chosen[way], forgets & same[way]
            for number in range(sets):
                with m.If(all_ | ((wanted_place == number) & (stored | removed))):
                    m.d.sync += valid[number].eq(~forgets)
        self._victims(m, stores & ~found.any(), filled, wanted_place, victim)
        m.d.comb += self.hit.eq(match.any() & ~(forgets & (all_ | (wanted == self.key))))
        self._contents(m, stores, place, match, wanted_place, chosen)
        return m

    def _victims(self, m: Module, takes, filled, place, victim) -> None:
        """Whose turn it is in the set of what is to be stored."""
        m.submodules.turns = ram = memory.Memory(
            shape=victim.shape(), depth=max(2, self.sets), init=[]
        )
        read, write = ram.read_port(domain="comb"), ram.write_port()
        m.d.comb += [
            read.addr.eq(filled),
            write.addr.eq(place),
            write.data.eq(Mux(victim == self.ways - 1, 0, victim + 1)),
            write.en.eq(takes),
        ]
        m.d.sync += victim.eq(read.data)

    def _contents(self, m: Module, stores, place, match, wanted_place, chosen) -> None:
        """Contents of all ways in one RAM."""
        m.submodules.contents = ram = memory.Memory(
            shape=self.fill_content.shape(), depth=max(2, self.ways * self.sets), init=[]
        )
        read, write = ram.read_port(domain="comb"), ram.write_port()
        for port, set_, way in ((read, place, match), (write, wanted_place, chosen)):
            index = 0
            for i, bit in enumerate(way):
                index = index | Mux(bit, i, 0)
            m.d.comb += port.addr.eq(index * self.sets + (set_ if self.sets > 1 else 0))
        m.d.comb += [
            self.content.eq(read.data),
            write.data.eq(self.new),
            write.en.eq(stores),
        ]


def _stored(config: IommuConfig) -> data.StructLayout:
    """Members of Context that are not always 0."""
    layout = DeviceContext if config.msi_flat else DeviceContextBase
    made = device_context(config, Signal(layout), gxl=Const(0, 1))
    full = Context.as_shape()
    return data.StructLayout(
        {name: min(len(value), full[name].width) for name, value in made.items()}
    )


class ContextCache(wiring.Component):
    """Set-associative cache of device contexts, each set replaced in turn.

    Latency
    -------
    ``hit`` and ``context`` follow ``device_id`` in the same cycle.  Clears show in the next one,
    fills in the one after.  In the cycle after either, a fill is not kept.

    Members
    -------
    device_id : ``In(24)``; hit : ``Out(1)``; context : ``Out(Context)``
        Search.  Only ``config.device_id_bits`` are looked at, here and below.
    fill_en : ``In(1)``; fill_id : ``In(24)``; fill_context : ``In(Context)``
        Store in place of what there is of that device, whose ID is there since the cycle before.
        Members that the configuration does not need are not kept and read 0.
    clear_en : ``In(1)``; clear_all : ``In(1)``; clear_id : ``In(24)``
        Forget one device, or all, with what is stored in the same cycle.
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
            cache.place.eq(self.device_id),
            cache.key.eq(self.device_id),
            self.hit.eq(cache.hit),
            cache.fill_en.eq(self.fill_en),
            cache.fill_key.eq(self.fill_id),
            cache.fill_place.eq(self.fill_id),
            cache.forget.eq(self.clear_en),
            cache.forget_all.eq(self.clear_all),
            cache.forget_key.eq(self.clear_id),
            cache.forget_place.eq(self.clear_id),
        ]
        for name in kept.members:
            m.d.comb += [
                self.context[name].eq(cache.content[name]),
                cache.fill_content[name].eq(self.fill_context[name]),
            ]
        return m


class ProcessCache(wiring.Component):
    """Set-associative cache of process contexts, each set replaced in turn.

    Latency
    -------
    As :class:`ContextCache`.

    Members
    -------
    device_id : ``In(24)``; process_id : ``In(20)``; place : ``In(20)``
        What to search; ``place`` is the exclusive or of their lowest bits.
    hit : ``Out(1)``; process : ``Out(ProcessState)``
        What is found.
    fill_en : ``In(1)``; fill_state : ``In(ProcessState)``
        Store in place of what there is of that process,
    fill_device : ``In(24)``; fill_process : ``In(20)``
        which is this one, since the cycle before.
    clear_en : ``In(1)``; clear_all : ``In(1)``; with a fill as :class:`ContextCache`.
        Forget everything,
    clear_process_en : ``In(1)``; clear_process : ``In(20)``; clear_device : ``In(24)``
        or one process of a device.  Without either, all of a device is to be forgotten: everything
        is, since its processes are spread over the sets.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "device_id": In(24),
                "process_id": In(20),
                "place": In(20),
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
        filled, gone = key(cache.fill_key), key(cache.forget_key)
        m.d.comb += [
            key(cache.key).process.eq(self.process_id),
            key(cache.key).device.eq(self.device_id),
            cache.place.eq(self.place),
            self.hit.eq(cache.hit & ~self.process_id[process_bits:].any()),
            self.process.eq(cache.content),
            filled.process.eq(self.fill_process),
            filled.device.eq(self.fill_device),
            cache.fill_place.eq(filled.process ^ filled.device),
            cache.fill_en.eq(self.fill_en),
            cache.fill_content.eq(self.fill_state),
            gone.process.eq(self.clear_process),
            gone.device.eq(self.clear_device),
            cache.forget_place.eq(gone.process ^ gone.device),
            cache.forget.eq(self.clear_en),
            # What a device has is in all sets.
            cache.forget_all.eq(self.clear_all | ~self.clear_process_en),
        ]
        return m
