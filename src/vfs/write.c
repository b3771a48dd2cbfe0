/*
 * Inodes whose content is not (only) in R2.
 *
 * Names and versions change one at a time (inode_begin); content is let go of
 * only while nobody can change it (settling).
 */
#include "vfs/write.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "vfs/backing.h"
#include "vfs/key.h"
#include "vfs/removal.h"

static bool matches(const char *patterns, const char *name)
{
	CLEANUP(free) char *list = xstrdup(patterns);
	char *save = NULL;

	for (char *p = list ? strtok_r(list, ":", &save) : NULL; p;
	     p = strtok_r(NULL, ":", &save))
		if (fnmatch(p, name, 0) == 0)
			return true;
	return false;
}

bool name_is_temporary(const struct vfs *v, const char *name)
{
	return matches(v->config.temporary, name);
}

bool name_is_lock(const struct vfs *v, const char *name)
{
	return matches(v->config.locks, name);
}

/* ---- staging ---- */

int inode_headers(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	char key[STORE_KEY_MAX + 1];
	struct store_req req;
	int64_t asked_ns;
	bool known;
	int err;

	mutex_lock(&v->lock);
	known = i->wb || i->flags & META_HAS_HEADERS || !i->etag || !*i->etag;
	mutex_unlock(&v->lock);
	if (known)
		return 0;
	if (ctx->nowait)
		return -EAGAIN;
	err = inode_key(v, i, key);
	if (err)
		return err;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	asked_ns = clock_wall_ns();
	err = store_call(v->config.store, &req, ctx->interrupt);
	if (!err && !inode_learn(v, i, &req.attr, asked_ns))
		err = -ESTALE;
	store_req_release(&req);
	return err == -ENOENT ? -ESTALE : err;
}

void load_pairs(struct vfs *v, const struct place *p, struct store_meta *ret)
{
	struct meta_rec rec;

	memset(ret, 0, sizeof(*ret));
	if (!p->parent || meta_get(v->meta, p->parent->ino, p->name, &rec))
		return;
	if (key_meta_unpack(rec.blob, rec.blob_len, ret))
		memset(ret, 0, sizeof(*ret));
	meta_rec_release(&rec);
	pairs_unset_attributes(ret);
}

struct writeback *inode_staged(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	struct writeback *wb = i->wb;
	if (wb)
		writeback_ref(wb);
	mutex_unlock(&v->lock);
	return wb;
}

static int make_writeback(struct vfs *v, struct inode *i, const struct place *p,
			  bool empty, struct writeback **ret)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct writeback_base base = { .key = key, .etag = etag };
	int err = inode_key(v, i, key);

	if (err)
		return err;
	mutex_lock(&v->lock);
	snprintf(etag, sizeof(etag), "%s", i->etag ? i->etag : "");
	base.size = i->size;
	base.cid = i->cid;
	mutex_unlock(&v->lock);
	if (empty || !etag[0])
		return writeback_create(v->config.writebacks, NULL, ret);
	if (!base.cid &&
	    meta_cid(v->meta, p->parent->ino, p->name, etag, &base.cid))
		base.cid = meta_new_cid(v->meta);
	return writeback_create(v->config.writebacks, &base, ret);
}

/* Counts the directory's changed children: its listing alone is not all. */
static void attach_locked(struct inode *i, struct writeback *wb)
{
	i->wb = wb;
	backings_stage_locked(i);
	i->staged_ns = clock_boot_ns();
	i->failed = i->write_told = false;
	i->refs++;
	if (i->parent && !i->unlinked)
		i->parent->staged++;
}

static struct writeback *detach_locked(struct inode *i, bool stored)
{
	struct writeback *wb = i->wb;

	if (!wb)
		return NULL;
	i->wb = NULL;
	backings_settle_locked(i, stored);
	i->deferred = false;
	store_meta_release(&i->pairs);
	store_meta_release(&i->base);
	version_forget_locked(i);
	i->exclusive = i->journalled = i->journalled_owed = false;
	if (i->parent && !i->unlinked) {
		i->parent->staged--;
		i->parent->turns++;
	}
	return wb;
}

int inode_stage(struct vfs *v, struct inode *i, bool empty,
		struct writeback **ret)
{
	struct store_meta pairs = { 0 };
	struct writeback *fresh;
	struct place p;
	int err;

