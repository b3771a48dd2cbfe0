/*
 * What comes next is looked up anew at each folder that is read, from there on
 * in the cache: so folders made or removed meanwhile, and those that a listing
 * ahead has just shown, need no care. A folder is listed by the same scan that
 * a reader would begin, so that a reader who comes meanwhile joins it and gets
 * its pages as they arrive.
 *
 * Why not io/predict: it follows paths within one folder, whose order is known
 * before the first is asked for, while the folders of a walk come to be known
 * as it goes on, and are followed down and up again.
 *
 * Of a folder's folders nobody knows whether they are small until some were
 * listed. Two are listed ahead to find out, which are as many as walk.h lists
 * before its first page.
 *
 * A listing that may not go on, as too much is unread, keeps its scan: the
 * reader goes on with it, or we do when the reader comes nearer.
 */
#include "vfs/listahead.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vfs/offline.h"
#include "vfs/order.h"
#include "vfs/scan.h"

#define PAUSE_NS 1000000000ull

enum {
	RUNS = 4, /* programs followed at once */
	BEGIN = 2, /* steps in order before anything is listed ahead */
	LISTS = 32, /* unread pages of a run, of which some are in memory */
	LONGEST = 8, /* pages of a folder; its reader goes on with the rest */
	UNKNOWN = 2, /* folders of one that may have small ones */
	LOOK = 1024, /* names looked at for the next folders */
	BATCH = 32,
	SKIPS = 4, /* folders read past one that was not */
};

/* A folder listed ahead. Lives while it is unread or its task runs. */
struct listing {
	struct task task;
	struct listahead *a;
	struct inode *dir; /* a reference */
	struct store_interrupt *interrupt;
	/* guarded by a->lock */
	struct list link; /* in run->unread, in the order of the walk */
	struct list flying; /* in a->flying while the task runs */
	struct run *run; /* NULL: read, or given up */
	struct scan *scan; /* stopped before its end, or NULL */
	unsigned lists; /* pages pulled */
	unsigned skipped;
	bool begun, used; /* for the counters */
	bool ended;
	bool inner; /* there are folders in it */
};

struct run {
	uint64_t at; /* the folder read last; 0: the run is free */
	uint64_t top; /* nothing beside this folder is listed ahead */
	uint64_t next; /* the folder expected next if none is unread */
	bool next_outside; /* it lies beside top, or higher */
	bool descended;
	unsigned steps; /* in order */
	unsigned lists; /* used by what was read */
	unsigned at_lists; /* of these: by the last */
	unsigned pages; /* of a folder, lately */
	int64_t last_ns, gap_ns; /* monotonic; between two folders */
	struct list unread;
	unsigned nunread;
};

struct listahead {
	struct vfs *v;
	struct mutex lock;
	/* guarded by lock */
	struct run runs[RUNS];
	struct list flying;
	unsigned nflying;
	bool ending;
	uint64_t throttled; /* as counted by the store */
	int64_t paused_ns; /* monotonic: begin nothing before */
	struct listahead_stats stats;

	atomic_uint unread; /* of all runs */
};

/* ---- listings ---- */

static void free_unused_locked(struct listahead *a, struct listing *l)
	REQUIRES(a->lock)
{
	if (l->run || !list_empty(&l->flying))
		return;
	scan_put(a->v, l->scan);
	inode_put(a->v, l->dir);
	store_interrupt_destroy(l->interrupt);
	free(l);
}

/* It was read, or will not be. */
static void drop_locked(struct listahead *a, struct listing *l)
	REQUIRES(a->lock)
{
	list_del(&l->link);
	l->run->nunread--;
	l->run = NULL;
	if (l->begun)
		++*(l->used ? &a->stats.used : &a->stats.wasted);
	atomic_fetch_sub(&a->unread, 1);
	free_unused_locked(a, l);
}

static void drop_all_locked(struct listahead *a, struct run *r)
	REQUIRES(a->lock)
{
	while (!list_empty(&r->unread))
		drop_locked(a, list_first(&r->unread, struct listing, link));
}

