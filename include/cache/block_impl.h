/*
 * The insides of block, shared by block.c (what is on the disk, and room),
 * content.c (handles) and block_start.c (restarts); of the others only cache.c
 * includes this, for the first few functions.
 */
#ifndef CACHE_BLOCK_IMPL_H
#define CACHE_BLOCK_IMPL_H

#include "base/lock.h"
#include "base/map.h"
#include "cache/batch.h"
#include "cache/block.h"
#include "cache/evict.h"
#include "cache/record.h"

struct blocks_config {
	struct batch *batch; /* borrowed */
	const char *dir; /* holds data/; borrowed */
	uint64_t max_bytes, min_free;
	uint64_t db_bytes; /* of max_bytes, taken by the database */
	uint64_t epoch; /* blocks of an older one are verified before use */
	bool sweep; /* data/ may hold what no record speaks of */
};

/* Reads which extents there are. */
MUST_CHECK int blocks_create(const struct blocks_config *config,
			     struct blocks **ret);
/* Ends its thread, the only one that calls the batch by itself. NULL is fine. */
void blocks_stop(struct blocks *b);
void blocks_destroy(struct blocks *b); /* NULL is fine; no content in use */

void blocks_stats(struct blocks *b, struct cache_stats *ret);

/* The database takes so much now; evicts if that is too much together. */
void blocks_set_db_bytes(struct blocks *b, uint64_t bytes);

/* Puts what the policy knows of the use of extents, for the next start. */
void blocks_save_use(struct blocks *b);

enum { BLOCK_PAGE = 4096, BLOCK_STRIPES = 64, BLOCK_PATH_MAX = 4096 };

struct blocks {
	struct batch *batch;
	char *dir;
	uint64_t max_bytes, min_free, epoch;
	/*
	 * Striped by cid: whoever changes a data file (writes, punches, creates,
	 * removes) holds it throughout. Lock order: stripe -> blocks.lock ->
	 * content.lock -> the batch's.
	 */
	struct mutex stripes[BLOCK_STRIPES];
	struct mutex lock;
	/* guarded by lock */
	struct map contents; /* open ones, by cid */
	struct evict *evict; /* the extents on disk */
	struct map held; /* by cid: files that others have open */
	uint64_t reserved; /* bytes about to be written */
	uint64_t leaving; /* bytes of extents being evicted */
	uint64_t evicted_bytes, evicted_extents;
	bool sweeping;
	struct cond swept;
	const char *no_room, *write_error; /* static strings, or NULL */
	/* atomic */
	uint32_t now; /* evict_now */
	uint64_t db_bytes, verify_failures;
	bool no_holes; /* the file system makes none */
	bool leases; /* the file system is known to have them */
	bool stop; /* the sweep: atomic */
};

/* One extent as far as it was asked for. */
struct extent {
	struct record_extent rec;
	uint64_t verified; /* blocks found sound though rec.epoch is old */
	unsigned pins;
	uint32_t told; /* blocks.now when the policy last heard of a use */
};

struct content {
	struct map_node node;
	struct blocks *blocks;
	uint64_t cid, size;
	unsigned refs; /* atomic; becomes 0 under blocks.lock */
	struct mutex lock;
	/* guarded by lock */
	unsigned pins; /* of all extents */
	unsigned spared; /* atomic: by whom it is not to be evicted */
	unsigned kept; /* by whom all extents are pinned and the file is open */
	int fd; /* -1 until needed */
	bool no_file; /* it could not be opened: nothing is present */
	uint64_t file_end; /* its length when it was opened, while fd >= 0 */
	struct extent **extents; /* NULL: not loaded */
	size_t nextents;
	uint64_t complete_to; /* bytes from 0 present without a gap, or less */
};

static inline struct mutex *blocks_stripe(struct blocks *b, uint64_t cid)
{
	return &b->stripes[hash_u64(cid) % BLOCK_STRIPES];
}

void blocks_path(const struct blocks *b, uint64_t cid,
		 char out[BLOCK_PATH_MAX]);

struct extent_db_key {
	uint8_t bytes[16];
};

struct slice extent_db_key(struct extent_db_key *k, uint64_t cid, uint64_t ext);

/* Finds the open handle; borrowed. */
struct content *blocks_find_locked(struct blocks *b, uint64_t cid)
	REQUIRES(b->lock);

/* Evicts until `bytes` more fit, and reserves them. -ENOSPC. `force`: evicts
 * that much in any case, since the disk says it is full. No lock is held. */
MUST_CHECK int blocks_reserve(struct blocks *b, uint64_t bytes, bool force);
/* err: how the write ended. */
void blocks_unreserve(struct blocks *b, uint64_t bytes, int err);

/* The extent takes so many pages now; its file's stripe is held. */
void blocks_account(struct blocks *b, struct evict_key key, uint32_t pages);

/* With the stripe of cid: removes the file if no record speaks of it. False:
 * one does, or somebody reads. */
bool blocks_unlink_unused(struct blocks *b, uint64_t cid);

/* The extents and their use from the database. */
MUST_CHECK int blocks_load(struct blocks *b);
/* Begins to free what no record speaks of, on a thread of its own. */
MUST_CHECK int blocks_sweep_start(struct blocks *b);

/* The parts of content.c that eviction needs. */
void content_clear_locked(struct content *c, uint64_t ext) REQUIRES(c->lock);
void content_restore_locked(struct content *c, uint64_t ext,
			    const struct record_extent *rec) REQUIRES(c->lock);
void content_close_locked(struct content *c) REQUIRES(c->lock);

/* The parts of content.c that keep.c needs. */
int content_file_locked(struct content *c, bool create) REQUIRES(c->lock);
void content_tell_use(struct content *c, uint64_t off, uint64_t n);

/* ---- keep.c: files that somebody else has open ---- */

bool held_is_same(const struct map_node *n, const void *key);
bool blocks_holds_locked(struct blocks *b, uint64_t cid) REQUIRES(b->lock);
/* True: the file is in use, and busy for eviction from now on. */
bool blocks_note_held(struct blocks *b, uint64_t cid);
/* Which files are still in use? */
void blocks_review_held(struct blocks *b);
void blocks_release_held(struct blocks *b);

#endif
