/* Cached content: presence, pins, limits, faults of the disk, and random
 * operations against what the bytes must be. */
#include <pthread.h>
#include <sys/mman.h>

#include "cachetest.h"

#include "cache/block.h"

enum { KB = 1024, MB = 1024 * 1024 };

/* ---- bytes that tell where they belong ---- */

static uint8_t *bytes_of(uint64_t cid, uint64_t off, size_t n)
{
	uint64_t *p = malloc(n + 16);

	for (size_t i = 0; i < n / 8 + 1; i++)
		p[i] = hash_u64(cid << 40 ^ (off / 8 + i)) | 1;
	return (uint8_t *)p;
}

static int put(struct content *c, uint64_t off, size_t n)
{
	uint8_t *data;
	int err;

	if (off + n > content_size(c))
		n = content_size(c) - off;
	data = bytes_of(content_cid(c), off, n);
	err = content_write(c, off, data, n);
	free(data);
	return err;
}

/* Reads what can be pinned from off on; SIZE_MAX if a byte is wrong. */
static size_t get(struct content *c, uint64_t off, size_t len)
{
	int fd;
	uint64_t n = content_pin(c, off, len, &fd);
	uint8_t *want, *got;
	ssize_t r;

	if (!n)
		return 0;
	want = bytes_of(content_cid(c), off - off % 8, n + 8);
	got = malloc(n);
	r = pread(fd, got, n, (off_t)off);
	content_unpin(c, off, n);
	if (r != (ssize_t)n || memcmp(got, want + off % 8, n) != 0)
		n = SIZE_MAX;
	free(want);
	free(got);
	return n;
}

static struct content *open_cid(struct cache *cache, uint64_t cid,
				uint64_t size)
{
	struct content *c;

	CHECK(content_open(cache_blocks(cache), cid, size, &c) == 0);
	return c;
}

static uint64_t data_bytes(struct cache *cache)
{
	struct cache_stats st;

	cache_stats_get(cache, &st);
	return st.data_bytes;
}

static const char *degraded(struct cache *cache)
{
	struct cache_stats st;

	cache_stats_get(cache, &st);
	return st.degraded;
}

/* ---- the map ---- */

static void test_presence(void)
{
	const uint64_t size = 9 * MB + 5;
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, size), *same;

	CASE("blocks are present once written");
	CHECK_INT(content_present(c, 0, size), 0);
	CHECK_INT(get(c, 0, 10), 0);
	CHECK_INT(put(c, 0, 128 * KB), 0);
	CHECK_INT(put(c, 4 * MB - 64 * KB, 128 * KB), 0);
	CHECK_INT(content_present(c, 3, size), 128 * KB - 3);
	CHECK_INT(content_present(c, 3, 5), 5);
	CHECK_INT(content_present(c, 128 * KB, 5), 0);
	CHECK_INT(content_present(c, 70 * KB, size), 58 * KB);
	CHECK_INT(content_present(c, 4 * MB - 1, size), 64 * KB + 1);
	CHECK_INT(get(c, 0, size), 128 * KB);
	CHECK_INT(get(c, 4 * MB - 7, size), 64 * KB + 7);
	CHECK(!content_complete(c));

	CASE("what is present is found without looking at all that is not");
	CHECK_INT(put(c, 9 * MB - 64 * KB, 64 * KB), 0);
	CHECK_INT(content_next(c, 5), 5);
	CHECK_INT(content_next(c, 128 * KB), 4 * MB - 64 * KB);
	CHECK_INT(content_next(c, 130 * KB), 4 * MB - 64 * KB);
	CHECK_INT(content_next(c, 4 * MB + 64 * KB), 9 * MB - 64 * KB);
	CHECK_INT(content_next(c, 9 * MB), size);
	CHECK_INT(content_next(c, size), size);

	CASE("a content is complete with its last, short block");
	CHECK_INT(put(c, 0, 9 * MB), 0);
	CHECK(!content_complete(c));
	CHECK_INT(content_present(c, 0, size), 9 * MB);
	CHECK_INT(put(c, 9 * MB, 5), 0);
	CHECK(content_complete(c));
	CHECK_INT(content_present(c, 0, size), size);
	CHECK_INT(get(c, 1, UINT32_MAX), size - 1);
	CHECK_INT(get(c, size, 1), 0);
	CHECK_INT(data_bytes(cache), 9 * MB + 4096);

	CASE("a handle is shared");
	same = open_cid(cache, 1, size);
	CHECK(same == c);
	content_put(same);
	content_ref(c);
	content_put(c);
	content_put(c);
	c = open_cid(cache, 1, size);
	CHECK(content_complete(c));
	content_put(c);
	c = open_cid(cache, 2, 0);
	CHECK(content_complete(c));
	CHECK_INT(get(c, 0, 1), 0);
	content_put(c);
	cache_close(cache);
}

