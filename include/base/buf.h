/*
 * Growable bytes with a ceiling. A buf cannot exist without its maximum;
 * an append that would pass it sets `failed` and stores nothing, so a series
 * of appends is checked once at the end. data is always NUL-terminated.
 * Not locked; the holder owns it.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>

#include "base/err.h"

struct buf {
	char *data; /* never NULL */
	size_t len; /* without the NUL */
	size_t cap;
	size_t max;
	bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees; b may be reused after buf_init */
void buf_reset(struct buf *b); /* empties, keeps the memory */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_addstr(struct buf *b, const char *s);
void buf_addch(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
char *buf_detach(struct buf *b); /* gives the bytes and releases b */

#endif
