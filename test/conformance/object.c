/* Reading, writing and deleting one object, and the conditions on it. */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "conformance.h"

#define HELLO_ETAG "5d41402abc4b2a76b9719d911017c592"
#define OTHER_ETAG "00000000000000000000000000000000"

static void round_trip(struct ctx *c)
{
	const char *k = key(c, "k");
	struct store_req req;

	req = put_req(c, k, "hello", 5);
	ENDS(c, &req, 0);
	IS_STR(c, req.attr.etag.s, HELLO_ETAG);
	store_req_release(&req);
	has_text(c, k, "hello");
	req = op_req(STORE_HEAD, k);
	ENDS(c, &req, 0);
	IS(c, req.attr.size, 5);
	IS_STR(c, req.attr.etag.s, HELLO_ETAG);
	IS_STR(c, req.attr.content_type, "application/octet-stream");
	OK(c, llabs(req.attr.mtime_ns / 1000000000 - clock_wall_s()) < 60);
	store_req_release(&req);
}

static void large(struct ctx *c)
{
	size_t n = 9 << 20;
	uint8_t *out = xmalloc(n), *in = xmalloc(n);
	struct store_req req;

	fill(out, n, 1);
	req = put_req(c, key(c, "k"), out, n);
	ENDS(c, &req, 0);
	req = get_req(key(c, "k"), in, n);
	ENDS(c, &req, 0);
	IS(c, req.buf_len, n);
	OK(c, memcmp(in, out, n) == 0);
	store_req_release(&req);
	free(in);
	free(out);
}

static void empty(struct ctx *c)
{
	const char *k = key(c, "k");
	char buf[8];
	struct store_req req;

	put_text(c, k, "");
	has_text(c, k, "");
	req = get_req(k, buf, sizeof(buf));
	req.ranged = true;
	req.range_len = 8;
	ENDS(c, &req, 0);
	IS(c, req.buf_len, 0);
	IS(c, req.attr.size, 0);
	IS_STR(c, req.attr.etag.s, "d41d8cd98f00b204e9800998ecf8427e");
	store_req_release(&req);
}

static void ranged(struct ctx *c, uint64_t off, uint64_t len, int error,
		   const char *text)
{
	char buf[64] = "";
	struct store_req req = get_req(key(c, "k"), buf, sizeof(buf) - 1);

	req.ranged = true;
	req.range_off = off;
	req.range_len = len;
	ENDS(c, &req, error);
	buf[error ? 0 : req.buf_len] = 0;
	IS_STR(c, buf, text);
	if (!error)
		IS(c, req.attr.size, 10);
	store_req_release(&req);
}

static void ranges(struct ctx *c)
{
	put_text(c, key(c, "k"), "0123456789");
	ranged(c, 0, 10, 0, "0123456789");
	ranged(c, 0, 1, 0, "0");
	ranged(c, 3, 4, 0, "3456");
	ranged(c, 8, 50, 0, "89");
	ranged(c, 9, 1, 0, "9");
	ranged(c, 10, 5, -ERANGE, "");
}

static void missing(struct ctx *c)
{
	struct store_req req = op_req(STORE_HEAD, key(c, "k"));

	has_text(c, key(c, "k"), NULL);
	ENDS(c, &req, -ENOENT);
}

static void read_conditions(struct ctx *c)
{
	static const enum store_op ops[] = { STORE_GET, STORE_HEAD };
	char buf[16];

	put_text(c, key(c, "k"), "hello");
	for (unsigned i = 0; i < 2; i++) {
		struct store_req req = get_req(key(c, "k"), buf, sizeof(buf));

		req.op = ops[i];
		req.if_match = HELLO_ETAG;
		ENDS(c, &req, 0);
		store_req_release(&req);
		req.if_match = OTHER_ETAG;
		ENDS(c, &req, -ESTALE);
		req.if_match = NULL;
		req.if_none_match = OTHER_ETAG;
		ENDS(c, &req, 0);
		IS(c, req.not_modified, false);
		store_req_release(&req);
		req.if_none_match = HELLO_ETAG;
		ENDS(c, &req, 0);
		IS(c, req.not_modified, true);
		store_req_release(&req);
	}
}

