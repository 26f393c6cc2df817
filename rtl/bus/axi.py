"""AXI4, AXI4-Lite and AXI4-Stream as Amaranth signatures.

Every channel is a ``stream.Signature`` whose payload is a layout, so a channel connects, stalls
and is watched like any other stream of the project.  Field names are those of the AMBA AXI
specification (IHI 0022) without the channel prefix.
"""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Axi4", "Axi4Lite", "AxiStream", "Burst", "FrameBeat", "Resp"]


class Resp(enum.IntEnum, shape=2):
    """RRESP and BRESP (IHI 0022, A3.4.4)."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Burst(enum.IntEnum, shape=2):
    """AxBURST (IHI 0022, A3.4.1).  Our managers use INCR only."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Axi4(wiring.Signature):
    """AXI4 manager port.

    Parameters
    ----------
    addr_width : int
        Bits of an address.
    data_width : int
        Bits of a beat, 32 to 1024, a power of two.
    id_width : int
        Bits of AxID, at least one.
    user : Shape-castable
        Sideband of both address channels (AxUSER); ``None`` for none.
    write, read : bool
        Leave a direction out.

    Members
    -------
    aw, ar : ``Out(stream)`` of ``addr, id, len, size, burst, lock`` and ``user`` if there is one
    w : ``Out(stream)`` of ``data, strb, last``
    b : ``In(stream)`` of ``id, resp``
    r : ``In(stream)`` of ``data, id, resp, last``
    """

    def __init__(self, *, addr_width, data_width, id_width, user=None, read=True, write=True):
        if data_width not in (32, 64, 128, 256, 512, 1024):
            raise ValueError(f"Data width must be a power of two in 32 to 1024, not {data_width!r}")
        if id_width < 1:
            raise ValueError(f"ID width must be at least 1, not {id_width!r}")
        self.addr_width, self.data_width, self.id_width = addr_width, data_width, id_width
        self.user, self.read, self.write = user, read, write
        members = {}
        if write:
            members["aw"] = Out(stream.Signature(self.address_layout))
            members["w"] = Out(stream.Signature(self.write_layout))
            members["b"] = In(stream.Signature(self.response_layout))
        if read:
            members["ar"] = Out(stream.Signature(self.address_layout))
            members["r"] = In(stream.Signature(self.read_layout))
        super().__init__(members)

    @property
    def address_layout(self) -> data.StructLayout:
        """Payload of ``aw`` and ``ar``."""
        fields = {
            "addr": self.addr_width,
            "id": self.id_width,
            "len": 8,
            "size": 3,
            "burst": Burst,
            "lock": 1,
        }
        if self.user is not None:
            fields["user"] = self.user
        return data.StructLayout(fields)

    @property
    def write_layout(self) -> data.StructLayout:
        """Payload of ``w``."""
        return data.StructLayout({"data": self.data_width, "strb": self.data_width // 8, "last": 1})

    @property
    def response_layout(self) -> data.StructLayout:
        """Payload of ``b``."""
        return data.StructLayout({"id": self.id_width, "resp": Resp})

    @property
    def read_layout(self) -> data.StructLayout:
        """Payload of ``r``."""
        return data.StructLayout(
            {"data": self.data_width, "id": self.id_width, "resp": Resp, "last": 1}
        )


class Axi4Lite(wiring.Signature):
    """AXI4-Lite manager port with 32-bit data.

    Registers of 64 bits are accessed as two halves, the high one first (RISC-V IOMMU
    specification, section "Register layout").

    Parameters
    ----------
    addr_width : int
        Bits of an address.

    Members
    -------
    aw, ar : ``Out(stream)`` of ``addr``
    w : ``Out(stream)`` of ``data, strb``
    b : ``In(stream)`` of ``resp``
    r : ``In(stream)`` of ``data, resp``
    """

    def __init__(self, *, addr_width):
        self.addr_width = addr_width
        address = data.StructLayout({"addr": addr_width})
        super().__init__(
            {
                "aw": Out(stream.Signature(address)),
                "w": Out(stream.Signature(data.StructLayout({"data": 32, "strb": 4}))),
                "b": In(stream.Signature(data.StructLayout({"resp": Resp}))),
                "ar": Out(stream.Signature(address)),
                "r": In(stream.Signature(data.StructLayout({"data": 32, "resp": Resp}))),
            }
        )


class FrameBeat(data.StructLayout):
    """Payload of an Ethernet :func:`AxiStream`: ``data, keep, last, error``.

    Parameters
    ----------
    data_width : int
        Bits of data, a multiple of 8.
    """

    def __init__(self, data_width: int):
        if data_width % 8 or data_width < 8:
            raise ValueError(f"Data width must be a multiple of 8, not {data_width!r}")
        self.data_width = data_width
        super().__init__({"data": data_width, "keep": data_width // 8, "last": 1, "error": 1})


def AxiStream(*, data_width: int) -> stream.Signature:
    """AXI4-Stream of Ethernet frames, first byte in the lowest lane, no FCS.

    ``keep`` is all ones on every beat but the last, where it is a run of ones from bit 0.
    ``error`` on the last beat marks a frame to be dropped (bad FCS at the MAC).
    """
    return stream.Signature(FrameBeat(data_width))
