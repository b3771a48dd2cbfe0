/* The database file: scopes, growing, limits, damage; and write-behind over
 * it. */
#include <signal.h>
#include <sys/resource.h>

#include "cachetest.h"

#include "cache/batch_impl.h"
#include "cache/kv.h"

static char path[64];

static struct slice text(const char *s)
{
	return (struct slice){ s, strlen(s) };
}

static struct kv *open_kv(uint64_t ceiling)
{
	struct kv *kv = NULL;

	CHECK_INT(kv_open(path, ceiling, true, &kv), 0);
	return kv;
}

static void remove_kv(void)
{
	char lock[80];

	snprintf(lock, sizeof(lock), "%s-lock", path);
	unlink(path);
	unlink(lock);
}

static int put(struct kv *kv, const char *key, const char *val)
{
	struct kv_write w;
	int err = kv_write_begin(kv, &w);

	if (err)
		return err;
	err = kv_put(&w, KV_DENTRY, text(key), text(val));
	if (!err)
		return kv_commit(&w);
	kv_abort(&w);
	return err;
}

/* The value as text, "" if there is none, NULL on an error. */
static const char *get(struct kv *kv, const char *key)
{
	static char out[256];
	struct kv_read r;
	struct slice v;
	int err;

	if (kv_read_begin(kv, &r))
		return NULL;
	err = kv_get(&r, KV_DENTRY, text(key), &v);
	snprintf(out, sizeof(out), "%.*s", err ? 0 : (int)v.n,
		 err ? "" : (const char *)v.p);
	kv_read_end(&r);
	return !err || err == -ENOENT ? out : NULL;
}

static void test_scopes(void)
{
	struct kv *kv = open_kv(1 << 20), *again;
	struct kv_cursor c;
	struct kv_write w;
	struct kv_read r;
	struct slice k, v;

	CASE("what is committed is there, also after reopening");
	CHECK_INT(put(kv, "b", "2"), 0);
	CHECK_INT(put(kv, "a", "1"), 0);
	CHECK_INT(put(kv, "c", ""), 0);
	CHECK_STR(get(kv, "b"), "2");
	CHECK_STR(get(kv, "x"), "");
	kv_close(kv);
	kv = open_kv(1 << 20);
	CHECK_STR(get(kv, "a"), "1");
	CHECK_INT(kv_entries(kv, KV_DENTRY), 3);
	CHECK_INT(kv_entries(kv, KV_DIR), 0);

	CASE("a cursor walks in order from any key");
	CHECK_INT(kv_read_begin(kv, &r), 0);
	CHECK_INT(kv_cursor_open(&r, KV_DENTRY, &c), 0);
	CHECK_INT(kv_cursor_seek(&c, text("aa"), &k, &v), 0);
	CHECK(k.n == 1 && *(const char *)k.p == 'b' && v.n == 1);
	CHECK_INT(kv_cursor_next(&c, &k, &v), 0);
	CHECK(k.n == 1 && *(const char *)k.p == 'c' && v.n == 0);
	CHECK_INT(kv_cursor_next(&c, &k, &v), -ENOENT);
	CHECK_INT(kv_cursor_seek(&c, text("d"), &k, &v), -ENOENT);
	kv_cursor_close(&c);
	kv_read_end(&r);

	CASE("an aborted write leaves nothing");
	CHECK_INT(kv_write_begin(kv, &w), 0);
	CHECK_INT(kv_del(&w, KV_DENTRY, text("a")), 0);
	CHECK_INT(kv_del(&w, KV_DENTRY, text("zzz")), 0);
	CHECK_INT(kv_drop(&w, KV_DENTRY), 0);
	kv_abort(&w);
	CHECK_STR(get(kv, "a"), "1");
	kv_close(kv);
	CHECK(kv_open(test_dir, 1 << 20, true, &again) < 0);
	remove_kv();
}

