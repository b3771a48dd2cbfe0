/*
 * Whether a database file can be opened without harm. Part of kv; nobody else
 * includes this.
 */
#ifndef CACHE_KV_CHECK_H
#define CACHE_KV_CHECK_H

#include "base/err.h"

/* 0: every page that the file's root leads to is what it should be, or there
 * is no file yet. -EUCLEAN: one is not. Reads all of them; nobody may write
 * meanwhile. */
MUST_CHECK int kv_check(const char *path);

#endif
