/*
 * Requests that may have to wait, and what all handlers share.
 *
 * Every request is first tried on the FUSE thread with nowait; -EAGAIN turns
 * it into a job on the waiting threads, which makes the same call again.
 */
#include "fuse/job.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/watch.h"

enum { KERNEL_FOREVER_S = 100000000 };

struct ops_context *ops_context(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

bool ops_begin(struct ops_context *c, fuse_req_t req)
{
	__atomic_add_fetch(&c->pending, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&c->closing, __ATOMIC_SEQ_CST))
		return true;
	fuse_reply_err(req, ENOTCONN);
	ops_end(c);
	return false;
}

bool request_is_ring(fuse_req_t req)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
	return fuse_req_is_uring(req);
#else
	return false;
#endif
}

void ops_enter_uncounted(fuse_req_t req)
{
	static _Thread_local bool stays;

	if (stays || !request_is_ring(req))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	stays = true;
}

void ops_enter(fuse_req_t req)
{
	__atomic_add_fetch(ops_context(req)->requests, 1, __ATOMIC_RELAXED);
	ops_enter_uncounted(req);
}

static double seconds(int64_t ttl_ns)
{
	double s = ttl_ns / 1e9;

	return s > KERNEL_FOREVER_S ? KERNEL_FOREVER_S : s;
}

static unsigned long long signal_bit(int sig)
{
	return 1ull << (sig - 1);
}

/* Is there one that ends the process? Most such signals the kernel turns into
 * a SIGKILL as soon as they are sent, but not those that dump core. */
static bool has_fatal(unsigned long long pending, unsigned long long handled)
{
	static const int dumping[] = { SIGQUIT, SIGILL, SIGTRAP, SIGABRT,
				       SIGBUS,	SIGFPE, SIGSEGV, SIGXCPU,
				       SIGXFSZ, SIGSYS };
	unsigned long long fatal = signal_bit(SIGKILL);

	for (unsigned i = 0; i < ARRAY_SIZE(dumping); i++)
		fatal |= signal_bit(dumping[i]) & ~handled;
	return pending & fatal;
}

bool caller_is_dying(pid_t tid)
{
	unsigned long long set, pending = 0, handled = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return true;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "SigPnd: %llx", &set) == 1 ||
		    sscanf(line, "ShdPnd: %llx", &set) == 1)
			pending |= set;
		else if (sscanf(line, "SigBlk: %llx", &set) == 1 ||
			 sscanf(line, "SigIgn: %llx", &set) == 1 ||
			 sscanf(line, "SigCgt: %llx", &set) == 1)
			handled |= set;
	}
	fclose(f);
	return has_fatal(pending, handled);
}

pid_t caller_process(pid_t tid)
{
	char path[64], line[256];
	int process = 0;
	FILE *f;

	if (tid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Tgid: %d", &process) == 1)
			break;
	fclose(f);
	return process;
}

void note_user(fuse_req_t req, struct vfs_file *f)
{
	pid_t thread = fuse_req_ctx(req)->pid;

	if (!vfs_file_knows(f, thread))
		vfs_file_note(f, thread, caller_process(thread));
}

/* ---- jobs: requests that may wait ---- */

static void job_interrupted(fuse_req_t req, void *data)
{
	struct job *j = data;

	store_interrupt_raise(j->interrupt);
}

static void job_free(struct job *j)
{
	store_interrupt_destroy(j->interrupt);
	free(j->name);
	free(j->name2);
	free(j->value);
	free(j);
}

/* Ends the interrupt's reach before the request is answered. */
void job_settle(struct job *j)
{
	if (j->interrupt)
		watch_end(ops_context(j->req)->watch, &j->waiter, j->req);
}

static void job_error(struct job *j, int err)
{
	job_settle(j);
	fuse_reply_err(j->req, -err);
}

static void job_run(struct task *t)
{
	struct job *j = container_of(t, struct job, task);
	const struct vfs_ctx ctx = { .interrupt = j->interrupt };
	struct ops_context *c = ops_context(j->req);
	int err = j->call(j, &ctx);

	if (err)
		job_error(j, err);
	mutex_lock(&c->lock);
	list_del(&j->link);
	mutex_unlock(&c->lock);
	job_free(j);
	ops_end(c);
}

void jobs_interrupt(struct ops_context *c)
{
	mutex_lock(&c->lock);
	list_for_each(n, &c->jobs) {
		struct job *j = list_entry(n, struct job, link);

		if (!j->stores)
			store_interrupt_raise(j->interrupt);
	}
	mutex_unlock(&c->lock);
}

void job_start(struct job *tried)
{
	const struct vfs_ctx ctx = { .nowait = true };
	struct ops_context *c = ops_context(tried->req);
	struct job *j;
	int err;

	ops_enter(tried->req);
	if (!ops_begin(c, tried->req))
		return;
	tried->node = tried->ino;
	tried->ino = node_ino(tried->ino);
	tried->ino2 = node_ino(tried->ino2);
	err = tried->call(tried, &ctx);
	if (err != -EAGAIN) {
		if (err)
			fuse_reply_err(tried->req, -err);
		ops_end(c);
		return;
	}
	j = xmalloc(sizeof(*j));
	*j = *tried;
	j->name = xstrdup(tried->name);
	j->name2 = xstrdup(tried->name2);
	if (tried->value) {
		j->value = xmalloc(tried->size + 1);
		memcpy(j->value, tried->value, tried->size);
	}
	j->interrupt = store_interrupt_create();
	j->task.run = job_run;
	mutex_lock(&c->lock);
	list_add_tail(&c->jobs, &j->link);
	mutex_unlock(&c->lock);
	watch_begin(c->watch, &j->waiter, j->req, job_interrupted, j);
	tasks_submit(c->tasks, &j->task);
}

/* ---- replies ---- */

double ops_attr_seconds(struct ops_context *c, const struct vfs_entry *e)
{
	return nodes_split(c->nodes, e->st.st_ino) ? 0 : seconds(e->ttl_ns);
}

void ops_entry(struct ops_context *c, const struct vfs_entry *e,
	       struct fuse_entry_param *p)
{
	memset(p, 0, sizeof(*p));
	p->entry_timeout = p->attr_timeout = seconds(e->ttl_ns);
	if (e->negative)
		return;
	p->ino = nodes_current(c->nodes, e->st.st_ino);
	p->attr_timeout = ops_attr_seconds(c, e);
	p->generation = 1;
	p->attr = e->st;
}

void job_reply_entry(struct job *j, const struct vfs_entry *e)
{
	struct fuse_entry_param p;
	struct vfs *v = ops_context(j->req)->vfs;

	job_settle(j);
	ops_entry(ops_context(j->req), e, &p);
	if (fuse_reply_entry(j->req, &p) && p.ino)
		vfs_forget(v, e->st.st_ino, 1);
}
