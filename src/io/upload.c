/*
 * How content reaches R2: which requests, in which order.
 *
 * What is small goes as one PUT, also when little of it changed: one request
 * beats three, and egress is free. What is large goes in parts. The version
 * to be replaced is a condition of the request that makes the object visible;
 * UploadPartCopy has no condition of its own (r2-facts 2.2), so when parts
 * were copied the base is looked at once more before the completion, and if it
 * was replaced, nothing of the upload is worth keeping.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/writeback_impl.h"

enum { WAIT_MS = 100, TRIES = 5 };

/* ---- one object, one request ---- */

/* The content as a body. A program that goes on writing may change it between
 * its sum and its sending, and do so each time: frozen is a copy of one
 * moment. *ret_copy: free. */
static int put_body(struct writeback *wb, uint64_t size, bool frozen,
		    struct store_body *body, void **ret_copy)
{
	int err = writeback_fill_range(wb, 0, size);

	*ret_copy = NULL;
	body->fd = staged_fd(wb->staged);
	body->len = size;
	if (!err && frozen && size) {
		body->data = *ret_copy = xmalloc(size);
		body->fd = -1;
		err = staged_read(wb->staged, *ret_copy, size, 0);
	}
	return err ? err : store_body_sum(wb->ws->config.store, body);
}

static int store_put(struct writeback *wb, const struct writeback_target *t,
		     bool frozen, struct store_interrupt *interrupt,
		     struct writeback_result *ret)
{
	struct store *store = wb->ws->config.store;
	uint64_t size = staged_size(wb->staged);
	struct store_req req;
	void *copy;
	int err;

	store_req_init(&req, STORE_PUT);
	req.caller_logs = true;
	req.key = t->key;
	req.put_meta = t->meta;
	req.if_match = t->if_match;
	req.if_absent = t->create;
	req.maybe_done = writeback_is_resumed(wb);
	err = put_body(wb, size, frozen, &req.body, &copy);
	if (!err)
		err = store_call(store, &req, interrupt);
	ret->refused |= req.throttled > 0;
	if (err) {
		snprintf(ret->why, sizeof(ret->why), "%s", req.why);
	} else {
		ret->etag = req.attr.etag;
		ret->time_ns = req.attr.mtime_ns;
		ret->size = size;
	}
	store_req_release(&req);
	free(copy);
	return err;
}

static int store_copy(struct writeback *wb, const struct writeback_target *t,
		      struct store_interrupt *interrupt,
		      struct writeback_result *ret)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_COPY);
	req.caller_logs = true;
	req.key = t->key;
	req.source_key = wb->base_key;
	req.source_if_match = wb->base_etag;
	req.if_match = t->if_match;
	req.if_absent = t->create;
	req.put_meta = t->meta;
	req.maybe_done = writeback_is_resumed(wb);
	err = store_call(wb->ws->config.store, &req, interrupt);
	ret->refused |= req.throttled > 0;
	if (err) {
		snprintf(ret->why, sizeof(ret->why), "%s", req.why);
	} else {
		ret->etag = req.attr.etag;
		ret->time_ns = req.attr.mtime_ns;
		ret->size = wb->base_size;
	}
	store_req_release(&req);
	return err;
}

/* ---- in parts ---- */

/* Has an earlier run, or try, perhaps stored this? The completion will tell: then it
 * finds no upload. */
static bool may_be_ours(struct writeback *wb, const struct writeback_target *t,
			const struct store_attr *attr)
{
	return writeback_is_resumed(wb) && t->meta &&
	       attr->size == staged_size(wb->staged) &&
	       store_meta_has(&attr->meta, t->meta);
}

/* Is the version at t->key still the one that t wants to replace? */
static int check_target(struct writeback *wb, const struct writeback_target *t,
			struct store_interrupt *interrupt,
			struct writeback_result *ret)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_HEAD);
	req.caller_logs = true;
	req.key = t->key;
	err = store_call(wb->ws->config.store, &req, interrupt);
	if (err == -ENOENT)
		err = t->create ? 0 : -ESTALE;
	else if (!err && t->create)
		err = may_be_ours(wb, t, &req.attr) ? 0 : -EEXIST;
	else if (!err && t->if_match && strcmp(req.attr.etag.s, t->if_match))
		err = may_be_ours(wb, t, &req.attr) ? 0 : -ESTALE;
	if (err)
		snprintf(ret->why, sizeof(ret->why), "%s",
			 req.why[0] ? req.why : "the object changed in R2");
	store_req_release(&req);
	return err;
}

