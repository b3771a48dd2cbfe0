/*
 * Kernel requests that change the bucket: unpack, call, reply.
 *
 * Writes never wait for the network and are answered on the FUSE thread; what
 * does wait (close, fsync, rename, ...) goes through a job.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fuse/job.h"

static struct vfs *vfs_of(struct job *j)
{
	return ops_context(j->req)->vfs;
}

static struct vfs_file *file_of(const struct fuse_file_info *fi)
{
	return (struct vfs_file *)(uintptr_t)fi->fh;
}

static struct vfs_owner owner_of(fuse_req_t req, mode_t mode)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);

	return (struct vfs_owner){ c->uid, c->gid, mode };
}

static void reply_done(struct job *j)
{
	job_settle(j);
	fuse_reply_err(j->req, 0);
}

/* ---- attributes ---- */

static int call_setattr(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_setattr(vfs_of(j), ctx, j->ino, &j->change, &e);

	if (err)
		return err;
	job_settle(j);
	fuse_reply_attr(j->req, &e.st,
			ops_attr_seconds(ops_context(j->req), &e));
	return 0;
}

/* The years that nanoseconds and the metadata can hold: 1970 to 2255. */
static int64_t to_ns(const struct timespec *t)
{
	if (t->tv_sec < 0)
		return 0;
	if (t->tv_sec > 9000000000)
		return 9000000000ll * 1000000000;
	return t->tv_sec * 1000000000ll + t->tv_nsec;
}

static void take_times(struct vfs_change *c, const struct stat *st, int set)
{
	int64_t now = clock_wall_ns();

	if (set & FUSE_SET_ATTR_MTIME_NOW) {
		c->mask |= VFS_SET_MTIME;
		c->mtime_ns = now;
	} else if (set & FUSE_SET_ATTR_MTIME) {
		c->mask |= VFS_SET_MTIME;
		c->mtime_ns = to_ns(&st->st_mtim);
	}
	if (set & FUSE_SET_ATTR_ATIME_NOW) {
		c->mask |= VFS_SET_ATIME;
		c->atime_ns = now;
	} else if (set & FUSE_SET_ATTR_ATIME) {
		c->mask |= VFS_SET_ATIME;
		c->atime_ns = to_ns(&st->st_atim);
	}
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		struct fuse_file_info *fi)
{
	struct job j = { .req = req, .call = call_setattr, .ino = ino };
	struct vfs_change *c = &j.change;

	if (set & FUSE_SET_ATTR_MODE)
		c->mask |= VFS_SET_MODE;
	if (set & FUSE_SET_ATTR_UID)
		c->mask |= VFS_SET_UID;
	if (set & FUSE_SET_ATTR_GID)
		c->mask |= VFS_SET_GID;
	if (set & FUSE_SET_ATTR_SIZE)
		c->mask |= VFS_SET_SIZE;
	c->mode = st->st_mode;
	c->uid = st->st_uid;
	c->gid = st->st_gid;
	c->size = (uint64_t)st->st_size;
	take_times(c, st, set);
	job_start(&j);
}

static int call_setxattr(struct job *j, const struct vfs_ctx *ctx)
{
	int err = vfs_setxattr(vfs_of(j), ctx, j->ino, j->name, j->value,
			       j->size, (int)j->flags);

	if (!err)
		reply_done(j);
	return err;
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 const char *value, size_t size, int flags)
{
	struct job j = { .req = req,
			 .call = call_setxattr,
			 .ino = ino,
			 .name = (char *)name,
			 .value = (void *)value,
			 .size = size,
			 .flags = (unsigned)flags };

	job_start(&j);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct job j = { .req = req,
			 .call = call_setxattr,
			 .ino = ino,
			 .name = (char *)name };

	job_start(&j);
}

/* ---- making names ---- */

static int call_create(struct job *j, const struct vfs_ctx *ctx)
{
	struct ops_context *c = ops_context(j->req);
	struct fuse_entry_param p;
	struct vfs *v = vfs_of(j);
	struct vfs_file *f;
	struct vfs_entry e;
	int err = j->name ? vfs_create(v, ctx, j->ino, j->name, &j->owner,
				       j->fi.flags, &e, &f) :
			    vfs_tmpfile(v, ctx, j->ino, &j->owner, j->fi.flags,
					&e, &f);

	if (err)
		return err;
	job_settle(j);
	ops_entry(c, &e, &p);
	p.ino = nodes_create_open(c->nodes, e.st.st_ino);
	j->fi.fh = (uintptr_t)f;
	note_user(j->req, f);
	if (fuse_reply_create(j->req, &p, &j->fi)) {
		nodes_release(c->nodes, j->req, p.ino);
		vfs_release(f);
		vfs_forget(v, e.st.st_ino, 1);
	}
	return 0;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct job j = { .req = req,
			 .call = call_create,
			 .ino = parent,
			 .name = (char *)name,
			 .fi = *fi };

	j.owner = owner_of(req, mode);
	job_start(&j);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		struct fuse_file_info *fi)
{
	struct job j = {
		.req = req, .call = call_create, .ino = parent, .fi = *fi
	};

	j.owner = owner_of(req, mode);
	job_start(&j);
}
#endif

