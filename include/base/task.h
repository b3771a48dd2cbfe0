/*
 * Thread pool with a FIFO of tasks: runs the sequential multi-step work
 * (lookup misses, LIST, disk writes) off the FUSE and event-loop threads.
 *
 * Threads are created on demand up to the maximum and stay. A task embeds a
 * struct task; it belongs to the pool from submit until its run begins.
 */
#ifndef BASE_TASK_H
#define BASE_TASK_H

#include "base/err.h"
#include "base/list.h"

struct tasks;

struct task {
	struct list link;
	void (*run)(struct task *t);
};

/* max_threads > 0; name (<= 15 chars) is shown by ps -L. Call after fork. */
struct tasks *tasks_create(const char *name, unsigned max_threads);

/* Never fails: a task that cannot get a new thread waits for a running one. */
void tasks_submit(struct tasks *ts, struct task *t);

/* Waits until every submitted task has run, joins the threads, frees. */
void tasks_destroy(struct tasks *ts);

#endif
