/*
 * The attempts of one operation: build, send, judge, repeat.
 *
 * What an attempt looks like is request.c's business and what a status means
 * is retry.c's; here is only what needs both, and the memory of what has been
 * tried. A backoff is a transport request with a later start, so a waiting
 * operation costs no thread and no timer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "r2/op.h"
#include "r2/shape.h"

#define NAME_NS 5000000000ull

enum { STALE_TRIES = 3 };

/* ---- judging ---- */

/* Signatures are corrected only when one was refused for its time. */
static void learn_skew(struct op *op, bool refused)
{
	int64_t date = op_date(op);

	if (!date)
		return;
	mutex_lock(&op->r2->lock);
	op->r2->seen_skew_s = clock_wall_s() - date;
	if (refused)
		op->r2->skew_s = op->r2->seen_skew_s;
	mutex_unlock(&op->r2->lock);
}

static void say_why(struct op *op)
{
	const struct http_req *h = &op->flight->http;
	struct store_req *req = op->req;

	if (h->error && !op->wrong_answer)
		snprintf(req->why, sizeof(req->why), "%s", h->error_text);
	else if (op->settled_why[0])
		snprintf(req->why, sizeof(req->why), "%s", op->settled_why);
	else if (!h->error && op->error.code[0])
		snprintf(req->why, sizeof(req->why), "HTTP %d %s: %.100s",
			 h->status, op->error.code, op->error.message);
	else if (!h->error)
		snprintf(req->why, sizeof(req->why), "HTTP %d", h->status);
}

bool op_is_write(const struct store_req *req)
{
	return 1u << req->op & WRITES;
}

static const struct verdict again = { -EAGAIN, RETRY_NOW };

static struct verdict judge_status(struct op *op)
{
	struct store_req *req = op->req;
	int status = op->flight->http.status;
	struct verdict v;

	if (status == 304)
		return (struct verdict){ 0, RETRY_NO };
	if (status == 416 && req->op == STORE_GET && req->range_off == 0 &&
	    !op->variant.as_head) {
		op->variant.as_head = true;
		return again;
	}
	xml_parse_error(op->body.data, op->body.len, &op->error);
	if (status < 300 && op->error.code[0])
		status = retry_status(op->error.code);
	v = retry_judge(status, op->error.code);
	return op_is_write(req) ? op_settle(op, status, v) : v;
}

static struct verdict judge_transport(struct op *op)
{
	const struct http_req *h = &op->flight->http;

	if (h->unreadable)
		return (struct verdict){ h->error, RETRY_NO };
	if (h->sent && !op->question && op_is_write(op->req))
		op->maybe_done = true;
	if (h->stale && op->stale_tries++ < STALE_TRIES)
		return again;
	return retry_judge_transport(h->error);
}

/* What this attempt's end means. Sets up op->variant for the next one. */
static struct verdict judge(struct op *op)
{
	const struct http_req *h = &op->flight->http;
	struct store_req *req = op->req;

	if (op->wrong_answer) {
		if (req->op == STORE_GET && !op->encoding_tried &&
		    strstr(req->why, "encoding")) {
			op->encoding_tried = true;
			op->variant.any_encoding = true;
			return again;
		}
		return (struct verdict){ -EBADMSG,
					 op->tries < 3 && !op->body.failed ?
						 RETRY_BACKOFF :
						 RETRY_NO };
	}
	if (h->error)
		return judge_transport(op);
	return judge_status(op);
}

/* A name that does not resolve is most often mistyped, until it was right. */
static uint64_t retry_until(const struct op *op, struct verdict v)
{
	uint64_t name = op->started_ns + NAME_NS;

	if (v.error == -EHOSTUNREACH && name < op->deadline_ns &&
	    !__atomic_load_n(&op->r2->heard, __ATOMIC_RELAXED))
		return name;
	return op->deadline_ns;
}

bool op_may_retry(struct op *op, struct verdict v, uint64_t delay)
{
	bool once;

	switch (v.retry) {
	case RETRY_NO:
		return false;
	case RETRY_CREDS:
		once = !op->creds_tried;
		op->creds_tried = true;
		return once;
	case RETRY_NOW:
		return true;
	case RETRY_SKEW:
		once = !op->skew_tried;
		op->skew_tried = true;
		return once;
	default:
		return clock_mono_ns() + delay < retry_until(op, v);
	}
}

static void reload_creds(struct task *t)
{
	struct op *op = container_of(t, struct op, task);

	creds_reload(op->r2->creds, op->creds->serial);
	op_attempt(op);
}

void op_retry(struct op *op, struct verdict v, uint64_t delay)
{
	struct r2 *r2 = op->r2;

	mutex_lock(&r2->lock);
	r2->counters.retries++;
	mutex_unlock(&r2->lock);
	log_debug("r2", "%s %s: %s; trying again in %llu ms",
		  store_op_name(op->req->op), op->req->key ? op->req->key : "",
		  op->req->why, (unsigned long long)(delay / 1000000));
	op->flight->http.not_before_ns = delay ? clock_mono_ns() + delay : 0;
	if (v.retry == RETRY_CREDS) {
		op->task.run = reload_creds;
		tasks_submit(r2->workers, &op->task);
	} else {
		op_attempt(op);
	}
}
static void short_body(struct op *op)
{
	op->flight->http.error = -ECONNRESET;
	snprintf(op->flight->http.error_text,
		 sizeof(op->flight->http.error_text),
		 "the connection ended %llu bytes early",
		 (unsigned long long)(op->expect -
				      op->flight->http.body_received));
}

