/*
 * Content that is not (only) in R2.
 *
 * Bytes lie in a sparse staged file; what was never written comes from the
 * base object or is a hole. A read that lies wholly in one kind is passed on;
 * a mixed one is put together by a task, since it may wait for the network.
 */
#include "io/writeback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "io/writeback_impl.h"

enum {
	STEP = 1 << 20,
	MEASURE = 16 << 20,
	INHERIT_MAX = 64 << 20, /* see heritage() */
};

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

static struct writeback *writeback_new(struct writebacks *ws,
				       struct staged *staged)
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

static int set_base(struct writeback *wb, const struct writeback_base *base)
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
		err = set_base(wb, base);
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
		err = set_base(wb, &base);
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

/* Is there room for n bytes more, beyond --min-free? Looks at the disk from time
 * to time, and at each write when it is nearly full. */
static int make_room(struct writebacks *ws, uint64_t n)
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
	err = make_room(wb->ws, n);
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
	int err = set_base(&copy, base);

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

/* ---- the base ---- */

struct base_read {
	struct fill_read read;
	struct mutex lock;
	struct cond ended;
	bool done;
	uint8_t *to;
	size_t n;
	int error;
};

static void base_arrived(struct fill_read *r)
{
	struct base_read *b = container_of(r, struct base_read, read);
	int err = r->error;

	if (!err && r->got < b->n)
		err = -EIO;
	if (!err && r->data)
		memcpy(b->to, r->data, r->got);
	else if (!err && fsio()->pread(r->fd, b->to, r->got, r->fd_off) !=
				 (ssize_t)r->got)
		err = -EIO;
	mutex_lock(&b->lock);
	b->error = err;
	b->done = true;
	cond_broadcast(&b->ended);
	mutex_unlock(&b->lock);
}

static int read_base(struct fill_file *base, void *to, size_t n, uint64_t off,
		     uint64_t until)
{
	struct base_read b = { .to = to, .n = n };

	mutex_init(&b.lock);
	cond_init(&b.ended);
	b.read.off = off;
	b.read.len = n;
	b.read.until = until;
	b.read.done = base_arrived;
	fill_read(base, &b.read);
	mutex_lock(&b.lock);
	while (!b.done)
		cond_wait(&b.ended, &b.lock);
	mutex_unlock(&b.lock);
	cond_release(&b.ended);
	mutex_release(&b.lock);
	return b.error;
}

/* What the cache has of the base, without a gap from off; asks nobody. */
static size_t read_cached(struct fill_file *base, void *to, size_t n,
			  uint64_t off)
{
	struct content *content = fill_content(base);
	size_t got = 0;

	while (got < n) {
		uint64_t at = off + got, len;
		int fd;

		len = content_pin(content, at, n - got, &fd);
		if (!len)
			break;
		ssize_t r =
			fsio()->pread(fd, (uint8_t *)to + got, len, (off_t)at);
		content_unpin(content, at, len);
		if (r != (ssize_t)len) {
			content_distrust(content, at, len);
			break;
		}
		got += len;
	}
	return got;
}

/* The base, with a reference: a store may replace it at any time. */
static struct fill_file *base_get(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	struct fill_file *base = wb->base;
	if (base)
		fill_ref(base);
	mutex_unlock(&wb->lock);
	return base;
}

static struct fill_file *origin_get(struct writeback *wb)
{
	mutex_lock(&wb->lock);
	struct fill_file *origin = wb->origin;
	if (origin)
		fill_ref(origin);
	mutex_unlock(&wb->lock);
	return origin;
}

bool writeback_is_cached(struct writeback *wb)
{
	struct fill_file *base = base_get(wb);
	bool cached = !base || content_complete(fill_content(base));

	fill_close(base);
	return cached;
}

/* Our own store makes the old base's version go: then the new one has the
 * same bytes. */
