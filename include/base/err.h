/*
 * Error convention of r2fs.
 *
 * A function that can fail returns int: 0 (or a count >= 0) or -errno. The
 * meanings are fixed across layers:
 *
 *   -ENOENT     no such key, bucket or name
 *   -ESTALE     a condition (If-Match) failed: the object changed
 *   -EEXIST     If-None-Match failed: somebody else created it
 *   -EACCES     the credentials are refused or lack the permission
 *   -EPERM      a rule of the bucket forbids it (object lock)
 *   -EDQUOT     the account may not store more
 *   -EAGAIN     with a "no wait" flag: the answer needs the network
 *   -ETIMEDOUT  the deadline ended first
 *   -EBADMSG    bytes do not match their checksum, length or ETag
 *   -ENOSPC     disk or budget exhausted
 *   -EINTR      the caller gave up (FUSE interrupt)
 *   -ECANCELED  the request was cancelled or the mount is going away
 *   -EIO        everything else
 *
 * A broken invariant is BUG(), never an errno. A function either logs or
 * returns an error; those that log say so in their header.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <errno.h>
#include <stddef.h>

#define MUST_CHECK   __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define UNUSED	     __attribute__((unused))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define BUG(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
#define BUG_ON(cond) \
	do { \
		if (__builtin_expect(!!(cond), 0)) \
			BUG("broken invariant: %s", #cond); \
	} while (0)

/* Logs "r2fs: BUG at FILE:LINE: ..." and aborts. */
_Noreturn void bug_at(const char *file, int line, const char *fmt, ...)
	PRINTF(3, 4);

/* Allocation that aborts on exhaustion: for small, bounded objects only.
 * Data buffers come from base/pool.h. xstrdup(NULL) is NULL. */
void *xmalloc(size_t n) __attribute__((malloc));
void *xcalloc(size_t n, size_t size) __attribute__((malloc));
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

#endif
