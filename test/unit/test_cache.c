/* The cache folder: whom it lets in, and what it believes after restarts. */
#include <sys/stat.h>

#include "cachetest.h"

#include "cache/block.h"
#include "cache/meta.h"

enum { MB = 1024 * 1024, BODY = 3 * MB };

static void fill(uint8_t *p, uint64_t cid, size_t n)
{
	for (size_t i = 0; i + 8 <= n; i += 8) {
		uint64_t word = hash_u64(cid * 1000003 + i);

		memcpy(p + i, &word, 8);
	}
}

static int put(struct cache *c, uint64_t cid)
{
	uint8_t *p = malloc(BODY);
	struct content *content;
	int err;

	fill(p, cid, BODY);
	CHECK_INT(content_open(cache_blocks(c), cid, BODY, &content), 0);
	err = content_write(content, 0, p, BODY);
	content_put(content);
	free(p);
	return err;
}

/* Bytes that are served; -1 if one is wrong. */
static long get(struct cache *c, uint64_t cid)
{
	uint8_t *want = malloc(BODY), *got = malloc(BODY);
	struct content *content;
	long sum = 0;
	uint64_t n;
	int fd;

	fill(want, cid, BODY);
	CHECK_INT(content_open(cache_blocks(c), cid, BODY, &content), 0);
	for (uint64_t at = 0; at < BODY && sum >= 0; at += n) {
		n = content_pin(content, at, BODY - at, &fd);
		if (!n) {
			n = CACHE_BLOCK - at % CACHE_BLOCK;
			continue;
		}
		sum += (long)n;
		if (pread(fd, got, n, (off_t)at) != (ssize_t)n ||
		    memcmp(got, want + at, n) != 0)
			sum = -1;
		content_unpin(content, at, n);
	}
	content_put(content);
	free(want);
	free(got);
	return sum;
}

static void data_path(uint64_t cid, char out[128])
{
	snprintf(out, 128, "%s/cache/data/%02x/%016llx", test_dir,
		 (unsigned)cid & 255, (unsigned long long)cid);
}

/* Overwrites a byte of the data file behind the cache's back. */
static void damage(uint64_t cid, off_t at)
{
	char path[128], byte;
	int fd;

	data_path(cid, path);
	fd = open(path, O_RDWR);
	CHECK(pread(fd, &byte, 1, at) == 1);
	byte ^= 1;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	close(fd);
}

static struct cache_stats stats(struct cache *c)
{
	struct cache_stats st;

	cache_stats_get(c, &st);
	return st;
}

static struct cache *reboot(struct cache *c)
{
	static unsigned n;
	char id[32];

	cache_close(c);
	snprintf(id, sizeof(id), "boot %u", n++);
	set_boot(id);
	return reopen(NULL);
}

/* ---- who is let in ---- */

static void test_refusals(void)
{
	struct cache *c = open_new(0), *other;
	char why[256], dir[64];

	CASE("a folder has one holder, who is named");
	CHECK_INT(try_open(&other, why), -EBUSY);
	snprintf(dir, sizeof(dir), "process %d", (int)getpid());
	CHECK(strstr(why, dir) && strstr(why, "--cache-dir"));
	CHECK_INT(put(c, 1), 0);
	cache_close(c);
	c = reopen(NULL);
	CHECK_INT(get(c, 1), BODY);
	cache_close(c);

	CASE("a network file system is refused");
	fault.type = 0x6969;
	CHECK_INT(try_open(&other, why), -EMEDIUMTYPE);
	CHECK(strstr(why, "NFS") && strstr(why, "--cache-dir"));
	no_faults();

	CASE("a folder that cannot be written is refused");
	fault_set(OPEN, -EROFS, 0);
	CHECK_INT(try_open(&other, why), -EROFS);
	CHECK(strstr(why, "--cache-dir"));
	no_faults();
	rm_cache();
	fault_set(MKDIR, -EACCES, 0);
	CHECK_INT(try_open(&other, why), -EACCES);
	CHECK(strstr(why, "--cache-dir"));
	no_faults();

	CASE("a disk below --min-free is refused");
	fault_disk(10 * MB);
	test_config.min_free = 20 * MB;
	CHECK_INT(try_open(&other, why), -ENOSPC);
	CHECK(strstr(why, "--min-free"));
	test_config.min_free = 0;
	no_faults();

	CASE("another bucket's folder is emptied");
	c = reopen(NULL);
	CHECK_INT(put(c, 1), 0);
	cache_close(c);
	test_config.identity = "another";
	c = reopen(NULL);
	CHECK_INT(get(c, 1), 0);
	CHECK_INT(du("data"), 0);
	cache_close(c);
	test_config.identity = "http://x bucket";
}

/* ---- what is believed ---- */

static void put_and_flush(struct cache *c)
{
	CHECK_INT(put(c, 7), 0);
	CHECK_INT(meta_flush(cache_meta(c)), 0);
}

