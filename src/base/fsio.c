/*
 * The system's calls with partial transfers completed and EINTR retried, so
 * that callers see all or an error.
 */
#include "base/fsio.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int result(int r)
{
	return r < 0 ? -errno : r;
}

static int sys_open(const char *path, int flags, mode_t mode)
{
	return result(open(path, flags | O_CLOEXEC, mode));
}

static ssize_t sys_pread(int fd, void *buf, size_t n, off_t off)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(fd, (char *)buf + got, n - got, off + got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += r;
	}
	return got;
}

static ssize_t sys_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	size_t put = 0;

	while (put < n) {
		ssize_t r =
			pwrite(fd, (const char *)buf + put, n - put, off + put);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		put += r;
	}
	return put;
}

static int sys_fsync(int fd)
{
	return result(fsync(fd));
}

static void sys_flush_start(int fd, off_t off, off_t len)
{
	sync_file_range(fd, off, len, SYNC_FILE_RANGE_WRITE);
}

static int sys_ftruncate(int fd, off_t size)
{
	return result(ftruncate(fd, size));
}

static int sys_punch(int fd, off_t off, off_t len)
{
	return result(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				off, len));
}

/* A write lease is granted only for the one descriptor there is. SIGIO, which
 * tells of somebody who opens the file in this moment, is ignored. */
static int sys_is_used(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK))
		return errno == EAGAIN ? 1 : -errno;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}

static int sys_unlink(const char *path)
{
	return result(unlink(path));
}

static int sys_rename(const char *from, const char *to)
{
	return result(rename(from, to));
}

static int sys_mkdir(const char *path, mode_t mode)
{
	return result(mkdir(path, mode));
}

static int sys_space(const char *path, uint64_t *ret_free, uint64_t *ret_total)
{
	struct statvfs st;

	if (statvfs(path, &st))
		return -errno;
	*ret_free = (uint64_t)st.f_bavail * st.f_frsize;
	*ret_total = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}

static int sys_type(const char *path, uint32_t *ret)
{
	struct statfs st;

	if (statfs(path, &st))
		return -errno;
	*ret = (uint32_t)st.f_type;
	return 0;
}

const struct fsio_ops fsio_system = {
	.open = sys_open,
	.pread = sys_pread,
	.pwrite = sys_pwrite,
	.fsync = sys_fsync,
	.flush_start = sys_flush_start,
	.ftruncate = sys_ftruncate,
	.punch = sys_punch,
	.is_used = sys_is_used,
	.unlink = sys_unlink,
	.rename = sys_rename,
	.mkdir = sys_mkdir,
	.space = sys_space,
	.type = sys_type,
};

static const struct fsio_ops *current = &fsio_system;

void fsio_replace(const struct fsio_ops *ops)
{
	current = ops ? ops : &fsio_system;
}

const struct fsio_ops *fsio(void)
{
	return current;
}

/* The name of a folder that was made is its parent's to keep. */
static int sync_parent(const char *path)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd, err;

	if (!slash)
		snprintf(parent, sizeof(parent), ".");
	else
		snprintf(parent, sizeof(parent), "%.*s/", (int)(slash - path),
			 path);
	fd = fsio()->open(parent, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -EACCES ? 0 : fd; /* one may enter, not read */
	err = fsio()->fsync(fd);
	close(fd);
	return err;
}

int fsio_mkdirs(const char *path)
{
	char part[PATH_MAX];
	int err = 0;

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	for (const char *p = path; *p && !err; p += strspn(p, "/")) {
		p += strspn(p, "/");
		p += strcspn(p, "/");
		memcpy(part, path, p - path);
		part[p - path] = 0;
		err = fsio()->mkdir(part, 0700);
		if (!err)
			err = sync_parent(part);
		else if (err == -EEXIST)
			err = 0;
	}
	return err;
}
