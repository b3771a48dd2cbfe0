/*
 * Content that is not (only) in R2: what it is and how it changes.
 *
 * Bytes lie in a sparse staged file; what was never written comes from the
 * base object or is a hole.
 */
#include "io/writeback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/writeback_impl.h"

enum { MEASURE = 16 << 20 };

struct writebacks *writebacks_create(const struct writeback_config *config)
{
	struct writebacks *ws = xcalloc(1, sizeof(*ws));

	ws->config = *config;
	if (!ws->config.put_max)
		ws->config.put_max = 32 << 20;
	if (!ws->config.copy_max)
		ws->config.copy_max = PART_MAX;
	if (!ws->config.parts_in_flight)
		ws->config.parts_in_flight = 4;
	if (!ws->config.parts_together)
		ws->config.parts_together = 16;
	ws->pace = pace_create();
	ws->unmeasured = MEASURE;
	return ws;
}

void writebacks_destroy(struct writebacks *ws)
{
	if (!ws)
		return;
	pace_destroy(ws->pace);
	free(ws);
}

struct stage *writebacks_stage(struct writebacks *ws)
{
	return ws->config.stage;
}

/* ---- life ---- */

struct writeback *writeback_new(struct writebacks *ws, struct staged *staged)
{
	struct writeback *wb = xcalloc(1, sizeof(*wb));

	wb->ws = ws;
	wb->staged = staged;
	wb->refs = 1;
	mutex_init(&wb->recording);
	mutex_init(&wb->lock);
	cond_init(&wb->changed);
	return wb;
}

int writeback_set_base(struct writeback *wb, const struct writeback_base *base)
{
	int err = 0;

	if (base->size)
		err = fill_open(wb->ws->config.fills, base->key, base->etag,
				base->cid, base->size, &wb->base);
	if (err)
		return err;
	wb->base_key = xstrdup(base->key);
	wb->base_etag = xstrdup(base->etag);
	wb->base_size = base->size;
	return 0;
}

int writeback_create(struct writebacks *ws, const struct writeback_base *base,
		     struct writeback **ret)
{
	struct staged *staged;
	struct writeback *wb;
	int err = staged_create(ws->config.stage, &staged);

	if (err)
		return err;
	wb = writeback_new(ws, staged);
	if (base)
		err = writeback_set_base(wb, base);
	if (!err && base)
		err = staged_set_base(staged, 0, base->size);
	if (err) {
		writeback_discard(wb);
		writeback_put(wb);
		return err;
	}
	if (base) {
		wb->stored_key = xstrdup(base->key);
	} else {
		wb->gen = wb->data_gen = 1;
	}
	*ret = wb;
	return 0;
}

void writeback_ref(struct writeback *wb)
{
	__atomic_add_fetch(&wb->refs, 1, __ATOMIC_RELAXED);
}

void writeback_put(struct writeback *wb)
{
	if (!wb || __atomic_sub_fetch(&wb->refs, 1, __ATOMIC_ACQ_REL))
		return;
	fill_close(wb->base);
	fill_close(wb->origin);
	if (wb->discard)
		staged_discard(wb->staged);
	else
		staged_close(wb->staged);
	multipart_free(wb->mpu);
	journal_release(&wb->last);
	store_meta_release(&wb->stream_meta);
	free(wb->stream_key);
	free(wb->base_key);
	free(wb->base_etag);
	free(wb->stored_key);
	cond_release(&wb->changed);
	mutex_release(&wb->lock);
	mutex_release(&wb->recording);
	free(wb);
}

void writeback_discard(struct writeback *wb)
{
	__atomic_store_n(&wb->discard, true, __ATOMIC_RELEASE);
}

uint64_t writeback_size(struct writeback *wb)
{
	return staged_size(wb->staged);
}

uint64_t writeback_id(struct writeback *wb)
{
	return staged_id(wb->staged);
}

/* ---- changes ---- */

int writeback_make_room(struct writebacks *ws, uint64_t n)
{
	if (__atomic_add_fetch(&ws->unmeasured, n, __ATOMIC_RELAXED) < MEASURE)
		return 0;
	if (blocks_give_way(ws->config.blocks, n + MEASURE))
		return blocks_give_way(ws->config.blocks, n);
	__atomic_store_n(&ws->unmeasured, 0, __ATOMIC_RELAXED);
	return 0;
}

static void note_change(struct writeback *wb, uint64_t off, uint64_t end)
{
	mutex_lock(&wb->lock);
	wb->gen++;
	wb->data_gen++;
	multipart_changed_locked(wb, off, end);
	mutex_unlock(&wb->lock);
}

int writeback_write(struct writeback *wb, const void *buf, size_t n,
		    uint64_t off)
{
	uint64_t size = staged_size(wb->staged);
	int err;

	if (off + n > OBJECT_MAX)
		return -EFBIG;
	err = writeback_make_room(wb->ws, n);
	if (err)
		return err;
	err = staged_write(wb->staged, buf, n, off);
	note_change(wb, off < size ? off : size, off + n);
	return err;
}

void writeback_flush_start(struct writeback *wb, uint64_t off, uint64_t n)
{
	staged_flush_start(wb->staged, off, n);
}

