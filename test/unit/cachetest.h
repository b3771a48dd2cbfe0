/*
 * What the tests of the cache share: a folder of their own, faults under
 * base/fsio.h, a machine that restarts, processes that die.
 */
#ifndef CACHETEST_H
#define CACHETEST_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fsio.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"
#include "cache/cache.h"
#include "check.h"

static char test_dir[] = "/tmp/r2fs-cache-XXXXXX";
static char test_boot[64];

/* ---- faults ---- */

enum call { OPEN, PREAD, PWRITE, PUNCH, UNLINK, MKDIR, CALLS };

static struct {
	int error[CALLS]; /* -errno, or 0 */
	unsigned after[CALLS]; /* calls that still succeed */
	bool partial; /* a failing pwrite writes half first */
	uint64_t disk; /* bytes of the file system; 0: the real one */
	uint32_t type; /* of the file system; 0: the real one */
} fault;

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

static int fails(enum call call)
{
	int err = 0;

	pthread_mutex_lock(&fault_lock);
	if (fault.error[call] && fault.after[call])
		fault.after[call]--;
	else
		err = fault.error[call];
	pthread_mutex_unlock(&fault_lock);
	return err;
}

static inline void fault_set(enum call call, int error, unsigned after)
{
	pthread_mutex_lock(&fault_lock);
	fault.error[call] = error;
	fault.after[call] = after;
	pthread_mutex_unlock(&fault_lock);
}

static inline void fault_disk(uint64_t bytes)
{
	pthread_mutex_lock(&fault_lock);
	fault.disk = bytes;
	pthread_mutex_unlock(&fault_lock);
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
	int err = fails(OPEN);

	return err ? err : fsio_system.open(path, flags, mode);
}

static ssize_t faulty_pread(int fd, void *buf, size_t n, off_t off)
{
	int err = fails(PREAD);

	return err ? err : fsio_system.pread(fd, buf, n, off);
}

static ssize_t faulty_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	int err = fails(PWRITE);

	if (err && fault.partial && fsio_system.pwrite(fd, buf, n / 2, off) < 0)
		abort();
	return err ? err : fsio_system.pwrite(fd, buf, n, off);
}

static int faulty_punch(int fd, off_t off, off_t len)
{
	int err = fails(PUNCH);

	return err ? err : fsio_system.punch(fd, off, len);
}

static int faulty_unlink(const char *path)
{
	int err = fails(UNLINK);

	return err ? err : fsio_system.unlink(path);
}

static int faulty_mkdir(const char *path, mode_t mode)
{
	int err = fails(MKDIR);

	return err ? err : fsio_system.mkdir(path, mode);
}

static __thread uint64_t du_sum;

static int du_one(const char *path, const struct stat *st, int flag,
		  struct FTW *ftw)
{
	if (flag == FTW_F)
		du_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

/* Bytes that the files below a part of the cache folder take. */
static uint64_t du(const char *part)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/cache/%s", test_dir, part);
	du_sum = 0;
	nftw(path, du_one, 32, FTW_PHYS);
	return du_sum;
}

static int faulty_space(const char *path, uint64_t *ret_free,
			uint64_t *ret_total)
{
	uint64_t used, disk;

	pthread_mutex_lock(&fault_lock);
	disk = fault.disk;
	pthread_mutex_unlock(&fault_lock);
	if (!disk)
		return fsio_system.space(path, ret_free, ret_total);
	used = du("");
	*ret_free = disk > used ? disk - used : 0;
	*ret_total = disk;
	return 0;
}

static int faulty_type(const char *path, uint32_t *ret)
{
	*ret = fault.type;
	return fault.type ? 0 : fsio_system.type(path, ret);
}

static struct fsio_ops faulty;

static inline void no_faults(void)
{
	pthread_mutex_lock(&fault_lock);
	memset(&fault, 0, sizeof(fault));
	pthread_mutex_unlock(&fault_lock);
}

/* ---- the folder ---- */

static inline void set_boot(const char *id)
{
	FILE *f = fopen(test_boot, "w");

	fprintf(f, "%s\n", id);
	fclose(f);
}

static int rm_one(const char *path, const struct stat *st, int flag,
		  struct FTW *ftw)
{
	return remove(path);
}

static inline void rm_cache(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/cache", test_dir);
	nftw(path, rm_one, 32, FTW_PHYS | FTW_DEPTH);
}

static inline void test_start(void)
{
	signal(SIGIO, SIG_IGN); /* fsio_ops.is_used */
	if (!mkdtemp(test_dir))
		abort();
	snprintf(test_boot, sizeof(test_boot), "%s/boot", test_dir);
	setenv("R2FS_TEST_BOOT_ID", test_boot, 1);
	set_boot("first");
	faulty = fsio_system;
	faulty.open = faulty_open;
	faulty.pread = faulty_pread;
	faulty.pwrite = faulty_pwrite;
	faulty.punch = faulty_punch;
	faulty.unlink = faulty_unlink;
	faulty.mkdir = faulty_mkdir;
	faulty.space = faulty_space;
	faulty.type = faulty_type;
	fsio_replace(&faulty);
	log_level = LOG_LEVEL_ERROR;
}

static inline int test_end(void)
{
	fsio_replace(NULL);
	nftw(test_dir, rm_one, 32, FTW_PHYS | FTW_DEPTH);
	return check_done();
}

static struct cache_config test_config = { .identity = "http://x bucket",
					   .commit_ms = 20 };

static inline int try_open(struct cache **ret, char why[256])
{
	char dir[64];

	snprintf(dir, sizeof(dir), "%s/cache", test_dir);
	test_config.dir = dir;
	return cache_open(&test_config, ret, why, 256);
}

static inline struct cache *reopen(struct cache *c)
{
	char why[256];

	cache_close(c);
	if (try_open(&c, why)) {
		printf("# cache_open: %s\n", why);
		abort();
	}
	return c;
}

/* A fresh one. */
static inline struct cache *open_new(uint64_t max_bytes)
{
	no_faults();
	rm_cache();
	set_boot("first");
	test_config.max_bytes = max_bytes;
	test_config.min_free = 0;
	test_config.map_bytes = 0;
	return reopen(NULL);
}

/* Runs fn on an opened cache in a process that dies without closing it. */
static inline void die_after(void (*fn)(struct cache *c))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fn(reopen(NULL));
		fflush(stdout);
		_exit(check_title_failed ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		check_title_failed++;
}

#endif
