/*
 * Reads: from the cache, from bytes on their way, or by asking for them.
 *
 * A read that cannot be answered at once is parked on its file and looked at
 * again whenever bytes arrive; it is answered when its own bytes are there,
 * long before a large GET has ended. What is asked for is decided under the
 * file's lock, so a block is in at most one fetch; requests are submitted and
 * readers answered after it was let go.
 */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fsio.h"
#include "io/fetch.h"

enum {
	START_MAX = 64, /* fetches begun by one read */
	MERGE_GAP = 512 * 1024, /* present bytes between two gaps of one GET */
	PREFETCH_KNOWN = 64 << 20, /* ahead of a reader who said how far */
	CRUMB = 1 << 20, /* a last GET is so much larger rather than two */
	WINDOW_MAX = 512 << 20,
	MANY_GETS = 128, /* of a file: three more do not count */
	AHEAD_S = 4, /* of what the link brings, at most, is asked for */
};

/* ---- what is at hand ---- */

static struct fetch *fetch_at_locked(struct fill_file *file, uint64_t pos)
	REQUIRES(file->lock)
{
	list_for_each(n, &file->fetches) {
		struct fetch *fetch = list_entry(n, struct fetch, link);

		if (pos >= fetch->off && pos < fetch->off + fetch->len)
			return fetch;
	}
	return NULL;
}

/* Bytes readable from pos on without a gap, at most len. */
static uint64_t ready_locked(struct fill_file *file, uint64_t off, uint64_t len)
	REQUIRES(file->lock)
{
	uint64_t pos = off, end = off + len;

	while (pos < end) {
		struct fetch *fetch = fetch_at_locked(file, pos);
		uint64_t n = 0;

		if (fetch && fetch->off + fetch->got > pos)
			n = fetch->off + fetch->got - pos;
		if (!n)
			n = content_present(file->content, pos, end - pos);
		if (!n)
			break;
		pos += n;
	}
	return (pos < end ? pos : end) - off;
}

/* Copies what ready_locked promised: 0, or -EAGAIN if the cache dropped some of
 * it since or cannot read it. */
static int gather_locked(struct fill_file *file, uint64_t off, size_t len,
			 uint8_t *to) REQUIRES(file->lock)
{
	uint64_t end = off + len;

	while (off < end) {
		struct fetch *fetch = fetch_at_locked(file, off);
		uint64_t n = 0;
		int fd;

		if (fetch && fetch->off + fetch->got > off) {
			n = fetch->off + fetch->got - off;
			n = n < end - off ? n : end - off;
			memcpy(to, fetch->chunk->data + (off - fetch->off), n);
		} else {
			n = content_pin(file->content, off, end - off, &fd);
			if (n && fsio()->pread(fd, to, n, (off_t)off) !=
					 (ssize_t)n) {
				content_unpin(file->content, off, n);
				content_distrust(file->content, off, n);
				return -EAGAIN;
			}
			if (n)
				content_unpin(file->content, off, n);
		}
		if (n == 0)
			return -EAGAIN;
		off += n;
		to += n;
	}
	return 0;
}

/* Prepares the answer in memory, or an error; false: bytes are missing. */
static bool take_bytes_locked(struct fill_file *file, struct fill_read *r)
	REQUIRES(file->lock)
{
	struct fetch *fetch = fetch_at_locked(file, r->off);
	int err;

	if (ready_locked(file, r->off, r->len) < r->len)
		return false;

	if (fetch && fetch->off + fetch->got >= r->off + r->len) {
		chunk_ref(fetch->chunk);
		r->chunk = fetch->chunk;
		r->data = fetch->chunk->data + (r->off - fetch->off);
	} else {
		r->chunk = pool_force(file->fills->config.pool, r->len);
		err = gather_locked(file, r->off, r->len, r->chunk->data);
		if (err) {
			chunk_put(r->chunk);
			r->chunk = NULL;
			r->error = err;
			return err != -EAGAIN;
		}
		r->data = r->chunk->data;
	}
	r->error = 0;
	r->got = r->len;
	list_for_each(n, &file->fetches) {
		fetch = list_entry(n, struct fetch, link);
		if (r->off < fetch->off + fetch->len &&
		    r->off + r->len >= fetch->off + fetch->len)
			fetch->unread = false;
	}
	return true;
}

