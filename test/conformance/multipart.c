/* Uploads in parts. */
#include <stdlib.h>

#include "conformance.h"

enum { MIB = 1 << 20, PART = 5 * MIB };

#define PAIR(n, v) \
	{ \
		(char *)(n), (char *)(v) \
	}

struct upload {
	struct ctx *c;
	const char *key;
	char id[2048];
	struct store_part parts[8];
	unsigned n;
	uint8_t *bytes;
	size_t len;
};

static void upload_init(struct upload *u, struct ctx *c, const char *name,
			const struct store_meta *meta)
{
	struct store_req req = op_req(STORE_MPU_CREATE, key(c, name));

	memset(u, 0, sizeof(*u));
	u->c = c;
	u->key = req.key;
	u->bytes = xmalloc(20 * MIB);
	fill(u->bytes, 20 * MIB, 7);
	req.put_meta = meta;
	ENDS(c, &req, 0);
	snprintf(u->id, sizeof(u->id), "%s",
		 req.ret_upload_id ? req.ret_upload_id : "none");
	store_req_release(&req);
}

static struct store_req upload_req(struct upload *u, enum store_op op)
{
	struct store_req req = op_req(op, u->key);

	req.upload_id = u->id;
	return req;
}

static int upload_part(struct upload *u, unsigned number, size_t n)
{
	struct store_req req = upload_req(u, STORE_MPU_PART);
	int err;

	req.part_number = number;
	req.body.data = u->bytes + u->len;
	req.body.len = n;
	IS(u->c, store_body_sum(u->c->store, &req.body), 0);
	err = call(u->c, &req);
	u->parts[u->n].number = number;
	snprintf(u->parts[u->n].etag, sizeof(u->parts[0].etag), "%s",
		 req.ret_part_etag);
	u->n++;
	u->len += n;
	store_req_release(&req);
	return err;
}

static int upload_complete(struct upload *u, bool if_absent,
			   struct store_etag *etag)
{
	struct store_req req = upload_req(u, STORE_MPU_COMPLETE);
	int err;

	req.parts = u->parts;
	req.nparts = u->n;
	req.if_absent = if_absent;
	err = call(u->c, &req);
	if (etag)
		*etag = req.attr.etag;
	store_req_release(&req);
	return err;
}

static void upload_check(struct upload *u)
{
	uint8_t *in = xmalloc(u->len + 1);
	struct store_req req = get_req(u->key, in, u->len + 1);

	ENDS(u->c, &req, 0);
	IS(u->c, req.buf_len, u->len);
	OK(u->c, memcmp(in, u->bytes, u->len) == 0);
	store_req_release(&req);
	free(in);
}

static void upload_release(struct upload *u)
{
	struct store_req req = upload_req(u, STORE_MPU_ABORT);

	call(u->c, &req);
	store_req_release(&req);
	free(u->bytes);
}

static void in_parts(struct ctx *c)
{
	struct store_meta_pair pairs[] = {
		PAIR("a", "1"), PAIR(STORE_CONTENT_TYPE, "text/csv")
	};
	struct store_meta meta = { pairs, 2 };
	struct store_req req;
	struct store_etag etag;
	struct upload u;
	const char *a;

	upload_init(&u, c, "k", &meta);
	IS(c, upload_part(&u, 1, PART), 0);
	IS(c, upload_part(&u, 2, PART), 0);
	IS(c, upload_part(&u, 3, MIB), 0);
	has_text(c, u.key, NULL);
	IS(c, upload_complete(&u, false, &etag), 0);
	IS_STR(c, etag.s, "0c5378432cbb900682f35038da7cacbf-3");
	upload_check(&u);
	req = op_req(STORE_HEAD, u.key);
	ENDS(c, &req, 0);
	a = store_meta_get(&req.attr.meta, "a");
	IS_STR(c, a, "1");
	IS_STR(c, req.attr.content_type, "text/csv");
	IS_STR(c, req.attr.etag.s, etag.s);
	store_req_release(&req);
	upload_release(&u);
}

static void part_etags(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 1000), 0);
	IS_STR(c, u.parts[0].etag, "815e2a53e8cebb5f0ef885db4a839bed");
	upload_release(&u);
}

static void one_small_part(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 10), 0);
	IS(c, upload_complete(&u, false, NULL), 0);
	upload_check(&u);
	upload_release(&u);
}

