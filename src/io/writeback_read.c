/*
 * The bytes of a writeback, wherever they are: for readers, for a store that
 * needs them locally, and for the cache once R2 has them.
 *
 * A read that lies wholly in one kind is passed on; a mixed one is put together
 * by a task, since it may wait for the network.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fsio.h"
#include "io/writeback_impl.h"

enum {
	STEP = 1 << 20,
	INHERIT_MAX = 64 << 20, /* see heritage() */
};

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
			err = writeback_make_room(wb->ws, len);
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
