/*
 * --offline-ok: what the cache knows is enough while R2 cannot be reached.
 *
 * The first question that R2 does not answer in time ends the trust in
 * --metadata-ttl: names, attributes and listings are believed as they were
 * last seen, however long ago, and content that is cached is read. One
 * question in the background finds out when R2 answers again; from then on the
 * TTL holds as before. What the cache does not know is asked for, and fails
 * after the patience that mount_run.c gives the store. Writing is as ever: its
 * conditions are checked by R2 when it stores.
 *
 * Thread-safe; takes vfs.lock, calls nothing with it held.
 */
#ifndef VFS_OFFLINE_H
#define VFS_OFFLINE_H

#include "vfs/inode.h"

struct offline;

struct offline *offline_create(struct vfs *v); /* NULL: not asked for */
void offline_stop(struct offline *o); /* asks no more; NULL is fine */
void offline_destroy(struct offline *o); /* after offline_stop */

/* Does err mean that R2 cannot be reached, and may the cache answer in its
 * place? Then it does, from now until R2 answers again. */
bool offline_begin(struct vfs *v, int err);
bool offline_is(struct vfs *v);

/* How long what R2 said is believed: as configured, or indefinitely. */
int64_t offline_ttl(struct vfs *v);
int64_t offline_negative_ttl(struct vfs *v);
/* How long the kernel may believe what may be believed for ttl_ns here. */
int64_t offline_told(struct vfs *v, int64_t ttl_ns);

#endif
