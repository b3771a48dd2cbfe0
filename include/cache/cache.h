/*
 * The cache folder of one endpoint+bucket: lock, databases, data files.
 *
 * Layout of `dir` (0700): `lock` (held with flock by one daemon, contains
 * its pid), `cache.mdb` (LMDB, rebuildable: metadata and block maps),
 * `data/<xx>/<cid>` (sparse file per object version). A format version or
 * bucket identity that does not match, or a database LMDB calls corrupt,
 * empties the folder and starts anew: nothing precious is in it.
 *
 * After a start of the machine, a stop without cache_close, or a run that
 * met damaged data, every block present then is checked against its CRC32C
 * before it is first served. Only a cache closed in the same run of the
 * machine is believed as it is.
 *
 * When the disk is full, the map is full or the folder became read-only, the
 * cache stops keeping new things (cache_stats.degraded says why) and the mount
 * goes on: a put is then a no-op for the caller (0 or -ENOSPC where said).
 * All modules here are thread-safe and take no lock of any other layer.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
	CACHE_ETAG_MAX = 72, /* bytes with the NUL */
	CACHE_NAME_MAX = 255,
	CACHE_BLOCK = 65536, /* unit of presence and checksum */
	CACHE_EXTENT = 4194304, /* unit of eviction: 64 blocks */
};

#define CACHE_ROOT_INO 1ull

struct cache_config {
	const char *dir; /* made if missing */
	const char
		*identity; /* "endpoint bucket": a mismatch empties the cache */
	uint64_t max_bytes; /* --cache-size, data files + databases; 0 = no cap */
	uint64_t min_free; /* --min-free bytes left on the file system */
	uint64_t map_bytes; /* ceiling of the database; 0 = half of max_bytes,
			     * at most 1 TiB */
	bool writable; /* this holder changes names itself: after an unclean stop
			* of it, what was known before is asked for anew,
			* because its last changes may be missing */
	unsigned commit_ms; /* batch interval of metadata commits, default 200 */
};

struct cache;

/*
 * Opens or creates. On failure `why` says what and what to do next:
 * -EBUSY another daemon (its pid) holds it, -EROFS / -EACCES not writable,
 * -EMEDIUMTYPE a network file system, -ENOSPC less than min_free left.
 * Call after fork (LMDB).
 */
MUST_CHECK int cache_open(const struct cache_config *config, struct cache **ret,
			  char *why, size_t why_len);

/* Flushes, records a clean stop, frees. No call may be running. */
void cache_close(struct cache *c);

struct cache_stats {
	uint64_t data_bytes; /* allocated by data files */
	uint64_t map_bytes; /* size of cache.mdb */
	uint64_t entries; /* dentries known, negative ones included */
	uint64_t evicted_bytes, evicted_extents;
	uint64_t verify_failures; /* blocks dropped for a wrong CRC */
	bool verifying; /* blocks are checked before they are first served */
	const char *degraded; /* NULL, or why nothing new is kept */
};

void cache_stats_get(struct cache *c, struct cache_stats *ret);

struct meta *cache_meta(struct cache *c); /* cache/meta.h */
struct blocks *cache_blocks(struct cache *c); /* cache/block.h */

#endif
