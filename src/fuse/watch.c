/*
 * Who waits for a request, and whether they are about to die.
 *
 * Over /dev/fuse the kernel tells us of a signal to the caller, any signal and
 * the first only. What comes through a ring cannot be interrupted by libfuse.
 * A process that is killed after a timer went off, or whose request came
 * through a ring, would wait for R2 until the deadline. So those that wait and
 * may be killed without our being told are listed, and looked at a few times a
 * second.
 *
 * libfuse calls the kernel's interrupt with the request locked, so the lock
 * here comes after that one.
 */
#include "fuse/watch.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/lock.h"

enum { LOOK_MS = 200 };

struct watch {
	struct mutex lock;
	struct cond changed;
	/* guarded by lock */
	struct list waiting;
	bool over;
	pthread_t thread;
};

static void *look(void *arg) UNCHECKED
{
	struct watch *w = arg;

	pthread_setname_np(pthread_self(), "r2fs-callers");
	mutex_lock(&w->lock);
	while (!w->over) {
		if (list_empty(&w->waiting)) {
			cond_wait(&w->changed, &w->lock);
			continue;
		}
		(void)cond_wait_ms(&w->changed, &w->lock, LOOK_MS);
		list_for_each(n, &w->waiting) {
			struct waiter *x = list_entry(n, struct waiter, link);

			/* 0: in a pid namespace that is not below ours */
			pid_t caller = fuse_req_ctx(x->req)->pid;

			if (caller && caller_is_dying(caller))
				x->fn(x->req, x->data);
		}
	}
	mutex_unlock(&w->lock);
	return NULL;
}

struct watch *watch_create(void)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	mutex_init(&w->lock);
	cond_init(&w->changed);
	list_init(&w->waiting);
	if (pthread_create(&w->thread, NULL, look, w)) {
		cond_release(&w->changed);
		mutex_release(&w->lock);
		free(w);
		return NULL;
	}
	return w;
}

void watch_destroy(struct watch *w)
{
	if (!w)
		return;
	mutex_lock(&w->lock);
	w->over = true;
	cond_signal(&w->changed);
	mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	cond_release(&w->changed);
	mutex_release(&w->lock);
	free(w);
}

static void enlist(struct waiter *x)
{
	struct watch *w = x->watch;

	mutex_lock(&w->lock);
	if (!x->listed) {
		if (list_empty(&w->waiting))
			cond_signal(&w->changed);
		list_add_tail(&w->waiting, &x->link);
		x->listed = true;
	}
	mutex_unlock(&w->lock);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct waiter *x = data;

	if (caller_is_dying(fuse_req_ctx(req)->pid))
		x->fn(req, x->data);
	else if (x->watch)
		enlist(x);
}

void watch_begin(struct watch *w, struct waiter *x, fuse_req_t req,
		 fuse_interrupt_func_t fn, void *data)
{
	x->watch = w;
	x->req = req;
	x->fn = fn;
	x->data = data;
	if (!request_is_ring(req))
		fuse_req_interrupt_func(req, interrupted, x);
	else if (w)
		enlist(x);
}

void watch_end(struct watch *w, struct waiter *x, fuse_req_t req)
{
	if (!request_is_ring(req))
		fuse_req_interrupt_func(req, NULL, NULL);
	if (!w)
		return;
	mutex_lock(&w->lock);
	if (x->listed)
		list_del(&x->link);
	x->listed = false;
	mutex_unlock(&w->lock);
}
