/*
 * Where a cache miss becomes a fetch.
 *
 * Readers and the prefetcher want ranges of an object version; the bytes are
 * in the cache, on their way, or only in R2. A fetch is the one pending GET
 * for a run of missing blocks: who wants bytes of it joins it, each waiter is
 * answered as soon as ITS bytes have arrived (not when the GET ends), and the
 * arrived blocks go to the cache behind the answer. Every GET carries
 * If-Match: bytes of two versions never meet.
 *
 * Nothing here waits for the network on the caller's thread except
 * fill_first. Locks are never held across a store call or a done callback.
 */
#ifndef IO_FILL_H
#define IO_FILL_H

#include <sys/types.h>

#include "base/pool.h"
#include "base/task.h"
#include "cache/block.h"
#include "store/store.h"

struct fills;
struct fill_file;

struct fill_config {
	struct store *store;
	struct blocks *blocks;
	struct pool *pool; /* --memory */
	struct tasks *disk; /* writes arrived blocks to the cache */
	size_t first_bytes; /* length of the speculative first GET; default 1 MiB */
	size_t get_bytes; /* largest GET; default 8 MiB */
};

struct fill_stats {
	uint64_t reads, read_bytes; /* asked by readers */
	uint64_t hit_bytes; /* answered from the cache or memory at once */
	uint64_t joined_bytes; /* answered by a GET already under way */
	uint64_t fetched_bytes, fetches, prefetched_bytes;
	uint64_t stale; /* 412 seen */
};

/* Borrows everything in config until fills_destroy. */
MUST_CHECK int fills_create(const struct fill_config *config,
			    struct fills **ret);
void fills_wait(
	struct fills *f); /* until no GET and no write to the cache runs */
/* Ends every GET under way; who waits for its bytes gets -ECANCELED. */
void fills_cancel(struct fills *f);
void fills_destroy(struct fills *f); /* no call may run; waits for GETs */
void fills_stats_get(struct fills *f, struct fill_stats *ret);

/* ---- the speculative first GET ---- */

/* What a first GET brought, until it is kept or dropped. */
struct fill_first;

/*
 * One ranged GET of the first first_bytes of `key` in place of a HEAD: the
 * same price, and it brings the bytes that open+read will ask for. Waits.
 * 0 and *attr (release its meta) with *ret set (NULL for an empty object);
 * if_none_match (may be NULL) still matching: 0 with *not_modified true, and of
 * *attr the time.
 * -ENOENT and the other store errors; why in `why` (may be NULL).
 */
MUST_CHECK int fill_first(struct fills *f, const char *key,
			  const char *if_none_match,
			  struct store_interrupt *interrupt,
			  struct store_attr *attr, bool *not_modified,
			  struct fill_first **ret);

/* Hands the bytes to the version they belong to: readable at once through
 * any fill_file of that cid, stored in the cache in the background. Consumes
 * first (NULL is fine). */
void fill_first_keep(struct fill_first *first, uint64_t cid);
void fill_first_drop(struct fill_first *first);

/* ---- files ---- */

/* The content of one object version, shared by all opens of the same cid.
 * Copies key and etag. */
MUST_CHECK int fill_open(struct fills *f, const char *key, const char *etag,
			 uint64_t cid, uint64_t size, struct fill_file **ret);
void fill_ref(struct fill_file *file);
void fill_close(struct fill_file *file); /* NULL is fine */
/* What a GET of this file has shown of the object; false: none has. Release
 * ret->meta. */
bool fill_headers(struct fill_file *file, struct store_attr *ret);
/* The object of a cid lies at another key now (etag NULL: unchanged). */
void fill_moved(struct fills *f, uint64_t cid, const char *key,
		const char *etag);
/* It lies at this key. False: R2 has said that it is not there. */
bool fill_follow(struct fill_file *file, const char *key);
struct content *fill_content(struct fill_file *file); /* borrowed */

/* Begins to fetch what is missing of [off, off + len), as far as memory allows
 * without anybody waiting: true if there was anything to fetch. */
bool fill_ahead(struct fill_file *file, uint64_t off, uint64_t len);
/* Little memory left, or more on its way than the link brings in some seconds:
 * what nobody waits for had better not begin. */
bool fills_pressed(struct fills *f);

/*
 * One read. The caller fills off, len, until, done, arg and keeps the struct
 * until done, which is called exactly once: inline when the bytes are at hand,
 * else from another thread; in it the file may be closed. During done() the
 * result is either data (memory) or fd+fd_off; both die when done returns. got
 * < len only at end of file. Errors: -ESTALE the object changed in R2, -EINTR
 * after fill_cancel, -ETIMEDOUT, -EACCES, -EIO.
 */
struct fill_read {
	uint64_t off;
	size_t len;
	uint64_t until; /* the end of what will be read; 0: a guess is made */
	void (*done)(struct fill_read *r);
	void *arg;
	/* the result */
	int error;
	size_t got;
	const void *data; /* NULL: use fd */
	int fd;
	off_t fd_off;
	/* fill's own */
	struct fill_file *file;
	struct list link;
	bool parked;
	struct chunk *chunk;
};

void fill_read(struct fill_file *file, struct fill_read *r);

/* Ends a parked read early: done is called with -EINTR unless it already ran
 * or is running. The caller guarantees that r is alive (a lock of its own
 * against its done), and that the file stays open. */
void fill_cancel(struct fill_file *file, struct fill_read *r);

#endif
