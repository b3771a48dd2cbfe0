/* Ranges against a model, journal records, staged files across a restart. */
#include <dirent.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/rand.h"
#include "cache/gone.h"
#include "cache/stage.h"
#include "check.h"

enum { MODEL = 200 };

static void test_ranges(void)
{
	struct ranges rs = { 0 };
	bool model[MODEL] = { false };
	bool same = true, shape = true;

	CASE("ranges agree with a bitmap");
	rand_seed(7);
	for (int step = 0; step < 20000; step++) {
		uint64_t a = rand_below(MODEL), b = a + rand_below(20), to;
		bool add = rand_below(2);

		if (b > MODEL)
			b = MODEL;
		if (add)
			ranges_add(&rs, a, b);
		else
			ranges_remove(&rs, a, b);
		for (uint64_t i = a; i < b; i++)
			model[i] = add;
		for (uint64_t i = 0; i < MODEL; i++)
			same &= ranges_at(&rs, i, &to) == model[i] && to > i;
		for (unsigned i = 1; i < rs.n; i++)
			shape &= rs.r[i - 1].end < rs.r[i].off;
	}
	CHECK(same);
	CHECK(shape);
	CHECK(!ranges_touch(&rs, 5, 5));
	ranges_release(&rs);
}

static void fill_record(struct journal_rec *r)
{
	memset(r, 0, sizeof(*r));
	r->state = JOURNAL_OWED;
	r->create = r->deferred = true;
	r->key = strdup("a b/%41/\n\xc3\xa4");
	r->base_key = strdup("old");
	strcpy(r->base_etag, "e1-2");
	r->second = true;
	r->base_size = 77;
	r->base_len = 70;
	r->size = 1ull << 40;
	ranges_add(&r->ranges, 3, 9);
	ranges_add(&r->ranges, 100, 1ull << 39);
	r->blob = memcpy(malloc(6), "a\0b c\0", 6);
	r->blob_len = 6;
	r->upload_id = strdup("x+/=%");
	r->upload_old = true;
	r->part_size = 16 << 20;
	r->nparts = 3;
	r->parts = calloc(3, sizeof(*r->parts));
	strcpy(r->parts[2].etag, "abc");
	r->why = strdup("403 no permission\n");
	r->changed_ns = 123456789;
}

static void test_journal(void)
{
	struct journal_rec a, b;
	struct buf out;
	bool refused = true;

	CASE("a record survives; any damage refuses it");
	fill_record(&a);
	buf_init(&out, JOURNAL_MAX);
	journal_encode(&out, &a);
	CHECK_INT(journal_decode(out.data, out.len, &b), 0);
	CHECK(strcmp(a.key, b.key) == 0 && strcmp(a.why, b.why) == 0);
	CHECK(b.create && b.deferred && b.state == JOURNAL_OWED);
	CHECK(b.blob_len == 6 && memcmp(a.blob, b.blob, 6) == 0);
	CHECK(b.ranges.n == 2 && b.ranges.r[1].end == 1ull << 39);
	CHECK(b.nparts == 3 && !b.parts[0].etag[0]);
	CHECK(strcmp(b.parts[2].etag, "abc") == 0);
	CHECK(strcmp(b.upload_id, a.upload_id) == 0 && b.base_len == 70);
	CHECK(b.second && b.upload_old);
	journal_release(&b);
	for (size_t n = 0; n < out.len; n++)
		refused &= journal_decode(out.data, n, &b) == -EBADMSG;
	for (size_t i = 0; i < out.len; i++) {
		out.data[i] ^= 4;
		refused &= journal_decode(out.data, out.len, &b) == -EBADMSG;
		out.data[i] ^= 4;
	}
	CHECK(refused);
	buf_release(&out);
	journal_release(&a);
}

static bool holds(struct staged *f, uint64_t off, const char *want, size_t n)
{
	char got[64];

	return staged_read(f, got, n, off) == 0 && memcmp(got, want, n) == 0;
}

