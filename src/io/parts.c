/*
 * A rewrite wants boundaries that separate what changed from what did not.
 * For an append that is any divisor of the old length; for a change in the
 * middle small parts travel less and cost more requests. Rather than reason
 * about each shape, a handful of candidate sizes is priced.
 *
 * What is streamed has no known size. Parts are small at first, so that they
 * travel early; who outgrows 10,000 of them sends all again, and pays for that
 * once or twice at most because the next ones are meant for GROWTH times as
 * much, or for the largest object there is if that is not far.
 *
 * The window of parts in flight grows by one for each part stored, so that a
 * fast link is full soon. Over slow connections that would take many seconds;
 * R2 refuses a part when it sees its head, so parts that have travelled for a
 * moment are as good as stored ones. Refusals halve the window, once a second,
 * and their number tells what was too much: it then grows to so many less, and
 * tries one more after a long calm only.
 */
#include "io/parts.h"

#include <stddef.h>

enum {
	MIB = 1 << 20,
	GROWTH = 8,
	NOT_FAR = 4,
	EPOCH_MS = 1000,
	TRIAL_MS = 250,
	CALM = 16
};

#define REQUEST_BYTES (256ull << 10)

static uint64_t round_up(uint64_t n, uint64_t step)
{
	return (n + step - 1) / step * step;
}

uint64_t parts_size(uint64_t size, uint64_t wish)
{
	uint64_t part = wish ? wish : 16 * MIB;
	uint64_t least = round_up((size + PARTS_MAX - 1) / PARTS_MAX, MIB);

	if (size > OBJECT_MAX)
		return 0;
	if (part < PART_MIN)
		part = PART_MIN;
	if (part < least)
		part = least;
	return part < PART_MAX ? part : PART_MAX;
}

uint64_t parts_size_outgrown(uint64_t size, uint64_t wish)
{
	uint64_t plan = size * GROWTH;

	if (size > OBJECT_MAX)
		return 0;
	return parts_size(plan > OBJECT_MAX / NOT_FAR ? OBJECT_MAX : plan,
			  wish);
}

static bool fits(uint64_t size, uint64_t part)
{
	return part >= PART_MIN && part <= PART_MAX &&
	       parts_count(size, part) <= PARTS_MAX;
}

/* A changed part travels up, and down too as far as the base fills it. */
static uint64_t price(uint64_t size, uint64_t base_len, uint64_t part,
		      parts_changed_fn *changed, void *arg)
{
	uint64_t sum = 0;

	for (uint64_t off = 0; off < size; off += part) {
		uint64_t end = off + part < size ? off + part : size;

		sum += REQUEST_BYTES;
		if (!changed(arg, off, end) && end - off <= PART_COPY_MAX)
			continue;
		sum += end - off;
		if (off < base_len)
			sum += (end < base_len ? end : base_len) - off;
	}
	return sum;
}

struct best {
	uint64_t part, price;
};

uint64_t parts_size_rewrite(uint64_t size, uint64_t base_len, uint64_t wish,
			    parts_changed_fn *changed, void *arg)
{
	static const unsigned mib[] = { 5,  8,	 16,  24,  32, 48,
					64, 128, 256, 384, 512 };
	struct best best = { 0, UINT64_MAX };
	uint64_t candidates[64];
	size_t n = 0;

	if (size > OBJECT_MAX)
		return 0;
	candidates[n++] = parts_size(size, wish);
	for (size_t i = 0; i < sizeof(mib) / sizeof(mib[0]); i++)
		candidates[n++] = (uint64_t)mib[i] * MIB;
	for (uint64_t k = 1; k <= 32; k++)
		candidates[n++] = base_len / k;
	for (size_t i = 0; i < n; i++) {
		uint64_t p;

		if (!fits(size, candidates[i]))
			continue;
		p = price(size, base_len, candidates[i], changed, arg);
		if (p < best.price)
			best = (struct best){ candidates[i], p };
	}
	return best.part;
}

struct part_window part_window_begin(unsigned first, unsigned most)
{
	return (struct part_window){ .now = first, .most = most };
}

void part_window_stored(struct part_window *w, unsigned most)
{
	if (w->most < most && ++w->calm >= CALM * w->most) {
		w->calm = 0;
		w->most++;
	}
	if (w->now < w->most)
		w->now++;
}

void part_window_tick(struct part_window *w, unsigned flying, uint64_t now_ms)
{
	if (flying < w->now || w->now >= w->most ||
	    (w->halved_ms && now_ms - w->halved_ms < EPOCH_MS)) {
		w->full_ms = 0;
	} else if (!w->full_ms) {
		w->full_ms = now_ms;
	} else if (now_ms - w->full_ms >= TRIAL_MS) {
		w->now = 2 * w->now < w->most ? 2 * w->now : w->most;
		w->full_ms = now_ms;
	}
}

void part_window_refused(struct part_window *w, unsigned flying,
			 uint64_t now_ms)
{
	w->calm = 0;
	if (!w->halved_ms || now_ms - w->halved_ms >= EPOCH_MS) {
		w->halved_ms = now_ms;
		w->least = flying > 2 ? flying / 2 : 1;
		w->now = w->now > 2 ? w->now / 2 : 1;
		if (w->most > flying)
			w->most = flying;
	}
	if (w->most > w->least)
		w->most--;
	if (w->now > w->most)
		w->now = w->most;
}
