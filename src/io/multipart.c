/*
 * One upload in parts: how it begins, what changes to the file mean for it, and
 * how it ends.
 *
 * Each part has a number that grows with every change to its bytes; a part that
 * changed while it travelled is sent again, so nobody has to wait for a writer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/multipart_impl.h"

enum { PATIENCE = 2 };

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

uint64_t multipart_wanted_locked(struct writeback *wb,
				 const struct multipart *m) REQUIRES(wb->lock)
{
	uint64_t size = staged_size(wb->staged);

	return m->taken && (m->frozen || m->limit < size) ? m->limit : size;
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

bool multipart_is_base_locked(struct writeback *wb, const char *key)
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
	replaced = multipart_is_base_locked(wb, key);
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

bool multipart_outgrown_locked(struct writeback *wb, const struct multipart *m)
	REQUIRES(wb->lock)
{
	return parts_count(multipart_wanted_locked(wb, m), m->part_size) >
	       PARTS_MAX;
}

/* Is there an upload for this key, and are its parts large enough? */
static bool usable(struct writeback *wb, const char *key, bool *ret_outgrown)
{
	mutex_lock(&wb->lock);
	struct multipart *m = wb->mpu;
	*ret_outgrown = m && multipart_outgrown_locked(wb, m);
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

/* ---- completing ---- */

/* The parts as the completion names them; -EAGAIN if one is not there: then
 * those that changed do not come to rest. */
static int list_parts(struct writeback *wb, struct store_part **ret,
		      unsigned *ret_n, uint64_t *ret_size)
{
	struct multipart *m = wb->mpu;
	struct store_part *parts;
	int err = 0;

	mutex_lock(&wb->lock);
	*ret_size = multipart_wanted_locked(wb, m);
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