/* ---- limits ---- */

static void test_budget(void)
{
	const uint64_t max = 32 * MB;
	struct cache *cache = open_new(max);
	bool below = true, sound = true;

	CASE("the cache never takes more than --cache-size");
	for (uint64_t cid = 1; cid < 40; cid++) {
		struct content *c = open_cid(cache, cid, 5 * MB + 1);

		CHECK_INT(put(c, 0, 5 * MB + 1), 0);
		sound &= get(c, 0, 5 * MB + 1) != SIZE_MAX;
		below &= du("") <= max;
		below &= du("data") <= data_bytes(cache);
		content_put(c);
	}
	CHECK(below);
	CHECK(sound);
	CHECK(data_bytes(cache) > max / 2);
	CHECK(!degraded(cache));

	CASE("a file larger than the cache passes through it");
	struct content *big = open_cid(cache, 100, 100 * MB);
	for (uint64_t off = 0; off < 100 * MB; off += MB) {
		CHECK_INT(put(big, off, MB), 0);
		CHECK_INT(get(big, off, MB), MB);
		below &= du("") <= max;
	}
	CHECK(below);
	content_put(big);

	CASE("a smaller --cache-size holds at once");
	test_config.max_bytes = 16 * MB;
	cache = reopen(cache);
	CHECK(du("") <= 16 * MB);
	cache_close(cache);
}

static void test_never_fits(void)
{
	struct cache *cache = open_new(3 * MB);
	struct content *c = open_cid(cache, 1, MB), *big;

	CASE("a write that can never fit evicts nothing");
	CHECK_INT(put(c, 0, MB), 0);
	big = open_cid(cache, 2, 4 * MB);
	CHECK_INT(put(big, 0, 4 * MB), -ENOSPC);
	CHECK_INT(get(c, 0, MB), MB);
	CHECK_INT(put(big, 0, MB), 0);
	content_put(c);
	content_put(big);
	cache_close(cache);
}

static void test_epochs(void)
{
	enum { ITEMS = 96, EPOCHS = 8, SIZE = 256 * KB };
	struct cache *cache = open_new(ITEMS / 2 * SIZE + MB);
	unsigned hits = 0, asked = 0;

	CASE("epochs over twice the cache hit 0.45");
	for (unsigned i = 0; i < EPOCHS * ITEMS; i++) {
		struct content *c = open_cid(cache, 1 + i % ITEMS, SIZE);
		bool hit = content_present(c, 0, SIZE) == SIZE;

		asked += i >= ITEMS;
		hits += i >= ITEMS && hit;
		if (!hit)
			CHECK_INT(put(c, 0, SIZE), 0);
		CHECK_INT(get(c, 0, SIZE), SIZE);
		content_put(c);
	}
	printf("# %.3f\n", (double)hits / asked);
	CHECK(hits >= asked * 0.45);
	cache_close(cache);
}

static void test_min_free(void)
{
	struct cache *cache = open_new(0);
	bool below = true;

	CASE("--min-free is left free");
	fault_disk(40 * MB);
	test_config.min_free = 10 * MB;
	cache = reopen(cache);
	for (uint64_t cid = 1; cid < 40; cid++) {
		struct content *c = open_cid(cache, cid, 3 * MB);

		CHECK_INT(put(c, 0, 3 * MB), 0);
		CHECK_INT(get(c, 0, 3 * MB), 3 * MB);
		below &= du("") <= 30 * MB;
		content_put(c);
	}
	CHECK(below);

	CASE("when others fill the disk, the cache shrinks and says why");
	fault_disk(10 * MB);
	struct content *c = open_cid(cache, 50, MB);
	CHECK_INT(put(c, 0, MB), -ENOSPC);
	CHECK(degraded(cache) != NULL);
	CHECK_INT(data_bytes(cache), 0);
	fault_disk(40 * MB);
	CHECK_INT(put(c, 0, MB), 0);
	CHECK(!degraded(cache));
	CHECK_INT(get(c, 0, MB), MB);
	content_put(c);
	cache_close(cache);
}

