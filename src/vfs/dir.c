/*
 * Directory handles.
 *
 * A complete directory is read from the cache in batches; any other is
 * listed, and names are given as pages arrive, so that the first thousand
 * appear after one round trip whatever the size.
 *
 * A position is the number of entries given so far. The kernel mostly
 * continues where we stopped, but often steps back a little (its buffer took
 * fewer entries than our reply held), so the current and the previous batch
 * are kept. For anything else the handle remembers at which key each batch
 * began, and reads on from there: listings and the cache are in the order of
 * keys, so nothing is lost or doubled where a listing has ended meanwhile or
 * names have come and gone. Position 0 begins anew with the names of now.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vfs/inode.h"
#include "vfs/listahead.h"
#include "vfs/offline.h"
#include "vfs/order.h"
#include "vfs/scan.h"
#include "vfs/walk.h"
#include "vfs/write.h"

enum {
	BATCH = 256,
	DOTS = 2, /* "." and ".." */
};

struct batch {
	uint64_t first; /* position of entries[0], DOTS not counted */
	unsigned n;
	struct meta_entry *entries;
	uint64_t changes; /* meta_changes when it was read or asked for */
	const bool *shown;
	bool *own_shown; /* ours to free, or NULL */
	struct scan_page *page; /* owns entries, or NULL: we do */
};

struct mark {
	uint64_t pos;
	char *after; /* the key up to which all was given before */
};

struct vfs_dir {
	struct vfs *v;
	struct inode *inode;
	struct scan *scan; /* NULL: read from the cache */
	bool started, ended;
	struct batch prev, cur;
	char after[ORDER_KEY_MAX]; /* the last key of cur */
	struct mark *marks; /* ascending */
	unsigned nmarks;
};

static void batch_release(struct vfs_dir *d, struct batch *b)
{
	if (b->page) {
		scan_page_put(d->scan, b->page);
	} else {
		for (unsigned i = 0; i < b->n; i++)
			meta_rec_release(&b->entries[i].rec);
		free(b->entries);
		free(b->own_shown);
	}
	memset(b, 0, sizeof(*b));
}

/* Goes back, to read on at the last mark before pos. */
static void resume_at(struct vfs_dir *d, uint64_t pos)
{
	unsigned k = d->nmarks;

	batch_release(d, &d->prev);
	batch_release(d, &d->cur);
	scan_put(d->v, d->scan);
	d->scan = NULL;
	d->started = d->ended = false;
	while (k && d->marks[k - 1].pos > pos)
		k--;
	d->cur.first = k ? d->marks[k - 1].pos : 0;
	snprintf(d->after, sizeof(d->after), "%s",
		 k ? d->marks[k - 1].after : "");
}

static void rewind_dir(struct vfs_dir *d)
{
	while (d->nmarks)
		free(d->marks[--d->nmarks].after);
	resume_at(d, 0);
}

static void mark(struct vfs_dir *d, uint64_t pos, const char *after)
{
	if (!pos || (d->nmarks && d->marks[d->nmarks - 1].pos >= pos))
		return;
	if ((d->nmarks & (d->nmarks - 1)) == 0)
		d->marks = xrealloc(d->marks,
				    (2 * d->nmarks + 1) * sizeof(*d->marks));
	d->marks[d->nmarks++] = (struct mark){ pos, xstrdup(after) };
}

int vfs_opendir(struct vfs *v, uint64_t ino, struct vfs_dir **ret)
{
	struct inode *i = inode_get(v, ino);
	struct vfs_dir *d;

	if (!i)
		return -ESTALE;
	if (i->kind != META_DIR) {
		inode_put(v, i);
		return -ENOTDIR;
	}
	d = xcalloc(1, sizeof(*d));
	d->v = v;
	d->inode = i;
	*ret = d;
	return 0;
}

void vfs_releasedir(struct vfs_dir *d)
{
	if (!d)
		return;
	rewind_dir(d);
	free(d->marks);
	inode_put(d->v, d->inode);
	free(d);
}

static int start_listing(struct vfs_dir *d, const struct vfs_ctx *ctx)
{
	bool walk = walk_expects(d->v, d->inode);

	if (walk && ctx->nowait)
		return -EAGAIN;
	if (walk && walk_list(d->v, ctx, d->inode))
		log_debug("vfs", "a page of a walk failed");
	if (dir_ttl(d->v, d->inode) == 0)
		d->scan = scan_join(d->v, d->inode);
	if (d->scan && dir_ttl(d->v, d->inode) > 0) {
		scan_put(d->v, d->scan); /* ended just now */
		d->scan = NULL;
	}
	listahead_reads(d->v, d->inode, !d->scan);
	return 0;
}

