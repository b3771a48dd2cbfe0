/*
 * The XML that r2fs sends: lists of keys and parts, and where a bucket is
 * wanted. Written by hand, because there are three of them and the only thing
 * to get wrong is what must be escaped: control characters too, which XML 1.0
 * cannot carry but every server at hand reads as references.
 */
#include "r2/request.h"

static void add_text(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '<' || *s == '>' || *s == '&' || *s == '"' ||
		    (unsigned char)*s < ' ')
			buf_addf(b, "&#%u;", (unsigned char)*s);
		else
			buf_addch(b, *s);
	}
}

static void add_delete(struct buf *b, const struct store_req *req)
{
	buf_addstr(b, "<Delete>");
	for (unsigned i = 0; i < req->nkeys; i++) {
		buf_addstr(b, "<Object><Key>");
		add_text(b, req->keys[i]);
		buf_addstr(b, "</Key></Object>");
	}
	buf_addstr(b, "<Quiet>true</Quiet></Delete>");
}

static void add_complete(struct buf *b, const struct store_req *req)
{
	buf_addstr(b, "<CompleteMultipartUpload>");
	for (unsigned i = 0; i < req->nparts; i++) {
		buf_addf(b, "<Part><PartNumber>%u</PartNumber><ETag>&quot;",
			 req->parts[i].number);
		add_text(b, req->parts[i].etag);
		buf_addstr(b, "&quot;</ETag></Part>");
	}
	buf_addstr(b, "</CompleteMultipartUpload>");
}

static void add_location(struct buf *b, const struct store_req *req)
{
	if (!req->location)
		return;
	buf_addstr(b, "<CreateBucketConfiguration><LocationConstraint>");
	add_text(b, req->location);
	buf_addstr(b, "</LocationConstraint></CreateBucketConfiguration>");
}

void request_document(struct buf *b, const struct store_req *req)
{
	buf_reset(b);
	if (req->op == STORE_DELETE_MANY)
		add_delete(b, req);
	else if (req->op == STORE_MPU_COMPLETE)
		add_complete(b, req);
	else if (req->op == STORE_CREATE_BUCKET)
		add_location(b, req);
}
