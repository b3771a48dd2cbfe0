/*
 * Conformance: the client against a server, one small case at a time.
 *
 * A case speaks only to c->store (made anew for each case, so nothing that was
 * learnt about the server carries over) and puts its keys under c->prefix,
 * which no other case shares. What it claims, it claims of R2. Where a server
 * is known to do otherwise the case says so with a reason: then the case has
 * to fail there, and a pass is reported as an error, because the declaration
 * is out of date.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "store/store.h"

struct ctx {
	struct store *store;
	const char *server; /* "r2sim", "miniflare", "swift" */
	const char *bucket;
	char prefix[32]; /* "c17/" */
	unsigned failed; /* checks of this case */
	char *first; /* what the first of them says */
};

struct difference {
	const char *server, *reason;
	bool maybe; /* a race: may also go as on R2 */
};

struct conformance_case {
	const char *title;
	void (*run)(struct ctx *c);
	struct difference differs[3];
};

struct conformance_set {
	const struct conformance_case *cases;
	unsigned n;
};

extern const struct conformance_set access_set, object_set, key_set, meta_set,
	list_set, copy_set, multipart_set, bucket_set, foreign_set;

/* A check that failed is noted; the case goes on. */
void note(struct ctx *c, const char *file, int line, const char *fmt, ...)
	PRINTF(4, 5);

#define OK(c, cond) \
	do { \
		if (!(cond)) \
			note(c, __FILE__, __LINE__, "%s", #cond); \
	} while (0)

#define IS(c, got, want) \
	do { \
		long long is_got = (long long)(got); \
		long long is_want = (long long)(want); \
		if (is_got != is_want) \
			note(c, __FILE__, __LINE__, "%s is %lld, not %lld", \
			     #got, is_got, is_want); \
	} while (0)

#define IS_STR(c, got, want) \
	do { \
		const char *is_got = (got), *is_want = (want); \
		if (!is_got || strcmp(is_got, is_want) != 0) \
			note(c, __FILE__, __LINE__, \
			     "%s is \"%s\", not \"%s\"", #got, \
			     is_got ? is_got : "(null)", is_want); \
	} while (0)

/* Like IS for a request's error, with the server's words. */
#define ENDS(c, req, want) \
	do { \
		int ends_got = call(c, req), ends_want = (want); \
		if (ends_got != ends_want) \
			note(c, __FILE__, __LINE__, \
			     "%s %s ended with %d, not %d (%s)", \
			     store_op_name((req)->op), \
			     (req)->key ? (req)->key : "", ends_got, \
			     ends_want, (req)->why); \
	} while (0)

int call(struct ctx *c, struct store_req *req);

/* PREFIX + name, in one of a few static buffers. */
const char *key(struct ctx *c, const char *name);

/* Requests, ready to be sent or changed further. */
struct store_req get_req(const char *key, void *buf, size_t cap);
struct store_req put_req(struct ctx *c, const char *key, const void *data,
			 size_t n);
struct store_req op_req(enum store_op op, const char *key);

/* Puts text; a failure is noted. */
void put_text(struct ctx *c, const char *key, const char *text);
/* Notes if the object is not exactly text (NULL: not there). */
void has_text(struct ctx *c, const char *key, const char *text);
/* This machine's clock runs so far ahead from now on. */
void set_clock_ahead(int64_t seconds);
/* n bytes that depend on seed. */
void fill(void *p, size_t n, unsigned seed);

#endif