static int list_whole(struct vfs_dir *d, const struct vfs_ctx *ctx)
{
	struct scan_result whole;

	if (ctx->nowait)
		return -EAGAIN;
	listahead_reads(d->v, d->inode, false);
	return scan_advance(d->v, ctx, d->inode, UINT32_MAX, "", false, &whole);
}

/* Names that R2 does not have yet are in the cache only, so with such the
 * listing is taken to its end first. */
static int start(struct vfs_dir *d, const struct vfs_ctx *ctx)
{
	struct vfs *v = d->v;
	bool complete, staged;
	int err = 0;

	mutex_lock(&v->lock);
	complete = d->inode->unlinked ||
		   ttl_left(d->inode->complete_ns, offline_ttl(v)) > 0;
	staged = d->inode->staged > 0;
	mutex_unlock(&v->lock);
	if (!complete && staged)
		err = list_whole(d, ctx);
	else if (!complete)
		err = start_listing(d, ctx);
	else
		listahead_reads(v, d->inode, true);
	d->started = !err;
	return err;
}

/* Names that R2 does not have yet are there while somebody has them in hand. */
static bool is_there(struct vfs *v, const struct meta_rec *rec)
{
	return rec->kind != META_ABSENT &&
	       (!(rec->flags & META_STAGED) || inode_is_held(v, rec->ino));
}

static int next_from_cache(struct vfs_dir *d, struct batch *b)
{
	int n;

	b->changes = meta_changes(d->v->meta, d->inode->ino);
	n = order_list(d->v->meta, d->inode->ino, d->after, BATCH, &b->entries);
	if (n <= 0)
		return n;
	b->n = n;
	b->shown = b->own_shown = xcalloc(n, sizeof(*b->own_shown));
	for (int i = 0; i < n; i++)
		b->own_shown[i] = is_there(d->v, &b->entries[i].rec);
	return n;
}

/* What is shadowed was perhaps found late, and is not in its place.
 *
 * The page moves from cur to the new batch; cur keeps a reference of its own
 * only through prev, so take one before scan_next gives it up. */
static int next_from_scan(struct vfs_dir *d, const struct vfs_ctx *ctx,
			  struct batch *b)
{
	bool end;
	int err;

	b->page = scan_page_ref(d->scan, d->cur.page);
	err = scan_next(d->v, ctx, d->scan, &b->page, &end, NULL);
	if (err || end) {
		scan_page_put(d->scan, b->page);
		b->page = NULL;
		return err;
	}
	b->entries = b->page->entries;
	b->changes = b->page->changes;
	b->shown = b->page->shown;
	b->n = b->page->n;
	for (; b->n && order_compare(b->entries, d->after) <= 0; b->n--) {
		b->entries++;
		b->shown++;
	}
	for (unsigned k = b->n; k-- > 0;) {
		if (b->entries[k].rec.flags & META_SHADOWED)
			continue;
		order_key(&b->entries[k], d->after);
		break;
	}
	return 1;
}

/* 1: cur is the next batch; 0: the end; -errno. */
static int advance(struct vfs_dir *d, const struct vfs_ctx *ctx)
{
	char after[ORDER_KEY_MAX];
	struct batch b = { 0 };
	int r;

	memcpy(after, d->after, sizeof(after));
	r = d->scan ? next_from_scan(d, ctx, &b) : next_from_cache(d, &b);

	if (r <= 0) {
		d->ended |= r == 0;
		return r;
	}
	b.first = d->cur.first + d->cur.n;
	mark(d, b.first, after);
	batch_release(d, &d->prev);
	d->prev = d->cur;
	d->cur = b;
	return 1;
}

/* R2 does not answer, and what it said before will do. */
static bool take_cached(struct vfs_dir *d, int err)
{
	mutex_lock(&d->v->lock);
	bool known = d->inode->complete_ns > 0;
	mutex_unlock(&d->v->lock);
	return known && d->scan && offline_begin(d->v, err);
}

