/*
 * Open files.
 *
 * A handle reads one version of its object. When R2 answers that the version
 * is gone, a handle that has given no byte yet moves to the new one; a handle
 * that has must fail with ESTALE, because its reader would otherwise see two
 * versions in one file. The move needs the network, so it runs as a task.
 *
 * All handles share the kernel's page cache of the inode. So a handle whose
 * open let old pages stay has given bytes from the start; and a handle of an
 * old version gives none any more (ESTALE) once a newer one has been opened,
 * or once the kernel has been told another size, with which it would take the
 * end of the old version for zeros. For the same reason nothing is read to the
 * end of a version that is new to the kernel: an open that finds one fails with
 * ESTALE, once, upon which the kernel looks the name up again and learns the
 * size; a read that does, because the version came while the file was open,
 * fails.
 *
 * What this mount writes is seen by all its handles at once: while the inode
 * has a writeback, reads go there, and afterwards to the version it made.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "vfs/ahead.h"
#include "vfs/backing.h"
#include "vfs/offline.h"
#include "vfs/write.h"

enum { USERS = 8 };

struct user {
	pid_t thread, process;
};

struct vfs_file {
	struct vfs *v;
	struct inode *inode;
	struct mutex lock;
	struct fill_file *fill; /* guarded by lock; NULL for an empty object */
	uint64_t cid; /* guarded by lock: what fill is of */
	uint64_t size; /* guarded by lock: of that version */
	bool served; /* guarded by lock: the reader may have bytes of it */
	bool learned; /* guarded by lock: the object's metadata is known */
	bool writable;
	unsigned reads; /* guarded by lock: under way in fill */
	struct list old; /* versions left behind while reads are under way */
	struct user users[USERS]; /* guarded by lock */
	unsigned nusers; /* guarded by lock; may pass USERS: then all may be */
};

struct old_fill {
	struct list link;
	struct fill_file *fill;
	unsigned reads; /* not 0 */
};

struct version {
	struct fill_file *fill;
	uint64_t cid, size;
	bool keep; /* the kernel's pages are of it */
};

static int open_content(struct vfs *v, struct inode *i, struct version *ret)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct place place;
	uint64_t cid;
	int err = inode_place(v, i, &place);

	if (err)
		return err;
	err = inode_key(v, i, key);
	if (err) {
		place_put(v, &place);
		return err;
	}
	mutex_lock(&v->lock);
	snprintf(etag, sizeof(etag), "%s", i->etag);
	ret->size = i->size;
	cid = i->cid;
	mutex_unlock(&v->lock);
	if (!cid &&
	    meta_cid(v->meta, place.parent->ino, place.name, etag, &cid))
		cid = meta_new_cid(v->meta);
	place_put(v, &place);
	mutex_lock(&v->lock);
	if (strcmp(i->etag, etag) == 0)
		i->cid = cid;
	ret->keep = i->opened_cid == cid;
	i->opened_cid = cid;
	i->used = true;
	mutex_unlock(&v->lock);
	ret->cid = cid;
	ret->fill = NULL;
	if (!ret->size)
		return 0;
	return fill_open(v->config.fills, key, etag, cid, ret->size,
			 &ret->fill);
}

static void tell_listener(struct vfs *v, uint64_t ino)
{
	mutex_lock(&v->lock);
	struct vfs_listener l = v->listener;
	mutex_unlock(&v->lock);
	if (l.attributes)
		l.attributes(ino, l.arg);
}

/* Whoever builds on the present content must know it well. */
#define TRUST_FOR_WRITING_NS 1000000000ll

/* With the doubt go the size and time that the kernel believes. */
static void set_doubt(struct vfs *v, struct inode *i, bool doubted)
{
	mutex_lock(&v->lock);
	i->doubted = doubted;
	mutex_unlock(&v->lock);
	if (!doubted)
		tell_listener(v, i->ino);
}

