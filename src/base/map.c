/*
 * Separate chaining with intrusive nodes: removal during iteration is simple
 * and the memory is the caller's. Doubles above one node a slot, halves below
 * one in eight.
 */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { MIN_SLOTS = 16 };

void map_init(struct map *m,
	      bool (*equal)(const struct map_node *node, const void *key))
{
	memset(m, 0, sizeof(*m));
	m->equal = equal;
}

void map_release(struct map *m)
{
	free(m->slots);
	m->slots = NULL;
	m->nslots = m->count = 0;
}

static void resize(struct map *m, size_t nslots)
{
	struct map_node **slots = xcalloc(nslots, sizeof(struct map_node *));

	for (size_t i = 0; i < m->nslots; i++) {
		for (struct map_node *n = m->slots[i], *next; n; n = next) {
			struct map_node **slot = &slots[n->hash & (nslots - 1)];

			next = n->next;
			n->next = *slot;
			*slot = n;
		}
	}
	free(m->slots);
	m->slots = slots;
	m->nslots = nslots;
}

struct map_node *map_find(const struct map *m, uint64_t hash, const void *key)
{
	struct map_node *n;

	if (!m->nslots)
		return NULL;
	for (n = m->slots[hash & (m->nslots - 1)]; n; n = n->next)
		if (n->hash == hash && m->equal(n, key))
			return n;
	return NULL;
}

void map_insert(struct map *m, struct map_node *node, uint64_t hash)
{
	struct map_node **slot;

	if (m->count >= m->nslots)
		resize(m, m->nslots ? m->nslots * 2 : MIN_SLOTS);
	slot = &m->slots[hash & (m->nslots - 1)];
	node->hash = hash;
	node->next = *slot;
	*slot = node;
	m->count++;
}

static void unlink_node(struct map *m, struct map_node *node)
{
	struct map_node **p = &m->slots[node->hash & (m->nslots - 1)];

	while (*p != node) {
		BUG_ON(!*p);
		p = &(*p)->next;
	}
	*p = node->next;
	m->count--;
}

void map_remove(struct map *m, struct map_node *node)
{
	unlink_node(m, node);
	if (m->nslots > MIN_SLOTS && m->count < m->nslots / 8 && !m->iterating)
		resize(m, m->nslots / 2);
}

void map_each(struct map *m, void (*fn)(struct map_node *node, void *arg),
	      void *arg)
{
	m->iterating = true;
	for (size_t i = 0; i < m->nslots; i++)
		for (struct map_node *n = m->slots[i], *next; n; n = next) {
			next = n->next;
			fn(n, arg);
		}
	m->iterating = false;
}

void map_sweep(struct map *m, size_t *hand,
	       bool (*fn)(struct map_node *node, void *arg), void *arg)
{
	bool more = true;

	for (size_t i = 0; more && i < m->nslots; i++) {
		struct map_node *n = m->slots[(*hand)++ & (m->nslots - 1)];

		for (; more && n; n = n->next)
			more = fn(n, arg);
	}
}

uint64_t hash_u64(uint64_t x)
{
	x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDull;
	x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53ull;
	return x ^ x >> 33;
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed)
{
	const unsigned char *s = p;
	uint64_t h = seed ^ n * 0x9E3779B97F4A7C15ull, word;

	for (; n >= 8; n -= 8, s += 8) {
		memcpy(&word, s, 8);
		h = hash_u64(h ^ word);
	}
	for (word = 0; n; n--)
		word = word << 8 | s[n - 1];
	return hash_u64(h ^ word);
}
