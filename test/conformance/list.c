/* Listings: order, pages, folders. */
#include <stdlib.h>

#include "conformance.h"

static struct store_req list_req(const char *prefix)
{
	struct store_req req;

	store_req_init(&req, STORE_LIST);
	req.prefix = prefix;
	return req;
}

/* Names without the case's prefix, with a comma after each. */
static void add_names(struct ctx *c, const struct store_list *l, char *out,
		      size_t n)
{
	size_t at = strlen(out), skip = strlen(c->prefix);

	for (unsigned i = 0; i < l->n && at < n; i++) {
		const char *name = l->entries[i].name;

		OK(c, strncmp(name, c->prefix, skip) == 0);
		at += snprintf(out + at, n - at, "%s,", name + skip);
	}
}

static void some_names(struct ctx *c)
{
	static const char *const names[] = { "b",   "a",     "d/1",
					     "d/2", "d/e/3", "f" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		put_text(c, key(c, names[i]), "12345");
}

static void flat(struct ctx *c)
{
	struct store_req req = list_req(c->prefix);
	char out[256] = "";

	some_names(c);
	ENDS(c, &req, 0);
	add_names(c, &req.list, out, sizeof(out));
	IS_STR(c, out, "a,b,d/1,d/2,d/e/3,f,");
	IS(c, req.list.truncated, false);
	OK(c, req.list.next_token == NULL);
	if (req.list.n) {
		IS(c, req.list.entries[0].size, 5);
		IS_STR(c, req.list.entries[0].etag.s,
		       "827ccb0eea8a706c4c34a16891f84e7b");
		OK(c, req.list.entries[0].mtime_ns > 1700000000000000000);
		IS(c, req.list.entries[0].is_prefix, false);
	}
	store_req_release(&req);
}

static void folders(struct ctx *c)
{
	struct store_req req = list_req(c->prefix);
	char out[256] = "";

	some_names(c);
	req.delimiter = true;
	ENDS(c, &req, 0);
	add_names(c, &req.list, out, sizeof(out));
	OK(c, strstr(out, "a,") && strstr(out, "b,") && strstr(out, "d/,") &&
		      strstr(out, "f,"));
	IS(c, req.list.n, 4);
	for (unsigned i = 0; i < req.list.n; i++)
		if (strchr(req.list.entries[i].name + strlen(c->prefix), '/'))
			IS(c, req.list.entries[i].is_prefix, true);
	store_req_release(&req);
	req = list_req(key(c, "d/"));
	req.delimiter = true;
	ENDS(c, &req, 0);
	IS(c, req.list.n, 3);
	store_req_release(&req);
}

/* All pages of at most `max`; returns their number. */
static unsigned pages(struct ctx *c, bool delimiter, unsigned max, char *out,
		      size_t n)
{
	unsigned count = 0;
	char *token = NULL;
	bool more = true;

	while (more && count < 20) {
		struct store_req req = list_req(c->prefix);

		req.max_keys = max;
		req.token = token;
		req.delimiter = delimiter;
		ENDS(c, &req, 0);
		OK(c, req.list.n <= max);
		add_names(c, &req.list, out, n);
		count++;
		more = req.list.truncated;
		free(token);
		token = more ? xstrdup(req.list.next_token) : NULL;
		store_req_release(&req);
	}
	free(token);
	return count;
}

static void in_pages(struct ctx *c)
{
	char out[256] = "";

	some_names(c);
	IS(c, pages(c, false, 2, out, sizeof(out)), 3);
	IS_STR(c, out, "a,b,d/1,d/2,d/e/3,f,");
}

static void folders_in_pages(struct ctx *c)
{
	char out[256] = "";

	some_names(c);
	pages(c, true, 1, out, sizeof(out));
	IS_STR(c, out, "a,b,d/,f,");
}

static void after(struct ctx *c)
{
	struct store_req req = list_req(c->prefix);
	char out[256] = "";

	some_names(c);
	req.start_after = key(c, "b");
	ENDS(c, &req, 0);
	add_names(c, &req.list, out, sizeof(out));
	IS_STR(c, out, "d/1,d/2,d/e/3,f,");
	store_req_release(&req);
}

static void nothing(struct ctx *c)
{
	struct store_req req = list_req(key(c, "nothing"));

	ENDS(c, &req, 0);
	IS(c, req.list.n, 0);
	IS(c, req.list.truncated, false);
	store_req_release(&req);
}

static void order(struct ctx *c)
{
	static const char *const names[] = {
		"a",  "a ", "a!", "a-",	       "a/",
		"a0", "aA", "aa", "a\xc3\xa9", "a\xe6\x97\xa5"
	};
	struct store_req req = list_req(c->prefix);
	char out[256] = "", want[256] = "";

	for (unsigned i = ARRAY_SIZE(names); i-- > 0;)
		put_text(c, key(c, names[i]), "x");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		strcat(want, names[i]);
		strcat(want, ",");
	}
	ENDS(c, &req, 0);
	add_names(c, &req.list, out, sizeof(out));
	IS_STR(c, out, want);
	store_req_release(&req);
}

static void seen_at_once(struct ctx *c)
{
	for (int i = 0; i < 5; i++) {
		struct store_req req = list_req(c->prefix);
		struct store_req del = op_req(STORE_DELETE, key(c, "k"));

		put_text(c, key(c, "k"), "x");
		ENDS(c, &req, 0);
		IS(c, req.list.n, 1);
		store_req_release(&req);
		ENDS(c, &del, 0);
		ENDS(c, &req, 0);
		IS(c, req.list.n, 0);
		store_req_release(&req);
	}
}

static const struct conformance_case cases[] = {
	{ "a flat list is sorted and complete", flat },
	{ "folders are grouped", folders },
	{ "pages join without gap or repetition", in_pages },
	{ "folders count as names of a page", folders_in_pages },
	{ "a list after a name", after },
	{ "a list of nothing", nothing },
	{ "names are in the order of their bytes", order },
	{ "a list shows what was just done", seen_at_once },
};

const struct conformance_set list_set = { cases, ARRAY_SIZE(cases) };
