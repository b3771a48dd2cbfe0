/* Written content and its way to R2, with everything that happens at the same
 * time put where it hurts. */
#include "base/pool.h"
#include "base/task.h"
#include "cachetest.h"
#include "fake_store.h"
#include "io/writeback.h"

enum { MIB = 1 << 20 };

static uint64_t copy_max; /* of the next world; 0: the default */

static struct world {
	struct store *store;
	struct cache *cache;
	struct pool *pool;
	struct tasks *tasks;
	struct fills *fills;
	struct stage *stage;
	struct writebacks *writebacks;
} w;

static void build(void)
{
	char dir[64];
	struct fill_config fc;
	struct writeback_config wc;

	w.store = fake_start();
	w.cache = open_new(0);
	w.pool = pool_create(256 * MIB);
	w.tasks = tasks_create("test", 4);
	fc = (struct fill_config){ .store = w.store,
				   .blocks = cache_blocks(w.cache),
				   .pool = w.pool,
				   .disk = w.tasks };
	CHECK_INT(fills_create(&fc, &w.fills), 0);
	snprintf(dir, sizeof(dir), "%s/cache", test_dir);
	CHECK_INT(stage_open(dir, &w.stage), 0);
	wc = (struct writeback_config){ .store = w.store,
					.fills = w.fills,
					.blocks = cache_blocks(w.cache),
					.meta = cache_meta(w.cache),
					.stage = w.stage,
					.tasks = w.tasks,
					.pool = w.pool,
					.part_size = 5 * MIB,
					.put_max = MIB,
					.copy_max = copy_max };
	w.writebacks = writebacks_create(&wc);
}

static void tear_down(void)
{
	fake.hook = NULL;
	fake.after = NULL;
	fills_wait(w.fills);
	tasks_destroy(w.tasks);
	writebacks_destroy(w.writebacks);
	fills_destroy(w.fills);
	stage_close(w.stage);
	cache_close(w.cache);
	pool_destroy(w.pool);
}

static struct writeback_base base_of(const char *key)
{
	struct fake_object *o = fake_find(key);

	return (struct writeback_base){ .key = o->key,
					.etag = o->etag,
					.cid = meta_new_cid(
						cache_meta(w.cache)),
					.size = o->size };
}

static struct writeback *create(void)
{
	struct writeback *wb = NULL;

	CHECK_INT(writeback_create(w.writebacks, NULL, &wb), 0);
	return wb;
}

static struct writeback *open_object(const char *key)
{
	struct writeback_base base = base_of(key);
	struct writeback *wb = NULL;

	CHECK_INT(writeback_create(w.writebacks, &base, &wb), 0);
	return wb;
}

static void put_away(struct writeback *wb)
{
	writeback_discard(wb);
	writeback_abort(wb);
	writeback_put(wb);
}

static void write_run(struct writeback *wb, char c, uint64_t off, size_t n)
{
	char *buf = memset(malloc(n), c, n);

	CHECK_INT(writeback_write(wb, buf, n, off), 0);
	free(buf);
}

static int store(struct writeback *wb, const char *key, const char *if_match,
		 struct writeback_result *r)
{
	struct store_meta none = { 0 };
	struct writeback_target t = { .key = key,
				      .meta = &none,
				      .if_match = if_match,
				      .cid = meta_new_cid(
					      cache_meta(w.cache)) };

	return writeback_store(wb, &t, NULL, r);
}

static int store_plainly(struct writeback *wb, const char *key)
{
	struct writeback_result r;

	return store(wb, key, NULL, &r);
}

/* ---- a copy made by R2 ---- */

static struct writeback *hooked;
static int copied;

/* While the file's content is stored, it becomes a copy of another. */
static void copy_during_put(struct store_req *req)
{
	struct writeback_base base;

	if (req->op != STORE_PUT || copied)
		return;
	base = base_of("src");
	CHECK_INT(writeback_truncate(hooked, 0), 0);
	copied = writeback_copy(hooked, &base, 0, base.size);
	if (copied == -EINVAL)
		write_run(hooked, 'S', 0, base.size);
}

