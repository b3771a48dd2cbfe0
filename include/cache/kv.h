/*
 * The ordered key-value file under the cache (LMDB): environment, read and
 * write scopes, get, put, delete, cursor.
 *
 * Keys are 1..KV_KEY_MAX bytes and sorted bytewise. A read scope sees one
 * frozen state; what kv_get and a cursor point at lives in the file's mapping
 * and dies with the scope. Scopes are short: an open one keeps the file from
 * reusing pages. One write scope at a time (a second waits), and one scope of
 * either kind in a thread.
 *
 * A commit is atomic and its data pages reach the disk before its root does,
 * so a crash or a power cut loses the last commits and never the integrity.
 *
 * Errors: -ENOENT no such key, -ENOSPC the disk is full, -EFBIG the map is
 * full (kv_grow, or give up at the ceiling), -EUCLEAN the file is damaged,
 * -ENOMEM, -EIO, -EROFS, -EACCES. Thread-safe; open after fork.
 */
#ifndef CACHE_KV_H
#define CACHE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct kv;

enum { KV_KEY_MAX = 511 };

enum kv_table { KV_STATE, KV_DENTRY, KV_DIR, KV_EXTENT, KV_TABLES };

struct slice {
	const void *p;
	size_t n;
};

/*
 * Opens or creates `path` (0600). ceiling is the largest size the file may
 * grow to. -EUCLEAN: what is there is not a sound database of ours (foreign,
 * cut short, damaged); remove it and open again. A file of moderate size is
 * looked through for damage, any if there is `doubt`.
 */
MUST_CHECK int kv_open(const char *path, uint64_t ceiling, bool doubt,
		       struct kv **ret);
void kv_close(struct kv *kv); /* NULL is fine; no scope may be open */

/* Doubles the map up to the ceiling; waits until no scope is open. -EFBIG at
 * the ceiling, unless `reserve`: then an eighth more, for making room. */
MUST_CHECK int kv_grow(struct kv *kv, bool reserve);

uint64_t kv_file_bytes(struct kv *kv); /* size of the file on disk */
uint64_t kv_entries(struct kv *kv, enum kv_table table);

/* ---- reading ---- */

struct kv_read {
	struct kv *kv;
	void *txn;
};

MUST_CHECK int kv_read_begin(struct kv *kv, struct kv_read *ret);
void kv_read_end(struct kv_read *r);
MUST_CHECK int kv_get(struct kv_read *r, enum kv_table table, struct slice key,
		      struct slice *ret);

struct kv_cursor {
	void *cursor;
};

MUST_CHECK int kv_cursor_open(struct kv_read *r, enum kv_table table,
			      struct kv_cursor *ret);
void kv_cursor_close(struct kv_cursor *c); /* before kv_read_end */
/* The first entry whose key is >= from, and the one after the current. */
MUST_CHECK int kv_cursor_seek(struct kv_cursor *c, struct slice from,
			      struct slice *ret_key, struct slice *ret_val);
MUST_CHECK int kv_cursor_next(struct kv_cursor *c, struct slice *ret_key,
			      struct slice *ret_val);

/* ---- writing ---- */

struct kv_write {
	struct kv *kv;
	void *txn;
	void *cursor[KV_TABLES];
};

MUST_CHECK int kv_write_begin(struct kv *kv, struct kv_write *ret);
/* After an error of put, del or drop only kv_abort is left. */
MUST_CHECK int kv_put(struct kv_write *w, enum kv_table table, struct slice key,
		      struct slice val);
MUST_CHECK int kv_del(struct kv_write *w, enum kv_table table,
		      struct slice key); /* an absent key is fine */
MUST_CHECK int kv_drop(struct kv_write *w, enum kv_table table); /* empties */
MUST_CHECK int kv_commit(struct kv_write *w); /* ends the scope either way */
void kv_abort(struct kv_write *w);

/* Commits so far are on the disk, roots included. */
MUST_CHECK int kv_sync(struct kv *kv);

#endif
