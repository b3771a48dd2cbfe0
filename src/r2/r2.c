/*
 * The store's face: admits operations, counts them, ends them.
 *
 * An operation is QUEUED until the window has room, then in ATTEMPT on the
 * transport, possibly in PARSE on a thread of ours, and ends once. `lock`
 * guards the queue, the window and every operation's state; callbacks run
 * without it.
 *
 * The deadline of an operation begins when it is admitted; one that is not
 * within a deadline ends without having been sent. A write waits on as long as
 * those before it get on: its bytes are on disk and would only wait elsewhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "r2/crypto.h"
#include "r2/md5.h"
#include "r2/op.h"
#include "r2/shape.h"

enum {
	ERROR_BODY_MAX = 65536,
	LIST_BODY_MAX = 16 << 20,
	WORKERS = 2, /* XML and credential reloads */
};

static void renew_creds(struct task *t)
{
	struct op *op = container_of(t, struct op, task);

	creds_reload(op->r2->creds, creds_serial(op->r2->creds));
	op_attempt(op);
}

static void start(struct op *op)
{
	if (!creds_due(op->r2->creds)) {
		op_attempt(op);
		return;
	}
	op->task.run = renew_creds;
	tasks_submit(op->r2->workers, &op->task);
}

static void admit_locked(struct r2 *r2, struct op *op, uint64_t now)
	REQUIRES(r2->lock)
{
	op->admitted = true;
	list_add_tail(&r2->admitted, &op->link);
	r2->under_way++;
	r2->writes += op_is_write(op->req);
	if (op->fixed_deadline)
		return;
	op->deadline_ns += now - op->started_ns;
	op->flight->http.deadline_ns = op->deadline_ns;
}

static bool is_late_locked(const struct r2 *r2, const struct op *op,
			   uint64_t now) REQUIRES(r2->lock)
{
	if (now < op->deadline_ns)
		return false;
	return !op_is_write(op->req) || op->fixed_deadline ||
	       (r2->failed_ns > r2->answered_ns &&
		r2->failed_ns > op->started_ns);
}

/* The next operation that may be sent, or that has waited too long: then it is
 * not admitted. */
static struct op *take_queued_locked(struct r2 *r2) REQUIRES(r2->lock)
{
	uint64_t now = clock_mono_ns();

	list_for_each(n, &r2->queue) {
		struct op *op = list_entry(n, struct op, link);
		bool late = is_late_locked(r2, op, now);

		if (!late && !window_admits_locked(r2, op))
			continue;
		list_del(&op->link);
		op->state = OP_PARSE;
		if (!late)
			admit_locked(r2, op, now);
		return op;
	}
	return NULL;
}

static void end_late(struct task *t)
{
	struct op *op = container_of(t, struct op, task);

	snprintf(op->req->why, sizeof(op->req->why),
		 "no connection was free within the deadline");
	op_end(op, -ETIMEDOUT);
}

static void start_queued(struct r2 *r2)
{
	struct op *op;

	do {
		mutex_lock(&r2->lock);
		op = take_queued_locked(r2);
		mutex_unlock(&r2->lock);
		if (op && op->admitted) {
			start(op);
		} else if (op) {
			op->task.run = end_late;
			tasks_submit(r2->workers, &op->task);
		}
	} while (op);
}

/* Answers to a question, rather than trouble. */
static bool is_ordinary(int error)
{
	return !error || error == -ENOENT || error == -ESTALE ||
	       error == -EEXIST || error == -ECANCELED;
}

static void tell_failure(struct op *op, int error)
{
	struct store_req *req = op->req;
	size_t n = strlen(req->why);

	if (req->caller_logs) {
		snprintf(req->why + n, sizeof(req->why) - n,
			 ", after %u attempts, cf-ray %s", op->tries, op->ray);
		return;
	}
	log_warn("r2", "%s %s failed after %u attempts: %s (%s, cf-ray %s)",
		 store_op_name(req->op),
		 req->key    ? req->key :
		 req->prefix ? req->prefix :
			       "",
		 op->tries, req->why, strerror(-error), op->ray);
}

