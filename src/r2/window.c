/*
 * How many operations may be under way: in all, and of one key.
 *
 * Both windows grow by one per window of successes and halve when R2 refuses,
 * once a second at most. R2 answers 429 when one object is asked for, or
 * written, too often at the same time, and 503 when it is too busy altogether;
 * so a 429 narrows the window of its key and leaves the others alone. Keys have
 * a window only after they were refused. Reads and writes of a key are counted
 * apart, as R2 does; parts are not counted, R2 counts them by upload and so does
 * who sends them. Writes take three quarters of the window at most: a reader does
 * not wait for uploads.
 */
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "r2/op.h"
#include "r2/shape.h"

enum { MIN_WINDOW = 4 };

#define EPOCH_NS 1000000000ull

uint64_t window_hash(const struct store_req *req)
{
	unsigned op = 1u << req->op;

	if (!req->key || op & PARTS)
		return 0;
	return hash_bytes(req->key, strlen(req->key), !!(op & WRITES)) | 1;
}

static struct key_window *find_locked(struct r2 *r2, const struct op *op)
	REQUIRES(r2->lock)
{
	for (unsigned i = 0; op->hash && i < KEY_WINDOWS; i++)
		if (r2->key_windows[i].hash == op->hash)
			return &r2->key_windows[i];
	return NULL;
}

static unsigned under_way_locked(struct r2 *r2, uint64_t hash)
	REQUIRES(r2->lock)
{
	unsigned n = 0;

	list_for_each(pos, &r2->admitted)
		n += list_entry(pos, struct op, link)->hash == hash;
	return n;
}

/* The op's, made if need be: the one that was refused longest ago goes. */
static struct key_window *make_locked(struct r2 *r2, const struct op *op)
	REQUIRES(r2->lock)
{
	struct key_window *w = find_locked(r2, op), *oldest = r2->key_windows;

	if (w)
		return w;
	for (unsigned i = 0; i < KEY_WINDOWS; i++)
		if (r2->key_windows[i].halved_ns < oldest->halved_ns)
			oldest = &r2->key_windows[i];
	*oldest = (struct key_window){ .hash = op->hash };
	oldest->window = under_way_locked(r2, op->hash);
	return oldest;
}

void window_throttled_locked(struct r2 *r2, const struct op *op, int status)
{
	uint64_t now = clock_mono_ns();
	struct key_window *w;

	r2->counters.throttled++;
	if (status == 429 && op->req->key) {
		w = op->hash ? make_locked(r2, op) : NULL;
		if (!w || (w->halved_ns && now - w->halved_ns < EPOCH_NS))
			return;
		w->halved_ns = now;
		w->window = w->window > 2 ? w->window / 2 : 1;
		w->successes = 0;
		return;
	}
	if (now - r2->halved_ns < EPOCH_NS)
		return;
	r2->halved_ns = now;
	r2->window = r2->window / 2 > MIN_WINDOW ? r2->window / 2 : MIN_WINDOW;
	r2->successes = 0;
}

void window_success_locked(struct r2 *r2, const struct op *op)
{
	struct key_window *w = find_locked(r2, op);

	if (w && ++w->successes >= w->window) {
		w->successes = 0;
		if (++w->window >= r2->max_window)
			w->hash = 0;
	}
	if (r2->window < r2->max_window && ++r2->successes >= r2->window) {
		r2->window++;
		r2->successes = 0;
	}
}

bool window_admits_locked(struct r2 *r2, const struct op *op)
{
	unsigned writes = r2->window > 1 ? r2->window * 3 / 4 : 1;
	struct key_window *w;

	if (r2->under_way >= r2->window ||
	    (op_is_write(op->req) && r2->writes >= writes))
		return false;
	w = find_locked(r2, op);
	return !w || under_way_locked(r2, op->hash) < w->window;
}
