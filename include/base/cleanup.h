/*
 * Scope-bound cleanup for straight-line functions.
 *
 *	CLEANUP(free) char *path = NULL;
 *	return TAKE(path);
 *
 * CLEANUP(x) runs cleanup_x on scope exit; TAKE(p) yields p and sets it NULL,
 * handing ownership to the caller.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(kind) __attribute__((cleanup(cleanup_##kind)))

#define TAKE(p) \
	({ \
		__typeof__(p) take_p = (p); \
		(p) = NULL; \
		take_p; \
	})

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#endif