/* Does the completion find out by itself whether the base is still there? */
static bool guards_base(struct writeback *wb, const struct writeback_target *t)
{
	return t->if_match && strcmp(wb->base_key, t->key) == 0 &&
	       strcmp(wb->base_etag, t->if_match) == 0;
}

static int check_before_complete(struct writeback *wb,
				 const struct writeback_target *t,
				 struct store_interrupt *interrupt,
				 struct writeback_result *ret)
{
	const struct writeback_target base = { .key = wb->base_key,
					       .if_match = wb->base_etag };
	int err = 0;

	if ((wb->mpu->copied || (wb->base && !writeback_all_local(wb))) &&
	    !guards_base(wb, t))
		err = check_target(wb, &base, interrupt, ret);
	if (!err && (t->create || t->if_match))
		err = check_target(wb, t, interrupt, ret);
	return err;
}

static int try_parts(struct writeback *wb, const struct writeback_target *t,
		     struct store_interrupt *interrupt,
		     struct writeback_result *ret, bool *ret_refused)
{
	int err = multipart_begin(wb, t->key, t->meta, t->as_of, interrupt,
				  ret->why);

	*ret_refused = false;
	if (err)
		return err;
	multipart_take(wb);
	err = -EAGAIN;
	for (int i = 0; i < 2 && err == -EAGAIN; i++) {
		err = multipart_run(wb, false, interrupt, ret->why);
		if (!err)
			err = check_before_complete(wb, t, interrupt, ret);
		if (err)
			continue;
		err = multipart_complete(wb, t, interrupt, ret);
		*ret_refused = err == -EINVAL;
	}
	multipart_give_back(wb);
	return err;
}

/* An upload that is gone, or whose completion R2 refuses, is begun anew; one
 * under which the file became shorter at the last moment goes on. */
static int store_parts(struct writeback *wb, const struct writeback_target *t,
		       struct store_interrupt *interrupt,
		       struct writeback_result *ret)
{
	bool refused = false, anew = true;
	int err = -EAGAIN;

	for (int i = 0; i < TRIES && err; i++) {
		err = try_parts(wb, t, interrupt, ret, &refused);
		if (err == -ENOENT || refused)
			multipart_drop(wb);
		if (err != -EAGAIN && err != -ENOENT && !(refused && anew))
			break;
		anew = !refused;
	}
	if (err == -ESTALE && wb->base)
		multipart_drop(wb);
	return err == -EAGAIN || err == -ENOENT ? -EIO : err;
}

/* ---- the store ---- */

static bool only_metadata(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	bool meta = writeback_is_base_locked(wb);
	mutex_unlock(&wb->lock);
	return meta && wb->base_size <= wb->ws->config.copy_max;
}

/* Was a copy refused because the object to be copied is another one by now?
 * Then its bytes will do, if they are still to be had. */
static bool takes_bytes_instead(struct writeback *wb,
				const struct writeback_target *t, int err,
				struct store_interrupt *interrupt)
{
	const struct writeback_target base = { .key = wb->base_key,
					       .if_match = wb->base_etag };
	struct writeback_result unused;

	return (err == -ESTALE || err == -EEXIST || err == -ENOENT) &&
	       strcmp(wb->base_key, t->key) != 0 &&
	       check_target(wb, &base, interrupt, &unused) == -ESTALE &&
	       writeback_fill(wb, interrupt) == 0;
}

static int store_once(struct writeback *wb, const struct writeback_target *t,
		      bool frozen, struct store_interrupt *interrupt,
		      struct writeback_result *ret)
{
	if (only_metadata(wb)) {
		int err = store_copy(wb, t, interrupt, ret);

		if (!takes_bytes_instead(wb, t, err, interrupt))
			return err;
		ret->why[0] = 0;
	}
	if (staged_size(wb->staged) <= wb->ws->config.put_max && !wb->mpu)
		return store_put(wb, t, frozen, interrupt, ret);
	return store_parts(wb, t, interrupt, ret);
}

