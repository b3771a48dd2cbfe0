/*
 * Which extent goes when room is needed: the extents in the cache and the
 * policy over them.
 *
 * Pure: no I/O, no clock, no locks; the caller serializes. Sizes are in pages
 * of 4 KiB, 1..EVICT_PAGES_MAX an extent. Time is the traffic, what was read
 * and written, in units of the capacity; so nothing ages while nothing is
 * used. An extent costs 16 bytes, 6 to 12 for the index and 8 to 16 for the
 * memory of one that was evicted.
 */
#ifndef CACHE_EVICT_H
#define CACHE_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { EVICT_PAGES_MAX = 1024 };

struct evict;

struct evict_key {
	uint64_t cid;
	uint32_t ext; /* below 2^22 */
};

/* seed makes runs repeatable. */
struct evict *evict_create(uint64_t capacity_pages, uint64_t seed);
void evict_destroy(struct evict *e); /* NULL is fine */

/* The cache may take this much now. A change of less than an eighth is
 * ignored: the free space of a disk comes and goes. */
void evict_set_capacity(struct evict *e, uint64_t capacity_pages);

uint64_t evict_pages(const struct evict *e);
uint32_t evict_count(const struct evict *e);

/* The extent takes `pages` from now on; returns what it took before. A new
 * one counts as an access that missed. */
uint32_t evict_put(struct evict *e, struct evict_key key, uint32_t pages);

/* An access. Repeated ones within a sixteenth of the capacity are one; the
 * caller need not tell of them: see evict_now. */
void evict_touch(struct evict *e, struct evict_key key);

/* Traffic so far in units in which two accesses may differ at all. */
uint32_t evict_now(const struct evict *e);

/* Forgets an extent, without remembering it as evicted; its pages, 0 if it
 * is unknown. */
uint32_t evict_remove(struct evict *e, struct evict_key key);

/*
 * Chooses a victim, removes it and remembers it as evicted. busy (may be
 * NULL) says what cannot go. False: there is none.
 */
bool evict_pick(struct evict *e, bool (*busy)(struct evict_key key, void *arg),
		void *arg, struct evict_key *ret, uint32_t *ret_pages);

/* ---- across restarts ---- */

struct evict_use {
	struct evict_key key;
	uint32_t pages;
	uint8_t freq; /* how often it was used lately */
	uint8_t age; /* how long ago, at most 255 */
};

/* An extent known from before the start; false if it is there already. Not
 * an access. freq 0: nothing is known of its use. */
bool evict_load(struct evict *e, const struct evict_use *use);

/* Calls fn for every extent, in no order. */
void evict_each(const struct evict *e,
		void (*fn)(const struct evict_use *use, void *arg), void *arg);

#endif
