"""Harnesses of what merges clients and AXI managers."""

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Signal

from .ports import fair, free, stable, take
from .prover import Plant, Proof, constant

__all__ = ["PROOFS"]

COUNT = 3
#: Requests that a client may have under way.
MOST = 2


def _channel(m, ports, dut, name: str) -> list:
    """An address channel of each manager, free, and that below, taken at will."""
    channels = [getattr(manager, name) for manager in dut.managers]
    for number, channel in enumerate(channels):
        free(m, ports, f"{name}{number}", channel)
    take(m, ports, name, getattr(dut.down, name))
    return channels


def axi_read(module):
    """Addresses of three managers; answers find their manager."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.AxiReadArbiter(
        addr_width=3, data_width=32, id_widths=[1] * COUNT
    )
    channels = _channel(m, ports, dut, "ar")
    down, answer = dut.down.ar, dut.down.r
    free(m, ports, "r", answer)
    for number, manager in enumerate(dut.managers):
        take(m, ports, f"r{number}", manager.r)
    stable(m, down)
    taken = [channel.valid & channel.ready for channel in channels]
    m.d.comb += Assert((down.valid & down.ready) == Cat(taken).any())
    for number, channel in enumerate(channels):
        owner, manager = down.payload.id[1:] == number, dut.managers[number].r
        mine = answer.valid & (answer.payload.id[1:] == number)
        m.d.comb += [
            Assert(
                ~taken[number]
                | (
                    (down.payload.addr == channel.payload.addr)
                    & (down.payload.id[0] == channel.payload.id)
                    & owner
                )
            ),
            Assert(manager.valid == mine),
            Assert(~mine | (answer.ready == manager.ready)),
            Cover(mine & answer.ready & taken[number]),
        ]
    m.d.comb += Assert(sum(taken) <= 1)
    fair(m, [channel.valid for channel in channels], taken)
    return m, ports


def axi_write(module):
    """Bursts of three managers, each whole."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.AxiWriteArbiter(
        addr_width=3, data_width=32, id_widths=[1] * COUNT
    )
    channels = _channel(m, ports, dut, "aw")
    beats = [manager.w for manager in dut.managers]
    for number, beat in enumerate(beats):
        free(m, ports, f"w{number}", beat)
    take(m, ports, "w", dut.down.w)
    free(m, ports, "b", dut.down.b)
    for number, manager in enumerate(dut.managers):
        take(m, ports, f"b{number}", manager.b)
    stable(m, dut.down.aw, "aw")
    stable(m, dut.down.w, "w")
    taken = [channel.valid & channel.ready for channel in channels]
    moved = [beat.valid & beat.ready for beat in beats]
    # Beats follow their address, and no other address comes before the last of them.
    owed, owner = Signal(), Signal(range(COUNT))
    for number, beat in enumerate(beats):
        with m.If(taken[number]):
            m.d.sync += [owed.eq(1), owner.eq(number)]
        with m.If(moved[number] & beat.payload.last):
            m.d.sync += owed.eq(0)
        m.d.comb += Assert(~moved[number] | (owed & (owner == number)))
    m.d.comb += [
        Assert(~Cat(taken).any() | ~owed),
        Assert(sum(taken) <= 1),
        Cover(owed & dut.down.w.valid & dut.down.w.ready & (owner == COUNT - 1)),
    ]
    fair(m, [channel.valid for channel in channels], taken)
    return m, ports


def client_mux(module):
    """Requests of three clients; answers of one."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.ClientMux(COUNT)
    dut.MOST = MOST
    clients = [getattr(dut, f"client{number}") for number in range(COUNT)]
    for number, client in enumerate(clients):
        free(m, ports, f"request{number}", client.request)
        m.d.comb += client.response.ready.eq(1)
    take(m, ports, "request", dut.port.request)
    free(m, ports, "response", dut.port.response)
    stable(m, dut.port.request)
    taken = [client.request.valid & client.request.ready for client in clients]
    answered = [client.response.valid for client in clients]
    counts = [Signal(range(4), name=f"count{number}") for number in range(COUNT)]
    for number, count in enumerate(counts):
        m.d.sync += count.eq(count + taken[number] - answered[number])
        m.d.comb += [
            Assume(~answered[number] | (count != 0)),
            Assert(count <= MOST),
            Cover((count == MOST) & clients[number].request.valid & Cat(taken).any()),
        ]
    asked, given = dut.port.request.payload.tag, dut.port.response.payload.tag
    client = constant(m, ports, range(COUNT), "client")
    m.d.comb += Assume(client < COUNT)
    for number in range(COUNT):
        with m.If(client == number):
            own = clients[number].request.payload
            m.d.comb += [
                Assert(~taken[number] | (asked[:6] == own.tag[:6])),
                Assert(~taken[number] | (asked[6:] == number)),
                Assert(answered[number] == (dut.port.response.valid & (given[6:] == number))),
            ]
    m.d.comb += [
        Assert(sum(taken) <= 1),
        Assert((dut.port.request.valid & dut.port.request.ready) == Cat(taken).any()),
    ]
    able = [
        each.request.valid & (count != MOST) for each, count in zip(clients, counts, strict=True)
    ]
    fair(m, able, taken)
    return m, ports


_SENDERS = ("senders do not withdraw or change what they offer",)
PROOFS = (
    Proof(
        name="axi-read-arbiter",
        claim="addresses arrive unchanged and stable; a waiting manager sees every other served "
        "at most once; answers find their manager",
        module="rtl.bus.arbiter",
        harness=axi_read,
        depth=12,
        quick=6,
        assumptions=_SENDERS,
        covers=("every manager waits as long as the bound allows", "an answer beside an address"),
        plants=(
            Plant(
                name="an offered address is replaced",
                old="grant.eq(Mux(held, served, following)),\n            down.ar.valid",
                new="grant.eq(following),\n            down.ar.valid",
            ),
            Plant(
                name="the turn does not move on",
                old="m.d.sync += [served.eq(grant), held.eq(~down.ar.ready)]",
                new="m.d.sync += [served.eq(0), held.eq(0)]",
            ),
        ),
    ),
    Proof(
        name="axi-write-arbiter",
        claim="bursts are whole and stable; a waiting manager sees every other served at most once",
        module="rtl.bus.arbiter",
        harness=axi_write,
        depth=16,
        quick=12,
        assumptions=_SENDERS,
        covers=("every manager waits as long as the bound allows", "the last manager's beats"),
        plants=(
            Plant(
                name="a burst ends with its first beat",
                old="with m.If(w.i.valid & w.i.ready & w.i.payload.last):",
                new="with m.If(w.i.valid & w.i.ready):",
            ),
        ),
    ),
    Proof(
        name="client-mux",
        claim="requests arrive unchanged and stable; a waiting client sees every other served at "
        "most once, but one that has its share under way, which waits alone",
        module="rtl.iommu.client_mux",
        harness=client_mux,
        depth=10,
        quick=6,
        assumptions=(*_SENDERS, "answers are to requests; clients take theirs"),
        covers=(
            "every client waits as long as the bound allows",
            "another is served while one has its share",
        ),
        plants=(
            Plant(
                name="a client beyond its share is served",
                old="client.request.ready.eq(request.ready & asking[number])",
                new="client.request.ready.eq(request.ready)",
            ),
            Plant(
                name="an offered request is replaced",
                old="grant.eq(Mux(held, served, following)), request.valid",
                new="grant.eq(following), request.valid",
            ),
        ),
    ),
)
