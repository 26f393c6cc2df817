/* Used where lz4.h is missing, so that Verilator can write FST: blocks of literals alone, in LZ4's
   block format.  Any reader takes them; nothing gets smaller. */
#ifndef FALLBACK_LZ4_H
#define FALLBACK_LZ4_H
#include <string.h>

static inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

static inline int LZ4_compress_default(const char *from, char *into, int size, int room)
{
    int at = 1, rest = size - 15;
    if (room < LZ4_compressBound(size))
        return 0;
    into[0] = (char)((rest < 0 ? size : 15) << 4);
    for (; rest >= 0; rest -= 255)
        into[at++] = (char)(rest < 255 ? rest : 255);
    memcpy(into + at, from, (size_t)size);
    return at + size;
}
#endif
