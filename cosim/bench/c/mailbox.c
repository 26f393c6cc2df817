/* Streams between HDL and Python: queues in, events, frames and a log out.  See fastmem.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { EVENT_BYTES = 1 << 24, FRAME_MAX = 65536 };

typedef struct {
    uint32_t *words; /* ring of items of `size` words each */
    uint32_t size, capacity, head, count;
} queue_t;
typedef struct {
    uint32_t mode, words, frame_bytes, frame_size;
    uint8_t *frame, *log;
    uint64_t log_size, log_room;
    queue_t queue;
} port_t;
typedef struct { uint32_t stall; uint64_t draws; } stall_t;

static port_t ports[FM_PORTS];
static stall_t stalls[FM_CHANNELS + 64]; /* ports, then channels of managers */
static uint64_t pending_ports, stalled[2], held[2];
static uint8_t *events;
static uint64_t event_head, event_tail, posted;
static uint64_t digest, now, limit;
static enum { IDLE, ARMED, ACTIVE } phase;

void fm_fatal(const char *what)
{
    printf("fastmem: cycle %llu: %s\n", (unsigned long long)now, what);
    fflush(NULL);
    abort();
}

void fm_note(uint64_t word)
{
    digest = (digest ^ word) * 0x100000001B3u;
    digest ^= digest >> 29;
}

uint64_t fm_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

bool fm_active(void) { return phase == ACTIVE; }

bool fm_channel_held(uint32_t m, uint32_t channel) { return held[1] >> (8 * m + channel) & 1; }

static uint64_t draw_held(uint32_t half)
{
    uint64_t mask = 0;
    for (uint64_t left = stalled[half]; left; left &= left - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(left);
        stall_t *stall = &stalls[64 * half + bit];
        if ((fm_random(&stall->draws) & 255) < stall->stall)
            mask |= 1ull << bit;
    }
    return mask;
}

void fm_tick(uint64_t cycle, uint64_t *ready, uint64_t *pending, uint64_t *channels,
             uint32_t *notify)
{
    *ready = *pending = *channels = 0;
    *notify = 0;
    if (phase == ARMED && !cycle)
        phase = ACTIVE;
    if (phase != ACTIVE)
        return;
    now = cycle;
    held[0] = draw_held(0);
    held[1] = draw_held(1);
    *ready = ~held[0];
    *channels = ~held[1];
    *pending = pending_ports & ~held[0];
    if (cycle == limit && limit) {
        fm_post(FM_LIMIT_PORT, cycle, NULL, 0);
        *notify = 1;
    }
}

void fm_limit(uint64_t cycle) { limit = cycle; }

static void grow(queue_t *queue)
{
    uint32_t capacity = queue->capacity ? 2 * queue->capacity : 64;
    uint32_t *words = malloc(4ull * capacity * queue->size);
    for (uint32_t i = 0; i < queue->count; i++) {
        uint32_t from = (queue->head + i) % (queue->capacity ? queue->capacity : 1);
        memcpy(words + i * queue->size, queue->words + from * queue->size, 4ull * queue->size);
    }
    free(queue->words);
    queue->words = words;
    queue->capacity = capacity;
    queue->head = 0;
}

int fm_send(uint32_t number, const uint32_t *payload, uint32_t words)
{
    if (number >= FM_PORTS || words > FM_PAYLOAD_WORDS)
        return -1;
    queue_t *queue = &ports[number].queue;
    if (!queue->size)
        queue->size = words;
    if (queue->size != words)
        return -2;
    if (queue->count == queue->capacity)
        grow(queue);
    uint32_t at = (queue->head + queue->count++) % queue->capacity;
    memcpy(queue->words + at * words, payload, 4ull * words);
    pending_ports |= 1ull << number;
    return 0;
}

int fm_send_frame(uint32_t number, const uint8_t *bytes, uint32_t size, uint32_t bus, uint32_t error)
{
    if (!size || bus > 32)
        return -1;
    uint32_t words = (9 * bus + 2 + 31) / 32; /* data, keep, last, error */
    for (uint32_t at = 0; at < size; at += bus) {
        uint32_t beat[FM_PAYLOAD_WORDS] = {0}, left = size - at, n = left < bus ? left : bus;
        uint64_t tail = (n == 64 ? ~0ull : (1ull << n) - 1); /* keep, last, error follow data */
        tail |= (uint64_t)(left <= bus) << bus;
        tail |= (uint64_t)(left <= bus && error) << (bus + 1);
        memcpy(beat, bytes + at, n);
        memcpy((uint8_t *)beat + bus, &tail, 8);
        int failed = fm_send(number, beat, words);
        if (failed)
            return failed;
    }
    return 0;
}

uint32_t fm_unsent(uint32_t number) { return ports[number].queue.count; }

void fm_pop(uint32_t number, uint32_t *valid, uint32_t *payload)
{
    queue_t *queue = &ports[number].queue;
    *valid = queue->count != 0;
    if (!queue->count)
        return;
    memset(payload, 0, 4 * FM_PAYLOAD_WORDS);
    memcpy(payload, queue->words + queue->head * queue->size, 4ull * queue->size);
    fm_note(now << 8 | 0x80 | number);
    for (uint32_t i = 0; i < queue->size; i++)
        fm_note(payload[i]);
    queue->head = (queue->head + 1) % queue->capacity;
    if (!--queue->count)
        pending_ports &= ~(1ull << number);
}

