/* Objects of another client, and objects for it: run.py puts foreign/ before
 * the cases run and reads ours/ after them. */
#include <stdlib.h>

#include "conformance.h"

#define PAIR(n, v) \
	{ \
		(char *)(n), (char *)(v) \
	}

static const char *const names[] = {
	"plain", "a b+c%d",   "\xc3\xa9t\xc3\xa9/\xe6\x97\xa5\xe6\x9c\xac",
	"x/y/z", "q?a=b&c#d",
};

/* run.py's body(): the name and a line feed, over and over. */
static uint8_t *body(const char *name, size_t n)
{
	size_t len = strlen(name) + 1;
	uint8_t *p = xmalloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = i % len == len - 1 ? '\n' : name[i % len];
	return p;
}

static void read_foreign(struct ctx *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		uint8_t buf[4096], *want = body(names[i], 3000);
		char k[256];
		struct store_req req = get_req(k, buf, sizeof(buf));
		const char *sum;

		snprintf(k, sizeof(k), "foreign/%s", names[i]);
		ENDS(c, &req, 0);
		IS(c, req.buf_len, 3000);
		OK(c, memcmp(buf, want, 3000) == 0);
		sum = store_meta_get(&req.attr.meta, "sum");
		IS_STR(c, sum, req.attr.etag.s);
		IS_STR(c, req.attr.content_type, "text/x-foreign");
		store_req_release(&req);
		free(want);
	}
}

static struct store_meta_pair pairs[] = {
	PAIR("mtime", "1700000000.5"),
	PAIR("name", "ours"),
	PAIR(STORE_CONTENT_TYPE, "text/x-ours"),
};
static const struct store_meta meta = { pairs, 3 };

static void leave_objects(struct ctx *c)
{
	struct store_req req;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		uint8_t *data = body(names[i], 3000);
		char k[256];

		snprintf(k, sizeof(k), "ours/%s", names[i]);
		req = put_req(c, k, data, 3000);
		req.put_meta = &meta;
		ENDS(c, &req, 0);
		free(data);
	}
	req = op_req(STORE_COPY, "ours/copy");
	req.source_key = "ours/plain";
	ENDS(c, &req, 0);
}

static void leave_parts(struct ctx *c)
{
	uint8_t *data = body("parts", 6 << 20);
	struct store_req req = op_req(STORE_MPU_CREATE, "ours/parts");
	struct store_part parts[2];
	char *id;

	ENDS(c, &req, 0);
	id = xstrdup(req.ret_upload_id ? req.ret_upload_id : "none");
	store_req_release(&req);
	for (unsigned i = 0; i < 2; i++) {
		req = put_req(c, "ours/parts", data + (i ? 5 << 20 : 0),
			      i ? 1 << 20 : 5 << 20);
		req.op = STORE_MPU_PART;
		req.upload_id = id;
		req.part_number = i + 1;
		ENDS(c, &req, 0);
		parts[i].number = i + 1;
		strcpy(parts[i].etag, req.ret_part_etag);
	}
	req = op_req(STORE_MPU_COMPLETE, "ours/parts");
	req.upload_id = id;
	req.parts = parts;
	req.nparts = 2;
	ENDS(c, &req, 0);
	free(id);
	free(data);
}

static const struct conformance_case cases[] = {
	{ "another client's objects", read_foreign },
	{ "objects for another client", leave_objects },
	{ "an upload in parts for another client", leave_parts },
};

const struct conformance_set foreign_set = { cases, ARRAY_SIZE(cases) };
