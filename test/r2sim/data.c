/*
 * Reading what an object holds: one file, several (a multipart upload keeps
 * its parts as they came), or none (synthetic bytes, computed).
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "r2sim.h"

void reader_init(struct reader *rd, struct object *o)
{
	rd->o = o;
	rd->fd = -1;
	rd->seg = 0;
}

void reader_release(struct reader *rd)
{
	if (rd->fd >= 0)
		close(rd->fd);
	rd->fd = -1;
}

/* Every eight bytes are a hash of the key and their place; n of them, from the
 * first whole word on, by additions that a compiler can do several at once. */
static void fake_words(uint64_t product, char *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t y = product + i * 0x9E3779B97F4A7C15ull;

		y ^= y >> 29;
		memcpy(buf + 8 * i, &y, 8);
	}
}

static void fake_bytes(const char *key, uint64_t off, char *buf, size_t n)
{
	uint64_t seed = 1469598103934665603ull, word;
	char edge[8];

	for (const char *p = key; *p; p++)
		seed = (seed ^ (unsigned char)*p) * 1099511628211ull;
	while (n) {
		size_t skip = off % 8, step = 8 - skip;

		word = (seed + off / 8) * 0x9E3779B97F4A7C15ull;
		if (!skip && n >= 8) {
			step = n & ~(size_t)7;
			fake_words(word, buf, n / 8);
		} else {
			fake_words(word, edge, 1);
			step = step < n ? step : n;
			memcpy(buf, edge + skip, step);
		}
		buf += step;
		off += step;
		n -= step;
	}
}

/* Opens the segment that holds off; *start is where it begins. */
static bool open_segment(struct reader *rd, uint64_t off, uint64_t *start)
{
	struct object *o = rd->o;
	unsigned i = 0;
	char *path;

	*start = 0;
	while (i < o->nsegs && *start + o->segs[i].size <= off)
		*start += o->segs[i++].size;
	if (i == o->nsegs)
		return false;
	if (rd->fd >= 0 && rd->seg == i)
		return true;
	reader_release(rd);
	path = bucket_path(o->bucket, o->segs[i].id);
	rd->fd = open(path, O_RDONLY | O_CLOEXEC);
	rd->seg = i;
	free(path);
	return rd->fd >= 0;
}

bool reader_read(struct reader *rd, uint64_t off, char *buf, size_t n)
{
	if (!rd->o->meta) {
		fake_bytes(rd->o->key, off, buf, n);
		return true;
	}
	while (n) {
		uint64_t start, left;
		size_t step;

		if (!open_segment(rd, off, &start))
			return false;
		left = start + rd->o->segs[rd->seg].size - off;
		step = n < left ? n : left;
		if (pread(rd->fd, buf, step, off - start) != (ssize_t)step)
			return false;
		buf += step;
		off += step;
		n -= step;
	}
	return true;
}
