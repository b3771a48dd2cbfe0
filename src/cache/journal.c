/*
 * One text file a record rather than a database: the records of unrelated
 * files then neither wait for each other's fsync nor share each other's
 * damage, and what a crash left can be read with cat.
 */
#include "cache/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"

static const char head[] = "r2fs-journal 1\n";
static const char *const states[JOURNAL_STATES] = { "open", "owed", "failed" };

const char *journal_state_name(enum journal_state state)
{
	return states[state];
}

void journal_release(struct journal_rec *rec)
{
	free(rec->key);
	free(rec->base_key);
	free(rec->blob);
	free(rec->upload_id);
	free(rec->parts);
	free(rec->why);
	ranges_release(&rec->ranges);
	memset(rec, 0, sizeof(*rec));
}

/* ---- out ---- */

static void put_bytes(struct buf *out, const char *name, const void *p,
		      size_t n)
{
	const unsigned char *s = p;

	buf_addf(out, "%s ", name);
	for (size_t i = 0; i < n; i++) {
		if (s[i] > ' ' && s[i] < 127 && s[i] != '%')
			buf_addch(out, (char)s[i]);
		else
			buf_addf(out, "%%%02x", s[i]);
	}
	buf_addch(out, '\n');
}

static void put_text(struct buf *out, const char *name, const char *s)
{
	if (s && *s)
		put_bytes(out, name, s, strlen(s));
}

static void put_number(struct buf *out, const char *name, uint64_t n)
{
	if (n)
		buf_addf(out, "%s %llu\n", name, (unsigned long long)n);
}

void journal_encode(struct buf *out, const struct journal_rec *rec)
{
	buf_addstr(out, head);
	put_text(out, "state", states[rec->state]);
	put_text(out, "key", rec->key);
	put_number(out, "deferred", rec->deferred);
	put_number(out, "create", rec->create);
	put_text(out, "etag", rec->etag);
	put_text(out, "base-key", rec->base_key);
	put_text(out, "base-etag", rec->base_etag);
	put_number(out, "base-size", rec->base_size);
	put_number(out, "base-len", rec->base_len);
	put_number(out, "size", rec->size);
	put_number(out, "second", rec->second);
	for (unsigned i = 0; i < rec->ranges.n; i++)
		buf_addf(out, "range %llu %llu\n",
			 (unsigned long long)rec->ranges.r[i].off,
			 (unsigned long long)rec->ranges.r[i].end);
	if (rec->blob_len)
		put_bytes(out, "meta", rec->blob, rec->blob_len);
	put_number(out, "meta-changed", rec->meta_changed);
	put_number(out, "changed", rec->changed_ns > 0 ? rec->changed_ns : 0);
	put_text(out, "upload-id", rec->upload_id);
	put_number(out, "upload-old", rec->upload_old);
	put_number(out, "part-size", rec->part_size);
	for (unsigned i = 0; i < rec->nparts; i++)
		if (rec->parts[i].etag[0])
			buf_addf(out, "part %u %s\n", i, rec->parts[i].etag);
	put_text(out, "why", rec->why);
	buf_addf(out, "crc32c %08x\n", crc32c(0, out->data, out->len));
}

