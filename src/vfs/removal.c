/*
 * Removing a tree asks for thousands of removals one after the other, each of
 * which would be a round trip. R2 removes a thousand keys by one request, so
 * the removals of a burst are gathered.
 *
 * Not by making every removal late: a program that removes one file and tells
 * another machine so is right to expect that it is gone.
 *
 * One task sends the batches, in order and one at a time, so a folder's marker
 * goes after what was in the folder. It ends when nothing is left.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "vfs/key.h"
#include "vfs/removal_impl.h"

enum {
	PENDING_MAX = 8 * STORE_DELETE_MAX, /* then removals wait */
	WAKE_MS = 20,
};

#define RETRY_NS     1000000000ll
#define RETRY_MAX_NS 60000000000ll

struct removals {
	struct vfs *v;
	struct mutex lock;
	struct cond changed;
	/* guarded by lock */
	struct map keys; /* all, queued or on their way */
	struct list queue;
	unsigned queued;
	int64_t first_ns,
		last_ns; /* when the queue began and grew; monotonic */
	unsigned row; /* removals of the present burst */
	struct gone *log; /* takes the next line, or NULL */
	bool hurry, working, ending;
	uint64_t failures; /* batches that are tried again */
	int error; /* of the last such */
	int64_t retry_ns; /* not before */
	unsigned tries;
	struct task task;
};

static bool key_equal(const struct map_node *n, const void *key)
{
	return strcmp(container_of(n, struct removal, node)->key, key) == 0;
}

static uint64_t key_hash(const char *key)
{
	return hash_bytes(key, strlen(key), 0);
}

struct removals *removals_create(struct vfs *v)
{
	struct removals *r = xcalloc(1, sizeof(*r));

	r->v = v;
	mutex_init(&r->lock);
	cond_init(&r->changed);
	map_init(&r->keys, key_equal);
	list_init(&r->queue);
	return r;
}

static void removal_free(struct removal *m, bool keep)
{
	if (keep && m->log)
		gone_keep(m->log);
	else
		gone_put(m->log);
	store_meta_release(&m->meta);
	free(m);
}

void removals_destroy(struct removals *r)
{
	if (!r)
		return;
	while (!list_empty(&r->queue)) {
		struct removal *m = list_first(&r->queue, struct removal, link);

		list_del(&m->link);
		map_remove(&r->keys, &m->node);
		removal_free(m, true);
	}
	gone_put(r->log);
	map_release(&r->keys);
	cond_release(&r->changed);
	mutex_release(&r->lock);
	free(r);
}

/* ---- names ---- */

static void disappear(struct vfs *v, const char *of)
{
	CLEANUP(free) char *key = xstrdup(of);
	size_t n = strlen(key);
	struct inode *dir;
	char *name;

	if (n && key[n - 1] == '/')
		key[n - 1] = 0;
	dir = key_walk(v, key, &name);
	if (dir)
		name_gone(v, dir, name);
	inode_put(v, dir);
}

/* ---- the task ---- */

static void take_batch_locked(struct removals *r, struct batch *b)
{
	list_init(&b->list);
	b->n = 0;
	while (r->queued && b->n < STORE_DELETE_MAX) {
		struct removal *m = list_first(&r->queue, struct removal, link);

		list_del(&m->link);
		list_add_tail(&b->list, &m->link);
		r->queued--;
		b->n++;
	}
	r->first_ns = (int64_t)clock_mono_ns();
	if (!r->queued)
		r->hurry = false;
	gone_put(r->log);
	r->log = NULL;
}

static void end_batch_locked(struct removals *r, struct batch *b)
{
	while (!list_empty(&b->list)) {
		struct removal *m = list_first(&b->list, struct removal, link);

		list_del(&m->link);
		map_remove(&r->keys, &m->node);
		removal_free(m, false);
	}
	r->tries = 0;
}

/* All of it again, later. */
static void return_batch_locked(struct removals *r, struct batch *b, int err)
{
	int64_t delay = RETRY_NS;

	list_for_each(n, &b->list)
		list_entry(n, struct removal, link)->check = true;
	list_splice(&b->list, &r->queue);
	list_splice(&r->queue, &b->list);
	r->queued += b->n;
	for (unsigned n = r->tries++; n && delay < RETRY_MAX_NS; n--)
		delay *= 2;
	r->retry_ns = (int64_t)clock_mono_ns() + delay;
	r->failures++;
	r->error = err;
	r->hurry = false;
}

static bool is_due_locked(struct removals *r)
{
	int64_t now = (int64_t)clock_mono_ns();

	if (r->tries)
		return r->hurry || now >= r->retry_ns;
	return r->hurry || r->queued >= STORE_DELETE_MAX ||
	       now - r->last_ns >= REMOVAL_QUIET_NS ||
	       now - r->first_ns >= REMOVAL_LATE_NS;
}

