/* Records and what is known of names, against models and a file that fills
 * up. */
#include "cachetest.h"

#include "base/clock.h"
#include "cache/batch.h"
#include "cache/meta_impl.h"

enum { PARENT = 77 };

/* ---- a clock that stands still ---- */

static int64_t now_s = 1000000;

static int64_t fake_wall(void)
{
	return now_s * 1000000000;
}

static uint64_t fake_mono(void)
{
	return (uint64_t)now_s * 1000000000;
}

static const struct clock_ops fake_clock = { fake_mono, fake_wall };

/* ---- records ---- */

static uint64_t random_number(void)
{
	return rand_u64() >> rand_below(64);
}

static void random_etag(char *out)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = rand_below(4) ? 32 : rand_below(40);

	for (size_t i = 0; i < n; i++)
		out[i] = hex[rand_below(16)];
	out[n] = 0;
	if (!rand_below(3))
		sprintf(out + n, "-%u", (unsigned)rand_below(10001));
	if (!rand_below(8))
		strcpy(out, "\"Strange Tag\"");
}

static void random_rec(struct meta_rec *r)
{
	static uint8_t blob[100];

	memset(r, 0, sizeof(*r));
	r->kind = (uint8_t)rand_below(3);
	r->flags = (uint8_t)rand_below(32);
	r->ino = random_number();
	r->size = rand_below(3) ? random_number() : 0;
	r->mtime_ns = (int64_t)random_number();
	if (rand_below(2))
		r->mtime_ns -= r->mtime_ns % 1000000;
	r->checked_ns = (int64_t)random_number();
	r->cid = rand_below(2) ? random_number() : 0;
	random_etag(r->etag);
	for (size_t i = 0; i < sizeof(blob); i++)
		blob[i] = (uint8_t)rand_u64();
	r->blob_len = rand_below(3) ? 0 : (uint32_t)rand_below(sizeof(blob));
	r->blob = r->blob_len ? blob : NULL;
}

static bool same_rec(const struct meta_rec *a, const struct meta_rec *b)
{
	return a->ino == b->ino && a->kind == b->kind && a->flags == b->flags &&
	       a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->checked_ns == b->checked_ns && a->cid == b->cid &&
	       !strcmp(a->etag, b->etag) && a->blob_len == b->blob_len &&
	       (!a->blob_len || !memcmp(a->blob, b->blob, a->blob_len));
}

/* Decoding never yields anything but what the encoder makes. */
static bool canonical(const void *p, size_t n)
{
	struct meta_rec rec;
	struct buf again;
	uint32_t gen;
	bool ok;

	if (record_dentry_decode(p, n, &rec, &gen))
		return !rec.blob && !rec.ino;
	buf_init(&again, RECORD_MAX);
	record_dentry_encode(&again, &rec, gen);
	ok = again.len == n && !memcmp(again.data, p, n);
	buf_release(&again);
	meta_rec_release(&rec);
	return ok;
}

static void test_dentry_records(void)
{
	bool same = true, refused = true, strict = true;

	CASE("a dentry is read back as it was written");
	rand_seed(1);
	for (int i = 0; i < 20000; i++) {
		struct meta_rec a, b;
		struct record_peek peek;
		struct buf out;
		uint32_t gen = (uint32_t)random_number(), got;

		random_rec(&a);
		buf_init(&out, RECORD_MAX);
		record_dentry_encode(&out, &a, gen);
		same &= !record_dentry_decode(out.data, out.len, &b, &got) &&
			same_rec(&a, &b) && got == gen;
		meta_rec_release(&b);
		same &= !record_dentry_peek(out.data, out.len, &peek) &&
			peek.kind == a.kind && peek.ino == a.ino &&
			peek.gen == gen && peek.checked_ns == a.checked_ns;
		if (out.len > 1) {
			size_t cut = rand_below(out.len);

			refused &= record_dentry_decode(out.data, cut, &b,
							&got) == -EBADMSG;
			out.data[rand_below(out.len)] ^=
				(char)(1 << rand_below(8));
			strict &= canonical(out.data, out.len);
		}
		buf_release(&out);
	}
	CHECK(same);
	CASE("a dentry cut short is refused, a damaged one not misread");
	CHECK(refused);
	CHECK(strict);
}

