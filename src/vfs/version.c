/*
 * Which version a store replaces.
 *
 * Exactly the one the inode was made from. When R2 holds another one, it is
 * ours, or our knowledge was old when the file was opened, or somebody wrote
 * since.
 *
 * It may be ours when a store before got no answer. Its metadata tells, in
 * which there is a time in nanoseconds. What has the present content too is
 * recognised below (store_req.maybe_done); here it is known by what was sent
 * then, since the file may have been written to meanwhile.
 *
 * Else the object's age tells, and for how long the file has been open; the age
 * is by the server's own clock, so that nobody's clock need be right. A version
 * older than the opening was there before us, and content that does not build
 * on what we believed may replace it as any later writer would; a newer one is
 * a race that we lost, which the writer must hear of. Of what a crash left
 * nobody knows when it was opened: any other version is taken for a newer one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vfs/removal.h"
#include "vfs/write.h"

#define NS_PER_S 1000000000ll

struct unheard {
	struct unheard *before;
	char *key;
	struct store_meta meta;
	uint64_t size;
};

static void unheard_free(struct unheard *u)
{
	store_meta_release(&u->meta);
	free(u->key);
	free(u);
}

void version_forget_locked(struct inode *i)
{
	struct unheard *u;

	while ((u = i->unheard)) {
		i->unheard = u->before;
		unheard_free(u);
	}
}

static bool is_of(const struct unheard *u, const char *key, uint64_t size,
		  const struct store_meta *meta)
{
	return strcmp(u->key, key) == 0 && u->size == size && u->meta.n &&
	       store_meta_has(meta, &u->meta);
}

static bool is_ours_locked(const struct inode *i, const char *key,
			   uint64_t size, const struct store_meta *meta)
{
	const struct unheard *u = i->unheard;

	while (u && !is_of(u, key, size, meta))
		u = u->before;
	return u;
}

/* The store has ended without R2's word. */
static void note_unheard(struct vfs *v, struct inode *i,
			 const struct writeback_target *t, uint64_t size)
{
	struct unheard *u;

	mutex_lock(&v->lock);
	if (!is_ours_locked(i, t->key, size, t->meta)) {
		u = xcalloc(1, sizeof(*u));
		u->before = i->unheard;
		u->key = xstrdup(t->key);
		u->size = size;
		if (store_meta_copy(&u->meta, t->meta))
			memset(&u->meta, 0, sizeof(u->meta));
		i->unheard = u;
	}
	mutex_unlock(&v->lock);
}

/* Was the version there for all the time that the file has been changed? Both
 * times of the server are whole seconds. */
static bool is_older_locked(const struct inode *i,
			    const struct store_attr *attr)
{
	int64_t age = attr->date_ns - attr->mtime_ns;

	return i->staged_ns && attr->date_ns && attr->mtime_ns &&
	       age >= (int64_t)(clock_boot_ns() - i->staged_ns) + NS_PER_S;
}

/* Another version than the one to be replaced is there, or none. May this
 * content replace it? Then its ETag is the one from now on. */
static bool may_replace(struct vfs *v, const struct vfs_ctx *ctx,
			struct inode *i, struct writeback *wb, const char *key)
{
	bool builds = writeback_builds_on(wb, key), any, ours = false;
	const char *etag = NULL;
	struct store_req req;

	mutex_lock(&v->lock);
	any = !i->exclusive && !builds;
	bool look = any || i->unheard;
	mutex_unlock(&v->lock);
	if (!look)
		return false;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	int err = store_call(v->config.store, &req, ctx->interrupt);

	mutex_lock(&v->lock);
	ours = !err && is_ours_locked(i, key, req.attr.size, &req.attr.meta);
	if (err == -ENOENT && any)
		etag = "";
	else if (ours || (!err && any && is_older_locked(i, &req.attr)))
		etag = req.attr.etag.s;
	if (etag) {
		free(i->etag);
		i->etag = xstrdup(etag);
	}
	mutex_unlock(&v->lock);
	if (ours && builds)
		writeback_moved(wb, key, etag);
	store_req_release(&req);
	return etag;
}

static int store_over_known(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *i, struct writeback *wb,
			    const struct writeback_target *target,
			    struct writeback_result *r)
{
	struct writeback_target t = *target;
	uint64_t size = writeback_size(wb);
	char etag[CACHE_ETAG_MAX];
	int err;

	mutex_lock(&v->lock);
	snprintf(etag, sizeof(etag), "%s", i->etag ? i->etag : "");
	mutex_unlock(&v->lock);
	t.create = !etag[0];
	t.if_match = etag[0] ? etag : NULL;
	err = writeback_store(wb, &t, ctx->interrupt, r);
	if (error_may_pass(err) && err != -ECONNREFUSED && err != -EHOSTUNREACH)
		note_unheard(v, i, &t, size);
	return err;
}

void version_renamed(struct vfs *v, struct inode *i, const char *key)
{
	struct unheard *u, *next, **keep = &i->unheard, *gone = NULL;

	mutex_lock(&v->lock);
	for (u = i->unheard; u; u = next) {
		next = u->before;
		if (strcmp(u->key, key) == 0) {
			*keep = u;
			keep = &u->before;
		} else {
			u->before = gone;
			gone = u;
		}
	}
	*keep = NULL;
	mutex_unlock(&v->lock);
	for (u = gone; u; u = next) {
		next = u->before;
		removal_add_ours(v, u->key, u->size, &u->meta);
		unheard_free(u);
	}
}

int version_store(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		  struct writeback *wb, const struct writeback_target *t,
		  struct writeback_result *r)
{
	int err = store_over_known(v, ctx, i, wb, t, r);

	if ((err == -EEXIST || err == -ESTALE) &&
	    may_replace(v, ctx, i, wb, t->key))
		err = store_over_known(v, ctx, i, wb, t, r);
	return err;
}
