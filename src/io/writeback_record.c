/*
 * What the journal is told of a writeback, and how one is made from it again.
 *
 * The record speaks of what its file was when it was closed; bytes that were
 * written since are not owed. So a record that is written anew for another
 * reason (a part has arrived, the base has moved) keeps to what it promised.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/writeback_impl.h"

static void copy_record(struct journal_rec *to, const struct journal_rec *from)
{
	memset(to, 0, sizeof(*to));
	to->state = from->state;
	to->deferred = from->deferred;
	to->create = from->create;
	to->key = xstrdup(from->key);
	memcpy(to->etag, from->etag, sizeof(to->etag));
	to->why = xstrdup(from->why);
	if (from->blob_len) {
		to->blob = xmalloc(from->blob_len);
		memcpy(to->blob, from->blob, from->blob_len);
		to->blob_len = from->blob_len;
	}
}

static struct multipart *multipart_from_record(struct writebacks *ws,
					       const struct journal_rec *rec)
{
	struct multipart *m;

	if (!rec->upload_id || !rec->part_size)
		return NULL;
	m = xcalloc(1, sizeof(*m));
	m->key = xstrdup(rec->key);
	m->id = xstrdup(rec->upload_id);
	m->meta_gen = !rec->upload_old;
	m->part_size = rec->part_size;
	multipart_begin_window(ws, m);
	m->n = rec->nparts;
	m->parts = xcalloc(rec->nparts + 1, sizeof(*m->parts));
	for (unsigned i = 0; i < rec->nparts; i++) {
		memcpy(m->parts[i].etag, rec->parts[i].etag,
		       sizeof(m->parts[i].etag));
		if (rec->parts[i].etag[0])
			m->parts[i].state = PART_DONE;
	}
	return m;
}

int writeback_resume(struct writebacks *ws, struct staged *staged,
		     struct journal_rec *rec, struct writeback **ret)
{
	struct writeback *wb = writeback_new(ws, staged);
	struct writeback_base base = { .key = rec->base_key,
				       .etag = rec->base_etag,
				       .size = rec->base_size };
	int err = 0;

	if (base.key) {
		base.cid = meta_new_cid(ws->config.meta);
		err = writeback_set_base(wb, &base);
	}
	wb->gen = wb->data_gen = wb->touched = 1;
	wb->stored_data_gen = rec->meta_changed ? wb->data_gen : 0;
	wb->recorded_gen = wb->recorded_data_gen = 1;
	wb->recorded_base = wb->resumed = true;
	wb->mpu = multipart_from_record(ws, rec);
	copy_record(&wb->last, rec);
	journal_release(rec);
	if (err) {
		writeback_put(wb);
		return err;
	}
	*ret = wb;
	return 0;
}

static void record_multipart_locked(struct writeback *wb,
				    struct journal_rec *rec) REQUIRES(wb->lock)
{
	struct multipart *m = wb->mpu;

	if (!m || !m->id || strcmp(m->key, rec->key) != 0)
		return;
	rec->upload_id = xstrdup(m->id);
	rec->upload_old = wb->touched > m->meta_gen;
	rec->part_size = m->part_size;
	rec->nparts = m->n;
	rec->parts = xcalloc(m->n + 1, sizeof(*rec->parts));
	for (unsigned i = 0; i < m->n; i++)
		if (m->parts[i].state == PART_DONE && !m->parts[i].stale)
			memcpy(rec->parts[i].etag, m->parts[i].etag,
			       sizeof(rec->parts[i].etag));
}

static void complete_record_locked(struct writeback *wb,
				   struct journal_rec *rec) REQUIRES(wb->lock)
{
	if (wb->base_key) {
		rec->base_key = xstrdup(wb->base_key);
		snprintf(rec->base_etag, sizeof(rec->base_etag), "%s",
			 wb->base_etag);
		rec->base_size = wb->base_size;
	}
	rec->meta_changed = wb->gen != wb->stored_gen &&
			    wb->data_gen == wb->stored_data_gen;
	if (wb->stored_key && wb->stored_etag.s[0] &&
	    strcmp(wb->stored_key, rec->key) == 0) {
		rec->create = false;
		snprintf(rec->etag, sizeof(rec->etag), "%s", wb->stored_etag.s);
	}
	record_multipart_locked(wb, rec);
}

static void note_recorded_locked(struct writeback *wb) REQUIRES(wb->lock)
{
	wb->recorded_gen = wb->gen;
	wb->recorded_data_gen = wb->data_gen;
	wb->recorded_base = true;
}

int writeback_record(struct writeback *wb, const struct journal_rec *rec,
		     bool durable)
{
	struct journal_rec own;
	int err;

	mutex_lock(&wb->recording);
	mutex_lock(&wb->lock);
	journal_release(&wb->last);
	copy_record(&wb->last, rec);
	copy_record(&own, rec);
	complete_record_locked(wb, &own);
	note_recorded_locked(wb);
	mutex_unlock(&wb->lock);
	own.changed_ns = clock_wall_ns();
	err = staged_save(wb->staged, &own, durable);
	journal_release(&own);
	mutex_unlock(&wb->recording);
	return err;
}

/* Has R2 all that the record owes? */
static bool promise_kept_locked(struct writeback *wb) REQUIRES(wb->lock)
{
	return wb->stored_key && strcmp(wb->stored_key, wb->last.key) == 0 &&
	       wb->recorded_gen <= wb->stored_gen;
}