static void test_other_records(void)
{
	struct record_extent e, f;
	struct record_state s, t;
	struct buf out;
	uint32_t pages;
	bool same = true, refused = true;

	CASE("extents are read back as they were written");
	for (int i = 0; i < 5000; i++) {
		memset(&e, 0, sizeof(e));
		e.present = rand_below(3) ? rand_u64() | 1 :
			    rand_below(2) ? 1 :
					    UINT64_MAX;
		e.epoch = random_number();
		e.pages = 1 + (uint32_t)rand_below(1024);
		for (int b = 0; b < EXTENT_BLOCKS; b++)
			if (e.present >> b & 1)
				e.crc[b] = (uint32_t)rand_u64();
		buf_init(&out, RECORD_MAX);
		record_extent_encode(&out, &e);
		same &= !record_extent_decode(out.data, out.len, &f) &&
			!memcmp(&e, &f, sizeof(e)) &&
			!record_extent_peek(out.data, out.len, &pages) &&
			pages == e.pages;
		refused &= record_extent_decode(out.data, rand_below(out.len),
						&f) != 0;
		buf_release(&out);
	}
	CHECK(same);
	CHECK(refused);

	CASE("the state is read back as it was written");
	memset(&s, 0, sizeof(s));
	s.clean = s.writable = s.damaged = true;
	s.epoch = 5;
	s.next_ino = 1ull << 50;
	s.next_cid = 7;
	s.distrust_ns = -3;
	strcpy(s.boot_id, "boot");
	strcpy(s.identity, "http://host/ bucket");
	buf_init(&out, RECORD_MAX);
	record_state_encode(&out, &s);
	CHECK_INT(record_state_decode(out.data, out.len, &t), 0);
	CHECK(!memcmp(&s, &t, sizeof(s)));
	for (size_t n = 0; n < out.len; n++)
		CHECK_INT(record_state_decode(out.data, n, &t), -EBADMSG);
	out.data[0] ^= 0x10;
	CHECK_INT(record_state_decode(out.data, out.len, &t), -EBADMSG);
	buf_release(&out);
}

/* ---- single names ---- */

static struct meta_rec file_rec(const char *etag, uint64_t size)
{
	struct meta_rec r = { .kind = META_FILE,
			      .size = size,
			      .checked_ns = clock_wall_ns() };

	snprintf(r.etag, sizeof(r.etag), "%s", etag);
	return r;
}

static struct meta_rec put(struct meta *m, const char *name,
			   struct meta_rec rec)
{
	struct meta_rec ret = { 0 };

	CHECK_INT(meta_put(m, PARENT, name, &rec, &ret), 0);
	return ret;
}

