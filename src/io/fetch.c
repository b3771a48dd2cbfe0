/*
 * The life of one GET: see the table in io/fetch.h.
 *
 * Arrived bytes are written to the cache by a task and stay readable from
 * memory until then; if the cache cannot keep them (disk full) they are simply
 * gone afterwards, and whoever waited has been answered from memory.
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

static void fetch_end(struct fetch *fetch)
{
	struct fill_file *file = fetch->file;
	struct fills *f = file->fills;

	mutex_lock(&file->lock);
	list_del(&fetch->link);
	mutex_unlock(&file->lock);
	chunk_put(fetch->chunk);
	store_req_release(&fetch->req);
	free(fetch);
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
	fetch_end(fetch);
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

static void on_progress(struct store_req *req, size_t got)
{
	struct fetch *fetch = req->arg;
	struct fill_file *file = fetch->file;
	bool waiters;

	mutex_lock(&file->lock);
	fetch->got = got < fetch->len ? got : fetch->len;
	keep_headers_locked(file, req);
	waiters = !list_empty(&file->waiters);
	mutex_unlock(&file->lock);
	if (waiters)
		fill_wake(file, 0, 0, 0);
}

static void on_done(struct store_req *req)
{
	struct fetch *fetch = req->arg;
	struct fill_file *file = fetch->file;
	int err = req->error;

	if (!err && req->buf_len != fetch->len)
		err = -EBADMSG;
	if (err == -ENOENT)
		err = -ESTALE;
	fills_count(&file->fills->stats.fetched_bytes, req->buf_len);
	if (!err) {
		arrive(fetch);
		return;
	}
	mutex_lock(&file->lock);
	if (err == -ESTALE)
		file->stale = true;
	list_del(&fetch->link);
	mutex_unlock(&file->lock);
	if (err == -ESTALE)
		fills_count(&file->fills->stats.stale, 1);
	fill_wake(file, fetch->off, fetch->len, err);
	fetch_end(fetch);
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