static void any_order(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 3, PART), 0);
	u.n = 0;
	u.len = 0;
	IS(c, upload_part(&u, 1, PART), 0);
	IS(c, upload_part(&u, 7, PART), 0);
	IS(c, upload_complete(&u, false, NULL), 0);
	upload_check(&u);
	upload_release(&u);
}

static void part_again(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	u.n = 0;
	IS(c, upload_part(&u, 1, 50), 0);
	memmove(u.bytes, u.bytes + 100, 50);
	u.len = 50;
	IS(c, upload_complete(&u, false, NULL), 0);
	upload_check(&u);
	upload_release(&u);
}

static void old_part(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	IS(c, upload_part(&u, 1, 50), 0);
	u.n = 1;
	IS(c, upload_complete(&u, false, NULL), -EINVAL);
	has_text(c, u.key, NULL);
	upload_release(&u);
}

static void small_part(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	IS(c, upload_part(&u, 2, 100), 0);
	IS(c, upload_complete(&u, false, NULL), -EINVAL);
	has_text(c, u.key, NULL);
	upload_release(&u);
}

static void unequal(struct ctx *c, int error)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, PART), 0);
	IS(c, upload_part(&u, 2, PART + MIB), 0);
	IS(c, upload_part(&u, 3, 100), 0);
	IS(c, upload_complete(&u, false, NULL), error);
	has_text(c, u.key, NULL);
	upload_release(&u);
}

static void unequal_parts(struct ctx *c)
{
	unequal(c, -EINVAL);
}

static void wrong_md5(struct ctx *c)
{
	struct store_req req;
	struct upload u;

	upload_init(&u, c, "k", NULL);
	req = upload_req(&u, STORE_MPU_PART);
	req.part_number = 1;
	req.body.data = u.bytes;
	req.body.len = 100;
	IS(c, store_body_sum(c->store, &req.body), 0);
	req.body.md5[3] ^= 1;
	ENDS(c, &req, -EBADMSG);
	upload_release(&u);
}

static void aborted(struct ctx *c)
{
	struct store_req req;
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	req = upload_req(&u, STORE_MPU_ABORT);
	ENDS(c, &req, 0);
	IS(c, upload_complete(&u, false, NULL), -ENOENT);
	IS(c, upload_part(&u, 2, 100), -ENOENT);
	ENDS(c, &req, 0);
	has_text(c, u.key, NULL);
	upload_release(&u);
}

static void completed_twice(struct ctx *c)
{
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	IS(c, upload_complete(&u, false, NULL), 0);
	IS(c, upload_complete(&u, false, NULL), -ENOENT);
	upload_check(&u);
	upload_release(&u);
}

static void create_only(struct ctx *c)
{
	struct upload u;

	put_text(c, key(c, "k"), "there");
	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	IS(c, upload_complete(&u, true, NULL), -EEXIST);
	has_text(c, key(c, "k"), "there");
	upload_release(&u);
}

static void copied_part(struct ctx *c)
{
	struct store_req req;
	struct upload u;

	upload_init(&u, c, "k", NULL);
	req = put_req(c, key(c, "s"), u.bytes, 12 * MIB);
	ENDS(c, &req, 0);
	req = upload_req(&u, STORE_MPU_COPY);
	req.part_number = 1;
	req.source_key = key(c, "s");
	req.ranged = true;
	req.range_len = PART;
	ENDS(c, &req, 0);
	OK(c, req.ret_part_etag[0] != 0);
	u.parts[0].number = 1;
	strcpy(u.parts[0].etag, req.ret_part_etag);
	u.n = 1;
	u.len = PART;
	store_req_release(&req);
	IS(c, upload_part(&u, 2, PART), 0);
	IS(c, upload_complete(&u, false, NULL), 0);
	upload_check(&u);
	upload_release(&u);
}

