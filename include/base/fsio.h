/*
 * Local file I/O behind one table, so tests can fail the n-th call, fill the
 * disk or lose unsynced writes. Everything r2fs does to its own files (cache
 * data, stage) goes through here; LMDB maps its files itself.
 * All functions return 0, a count, or -errno; partial reads and writes are
 * completed inside (a read returns less than n only at end of file).
 */
#ifndef BASE_FSIO_H
#define BASE_FSIO_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

struct fsio_ops {
	int (*open)(const char *path, int flags,
		    mode_t mode); /* fd or -errno */
	ssize_t (*pread)(int fd, void *buf, size_t n, off_t off);
	ssize_t (*pwrite)(int fd, const void *buf, size_t n, off_t off);
	int (*fsync)(int fd);
	/* Writing to the disk begins; a later fsync waits for less. */
	void (*flush_start)(int fd, off_t off, off_t len);
	int (*ftruncate)(int fd, off_t size);
	int (*punch)(int fd, off_t off, off_t len); /* deallocate a range */
	/* Has anybody else the file open or mapped? 1, 0; -errno: not known.
	 * The process must ignore SIGIO. */
	int (*is_used)(int fd);
	int (*unlink)(const char *path);
	int (*rename)(const char *from, const char *to);
	int (*mkdir)(const char *path, mode_t mode);
	/* free and total bytes of the file system holding path */
	int (*space)(const char *path, uint64_t *ret_free, uint64_t *ret_total);
	/* f_type of statfs(2) for the file system holding path */
	int (*type)(const char *path, uint32_t *ret);
};

extern const struct fsio_ops fsio_system;

/* Replaces the table; NULL restores the system's. While no I/O runs. */
void fsio_replace(const struct fsio_ops *ops);
const struct fsio_ops *fsio(void);

/* mkdir -p with mode 0700 for what is missing; durable. */
MUST_CHECK int fsio_mkdirs(const char *path);

#endif