void fm_post(uint32_t port, uint64_t cycle, const void *bytes, uint32_t size)
{
    uint32_t padded = (size + 7) & ~7u;
    if (event_tail - event_head + 16 + padded > EVENT_BYTES)
        fm_fatal("events are not taken");
    if (event_head == event_tail)
        event_head = event_tail = 0;
    if (event_tail + 16 + padded > EVENT_BYTES) {
        memmove(events, events + event_head, event_tail - event_head);
        event_tail -= event_head;
        event_head = 0;
    }
    uint8_t *at = events + event_tail;
    memcpy(at, &port, 4);
    memcpy(at + 4, &size, 4);
    memcpy(at + 8, &cycle, 8);
    if (size) {
        memset(at + 8 + padded, 0, 8);
        memcpy(at + 16, bytes, size);
    }
    event_tail += 16 + padded;
    posted++;
}

static void write_log(port_t *port, uint64_t cycle, const uint32_t *payload)
{
    uint32_t size = 8 + ((port->words * 4 + 7) & ~7u);
    if (port->log_size + size > port->log_room) {
        port->log_room = port->log_room ? 2 * port->log_room : 1 << 16;
        port->log = realloc(port->log, port->log_room);
        if (!port->log)
            fm_fatal("no room for the log");
    }
    memcpy(port->log + port->log_size, &cycle, 8);
    memcpy(port->log + port->log_size + 8, payload, size - 8);
    port->log_size += size;
}

static void take_beat(port_t *port, uint32_t number, uint64_t cycle, const uint32_t *payload)
{
    uint32_t bus = port->frame_bytes;
    uint64_t tail;
    memcpy(&tail, (const uint8_t *)payload + bus, 8);
    uint32_t n = (uint32_t)__builtin_popcountll(tail & ((1ull << bus) - 1));
    if (!port->frame)
        port->frame = malloc(FRAME_MAX);
    if (port->frame_size + n > FRAME_MAX)
        fm_fatal("frame without end");
    memcpy(port->frame + port->frame_size, payload, n);
    port->frame_size += n;
    if (tail >> bus & 1) {
        fm_post(number, cycle, port->frame, port->frame_size);
        port->frame_size = 0;
    }
}

void fm_push(uint64_t cycle, uint32_t number, const uint32_t *payload, uint32_t *notify)
{
    port_t *port = &ports[number];
    uint64_t before = posted;
    *notify = 0;
    if (phase != ACTIVE)
        return;
    fm_note(cycle << 8 | number);
    for (uint32_t i = 0; i < port->words; i++)
        fm_note(payload[i]);
    if (port->mode & FM_EVENT)
        fm_post(number, cycle, payload, 4 * port->words);
    if (port->mode & FM_FRAME)
        take_beat(port, number, cycle, payload);
    if (port->mode & FM_LOG)
        write_log(port, cycle, payload);
    *notify = posted != before;
}

void fm_mode(uint32_t number, uint32_t mode, uint32_t words, uint32_t frame_bytes)
{
    ports[number].mode = mode;
    ports[number].words = words;
    ports[number].frame_bytes = frame_bytes;
}

int fm_stall(uint32_t number, uint32_t n_of_256, uint32_t seed)
{
    if (number >= sizeof stalls / sizeof *stalls)
        return -1;
    uint64_t bit = 1ull << (number & 63);
    stalls[number] = (stall_t){n_of_256, seed};
    stalled[number >> 6] = n_of_256 ? stalled[number >> 6] | bit : stalled[number >> 6] & ~bit;
    return 0;
}

uint32_t fm_take_events(uint8_t *into, uint32_t room)
{
    uint64_t at = event_head;
    while (at < event_tail) {
        uint32_t size;
        memcpy(&size, events + at + 4, 4);
        uint64_t next = at + 16 + ((size + 7) & ~7u);
        if (next - event_head > room)
            break;
        at = next;
    }
    uint32_t taken = (uint32_t)(at - event_head);
    memcpy(into, events + event_head, taken);
    event_head = at;
    return taken;
}

uint64_t fm_log_bytes(uint32_t number) { return ports[number].log_size; }

uint64_t fm_take_log(uint32_t number, uint8_t *into, uint64_t room)
{
    uint64_t size = ports[number].log_size;
    if (room < size)
        return 0;
    memcpy(into, ports[number].log, size);
    ports[number].log_size = 0;
    return size;
}

uint64_t fm_digest(void) { return digest; }
uint64_t fm_cycle(void) { return now; }

void fm_mailbox_reset(void)
{
    for (uint32_t i = 0; i < FM_PORTS; i++) {
        free(ports[i].queue.words);
        free(ports[i].frame);
        free(ports[i].log);
    }
    memset(ports, 0, sizeof ports);
    memset(stalls, 0, sizeof stalls);
    memset(stalled, 0, sizeof stalled);
    memset(held, 0, sizeof held);
    if (!events)
        events = malloc(EVENT_BYTES);
    pending_ports = event_head = event_tail = now = limit = 0;
    digest = 0xCBF29CE484222325u;
    phase = ARMED;
}

void fm_reset(void)
{
    fm_memory_reset();
    fm_mailbox_reset();
}