static void listed_parts(struct ctx *c)
{
	struct store_req req;
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	IS(c, upload_part(&u, 2, 200), 0);
	IS(c, upload_part(&u, 4, 300), 0);
	req = upload_req(&u, STORE_MPU_LIST_PARTS);
	req.max_keys = 2;
	ENDS(c, &req, 0);
	IS(c, req.ret_nparts, 2);
	IS(c, req.next_part, 2);
	if (req.ret_nparts == 2) {
		IS(c, req.ret_parts[1].number, 2);
		IS(c, req.ret_parts[1].size, 200);
		IS_STR(c, req.ret_parts[1].etag, u.parts[1].etag);
	}
	store_req_release(&req);
	req = upload_req(&u, STORE_MPU_LIST_PARTS);
	req.part_number = 2;
	ENDS(c, &req, 0);
	IS(c, req.ret_nparts, 1);
	IS(c, req.next_part, 0);
	if (req.ret_nparts == 1)
		IS(c, req.ret_parts[0].number, 4);
	store_req_release(&req);
	upload_release(&u);
}

static void listed_uploads(struct ctx *c)
{
	struct store_req req = op_req(STORE_MPU_LIST, NULL);
	struct upload u, v;

	upload_init(&u, c, "k \xc3\xa9", NULL);
	upload_init(&v, c, "l", NULL);
	req.prefix = c->prefix;
	ENDS(c, &req, 0);
	IS(c, req.list.n, 2);
	IS(c, req.list.truncated, false);
	if (req.list.n == 2) {
		IS_STR(c, req.list.entries[0].name, u.key);
		IS_STR(c, req.list.entries[0].upload_id, u.id);
		IS_STR(c, req.list.entries[1].name, v.key);
		IS_STR(c, req.list.entries[1].upload_id, v.id);
	}
	store_req_release(&req);
	upload_release(&v);
	upload_release(&u);
}

static void uploads_in_pages(struct ctx *c)
{
	struct store_req req = op_req(STORE_MPU_LIST, NULL);
	struct store_req next = op_req(STORE_MPU_LIST, NULL);
	struct upload u, v;

	upload_init(&u, c, "k \xc3\xa9", NULL);
	upload_init(&v, c, "l", NULL);
	req.prefix = next.prefix = c->prefix;
	req.max_keys = 1;
	ENDS(c, &req, 0);
	IS(c, req.list.n, 1);
	IS(c, req.list.truncated, true);
	next.start_after = req.list.next_key;
	next.token = req.list.next_token;
	ENDS(c, &next, 0);
	IS(c, next.list.n, 1);
	IS(c, next.list.truncated, false);
	if (next.list.n == 1)
		IS_STR(c, next.list.entries[0].name, v.key);
	store_req_release(&req);
	store_req_release(&next);
	upload_release(&v);
	upload_release(&u);
}

static void hidden(struct ctx *c)
{
	struct store_req req = op_req(STORE_LIST, NULL);
	struct upload u;

	upload_init(&u, c, "k", NULL);
	IS(c, upload_part(&u, 1, 100), 0);
	req.prefix = c->prefix;
	ENDS(c, &req, 0);
	IS(c, req.list.n, 0);
	store_req_release(&req);
	upload_release(&u);
}

static const struct conformance_case cases[] = {
	{ "an upload in three parts", in_parts },
	{ "a part's ETag is its MD5",
	  part_etags,
	  { { "miniflare", "makes them up" } } },
	{ "an upload of one small part", one_small_part },
	{ "parts in any order and with gaps", any_order },
	{ "a part sent again replaces the first", part_again },
	{ "a part that was replaced cannot be completed", old_part },
	{ "a small part that is not the last is refused", small_part },
	{ "parts of unequal size are refused",
	  unequal_parts,
	  { { "miniflare", "answers NoSuchUpload" },
	    { "swift", "knows no such rule" } } },
	{ "a part that is not its MD5 is refused", wrong_md5 },
	{ "an aborted upload is gone", aborted },
	{ "a completed upload is gone",
	  completed_twice,
	  { { "swift", "remembers it and answers the same" } } },
	{ "an upload that must not replace",
	  create_only,
	  { { "miniflare", "ignores conditions of a completion" } } },
	{ "a part copied from an object", copied_part },
	{ "parts are listed", listed_parts, { { "miniflare", "answers 501" } } },
	{ "uploads are listed",
	  listed_uploads,
	  { { "miniflare", "answers 501" } } },
	{ "uploads are listed in pages",
	  uploads_in_pages,
	  { { "miniflare", "answers 501" },
	    { "swift", "gives no marker for the next page" } } },
	{ "uploads are not objects", hidden },
};

const struct conformance_set multipart_set = { cases, ARRAY_SIZE(cases) };
