/*
 * Open files.
 *
 * A handle reads one version of its object. When R2 answers that the version
 * is gone, a handle that has given no byte yet moves to the new one; a handle
 * that has must fail with ESTALE, because its reader would otherwise see two
 * versions in one file. The move needs the network, so it runs as a task.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/inode.h"

struct vfs_file {
	struct vfs *v;
	struct inode *inode;
	struct mutex lock;
	struct fill_file *fill; /* guarded by lock; NULL for an empty object */
	bool served; /* guarded by lock: a byte was given */
	struct list old; /* versions left behind while reads are parked */
};

struct old_fill {
	struct list link;
	struct fill_file *fill;
};

static int open_content(struct vfs *v, struct inode *i,
			struct fill_file **ret, bool *ret_keep)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	uint64_t cid, size;
	struct place place;
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
	size = i->size;
	cid = i->cid;
	mutex_unlock(&v->lock);
	if (!cid && meta_cid(v->meta, place.parent->ino, place.name, etag, &cid))
		cid = meta_new_cid(v->meta);
	place_put(v, &place);
	mutex_lock(&v->lock);
	if (strcmp(i->etag, etag) == 0)
		i->cid = cid;
	*ret_keep = i->opened_cid == cid;
	i->opened_cid = cid;
	mutex_unlock(&v->lock);
	*ret = NULL;
	return size ? fill_open(v->config.fills, key, etag, cid, size, ret) : 0;
}

int vfs_open(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino, int flags,
	     struct vfs_file **ret, bool *ret_keep)
{
	struct vfs_file *f;
	struct inode *i;
	int err;

	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return -EROFS;
	i = inode_get(v, ino);
	if (!i)
		return -ESTALE;
	err = i->kind == META_DIR ? -EISDIR : inode_refresh(v, ctx, i, false);
	if (err) {
		inode_put(v, i);
		return err;
	}
	f = xcalloc(1, sizeof(*f));
	f->v = v;
	f->inode = i;
	mutex_init(&f->lock);
	list_init(&f->old);
	err = open_content(v, i, &f->fill, ret_keep);
	if (err) {
		vfs_release(f);
		return err;
	}
	*ret = f;
	return 0;
}

void vfs_release(struct vfs_file *f)
{
	if (!f)
		return;
	fill_close(f->fill);
	list_for_each_safe(n, tmp, &f->old) {
		struct old_fill *o = list_entry(n, struct old_fill, link);

		fill_close(o->fill);
		free(o);
	}
	inode_put(f->v, f->inode);
	mutex_release(&f->lock);
	free(f);
}

static void start_read(struct vfs_read *r);

/* Runs as a task: the version the read wanted is gone. */
static void move_to_new_version(struct task *t)
{
	struct vfs_read *r = container_of(t, struct vfs_read, task);
	struct vfs_file *f = r->file;
	const struct vfs_ctx ctx = { 0 };
	struct fill_file *fill = NULL;
	bool keep, moved;
	int err;

	mutex_lock(&f->lock);
	moved = f->fill != r->on;
	mutex_unlock(&f->lock);
	if (!moved) {
		err = inode_refresh(f->v, &ctx, f->inode, true);
		if (!err)
			err = open_content(f->v, f->inode, &fill, &keep);
		if (err) {
			r->fill.error = err == -ENOENT ? -ESTALE : err;
			r->done(r);
			return;
		}
		struct old_fill *o = xcalloc(1, sizeof(*o));

		mutex_lock(&f->lock);
		if (f->fill == r->on && !f->served) {
			o->fill = f->fill;
			f->fill = fill;
		} else {
			o->fill = fill;
		}
		list_add_tail(&f->old, &o->link);
		moved = f->fill != r->on;
		mutex_unlock(&f->lock);
	}
	if (!moved) {
		r->fill.error = -ESTALE;
		r->done(r);
		return;
	}
	start_read(r);
}

static void read_done(struct fill_read *fr)
{
	struct vfs_read *r = container_of(fr, struct vfs_read, fill);
	struct vfs_file *f = r->file;
	bool move;

	mutex_lock(&f->lock);
	move = fr->error == -ESTALE && !f->served && r->moves++ < 2;
	if (!fr->error && fr->got > 0) {
		if (r->on != f->fill)
			fr->error = -ESTALE;
		else
			f->served = true;
	}
	mutex_unlock(&f->lock);
	if (move) {
		r->task.run = move_to_new_version;
		tasks_submit(f->v->config.tasks, &r->task);
		return;
	}
	r->done(r);
}

static void start_read(struct vfs_read *r)
{
	struct vfs_file *f = r->file;

	memset(&r->fill, 0, sizeof(r->fill));
	list_init(&r->fill.link);
	mutex_lock(&f->lock);
	r->on = f->fill;
	mutex_unlock(&f->lock);
	r->fill.off = r->off;
	r->fill.len = r->len;
	r->fill.done = read_done;
	if (r->on)
		fill_read(r->on, &r->fill);
	else
		r->done(r);
}

void vfs_read(struct vfs_file *f, struct vfs_read *r)
{
	r->file = f;
	r->moves = 0;
	start_read(r);
}

void vfs_read_cancel(struct vfs_read *r)
{
	struct fill_file *on;

	mutex_lock(&r->file->lock);
	on = r->on;
	mutex_unlock(&r->file->lock);
	if (on)
		fill_cancel(on, &r->fill);
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
