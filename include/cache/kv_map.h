/*
 * The mapping of a database file, seen as memory of this process. Part of kv;
 * nobody else includes this.
 */
#ifndef CACHE_KV_MAP_H
#define CACHE_KV_MAP_H

#include <stddef.h>

struct kv_map {
	void *addr; /* NULL: not found */
	size_t len;
};

/* Where the file of fd is mapped. */
void kv_map_find(struct kv_map *m, int fd);

/* If the process has more than a modest share of file pages resident, lets go
 * of those of the map; they stay in the page cache. Cheap to call often. */
void kv_map_trim(const struct kv_map *m);

#endif
