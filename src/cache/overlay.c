/*
 * A skip list: insertion, lookup and ordered iteration from any key in
 * logarithmic time with nothing to rebalance, which is what listings laid
 * over the database need. A hash table would be faster for single keys and
 * need sorting for every list page and every commit.
 */
#include "cache/overlay.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

void overlay_init(struct overlay *o)
{
	memset(o, 0, sizeof(*o));
	o->seed = 1;
}

void change_ref(struct change *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

void change_put(struct change *c)
{
	if (c && __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(c);
}

void overlay_release(struct overlay *o)
{
	struct change *c = o->head[0], *next;

	for (; c; c = next) {
		next = c->next[0];
		change_put(c);
	}
	overlay_init(o);
}

int slice_cmp(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int d = n ? memcmp(a.p, b.p, n) : 0;

	if (d)
		return d;
	return a.n < b.n ? -1 : a.n > b.n;
}

static int order(const struct change *c, enum kv_table table, struct slice key)
{
	if (c->table != table)
		return c->table < table ? -1 : 1;
	return slice_cmp(c->key, key);
}

/* links[i]: where the pointer to the first entry >= (table, key) of level i
 * lies. */
static void locate(struct overlay *o, enum kv_table table, struct slice key,
		   struct change **links[OVERLAY_HEIGHT])
{
	struct change **level = o->head;

	for (int i = OVERLAY_HEIGHT - 1; i >= 0; i--) {
		while (level[i] && order(level[i], table, key) < 0)
			level = level[i]->next;
		links[i] = &level[i];
	}
}

static uint8_t random_height(struct overlay *o)
{
	uint64_t x = hash_u64(o->seed++);
	uint8_t h = 1;

	for (; h < OVERLAY_HEIGHT && (x & 3) == 0; x >>= 2)
		h++;
	return h;
}

static size_t change_bytes(size_t key, size_t val, uint8_t height)
{
	return sizeof(struct change) + height * sizeof(struct change *) + key +
	       val;
}

static struct change *change_create(enum kv_table table, struct slice key,
				    struct slice val, bool deleted,
				    uint8_t height)
{
	struct change *c = xmalloc(change_bytes(key.n, val.n, height));
	char *p = (char *)&c->next[height];

	c->refs = 1;
	c->table = (uint8_t)table;
	c->height = height;
	c->deleted = deleted;
	memcpy(p, key.p, key.n);
	c->key = (struct slice){ p, key.n };
	if (val.n)
		memcpy(p + key.n, val.p, val.n);
	c->val = (struct slice){ p + key.n, val.n };
	return c;
}

static void remove_at(struct overlay *o, struct change *c,
		      struct change **links[OVERLAY_HEIGHT])
{
	for (int i = 0; i < c->height; i++)
		*links[i] = c->next[i];
	o->count--;
	o->bytes -= change_bytes(c->key.n, c->val.n, c->height);
	change_put(c);
}

void overlay_put(struct overlay *o, enum kv_table table, struct slice key,
		 struct slice val, bool deleted)
{
	struct change **links[OVERLAY_HEIGHT];
	struct change *c;

	locate(o, table, key, links);
	if (*links[0] && order(*links[0], table, key) == 0)
		remove_at(o, *links[0], links);
	c = change_create(table, key, val, deleted, random_height(o));
	for (int i = 0; i < c->height; i++) {
		c->next[i] = *links[i];
		*links[i] = c;
	}
	o->count++;
	o->bytes += change_bytes(key.n, val.n, c->height);
}

void overlay_remove(struct overlay *o, enum kv_table table, struct slice key)
{
	struct change **links[OVERLAY_HEIGHT];

	locate(o, table, key, links);
	if (*links[0] && order(*links[0], table, key) == 0)
		remove_at(o, *links[0], links);
}

struct change *overlay_seek(const struct overlay *o, enum kv_table table,
			    struct slice key)
{
	struct change *const *level = o->head;
	struct change *found = NULL;

	if (!o->count)
		return NULL;
	for (int i = OVERLAY_HEIGHT - 1; i >= 0; i--) {
		while (level[i] && order(level[i], table, key) < 0)
			level = level[i]->next;
		found = level[i];
	}
	return found;
}

struct change *overlay_find(const struct overlay *o, enum kv_table table,
			    struct slice key)
{
	struct change *c = overlay_seek(o, table, key);

	return c && order(c, table, key) == 0 ? c : NULL;
}

void overlay_drop(struct overlay *o, unsigned mask)
{
	struct overlay kept;
	struct change *c = o->head[0], *next;

	overlay_init(&kept);
	kept.seed = o->seed;
	for (; c; c = next) {
		next = c->next[0];
		if (!(mask >> c->table & 1))
			overlay_put(&kept, c->table, c->key, c->val,
				    c->deleted);
		change_put(c);
	}
	*o = kept;
}
