/*
 * Asks the kernel to forget names that nobody uses. It holds what it was told
 * of as long as its own memory lasts, and each name takes memory here.
 */
#ifndef FUSE_PRUNE_H
#define FUSE_PRUNE_H

#include <stddef.h>

/* About n of them; context: a struct ops_context. Within a request only, so
 * that the session outlives it. Does not wait: the kernel's answers are
 * requests to forget. */
void prune(size_t n, void *context);

#endif
