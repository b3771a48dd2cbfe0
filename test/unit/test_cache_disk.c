/* The cache folder through restarts, damage and full disks: a miss, never a
 * wrong byte and never a dead cache. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fsio.h"
#include "base/rand.h"
#include "cache/block.h"
#include "cache/cache.h"
#include "cache/meta.h"
#include "check.h"

enum { SIZE = 10 * CACHE_BLOCK + 777 };

static char dir[] = "/tmp/r2fs-cache-XXXXXX";
static char why[1024];

static void set_boot_id(const char *id)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/boot", dir);
	f = fopen(path, "w");
	fprintf(f, "%s\n", id);
	fclose(f);
	setenv("R2FS_TEST_BOOT_ID", path, 1);
}

static struct cache *open_cache(uint64_t max_bytes)
{
	char folder[64];
	struct cache_config c = { .identity = "test",
				  .dir = folder,
				  .max_bytes = max_bytes,
				  .writable = true };
	struct cache *cache = NULL;

	snprintf(folder, sizeof(folder), "%s/cache", dir);
	CHECK_INT(cache_open(&c, &cache, why, sizeof(why)), 0);
	return cache;
}

static void fill(uint8_t *buf, uint64_t cid)
{
	for (unsigned i = 0; i < SIZE; i++)
		buf[i] = (uint8_t)(i * 7 + i / 251 + cid);
}

static int put(struct cache *c, uint64_t cid)
{
	uint8_t *buf = malloc(SIZE);
	struct content *content;
	int err = content_open(cache_blocks(c), cid, SIZE, &content);

	fill(buf, cid);
	if (!err) {
		err = content_write(content, 0, buf, SIZE);
		content_put(content);
	}
	free(buf);
	return err;
}

/* Bytes of cid that are there and right; -1: one was wrong. */
static long right_bytes(struct cache *c, uint64_t cid)
{
	uint8_t *want = malloc(SIZE), *got = malloc(SIZE);
	struct content *content;
	long sum = 0;

	fill(want, cid);
	if (content_open(cache_blocks(c), cid, SIZE, &content))
		return -2;
	for (uint64_t off = 0; off < SIZE && sum >= 0;) {
		int fd;
		uint64_t n = content_pin(content, off, SIZE - off, &fd);

		if (!n) {
			off += CACHE_BLOCK;
			continue;
		}
		if (pread(fd, got, n, (off_t)off) != (ssize_t)n ||
		    memcmp(got, want + off, n))
			sum = -1;
		else
			sum += (long)n;
		content_unpin(content, off, n);
		off += n;
	}
	content_put(content);
	free(want);
	free(got);
	return sum;
}

static void test_restart(void)
{
	struct cache *c;

	CASE("content survives a restart");
	set_boot_id("one");
	c = open_cache(0);
	CHECK_INT(put(c, 100), 0);
	CHECK_INT(right_bytes(c, 100), SIZE);
	CHECK_INT(right_bytes(c, 101), 0);
	cache_close(c);
	c = open_cache(0);
	CHECK_INT(right_bytes(c, 100), SIZE);
	cache_close(c);
}

/* The only data file of a cid, by its name in hex. */
static void damage_data(void)
{
	char path[512], sub[512];
	struct dirent *e, *g;
	DIR *d, *s;

	snprintf(path, sizeof(path), "%s/cache/data", dir);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%.300s/%.100s", path, e->d_name);
		s = opendir(sub);
		while (s && (g = readdir(s))) {
			char file[1024];
			int fd;

			if (g->d_name[0] == '.')
				continue;
			snprintf(file, sizeof(file), "%.500s/%.100s", sub,
				 g->d_name);
			fd = open(file, O_WRONLY);
			CHECK_INT(pwrite(fd, "damage", 6, CACHE_BLOCK + 5), 6);
			close(fd);
		}
		if (s)
			closedir(s);
	}
	if (d)
		closedir(d);
}

