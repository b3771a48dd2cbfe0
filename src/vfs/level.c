/*
 * Sorted keys make this simple: what lies below one folder is a run of the
 * page, and the run of a folder inside lies within it.
 *
 * Where a page ends before the listing does, the folder of its last key, and
 * those above, may go on: their entries are kept, but they are not complete.
 */
#include "vfs/level.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vfs/key.h"
#include "vfs/scan.h"

enum { DEPTH_MAX = 32 }; /* folders below are left for a listing of their own */

struct level_run {
	unsigned first, end;
};

bool level_sorted(const struct store_list *list)
{
	for (unsigned i = 1; i < list->n; i++)
		if (strcmp(list->entries[i - 1].name, list->entries[i].name) >=
		    0)
			return false;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct store_entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

void level_sort(struct store_list *list)
{
	qsort(list->entries, list->n, sizeof(*list->entries), by_name);
}

uint64_t folder_moves(struct vfs *v)
{
	mutex_lock(&v->lock);
	uint64_t n = v->moving ? 0 : v->moves + 1;
	mutex_unlock(&v->lock);
	return n;
}

void level_below(struct store_list *list, const char *prefix)
{
	unsigned n = list->n, kept = 0;
	size_t len = strlen(prefix);

	for (unsigned i = 0; i < n; i++) {
		struct store_entry e = list->entries[i];

		if (strncmp(e.name, prefix, len) != 0) {
			list->skipped++;
			free(e.name);
			free(e.upload_id);
		} else {
			list->entries[kept++] = e;
		}
	}
	list->n = kept;
}

/* The end of the run that begins at i: one file, or all of a folder. */
static unsigned run_end(const struct store_list *list, unsigned i, unsigned end,
			size_t skip)
{
	const char *name = list->entries[i].name + skip;
	size_t n = strcspn(name, "/");

	if (!name[n++])
		return i + 1;
	for (i++; i < end; i++)
		if (strncmp(list->entries[i].name + skip, name, n) != 0)
			break;
	return i;
}

static void fill_entry(struct meta_entry *e, const char *name, size_t n,
		       const struct store_entry *from, int64_t asked_ns)
{
	memcpy(e->name, name, n);
	e->name[n] = 0;
	e->rec.kind = name[n] ? META_DIR : META_FILE;
	e->rec.checked_ns = asked_ns;
	if (e->rec.kind == META_DIR)
		return;
	e->rec.size = from->size;
	e->rec.mtime_ns = from->mtime_ns;
	if (from->infrequent)
		e->rec.flags |= META_INFREQUENT;
	snprintf(e->rec.etag, sizeof(e->rec.etag), "%s", from->etag.s);
}

static void add_run(struct level *l, const struct level_page *page,
		    struct level_run run, size_t skip)
{
	const struct store_entry *from = &page->list->entries[run.first];
	const char *name = from->name + skip;
	size_t n = strcspn(name, "/");

	if (!*name)
		return; /* the folder's own marker object */
	if (!key_name_ok(name, n)) {
		l->hidden++;
		return;
	}
	l->runs[l->n] = run;
	fill_entry(&l->entries[l->n++], name, n, from, page->asked_ns);
}

void level_cut(struct level *l, const struct level_page *page, unsigned first,
	       unsigned end, size_t skip)
{
	unsigned runs = 0;

	for (unsigned i = first; i < end; i = run_end(page->list, i, end, skip))
		runs++;
	memset(l, 0, sizeof(*l));
	l->max = runs * 2 + 1;
	l->entries = xcalloc(l->max, sizeof(*l->entries));
	l->runs = xcalloc(l->max, sizeof(*l->runs));
	for (unsigned i = first; i < end;) {
		struct level_run run = { i, run_end(page->list, i, end, skip) };

		add_run(l, page, run, skip);
		i = run.end;
	}
}

void level_release(struct level *l)
{
	for (unsigned i = 0; i < l->n; i++)
		meta_rec_release(&l->entries[i].rec);
	free(l->entries);
	free(l->runs);
	memset(l, 0, sizeof(*l));
}

/* ---- an object `a` beside a folder `a/` ---- */

bool level_shadow(struct level *l, unsigned i)
{
	struct meta_entry *e = &l->entries[i];
	size_t n = strlen(e->name);

	if (n + strlen(VFS_OBJECT_SUFFIX) > CACHE_NAME_MAX) {
		l->hidden++;
		return false;
	}
	strcpy(e->name + n, VFS_OBJECT_SUFFIX);
	e->rec.flags |= META_SHADOWED;
	return true;
}

bool level_settle(struct level *l, unsigned dir)
{
	const char *name = l->entries[dir].name;
	size_t n = strlen(name);

	for (unsigned i = dir; i-- > 0;) {
		const struct meta_entry *e = &l->entries[i];

		if (strncmp(e->name, name, n) != 0)
			return false; /* sorted: none with this prefix is left */
		if (e->name[n] == 0 && e->rec.kind == META_FILE) {
			level_shadow(l, i);
			return true;
		}
	}
	return false;
}

/* ---- the folders below ---- */

static void keep(struct vfs *v, uint64_t ino, const struct level_page *page,
		 struct level_run run, size_t skip, unsigned depth);

static void keep_each(struct vfs *v, const struct level *l,
		      const struct level_page *page, size_t skip,
		      unsigned depth)
{
	for (unsigned i = 0; i < l->n; i++) {
		const struct meta_entry *e = &l->entries[i];

		if (e->rec.kind == META_DIR && l->runs[i].end)
			keep(v, e->rec.ino, page, l->runs[i],
			     skip + strlen(e->name) + 1, depth);
	}
}

static void keep(struct vfs *v, uint64_t ino, const struct level_page *page,
		 struct level_run run, size_t skip, unsigned depth)
{
	bool whole = run.end < page->list->n || !page->list->truncated;
	struct level l;
	int err;

	if (depth == DEPTH_MAX || !ino)
		return;
	level_cut(&l, page, run.first, run.end, skip);
	for (unsigned i = 0; i < l.n; i++)
		if (l.entries[i].rec.kind == META_DIR)
			level_settle(&l, i);
	err = meta_dir_fill(v->meta, ino, l.entries, l.n,
			    whole ? page->asked_ns : 0, l.hidden);
	if (!err && whole)
		dir_complete(v, ino, page->asked_ns, l.hidden);
	if (!err)
		keep_each(v, &l, page, skip, depth + 1);
	else if (err != -EEXIST)
		log_debug("vfs", "the cache cannot keep a listed folder");
	level_release(&l);
}

void level_keep_below(struct vfs *v, const struct level *l,
		      const struct level_page *page, size_t skip)
{
	keep_each(v, l, page, skip, 0);
}
