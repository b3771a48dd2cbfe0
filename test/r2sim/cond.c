/*
 * Conditions in the order of RFC 7232, with the prefixes that copies use, and
 * R2's grammar of ranges, which refuses what others ignore.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "r2sim.h"

/* Lists, "*", W/"..." and tags without quotes. */
bool etag_in(const char *list, const char *etag, bool weak)
{
	size_t n = strlen(etag);
	const char *p = list;

	while (*p) {
		bool is_weak = false;
		const char *end;

		p += strspn(p, " \t,");
		if (*p == '*')
			return true;
		if (p[0] == 'W' && p[1] == '/') {
			is_weak = true;
			p += 2;
		}
		if (*p == '"') {
			end = strchr(++p, '"');
			if (!end)
				return false;
		} else {
			end = p + strcspn(p, " \t,");
		}
		if ((size_t)(end - p) == n && !strncmp(p, etag, n) &&
		    (weak || !is_weak))
			return true;
		p = *end ? end + 1 : end;
	}
	return false;
}

static const char *header_of(const struct request *r, const char *prefix,
			     const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "%s%s", prefix, name);
	return req_header(r, full);
}

static bool parse_date(const char *s, int64_t *t)
{
	struct tm tm = { 0 };

	if (!s || !strptime(s, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		return false;
	*t = timegm(&tm);
	return true;
}

unsigned conditions(const struct request *r, const char *prefix,
		    const struct object *o)
{
	const char *match = header_of(r, prefix, "if-match");
	const char *none = header_of(r, prefix, "if-none-match");
	const char *since = header_of(r, prefix, "if-modified-since");
	const char *before = header_of(r, prefix, "if-unmodified-since");
	int64_t t, mtime = o ? o->mtime_ms / 1000 : 0;

	if (match) {
		if (!o || !etag_in(match, o->etag, false))
			return 412;
	} else if (o && parse_date(before, &t) && mtime > t) {
		return 412;
	}
	if (none)
		return o && etag_in(none, o->etag, true) ? 304 : 0;
	return o && parse_date(since, &t) && mtime <= t ? 304 : 0;
}

static bool number(const char **p, uint64_t *n)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	*n = strtoull(*p, &end, 10);
	*p = end;
	return true;
}

unsigned parse_range(const char *h, uint64_t size, uint64_t *from,
		     uint64_t *end)
{
	uint64_t a = 0, b = 0;
	bool has_a, has_b;

	*from = 0;
	*end = size;
	if (!h)
		return 0;
	if (strncmp(h, "bytes=", 6) != 0)
		return 400;
	h += 6;
	has_a = number(&h, &a);
	if (*h++ != '-')
		return 400;
	has_b = number(&h, &b);
	if (*h || (!has_a && !has_b))
		return 400;
	if (!has_a) {
		if (!b || !size)
			return 416;
		*from = b < size ? size - b : 0;
		return 206;
	}
	if (has_b && a > b)
		return 1;
	if (a >= size)
		return 416;
	*from = a;
	if (has_b && b < size)
		*end = b + 1;
	return 206;
}
