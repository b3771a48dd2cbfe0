/* Copies on the server. */
#include "conformance.h"

#define HELLO_ETAG "5d41402abc4b2a76b9719d911017c592"
#define OTHER_ETAG "00000000000000000000000000000000"
#define PAIR(n, v) \
	{ \
		(char *)(n), (char *)(v) \
	}

static struct store_meta_pair old_pairs[] = {
	PAIR("a", "1"),
	PAIR(STORE_CONTENT_TYPE, "text/plain"),
};
static const struct store_meta old_meta = { old_pairs, 2 };
static struct store_meta_pair new_pairs[] = {
	PAIR("b", "2"),
	PAIR(STORE_CONTENT_TYPE, "text/csv"),
};
static const struct store_meta new_meta = { new_pairs, 2 };
static struct store_meta_pair both_pairs[] = {
	PAIR("a", "1"),
	PAIR("b", "2"),
	PAIR(STORE_CONTENT_TYPE, "text/plain"),
};
static const struct store_meta both_meta = { both_pairs, 3 };

static void put_source(struct ctx *c, const char *k)
{
	struct store_req req = put_req(c, k, "hello", 5);

	req.put_meta = &old_meta;
	ENDS(c, &req, 0);
}

static struct store_req copy_req(const char *from, const char *to)
{
	struct store_req req = op_req(STORE_COPY, to);

	req.source_key = from;
	return req;
}

static void has_meta(struct ctx *c, const char *k, const char *a, const char *b,
		     const char *type)
{
	struct store_req req = op_req(STORE_HEAD, k);
	const char *v;

	ENDS(c, &req, 0);
	v = store_meta_get(&req.attr.meta, "a");
	IS_STR(c, v ? v : "none", a);
	v = store_meta_get(&req.attr.meta, "b");
	IS_STR(c, v ? v : "none", b);
	IS_STR(c, req.attr.content_type, type);
	store_req_release(&req);
}

static void as_it_is(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	ENDS(c, &req, 0);
	IS_STR(c, req.attr.etag.s, HELLO_ETAG);
	has_text(c, key(c, "d"), "hello");
	has_text(c, key(c, "s"), "hello");
	has_meta(c, key(c, "d"), "1", "none", "text/plain");
}

static void other_meta(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	req.put_meta = &new_meta;
	ENDS(c, &req, 0);
	has_text(c, key(c, "d"), "hello");
	has_meta(c, key(c, "d"), "none", "2", "text/csv");
	has_meta(c, key(c, "s"), "1", "none", "text/plain");
}

static void merged_meta(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "s"));

	put_source(c, key(c, "s"));
	req.put_meta = &both_meta;
	req.put_merge = true;
	req.source_if_match = HELLO_ETAG;
	ENDS(c, &req, 0);
	has_text(c, key(c, "s"), "hello");
	has_meta(c, key(c, "s"), "1", "2", "text/plain");
}

static void merging_is_known(struct ctx *c)
{
	struct store_counters n;

	merged_meta(c);
	store_counters_get(c->store, &n);
	IS(c, n.requests[STORE_COPY], 1);
}

static void onto_itself(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "s"));

	put_source(c, key(c, "s"));
	req.put_meta = &new_meta;
	req.source_if_match = HELLO_ETAG;
	ENDS(c, &req, 0);
	has_text(c, key(c, "s"), "hello");
	has_meta(c, key(c, "s"), "none", "2", "text/csv");
}

static void source_changed(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	req.source_if_match = OTHER_ETAG;
	ENDS(c, &req, -ESTALE);
	has_text(c, key(c, "d"), NULL);
}

static void no_source(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	ENDS(c, &req, -ENOENT);
	has_text(c, key(c, "d"), NULL);
}

static void not_over(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	put_text(c, key(c, "d"), "there");
	req.if_absent = true;
	req.source_if_match = HELLO_ETAG;
	ENDS(c, &req, -EEXIST);
	has_text(c, key(c, "d"), "there");
}

static void not_over_nothing(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	req.if_absent = true;
	req.source_if_match = HELLO_ETAG;
	ENDS(c, &req, 0);
	has_text(c, key(c, "d"), "hello");
}

static void over_version(struct ctx *c)
{
	struct store_req req = copy_req(key(c, "s"), key(c, "d"));

	put_source(c, key(c, "s"));
	put_text(c, key(c, "d"), "there");
	req.if_match = OTHER_ETAG;
	ENDS(c, &req, -ESTALE);
	has_text(c, key(c, "d"), "there");
}

static void odd_keys(struct ctx *c)
{
	static const char *const names[] = { "a b+c", "a%20b", "\xc3\xa9?x=1",
					     "d//e", "a#b&c" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		struct store_req req = copy_req(key(c, names[i]), key(c, "d"));

		put_text(c, key(c, names[i]), names[i]);
		ENDS(c, &req, 0);
		has_text(c, key(c, "d"), names[i]);
	}
}

#define NO_DESTINATION "knows no conditions on a copy's destination"
#define NO_MERGE       "knows COPY and REPLACE only"

static const struct conformance_case cases[] = {
	{ "a copy has the bytes and the metadata", as_it_is },
	{ "a copy with other metadata", other_meta },
	{ "a copy that adds metadata", merged_meta },
	{ "adding metadata is one request",
	  merging_is_known,
	  { { "miniflare", NO_MERGE }, { "swift", NO_MERGE } } },
	{ "a copy onto itself", onto_itself },
	{ "a copy of a version that is gone", source_changed },
	{ "a copy of nothing", no_source },
	{ "a copy that must not replace",
	  not_over,
	  { { "miniflare", NO_DESTINATION }, { "swift", NO_DESTINATION } } },
	{ "a copy that has nothing to replace", not_over_nothing },
	{ "a copy over a version that is gone",
	  over_version,
	  { { "miniflare", NO_DESTINATION }, { "swift", NO_DESTINATION } } },
	{ "copies of odd keys", odd_keys },
};

const struct conformance_set copy_set = { cases, ARRAY_SIZE(cases) };
