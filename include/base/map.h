/*
 * Intrusive hash table that grows and shrinks with its content. The caller
 * embeds a struct map_node, computes the 64-bit hash and compares keys.
 * Not locked. The map never owns its nodes.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **slots;
	size_t nslots; /* power of two, 0 when empty */
	size_t count;
	bool iterating; /* inside map_each: no shrinking */
	bool (*equal)(const struct map_node *node, const void *key);
};

void map_init(struct map *m,
	      bool (*equal)(const struct map_node *node, const void *key));
void map_release(struct map *m); /* the nodes stay the caller's */
struct map_node *map_find(const struct map *m, uint64_t hash, const void *key);
void map_insert(struct map *m, struct map_node *node, uint64_t hash);
void map_remove(struct map *m, struct map_node *node);

/* Calls fn on every node; fn may remove (and free) the node it is given. */
void map_each(struct map *m, void (*fn)(struct map_node *node, void *arg),
	      void *arg);

/* Calls fn on the nodes from slot *hand on, once around at most, until it
 * returns false; *hand is where the next call goes on. fn changes nothing. */
void map_sweep(struct map *m, size_t *hand,
	       bool (*fn)(struct map_node *node, void *arg), void *arg);

uint64_t hash_u64(uint64_t x);
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);

#endif
