/*
 * Keys that are to go.
 *
 * The first few removals of a while are made before their call returns. More
 * of them in a row (a tree is removed) are noted in the journal, answered, and
 * sent together: DeleteObjects of up to 1,000 keys, when none came for
 * REMOVAL_QUIET_NS, or after REMOVAL_LATE_NS, or as soon as somebody waits.
 *
 * A key under removal is still in R2. So whoever asks R2 about it, or stores
 * something there, calls removal_wait before; what this mount believes (the
 * name is gone) is right all the time. A removal that fails for a reason that
 * may pass is tried again; a refused one is logged, and the name is back.
 *
 * After a failure or a crash time has passed, and another writer may have put
 * something new at the key: then it is removed only if it is still the version
 * that was meant.
 *
 * Keys outside ASCII are always removed at once: R2 takes other spellings of
 * them as the same key, so waiters could not tell.
 *
 * Thread-safe; removals.lock is taken with no other lock held.
 */
#ifndef VFS_REMOVAL_H
#define VFS_REMOVAL_H

#include "vfs/write.h"

#define REMOVAL_QUIET_NS 50000000ll
#define REMOVAL_LATE_NS	 1000000000ll

enum {
	REMOVAL_DIRECT = 4, /* at once, before the others are gathered */
	REMOVAL_BURST_MS = 200, /* removals further apart are no burst */
};

struct removals;

struct removals *removals_create(struct vfs *v);
void removals_destroy(struct removals *r); /* removals_stop was called */

/* Removes the object: now, or soon. etag: the version meant, "" any. */
MUST_CHECK int removal_add(struct vfs *v, const struct vfs_ctx *ctx,
			   const char *key, const char *etag);

/* Removes what a store of ours, to which there was no answer, may have left at
 * a key that is not in use: an object of this size with these pairs and no
 * others. Does not wait for it; after a crash it stays. */
void removal_add_ours(struct vfs *v, const char *key, uint64_t size,
		      const struct store_meta *meta);

/* Would a removal now be gathered with those before it? */
bool removal_in_burst(struct vfs *v);
/* A question was asked between two removals: its time does not part them. */
void removal_asked(struct vfs *v);

/* Returns when no removal of `key` is under way; removal_wait_below, of any
 * key that begins with it. -EAGAIN with nowait; what the attempt it waited for
 * met, if that failed. Costs nothing while nothing is under way. */
MUST_CHECK int removal_wait(struct vfs *v, const struct vfs_ctx *ctx,
			    const char *key);
MUST_CHECK int removal_wait_below(struct vfs *v, const struct vfs_ctx *ctx,
				  const char *prefix);

unsigned removals_pending(struct vfs *v);
void removals_hurry(struct vfs *v); /* sends what is there */
void removals_stop(struct vfs *v); /* the rest stays in the journal */
/* What an earlier run left. */
MUST_CHECK int removals_resume(struct vfs *v);
/* For r2fs recover list. */
void removals_list(struct vfs *v,
		   void (*fn)(uint64_t id, const struct journal_rec *rec,
			      void *arg),
		   void *arg);

#endif
