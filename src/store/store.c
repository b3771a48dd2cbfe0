/*
 * What every store shares: the life of requests and results, and the blocking
 * call on top of submit and done.
 *
 * store_call may be interrupted while the completion runs on another thread,
 * so the cancel is made under the lock that the completion also takes: the
 * request cannot end in between.
 */
#include "store/store_impl.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"

static const struct {
	const char *name;
	enum store_class class;
} ops[STORE_OPS] = {
	[STORE_GET] = { "GET", STORE_CLASS_B },
	[STORE_HEAD] = { "HEAD", STORE_CLASS_B },
	[STORE_LIST] = { "LIST", STORE_CLASS_A },
	[STORE_PUT] = { "PUT", STORE_CLASS_A },
	[STORE_DELETE] = { "DELETE", STORE_CLASS_FREE },
	[STORE_DELETE_MANY] = { "DELETE_MANY", STORE_CLASS_FREE },
	[STORE_COPY] = { "COPY", STORE_CLASS_A },
	[STORE_MPU_CREATE] = { "MPU_CREATE", STORE_CLASS_A },
	[STORE_MPU_PART] = { "MPU_PART", STORE_CLASS_A },
	[STORE_MPU_COPY] = { "MPU_COPY", STORE_CLASS_A },
	[STORE_MPU_COMPLETE] = { "MPU_COMPLETE", STORE_CLASS_A },
	[STORE_MPU_ABORT] = { "MPU_ABORT", STORE_CLASS_FREE },
	[STORE_MPU_LIST_PARTS] = { "MPU_LIST_PARTS", STORE_CLASS_A },
	[STORE_MPU_LIST] = { "MPU_LIST", STORE_CLASS_A },
	[STORE_LIST_BUCKETS] = { "LIST_BUCKETS", STORE_CLASS_A },
	[STORE_HEAD_BUCKET] = { "HEAD_BUCKET", STORE_CLASS_B },
	[STORE_CREATE_BUCKET] = { "CREATE_BUCKET", STORE_CLASS_A },
	[STORE_DELETE_BUCKET] = { "DELETE_BUCKET", STORE_CLASS_FREE },
};

const char *store_op_name(enum store_op op)
{
	return ops[op].name;
}

enum store_class store_op_class(enum store_op op)
{
	return ops[op].class;
}

void store_submit(struct store *s, struct store_req *req)
{
	s->ops->submit(s, req);
}

void store_cancel(struct store *s, struct store_req *req)
{
	s->ops->cancel(s, req);
}

int store_body_sum(struct store *s, struct store_body *body)
{
	return s->ops->sum(s, &body, 1);
}

int store_bodies_sum(struct store *s, struct store_body *const *bodies,
		     unsigned n)
{
	return s->ops->sum(s, bodies, n);
}

void store_counters_get(struct store *s, struct store_counters *ret)
{
	memset(ret, 0, sizeof(*ret));
	s->ops->counters(s, ret);
}

void store_destroy(struct store *s)
{
	if (s)
		s->ops->destroy(s);
}

void store_req_init(struct store_req *req, enum store_op op)
{
	memset(req, 0, sizeof(*req));
	req->op = op;
	req->max_keys = STORE_LIST_MAX;
	req->body.fd = -1;
}

void store_list_release(struct store_list *list)
{
	for (unsigned i = 0; i < list->n; i++) {
		free(list->entries[i].name);
		free(list->entries[i].upload_id);
	}
	free(list->entries);
	free(list->next_token);
	free(list->next_key);
	memset(list, 0, sizeof(*list));
}

void store_meta_release(struct store_meta *meta)
{
	for (unsigned i = 0; i < meta->n; i++) {
		free(meta->pairs[i].name);
		free(meta->pairs[i].value);
	}
	free(meta->pairs);
	memset(meta, 0, sizeof(*meta));
}