/* The batch that holds position pos, pulling forward; NULL at the end. */
static struct batch *batch_at(struct vfs_dir *d, const struct vfs_ctx *ctx,
			      uint64_t pos, int *err)
{
	*err = 0;
	if (pos < d->prev.first || (pos < d->cur.first && d->prev.n == 0))
		resume_at(d, pos);
	if (!d->started)
		*err = start(d, ctx);
	while (!*err) {
		if (pos < d->cur.first)
			return &d->prev;
		if (pos < d->cur.first + d->cur.n)
			return &d->cur;
		if (d->ended)
			return NULL;
		*err = advance(d, ctx);
		if (*err == -ESTALE || (*err < 0 && take_cached(d, *err))) {
			resume_at(d, pos);
			*err = start(d, ctx);
		} else if (*err > 0) {
			*err = 0;
		}
	}
	return NULL;
}

static bool emit_dots(struct vfs_dir *d, uint64_t *off, bool plus,
		      vfs_dir_emit *emit, void *arg)
{
	struct place place;

	if (inode_place(d->v, d->inode, &place))
		place.parent = NULL;
	struct inode *up = place.parent ? place.parent : d->inode;
	bool all = true;

	for (; all && *off < DOTS; *off += all) {
		struct vfs_dirent e = { .name = *off ? ".." : ".",
					.next_off = *off + 1 };

		inode_stat(d->v, *off ? up : d->inode, &e.entry.st);
		all = emit(&e, arg);
	}
	place_put(d->v, &place);
	return all;
}

/* Names change while a batch waits to be given: what the cache says now, into
 * *now (release), or the batch; NULL: the name is gone. */
static const struct meta_rec *newest(struct vfs_dir *d, const struct batch *b,
				     const struct meta_entry *m,
				     struct meta_rec *now)
{
	struct vfs *v = d->v;
	const struct meta_rec *rec = &m->rec;

	memset(now, 0, sizeof(*now));
	if (meta_changes(v->meta, d->inode->ino) == b->changes)
		return rec;
	if (meta_get(v->meta, d->inode->ino, m->name, now) == 0)
		rec = now;
	return is_there(v, rec) ? rec : NULL;
}

static bool emit_rec(struct vfs_dir *d, const char *name,
		     const struct meta_rec *rec, uint64_t next, bool plus,
		     vfs_dir_emit *emit, void *arg)
{
	struct vfs *v = d->v;
	struct vfs_dirent e = { .name = name, .next_off = next };
	struct inode *i;

	rec_stat(v, rec, &e.entry.st);
	if (!plus)
		return emit(&e, arg);
	i = inode_from_rec(v, d->inode, name, rec);
	inode_count_lookup(v, i);
	inode_stat(v, i, &e.entry.st);
	e.entry.ttl_ns = rec->flags & META_STAGED ?
				 v->config.metadata_ttl_ns :
				 offline_told(v, rec_ttl(v, rec));
	bool fits = emit(&e, arg);
	if (!fits)
		inode_untold(v, i);
	inode_put(v, i);
	if (!fits)
		vfs_forget(v, rec->ino, 1);
	return fits;
}

static bool emit_one(struct vfs_dir *d, const struct batch *b,
		     const struct meta_entry *m, uint64_t next, bool plus,
		     vfs_dir_emit *emit, void *arg, bool *any)
{
	struct meta_rec now;
	const struct meta_rec *rec = newest(d, b, m, &now);
	bool fits = !rec || emit_rec(d, m->name, rec, next, plus, emit, arg);

	*any |= rec && fits;
	meta_rec_release(&now);
	return fits;
}

int vfs_readdir(struct vfs_dir *d, const struct vfs_ctx *ctx, uint64_t off,
		bool plus, vfs_dir_emit *emit, void *arg)
{
	bool any = false;
	struct batch *b;
	int err;

	if (off == 0 && (d->cur.n || d->ended))
		rewind_dir(d);
	if (!emit_dots(d, &off, plus, emit, arg))
		return 0;
	for (;;) {
		b = batch_at(d, ctx, off - DOTS, &err);
		if (!b)
			return err;
		unsigned k = off - DOTS - b->first;

		for (; k < b->n; k++, off++) {
			if (!b->shown[k])
				continue;
			if (!emit_one(d, b, &b->entries[k], off + 1, plus, emit,
				      arg, &any))
				return 0;
		}
		if (any)
			return 0;
	}
}
