#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fsio.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/rand.h"
#include "base/task.h"
#include "check.h"

static void test_buf(void)
{
	struct buf b;

	CASE("buf: grows to its ceiling and no further");
	buf_init(&b, 10);
	buf_addf(&b, "%s", "01234567");
	CHECK_INT(b.len, 8);
	buf_addstr(&b, "abc");
	CHECK(b.failed);
	CHECK_STR(b.data, "01234567");
	buf_reset(&b);
	buf_addch(&b, 'x');
	CHECK(!b.failed);
	CHECK_STR(b.data, "x");
	buf_release(&b);
}

static void test_crc(void)
{
	char text[] = "123456789";
	uint32_t crc[16];
	uint8_t data[700];

	CASE("crc32c: the check value, and chaining");
	CHECK_INT(crc32c(0, text, 9), 0xE3069283);
	CHECK_INT(crc32c(crc32c(0, text, 4), text + 4, 5), 0xE3069283);
	CHECK_INT(crc32c(0, "", 0), 0);
	CASE("crc32c: many blocks are as one by one");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 3);
	for (size_t n = 0; n <= sizeof(data); n += 13)
		for (size_t block = 61; block < 80; block += 3) {
			crc32c_blocks(data, n, block, crc);
			for (size_t at = 0; at < n; at += block)
				CHECK_INT(crc[at / block],
					  crc32c(0, data + at,
						 n - at < block ? n - at :
								  block));
		}
}

struct item {
	struct map_node node;
	uint64_t key;
};

static bool item_equal(const struct map_node *n, const void *key)
{
	return container_of(n, struct item, node)->key ==
	       *(const uint64_t *)key;
}

static void free_item(struct map_node *n, void *arg)
{
	map_remove(arg, n);
	free(container_of(n, struct item, node));
}

static bool sum_three(struct map_node *n, void *arg)
{
	uint64_t *sum = arg;

	sum[0] += container_of(n, struct item, node)->key;
	return ++sum[1] % 3;
}

static void test_sweep(void)
{
	struct item items[6] = { { .key = 0 } };
	uint64_t sum[2] = { 0 };
	size_t hand = 0;
	struct map m;

	CASE("map: a sweep goes on where it stopped, and goes round");
	map_init(&m, item_equal);
	map_sweep(&m, &hand, sum_three, sum);
	CHECK_INT(sum[1], 0);
	for (uint64_t k = 0; k < 6; k++) {
		items[k].key = k;
		map_insert(&m, &items[k].node, k); /* a slot each */
	}
	map_sweep(&m, &hand, sum_three, sum);
	CHECK_INT(sum[0], 0 + 1 + 2);
	map_sweep(&m, &hand, sum_three, sum);
	CHECK_INT(sum[0], 0 + 1 + 2 + 3 + 4 + 5);
	map_sweep(&m, &hand, sum_three, sum);
	CHECK_INT(sum[0], 0 + 1 + 2 + 3 + 4 + 5 + 0 + 1 + 2);
	CHECK_INT(sum[1], 9);
	map_release(&m);
}

static void test_map(void)
{
	struct map m;
	uint64_t k;

	CASE("map: 10,000 in, half out, the rest found");
	map_init(&m, item_equal);
	for (k = 0; k < 10000; k++) {
		struct item *i = xcalloc(1, sizeof(*i));

		i->key = k;
		map_insert(&m, &i->node, hash_u64(k));
	}
	for (k = 0; k < 10000; k += 2) {
		struct map_node *n = map_find(&m, hash_u64(k), &k);

		CHECK(n != NULL);
		free_item(n, &m);
	}
	CHECK_INT(m.count, 5000);
	for (k = 0; k < 10000; k++)
		CHECK(!map_find(&m, hash_u64(k), &k) == !(k % 2));
	map_each(&m, free_item, &m);
	CHECK_INT(m.count, 0);
	map_release(&m);
}

static void test_pool(void)
{
	struct pool *p = pool_create(100);
	struct chunk *a = pool_try(p, 60), *b;

	CASE("pool: the ceiling holds for try, not for force");
	CHECK(a != NULL);
	CHECK(pool_try(p, 60) == NULL);
	b = pool_force(p, 60);
	CHECK_INT(pool_used(p), 120);
	chunk_put(b);
	CHECK(pool_get(p, 60, 10) == NULL);
	chunk_ref(a);
	chunk_put(a);
	CHECK_INT(pool_used(p), 60);
	chunk_put(a);
	a = pool_get(p, 500, 10);
	CHECK(a != NULL);
	chunk_put(a);
	CHECK_INT(pool_used(p), 0);
	pool_destroy(p);
}

static void test_pool_reuse(void)
{
	size_t n = 3 << 20;
	struct pool *p = pool_create(4 * n);
	struct chunk *a = pool_try(p, n), *b = pool_try(p, n), *c;
	uint8_t *was = b->data;

	CASE("pool: large buffers are used again, in the budget");
	a->data[n - 1] = b->data[n - 1] = 1;
	chunk_put(b);
	b = pool_try(p, n);
	CHECK(b->data == was);
	chunk_put(b);
	c = pool_try(p, 3 * n); /* room for it only without what is kept */
	CHECK(c != NULL);
	CHECK_INT(pool_used(p), 4 * n);
	CHECK(pool_try(p, 1) == NULL);
	chunk_put(c);
	chunk_put(a);
	pool_destroy(p); /* checks that nothing is kept */
}

