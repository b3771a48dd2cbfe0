/*
 * Listing a directory: R2 gives 1,000 names a request, in sequence, because
 * each page names the next. Many processes list the same folder at the same
 * time (every rank of a training job walks the data set at start), so the
 * pages are pulled once and shared.
 *
 * A page becomes entries in three steps: turn keys into names (hiding what
 * cannot be one), settle an object `a` beside a folder `a/`, and merge into
 * the cache, which returns inode numbers and what it already knew. An object
 * sorts before the folder of its name, but other names may lie between them,
 * even a page end; then the object has been shown as `a` already, the folder
 * takes the name in the cache, and only the object's suffixed name is added.
 *
 * The listing of the cache begins with the first pull, not with the scan: two
 * who want a scan at the same moment both make one, and the cache keeps only
 * the listing begun last.
 *
 * The lock of a scan guards its chain and flags; a pull runs without it.
 */
#include "vfs/scan.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vfs/level.h"
#include "vfs/listahead.h"
#include "vfs/removal.h"
#include "vfs/walk.h"

enum {
	JOIN_PAGES = 16, /* the first page is held until so many are pulled */
	JOIN_NS = 2000000000, /* old enough for who asks what is there now */
	CHAIN_PAGES = 64, /* a reader so far behind the others starts again */
};

struct scan {
	struct mutex lock;
	struct cond pulled;
	unsigned refs; /* guarded by vfs.lock */
	struct inode *dir;
	uint32_t gen;
	int64_t started_ns;
	uint64_t hidden;
	unsigned turns; /* of dir, when it began */
	/* by the one who pulls */
	bool flat; /* the first page is not grouped by '/' */
	char *last_key; /* a flat page ended here, NULL: it did not */
	char *last_dir; /* the folder that it ended in */
	/* guarded by lock */
	bool flying;
	bool done; /* the last page is in the chain */
	bool partial; /* the cache lacks names of a page */
	bool moved; /* a page was asked for while its keys were moving */
	char *token;
	unsigned pages;
	unsigned live; /* pages in memory */
	struct scan_page *head; /* for newcomers; dropped after JOIN_PAGES */
	struct scan_page *tail;
};

static void page_put_locked(struct scan *s, struct scan_page *p)
{
	while (p && --p->refs == 0) {
		struct scan_page *next = p->next;

		for (unsigned i = 0; i < p->n; i++)
			meta_rec_release(&p->entries[i].rec);
		free(p->entries);
		free(p->shown);
		free(p);
		s->live--;
		p = next;
	}
}

struct scan_page *scan_page_ref(struct scan *s, struct scan_page *page)
{
	if (page) {
		mutex_lock(&s->lock);
		page->refs++;
		mutex_unlock(&s->lock);
	}
	return page;
}

void scan_page_put(struct scan *s, struct scan_page *page)
{
	mutex_lock(&s->lock);
	page_put_locked(s, page);
	mutex_unlock(&s->lock);
}

static struct scan *scan_new(struct vfs *v, struct inode *dir, bool flat)
{
	struct scan *s = xcalloc(1, sizeof(*s));

	mutex_init(&s->lock);
	cond_init(&s->pulled);
	s->refs = 1;
	s->dir = dir;
	s->started_ns = clock_wall_ns();
	mutex_lock(&v->lock);
	s->flat = flat && !dir->crowded;
	s->turns = dir->turns;
	mutex_unlock(&v->lock);
	return s;
}

static void scan_free(struct vfs *v, struct scan *s)
{
	page_put_locked(s, s->head);
	page_put_locked(s, s->tail);
	free(s->token);
	free(s->last_key);
	free(s->last_dir);
	cond_release(&s->pulled);
	mutex_release(&s->lock);
	inode_put(v, s->dir);
	free(s);
}

static bool joinable_locked(struct scan *s, int64_t age_ns)
{
	bool ok;

	mutex_lock(&s->lock);
	ok = s->turns == s->dir->turns && (s->pages == 0 || s->head) &&
	     clock_wall_ns() - s->started_ns < age_ns;
	mutex_unlock(&s->lock);
	return ok;
}

/* Joins the directory's scan, or makes fresh (may be NULL) the one to join. */
static struct scan *join(struct vfs *v, struct inode *dir, struct scan *fresh,
			 int64_t age_ns)
{
	mutex_lock(&v->lock);
	struct scan *s = dir->scan;
	if (s && joinable_locked(s, age_ns)) {
		s->refs++;
	} else if (fresh) {
		dir->scan = fresh;
		s = fresh;
	} else {
		s = NULL;
	}
	mutex_unlock(&v->lock);
	return s;
}

