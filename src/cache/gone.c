/*
 * Removing a tree is thousands of removals in a second; a record file for
 * each, as for uploads, would cost more than the removal. So they are lines
 * of one file, which is never changed but by adding to its end.
 */
#include "cache/gone.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/fsio.h"

enum { LOG_MAX = 64 << 20, LINE_MAX_BYTES = 4096 };

static const char kind[] = "gone";

struct gone {
	struct stage *stage;
	uint64_t id;
	int fd; /* -1 until the first line */
	off_t end;
	unsigned refs; /* atomic */
	bool keep; /* atomic */
};

struct gone *gone_create(struct stage *s)
{
	struct gone *g = xcalloc(1, sizeof(*g));

	g->stage = s;
	g->id = stage_new_id(s);
	g->fd = -1;
	g->refs = 1;
	return g;
}

uint64_t gone_id(const struct gone *g)
{
	return g->id;
}

static void put_escaped(struct buf *out, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c > ' ' && c < 127 && c != '%')
			buf_addch(out, (char)c);
		else
			buf_addf(out, "%%%02x", c);
	}
}

/* "CRC KEY ETAG\n", the sum over all after it. */
static void put_line(struct buf *out, const char *key, const char *etag)
{
	struct buf text;

	buf_init(&text, LINE_MAX_BYTES);
	put_escaped(&text, key);
	buf_addch(&text, ' ');
	put_escaped(&text, etag);
	buf_addf(out, "%08x %s\n", crc32c(0, text.data, text.len), text.data);
	buf_release(&text);
}

int gone_add(struct gone *g, const char *key, const char *etag)
{
	struct buf line;
	ssize_t n = 0;

	if (g->fd < 0) {
		CLEANUP(free)
		char *path = stage_kind_path(g->stage, g->id, kind);

		g->fd = fsio()->open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (g->fd < 0)
			return g->fd;
	}
	buf_init(&line, 2 * LINE_MAX_BYTES);
	put_line(&line, key, etag);
	n = fsio()->pwrite(g->fd, line.data, line.len, g->end);
	if (n == (ssize_t)line.len) {
		g->end += n;
		__atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
	}
	buf_release(&line);
	return n < 0 ? (int)n : 0;
}

int gone_sync(struct gone *g)
{
	return g->fd < 0 ? 0 : fsio()->fsync(g->fd);
}

void gone_put(struct gone *g)
{
	if (!g || __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (g->fd >= 0) {
		close(g->fd);
		if (!__atomic_load_n(&g->keep, __ATOMIC_ACQUIRE))
			gone_remove(g->stage, g->id);
	}
	free(g);
}

void gone_keep(struct gone *g)
{
	__atomic_store_n(&g->keep, true, __ATOMIC_RELEASE);
	gone_put(g);
}

/* ---- what an earlier run left ---- */

int gone_each(struct stage *s, void (*fn)(uint64_t id, void *arg), void *arg)
{
	return stage_each_kind(s, kind, fn, arg);
}

void gone_remove(struct stage *s, uint64_t id)
{
	CLEANUP(free) char *path = stage_kind_path(s, id, kind);

	fsio()->unlink(path);
}

static void unescape(char *s)
{
	char *to = s;
	unsigned c;

	for (; *s; s++) {
		if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1) {
			*to++ = (char)c;
			s += 2;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

static void take_line(char *line,
		      void (*fn)(const char *key, const char *etag, void *arg),
		      void *arg)
{
	char *text = strchr(line, ' '), *etag;
	uint32_t sum = (uint32_t)strtoul(line, NULL, 16);

	if (!text || sum != crc32c(0, text + 1, strlen(text + 1)))
		return;
	etag = strchr(++text, ' ');
	if (!etag)
		return;
	*etag++ = 0;
	unescape(text);
	unescape(etag);
	fn(text, etag, arg);
}

int gone_read(struct stage *s, uint64_t id,
	      void (*fn)(const char *key, const char *etag, void *arg),
	      void *arg)
{
	CLEANUP(free) char *path = stage_kind_path(s, id, kind);
	CLEANUP(free) char *text = NULL;
	int fd = fsio()->open(path, O_RDONLY, 0);
	char *line, *save = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) || st.st_size > LOG_MAX) {
		close(fd);
		return -EBADMSG;
	}
	text = xmalloc((size_t)st.st_size + 1);
	n = fsio()->pread(fd, text, (size_t)st.st_size, 0);
	close(fd);
	if (n < 0)
		return (int)n;
	text[n] = 0;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		take_line(line, fn, arg);
	return 0;
}
