/*
 * R2 keys are any UTF-8 up to 1,024 bytes; directory entries are components
 * of at most 255 bytes without '/' and NUL. What lies outside the overlap is
 * hidden rather than escaped: an escape would make two names for one object
 * and be wrong in every other S3 tool.
 *
 * Metadata: s3fs writes decimal numbers (mode with type bits, mtime in
 * seconds), rclone writes mode in octal and mtime as seconds with a fraction.
 * A mode is read as decimal when that gives a valid file type, else as octal;
 * no value is valid as both.
 */
#include "vfs/key.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/vfs.h"

static size_t utf8_sequence(const unsigned char *s, size_t n)
{
	unsigned char c = s[0];
	size_t len = c < 0x80 ? 1 :
		     c < 0xC2 ? 0 :
		     c < 0xE0 ? 2 :
		     c < 0xF0 ? 3 :
		     c < 0xF5 ? 4 :
				0;

	if (!len || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) ||
	    (c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F))
		return 0;
	return len;
}

/* Valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF)? */
static bool utf8_ok(const char *s, size_t n)
{
	const unsigned char *u = (const unsigned char *)s;

	while (n > 0) {
		size_t len = utf8_sequence(u, n);

		if (!len)
			return false;
		u += len;
		n -= len;
	}
	return true;
}

bool key_name_ok(const char *name, size_t n)
{
	if (n == 0 || n > CACHE_NAME_MAX)
		return false;
	if (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')))
		return false;
	if (memchr(name, '/', n) || memchr(name, 0, n))
		return false;
	return utf8_ok(name, n);
}

size_t key_object_suffix(const char *name)
{
	size_t n = strlen(name), s = strlen(VFS_OBJECT_SUFFIX);

	if (n <= s || strcmp(name + n - s, VFS_OBJECT_SUFFIX) != 0)
		return 0;
	return n - s;
}

static bool parse_number(const char *s, int base, uint64_t max, uint64_t *ret)
{
	char *end;

	if (!s || !isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*ret = strtoull(s, &end, base);
	return errno == 0 && *end == 0 && *ret <= max;
}

static bool mode_type_ok(uint64_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return mode <= 0177777;
	}
	return false;
}

static bool parse_mode(const char *s, mode_t *ret)
{
	uint64_t m;

	if ((parse_number(s, 10, UINT32_MAX, &m) && mode_type_ok(m)) ||
	    (parse_number(s, 8, 0177777, &m) &&
	     (mode_type_ok(m) || m <= 07777))) {
		*ret = m;
		return true;
	}
	return false;
}

static bool parse_time(const char *s, int64_t *ret_ns)
{
	int64_t ns = 0, unit = 100000000;
	char *end;

	if (!s || !isdigit((unsigned char)*s))
		return false;
	errno = 0;
	long long sec = strtoll(s, &end, 10);
	if (errno || sec > 9000000000ll)
		return false;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end); end++, unit /= 10)
			ns += (*end - '0') * unit;
	if (*end)
		return false;
	*ret_ns = sec * 1000000000ll + ns;
	return true;
}

bool key_meta_is_attribute(const char *name)
{
	static const char *const names[] = { "mode",  "uid",   "gid",
					     "mtime", "ctime", "atime" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

void key_meta_parse(const struct store_meta *meta, struct key_meta *ret)
{
	uint64_t n;

	memset(ret, 0, sizeof(*ret));
	ret->has_mode = parse_mode(store_meta_get(meta, "mode"), &ret->mode);
	ret->has_uid = parse_number(store_meta_get(meta, "uid"), 10,
				    UINT32_MAX - 1, &n);
	if (ret->has_uid)
		ret->uid = n;
	ret->has_gid = parse_number(store_meta_get(meta, "gid"), 10,
				    UINT32_MAX - 1, &n);
	if (ret->has_gid)
		ret->gid = n;
	ret->has_mtime =
		parse_time(store_meta_get(meta, "mtime"), &ret->mtime_ns);
	ret->has_ctime =
		parse_time(store_meta_get(meta, "ctime"), &ret->ctime_ns);
	ret->has_atime =
		parse_time(store_meta_get(meta, "atime"), &ret->atime_ns);
}

void key_meta_pack(const struct store_meta *meta, void **ret, uint32_t *ret_len)
{
	size_t len = 0;
	char *p;

	*ret = NULL;
	for (unsigned i = 0; i < meta->n; i++)
		len += strlen(meta->pairs[i].name) +
		       strlen(meta->pairs[i].value) + 2;
	*ret_len = len;
	if (len == 0)
		return;
	*ret = p = xmalloc(len);
	for (unsigned i = 0; i < meta->n; i++) {
		p = stpcpy(p, meta->pairs[i].name) + 1;
		p = stpcpy(p, meta->pairs[i].value) + 1;
	}
}

int key_meta_unpack(const void *blob, uint32_t len, struct store_meta *ret)
{
	const char *p = blob, *end = p + len;
	unsigned n = 0;

	memset(ret, 0, sizeof(*ret));
	if (len == 0)
		return 0;
	for (uint32_t i = 0; i < len; i++)
		n += p[i] == 0;
	if (end[-1] != 0 || n % 2)
		return -EBADMSG;
	ret->pairs = xcalloc(n / 2, sizeof(*ret->pairs));
	for (; p < end; ret->n++) {
		ret->pairs[ret->n].name = xstrdup(p);
		p += strlen(p) + 1;
		ret->pairs[ret->n].value = xstrdup(p);
		p += strlen(p) + 1;
	}
	return 0;
}
