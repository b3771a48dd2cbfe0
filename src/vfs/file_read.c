/*
 * Reads of an open file.
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
 * end of a version that is new to the kernel: the open of one fails (file.c),
 * and so does a read that comes there because the version came while the file
 * was open.
 *
 * What this mount writes is seen by all its handles at once: while the inode
 * has a writeback, reads go there, and afterwards to the version it made.
 */
#include <stdlib.h>
#include <string.h>

#include "vfs/backing.h"
#include "vfs/file_impl.h"
#include "vfs/write.h"

struct old_fill {
	struct list link;
	struct fill_file *fill;
	unsigned reads; /* not 0 */
};

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
					    const struct file_version *now)
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
	struct file_version now;
	bool moved, served;
	int err;

	if (has_moved(r)) {
		if (!r->staged)
			file_set_doubt(f->v, f->inode, false);
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
			err = file_open_version(f->v, f->inode, &now);
		if (!err)
			file_set_doubt(f->v, f->inode, false);
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
			file_tell_listener(f->v, i->ino);
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
		file_set_doubt(f->v, f->inode, true);
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
	struct file_version now;
	int err = file_open_version(f->v, f->inode, &now);

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
