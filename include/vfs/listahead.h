/*
 * Folders listed before anybody reads them.
 *
 * A program that lists folders one after the other (find, du, rsync, a data
 * loader that looks through its classes) waits a round trip for each. After
 * three in the order of their parents' listings, the next ones are listed
 * meanwhile, several at once: those beside the last, those beside the folders
 * above it up to where the program began, and those below one listed ahead.
 * Only names that a complete listing has shown are followed, and folders that
 * are known already cost nothing. Small folders are left to vfs/walk.h, which
 * shows many with one LIST.
 *
 * What was listed ahead and not read yet is never more, in LISTs, than what
 * the program has read in this run, nor more folders than vfs_config.listahead
 * or than it will come to within half of the TTL. Nothing begins while memory
 * is short, while R2 throttles or cannot be reached, and for a moment after an
 * error.
 *
 * Thread-safe. Lock order: its own -> vfs.lock, scan.lock. Not held across a
 * request.
 */
#ifndef VFS_LISTAHEAD_H
#define VFS_LISTAHEAD_H

#include "vfs/inode.h"

struct listahead;

/* NULL: vfs_config.listahead is 0, or nothing listed is believed later. */
struct listahead *listahead_create(struct vfs *v);
void listahead_stop(struct listahead *a); /* ends what is under way; NULL is
					   * fine */
void listahead_destroy(struct listahead *a); /* no task runs any more; NULL is
					      * fine */

/* A program begins to read dir, which the cache knew, or which its own or a
 * common listing shows. */
void listahead_reads(struct vfs *v, struct inode *dir, bool known);

/* A listing of dir has ended after so many pages. */
void listahead_listed(struct vfs *v, struct inode *dir, unsigned pages);

struct listahead_stats {
	uint64_t folders; /* whose listing was begun ahead */
	/* of these: read then; given up, or read too late */
	uint64_t used, wasted;
};

void listahead_stats_get(struct listahead *a, struct listahead_stats *ret);

#endif
