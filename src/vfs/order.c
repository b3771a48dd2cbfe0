/*
 * The cache sorts by name, so a folder is met too early: it waits until every
 * name has come that is less than its key. Those all begin with its name. So
 * between two calls nothing has to be kept: the folders that wait at a key are
 * among its beginnings, and there only where a character less than the slash
 * follows.
 */
#include "vfs/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char at(const char *s, bool folder)
{
	return *s ? (unsigned char)*s : folder ? '/' : 0;
}

static int compare(const char *a, bool a_folder, const char *b, bool b_folder)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return at(a, a_folder) - at(b, b_folder);
}

static bool is_folder(const struct meta_entry *e)
{
	return e->rec.kind == META_DIR;
}

int order_compare(const struct meta_entry *e, const char *key)
{
	return compare(e->name, is_folder(e), key, false);
}

void order_key(const struct meta_entry *e, char ret[ORDER_KEY_MAX])
{
	snprintf(ret, ORDER_KEY_MAX, "%s%s", e->name, is_folder(e) ? "/" : "");
}

static int by_key(const void *a, const void *b)
{
	const struct meta_entry *x = a, *y = b;

	return compare(x->name, is_folder(x), y->name, is_folder(y));
}

static void sort(struct meta_entry *entries, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		if (by_key(&entries[i - 1], &entries[i]) > 0) {
			qsort(entries, n, sizeof(*entries), by_key);
			return;
		}
	}
}

static void cut(struct meta_entry *entries, unsigned *n, unsigned to)
{
	while (*n > to)
		meta_rec_release(&entries[--*n].rec);
}

/* The folders that wait at the key `after`. */
static unsigned waiting(struct meta *m, uint64_t ino, const char *after,
			struct meta_entry *entries)
{
	unsigned n = 0;

	for (size_t k = 1; *after && k <= strlen(after); k++) {
		struct meta_entry *e = &entries[n];

		if ((unsigned char)after[k] >= '/')
			continue;
		memcpy(e->name, after, k);
		e->name[k] = 0;
		if (meta_get(m, ino, e->name, &e->rec))
			continue;
		if (is_folder(e))
			n++;
		else
			meta_rec_release(&e->rec);
	}
	return n;
}

/* Moves after on; 0 with *more: all that was found has to wait. */
static int step(struct meta *m, uint64_t ino, char after[ORDER_KEY_MAX],
		unsigned max, struct meta_entry *entries, bool *more)
{
	char from[CACHE_NAME_MAX + 1];
	unsigned n = waiting(m, ino, after, entries), kept;
	int found;

	snprintf(from, sizeof(from), "%.*s", CACHE_NAME_MAX, after);
	found = meta_list(m, ino, from, entries + n, max);
	if (found < 0) {
		cut(entries, &n, 0);
		return found;
	}
	n += found;
	*more = found == (int)max;
	if (*more)
		snprintf(after, ORDER_KEY_MAX, "%s", entries[n - 1].name);
	sort(entries, n);
	for (kept = n; *more && kept; kept--)
		if (order_compare(&entries[kept - 1], after) <= 0)
			break;
	cut(entries, &n, kept);
	if (!*more && n)
		order_key(&entries[n - 1], after);
	return (int)n;
}

int order_list(struct meta *m, uint64_t ino, char after[ORDER_KEY_MAX],
	       unsigned max, struct meta_entry **ret)
{
	struct meta_entry *entries =
		xcalloc(max + CACHE_NAME_MAX + 1, sizeof(*entries));
	bool more = true;
	int n = 0;

	while (n == 0 && more)
		n = step(m, ino, after, max, entries, &more);
	*ret = entries;
	if (n <= 0) {
		free(entries);
		*ret = NULL;
	}
	return n;
}
