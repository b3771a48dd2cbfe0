/*
 * The table under evict.c: extents in two sets, found by key, and the memory
 * of evicted ones. Nobody else includes this.
 */
#ifndef CACHE_EVICT_IMPL_H
#define CACHE_EVICT_IMPL_H

#include "cache/evict.h"

struct extent_entry {
	uint64_t cid;
	uint32_t ext:22, pages_1:10; /* pages - 1 */
	uint32_t tick:24, freq:8; /* of the last counted access */
};

enum { TICK_MASK = 0xFFFFFF };

enum extent_set { SET_WINDOW, SET_MAIN, SETS };

struct extent_list {
	struct extent_entry *v; /* dense: a sample is an index */
	uint32_t n, cap;
	uint64_t pages;
};

struct extent_ghost {
	uint32_t tick:24, freq:8;
	uint32_t tag; /* 0: empty */
};

struct extent_table {
	struct extent_list sets[SETS];
	uint32_t *index; /* place, or NO_PLACE */
	uint32_t index_size; /* power of two */
	struct extent_ghost *ghosts;
	uint32_t ghost_size; /* power of two */
};

/* position << 1 | set */
static const uint32_t NO_PLACE = UINT32_MAX;

static inline uint32_t place_of(enum extent_set set, uint32_t pos)
{
	return pos << 1 | set;
}

static inline uint32_t extent_pages(const struct extent_entry *x)
{
	return x->pages_1 + 1u;
}

void extent_table_init(struct extent_table *t);
void extent_table_release(struct extent_table *t);

uint64_t extent_hash(struct evict_key key);
uint32_t extent_count(const struct extent_table *t);
uint64_t extent_total(const struct extent_table *t); /* pages */

/* NO_PLACE if it is not there. Places change with every add and remove. */
uint32_t extent_find(const struct extent_table *t, struct evict_key key);
struct extent_entry *extent_at(const struct extent_table *t, uint32_t place);

void extent_add(struct extent_table *t, enum extent_set set,
		const struct extent_entry *x);
struct extent_entry extent_take(struct extent_table *t, uint32_t place);
void extent_resize(struct extent_table *t, uint32_t place, uint32_t pages);

/* As many ghosts are kept as there are extents; the oldest give way. */
void ghost_add(struct extent_table *t, const struct extent_entry *x);
/* True once, if the extent was evicted not too long ago. */
bool ghost_take(struct extent_table *t, struct evict_key key, uint32_t *tick,
		uint32_t *freq);

#endif
