/* What the parts of the library share. */
#ifndef FM_STATE_H
#define FM_STATE_H
#include <stdbool.h>

#include "fastmem.h"

void fm_fatal(const char *what);
void fm_note(uint64_t word);
uint64_t fm_random(uint64_t *state);
void fm_post(uint32_t port, uint64_t cycle, const void *bytes, uint32_t size);
bool fm_active(void);                                   /* whether calls from HDL count */
bool fm_channel_held(uint32_t m, uint32_t channel);     /* in this cycle */
const uint8_t *fm_find(uint64_t addr);                  /* to read; NULL if no memory */
const uint8_t *fm_sparse_find(uint64_t addr);           /* to read; zeros if never written */
uint8_t *fm_sparse_make(uint64_t addr);                 /* to write; makes the page */
void fm_sparse_reset(void);
void fm_memory_reset(void);
void fm_mailbox_reset(void);

/* Exclusive accesses (IHI 0022, A7.2): one reservation per manager and ID. */
void fm_reserve(uint32_t m, uint32_t id, uint64_t addr, uint32_t size);
bool fm_reserved(uint32_t m, uint32_t id, uint64_t addr, uint32_t size);
void fm_wrote(uint64_t addr, uint32_t size);            /* ends the reservations it touches */
void fm_exclusive_reset(void);
#endif
