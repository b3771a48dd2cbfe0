/*
 * Threads are made when a task finds nobody idle, and stay: a burst of
 * lookups needs many at once, a quiet mount needs few. Small stacks, since a
 * hundred of them may wait for the network at the same time.
 */
#include "base/task.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/lock.h"

enum { STACK_BYTES = 512 * 1024 };

struct tasks {
	struct mutex lock;
	struct cond work;
	/* guarded by lock */
	struct list queue;
	unsigned queued;
	unsigned threads, idle, max;
	bool ending;
	char name[16];
	pthread_t *ids;
};

static void *worker(void *arg)
{
	struct tasks *ts = arg;

	mutex_lock(&ts->lock);
	for (;;) {
		while (list_empty(&ts->queue) && !ts->ending) {
			ts->idle++;
			cond_wait(&ts->work, &ts->lock);
			ts->idle--;
		}
		if (list_empty(&ts->queue))
			break;
		struct task *t = list_first(&ts->queue, struct task, link);

		list_del(&t->link);
		ts->queued--;
		mutex_unlock(&ts->lock);
		t->run(t);
		mutex_lock(&ts->lock);
	}
	mutex_unlock(&ts->lock);
	return NULL;
}

static int add_thread_locked(struct tasks *ts) REQUIRES(ts->lock)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	err = pthread_create(&ts->ids[ts->threads], &attr, worker, ts);
	pthread_attr_destroy(&attr);
	if (err)
		return -err;
	pthread_setname_np(ts->ids[ts->threads], ts->name);
	ts->threads++;
	return 0;
}

struct tasks *tasks_create(const char *name, unsigned max_threads)
{
	struct tasks *ts = xcalloc(1, sizeof(*ts));

	mutex_init(&ts->lock);
	cond_init(&ts->work);
	list_init(&ts->queue);
	ts->max = max_threads;
	ts->ids = xcalloc(max_threads, sizeof(*ts->ids));
	snprintf(ts->name, sizeof(ts->name), "%s", name);
	mutex_lock(&ts->lock);
	if (add_thread_locked(ts))
		BUG("cannot create the first thread of %s", name);
	mutex_unlock(&ts->lock);
	return ts;
}

void tasks_submit(struct tasks *ts, struct task *t)
{
	mutex_lock(&ts->lock);
	list_add_tail(&ts->queue, &t->link);
	ts->queued++;
	if (ts->queued > ts->idle && ts->threads < ts->max) {
		if (add_thread_locked(ts))
			ts->max = ts->threads;
	}
	cond_signal(&ts->work);
	mutex_unlock(&ts->lock);
}

void tasks_destroy(struct tasks *ts)
{
	if (!ts)
		return;
	mutex_lock(&ts->lock);
	ts->ending = true;
	cond_broadcast(&ts->work);
	mutex_unlock(&ts->lock);
	for (unsigned i = 0; i < ts->threads; i++)
		pthread_join(ts->ids[i], NULL);
	cond_release(&ts->work);
	mutex_release(&ts->lock);
	free(ts->ids);
	free(ts);
}