static int read_from_base(struct writeback *wb, void *to, size_t n,
			  uint64_t off, uint64_t until)
{
	struct fill_file *base = base_get(wb), *now, *origin = origin_get(wb);
	bool have = origin && read_cached(origin, to, n, off) == n;
	int err = -EIO;

	fill_close(origin);
	if (have)
		err = 0;
	else if (base)
		err = read_base(base, to, n, off, until);
	if (err == -ESTALE) {
		now = base_get(wb);
		if (now && now != base)
			err = read_base(now, to, n, off, until);
		fill_close(now);
	}
	fill_close(base);
	return err;
}

int writeback_fill_range(struct writeback *wb, uint64_t off, uint64_t end)
{
	uint8_t *buf = NULL;
	int err = 0;

	while (off < end && !err) {
		uint64_t len = end - off < STEP ? end - off : STEP;

		if (staged_kind_at(wb->staged, off, &len) == STAGED_BASE) {
			if (!buf)
				buf = xmalloc(STEP);
			err = make_room(wb->ws, len);
			if (!err)
				err = read_from_base(wb, buf, len, off, end);
			if (!err)
				err = staged_write_base(wb->staged, buf, len,
							off);
		}
		off += len;
	}
	free(buf);
	return err;
}

int writeback_fill(struct writeback *wb, struct store_interrupt *interrupt)
{
	uint64_t end = staged_base_len(wb->staged);
	int err = 0;

	for (uint64_t off = 0; off < end && !err; off += 8 * STEP) {
		uint64_t to = off + 8 * STEP < end ? off + 8 * STEP : end;

		err = writeback_fill_range(wb, off, to);
		if (!err && store_interrupt_raised(interrupt))
			err = -EINTR;
	}
	return err;
}

void writeback_salvage(struct writeback *wb)
{
	struct fill_file *base = base_get(wb);
	uint64_t end = staged_base_len(wb->staged), off = 0, len;
	uint8_t *buf = base ? xmalloc(STEP) : NULL;
	int err = 0;

	while (base && !err &&
	       (off = content_next(fill_content(base), off)) < end) {
		len = end - off < STEP ? end - off : STEP;
		if (staged_kind_at(wb->staged, off, &len) == STAGED_BASE) {
			len = read_cached(base, buf, len, off);
			if (len)
				err = staged_write_base(wb->staged, buf, len,
							off);
		}
		off += len ? len : CACHE_BLOCK;
	}
	free(buf);
	fill_close(base);
}

bool writeback_lacks(struct writeback *wb, uint64_t *off, uint64_t *end)
{
	uint64_t base_len = staged_base_len(wb->staged), len;

	for (; *off < base_len; *off += len) {
		len = base_len - *off;
		if (staged_kind_at(wb->staged, *off, &len) != STAGED_BASE)
			continue;
		*end = *off + len;
		return true;
	}
	return false;
}

/* ---- reads ---- */

struct mixed {
	struct task task;
	struct writeback *wb;
	struct fill_read *r;
};

static int read_mixed(struct mixed *m, uint8_t *to)
{
	uint64_t off = m->r->off, end = off + m->r->len;
	int err = 0;

	while (off < end && !err) {
		uint64_t len = end - off;

		if (staged_kind_at(m->wb->staged, off, &len) == STAGED_BASE)
			err = read_from_base(m->wb, to, len, off, 0);
		else
			err = staged_read(m->wb->staged, to, len, off);
		off += len;
		to += len;
	}
	return err;
}

static void answer_mixed(struct task *t)
{
	struct mixed *m = container_of(t, struct mixed, task);
	struct fill_read *r = m->r;
	struct chunk *chunk = pool_force(m->wb->ws->config.pool, r->len);

	r->error = read_mixed(m, chunk->data);
	r->got = r->error ? 0 : r->len;
	r->data = chunk->data;
	free(m);
	r->done(r);
	chunk_put(chunk);
}

static void read_local(struct writeback *wb, struct fill_read *r)
{
	struct chunk *chunk = pool_force(wb->ws->config.pool, r->len);

	r->error = staged_read(wb->staged, chunk->data, r->len, r->off);
	r->got = r->error ? 0 : r->len;
	r->data = chunk->data;
	r->done(r);
	chunk_put(chunk);
}

