"""Clients of the translation port: tags go out marked and come back as they were."""

import pytest

from rtl.iommu.client_mux import ClientMux
from tests.rtl.agents import Sink, Source, run, seeded, wait_for


@pytest.mark.parametrize("clients", [2, 3, 4])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_answers_in_any_order_find_their_clients(clients, stall):
    dut = ClientMux(clients)
    rng = seeded(clients)
    ports = [getattr(dut, f"client{n}") for n in range(clients)]
    sources = [Source(port.request, rng, stall) for port in ports]
    sinks = [Sink(port.response, rng, stall) for port in ports]
    asked, answers = Sink(dut.port.request, rng, stall), Source(dut.port.response, rng, stall)
    count = 30
    for n, source in enumerate(sources):
        for item in range(count):
            # Bits above the client's own are no business of anybody's.
            source.queue.append({"tag": item | (rng.randrange(4) << 6), "iova": n << 8 | item})

    async def testbench(ctx):
        total = count * clients
        await wait_for(ctx, lambda: len(asked.got) == total)
        shuffled = list(asked.got)
        rng.shuffle(shuffled)
        answers.queue.extend({"tag": item.tag, "spa": item.iova} for item in shuffled)
        await wait_for(ctx, lambda: sum(len(sink.got) for sink in sinks) == total, then=10)

    background = [agent.process for agent in (*sources, *sinks, asked, answers)]
    run(dut, testbench, background=background)
    assert len({item.tag for item in asked.got}) == count * clients
    for n, sink in enumerate(sinks):
        mask = (1 << dut.tag_bits) - 1
        got = sorted((item.spa, item.tag) for item in sink.got)
        if dut.tag_bits == 7:
            assert [spa for spa, _ in got] == [n << 8 | item for item in range(count)]
            assert all(tag <= mask and tag & 0x3F == spa & 0x3F for spa, tag in got)
        else:
            assert got == [(n << 8 | item, item) for item in range(count)]


def test_too_many_clients_are_refused():
    with pytest.raises(ValueError, match="Tags have no room for 256 clients"):
        ClientMux(256)
