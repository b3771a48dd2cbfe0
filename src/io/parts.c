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
 */
#include "io/parts.h"

#include <stddef.h>

enum { MIB = 1 << 20, GROWTH = 8, NOT_FAR = 4 };

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