static int prepare(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		   bool write, bool truncate)
{
	bool force, doubted;
	int err;

	mutex_lock(&v->lock);
	force = write && !truncate &&
		ttl_left(i->checked_ns, TRUST_FOR_WRITING_NS) == 0 &&
		v->config.metadata_ttl_ns != VFS_TTL_INDEFINITE;
	doubted = i->doubted;
	force = (force || doubted) && !i->wb && !i->unlinked;
	mutex_unlock(&v->lock);
	if (force && ctx->nowait)
		return -EAGAIN;
	err = inode_refresh(v, ctx, i, force);
	if (!err && doubted && !offline_is(v))
		set_doubt(v, i, false);
	if (!err && write)
		err = inode_headers(v, ctx, i);
	return err;
}

static int open_inode(struct vfs_file *f, bool *ret_keep)
{
	struct inode *i = f->inode;
	struct vfs *v = f->v;
	struct version now;
	int err;

	mutex_lock(&v->lock);
	bool held = i->wb != NULL;
	mutex_unlock(&v->lock);
	*ret_keep = true;
	if (held)
		return 0;
	err = open_content(v, i, &now);
	if (err)
		return err;
	f->fill = now.fill;
	f->cid = now.cid;
	f->size = now.size;
	f->served = *ret_keep = now.keep;
	return 0;
}

static int empty(struct vfs *v, struct inode *i)
{
	const struct backing_change nothing = { .size = 0 };
	struct writeback *wb;
	int err;

	mutex_lock(&v->lock);
	bool already = i->size == 0 && !(i->wb && writeback_size(i->wb));
	mutex_unlock(&v->lock);
	if (already)
		return 0;
	err = inode_stage(v, i, true, &wb);
	if (err)
		return err;
	if (backings_begin(v, i))
		backings_end(v, i, &nothing);
	writeback_put(wb);
	mutex_lock(&v->lock);
	i->size = i->told_size = 0;
	inode_changed_locked(v, i);
	mutex_unlock(&v->lock);
	inode_publish_name(v, i);
	return 0;
}

static bool must_look_again(struct vfs *v, struct inode *i)
{
	bool again;

	mutex_lock(&v->lock);
	again = i->told_size != i->size && !i->wb && !i->unlinked &&
		!i->reopens;
	i->reopens = again;
	mutex_unlock(&v->lock);
	return again;
}

static void count_open(struct vfs_file *f, int by)
{
	mutex_lock(&f->v->lock);
	f->inode->opens += by;
	if (f->writable)
		f->inode->writers += by;
	mutex_unlock(&f->v->lock);
}

static int open_prepared(struct vfs *v, struct inode *i, int flags, bool write,
			 struct vfs_file **ret, bool *ret_keep)
{
	struct vfs_file *f = xcalloc(1, sizeof(*f));
	int err = 0;

	f->v = v;
	f->inode = i;
	f->writable = write;
	mutex_init(&f->lock);
	list_init(&f->old);
	mutex_lock(&v->lock);
	i->refs++;
	mutex_unlock(&v->lock);
	count_open(f, 1);
	if (flags & O_TRUNC)
		err = empty(v, i);
	if (!err)
		err = open_inode(f, ret_keep);
	if (err) {
		vfs_release(f);
		return err;
	}
	if (!write)
		ahead_opened(v, i, f->fill);
	*ret = f;
	return 0;
}

int vfs_open(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino, int flags,
	     struct vfs_file **ret, bool *ret_keep)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC, held;
	struct inode *i = inode_get(v, ino);
	int err = 0;

	if (!i)
		return -ESTALE;
	if (i->kind == META_DIR)
		err = -EISDIR;
	else if (write)
		err = v->config.writebacks ? inode_hold(v, ctx, i) : -EROFS;
	held = write && !err;
	if (!err)
		err = prepare(v, ctx, i, write, flags & O_TRUNC);
	if (!err && !(flags & O_TRUNC) && must_look_again(v, i))
		err = -ESTALE;
	if (!err)
		err = open_prepared(v, i, flags, write, ret, ret_keep);
	if (held)
		inode_let_go(v, i);
	inode_put(v, i);
	return err;
}