/* ---- in ---- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
				      -1;
}

static char *decode_bytes(const char *s, size_t n, size_t *ret_len)
{
	char *out = xmalloc(n + 1);
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '%' && i + 2 < n && hex(s[i + 1]) >= 0 &&
		    hex(s[i + 2]) >= 0) {
			out[len++] = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
			i += 2;
		} else {
			out[len++] = s[i];
		}
	}
	out[len] = 0;
	*ret_len = len;
	return out;
}

static bool take_text(char **to, const char *s, size_t n)
{
	size_t len;

	free(*to);
	*to = decode_bytes(s, n, &len);
	return strlen(*to) == len;
}

static bool take_etag(char to[72], const char *s, size_t n)
{
	CLEANUP(free) char *text = NULL;

	if (!take_text(&text, s, n) || strlen(text) >= 72)
		return false;
	snprintf(to, 72, "%s", text);
	return true;
}

static bool take_state(enum journal_state *to, const char *s, size_t n)
{
	for (unsigned i = 0; i < JOURNAL_STATES; i++)
		if (strlen(states[i]) == n && memcmp(states[i], s, n) == 0) {
			*to = i;
			return true;
		}
	return false;
}

static bool take_range(struct ranges *to, const char *s)
{
	unsigned long long off, end;

	if (sscanf(s, "%llu %llu", &off, &end) != 2 || off >= end)
		return false;
	ranges_add(to, off, end);
	return true;
}

static bool take_part(struct journal_rec *rec, const char *s)
{
	char etag[256];
	unsigned i;

	if (sscanf(s, "%u %255s", &i, etag) != 2 || i >= 10000)
		return false;
	if (i >= rec->nparts) {
		rec->parts =
			xrealloc(rec->parts, (i + 1) * sizeof(*rec->parts));
		memset(rec->parts + rec->nparts, 0,
		       (i + 1 - rec->nparts) * sizeof(*rec->parts));
		rec->nparts = i + 1;
	}
	snprintf(rec->parts[i].etag, sizeof(rec->parts[i].etag), "%s", etag);
	return true;
}

static bool take_blob(struct journal_rec *rec, const char *s, size_t n)
{
	size_t len;

	free(rec->blob);
	rec->blob = decode_bytes(s, n, &len);
	rec->blob_len = len;
	return true;
}

static bool is(const char *name, size_t n, const char *want)
{
	return strlen(want) == n && memcmp(name, want, n) == 0;
}

static bool take_number(struct journal_rec *rec, const char *name, size_t len,
			const char *s)
{
	char *end;
	uint64_t x;

	errno = 0;
	x = strtoull(s, &end, 10);
	if (errno || *end != '\n')
		return false;
	if (is(name, len, "deferred"))
		rec->deferred = x;
	else if (is(name, len, "create"))
		rec->create = x;
	else if (is(name, len, "base-size"))
		rec->base_size = x;
	else if (is(name, len, "base-len"))
		rec->base_len = x;
	else if (is(name, len, "size"))
		rec->size = x;
	else if (is(name, len, "second"))
		rec->second = x;
	else if (is(name, len, "meta-changed"))
		rec->meta_changed = x;
	else if (is(name, len, "changed"))
		rec->changed_ns = (int64_t)x;
	else if (is(name, len, "upload-old"))
		rec->upload_old = x;
	else if (is(name, len, "part-size"))
		rec->part_size = x;
	else
		return false;
	return true;
}

static bool take_line(struct journal_rec *rec, const char *line, size_t n)
{
	const char *space = memchr(line, ' ', n);
	size_t len, left;
	const char *s;

	if (!space)
		return false;
	len = space - line;
	s = space + 1;
	left = n - len - 1;
	if (is(line, len, "state"))
		return take_state(&rec->state, s, left);
	if (is(line, len, "key"))
		return take_text(&rec->key, s, left);
	if (is(line, len, "base-key"))
		return take_text(&rec->base_key, s, left);
	if (is(line, len, "etag"))
		return take_etag(rec->etag, s, left);
	if (is(line, len, "base-etag"))
		return take_etag(rec->base_etag, s, left);
	if (is(line, len, "upload-id"))
		return take_text(&rec->upload_id, s, left);
	if (is(line, len, "why"))
		return take_text(&rec->why, s, left);
	if (is(line, len, "meta"))
		return take_blob(rec, s, left);
	if (is(line, len, "range"))
		return take_range(&rec->ranges, s);
	if (is(line, len, "part"))
		return take_part(rec, s);
	return take_number(rec, line, len, s);
}

/* The text before the checksum line, if that is right; else 0. */
static size_t sound_length(const char *text, size_t n)
{
	static const size_t tail = sizeof("crc32c 00000000\n") - 1;
	char want[32];

	if (n < sizeof(head) - 1 + tail ||
	    memcmp(text, head, sizeof(head) - 1) != 0)
		return 0;
	snprintf(want, sizeof(want), "crc32c %08x\n",
		 crc32c(0, text, n - tail));
	return memcmp(text + n - tail, want, tail) == 0 ? n - tail : 0;
}

int journal_decode(const char *text, size_t n, struct journal_rec *rec)
{
	size_t len = sound_length(text, n), at = sizeof(head) - 1;

	memset(rec, 0, sizeof(*rec));
	while (len && at < len) {
		const char *end = memchr(text + at, '\n', len - at);

		if (!end || !take_line(rec, text + at, end - (text + at)))
			break;
		at = end - text + 1;
	}
	if (!len || at < len || !rec->key) {
		journal_release(rec);
		return -EBADMSG;
	}
	return 0;
}
