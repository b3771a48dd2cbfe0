/*
 * The parts of block that only cache.c calls.
 */
#ifndef CACHE_BLOCK_IMPL_H
#define CACHE_BLOCK_IMPL_H

#include "cache/batch.h"
#include "cache/block.h"

struct blocks_config {
	struct batch *batch; /* borrowed */
	const char *dir; /* holds data/; borrowed */
	uint64_t max_bytes, min_free;
	uint64_t epoch; /* blocks of an older one are verified before use */
};

/* Reads which extents there are. */
MUST_CHECK int blocks_create(const struct blocks_config *config,
			     struct blocks **ret);
void blocks_destroy(struct blocks *b); /* NULL is fine; no content open */

void blocks_stats(struct blocks *b, struct cache_stats *ret);

#endif