static void wrong_md5(struct ctx *c)
{
	struct store_req req = put_req(c, key(c, "k"), "hello", 5);

	req.body.md5[0] ^= 1;
	ENDS(c, &req, -EBADMSG);
	has_text(c, key(c, "k"), NULL);
}

static void create_only(struct ctx *c)
{
	struct store_req req = put_req(c, key(c, "k"), "first", 5);

	req.if_absent = true;
	ENDS(c, &req, 0);
	req = put_req(c, key(c, "k"), "second", 6);
	req.if_absent = true;
	ENDS(c, &req, -EEXIST);
	has_text(c, key(c, "k"), "first");
}

static void replace_only(struct ctx *c)
{
	struct store_req req;

	put_text(c, key(c, "k"), "hello");
	req = put_req(c, key(c, "k"), "second", 6);
	req.if_match = OTHER_ETAG;
	ENDS(c, &req, -ESTALE);
	has_text(c, key(c, "k"), "hello");
	req.if_match = HELLO_ETAG;
	ENDS(c, &req, 0);
	has_text(c, key(c, "k"), "second");
	req = put_req(c, key(c, "not-there"), "x", 1);
	req.if_match = HELLO_ETAG;
	ENDS(c, &req, -ESTALE);
	has_text(c, key(c, "not-there"), NULL);
}

static void conditional_put_is_known(struct ctx *c)
{
	struct store_counters n;

	create_only(c);
	store_counters_get(c->store, &n);
	IS(c, n.requests[STORE_HEAD], 0);
}

enum { RACERS = 12 };

struct race {
	struct ctx *c;
	struct store_req reqs[RACERS];
	char bodies[RACERS][16];
};

static void race_start(struct race *r, struct ctx *c, const char *if_match)
{
	r->c = c;
	for (unsigned i = 0; i < RACERS; i++) {
		snprintf(r->bodies[i], sizeof(r->bodies[i]), "racer %u", i);
		r->reqs[i] = put_req(c, key(c, "k"), r->bodies[i],
				     strlen(r->bodies[i]));
		r->reqs[i].if_match = if_match;
		r->reqs[i].if_absent = !if_match;
	}
}

static void landed(struct store_req *req)
{
	__atomic_sub_fetch((int *)req->arg, 1, __ATOMIC_ACQ_REL);
}

/* All at once; returns who won, the last of several. */
static int race_run(struct race *r, unsigned *winners)
{
	int left = RACERS, won = -1;

	for (unsigned i = 0; i < RACERS; i++) {
		r->reqs[i].done = landed;
		r->reqs[i].arg = &left;
		store_submit(r->c->store, &r->reqs[i]);
	}
	while (__atomic_load_n(&left, __ATOMIC_ACQUIRE))
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	*winners = 0;
	for (unsigned i = 0; i < RACERS; i++) {
		if (r->reqs[i].error == 0) {
			won = (int)i;
			(*winners)++;
		}
	}
	return won;
}

static void race_to_create(struct ctx *c)
{
	unsigned winners;
	struct race r;
	int won;

	race_start(&r, c, NULL);
	won = race_run(&r, &winners);
	IS(c, winners, 1);
	if (won < 0)
		return;
	has_text(c, key(c, "k"), r.bodies[won]);
	for (int i = 0; i < RACERS; i++)
		if (i != won)
			IS(c, r.reqs[i].error, -EEXIST);
}

static void race_to_replace(struct ctx *c)
{
	unsigned winners;
	struct race r;
	int won;

	put_text(c, key(c, "k"), "hello");
	race_start(&r, c, HELLO_ETAG);
	won = race_run(&r, &winners);
	IS(c, winners, 1);
	if (won >= 0)
		has_text(c, key(c, "k"), r.bodies[won]);
}