/* Ends a holder without a clean stop: in a child that just exits. */
static void die_holding(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct cache *c = open_cache(0);

		if (put(c, 200) || meta_flush(cache_meta(c)))
			_exit(1);
		_exit(0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

static void test_machine_stop(void)
{
	struct cache *c;
	long n;

	CASE("after a stop of the machine every block is verified");
	set_boot_id("two");
	die_holding();
	damage_data();
	set_boot_id("three");
	c = open_cache(0);
	n = right_bytes(c, 200);
	CHECK(n >= 0 && n < SIZE);
	cache_close(c);
}

static void test_damaged_database(void)
{
	char path[64];
	struct cache *c;
	int fd;

	CASE("a damaged database is an empty cache");
	snprintf(path, sizeof(path), "%s/cache/cache.mdb", dir);
	fd = open(path, O_WRONLY);
	for (off_t at = 0; at < 65536; at += 64)
		CHECK(pwrite(fd, "garbage!", 8, at) == 8);
	close(fd);
	c = open_cache(0);
	CHECK_INT(right_bytes(c, 100), 0);
	CHECK_INT(put(c, 300), 0);
	CHECK_INT(right_bytes(c, 300), SIZE);
	cache_close(c);
}

static void test_limit(void)
{
	struct cache_stats stats;
	struct cache *c = open_cache(16 << 20);
	bool held = true;
	long wrong = 0;

	CASE("the limit holds at every moment");
	for (uint64_t cid = 1000; cid < 1100; cid++) {
		if (put(c, cid))
			continue;
		cache_stats_get(c, &stats);
		held &= stats.data_bytes + stats.map_bytes <= 16 << 20;
		wrong += right_bytes(c, cid) < 0;
	}
	CHECK(held);
	CHECK_INT(wrong, 0);
	CHECK(right_bytes(c, 1099) == SIZE);
	cache_close(c);
}

static unsigned calls, fail_at;
static struct fsio_ops failing;

static ssize_t failing_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	if (++calls == fail_at)
		return -ENOSPC;
	return fsio_system.pwrite(fd, buf, n, off);
}

static int failing_open(const char *path, int flags, mode_t mode)
{
	if (flags & O_CREAT && ++calls == fail_at)
		return -ENOSPC;
	return fsio_system.open(path, flags, mode);
}

static void test_disk_full(void)
{
	struct cache *c = open_cache(0);
	bool right = true;

	CASE("a full disk at any write is a miss");
	failing = fsio_system;
	failing.pwrite = failing_pwrite;
	failing.open = failing_open;
	fsio_replace(&failing);
	for (fail_at = 1; fail_at < 40; fail_at++) {
		calls = 0;
		for (uint64_t cid = 0; cid < 3; cid++) {
			int err = put(c, 5000 + fail_at * 10 + cid);

			right &= err == 0 || err == -ENOSPC;
			right &= right_bytes(c, 5000 + fail_at * 10 + cid) >= 0;
		}
	}
	fsio_replace(NULL);
	CHECK(right);
	CHECK_INT(put(c, 9999), 0);
	CHECK_INT(right_bytes(c, 9999), SIZE);
	cache_close(c);
}

static void test_lock(void)
{
	struct cache_config config = { .identity = "test" };
	struct cache *c = open_cache(0), *other;
	char folder[64];

	CASE("a folder has one holder");
	snprintf(folder, sizeof(folder), "%s/cache", dir);
	config.dir = folder;
	CHECK_INT(cache_open(&config, &other, why, sizeof(why)), -EBUSY);
	CHECK(strstr(why, "in use"));
	cache_close(c);
}

static void test_names_after_death(void)
{
	struct meta_rec rec = { .kind = META_FILE, .etag = "e1", .size = 5 };
	struct meta_dir md;
	struct cache *c;
	uint32_t gen;
	int status;
	pid_t pid;

	CASE("what a writer that died knew is not believed");
	c = open_cache(0);
	cache_close(c);
	pid = fork();
	if (pid == 0) {
		c = open_cache(0);
		rec.checked_ns = clock_wall_ns();
		if (meta_dir_begin(cache_meta(c), 77, &gen) ||
		    meta_put(cache_meta(c), 77, "a", &rec, NULL) ||
		    meta_dir_end(cache_meta(c), 77, gen, clock_wall_ns(), 0) ||
		    meta_flush(cache_meta(c)))
			_exit(1);
		_exit(0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	c = open_cache(0);
	CHECK_INT(meta_dir_get(cache_meta(c), 77, &md), 0);
	CHECK_INT(md.complete_ns, 0);
	CHECK_INT(meta_get(cache_meta(c), 77, "a", &rec), 0);
	CHECK_INT(rec.checked_ns, 0);
	meta_rec_release(&rec);
	cache_close(c);
}

static void test_folder_changed(void)
{
	struct cache *c = open_cache(0);
	struct meta *m = cache_meta(c);
	struct meta_dir md;
	uint32_t gen;

	CASE("when a folder was changed outlives listings and a restart");
	CHECK_INT(meta_dir_get(m, 99, &md), 0);
	CHECK_INT(md.changed_ns, 0);
	CHECK_INT(meta_dir_changed(m, 99, 1234567890123456789), 0);
	CHECK_INT(meta_dir_begin(m, 99, &gen), 0);
	CHECK_INT(meta_dir_end(m, 99, gen, clock_wall_ns(), 3), 0);
	CHECK_INT(meta_dir_get(m, 99, &md), 0);
	CHECK_INT(md.hidden, 3);
	CHECK_INT(md.changed_ns, 1234567890123456789);
	CHECK_INT(meta_dir_forget(m, 99), 0);
	cache_close(c);
	c = open_cache(0);
	CHECK_INT(meta_dir_get(cache_meta(c), 99, &md), 0);
	CHECK_INT(md.changed_ns, 1234567890123456789);
	cache_close(c);
}

static void test_staged_names(void)
{
	struct meta_rec rec = { .kind = META_FILE, .flags = META_STAGED };
	struct meta_entry page[1];
	struct cache *c = open_cache(0);
	struct meta *m = cache_meta(c);
	uint32_t gen;

	CASE("a listing leaves names alone that wait for their upload");
	memset(page, 0, sizeof(page));
	strcpy(page[0].name, "other");
	page[0].rec.kind = META_FILE;
	page[0].rec.checked_ns = rec.checked_ns = clock_wall_ns();
	CHECK_INT(meta_put(m, 88, "mine", &rec, NULL), 0);
	CHECK_INT(meta_dir_begin(m, 88, &gen), 0);
	CHECK_INT(meta_dir_page(m, 88, gen, page, 1), 0);
	CHECK_INT(meta_dir_end(m, 88, gen, clock_wall_ns(), 0), 0);
	CHECK_INT(meta_get(m, 88, "mine", &rec), 0);
	CHECK(rec.flags & META_STAGED);
	CHECK_INT(meta_move(m, 88, "mine", 89, "moved", clock_wall_ns()), 0);
	CHECK_INT(meta_get(m, 89, "moved", &rec), 0);
	CHECK_INT(meta_get(m, 88, "mine", &rec), 0);
	CHECK_INT(rec.kind, META_ABSENT);
	cache_close(c);
}

static void test_model(void)
{
	enum { NAMES = 40 };
	uint64_t size[NAMES] = { 0 }, ino[NAMES] = { 0 };
	struct cache *c = open_cache(0);
	bool same = true;

	CASE("names agree with a model, also across restarts");
	rand_seed(3);
	for (int step = 0; step < 4000; step++) {
		unsigned k = (unsigned)rand_below(NAMES);
		struct meta_rec rec = { .kind = META_FILE };
		char name[16];

		snprintf(name, sizeof(name), "n%u", k);
		switch (rand_below(4)) {
		case 0:
			rec.size = size[k] = 1 + rand_below(1000);
			rec.checked_ns = clock_wall_ns();
			same &= !meta_put(cache_meta(c), 99, name, &rec, &rec);
			same &= !ino[k] || rec.ino == ino[k];
			ino[k] = rec.ino;
			break;
		case 1:
			same &= !meta_del(cache_meta(c), 99, name);
			size[k] = ino[k] = 0;
			break;
		default:
			if (meta_get(cache_meta(c), 99, name, &rec))
				rec.size = 0;
			same &= rec.size == size[k];
		}
		if (step % 1000 == 999) {
			cache_close(c);
			c = open_cache(0);
		}
	}
	CHECK(same);
	cache_close(c);
}

int main(void)
{
	char command[128];

	signal(SIGIO, SIG_IGN); /* fsio_ops.is_used */
	if (!mkdtemp(dir))
		return 1;
	test_restart();
	test_machine_stop();
	test_damaged_database();
	test_limit();
	test_disk_full();
	test_lock();
	test_names_after_death();
	test_folder_changed();
	test_staged_names();
	test_model();
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	CHECK_INT(system(command), 0);
	return check_done();
}
