"""Translation-request registers (section "Debug support")."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec import iommu_registers as regs
from models.spec.iommu import PAGE_SHIFT
from models.spec.translation import (
    AddressType,
    TranslationResponse,
    TranslationStatus,
)
from rtl.iommu.seams import TranslationPort

__all__ = ["DebugRegisters", "DebugTranslation", "TwoClients"]

#: Bits of tr_response.PPN, and log2 of the largest range that it can tell.
PPN_BITS, LARGEST = 44, 56


class DebugRegisters(wiring.Signature):
    """tr_req_iova, tr_req_ctl and tr_response, as the register file sees them.

    Members
    -------
    go : ``Out(1)``
        Software writes 1 to Go/Busy, for one cycle.
    vpn : ``Out(52)``, control : ``Out(layout)``
        tr_req_iova.vpn and tr_req_ctl.
    busy : ``In(1)``
        What Go/Busy reads.
    response : ``In(layout)``
        tr_response.
    """

    def __init__(self):
        super().__init__(
            {
                "go": Out(1),
                "vpn": Out(52),
                "control": Out(regs.TR_REQ_CTL.layout),
                "busy": In(1),
                "response": In(regs.TR_RESPONSE.layout),
            }
        )


class DebugTranslation(wiring.Component):
    """Translates for software, one IOVA at a time.

    Go takes the registers as they stand; another Go while busy is ignored.  The translator reports
    faults.  NW 0 asks for reading and writing; Exe counts with NW 1 only, Priv with PV 1 only.
    A range of more than 4 KiB is told in ``tr_response.PPN`` as NAPOT.

    Latency
    -------
    Go to request one cycle, answer to idle one cycle.

    Members
    -------
    registers : ``In(DebugRegisters)``
    translate : ``Out(TranslationPort)``
        For one untranslated request at a time, tag 0.
    """

    registers: In(DebugRegisters())
    translate: Out(TranslationPort())

    def elaborate(self, platform):
        m = Module()
        control, request = self.registers.control, self.translate.request
        answer = self.translate.response
        asked = request.payload
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    asked.at.eq(AddressType.UNTRANSLATED),
                    asked.device_id.eq(control.did),
                    asked.process_id.eq(Mux(control.pv, control.pid, 0)),
                    asked.pv.eq(control.pv),
                    asked.priv.eq(control.pv & control.priv),
                    asked.exec.eq(control.exe & control.nw),
                    asked.write.eq(~control.nw),
                    asked.also_read.eq(~control.nw),
                    asked.debug.eq(1),
                    asked.iova.eq(self.registers.vpn << PAGE_SHIFT),
                ]
                with m.If(self.registers.go):
                    m.d.sync += [request.valid.eq(1), self.registers.busy.eq(1)]
                    m.next = "ASK"
            with m.State("ASK"):
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += answer.ready.eq(1)
                with m.If(answer.valid):
                    self._respond(m, answer.payload)
                    m.d.sync += self.registers.busy.eq(0)
                    m.next = "IDLE"
        return m

    def _respond(self, m: Module, found) -> None:
        """tr_response of an answer; 0 but for ``fault`` if there is one."""
        response = self.registers.response
        fault = (found.status != TranslationStatus.SUCCESS) | found.mrif
        size = Signal(6)
        # NAPOT: below the range's size a 0, and ones below that.
        large = size > PAGE_SHIFT
        page = found.spa >> PAGE_SHIFT
        within = _larger(size, PAGE_SHIFT, PPN_BITS + 1)
        ppn = Cat(Mux(within[n], within[n + 1], page[n]) for n in range(PPN_BITS))
        m.d.comb += size.eq(Mux(found.size > LARGEST, LARGEST, found.size))
        m.d.sync += response.eq(0)
        with m.If(fault):
            m.d.sync += response.fault.eq(1)
        with m.Else():
            m.d.sync += [
                response.pbmt.eq(found.pbmt),
                response.s.eq(large),
                response.ppn.eq(ppn),
            ]


def _larger(size, first: int, count: int) -> list:
    """Whether a size of 6 bits is larger than each of ``count`` numbers from ``first`` on."""
    low, high = size[:3], size[3:]
    lows, highs = [low > n for n in range(8)], [high > n for n in range(8)]
    same = [high == n for n in range(8)]
    return [highs[n >> 3] | (same[n >> 3] & lows[n & 7]) for n in range(first, first + count)]


class TwoClients(wiring.Component):
    """Two clients of one request at a time each on one translation port; the tag tells whose.

    Latency
    -------
    Requests one cycle, answers one; each every other cycle.

    Members
    -------
    client0, client1 : ``In(TranslationPort)``
        Answers come with tag 0.  The second may be left alone.
    port : ``Out(TranslationPort)``
        Tags 0 and 1.
    """

    client0: In(TranslationPort())
    client1: In(TranslationPort())
    port: Out(TranslationPort())

    def elaborate(self, platform):
        m = Module()
        request, clients = self.port.request, (self.client0, self.client1)
        # Who has an answer to come asks nobody, so that the first cannot keep the second waiting.
        free = ~request.valid
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(free):
            m.d.sync += request.valid.eq(clients[0].request.valid | clients[1].request.valid)
            for n in (1, 0):
                with m.If(clients[n].request.valid):
                    m.d.sync += request.payload.eq(clients[n].request.payload)
                    m.d.sync += request.payload.tag.eq(n)
        m.d.comb += [
            clients[0].request.ready.eq(free),
            clients[1].request.ready.eq(free & ~clients[0].request.valid),
        ]
        # An answer is registered; those to the same port are never so many that they had to come
        # one a cycle.
        answer, kept, full = self.port.response, Signal(TranslationResponse), Signal()
        taken, number = Signal(), Signal()
        m.d.comb += [number.eq(kept.tag[0]), answer.ready.eq(~full)]
        m.d.sync += full.eq(Mux(full, ~taken, answer.valid))
        with m.If(~full):
            m.d.sync += kept.eq(answer.payload)
        for n, client in enumerate(clients):
            mine = number == n
            copied = [
                client.response.payload[name].eq(kept[name])
                for name in TranslationResponse.as_shape().members
                if name != "tag"
            ]
            m.d.comb += [
                client.response.valid.eq(full & mine),
                *copied,
            ]
            with m.If(mine):
                m.d.comb += taken.eq(client.response.ready)
        return m