void vfs_release(struct vfs_file *f)
{
	if (!f)
		return;
	count_open(f, -1);
	fill_close(f->fill);
	inode_unused(f->v, f->inode);
	inode_put(f->v, f->inode);
	mutex_release(&f->lock);
	free(f);
}

static void start_read(struct vfs_read *r);

static struct old_fill *find_old_locked(struct vfs_file *f,
					const struct fill_file *fill)
	REQUIRES(f->lock)
{
	list_for_each(n, &f->old) {
		struct old_fill *o = list_entry(n, struct old_fill, link);

		if (o->fill == fill)
			return o;
	}
	return NULL;
}

/* Takes the reference of now; gives one to be closed. */
static struct fill_file *set_version_locked(struct vfs_file *f,
					    const struct version *now)
	REQUIRES(f->lock)
{
	struct old_fill *again = find_old_locked(f, now->fill), *o;
	struct fill_file *before = f->fill;

	f->cid = now->cid;
	f->size = now->size;
	if (before == now->fill)
		return before;
	if (f->reads) {
		o = xcalloc(1, sizeof(*o));
		o->fill = before;
		o->reads = f->reads;
		list_add_tail(&f->old, &o->link);
		before = NULL;
	}
	f->fill = now->fill;
	f->reads = again ? again->reads : 0;
	if (again) {
		list_del(&again->link);
		fill_close(again->fill); /* not the last */
		free(again);
	}
	return before;
}

static void read_begin_locked(struct vfs_file *f, struct vfs_read *r)
	REQUIRES(f->lock)
{
	r->on = f->fill;
	f->reads += r->on != NULL;
}

/* Closes a version left behind with its last read. */
static void read_end(struct vfs_read *r)
{
	struct vfs_file *f = r->file;
	struct fill_file *last = NULL;
	struct old_fill *o = NULL;

	mutex_lock(&f->lock);
	if (r->on && r->on == f->fill)
		f->reads--;
	else if (r->on)
		o = find_old_locked(f, r->on);
	if (o && --o->reads == 0) {
		last = o->fill;
		list_del(&o->link);
		free(o);
	}
	r->on = NULL;
	mutex_unlock(&f->lock);
	fill_close(last);
}

static void answer(struct vfs_read *r)
{
	read_end(r);
	r->done(r);
}

/* Is it at another key now, since a folder above was renamed? */
static bool has_moved(struct vfs_read *r)
{
	struct vfs_file *f = r->file;
	const struct vfs_ctx ctx = { 0 };
	char key[STORE_KEY_MAX + 1];
	bool moving = inode_is_moving(f->v, f->inode);

	if (inode_wait_settled(f->v, &ctx, f->inode) ||
	    inode_key(f->v, f->inode, key))
		return false;
	return r->staged ? moving : fill_follow(r->on, key);
}

static void read_again(struct vfs_read *r)
{
	read_end(r);
	start_read(r);
}

