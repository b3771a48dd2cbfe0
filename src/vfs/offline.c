/*
 * R2 is away for seconds or for hours, and a program that reads cached data
 * should not notice. Every question would wait for its own time to run out, so
 * one is enough to stop the asking, and one thread asks on behalf of all.
 */
#include "vfs/offline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define TOLD_NS 2000000000ll

enum { PAUSE_MS = 1000 };

struct offline {
	struct vfs *v;
	struct store_interrupt *interrupt;
	struct task task;
	struct cond changed;
	/* guarded by v->lock */
	bool asking, ending;
	bool now; /* and atomic */
};

struct offline *offline_create(struct vfs *v)
{
	struct offline *o;

	if (!v->config.offline_ok)
		return NULL;
	o = xcalloc(1, sizeof(*o));
	o->v = v;
	o->interrupt = store_interrupt_create();
	cond_init(&o->changed);
	return o;
}

void offline_stop(struct offline *o)
{
	if (!o)
		return;
	mutex_lock(&o->v->lock);
	o->ending = true;
	store_interrupt_raise(o->interrupt);
	cond_broadcast(&o->changed);
	while (o->asking)
		cond_wait(&o->changed, &o->v->lock);
	mutex_unlock(&o->v->lock);
}

void offline_destroy(struct offline *o)
{
	if (!o)
		return;
	store_interrupt_destroy(o->interrupt);
	cond_release(&o->changed);
	free(o);
}

/* Any answer will do. */
static bool answers(struct offline *o)
{
	struct store_req req;
	bool answered;

	store_req_init(&req, STORE_HEAD_BUCKET);
	answered = store_call(o->v->config.store, &req, o->interrupt) == 0 ||
		   req.http_status != 0;
	store_req_release(&req);
	return answered;
}

static void ask(struct task *t)
{
	struct offline *o = container_of(t, struct offline, task);
	struct vfs *v = o->v;
	bool answered = answers(o);

	mutex_lock(&v->lock);
	while (!answered && !o->ending) {
		(void)cond_wait_ms(&o->changed, &v->lock, PAUSE_MS);
		mutex_unlock(&v->lock);
		answered = answers(o);
		mutex_lock(&v->lock);
	}
	__atomic_store_n(&o->now, false, __ATOMIC_RELAXED);
	o->asking = false;
	cond_broadcast(&o->changed);
	mutex_unlock(&v->lock);
	if (answered)
		log_info("vfs", "R2 answers again");
}

static bool is_unreachable(int err)
{
	return err == -ETIMEDOUT || err == -EHOSTUNREACH ||
	       err == -ECONNREFUSED;
}

bool offline_begin(struct vfs *v, int err)
{
	struct offline *o = v->offline;
	bool begins;

	if (!o || !is_unreachable(err))
		return false;
	mutex_lock(&v->lock);
	begins = !o->asking && !o->ending;
	if (begins) {
		o->asking = true;
		__atomic_store_n(&o->now, true, __ATOMIC_RELAXED);
	}
	mutex_unlock(&v->lock);
	if (begins) {
		log_warn("vfs",
			 "R2 cannot be reached (%s): what is cached is shown "
			 "as it was last seen",
			 strerror(-err));
		o->task.run = ask;
		tasks_submit(v->config.tasks, &o->task);
	}
	return true;
}

bool offline_is(struct vfs *v)
{
	return v->offline &&
	       __atomic_load_n(&v->offline->now, __ATOMIC_RELAXED);
}

int64_t offline_ttl(struct vfs *v)
{
	return offline_is(v) ? VFS_TTL_INDEFINITE : v->config.metadata_ttl_ns;
}

int64_t offline_negative_ttl(struct vfs *v)
{
	return offline_is(v) ? VFS_TTL_INDEFINITE : v->config.negative_ttl_ns;
}

int64_t offline_told(struct vfs *v, int64_t ttl_ns)
{
	return offline_is(v) && ttl_ns > TOLD_NS ? TOLD_NS : ttl_ns;
}
