/*
 * The extents the policy chooses among.
 *
 * A victim is the worst of a random sample, so all that is needed of a set is
 * a dense array; there are no lists, and a hit writes one entry. The index is
 * open addressing with linear probing, which costs 4 bytes a slot where the
 * nodes of base/map.h cost 24.
 *
 * Ghosts lie in sets of GHOST_WAYS by hash. They are hints: a wrong one (two
 * keys with one tag) makes one poor choice.
 */
#include "cache/evict_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

enum {
	INDEX_MIN = 64,
	GHOSTS_MIN = 256,
	GHOSTS_MAX = 1 << 22,
	GHOST_WAYS = 4,
};

uint64_t extent_hash(struct evict_key key)
{
	return hash_u64(key.cid * 0x9E3779B97F4A7C15ull + key.ext + 1);
}

struct extent_entry *extent_at(const struct extent_table *t, uint32_t place)
{
	return &t->sets[place & 1].v[place >> 1];
}

static struct evict_key key_of(const struct extent_entry *x)
{
	return (struct evict_key){ x->cid, x->ext };
}

/* The slot of the key, or the empty one where it would go. */
static uint32_t find_slot(const struct extent_table *t, struct evict_key key)
{
	uint32_t i = (uint32_t)extent_hash(key) & (t->index_size - 1);

	for (; t->index[i] != NO_PLACE; i = (i + 1) & (t->index_size - 1)) {
		const struct extent_entry *x = extent_at(t, t->index[i]);

		if (x->cid == key.cid && x->ext == key.ext)
			break;
	}
	return i;
}

/* Closes the gap, so that probing needs no tombstones. */
static void clear_slot(struct extent_table *t, uint32_t hole)
{
	uint32_t mask = t->index_size - 1;
	uint32_t i = hole;

	while (t->index[i = (i + 1) & mask] != NO_PLACE) {
		struct evict_key key = key_of(extent_at(t, t->index[i]));
		uint32_t home = (uint32_t)extent_hash(key) & mask;

		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->index[hole] = t->index[i];
		hole = i;
	}
	t->index[hole] = NO_PLACE;
}

static void resize_index(struct extent_table *t, uint32_t size)
{
	free(t->index);
	t->index = xmalloc(size * sizeof(*t->index));
	memset(t->index, 0xFF, size * sizeof(*t->index));
	t->index_size = size;
	for (uint32_t set = 0; set < SETS; set++)
		for (uint32_t i = 0; i < t->sets[set].n; i++) {
			const struct extent_entry *x = &t->sets[set].v[i];

			t->index[find_slot(t, key_of(x))] = place_of(set, i);
		}
}

void extent_table_init(struct extent_table *t)
{
	memset(t, 0, sizeof(*t));
	t->ghost_size = GHOSTS_MIN;
	t->ghosts = xcalloc(t->ghost_size, sizeof(*t->ghosts));
	resize_index(t, INDEX_MIN);
}

void extent_table_release(struct extent_table *t)
{
	for (int i = 0; i < SETS; i++)
		free(t->sets[i].v);
	free(t->index);
	free(t->ghosts);
	memset(t, 0, sizeof(*t));
}

uint32_t extent_count(const struct extent_table *t)
{
	return t->sets[SET_WINDOW].n + t->sets[SET_MAIN].n;
}

uint64_t extent_total(const struct extent_table *t)
{
	return t->sets[SET_WINDOW].pages + t->sets[SET_MAIN].pages;
}

uint32_t extent_find(const struct extent_table *t, struct evict_key key)
{
	return t->index[find_slot(t, key)];
}

/* Ghosts are only hints: growing forgets them. */
static void ghosts_fit(struct extent_table *t)
{
	uint32_t size = t->ghost_size;

	while (size < GHOSTS_MAX && size < extent_count(t))
		size *= 2;
	if (size == t->ghost_size)
		return;
	free(t->ghosts);
	t->ghosts = xcalloc(size, sizeof(*t->ghosts));
	t->ghost_size = size;
}

void extent_add(struct extent_table *t, enum extent_set set,
		const struct extent_entry *x)
{
	struct extent_list *s = &t->sets[set];

	if (s->n == s->cap) {
		s->cap = s->cap + s->cap / 4 + 64;
		s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
	}
	s->v[s->n] = *x;
	s->pages += extent_pages(x);
	t->index[find_slot(t, key_of(x))] = place_of(set, s->n);
	s->n++;
	if (extent_count(t) > t->index_size / 3 * 2)
		resize_index(t, t->index_size * 2);
	ghosts_fit(t);
}

struct extent_entry extent_take(struct extent_table *t, uint32_t place)
{
	struct extent_list *s = &t->sets[place & 1];
	struct extent_entry gone = *extent_at(t, place);
	uint32_t pos = place >> 1;

	clear_slot(t, find_slot(t, key_of(&gone)));
	s->pages -= extent_pages(&gone);
	s->n--;
	if (pos != s->n) {
		uint32_t slot = find_slot(t, key_of(&s->v[s->n]));

		s->v[pos] = s->v[s->n];
		t->index[slot] = place;
	}
	return gone;
}

void extent_resize(struct extent_table *t, uint32_t place, uint32_t pages)
{
	struct extent_entry *x = extent_at(t, place);

	t->sets[place & 1].pages += pages;
	t->sets[place & 1].pages -= extent_pages(x);
	x->pages_1 = (pages - 1) & (EVICT_PAGES_MAX - 1);
}

/* ---- ghosts ---- */

static struct extent_ghost *ghost_ways(struct extent_table *t, uint64_t hash)
{
	uint32_t sets = t->ghost_size / GHOST_WAYS;

	return &t->ghosts[((uint32_t)hash & (sets - 1)) * GHOST_WAYS];
}

static uint32_t ghost_tag(uint64_t hash)
{
	return (uint32_t)(hash >> 32) | 1;
}

void ghost_add(struct extent_table *t, const struct extent_entry *x)
{
	uint64_t hash = extent_hash(key_of(x));
	struct extent_ghost *g = ghost_ways(t, hash), *to = g;

	for (int i = 0; i < GHOST_WAYS && to->tag; i++)
		if (!g[i].tag || ((x->tick - g[i].tick) & TICK_MASK) >
					 ((x->tick - to->tick) & TICK_MASK))
			to = &g[i];
	*to = (struct extent_ghost){ .tick = x->tick,
				     .freq = x->freq,
				     .tag = ghost_tag(hash) };
}

bool ghost_take(struct extent_table *t, struct evict_key key, uint32_t *tick,
		uint32_t *freq)
{
	uint64_t hash = extent_hash(key);
	struct extent_ghost *g = ghost_ways(t, hash);

	for (int i = 0; i < GHOST_WAYS; i++) {
		if (g[i].tag != ghost_tag(hash))
			continue;
		*tick = g[i].tick;
		*freq = g[i].freq;
		g[i].tag = 0;
		return true;
	}
	return false;
}