static void test_pins(void)
{
	struct cache *cache = open_new(16 * MB);
	struct content *c = open_cid(cache, 1, 6 * MB), *other;
	int fd;

	CASE("what is pinned stays");
	CHECK_INT(put(c, 0, 6 * MB), 0);
	CHECK_INT(content_pin(c, 5 * MB, 10, &fd), 10);
	for (uint64_t cid = 2; cid < 20; cid++) {
		other = open_cid(cache, cid, 4 * MB);
		CHECK_INT(put(other, 0, 4 * MB), 0);
		content_put(other);
	}
	CHECK_INT(get(c, 4 * MB, 2 * MB), 2 * MB);
	CHECK_INT(get(c, 0, 2 * MB), 0);
	content_unpin(c, 5 * MB, 10);
	for (uint64_t cid = 2; cid < 40; cid++) {
		other = open_cid(cache, cid, 4 * MB);
		CHECK_INT(put(other, 0, 4 * MB), 0);
		content_put(other);
	}
	CHECK_INT(get(c, 4 * MB, 2 * MB), 0);

	CASE("when all is pinned, nothing new is kept");
	struct content *big = open_cid(cache, 99, 60 * MB);
	unsigned pinned = 0;
	for (; pinned < 15 && !put(big, pinned * 4ull * MB, 4 * MB); pinned++)
		CHECK_INT(content_pin(big, pinned * 4ull * MB, 1, &fd), 1);
	CHECK(pinned >= 2 && pinned < 5);
	CHECK(du("") <= 16 * MB);
	CHECK(degraded(cache) != NULL);
	for (unsigned i = 0; i < pinned; i++)
		content_unpin(big, i * 4ull * MB, 1);
	CHECK_INT(put(big, pinned * 4ull * MB, 4 * MB), 0);
	content_put(big);
	content_put(c);
	cache_close(cache);
}

/* ---- readers of the file itself ---- */

static void fill_with_others(struct cache *cache, uint64_t from, uint64_t to)
{
	for (uint64_t cid = from; cid < to; cid++) {
		struct content *c = open_cid(cache, cid, 4 * MB);

		CHECK_INT(put(c, 0, 4 * MB), 0);
		content_put(c);
	}
}

static void check_map(const uint8_t *map, uint64_t cid, size_t n)
{
	uint8_t *want = bytes_of(cid, 0, n);

	CHECK(memcmp(map, want, n) == 0);
	free(want);
}

static void test_keep(void)
{
	struct cache *cache = open_new(16 * MB);
	struct content *c = open_cid(cache, 1, 5 * MB + 100);
	uint8_t *map;
	int fd, fd2;

	CASE("only what is wholly there can be kept");
	CHECK_INT(content_keep(c, &fd), -EAGAIN);
	CHECK_INT(put(c, 0, 5 * MB), 0);
	CHECK_INT(content_keep(c, &fd), -EAGAIN);
	CHECK_INT(put(c, 5 * MB, MB), 0);
	CHECK_INT(content_keep(c, &fd), 0);

	CASE("what is kept stays");
	map = mmap(NULL, 5 * MB, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	fill_with_others(cache, 2, 20);
	CHECK(content_complete(c));

	CASE("a mapping that is left keeps it too");
	content_unkeep(c);
	content_put(c);
	fill_with_others(cache, 20, 40);
	check_map(map, 1, 5 * MB);
	c = open_cid(cache, 1, 5 * MB + 100);
	CHECK(content_complete(c));

	CASE("when the last is gone, it may go");
	munmap(map, 5 * MB);
	content_put(c);
	c = open_cid(cache, 50, 60 * MB);
	CHECK_INT(put(c, 0, 4 * MB), 0);
	CHECK_INT(content_pin(c, 0, 1, &fd), 1);
	CHECK_INT(put(c, 4 * MB, 4 * MB), 0);
	CHECK_INT(content_pin(c, 4 * MB, 1, &fd2), 1);
	CHECK_INT(put(c, 8 * MB, 4 * MB), 0);
	content_unpin(c, 0, 1);
	content_unpin(c, 4 * MB, 1);
	content_put(c);
	c = open_cid(cache, 1, 5 * MB + 100);
	CHECK(!content_complete(c));
	content_put(c);
	CHECK(du("") <= 16 * MB);
	cache_close(cache);
}

static void test_keep_verified(void)
{
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, MB);
	int fd;

	CASE("what was not verified since a crash is not kept");
	CHECK_INT(put(c, 0, MB), 0);
	content_put(c);
	cache_close(cache);
	set_boot("second");
	cache = reopen(NULL);
	c = open_cid(cache, 1, MB);
	CHECK_INT(content_keep(c, &fd), -EAGAIN);
	CHECK_INT(get(c, 0, MB), MB);
	CHECK_INT(content_keep(c, &fd), 0);
	content_unkeep(c);
	content_put(c);
	cache_close(cache);
}