static void test_copy_during_store(void)
{
	struct writeback *wb;

	CASE("what is copied into a file during its store is stored");
	build();
	fake_fill("src", 'S', 200000);
	wb = hooked = create();
	write_run(wb, 'f', 0, 5);
	fake.after = copy_during_put;
	CHECK_INT(store_plainly(wb, "d"), 0);
	CHECK(writeback_dirty(wb));
	CHECK_INT(store_plainly(wb, "d"), 0);
	CHECK(!writeback_dirty(wb));
	CHECK_INT(fake_find("d")->size, 200000);
	CHECK(fake_holds("d", 'S', 0, 200000));
	put_away(wb);
	tear_down();
}

static void test_copy_over_a_base(void)
{
	struct writeback_base base;
	struct writeback *wb;

	CASE("a copy into a file that builds on an object is refused");
	build();
	fake_fill("src", 'S', 200000);
	fake_fill("dst", 'D', 300000);
	wb = open_object("dst");
	base = base_of("src");
	CHECK_INT(writeback_truncate(wb, 0), 0);
	CHECK_INT(writeback_copy(wb, &base, 0, base.size), -EINVAL);
	CHECK_INT(writeback_size(wb), 0);
	CHECK_INT(store_plainly(wb, "dst"), 0);
	CHECK_INT(fake_find("dst")->size, 0);
	put_away(wb);

	wb = create();
	CHECK_INT(writeback_copy(wb, &base, 0, base.size), 0);
	CHECK(!writeback_same_content(wb, "dst"));
	CHECK_INT(store_plainly(wb, "dst"), 0);
	CHECK_INT(fake.count[STORE_COPY], 1);
	CHECK(fake_holds("dst", 'S', 0, 200000));
	put_away(wb);
	tear_down();
}

/* ---- the base ---- */

static void test_short_base(void)
{
	struct writeback_base base;
	struct writeback *wb = NULL, *shorter = NULL;

	CASE("a base that is shorter than it should be is an error");
	build();
	fake_fill("b", 'B', 100000);
	base = base_of("b");
	base.size = 50000;
	CHECK_INT(writeback_create(w.writebacks, &base, &shorter), 0);
	base.size = 100000;
	CHECK_INT(writeback_create(w.writebacks, &base, &wb), 0);
	CHECK_INT(writeback_fill(wb, NULL), -EIO);
	put_away(wb);
	put_away(shorter);
	tear_down();
}

/* Parts of it were copied, then somebody else replaces it. */
static int replace_base(struct store_req *req)
{
	if (req->op == STORE_MPU_PART && fake_holds("big", 'B', 0, 1))
		fake_fill("big", 'X', 20 * MIB);
	return 0;
}

static void test_base_replaced(void)
{
	struct writeback *wb;

	CASE("parts of two versions are not put together");
	build();
	fake_fill("big", 'B', 20 * MIB);
	wb = open_object("big");
	write_run(wb, 'n', 0, 5 * MIB);
	fake.hook = replace_base;
	CHECK_INT(store_plainly(wb, "big"), -ESTALE);
	CHECK_INT(fake.count[STORE_MPU_COMPLETE], 0);
	CHECK(fake_holds("big", 'X', 0, 20 * MIB));
	put_away(wb);
	tear_down();

	CASE("a large rewrite of what is gone ends at once");
	build();
	fake_fill("big", 'B', 20 * MIB);
	wb = open_object("big");
	write_run(wb, 'n', 0, 5 * MIB);
	fake_delete("big");
	CHECK_INT(store_plainly(wb, "big"), -ESTALE);
	CHECK_INT(fake.count[STORE_MPU_CREATE], 1);
	put_away(wb);
	tear_down();
}