static struct listing *find_locked(struct run *r, uint64_t ino)
{
	list_for_each(n, &r->unread) {
		struct listing *l = list_entry(n, struct listing, link);

		if (l->dir->ino == ino)
			return l;
	}
	return NULL;
}

/* ---- how much ---- */

/* LISTs that may be made for r before its program reads on. */
static int credit_locked(const struct run *r)
{
	int left = r->lists < LISTS ? r->lists : LISTS;

	list_for_each(n, &r->unread) {
		const struct listing *l = list_entry(n, struct listing, link);

		left -= l->ended || l->lists > r->pages ? l->lists : r->pages;
	}
	return left;
}

/* Folders that will be read while their listings are believed. */
static unsigned in_time(const struct vfs *v, const struct run *r)
{
	int64_t ttl = v->config.metadata_ttl_ns;
	int64_t n = ttl / 2 / (r->gap_ns > 0 ? r->gap_ns : 1);

	return ttl == VFS_TTL_INDEFINITE || n > LISTS ? LISTS : n;
}

static bool is_held_back_locked(struct listahead *a) REQUIRES(a->lock)
{
	int64_t now = clock_mono_ns();
	struct store_counters c;

	store_counters_get(a->v->config.store, &c);
	if (c.throttled != a->throttled)
		a->paused_ns = now + PAUSE_NS;
	a->throttled = c.throttled;
	return a->ending || now < a->paused_ns || offline_is(a->v) ||
	       fills_pressed(a->v->config.fills);
}

static unsigned room_locked(struct listahead *a, const struct run *r)
	REQUIRES(a->lock)
{
	unsigned most = in_time(a->v, r);
	int credit = credit_locked(r);

	if (r->steps < BEGIN || credit <= 0 || is_held_back_locked(a))
		return 0;
	if (most > a->v->config.listahead)
		most = a->v->config.listahead;
	most = most > r->nunread ? most - r->nunread : 0;
	if (most > a->v->config.listahead - a->nflying)
		most = a->v->config.listahead - a->nflying;
	return most < credit / r->pages ? most : credit / r->pages;
}

/* How many of a folder's folders may be unread. */
static unsigned share_of(struct vfs *v, const struct inode *parent)
{
	mutex_lock(&v->lock);
	unsigned n = parent->walked > 0 ? 0 : parent->broad ? LISTS : UNKNOWN;
	mutex_unlock(&v->lock);
	return n;
}

/* ---- one listing ---- */

static bool is_wanted(struct vfs *v, struct inode *dir)
{
	mutex_lock(&v->lock);
	bool wanted = !dir->unlinked && dir->parent && dir->parent->walked <= 0;
	mutex_unlock(&v->lock);
	return wanted && dir_ttl(v, dir) == 0;
}

static bool may_go_on(struct listing *l)
{
	struct listahead *a = l->a;

	mutex_lock(&a->lock);
	bool may = l->run && !a->ending && l->lists < LONGEST &&
		   (l->lists < l->run->pages || credit_locked(l->run) > 0) &&
		   (!l->lists || !is_held_back_locked(a));
	mutex_unlock(&a->lock);
	return may;
}

/* False: it has been read, or given up. */
static bool begin_scan(struct listing *l)
{
	mutex_lock(&l->a->lock);
	bool wanted = l->run;

	if (wanted && !l->begun) {
		l->begun = true;
		l->a->stats.folders++;
	}
	mutex_unlock(&l->a->lock);
	return wanted;
}

static void count_page(struct listing *l, const struct scan_page *page)
{
	bool inner = false;

	for (unsigned i = 0; i < page->n && !inner; i++)
		inner = page->entries[i].rec.kind == META_DIR;
	mutex_lock(&l->a->lock);
	l->lists++;
	l->inner |= inner;
	l->ended = page->last;
	mutex_unlock(&l->a->lock);
}