/* R2 has what was here at gen and data_gen; what is not local comes from there,
 * or, without a request, from what the cache has of the first version. It has
 * older metadata if the upload was begun before that was touched. */
static void settle(struct writeback *wb, const struct writeback_target *t,
		   const struct writeback_result *r, uint64_t gen,
		   uint64_t data_gen)
{
	struct fill_file *fresh = NULL, *old, *origin = NULL;

	if (!writeback_all_local(wb) && r->size &&
	    fill_open(wb->ws->config.fills, t->key, r->etag.s, t->cid, r->size,
		      &fresh))
		fresh = NULL;
	mutex_lock(&wb->lock);
	old = wb->base;
	wb->base = fresh;
	if (!fresh || !wb->origin) {
		origin = wb->origin;
		wb->origin = fresh ? old : NULL;
		old = fresh ? NULL : old;
	}
	free(wb->base_key);
	free(wb->base_etag);
	free(wb->stored_key);
	wb->base_key = xstrdup(t->key);
	wb->base_etag = xstrdup(r->etag.s);
	wb->base_size = r->size;
	wb->stored_key = xstrdup(t->key);
	wb->stored_etag = r->etag;
	wb->stored_gen = wb->touched > wb->meta_gen ? gen - 1 : gen;
	wb->stored_data_gen = data_gen;
	wb->resumed = false;
	mutex_unlock(&wb->lock);
	fill_close(old);
	fill_close(origin);
}

/* Takes the right to store, after the others and at R2's pace. -EALREADY:
 * there is nothing left to store. */
static int enter(struct writeback *wb, const char *key,
		 struct store_interrupt *interrupt,
		 struct writeback_result *ret)
{
	uint64_t wait;
	int err = 0;

	store_interrupt_wakes(interrupt, &wb->lock, &wb->changed);
	mutex_lock(&wb->lock);
	if (!wb->paced)
		pace_begin(wb->ws->pace, key);
	wb->paced = true;
	wb->hurry = true;
	for (;;) {
		if (wb->gen == wb->stored_gen && wb->stored_key &&
		    strcmp(wb->stored_key, key) == 0) {
			ret->etag = wb->stored_etag;
			ret->size = staged_size(wb->staged);
			err = -EALREADY;
			break;
		}
		wait = WAIT_MS;
		if (!wb->storing && !wb->streaming)
			wait = pace_take(wb->ws->pace, key);
		if (!wait)
			break;
		cond_wait_ms(&wb->changed, &wb->lock,
			     wait < WAIT_MS ? wait : WAIT_MS);
		if (store_interrupt_raised(interrupt)) {
			err = -EINTR;
			break;
		}
	}
	wb->storing |= !err;
	wb->hurry = false;
	mutex_unlock(&wb->lock);
	store_interrupt_wakes(interrupt, NULL, NULL);
	return err;
}

/* May R2 have stored it all the same? */
static bool is_unheard(int err)
{
	return err == -ETIMEDOUT || err == -EIO || err == -EINTR ||
	       err == -ECANCELED || err == -EBADMSG || err == -EPROTO;
}

static void leave(struct writeback *wb, const struct writeback_target *t,
		  const struct writeback_result *r, int err)
{
	mutex_lock(&wb->lock);
	if (is_unheard(err))
		wb->resumed = true;
	wb->storing = false;
	pace_done(wb->ws->pace, t->key, r->refused);
	cond_broadcast(&wb->changed);
	mutex_unlock(&wb->lock);
}

static int store_settled(struct writeback *wb, const struct writeback_target *t,
			 struct store_interrupt *interrupt,
			 struct writeback_result *ret)
{
	uint64_t gen = 0, data_gen = 0;
	int err = -EBADMSG;

	for (int i = 0; i < TRIES && err == -EBADMSG; i++) {
		mutex_lock(&wb->lock);
		gen = wb->gen;
		data_gen = wb->data_gen;
		wb->meta_gen = t->as_of;
		mutex_unlock(&wb->lock);
		ret->why[0] = 0;
		err = store_once(wb, t, i > 0, interrupt, ret);
	}
	if (!err)
		settle(wb, t, ret, gen, data_gen);
	return err;
}

