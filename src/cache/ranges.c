/*
 * A sorted array: a file written from front to back is one element, and a
 * database that writes pages all over has thousands, not millions, so moving
 * the tail on insertion costs less than a tree's pointers would.
 */
#include "cache/ranges.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void ranges_release(struct ranges *rs)
{
	free(rs->r);
	memset(rs, 0, sizeof(*rs));
}

/* The first element that ends at or after off. */
static unsigned find(const struct ranges *rs, uint64_t off)
{
	unsigned lo = 0, hi = rs->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (rs->r[mid].end < off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Replaces elements [from, to) by n new ones. */
static void splice(struct ranges *rs, unsigned from, unsigned to,
		   const struct range *with, unsigned n)
{
	unsigned total = rs->n - (to - from) + n;

	if (total > rs->cap) {
		rs->cap = total < 8 ? 8 : total + total / 2;
		rs->r = xrealloc(rs->r, rs->cap * sizeof(*rs->r));
	}
	if (rs->n > to)
		memmove(rs->r + from + n, rs->r + to,
			(rs->n - to) * sizeof(*rs->r));
	if (n)
		memcpy(rs->r + from, with, n * sizeof(*rs->r));
	rs->n = total;
}

void ranges_add(struct ranges *rs, uint64_t off, uint64_t end)
{
	struct range merged = { off, end };
	unsigned from = find(rs, off), to = from;

	if (off >= end)
		return;
	for (; to < rs->n && rs->r[to].off <= end; to++) {
		if (rs->r[to].off < merged.off)
			merged.off = rs->r[to].off;
		if (rs->r[to].end > merged.end)
			merged.end = rs->r[to].end;
	}
	splice(rs, from, to, &merged, 1);
}

void ranges_remove(struct ranges *rs, uint64_t off, uint64_t end)
{
	struct range left[2];
	unsigned from = find(rs, off), to = from, n = 0;

	if (off >= end)
		return;
	if (from < rs->n && rs->r[from].end == off)
		to = ++from;
	for (; to < rs->n && rs->r[to].off < end; to++) {
		if (rs->r[to].off < off)
			left[n++] = (struct range){ rs->r[to].off, off };
		if (rs->r[to].end > end)
			left[n++] = (struct range){ end, rs->r[to].end };
	}
	if (to > from)
		splice(rs, from, to, left, n);
}

bool ranges_at(const struct ranges *rs, uint64_t off, uint64_t *ret_end)
{
	unsigned i = find(rs, off);

	if (i < rs->n && rs->r[i].end == off)
		i++;
	if (i == rs->n) {
		*ret_end = UINT64_MAX;
		return false;
	}
	if (rs->r[i].off <= off) {
		*ret_end = rs->r[i].end;
		return true;
	}
	*ret_end = rs->r[i].off;
	return false;
}

bool ranges_touch(const struct ranges *rs, uint64_t off, uint64_t end)
{
	uint64_t to;

	return off < end && (ranges_at(rs, off, &to) || to < end);
}