static struct scan *join_or_begin(struct vfs *v, struct inode *dir, bool flat,
				  int64_t age_ns)
{
	struct scan *s = join(v, dir, NULL, age_ns), *fresh;

	if (s)
		return s;
	fresh = scan_new(v, inode_get(v, dir->ino), flat);
	s = join(v, dir, fresh, age_ns);
	if (s != fresh)
		scan_free(v, fresh);
	return s;
}

struct scan *scan_join(struct vfs *v, struct inode *dir)
{
	int64_t ttl = v->config.metadata_ttl_ns;

	return join_or_begin(v, dir, false, ttl > JOIN_NS ? ttl : JOIN_NS);
}

static void leave_locked(struct scan *s)
{
	if (s->dir->scan == s)
		s->dir->scan = NULL;
}

void scan_put(struct vfs *v, struct scan *s)
{
	bool last;

	if (!s)
		return;
	mutex_lock(&v->lock);
	last = --s->refs == 0;
	if (last)
		leave_locked(s);
	mutex_unlock(&v->lock);
	if (last)
		scan_free(v, s);
}

/* ---- one page: from LIST entries to directory entries ---- */

/* A file shown by an earlier page turns out to have a folder of its name: adds
 * an entry for it. */
static void shadow_earlier(struct vfs *v, struct scan *s, struct scan_page *p,
			   struct level *l, unsigned dir)
{
	struct meta_entry *e = &l->entries[l->n];

	if (meta_get(v->meta, s->dir->ino, l->entries[dir].name, &e->rec))
		return;
	if (e->rec.kind != META_FILE || e->rec.checked_ns < s->started_ns) {
		meta_rec_release(&e->rec);
		memset(e, 0, sizeof(*e));
		return;
	}
	strcpy(e->name, l->entries[dir].name);
	e->rec.ino = 0;
	if (!level_shadow(l, l->n))
		return;
	p->shown[dir] = false;
	p->shown[l->n++] = true;
}

static void settle_twins(struct vfs *v, struct scan *s, struct scan_page *p,
			 struct level *l)
{
	unsigned n = l->n;

	for (unsigned i = 0; i < n; i++) {
		p->shown[i] = true;
		if (l->entries[i].rec.kind == META_DIR && !level_settle(l, i) &&
		    s->pages > 0)
			shadow_earlier(v, s, p, l, i);
	}
}

/* The folder that a flat page ended in comes again. */
static void hide_again(struct scan *s, struct scan_page *p,
		       const struct level *l)
{
	for (unsigned i = 0; s->last_dir && i < l->n; i++)
		if (strcmp(l->entries[i].name, s->last_dir) == 0)
			p->shown[i] = false;
}

void dir_complete(struct vfs *v, uint64_t ino, int64_t asked_ns,
		  uint64_t hidden)
{
	struct inode *dir = inode_get(v, ino);

	mutex_lock(&v->lock);
	v->stats.hidden_keys += hidden;
	if (dir && dir->complete_ns < asked_ns)
		dir->complete_ns = asked_ns;
	mutex_unlock(&v->lock);
	if (dir)
		inode_put(v, dir);
}

void inode_is_empty(struct vfs *v, struct inode *dir)
{
	int64_t now = clock_wall_ns();
	uint32_t gen;

	if (meta_dir_begin(v->meta, dir->ino, &gen) ||
	    meta_dir_end(v->meta, dir->ino, gen, now, 0))
		return;
	mutex_lock(&v->lock);
	dir->complete_ns = now;
	mutex_unlock(&v->lock);
}

/* ---- pulling ---- */

static void chain_locked(struct scan *s, struct scan_page *p)
{
	if (!s->tail) {
		p->refs++;
		s->head = p;
	} else if (s->live < CHAIN_PAGES) {
		p->refs++;
		s->tail->next = p;
	}
	page_put_locked(s, s->tail);
	s->tail = p;
	s->live++;
	if (++s->pages == JOIN_PAGES) {
		page_put_locked(s, s->head);
		s->head = NULL;
	}
	s->done = p->last;
}

