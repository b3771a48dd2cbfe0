/*
 * Interrupts of requests: the kernel's, and where libfuse has none (io_uring)
 * a look now and then at who waits. Only for src/fuse.
 */
#ifndef FUSE_WATCH_H
#define FUSE_WATCH_H

#include "fuse/job.h"

/* Starts a thread; NULL if it cannot: the kernel's interrupts only. */
struct watch *watch_create(void);
void watch_destroy(struct watch *w); /* NULL is fine; nobody waits */

/* fn may be called until watch_end, once or more, and must not reply, nor end
 * the watch. */
void watch_begin(struct watch *w, struct waiter *x, fuse_req_t req,
		 fuse_interrupt_func_t fn, void *data);
/* Before the reply. */
void watch_end(struct watch *w, struct waiter *x, fuse_req_t req);

#endif