/* Pulls pages of s until its end, or until enough is unread. */
static int pull(struct listing *l, struct scan *s)
{
	const struct vfs_ctx ctx = { .interrupt = l->interrupt };
	struct scan_page *page = NULL;
	bool end = false;
	int err = 0;

	while (!end && !err && may_go_on(l)) {
		err = scan_next(l->a->v, &ctx, s, &page, &end, NULL);
		if (!err && !end)
			count_page(l, page);
		end |= page && page->last;
	}
	scan_page_put(s, page);
	return err;
}

static void land(struct listing *l, struct scan *s, int err)
{
	struct listahead *a = l->a;

	mutex_lock(&a->lock);
	list_del(&l->flying);
	a->nflying--;
	if (err)
		a->paused_ns = clock_mono_ns() + PAUSE_NS;
	l->scan = s;
	free_unused_locked(a, l);
	mutex_unlock(&a->lock);
}

static void run_listing(struct task *t)
{
	struct listing *l = container_of(t, struct listing, task);
	struct vfs *v = l->a->v;
	struct scan *s = TAKE(l->scan);
	int err = 0;

	if (!s && is_wanted(v, l->dir) && may_go_on(l) && begin_scan(l))
		s = scan_join(v, l->dir);
	if (s && dir_ttl(v, l->dir) == 0)
		err = pull(l, s);
	if (s && (err || dir_ttl(v, l->dir) > 0)) {
		scan_put(v, s);
		s = NULL;
	}
	land(l, s, err);
}

/* ---- what comes next ---- */

/* A look from a folder on. */
struct look {
	struct listahead *a;
	struct run *r;
	struct list *tasks; /* to be begun */
	struct list *place; /* in r->unread, of what comes next */
	unsigned room, names;
	bool outside;
};

static void take_off_locked(struct look *k, struct listing *l)
	REQUIRES(k->a->lock)
{
	list_add_tail(&k->a->flying, &l->flying);
	k->a->nflying++;
	list_add_tail(k->tasks, &l->task.link);
}

static void begin_locked(struct look *k, struct inode *parent,
			 const struct meta_entry *e) REQUIRES(k->a->lock)
{
	struct listing *l = xcalloc(1, sizeof(*l));

	l->task.run = run_listing;
	l->a = k->a;
	l->dir = inode_from_rec(k->a->v, parent, e->name, &e->rec);
	l->interrupt = store_interrupt_create();
	l->run = k->r;
	list_init(&l->flying);
	list_add_head(k->place, &l->link);
	k->place = &l->link;
	k->r->nunread++;
	k->room--;
	atomic_fetch_add(&k->a->unread, 1);
	take_off_locked(k, l);
}

static bool is_known(struct vfs *v, uint64_t ino)
{
	struct meta_dir dir;

	return meta_dir_get(v->meta, ino, &dir) == 0 &&
	       ttl_left(dir.complete_ns, offline_ttl(v)) > 0;
}

static bool visit_locked(struct look *k, struct inode *parent, const char *from)
	REQUIRES(k->a->lock);

/* False: that is enough. */
static bool visit_one_locked(struct look *k, struct inode *parent,
			     const struct meta_entry *e, unsigned *share)
	REQUIRES(k->a->lock)
{
	struct listing *l = find_locked(k->r, e->rec.ino);
	bool known = is_known(k->a->v, e->rec.ino);

	if (l) {
		k->place = &l->link;
		*share -= *share > 0;
		return !known || !l->inner || visit_locked(k, l->dir, "");
	}
	if (known)
		return true;
	if (k->room && *share) {
		begin_locked(k, parent, e);
		--*share;
	} else if (!k->r->next) {
		k->r->next = e->rec.ino;
		k->r->next_outside = k->outside;
	}
	return k->room || !k->r->next;
}

/* The folders in parent from a key on, and those in them that were listed
 * ahead. */
