/*
 * The insides of batch, shared by batch.c (how changes reach the file),
 * batch_view.c (gets) and batch_scan.c.
 */
#ifndef CACHE_BATCH_IMPL_H
#define CACHE_BATCH_IMPL_H

#include "cache/batch.h"
#include "cache/overlay.h"

#define NAMES_MASK (1u << KV_DENTRY | 1u << KV_DIR)

struct batch {
	struct batch_config cfg;
	pthread_t thread;
	struct mutex lock; /* inner to every other lock of the cache layer */
	struct cond wake; /* the writer */
	struct cond done; /* waits of batch_room and batch_flush */
	/* guarded by lock */
	struct overlay active, frozen;
	uint64_t freezes; /* batches begun */
	uint64_t commits; /* batches in the file: commits <= freezes */
	uint64_t attempts; /* commits tried */
	uint64_t forgotten;
	int error; /* of the last attempt */
	const char *degraded;
	bool masked; /* the names in the file do not count any more */
	bool hidden; /* nor do those in frozen */
	bool dead; /* the file is not touched any more */
	bool kicked, stop;
};

/* Notes an error of the file if it is damage. */
void batch_note_error(struct batch *b, int err);

/* ---- batch_view.c: for scans ---- */

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

#endif