static void test_growth(void)
{
	const uint64_t ceiling = 80ull << 20;
	struct kv *kv = open_kv(ceiling);
	char *big = calloc(1, 1 << 20), key[32];
	struct kv_write w;
	int err = 0, n = 0;

	CASE("the map grows to its ceiling and then says so");
	for (; n < 200 && !err; n++) {
		snprintf(key, sizeof(key), "%08d", n);
		CHECK_INT(kv_write_begin(kv, &w), 0);
		err = kv_put(&w, KV_DENTRY, text(key),
			     (struct slice){ big, 1 << 20 });
		if (!err) {
			err = kv_commit(&w);
			continue;
		}
		kv_abort(&w);
		if (err == -EFBIG && kv_grow(kv, false) == 0) {
			err = 0;
			n--;
		}
	}
	CHECK_INT(err, -EFBIG);
	CHECK(n > 60 && n <= 80);
	CHECK(kv_file_bytes(kv) <= ceiling);
	CHECK_STR(get(kv, "00000003"), "");
	CHECK_INT(kv_entries(kv, KV_DENTRY), n - 1);
	CHECK_INT(kv_grow(kv, false), -EFBIG);

	CASE("the reserve lets it make room");
	CHECK_INT(kv_grow(kv, true), 0);
	CHECK_INT(kv_write_begin(kv, &w), 0);
	CHECK_INT(kv_drop(&w, KV_DENTRY), 0);
	CHECK_INT(kv_commit(&w), 0);
	CHECK_INT(kv_sync(kv), 0);
	CHECK_INT(kv_entries(kv, KV_DENTRY), 0);
	CHECK_INT(kv_grow(kv, true), -EFBIG);
	kv_close(kv);
	free(big);
	remove_kv();
}

/* ---- damage ---- */

static void fill_kv(unsigned n)
{
	struct kv *kv = open_kv(16 << 20);
	struct kv_write w;
	char key[32];

	CHECK_INT(kv_write_begin(kv, &w), 0);
	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key-%08u", i);
		CHECK_INT(kv_put(&w, KV_DENTRY, text(key), text(key)), 0);
	}
	CHECK_INT(kv_commit(&w), 0);
	kv_close(kv);
}

static void overwrite(off_t at, const void *p, size_t n)
{
	int fd = open(path, O_WRONLY);

	CHECK(pwrite(fd, p, n, at) == (ssize_t)n);
	close(fd);
}

static void test_foreign(void)
{
	char junk[8192];
	struct kv *kv;
	struct stat st;

	CASE("a file that is no database of ours is refused");
	memset(junk, 'x', sizeof(junk));
	fill_kv(10);
	overwrite(0, junk, sizeof(junk));
	CHECK_INT(kv_open(path, 16 << 20, true, &kv), -EUCLEAN);
	remove_kv();

	CASE("a database that was cut short is refused");
	fill_kv(20000);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(truncate(path, st.st_size / 2), 0);
	CHECK_INT(kv_open(path, 16 << 20, true, &kv), -EUCLEAN);
	remove_kv();
}

/* ---- write-behind ---- */

static struct batch *batch_on(struct kv *kv, unsigned interval_ms)
{
	struct batch_config c = { .kv = kv,
				  .path = path,
				  .interval_ms = interval_ms };

	return batch_create(&c);
}

static const char *batch_text(struct batch *b, const char *key)
{
	static __thread char out[256];
	struct buf v;
	int err;

	buf_init(&v, 1 << 20);
	err = batch_get(b, KV_DENTRY, text(key), &v);
	snprintf(out, sizeof(out), "%s", err ? "" : v.data);
	buf_release(&v);
	return !err || err == -ENOENT ? out : NULL;
}

static int join(struct slice key, struct slice val, void *arg)
{
	char *out = arg;

	snprintf(out + strlen(out), 256 - strlen(out), "%.*s=%.*s ", (int)key.n,
		 (const char *)key.p, (int)val.n, (const char *)val.p);
	return 0;
}

static const char *scan(struct batch *b, const char *prefix, const char *after)
{
	static char out[256];

	out[0] = 0;
	CHECK_INT(batch_scan(b, KV_DENTRY, text(prefix), text(after), join,
			     out),
		  0);
	return out;
}

