/*
 * Requests on the wire, and a second one for a straggler.
 *
 * One GET in a hundred takes several times as long as the others, and a reader
 * with many of them waits for the slowest. So when the head of an answer is
 * late, the same range is asked for once more; the first head to arrive wins,
 * the other request is dropped. No byte of the loser is ever seen, because
 * bytes follow the head.
 *
 * "Late" is half as much again as what 99 of 100 recent answers took, and at
 * least LATE_MIN_MS, so that a healthy server is asked exactly as often as
 * there are requests. Hedges are paid from a credit that every GET adds two
 * hundredths to, so a server in trouble is not asked twice as often; while it
 * throttles there are none.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "r2/op.h"

enum {
	HEDGE_BYTES_MAX = 4 << 20,
	SAMPLES_MIN = 100,
	SAMPLES_MAX = 4096, /* then all counts are halved: the past fades */
	RECOUNT = 32, /* samples between two looks at the distribution */
	LATE_MIN_MS = 250,
	CREDIT_GET = 2,
	CREDIT_HEDGE = 100,
	CREDIT_MAX = 1000,
	QUIET_NS = 1000000000, /* no hedge so long after a throttle, times 10 */
};

/* ---- what is usual ---- */

static unsigned bucket_of(uint64_t us)
{
	unsigned log2 = us > 3 ? 63 - __builtin_clzll(us) : 2;
	unsigned i = 4 * (log2 - 2) + (unsigned)(us >> (log2 - 2) & 3);

	return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}

/* The first microsecond above bucket i. */
static uint64_t bucket_end(unsigned i)
{
	return (uint64_t)(4 + i % 4 + 1) << i / 4;
}

static uint64_t percentile_99(const struct latency *l)
{
	unsigned above = 0, i = LATENCY_BUCKETS;

	while (i > 0 && (above + l->count[i - 1]) * 100 <= l->total)
		above += l->count[--i];
	return i ? bucket_end(i - 1) : 0;
}

static void latency_add(struct latency *l, uint64_t us)
{
	l->count[bucket_of(us)]++;
	l->total++;
	if (l->total >= SAMPLES_MAX) {
		l->total = 0;
		for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
			l->total += l->count[i] /= 2;
	}
	if (l->total < SAMPLES_MIN || l->since++ % RECOUNT != 0)
		return;
	l->late_ms = (uint32_t)(percentile_99(l) * 3 / 2000);
	if (l->late_ms < LATE_MIN_MS)
		l->late_ms = LATE_MIN_MS;
}

/* ---- flights ---- */

static bool may_be_hedged(const struct op *op)
{
	const struct store_req *req = op->req;

	return req->op == STORE_GET && req->ranged &&
	       req->range_len <= HEDGE_BYTES_MAX && op->tries == 1;
}

struct flight *flight_new(struct op *op)
{
	struct flight *f = xcalloc(1, sizeof(*f));

	f->op = op;
	f->r2 = op->r2;
	request_init(&f->request);
	f->http.body_fd = -1;
	f->http.on_head = op_on_head;
	f->http.on_body = op_on_body;
	f->http.done = op_done;
	f->http.arg = f;
	f->http.deadline_ns = op->deadline_ns;
	f->http.byte_rate = op->fixed_deadline ? 0 : BYTE_RATE;
	f->http.stall_ms = op->stall_ms;
	return f;
}

void flight_free(struct flight *f)
{
	if (!f)
		return;
	request_release(&f->request);
	free(f);
}

int flight_build(struct flight *f)
{
	struct op *op = f->op;
	struct r2 *r2 = f->r2;

	mutex_lock(&r2->lock);
	int64_t skew = r2->skew_s;
	mutex_unlock(&r2->lock);
	return request_build(&f->request, &r2->target, op->req, &op->variant,
			     &r2->keys, op->creds, clock_wall_s() - skew,
			     &f->http);
}

static void count_locked(struct r2 *r2, enum store_op kind) REQUIRES(r2->lock)
{
	struct store_counters *c = &r2->counters;

	c->requests[kind]++;
	switch (store_op_class(kind)) {
	case STORE_CLASS_A:
		c->class_a++;
		break;
	case STORE_CLASS_B:
		c->class_b++;
		break;
	default:
		c->class_free++;
	}
}

/* ---- hedging ---- */

static bool take_credit_locked(struct r2 *r2) REQUIRES(r2->lock)
{
	if (r2->hedge_credit < CREDIT_HEDGE ||
	    (r2->halved_ns &&
	     clock_mono_ns() - r2->halved_ns < 10ull * QUIET_NS))
		return false;
	r2->hedge_credit -= CREDIT_HEDGE;
	return true;
}

/* The head of f's answer is late. f is still alone, and this is its thread. */
static void on_late(struct http_req *http)
{
	struct flight *f = http->arg, *hedge;
	struct r2 *r2 = f->r2;
	struct op *op;
	bool go;

	mutex_lock(&r2->lock);
	op = f->op;
	go = op && !op->cancelled && take_credit_locked(r2);
	mutex_unlock(&r2->lock);
	if (!go)
		return;
	hedge = flight_new(op);
	go = flight_build(hedge) == 0;
	mutex_lock(&r2->lock);
	go = go && !op->cancelled;
	if (go) {
		op->hedge = hedge;
		op->late_ms = http->late_ms;
		r2->counters.hedges++;
		count_locked(r2, STORE_GET);
		http_submit(r2->http, &hedge->http);
	}
	mutex_unlock(&r2->lock);
	if (!go)
		flight_free(hedge);
}

void flight_submit_locked(struct r2 *r2, struct flight *f, enum store_op kind)
{
	struct op *op = f->op;

	f->http.late_ms = 0;
	if (may_be_hedged(op)) {
		if (r2->hedge_credit < CREDIT_MAX)
			r2->hedge_credit += CREDIT_GET;
		f->http.late_ms = r2->latency.late_ms;
		f->http.on_late = on_late;
	}
	count_locked(r2, kind);
	http_submit(r2->http, &f->http);
}

struct op *flight_claim(struct flight *f)
{
	struct r2 *r2 = f->r2;
	struct flight *other;
	uint64_t us = f->http.first_byte_ns / 1000;
	struct op *op;

	mutex_lock(&r2->lock);
	op = f->op;
	if (op && op->hedge) {
		other = f == op->hedge ? op->flight : op->hedge;
		if (f == op->hedge) {
			r2->counters.hedges_won++;
			us += op->late_ms * 1000ull;
		}
		op->flight = f;
		op->hedge = NULL;
		other->op = NULL;
		http_cancel(r2->http, &other->http);
	}
	if (op && may_be_hedged(op))
		latency_add(&r2->latency, us);
	mutex_unlock(&r2->lock);
	return op;
}

struct op *flight_land(struct flight *f)
{
	struct r2 *r2 = f->r2;
	bool more = false;
	struct op *op;

	mutex_lock(&r2->lock);
	op = f->op;
	if (op && op->hedge) {
		op->flight = f == op->hedge ? op->flight : op->hedge;
		op->hedge = NULL;
		more = true;
	}
	mutex_unlock(&r2->lock);
	if (op && !more)
		return op;
	flight_free(f);
	return NULL;
}
