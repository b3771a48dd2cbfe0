/*
 * Randomness for jitter, ids and sampling; not for secrets. Per-thread
 * generators seeded from the kernel, or all from rand_seed() for a
 * repeatable run. Thread-safe.
 */
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include <stdint.h>

void rand_seed(uint64_t seed); /* before other threads start */
uint64_t rand_u64(void);
uint64_t rand_below(uint64_t n); /* uniform in [0, n); n > 0 */

#endif