/* Runs as a task: the version the read wanted is gone. */
static void move_to_new_version(struct task *t)
{
	struct vfs_read *r = container_of(t, struct vfs_read, task);
	struct vfs_file *f = r->file;
	const struct vfs_ctx ctx = { 0 };
	struct fill_file *unused;
	struct version now;
	bool moved, served;
	int err;

	if (has_moved(r)) {
		if (!r->staged)
			set_doubt(f->v, f->inode, false);
		read_again(r);
		return;
	}
	mutex_lock(&f->lock);
	served = f->served || r->staged;
	moved = f->fill != r->on;
	mutex_unlock(&f->lock);
	if (served) {
		answer(r);
		return;
	}
	if (!moved) {
		err = inode_refresh(f->v, &ctx, f->inode, true);
		if (!err)
			err = open_content(f->v, f->inode, &now);
		if (!err)
			set_doubt(f->v, f->inode, false);
		if (err) {
			r->fill.error = err == -ENOENT ? -ESTALE : err;
			answer(r);
			return;
		}
		mutex_lock(&f->lock);
		unused = f->fill == r->on && !f->served ?
				 set_version_locked(f, &now) :
				 now.fill;
		moved = f->fill != r->on;
		mutex_unlock(&f->lock);
		fill_close(unused);
	}
	if (!moved) {
		r->fill.error = -ESTALE;
		answer(r);
		return;
	}
	read_again(r);
}

/* A name known from a listing gets its mode, owner and time from the first
 * GET of its data. False: it is no file. */
static bool learn(struct vfs_file *f, struct fill_file *from)
{
	struct inode *i = f->inode;
	struct store_attr attr;
	bool known, is_file = true;

	mutex_lock(&f->v->lock);
	known = i->flags & META_HAS_HEADERS || i->wb || i->unlinked;
	mutex_unlock(&f->v->lock);
	if (!known && fill_headers(from, &attr)) {
		mutex_lock(&f->v->lock);
		bool same =
			i->etag && strcmp(i->etag, attr.etag.s) == 0 &&
			meta_same_time(i->flags, i->object_ns, attr.mtime_ns);
		int64_t checked_ns = i->checked_ns;
		mutex_unlock(&f->v->lock);
		if (same) {
			is_file = inode_learn(f->v, i, &attr, checked_ns);
			tell_listener(f->v, i->ino);
		}
		store_meta_release(&attr.meta);
		known = same;
	}
	mutex_lock(&f->lock);
	f->learned |= known && is_file;
	mutex_unlock(&f->lock);
	return is_file;
}

enum standing { CURRENT, OVERTAKEN, GONE };

/* OVERTAKEN: this mount has stored a newer version; GONE: with what this
 * handle reads the kernel would mix another version. */
static enum standing standing(struct vfs_file *f)
{
	struct inode *i = f->inode;
	enum standing s = CURRENT;

	mutex_lock(&f->lock);
	mutex_lock(&f->v->lock);
	if (i->cid != f->cid && i->cid && i->cid == i->local_cid &&
	    !i->unlinked)
		s = OVERTAKEN;
	else if (i->opened_cid != f->cid || i->size != f->size)
		s = GONE;
	mutex_unlock(&f->v->lock);
	mutex_unlock(&f->lock);
	return s;
}

/* The version ends before the read does: the kernel fills up with zeros what
 * it believes to be there. */
static bool ends_unknown(struct vfs_read *r)
{
	struct vfs_file *f = r->file;
	bool unknown;

	mutex_lock(&f->lock);
	mutex_lock(&f->v->lock);
	unknown = r->off + r->len > f->size && f->size != f->inode->told_size;
	mutex_unlock(&f->v->lock);
	mutex_unlock(&f->lock);
	return unknown;
}

static void read_done(struct fill_read *fr)
{
	struct vfs_read *r = container_of(fr, struct vfs_read, fill);
	struct vfs_file *f = r->file;
	struct writeback *wb = r->wb;
	bool move;

	r->wb = NULL;
	mutex_lock(&f->lock);
	struct fill_file *from = fr->error || f->learned ? NULL : r->on;
	move = fr->error == -ESTALE && r->moves++ < 2;
	if (!fr->error && fr->got > 0 && !wb) {
		if (r->on != f->fill)
			fr->error = -ESTALE;
		else
			f->served = true;
	}
	mutex_unlock(&f->lock);
	if (!fr->error && !wb && ends_unknown(r))
		fr->error = -ESTALE;
	if (!wb && fr->error == -ESTALE && standing(f) == CURRENT)
		set_doubt(f->v, f->inode, true);
	if (move) {
		writeback_put(wb);
		r->task.run = move_to_new_version;
		tasks_submit(f->v->config.tasks, &r->task);
		return;
	}
	if (from && !wb && !learn(f, from))
		fr->error = -ESTALE;
	answer(r);
	writeback_put(wb);
}