static void test_detach(void)
{
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, 5 * MB);
	uint8_t byte = 0;
	int fd, own;

	CASE("a file that is taken out is the taker's");
	CHECK_INT(put(c, 0, 5 * MB), 0);
	CHECK_INT(content_keep(c, &fd), 0);
	CHECK_INT(content_keep(c, &fd), 0);
	CHECK_INT(content_detach(c), -EBUSY);
	content_unkeep(c);
	own = content_detach(c);
	CHECK(own >= 0);
	CHECK_INT(content_present(c, 0, 5 * MB), 0);
	CHECK_INT(pwrite(own, "x", 1, 100), 1);
	CHECK_INT(put(c, 0, 5 * MB), 0);
	CHECK_INT(get(c, 0, 5 * MB), 5 * MB);
	CHECK_INT(pread(own, &byte, 1, 100), 1);
	CHECK_INT(byte, 'x');
	close(own);
	content_put(c);
	cache_close(cache);
}

/* ---- faults ---- */

static void test_write_faults(void)
{
	static const struct {
		enum call call;
		int error;
	} rows[] = {
		{ PWRITE, -ENOSPC }, { PWRITE, -EDQUOT }, { PWRITE, -EIO },
		{ PWRITE, -EROFS },  { OPEN, -EROFS },	  { OPEN, -EMFILE },
		{ OPEN, -ENOSPC },   { OPEN, -EACCES },
	};

	CASE("a write that fails keeps nothing, says why, and heals");
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cache *cache = open_new(0);
		struct content *c = open_cid(cache, 1, 3 * MB);

		fault_set(rows[i].call, rows[i].error, 0);
		fault.partial = i % 2;
		CHECK_INT(put(c, 0, 3 * MB), rows[i].error);
		CHECK_INT(get(c, 0, 3 * MB), 0);
		CHECK(degraded(cache) != NULL);
		no_faults();
		CHECK_INT(du("data"), 0);
		CHECK_INT(put(c, 0, 3 * MB), 0);
		CHECK_INT(get(c, 0, 3 * MB), 3 * MB);
		CHECK(!degraded(cache));
		content_put(c);
		cache_close(cache);
	}
}

static void test_partial_write(void)
{
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, 3 * MB);

	CASE("a torn write leaves what was there, and no room lost");
	CHECK_INT(put(c, MB, MB), 0);
	fault_set(PWRITE, -EIO, 0);
	fault.partial = true;
	CHECK_INT(put(c, 0, 3 * MB), -EIO);
	no_faults();
	CHECK_INT(get(c, MB, MB), MB);
	CHECK_INT(get(c, 0, MB), 0);
	CHECK_INT(du("data"), MB);
	content_put(c);
	cache_close(cache);
}

static void test_quota(void)
{
	struct cache *cache = open_new(0);
	struct content *c;

	CASE("a full disk that statfs does not show means evictions");
	for (uint64_t cid = 1; cid < 9; cid++) {
		c = open_cid(cache, cid, 4 * MB);
		CHECK_INT(put(c, 0, 4 * MB), 0);
		content_put(c);
	}
	c = open_cid(cache, 20, 4 * MB);
	fault_set(PWRITE, -EDQUOT, 0);
	CHECK_INT(put(c, 0, 4 * MB), -EDQUOT);
	CHECK_INT(data_bytes(cache), 28 * MB);
	no_faults();
	content_put(c);
	cache_close(cache);
}