static void test_pool_sizes(void)
{
	struct pool *p = pool_create(64 << 20);
	struct chunk *a = pool_try(p, 1000000), *b = pool_try(p, 1000000);
	uint8_t *was = b->data;

	CASE("pool: objects of about one size share buffers");
	CHECK(a->cap >= 1000000 && a->cap <= 1125000);
	CHECK_INT(pool_used(p), a->cap + b->cap);
	chunk_put(b);
	b = pool_try(p, 990000);
	CHECK(b->data == was);
	chunk_put(b);
	b = pool_try(p, 500000);
	CHECK(b->data != was && b->cap >= 500000 && b->cap <= 562500);
	chunk_put(b);
	chunk_put(a);
	CHECK_INT(pool_used(p), 0);
	pool_destroy(p);
}

static atomic_uint ran;

static void run_task(struct task *t)
{
	atomic_fetch_add(&ran, 1);
	free(t);
}

static void test_tasks(void)
{
	struct tasks *ts = tasks_create("test", 8);

	CASE("tasks: destroy runs what was submitted");
	for (int i = 0; i < 1000; i++) {
		struct task *t = xcalloc(1, sizeof(*t));

		t->run = run_task;
		tasks_submit(ts, t);
	}
	tasks_destroy(ts);
	CHECK_INT(atomic_load(&ran), 1000);
}

static uint64_t fixed_mono(void)
{
	return 5000000;
}

static int64_t fixed_wall(void)
{
	return 1000000000;
}

static void test_seams(void)
{
	static const struct clock_ops fixed = { fixed_mono, fixed_wall };
	uint64_t a, b;

	CASE("clock and rand can be replaced");
	clock_replace(&fixed);
	CHECK_INT(clock_mono_ms(), 5);
	CHECK_INT(clock_boot_ns(), 5000000);
	CHECK_INT(clock_wall_s(), 1);
	clock_replace(NULL);
	CHECK(clock_wall_s() > 1700000000);
	rand_seed(7);
	a = rand_u64();
	rand_seed(7);
	b = rand_u64();
	CHECK(a == b);
	for (int i = 0; i < 1000; i++)
		CHECK(rand_below(10) < 10);
}

static ssize_t full_disk(int fd, const void *p, size_t n, off_t off)
{
	return -ENOSPC;
}

static void test_fsio(void)
{
	char dir[] = "/tmp/r2fs-unit-XXXXXX", path[64], back[8] = "";
	struct fsio_ops broken = fsio_system;
	int fd;

	CASE("fsio: reads back what it wrote; a replaced call is used");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/a/b", dir);
	CHECK_INT(fsio_mkdirs(path), 0);
	CHECK_INT(fsio_mkdirs(path), 0);
	snprintf(path, sizeof(path), "%s/a/b/f", dir);
	fd = fsio()->open(path, 0102, 0600);
	CHECK(fd >= 0);
	CHECK_INT(fsio()->pwrite(fd, "hello", 5, 2), 5);
	CHECK_INT(fsio()->pread(fd, back, 7, 0), 7);
	CHECK_STR(back + 2, "hello");
	broken.pwrite = full_disk;
	fsio_replace(&broken);
	CHECK_INT(fsio()->pwrite(fd, "x", 1, 0), -ENOSPC);
	fsio_replace(NULL);
	close(fd);
	CHECK_INT(fsio()->unlink(path), 0);
	CHECK_INT(fsio()->unlink(path), -ENOENT);
}

static void test_log(void)
{
	char path[] = "/tmp/r2fs-log-XXXXXX", text[65536];
	int fd = mkstemp(path);
	unsigned lines = 0;
	ssize_t n;

	CASE("log: one line per event, floods are cut, levels hold");
	CHECK_INT(log_open(path, LOG_LEVEL_INFO), 0);
	for (int i = 0; i < 100; i++)
		log_info("test", "line\nbroken %d", i);
	log_debug("test", "not shown");
	log_close();
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	for (char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	CHECK(lines >= LOG_RATE_BURST && lines <= 2 * LOG_RATE_BURST + 2);
	CHECK(!strstr(text, "not shown"));
	CHECK(strstr(text, " INFO test: line broken 0"));
	close(fd);
	unlink(path);
}

static void test_bug(void)
{
	char path[] = "/tmp/r2fs-log-XXXXXX", text[4096];
	int fd = mkstemp(path), status = 0;
	ssize_t n;
	pid_t child;

	CASE("a broken invariant is in the log, and the end");
	child = fork();
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		if (log_open(path, LOG_LEVEL_ERROR) == 0)
			BUG("%d is no answer", 42);
		_exit(1);
	}
	CHECK_INT(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	CHECK(strstr(text, " ERROR r2fs: BUG at "));
	CHECK(strstr(text, "test_base.c:"));
	CHECK(strstr(text, ": 42 is no answer\n"));
	close(fd);
	unlink(path);
}

int main(void)
{
	test_buf();
	test_crc();
	test_map();
	test_sweep();
	test_pool();
	test_pool_reuse();
	test_pool_sizes();
	test_tasks();
	test_seams();
	test_fsio();
	test_log();
	test_bug();
	return check_done();
}