static int call_mkdir(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_mkdir(vfs_of(j), ctx, j->ino, j->name, &j->owner, &e);

	if (!err)
		job_reply_entry(j, &e);
	return err;
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct job j = { .req = req,
			 .call = call_mkdir,
			 .ino = parent,
			 .name = (char *)name };

	j.owner = owner_of(req, mode);
	job_start(&j);
}

static int call_mknod(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_mknod(vfs_of(j), ctx, j->ino, j->name, &j->owner, &e);

	if (!err)
		job_reply_entry(j, &e);
	return err;
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	      dev_t rdev)
{
	struct job j = { .req = req,
			 .call = call_mknod,
			 .ino = parent,
			 .name = (char *)name };

	j.owner = owner_of(req, mode);
	job_start(&j);
}

static int call_symlink(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_symlink(vfs_of(j), ctx, j->ino, j->name, j->name2,
			      &j->owner, &e);

	if (!err)
		job_reply_entry(j, &e);
	return err;
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		const char *name)
{
	struct job j = { .req = req,
			 .call = call_symlink,
			 .ino = parent,
			 .name = (char *)name,
			 .name2 = (char *)target };

	j.owner = owner_of(req, 0777);
	job_start(&j);
}

static int call_link(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_link(vfs_of(j), ctx, j->ino, j->ino2, j->name, &e);

	if (!err)
		job_reply_entry(j, &e);
	return err;
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
	     const char *name)
{
	struct job j = { .req = req,
			 .call = call_link,
			 .ino = ino,
			 .ino2 = parent,
			 .name = (char *)name };

	job_start(&j);
}

/* ---- removing and moving ---- */

static int call_unlink(struct job *j, const struct vfs_ctx *ctx)
{
	int err = vfs_unlink(vfs_of(j), ctx, j->ino, j->name);

	if (!err)
		reply_done(j);
	return err;
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct job j = { .req = req,
			 .call = call_unlink,
			 .ino = parent,
			 .name = (char *)name };

	job_start(&j);
}

static int call_rmdir(struct job *j, const struct vfs_ctx *ctx)
{
	int err = vfs_rmdir(vfs_of(j), ctx, j->ino, j->name);

	if (!err)
		reply_done(j);
	return err;
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct job j = { .req = req,
			 .call = call_rmdir,
			 .ino = parent,
			 .name = (char *)name };

	job_start(&j);
}

static int call_rename(struct job *j, const struct vfs_ctx *ctx)
{
	int err = vfs_rename(vfs_of(j), ctx, j->ino, j->name, j->ino2, j->name2,
			     j->flags);

	if (!err)
		reply_done(j);
	return err;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	       fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	struct job j = { .req = req,
			 .call = call_rename,
			 .ino = parent,
			 .name = (char *)name,
			 .ino2 = to_parent,
			 .name2 = (char *)to_name,
			 .flags = flags };

	job_start(&j);
}

/* ---- content ---- */

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
	      off_t off, struct fuse_file_info *fi)
{
	int err;

	ops_enter(req);
	note_user(req, file_of(fi));
	err = vfs_write(file_of(fi), buf, size, (uint64_t)off);
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_write(req, size);
}

static int flush(struct job *j, const struct vfs_ctx *ctx, bool sync)
{
	int err = vfs_flush(file_of(&j->fi), ctx, sync);

	if (!err)
		reply_done(j);
	return err;
}

static int call_flush(struct job *j, const struct vfs_ctx *ctx)
{
	return flush(j, ctx, false);
}

static int call_fsync(struct job *j, const struct vfs_ctx *ctx)
{
	return flush(j, ctx, true);
}

static void start_flush(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi,
			int (*call)(struct job *j, const struct vfs_ctx *ctx))
{
	struct job j = {
		.req = req, .call = call, .ino = ino, .stores = true, .fi = *fi
	};

	job_start(&j);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct vfs_file *f = file_of(fi);

	ops_enter_uncounted(req);
	if (vfs_file_knows(f, fuse_req_ctx(req)->pid) ||
	    vfs_file_used_by(f, caller_process(fuse_req_ctx(req)->pid))) {
		start_flush(req, ino, fi, call_flush);
		return;
	}
	ops_enter(req);
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	      struct fuse_file_info *fi)
{
	start_flush(req, ino, fi, call_fsync);
}

static int call_fsyncdir(struct job *j, const struct vfs_ctx *ctx)
{
	int err = vfs_fsyncdir(vfs_of(j), ctx, j->ino);

	if (!err)
		reply_done(j);
	return err;
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi)
{
	struct job j = { .req = req, .call = call_fsyncdir, .ino = ino };

	job_start(&j);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out,
			size_t len, int flags)
{
	ssize_t n;

	ops_enter(req);
	note_user(req, file_of(fi_out));
	n = vfs_copy(file_of(fi_in), (uint64_t)off_in, file_of(fi_out),
		     (uint64_t)off_out, len);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		  off_t len, struct fuse_file_info *fi)
{
	int err = -EINVAL;

	ops_enter(req);
	if (off >= 0 && len > 0)
		err = vfs_fallocate(file_of(fi), mode, (uint64_t)off,
				    (uint64_t)len);
	fuse_reply_err(req, -err);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	      struct fuse_file_info *fi)
{
	uint64_t at;
	int err = -ENXIO;

	ops_enter(req);
	if (off >= 0)
		err = vfs_seek(file_of(fi), (uint64_t)off, whence, &at);
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_lseek(req, (off_t)at);
}