static void test_names(void)
{
	struct cache *c = open_new(0);
	struct meta *m = cache_meta(c);
	char headers[] = "mode=1", longest[CACHE_NAME_MAX + 2];
	struct meta_rec a, b, r;
	uint64_t cid, before;

	CASE("a name keeps its number, and its content as long as its version");
	r = file_rec("e1", 5);
	r.flags = META_HAS_HEADERS;
	r.blob = headers;
	r.blob_len = sizeof(headers);
	a = put(m, "a", r);
	CHECK(a.ino > CACHE_ROOT_INO);
	CHECK_INT(meta_cid(m, PARENT, "a", "e2", &cid), -ESTALE);
	CHECK_INT(meta_cid(m, PARENT, "a", "e1", &cid), 0);
	CHECK(cid > 0);
	b = put(m, "a", file_rec("e1", 5));
	CHECK_INT(b.ino, a.ino);
	CHECK_INT(b.cid, cid);
	CHECK(b.flags & META_HAS_HEADERS && b.blob_len == sizeof(headers));
	meta_rec_release(&b);
	b = put(m, "a", file_rec("e2", 5));
	CHECK_INT(b.ino, a.ino);
	CHECK_INT(b.cid, 0);
	CHECK(!b.blob && !(b.flags & META_HAS_HEADERS));
	b = put(m, "a", (struct meta_rec){ .kind = META_DIR });
	CHECK(b.ino != a.ino);
	meta_rec_release(&a);

	CASE("a negative entry is a record, nothing known is none");
	CHECK_INT(meta_get(m, PARENT, "x", &r), -ENOENT);
	put(m, "x",
	    (struct meta_rec){ .kind = META_ABSENT,
			       .checked_ns = clock_wall_ns() });
	now_s += 7;
	CHECK_INT(meta_get(m, PARENT, "x", &r), 0);
	CHECK_INT(r.kind, META_ABSENT);
	CHECK_INT(clock_wall_ns() - r.checked_ns, 7000000000);
	CHECK_INT(meta_del(m, PARENT, "x"), 0);
	CHECK_INT(meta_get(m, PARENT, "x", &r), -ENOENT);
	CHECK_INT(meta_del(m, PARENT, "x"), 0);

	CASE("an answer to what was asked before is older than a put");
	r = file_rec("old", 3);
	now_s += 2;
	a = put(m, "late", file_rec("new", 4));
	CHECK_INT(meta_learn(m, PARENT, "late", &r, &b), 0);
	CHECK_STR(b.etag, "new");
	CHECK_INT(b.ino, a.ino);
	CHECK_INT(b.checked_ns, clock_wall_ns());
	put(m, "late",
	    (struct meta_rec){ .kind = META_ABSENT,
			       .checked_ns = clock_wall_ns() });
	CHECK_INT(meta_learn(m, PARENT, "late", &r, &b), 0);
	CHECK_INT(b.kind, META_ABSENT);
	CHECK_INT(meta_get(m, PARENT, "late", &b), 0);
	CHECK_INT(b.kind, META_ABSENT);

	CASE("of two of the same time the answer counts");
	r = file_rec("same", 3);
	CHECK_INT(meta_learn(m, PARENT, "late", &r, &b), 0);
	CHECK_STR(b.etag, "same");

	CASE("an older answer still brings the headers of the version");
	now_s += 2;
	put(m, "late", file_rec("same", 3));
	r.flags = META_HAS_HEADERS;
	r.blob = headers;
	r.blob_len = sizeof(headers);
	CHECK_INT(meta_learn(m, PARENT, "late", &r, &b), 0);
	CHECK_INT(b.checked_ns, clock_wall_ns());
	CHECK(b.flags & META_HAS_HEADERS && b.blob_len == sizeof(headers));
	meta_rec_release(&b);

	CASE("a clock set back makes nothing newer than all answers");
	now_s -= 1000;
	r = file_rec("after", 3);
	CHECK_INT(meta_learn(m, PARENT, "late", &r, &b), 0);
	CHECK_STR(b.etag, "after");
	now_s += 1000;

	CASE("headers of another time of the version are old, and kept");
	r = file_rec("same", 3);
	r.mtime_ns = 5000000000;
	r.flags = META_HAS_HEADERS;
	r.blob = headers;
	r.blob_len = sizeof(headers);
	b = put(m, "copied", r);
	meta_rec_release(&b);
	r = file_rec("same", 3);
	r.mtime_ns = 5700000000;
	b = put(m, "copied", r);
	CHECK(b.flags & META_HAS_HEADERS);
	meta_rec_release(&b);
	r.mtime_ns = 6000000000;
	b = put(m, "copied", r);
	CHECK(b.flags & META_OLD_HEADERS && !(b.flags & META_HAS_HEADERS));
	CHECK(b.blob_len == sizeof(headers));
	meta_rec_release(&b);
	b = put(m, "copied", r);
	CHECK(b.flags & META_OLD_HEADERS && b.blob_len == sizeof(headers));
	meta_rec_release(&b);
	r.flags = META_HAS_HEADERS;
	b = put(m, "copied", r);
	CHECK(b.flags & META_HAS_HEADERS && !(b.flags & META_OLD_HEADERS));
	CHECK_INT(b.blob_len, 0);

	CASE("what was stored here has any time up to the answer's second");
	r.flags = META_HAS_HEADERS | META_STORED;
	put(m, "copied", r);
	r.flags = 0;
	r.mtime_ns = 6999000000;
	b = put(m, "copied", r);
	CHECK(b.flags & META_HAS_HEADERS && !(b.flags & META_STORED));
	CHECK(meta_same_time(META_STORED, 6000000000, 1000000000));
	CHECK(!meta_same_time(META_STORED, 6000000000, 7000000000));
	CHECK(!meta_same_time(0, 6999000000, 6998000000));

	CASE("changes of single names are counted");
	before = meta_changes(m, PARENT);
	put(m, "late", file_rec("more", 3));
	CHECK(meta_changes(m, PARENT) != before);
	before = meta_changes(m, PARENT);
	CHECK_INT(meta_del(m, PARENT, "late"), 0);
	CHECK(meta_changes(m, PARENT) != before);

	CASE("names have 1 to 255 bytes");
	memset(longest, 'n', sizeof(longest));
	longest[CACHE_NAME_MAX + 1] = 0;
	CHECK_INT(meta_get(m, PARENT, longest, &r), -ENAMETOOLONG);
	CHECK_INT(meta_put(m, PARENT, longest, &r, NULL), -ENAMETOOLONG);
	CHECK_INT(meta_get(m, PARENT, "", &r), -EINVAL);
	longest[CACHE_NAME_MAX] = 0;
	put(m, longest, file_rec("e", 1));
	CHECK_INT(meta_get(m, PARENT, longest, &r), 0);

	CASE("numbers outlive a restart and are not given twice");
	a = put(m, "stays", file_rec("e1", 5));
	cid = meta_new_cid(m);
	c = reopen(c);
	m = cache_meta(c);
	CHECK_INT(meta_get(m, PARENT, "stays", &b), 0);
	CHECK_INT(a.ino, b.ino);
	CHECK(meta_new_ino(m) > a.ino);
	CHECK(meta_new_cid(m) > cid);
	cache_close(c);
}

