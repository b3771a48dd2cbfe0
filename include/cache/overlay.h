/*
 * An ordered table of pending changes in memory: puts and deletions by
 * (table, key), the latest wins. Entries are immutable and counted, so a
 * reader may keep one after it left the table. Not locked; only the count of
 * an entry is atomic.
 */
#ifndef CACHE_OVERLAY_H
#define CACHE_OVERLAY_H

#include "cache/kv.h"

struct change {
	unsigned refs; /* atomic */
	uint8_t table;
	uint8_t height;
	bool deleted;
	struct slice key, val; /* in the same allocation */
	struct change *next[];
};

enum { OVERLAY_HEIGHT = 20 };

struct overlay {
	struct change *head[OVERLAY_HEIGHT];
	size_t count;
	size_t bytes;
	uint64_t seed;
};

void overlay_init(struct overlay *o);
void overlay_release(struct overlay *o);

/* Copies key and val. */
void overlay_put(struct overlay *o, enum kv_table table, struct slice key,
		 struct slice val, bool deleted);

/* Forgets the entry; that is not a deletion. */
void overlay_remove(struct overlay *o, enum kv_table table, struct slice key);

/* Borrowed; NULL if nothing is pending for the key. */
struct change *overlay_find(const struct overlay *o, enum kv_table table,
			    struct slice key);

/* The first entry at or after (table, key) in order, NULL at the end;
 * change->next[0] goes on from there. */
struct change *overlay_seek(const struct overlay *o, enum kv_table table,
			    struct slice key);

/* Drops all entries of the tables in mask (bit = table). */
void overlay_drop(struct overlay *o, unsigned mask);

void change_ref(struct change *c);
void change_put(struct change *c); /* NULL is fine */

int slice_cmp(struct slice a, struct slice b); /* bytewise, as the file */

#endif
