/*
 * Which of the kernel's nodes are open, and who reads them: r2fs, or the
 * kernel itself from the cache's data file (passthrough).
 *
 * The kernel allows a node to be open in one of two modes, through its page
 * cache or in passthrough of one file, and an open that does not fit fails
 * with EIO. A node number is therefore an inode number with a generation
 * above it: an open that cannot share a node in passthrough (to write, of
 * another version) is told ESTALE, upon which the kernel looks the name up
 * again and gets the inode's next generation, a node of its own. Requests of
 * all generations mean the same inode.
 *
 * Thread-safe. A NULL table: no passthrough, numbers are the inodes' own.
 */
#ifndef FUSE_NODES_H
#define FUSE_NODES_H

#include <fuse_lowlevel.h>

#include "vfs/vfs.h"

struct nodes;

/* fn is called when what the kernel knows of a node's attributes is not what it
 * should go on believing. */
struct nodes *nodes_create(struct vfs *v, void (*fn)(uint64_t node, void *arg),
			   void *arg);
void nodes_destroy(struct nodes *n); /* NULL is fine */

/* The inode of a node. */
uint64_t node_ino(uint64_t node);
/* The node that lookups of an inode give. */
uint64_t nodes_current(struct nodes *n, uint64_t ino);
/* Calls fn for the current node of the inode and others that are open. */
void nodes_each(struct nodes *n, uint64_t ino,
		void (*fn)(uint64_t node, void *arg), void *arg);
/* Do handles exist that may show another size than the inode's attributes
 * say a moment later? Then the kernel should not keep them. */
bool nodes_split(struct nodes *n, uint64_t ino);

/* May the kernel read for this open? Else its node is taken before the file is
 * opened. */
bool nodes_may_pass(const struct nodes *n, const struct fuse_file_info *fi);
/*
 * Before the reply to an open: takes the node and sets fi up. f: the open file,
 * or NULL if the kernel may not read for it. -ESTALE: not on this node. After 0
 * nodes_release comes once, when the handle is released.
 */
MUST_CHECK int nodes_open(struct nodes *n, fuse_req_t req, uint64_t node,
			  struct vfs_file *f, struct fuse_file_info *fi);
/* The reader is told ESTALE for another reason, once, since the kernel looks up
 * no more often: there must be a node for it then. */
void nodes_leave(struct nodes *n, fuse_req_t req, uint64_t node);
/* The same for a file that was made or opened by create: gives its node. */
uint64_t nodes_create_open(struct nodes *n, uint64_t ino);
void nodes_release(struct nodes *n, fuse_req_t req, uint64_t node);

#endif
