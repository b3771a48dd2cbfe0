/*
 * Linux 6.18 takes inodes that are to be dropped if nothing uses them. libfuse
 * does not know of it yet, so the message is written here. Before, a name can
 * be called invalid, which takes it from whoever uses it: only files for which
 * there is no handle are, and no folders, which may be somebody's working
 * directory. A file that is opened in this very moment is then shown as
 * "(deleted)" in /proc/PID/fd, and is otherwise what it was.
 *
 * Both may have to wait for requests of the same inodes or folder, so this is
 * done by a task.
 */
#include "fuse/prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/job.h"

enum {
	NOTIFY_PRUNE = 9,
	BATCH = 64,
};

/* As the kernel has it. */
struct prune_message {
	uint32_t len;
	int32_t code;
	uint64_t unique;
	uint32_t count, padding;
	uint64_t spare;
	uint64_t nodes[BATCH];
};

struct pruning {
	struct task task;
	struct ops_context *context;
	size_t n;
	bool by_name;
};

static int by_number(struct ops_context *c, const struct vfs_unused *u,
		     unsigned n)
{
	struct prune_message m = { .code = NOTIFY_PRUNE, .count = n };

	m.len = offsetof(struct prune_message, nodes) + n * sizeof(m.nodes[0]);
	for (unsigned i = 0; i < n; i++)
		m.nodes[i] = nodes_current(c->nodes, u[i].ino);
	return write(fuse_session_fd(c->session), &m, m.len) < 0 ? -errno : 0;
}

static void by_name(struct ops_context *c, const struct vfs_unused *u,
		    unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!u[i].is_dir)
			fuse_lowlevel_notify_inval_entry(
				c->session,
				nodes_current(c->nodes, u[i].parent), u[i].name,
				strlen(u[i].name));
}

static void run(struct task *t)
{
	struct pruning *p = container_of(t, struct pruning, task);
	struct ops_context *c = p->context;
	struct vfs_unused batch[BATCH];
	size_t done = 0;

	while (done < p->n) {
		unsigned n = vfs_unused(c->vfs, batch, BATCH);

		if (!n)
			break;
		if (!p->by_name && by_number(c, batch, n))
			p->by_name = true;
		if (p->by_name)
			by_name(c, batch, n);
		done += n;
	}
	log_debug("session", "asked the kernel to forget %zu names", done);
	free(p);
	ops_end(c);
}

void prune(size_t n, void *context)
{
	struct ops_context *c = context;
	struct pruning *p;

	__atomic_add_fetch(&c->pending, 1, __ATOMIC_SEQ_CST);
	p = xcalloc(1, sizeof(*p));
	p->context = c;
	p->n = n;
	p->task.run = run;
	tasks_submit(c->tasks, &p->task);
}
