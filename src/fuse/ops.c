/*
 * Kernel requests to vfs calls to replies: unpack, call, reply.
 *
 * Every request is first tried on the FUSE thread with nowait; -EAGAIN turns
 * it into a job on the waiting threads, which makes the same call again. So
 * a cached answer costs no hand-over and a slow one holds no FUSE thread.
 * Reads are asynchronous throughout: the thread that has the bytes replies.
 *
 * Interrupts. Failing a read because of a timer or Go's preemption signal would
 * break programs that work on a local disk, so a request ends early only if its
 * caller is about to die (see fuse/watch.h). libfuse calls the interrupt
 * function with the request locked: replying from there would deadlock, so a
 * read is cancelled by a task, and while that runs the cancelling side owns the
 * reply.
 */
#include "fuse/ops.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "fuse/job.h"
#include "fuse/prune.h"
#include "fuse/watch.h"

enum {
	COPY_BYTES = 32768, /* below this a pread beats a splice */
	MAX_WRITE = 1 << 20,
};

/* ---- names and attributes ---- */

static int call_lookup(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err =
		vfs_lookup(ops_context(j->req)->vfs, ctx, j->ino, j->name, &e);

	if (!err)
		job_reply_entry(j, &e);
	return err;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct job j = { .req = req, .call = call_lookup, .ino = parent };

	j.name = (char *)name;
	job_start(&j);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	ops_enter_uncounted(req);
	vfs_forget(ops_context(req)->vfs, node_ino(ino), n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	ops_enter_uncounted(req);
	for (size_t i = 0; i < count; i++)
		vfs_forget(ops_context(req)->vfs, node_ino(forgets[i].ino),
			   forgets[i].nlookup);
	fuse_reply_none(req);
}

static int call_getattr(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_entry e;
	int err = vfs_getattr(ops_context(j->req)->vfs, ctx, j->ino, &e);

	if (err)
		return err;
	job_settle(j);
	fuse_reply_attr(j->req, &e.st,
			ops_attr_seconds(ops_context(j->req), &e));
	return 0;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct job j = { .req = req, .call = call_getattr, .ino = ino };

	job_start(&j);
}

static int call_readlink(struct job *j, const struct vfs_ctx *ctx)
{
	char *target;
	int err = vfs_readlink(ops_context(j->req)->vfs, ctx, j->ino, &target);

	if (err)
		return err;
	job_settle(j);
	fuse_reply_readlink(j->req, target);
	free(target);
	return 0;
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct job j = { .req = req, .call = call_readlink, .ino = ino };

	job_start(&j);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int err;

	ops_enter(req);
	err = vfs_statfs(ops_context(req)->vfs, &st);

	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_statfs(req, &st);
}

static int call_xattr(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs *v = ops_context(j->req)->vfs;
	char *bytes = NULL;
	ssize_t n = j->name ? vfs_getxattr(v, ctx, j->ino, j->name, &bytes) :
			      vfs_listxattr(v, ctx, j->ino, &bytes);

	if (n < 0)
		return n;
	job_settle(j);
	if (j->size == 0)
		fuse_reply_xattr(j->req, n);
	else if ((size_t)n > j->size)
		fuse_reply_err(j->req, ERANGE);
	else
		fuse_reply_buf(j->req, bytes, n);
	free(bytes);
	return 0;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	struct job j = {
		.req = req, .call = call_xattr, .ino = ino, .size = size
	};

	j.name = (char *)name;
	job_start(&j);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct job j = {
		.req = req, .call = call_xattr, .ino = ino, .size = size
	};

	job_start(&j);
}

/* ---- directories ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct vfs_dir *d;
	int err;

	ops_enter(req);
	err = vfs_opendir(ops_context(req)->vfs, node_ino(ino), &d);

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi))
		vfs_releasedir(d);
}

struct dir_buf {
	fuse_req_t req;
	char *data;
	size_t len, cap;
	bool plus;
};

static bool emit(const struct vfs_dirent *e, void *arg)
{
	struct dir_buf *b = arg;
	struct fuse_entry_param p;
	size_t n;

	if (!b->plus) {
		n = fuse_add_direntry(b->req, b->data + b->len, b->cap - b->len,
				      e->name, &e->entry.st, e->next_off);
	} else {
		bool dots = e->next_off <= 2;

		ops_entry(ops_context(b->req), &e->entry, &p);
		if (dots)
			p.ino = 0;
		n = fuse_add_direntry_plus(b->req, b->data + b->len,
					   b->cap - b->len, e->name, &p,
					   e->next_off);
	}
	if (n > b->cap - b->len)
		return false;
	b->len += n;
	return true;
}

static int call_readdir(struct job *j, const struct vfs_ctx *ctx)
{
	struct vfs_dir *d = (struct vfs_dir *)(uintptr_t)j->fi.fh;
	struct dir_buf b = { .req = j->req, .cap = j->size, .plus = j->plus };
	int err;

	b.data = malloc(j->size);
	if (!b.data)
		return -ENOMEM;
	err = vfs_readdir(d, ctx, j->off, j->plus, emit, &b);
	if (!err) {
		job_settle(j);
		fuse_reply_buf(j->req, b.data, b.len);
	}
	free(b.data);
	return err;
}

static void readdir_start(fuse_req_t req, size_t size, off_t off,
			  struct fuse_file_info *fi, bool plus)
{
	struct job j = { .req = req,
			 .call = call_readdir,
			 .size = size,
			 .off = off,
			 .plus = plus,
			 .fi = *fi };

	job_start(&j);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	readdir_start(req, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	readdir_start(req, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino,
			  struct fuse_file_info *fi)
{
	ops_enter(req);
	vfs_releasedir((struct vfs_dir *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* ---- files ---- */

/* Nothing is left to be stored or told when a reading handle is closed. */
static void no_flush(struct fuse_file_info *fi)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 12)
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY &&
		      !(fi->flags & O_TRUNC);
