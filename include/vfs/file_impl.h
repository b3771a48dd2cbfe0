/*
 * Internals of open files, shared by file.c (opening and closing), file_read.c
 * and file_write.c. Lock order: vfs_file.lock -> vfs.lock.
 */
#ifndef VFS_FILE_IMPL_H
#define VFS_FILE_IMPL_H

#include "base/lock.h"
#include "vfs/inode.h"

enum { USERS = 8 };

struct user {
	pid_t thread, process;
};

struct vfs_file {
	struct vfs *v;
	struct inode *inode;
	struct mutex lock;
	struct fill_file *fill; /* guarded by lock; NULL for an empty object */
	uint64_t cid; /* guarded by lock: what fill is of */
	uint64_t size; /* guarded by lock: of that version */
	bool served; /* guarded by lock: the reader may have bytes of it */
	bool learned; /* guarded by lock: the object's metadata is known */
	bool writable;
	unsigned reads; /* guarded by lock: under way in fill */
	struct list old; /* versions left behind while reads are under way */
	struct user users[USERS]; /* guarded by lock */
	unsigned nusers; /* guarded by lock; may pass USERS: then all may be */
};

struct file_version {
	struct fill_file *fill;
	uint64_t cid, size;
	bool keep; /* the kernel's pages are of it */
};

/* ---- file.c ---- */

/* The version that the inode knows of, which is the one opened last from now
 * on. Close ret->fill. */
MUST_CHECK int file_open_version(struct vfs *v, struct inode *i,
				 struct file_version *ret);

/* May R2 have another version than the inode? With the doubt go the size and
 * time that the kernel believes. */
void file_set_doubt(struct vfs *v, struct inode *i, bool doubted);
/* The kernel shall ask for the attributes again. */
void file_tell_listener(struct vfs *v, uint64_t ino);

#endif
