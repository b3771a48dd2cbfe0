/*
 * What the FUSE handlers share: requests that may wait, and replies. Only for
 * src/fuse: libfuse's types show.
 */
#ifndef FUSE_JOB_H
#define FUSE_JOB_H

#include <fuse_lowlevel.h>

#include "base/list.h"
#include "base/task.h"
#include "fuse/nodes.h"
#include "fuse/ops.h"

/* A request that can be interrupted: see fuse/watch.h. */
struct waiter {
	struct list link;
	fuse_req_t req;
	struct watch *watch;
	fuse_interrupt_func_t fn;
	void *data;
	bool listed; /* guarded by the watch's lock */
};

struct job {
	struct task task;
	struct list link; /* ops_context.jobs */
	bool stores; /* its end is the end of an upload: never cut short
		      * because the mount ends */
	struct waiter waiter;
	fuse_req_t req;
	struct store_interrupt *interrupt;
	/* Replies and returns 0, or returns -errno; -EAGAIN under nowait. */
	int (*call)(struct job *j, const struct vfs_ctx *ctx);
	uint64_t ino, ino2; /* the kernel's nodes until job_start */
	uint64_t node; /* open: what ino was */
	char *name, *name2;
	void *value; /* size bytes, or NULL */
	size_t size;
	uint64_t off;
	bool plus;
	unsigned flags;
	struct vfs_owner owner;
	struct vfs_change change;
	struct fuse_file_info fi;
};

/* Tries the call; if it must wait, a copy of the job makes it again on a
 * thread that may. Strings and value are borrowed for the call only. */
void job_start(struct job *tried);
/* Ends the interrupt's reach: before the request is answered. */
void job_settle(struct job *j);
/* Interrupts all jobs but those that store: the mount ends. */
void jobs_interrupt(struct ops_context *c);
/* Answers with an entry that counts as a lookup. */
void job_reply_entry(struct job *j, const struct vfs_entry *e);

struct ops_context *ops_context(fuse_req_t req);

/* False: the session ends, and the request was refused. */
bool ops_begin(struct ops_context *c, fuse_req_t req);
/* First in every handler: counts the request. Threads of rings are not to be
 * cancelled within one, as libfuse does when it ends. */
void ops_enter(fuse_req_t req);
void ops_enter_uncounted(fuse_req_t req);
bool request_is_ring(fuse_req_t req);

static inline void ops_end(struct ops_context *c)
{
	__atomic_sub_fetch(&c->pending, 1, __ATOMIC_RELEASE);
}

void ops_entry(struct ops_context *c, const struct vfs_entry *e,
	       struct fuse_entry_param *p);
/* How long the kernel may believe the attributes. */
double ops_attr_seconds(struct ops_context *c, const struct vfs_entry *e);
/* Is a fatal signal waiting for this thread, or is the thread gone? */
bool caller_is_dying(pid_t tid);
/* The process of a thread; 0: cannot be told (another pid namespace). */
pid_t caller_process(pid_t tid);
/* The request's caller uses the handle: it opened it, or writes to it. */
void note_user(fuse_req_t req, struct vfs_file *f);

/* ---- change.c: handlers of what changes the bucket ---- */

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		struct fuse_file_info *fi);
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	      dev_t rdev);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
	     const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	       fuse_ino_t to_parent, const char *to_name, unsigned flags);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
	      off_t off, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	      struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out,
			size_t len, int flags);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		  off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	      struct fuse_file_info *fi);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