	*ret = inode_staged(v, i);
	if (*ret)
		return empty ? writeback_truncate(*ret, 0) : 0;
	if (!v->config.writebacks)
		return -EROFS;
	err = inode_place(v, i, &p);
	if (err)
		return err;
	err = make_writeback(v, i, &p, empty, &fresh);
	if (!err)
		load_pairs(v, &p, &pairs);
	place_put(v, &p);
	if (err)
		return err;
	mutex_lock(&v->lock);
	if (!i->wb) {
		attach_locked(i, fresh);
		i->pairs = pairs;
		memset(&pairs, 0, sizeof(pairs));
		inode_pairs_locked(i, &i->base);
		fresh = NULL;
	}
	*ret = i->wb;
	writeback_ref(*ret);
	mutex_unlock(&v->lock);
	store_meta_release(&pairs);
	if (fresh) {
		writeback_discard(fresh);
		writeback_put(fresh);
	}
	return 0;
}

/* What is known of the inode, as the record of its name. */
static void put_name(struct vfs *v, struct inode *i, uint8_t flags)
{
	struct meta_rec rec = { .kind = META_FILE,
				.checked_ns = clock_wall_ns() };
	struct store_meta pairs;
	struct place p;

	if (inode_place(v, i, &p) || !p.parent)
		return;
	inode_pairs(v, i, &pairs);
	mutex_lock(&v->lock);
	rec.ino = i->ino;
	rec.size = i->size;
	rec.mtime_ns = i->flags & META_HAS_HEADERS ? i->object_ns : i->mtime_ns;
	rec.flags = (i->flags & (META_HAS_HEADERS | META_STORED)) | flags |
		    (i->shadowed ? META_SHADOWED : 0);
	rec.cid = flags & META_STAGED ? 0 : i->cid;
	snprintf(rec.etag, sizeof(rec.etag), "%s", i->etag ? i->etag : "");
	mutex_unlock(&v->lock);
	if (rec.flags & META_HAS_HEADERS)
		key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
	store_meta_release(&pairs);
	if (meta_put(v->meta, p.parent->ino, p.name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	meta_rec_release(&rec);
	place_put(v, &p);
}

void inode_publish_name(struct vfs *v, struct inode *i)
{
	put_name(v, i, META_STAGED);
}

/* ---- giving up ---- */

/* The name is R2's again: to be asked for if an object may be there. */
static void give_name_back(struct vfs *v, struct inode *i, int error)
{
	struct meta_rec rec = { .kind = META_FILE };
	struct place p;
	bool object;

	if (inode_place(v, i, &p) || !p.parent)
		return;
	mutex_lock(&v->lock);
	rec.ino = i->ino;
	rec.size = i->size;
	rec.flags = i->shadowed ? META_SHADOWED : 0;
	object = (i->etag && *i->etag) || error == -EEXIST || error == -ESTALE;
	mutex_unlock(&v->lock);
	if (object ? meta_put(v->meta, p.parent->ino, p.name, &rec, NULL) :
		     meta_del(v->meta, p.parent->ino, p.name))
		log_debug("vfs", "the cache cannot forget a name");
	place_put(v, &p);
}

/* What lies in the journal for good is let go of. */
static int abandon(struct vfs *v, struct inode *i, struct writeback *wb)
{
	char why[192];
	int error = failure_end(v, i, wb, why, sizeof(why));
	int err = inode_journal_failed(v, i, wb, why);

	failure_kept(v, i, wb, error, why, err);
	if (err)
		return err;
	give_name_back(v, i, error);
	mutex_lock(&v->lock);
	detach_locked(i, false);
	if (error == -EEXIST || error == -ESTALE)
		i->local_cid = 0; /* another version is the newest */
	i->checked_ns = 0;
	i->refs--;
	mutex_unlock(&v->lock);
	writeback_put(wb);
	return 0;
}

void inode_abandon(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);

	if (!wb)
		return;
	if (inode_begin_abandoning(v, i, wb)) {
		int err = abandon(v, i, wb);

		inode_settled(v, i);
		if (err)
			inode_owe_again(v, i);
	}
	writeback_put(wb);
}

/* ---- storing ---- */

static void stored(struct vfs *v, struct inode *i, const struct place *p,
		   const struct writeback_result *r, uint64_t cid,
		   const struct store_meta *pairs)
{
	struct meta_rec rec = { .kind = META_FILE,
				.cid = cid,
				.checked_ns = clock_wall_ns(),
				.mtime_ns = stored_ns(r->time_ns),
				.flags = META_HAS_HEADERS | META_STORED };

	mutex_lock(&v->lock);
	free(i->etag);
	i->etag = xstrdup(r->etag.s);
	i->cid = i->local_cid = i->opened_cid = cid;
	backings_stored_locked(i, cid);
	i->checked_ns = rec.checked_ns;
	rec.flags |= i->shadowed ? META_SHADOWED : 0;
	i->flags = rec.flags;
	i->object_ns = rec.mtime_ns;
	store_meta_release(&i->base);
	if (store_meta_copy(&i->base, pairs))
		memset(&i->base, 0, sizeof(i->base));
	i->owed_tries = 0;
	version_forget_locked(i);
	rec.ino = i->ino;
	mutex_unlock(&v->lock);
	rec.size = r->size;
	snprintf(rec.etag, sizeof(rec.etag), "%s", r->etag.s);
	key_meta_pack(pairs, &rec.blob, &rec.blob_len);
	if (meta_put(v->meta, p->parent->ino, p->name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	meta_rec_release(&rec);
}

static int store_content(struct vfs *v, const struct vfs_ctx *ctx,
			 struct inode *i, struct writeback *wb,
			 struct writeback_result *r)
{
	char key[STORE_KEY_MAX + 1];
	struct store_meta pairs;
	struct writeback_target t = { .key = key, .meta = &pairs };
	struct place p;
	int err = inode_place(v, i, &p);

	if (err)
		return 0; /* unlinked: nobody can find it */
	err = inode_key(v, i, key);
	mutex_lock(&v->lock);
	if (!err && writeback_same_content(wb, key))
		t.cid = i->cid;
	mutex_unlock(&v->lock);
	if (!t.cid)
		t.cid = meta_new_cid(v->meta);
	if (!err)
		err = removal_wait(v, ctx, key);
	if (!err)
		err = inode_renew(v, ctx, i, key);
	t.as_of = writeback_changes(wb);
	inode_pairs(v, i, &pairs);
	if (!err)
		err = version_store(v, ctx, i, wb, &t, r);
	if (!err && r->stored) {
		stored(v, i, &p, r, t.cid, &pairs);
		failure_over(v, i);
		fill_moved(v->config.fills, t.cid, key, r->etag.s);
	}
	store_meta_release(&pairs);
	place_put(v, &p);
	return err;
}

int inode_store(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);
	struct writeback_result r = { .why = "" };
	int err = 0;

	if (!wb)
		return 0;
	if (!writeback_dirty(wb)) {
		writeback_put(wb);
		return 0;
	}
	err = ctx->nowait ? -EAGAIN : inode_wait_settled(v, ctx, i);
	if (!err) {
		inode_begin(v, i);
		err = store_content(v, ctx, i, wb, &r);
		inode_end(v, i);
	}
	if (err && err != -EAGAIN && !failure_note(v, ctx, i, wb, err, r.why))
		err = 0;
	if (!err)
		inode_journal_stored(v, i, wb);
	writeback_put(wb);
	return err;
}

int inode_store_at(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		   const char *key, bool absent, uint64_t cid,
		   const struct store_meta *meta, struct writeback_result *ret)
{
	struct writeback *wb = inode_staged(v, i);
	struct writeback_target t = { .key = key,
				      .create = absent,
				      .cid = cid };
	struct store_meta pairs;
	int err;

	if (!wb)
		return -EIO;
	inode_pairs(v, i, &pairs);
	t.meta = writeback_dirty(wb) ? &pairs : meta;
	err = removal_wait(v, ctx, key);
	if (!err)
		err = writeback_store(wb, &t, ctx->interrupt, ret);
	if (err && err != -EEXIST && err != -ESTALE)
		log_warn("vfs", "%s could not be stored: %s (%s)", key,
			 ret->why, strerror(-err));
	store_meta_release(&pairs);
	writeback_put(wb);
	return err;
}

/* Not put off again: who writes all the time is stored all the same. */
static void owe_flushed(struct vfs *v, struct inode *i, bool temporary)
{
	int64_t soon = (int64_t)clock_mono_ns() + OWED_JOURNAL_NS;

	mutex_lock(&v->lock);
	bool owed = i->owed && i->owed_ns <= soon;
	mutex_unlock(&v->lock);
	if (temporary || !owed)
		inode_owe(v, i, temporary ? OWED_TEMP_NS : OWED_JOURNAL_NS);
}

/* The journal can only promise what lies here. A copy of another object gets
 * its bytes from the cache, or R2 makes it now: the source may go. */
static bool may_wait(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		     struct writeback *wb)
{
	char key[STORE_KEY_MAX + 1];

	return inode_key(v, i, key) || !writeback_borrows(wb, key) ||
	       (writeback_is_cached(wb) &&
		writeback_fill(wb, ctx->interrupt) == 0);
}

int inode_flush(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		bool sync)
{
	struct writeback *wb = inode_staged(v, i);
	struct place p;
	bool temporary, later, durable = sync || v->config.journal_close;
	int err;

	if (!wb)
		return 0;
	if (!writeback_dirty(wb) || inode_place(v, i, &p)) {
		writeback_put(wb);
		return 0;
	}
	temporary = name_is_temporary(v, p.name);
	place_put(v, &p);
	mutex_lock(&v->lock);
	later = (temporary || v->config.journal_close) && !i->fail_told;
	mutex_unlock(&v->lock);
	if (later && ctx->nowait) {
		writeback_put(wb);
		return -EAGAIN;
	}
	later = later && may_wait(v, ctx, i, wb);
	mutex_lock(&v->lock);
	i->deferred = later && temporary;
	mutex_unlock(&v->lock);
	if (later) {
		err = inode_journal_owed(v, i, wb, durable);
		if (!err) {
			inode_publish_name(v, i);
			owe_flushed(v, i, temporary);
		} else if (err != -EAGAIN) {
			err = inode_store(v, ctx, i);
		}
	} else {
		err = inode_store(v, ctx, i);
	}
	writeback_put(wb);
	return err;
}

int inode_close(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		bool sync)
{
	int err = inode_flush(v, ctx, i, sync);

	if (err && err != -EAGAIN && err != -EINTR) {
		mutex_lock(&v->lock);
		i->failed = true;
		mutex_unlock(&v->lock);
	}
	return err;
}

void inode_settle(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);
	bool unlinked;

	if (!wb)
		return;
	if (inode_begin_settling(v, i, wb)) {
		mutex_lock(&v->lock);
		uint64_t cid = i->cid;
		unlinked = i->unlinked;
		mutex_unlock(&v->lock);
		if (!unlinked) {
			writeback_publish(wb, cid);
			put_name(v, i, 0);
		}
		mutex_lock(&v->lock);
		detach_locked(i, true);
		i->refs--;
		mutex_unlock(&v->lock);
		inode_settled(v, i);
		writeback_discard(wb);
		writeback_abort(wb);
		writeback_put(wb);
	}
	writeback_put(wb);
}

void inode_publish_copy(struct vfs *v, struct inode *i, struct writeback *wb,
			uint64_t cid)
{
	if (!inode_begin_publishing(v, i, wb))
		return;
	if (!writeback_dirty(wb))
		writeback_publish(wb, cid);
	inode_settled(v, i);
}

int inode_orphan(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	struct writeback *wb;
	bool open;
	int err = 0;

	mutex_lock(&v->lock);
	open = i->opens > 0 && i->kind == META_FILE;
	mutex_unlock(&v->lock);
	if (!open)
		return 0;
	err = inode_stage(v, i, false, &wb);
	if (err)
		return err;
	err = writeback_fill(wb, ctx->interrupt);
	writeback_put(wb);
	return err;
}

void inode_drop(struct vfs *v, struct inode *i)
{
	struct writeback *wb;
	struct place p;

	if (inode_place(v, i, &p) == 0) {
		if (p.parent && meta_del(v->meta, p.parent->ino, p.name))
			log_debug("vfs", "the cache cannot forget a name");
		place_put(v, &p);
	}
	mutex_lock(&v->lock);
	wb = detach_locked(i, false);
	i->unlinked = true;
	if (wb)
		i->refs--;
	mutex_unlock(&v->lock);
	if (wb) {
		writeback_discard(wb);
		writeback_abort(wb);
		writeback_put(wb);
	}
}

bool inode_is_held(struct vfs *v, uint64_t ino)
{
	struct inode *i = inode_get(v, ino);
	bool held = false;

	if (!i)
		return false;
	mutex_lock(&v->lock);
	held = i->wb && !i->unlinked;
	mutex_unlock(&v->lock);
	inode_put(v, i);
	return held;
}

void inode_adopt(struct vfs *v, struct inode *i, struct writeback *wb,
		 bool deferred)
{
	mutex_lock(&v->lock);
	attach_locked(i, wb);
	i->staged_ns = 0;
	i->journalled = true;
	i->size = writeback_size(wb);
	i->deferred = deferred;
	mutex_unlock(&v->lock);
}