static void work(struct task *t)
{
	struct removals *r = container_of(t, struct removals, task);

	mutex_lock(&r->lock);
	while (r->queued && !r->ending) {
		struct batch b;
		char why[192] = "";

		if (!is_due_locked(r)) {
			cond_wait_ms(&r->changed, &r->lock, WAKE_MS);
			continue;
		}
		take_batch_locked(r, &b);
		mutex_unlock(&r->lock);
		int err = removal_send(r->v, &b, why);

		if (!err)
			removal_report(r->v, &b, why);
		mutex_lock(&r->lock);
		if (err)
			return_batch_locked(r, &b, err);
		else
			end_batch_locked(r, &b);
		cond_broadcast(&r->changed);
	}
	r->working = false;
	cond_broadcast(&r->changed);
	mutex_unlock(&r->lock);
}

static void start_locked(struct removals *r)
{
	if (r->working || r->ending || !r->queued)
		return;
	r->working = true;
	r->task.run = work;
	tasks_submit(r->v->config.tasks, &r->task);
}

/* ---- adding ---- */

static struct removal *removal_create(const char *key, bool check)
{
	struct removal *m = xcalloc(1, sizeof(*m) + strlen(key) + 1);

	strcpy(m->key, key);
	m->check = check;
	list_init(&m->link);
	return m;
}

static void enqueue_locked(struct removals *r, struct removal *m)
{
	map_insert(&r->keys, &m->node, key_hash(m->key));
	list_add_tail(&r->queue, &m->link);
	r->last_ns = (int64_t)clock_mono_ns();
	if (!r->queued++)
		r->first_ns = r->last_ns;
}

/* Notes and queues it; an error: the journal cannot be written. */
static int queue_locked(struct removals *r, const char *key, const char *etag,
			bool check)
{
	struct removal *m = removal_create(key, check);
	int err;

	snprintf(m->etag, sizeof(m->etag), "%s", etag);
	if (!r->log)
		r->log = gone_create(writebacks_stage(r->v->config.writebacks));
	err = gone_add(r->log, key, etag);
	if (err) {
		free(m);
		return err;
	}
	m->log = r->log;
	enqueue_locked(r, m);
	return 0;
}

static bool ascii(const char *s)
{
	while (*s && (unsigned char)*s < 0x80)
		s++;
	return !*s;
}

/* Would one now be one of many in a row? */
static bool in_burst_locked(struct removals *r)
{
	int64_t now = (int64_t)clock_mono_ns();

	if (now - r->last_ns > REMOVAL_BURST_MS * 1000000ll)
		r->row = 0;
	r->last_ns = now;
	return r->row >= REMOVAL_DIRECT;
}

bool removal_in_burst(struct vfs *v)
{
	struct removals *r = v->removals;

	mutex_lock(&r->lock);
	bool burst = in_burst_locked(r);
	mutex_unlock(&r->lock);
	return burst;
}

void removal_asked(struct vfs *v)
{
	struct removals *r = v->removals;

	mutex_lock(&r->lock);
	r->last_ns = (int64_t)clock_mono_ns();
	mutex_unlock(&r->lock);
}

static int wait_for_room_locked(struct removals *r, const struct vfs_ctx *ctx)
	REQUIRES(r->lock)
{
	uint64_t failures = r->failures;

	while (r->keys.count >= PENDING_MAX) {
		if (r->failures != failures)
			return r->error;
		if (r->ending)
			return -EIO;
		if (store_interrupt_raised(ctx->interrupt))
			return -EINTR;
		cond_wait(&r->changed, &r->lock);
	}
	return 0;
}

int removal_add(struct vfs *v, const struct vfs_ctx *ctx, const char *key,
		const char *etag)
{
	struct removals *r = v->removals;
	bool queued = false;
	int err;

	store_interrupt_wakes(ctx->interrupt, &r->lock, &r->changed);
	mutex_lock(&r->lock);
	err = wait_for_room_locked(r, ctx);
	bool burst = in_burst_locked(r);
	r->row++;
	if (!err && burst && !r->ending && ascii(key) &&
	    !map_find(&r->keys, key_hash(key), key)) {
		queued = queue_locked(r, key, etag, false) == 0;
		start_locked(r);
	}
	mutex_unlock(&r->lock);
	store_interrupt_wakes(ctx->interrupt, NULL, NULL);
	if (err || queued)
		return err;
	err = removal_wait(v, ctx, key);
	if (!err)
		err = delete_key(v, ctx, key);
	mutex_lock(&r->lock);
	r->last_ns = (int64_t)clock_mono_ns();
	mutex_unlock(&r->lock);
	return err;
}

void removal_add_ours(struct vfs *v, const char *key, uint64_t size,
		      const struct store_meta *meta)
{
	struct removals *r = v->removals;
	struct removal *m = removal_create(key, true);

	m->ours = true;
	m->size = size;
	bool copied = store_meta_copy(&m->meta, meta) == 0;
	mutex_lock(&r->lock);
	if (copied && !r->ending && !map_find(&r->keys, key_hash(key), key)) {
		enqueue_locked(r, m);
		start_locked(r);
		m = NULL;
	}
	mutex_unlock(&r->lock);
	if (m)
		removal_free(m, false);
}

/* ---- waiting ---- */

struct search {
	const char *prefix;
	size_t len;
	bool found;
};

