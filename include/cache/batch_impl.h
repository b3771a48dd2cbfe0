/*
 * What batch_scan.c needs of batch.c, for nobody else.
 */
#ifndef CACHE_BATCH_IMPL_H
#define CACHE_BATCH_IMPL_H

#include "cache/batch.h"
#include "cache/overlay.h"

enum { PEEK_MAX = 512 };

struct peek {
	struct change *items[PEEK_MAX]; /* in order, each counted once */
	unsigned n;
	bool cut; /* more follow items[n - 1] under the prefix */
};

/* The pending entries under prefix that are > after (or >= prefix). */
void batch_peek(struct batch *b, enum kv_table table, struct slice prefix,
		struct slice after, struct peek *ret);
void peek_release(struct peek *p);

/* A read scope on the file; -ENOENT when the table must not be read. */
MUST_CHECK int batch_read_begin(struct batch *b, enum kv_table table,
				struct kv_read *ret);
void batch_note_error(struct batch *b, int err);

#endif