static int ask_page(struct vfs *v, const struct vfs_ctx *ctx, struct scan *s,
		    const char *prefix, struct store_req *req)
{
	int err;

	req->prefix = prefix;
	req->delimiter = !s->flat;
	req->token = s->token;
	req->start_after = s->token ? NULL : s->last_key;
	err = store_call(v->config.store, req, ctx->interrupt);
	req->prefix = req->token = req->start_after = NULL;
	mutex_lock(&v->lock);
	v->stats.lists++;
	mutex_unlock(&v->lock);
	return err;
}

/* A flat page is taken for what it says of this folder, and the rest is asked
 * for grouped. */
static void end_flat(struct vfs *v, struct scan *s,
		     const struct store_list *list, const struct level *l)
{
	const struct meta_entry *last = l->n ? &l->entries[l->n - 1] : NULL;

	s->flat = false;
	if (!list->truncated || !list->n)
		return;
	s->last_key = xstrdup(list->entries[list->n - 1].name);
	if (last && last->rec.kind == META_DIR)
		s->last_dir = xstrdup(last->name);
	mutex_lock(&v->lock);
	s->dir->crowded |= s->last_dir != NULL;
	mutex_unlock(&v->lock);
}

static void take_page(struct vfs *v, struct scan *s, struct scan_page *p,
		      struct store_req *req, size_t skip, int64_t asked_ns,
		      bool still)
{
	const struct level_page page = { &req->list, asked_ns };
	bool flat = s->flat, merged;
	struct level l;

	level_cut(&l, &page, 0, req->list.n, skip);
	p->refs = 1;
	p->last = !req->list.truncated;
	p->shown = xcalloc(l.max, sizeof(*p->shown));
	settle_twins(v, s, p, &l);
	hide_again(s, p, &l);
	s->hidden += l.hidden + req->list.skipped;
	if (flat)
		end_flat(v, s, &req->list, &l);
	merged = meta_dir_page(v->meta, s->dir->ino, s->gen, l.entries, l.n) ==
		 0;
	if (flat && merged && still)
		level_keep_below(v, &l, &page, skip);
	for (unsigned i = 0; i < l.n; i++)
		p->shown[i] &= l.entries[i].rec.kind != META_ABSENT;
	for (unsigned i = 0; !merged && i < l.n; i++)
		if (!l.entries[i].rec.ino)
			l.entries[i].rec.ino = meta_new_ino(v->meta);
	p->n = l.n;
	p->entries = TAKE(l.entries);
	l.n = 0;
	level_release(&l);

	mutex_lock(&s->lock);
	free(s->token);
	s->token = req->list.next_token && !flat ?
			   xstrdup(req->list.next_token) :
			   NULL;
	s->partial |= !merged;
	chain_locked(s, p);
	mutex_unlock(&s->lock);
}

/* Does dir, whose key was prefix, lie below a folder that is moving? */
static bool is_moving(struct vfs *v, struct inode *dir, const char *prefix)
{
	char now[STORE_KEY_MAX + 1];
	bool is = inode_key(v, dir, now) || strcmp(now, prefix) != 0;

	mutex_lock(&v->lock);
	for (struct inode *i = dir; i; i = i->parent)
		is |= i->moving;
	mutex_unlock(&v->lock);
	return is;
}

/* What is removed from now on is newer than the page, or waited for. */
static int list_page(struct vfs *v, const struct vfs_ctx *ctx, struct scan *s,
		     struct store_req *req)
{
	char prefix[STORE_KEY_MAX + 1];
	uint64_t before, changes = meta_changes(v->meta, s->dir->ino);
	int64_t asked_ns = clock_wall_ns();
	struct scan_page *p;
	bool moved;
	int err = inode_wait_settled(v, ctx, s->dir);

	if (!err)
		err = inode_key(v, s->dir, prefix);
	if (!err)
		err = removal_wait_below(v, ctx, prefix);
	if (err)
		return err;
	if (s->pages == 0 && meta_dir_begin(v->meta, s->dir->ino, &s->gen))
		s->gen = 0;
	before = folder_moves(v);
	moved = is_moving(v, s->dir, prefix);
	err = ask_page(v, ctx, s, prefix, req);
	if (!err && s->flat && !level_sorted(&req->list)) {
		s->flat = false;
		store_list_release(&req->list);
		err = ask_page(v, ctx, s, prefix, req);
	}
	if (err)
		return err;
	moved |= is_moving(v, s->dir, prefix);
	mutex_lock(&s->lock);
	s->moved |= moved;
	mutex_unlock(&s->lock);
	level_below(&req->list, prefix);
	if (!s->flat)
		level_sort(&req->list);
	p = xcalloc(1, sizeof(*p));
	p->changes = changes;
	take_page(v, s, p, req, strlen(prefix), asked_ns,
		  before && before == folder_moves(v));
	return 0;
}

