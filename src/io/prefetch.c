/*
 * The kernel splits one large read into several requests and sends them
 * partly out of order, so "sequential" means near the cursor, not at it. A
 * read at offset 0 begins a stream at once: almost everybody who reads the
 * beginning reads on, and who begins with a large block reads large files: its
 * first window is a whole step, so that a file of a few MiB is not asked for in
 * pieces. New ranges are asked for only when half of the window or
 * PREFETCH_STEP has been used, up to the end of a step where the file goes on,
 * so that requests stay large and a wide window is refilled evenly, not half at
 * a time.
 *
 * Large copies out of a mapped file often run from the end to the beginning (so
 * does memcpy, depending on where the two lie), a tensor after the other. Such a
 * stream is the mirror image: `low` and `below` stand for `next` and `ahead`.
 * Two steps down make one; in a file that had a long one, each new stream is
 * taken for one until it turns out otherwise a few times.
 */
#include "io/prefetch.h"

#include <stddef.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool near(const struct prefetch_cursor *c, uint64_t off)
{
	uint64_t at = c->down ? c->low : c->next;

	return c->used && off + PREFETCH_NEAR >= at &&
	       off <= at + PREFETCH_NEAR;
}

static struct prefetch_cursor *pick(struct prefetch *p, uint64_t off,
				    bool *ret_new)
{
	struct prefetch_cursor *oldest = &p->cursor[0];

	*ret_new = false;
	for (int i = 0; i < PREFETCH_CURSORS; i++) {
		struct prefetch_cursor *c = &p->cursor[i];

		if (near(c, off))
			return c;
		if (c->used < oldest->used)
			oldest = c;
	}
	*ret_new = true;
	return oldest;
}

static void grow(struct prefetch_cursor *c, bool eager, bool stalled,
		 uint64_t max_window)
{
	if (c->window == 0)
		c->window = eager ? PREFETCH_STEP : PREFETCH_FIRST;
	else if (stalled)
		c->window *= PREFETCH_GROWTH;
	c->window = min_u64(c->window, max_window);
}

/* On a boundary that other GETs end on, too, and no crumb left at the end of
 * the file: a GET of a few blocks costs as much as a large one. */
static uint64_t window_end(const struct prefetch_cursor *c, uint64_t size)
{
	uint64_t end = c->next + c->window;

	if (c->window < PREFETCH_STEP) {
		end += PREFETCH_FIRST - 1;
		end -= end % PREFETCH_FIRST;
	} else {
		end += PREFETCH_STEP / 2;
		end -= end % PREFETCH_STEP;
	}
	return end + PREFETCH_FIRST > size ? size : end;
}

/* ---- downwards ---- */

static uint64_t window_begin(const struct prefetch_cursor *c)
{
	uint64_t step = c->window < PREFETCH_STEP ? PREFETCH_FIRST :
						    PREFETCH_STEP;
	uint64_t begin = c->low > c->window ? c->low - c->window : 0;

	begin -= begin % step;
	return begin < PREFETCH_FIRST ? 0 : begin;
}

static void go_down(struct prefetch_cursor *c, uint64_t window)
{
	c->down = true;
	c->window = window;
	c->below = c->low;
}

/* One more step down, or up again? */
static void turn(struct prefetch *p, struct prefetch_cursor *c, uint64_t off,
		 uint64_t end)
{
	if (off < c->low && end <= c->low + PREFETCH_OVERLAP &&
	    end + PREFETCH_OVERLAP >= c->low) {
		c->downs++;
	} else if (end > c->next) {
		c->downs = 0;
		if (c->down)
			c->ahead = end;
		c->down = false;
	}
	if (c->downs && c->next - off >= PREFETCH_LONG_DOWN)
		p->trust_down = PREFETCH_TRUST;
	if (!c->down && c->downs == PREFETCH_DOWNS)
		go_down(c, 0);
	else if (c->down && c->downs == 1 && p->trust_down)
		c->window = PREFETCH_STEP;
}

static void note_down(struct prefetch_cursor *c, bool stalled,
		      uint64_t max_window, uint64_t *from, uint64_t *to)
{
	grow(c, false, stalled, max_window);
	if (c->below > c->low)
		c->below = c->low;
	if (c->low - c->below >
	    c->window - min_u64(c->window / 2, PREFETCH_STEP))
		return;
	*to = c->below;
	*from = window_begin(c);
	if (*from > *to)
		*from = *to;
	c->below = *from;
}

/* In a file whose streams go down, the next one probably does, too. */
static void guess_down(struct prefetch *p, struct prefetch_cursor *c,
		       uint64_t *from, uint64_t *to)
{
	if (!p->trust_down)
		return;
	p->trust_down--;
	go_down(c, PREFETCH_FIRST);
	*to = c->low;
	*from = c->below = c->low - min_u64(c->low, PREFETCH_FIRST);
}

/* ---- both ---- */

void prefetch_note(struct prefetch *p, uint64_t size, uint64_t off,
		   uint64_t len, bool stalled, uint64_t max_window,
		   uint64_t *from, uint64_t *to)
{
	uint64_t end = min_u64(off + len, size);
	bool is_new;
	struct prefetch_cursor *c = pick(p, off, &is_new);

	*from = *to = end;
	c->used = ++p->stamp;
	if (is_new) {
		c->next = c->ahead = end;
		c->low = off;
		c->downs = 0;
		c->down = false;
		c->window = 0;
		if (off != 0)
			guess_down(p, c, from, to);
		if (off != 0)
			return;
	}
	turn(p, c, off, end);
	c->low = min_u64(c->low, off);
	if (c->down) {
		if (c->low == off)
			note_down(c, stalled, max_window, from, to);
		return;
	}
	if (end > c->next || is_new) {
		c->next = end;
		grow(c, is_new && len >= PREFETCH_LARGE, stalled, max_window);
	}
	if (c->ahead < c->next)
		c->ahead = c->next;
	if (c->window == 0)
		return;
	if (c->ahead - c->next >
	    c->window - min_u64(c->window / 2, PREFETCH_STEP))
		return;
	*from = c->ahead;
	*to = window_end(c, size);
	if (*to < *from)
		*to = *from;
	c->ahead = *to;
}

void prefetch_begun(struct prefetch *p, uint64_t to, uint64_t begun)
{
	for (int i = 0; i < PREFETCH_CURSORS; i++)
		if (p->cursor[i].used == p->stamp && p->cursor[i].ahead == to)
			p->cursor[i].ahead = begun;
}

void prefetch_begun_down(struct prefetch *p, uint64_t from, uint64_t begun)
{
	for (int i = 0; i < PREFETCH_CURSORS; i++)
		if (p->cursor[i].used == p->stamp && p->cursor[i].below == from)
			p->cursor[i].below = begun;
}