static void look(struct map_node *n, void *arg)
{
	const struct removal *m = container_of(n, struct removal, node);
	struct search *s = arg;

	s->found |= strncmp(m->key, s->prefix, s->len) == 0;
}

static bool under_way_locked(struct removals *r, const char *key, bool below)
{
	struct search s = { .prefix = key, .len = strlen(key) };

	if (!r->keys.count)
		return false;
	if (!below)
		return map_find(&r->keys, key_hash(key), key) != NULL;
	map_each(&r->keys, look, &s);
	return s.found;
}

static int await(struct vfs *v, const struct vfs_ctx *ctx, const char *key,
		 bool below)
{
	struct removals *r = v->removals;
	int err = 0;

	if (!r)
		return 0;
	store_interrupt_wakes(ctx->interrupt, &r->lock, &r->changed);
	mutex_lock(&r->lock);
	uint64_t failures = r->failures;
	while (!err && under_way_locked(r, key, below)) {
		if (ctx->nowait)
			err = -EAGAIN;
		else if (r->failures != failures)
			err = r->error;
		else if (r->ending)
			err = -EIO;
		else if (store_interrupt_raised(ctx->interrupt))
			err = -EINTR;
		if (err)
			break;
		if (r->queued && !r->hurry) {
			r->hurry = true;
			cond_broadcast(&r->changed);
		}
		cond_wait(&r->changed, &r->lock);
	}
	mutex_unlock(&r->lock);
	store_interrupt_wakes(ctx->interrupt, NULL, NULL);
	return err;
}

int removal_wait(struct vfs *v, const struct vfs_ctx *ctx, const char *key)
{
	return await(v, ctx, key, false);
}

int removal_wait_below(struct vfs *v, const struct vfs_ctx *ctx,
		       const char *prefix)
{
	return await(v, ctx, prefix, true);
}

/* ---- the mount's life ---- */

unsigned removals_pending(struct vfs *v)
{
	struct removals *r = v->removals;
	unsigned n;

	if (!r)
		return 0;
	mutex_lock(&r->lock);
	n = (unsigned)r->keys.count;
	mutex_unlock(&r->lock);
	return n;
}

void removals_hurry(struct vfs *v)
{
	struct removals *r = v->removals;

	if (!r)
		return;
	mutex_lock(&r->lock);
	r->hurry |= r->queued > 0;
	cond_broadcast(&r->changed);
	mutex_unlock(&r->lock);
}

void removals_stop(struct vfs *v)
{
	struct removals *r = v->removals;

	if (!r)
		return;
	mutex_lock(&r->lock);
	r->ending = true;
	cond_broadcast(&r->changed);
	while (r->working)
		cond_wait_ms(&r->changed, &r->lock, WAKE_MS);
	mutex_unlock(&r->lock);
}

struct old_log {
	struct vfs *v;
	unsigned n;
	int error;
};

static void take_up_key(const char *key, const char *etag, void *arg)
{
	struct old_log *o = arg;
	struct removals *r = o->v->removals;

	disappear(o->v, key);
	mutex_lock(&r->lock);
	if (!map_find(&r->keys, key_hash(key), key)) {
		int err = queue_locked(r, key, etag, true);

		o->error = o->error ? o->error : err;
		o->n += !err;
	}
	mutex_unlock(&r->lock);
}

static void take_up_log(uint64_t id, void *arg)
{
	struct old_log *o = arg;
	struct removals *r = o->v->removals;
	struct stage *stage = writebacks_stage(o->v->config.writebacks);
	int err = gone_read(stage, id, take_up_key, o);

	if (!err)
		err = o->error;
	if (!err && r->log)
		err = gone_sync(r->log);
	if (err)
		log_error("vfs", "journal entry %llu is left: %s",
			  (unsigned long long)id, strerror(-err));
	else
		gone_remove(stage, id);
}

int removals_resume(struct vfs *v)
{
	struct old_log o = { .v = v };
	int err = gone_each(writebacks_stage(v->config.writebacks), take_up_log,
			    &o);

	if (o.n)
		log_info("vfs", "%u removals of an earlier run go on", o.n);
	mutex_lock(&v->removals->lock);
	start_locked(v->removals);
	mutex_unlock(&v->removals->lock);
	return err;
}

struct lister {
	void (*fn)(uint64_t id, const struct journal_rec *rec, void *arg);
	void *arg;
};

static void list_one(struct map_node *n, void *arg)
{
	struct removal *m = container_of(n, struct removal, node);
	struct lister *l = arg;
	struct journal_rec rec = { .state = JOURNAL_OWED,
				   .key = m->key,
				   .why = (char *)"to be removed" };

	if (m->log)
		l->fn(gone_id(m->log), &rec, l->arg);
}

void removals_list(struct vfs *v,
		   void (*fn)(uint64_t id, const struct journal_rec *rec,
			      void *arg),
		   void *arg)
{
	struct lister l = { .fn = fn, .arg = arg };

	mutex_lock(&v->removals->lock);
	map_each(&v->removals->keys, list_one, &l);
	mutex_unlock(&v->removals->lock);
}
