/*
 * Programs that walk through a tree (find, du, cp -r, tar) list one folder
 * after the other. Where the folders are small, one flat page (vfs/level.h)
 * from the next folder on shows many of them at once: a LIST for a thousand
 * names, not one for each folder.
 *
 * It begins after two small folders of one parent were listed, and costs no
 * more than the listing it replaces, but where the folder has more below than
 * a page shows; then the parent's others are listed one by one.
 */
#ifndef VFS_WALK_H
#define VFS_WALK_H

#include "vfs/inode.h"

/* dir was listed to its end, with so many entries. Thread-safe. */
void walk_listed(struct vfs *v, struct inode *dir, unsigned entries);

/* Is dir likely to be one of a walk? Then walk_list may complete it. */
bool walk_expects(struct vfs *v, struct inode *dir);

/* Asks for a flat page from dir on. 0 says nothing of dir: it may be complete
 * now, or must be listed by itself. */
MUST_CHECK int walk_list(struct vfs *v, const struct vfs_ctx *ctx,
			 struct inode *dir);

#endif
