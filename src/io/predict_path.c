/*
 * Numbers longer than eighteen digits are names, not counters. Of more than
 * PREDICT_FIELDS numbers the last ones are looked at: what comes first in a
 * path changes least.
 */
#include "io/predict_path.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"

enum { MAX_DIGITS = 18 };

uint64_t predict_hash(const char *path)
{
	return hash_bytes(path, strlen(path), 0);
}

static unsigned digits(const char *s)
{
	unsigned n = 0;

	while (isdigit((unsigned char)s[n]))
		n++;
	return n;
}

static unsigned count_numbers(const char *path)
{
	unsigned n = 0, len;

	for (const char *s = path; *s; s += len ? len : 1) {
		len = digits(s);
		n += len > 0 && len <= MAX_DIGITS;
	}
	return n;
}

static void add_number(struct spot *spot, const char *path, const char *s,
		       unsigned len)
{
	unsigned i = spot->n++;

	spot->at[i] = s - path;
	spot->len[i] = len;
	spot->padded[i] = *s == '0' && len > 1;
	spot->value[i] = 0;
	for (unsigned k = 0; k < len; k++)
		spot->value[i] = spot->value[i] * 10 + (s[k] - '0');
}

bool spot_parse(const char *path, struct spot *ret)
{
	char plain[PREDICT_PATH + 1];
	unsigned skip, len;
	size_t n = 0;

	ret->n = 0;
	if (strlen(path) > PREDICT_PATH)
		return false;
	skip = count_numbers(path);
	skip = skip > PREDICT_FIELDS ? skip - PREDICT_FIELDS : 0;
	for (const char *s = path; *s; s += len) {
		len = digits(s);
		if (len == 0 || len > MAX_DIGITS || skip) {
			skip -= skip && len && len <= MAX_DIGITS;
			len = len ? len : 1;
			memcpy(plain + n, s, len);
			n += len;
		} else {
			add_number(ret, path, s, len);
			plain[n++] = '\1';
		}
	}
	ret->shape = hash_bytes(plain, n, 1);
	ret->hash = predict_hash(path);
	return true;
}

int spot_field(const struct spot *a, const struct spot *b)
{
	int field = -1;

	if (a->shape != b->shape || a->n != b->n)
		return -1;
	for (unsigned i = 0; i < a->n; i++) {
		if (a->value[i] == b->value[i])
			continue;
		if (field >= 0)
			return -1;
		field = i;
	}
	return field;
}

bool spot_format(const char *base, const struct spot *of_base,
		 const uint64_t *value, char *out)
{
	size_t from = 0, n = 0;

	for (unsigned i = 0; i < of_base->n; i++) {
		size_t plain = of_base->at[i] - from;

		if (n + plain + MAX_DIGITS > PREDICT_PATH)
			return false;
		memcpy(out + n, base + from, plain);
		n += plain;
		n += sprintf(out + n, "%0*llu",
			     of_base->padded[i] ? of_base->len[i] : 1,
			     (unsigned long long)value[i]);
		from = of_base->at[i] + of_base->len[i];
	}
	if (n + strlen(base + from) > PREDICT_PATH)
		return false;
	strcpy(out + n, base + from);
	return true;
}
