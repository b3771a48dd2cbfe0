/*
 * Names that are canonically equal (Unicode NFC and NFD) are one object in R2,
 * and so one name here. Every name that comes from the kernel goes through
 * name_spelling before anything else is done with it.
 *
 * Thread-safe; looks into the cache only.
 */
#ifndef VFS_SPELLING_H
#define VFS_SPELLING_H

#include "vfs/inode.h"

/* The spelling under which dir is known to have the name: name itself if it
 * has it so, or under none; else the other, in space. */
const char *name_spelling(struct vfs *v, struct inode *dir, const char *name,
			  char space[CACHE_NAME_MAX + 1]);

#endif
