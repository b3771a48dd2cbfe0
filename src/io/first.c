/*
 * The speculative first GET.
 *
 * A name that is looked up is almost always opened and read next. Asking for
 * its first bytes costs what a HEAD costs, and a small file then needs no
 * further request at all. The buffer is charged at its full length while the
 * GET is under way and shrunk to what came.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/fetch.h"

enum { MEMORY_WAIT_MS = 10000 };

struct fill_first {
	struct fills *fills;
	struct chunk *chunk;
	size_t len;
	uint64_t size;
	char *key, *etag;
};

/* Whole blocks only, or all of the object: the rest cannot be cached. */
static size_t usable(uint64_t size, size_t got)
{
	return got == size ? got : got - got % CACHE_BLOCK;
}

static struct chunk *shrunk(struct fills *f, struct chunk *c, size_t n)
{
	struct chunk *small;

	if (n > c->cap / 2)
		return c;
	small = pool_force(f->config.pool, n);
	memcpy(small->data, c->data, n);
	chunk_put(c);
	return small;
}

static struct fill_first *
first_new(struct fills *f, const struct store_req *req, struct chunk *chunk)
{
	size_t n = usable(req->attr.size, req->buf_len);
	struct fill_first *first;

	if (n == 0) {
		chunk_put(chunk);
		return NULL;
	}
	first = xcalloc(1, sizeof(*first));
	first->fills = f;
	first->chunk = shrunk(f, chunk, n);
	first->len = n;
	first->size = req->attr.size;
	first->key = xstrdup(req->key);
	first->etag = xstrdup(req->attr.etag.s);
	return first;
}

int fill_first(struct fills *f, const char *key, const char *if_none_match,
	       struct store_interrupt *interrupt, struct store_attr *attr,
	       bool *not_modified, struct fill_first **ret)
{
	size_t n = f->config.first_bytes;
	struct chunk *chunk = pool_get(f->config.pool, n, MEMORY_WAIT_MS);
	struct store_req req;
	int err;

	*ret = NULL;
	if (!chunk)
		return -ENOMEM;
	store_req_init(&req, STORE_GET);
	req.key = key;
	req.if_none_match = if_none_match;
	req.ranged = true;
	req.range_len = n;
	req.buf = chunk->data;
	req.buf_cap = n;
	err = store_call(f->config.store, &req, interrupt);
	fills_count(&f->stats.fetches, 1);
	fills_count(&f->stats.fetched_bytes, req.buf_len);
	if (err || req.not_modified) {
		*not_modified = !err;
		attr->mtime_ns = req.attr.mtime_ns;
		chunk_put(chunk);
		store_req_release(&req);
		return err;
	}
	*not_modified = false;
	*ret = first_new(f, &req, chunk);
	*attr = req.attr;
	memset(&req.attr.meta, 0, sizeof(req.attr.meta));
	store_req_release(&req);
	return 0;
}

static void first_free(struct fill_first *first)
{
	free(first->key);
	free(first->etag);
	free(first);
}

void fill_first_keep(struct fill_first *first, uint64_t cid)
{
	struct fill_file *file;

	if (!first)
		return;
	if (file_get(first->fills, first->key, first->etag, cid, first->size,
		     &file)) {
		fill_first_drop(first);
		return;
	}
	if (content_present(file->content, 0, first->len) == first->len)
		chunk_put(first->chunk);
	else
		fetch_adopt(file, first->chunk, 0, first->len);
	file_put(file);
	first_free(first);
}

void fill_first_drop(struct fill_first *first)
{
	if (!first)
		return;
	chunk_put(first->chunk);
	first_free(first);
}
