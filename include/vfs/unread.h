/*
 * Files brought ahead that no program has opened yet. The cache's policy would
 * take them for the next to go: they were used once, and just now. So their
 * content is spared until the file after them is opened, or until newer ones
 * take their place; how many there may be bounds what they take of the cache.
 *
 * Thread-safe; takes no other lock.
 */
#ifndef VFS_UNREAD_H
#define VFS_UNREAD_H

#include <stdint.h>

#include "io/fill.h"

struct unread;

struct unread *unread_create(unsigned max); /* at most so many files */
void unread_destroy(struct unread *u);

/* Spares the content of fill, which is closed when it is spared no more. */
void unread_add(struct unread *u, uint64_t ino, struct fill_file *fill);

/* A program opened the file: those it opened before are spared no more. */
void unread_opened(struct unread *u, uint64_t ino);

/* Nobody follows any more. */
void unread_clear(struct unread *u);

#endif
