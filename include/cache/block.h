/*
 * Cached content: one sparse file per object version, with a map of the
 * blocks it holds.
 *
 * A content id (cid) names one immutable (key, ETag, size): nothing is ever
 * invalidated in place. struct content is the in-memory handle of a cid,
 * shared by all who have it open. A byte is served only if its block is in
 * the map; the map record is written after the bytes. Eviction punches whole
 * extents (CACHE_EXTENT) out, or removes the file, never under a pin.
 *
 * Thread-safe. A hit takes the content's own lock only, for moments; nobody
 * holds that one across I/O, except to open the file and to verify.
 */
#ifndef CACHE_BLOCK_H
#define CACHE_BLOCK_H

#include <sys/types.h>

#include "cache/cache.h"

struct blocks;
struct content;

/* The handle of cid (size bytes); adds a reference if already open. Never
 * touches the network; a content without blocks has no file yet. */
MUST_CHECK int content_open(struct blocks *b, uint64_t cid, uint64_t size,
			    struct content **ret);
void content_ref(struct content *c);
void content_put(struct content *c); /* NULL is fine */

uint64_t content_cid(const struct content *c);
uint64_t content_size(const struct content *c);

/* Bytes present without a gap from off, at most len; 0 if off is missing. */
uint64_t content_present(struct content *c, uint64_t off, uint64_t len);

/* First present byte at or after off, or size. Costs by what is present, not by
 * what is missing. */
uint64_t content_next(struct content *c, uint64_t off);

/* Every block present. Cheap when asked again and again. */
bool content_complete(struct content *c);

/*
 * Pins present bytes for reading through the descriptor: until they are
 * unpinned no eviction touches their extents. Returns how many bytes from off
 * may be read (0: missing, nothing pinned), at most len. Blocks that need
 * verification are verified here (a bad one is dropped: missing).
 * *ret_fd stays valid until unpin.
 */
uint64_t content_pin(struct content *c, uint64_t off, uint64_t len,
		     int *ret_fd);
/* off as in content_pin, n what it returned. */
void content_unpin(struct content *c, uint64_t off, uint64_t n);

/* The descriptor did not give these pinned bytes (an I/O error, a file cut
 * short). Blocks that cannot be read or do not match their CRC32C are
 * dropped: a later pin misses. */
void content_distrust(struct content *c, uint64_t off, uint64_t n);

/*
 * For a reader that asks nobody (the kernel): keeps all of the content in its
 * file, and the file open, until unkept. -EAGAIN: not all of it is there and
 * verified. The file is as long as the content; *ret_fd stays valid until
 * content_unkeep, which must come before the last content_put. May be called
 * again, each with an unkeep of its own. A file that somebody still has open
 * or mapped after that is not evicted either.
 */
MUST_CHECK int content_keep(struct content *c, int *ret_fd);
void content_unkeep(struct content *c);

/* Nothing of the content is evicted from spare until the same with false; the
 * caller's handle stays open meanwhile. Nests. For content about to be read. */
void content_spare(struct content *c, bool spare);

/*
 * In place of the unkeep: takes the file out of the cache, whose content is
 * missing then, and gives its descriptor to the caller to change and close.
 * -EBUSY: others keep it too. Waits for pins: hold none.
 */
MUST_CHECK int content_detach(struct content *c);

/*
 * Stores bytes: off is block-aligned; len is a multiple of CACHE_BLOCK or
 * reaches the end of the content. Makes room first (evicting) so that
 * --cache-size and --min-free hold at every moment. -ENOSPC or another error
 * when it cannot be kept: the caller serves from memory and forgets. Blocks
 * (disk): not on a FUSE or event-loop thread.
 */
MUST_CHECK int content_write(struct content *c, uint64_t off, const void *data,
			     size_t len);

/*
 * Evicts until others may write so many bytes to the disk and --min-free still
 * holds. -ENOSPC: also without the cache there is not so much. Disk work, in
 * proportion to the bytes.
 */
MUST_CHECK int blocks_give_way(struct blocks *b, uint64_t bytes);

#endif
