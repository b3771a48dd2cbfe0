/* What can be kept beside the bytes. */
#include <stdlib.h>

#include "base/clock.h"
#include "conformance.h"

#define PAIR(n, v) \
	{ \
		(char *)(n), (char *)(v) \
	}

static void keeps(struct ctx *c, struct store_meta_pair *pairs, unsigned n)
{
	struct store_meta meta = { pairs, n };
	struct store_req req = put_req(c, key(c, "k"), "x", 1);

	req.put_meta = &meta;
	ENDS(c, &req, 0);
	req = op_req(STORE_HEAD, key(c, "k"));
	ENDS(c, &req, 0);
	for (unsigned i = 0; i < n; i++) {
		const char *v = store_meta_get(&req.attr.meta, pairs[i].name);

		if (pairs[i].name[0] == ':')
			IS_STR(c, req.attr.content_type, pairs[i].value);
		else
			IS_STR(c, v, pairs[i].value);
	}
	store_req_release(&req);
}

static void ordinary(struct ctx *c)
{
	struct store_meta_pair pairs[] = {
		PAIR("mode", "33188"),
		PAIR("mtime", "1700000000.123456789"),
		PAIR("zz-last", "~ !#$%&'()*+,-./:;<=>?@[]^_`{|}"),
		PAIR(STORE_CONTENT_TYPE, "text/csv; charset=utf-8"),
		PAIR("a", "1"),
		PAIR("a-b", "2"),
		PAIR("a.b", "3"),
	};

	keeps(c, pairs, ARRAY_SIZE(pairs));
}

static void empty_value(struct ctx *c)
{
	struct store_meta_pair pairs[] = { PAIR("empty", ""), PAIR("x", "1") };

	keeps(c, pairs, ARRAY_SIZE(pairs));
}

static void inner_spaces(struct ctx *c)
{
	struct store_meta_pair pairs[] = { PAIR("s", "a  b   c") };

	keeps(c, pairs, ARRAY_SIZE(pairs));
}

static void utf8(struct ctx *c)
{
	struct store_meta_pair pairs[] = { PAIR("s", "\xc3\xa9t\xc3\xa9") };

	keeps(c, pairs, ARRAY_SIZE(pairs));
}

static void of_length(struct ctx *c, size_t n, int error)
{
	char *value = xmalloc(n + 1);
	struct store_meta_pair pairs[] = { PAIR("v", value) };
	struct store_meta meta = { pairs, 1 };
	struct store_req req = put_req(c, key(c, "k"), "x", 1);

	memset(value, 'v', n);
	value[n] = 0;
	req.put_meta = &meta;
	req.deadline_ns = clock_mono_ns() + 2000000000ull;
	ENDS(c, &req, error);
	if (!req.error)
		keeps(c, pairs, 1);
	free(value);
}

static void long_value(struct ctx *c)
{
	of_length(c, 250, 0);
}

static void kilobytes_2(struct ctx *c)
{
	of_length(c, 2000, 0);
}

static void kilobytes_8(struct ctx *c)
{
	of_length(c, 8000, 0);
}

static void too_much(struct ctx *c)
{
	of_length(c, 9000, -E2BIG);
}

static const struct conformance_case cases[] = {
	{ "metadata and content type are kept", ordinary },
	{ "metadata without a value", empty_value },
	{ "metadata with several spaces in a row", inner_spaces },
	{ "metadata in UTF-8", utf8 },
	{ "250 bytes of metadata", long_value },
	{ "2,000 bytes of metadata",
	  kilobytes_2,
	  { { "swift", "its limit is 256 a value" } } },
	{ "8,000 bytes of metadata",
	  kilobytes_8,
	  { { "miniflare", "its limit is 2,048" },
	    { "swift", "its limit is 256 a value" } } },
	{ "9,000 bytes of metadata are refused", too_much },
};

const struct conformance_set meta_set = { cases, ARRAY_SIZE(cases) };