static void test_trust(void)
{
	struct cache *c = open_new(0);

	CASE("a clean restart believes what it finds");
	CHECK_INT(put(c, 1), 0);
	CHECK_INT(put(c, 2), 0);
	c = reopen(c);
	CHECK(!stats(c).verifying);
	CHECK_INT(get(c, 1), BODY);
	CHECK_INT(stats(c).data_bytes, 2 * BODY);

	CASE("after a start of the machine damage is found");
	damage(1, MB + 5);
	c = reboot(c);
	CHECK(stats(c).verifying);
	CHECK_INT(get(c, 1), BODY - CACHE_BLOCK);
	CHECK_INT(stats(c).verify_failures, 1);
	CHECK_INT(get(c, 2), BODY);
	CHECK_INT(put(c, 1), 0);
	CHECK_INT(get(c, 1), BODY);

	CASE("after a run that found damage all is verified again");
	damage(2, 5);
	c = reopen(c);
	CHECK(stats(c).verifying);
	CHECK_INT(get(c, 2), BODY - CACHE_BLOCK);

	CASE("what was verified is believed from then on");
	CHECK_INT(put(c, 2), 0);
	c = reopen(reopen(c));
	CHECK(!stats(c).verifying);
	CHECK_INT(get(c, 1), BODY);

	CASE("after the death of the process damage is found");
	cache_close(c);
	die_after(put_and_flush);
	damage(7, 3);
	damage(1, BODY - 1);
	c = reopen(NULL);
	CHECK(stats(c).verifying);
	CHECK_INT(get(c, 7), BODY - CACHE_BLOCK);
	CHECK_INT(get(c, 1), BODY - CACHE_BLOCK);
	CHECK_INT(get(c, 2), BODY);
	cache_close(c);
}

/* The records of what is evicted are still in the database. */
static void evict_and_die(struct cache *c)
{
	for (uint64_t cid = 100; cid < 110; cid++)
		CHECK_INT(put(c, cid), 0);
	CHECK(stats(c).evicted_extents > 0);
}

static void test_dead_evicting(void)
{
	struct cache *c = open_new(16 * MB);
	long n = 0;

	CASE("extents evicted just before the end are not served as zeros");
	for (uint64_t cid = 1; cid < 5; cid++)
		CHECK_INT(put(c, cid), 0);
	cache_close(c);
	test_config.commit_ms = 1000000;
	die_after(evict_and_die);
	test_config.commit_ms = 20;
	c = reopen(NULL);
	for (uint64_t cid = 1; cid < 110; cid++) {
		n = get(c, cid);
		CHECK(n == 0 || n == BODY);
	}
	cache_close(c);
	c = reopen(NULL);
	CHECK(du("") <= 16 * MB);
	cache_close(c);
}

static void put_only(struct cache *c)
{
	CHECK_INT(put(c, 50), 0);
	CHECK_INT(put(c, 51), 0);
}

/* The sweep is done when the cache was closed after it began. */
static void test_stale_files(void)
{
	struct cache *c = open_new(0);
	char path[128] = "";
	int fd;

	CASE("files and blocks that no record speaks of are freed");
	CHECK_INT(put(c, 1), 0);
	cache_close(c);
	data_path(1, path);
	fd = open(path, O_RDWR);
	CHECK(pwrite(fd, path, 100, 20 * MB) == 100);
	for (int i = 0; i < 100; i++)
		CHECK(pwrite(fd, path, 100, (40 + i) * MB) == 100);
	close(fd);
	test_config.commit_ms = 1000000;
	die_after(put_only);
	test_config.commit_ms = 20;
	CHECK_INT(du("data") / MB, 3 * BODY / MB);
	c = reopen(NULL);
	/* The file system may keep a block of its own for the map of a file. */
	for (int i = 0; i < 1000 && du("data") >= BODY + CACHE_BLOCK; i++)
		usleep(10000);
	CHECK(du("data") < BODY + CACHE_BLOCK);
	CHECK_INT(get(c, 50), 0);
	CHECK_INT(get(c, 1), BODY);
	cache_close(c);
}

/* ---- damage ---- */

static void test_damaged_files(void)
{
	struct cache *c = open_new(0);
	char path[128];
	struct stat st;

	CASE("a data file cut short or gone is a miss");
	for (uint64_t cid = 1; cid < 4; cid++)
		CHECK_INT(put(c, cid), 0);
	cache_close(c);
	data_path(1, path);
	CHECK_INT(truncate(path, MB), 0);
	data_path(2, path);
	CHECK_INT(unlink(path), 0);
	c = reopen(NULL);
	CHECK_INT(get(c, 1), MB);
	CHECK_INT(get(c, 2), 0);
	CHECK_INT(get(c, 3), BODY);
	CHECK_INT(put(c, 2), 0);
	CHECK_INT(get(c, 2), BODY);
	cache_close(c);

	CASE("a folder where the data should be is a miss");
	data_path(3, path);
	CHECK_INT(unlink(path), 0);
	CHECK_INT(mkdir(path, 0700), 0);
	c = reopen(NULL);
	CHECK_INT(get(c, 3), 0);
	(void)!put(c, 3);
	CHECK(get(c, 3) >= 0);
	CHECK_INT(get(c, 2), BODY);
	cache_close(c);

	CASE("a damaged database is a new, empty cache");
	snprintf(path, sizeof(path), "%s/cache/cache.mdb", test_dir);
	CHECK_INT(stat(path, &st), 0);
	for (int how = 0; how < 4; how++) {
		int fd = open(path, O_RDWR);
		char junk[4096];

		memset(junk, how * 85, sizeof(junk));
		if (how == 3)
			CHECK_INT(ftruncate(fd, st.st_size / 2 + 1), 0);
		for (off_t at = 0; how < 3 && at < 16 * 4096; at += 4096)
			CHECK(pwrite(fd, junk, sizeof(junk), at) > 0);
		close(fd);
		c = reopen(NULL);
		CHECK_INT(get(c, 2), 0);
		CHECK_INT(du("data"), 0);
		CHECK_INT(put(c, 2), 0);
		CHECK_INT(get(c, 2), BODY);
		for (uint64_t cid = 10; cid < 20; cid++)
			CHECK_INT(put(c, cid), 0);
		cache_close(c);
		CHECK_INT(stat(path, &st), 0);
	}
}