/* ---- listings ---- */

enum { LISTED = 8 };

static unsigned entries_of(struct meta_entry *e, const char *names)
{
	unsigned n = 0;

	memset(e, 0, LISTED * sizeof(*e));
	for (; *names && n < LISTED; n++) {
		size_t len = strcspn(names, " ");

		memcpy(e[n].name, names, len);
		e[n].rec = file_rec("listed", 3);
		names += len + (names[len] == ' ');
	}
	return n;
}

static int list_page(struct meta *m, uint32_t gen, const char *names)
{
	struct meta_entry e[LISTED];
	unsigned n = entries_of(e, names);
	int err = meta_dir_page(m, PARENT, gen, e, n);

	while (n)
		meta_rec_release(&e[--n].rec);
	return err;
}

static int fill(struct meta *m, const char *names, int64_t complete_ns)
{
	struct meta_entry e[LISTED];
	unsigned n = entries_of(e, names);
	int err = meta_dir_fill(m, PARENT, e, n, complete_ns, 1);
	bool numbered = true;

	for (unsigned i = 0; i < n; i++)
		numbered &= e[i].rec.ino != 0;
	CHECK(err || numbered);
	while (n)
		meta_rec_release(&e[--n].rec);
	return err;
}

static const char *names_of(struct meta *m, const char *after, unsigned max)
{
	static char out[16 * (CACHE_NAME_MAX + 1) + 1];
	struct meta_entry e[16];
	int n = meta_list(m, PARENT, after, e, max);

	out[0] = 0;
	for (int i = 0; i < n; i++) {
		strcat(out, e[i].name);
		strcat(out, " ");
		meta_rec_release(&e[i].rec);
	}
	return n < 0 ? NULL : out;
}

static void test_listing(void)
{
	struct cache *c = open_new(0);
	struct meta *m = cache_meta(c);
	struct meta_dir d;
	uint32_t gen, older;

	CASE("a directory is complete once it was listed to its end");
	CHECK_INT(meta_dir_begin(m, PARENT, &gen), 0);
	CHECK_INT(list_page(m, gen, "a b c"), 0);
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, 0);
	CHECK_INT(list_page(m, gen, "d"), 0);
	CHECK_INT(meta_dir_end(m, PARENT, gen, clock_wall_ns(), 2), 0);
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, clock_wall_ns());
	CHECK_INT(d.entries, 4);
	CHECK_INT(d.hidden, 2);
	CHECK_STR(names_of(m, NULL, 16), "a b c d ");
	CHECK_STR(names_of(m, "b", 16), "c d ");
	CHECK_STR(names_of(m, NULL, 2), "a b ");

	CASE("what a later listing lacks is gone, what was put stays");
	put(m, "zz", (struct meta_rec){ .kind = META_ABSENT });
	now_s += 10;
	CHECK_INT(meta_dir_begin(m, PARENT, &gen), 0);
	CHECK_INT(list_page(m, gen, "b"), 0);
	put(m, "new", file_rec("mine", 1));
	CHECK_INT(list_page(m, gen, "d e"), 0);
	CHECK_INT(meta_dir_end(m, PARENT, gen, clock_wall_ns(), 0), 0);
	CHECK_STR(names_of(m, NULL, 16), "b d e new ");
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.entries, 4);
	CHECK_INT(d.complete_ns, clock_wall_ns());

	CASE("a listing that another overtook ends without effect");
	CHECK_INT(meta_dir_begin(m, PARENT, &older), 0);
	CHECK_INT(meta_dir_begin(m, PARENT, &gen), 0);
	CHECK_INT(list_page(m, older, "q"), -ESTALE);
	CHECK_INT(meta_dir_end(m, PARENT, older, 1, 0), -ESTALE);
	CHECK_INT(list_page(m, gen, "b"), 0);
	CHECK_INT(meta_dir_end(m, PARENT, gen, clock_wall_ns(), 0), 0);
	CHECK_STR(names_of(m, NULL, 16), "b ");

	CASE("completeness can be forgotten and outlives a restart");
	c = reopen(c);
	m = cache_meta(c);
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, clock_wall_ns());
	CHECK_STR(names_of(m, NULL, 16), "b ");
	CHECK_INT(meta_dir_forget(m, PARENT), 0);
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, 0);
	cache_close(c);
}

