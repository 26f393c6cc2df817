"""Writes the SystemVerilog top that connects a design to the memory library.

Python sees two pins, ``rst`` and ``notify``.  All calls into the library stand in one clocked
block, so their order does not depend on the simulator.
"""

from rtl.bus.axi import Axi4

from .ports import TOP, Manager, Ports, StreamPort

__all__ = ["wrapper"]


def _field(signal: str, layout, name: str) -> str:
    entry = layout[name]
    return f"{signal}[{entry.offset + entry.width - 1}:{entry.offset}]"


def _padded(value: str, width: int, total: int) -> str:
    return f"{{{total - width}'b0, {value}}}" if width < total else value


class _Writer:
    def __init__(self, ports: Ports):
        self.ports = ports
        self.declare: list[str] = []
        self.connect: list[str] = []
        self.reset: list[str] = []
        self.body: list[str] = []

    def bus(self, name: str, layout_width: int, kind: str) -> str:
        self.declare.append(f"{kind} [{layout_width - 1}:0] {name};")
        return name

    def pins(self, name: str, *, payload: str, driven: bool) -> None:
        """Declare and connect a stream's three signals; registers if the bench drives it."""
        for part, by_bench in (("payload", driven), ("valid", driven), ("ready", not driven)):
            full = f"{name}__{part}"
            width = payload if part == "payload" else ""
            self.declare.append(f"{'reg' if by_bench else 'wire'} {width} {full};")
            self.connect.append(f".{full}({full})")
            if by_bench:
                self.reset.append(f"{full} = 0;")

    def stream(self, port: StreamPort) -> None:
        name, number, width = port.name, port.number, f"[{port.width - 1}:0]"
        if port.instance:
            self.tap(port)
        elif port.kind == "signal":
            self.signal(port)
        elif port.to_design:
            self.pins(name, payload=width, driven=True)
            self.body += [
                f"if ({name}__ready || !{name}__valid) begin",
                f"    {name}__valid <= 0;",
                f"    if (pending[{number}]) begin",
                f"        `FM_POP({number}, info, words);",
                f"        {name}__valid <= info[0];",
                f"        {name}__payload <= words[{port.width - 1}:0];",
                "    end",
                "end",
            ]
        else:
            self.pins(name, payload=width, driven=False)
            self.push(port, f"{name}__valid && {name}__ready", f"{name}__payload")
            self.body.append(f"{name}__ready <= ready[{number}];")

    def push(self, port: StreamPort, condition: str, payload: str) -> None:
        self.body += [
            f"if ({condition}) begin",
            f"    `FM_PUSH(cycle, {port.number}, {_padded(payload, port.width, 512)}, info);",
            "    any = any | info[0];",
            "end",
        ]

    def tap(self, port: StreamPort) -> None:
        # Escaped: an instance may be called as a word of the language is.
        path = ".".join(f"\\{part} " for part in port.instance.split("."))
        base = port.name if port.instance == TOP else f"dut.{path}.{port.name}"
        self.push(port, f"{base}__valid && {base}__ready", f"{base}__payload")

    def signal(self, port: StreamPort) -> None:
        name, width = port.name, f"[{port.width - 1}:0]"
        self.connect.append(f".{name}({name})")
        if port.to_design:
            self.declare.append(f"reg {width} {name};")
            self.reset.append(f"{name} = 0;")
            self.body += [
                f"if (pending[{port.number}]) begin",
                f"    `FM_POP({port.number}, info, words);",
                f"    {name} <= words[{port.width - 1}:0];",
                "end",
            ]
        else:
            self.declare += [f"wire {width} {name};", f"reg {width} {name}__before;"]
            self.reset.append(f"{name}__before = 0;")
            self.push(port, f"{name} != {name}__before", name)
            self.body.append(f"{name}__before <= {name};")

    def manager(self, manager: Manager) -> None:
        axi, name, number = manager.signature, manager.name, manager.number
        if axi.read:
            width = f"[{axi.address_layout.size - 1}:0]"
            self.pins(f"{name}__ar", payload=width, driven=False)
            self.pins(f"{name}__r", payload=f"[{axi.read_layout.size - 1}:0]", driven=True)
            # Before the data, so that they may follow in the next cycle.
            self.address(axi, f"{name}__ar", number, 0)
            fields = {"data": "data", "id": "info[11:4]", "resp": "info[2:1]", "last": "info[3]"}
            self.body += [
                f"if ({name}__r__ready || !{name}__r__valid) begin",
                f"    `FM_READ_BEAT(cycle, {number}, info, data);",
                f"    {name}__r__valid <= info[0];",
                *(f"    {line}" for line in self.fields(f"{name}__r", axi.read_layout, fields)),
                "end",
            ]
        if axi.write:
            self.pins(f"{name}__aw", payload=f"[{axi.address_layout.size - 1}:0]", driven=False)
            self.pins(f"{name}__w", payload=f"[{axi.write_layout.size - 1}:0]", driven=False)
            self.pins(f"{name}__b", payload=f"[{axi.response_layout.size - 1}:0]", driven=True)
            fields = {"id": "info[11:4]", "resp": "info[2:1]"}
            self.body += [
                f"if ({name}__b__ready || !{name}__b__valid) begin",
                f"    `FM_WRITE_RESPONSE(cycle, {number}, info);",
                f"    {name}__b__valid <= info[0];",
                *(f"    {line}" for line in self.fields(f"{name}__b", axi.response_layout, fields)),
                "end",
            ]
            self.address(axi, f"{name}__aw", number, 1)
            payload, layout = f"{name}__w__payload", axi.write_layout
            strobe = _padded(_field(payload, layout, "strb"), axi.data_width // 8, 31)
            data = _padded(_field(payload, layout, "data"), axi.data_width, 128)
            info = f"{{{_field(payload, layout, 'last')}, {strobe}}}"
            self.body += [
                f"if ({name}__w__valid && {name}__w__ready) begin",
                f"    `FM_WRITE_BEAT(cycle, {number}, {info}, {data}, info);",
                "    any = any | info[0];",
                "end",
                f"{name}__w__ready <= channels[{8 * number + 2}];",
            ]

    def fields(self, name: str, layout, values: dict[str, str]) -> list[str]:
        lines = []
        for field, value in values.items():
            entry = layout[field]
            cut = value
            if value == "data":
                cut = f"data[{entry.width - 1}:0]"
            elif field == "id":
                cut = f"info[{4 + entry.width - 1}:4]"
            lines.append(f"{_field(f'{name}__payload', layout, field)} <= {cut};")
        return lines

    def address(self, axi: Axi4, name: str, number: int, is_write: int) -> None:
        payload, layout = f"{name}__payload", axi.address_layout
        addr = _padded(_field(payload, layout, "addr"), axi.addr_width, 64)
        parts = [_field(payload, layout, part) for part in ("burst", "lock", "size", "len")]
        entry = layout["id"]
        low, high = entry.offset, entry.offset + entry.width - 1
        parts.append(_padded(f"{payload}[{min(high, low + 7)}:{low}]", min(8, axi.id_width), 8))
        # Two more bits of the ID above all else.
        above = f"{payload}[{high}:{low + 8}]" if axi.id_width > 8 else "1'b0"
        parts.insert(0, _padded(above, max(1, axi.id_width - 8), 2))
        user = "64'b0"
        if "user" in dict(layout) and layout["user"].width:
            user = _padded(_field(payload, layout, "user"), layout["user"].width, 64)
        self.body += [
            f"if ({name}__valid && {name}__ready) begin",
            f"    `FM_ADDRESS(cycle, {number}, {is_write}, {addr}, {{8'b0, {', '.join(parts)}}}, "
            f"{user}, info);",
            "    any = any | info[0];",
            "end",
            f"{name}__ready <= channels[{8 * number + is_write}];",
        ]


def wrapper(ports: Ports, top: str, *, dump: list[tuple[str, int]]) -> str:
    """Return the text of module ``bench`` round module ``top``.

    ``dump`` lists instance paths and levels for waves of Icarus, written if the plus-argument
    ``waves`` names a file.
    """
    writer = _Writer(ports)
    for manager in ports.managers:
        writer.manager(manager)
    for port in ports.streams:
        writer.stream(port)

    def lines(items: list[str], depth: int) -> str:
        return "\n".join("    " * depth + item for item in items)

    dumps = [f"$dumpvars({levels}, {path});" for path, levels in dump]
    return f"""`include "fastmem.vh"
// Generated by cosim/bench/wrapper.py.
module bench (
    input wire rst,
    output reg notify
);
    reg clk = 0;
    always #1 clk = !clk;
    // Amaranth's synchronous reset is combinational logic before every register; Verilator works
    // out again on every call what hangs on a top-level input.  A register prevents that.
    reg reset = 1;
    always @(posedge clk) reset <= rst;

    reg [63:0] cycle, ready, pending, channels;
    reg [31:0] info;
    reg [127:0] data;
    reg [511:0] words;
    reg any;
{lines(writer.declare, 1)}

    {top} dut (
        .clk(clk), .rst(reset),
{",".join(chr(10) + "        " + item for item in writer.connect).lstrip(chr(10))}
    );

    task clear;
        begin
{lines(writer.reset, 3)}
        end
    endtask

    initial begin
        cycle = 0; notify = 0; ready = 0; pending = 0; channels = 0; info = 0;
        data = 0; words = 0; any = 0;
        clear;
    end

    // ready to any are temporaries; what the design sees is assigned without blocking.
    always @(posedge clk) begin
        if (reset) begin
            cycle <= 0;
{lines([line.replace(" = ", " <= ") for line in writer.reset], 3)}
        end else begin
            cycle <= cycle + 1;
            `FM_TICK(cycle, ready, pending, channels, info);
            any = info[0];
{lines(writer.body, 3)}
            if (any) notify <= !notify;
        end
    end
`ifndef VERILATOR
    reg [8*512-1:0] waves;
    initial if ($value$plusargs("waves=%s", waves)) begin
        $dumpfile(waves);
{lines(dumps, 2)}
    end
`endif
endmodule
"""