static void test_read_faults(void)
{
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, 3 * MB);
	int fd;

	CASE("bytes that cannot be read are a miss");
	CHECK_INT(put(c, 0, 3 * MB), 0);
	CHECK_INT(content_pin(c, 100 * KB, 10, &fd), 10);
	fault_set(PREAD, -EIO, 0);
	content_unpin(c, 100 * KB, 10);
	content_distrust(c, 100 * KB, 10);
	no_faults();
	CHECK_INT(get(c, 0, 3 * MB), 64 * KB);
	CHECK_INT(get(c, 128 * KB, 3 * MB), 3 * MB - 128 * KB);
	content_distrust(c, 0, 3 * MB);
	CHECK_INT(get(c, 128 * KB, 3 * MB), 3 * MB - 128 * KB);
	CHECK_INT(put(c, 0, 3 * MB), 0);
	CHECK_INT(get(c, 0, 3 * MB), 3 * MB);
	content_put(c);

	CASE("too many open files is a miss, and forgets nothing");
	c = open_cid(cache, 1, 3 * MB);
	fault_set(OPEN, -EMFILE, 0);
	CHECK_INT(get(c, 0, 3 * MB), 0);
	no_faults();
	CHECK_INT(get(c, 0, 3 * MB), 3 * MB);
	content_put(c);

	CASE("a data file that is gone is a miss");
	char path[128];
	snprintf(path, sizeof(path), "%s/cache/data/01/%016x", test_dir, 1);
	CHECK_INT(unlink(path), 0);
	c = open_cid(cache, 1, 3 * MB);
	CHECK_INT(get(c, 0, 3 * MB), 0);
	CHECK_INT(content_present(c, 0, 3 * MB), 0);
	CHECK_INT(data_bytes(cache), 0);
	CHECK_INT(put(c, 0, 3 * MB), 0);
	CHECK_INT(get(c, 0, 3 * MB), 3 * MB);
	content_put(c);

	CASE("a data file cut short is a miss behind the cut");
	CHECK_INT(truncate(path, MB + 10), 0);
	c = open_cid(cache, 1, 3 * MB);
	CHECK_INT(get(c, 0, 3 * MB), MB);
	CHECK_INT(get(c, MB, 3 * MB), 0);
	CHECK_INT(get(c, 2 * MB, 3 * MB), 0);
	content_put(c);
	cache_close(cache);
}

/* The file is as long again as the map says, but with a hole in it. */
static void test_hole(void)
{
	struct cache *cache = open_new(0);
	struct content *c = open_cid(cache, 1, 9 * MB);
	char path[128];

	CASE("a data file cut short that grows again holds no zeros");
	CHECK_INT(put(c, 0, 6 * MB), 0);
	content_put(c);
	cache_close(cache);
	snprintf(path, sizeof(path), "%s/cache/data/01/%016x", test_dir, 1);
	CHECK_INT(truncate(path, MB + 100), 0);
	for (int i = 0; i < 2; i++) {
		cache = reopen(NULL);
		c = open_cid(cache, 1, 9 * MB);
		CHECK_INT(put(c, 8 * MB, MB), 0);
		content_put(c);
		c = open_cid(cache, 1, 9 * MB);
		CHECK_INT(get(c, 0, 9 * MB), MB);
		CHECK_INT(get(c, 2 * MB, MB), 0);
		CHECK_INT(get(c, 5 * MB, MB), 0);
		CHECK_INT(get(c, 8 * MB, MB), MB);
		content_put(c);
		cache_close(cache);
	}
}

static void test_evict_faults(void)
{
	struct cache *cache = open_new(16 * MB);
	size_t n;

	CASE("an eviction that fails keeps the limit and serves no wrong byte");
	fault_set(PUNCH, -EOPNOTSUPP, 0);
	fault_set(UNLINK, -EIO, 0);
	for (uint64_t cid = 1; cid < 12; cid++) {
		struct content *c = open_cid(cache, cid, 6 * MB);

		(void)!put(c, 0, 6 * MB);
		CHECK(du("") <= 16 * MB);
		content_put(c);
	}
	CHECK(degraded(cache) != NULL);
	no_faults();
	for (uint64_t cid = 1; cid < 12; cid++) {
		struct content *c = open_cid(cache, cid, 6 * MB);

		for (uint64_t off = 0; off < 6 * MB; off += MB) {
			n = get(c, off, MB);
			CHECK(n == 0 || n == MB);
		}
		content_put(c);
	}
	cache_close(cache);
}

static void test_no_holes(void)
{
	struct cache *cache = open_new(16 * MB);
	struct content *c = open_cid(cache, 1, 14 * MB);

	CASE("where holes cannot be punched, whole files go");
	CHECK_INT(put(c, 0, 14 * MB), 0);
	content_put(c);
	fault_set(PUNCH, -EOPNOTSUPP, 0);
	for (uint64_t cid = 2; cid < 40; cid++) {
		c = open_cid(cache, cid, 2 * MB);
		CHECK_INT(put(c, 0, 2 * MB), 0);
		CHECK_INT(get(c, 0, 2 * MB), 2 * MB);
		CHECK(du("") <= 16 * MB);
		content_put(c);
	}
	CHECK(!degraded(cache));
	no_faults();
	cache_close(cache);
}