static void test_fill(void)
{
	struct cache *c = open_new(0);
	struct meta *m = cache_meta(c);
	struct meta_dir d;
	uint32_t gen;

	CASE("a directory of which nothing is known is filled at one go");
	CHECK_INT(fill(m, "a b", 0), 0);
	CHECK_STR(names_of(m, NULL, 16), "a b ");
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, 0);
	CHECK_INT(fill(m, "a b c", clock_wall_ns()), -EEXIST);
	CHECK_INT(meta_del(m, PARENT, "a"), 0);
	CHECK_INT(meta_del(m, PARENT, "b"), 0);
	CHECK_INT(fill(m, "a b c", clock_wall_ns()), 0);
	CHECK_INT(meta_dir_get(m, PARENT, &d), 0);
	CHECK_INT(d.complete_ns, clock_wall_ns());
	CHECK_INT(d.entries, 3);
	CHECK_INT(d.hidden, 1);
	cache_close(c);

	CASE("what is known is newer: an absent name, an empty folder");
	c = open_new(0);
	m = cache_meta(c);
	put(m, "gone", (struct meta_rec){ .kind = META_ABSENT });
	CHECK_INT(fill(m, "gone", clock_wall_ns()), -EEXIST);
	CHECK_INT(meta_del(m, PARENT, "gone"), 0);
	CHECK_INT(meta_dir_begin(m, PARENT, &gen), 0);
	CHECK_INT(fill(m, "a", clock_wall_ns()), -EEXIST);
	CHECK_INT(meta_dir_end(m, PARENT, gen, clock_wall_ns(), 0), 0);
	CHECK_INT(fill(m, "a", clock_wall_ns()), -EEXIST);
	CHECK_STR(names_of(m, NULL, 16), "");
	cache_close(c);

	CASE("a later listing takes away what it lacks");
	c = open_new(0);
	m = cache_meta(c);
	CHECK_INT(fill(m, "a b c", clock_wall_ns()), 0);
	CHECK_INT(meta_dir_begin(m, PARENT, &gen), 0);
	CHECK_INT(list_page(m, gen, "b"), 0);
	CHECK_INT(meta_dir_end(m, PARENT, gen, clock_wall_ns(), 0), 0);
	CHECK_STR(names_of(m, NULL, 16), "b ");
	cache_close(c);
}

/* ---- random operations ---- */

enum { DIRS = 4, NAMES = 30, STEPS = 30000 };

struct model {
	uint64_t size; /* 0: nothing known */
	uint64_t ino;
};

static bool lists_like(struct meta *m, uint64_t dir, const struct model *want)
{
	struct meta_entry e[NAMES + 1];
	int n = meta_list(m, dir, NULL, e, NAMES + 1), seen = 0;
	bool same = n >= 0;

	for (int i = 0; i < n; i++) {
		unsigned k = (unsigned)atoi(e[i].name + 1);

		same &= k < NAMES && want[k].size == e[i].rec.size &&
			want[k].ino == e[i].rec.ino;
		meta_rec_release(&e[i].rec);
	}
	for (int k = 0; k < NAMES; k++)
		seen += want[k].size > 0;
	return same && n == seen;
}

static bool put_like(struct meta *m, uint64_t dir, const char *name,
		     struct model *w)
{
	struct meta_rec r = file_rec("e", 1 + rand_below(1000)), got;

	if (meta_put(m, dir, name, &r, &got))
		return false;
	bool kept = !w->ino || w->ino == got.ino;

	w->size = r.size;
	w->ino = got.ino;
	meta_rec_release(&got);
	return kept;
}

