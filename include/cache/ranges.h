/*
 * A set of byte ranges, kept sorted, disjoint and merged. Pure; not locked.
 */
#ifndef CACHE_RANGES_H
#define CACHE_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint64_t off, end; /* off < end */
};

struct ranges {
	struct range *r;
	unsigned n, cap;
};

void ranges_release(struct ranges *rs);
void ranges_add(struct ranges *rs, uint64_t off, uint64_t end);
void ranges_remove(struct ranges *rs, uint64_t off, uint64_t end);

/* Whether off is inside; *ret_end is where that changes (UINT64_MAX: never). */
bool ranges_at(const struct ranges *rs, uint64_t off, uint64_t *ret_end);
bool ranges_touch(const struct ranges *rs, uint64_t off, uint64_t end);

#endif