/* The record of what is still owed: with the version and the base of now, but
 * without parts of other bytes. */
static void keep_promise_locked(struct writeback *wb, struct journal_rec *rec)
	REQUIRES(wb->lock)
{
	rec->meta_changed = wb->recorded_data_gen == wb->stored_data_gen;
	if (wb->recorded_data_gen != wb->data_gen)
		rec->nparts = 0;
	if (!wb->recorded_base) {
		free(rec->base_key);
		rec->base_key = NULL;
	}
}

/* Bytes that were written since R2 got what was owed are not owed: nobody has
 * closed the file. */
static int rerecord(struct writeback *wb, bool durable) REQUIRES(wb->recording)
{
	struct journal_rec own;
	bool promise = false;
	int err;

	mutex_lock(&wb->lock);
	if (wb->last.state == JOURNAL_OWED) {
		promise = !promise_kept_locked(wb);
		if (!promise && wb->data_gen != wb->stored_data_gen)
			wb->last.state = JOURNAL_OPEN;
	}
	copy_record(&own, &wb->last);
	complete_record_locked(wb, &own);
	if (promise)
		keep_promise_locked(wb, &own);
	else
		note_recorded_locked(wb);
	mutex_unlock(&wb->lock);
	own.changed_ns = clock_wall_ns();
	err = promise ? staged_save_promise(wb->staged, &own, durable) :
			staged_save(wb->staged, &own, durable);
	journal_release(&own);
	return err;
}

void writeback_rerecord(struct writeback *wb)
{
	mutex_lock(&wb->recording);
	if (wb->last.key && rerecord(wb, false))
		log_warn("writeback", "the journal cannot be written");
	mutex_unlock(&wb->recording);
}

void writeback_make_durable(struct writeback *wb)
{
	mutex_lock(&wb->recording);
	if (wb->last.key && !staged_is_durable(wb->staged) &&
	    rerecord(wb, true))
		log_warn("writeback", "the journal cannot be written");
	mutex_unlock(&wb->recording);
}

void writeback_unrecord(struct writeback *wb)
{
	mutex_lock(&wb->recording);
	mutex_lock(&wb->lock);
	journal_release(&wb->last);
	mutex_unlock(&wb->lock);
	staged_forget_record(wb->staged);
	mutex_unlock(&wb->recording);
}