static void test_staged(const char *dir)
{
	struct journal_rec rec = { .state = JOURNAL_OPEN };
	struct stage *s;
	struct staged *f;
	uint64_t len, id;

	CASE("a staged file and its record across a restart");
	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(staged_create(s, &f), 0);
	CHECK_INT(staged_set_base(f, 0, 60), 0);
	CHECK_INT(staged_set_base(f, 50, 100), -EINVAL);
	CHECK_INT(staged_set_base(f, 60, 100), 0);
	CHECK_INT(staged_write(f, "hello", 5, 10), 0);
	CHECK_INT(staged_write_base(f, "BBBBBBBBBBBBBBBBBBBB", 20, 0), 0);
	CHECK(holds(f, 8, "BBhelloBBBBB", 12));
	len = 1000;
	CHECK(staged_kind_at(f, 0, &len) == STAGED_LOCAL && len == 20);
	len = 1000;
	CHECK(staged_kind_at(f, 20, &len) == STAGED_BASE && len == 80);
	CHECK_INT(staged_truncate(f, 12), 0);
	CHECK_INT(staged_truncate(f, 50), 0);
	len = 1000;
	CHECK(staged_kind_at(f, 12, &len) == STAGED_HOLE);
	CHECK(holds(f, 10, "he\0\0\0", 5));
	CHECK(staged_changed(f, 40, 50) && !staged_changed(f, 5, 5));
	rec.key = strdup("k");
	CHECK_INT(staged_save(f, &rec, true), 0);
	journal_release(&rec);
	id = staged_id(f);
	staged_close(f);
	stage_close(s);

	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(staged_load(s, id, &f, &rec), 0);
	CHECK(staged_size(f) == 50 && staged_base_len(f) == 12);
	CHECK_STR(rec.key, "k");
	len = 50;
	CHECK(staged_kind_at(f, 0, &len) == STAGED_LOCAL && len == 12);
	len = 38;
	CHECK(staged_kind_at(f, 12, &len) == STAGED_HOLE && len == 38);
	CHECK(holds(f, 10, "he\0", 3));
	journal_release(&rec);
	staged_discard(f);
	CHECK_INT(staged_load(s, id, &f, &rec), -ENOENT);
	stage_close(s);
}

/* ---- changes at the same time ---- */

static struct {
	struct staged *file;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool started, ended;
} filler = { .lock = PTHREAD_MUTEX_INITIALIZER,
	     .changed = PTHREAD_COND_INITIALIZER };

static void *fill_from_base(void *arg)
{
	CHECK_INT(staged_write_base(filler.file, "BBBBBBBBBB", 10, 0), 0);
	pthread_mutex_lock(&filler.lock);
	filler.ended = true;
	pthread_cond_signal(&filler.changed);
	pthread_mutex_unlock(&filler.lock);
	return NULL;
}

