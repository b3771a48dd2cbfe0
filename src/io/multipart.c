/*
 * The parts of one upload.
 *
 * Parts are sent from the staged file, a few at a time, by whoever runs
 * multipart_run: the store, or before that a task that streams full parts of
 * a file still being written. Each part has a number that grows with every
 * change to its bytes; a part that changed while it travelled is sent again,
 * so nobody has to wait for a writer.
 *
 * One connection is often far slower than the link, so a lone upload takes many;
 * several uploads share those, and each has a few for certain.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/writeback_impl.h"

enum { WAIT_MS = 100, RESTARTS = 3 };

struct part_job {
	struct store_req req;
	struct writeback *wb;
	struct multipart *mpu;
	unsigned index;
	uint32_t gen;
	uint64_t off, len;
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

void multipart_changed_locked(struct writeback *wb, uint64_t off, uint64_t end)
{
	struct multipart *m = wb->mpu;

	if (!m || off >= end)
		return;
	for (uint64_t i = off / m->part_size;
	     i < m->n && i * m->part_size < end; i++) {
		m->parts[i].gen++;
		if (m->parts[i].state == PART_DONE)
			m->parts[i].state = PART_TODO;
	}
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

static uint64_t choose_size(struct writeback *wb)
{
	uint64_t size = staged_size(wb->staged);
	uint64_t base_len = staged_base_len(wb->staged);
	uint64_t wish = wb->ws->config.part_size;

	if (base_len)
		return parts_size_rewrite(size, base_len, wish, part_changed,
					  wb);
	return parts_size(size, wish);
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
	mutex_unlock(&wb->lock);
	if (m)
		abort_upload(wb, m);
	multipart_free(m);
}

/* Too many parts for its size, or for another key? */
static bool usable(struct writeback *wb, const char *key)
{
	uint64_t size = staged_size(wb->staged);

	mutex_lock(&wb->lock);
	struct multipart *m = wb->mpu;
	bool ok = m && strcmp(m->key, key) == 0 &&
		  parts_count(size, m->part_size) <= PARTS_MAX;
	mutex_unlock(&wb->lock);
	return ok;
}

int multipart_begin(struct writeback *wb, const char *key,
		    const struct store_meta *meta,
		    struct store_interrupt *interrupt, char *why)
{
	struct store_req req;
	struct multipart *m;
	int err;

	if (usable(wb, key))
		return 0;
	multipart_drop(wb);
	m = xcalloc(1, sizeof(*m));
	m->part_size = choose_size(wb);
	if (!m->part_size) {
		multipart_free(m);
		return -EFBIG;
	}
	store_req_init(&req, STORE_MPU_CREATE);
	req.key = key;
	req.put_meta = meta;
	err = store_call(wb->ws->config.store, &req, interrupt);
	if (err) {
		snprintf(why, sizeof(req.why), "%s", req.why);
		multipart_free(m);
	} else {
		m->key = xstrdup(key);
		m->id = xstrdup(req.ret_upload_id);
		mutex_lock(&wb->lock);
		wb->mpu = m;
		mutex_unlock(&wb->lock);
		writeback_rerecord(wb);
	}
	store_req_release(&req);
	return err;
}

/* ---- one part ---- */

static void part_done(struct store_req *req)
{
	struct part_job *j = req->arg;
	struct writeback *wb = j->wb;
	struct multipart *m = j->mpu;
	struct part *p;

	mutex_lock(&wb->lock);
	p = &m->parts[j->index];
	p->state = PART_TODO;
	if (!req->error && p->gen == j->gen) {
		p->state = PART_DONE;
		m->done++;
		memcpy(p->etag, req->ret_part_etag, sizeof(p->etag));
	} else if (req->error && p->gen == j->gen && !m->error) {
		m->error = req->error;
		snprintf(m->why, sizeof(m->why), "%s", req->why);
	}
	m->flying--;
	__atomic_sub_fetch(&wb->ws->parts_flying, 1, __ATOMIC_RELAXED);
	cond_broadcast(&wb->changed);
	mutex_unlock(&wb->lock);
	store_req_release(req);
	free(j);
	writeback_put(wb);
}

static bool copyable(struct writeback *wb, uint64_t off, uint64_t len,
		     bool last)
{
	mutex_lock(&wb->lock);
	bool base = wb->base != NULL;
	mutex_unlock(&wb->lock);
	return base && len <= PART_COPY_MAX && (last || len >= PART_MIN) &&
	       !staged_changed(wb->staged, off, off + len);
}

static void describe_copy(struct part_job *j)
{
	struct store_req *req = &j->req;

	store_req_init(req, STORE_MPU_COPY);
	req->source_key = j->wb->base_key;
	req->ranged = true;
	req->range_off = j->off;
	req->range_len = j->len;
}

static int describe_upload(struct part_job *j)
{
	struct store_req *req = &j->req;
	int err = writeback_fill_range(j->wb, j->off, j->off + j->len);

	if (err)
		return err;
	store_req_init(req, STORE_MPU_PART);
	req->body.fd = staged_fd(j->wb->staged);
	req->body.off = (off_t)j->off;
	req->body.len = j->len;
	return store_body_sum(j->wb->ws->config.store, &req->body);
}