/* ---- random operations ---- */

enum { FILES = 24, STEPS = 4000 };

static uint64_t size_of(uint64_t cid)
{
	static const uint64_t sizes[] = { 1,	  4096,	   65536,  65537,
					  MB - 1, 3 * MB,  4 * MB, 4 * MB + 1,
					  9 * MB, 17 * MB, 2 * KB, 300 * KB };

	return sizes[cid % ARRAY_SIZE(sizes)];
}

static void random_faults(void)
{
	static const int errors[] = { -ENOSPC, -EIO, -EROFS, -EMFILE };

	no_faults();
	if (rand_below(3))
		return;
	for (int i = 0; i < CALLS; i++) {
		if (rand_below(3))
			continue;
		fault_set(i, errors[rand_below(ARRAY_SIZE(errors))],
			  (unsigned)rand_below(4));
	}
	/* Two faults at once may cost room. */
	fault.partial = !fault.error[PUNCH] && !fault.error[UNLINK];
}

static struct cache *random_restart(struct cache *cache, struct content **open)
{
	char boot[32];

	no_faults();
	for (int i = 0; i < FILES; i++) {
		content_put(open[i]);
		open[i] = NULL;
	}
	if (rand_below(2)) {
		snprintf(boot, sizeof(boot), "%d", (int)rand_below(1000));
		set_boot(boot);
	}
	return reopen(cache);
}

static void test_random(void)
{
	struct cache *cache = open_new(24 * MB);
	struct content *open[FILES] = { NULL };
	uint64_t hits = 0;
	bool sound = true, below = true;

	CASE("random operations with faults serve no wrong byte");
	rand_seed(5);
	for (int step = 0; step < STEPS; step++) {
		uint64_t i = rand_below(FILES), size = size_of(i), off;
		size_t n;

		if (!open[i])
			open[i] = open_cid(cache, i + 1, size);
		off = rand_below(size);
		n = rand_below(2 * MB);
		random_faults();
		switch (rand_below(16)) {
		case 0:
			content_put(open[i]);
			open[i] = NULL;
			break;
		case 1:
			if (rand_below(10) == 0)
				cache = random_restart(cache, open);
			break;
		case 2:
			content_distrust(open[i], off, 1);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
		case 7:
			off -= off % CACHE_BLOCK;
			n = (n / CACHE_BLOCK + 1) * CACHE_BLOCK;
			(void)!put(open[i], off, n);
			break;
		default:
			n = get(open[i], off, n);
			sound &= n != SIZE_MAX;
			hits += n > 0;
		}
		no_faults();
		if (step % 50 == 0)
			below &= du("") <= 24 * MB;
	}
	CHECK(sound);
	CHECK(below);
	CHECK(hits > STEPS / 20);
	for (int i = 0; i < FILES; i++)
		content_put(open[i]);
	cache_close(cache);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 300, PIECE = 128 * KB };

static struct cache *shared;
static bool all_sound = true;

static void *work(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t x = hash_u64(seed * 1000 + i), cid = x % 6;
		struct content *c = open_cid(shared, cid + 1, 5 * MB);
		uint64_t off = (x >> 8) % (5 * MB / PIECE) * PIECE;

		if (!get(c, off, PIECE))
			(void)!put(c, off, PIECE);
		if (get(c, off, PIECE) == SIZE_MAX)
			__atomic_store_n(&all_sound, false, __ATOMIC_RELAXED);
		(void)content_complete(c);
		content_put(c);
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t t[THREADS];

	CASE("threads that read, write and evict see right bytes");
	shared = open_new(16 * MB);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, work, (void *)i))
			abort();
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK(all_sound);
	CHECK(du("") <= 16 * MB);
	cache_close(shared);
}

int main(void)
{
	test_start();
	test_presence();
	test_budget();
	test_never_fits();
	test_epochs();
	test_min_free();
	test_pins();
	test_keep();
	test_keep_verified();
	test_detach();
	test_write_faults();
	test_partial_write();
	test_quota();
	test_read_faults();
	test_hole();
	test_evict_faults();
	test_no_holes();
	test_random();
	test_threads();
	return test_end();
}