#endif
}

static int reply_open(struct job *j, struct vfs_file *f)
{
	struct nodes *nodes = ops_context(j->req)->nodes;

	if ((j->fi.flags & O_ACCMODE) != O_RDONLY)
		note_user(j->req, f);
	j->fi.fh = (uintptr_t)f;
	no_flush(&j->fi);
	if (fuse_reply_open(j->req, &j->fi)) {
		nodes_release(nodes, j->req, j->node);
		vfs_release(f);
	}
	return 0;
}

static int call_open(struct job *j, const struct vfs_ctx *ctx)
{
	struct ops_context *c = ops_context(j->req);
	bool may_pass = nodes_may_pass(c->nodes, &j->fi), keep;
	struct vfs_file *f;
	int err = 0;

	if (!may_pass)
		err = nodes_open(c->nodes, j->req, j->node, NULL, &j->fi);
	if (err)
		return err;
	err = vfs_open(c->vfs, ctx, j->ino, j->fi.flags, &f, &keep);
	if (err) {
		if (!may_pass)
			nodes_release(c->nodes, j->req, j->node);
		else if (err == -ESTALE)
			nodes_leave(c->nodes, j->req, j->node);
		return err;
	}
	j->fi.keep_cache = keep;
	if (may_pass)
		err = nodes_open(c->nodes, j->req, j->node, f, &j->fi);
	if (err) {
		vfs_release(f);
		return err;
	}
	job_settle(j);
	return reply_open(j, f);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct job j = { .req = req, .call = call_open, .ino = ino, .fi = *fi };

	job_start(&j);
}

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	ops_enter(req);
	nodes_release(ops_context(req)->nodes, req, ino);
	vfs_release((struct vfs_file *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

struct read_job {
	struct vfs_read read;
	struct waiter waiter;
	fuse_req_t req;
	struct ops_context *context;
	struct task cancel;
	atomic_uint refs; /* the read, and a cancel under way */
	atomic_bool cancelled; /* a cancel is under way */
	struct mutex lock;
	/* guarded by lock */
	bool ended;
	bool cancelling; /* the cancelling side will reply */
};

static void read_put(struct read_job *j)
{
	struct ops_context *c = j->context;

	if (atomic_fetch_sub(&j->refs, 1) > 1)
		return;
	mutex_release(&j->lock);
	free(j);
	ops_end(c);
}

static void reply_read(struct read_job *j)
{
	struct fill_read *r = &j->read.fill;
	struct fuse_bufvec vec = FUSE_BUFVEC_INIT(r->got);
	char copy[COPY_BYTES];
	struct stat st;
	ssize_t n;

	if (r->error) {
		fuse_reply_err(j->req, -r->error);
	} else if (r->data || r->got == 0) {
		fuse_reply_buf(j->req, r->data, r->got);
	} else if (r->got <= COPY_BYTES) {
		n = pread(r->fd, copy, r->got, r->fd_off);
		if (n == (ssize_t)r->got)
			fuse_reply_buf(j->req, copy, n);
		else
			fuse_reply_err(j->req, EIO);
	} else if (fstat(r->fd, &st) ||
		   st.st_size < r->fd_off + (off_t)r->got) {
		fuse_reply_err(j->req, EIO); /* short would look like the end */
	} else {
		vec.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK |
				   FUSE_BUF_FD_RETRY;
		vec.buf[0].fd = r->fd;
		vec.buf[0].pos = r->fd_off;
		fuse_reply_data(j->req, &vec, 0);
	}
}

static void read_done(struct vfs_read *r)
{
	struct read_job *j = container_of(r, struct read_job, read);
	bool reply;

	mutex_lock(&j->lock);
	j->ended = true;
	reply = !j->cancelling;
	mutex_unlock(&j->lock);
	if (!reply) {
		read_put(j);
		return;
	}
	watch_end(j->context->watch, &j->waiter, j->req);
	reply_read(j);
	read_put(j);
}

static void read_cancel(struct task *t)
{
	struct read_job *j = container_of(t, struct read_job, cancel);
	bool reply;

	mutex_lock(&j->lock);
	reply = !j->ended;
	j->cancelling = reply;
	mutex_unlock(&j->lock);
	if (reply) {
		vfs_read_cancel(&j->read);
		mutex_lock(&j->lock);
		reply = j->ended;
		j->cancelling = false;
		mutex_unlock(&j->lock);
		if (reply) {
			watch_end(j->context->watch, &j->waiter, j->req);
			fuse_reply_err(j->req, EINTR);
		}
	}
	atomic_store(&j->cancelled, false);
	read_put(j);
}

static void read_interrupted(fuse_req_t req, void *data)
{
	struct read_job *j = data;

	if (atomic_exchange(&j->cancelled, true))
		return;
	atomic_fetch_add(&j->refs, 1);
	tasks_submit(ops_context(req)->tasks, &j->cancel);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct read_job *j;

	ops_enter(req);
	if (!ops_begin(ops_context(req), req))
		return;
	j = xcalloc(1, sizeof(*j));
	j->req = req;
	j->context = ops_context(req);
	j->cancel.run = read_cancel;
	atomic_init(&j->refs, 1);
	mutex_init(&j->lock);
	j->read.off = off;
	j->read.len = size;
	j->read.done = read_done;
	j->read.file = (struct vfs_file *)(uintptr_t)fi->fh;
	watch_begin(j->context->watch, &j->waiter, req, read_interrupted, j);
	vfs_read(j->read.file, &j->read);
}

/* ---- session ---- */

static void want(struct fuse_conn_info *conn, unsigned cap)
{
	if (conn->capable & cap)
		conn->want |= cap;
}

/* Only the attributes, not the pages: this takes no lock a request may hold. */
static void node_changed(uint64_t node, void *context)
{
	struct ops_context *c = context;

	fuse_lowlevel_notify_inval_inode(c->session, node, -1, 0);
}

static void attributes_changed(uint64_t ino, void *context)
{
	struct ops_context *c = context;

	nodes_each(c->nodes, ino, node_changed, c);
}

void ops_listen(struct ops_context *c)
{
	const struct vfs_listener listener = { .attributes = attributes_changed,
					       .crowded = prune,
					       .arg = c };

	vfs_listen(c->vfs, &listener);
}

void ops_deaf(struct ops_context *c)
{
	vfs_listen(c->vfs, NULL);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static bool want_passthrough(struct fuse_conn_info *conn)
{
	return geteuid() == 0 &&
	       fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
}
#else
static bool want_passthrough(struct fuse_conn_info *conn)
{
	return false;
}
#endif

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
static bool has_io_uring(const struct fuse_conn_info *conn)
{
	return conn->want_ext & FUSE_CAP_OVER_IO_URING;
}
#else
static bool has_io_uring(const struct fuse_conn_info *conn)
{
	return false;
}
#endif

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ops_context *c = userdata;
	struct session_features features = {
		.passthrough = want_passthrough(conn),
		.io_uring = c->io_uring && has_io_uring(conn),
	};

	__atomic_store_n(&c->io_uring, features.io_uring, __ATOMIC_RELAXED);
	if (features.passthrough)
		c->nodes = nodes_create(c->vfs, node_changed, c);
	c->watch = watch_create();
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_ASYNC_READ);
	want(conn, FUSE_CAP_SPLICE_WRITE);
	want(conn, FUSE_CAP_SPLICE_MOVE);
	want(conn, FUSE_CAP_CACHE_SYMLINKS);
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
	conn->max_write = MAX_WRITE;
	conn->max_background = 128;
	conn->congestion_threshold = 96;
	conn->time_gran = 1;
	c->ready(c->arg, &features);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.create = op_create,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
	.tmpfile = op_tmpfile,
#endif
	.mkdir = op_mkdir,
	.mknod = op_mknod,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.write = op_write,
	.flush = op_flush,
	.fsync = op_fsync,
	.fsyncdir = op_fsyncdir,
	.copy_file_range = op_copy_file_range,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.readlink = op_readlink,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.open = op_open,
	.read = op_read,
	.release = op_release,
};

const size_t ops_table_size = sizeof(ops_table);
