"""Several clients in front of one translation port."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from models.spec.translation import TAG_BITS
from rtl.bus.stream import round_robin
from rtl.iommu.seams import TranslationPort

__all__ = ["ClientMux"]


class ClientMux(wiring.Component):
    """Merges requests round robin; the client's number replaces the top bits of the tag.

    A request that is offered stays until it is accepted, whoever else asks.  A client has at most
    ``MOST`` requests under way, or less, so that those of all but the last, which has few, fit into
    the backlog (:mod:`rtl.iommu.backlog`); who has more to ask waits alone.

    Clients use the low ``TAG_BITS - ceil_log2(clients)`` bits of the tag and get them back, zeros
    above.  A client that does not take its answer blocks the others, so every client must take
    what it asked for.

    Latency
    -------
    None either way.

    Parameters
    ----------
    clients : int
        From 2.

    Members
    -------
    client0, client1, ... : ``In(TranslationPort)``
    port : ``Out(TranslationPort)``
    """

    MOST = 128

    def __init__(self, clients: int):
        self.clients = clients
        self.tag_bits = TAG_BITS - ceil_log2(clients)
        if self.tag_bits < 1:
            raise ValueError(f"Tags have no room for {clients!r} clients")
        members = {f"client{n}": In(TranslationPort()) for n in range(clients)}
        super().__init__(members | {"port": Out(TranslationPort())})

    def elaborate(self, platform):
        m = Module()
        request, response = self.port.request, self.port.response
        clients = [getattr(self, f"client{number}") for number in range(self.clients)]
        most = min(self.MOST, (1 << TAG_BITS) // (self.clients - 1))
        under_way = [Signal(range(most + 1), name=f"under_way{n}") for n in range(self.clients)]
        # Counted a cycle later; whether that is all, or all but one, is known from registers.
        took, gave, last, full = (Signal(self.clients) for _ in range(4))
        asking = Cat(
            client.request.valid & ~full[number] & ~(last[number] & took[number])
            for number, client in enumerate(clients)
        )
        # ``served`` had the last turn; while it is ``held`` its request is still offered.
        served, held = Signal(range(self.clients)), Signal()
        following, grant = Signal(range(self.clients)), Signal(range(self.clients))
        round_robin(m, asking, served, following)
        m.d.comb += [grant.eq(Mux(held, served, following)), request.valid.eq(asking.any())]
        with m.If(request.valid):
            m.d.sync += [served.eq(grant), held.eq(~request.ready)]
        chosen = response.payload.tag[self.tag_bits :]
        for number, client in enumerate(clients):
            own, prefix = client.request.payload, Const(number, TAG_BITS - self.tag_bits)
            with m.If(grant == number):
                m.d.comb += [
                    request.payload.eq(own),
                    request.payload.tag.eq(Cat(own.tag[: self.tag_bits], prefix)),
                    client.request.ready.eq(request.ready & asking[number]),
                ]
            count = Signal.like(under_way[number])
            m.d.comb += count.eq(under_way[number] + took[number] - gave[number])
            m.d.sync += [
                took[number].eq(client.request.valid & client.request.ready),
                gave[number].eq(client.response.valid & client.response.ready),
                under_way[number].eq(count),
                last[number].eq(count == most - 1),
                full[number].eq(count == most),
            ]
            m.d.comb += [
                client.response.payload.eq(response.payload),
                client.response.payload.tag.eq(response.payload.tag[: self.tag_bits]),
            ]
            with m.If(chosen == number):
                m.d.comb += [
                    client.response.valid.eq(response.valid),
                    response.ready.eq(client.response.ready),
                ]
        with m.If(chosen >= self.clients):
            m.d.comb += response.ready.eq(1)  # of nobody
        return m