static bool visit_locked(struct look *k, struct inode *parent, const char *from)
{
	unsigned share = share_of(k->a->v, parent);
	char after[ORDER_KEY_MAX];
	bool more = true;
	int n = 1;

	snprintf(after, sizeof(after), "%s", from);
	while (more && n > 0 && k->names) {
		struct meta_entry *e;

		n = order_list(k->a->v->meta, parent->ino, after, BATCH, &e);
		for (int i = 0; i < n; i++) {
			if (more && e[i].rec.kind == META_DIR)
				more = visit_one_locked(k, parent, &e[i],
							&share);
			meta_rec_release(&e[i].rec);
		}
		if (n > 0) {
			free(e);
			k->names -= n < (int)k->names ? n : (int)k->names;
		}
	}
	return more && k->names;
}

/* Beside dir, and beside the folders above it. */
static void visit_after_locked(struct look *k, struct inode *dir)
	REQUIRES(k->a->lock)
{
	struct vfs *v = k->a->v;
	struct inode *i = inode_get(v, dir->ino);
	bool more = i;

	while (more) {
		char key[ORDER_KEY_MAX];
		struct place p;

		more = inode_place(v, i, &p) == 0 && p.parent &&
		       dir_ttl(v, p.parent) > 0;
		if (more) {
			snprintf(key, sizeof(key), "%s/", p.name);
			more = visit_locked(k, p.parent, key);
			k->outside |= p.parent->ino == k->r->top;
			k->room = k->outside ? 0 : k->room;
		}
		inode_put(v, i);
		i = p.parent;
	}
	inode_put(v, i);
}

static void wake_locked(struct look *k) REQUIRES(k->a->lock)
{
	list_for_each(n, &k->r->unread) {
		struct listing *l = list_entry(n, struct listing, link);

		if (list_empty(&l->flying) && l->scan && l->lists < LONGEST &&
		    k->room) {
			take_off_locked(k, l);
			k->room--;
		}
	}
}

static void look_locked(struct listahead *a, struct run *r, struct inode *dir,
			bool inner, struct list *tasks) REQUIRES(a->lock)
	UNCHECKED
{
	struct look k = { .a = a,
			  .r = r,
			  .tasks = tasks,
			  .place = &r->unread,
			  .room = room_locked(a, r),
			  .names = LOOK };

	r->next = 0;
	wake_locked(&k);
	if (!inner || visit_locked(&k, dir, ""))
		visit_after_locked(&k, dir);
}

/* ---- what programs do ---- */

static void restart_locked(struct listahead *a, struct run *r, uint64_t top)
	REQUIRES(a->lock)
{
	drop_all_locked(a, r);
	r->top = top;
	r->descended = false;
	r->steps = 0;
	r->lists = 0;
	r->pages = 1;
	r->gap_ns = 0;
}

static struct run *oldest_locked(struct listahead *a) REQUIRES(a->lock)
{
	struct run *oldest = &a->runs[0];

	for (unsigned i = 1; i < RUNS; i++)
		if (a->runs[i].last_ns < oldest->last_ns)
			oldest = &a->runs[i];
	return oldest;
}

/* Those that should have been read before. True: there are too many. */
static bool skip_locked(struct run *r, const struct listing *read)
{
	list_for_each(n, &r->unread) {
		struct listing *l = list_entry(n, struct listing, link);

		if (l == read)
			return false;
		if (++l->skipped > SKIPS)
			return true;
	}
	return false;
}

/* The program reads what was listed ahead for it. */
static void take_locked(struct listahead *a, struct run *r, struct listing *l,
			uint64_t top, bool known, bool *inner) REQUIRES(a->lock)
{
	bool expired = l->ended && dir_ttl(a->v, l->dir) == 0;

	l->used = !expired;
	*inner = l->inner && l->ended && !expired;
	r->at_lists = l->lists || known ? l->lists : 1;
	if (l->ended)
		r->pages = r->at_lists;
	if (skip_locked(r, l) || expired)
		restart_locked(a, r, top);
	else
		drop_locked(a, l);
	r->steps++;
}

