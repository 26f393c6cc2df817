/* What the parts of the library share. */
#ifndef FM_STATE_H
#define FM_STATE_H
#include <stdbool.h>

#include "fastmem.h"

void fm_fatal(const char *what);
void fm_note(uint64_t word);
uint64_t fm_random(uint64_t *state);
void fm_post(uint32_t port, uint64_t cycle, const void *bytes, uint32_t size);
void fm_memory_reset(void);
void fm_mailbox_reset(void);
#endif