static void delete_one(struct ctx *c)
{
	struct store_req req = op_req(STORE_DELETE, key(c, "k"));

	put_text(c, key(c, "k"), "x");
	ENDS(c, &req, 0);
	has_text(c, key(c, "k"), NULL);
	ENDS(c, &req, 0);
}

static void delete_many(struct ctx *c)
{
	static const char *const names[] = {
		"not there",
		"a",
		"b<&>\"'",
		"\xc3\xa9 +%",
		"a&lt;b&amp;c&#65;",
		" x ",
		"007",
		"1e5",
		"true",
		"a\tb",
		"]]>",
		"a  b",
		"a\x7f",
	};
	enum { N = ARRAY_SIZE(names) };
	const char *keys[N];
	int errors[N];
	struct store_req req = op_req(STORE_DELETE_MANY, NULL);

	for (int i = 0; i < N; i++) {
		keys[i] = xasprintf("%s%s", c->prefix, names[i]);
		errors[i] = 1;
		if (i)
			put_text(c, keys[i], "x");
	}
	put_text(c, key(c, "kept"), "x");
	put_text(c, key(c, " x"), "x");
	req.keys = keys;
	req.nkeys = N;
	req.key_errors = errors;
	ENDS(c, &req, 0);
	IS(c, req.nfailed, 0);
	for (int i = 0; i < N; i++) {
		IS(c, errors[i], 0);
		has_text(c, keys[i], NULL);
		free((char *)keys[i]);
	}
	has_text(c, key(c, "kept"), "x");
	has_text(c, key(c, " x"), "x");
}

static void delete_odd(struct ctx *c)
{
	const char *k = key(c, "x\x01y\x1fz");
	struct store_req req = op_req(STORE_DELETE_MANY, NULL);

	put_text(c, k, "x");
	req.keys = &k;
	req.nkeys = 1;
	ENDS(c, &req, 0);
	IS(c, req.nfailed, 0);
	has_text(c, k, NULL);
}

static void delete_thousand(struct ctx *c)
{
	char *keys[STORE_DELETE_MAX];
	struct store_req req = op_req(STORE_DELETE_MANY, NULL);

	for (int i = 0; i < STORE_DELETE_MAX; i++)
		keys[i] = xasprintf("%sn%04d", c->prefix, i);
	put_text(c, keys[999], "x");
	req.keys = (const char *const *)keys;
	req.nkeys = STORE_DELETE_MAX;
	ENDS(c, &req, 0);
	IS(c, req.nfailed, 0);
	has_text(c, keys[999], NULL);
	for (int i = 0; i < STORE_DELETE_MAX; i++)
		free(keys[i]);
}

#define NO_CONDITIONS "answers 501 to a conditional PUT"

static const struct conformance_case cases[] = {
	{ "an object comes back as it was put", round_trip },
	{ "9 MiB come back as they were put", large },
	{ "an empty object, and a range of it", empty },
	{ "ranges, clamped and beyond the end", ranges },
	{ "an object that is not there", missing },
	{ "conditions on reading", read_conditions },
	{ "a body that is not its MD5 is not stored", wrong_md5 },
	{ "create only", create_only },
	{ "replace only", replace_only },
	{ "a condition costs no request more",
	  conditional_put_is_known,
	  { { "swift", NO_CONDITIONS } } },
	{ "one of many creators wins",
	  race_to_create,
	  { { "swift", NO_CONDITIONS, true } } },
	{ "one of many replacers wins",
	  race_to_replace,
	  { { "swift", NO_CONDITIONS, true } } },
	{ "deleting, twice", delete_one },
	{ "deleting several, odd ones and one not there", delete_many },
	{ "deleting several with control characters", delete_odd },
	{ "deleting a thousand", delete_thousand },
};

const struct conformance_set object_set = { cases, ARRAY_SIZE(cases) };
