/*
 * The uploader: stores that nobody waits for.
 *
 * One long task sleeps until the next owed inode is due and hands it to the
 * waiting threads, a few at a time. What fails for a reason that may pass is
 * tried again, ever more slowly, because the writer was promised it; what is
 * refused for good goes to the journal.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/ahead.h"
#include "vfs/listahead.h"
#include "vfs/offline.h"
#include "vfs/removal.h"
#include "vfs/write.h"

enum { PARALLEL = 16, WAKE_MS = 100 };

#define RETRY_NS     1000000000ll
#define RETRY_MAX_NS 60000000000ll

struct owed_job {
	struct task task;
	struct vfs *v;
	struct inode *inode; /* a reference */
};

bool error_may_pass(int err)
{
	return err == -ETIMEDOUT || err == -EIO || err == -EAGAIN ||
	       err == -ECONNREFUSED || err == -EHOSTUNREACH || err == -EINTR ||
	       err == -ECANCELED || err == -EBADMSG || err == -EPROTO;
}

static void folder_touched(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->touching = false;
	cond_broadcast(&v->inode_free);
	mutex_unlock(&v->lock);
}

static void folder_refused(struct vfs *v, struct inode *i, int err)
{
	log_error("vfs", "attributes of %s could not be stored: %s", i->name,
		  strerror(-err));
	folder_give_up(v, i);
}

/* What was changed during the store is owed in its turn, unless somebody has
 * yet to close the file. */
static void stored_once(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);
	bool left;

	mutex_lock(&v->lock);
	left = wb && !i->unlinked && !i->owed && i->writers == 0 &&
	       writeback_dirty(wb);
	mutex_unlock(&v->lock);
	writeback_put(wb);
	if (left)
		inode_owe(v, i, OWED_ATTR_NS);
	else
		inode_settle(v, i);
}

static void run_owed(struct task *t)
{
	struct owed_job *j = container_of(t, struct owed_job, task);
	const struct vfs_ctx ctx = { .owed = true };
	struct vfs *v = j->v;
	bool folder = j->inode->kind == META_DIR;
	int err = folder ? folder_store(v, &ctx, j->inode) :
			   inode_store(v, &ctx, j->inode);

	if (folder)
		folder_touched(v, j->inode);
	if (err && error_may_pass(err))
		inode_owe_again(v, j->inode);
	else if (err && folder)
		folder_refused(v, j->inode, err);
	else if (err)
		inode_abandon(v, j->inode);
	else
		stored_once(v, j->inode);
	inode_put(v, j->inode);
	free(j);
	mutex_lock(&v->lock);
	v->storing--;
	cond_broadcast(&v->owed_changed);
	mutex_unlock(&v->lock);
}

/* The first due inode, taken off the list; its reference moves along. */
static struct inode *take_due_locked(struct vfs *v, int64_t now, int64_t *next)
	REQUIRES(v->lock)
{
	*next = INT64_MAX;
	list_for_each(n, &v->owed) {
		struct inode *i = list_entry(n, struct inode, owed_link);

		if (i->owed_ns <= now) {
			list_del(n);
			i->owed = false;
			i->touching = i->kind == META_DIR;
			return i;
		}
		if (i->owed_ns < *next)
			*next = i->owed_ns;
	}
	return NULL;
}

static void uploader(struct task *t)
{
	struct vfs *v = container_of(t, struct vfs, uploader_task);
	int64_t now, next;

	mutex_lock(&v->lock);
	while (!v->ending) {
		struct inode *i = NULL;

		now = (int64_t)clock_mono_ns();
		if (v->storing < PARALLEL)
			i = take_due_locked(v, now, &next);
		if (!i) {
			if (list_empty(&v->owed))
				break;
			cond_wait_ms(&v->owed_changed, &v->lock, WAKE_MS);
			continue;
		}
		v->storing++;
		mutex_unlock(&v->lock);
		struct owed_job *j = xcalloc(1, sizeof(*j));

		j->v = v;
		j->inode = i;
		j->task.run = run_owed;
		tasks_submit(v->config.tasks, &j->task);
		mutex_lock(&v->lock);
	}
	v->uploader = false;
	cond_broadcast(&v->owed_changed);
	mutex_unlock(&v->lock);
}

void inode_owe(struct vfs *v, struct inode *i, int64_t delay_ns)
{
	int64_t due = (int64_t)clock_mono_ns() + delay_ns;
	bool start;

	mutex_lock(&v->lock);
	if (!i->owed) {
		i->owed = true;
		i->owed_since_ns = (int64_t)clock_mono_ns();
		i->refs++;
		list_init(&i->owed_link);
		list_add_tail(&v->owed, &i->owed_link);
	}
	i->owed_ns = due;
	start = !v->uploader && !v->ending;
	v->uploader |= start;
	cond_broadcast(&v->owed_changed);
	mutex_unlock(&v->lock);
	if (start) {
		v->uploader_task.run = uploader;
		tasks_submit(v->config.tasks, &v->uploader_task);
	}
}

/* It may take long now: what was put off for a moment is put down. */
void inode_owe_again(struct vfs *v, struct inode *i)
{
	int64_t delay = RETRY_NS;

	mutex_lock(&v->lock);
	unsigned tries = i->owed_tries++;
	mutex_unlock(&v->lock);
	if (!tries)
		inode_make_durable(v, i);
	for (; tries && delay < RETRY_MAX_NS; tries--)
		delay *= 2;
	inode_owe(v, i, delay);
}

bool inode_unowe(struct vfs *v, struct inode *i)
{
	bool was;

	mutex_lock(&v->lock);
	was = i->owed;
	if (was) {
		list_del(&i->owed_link);
		i->owed = false;
	}
	mutex_unlock(&v->lock);
	if (was)
		inode_put(v, i);
	return was;
}

unsigned vfs_owed(struct vfs *v)
{
	unsigned n;

	mutex_lock(&v->lock);
	n = v->storing;
	list_for_each(pos, &v->owed)
		n++;
	mutex_unlock(&v->lock);
	return n + removals_pending(v);
}

unsigned vfs_drain(struct vfs *v, uint64_t timeout_ms)
{
	uint64_t end = clock_mono_ms() + timeout_ms;

	removals_hurry(v);
	mutex_lock(&v->lock);
	list_for_each(n, &v->owed)
		list_entry(n, struct inode, owed_link)->owed_ns = 0;
	cond_broadcast(&v->owed_changed);
	while ((v->storing || !list_empty(&v->owed)) && clock_mono_ms() < end)
		cond_wait_ms(&v->owed_changed, &v->lock, WAKE_MS);
	mutex_unlock(&v->lock);
	while (removals_pending(v) && clock_mono_ms() < end)
		usleep(WAKE_MS * 1000);
	return vfs_owed(v);
}

void vfs_stop(struct vfs *v)
{
	if (!v)
		return;
	ahead_stop(v->ahead);
	listahead_stop(v->listahead);
	offline_stop(v->offline);
	mutex_lock(&v->lock);
	v->ending = true;
	cond_broadcast(&v->owed_changed);
	while (v->uploader || v->storing)
		cond_wait_ms(&v->owed_changed, &v->lock, WAKE_MS);
	mutex_unlock(&v->lock);
	list_for_each(n, &v->owed) /* nobody adds any more */
		inode_make_durable(v, list_entry(n, struct inode, owed_link));
	removals_stop(v);
}
