/*
 * Internals of the fill layer, shared by fill.c (reads), fill_file.c (the
 * versions that are read), fetch.c and first.c.
 *
 * A fetch is one GET for a run of blocks of one file:
 *
 *   state     bytes readable from memory   what comes next
 *   FLYING    the first `got`              ARRIVED, or it fails and is gone
 *   ARRIVED   all                          a task stores them, then it is gone
 *   LEFT      all                          no reader wants them any more
 *
 * LEFT is what the cache could not keep (the disk is full): it stays while a
 * parked reader needs it together with bytes that are still to come, and as
 * long as memory allows until it was read to its end; else two readers of
 * neighbouring ranges would fetch for each other without end, and what was
 * brought ahead would be gone before it is read.
 *
 * Nothing of a file is asked for twice: a range is in the cache, in a fetch,
 * or missing. Lock order: file.lock -> fills.lock, the
 * cache's own.
 */
#ifndef IO_FETCH_H
#define IO_FETCH_H

#include "base/lock.h"
#include "base/map.h"
#include "io/fill.h"
#include "io/prefetch.h"

enum fetch_state { FETCH_FLYING, FETCH_ARRIVED, FETCH_LEFT };

struct fetch {
	struct list link; /* file.fetches */
	struct fill_file *file; /* holds a reference until LEFT */
	enum fetch_state state; /* guarded by file.lock, with got */
	uint64_t off;
	size_t len, got;
	bool ahead; /* nobody waited for it when it began */
	bool unread; /* no reader has come to its end; guarded by file.lock */
	struct chunk *chunk;
	struct store_req req;
	struct task task;
};

/* Where the object lies; a renamed one has had several. */
struct fill_name {
	struct fill_name *older;
	char *key, *etag;
};

struct fill_file {
	struct map_node node; /* fills.files, by cid */
	struct fills *fills;
	uint64_t cid, size;
	struct content *content;
	unsigned refs; /* guarded by fills.lock: opens and fetches */
	struct mutex lock;
	/* guarded by lock */
	struct fill_name *name; /* the newest; older ones may be in use */
	struct store_attr attr; /* has_meta: headers that a GET has shown */
	struct list fetches;
	unsigned left; /* of them, LEFT */
	struct list waiters; /* struct fill_read */
	struct prefetch prefetch;
	bool stale;
	/* guarded by fills.lock */
	unsigned fetching; /* its fetches */
	bool hungry; /* on fills.hungry, with a reference */
	struct list hungry_link;
};

struct fills {
	struct fill_config config;
	struct mutex lock;
	struct cond idle;
	struct map files; /* guarded by lock */
	/* guarded by lock */
	unsigned fetches; /* alive */
	unsigned ending; /* of them: memory given back */
	unsigned busy; /* files that have a fetch */
	struct list hungry; /* files with readers that wait for memory */
	/* what arrives: bytes since a moment, and a second, 0 not known yet */
	uint64_t metered, metered_ns, moved_ns, rate;
	struct fill_stats stats; /* atomics */
};

static inline void fills_count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

/* The file of a cid, made if need be; adds a reference. */
MUST_CHECK int file_get(struct fills *f, const char *key, const char *etag,
			uint64_t cid, uint64_t size, struct fill_file **ret);
void file_put(struct fill_file *file);

/* A fetch of [off, off + len) in state FLYING with a chunk, on the file's
 * list; NULL when memory is short (must: over the budget rather than NULL). */
struct fetch *fetch_new_locked(struct fill_file *file, uint64_t off, size_t len,
			       bool ahead, bool must) REQUIRES(file->lock);
void fetch_submit(struct fetch *fetch);
/* Drops what is LEFT and not wanted any more. */
void fetch_sweep(struct fill_file *file) EXCLUDES(file->lock);
/* The same of all, of a file that is going. */
void fetch_drop_left(struct fill_file *file);

/* Bytes of a chunk that are all there: stores them behind the readers' back.
 * Takes the chunk. */
void fetch_adopt(struct fill_file *file, struct chunk *chunk, uint64_t off,
		 size_t len);

/* The file's readers will be looked at again when a fetch has given its memory
 * back; false: none is there that would. */
bool fetch_hungry_locked(struct fill_file *file) REQUIRES(file->lock);

/* Answers every waiter whose bytes are at hand now. error != 0: those that
 * want any of [off, off + len) fail with it. */
void fill_wake(struct fill_file *file, uint64_t off, uint64_t len, int error);

#endif