static void answer(struct fill_read *r)
{
	struct chunk *chunk = r->chunk;

	r->chunk = NULL;
	r->done(r);
	chunk_put(chunk);
}

static bool overlaps(const struct fill_read *r, uint64_t off, uint64_t len)
{
	return r->off < off + len && off < r->off + r->len;
}

static void unpark_locked(struct fill_read *r)
{
	list_del(&r->link);
	r->parked = false;
}

/* Will bytes of r arrive yet? What has arrived and is being stored wakes
 * nobody again. */
static bool under_way_locked(struct fill_file *file, const struct fill_read *r)
	REQUIRES(file->lock)
{
	list_for_each(n, &file->fetches) {
		struct fetch *fetch = list_entry(n, struct fetch, link);

		if (fetch->state == FETCH_FLYING &&
		    overlaps(r, fetch->off, fetch->len))
			return true;
	}
	return false;
}

static void ask(struct fill_file *file, struct fill_read *r, bool stalled);

void fill_wake(struct fill_file *file, uint64_t off, uint64_t len, int error)
{
	struct list ready, again;

	list_init(&ready);
	list_init(&again);
	mutex_lock(&file->lock);
	list_for_each_safe(n, tmp, &file->waiters) {
		struct fill_read *r = list_entry(n, struct fill_read, link);

		if (take_bytes_locked(file, r)) {
			unpark_locked(r);
			list_add_tail(&ready, n);
		} else if (error && overlaps(r, off, len)) {
			unpark_locked(r);
			r->error = error;
			list_add_tail(&ready, n);
		} else if (!under_way_locked(file, r)) {
			unpark_locked(r);
			list_add_tail(&again, n);
		}
	}
	mutex_unlock(&file->lock);
	list_for_each_safe(n, tmp, &ready) {
		list_del(n);
		answer(list_entry(n, struct fill_read, link));
	}
	list_for_each_safe(n, tmp, &again) {
		list_del(n);
		ask(file, list_entry(n, struct fill_read, link), true);
	}
	fetch_sweep(file);
}

/* ---- asking ---- */

struct start {
	struct fetch *fetch[START_MAX];
	unsigned n;
	bool hungry; /* not all, for want of memory */
};

static uint64_t block_down(uint64_t off)
{
	return off - off % CACHE_BLOCK;
}

