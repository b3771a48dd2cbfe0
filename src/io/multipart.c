/*
 * The parts of one upload.
 *
 * Parts are sent from the staged file, a few at a time, by whoever runs
 * multipart_run: the store, or before that a task that streams full parts of
 * a file still being written. Each part has a number that grows with every
 * change to its bytes; a part that changed while it travelled is sent again,
 * so nobody has to wait for a writer.
 *
 * Nor may a writer make a store go on for ever. It covers the file up to where
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
#include <unistd.h>

#include "base/clock.h"
#include "io/writeback_impl.h"

enum {
	WAIT_MS = 100,
	PATIENCE = 2,
	SUM_FEW = 4, /* parts that are worth summing while others fly */
	SUM_BYTES = 256 << 20, /* summed at once, beyond the first part */
	RECORDS = 64, /* times the record is written in one upload */
};

/* A part to be sent, as of one moment. */
struct next_part {
	unsigned index;
	uint32_t gen;
	uint64_t len;
	bool copy; /* R2 has its bytes */
	bool freeze; /* a copy of it is sent */
	uint8_t md5[16];
};

struct part_job {
	struct store_req req;
	struct writeback *wb;
	struct multipart *mpu;
	unsigned index;
	uint32_t gen;
	uint64_t off, len;
	int snapshot; /* a file of its own, or -1 */
};

void multipart_free(struct multipart *m)
{
	if (!m)
		return;
	free(m->key);
	free(m->id);
	free(m->parts);
	free(m);
}

static void part_changed_now(struct part *p)
{
	p->gen++;
	p->summed = p->stale = false;
	if (p->state == PART_DONE)
		p->state = PART_TODO;
}

void multipart_changed_locked(struct writeback *wb, uint64_t off, uint64_t end)
{
	struct multipart *m = wb->mpu;

	if (!m || off >= end)
		return;
	for (uint64_t i = off / m->part_size;
	     i < m->n && i * m->part_size < end; i++) {
		if (m->frozen || (m->taken && off >= m->limit))
			m->parts[i].stale = true;
		else
			part_changed_now(&m->parts[i]);
	}
}

void multipart_take(struct writeback *wb)
{
	uint64_t size = staged_size(wb->staged);
	struct multipart *m;

	mutex_lock(&wb->lock);
	m = wb->mpu;
	m->taken = true;
	m->limit = size;
	m->patience = PATIENCE;
	for (unsigned i = 0; i < m->n; i++)
		m->parts[i].tries = 0;
	mutex_unlock(&wb->lock);
}

void multipart_give_back(struct writeback *wb)
{
	struct multipart *m;

	mutex_lock(&wb->lock);
	m = wb->mpu;
	for (unsigned i = 0; m && i < m->n; i++)
		if (m->parts[i].stale)
			part_changed_now(&m->parts[i]);
	if (m)
		m->taken = m->frozen = false;
	mutex_unlock(&wb->lock);
}

/* How much of the file is to be sent. */
static uint64_t wanted_locked(struct writeback *wb, const struct multipart *m)
	REQUIRES(wb->lock)
{
	uint64_t size = staged_size(wb->staged);

	return m->taken && (m->frozen || m->limit < size) ? m->limit : size;
}

static void grow_locked(struct multipart *m, unsigned n)
{
	if (n <= m->n)
		return;
	m->parts = xrealloc(m->parts, n * sizeof(*m->parts));
	memset(m->parts + m->n, 0, (n - m->n) * sizeof(*m->parts));
	m->n = n;
}

/* ---- making and forgetting ---- */

static bool part_changed(void *arg, uint64_t off, uint64_t end)
{
	struct writeback *wb = arg;

	return staged_changed(wb->staged, off, end);
}

static bool never(void *arg, uint64_t off, uint64_t end)
{
	return false;
}

/* Is it the object that it replaces, with other metadata? Then R2 has all of
 * it, though it may be local. */