/* The part is FLYING already. */
static void send_part(struct writeback *wb, struct multipart *m, unsigned index,
		      uint32_t gen, uint64_t size)
{
	struct part_job *j = xcalloc(1, sizeof(*j));
	int err = 0;

	j->wb = wb;
	j->mpu = m;
	j->index = index;
	j->gen = gen;
	j->off = index * m->part_size;
	j->len = size - j->off < m->part_size ? size - j->off : m->part_size;
	writeback_ref(wb);
	if (copyable(wb, j->off, j->len, j->off + j->len == size))
		describe_copy(j);
	else
		err = describe_upload(j);
	j->req.key = m->key;
	j->req.upload_id = m->id;
	j->req.part_number = index + 1;
	j->req.done = part_done;
	j->req.arg = j;
	if (err) {
		j->req.error = err;
		part_done(&j->req);
	} else {
		store_submit(wb->ws->config.store, &j->req);
	}
}

/* ---- all of them ---- */

/* The next part to send, marked FLYING; m->n if none now. */
static unsigned next_locked(struct writebacks *ws, struct multipart *m,
			    uint64_t size, bool stream, uint32_t *gen)
{
	unsigned n = parts_count(size, m->part_size), i;

	if (stream)
		n = size / m->part_size;
	grow_locked(m, n);
	for (i = 0; i < n; i++)
		if (m->parts[i].state == PART_TODO)
			break;
	if (i == n)
		return m->n;
	m->parts[i].state = PART_FLYING;
	*gen = m->parts[i].gen;
	m->flying++;
	__atomic_add_fetch(&ws->parts_flying, 1, __ATOMIC_RELAXED);
	return i;
}

static bool may_send_locked(const struct writebacks *ws,
			    const struct multipart *m)
{
	return m->flying < ws->config.parts_in_flight ||
	       __atomic_load_n(&ws->parts_flying, __ATOMIC_RELAXED) <
		       ws->config.parts_together;
}

int multipart_run(struct writeback *wb, bool stream,
		  struct store_interrupt *interrupt, char *why)
{
	unsigned done = 0;
	struct multipart *m;
	int err = 0;

	mutex_lock(&wb->lock);
	m = wb->mpu;
	for (;;) {
		uint64_t size = staged_size(wb->staged);
		bool stop = err || m->error || (stream && wb->hurry);
		unsigned i = m->n;
		uint32_t gen = 0;

		if (m->done != done) {
			done = m->done;
			mutex_unlock(&wb->lock);
			writeback_rerecord(wb);
			mutex_lock(&wb->lock);
			continue;
		}
		if (!stop && may_send_locked(wb->ws, m))
			i = next_locked(wb->ws, m, size, stream, &gen);
		if (i < m->n) {
			mutex_unlock(&wb->lock);
			send_part(wb, m, i, gen, size);
			mutex_lock(&wb->lock);
			continue;
		}
		if (m->flying == 0)
			break;
		cond_wait_ms(&wb->changed, &wb->lock, WAIT_MS);
		if (interrupt && store_interrupt_raised(interrupt))
			err = -EINTR;
	}
	if (!err && m->error) {
		err = m->error;
		snprintf(why, sizeof(m->why), "%s", m->why);
	}
	m->error = 0;
	mutex_unlock(&wb->lock);
	return err;
}

/* The parts as the completion names them; -EAGAIN if one is not there. */
static int list_parts(struct writeback *wb, struct store_part *parts,
		      unsigned n)
{
	int err = 0;

	mutex_lock(&wb->lock);
	if (wb->mpu->n < n)
		err = -EAGAIN;
	for (unsigned i = 0; i < n && !err; i++) {
		if (wb->mpu->parts[i].state != PART_DONE)
			err = -EAGAIN;
		parts[i].number = i + 1;
		memcpy(parts[i].etag, wb->mpu->parts[i].etag,
		       sizeof(parts[i].etag));
	}
	mutex_unlock(&wb->lock);
	return err;
}

int multipart_complete(struct writeback *wb,
		       const struct writeback_target *target,
		       struct store_interrupt *interrupt,
		       struct writeback_result *ret)
{
	struct multipart *m = wb->mpu;
	uint64_t size = staged_size(wb->staged);
	unsigned n = parts_count(size, m->part_size);
	struct store_part *parts = xcalloc(n, sizeof(*parts));
	struct store_req req;
	int err = list_parts(wb, parts, n);

	store_req_init(&req, STORE_MPU_COMPLETE);
	req.key = m->key;
	req.upload_id = m->id;
	req.parts = parts;
	req.nparts = n;
	req.if_match = target->if_match;
	req.if_absent = target->create;
	if (!err)
		err = store_call(wb->ws->config.store, &req, interrupt);
	if (!err) {
		ret->etag = req.attr.etag;
		ret->size = size;
		mutex_lock(&wb->lock);
		wb->mpu = NULL;
		mutex_unlock(&wb->lock);
		multipart_free(m);
	} else {
		snprintf(ret->why, sizeof(ret->why), "%s", req.why);
	}
	store_req_release(&req);
	free(parts);
	return err;
}