/* The version our own store made takes the place of the one opened. */
static int follow_store(struct vfs_file *f)
{
	struct fill_file *unused;
	struct version now;
	int err = open_content(f->v, f->inode, &now);

	if (err)
		return err;
	mutex_lock(&f->lock);
	unused = set_version_locked(f, &now);
	mutex_unlock(&f->lock);
	fill_close(unused);
	return 0;
}

static void start_read(struct vfs_read *r)
{
	struct vfs_file *f = r->file;

	memset(&r->fill, 0, sizeof(r->fill));
	list_init(&r->fill.link);
	r->fill.off = r->off;
	r->fill.len = r->len;
	r->fill.done = read_done;
	r->wb = inode_staged(f->v, f->inode);
	r->staged = r->wb;
	if (r->wb) {
		writeback_read(r->wb, &r->fill);
		return;
	}
	if (standing(f) == OVERTAKEN)
		r->fill.error = follow_store(f);
	if (!r->fill.error && standing(f) != CURRENT)
		r->fill.error = -ESTALE;
	if (r->fill.error) {
		r->done(r);
		return;
	}
	mutex_lock(&f->lock);
	read_begin_locked(f, r);
	struct fill_file *on = r->on;
	mutex_unlock(&f->lock);
	if (on) {
		fill_read(on, &r->fill);
		return;
	}
	if (ends_unknown(r))
		r->fill.error = -ESTALE;
	r->done(r);
}

void vfs_read(struct vfs_file *f, struct vfs_read *r)
{
	r->file = f;
	r->moves = 0;
	mutex_lock(&f->lock);
	r->on = NULL;
	mutex_unlock(&f->lock);
	start_read(r);
}

void vfs_read_cancel(struct vfs_read *r)
{
	struct fill_file *on;

	mutex_lock(&r->file->lock);
	on = r->on;
	if (on)
		fill_ref(on);
	mutex_unlock(&r->file->lock);
	if (on)
		fill_cancel(on, &r->fill);
	fill_close(on);
}

bool file_reads(struct vfs_file *f, struct inode **ret_inode,
		struct fill_file **ret_fill, uint64_t *ret_cid)
{
	mutex_lock(&f->lock);
	*ret_inode = f->inode;
	*ret_fill = f->fill;
	*ret_cid = f->cid;
	mutex_unlock(&f->lock);
	return !f->writable && *ret_fill;
}

/* ---- writing ---- */

enum {
	STREAM_FROM = 32 << 20,
	STREAM_STEP = 4 << 20,
	COPY_FROM =
		65536, /* below, a PUT of what is likely cached is as good */
	COPY_STEP = 1 << 30, /* no less of a larger object: the kernel asks for
			      * one of 4 GiB and more in steps */
};

/* Long files begin to travel while they are written, or to go to the disk if
 * that is what close waits for. */
static void stream(struct vfs *v, struct inode *i, struct writeback *wb,
		   uint64_t before, uint64_t after)
{
	char key[STORE_KEY_MAX + 1];
	struct writeback_target t = { .key = key };
	uint64_t from = before - before % STREAM_STEP;
	uint64_t to = after - after % STREAM_STEP;
	struct store_meta pairs;
	struct place p;
	bool temporary;

	if (to <= from || inode_place(v, i, &p))
		return;
	temporary = name_is_temporary(v, p.name);
	place_put(v, &p);
	if (v->config.journal_close)
		writeback_flush_start(wb, from, to - from);
	if (temporary || v->config.journal_close || after < STREAM_FROM ||
	    inode_key(v, i, key))
		return;
	t.as_of = writeback_changes(wb);
	inode_pairs(v, i, &pairs);
	t.meta = &pairs;
	writeback_stream(wb, &t);
	store_meta_release(&pairs);
}

