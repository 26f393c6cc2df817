/* Simulated memory and mailboxes, called by HDL (DPI or VPI) and by Python (ctypes) alike.

   One process runs one simulation, on one thread: state is static and needs no locks.  Ports are
   numbers given out by the generated bench; payloads are little-endian 32-bit words. */
#ifndef FASTMEM_H
#define FASTMEM_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FM_PAYLOAD_WORDS = 16, FM_BEAT_WORDS = 4, FM_BUS_MAX = 16, FM_PORTS = 64, FM_MANAGERS = 8 };
/* Channels of AXI4 managers are stalled under the numbers FM_CHANNELS + 8 * manager + channel. */
enum { FM_CHANNELS = FM_PORTS, FM_AR = 0, FM_AW = 1, FM_W = 2, FM_R = 3, FM_B = 4 };
enum { FM_OKAY = 0, FM_EXOKAY = 1, FM_SLVERR = 2, FM_DECERR = 3 };
/* Ports that are not streams of the design. */
enum { FM_LIMIT_PORT = 0xFFFD, FM_WATCH_PORT = 0xFFFE };
/* What becomes of an output stream's transfers. */
enum { FM_OFF = 0, FM_EVENT = 1, FM_LOG = 2, FM_FRAME = 4 };

/* From HDL, at clock edges, from one block. */

/* Begins a cycle.  ready: what the bench accepts in the coming cycle, a bit per output port;
   pending: input ports with something to send; channels: as ready, a bit per channel of a manager.
   After fm_reset nothing is done until cycle 0 has come: an old test's traffic is not seen. */
void fm_tick(uint64_t cycle, uint64_t *ready, uint64_t *pending, uint64_t *channels,
             uint32_t *notify);
void fm_pop(uint32_t port, uint32_t *valid, uint32_t *payload);
/* A transfer on an output port; notify is set if Python must look. */
void fm_push(uint64_t cycle, uint32_t port, const uint32_t *payload, uint32_t *notify);
/* AXI4 manager m: info packs id:8, len:8, size:3, lock:1, burst:2 (from bit 0). */
void fm_address(uint64_t cycle, uint32_t m, uint32_t is_write, uint64_t addr, uint32_t info,
                uint64_t user, uint32_t *notify);
void fm_read_beat(uint64_t cycle, uint32_t m, uint32_t *info, uint32_t *data); /* valid, resp:2,
                                                                                  last, id:8 */
void fm_write_beat(uint64_t cycle, uint32_t m, uint32_t strb, const uint32_t *data,
                   uint32_t *notify); /* strb:16, and last in bit 31 */
void fm_write_response(uint64_t cycle, uint32_t m, uint32_t *info); /* valid, resp:2, 0, id:8 */

/* From Python, between clock edges. */
void fm_reset(void);
int fm_map(uint64_t base, uint64_t size, int fd, uint64_t offset);
int fm_unmap(uint64_t base); /* accesses under way are answered as if there had been no memory */
/* Memory of 2^bits bytes from 0 wherever nothing is mapped: pages come with the first write. */
int fm_sparse(uint32_t bits);
int fm_sparse_read(uint64_t addr, uint8_t *into, uint64_t size);
int fm_sparse_write(uint64_t addr, const uint8_t *from, uint64_t size);
uint64_t fm_sparse_pages(void);
int fm_fault(uint64_t base, uint64_t size, uint32_t read_resp, uint32_t write_resp);
void fm_clear_faults(void);
int fm_watch(uint64_t base, uint64_t size);
int fm_manager(uint32_t m, uint32_t bus_bytes, uint32_t latency, uint32_t jitter, uint32_t seed,
               uint32_t in_order);
void fm_mode(uint32_t port, uint32_t mode, uint32_t words, uint32_t frame_bytes);
/* Refuses (or holds back) transfers of a port or channel in n of 256 cycles on average. */
int fm_stall(uint32_t port, uint32_t n_of_256, uint32_t seed);
/* Posts one event of FM_LIMIT_PORT when this cycle has come; 0 for never. */
void fm_limit(uint64_t cycle);
int fm_send(uint32_t port, const uint32_t *payload, uint32_t words);
int fm_send_frame(uint32_t port, const uint8_t *bytes, uint32_t size, uint32_t bus_bytes,
                  uint32_t error);
uint32_t fm_unsent(uint32_t port);
/* Events: uint32 port, uint32 bytes, uint64 cycle, then the bytes padded to 8. */
uint32_t fm_take_events(uint8_t *into, uint32_t room);
/* Log of one port: records of uint64 cycle, then the port's words padded to 8 bytes. */
uint64_t fm_log_bytes(uint32_t port);
uint64_t fm_take_log(uint32_t port, uint8_t *into, uint64_t room);
uint64_t fm_digest(void);
uint64_t fm_cycle(void);
uint64_t fm_count(uint32_t m, uint32_t what); /* 0 reads, 1 read beats, 2 writes, 3 write beats */

#ifdef __cplusplus
}
#endif
#endif