static void test_rewrite_costs(void)
{
	struct writeback_result r;
	struct writeback *wb;

	CASE("a large rewrite asks once for what it replaces");
	build();
	fake_fill("big", 'B', 20 * MIB);
	wb = open_object("big");
	write_run(wb, 'n', 0, 5 * MIB);
	CHECK_INT(store(wb, "big", fake_find("big")->etag, &r), 0);
	CHECK(fake_holds("big", 'n', 0, 5 * MIB));
	CHECK(fake_holds("big", 'B', 5 * MIB, 20 * MIB));
	CHECK_INT(fake.count[STORE_HEAD], 1);
	CHECK_INT(fake.count[STORE_MPU_PART], 1);
	CHECK_INT(fake.count[STORE_GET], 0);
	put_away(wb);
	tear_down();
}

/* ---- writers that go on ---- */

static int write_under_part(struct store_req *req)
{
	if (req->op == STORE_MPU_PART && req->part_number == 2)
		write_run(hooked, 'h', 7 * MIB, 100);
	return 0;
}

static int append_under_part(struct store_req *req)
{
	if (req->op == STORE_MPU_PART)
		write_run(hooked, 'a', writeback_size(hooked), MIB);
	return 0;
}

static int write_before_complete(struct store_req *req)
{
	if (req->op == STORE_HEAD)
		write_run(hooked, 'h', 7 * MIB, 100);
	return 0;
}

static int shorten_under_part(struct store_req *req)
{
	if (req->op == STORE_MPU_PART && req->part_number == 3)
		CHECK_INT(writeback_truncate(hooked,
					     writeback_size(hooked) - 1),
			  0);
	return 0;
}

/* Stores 12 MiB of 'x' under a hook; how many parts were sent for it. */
static unsigned store_under(int (*hook)(struct store_req *req),
			    uint64_t want_size)
{
	struct writeback_result r;

	build();
	fake_fill("d", 'o', 10);
	hooked = create();
	write_run(hooked, 'x', 0, 12 * MIB);
	fake.hook = hook;
	CHECK_INT(store(hooked, "d", fake_find("d")->etag, &r), 0);
	CHECK_INT(r.size, want_size);
	CHECK_INT(fake_find("d")->size, want_size);
	CHECK(writeback_dirty(hooked));
	CHECK_INT(fake.count[STORE_MPU_CREATE], 1);
	return fake.count[STORE_MPU_PART];
}

/* The next store has what the one before took no notice of. */
static void store_rest(char c, uint64_t off, uint64_t end)
{
	fake.hook = NULL;
	CHECK_INT(store_plainly(hooked, "d"), 0);
	CHECK(!writeback_dirty(hooked));
	CHECK_INT(fake_find("d")->size, writeback_size(hooked));
	CHECK(fake_holds("d", c, off, end));
	put_away(hooked);
	tear_down();
}

static void test_restless_writers(void)
{
	CASE("a part that never comes to rest is sent from a copy");
	CHECK_INT(store_under(write_under_part, 12 * MIB), 5);
	CHECK(fake_holds("d", 'x', 0, 7 * MIB));
	CHECK(fake_holds("d", 'h', 7 * MIB, 7 * MIB + 100));
	store_rest('h', 7 * MIB, 7 * MIB + 100);

	CASE("a file that grows is stored as long as it was");
	CHECK_INT(store_under(append_under_part, 12 * MIB), 3);
	CHECK(fake_holds("d", 'x', 0, 12 * MIB));
	store_rest('a', 12 * MIB, 15 * MIB);

	CASE("a change at the last moment is taken along once");
	CHECK_INT(store_under(write_before_complete, 12 * MIB), 4);
	CHECK(fake_holds("d", 'h', 7 * MIB, 7 * MIB + 100));
	store_rest('h', 7 * MIB, 7 * MIB + 100);

	CASE("a file that becomes shorter all the time is stored");
	CHECK_INT(store_under(shorten_under_part, 12 * MIB - 2), 5);
	CHECK(fake_holds("d", 'x', 0, 12 * MIB - 2));
	store_rest('x', 0, 12 * MIB - 3);
}

/* Part 2 is being frozen when part 1 changes and all is promised. */
static int promise_under_frozen_part(struct store_req *req)
{
	struct journal_rec rec = { .state = JOURNAL_OWED, .key = (char *)"d" };

	if (req->op != STORE_MPU_PART || req->part_number != 2)
		return 0;
	write_run(hooked, 'h', 7 * MIB, 100);
	if (fake.count[STORE_MPU_PART] < 4)
		return 0;
	write_run(hooked, 'n', 0, 100);
	CHECK_INT(writeback_record(hooked, &rec, false), 0);
	return 0;
}

