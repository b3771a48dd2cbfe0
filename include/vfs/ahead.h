/*
 * Files fetched before anybody opens them.
 *
 * Tells io/predict which paths are asked for, and brings what it expects
 * next: the name, and the bytes of small files or the first ones of large
 * files. Runs on the waiting threads, at most vfs_config.ahead at once, and
 * not at all while memory is short. Thread-safe. No lock is held across a
 * request.
 */
#ifndef VFS_AHEAD_H
#define VFS_AHEAD_H

#include "io/predict.h"
#include "vfs/inode.h"

struct ahead;

struct ahead *ahead_create(struct vfs *v); /* NULL: vfs_config.ahead is 0 */
void ahead_stop(struct ahead *a); /* begins nothing more; NULL is fine */
void ahead_destroy(struct ahead *a); /* no job runs any more; NULL is fine */

/* i was opened for reading; fill is NULL for an empty file. */
void ahead_opened(struct vfs *v, struct inode *i, struct fill_file *fill);

/* A program waited for R2 to learn of i. */
void ahead_fetched(struct vfs *v, struct inode *i);

/* A program asked for a name that does not exist. */
void ahead_missing(struct vfs *v, struct inode *dir, const char *name);

void ahead_stats_get(struct ahead *a, struct predict_stats *ret);

#endif