int writeback_truncate(struct writeback *wb, uint64_t size)
{
	uint64_t old = staged_size(wb->staged);
	int err;

	if (size > OBJECT_MAX)
		return -EFBIG;
	if (size == old)
		return 0;
	err = staged_truncate(wb->staged, size);
	note_change(wb, size < old ? size : old, size < old ? old : size);
	return err;
}

int writeback_zero(struct writeback *wb, uint64_t off, uint64_t n, bool grow)
{
	uint64_t size = staged_size(wb->staged), end = off + n;
	int err = 0;

	if (end > OBJECT_MAX)
		return -EFBIG;
	if (grow && end > size)
		err = writeback_truncate(wb, end);
	if (!grow && end > size)
		end = size;
	if (err || off >= end)
		return err;
	err = staged_zero(wb->staged, off, end);
	note_change(wb, off, end);
	return err;
}

static int copy_first(struct writeback *wb, const struct writeback_base *base,
		      uint64_t end)
{
	struct writeback copy = { .ws = wb->ws };
	int err = writeback_set_base(&copy, base);

	mutex_lock(&wb->lock);
	if (!err && (wb->base || wb->storing || wb->streaming || wb->mpu))
		err = -EINVAL;
	if (!err)
		err = staged_set_base(wb->staged, 0, end);
	if (!err) {
		free(wb->base_key);
		free(wb->base_etag);
		wb->base = copy.base;
		wb->base_key = copy.base_key;
		wb->base_etag = copy.base_etag;
		wb->base_size = copy.base_size;
		wb->recorded_base = false;
	}
	mutex_unlock(&wb->lock);
	if (err) {
		fill_close(copy.base);
		free(copy.base_key);
		free(copy.base_etag);
	}
	return err;
}

static int copy_on(struct writeback *wb, const struct writeback_base *base,
		   uint64_t off, uint64_t end)
{
	int err = -EINVAL;

	mutex_lock(&wb->lock);
	if (wb->base && !wb->storing && strcmp(wb->base_key, base->key) == 0 &&
	    strcmp(wb->base_etag, base->etag) == 0)
		err = staged_set_base(wb->staged, off, end);
	mutex_unlock(&wb->lock);
	return err;
}

int writeback_copy(struct writeback *wb, const struct writeback_base *base,
		   uint64_t off, uint64_t end)
{
	int err = off ? copy_on(wb, base, off, end) : copy_first(wb, base, end);

	if (err)
		return err;
	note_change(wb, off, end);
	if (end == base->size) {
		mutex_lock(&wb->lock);
		wb->stored_data_gen = wb->data_gen;
		mutex_unlock(&wb->lock);
	}
	return 0;
}

void writeback_touch(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	wb->touched = ++wb->gen;
	mutex_unlock(&wb->lock);
}

uint64_t writeback_changes(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	uint64_t gen = wb->gen;
	mutex_unlock(&wb->lock);
	return gen;
}

void writeback_moved(struct writeback *wb, const char *key, const char *etag)
{
	mutex_lock(&wb->lock);
	if (wb->base_key) {
		free(wb->base_key);
		free(wb->base_etag);
		wb->base_key = xstrdup(key);
		wb->base_etag = xstrdup(etag);
	}
	if (wb->stored_key) {
		free(wb->stored_key);
		wb->stored_key = xstrdup(key);
		snprintf(wb->stored_etag.s, sizeof(wb->stored_etag.s), "%s",
			 etag);
	}
	mutex_unlock(&wb->lock);
}

void writeback_forget_store(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	wb->gen++;
	wb->data_gen++;
	free(wb->stored_key);
	wb->stored_key = NULL;
	mutex_unlock(&wb->lock);
}

bool writeback_dirty(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	bool dirty = wb->gen != wb->stored_gen;
	mutex_unlock(&wb->lock);
	return dirty;
}

bool writeback_is_base_locked(struct writeback *wb)
{
	return wb->base_key && wb->data_gen == wb->stored_data_gen &&
	       staged_size(wb->staged) == wb->base_size;
}

bool writeback_is_resumed(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	bool resumed = wb->resumed;
	mutex_unlock(&wb->lock);
	return resumed;
}

bool writeback_adds_bytes(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	bool adds = !wb->base_key || wb->data_gen != wb->stored_data_gen;
	mutex_unlock(&wb->lock);
	return adds;
}

bool writeback_same_content(struct writeback *wb, const char *key)
{
	mutex_lock(&wb->lock);
	bool same = wb->base_key && strcmp(wb->base_key, key) == 0 &&
		    wb->data_gen == wb->stored_data_gen;
	mutex_unlock(&wb->lock);
	return same;
}

bool writeback_builds_on(struct writeback *wb, const char *key)
{
	mutex_lock(&wb->lock);
	bool builds = wb->base && strcmp(wb->base_key, key) == 0;
	mutex_unlock(&wb->lock);
	return builds;
}

bool writeback_all_local(struct writeback *wb)
{
	uint64_t base_len = staged_base_len(wb->staged), len = base_len;

	return !base_len ||
	       (staged_kind_at(wb->staged, 0, &len) == STAGED_LOCAL &&
		len == base_len);
}

bool writeback_borrows(struct writeback *wb, const char *key)
{
	mutex_lock(&wb->lock);
	bool other = wb->base && strcmp(wb->base_key, key) != 0;
	mutex_unlock(&wb->lock);
	return other && !writeback_all_local(wb);
}
