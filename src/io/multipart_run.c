/*
 * Which parts are sent, and when.
 *
 * Parts are sent from the staged file, a few at a time, by whoever runs
 * multipart_run: the store, or before that a task that streams full parts of
 * a file still being written.
 *
 * A writer may not make a store go on for ever. It covers the file up to where
 * that ended when the store began, and parts that change again and again are
 * left for the end: when all others are in R2, that moment is what is stored.
 * The parts that are missing are sent from copies, and later changes are the
 * next store's.
 *
 * One connection is often far slower than the link, so a lone upload takes many
 * if R2 lets it; several uploads share those, and each has a few for certain,
 * as far as R2 lets it.
 *
 * A part is sent with its MD5. Many sums at once cost little more than one
 * (store_bodies_sum), so while something is on its way, a stream waits until
 * there are a few parts to sum, or one that is large.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "io/multipart_impl.h"

enum {
	WAIT_MS = 100,
	SUM_FEW = 4, /* parts that are worth summing while others fly */
	SUM_BYTES = 256 << 20, /* summed at once, beyond the first part */
	RECORDS = 64, /* times the record is written in one upload */
};

/* ---- sums ---- */

/* Parts that are to be summed, at most STORE_SUM_MANY. */
struct batch {
	unsigned n;
	unsigned ready; /* parts before them that are summed and not sent */
	bool full; /* no more bytes are summed at once */
	struct next_part part[STORE_SUM_MANY];
};

/* Is the part to be sent as it is, or left for the end? */
static bool patient_locked(const struct multipart *m, const struct part *p)
{
	return !m->taken || (!m->frozen && p->tries < m->patience);
}

static void find_unsummed_locked(struct writeback *wb, struct multipart *m,
				 uint64_t size, unsigned nparts,
				 struct batch *ret) REQUIRES(wb->lock)
{
	uint64_t bytes = 0;

	ret->n = ret->ready = 0;
	ret->full = false;
	for (unsigned i = 0; i < nparts && ret->n < STORE_SUM_MANY; i++) {
		struct part *p = &m->parts[i];
		struct next_part *to = &ret->part[ret->n];

		if (p->state != PART_TODO || !patient_locked(m, p))
			continue;
		if (p->summed || part_copyable_locked(wb, m, i, size)) {
			ret->ready++;
			continue;
		}
		*to = (struct next_part){ .index = i, .gen = p->gen };
		to->len = part_len(m, i, size);
		bytes += to->len;
		ret->full = bytes >= SUM_BYTES;
		if (ret->n && bytes > SUM_BYTES)
			break;
		ret->n++;
	}
}

static int sum_batch(struct writeback *wb, const struct multipart *m,
		     struct batch *b)
{
	struct store_body body[STORE_SUM_MANY], *bodies[STORE_SUM_MANY];
	int err = 0;

	memset(body, 0, sizeof(body));
	for (unsigned i = 0; i < b->n && !err; i++) {
		uint64_t off = b->part[i].index * m->part_size;

		body[i].fd = staged_fd(wb->staged);
		body[i].off = (off_t)off;
		body[i].len = b->part[i].len;
		bodies[i] = &body[i];
		err = writeback_fill_range(wb, off, off + body[i].len);
	}
	if (!err)
		err = store_bodies_sum(wb->ws->config.store, bodies, b->n);
	for (unsigned i = 0; i < b->n && !err; i++)
		memcpy(b->part[i].md5, body[i].md5, sizeof(body[i].md5));
	return err;
}

static void note_sums_locked(struct multipart *m, const struct batch *b)
{
	for (unsigned i = 0; i < b->n; i++) {
		struct part *p = &m->parts[b->part[i].index];

		if (p->gen != b->part[i].gen) {
			p->tries++;
			continue;
		}
		memcpy(p->md5, b->part[i].md5, sizeof(p->md5));
		p->summed = true;
	}
}

/* ---- all of them ---- */

static void grow_locked(struct multipart *m, unsigned n)
{
	if (n <= m->n)
		return;
	m->parts = xrealloc(m->parts, n * sizeof(*m->parts));
	memset(m->parts + m->n, 0, (n - m->n) * sizeof(*m->parts));
	m->n = n;
}

/* How many parts there are to be sent by now. */
static unsigned parts_now_locked(struct multipart *m, uint64_t size,
				 bool stream)
{
	unsigned n = stream ? size / m->part_size :
			      parts_count(size, m->part_size);

	if (n > PARTS_MAX)
		n = PARTS_MAX;
	grow_locked(m, n);
	return n;
}

