/*
 * CRC-32C (Castagnoli), hardware where the CPU has it. Pure, thread-safe.
 * crc32c(0, data, n) of a whole buffer equals chaining over its pieces.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t n);

/* ret[i] = crc32c(0) of the i-th `block` bytes of data; the last may be short.
 * Several blocks at a time, so faster than one after the other. */
void crc32c_blocks(const void *data, size_t n, size_t block, uint32_t *ret);

#endif
