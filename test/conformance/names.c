/* Keys that clients, proxies and servers like to change on the way. */
#include <stdlib.h>

#include "conformance.h"

/* The key reads back, is listed as it is, and can be deleted. */
static void key_is_kept(struct ctx *c, const char *k)
{
	struct store_req list, del = op_req(STORE_DELETE, k);

	put_text(c, k, k);
	has_text(c, k, k);
	store_req_init(&list, STORE_LIST);
	list.prefix = k;
	ENDS(c, &list, 0);
	IS(c, list.list.n, 1);
	if (list.list.n == 1)
		IS_STR(c, list.list.entries[0].name, k);
	store_req_release(&list);
	ENDS(c, &del, 0);
	has_text(c, k, NULL);
}

static void each(struct ctx *c, const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		key_is_kept(c, key(c, names[i]));
}

static void punctuation(struct ctx *c)
{
	static const char *const names[] = {
		"a b",	   "a+b",	"a%20b",   "a%2Fb", "a%b",
		"a?b=c&d", "a#b",	"a&b",	   "a=b",   "a;b",
		"a:b@c",   "a\\b",	"a'b",	   "a\"b",  "a<b>",
		"a*b!",	   "(a)[b]{c}", "a|b^c`d", "~a_-.", "$a,b",
	};

	each(c, names, ARRAY_SIZE(names));
}

static void spaces(struct ctx *c)
{
	static const char *const names[] = { "ends ", "a  b" };

	each(c, names, ARRAY_SIZE(names));
}

static void unicode(struct ctx *c)
{
	static const char *const names[] = {
		"\xc3\xa9t\xc3\xa9", "\xe6\x97\xa5\xe6\x9c\xac",
		"\xf0\x9f\x98\x80",  "\xef\xbf\xbd",
		"\xc2\xa0",
	};

	each(c, names, ARRAY_SIZE(names));
}

static void control(struct ctx *c)
{
	static const char *const names[] = { "a\tb", "a\177b", "a\x01z",
					     "a\x1f" };

	each(c, names, ARRAY_SIZE(names));
}

static void line_ends(struct ctx *c)
{
	static const char *const names[] = { "a\nb", "a\rb" };

	each(c, names, ARRAY_SIZE(names));
}

static void slashes(struct ctx *c)
{
	static const char *const names[] = { "a//b", "a/", "/a", "a//" };

	each(c, names, ARRAY_SIZE(names));
}

static void dots(struct ctx *c)
{
	static const char *const names[] = { "a/./b", "a/../b", "./a", "a/.." };

	each(c, names, ARRAY_SIZE(names));
}

static void file_and_folder(struct ctx *c)
{
	put_text(c, key(c, "d"), "file");
	put_text(c, key(c, "d/"), "marker");
	put_text(c, key(c, "d/x"), "inside");
	has_text(c, key(c, "d"), "file");
	has_text(c, key(c, "d/"), "marker");
	has_text(c, key(c, "d/x"), "inside");
}

static char *long_key(struct ctx *c, size_t n)
{
	char *k = xmalloc(n + 1);

	memset(k, 'k', n);
	k[n] = 0;
	memcpy(k, c->prefix, strlen(c->prefix));
	return k;
}

static void longest(struct ctx *c)
{
	char *k = long_key(c, STORE_KEY_MAX);
	struct store_req del = op_req(STORE_DELETE, k);

	put_text(c, k, "x");
	has_text(c, k, "x");
	ENDS(c, &del, 0);
	free(k);
}

static void too_long(struct ctx *c)
{
	char *k = long_key(c, STORE_KEY_MAX + 1);
	struct store_req req = put_req(c, k, "x", 1);

	ENDS(c, &req, -ENAMETOOLONG);
	free(k);
}

/* e + combining acute, and the one character. */
static void composed(struct ctx *c)
{
	put_text(c, key(c, "e\xcc\x81"), "decomposed");
	has_text(c, key(c, "\xc3\xa9"), "decomposed");
	put_text(c, key(c, "\xc3\xa9"), "composed");
	has_text(c, key(c, "e\xcc\x81"), "composed");
}

static const struct conformance_case cases[] = {
	{ "keys with punctuation", punctuation },
	{ "keys with spaces", spaces },
	{ "keys in other scripts", unicode },
	{ "keys with control characters", control },
	{ "keys with line ends",
	  line_ends,
	  { { "miniflare", "its router stops at them" } } },
	{ "keys with empty components", slashes },
	{ "keys with . and .. components",
	  dots,
	  { { "miniflare", "its URL parser folds them" } } },
	{ "an object beside a folder of its name", file_and_folder },
	{ "a key of 1,024 bytes", longest },
	{ "a key of 1,025 bytes", too_long },
	{ "keys are the same after normalisation (NFC)",
	  composed,
	  { { "miniflare", "does not normalise" },
	    { "swift", "does not normalise" } } },
};

const struct conformance_set key_set = { cases, ARRAY_SIZE(cases) };