/* The next of n that can be sent at once, marked FLYING. */
static bool next_locked(struct writeback *wb, struct multipart *m,
			uint64_t size, unsigned n, struct next_part *ret)
	REQUIRES(wb->lock)
{
	for (unsigned i = 0; i < n; i++) {
		struct part *p = &m->parts[i];

		if (p->state != PART_TODO ||
		    (!m->frozen && !patient_locked(m, p)))
			continue;
		ret->copy = part_copyable_locked(wb, m, i, size);
		ret->freeze = m->frozen;
		if (!ret->copy && !ret->freeze && !p->summed)
			continue;
		ret->index = i;
		ret->gen = p->gen;
		ret->len = part_len(m, i, size);
		memcpy(ret->md5, p->md5, sizeof(ret->md5));
		p->state = PART_FLYING;
		p->tries++;
		m->copied |= ret->copy;
		ret->alone = !m->flying++;
		__atomic_add_fetch(&wb->ws->parts_flying, 1, __ATOMIC_RELAXED);
		return true;
	}
	return false;
}

/* It is sent when there is room for its copy: others that fly take some. */
static void put_back_locked(struct writeback *wb, struct multipart *m,
			    const struct next_part *p) REQUIRES(wb->lock)
{
	m->parts[p->index].state = PART_TODO;
	m->flying--;
	__atomic_sub_fetch(&wb->ws->parts_flying, 1, __ATOMIC_RELAXED);
}

static bool may_send_locked(const struct writebacks *ws,
			    const struct multipart *m)
{
	return m->flying < m->window.now &&
	       (m->flying < ws->config.parts_in_flight ||
		__atomic_load_n(&ws->parts_flying, __ATOMIC_RELAXED) <
			ws->config.parts_together);
}

/* Sends or sums something; false if there is nothing to do just now. */
static bool advance_locked(struct writeback *wb, struct multipart *m,
			   bool stream) REQUIRES(wb->lock)
{
	uint64_t size = multipart_wanted_locked(wb, m);
	unsigned n = parts_now_locked(m, size, stream);
	struct next_part next;
	struct batch batch;
	int err;

	if (may_send_locked(wb->ws, m) && next_locked(wb, m, size, n, &next)) {
		mutex_unlock(&wb->lock);
		bool sent = part_send(wb, m, &next);
		mutex_lock(&wb->lock);
		if (!sent)
			put_back_locked(wb, m, &next);
		return sent;
	}
	find_unsummed_locked(wb, m, size, n, &batch);
	if (!batch.n || batch.ready >= SUM_FEW ||
	    (stream && m->flying && batch.n < SUM_FEW && !batch.full))
		return false;
	mutex_unlock(&wb->lock);
	err = sum_batch(wb, m, &batch);
	mutex_lock(&wb->lock);
	if (err && !m->error)
		m->error = err;
	if (!err)
		note_sums_locked(m, &batch);
	return true;
}

/* Nothing is left but parts that do not come to rest: what they are now is
 * what is stored. */
static bool freeze_locked(struct writeback *wb, struct multipart *m)
	REQUIRES(wb->lock)
{
	uint64_t size = multipart_wanted_locked(wb, m);
	unsigned n = parts_now_locked(m, size, false);

	if (!m->taken || m->frozen || m->flying)
		return false;
	for (unsigned i = 0; i < n && !m->frozen; i++)
		m->frozen = m->parts[i].state == PART_TODO;
	if (m->frozen)
		m->limit = size;
	return m->frozen;
}

/* The record costs as much as there are parts: so it is written again after
 * every so many. */
static bool worth_recording_locked(const struct multipart *m, unsigned done)
{
	return m->done != done &&
	       (!m->flying || m->done - done >= 1 + m->n / RECORDS);
}

int multipart_run(struct writeback *wb, bool stream,
		  struct store_interrupt *interrupt, char *why)
{
	unsigned done = 0;
	struct multipart *m;
	int err = 0;

	store_interrupt_wakes(interrupt, &wb->lock, &wb->changed);
	mutex_lock(&wb->lock);
	m = wb->mpu;
	m->error = 0;
	while (!(stream && wb->hurry)) {
		if (multipart_outgrown_locked(wb, m)) {
			err = -EAGAIN;
			snprintf(why, sizeof(m->why), "it outgrew its parts");
			break;
		}
		if (worth_recording_locked(m, done)) {
			done = m->done;
			mutex_unlock(&wb->lock);
			writeback_rerecord(wb);
			mutex_lock(&wb->lock);
			continue;
		}
		part_window_tick(&m->window, m->flying, clock_mono_ms());
		if (!err && !m->error &&
		    (advance_locked(wb, m, stream) || freeze_locked(wb, m)))
			continue;
		if (m->flying == 0)
			break;
		cond_wait_ms(&wb->changed, &wb->lock, WAIT_MS);
		if (store_interrupt_raised(interrupt))
			err = -EINTR;
	}
	if (!err && m->error) {
		err = m->error;
		snprintf(why, sizeof(m->why), "%s", m->why);
	}
	m->error = 0;
	mutex_unlock(&wb->lock);
	store_interrupt_wakes(interrupt, NULL, NULL);
	return err;
}