static void test_promise_during_store(void)
{
	struct journal_rec rec;

	CASE("a record names no part that is older than what it promises");
	CHECK_INT(store_under(promise_under_frozen_part, 12 * MIB), 5);
	CHECK(fake_holds("d", 'x', 0, 100));
	CHECK_INT(stage_read_record(w.stage, writeback_id(hooked), &rec), 0);
	CHECK(rec.nparts == 3 && !rec.parts[0].etag[0]);
	CHECK(rec.nparts == 3 && rec.parts[2].etag[0]);
	journal_release(&rec);
	store_rest('n', 0, 100);
}

static unsigned refusals;

static int refuse_complete(struct store_req *req)
{
	return req->op == STORE_MPU_COMPLETE && refusals && refusals-- ?
		       -EINVAL :
		       0;
}

static void test_refused_completion(void)
{
	struct writeback *wb;

	CASE("an upload whose completion is refused is begun anew, once");
	build();
	wb = create();
	write_run(wb, 'x', 0, 12 * MIB);
	fake.hook = refuse_complete;
	refusals = 1;
	CHECK_INT(store_plainly(wb, "d"), 0);
	CHECK_INT(fake.count[STORE_MPU_CREATE], 2);
	CHECK_INT(fake.count[STORE_MPU_ABORT], 1);
	put_away(wb);
	tear_down();

	build();
	wb = create();
	write_run(wb, 'x', 0, 12 * MIB);
	fake.hook = refuse_complete;
	refusals = 2;
	CHECK_INT(store_plainly(wb, "d"), -EINVAL);
	CHECK_INT(fake.count[STORE_MPU_CREATE], 2);
	CHECK_INT(fake.count[STORE_MPU_ABORT], 2);
	CHECK_INT(store_plainly(wb, "d"), 0);
	CHECK(fake_holds("d", 'x', 0, 12 * MIB));
	put_away(wb);
	tear_down();
}

/* ---- metadata ---- */

static struct store_meta mode(const char *value)
{
	static struct store_meta_pair pair;

	pair = (struct store_meta_pair){ (char *)"mode", (char *)value };
	return (struct store_meta){ &pair, 1 };
}

static void stream_with_mode(struct writeback *wb, const char *key,
			     const char *value)
{
	struct store_meta meta = mode(value);
	struct writeback_target t = { .key = key, .meta = &meta };

	writeback_stream(wb, &t);
}

static int store_with_mode(struct writeback *wb, const char *key,
			   const char *value)
{
	struct store_meta meta = mode(value);
	struct writeback_result r;
	struct writeback_target t = {
		.key = key,
		.meta = &meta,
		.cid = meta_new_cid(cache_meta(w.cache)),
	};
	int err = writeback_store(wb, &t, NULL, &r);

	if (!err)
		CHECK_STR(r.etag.s, fake_find(key)->etag);
	return err;
}

static struct writeback *stream_some(void)
{
	struct writeback *wb;

	build();
	wb = create();
	write_run(wb, 'x', 0, 20 * MIB);
	stream_with_mode(wb, "d", "1");
	return wb;
}

static bool has_mode(const char *key, const char *value)
{
	const char *has = store_meta_get(&fake_find(key)->meta, "mode");

	return has && strcmp(has, value) == 0;
}

static int refuse_copy(struct store_req *req)
{
	return req->op == STORE_COPY ? -EIO : 0;
}

