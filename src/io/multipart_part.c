/*
 * One part on its way: sent from the staged file, copied by R2 from the base, or
 * sent from a copy of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/multipart_impl.h"

struct part_job {
	struct store_req req;
	struct writeback *wb;
	struct multipart *mpu;
	unsigned index;
	uint32_t gen;
	uint64_t off, len;
	int snapshot; /* a file of its own, or -1 */
};

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

	if (j->snapshot >= 0)
		close(j->snapshot); /* before others look for room */
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
	free(j);
	writeback_put(wb);
}

uint64_t part_len(const struct multipart *m, unsigned i, uint64_t size)
{
	uint64_t off = i * m->part_size;

	return size - off < m->part_size ? size - off : m->part_size;
}

bool part_copyable_locked(struct writeback *wb, const struct multipart *m,
			  unsigned i, uint64_t size) REQUIRES(wb->lock)
{
	uint64_t off = i * m->part_size, len = part_len(m, i, size);
	bool last = off + len == size;

	if (len > PART_COPY_MAX || (!last && len < PART_MIN))
		return false;
	return multipart_is_base_locked(wb, m->key) ||
	       (wb->base && !staged_changed(wb->staged, off, off + len));
}

static void describe_copy(struct part_job *j)
{
	struct store_req *req = &j->req;

	req->source_key = j->wb->base_key;
	req->ranged = true;
	req->range_off = j->off;
	req->range_len = j->len;
}

static void describe_upload(struct part_job *j, const uint8_t *md5)
{
	struct store_req *req = &j->req;

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

	if (!err)
		err = staged_snapshot(wb->staged, j->off, j->len, &j->snapshot);
	if (!err && staged_size(wb->staged) < j->off + j->len)
		err = -EAGAIN;
	req->body.fd = j->snapshot;
	req->body.len = j->len;
	return err ? err : store_body_sum(wb->ws->config.store, &req->body);
}

bool part_send(struct writeback *wb, struct multipart *m,
	       const struct next_part *p)
{
	bool frozen = p->freeze && !p->copy;
	struct part_job *j;
	int err = 0;

	if (frozen)
		err = blocks_give_way(wb->ws->config.blocks, p->len);
	if (err && !p->alone)
		return false;
	j = xcalloc(1, sizeof(*j));
	j->wb = wb;
	j->mpu = m;
	j->index = p->index;
	j->gen = p->gen;
	j->off = p->index * m->part_size;
	j->len = p->len;
	j->snapshot = -1;
	writeback_ref(wb);
	store_req_init(&j->req, p->copy ? STORE_MPU_COPY : STORE_MPU_PART);
	j->req.caller_logs = true;
	if (p->copy)
		describe_copy(j);
	else if (!frozen)
		describe_upload(j, p->md5);
	else if (!err)
		err = describe_snapshot(j);
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
	return true;
}