static void count_end_locked(struct r2 *r2, struct op *op, int error)
	REQUIRES(r2->lock)
{
	struct store_counters *c = &r2->counters;
	uint64_t us = (clock_mono_ns() - op->started_ns) / 1000;
	unsigned log2 = us ? 63 - __builtin_clzll(us) : 0;
	enum store_op kind = op->req->op;

	c->finished[kind]++;
	c->latency_us[kind] += us;
	if (us > c->latency_max_us[kind])
		c->latency_max_us[kind] = us;
	if (log2 >= STORE_LATENCIES)
		log2 = STORE_LATENCIES - 1;
	c->latency_log2[kind][log2]++;
	if (is_ordinary(error))
		return;
	c->failures++;
	c->last_failure.at_ns = clock_wall_ns();
	c->last_failure.op = kind;
	c->last_failure.error = error;
	c->last_failure.http_status = op->req->http_status;
}

void op_end(struct op *op, int error)
{
	struct store_req *req = op->req;
	struct r2 *r2 = op->r2;

	if (!is_ordinary(error))
		tell_failure(op, error);
	if (!error)
		snprintf(req->why, sizeof(req->why), "%s", op->failed_why);
	req->error = error;
	req->attempts = op->tries;
	mutex_lock(&r2->lock);
	op->state = OP_ENDED;
	req->impl = NULL;
	count_end_locked(r2, op, error);
	if (op->admitted) {
		*(is_ordinary(error) ? &r2->answered_ns : &r2->failed_ns) =
			clock_mono_ns();
		list_del(&op->link);
		r2->under_way--;
		r2->writes -= op_is_write(req);
	}
	mutex_unlock(&r2->lock);
	flight_free(op->flight);
	buf_release(&op->body);
	creds_set_put(op->creds);
	free(op->settled);
	free(op);
	req->done(req);
	start_queued(r2);
	mutex_lock(&r2->lock);
	if (--r2->live == 0)
		cond_broadcast(&r2->idle);
	mutex_unlock(&r2->lock);
}

/* While R2 copies or puts parts together no byte moves. */
static void set_times(struct op *op)
{
	const struct store_req *req = op->req;
	bool server_works = 1u << req->op & SERVER_WORKS;
	uint64_t time_ns = op->r2->deadline_ns * (server_works ? 4 : 1);

	op->fixed_deadline = req->deadline_ns != 0;
	op->deadline_ns = op->fixed_deadline ? req->deadline_ns :
					       op->started_ns + time_ns;
	op->stall_ms = server_works	? 0 :
		       op_is_write(req) ? 3 * op->r2->stall_ms :
					  op->r2->stall_ms;
}

static void r2_submit(struct store *base, struct store_req *req)
{
	struct r2 *r2 = (struct r2 *)base;
	struct op *op = xcalloc(1, sizeof(*op));

	op->r2 = r2;
	op->req = req;
	op->maybe_done = req->maybe_done;
	op->started_ns = clock_mono_ns();
	op->expect = UINT64_MAX;
	op->hash = window_hash(req);
	buf_init(&op->body, 1u << req->op & (LISTS | OP(DELETE_MANY)) ?
				    LIST_BODY_MAX :
				    ERROR_BODY_MAX);
	set_times(op);
	op->flight = flight_new(op);
	req->error = 0;
	req->buf_len = 0;
	req->not_modified = false;
	req->nfailed = 0;
	req->throttled = 0;
	req->why[0] = 0;
	mutex_lock(&r2->lock);
	req->impl = op;
	r2->live++;
	list_add_tail(&r2->queue, &op->link);
	mutex_unlock(&r2->lock);
	start_queued(r2);
}

static void end_cancelled(struct task *t)
{
	op_end(container_of(t, struct op, task), -ECANCELED);
}