static bool list_like(struct meta *m, uint64_t dir, struct model *want)
{
	struct meta_entry e[NAMES];
	struct meta_dir d;
	unsigned n = 0, visible = 0;
	uint32_t gen;

	memset(e, 0, sizeof(e));
	if (meta_dir_begin(m, dir, &gen))
		return false;
	now_s++;
	for (unsigned k = 0; k < NAMES; k++) {
		if (rand_below(2)) {
			memset(&want[k], 0, sizeof(want[k]));
			continue;
		}
		snprintf(e[n].name, sizeof(e[n].name), "n%02u", k);
		e[n].rec = file_rec("l", want[k].size = 1 + rand_below(1000));
		n++;
	}
	if (meta_dir_page(m, dir, gen, e, n))
		return false;
	for (unsigned i = 0; i < n; i++) {
		struct model *w = &want[atoi(e[i].name + 1)];

		if (w->ino && w->ino != e[i].rec.ino)
			return false;
		w->ino = e[i].rec.ino;
		meta_rec_release(&e[i].rec);
		visible++;
	}
	return !meta_dir_end(m, dir, gen, clock_wall_ns(), 0) &&
	       !meta_dir_get(m, dir, &d) && d.entries == visible &&
	       d.complete_ns == clock_wall_ns();
}

static bool move_like(struct meta *m, uint64_t dir, const char *name,
		      struct model *w, struct model *to, const char *to_name)
{
	int err = meta_move(m, dir, name, dir, to_name, clock_wall_ns());

	if (!w->size)
		return err == -ENOENT || !err;
	*to = *w;
	memset(w, 0, sizeof(*w));
	return !err;
}

static void test_random(void)
{
	struct model want[DIRS][NAMES] = { 0 };
	struct cache *c = open_new(0);
	bool same = true;
	char name[16], other[16];

	CASE("random operations agree with a model, across restarts too");
	rand_seed(3);
	for (int step = 0; step < STEPS; step++) {
		struct meta *m = cache_meta(c);
		unsigned d = (unsigned)rand_below(DIRS),
			 k = (unsigned)rand_below(NAMES),
			 l = (unsigned)rand_below(NAMES);
		struct meta_rec r;

		snprintf(name, sizeof(name), "n%02u", k);
		snprintf(other, sizeof(other), "n%02u", l);
		switch (rand_below(12)) {
		case 0:
		case 1:
		case 2:
			same &= put_like(m, 100 + d, name, &want[d][k]);
			break;
		case 3:
			same &= !meta_del(m, 100 + d, name);
			memset(&want[d][k], 0, sizeof(want[d][k]));
			break;
		case 4:
			if (rand_below(20) == 0)
				same &= list_like(m, 100 + d, want[d]);
			break;
		case 5:
			if (k != l && want[d][k].size)
				same &= move_like(m, 100 + d, name, &want[d][k],
						  &want[d][l], other);
			break;
		case 6:
			same &= lists_like(m, 100 + d, want[d]);
			break;
		case 7:
			if (rand_below(50) == 0)
				same &= !meta_flush(m);
			break;
		default:
			if (meta_get(m, 100 + d, name, &r))
				memset(&r, 0, sizeof(r));
			same &= r.kind == META_FILE ?
					r.size == want[d][k].size &&
						r.ino == want[d][k].ino :
					!want[d][k].size;
			meta_rec_release(&r);
		}
		if (step % 6000 == 5999)
			c = reopen(c);
	}
	CHECK(same);
	cache_close(c);
}

/* ---- a database that fills up ---- */

static void test_map_full(void)
{
	struct cache *c = open_new(0);
	bool sound = true;
	unsigned lost = 0;

	CASE("no directory looks complete with names missing");
	test_config.map_bytes = 4 << 20;
	c = reopen(c);
	for (uint64_t dir = 1000; dir < 1400; dir++) {
		struct meta *m = cache_meta(c);
		struct meta_entry *e = calloc(200, sizeof(*e));
		struct meta_dir d;
		uint32_t gen;
		int err;

		for (int i = 0; i < 200; i++) {
			snprintf(e[i].name, sizeof(e[i].name),
				 "a-rather-long-name-of-a-file-%08d", i);
			e[i].rec = file_rec("0123456789abcdef", 1);
		}
		err = meta_dir_begin(m, dir, &gen);
		if (!err)
			err = meta_dir_page(m, dir, gen, e, 200);
		if (!err)
			err = meta_dir_end(m, dir, gen, clock_wall_ns(), 0);
		sound &= !err || err == -ENOSPC || err == -ESTALE;
		if (dir % 7 == 0)
			sound &= !meta_flush(m);
		for (uint64_t old = 1000; old <= dir; old += 13) {
			sound &= !meta_dir_get(m, old, &d);
			if (!d.complete_ns) {
				lost++;
				continue;
			}
			int n = meta_list(m, old, NULL, e, 200);

			sound &= n == 200;
			while (n > 0)
				meta_rec_release(&e[--n].rec);
		}
		free(e);
	}
	CHECK(sound);
	CHECK(lost > 0);
	CHECK(du("cache.mdb") <= (4 << 20) + (1 << 19));
	cache_close(c);
	test_config.map_bytes = 0;
}

