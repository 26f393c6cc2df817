"""Several clients in front of one translation port."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from models.spec.translation import TAG_BITS, TranslationRequest
from rtl.bus.stream import StreamArbiter
from rtl.iommu.seams import TranslationPort

__all__ = ["ClientMux"]


class ClientMux(wiring.Component):
    """Merges requests round robin; the client's number replaces the top bits of the tag.

    Clients use the low ``TAG_BITS - ceil_log2(clients)`` bits of the tag and get them back, zeros
    above.  A client that does not take its answer blocks the others, so every client must take
    what it asked for.

    Latency
    -------
    Requests one cycle, answers none.

    Parameters
    ----------
    clients : int
        From 2.

    Members
    -------
    client0, client1, ... : ``In(TranslationPort)``
    port : ``Out(TranslationPort)``
    """

    def __init__(self, clients: int):
        self.clients = clients
        self.tag_bits = TAG_BITS - ceil_log2(clients)
        if self.tag_bits < 1:
            raise ValueError(f"Tags have no room for {clients!r} clients")
        members = {f"client{n}": In(TranslationPort()) for n in range(clients)}
        super().__init__(members | {"port": Out(TranslationPort())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = StreamArbiter(TranslationRequest, self.clients)
        response = self.port.response
        chosen = response.payload.tag[self.tag_bits :]
        for number, target in enumerate(arbiter.inputs):
            client = getattr(self, f"client{number}")
            prefix = Const(number, TAG_BITS - self.tag_bits)
            m.d.comb += [
                target.valid.eq(client.request.valid),
                client.request.ready.eq(target.ready),
                target.payload.eq(client.request.payload),
                target.payload.tag.eq(Cat(client.request.payload.tag[: self.tag_bits], prefix)),
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
        wiring.connect(m, arbiter.o, wiring.flipped(self.port.request))
        return m
