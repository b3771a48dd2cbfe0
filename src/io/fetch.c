/*
 * The life of one GET: see the table in io/fetch.h.
 *
 * Arrived bytes are written to the cache by a task and stay readable from
 * memory until then, and longer if the cache cannot keep them and a reader
 * still needs them.
 */
#include "io/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { WRITE_STEP = 1 << 20 };

static struct fetch *fetch_alloc_locked(struct fill_file *file, uint64_t off,
					size_t len, struct chunk *chunk)
{
	struct fetch *fetch = xcalloc(1, sizeof(*fetch));
	struct fills *f = file->fills;

	fetch->file = file;
	fetch->off = off;
	fetch->len = len;
	fetch->chunk = chunk;
	fetch->unread = true;
	list_add_tail(&file->fetches, &fetch->link);
	mutex_lock(&f->lock);
	file->refs++;
	f->fetches++;
	f->busy += file->fetching++ == 0;
	mutex_unlock(&f->lock);
	return fetch;
}

struct fetch *fetch_new_locked(struct fill_file *file, uint64_t off, size_t len,
			       bool ahead, bool must)
{
	struct pool *pool = file->fills->config.pool;
	struct chunk *chunk = pool_try(pool, len);
	struct fetch *fetch;

	if (!chunk && must)
		chunk = pool_force(pool, len);
	if (!chunk)
		return NULL;
	fetch = fetch_alloc_locked(file, off, len, chunk);
	fetch->state = FETCH_FLYING;
	fetch->ahead = ahead;
	return fetch;
}

bool fetch_hungry_locked(struct fill_file *file)
{
	struct fills *f = file->fills;
	bool ok;

	mutex_lock(&f->lock);
	ok = f->fetches > f->ending;
	if (ok && !file->hungry) {
		file->hungry = true;
		file->refs++;
		list_add_tail(&f->hungry, &file->hungry_link);
	}
	mutex_unlock(&f->lock);
	return ok;
}

/* A fetch has given its memory back: the next who waits for some tries again,
 * and further ones until there is a fetch whose end will serve the rest. */
static void feed(struct fills *f)
{
	struct fill_file *file;
	bool fed = false;

	mutex_lock(&f->lock);
	f->ending++;
	while (!list_empty(&f->hungry) && (!fed || f->fetches <= f->ending)) {
		file = list_first(&f->hungry, struct fill_file, hungry_link);
		list_del(&file->hungry_link);
		file->hungry = false;
		mutex_unlock(&f->lock);
		fill_wake(file, 0, 0, 0);
		file_put(file);
		fed = true;
		mutex_lock(&f->lock);
	}
	f->ending--;
	if (--f->fetches == 0)
		cond_broadcast(&f->idle);
	mutex_unlock(&f->lock);
}

static bool wanted_locked(struct fill_file *file, const struct fetch *fetch)
	REQUIRES(file->lock)
{
	list_for_each(n, &file->waiters) {
		const struct fill_read *r =
			list_entry(n, struct fill_read, link);

		if (r->off < fetch->off + fetch->len &&
		    fetch->off < r->off + r->len)
			return true;
	}
	return fetch->unread && !fills_pressed(file->fills);
}

static void fetch_free(struct fetch *fetch)
{
	chunk_put(fetch->chunk);
	store_req_release(&fetch->req);
	free(fetch);
}

void fetch_sweep(struct fill_file *file)
{
	struct list gone;

	list_init(&gone);
	mutex_lock(&file->lock);
	if (file->left) {
		list_for_each_safe(n, tmp, &file->fetches) {
			struct fetch *fetch = list_entry(n, struct fetch, link);

			if (fetch->state != FETCH_LEFT ||
			    wanted_locked(file, fetch))
				continue;
			list_del(n);
			list_add_tail(&gone, n);
			file->left--;
		}
	}
	mutex_unlock(&file->lock);
	list_for_each_safe(n, tmp, &gone)
		fetch_free(list_entry(n, struct fetch, link));
}

void fetch_drop_left(struct fill_file *file)
{
	list_for_each_safe(n, tmp, &file->fetches) {
		list_del(n);
		fetch_free(list_entry(n, struct fetch, link));
	}
}

/* stored: the cache has it now. */
static void fetch_end(struct fetch *fetch, bool stored)
{
	struct fill_file *file = fetch->file;
	struct fills *f = file->fills;
	bool left;

	mutex_lock(&file->lock);
	left = !stored && wanted_locked(file, fetch);
	if (left) {
		fetch->state = FETCH_LEFT;
		file->left++;
	} else {
		list_del(&fetch->link);
	}
	mutex_unlock(&file->lock);
	if (!left)
		fetch_free(fetch);
	mutex_lock(&f->lock);
	f->busy -= --file->fetching == 0;
	mutex_unlock(&f->lock);
	file_put(file);
	feed(f);
}

static void store_bytes(struct task *t)
{
	struct fetch *fetch = container_of(t, struct fetch, task);
	int err = 0;

	for (size_t at = 0; at < fetch->len && !err; at += WRITE_STEP) {
		size_t n = fetch->len - at;

		err = content_write(fetch->file->content, fetch->off + at,
				    fetch->chunk->data + at,
				    n < WRITE_STEP ? n : WRITE_STEP);
	}
	fetch_end(fetch, err == 0);
}

