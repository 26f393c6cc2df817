/* Memory behind AXI4 managers: regions, sparse memory round them, latency, order, errors, watches.  See fastmem.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

enum { REGIONS = 256, RANGES = 1024, BURSTS = 512, BEATS = 4096 };

typedef struct { uint64_t base, size; uint8_t *bytes; } region_t;
typedef struct { uint64_t base, size; uint32_t resp[2]; } range_t;
typedef struct {
    uint64_t due, addr, user;
    uint32_t id, left, resp, step;
    bool lock, begun, refused; /* refused: an exclusive write that changes nothing */
} burst_t;
typedef struct { uint32_t strb; bool last; uint32_t words[FM_BEAT_WORDS]; } beat_t;
typedef struct { burst_t items[BURSTS]; uint32_t count; } list_t; /* in order of acceptance */

typedef struct {
    list_t reads, writes, responses;
    bool read_open; /* reads.items[read_current] has begun and is ended first */
    uint32_t read_current;
    beat_t beats[BEATS];
    uint32_t beat_head, beat_tail;
    uint32_t bus_bytes, latency, jitter, in_order;
    uint64_t draws, counts[4];
} manager_t;

static manager_t managers[FM_MANAGERS];
static region_t regions[REGIONS];
static uint32_t region_count, region_hint;
static range_t faults[RANGES], watches[RANGES];
static uint32_t fault_count, watch_count;

static manager_t *get(uint32_t m)
{
    if (m >= FM_MANAGERS || !managers[m].bus_bytes)
        fm_fatal("no such manager");
    return &managers[m];
}

static uint8_t *mapped(uint64_t addr)
{
    for (uint32_t n = 0; n < region_count; n++) {
        uint32_t i = region_hint + n;
        i -= i >= region_count ? region_count : 0;
        if (addr - regions[i].base < regions[i].size) {
            region_hint = i;
            return regions[i].bytes + (addr - regions[i].base);
        }
    }
    return NULL;
}

const uint8_t *fm_find(uint64_t addr)
{
    const uint8_t *bytes = mapped(addr);
    return bytes ? bytes : fm_sparse_find(addr);
}

/* Whether the strobed bytes of the bus at addr reach into a range. */
static bool touches(const range_t *range, uint64_t addr, uint32_t strb)
{
    if (addr >= range->base + range->size || addr + FM_BUS_MAX <= range->base)
        return false;
    uint64_t low = range->base > addr ? range->base - addr : 0;
    uint64_t high = range->base + range->size - addr;
    high = high > FM_BUS_MAX ? FM_BUS_MAX : high;
    return strb & (uint32_t)((1ull << high) - (1ull << low));
}

static uint32_t response(uint64_t addr, uint32_t strb, int is_write)
{
    for (uint32_t i = 0; i < fault_count; i++)
        if (faults[i].resp[is_write] && touches(&faults[i], addr, strb))
            return faults[i].resp[is_write];
    return FM_OKAY;
}

static bool watched(uint64_t addr, uint32_t strb)
{
    for (uint32_t i = 0; i < watch_count; i++)
        if (touches(&watches[i], addr, strb))
            return true;
    return false;
}

/* Cycle at which a burst accepted now may be answered; drawn per burst, so replayable. */
static uint64_t due(manager_t *m, uint64_t cycle)
{
    return cycle + m->latency + (m->jitter ? fm_random(&m->draws) % (m->jitter + 1) : 0);
}

static void append(list_t *list, burst_t burst)
{
    if (list->count == BURSTS)
        fm_fatal("too many outstanding bursts");
    list->items[list->count++] = burst;
}

static void drop(list_t *list, uint32_t index)
{
    list->count--;
    memmove(&list->items[index], &list->items[index + 1], (list->count - index) * sizeof(burst_t));
}

/* Oldest burst that is due and has no older one of its ID before it; -1 if there is none. */
static int pick(const manager_t *m, const list_t *list, uint64_t cycle)
{
    uint64_t seen[16] = {0};
    for (uint32_t i = 0; i < list->count; i++) {
        const burst_t *burst = &list->items[i];
        uint64_t *word = &seen[burst->id >> 6 & 15], bit = 1ull << (burst->id & 63);
        if (burst->due <= cycle && !(*word & bit))
            return (int)i;
        if (m->in_order)
            return -1;
        *word |= bit;
    }
    return -1;
}

static void advance(burst_t *burst)
{
    burst->addr = (burst->addr & ~(uint64_t)(burst->step - 1)) + burst->step;
    burst->left--;
}

/* Bytes of the bus that the burst's next beat may touch. */
static uint32_t lanes(const manager_t *m, const burst_t *burst)
{
    uint32_t low = (uint32_t)burst->addr & (m->bus_bytes - 1);
    uint32_t high = (low & ~(burst->step - 1)) + burst->step;
    return (uint32_t)((1ull << high) - (1ull << low));
}