static uint64_t gain(uint64_t *max, uint64_t now)
{
	uint64_t more = now > *max ? now - *max : 0;

	*max += more;
	return more;
}

/* What one attempt has moved, the next may take its time for, too. */
static void put_off_deadline(struct op *op)
{
	uint64_t bytes = gain(&op->sent_max, op->flight->http.body_sent) +
			 gain(&op->got_max, op->req->buf_len);

	if (op->fixed_deadline)
		return;
	op->deadline_ns += bytes * 1000 / BYTE_RATE * 1000000;
	op->flight->http.deadline_ns = op->deadline_ns;
}

static void note_end(struct op *op)
{
	const struct http_req *http = &op->flight->http;
	const char *ray = http->impl ? op_header(op, "cf-ray") : NULL;
	struct r2 *r2 = op->r2;

	snprintf(op->ray, sizeof(op->ray), "%s", ray ? ray : "-");
	op->req->http_status = http->status;
	if (!http->error && op->expect != UINT64_MAX &&
	    http->body_received < op->expect)
		short_body(op);
	mutex_lock(&r2->lock);
	op->state = OP_PARSE;
	r2->counters.bytes_in += http->body_received;
	r2->counters.bytes_out += http->body_sent;
	mutex_unlock(&r2->lock);
	put_off_deadline(op);
}

static void move_window(struct op *op, struct verdict v)
{
	int status = op->flight->http.status;
	struct store_req *req = op->req;
	struct r2 *r2 = op->r2;

	mutex_lock(&r2->lock);
	if (v.retry == RETRY_THROTTLE)
		window_throttled_locked(r2, op, status);
	else if (!v.error)
		window_success_locked(r2, op);
	mutex_unlock(&r2->lock);
	if (v.retry != RETRY_THROTTLE &&
	    !(status == 500 && 1u << req->op & PARTS))
		return;
	req->throttled++;
	if (req->refused)
		req->refused(req);
}

void op_done(struct http_req *http)
{
	struct op *op = flight_land(http->arg);
	const char *after;
	struct verdict v;
	uint64_t delay;

	if (!op)
		return;
	after = http->impl ? op_header(op, "retry-after") : NULL;
	note_end(op);
	v = judge(op);
	say_why(op);
	op->variant.skip = op->req->buf_len;
	if (op->variant.skip)
		op->variant.if_match = op->req->attr.etag.s;
	move_window(op, v);
	if (v.retry == RETRY_SKEW || op->req->op == STORE_LIST)
		learn_skew(op, v.retry == RETRY_SKEW);
	if (!v.error) {
		op_learn(op);
		op_finish(op);
		return;
	}
	delay = retry_delay_ns(v.retry, op->tries,
			       after ? strtoul(after, NULL, 10) : 0);
	if (op_may_retry(op, v, delay))
		op_retry(op, v, delay);
	else
		op_fail(op, retry_given_up(v.error));
}

/* ---- life of an operation ---- */

static void end_task(struct task *t)
{
	struct op *op = container_of(t, struct op, task);

	op_end(op, op->refused);
}

/* Not now: the caller may be inside its submit. */
static void end_soon(struct op *op, int error)
{
	op->refused = error;
	op->task.run = end_task;
	tasks_submit(op->r2->workers, &op->task);
}

/* When XML can carry none of the keys, each goes by itself from the start. */
static void begin_delete_many(struct op *op)
{
	const struct store_req *req = op->req;
	bool any = req->op != STORE_DELETE_MANY;

	if (!any && req->key_errors)
		memset(req->key_errors, 0,
		       req->nkeys * sizeof(*req->key_errors));
	for (unsigned i = 0; i < req->nkeys && !any; i++)
		any = request_fits_xml(req->keys[i]);
	if (!any)
		op_next_odd(op);
}

static void limit_patience(struct op *op)
{
	uint64_t until = clock_mono_ns() + op->r2->patience_ns;

	if (!op->r2->patience_ns || op->fixed_deadline ||
	    op_is_write(op->req) || op->req->patient ||
	    until >= op->deadline_ns)
		return;
	op->unheard_ns = op->deadline_ns - until;
	op->deadline_ns = op->flight->http.deadline_ns = until;
}

void op_attempt(struct op *op)
{
	struct r2 *r2 = op->r2;
	enum store_op kind;
	bool cancelled;
	int err;

	if (op->tries++ == 0) {
		err = request_check(op->req, op->req->why,
				    sizeof(op->req->why));
		if (err) {
			end_soon(op, err);
			return;
		}
		begin_delete_many(op);
		limit_patience(op);
	}
	op->wrong_answer = false;
	op->settled_why[0] = 0;
	memset(&op->error, 0, sizeof(op->error));
	buf_reset(&op->body);
	creds_set_put(op->creds);
	op->creds = creds_get(r2->creds);
	mutex_lock(&r2->lock);
	op->variant.no_merge |= r2->no_merge;
	if (op->tries == 1 && r2->no_conditions && op_has_conditions(op->req))
		op_ask(op, ASK_FREE);
	mutex_unlock(&r2->lock);
	err = flight_build(op->flight);
	if (err) {
		snprintf(op->req->why, sizeof(op->req->why),
			 "the key or its metadata is too long to be sent");
		end_soon(op, err);
		return;
	}
	kind = request_op(op->req, &op->variant);
	mutex_lock(&r2->lock);
	cancelled = op->cancelled;
	if (!cancelled) {
		op->state = OP_ATTEMPT;
		flight_submit_locked(r2, op->flight, kind);
	}
	mutex_unlock(&r2->lock);
	if (cancelled)
		op_end(op, -ECANCELED);
}