/* An owed store is put off while the file is written to again: until the next
 * flush, but what was promised not for long. */
static void put_off(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	bool owed = i->owed && !i->deferred;
	bool promised = i->journalled_owed && i->journalled_bytes;
	if (owed && promised)
		i->owed_ns = i->owed_since_ns + OWED_HELD_NS;
	mutex_unlock(&v->lock);
	if (owed && !promised)
		inode_unowe(v, i);
}

static void grown(struct vfs *v, struct inode *i, struct writeback *wb,
		  uint64_t *before, uint64_t *after)
{
	*after = writeback_size(wb);
	mutex_lock(&v->lock);
	*before = i->size;
	i->size = i->told_size = *after;
	inode_changed_locked(v, i);
	i->failed = false;
	mutex_unlock(&v->lock);
	inode_journal_open(v, i, wb);
}

int vfs_write(struct vfs_file *f, const void *buf, size_t n, uint64_t off)
{
	const struct backing_change change = { off, n, 0, buf };
	uint64_t before, after;
	struct writeback *wb;
	bool followed;
	int err;

	if (!f->writable)
		return -EBADF;
	err = inode_stage(f->v, f->inode, false, &wb);
	if (err)
		return err;
	put_off(f->v, f->inode);
	followed = backings_begin(f->v, f->inode);
	err = writeback_write(wb, buf, n, off);
	if (followed)
		backings_end(f->v, f->inode, err ? NULL : &change);
	grown(f->v, f->inode, wb, &before, &after);
	if (!err)
		stream(f->v, f->inode, wb, before, after);
	else if (err != -EFBIG)
		failure_staging(f->v, f->inode, err);
	writeback_put(wb);
	return err;
}

/* The version of a clean file, as a base; strings into the given buffers. */
static bool describe_object(struct vfs *v, struct inode *i, char *key,
			    char *etag, struct writeback_base *ret)
{
	bool clean;

	if (inode_key(v, i, key))
		return false;
	mutex_lock(&v->lock);
	clean = !i->wb && !i->unlinked && i->etag && *i->etag && i->cid;
	snprintf(etag, CACHE_ETAG_MAX, "%s", i->etag ? i->etag : "");
	*ret = (struct writeback_base){ key, etag, i->cid, i->size };
	mutex_unlock(&v->lock);
	return clean;
}

/* Where the copy of [off, off + len) ends if R2 may make it; 0: it may not. */
static uint64_t copy_end(uint64_t size, uint64_t off, uint64_t len)
{
	if (size < COPY_FROM || off >= size)
		return 0;
	if (len >= size - off)
		return size;
	return len >= COPY_STEP ? off + len : 0;
}

ssize_t vfs_copy(struct vfs_file *from, uint64_t from_off, struct vfs_file *to,
		 uint64_t to_off, uint64_t len)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct writeback_base base;
	uint64_t before, after, end = 0;
	struct writeback *wb;
	int err;

	if (!to->writable)
		return -EBADF;
	if (from_off == to_off && from->inode != to->inode &&
	    describe_object(from->v, from->inode, key, etag, &base))
		end = copy_end(base.size, from_off, len);
	if (!end)
		return -EOPNOTSUPP;
	err = inode_stage(to->v, to->inode, false, &wb);
	if (err)
		return err;
	err = -EINVAL;
	if (backings_begin(to->v, to->inode))
		backings_end(to->v, to->inode, NULL);
	else
		err = writeback_copy(wb, &base, from_off, end);
	grown(to->v, to->inode, wb, &before, &after);
	writeback_put(wb);
	if (err)
		return err == -EINVAL ? -EOPNOTSUPP : err;
	return (ssize_t)(end - from_off);
}