static void tell_watchers(uint64_t cycle, uint32_t number, const burst_t *burst, uint64_t addr,
                          const beat_t *beat, uint32_t *notify)
{
    uint64_t event[4 + FM_BUS_MAX / 8] = {addr, beat->strb, number, burst->user};
    memcpy(&event[4], beat->words, FM_BUS_MAX);
    fm_post(FM_WATCH_PORT, cycle, event, sizeof event);
    *notify = 1;
}

/* Store the bytes of a beat; returns its response. */
static uint32_t store(uint64_t cycle, uint32_t number, const burst_t *burst, const beat_t *beat,
                      uint32_t *notify)
{
    uint64_t addr = burst->addr & ~(uint64_t)(managers[number].bus_bytes - 1);
    if (!beat->strb) /* touches nothing */
        return FM_OKAY;
    uint32_t low = (uint32_t)__builtin_ctz(beat->strb);
    uint32_t size = 32u - (uint32_t)__builtin_clz(beat->strb) - low;
    uint8_t *bytes = mapped(addr);
    uint32_t resp = bytes || fm_sparse_find(addr) ? response(addr, beat->strb, 1) : FM_DECERR;
    if (resp != FM_OKAY || burst->refused)
        return resp;
    if (!bytes)
        bytes = fm_sparse_make(addr);
    const uint8_t *from = (const uint8_t *)beat->words;
    for (uint32_t i = low; i < low + size; i++)
        if (beat->strb >> i & 1)
            bytes[i] = from[i];
    fm_wrote(addr + low, size);
    if (watched(addr, beat->strb))
        tell_watchers(cycle, number, burst, addr, beat, notify);
    return burst->lock ? FM_EXOKAY : FM_OKAY;
}

/* Carry out the oldest write as far as its data has come. */
static void advance_write(uint64_t cycle, manager_t *m, uint32_t number, uint32_t *notify)
{
    while (m->writes.count && m->beat_head != m->beat_tail) {
        burst_t *burst = &m->writes.items[0];
        const beat_t *beat = &m->beats[m->beat_head++ % BEATS];
        if (beat->strb & ~lanes(m, burst))
            fm_fatal("write strobe outside of the transfer's bytes");
        if (beat->last != (burst->left == 1))
            fm_fatal("WLAST does not agree with AWLEN");
        if (burst->lock && !burst->begun)
            burst->refused = !fm_reserved(number, burst->id, burst->addr, burst->left * burst->step);
        burst->begun = true;
        uint32_t resp = store(cycle, number, burst, beat, notify);
        if (resp > burst->resp)
            burst->resp = resp;
        advance(burst);
        if (!burst->left) {
            burst->due = due(m, cycle);
            append(&m->responses, *burst);
            drop(&m->writes, 0);
        }
    }
}

void fm_address(uint64_t cycle, uint32_t number, uint32_t is_write, uint64_t addr, uint32_t info,
                uint64_t user, uint32_t *notify)
{
    *notify = 0;
    if (!fm_active())
        return;
    manager_t *m = get(number);
    uint32_t len = info >> 8 & 0xFF, size = info >> 16 & 7;
    uint32_t id = (info & 0xFF) | (info >> 14 & 0x300);
    burst_t burst = {.addr = addr, .user = user, .id = id, .left = len + 1,
                     .step = 1u << size, .lock = info >> 19 & 1};
    fm_note(cycle << 8 | number << 1 | is_write);
    fm_note(addr);
    fm_note(user);
    fm_note(info);
    if (burst.step > m->bus_bytes)
        fm_fatal("burst size is larger than the bus");
    if ((info >> 20 & 3) != 1 && len)
        fm_fatal("burst is not INCR");
    if ((addr & 4095) + ((uint64_t)(len + 1) << size) - (addr & (burst.step - 1)) > 4096)
        fm_fatal("burst crosses 4 KiB");
    m->counts[is_write ? 2 : 0]++;
    if (is_write) {
        append(&m->writes, burst);
        advance_write(cycle, m, number, notify);
    } else {
        burst.due = due(m, cycle);
        append(&m->reads, burst);
    }
}

