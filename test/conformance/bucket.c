/* Buckets themselves. */
#include "conformance.h"

static void find_bucket(struct ctx *c, bool *found, bool *dated)
{
	struct store_req req = op_req(STORE_LIST_BUCKETS, NULL);

	*found = *dated = false;
	ENDS(c, &req, 0);
	for (unsigned i = 0; i < req.list.n; i++) {
		const struct store_entry *e = &req.list.entries[i];

		if (strcmp(e->name, c->bucket) != 0)
			continue;
		*found = true;
		*dated = e->mtime_ns > 0;
	}
	store_req_release(&req);
}

static void listed(struct ctx *c)
{
	bool found, dated;

	find_bucket(c, &found, &dated);
	OK(c, found);
}

static void have_dates(struct ctx *c)
{
	bool found, dated;

	find_bucket(c, &found, &dated);
	OK(c, dated);
}

static void asked_for(struct ctx *c)
{
	struct store_req req = op_req(STORE_HEAD_BUCKET, NULL);

	ENDS(c, &req, 0);
	req.bucket = "no-such-bucket-here";
	ENDS(c, &req, -ENOENT);
}

static void made_and_dropped(struct ctx *c)
{
	struct store_req make = op_req(STORE_CREATE_BUCKET, NULL);
	struct store_req head = op_req(STORE_HEAD_BUCKET, NULL);
	struct store_req put = put_req(c, "k", "x", 1);
	struct store_req del = op_req(STORE_DELETE, "k");
	struct store_req drop = op_req(STORE_DELETE_BUCKET, NULL);

	make.bucket = head.bucket = put.bucket = del.bucket = drop.bucket =
		"conformance-made";
	ENDS(c, &make, 0);
	ENDS(c, &head, 0);
	ENDS(c, &put, 0);
	ENDS(c, &drop, -ENOTEMPTY);
	ENDS(c, &del, 0);
	ENDS(c, &drop, 0);
	ENDS(c, &head, -ENOENT);
	ENDS(c, &drop, -ENOENT);
}

static void made_twice(struct ctx *c)
{
	struct store_req make = op_req(STORE_CREATE_BUCKET, NULL);

	make.bucket = c->bucket;
	ENDS(c, &make, -EEXIST);
}

static const struct conformance_case cases[] = {
	{ "buckets are listed", listed },
	{ "buckets have a date of creation",
	  have_dates,
	  { { "miniflare", "gives none" } } },
	{ "a bucket is there, or not", asked_for },
	{ "a bucket is made and dropped",
	  made_and_dropped,
	  { { "miniflare", "answers 501" } } },
	{ "a bucket is not made twice",
	  made_twice,
	  { { "miniflare", "answers 501" } } },
};

const struct conformance_set bucket_set = { cases, ARRAY_SIZE(cases) };