static void copy_folder(const char *from, const char *to)
{
	char command[256];

	snprintf(command, sizeof(command), "cd %s && rm -rf %s && cp -a %s %s",
		 test_dir, to, from, to);
	CHECK_INT(system(command), 0);
}

static void put_names(struct cache *c)
{
	for (int i = 0; i < 800; i++) {
		struct meta_rec r = { .kind = META_FILE, .size = 1 };
		char name[32];

		snprintf(name, sizeof(name), "name-%d", i);
		CHECK_INT(meta_put(cache_meta(c), 5, name, &r, NULL), 0);
	}
}

static void damage_page(const char *path, off_t at)
{
	char page[4096];
	int fd = open(path, O_RDWR);

	CHECK(pread(fd, page, 4096, at) == 4096);
	for (size_t i = rand_below(2) ? 0 : 64; i < sizeof(page); i++)
		page[i] = (char)(at % 8192 ? rand_u64() : 0xFF);
	CHECK(pwrite(fd, page, 4096, at) == 4096);
	close(fd);
}

/* Another process, since what is tested for is that it does not die. */
static bool works_in_child(void)
{
	struct meta_entry e[10];
	struct meta_rec r;
	struct cache *c;
	int status, n;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return waitpid(pid, &status, 0) == pid && status == 0;
	c = reopen(NULL);
	for (int i = 0; i < 10; i++)
		if (!meta_get(cache_meta(c), 5, "name-77", &r))
			meta_rec_release(&r);
	n = meta_list(cache_meta(c), 5, NULL, e, 10);
	while (n > 0)
		meta_rec_release(&e[--n].rec);
	_exit(get(c, 1) < 0 || put(c, 2) < 0 || get(c, 2) != BODY);
}

/* Forks are slow under tsan, and damage has nothing to do with threads. */
#ifdef __SANITIZE_THREAD__
enum { PAGE_STEP = 5 * 4096 };
#else
enum { PAGE_STEP = 4096 };
#endif

/* Every page of the database in turn. */
static void test_damaged_pages(void)
{
	struct cache *c = open_new(0);
	char path[128];
	struct stat st;
	bool alive = true;

	CASE("a database with any one page damaged never kills");
	put_names(c);
	CHECK_INT(put(c, 1), 0);
	cache_close(c);
	copy_folder("cache", "sound");
	snprintf(path, sizeof(path), "%s/cache/cache.mdb", test_dir);
	CHECK_INT(stat(path, &st), 0);
	rand_seed(9);
	for (off_t at = 0; at < st.st_size && alive; at += PAGE_STEP) {
		damage_page(path, at);
		alive = works_in_child();
		if (!alive)
			printf("# page %d\n", (int)(at / 4096));
		copy_folder("sound", "cache");
	}
	CHECK(alive);
}

/* ---- what is remembered ---- */

static void test_use_remembered(void)
{
	struct cache *c = open_new(24 * MB);
	int kept = 0;

	CASE("what was used often survives a restart and a scan");
	for (int round = 0; round < 12; round++) {
		for (uint64_t cid = 1; cid < 4; cid++)
			if (get(c, cid) < BODY)
				CHECK_INT(put(c, cid), 0);
		for (uint64_t cid = 0; cid < 3; cid++)
			CHECK_INT(put(c, 1000 + 10 * round + cid), 0);
	}
	for (uint64_t cid = 1; cid < 4; cid++)
		kept += get(c, cid) == BODY;
	CHECK_INT(kept, 3);
	c = reopen(c);
	for (uint64_t cid = 2000; cid < 2030; cid++)
		CHECK_INT(put(c, cid), 0);
	kept = 0;
	for (uint64_t cid = 1; cid < 4; cid++)
		kept += get(c, cid) == BODY;
	CHECK_INT(kept, 3);
	cache_close(c);
}

int main(void)
{
	test_start();
	test_refusals();
	test_trust();
	test_dead_evicting();
	test_stale_files();
	test_damaged_files();
	test_use_remembered();
	test_damaged_pages();
	return test_end();
}