/* ---- the writer's own work ---- */

static struct meta *collected;

static void collect(void *arg)
{
	struct meta *m = __atomic_load_n(&collected, __ATOMIC_ACQUIRE);

	if (m)
		meta_collect(m);
}

/* Another thread has a write scope: commits wait. */
static pthread_barrier_t holding;
static pthread_t holder;

static void *hold(void *arg)
{
	struct kv_write w;

	CHECK_INT(kv_write_begin(arg, &w), 0);
	pthread_barrier_wait(&holding);
	pthread_barrier_wait(&holding);
	kv_abort(&w);
	return NULL;
}

static void hold_writer(struct kv *kv)
{
	pthread_barrier_init(&holding, NULL, 2);
	if (pthread_create(&holder, NULL, hold, kv))
		abort();
	pthread_barrier_wait(&holding);
}

static void free_writer(void)
{
	pthread_barrier_wait(&holding);
	pthread_join(holder, NULL);
}

static void test_collect(void)
{
	char path[64], name[32];
	struct batch_config bc = { .path = path,
				   .interval_ms = 1,
				   .before = collect };
	struct meta_rec dir = { .kind = META_DIR }, r;
	struct batch *b;
	struct kv *kv;

	CASE("what is below a directory that went is collected");
	snprintf(path, sizeof(path), "%s/collect.mdb", test_dir);
	CHECK_INT(kv_open(path, 1 << 30, true, &kv), 0);
	bc.kv = kv;
	b = batch_create(&bc);
	struct meta *m = meta_create(b, 2, 1);
	__atomic_store_n(&collected, m, __ATOMIC_RELEASE);
	CHECK_INT(meta_put(m, PARENT, "d", &dir, &dir), 0);
	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		r = file_rec("e", 1);
		CHECK_INT(meta_put(m, dir.ino, name, &r, NULL), 0);
	}
	CHECK_INT(meta_flush(m), 0);
	CHECK_INT(meta_del(m, PARENT, "d"), 0);
	for (int i = 0; i < 10; i++) {
		r = file_rec("e", 1);
		CHECK_INT(meta_put(m, PARENT, "x", &r, NULL), 0);
		CHECK_INT(meta_flush(m), 0);
	}
	CHECK_INT(kv_entries(kv, KV_DENTRY), 1);

	CASE("the writer does not wait for itself when much is pending");
	CHECK_INT(meta_put(m, PARENT, "d",
			   &(struct meta_rec){ .kind = META_DIR }, NULL),
		  0);
	CHECK_INT(meta_flush(m), 0);
	hold_writer(kv);
	batch_put(b, KV_STATE, (struct slice){ "x", 1 },
		  (struct slice){ "x", 1 });
	usleep(50000);
	CHECK_INT(meta_del(m, PARENT, "d"), 0);
	for (int i = 0; i < 70000; i++) {
		snprintf(name, sizeof(name), "%07d", i);
		batch_put(b, KV_DENTRY, (struct slice){ name, 7 },
			  (struct slice){ name, 7 });
	}
	free_writer();
	alarm(60);
	CHECK_INT(meta_flush(m), 0);
	alarm(0);
	__atomic_store_n(&collected, NULL, __ATOMIC_RELEASE);
	batch_destroy(b);
	meta_destroy(m);
	kv_close(kv);
}

int main(void)
{
	test_start();
	clock_replace(&fake_clock);
	test_dentry_records();
	test_other_records();
	test_names();
	test_listing();
	test_fill();
	test_random();
	test_map_full();
	test_collect();
	clock_replace(NULL);
	return test_end();
}
