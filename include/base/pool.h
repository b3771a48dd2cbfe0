/*
 * Byte budget for data buffers (--memory).
 *
 * Every large buffer is a struct chunk charged against one ceiling. Demand
 * waits until there is room (with one exception that prevents deadlock: a
 * pool with nothing charged always grants); prefetch may only try. Chunks are
 * reference-counted: the last chunk_put returns the bytes and wakes waiters.
 * The contents of a new chunk are undefined. Buffers of 128 KiB and more are
 * rounded up, by an eighth at most, and kept for reuse, in the budget, and no
 * more of them than are in use or an eighth of it, and none when none is.
 * Thread-safe.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pool;

struct chunk {
	uint8_t *data;
	size_t cap; /* what was asked for, or a little more; it is charged */
	struct pool *pool;
	unsigned refs; /* atomic */
	struct chunk *next; /* the pool's own */
};

/* From then on the process returns large allocations when they are freed. */
struct pool *pool_create(size_t max_bytes);
void pool_destroy(struct pool *p); /* all chunks must be back */

/* A chunk of n bytes, or NULL when the budget has no room now. */
struct chunk *pool_try(struct pool *p, size_t n);

/* A chunk of n bytes; waits at most timeout_ms for room, then NULL.
 * n may exceed the budget: granted when nothing else is charged. */
struct chunk *pool_get(struct pool *p, size_t n, uint64_t timeout_ms);

/* A chunk of n bytes at once, over the budget if need be: for demand that
 * must not wait (at most one block per waiting reader). */
struct chunk *pool_force(struct pool *p, size_t n);

void chunk_ref(struct chunk *c);
void chunk_put(struct chunk *c); /* NULL is fine */

size_t pool_used(const struct pool *p);
size_t pool_max(const struct pool *p);

#endif