int store_meta_copy(struct store_meta *to, const struct store_meta *from)
{
	to->n = from->n;
	to->pairs = xcalloc(from->n, sizeof(*to->pairs));
	for (unsigned i = 0; i < from->n; i++) {
		to->pairs[i].name = xstrdup(from->pairs[i].name);
		to->pairs[i].value = xstrdup(from->pairs[i].value);
	}
	return 0;
}

const char *store_meta_get(const struct store_meta *meta, const char *name)
{
	for (unsigned i = 0; i < meta->n; i++)
		if (strcmp(meta->pairs[i].name, name) == 0)
			return meta->pairs[i].value;
	return NULL;
}

bool store_meta_has(const struct store_meta *m, const struct store_meta *of)
{
	bool has = true;

	for (unsigned i = 0; of && has && i < of->n; i++) {
		const struct store_meta_pair *p = &of->pairs[i];
		const char *value = store_meta_get(m, p->name);

		has = p->name[0] == ':' || (value && !strcmp(value, p->value));
	}
	return has;
}

void store_req_release(struct store_req *req)
{
	store_list_release(&req->list);
	store_meta_release(&req->attr.meta);
	free(req->ret_upload_id);
	free(req->ret_parts);
	req->ret_upload_id = NULL;
	req->ret_parts = NULL;
}

/* ---- waiting ---- */

struct waiter {
	struct mutex lock;
	struct cond ended;
	bool done;
};

struct store_interrupt {
	atomic_bool raised;
	struct mutex lock; /* before that of who is to be woken */
	/* guarded by lock */
	struct mutex *m;
	struct cond *c; /* NULL: nobody waits */
};

struct store_interrupt *store_interrupt_create(void)
{
	struct store_interrupt *i = xcalloc(1, sizeof(*i));

	mutex_init(&i->lock);
	return i;
}

void store_interrupt_wakes(struct store_interrupt *i, struct mutex *m,
			   struct cond *c)
{
	if (!i)
		return;
	mutex_lock(&i->lock);
	i->m = m;
	i->c = c;
	mutex_unlock(&i->lock);
}

void store_interrupt_raise(struct store_interrupt *i) UNCHECKED
{
	atomic_store(&i->raised, true);
	mutex_lock(&i->lock);
	if (i->c) {
		mutex_lock(i->m);
		cond_broadcast(i->c);
		mutex_unlock(i->m);
	}
	mutex_unlock(&i->lock);
}

bool store_interrupt_raised(const struct store_interrupt *i)
{
	return i && atomic_load(&i->raised);
}

void store_interrupt_destroy(struct store_interrupt *i)
{
	if (!i)
		return;
	mutex_release(&i->lock);
	free(i);
}

static void wake(struct store_req *req)
{
	struct waiter *w = req->arg;

	mutex_lock(&w->lock);
	w->done = true;
	cond_broadcast(&w->ended);
	mutex_unlock(&w->lock);
}

/* Returns whether the request was cancelled on the interrupt's behalf. */
static bool wait_end(struct store *s, struct store_req *req, struct waiter *w,
		     const struct store_interrupt *interrupt)
{
	bool cancelled = false;

	mutex_lock(&w->lock);
	while (!w->done) {
		if (!cancelled && store_interrupt_raised(interrupt)) {
			cancelled = true;
			store_cancel(s, req);
		}
		cond_wait(&w->ended, &w->lock);
	}
	mutex_unlock(&w->lock);
	return cancelled;
}

int store_call(struct store *s, struct store_req *req,
	       struct store_interrupt *interrupt)
{
	struct waiter w = { .done = false };
	bool cancelled = false;

	if (store_interrupt_raised(interrupt))
		return req->error = -EINTR;
	mutex_init(&w.lock);
	cond_init(&w.ended);
	req->arg = &w;
	req->done = wake;
	store_interrupt_wakes(interrupt, &w.lock, &w.ended);
	store_submit(s, req);
	cancelled = wait_end(s, req, &w, interrupt);
	store_interrupt_wakes(interrupt, NULL, NULL);
	cond_release(&w.ended);
	mutex_release(&w.lock);
	if (cancelled && req->error == -ECANCELED)
		req->error = -EINTR;
	return req->error;
}
