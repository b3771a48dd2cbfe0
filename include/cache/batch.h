/*
 * Write-behind over the database: a put or deletion is visible to every later
 * get and scan at once, and reaches the file in batches committed by one
 * writer thread (every interval_ms, sooner when many are pending).
 *
 * Memory is bounded: batch_room makes a putter wait while the writer is
 * behind. When the file cannot be written (disk full, map at its ceiling,
 * damage) the batch goes on in memory, says why in batch_degraded, logs one
 * line and tries again; when even that memory is used up, or to make room in
 * a full map, names and directories are forgotten as a whole
 * (batch_forgotten counts how often), never in part: a directory must not
 * look complete with names missing. After damage (-EUCLEAN) the file is
 * neither read nor written again, and removed so that the next start begins
 * anew. Changes of one thread reach the file in order.
 */
#ifndef CACHE_BATCH_H
#define CACHE_BATCH_H

#include "base/buf.h"
#include "base/lock.h"
#include "cache/kv.h"

struct batch;

struct batch_config {
	struct kv *kv; /* borrowed until batch_destroy */
	const char *path; /* of the database, removed after damage */
	unsigned interval_ms;
	/* Called on the writer thread, without locks: before a commit (may
	 * put), and after a successful one. May be NULL. */
	void (*before)(void *arg);
	void (*after)(void *arg);
	void *arg;
};

struct batch *batch_create(const struct batch_config *config);
void batch_destroy(struct batch *b); /* commits what is pending; NULL fine */

/* Waits while too much is pending. Call before an operation that puts, with
 * no lock held that the hooks need. */
void batch_room(struct batch *b);

void batch_put(struct batch *b, enum kv_table table, struct slice key,
	       struct slice val);
void batch_del(struct batch *b, enum kv_table table, struct slice key);

/* Everything put before is in the file on return, or the error. */
MUST_CHECK int batch_flush(struct batch *b);

/* NULL, or why nothing new reaches the file. A static string. */
const char *batch_degraded(struct batch *b);
uint64_t batch_forgotten(struct batch *b);
size_t batch_pending(struct batch *b);

/* ---- reading ---- */

/* A view serves gets cheaply one after the other; it does not freeze state:
 * each get sees the newest. Short-lived, one thread. */
struct view {
	struct batch *batch;
	struct kv_read read;
	uint64_t commits; /* when read began */
	bool open;
	/* view_expect: the file has no key in [lo, hi] of the table */
	enum kv_table hole_table;
	struct slice hole_lo, hole_hi;
};

void view_begin(struct view *v, struct batch *b);
void view_end(struct view *v);

/* Says that keys in [lo, hi] will be asked for: if the file has none of them
 * now, it is not searched for each. Borrows lo and hi until view_end. */
void view_expect(struct view *v, enum kv_table table, struct slice lo,
		 struct slice hi);

/* Replaces *out by the value; -ENOENT. */
MUST_CHECK int view_get(struct view *v, enum kv_table table, struct slice key,
			struct buf *out);
MUST_CHECK int batch_get(struct batch *b, enum kv_table table, struct slice key,
			 struct buf *out);

/*
 * Calls fn for the entries whose key begins with prefix and is > after (n = 0
 * from the start), in order, until fn returns other than 0 or they end.
 * Returns fn's value, 0 at the end, or -errno. fn may put and delete, but not
 * read, flush or wait for room, nor may the caller have a view that was read
 * (view_end first); key and val die when fn returns.
 */
typedef int (*batch_fn)(struct slice key, struct slice val, void *arg);
MUST_CHECK int batch_scan(struct batch *b, enum kv_table table,
			  struct slice prefix, struct slice after, batch_fn fn,
			  void *arg);

#endif
