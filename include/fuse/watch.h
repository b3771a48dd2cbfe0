/*
 * Interrupts of requests whose caller is about to die: when the kernel tells
 * of a signal, and by a look now and then at those who have had one or of whom
 * libfuse is not told (io_uring). Only for src/fuse.
 */
#ifndef FUSE_WATCH_H
#define FUSE_WATCH_H

#include "fuse/job.h"

/* Starts a thread; NULL if it cannot: only a first signal that is fatal is
 * seen. */
struct watch *watch_create(void);
void watch_destroy(struct watch *w); /* NULL is fine; nobody waits */

/* fn is called when the caller is dying, until watch_end, once or more; it must
 * not reply, nor end the watch. */
void watch_begin(struct watch *w, struct waiter *x, fuse_req_t req,
		 fuse_interrupt_func_t fn, void *data);
/* Before the reply. */
void watch_end(struct watch *w, struct waiter *x, fuse_req_t req);

#endif
