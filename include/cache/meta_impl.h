/*
 * The insides of meta, shared by meta.c (names), meta_dir.c (listings) and
 * cache.c (life); nobody else includes this.
 */
#ifndef CACHE_META_IMPL_H
#define CACHE_META_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "cache/batch.h"
#include "cache/meta.h"
#include "cache/record.h"

/* Borrows batch; numbers are given from next_ino and next_cid on. */
struct meta *meta_create(struct batch *batch, uint64_t next_ino,
			 uint64_t next_cid);
void meta_destroy(struct meta *m); /* NULL is fine */

/* What was confirmed before is given as never confirmed. Before first use. */
void meta_distrust(struct meta *m, int64_t before_ns);
/* Does the name wait for an upload of this run? Those of earlier runs are with
 * the journal. */
bool meta_is_staged(const struct meta *m, uint8_t flags, int64_t checked_ns);

/* The smallest numbers not given yet. */
void meta_numbers(struct meta *m, uint64_t *next_ino, uint64_t *next_cid);

/* Removes what lies below directories that are gone: at most one chunk a
 * call; true while there is more. */
bool meta_collect(struct meta *m);

enum { META_STRIPES = 64, META_KEY_MAX = 8 + CACHE_NAME_MAX };

struct listing {
	struct map_node node; /* guarded by meta.table */
	/* the rest by the directory's stripe */
	uint64_t ino;
	uint32_t gen;
	bool fresh; /* nothing was known when it began */
	uint64_t visible; /* names stamped with gen; exact if fresh */
	uint64_t forgotten; /* batch_forgotten() at the start */
};

struct meta {
	struct batch *batch;
	uint64_t next_ino, next_cid; /* atomic */
	int64_t distrust_ns, started_ns; /* immutable after start */
	/* Striped by directory: its puts, listing pages and sweep steps are
	 * serial. Outer to table and to the batch's lock. */
	struct mutex stripes[META_STRIPES];
	uint64_t changes[META_STRIPES]; /* atomic */
	struct mutex table;
	struct map listings; /* guarded by table */
};

/* One operation on names of a directory: holds its stripe. */
struct meta_op {
	struct meta *meta;
	struct mutex *stripe;
	uint64_t *changes;
	struct view view;
	struct buf scratch;
	struct listing *listing; /* of the directory, NULL if none runs */
};

/* Waits for room in the batch first. */
void meta_op_begin(struct meta_op *op, struct meta *m, uint64_t dir)
	ACQUIRES(op->stripe);
void meta_op_end(struct meta_op *op) RELEASES(op->stripe);

struct meta_key {
	uint8_t bytes[META_KEY_MAX];
	size_t len;
};

MUST_CHECK int meta_key_init(struct meta_key *k, uint64_t parent,
			     const char *name);
struct slice meta_key_slice(const struct meta_key *k);

/* What a put finds of a name; zeroed if nothing. */
struct known {
	struct meta_rec rec;
	uint32_t gen;
	bool exists;
};

MUST_CHECK int meta_op_get(struct meta_op *op, struct slice key,
			   struct known *ret);

/* Merges known into rec (which owns its blob) and stores it. */
MUST_CHECK int meta_op_put(struct meta_op *op, struct slice key,
			   struct known *known, struct meta_rec *rec);

/* Was what is known confirmed after rec was asked for, or does it wait for its
 * upload? */
bool meta_is_newer(const struct meta *m, const struct known *known,
		   const struct meta_rec *rec);

/* Removes a name; the subtree of a directory becomes garbage. */
void meta_drop(struct meta *m, struct slice key, uint8_t kind, uint64_t ino);

#endif