/* The new metadata, on the version just stored. */
static void store_touched(struct writeback *wb,
			  const struct writeback_target *t,
			  struct store_interrupt *interrupt,
			  struct writeback_result *ret)
{
	const struct store_etag etag = ret->etag;
	struct writeback_target again = *t;
	struct writeback_result r = { .why = "" };
	int err;

	again.create = false;
	again.if_match = etag.s;
	err = store_settled(wb, &again, interrupt, &r);
	ret->refused |= r.refused;
	if (err) {
		mutex_lock(&wb->lock);
		wb->resumed |= is_unheard(err);
		mutex_unlock(&wb->lock);
		log_warn("upload", "%s: its attributes are stored later: %s",
			 t->key, r.why);
		return;
	}
	ret->etag = r.etag;
	ret->time_ns = r.time_ns;
	fill_moved(wb->ws->config.fills, t->cid, t->key, r.etag.s);
}

int writeback_store(struct writeback *wb, const struct writeback_target *t,
		    struct store_interrupt *interrupt,
		    struct writeback_result *ret)
{
	struct writeback_target own = *t;
	bool touched;
	int err;

	memset(ret, 0, sizeof(*ret));
	err = enter(wb, t->key, interrupt, ret);
	if (err)
		return err == -EALREADY ? 0 : err;
	if (!own.as_of)
		own.as_of = writeback_changes(wb);
	err = store_settled(wb, &own, interrupt, ret);
	ret->stored = !err;
	mutex_lock(&wb->lock);
	touched = wb->touched > wb->meta_gen && wb->touched <= own.as_of &&
		  wb->data_gen == wb->stored_data_gen;
	mutex_unlock(&wb->lock);
	if (!err && touched)
		store_touched(wb, &own, interrupt, ret);
	leave(wb, t, ret, err);
	return err;
}

/* ---- before the end is known ---- */

static void stream_task(struct task *task)
{
	struct writeback *wb = container_of(task, struct writeback, task);
	char why[192] = "";
	int err = multipart_begin(wb, wb->stream_key, &wb->stream_meta,
				  wb->stream_as_of, NULL, why);

	if (!err)
		err = multipart_run(wb, true, NULL, why);
	if (err)
		log_debug("upload", "%s: part upload put off: %s",
			  wb->stream_key, why);
	mutex_lock(&wb->lock);
	wb->streaming = false;
	cond_broadcast(&wb->changed);
	mutex_unlock(&wb->lock);
	writeback_put(wb);
}

static bool worth_streaming_locked(struct writeback *wb, uint64_t size)
	REQUIRES(wb->lock)
{
	struct multipart *m = wb->mpu;
	uint64_t part = m ? m->part_size : parts_size(size, 0);

	if (wb->streaming || wb->storing || wb->hurry || wb->base ||
	    size < wb->ws->config.put_max + part)
		return false;
	if (!m)
		return true;
	uint64_t full = size / part;
	return full > m->n || (full && m->parts[full - 1].state == PART_TODO);
}

void writeback_stream(struct writeback *wb, const struct writeback_target *t)
{
	uint64_t size = staged_size(wb->staged);
	bool start;

	mutex_lock(&wb->lock);
	start = worth_streaming_locked(wb, size);
	if (wb->streaming)
		cond_broadcast(&wb->changed);
	if (start) {
		wb->streaming = true;
		store_meta_release(&wb->stream_meta);
		free(wb->stream_key);
		wb->stream_key = xstrdup(t->key);
		wb->stream_as_of = t->as_of ? t->as_of : wb->gen;
	}
	mutex_unlock(&wb->lock);
	if (!start)
		return;
	if (store_meta_copy(&wb->stream_meta, t->meta))
		log_debug("upload", "no metadata");
	writeback_ref(wb);
	wb->task.run = stream_task;
	tasks_submit(wb->ws->config.tasks, &wb->task);
}

void writeback_abort(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	wb->hurry = true;
	while (wb->streaming || wb->storing)
		cond_wait_ms(&wb->changed, &wb->lock, WAIT_MS);
	wb->hurry = false;
	mutex_unlock(&wb->lock);
	multipart_drop(wb);
}
