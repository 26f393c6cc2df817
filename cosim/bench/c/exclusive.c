/* Monitor of exclusive accesses.  See state.h.

   A reservation ends when another write reaches its bytes, or when they differ from what was read:
   software and other processes write without telling the library. */
#include <string.h>

#include "state.h"

enum { IDS = 256, EXCLUSIVE_MAX = 128 };

typedef struct {
    uint64_t addr;
    uint32_t size; /* 0 if there is none */
    uint8_t seen[EXCLUSIVE_MAX];
} reservation_t;

static reservation_t reservations[FM_MANAGERS][IDS];
static uint32_t live;

static void end(reservation_t *reservation)
{
    live -= reservation->size != 0;
    reservation->size = 0;
}

void fm_reserve(uint32_t m, uint32_t id, uint64_t addr, uint32_t size)
{
    reservation_t *mine = &reservations[m][id & (IDS - 1)];
    const uint8_t *bytes = fm_find(addr);
    if (size > EXCLUSIVE_MAX || size & (size - 1) || addr & (size - 1))
        fm_fatal("exclusive access must be aligned and have a power of two up to 128 bytes");
    end(mine);
    if (!bytes || !fm_find(addr + size - 1))
        return;
    mine->addr = addr;
    mine->size = size;
    memcpy(mine->seen, bytes, size);
    live++;
}

bool fm_reserved(uint32_t m, uint32_t id, uint64_t addr, uint32_t size)
{
    reservation_t *mine = &reservations[m][id & (IDS - 1)];
    const uint8_t *bytes = fm_find(addr);
    bool good = mine->size && mine->addr == addr && mine->size == size && bytes &&
                !memcmp(mine->seen, bytes, size);
    end(mine);
    return good;
}

void fm_wrote(uint64_t addr, uint32_t size)
{
    if (!live)
        return;
    for (uint32_t m = 0; m < FM_MANAGERS; m++)
        for (uint32_t id = 0; id < IDS; id++) {
            reservation_t *other = &reservations[m][id];
            if (other->size && addr < other->addr + other->size && addr + size > other->addr)
                end(other);
        }
}

void fm_exclusive_reset(void)
{
    memset(reservations, 0, sizeof reservations);
    live = 0;
}