static bool is_replaced_locked(struct writeback *wb, const char *key)
	REQUIRES(wb->lock)
{
	return writeback_is_base_locked(wb) && strcmp(wb->base_key, key) == 0;
}

static uint64_t choose_size(struct writeback *wb, const char *key,
			    bool outgrown)
{
	uint64_t size = staged_size(wb->staged);
	uint64_t base_len = staged_base_len(wb->staged);
	uint64_t wish = wb->ws->config.part_size;
	bool replaced;

	mutex_lock(&wb->lock);
	replaced = is_replaced_locked(wb, key);
	mutex_unlock(&wb->lock);
	if (replaced)
		return parts_size_rewrite(size, size, wish, never, NULL);
	if (base_len)
		return parts_size_rewrite(size, base_len, wish, part_changed,
					  wb);
	return outgrown ? parts_size_outgrown(size, wish) :
			  parts_size(size, wish);
}

static void abort_upload(struct writeback *wb, struct multipart *m)
{
	struct store_req req;

	store_req_init(&req, STORE_MPU_ABORT);
	req.key = m->key;
	req.upload_id = m->id;
	if (store_call(wb->ws->config.store, &req, NULL))
		req.error = 0; /* R2 forgets it by itself after a week */
	store_req_release(&req);
}

void multipart_drop(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	struct multipart *m = wb->mpu;
	wb->mpu = NULL;
	while (m && m->flying)
		cond_wait(&wb->changed, &wb->lock);
	mutex_unlock(&wb->lock);
	if (m)
		abort_upload(wb, m);
	multipart_free(m);
}

static bool outgrown_locked(struct writeback *wb, const struct multipart *m)
	REQUIRES(wb->lock)
{
	return parts_count(wanted_locked(wb, m), m->part_size) > PARTS_MAX;
}

/* Is there an upload for this key, and are its parts large enough? */
static bool usable(struct writeback *wb, const char *key, bool *ret_outgrown)
{
	mutex_lock(&wb->lock);
	struct multipart *m = wb->mpu;
	*ret_outgrown = m && outgrown_locked(wb, m);
	bool ok = m && strcmp(m->key, key) == 0 && !*ret_outgrown;
	mutex_unlock(&wb->lock);
	return ok;
}

int multipart_begin(struct writeback *wb, const char *key,
		    const struct store_meta *meta, uint64_t as_of,
		    struct store_interrupt *interrupt, char *why)
{
	struct store_req req;
	struct multipart *m;
	bool outgrown;
	int err;

	if (usable(wb, key, &outgrown))
		return 0;
	multipart_drop(wb);
	m = xcalloc(1, sizeof(*m));
	multipart_begin_window(wb->ws, m);
	m->part_size = choose_size(wb, key, outgrown);
	if (!m->part_size) {
		multipart_free(m);
		return -EFBIG;
	}
	store_req_init(&req, STORE_MPU_CREATE);
	req.caller_logs = true;
	req.key = key;
	req.put_meta = meta;
	err = store_call(wb->ws->config.store, &req, interrupt);
	if (err) {
		snprintf(why, sizeof(req.why), "%s", req.why);
		multipart_free(m);
	} else {
		m->key = xstrdup(key);
		m->id = xstrdup(req.ret_upload_id);
		m->meta_gen = as_of;
		mutex_lock(&wb->lock);
		wb->mpu = m;
		mutex_unlock(&wb->lock);
		writeback_rerecord(wb);
	}
	store_req_release(&req);
	return err;
}

/* ---- one part ---- */

static unsigned parts_most(const struct writebacks *ws)
{
	const struct writeback_config *c = &ws->config;

	return c->parts_in_flight > c->parts_together ? c->parts_in_flight :
							c->parts_together;
}

void multipart_begin_window(const struct writebacks *ws, struct multipart *m)
{
	m->window =
		part_window_begin(ws->config.parts_in_flight, parts_most(ws));
}

