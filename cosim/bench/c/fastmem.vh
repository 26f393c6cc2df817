// The library's calls by DPI (Verilator) and by VPI system tasks (Icarus Verilog).
`ifndef FASTMEM_VH
`define FASTMEM_VH
`ifdef VERILATOR
import "DPI-C" function void fm_tick(
    input longint unsigned cycle, output longint unsigned ready, output longint unsigned pending,
    output longint unsigned channels, output int unsigned notify);
import "DPI-C" function void fm_pop(
    input int unsigned port, output int unsigned valid, output bit [511:0] payload);
import "DPI-C" function void fm_push(
    input longint unsigned cycle, input int unsigned port, input bit [511:0] payload,
    output int unsigned notify);
import "DPI-C" function void fm_address(
    input longint unsigned cycle, input int unsigned manager, input int unsigned is_write,
    input longint unsigned addr, input int unsigned info, input longint unsigned user,
    output int unsigned notify);
import "DPI-C" function void fm_read_beat(
    input longint unsigned cycle, input int unsigned manager, output int unsigned info,
    output bit [127:0] data);
import "DPI-C" function void fm_write_beat(
    input longint unsigned cycle, input int unsigned manager, input int unsigned strb,
    input bit [127:0] data, output int unsigned notify);
import "DPI-C" function void fm_write_response(
    input longint unsigned cycle, input int unsigned manager, output int unsigned info);
`define FM_TICK fm_tick
`define FM_POP fm_pop
`define FM_PUSH fm_push
`define FM_ADDRESS fm_address
`define FM_READ_BEAT fm_read_beat
`define FM_WRITE_BEAT fm_write_beat
`define FM_WRITE_RESPONSE fm_write_response
`else
`define FM_TICK $fm_tick
`define FM_POP $fm_pop
`define FM_PUSH $fm_push
`define FM_ADDRESS $fm_address
`define FM_READ_BEAT $fm_read_beat
`define FM_WRITE_BEAT $fm_write_beat
`define FM_WRITE_RESPONSE $fm_write_response
`endif
`endif
