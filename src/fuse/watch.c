/*
 * Who waits for a request, and whether they are about to die.
 *
 * Over /dev/fuse the kernel tells us of signals. What comes through a ring
 * cannot be interrupted by libfuse, and a process that is killed would wait
 * for R2 until the deadline. So those requests that have to wait are listed,
 * and their callers are looked at a few times a second.
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

			if (caller_is_dying(x->pid))
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

void watch_begin(struct watch *w, struct waiter *x, fuse_req_t req,
		 fuse_interrupt_func_t fn, void *data)
{
	x->listed = w && request_is_ring(req);
	if (!x->listed) {
		fuse_req_interrupt_func(req, fn, data);
		return;
	}
	x->req = req;
	x->fn = fn;
	x->data = data;
	x->pid = fuse_req_ctx(req)->pid;
	mutex_lock(&w->lock);
	if (list_empty(&w->waiting))
		cond_signal(&w->changed);
	list_add_tail(&w->waiting, &x->link);
	mutex_unlock(&w->lock);
}

void watch_end(struct watch *w, struct waiter *x, fuse_req_t req)
{
	if (!x->listed) {
		fuse_req_interrupt_func(req, NULL, NULL);
		return;
	}
	mutex_lock(&w->lock);
	list_del(&x->link);
	mutex_unlock(&w->lock);
	x->listed = false;
}