static void arrive(struct fetch *fetch)
{
	mutex_lock(&fetch->file->lock);
	fetch->state = FETCH_ARRIVED;
	fetch->got = fetch->len;
	mutex_unlock(&fetch->file->lock);
	fill_wake(fetch->file, fetch->off, fetch->len, 0);
	fetch->task.run = store_bytes;
	tasks_submit(fetch->file->fills->config.disk, &fetch->task);
}

/* Every GET shows the object's metadata; the first is kept for the asking. */
static void keep_headers_locked(struct fill_file *file,
				const struct store_req *req)
	REQUIRES(file->lock)
{
	if (file->attr.has_meta || !req->attr.has_meta)
		return;
	file->attr = req->attr;
	if (store_meta_copy(&file->attr.meta, &req->attr.meta))
		memset(&file->attr, 0, sizeof(file->attr));
}

/* Measured while bytes come: idle time says nothing of the link. */
static void meter(struct fills *f, uint64_t bytes)
{
	const uint64_t idle_ns = 1000000000, enough_ns = 100000000;
	uint64_t now = clock_mono_ns(), span;

	mutex_lock(&f->lock);
	span = now - f->metered_ns;
	if (now - f->moved_ns > idle_ns || span > 2 * idle_ns) {
		f->metered_ns = now;
		f->metered = 0;
	} else if (span >= enough_ns) {
		f->rate = (f->metered + bytes) * 1000 / (span / 1000000);
	}
	f->metered += bytes;
	f->moved_ns = now;
	mutex_unlock(&f->lock);
}

static void on_progress(struct store_req *req, size_t got)
{
	struct fetch *fetch = req->arg;
	struct fill_file *file = fetch->file;
	size_t before;
	bool waiters;

	mutex_lock(&file->lock);
	before = fetch->got;
	fetch->got = got < fetch->len ? got : fetch->len;
	got = fetch->got;
	keep_headers_locked(file, req);
	waiters = !list_empty(&file->waiters);
	mutex_unlock(&file->lock);
	if (got > before)
		meter(file->fills, got - before);
	if (waiters)
		fill_wake(file, 0, 0, 0);
}

/* The whole blocks of a GET that failed on its way are as good as others'. */
static bool salvage(struct fetch *fetch, int err)
{
	struct fill_file *file = fetch->file;
	size_t len = fetch->len, usable;

	mutex_lock(&file->lock);
	usable = fetch->got - fetch->got % CACHE_BLOCK;
	if (usable)
		fetch->len = usable;
	mutex_unlock(&file->lock);
	if (!usable)
		return false;
	fill_wake(file, fetch->off + usable, len - usable, err);
	arrive(fetch);
	return true;
}

/* Was it asked for under a key that it no longer had? */
static bool was_moved(struct fetch *fetch)
{
	struct fill_file *file = fetch->file;

	mutex_lock(&file->lock);
	bool moved = strcmp(fetch->req.key, file->name->key) != 0;
	mutex_unlock(&file->lock);
	return moved;
}

static void on_done(struct store_req *req)
{
	struct fetch *fetch = req->arg;
	struct fill_file *file = fetch->file;
	int err = req->error;

	if (err == -ENOENT && was_moved(fetch)) {
		store_req_release(req);
		fetch_submit(fetch);
		return;
	}
	if (!err && req->buf_len != fetch->len)
		err = -EBADMSG;
	if (err == -ENOENT)
		err = -ESTALE;
	fills_count(&file->fills->stats.fetched_bytes, req->buf_len);
	if (!err) {
		arrive(fetch);
		return;
	}
	if (err == -ESTALE) {
		mutex_lock(&file->lock);
		file->stale = true;
		mutex_unlock(&file->lock);
		fills_count(&file->fills->stats.stale, 1);
	} else if (salvage(fetch, err)) {
		return;
	}
	mutex_lock(&file->lock);
	list_del(&fetch->link);
	mutex_unlock(&file->lock);
	fill_wake(file, fetch->off, fetch->len, err);
	fetch_end(fetch, true);
}

void fetch_submit(struct fetch *fetch)
{
	struct fill_file *file = fetch->file;
	struct fills *f = file->fills;
	struct store_req *req = &fetch->req;

	store_req_init(req, STORE_GET);
	mutex_lock(&file->lock);
	req->key = file->name->key;
	req->if_match = file->name->etag;
	mutex_unlock(&file->lock);
	req->ranged = true;
	req->range_off = fetch->off;
	req->range_len = fetch->len;
	req->buf = fetch->chunk->data;
	req->buf_cap = fetch->len;
	req->progress = on_progress;
	req->done = on_done;
	req->arg = fetch;
	fills_count(&f->stats.fetches, 1);
	if (fetch->ahead)
		fills_count(&f->stats.prefetched_bytes, fetch->len);
	store_submit(f->config.store, req);
}

void fetch_adopt(struct fill_file *file, struct chunk *chunk, uint64_t off,
		 size_t len)
{
	struct fetch *fetch;

	mutex_lock(&file->lock);
	fetch = fetch_alloc_locked(file, off, len, chunk);
	mutex_unlock(&file->lock);
	arrive(fetch);
}