static void finish(struct vfs *v, struct scan *s)
{
	int err = s->moved ? -ESTALE :
			     meta_dir_end(v->meta, s->dir->ino, s->gen,
					  s->started_ns, s->hidden);

	if (!err) {
		walk_listed(v, s->dir, s->pages == 1 ? s->head->n : UINT_MAX);
		listahead_listed(v, s->dir, s->pages);
	}
	mutex_lock(&v->lock);
	v->stats.hidden_keys += s->hidden;
	if (!err && s->dir->complete_ns < s->started_ns)
		s->dir->complete_ns = s->started_ns;
	if (!err)
		s->dir->asked = 0;
	leave_locked(s);
	mutex_unlock(&v->lock);
}

/* Lets exactly one caller pull the page after the one the chain ends with. */
static int pull(struct vfs *v, const struct vfs_ctx *ctx, struct scan *s,
		struct store_req *probe)
{
	struct store_req own;
	struct store_req *req = probe ? probe : &own;
	bool done;
	int err;

	store_req_init(req, STORE_LIST);
	err = list_page(v, ctx, s, req);
	if (!probe)
		store_req_release(req);
	mutex_lock(&s->lock);
	done = !err && s->done;
	mutex_unlock(&s->lock);
	if (done)
		finish(v, s);
	mutex_lock(&s->lock);
	s->flying = false;
	cond_broadcast(&s->pulled);
	mutex_unlock(&s->lock);
	return err;
}

static struct scan_page *after_locked(struct scan *s, struct scan_page *page)
{
	return page ? page->next : s->head;
}

int scan_next(struct vfs *v, const struct vfs_ctx *ctx, struct scan *s,
	      struct scan_page **page, bool *end, struct store_req *probe)
{
	struct scan_page *next;
	bool pulled = false;
	int err = 0;

	*end = false;
	store_interrupt_wakes(ctx->interrupt, &s->lock, &s->pulled);
	mutex_lock(&s->lock);
	while (!(next = after_locked(s, *page)) && !err) {
		if (pulled) {
			next = s->tail; /* ours, left out of the chain */
			break;
		}
		if (*page && (*page)->last) {
			*end = true;
			break;
		}
		if (s->pages > 0 && *page != s->tail) {
			err = -ESTALE;
		} else if (ctx->nowait) {
			err = -EAGAIN;
		} else if (!s->flying) {
			s->flying = true;
			mutex_unlock(&s->lock);
			err = pull(v, ctx, s, probe);
			pulled = !err;
			store_interrupt_wakes(ctx->interrupt, &s->lock,
					      &s->pulled);
			mutex_lock(&s->lock);
		} else if (store_interrupt_raised(ctx->interrupt)) {
			err = -EINTR;
		} else {
			cond_wait(&s->pulled, &s->lock);
		}
	}
	if (next) {
		next->refs++;
		page_put_locked(s, *page);
		*page = next;
	}
	mutex_unlock(&s->lock);
	store_interrupt_wakes(ctx->interrupt, NULL, NULL);
	return err;
}

static bool find_name(const struct scan_page *page, const char *name,
		      struct meta_rec *ret)
{
	for (unsigned i = 0; i < page->n; i++) {
		if (strcmp(page->entries[i].name, name) != 0)
			continue;
		*ret = page->entries[i].rec;
		ret->blob = NULL;
		ret->blob_len = 0;
		ret->flags &= ~META_HAS_HEADERS;
		return true;
	}
	return false;
}

int scan_advance(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
		 unsigned max_pages, const char *name, bool flat,
		 struct scan_result *ret)
{
	struct scan *s = join_or_begin(v, dir, flat, JOIN_NS);
	struct scan_page *page = NULL;
	bool end = false;
	int err = 0;

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < max_pages && !end && !err; i++) {
		if (flat && ret->found)
			break;
		struct scan_page *before = page;

		err = scan_next(v, ctx, s, &page, &end, NULL);
		end |= page && page->last;
		if (!err && page != before && find_name(page, name, &ret->rec))
			ret->found = true;
	}
	mutex_lock(&s->lock);
	ret->complete = end && !s->moved;
	ret->merged = ret->complete && !s->partial;
	ret->started_ns = s->started_ns;
	mutex_unlock(&s->lock);
	scan_page_put(s, page);
	scan_put(v, s);
	return err;
}