void writeback_read(struct writeback *wb, struct fill_read *r)
{
	uint64_t size = staged_size(wb->staged), at, len;
	struct mixed *m;

	list_init(&r->link);
	r->parked = false;
	r->file = NULL;
	r->chunk = NULL;
	r->data = NULL;
	r->error = 0;
	r->got = 0;
	if (r->off >= size || r->len == 0) {
		r->len = 0;
		r->done(r);
		return;
	}
	if (r->len > size - r->off)
		r->len = size - r->off;
	for (at = r->off; at < r->off + r->len; at += len) {
		len = r->off + r->len - at;
		if (staged_kind_at(wb->staged, at, &len) == STAGED_BASE)
			break;
	}
	if (at == r->off + r->len) {
		read_local(wb, r);
		return;
	}
	m = xcalloc(1, sizeof(*m));
	m->wb = wb;
	m->r = r;
	m->task.run = answer_mixed;
	tasks_submit(wb->ws->config.tasks, &m->task);
}

int writeback_peek(struct writeback *wb, void *buf, size_t n, uint64_t off)
{
	return staged_read(wb->staged, buf, n, off);
}

int writeback_seek(struct writeback *wb, uint64_t off, bool hole, uint64_t *ret)
{
	uint64_t size = staged_size(wb->staged);

	if (off >= size)
		return -ENXIO;
	while (off < size) {
		uint64_t len = size - off;
		bool is_hole = staged_kind_at(wb->staged, off, &len) ==
			       STAGED_HOLE;

		if (is_hole == hole) {
			*ret = off;
			return 0;
		}
		off += len;
	}
	*ret = size;
	return hole ? 0 : -ENXIO;
}

/* ---- the record ---- */

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

/* ---- into the cache ---- */

/* What is at hand from off on without a gap: short holes only. */
static size_t gather(struct writeback *wb, struct fill_file *origin,
		     uint8_t *buf, size_t n, uint64_t off)
{
	size_t got = 0;

	while (got < n) {
		uint64_t len = n - got, have;
		enum staged_kind kind =
			staged_kind_at(wb->staged, off + got, &len);

		if (kind == STAGED_BASE)
			have = origin ? read_cached(origin, buf + got, len,
						    off + got) :
					0;
		else if ((kind == STAGED_HOLE && len >= CACHE_BLOCK) ||
			 staged_read(wb->staged, buf + got, len, off + got))
			have = 0;
		else
			have = len;
		got += have;
		if (have < len)
			break;
	}
	return off + got == staged_size(wb->staged) ? got :
						      got - got % CACHE_BLOCK;
}

/* How far to go on where there is nothing to gather. */
static uint64_t gap(struct writeback *wb, uint64_t off, uint64_t size,
		    bool inherits)
{
	uint64_t len = size - off;
	enum staged_kind kind = staged_kind_at(wb->staged, off, &len);

	if (kind == STAGED_LOCAL || (kind == STAGED_BASE && inherits) ||
	    len < CACHE_BLOCK)
		return CACHE_BLOCK;
	return len - len % CACHE_BLOCK;
}

/* The version whose blocks the new one takes over: not its own, and not more
 * than the disk copies in a moment. */
static struct fill_file *heritage(struct writeback *wb, uint64_t cid)
{
	struct fill_file *origin = origin_get(wb);

	if (origin && (content_cid(fill_content(origin)) == cid ||
		       staged_base_len(wb->staged) > INHERIT_MAX)) {
		fill_close(origin);
		origin = NULL;
	}
	return origin;
}

void writeback_publish(struct writeback *wb, uint64_t cid)
{
	uint64_t size = staged_size(wb->staged), n;
	struct fill_file *origin;
	struct content *content;
	uint8_t *buf;

	if (size == 0 ||
	    content_open(wb->ws->config.blocks, cid, size, &content))
		return;
	origin = heritage(wb, cid);
	buf = xmalloc(STEP);
	for (uint64_t off = 0; off < size; off += n) {
		n = gather(wb, origin, buf,
			   size - off < STEP ? size - off : STEP, off);
		if (n == 0)
			n = gap(wb, off, size, origin);
		else if (content_write(content, off, buf, n))
			break;
	}
	free(buf);
	fill_close(origin);
	content_put(content);
}