static void r2_cancel(struct store *base, struct store_req *req)
{
	struct r2 *r2 = (struct r2 *)base;
	struct op *op;

	mutex_lock(&r2->lock);
	op = req->impl;
	if (op && !op->cancelled) {
		op->cancelled = true;
		if (op->state == OP_ATTEMPT) {
			http_cancel(r2->http, &op->flight->http);
			if (op->hedge)
				http_cancel(r2->http, &op->hedge->http);
		} else if (op->state == OP_QUEUED) {
			list_del(&op->link);
			op->state = OP_PARSE;
			op->task.run = end_cancelled;
			tasks_submit(r2->workers, &op->task);
		}
	}
	mutex_unlock(&r2->lock);
}

/* Those of files, at most STORE_SUM_MANY. */
static int sum_files(struct store_body *const *bodies, unsigned n)
{
	struct md5_range r[STORE_SUM_MANY];
	int err;

	for (unsigned i = 0; i < n; i++) {
		r[i].fd = bodies[i]->fd;
		r[i].off = bodies[i]->off;
		r[i].len = bodies[i]->len;
	}
	err = md5_ranges(r, n);
	for (unsigned i = 0; i < n && !err; i++) {
		memcpy(bodies[i]->md5, r[i].md5, MD5_BYTES);
		bodies[i]->summed = true;
	}
	return err;
}

static int r2_sum(struct store *base, struct store_body *const *bodies,
		  unsigned n)
{
	struct store_body *files[STORE_SUM_MANY];
	unsigned nfiles = 0;
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++) {
		struct store_body *b = bodies[i];

		if (b->fd < 0) {
			crypto_md5(b->data, b->len, b->md5);
			b->summed = true;
			continue;
		}
		files[nfiles++] = b;
		if (nfiles == STORE_SUM_MANY) {
			err = sum_files(files, nfiles);
			nfiles = 0;
		}
	}
	return err ? err : sum_files(files, nfiles);
}

static void r2_counters(struct store *base, struct store_counters *ret)
{
	struct r2 *r2 = (struct r2 *)base;

	mutex_lock(&r2->lock);
	*ret = r2->counters;
	ret->in_flight = r2->under_way;
	mutex_unlock(&r2->lock);
}

static void r2_destroy(struct store *base)
{
	struct r2 *r2 = (struct r2 *)base;

	mutex_lock(&r2->lock);
	while (r2->live)
		cond_wait(&r2->idle, &r2->lock);
	mutex_unlock(&r2->lock);
	tasks_destroy(r2->workers);
	sigv4_cache_release(&r2->keys);
	request_target_release(&r2->target);
	cond_release(&r2->idle);
	mutex_release(&r2->lock);
	free(r2);
}

int64_t r2_clock_skew_s(struct store *s)
{
	struct r2 *r2 = (struct r2 *)s;

	mutex_lock(&r2->lock);
	int64_t skew = r2->seen_skew_s;
	mutex_unlock(&r2->lock);
	return skew;
}

static const struct store_ops r2_ops = {
	.submit = r2_submit,
	.cancel = r2_cancel,
	.sum = r2_sum,
	.counters = r2_counters,
	.destroy = r2_destroy,
};

int r2_create(const struct r2_config *config, struct http *http,
	      struct creds *creds, struct store **ret)
{
	struct r2 *r2 = xcalloc(1, sizeof(*r2));
	int err = request_target_init(&r2->target, config->endpoint,
				      config->bucket, config->region);

	if (err) {
		free(r2);
		return err;
	}
	r2->base.ops = &r2_ops;
	r2->http = http;
	r2->creds = creds;
	sigv4_cache_init(&r2->keys);
	r2->workers = tasks_create("r2fs-r2", WORKERS);
	r2->deadline_ns = (config->deadline_ms ? config->deadline_ms : 30000) *
			  1000000ull;
	r2->patience_ns = config->patience_ms * 1000000ull;
	r2->stall_ms = config->stall_ms ? config->stall_ms : 10000;
	r2->max_window = config->max_in_flight ? config->max_in_flight : 64;
	r2->window = r2->max_window;
	mutex_init(&r2->lock);
	cond_init(&r2->idle);
	list_init(&r2->queue);
	list_init(&r2->admitted);
	*ret = &r2->base;
	return 0;
}