/* Within a write, base bytes come in; they have some time to get through. */
static ssize_t pwrite_and_fill(int fd, const void *buf, size_t n, off_t off)
{
	ssize_t put = fsio_system.pwrite(fd, buf, n, off);
	struct timespec until;

	if (filler.started)
		return put;
	filler.started = true;
	pthread_create(&filler.thread, NULL, fill_from_base, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_mutex_lock(&filler.lock);
	while (!filler.ended &&
	       !pthread_cond_timedwait(&filler.changed, &filler.lock, &until))
		;
	pthread_mutex_unlock(&filler.lock);
	return put;
}

static void test_fill_against_write(const char *dir)
{
	struct fsio_ops ops = fsio_system;
	struct stage *s;
	struct staged *f;

	CASE("base bytes never cover a write under way");
	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(staged_create(s, &f), 0);
	CHECK_INT(staged_set_base(f, 0, 10), 0);
	filler.file = f;
	ops.pwrite = pwrite_and_fill;
	fsio_replace(&ops);
	CHECK_INT(staged_write(f, "new", 3, 4), 0);
	pthread_join(filler.thread, NULL);
	fsio_replace(NULL);
	CHECK(holds(f, 0, "BBBBnewBBB", 10));
	staged_discard(f);
	stage_close(s);
}

static ssize_t pwrite_half(int fd, const void *buf, size_t n, off_t off)
{
	CHECK_INT(fsio_system.pwrite(fd, buf, n / 2, off), n / 2);
	return -ENOSPC;
}

static void test_failed_write(const char *dir)
{
	struct fsio_ops ops = fsio_system;
	struct stage *s;
	struct staged *f;

	CASE("a write that failed leaves nothing behind the end");
	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(staged_create(s, &f), 0);
	CHECK_INT(staged_write(f, "abcd", 4, 0), 0);
	ops.pwrite = pwrite_half;
	fsio_replace(&ops);
	CHECK_INT(staged_write(f, "xxxxxxxx", 8, 4), -ENOSPC);
	fsio_replace(NULL);
	CHECK_INT(staged_size(f), 4);
	CHECK_INT(staged_truncate(f, 8), 0);
	CHECK(holds(f, 0, "abcd\0\0\0\0", 8));
	staged_discard(f);
	stage_close(s);
}

/* ---- promises ---- */

static struct stage *the_stage;

static uint64_t promise(const char *dir, const char *text, struct staged **ret)
{
	struct journal_rec rec = { .state = JOURNAL_OWED };

	CHECK_INT(stage_open(dir, &the_stage), 0);
	CHECK_INT(staged_create(the_stage, ret), 0);
	CHECK_INT(staged_write(*ret, text, strlen(text), 0), 0);
	rec.key = strdup("k");
	rec.upload_id = strdup("u");
	rec.part_size = 4;
	rec.nparts = 3;
	rec.parts = calloc(3, sizeof(*rec.parts));
	strcpy(rec.parts[0].etag, "p0");
	strcpy(rec.parts[2].etag, "p2");
	CHECK_INT(staged_save(*ret, &rec, true), 0);
	journal_release(&rec);
	return staged_id(*ret);
}

/* What the next run finds; the file of this one is given up. */
static struct staged *crash(const char *dir, struct staged *f, uint64_t id,
			    struct journal_rec *rec)
{
	staged_close(f);
	stage_close(the_stage);
	CHECK_INT(stage_open(dir, &the_stage), 0);
	CHECK_INT(staged_load(the_stage, id, &f, rec), 0);
	return f;
}

static unsigned files_in_stage(const char *dir)
{
	CLEANUP(free) char *path = xasprintf("%s/stage", dir);
	DIR *d = opendir(path);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_promise(const char *dir)
{
	struct journal_rec rec;
	struct staged *f;
	uint64_t id;

	CASE("what is owed stays whole while the file is written anew");
	id = promise(dir, "owed bytes", &f);
	CHECK_INT(staged_truncate(f, 0), 0);
	CHECK_INT(staged_write(f, "new", 3, 0), 0);
	CHECK_INT(staged_truncate(f, 0), 0);
	CHECK_INT(staged_write(f, "other", 5, 0), 0);
	CHECK(holds(f, 0, "other", 5));
	f = crash(dir, f, id, &rec);
	CHECK_INT(staged_size(f), 10);
	CHECK(holds(f, 0, "owed bytes", 10));
	CHECK_INT(files_in_stage(dir), 2);

	CASE("until the new content is owed");
	CHECK_INT(staged_truncate(f, 0), 0);
	CHECK_INT(staged_write(f, "third", 5, 0), 0);
	CHECK_INT(staged_save(f, &rec, true), 0);
	CHECK_INT(files_in_stage(dir), 2);
	journal_release(&rec);
	f = crash(dir, f, id, &rec);
	CHECK_INT(staged_size(f), 5);
	CHECK(rec.second && holds(f, 0, "third", 5));
	journal_release(&rec);
	CHECK_INT(staged_truncate(f, 0), 0);
	staged_discard(f);
	CHECK_INT(files_in_stage(dir), 0);
	stage_close(the_stage);
}

static void test_shorter_promise(const char *dir)
{
	struct journal_rec rec;
	struct staged *f;
	uint64_t id;

	CASE("what is owed is cut with the file, and never grows holes");
	id = promise(dir, "owed bytes", &f);
	CHECK_INT(staged_truncate(f, 6), 0);
	CHECK_INT(staged_write(f, "more and more", 13, 8), 0);
	f = crash(dir, f, id, &rec);
	CHECK_INT(staged_size(f), 6);
	CHECK_INT(rec.nparts, 1);
	journal_release(&rec);
	CHECK_INT(staged_truncate(f, 20), 0);
	CHECK(holds(f, 0, "owed b\0\0\0\0", 10));
	staged_discard(f);
	stage_close(the_stage);
}

static bool record_synced, name_synced;

static ino_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

static ino_t synced;

static int sync_and_note(int fd)
{
	struct stat st;

	fstat(fd, &st);
	synced = st.st_ino;
	name_synced = S_ISDIR(st.st_mode);
	return 0;
}

static int rename_and_note(const char *from, const char *to)
{
	record_synced = inode_of(from) == synced;
	name_synced = false;
	return fsio_system.rename(from, to);
}

static int unlink_and_note(const char *path)
{
	name_synced = false;
	return fsio_system.unlink(path);
}

static void test_durable(const char *dir)
{
	struct journal_rec rec = { .state = JOURNAL_OWED,
				   .key = strdup("k"),
				   .upload_id = strdup("v") };
	struct fsio_ops ops = fsio_system;
	struct staged *f;
	uint64_t id;

	CASE("a durable record is replaced by a durable one");
	id = promise(dir, "owed bytes", &f);
	ops.fsync = sync_and_note;
	ops.rename = rename_and_note;
	fsio_replace(&ops);
	CHECK_INT(staged_truncate(f, 0), 0);
	CHECK_INT(staged_save_promise(f, &rec, false), 0);
	CHECK(record_synced && name_synced);
	journal_release(&rec);
	CHECK_INT(stage_read_record(the_stage, id, &rec), 0);
	CHECK(strcmp(rec.upload_id, "v") == 0 && rec.nparts == 0);
	CHECK_INT(rec.size, 10);
	record_synced = name_synced = false;
	CHECK_INT(staged_save(f, &rec, false), 0);
	CHECK(record_synced && name_synced);
	journal_release(&rec);

	CASE("the note of a move is gone for good");
	ops.unlink = unlink_and_note;
	id = stage_new_id(the_stage);
	CHECK_INT(stage_note(the_stage, STAGE_MOVE, id, &rec, true), 0);
	stage_note_done(the_stage, STAGE_MOVE, id);
	CHECK(name_synced);
	fsio_replace(NULL);
	staged_discard(f);
	stage_close(the_stage);
}

static unsigned lines;

static void see_line(const char *key, const char *etag, void *arg)
{
	lines++;
	if (lines == 1) {
		CHECK_STR(key, "a b/%41/\n\xc3\xa4");
		CHECK_STR(etag, "e1-2");
	} else {
		CHECK_STR(key, "marker/");
		CHECK_STR(etag, "");
	}
}

static void see_log(uint64_t id, void *arg)
{
	*(uint64_t *)arg = id;
}

static void test_gone(const char *dir)
{
	char path[128];
	uint64_t id = 0;
	struct stage *s;
	struct gone *g;
	FILE *f;

	CASE("removals are remembered, a line that was cut short is not");
	CHECK_INT(stage_open(dir, &s), 0);
	g = gone_create(s);
	CHECK_INT(gone_each(s, see_log, &id), 0);
	CHECK_INT(id, 0);
	CHECK_INT(gone_add(g, "a b/%41/\n\xc3\xa4", "e1-2"), 0);
	CHECK_INT(gone_add(g, "marker/", ""), 0);
	gone_keep(g);
	gone_put(g);
	gone_put(g);
	stage_close(s);

	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(gone_each(s, see_log, &id), 0);
	CHECK(id != 0 && id < stage_new_id(s));
	snprintf(path, sizeof(path), "%s/stage/%016llx.gone", dir,
		 (unsigned long long)id);
	f = fopen(path, "a");
	fputs("00000000 wrong \n12345678 cut", f);
	fclose(f);
	CHECK_INT(gone_read(s, id, see_line, NULL), 0);
	CHECK_INT(lines, 2);
	gone_remove(s, id);
	id = 0;
	CHECK_INT(gone_each(s, see_log, &id), 0);
	CHECK_INT(id, 0);
	g = gone_create(s);
	CHECK_INT(gone_add(g, "k", ""), 0);
	gone_put(g);
	gone_put(g);
	CHECK_INT(gone_each(s, see_log, &id), 0);
	CHECK_INT(id, 0);
	stage_close(s);
}

static void test_notes(const char *dir)
{
	char to[] = "to/", from[] = "from/", other[] = "else/";
	struct journal_rec rec = { .state = JOURNAL_OWED,
				   .key = to,
				   .base_key = from };
	uint64_t id = 0, made;
	struct stage *s;

	CASE("a note is written, replaced, found by its kind, and goes");
	CHECK_INT(stage_open(dir, &s), 0);
	made = stage_new_id(s);
	CHECK_INT(stage_note(s, STAGE_MOVE, made, &rec, true), 0);
	rec.base_key = other;
	CHECK_INT(stage_note(s, STAGE_MOVE, made, &rec, false), 0);
	stage_close(s);

	CHECK_INT(stage_open(dir, &s), 0);
	CHECK_INT(stage_each_kind(s, STAGE_ATTRIBUTES, see_log, &id), 0);
	CHECK_INT(id, 0);
	CHECK_INT(stage_each_kind(s, STAGE_MOVE, see_log, &id), 0);
	CHECK_INT(id, made);
	CHECK_INT(stage_read_note(s, STAGE_ATTRIBUTES, id, &rec), -ENOENT);
	CHECK_INT(stage_read_note(s, STAGE_MOVE, id, &rec), 0);
	CHECK_STR(rec.base_key, "else/");
	CHECK_STR(rec.key, "to/");
	journal_release(&rec);
	stage_note_done(s, STAGE_MOVE, id);
	id = 0;
	CHECK_INT(stage_each_kind(s, STAGE_MOVE, see_log, &id), 0);
	CHECK_INT(id, 0);
	stage_close(s);
}

int main(void)
{
	char dir[] = "/tmp/r2fs-stage-XXXXXX", path[64];

	test_ranges();
	test_journal();
	if (!mkdtemp(dir))
		return 1;
	test_staged(dir);
	test_fill_against_write(dir);
	test_failed_write(dir);
	test_promise(dir);
	test_shorter_promise(dir);
	test_durable(dir);
	test_gone(dir);
	test_notes(dir);
	snprintf(path, sizeof(path), "%s/stage", dir);
	rmdir(path);
	CHECK_INT(rmdir(dir), 0);
	return check_done();
}