static void part_refused(struct store_req *req)
{
	struct part_job *j = req->arg;
	struct multipart *m = j->mpu;

	mutex_lock(&j->wb->lock);
	part_window_refused(&m->window, m->flying, clock_mono_ms());
	mutex_unlock(&j->wb->lock);
}

/* Bytes that changed on the way are no error as long as the part is sent again
 * for it. */
static bool fails_store(const struct part_job *j)
{
	const struct part *p = &j->mpu->parts[j->index];

	if (j->req.error == -EBADMSG && j->mpu->taken && j->snapshot < 0)
		return false;
	return j->req.error && p->gen == j->gen;
}

static void part_done(struct store_req *req)
{
	struct part_job *j = req->arg;
	struct writeback *wb = j->wb;
	struct multipart *m = j->mpu;
	struct part *p;

	mutex_lock(&wb->lock);
	p = &m->parts[j->index];
	p->state = PART_TODO;
	if (!req->error && !req->throttled)
		part_window_stored(&m->window, parts_most(wb->ws));
	if (!req->error && p->gen == j->gen) {
		p->state = PART_DONE;
		m->done++;
		memcpy(p->etag, req->ret_part_etag, sizeof(p->etag));
	} else if (req->error == -EBADMSG) {
		p->summed = false;
	}
	if (fails_store(j) && !m->error) {
		m->error = req->error;
		snprintf(m->why, sizeof(m->why), "%s", req->why);
	}
	m->flying--;
	__atomic_sub_fetch(&wb->ws->parts_flying, 1, __ATOMIC_RELAXED);
	cond_broadcast(&wb->changed);
	mutex_unlock(&wb->lock);
	store_req_release(req);
	if (j->snapshot >= 0)
		close(j->snapshot);
	free(j);
	writeback_put(wb);
}

static uint64_t part_len(const struct multipart *m, unsigned i, uint64_t size)
{
	uint64_t off = i * m->part_size;

	return size - off < m->part_size ? size - off : m->part_size;
}

static bool copyable_locked(struct writeback *wb, const struct multipart *m,
			    unsigned i, uint64_t size) REQUIRES(wb->lock)
{
	uint64_t off = i * m->part_size, len = part_len(m, i, size);
	bool last = off + len == size;

	if (len > PART_COPY_MAX || (!last && len < PART_MIN))
		return false;
	return is_replaced_locked(wb, m->key) ||
	       (wb->base && !staged_changed(wb->staged, off, off + len));
}

static void describe_copy(struct part_job *j)
{
	struct store_req *req = &j->req;

	store_req_init(req, STORE_MPU_COPY);
	req->caller_logs = true;
	req->source_key = j->wb->base_key;
	req->ranged = true;
	req->range_off = j->off;
	req->range_len = j->len;
}

static void describe_upload(struct part_job *j, const uint8_t *md5)
{
	struct store_req *req = &j->req;

	store_req_init(req, STORE_MPU_PART);
	req->caller_logs = true;
	req->body.fd = staged_fd(j->wb->staged);
	req->body.off = (off_t)j->off;
	req->body.len = j->len;
	req->body.summed = true;
	memcpy(req->body.md5, md5, sizeof(req->body.md5));
}

static int describe_snapshot(struct part_job *j)
{
	struct writeback *wb = j->wb;
	struct store_req *req = &j->req;
	int err = writeback_fill_range(wb, j->off, j->off + j->len);

	store_req_init(req, STORE_MPU_PART);
	req->caller_logs = true;
	if (!err)
		err = blocks_give_way(wb->ws->config.blocks, j->len);
	if (!err)
		err = staged_snapshot(wb->staged, j->off, j->len, &j->snapshot);
	if (!err && staged_size(wb->staged) < j->off + j->len)
		err = -EAGAIN;
	req->body.fd = j->snapshot;
	req->body.len = j->len;
	return err ? err : store_body_sum(wb->ws->config.store, &req->body);
}

