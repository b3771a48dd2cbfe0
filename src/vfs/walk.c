/*
 * The page is asked for below the parent, after the slash of the folder: so it
 * begins with what the folder holds, and goes on with the folders that a walk
 * in order reaches next. Of them only those are taken of which nothing is
 * known yet. When a page shows all the rest of a parent, the folders beside the
 * parent are probably as small, so that the next page begins a level higher.
 *
 * Walkers that share a tree wait for each other's page.
 */
#include "vfs/walk.h"

#include <string.h>

#include "base/clock.h"
#include "vfs/level.h"
#include "vfs/removal.h"
#include "vfs/scan.h"

enum {
	SMALL = 200, /* entries: a page shows several such folders */
	BEGIN = 2, /* small folders listed one by one */
	NEVER = -1000000,
};

static void count_locked(struct inode *dir, bool small)
{
	if (!dir)
		return;
	dir->broad |= !small;
	if (small)
		dir->walked++;
	else if (dir->walked > 0)
		dir->walked = 0;
}

void walk_listed(struct vfs *v, struct inode *dir, unsigned entries)
{
	mutex_lock(&v->lock);
	count_locked(dir->parent, entries <= SMALL);
	mutex_unlock(&v->lock);
}

bool walk_expects(struct vfs *v, struct inode *dir)
{
	mutex_lock(&v->lock);
	bool yes = dir->parent && dir->parent->walked >= BEGIN &&
		   !dir->complete_ns && !dir->scan;
	mutex_unlock(&v->lock);
	return yes;
}

/* The numbers of the folders of a level; 0 for those that are not known. */
static void number(struct vfs *v, struct inode *parent, struct level *l)
{
	for (unsigned i = 0; i < l->n; i++) {
		struct meta_rec rec;

		if (meta_get(v->meta, parent->ino, l->entries[i].name, &rec))
			continue;
		if (rec.kind == META_DIR)
			l->entries[i].rec.ino = rec.ino;
		meta_rec_release(&rec);
	}
}

static bool begins_with(const struct level *l, const char *name)
{
	return l->n && strcmp(l->entries[0].name, name) == 0;
}

static void keep(struct vfs *v, struct place *p, struct inode *dir,
		 const struct level_page *page, size_t skip)
{
	struct level l;

	level_cut(&l, page, 0, page->list->n, skip);
	number(v, p->parent, &l);
	level_keep_below(v, &l, page, skip);
	if (!begins_with(&l, p->name) &&
	    meta_dir_fill(v->meta, dir->ino, NULL, 0, page->asked_ns, 0) == 0)
		dir_complete(v, dir->ino, page->asked_ns, 0);
	level_release(&l);
}

/* Did the page do what it was asked for? The folder may hold more than a page,
 * or be known in part already. */
static void judge(struct vfs *v, struct inode *dir,
		  const struct store_list *list, const char *after)
{
	const char *last = list->n ? list->entries[list->n - 1].name : "";

	mutex_lock(&v->lock);
	struct inode *parent = dir->parent;

	if (parent && list->truncated &&
	    strncmp(last, after, strlen(after)) == 0) {
		parent->walked = NEVER;
		parent->broad = true;
	} else if (parent && !dir->complete_ns) {
		parent->walked = 0;
	} else if (parent && parent->parent && !list->truncated) {
		parent->parent->walked += BEGIN;
	}
	mutex_unlock(&v->lock);
}

static bool in_order(const struct store_list *list, const char *after)
{
	return level_sorted(list) &&
	       (!list->n || strcmp(list->entries[0].name, after) > 0);
}

static int ask(struct vfs *v, const struct vfs_ctx *ctx, struct place *p,
	       struct inode *dir)
{
	char prefix[STORE_KEY_MAX + 1], after[STORE_KEY_MAX + 1];
	uint64_t before = folder_moves(v);
	int64_t asked_ns = clock_wall_ns();
	struct store_req req;
	int err = inode_key(v, p->parent, prefix);

	if (!err)
		err = inode_child_key(v, p->parent, p->name, true, after);
	if (!err)
		err = removal_wait_below(v, ctx, prefix);
	if (err)
		return err;
	store_req_init(&req, STORE_LIST);
	req.prefix = prefix;
	req.start_after = after;
	err = store_call(v->config.store, &req, ctx->interrupt);
	mutex_lock(&v->lock);
	v->stats.lists++;
	mutex_unlock(&v->lock);
	if (!err && in_order(&req.list, after) && before &&
	    before == folder_moves(v)) {
		struct level_page page = { &req.list, asked_ns };

		level_below(&req.list, prefix);
		keep(v, p, dir, &page, strlen(prefix));
	}
	if (!err)
		judge(v, dir, &req.list, after);
	store_req_release(&req);
	return err;
}

int walk_list(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir)
{
	struct flight f = { .name = "/" };
	struct place p;
	bool again;
	int err = inode_place(v, dir, &p);

	if (err)
		return err;
	if (!p.parent)
		return 0;
	f.parent = p.parent->ino;
	do {
		err = flight_begin(v, ctx, &f, true, &again);
	} while (!err && again && dir_ttl(v, dir) == 0);
	if (!err && !again) {
		if (dir_ttl(v, dir) == 0)
			err = ask(v, ctx, &p, dir);
		flight_end(v, &f);
	}
	place_put(v, &p);
	return err;
}
