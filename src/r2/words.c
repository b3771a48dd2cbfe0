/*
 * Metadata in other scripts: RFC 2047 encoded words.
 *
 * R2 decodes them when it stores and encodes again when it answers (r2-facts
 * 2.4); other servers keep the text as sent. Encoding all that is not ASCII,
 * and decoding what comes back, gives the same value on both. A word is at
 * most 75 characters and ends between two characters, as the RFC has it.
 */
#include "r2/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "r2/crypto.h"

enum { WORD_BYTES = 45 }; /* 60 characters of base64 and 12 around them */

#define BEGIN "=?UTF-8?"

bool words_needed(const char *s)
{
	if (strncmp(s, "=?", 2) == 0)
		return true;
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return true;
	return false;
}

static size_t word_length(const char *s)
{
	size_t n = strlen(s);

	if (n <= WORD_BYTES)
		return n;
	for (n = WORD_BYTES; n > WORD_BYTES - 4; n--)
		if (((unsigned char)s[n] & 0xc0) != 0x80)
			return n;
	return WORD_BYTES;
}

void words_encode(struct buf *out, const char *s)
{
	char text[4 * (WORD_BYTES / 3 + 1) + 1];
	const char *gap = "";

	while (*s) {
		size_t n = word_length(s);

		crypto_base64((const uint8_t *)s, n, text);
		buf_addf(out, "%s" BEGIN "B?%s?=", gap, text);
		gap = " ";
		s += n;
	}
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool decode_q(struct buf *out, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '=') {
			int hi = i + 2 < n ? hex(s[i + 1]) : -1;
			int lo = i + 2 < n ? hex(s[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return false;
			buf_addch(out, (char)(hi << 4 | lo));
			i += 2;
		} else {
			buf_addch(out, s[i] == '_' ? ' ' : s[i]);
		}
	}
	return true;
}

static int base64_value(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmno"
				     "pqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

static bool decode_b(struct buf *out, const char *s, size_t n)
{
	unsigned bits = 0, have = 0;

	while (n && s[n - 1] == '=')
		n--;
	for (size_t i = 0; i < n; i++) {
		int v = base64_value(s[i]);

		if (v < 0)
			return false;
		bits = bits << 6 | (unsigned)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_addch(out, (char)(bits >> have));
		}
	}
	return true;
}

/* One word at s; the rest after it, NULL if it is none. */
static const char *decode_word(struct buf *out, const char *s)
{
	const char *text, *end;
	bool ok;

	if (strncasecmp(s, BEGIN, strlen(BEGIN)) != 0)
		return NULL;
	s += strlen(BEGIN);
	if (!*s || s[1] != '?')
		return NULL;
	text = s + 2;
	end = strstr(text, "?=");
	if (!end)
		return NULL;
	ok = toupper((unsigned char)*s) == 'B' ?
		     decode_b(out, text, end - text) :
	     toupper((unsigned char)*s) == 'Q' ?
		     decode_q(out, text, end - text) :
		     false;
	return ok ? end + 2 : NULL;
}

char *words_decode(const char *s)
{
	const char *at = s;
	struct buf out;

	if (strncmp(s, "=?", 2) != 0)
		return xstrdup(s);
	buf_init(&out, strlen(s) + 1);
	while (at && *at) {
		at = decode_word(&out, at);
		while (at && *at == ' ')
			at++;
	}
	if (!at || out.failed || memchr(out.data, 0, out.len)) {
		buf_release(&out);
		return xstrdup(s);
	}
	return buf_detach(&out);
}
