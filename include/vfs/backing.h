/*
 * Backings: see vfs.h for what they are. Here is what the rest of the vfs tells
 * them. An inode's list of backings is guarded by vfs.lock.
 *
 * Lock order: vfs.mirror_lock -> the cache's locks, vfs.lock.
 */
#ifndef VFS_BACKING_H
#define VFS_BACKING_H

#include "vfs/inode.h"

/* A writeback begins: those of the present version follow it. */
void backings_stage_locked(struct inode *i);
/* What they follow was stored as cid. */
void backings_stored_locked(struct inode *i, uint64_t cid);
/* The writeback goes. stored: R2 has all of it. */
void backings_settle_locked(struct inode *i, bool stored);

/* A change of the content: data, or zeros over len bytes, then the size. */
struct backing_change {
	uint64_t off, len, size;
	const void *data; /* NULL: zeros */
};

/* Before a staged inode's content is changed. True: somebody follows, no other
 * change happens until backings_end, which must be called. */
bool backings_begin(struct vfs *v, struct inode *i);
/* c NULL: nothing was changed. */
void backings_end(struct vfs *v, struct inode *i,
		  const struct backing_change *c);

/* ---- file_read.c ---- */

/* What a handle reads; false: it may write, or there is nothing. Borrowed. */
bool file_reads(struct vfs_file *f, struct inode **ret_inode,
		struct fill_file **ret_fill, uint64_t *ret_cid);

#endif