/* The part is FLYING already. */
static void send_part(struct writeback *wb, struct multipart *m,
		      const struct next_part *p)
{
	struct part_job *j = xcalloc(1, sizeof(*j));
	int err = 0;

	j->wb = wb;
	j->mpu = m;
	j->index = p->index;
	j->gen = p->gen;
	j->off = p->index * m->part_size;
	j->len = p->len;
	j->snapshot = -1;
	writeback_ref(wb);
	if (p->copy)
		describe_copy(j);
	else if (p->freeze)
		err = describe_snapshot(j);
	else
		describe_upload(j, p->md5);
	j->req.key = m->key;
	j->req.upload_id = m->id;
	j->req.part_number = p->index + 1;
	j->req.refused = part_refused;
	j->req.done = part_done;
	j->req.arg = j;
	j->req.error = err;
	if (err)
		part_done(&j->req);
	else
		store_submit(wb->ws->config.store, &j->req);
}

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
		if (p->summed || copyable_locked(wb, m, i, size)) {
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
		ret->copy = copyable_locked(wb, m, i, size);
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
		m->flying++;
		__atomic_add_fetch(&wb->ws->parts_flying, 1, __ATOMIC_RELAXED);
		return true;
	}
	return false;
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
	uint64_t size = wanted_locked(wb, m);
	unsigned n = parts_now_locked(m, size, stream);
	struct next_part next;
	struct batch batch;
	int err;

	if (may_send_locked(wb->ws, m) && next_locked(wb, m, size, n, &next)) {
		mutex_unlock(&wb->lock);
		send_part(wb, m, &next);
		mutex_lock(&wb->lock);
		return true;
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
	uint64_t size = wanted_locked(wb, m);
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
		if (outgrown_locked(wb, m)) {
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

/* The parts as the completion names them; -EAGAIN if one is not there: then
 * those that changed do not come to rest. */
static int list_parts(struct writeback *wb, struct store_part **ret,
		      unsigned *ret_n, uint64_t *ret_size)
{
	struct multipart *m = wb->mpu;
	struct store_part *parts;
	int err = 0;

	mutex_lock(&wb->lock);
	*ret_size = wanted_locked(wb, m);
	*ret_n = parts_count(*ret_size, m->part_size);
	*ret = parts = xcalloc(*ret_n, sizeof(*parts));
	if (m->n < *ret_n)
		err = -EAGAIN;
	for (unsigned i = 0; i < *ret_n && !err; i++) {
		if (m->parts[i].state != PART_DONE)
			err = -EAGAIN;
		parts[i].number = i + 1;
		memcpy(parts[i].etag, m->parts[i].etag, sizeof(parts[i].etag));
	}
	if (err)
		m->patience = 1;
	mutex_unlock(&wb->lock);
	return err;
}

int multipart_complete(struct writeback *wb,
		       const struct writeback_target *target,
		       struct store_interrupt *interrupt,
		       struct writeback_result *ret)
{
	struct multipart *m = wb->mpu;
	struct store_part *parts;
	struct store_req req;
	uint64_t size;
	int err;

	store_req_init(&req, STORE_MPU_COMPLETE);
	req.caller_logs = true;
	err = list_parts(wb, &parts, &req.nparts, &size);
	req.key = m->key;
	req.upload_id = m->id;
	req.parts = parts;
	req.if_match = target->if_match;
	req.if_absent = target->create;
	req.maybe_done = writeback_is_resumed(wb);
	if (!err)
		err = store_call(wb->ws->config.store, &req, interrupt);
	ret->refused |= req.throttled > 0;
	if (!err) {
		ret->etag = req.attr.etag;
		ret->time_ns = req.attr.mtime_ns;
		ret->size = size;
		mutex_lock(&wb->lock);
		wb->mpu = NULL;
		wb->meta_gen = m->meta_gen;
		mutex_unlock(&wb->lock);
		multipart_free(m);
	} else {
		snprintf(ret->why, sizeof(ret->why), "%s", req.why);
	}
	store_req_release(&req);
	free(parts);
	return err;
}
