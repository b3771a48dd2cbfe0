/*
 * The query of each operation, as one table: what is said, by whom, and where
 * the value comes from. Sorted by name, byte by byte, as SigV4 wants it.
 */
#include <stdio.h>
#include <string.h>

#include "r2/request.h"
#include "r2/shape.h"

struct query {
	const struct store_req *req;
	enum store_op op;
	char number[16];
};

static const char *number(struct query *q, unsigned n)
{
	snprintf(q->number, sizeof(q->number), "%u", n);
	return q->number;
}

static const char *empty(struct query *q)
{
	return "";
}

static const char *two(struct query *q)
{
	return "2";
}

static const char *url(struct query *q)
{
	return "url";
}

static const char *token(struct query *q)
{
	return q->req->token;
}

static const char *start_after(struct query *q)
{
	return q->req->start_after;
}

static const char *delimiter(struct query *q)
{
	return q->req->delimiter ? "/" : NULL;
}

static const char *max(struct query *q)
{
	return number(q, q->req->max_keys ? q->req->max_keys : STORE_LIST_MAX);
}

static const char *prefix(struct query *q)
{
	return q->req->prefix	   ? q->req->prefix :
	       q->op == STORE_LIST ? "" :
				     NULL;
}

static const char *part(struct query *q)
{
	return q->req->part_number ? number(q, q->req->part_number) : NULL;
}

static const char *upload(struct query *q)
{
	return q->req->upload_id;
}

static const struct parameter {
	const char *name;
	unsigned ops;
	const char *(*value)(struct query *q); /* NULL: left out */
} parameters[] = {
	{ "continuation-token", OP(LIST) | OP(LIST_BUCKETS), token },
	{ "delete", OP(DELETE_MANY), empty },
	{ "delimiter", OP(LIST) | OP(MPU_LIST), delimiter },
	{ "encoding-type", OP(LIST) | OP(MPU_LIST), url },
	{ "key-marker", OP(MPU_LIST), start_after },
	{ "list-type", OP(LIST), two },
	{ "max-keys", OP(LIST), max },
	{ "max-parts", OP(MPU_LIST_PARTS), max },
	{ "max-uploads", OP(MPU_LIST), max },
	{ "part-number-marker", OP(MPU_LIST_PARTS), part },
	{ "partNumber", OP(MPU_PART) | OP(MPU_COPY), part },
	{ "prefix", OP(LIST) | OP(MPU_LIST) | OP(LIST_BUCKETS), prefix },
	{ "start-after", OP(LIST), start_after },
	{ "upload-id-marker", OP(MPU_LIST), token },
	{ "uploadId", UPLOADS, upload },
	{ "uploads", OP(MPU_CREATE) | OP(MPU_LIST), empty },
};

void request_query(struct buf *out, const struct store_req *req,
		   enum store_op op)
{
	struct query q = { .req = req, .op = op };

	for (unsigned i = 0; i < ARRAY_SIZE(parameters); i++) {
		const struct parameter *p = &parameters[i];
		const char *value = 1u << op & p->ops ? p->value(&q) : NULL;

		if (!value)
			continue;
		buf_addf(out, "%s%s=", out->len ? "&" : "", p->name);
		sigv4_encode(out, value, strlen(value), false);
	}
}
