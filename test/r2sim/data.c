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

/* Every eight bytes are a hash of the key and their place. */
static void fake_bytes(const char *key, uint64_t off, char *buf, size_t n)
{
	uint64_t seed = 1469598103934665603ull;

	for (const char *p = key; *p; p++)
		seed = (seed ^ (unsigned char)*p) * 1099511628211ull;
	while (n) {
		uint64_t x = (seed + off / 8) * 0x9E3779B97F4A7C15ull;
		unsigned skip = off % 8;
		size_t step = n < 8 - skip ? n : 8 - skip;

		x ^= x >> 29;
		x >>= skip * 8;
		memcpy(buf, &x, step);
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

int reader_file(struct reader *rd, uint64_t off, uint64_t n, uint64_t *at)
{
	uint64_t start;

	if (!rd->o->meta || !n || !open_segment(rd, off, &start) ||
	    off + n > start + rd->o->segs[rd->seg].size)
		return -1;
	*at = off - start;
	return rd->fd;
}