int vfs_fallocate(struct vfs_file *f, int mode, uint64_t off, uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE, followed;
	struct backing_change change = {
		.off = off,
		.len = mode & ~FALLOC_FL_KEEP_SIZE ? len : 0,
	};
	uint64_t before, after;
	struct writeback *wb;
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
		     FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!f->writable)
		return -EBADF;
	err = inode_stage(f->v, f->inode, false, &wb);
	if (err)
		return err;
	followed = backings_begin(f->v, f->inode);
	if (change.len)
		err = writeback_zero(wb, off, len, !keep);
	else if (!keep && off + len > writeback_size(wb))
		err = writeback_truncate(wb, off + len);
	change.size = writeback_size(wb);
	if (followed)
		backings_end(f->v, f->inode, err ? NULL : &change);
	grown(f->v, f->inode, wb, &before, &after);
	writeback_put(wb);
	return err;
}

int vfs_seek(struct vfs_file *f, uint64_t off, int whence, uint64_t *ret)
{
	struct writeback *wb = inode_staged(f->v, f->inode);
	uint64_t size;
	int err;

	if (wb) {
		err = writeback_seek(wb, off, whence == SEEK_HOLE, ret);
		writeback_put(wb);
		return err;
	}
	mutex_lock(&f->v->lock);
	size = f->inode->size;
	mutex_unlock(&f->v->lock);
	*ret = whence == SEEK_HOLE ? size : off;
	return off >= size ? -ENXIO : 0;
}

bool vfs_file_knows(struct vfs_file *f, pid_t thread)
{
	bool known;

	mutex_lock(&f->lock);
	known = f->nusers > USERS;
	for (unsigned i = 0; i < f->nusers && i < USERS; i++)
		known |= f->users[i].thread == thread;
	mutex_unlock(&f->lock);
	return known;
}

void vfs_file_note(struct vfs_file *f, pid_t thread, pid_t process)
{
	mutex_lock(&f->lock);
	if (process <= 0)
		f->nusers = USERS + 1;
	else if (f->nusers < USERS)
		f->users[f->nusers++] = (struct user){ thread, process };
	else
		f->nusers = USERS + 1;
	mutex_unlock(&f->lock);
}

bool vfs_file_used_by(struct vfs_file *f, pid_t process)
{
	bool used;

	mutex_lock(&f->lock);
	used = process <= 0 || f->nusers > USERS || f->nusers == 0;
	for (unsigned i = 0; i < f->nusers && i < USERS; i++)
		used |= f->users[i].process == process;
	mutex_unlock(&f->lock);
	return used;
}

int vfs_flush(struct vfs_file *f, const struct vfs_ctx *ctx, bool sync)
{
	if (f->writable)
		return inode_close(f->v, ctx, f->inode, sync);
	return sync ? inode_flush(f->v, ctx, f->inode, sync) : 0;
}

int vfs_readlink(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		 char **ret)
{
	struct inode *i = inode_get(v, ino);
	char key[STORE_KEY_MAX + 1];
	struct store_req req;
	int err;

	if (!i)
		return -ESTALE;
	store_req_init(&req, STORE_GET);
	err = S_ISLNK(i->mode) ? inode_key(v, i, key) : -EINVAL;
	if (!err && i->size > PATH_MAX)
		err = -ENAMETOOLONG;
	if (!err && ctx->nowait)
		err = -EAGAIN;
	if (!err) {
		req.key = key;
		req.buf = xcalloc(1, PATH_MAX + 1);
		req.buf_cap = PATH_MAX;
		req.ranged = true;
		req.range_len = PATH_MAX;
		err = store_call(v->config.store, &req, ctx->interrupt);
		*ret = (char *)req.buf;
		if (err)
			free(req.buf);
	}
	store_req_release(&req);
	inode_put(v, i);
	return err;
}