static void test_batch(void)
{
	struct kv *kv = open_kv(16 << 20);
	struct batch *b = batch_on(kv, 100000);

	CASE("a put is seen before it is in the file");
	batch_put(b, KV_DENTRY, text("a1"), text("x"));
	batch_put(b, KV_DENTRY, text("a2"), text("y"));
	batch_put(b, KV_DENTRY, text("b"), text("z"));
	CHECK_STR(batch_text(b, "a1"), "x");
	CHECK_STR(get(kv, "a1"), "");
	CHECK_INT(batch_flush(b), 0);
	CHECK_STR(get(kv, "a1"), "x");
	CHECK_STR(batch_text(b, "a1"), "x");
	CHECK_INT(batch_pending(b), 0);

	CASE("a scan lays what is pending over the file");
	batch_put(b, KV_DENTRY, text("a15"), text("new"));
	batch_put(b, KV_DENTRY, text("a2"), text("changed"));
	batch_del(b, KV_DENTRY, text("a1"));
	CHECK_STR(scan(b, "a", ""), "a15=new a2=changed ");
	CHECK_STR(scan(b, "a", "a15"), "a2=changed ");
	CHECK_STR(scan(b, "", "a2"), "b=z ");
	CHECK_STR(scan(b, "c", ""), "");
	CHECK_STR(batch_text(b, "a1"), "");
	CHECK_INT(batch_flush(b), 0);
	CHECK_STR(scan(b, "a", ""), "a15=new a2=changed ");

	CASE("what is pending at the end is committed");
	batch_put(b, KV_DENTRY, text("late"), text("1"));
	batch_destroy(b);
	CHECK_STR(get(kv, "late"), "1");
	kv_close(kv);
	remove_kv();
}

/* ---- write-behind that cannot write ---- */

/* As if the disk were full at this size of a file. */
static void limit_files(rlim_t bytes)
{
	struct rlimit l;

	getrlimit(RLIMIT_FSIZE, &l);
	l.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &l);
}

static void test_batch_disk_full(void)
{
	struct kv *kv = open_kv(64 << 20);
	struct batch *b = batch_on(kv, 1);
	char *big = calloc(1, 1 << 16), key[16];

	CASE("on a full disk the batch goes on in memory and recovers");
	signal(SIGXFSZ, SIG_IGN);
	batch_put(b, KV_DENTRY, text("before"), text("1"));
	CHECK_INT(batch_flush(b), 0);
	limit_files(256 << 10);
	for (int i = 0; i < 16; i++) {
		snprintf(key, sizeof(key), "k%02d", i);
		batch_put(b, KV_DENTRY, text(key),
			  (struct slice){ big, 1 << 16 });
	}
	batch_put(b, KV_DENTRY, text("pending"), text("2"));
	CHECK(batch_flush(b) < 0);
	CHECK(batch_degraded(b) != NULL);
	CHECK_STR(batch_text(b, "before"), "1");
	CHECK_STR(batch_text(b, "pending"), "2");
	limit_files(RLIM_INFINITY);
	CHECK_INT(batch_flush(b), 0);
	CHECK(!batch_degraded(b));
	CHECK_STR(get(kv, "pending"), "2");
	CHECK_INT(batch_forgotten(b), 0);
	batch_destroy(b);
	kv_close(kv);
	free(big);
	remove_kv();
}

