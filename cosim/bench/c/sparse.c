/* Memory that takes room only where it was written: pages in a hash table.  See state.h. */
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { PAGE_SHIFT = 12, PAGE = 1 << PAGE_SHIFT, SLOTS_MIN = 1024 };

typedef struct { uint64_t number; uint8_t *bytes; } page_t; /* no bytes: a free slot */

static page_t *slots;
static uint64_t slot_count, page_count, limit; /* slots: a power of two; bytes of memory */
static page_t last;                            /* page found last, if any */
static const uint8_t zeros[PAGE];              /* what absent pages read as */

static page_t *slot_of(uint64_t number)
{
    uint64_t hash = number * 0x9E3779B97F4A7C15u;
    for (uint64_t i = hash >> 20;; i++) {
        page_t *slot = &slots[i & (slot_count - 1)];
        if (!slot->bytes || slot->number == number)
            return slot;
    }
}

static void grow(void)
{
    page_t *old = slots;
    uint64_t count = slot_count;
    slot_count = count ? 2 * count : SLOTS_MIN;
    slots = calloc(slot_count, sizeof *slots);
    if (!slots)
        fm_fatal("no room for pages");
    for (uint64_t i = 0; i < count; i++)
        if (old[i].bytes)
            *slot_of(old[i].number) = old[i];
    free(old);
}

const uint8_t *fm_sparse_find(uint64_t addr)
{
    if (addr >= limit)
        return NULL;
    uint64_t number = addr >> PAGE_SHIFT;
    if (!last.bytes || last.number != number) {
        page_t *slot = slots ? slot_of(number) : NULL;
        if (!slot || !slot->bytes)
            return zeros + (addr & (PAGE - 1));
        last = *slot;
    }
    return last.bytes + (addr & (PAGE - 1));
}

uint8_t *fm_sparse_make(uint64_t addr)
{
    const uint8_t *found = fm_sparse_find(addr);
    if (!found)
        return NULL;
    uint64_t number = addr >> PAGE_SHIFT;
    if (!last.bytes || last.number != number) { /* absent: pages that are there become last */
        if (2 * page_count >= slot_count)
            grow();
        page_t *slot = slot_of(number);
        *slot = (page_t){number, calloc(1, PAGE)};
        if (!slot->bytes)
            fm_fatal("no room for pages");
        page_count++;
        last = *slot;
    }
    return last.bytes + (addr & (PAGE - 1));
}

int fm_sparse(uint32_t bits)
{
    if (bits < PAGE_SHIFT || bits > 56)
        return -1;
    limit = 1ull << bits;
    return 0;
}

static uint32_t piece(uint64_t addr, uint64_t size)
{
    uint64_t room = PAGE - (addr & (PAGE - 1));
    return (uint32_t)(size < room ? size : room);
}

int fm_sparse_read(uint64_t addr, uint8_t *into, uint64_t size)
{
    if (addr > limit || size > limit - addr)
        return -1;
    for (uint32_t n; size; addr += n, into += n, size -= n) {
        n = piece(addr, size);
        memcpy(into, fm_sparse_find(addr), n);
    }
    return 0;
}

int fm_sparse_write(uint64_t addr, const uint8_t *from, uint64_t size)
{
    if (addr > limit || size > limit - addr)
        return -1;
    for (uint32_t n; size; addr += n, from += n, size -= n) {
        n = piece(addr, size);
        memcpy(fm_sparse_make(addr), from, n);
    }
    return 0;
}

uint64_t fm_sparse_pages(void) { return page_count; }

void fm_sparse_reset(void)
{
    for (uint64_t i = 0; i < slot_count; i++)
        free(slots[i].bytes);
    free(slots);
    slots = NULL;
    slot_count = page_count = limit = 0;
    last = (page_t){0, NULL};
}