/* The run that dir goes on with, or a new one; NULL: it says nothing new. */
static struct run *follow_locked(struct listahead *a, struct inode *dir,
				 uint64_t parent, bool known, bool *inner)
	REQUIRES(a->lock)
{
	struct run *r;

	for (unsigned i = 0; i < RUNS; i++) {
		struct listing *l = find_locked(&a->runs[i], dir->ino);

		if (!l)
			continue;
		take_locked(a, &a->runs[i], l, parent, known, inner);
		return &a->runs[i];
	}
	if (known)
		return NULL;
	for (unsigned i = 0; i < RUNS; i++) {
		r = &a->runs[i];
		if (r->at == dir->ino)
			return NULL;
		if (r->next == dir->ino) {
			r->top = r->next_outside ? parent : r->top;
			r->steps++;
			r->at_lists = 1;
			return r;
		}
		if (r->at && r->at == parent) {
			r->top = r->descended ? r->top : parent;
			r->lists = r->steps ? r->lists : 0;
			r->descended = true;
			r->at_lists = 1;
			return r;
		}
	}
	r = oldest_locked(a);
	restart_locked(a, r, parent);
	r->at_lists = 1;
	return r;
}

static void move_locked(struct run *r, uint64_t at)
{
	int64_t now = clock_mono_ns(), gap = now - r->last_ns;

	if (r->lists)
		r->gap_ns = r->gap_ns ? (3 * r->gap_ns + gap) / 4 : gap;
	r->last_ns = now;
	r->at = at;
	r->lists += r->at_lists;
}

void listahead_reads(struct vfs *v, struct inode *dir, bool known)
{
	struct listahead *a = v->listahead;
	struct list tasks;
	struct place p;
	bool inner = false;

	if (!a || (known && !atomic_load(&a->unread)) ||
	    inode_place(v, dir, &p))
		return;
	list_init(&tasks);
	mutex_lock(&a->lock);
	struct run *r = follow_locked(a, dir, p.parent ? p.parent->ino : 0,
				      known, &inner);

	if (r) {
		move_locked(r, dir->ino);
		look_locked(a, r, dir, inner, &tasks);
	}
	mutex_unlock(&a->lock);
	place_put(v, &p);
	list_for_each_safe(n, tmp, &tasks) {
		list_del(n);
		tasks_submit(v->config.tasks, list_entry(n, struct task, link));
	}
}

void listahead_listed(struct vfs *v, struct inode *dir, unsigned pages)
{
	struct listahead *a = v->listahead;

	if (!a)
		return;
	mutex_lock(&a->lock);
	for (unsigned i = 0; i < RUNS; i++) {
		struct run *r = &a->runs[i];

		if (r->at != dir->ino || r->at_lists > pages)
			continue;
		r->lists += pages - r->at_lists;
		r->at_lists = pages;
		r->pages = pages < LONGEST ? pages : LONGEST;
	}
	mutex_unlock(&a->lock);
}

void listahead_stats_get(struct listahead *a, struct listahead_stats *ret)
{
	*ret = (struct listahead_stats){ 0 };
	if (!a)
		return;
	mutex_lock(&a->lock);
	*ret = a->stats;
	mutex_unlock(&a->lock);
}

/* ---- life ---- */

struct listahead *listahead_create(struct vfs *v)
{
	struct listahead *a;

	if (!v->config.listahead || v->config.metadata_ttl_ns <= 0)
		return NULL;
	a = xcalloc(1, sizeof(*a));
	a->v = v;
	mutex_init(&a->lock);
	list_init(&a->flying);
	for (unsigned i = 0; i < RUNS; i++)
		list_init(&a->runs[i].unread);
	return a;
}

void listahead_stop(struct listahead *a)
{
	if (!a)
		return;
	mutex_lock(&a->lock);
	a->ending = true;
	list_for_each(n, &a->flying)
		store_interrupt_raise(
			list_entry(n, struct listing, flying)->interrupt);
	mutex_unlock(&a->lock);
}

void listahead_destroy(struct listahead *a)
{
	if (!a)
		return;
	mutex_lock(&a->lock);
	for (unsigned i = 0; i < RUNS; i++)
		drop_all_locked(a, &a->runs[i]);
	mutex_unlock(&a->lock);
	mutex_release(&a->lock);
	free(a);
}