static uint64_t block_up(const struct fill_file *file, uint64_t end)
{
	end = (end + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK;
	return end < file->size ? end : file->size;
}

/* End of the missing run that begins at pos, at most `end`. */
static uint64_t gap_end_locked(struct fill_file *file, uint64_t pos,
			       uint64_t end) REQUIRES(file->lock)
{
	uint64_t to = end;

	list_for_each(n, &file->fetches) {
		struct fetch *fetch = list_entry(n, struct fetch, link);

		if (fetch->off >= pos && fetch->off < to)
			to = fetch->off;
	}
	for (uint64_t at = pos; at < to; at += CACHE_BLOCK)
		if (content_present(file->content, at, 1))
			return at;
	return to;
}

static bool hungry_others(struct fills *f)
{
	bool any;

	mutex_lock(&f->lock);
	any = !list_empty(&f->hungry);
	mutex_unlock(&f->lock);
	return any;
}

/* Where a GET that begins at off ends at the latest. Where a file is so long
 * that it does not matter, its beginning comes by several connections. */
static uint64_t get_end(const struct fill_file *file, uint64_t off)
{
	uint64_t most = file->fills->config.get_bytes, end = CRUMB;

	if (off >= most || file->size / most < MANY_GETS) {
		end = off - off % most + most;
		return end - off < CRUMB ? end + most : end;
	}
	while (end <= off)
		end *= 2;
	return end;
}

/* How many of n missing bytes to ask for at once. */
static uint64_t get_len(const struct fill_file *file, uint64_t off, uint64_t n,
			uint64_t must_end)
{
	uint64_t most = file->fills->config.get_bytes;

	if (off + n <= must_end && n <= most)
		return n;
	if (off + n == file->size && n <= most + CRUMB)
		return n;
	if (off + n > get_end(file, off))
		n = get_end(file, off) - off;
	return n;
}

static struct fetch *begin_locked(struct fill_file *file, uint64_t off,
				  uint64_t n, uint64_t must_end,
				  struct start *s) REQUIRES(file->lock)
{
	bool ahead = off >= must_end;
	struct fetch *fetch = NULL;

	if (!ahead || !hungry_others(file->fills))
		fetch = fetch_new_locked(file, off, n, ahead, false);
	if (fetch || ahead)
		return fetch;
	if (off + n <= must_end)
		return fetch_new_locked(file, off, n, false, true);
	s->hungry = fetch_hungry_locked(file);
	if (s->hungry)
		return NULL;
	return fetch_new_locked(file, off, must_end - off, false, true);
}

/* Begins fetches for all that is missing in [off, end), both on block
 * boundaries. Bytes before must_end are waited for: when memory is short, one
 * who wanted just these gets them at once, a stream waits for its turn rather
 * than come in crumbs. How far it came. */
static uint64_t cover_locked(struct fill_file *file, uint64_t off, uint64_t end,
			     uint64_t must_end, struct start *s)
	REQUIRES(file->lock)
{
	while (off < end && s->n < START_MAX) {
		struct fetch *fetch = fetch_at_locked(file, off);
		uint64_t n =
			fetch ? fetch->off + fetch->len - off :
				content_present(file->content, off, end - off);

		if (n) {
			off = block_down(
				off + n +
				(off + n == file->size ? CACHE_BLOCK : 0));
			continue;
		}
		n = get_len(file, off, gap_end_locked(file, off, end) - off,
			    must_end);
		fetch = begin_locked(file, off, n, must_end, s);
		if (!fetch)
			return off;
		s->fetch[s->n++] = fetch;
		off += fetch->len;
	}
	return off;
}

/* The same for what is wanted next below: the nearest first. Where it came. */
static uint64_t cover_down_locked(struct fill_file *file, uint64_t from,
				  uint64_t to, struct start *s)
	REQUIRES(file->lock)
{
	uint64_t step = file->fills->config.get_bytes;

	while (to > from) {
		uint64_t begin = (to - 1) / step * step;

		if (begin < from || to - from <= CRUMB)
			begin = from;
		if (cover_locked(file, begin, to, 0, s) < to)
			break;
		to = begin;
	}
	return to;
}

/* What the link brings in a few seconds: more than that only waits in line,
 * until its deadline if the link is slow. */
static uint64_t link_bytes_locked(const struct fills *f) REQUIRES(f->lock)
{
	return f->rate ? f->rate * AHEAD_S : 4 * f->config.get_bytes;
}

/* What a stream may have ahead of it: its share of three quarters of the
 * memory, but a GET at least. */
static uint64_t max_window(struct fills *f)
{
	uint64_t share = pool_max(f->config.pool) / 4 * 3, link, busy;

	mutex_lock(&f->lock);
	busy = f->busy;
	link = link_bytes_locked(f);
	mutex_unlock(&f->lock);
	share = share < WINDOW_MAX ? share : WINDOW_MAX;
	share = share < link ? share : link;
	share /= busy ? busy : 1;
	return share > f->config.get_bytes ? share : f->config.get_bytes;
}

/* Somebody waits for bytes that lie close. */
static bool beside_waiter_locked(struct fill_file *file,
				 const struct fill_read *r) REQUIRES(file->lock)
{
	list_for_each(n, &file->waiters) {
		const struct fill_read *w =
			list_entry(n, struct fill_read, link);

		if (w->off < r->off + r->len + PREFETCH_FAULT &&
		    r->off < w->off + w->len + PREFETCH_FAULT)
			return true;
	}
	return false;
}

/* What the reader said that it will read. */
static void known_ahead(const struct fill_file *file, const struct fill_read *r,
			uint64_t *from, uint64_t *to)
{
	*from = r->off + r->len;
	*to = *from + PREFETCH_KNOWN;
	if (*to > r->until)
		*to = r->until;
	if (*to > file->size)
		*to = file->size;
	if (*to < *from)
		*to = *from;
}

/* A range that adjoins the read on both sides, or below: where the read is comes
 * first, in whole GETs unless memory is short. */
static void plan_around_locked(struct fill_file *file,
			       const struct fill_read *r, uint64_t from,
			       uint64_t to, struct start *s)
	REQUIRES(file->lock)
{
	uint64_t step = file->fills->config.get_bytes;
	uint64_t end = block_up(file, r->off + r->len);
	uint64_t low = block_down(from), top = block_up(file, to);
	uint64_t near_low, near_top, begun;

	if (top < end)
		top = end;
	near_low = r->off - r->off % step;
	near_top = (end + step - 1) / step * step;
	if (near_low < low || top - low <= CRUMB)
		near_low = low;
	if (near_top > top || top - low <= CRUMB ||
	    near_top + CRUMB > file->size)
		near_top = top;
	begun = cover_down_locked(file, near_low, near_top, s);
	cover_locked(file, block_down(r->off), end, end, s);
	if (begun > near_low) {
		prefetch_begun_down(&file->prefetch, from, r->off);
		prefetch_begun(&file->prefetch, to, r->off + r->len);
		return;
	}
	begun = cover_down_locked(file, low, near_low, s);
	if (begun > low)
		prefetch_begun_down(&file->prefetch, from, begun);
	begun = cover_locked(file, near_top, top, 0, s);
	if (begun < top)
		prefetch_begun(&file->prefetch, to, begun);
}

static void plan_below_locked(struct fill_file *file, const struct fill_read *r,
			      uint64_t from, uint64_t to, struct start *s)
	REQUIRES(file->lock)
{
	uint64_t end = block_up(file, r->off + r->len), begun;

	if (to >= block_down(r->off)) {
		plan_around_locked(file, r, from, to, s);
		return;
	}
	cover_locked(file, block_down(r->off), end, end, s);
	begun = cover_down_locked(file, block_down(from), block_down(to), s);
	if (begun > from)
		prefetch_begun_down(&file->prefetch, from, begun);
}

static void plan_locked(struct fill_file *file, const struct fill_read *r,
			bool stalled, struct start *s) REQUIRES(file->lock)
{
	uint64_t from, to, last, begun, end = block_up(file, r->off + r->len);

	if (r->until) {
		known_ahead(file, r, &from, &to);
	} else if (beside_waiter_locked(file, r) &&
		   prefetch_piece(&file->prefetch, r->off, r->len)) {
		from = to = r->off + r->len;
	} else {
		prefetch_note(&file->prefetch, file->size, r->off, r->len,
			      stalled, max_window(file->fills), &from, &to);
	}
	if (from < r->off && to > from) {
		plan_below_locked(file, r, from, to, s);
		return;
	}
	last = to;
	to = block_up(file, to);
	if (from <= end + MERGE_GAP && to > end) {
		begun = cover_locked(file, block_down(r->off), to, end, s);
	} else {
		cover_locked(file, block_down(r->off), end, end, s);
		begun = to;
		if (to > from)
			begun = cover_locked(file, block_down(from), to, end,
					     s);
	}
	if (begun < to && !r->until)
		prefetch_begun(&file->prefetch, last, begun);
}

static void submit_all(struct start *s)
{
	for (unsigned i = 0; i < s->n; i++)
		fetch_submit(s->fetch[i]);
}

bool fill_ahead(struct fill_file *file, uint64_t off, uint64_t len)
{
	struct start s = { .n = 0 };

	mutex_lock(&file->lock);
	if (!file->stale)
		cover_locked(file, block_down(off), block_up(file, off + len),
			     0, &s);
	mutex_unlock(&file->lock);
	submit_all(&s);
	return s.n > 0;
}

bool fills_pressed(struct fills *f)
{
	uint64_t used = pool_used(f->config.pool), link;

	mutex_lock(&f->lock);
	link = link_bytes_locked(f);
	mutex_unlock(&f->lock);
	link = link > 4 * f->config.get_bytes ? link : 4 * f->config.get_bytes;
	return used > pool_max(f->config.pool) / 2 || used > 2 * link;
}

/* Parks r, or answers it, after making sure that its bytes are under way. */
static void ask(struct fill_file *file, struct fill_read *r, bool stalled)
{
	struct start s = { .n = 0 };
	bool stalled_once = false;

	fill_ref(file); /* its last user may go when r is answered */
	mutex_lock(&file->lock);
	while (!take_bytes_locked(file, r)) {
		stalled_once = true;
		if (file->stale) {
			r->error = -ESTALE;
			break;
		}
		plan_locked(file, r, stalled, &s);
		if (s.hungry || under_way_locked(file, r)) {
			r->parked = true;
			list_add_tail(&file->waiters, &r->link);
			break;
		}
	}
	bool parked = r->parked;
	if (!parked && !r->error && !s.n && !stalled_once)
		plan_locked(file, r, false, &s);
	mutex_unlock(&file->lock);
	submit_all(&s);
	if (!parked) {
		answer(r);
		fetch_sweep(file);
	}
	file_put(file);
}

/* A hit also moves its stream on. */
static void note_hit(struct fill_file *file, const struct fill_read *r)
{
	struct start s = { .n = 0 };

	if (content_complete(file->content))
		return;
	mutex_lock(&file->lock);
	if (!file->stale)
		plan_locked(file, r, false, &s);
	mutex_unlock(&file->lock);
	submit_all(&s);
}

void fill_read(struct fill_file *file, struct fill_read *r)
{
	struct fill_stats *stats = &file->fills->stats;
	struct content *c = file->content;
	uint64_t off = r->off, n = 0;

	list_init(&r->link);
	r->parked = false;
	r->file = file;
	r->error = 0;
	r->got = 0;
	r->data = NULL;
	r->chunk = NULL;
	if (r->off >= file->size)
		r->len = 0;
	else if (r->len > file->size - r->off)
		r->len = file->size - r->off;
	fills_count(&stats->reads, 1);
	fills_count(&stats->read_bytes, r->len);
	if (r->len == 0) {
		r->done(r);
		return;
	}
	n = content_pin(c, r->off, r->len, &r->fd);
	if (n == r->len) {
		fills_count(&stats->hit_bytes, r->len);
		note_hit(file, r);
		r->fd_off = r->off;
		r->got = r->len;
		content_ref(c);
		r->done(r);
		content_unpin(c, off, n);
		content_put(c);
		return;
	}
	if (n)
		content_unpin(c, off, n);
	ask(file, r, true);
}

void fill_cancel(struct fill_file *file, struct fill_read *r)
{
	bool parked;

	mutex_lock(&file->lock);
	parked = r->parked;
	if (parked) {
		unpark_locked(r);
		r->error = -EINTR;
	}
	mutex_unlock(&file->lock);
	if (parked) {
		answer(r);
		fetch_sweep(file);
	}
}
