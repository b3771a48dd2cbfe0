/*
 * The table of FUSE requests. User data of the session is struct ops_context.
 * libfuse's types stay inside src/fuse.
 */
#ifndef FUSE_OPS_H
#define FUSE_OPS_H

#include "base/list.h"
#include "base/lock.h"
#include "fuse/session.h"

struct ops_context {
	struct vfs *vfs;
	struct tasks *tasks;
	void (*ready)(void *arg, const struct session_features *features);
	void *arg;
	struct nodes *nodes; /* NULL: no passthrough */
	struct fuse_session *session;
	bool io_uring; /* atomic; asked for; after INIT: in use */
	struct watch *watch; /* NULL: its thread could not be made */
	bool closing; /* atomic: no request begins any more */
	uint64_t *requests; /* atomic */
	unsigned pending; /* atomic: requests that other threads will answer;
			   * the session may not go before they have */
	struct mutex lock;
	struct list jobs; /* guarded by lock: those on waiting threads */
};

/* What the kernel is told on behalf of the vfs; until ops_deaf. */
void ops_listen(struct ops_context *c);
void ops_deaf(struct ops_context *c);

struct fuse_lowlevel_ops;
extern const struct fuse_lowlevel_ops ops_table;
extern const size_t ops_table_size;

#endif
