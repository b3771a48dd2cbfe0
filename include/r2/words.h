/*
 * RFC 2047 encoded words, for metadata that is not ASCII. Pure.
 */
#ifndef R2_WORDS_H
#define R2_WORDS_H

#include "base/buf.h"

/* Must s be encoded to travel in a header? */
bool words_needed(const char *s);

/* Appends s as encoded words, with a space between them. */
void words_encode(struct buf *out, const char *s);

/* The text of a value that consists of encoded words in UTF-8; a copy of any
 * other value. Gives. */
char *words_decode(const char *s);

#endif
