/*
 * Strings that grow, and the encodings that S3 uses. Running out of memory
 * ends the program: a test server has nothing better to do.
 */
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

void *xalloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p)
		abort();
	return p;
}

char *xstrdup(const char *s)
{
	char *p = strdup(s);

	if (!p)
		abort();
	return p;
}

char *xprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	return s;
}

void text_add_bytes(struct text *t, const char *s, size_t n)
{
	if (t->len + n + 1 > t->cap) {
		t->cap = (t->len + n + 1) * 2;
		t->s = realloc(t->s, t->cap);
		if (!t->s)
			abort();
	}
	memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = 0;
}

void text_add_str(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

void text_add(struct text *t, const char *fmt, ...)
{
	char small[512];
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	if (n < (int)sizeof(small)) {
		text_add_bytes(t, small, n);
	} else {
		char *s;

		if (vasprintf(&s, fmt, again) < 0)
			abort();
		text_add_bytes(t, s, n);
		free(s);
	}
	va_end(again);
	va_end(ap);
}

void text_add_encoded(struct text *t, const char *s)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
				    "qrstuvwxyz0123456789-._~";
	size_t n;

	while (*s) {
		n = strspn(s, plain);
		text_add_bytes(t, s, n);
		s += n;
		if (*s)
			text_add(t, "%%%02X", (unsigned char)*s++);
	}
}

void text_add_xml(struct text *t, const char *s)
{
	size_t n;

	while (*s) {
		n = strcspn(s, "<>&\"'");
		text_add_bytes(t, s, n);
		s += n;
		if (*s)
			text_add(t, "&#%d;", *s++);
	}
}

void text_add_time(struct text *t, int64_t ms)
{
	time_t s = ms / 1000;
	char date[32];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	text_add(t, "%s.%03dZ", date, (int)(ms % 1000));
}

void text_free(struct text *t)
{
	free(t->s);
	memset(t, 0, sizeof(*t));
}

static int digit(char c)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;
	int v = p ? (int)(p - digits) : -1;

	return v < 16 ? v : v - 6;
}

char *percent_decode(const char *s)
{
	char *out = xalloc(strlen(s) + 1), *o = out;

	for (; *s; s++, o++) {
		*o = *s;
		if (*s != '%')
			continue;
		if (digit(s[1]) < 0 || digit(s[2]) < 0) {
			free(out);
			return NULL;
		}
		*o = (char)(digit(s[1]) << 4 | digit(s[2]));
		s += 2;
		if (!*o) {
			free(out);
			return NULL;
		}
	}
	return out;
}

void hex(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
	*out = 0;
}

char *base64(const void *p, size_t n)
{
	char *out = xalloc((n + 2) / 3 * 4 + 1);

	EVP_EncodeBlock((unsigned char *)out, p, (int)n);
	return out;
}

unsigned char *unbase64(const char *s, size_t *n)
{
	size_t len = strlen(s), pad = 0;
	unsigned char *out;

	while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
		pad++;
	if (len % 4 || strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrs"
				 "tuvwxyz0123456789+/") != len - pad)
		return NULL;
	out = xalloc(len / 4 * 3 + 1);
	if (len &&
	    EVP_DecodeBlock(out, (const unsigned char *)s, (int)len) < 0) {
		free(out);
		return NULL;
	}
	*n = len / 4 * 3 - pad;
	out[*n] = 0;
	return out;
}
