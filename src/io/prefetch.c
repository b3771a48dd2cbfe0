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
 * Two steps down make one. One does if it is how the kernel answers a page fault
 * below another, which nothing else looks like: around the page that was missed
 * it reads a window, half of it below; for the page below that, the half before
 * it and the page.
 *
 * In either direction memcpy touches the end of its source before it begins, so
 * each tensor is a jump to its last page. What tells such jumps from those of a
 * random reader is that a stream goes down from there, or comes by later. Then
 * the next few jumps get the whole steps around them at once, the one below,
 * where the rest of the tensor is, and a window above.
 */
#include "io/prefetch.h"

#include <stddef.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool near(const struct prefetch_cursor *c, uint64_t off)
{
	uint64_t at = c->down ? c->low : c->next;

	return c->used && off + PREFETCH_NEAR >= at &&
	       off <= at + PREFETCH_NEAR;
}

/* The stream that a read goes on with: of several at one place the one that has
 * come furthest, not what was touched there in advance. */
static struct prefetch_cursor *pick(struct prefetch *p, uint64_t off,
				    bool *ret_new)
{
	struct prefetch_cursor *oldest = &p->cursor[0], *best = NULL;

	for (int i = 0; i < PREFETCH_CURSORS; i++) {
		struct prefetch_cursor *c = &p->cursor[i];

		if (near(c, off) && (!best || c->window > best->window))
			best = c;
		if (c->used < oldest->used)
			oldest = c;
	}
	*ret_new = !best;
	return best ? best : oldest;
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

/* Half of what is read around a page and the page itself, below as much as is
 * read around another; in one piece or, with that, in several. */
static bool fault_below(const struct prefetch_cursor *c, uint64_t off,
			uint64_t end)
{
	if (c->window != 0 || c->next - c->low < PREFETCH_FAULT)
		return false;
	return c->next - off == PREFETCH_FAULTS ||
	       (end == c->low && end - off == PREFETCH_FAULTS - PREFETCH_FAULT);
}

/* One more step down, or up again? true: it goes down for sure. */
static bool turn(struct prefetch_cursor *c, uint64_t off, uint64_t end)
{
	bool fault = false;

	if (off < c->low && end <= c->low + PREFETCH_OVERLAP &&
	    end + PREFETCH_OVERLAP >= c->low) {
		fault = fault_below(c, off, end);
		c->downs += fault ? PREFETCH_DOWNS : 1;
	} else if (end > c->next) {
		c->downs = 0;
		if (c->down)
			c->ahead = end;
		c->down = false;
	}
	if (c->down || c->downs < PREFETCH_DOWNS)
		return false;
	c->down = true;
	c->window = min_u64(c->window, PREFETCH_STEP);
	return fault;
}

static void note_down(struct prefetch_cursor *c, bool eager, bool stalled,
		      uint64_t max_window, uint64_t *from, uint64_t *to)
{
	grow(c, eager, stalled, max_window);
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

/* ---- jumps ---- */

/* A piece of what the kernel reads for a page fault does not show where the
 * other pieces lie. */
static void peek(struct prefetch *p, const struct prefetch_cursor *c,
		 uint64_t size, uint64_t *from, uint64_t *to)
{
	if (!p->peeks || c->next - c->low >= PREFETCH_FAULT)
		return;
	p->peeks--;
	*from = c->next > PREFETCH_FAULT ? c->next - PREFETCH_FAULT : 0;
	*to = min_u64(c->low + PREFETCH_FAULT, size);
}

/* How much above a jump. Who jumps on and is followed no more gets less each
 * time, and nobody more than twice what was read in one go. */
static void widen(struct prefetch *p, struct prefetch_cursor *c, bool stalled,
		  uint64_t max_window)
{
	if (p->trust < PREFETCH_TRUST - 1 && p->window > PREFETCH_STEP)
		p->window /= 2;
	c->window = p->window;
	grow(c, true, stalled && !p->grown, max_window);
	c->window = min_u64(c->window, 2 * p->longest);
	p->grown |= stalled;
	p->window = c->window;
}

/* The steps that the read touches, one below, and a window above. */
static void guess(struct prefetch *p, struct prefetch_cursor *c, uint64_t size,
		  bool stalled, uint64_t max_window, uint64_t *from,
		  uint64_t *to)
{
	uint64_t touched = c->next + PREFETCH_STEP - 1;

	widen(p, c, stalled, max_window);
	p->trust--;
	c->guessed = true;
	c->below = c->low - c->low % PREFETCH_STEP;
	if (c->below && p->longest >= PREFETCH_STEP &&
	    max_window >= 3ull * PREFETCH_STEP)
		c->below -= PREFETCH_STEP;
	touched -= touched % PREFETCH_STEP;
	if (touched + PREFETCH_FIRST > size)
		touched = size;
	c->ahead = max_u64(touched, window_end(c, size));
	*from = c->below;
	*to = c->ahead;
}

/* A stream that came from `before` passed what had been touched in advance. */
static bool passed(const struct prefetch *p, const struct prefetch_cursor *c,
		   uint64_t before)
{
	for (int i = 0; i < PREFETCH_CURSORS; i++) {
		const struct prefetch_cursor *o = &p->cursor[i];

		if (o != c && o->used && o->low >= before &&
		    o->next <= c->next && c->next > before)
			return true;
	}
	return false;
}

static void learn(struct prefetch *p, const struct prefetch_cursor *c,
		  uint64_t before)
{
	if (c->next - c->low < PREFETCH_LONG)
		return;
	if (!c->downs && !c->guessed && !passed(p, c, before))
		return;
	if (!p->trust)
		p->window = p->longest = 0;
	p->longest = max_u64(p->longest, c->next - c->low);
	p->trust = PREFETCH_TRUST;
	p->grown = false;
}

/* ---- both ---- */

static void begin(struct prefetch_cursor *c, uint64_t off, uint64_t end)
{
	c->next = c->ahead = end;
	c->low = c->below = off;
	c->window = 0;
	c->downs = 0;
	c->down = c->guessed = false;
}

static void note_up(struct prefetch_cursor *c, uint64_t size, uint64_t *from,
		    uint64_t *to)
{
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

void prefetch_note(struct prefetch *p, uint64_t size, uint64_t off,
		   uint64_t len, bool stalled, uint64_t max_window,
		   uint64_t *from, uint64_t *to)
{
	uint64_t end = min_u64(off + len, size), before;
	bool is_new, sure;
	struct prefetch_cursor *c = pick(p, off, &is_new);

	*from = *to = end;
	c->used = ++p->stamp;
	if (is_new)
		begin(c, off, end);
	if (is_new && off != 0) {
		if (p->trust)
			guess(p, c, size, stalled, max_window, from, to);
		else
			peek(p, c, size, from, to);
		return;
	}
	before = c->next;
	sure = turn(c, off, end);
	c->low = min_u64(c->low, off);
	if (end > c->next || is_new) {
		c->next = end;
		grow(c, is_new && len >= PREFETCH_LARGE, stalled, max_window);
	}
	if (c->low == 0 && c->next >= PREFETCH_LARGE &&
	    (is_new || before < PREFETCH_LARGE))
		p->peeks = PREFETCH_TRUST;
	learn(p, c, before);
	if (!c->down)
		note_up(c, size, from, to);
	else if (c->low == off)
		note_down(c, sure, stalled, max_window, from, to);
}

bool prefetch_piece(struct prefetch *p, uint64_t off, uint64_t len)
{
	bool is_new;
	struct prefetch_cursor *c = pick(p, off, &is_new);
	uint64_t end = off + len;

	if (is_new || c->window || c->low == 0)
		return false;
	if (max_u64(end, c->next) - min_u64(off, c->low) >= PREFETCH_FAULTS)
		return false;
	c->used = ++p->stamp;
	c->low = min_u64(c->low, off);
	c->next = max_u64(c->next, end);
	return true;
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