static void test_touched_stream(void)
{
	struct writeback *wb = stream_some();

	CASE("metadata that changed since the stream began is stored");
	writeback_touch(wb);
	CHECK_INT(store_with_mode(wb, "d", "2"), 0);
	CHECK(has_mode("d", "2"));
	CHECK(!writeback_dirty(wb));
	CHECK_INT(fake.count[STORE_COPY], 1);
	CHECK_INT(fake.count[STORE_MPU_PART], 4);
	put_away(wb);
	tear_down();

	CASE("and costs nothing if it was only written to");
	wb = stream_some();
	CHECK_INT(store_with_mode(wb, "d", "2"), 0);
	CHECK(has_mode("d", "1"));
	CHECK(!writeback_dirty(wb));
	CHECK_INT(fake.count[STORE_COPY], 0);
	put_away(wb);
	tear_down();

	CASE("metadata that R2 does not take at once stays owed");
	wb = stream_some();
	writeback_touch(wb);
	fake.hook = refuse_copy;
	CHECK_INT(store_with_mode(wb, "d", "2"), 0);
	CHECK(writeback_dirty(wb) && has_mode("d", "1"));
	fake.hook = NULL;
	CHECK_INT(store_with_mode(wb, "d", "3"), 0);
	CHECK(!writeback_dirty(wb) && has_mode("d", "3"));
	CHECK_INT(fake.count[STORE_MPU_PART], 4);
	put_away(wb);
	tear_down();
}

static void test_touched_giant(void)
{
	struct writeback *wb;

	CASE("what is too large for a COPY is copied in parts");
	copy_max = 4 * MIB;
	wb = stream_some();
	writeback_touch(wb);
	CHECK_INT(store_with_mode(wb, "d", "2"), 0);
	CHECK(has_mode("d", "2") && !writeback_dirty(wb));
	CHECK_INT(fake.count[STORE_COPY], 0);
	CHECK_INT(fake.count[STORE_MPU_PART], 4);
	CHECK_INT(fake.count[STORE_MPU_COPY], 1);
	CHECK(fake_holds("d", 'x', 0, 20 * MIB));
	put_away(wb);
	tear_down();
	copy_max = 0;
}

/* ---- the record ---- */

static void owe(struct writeback *wb, const char *key)
{
	struct journal_rec rec = { .state = JOURNAL_OWED, .key = (char *)key };

	CHECK_INT(writeback_record(wb, &rec, true), 0);
}

static struct journal_rec recorded(struct writeback *wb)
{
	struct journal_rec rec;

	CHECK_INT(stage_read_record(w.stage, writeback_id(wb), &rec), 0);
	return rec;
}

/* It is owed at last while it is stored, and then written anew. */
static void owe_and_truncate(struct store_req *req)
{
	if (req->op != STORE_PUT)
		return;
	write_run(hooked, 'p', 0, 300);
	owe(hooked, "d");
	CHECK_INT(writeback_truncate(hooked, 0), 0);
	write_run(hooked, 'n', 0, 5);
}

static void test_promise(void)
{
	struct journal_rec rec;
	struct writeback *wb;

	CASE("a record brought up to date owes what was promised");
	build();
	wb = hooked = create();
	write_run(wb, 'f', 0, 100);
	fake.after = owe_and_truncate;
	CHECK_INT(store_plainly(wb, "d"), 0);
	fake.after = NULL;
	writeback_rerecord(wb);
	rec = recorded(wb);
	CHECK_INT(rec.state, JOURNAL_OWED);
	CHECK_INT(rec.size, 300);
	CHECK(!rec.second && !rec.create);
	CHECK_STR(rec.etag, fake_find("d")->etag);
	journal_release(&rec);

	CASE("and nothing that was written since R2 got it");
	CHECK_INT(store_plainly(wb, "d"), 0);
	write_run(wb, 'm', 5, 5);
	writeback_rerecord(wb);
	rec = recorded(wb);
	CHECK_INT(rec.state, JOURNAL_OPEN);
	CHECK_INT(rec.size, 10);
	CHECK_STR(rec.etag, fake_find("d")->etag);
	journal_release(&rec);
	put_away(wb);
	tear_down();
}

int main(void)
{
	test_start();
	test_copy_during_store();
	test_copy_over_a_base();
	test_short_base();
	test_base_replaced();
	test_rewrite_costs();
	test_restless_writers();
	test_promise_during_store();
	test_promise();
	test_refused_completion();
	test_touched_stream();
	test_touched_giant();
	return test_end();
}