void fm_read_beat(uint64_t cycle, uint32_t number, uint32_t *info, uint32_t *data)
{
    *info = 0;
    if (!fm_active() || fm_channel_held(number, FM_R))
        return;
    manager_t *m = get(number);
    if (!m->reads.count)
        return;
    if (!m->read_open) {
        int index = pick(m, &m->reads, cycle);
        if (index < 0)
            return;
        m->read_current = (uint32_t)index;
        m->read_open = true;
    }
    burst_t *burst = &m->reads.items[m->read_current];
    uint64_t addr = burst->addr & ~(uint64_t)(m->bus_bytes - 1);
    const uint8_t *bytes = fm_find(addr);
    uint32_t resp = bytes ? response(addr, lanes(m, burst), 0) : FM_DECERR;
    memset(data, 0, FM_BUS_MAX);
    if (resp == FM_OKAY)
        memcpy(data, bytes, m->bus_bytes);
    if (resp == FM_OKAY && burst->lock) {
        if (!burst->begun)
            fm_reserve(number, burst->id, burst->addr, burst->left * burst->step);
        resp = FM_EXOKAY;
    }
    burst->begun = true;
    *info = 1 | resp << 1 | (burst->left == 1) << 3 | burst->id << 4;
    advance(burst);
    m->counts[1]++;
    fm_note(cycle << 16 | number << 12 | *info);
    fm_note((uint64_t)data[1] << 32 | data[0]);
    fm_note((uint64_t)data[3] << 32 | data[2]);
    if (!burst->left) {
        drop(&m->reads, m->read_current);
        m->read_open = false;
    }
}

void fm_write_beat(uint64_t cycle, uint32_t number, uint32_t strb, const uint32_t *data,
                   uint32_t *notify)
{
    *notify = 0;
    if (!fm_active())
        return;
    manager_t *m = get(number);
    if (m->beat_tail - m->beat_head == BEATS)
        fm_fatal("write data without address");
    beat_t *beat = &m->beats[m->beat_tail++ % BEATS];
    beat->strb = strb & 0xFFFF;
    beat->last = strb >> 31;
    memcpy(beat->words, data, sizeof beat->words);
    m->counts[3]++;
    fm_note(cycle << 20 | number << 16 | (strb & 0xFFFF));
    fm_note((uint64_t)data[1] << 32 | data[0]);
    fm_note((uint64_t)data[3] << 32 | data[2]);
    advance_write(cycle, m, number, notify);
}

void fm_write_response(uint64_t cycle, uint32_t number, uint32_t *info)
{
    *info = 0;
    if (!fm_active() || fm_channel_held(number, FM_B))
        return;
    manager_t *m = get(number);
    if (!m->responses.count)
        return;
    int index = pick(m, &m->responses, cycle);
    if (index < 0)
        return;
    const burst_t *burst = &m->responses.items[index];
    *info = 1 | burst->resp << 1 | burst->id << 4;
    fm_note(cycle << 16 | number << 12 | *info);
    drop(&m->responses, (uint32_t)index);
}

int fm_map(uint64_t base, uint64_t size, int fd, uint64_t offset)
{
    if (region_count == REGIONS || !size || base % FM_BUS_MAX || size % FM_BUS_MAX)
        return -1;
    for (uint32_t i = 0; i < region_count; i++)
        if (base < regions[i].base + regions[i].size && base + size > regions[i].base)
            return -2;
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                       (off_t)offset);
    if (bytes == MAP_FAILED)
        return -3;
    regions[region_count++] = (region_t){base, size, bytes};
    return 0;
}

int fm_unmap(uint64_t base)
{
    for (uint32_t i = 0; i < region_count; i++)
        if (regions[i].base == base) {
            munmap(regions[i].bytes, regions[i].size);
            regions[i] = regions[--region_count];
            region_hint = 0;
            return 0;
        }
    return -1;
}

int fm_fault(uint64_t base, uint64_t size, uint32_t read_resp, uint32_t write_resp)
{
    if (fault_count == RANGES)
        return -1;
    faults[fault_count++] = (range_t){base, size, {read_resp, write_resp}};
    return 0;
}

void fm_clear_faults(void) { fault_count = 0; }

int fm_watch(uint64_t base, uint64_t size)
{
    if (watch_count == RANGES)
        return -1;
    watches[watch_count++] = (range_t){base, size, {0, 0}};
    return 0;
}

int fm_manager(uint32_t m, uint32_t bus_bytes, uint32_t latency, uint32_t jitter, uint32_t seed,
               uint32_t in_order)
{
    if (m >= FM_MANAGERS || bus_bytes > FM_BUS_MAX)
        return -1;
    manager_t *manager = &managers[m];
    manager->bus_bytes = bus_bytes;
    manager->latency = latency;
    manager->jitter = jitter;
    manager->draws = seed;
    manager->in_order = in_order;
    return 0;
}

uint64_t fm_count(uint32_t m, uint32_t what) { return get(m)->counts[what & 3]; }

void fm_memory_reset(void)
{
    for (uint32_t i = 0; i < region_count; i++)
        munmap(regions[i].bytes, regions[i].size);
    memset(managers, 0, sizeof managers);
    region_count = region_hint = fault_count = watch_count = 0;
    fm_sparse_reset();
    fm_exclusive_reset();
}
