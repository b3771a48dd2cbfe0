/*
 * Open files: how a handle comes to the version that it reads.
 *
 * What was asked of R2 a moment ago is not asked again, but who will change the
 * content must know it well, and after a doubt (see file_read.c) R2 decides.
 * An open that finds a version of another size than the kernel knows fails with
 * ESTALE, once, upon which the kernel looks the name up again and learns the
 * size.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/ahead.h"
#include "vfs/backing.h"
#include "vfs/file_impl.h"
#include "vfs/offline.h"
#include "vfs/write.h"

int file_open_version(struct vfs *v, struct inode *i, struct file_version *ret)
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

void file_tell_listener(struct vfs *v, uint64_t ino)
{
	mutex_lock(&v->lock);
	struct vfs_listener l = v->listener;
	mutex_unlock(&v->lock);
	if (l.attributes)
		l.attributes(ino, l.arg);
}

/* Whoever builds on the present content must know it well. */
#define TRUST_FOR_WRITING_NS 1000000000ll

void file_set_doubt(struct vfs *v, struct inode *i, bool doubted)
{
	mutex_lock(&v->lock);
	i->doubted = doubted;
	mutex_unlock(&v->lock);
	if (!doubted)
		file_tell_listener(v, i->ino);
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
		file_set_doubt(v, i, false);
	if (!err && write)
		err = inode_headers(v, ctx, i);
	return err;
}

static int open_inode(struct vfs_file *f, bool *ret_keep)
{
	struct inode *i = f->inode;
	struct vfs *v = f->v;
	struct file_version now;
	int err;

	mutex_lock(&v->lock);
	bool held = i->wb != NULL;
	mutex_unlock(&v->lock);
	*ret_keep = true;
	if (held)
		return 0;
	err = file_open_version(v, i, &now);
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

/* Was changed content given up, so that R2 is to be asked for what it has? */
static bool is_unknown(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	bool unknown = !i->wb && !i->unlinked && !i->checked_ns;
	mutex_unlock(&v->lock);
	return unknown;
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
	if (!err && !write && is_unknown(v, i)) { /* since it was prepared */
		vfs_release(*ret);
		err = prepare(v, ctx, i, write, false);
		if (!err)
			err = open_prepared(v, i, flags, write, ret, ret_keep);
	}
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