static void test_batch_map_full(void)
{
	struct kv *kv = open_kv(4 << 20);
	struct batch *b = batch_on(kv, 1);
	char *big = calloc(1, 1 << 16), key[16];

	CASE("at the map's ceiling names go as a whole, extents stay");
	batch_put(b, KV_EXTENT, text("extent"), text("1"));
	batch_put(b, KV_DENTRY, text("old"), text("1"));
	CHECK_INT(batch_flush(b), 0);
	for (int i = 0; i < 100 && !batch_forgotten(b); i++) {
		snprintf(key, sizeof(key), "k%02d", i);
		batch_put(b, KV_DENTRY, text(key),
			  (struct slice){ big, 1 << 16 });
		CHECK_INT(batch_flush(b), 0);
	}
	CHECK_INT(batch_forgotten(b), 1);
	CHECK_STR(batch_text(b, "old"), "");
	CHECK_STR(batch_text(b, "k00"), "");
	struct buf v;
	buf_init(&v, 100);
	CHECK_INT(batch_get(b, KV_EXTENT, text("extent"), &v), 0);
	buf_release(&v);
	batch_put(b, KV_DENTRY, text("new"), text("3"));
	CHECK_INT(batch_flush(b), 0);
	CHECK(!batch_degraded(b));
	CHECK_STR(get(kv, "new"), "3");
	CHECK(kv_file_bytes(kv) <= (4 << 20) + (1 << 19));
	batch_destroy(b);
	kv_close(kv);
	free(big);
	remove_kv();
}

static void test_batch_damage(void)
{
	struct kv *kv = open_kv(16 << 20);
	struct batch *b = batch_on(kv, 1);

	CASE("after damage names are forgotten as a whole");
	batch_put(b, KV_DENTRY, text("in the file"), text("1"));
	CHECK_INT(batch_flush(b), 0);
	batch_put(b, KV_DENTRY, text("pending"), text("1"));
	batch_put(b, KV_DIR, text("complete"), text("1"));
	batch_note_error(b, -EUCLEAN);
	CHECK_STR(batch_text(b, "in the file"), "");
	CHECK_STR(batch_text(b, "pending"), "");
	struct buf v;
	buf_init(&v, 100);
	CHECK_INT(batch_get(b, KV_DIR, text("complete"), &v), -ENOENT);
	buf_release(&v);
	CHECK(batch_forgotten(b) > 0);
	CHECK(batch_degraded(b) != NULL);
	CHECK(access(path, F_OK) != 0);

	CASE("and learnt anew in memory");
	batch_put(b, KV_DENTRY, text("new"), text("2"));
	CHECK_STR(batch_text(b, "new"), "2");
	CHECK_STR(scan(b, "", "a"), "new=2 ");
	CHECK(batch_flush(b) < 0);
	CHECK_STR(batch_text(b, "new"), "2");
	for (int i = 0; i < 1000; i++) {
		char key[16];

		snprintf(key, sizeof(key), "e%d", i);
		batch_put(b, KV_EXTENT, text(key), text("x"));
		batch_del(b, KV_EXTENT, text(key));
	}
	CHECK(batch_pending(b) < 100);
	batch_destroy(b);
	kv_close(kv);
	remove_kv();
}

/* ---- threads ---- */

static struct batch *busy;

static void *read_all(void *arg)
{
	char key[16];

	for (int i = 0; i < 3000; i++) {
		snprintf(key, sizeof(key), "t%04d", i % 1000);
		if (!batch_text(busy, key))
			__atomic_store_n((int *)arg, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_threads(void)
{
	struct kv *kv = open_kv(64 << 20);
	struct batch_config c = { .kv = kv, .path = path, .interval_ms = 1 };
	pthread_t t[2];
	int failed = 0;
	char key[16];

	CASE("readers see every put while the writer commits");
	busy = batch_create(&c);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "t%04d", i);
		batch_put(busy, KV_DENTRY, text(key), text("0"));
	}
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, read_all, &failed))
			abort();
	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "t%04d", i % 1000);
		batch_room(busy);
		batch_put(busy, KV_DENTRY, text(key), text("1"));
		if (i % 5000 == 0)
			CHECK_INT(batch_flush(busy), 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	CHECK_INT(failed, 0);
	batch_destroy(busy);
	kv_close(kv);
	remove_kv();
}

int main(void)
{
	test_start();
	snprintf(path, sizeof(path), "%s/test.mdb", test_dir);
	test_scopes();
	test_growth();
	test_foreign();
	test_batch();
	test_batch_disk_full();
	test_batch_map_full();
	test_batch_damage();
	test_threads();
	return test_end();
}
