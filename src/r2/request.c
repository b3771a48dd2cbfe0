/*
 * Every operation is built from the same few pieces: a path, a sorted query,
 * and a list of headers that are all signed. Which operation has which of
 * them is data: tables here and in query.c, with the names in the order that SigV4 wants.
 *
 * Accept-Encoding is "identity" because the edge compresses or decompresses
 * on its own when it may (r2-facts 2.8), and what is stored says no-transform.
 * It comes first and is the one header not signed: the edge rewrites it.
 * Bodies are not signed: Content-MD5 protects them and R2 compares it.
 */
#include "r2/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r2/shape.h"
#include "r2/words.h"

#define EMPTY_SHA256 \
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

enum {
	URL_MAX = 16384,
	DOCUMENT_MAX = 8 << 20,
	META_MAX = 65536,
	FIXED_HEADERS = 32, /* all but metadata */
};

void request_init(struct request *r)
{
	memset(r, 0, sizeof(*r));
	buf_init(&r->url, URL_MAX);
	buf_init(&r->auth, META_MAX);
	buf_init(&r->scratch, URL_MAX);
	buf_init(&r->document, DOCUMENT_MAX);
	buf_init(&r->source, URL_MAX);
	buf_init(&r->meta, META_MAX);
}

void request_release(struct request *r)
{
	buf_release(&r->url);
	buf_release(&r->auth);
	buf_release(&r->scratch);
	buf_release(&r->document);
	buf_release(&r->source);
	buf_release(&r->meta);
	free(r->headers);
}

/* ---- what each operation looks like ---- */

static const enum http_method methods[STORE_OPS] = {
	[STORE_GET] = HTTP_GET,
	[STORE_HEAD] = HTTP_HEAD,
	[STORE_LIST] = HTTP_GET,
	[STORE_PUT] = HTTP_PUT,
	[STORE_DELETE] = HTTP_DELETE,
	[STORE_DELETE_MANY] = HTTP_POST,
	[STORE_COPY] = HTTP_PUT,
	[STORE_MPU_CREATE] = HTTP_POST,
	[STORE_MPU_PART] = HTTP_PUT,
	[STORE_MPU_COPY] = HTTP_PUT,
	[STORE_MPU_COMPLETE] = HTTP_POST,
	[STORE_MPU_ABORT] = HTTP_DELETE,
	[STORE_MPU_LIST_PARTS] = HTTP_GET,
	[STORE_MPU_LIST] = HTTP_GET,
	[STORE_LIST_BUCKETS] = HTTP_GET,
	[STORE_HEAD_BUCKET] = HTTP_HEAD,
	[STORE_CREATE_BUCKET] = HTTP_PUT,
	[STORE_DELETE_BUCKET] = HTTP_DELETE,
};

struct assembly {
	struct request *r;
	const struct request_target *t;
	const struct store_req *req;
	const struct request_variant *v;
	const struct creds_set *creds;
	enum store_op op; /* HEAD for a variant as_head */
	bool replace; /* a COPY that brings metadata */
	const char *payload;
};

struct field {
	const char *name;
	unsigned ops;
	const char *(*value)(struct assembly *a); /* NULL: left out */
};

static bool is_in(const struct assembly *a, unsigned ops)
{
	return 1u << a->op & ops;
}

/* ---- headers ---- */

static void add(struct request *r, const char *name, const char *value)
{
	BUG_ON(r->nheaders == r->max_headers);
	r->headers[r->nheaders++] = (struct http_header){ name, value };
}

static const char *quote(char *out, size_t n, const char *etag)
{
	if (!etag)
		return NULL;
	snprintf(out, n, "\"%s\"", etag);
	return out;
}

static const char *h_encoding(struct assembly *a)
{
	return a->v->any_encoding ? "gzip, br, zstd" : "identity";
}

/* A property to be given to the object that is made. */
static const char *property(struct assembly *a, const char *name)
{
	const struct store_meta *meta = a->req->put_meta;
	const char *value = meta ? store_meta_get(meta, name) : NULL;

	if (!is_in(a, MAKES) && !a->replace)
		return NULL;
	return value && *value ? value : NULL;
}

static const char *h_cache_control(struct assembly *a)
{
	const char *value = property(a, ":cache-control");

	if (value)
		return value;
	return is_in(a, MAKES) || a->replace ? "no-transform" : NULL;
}

static const char *h_disposition(struct assembly *a)
{
	return property(a, ":content-disposition");
}

static const char *h_content_encoding(struct assembly *a)
{
	return property(a, ":content-encoding");
}

static const char *h_language(struct assembly *a)
{
	return property(a, ":content-language");
}

static const char *h_expires(struct assembly *a)
{
	return property(a, ":expires");
}

static bool has_conditions(const struct assembly *a)
{
	bool write = is_in(a, ALL & ~(OP(GET) | OP(HEAD)));

	/* A HEAD in a write's place asks what is there. */
	return a->req->op == a->op || a->req->op == STORE_GET ?
		       !(write && a->v->unconditional) :
		       false;
}

static const char *h_if_match(struct assembly *a)
{
	const char *etag = a->v->if_match ? a->v->if_match : a->req->if_match;

	return has_conditions(a) ?
		       quote(a->r->if_match, sizeof(a->r->if_match), etag) :
		       NULL;
}

static const char *h_if_none_match(struct assembly *a)
{
	if (!has_conditions(a))
		return NULL;
	if (a->req->if_absent)
		return "*";
	return quote(a->r->if_none_match, sizeof(a->r->if_none_match),
		     a->req->if_none_match);
}

static const char *h_md5(struct assembly *a)
{
	uint8_t md5[MD5_BYTES];

	if (is_in(a, SENDS)) {
		if (!a->req->body.summed)
			return NULL;
		memcpy(md5, a->req->body.md5, MD5_BYTES);
	} else {
		if (!a->r->document.len)
			return NULL;
		crypto_md5(a->r->document.data, a->r->document.len, md5);
	}
	crypto_base64(md5, MD5_BYTES, a->r->md5);
	return a->r->md5;
}

static const char *h_content_type(struct assembly *a)
{
	const char *type = property(a, STORE_CONTENT_TYPE);

	if (!is_in(a, MAKES) && !a->replace)
		return NULL;
	return type ? type : "application/octet-stream";
}

static const char *h_host(struct assembly *a)
{
	return a->t->host;
}

static const char *h_range(struct assembly *a)
{
	const struct store_req *req = a->req;

	if (!req->ranged)
		return NULL;
	snprintf(a->r->range, sizeof(a->r->range), "bytes=%llu-%llu",
		 (unsigned long long)(req->range_off + a->v->skip),
		 (unsigned long long)(req->range_off + req->range_len - 1));
	return a->r->range;
}

static const char *h_payload(struct assembly *a)
{
	return a->payload;
}

static const char *h_source(struct assembly *a)
{
	const struct store_req *req = a->req;
	struct buf *b = &a->r->source;

	buf_reset(b);
	buf_addf(b, "/%s/", req->bucket ? req->bucket : a->t->bucket);
	sigv4_encode(b, req->source_key, strlen(req->source_key), true);
	return b->data;
}

static const char *h_source_if_match(struct assembly *a)
{
	return quote(a->r->source_if_match, sizeof(a->r->source_if_match),
		     a->req->source_if_match);
}

static const char *h_date(struct assembly *a)
{
	return a->r->stamp;
}

static const char *h_directive(struct assembly *a)
{
	return !a->req->put_meta		    ? "COPY" :
	       a->req->put_merge && !a->v->no_merge ? "MERGE" :
						      "REPLACE";
}

static const char *h_session(struct assembly *a)
{
	const char *token = a->creds->session_token;

	return token && *token ? token : NULL;
}

/* The first is the one that is not signed; a NULL name: the metadata. */
static const struct field fields[] = {
	{ "accept-encoding", ALL, h_encoding },
	{ "cache-control", MAKES | OP(COPY), h_cache_control },
	{ "cf-copy-destination-if-match", OP(COPY), h_if_match },
	{ "cf-copy-destination-if-none-match", OP(COPY), h_if_none_match },
	{ "content-disposition", MAKES | OP(COPY), h_disposition },
	{ "content-encoding", MAKES | OP(COPY), h_content_encoding },
	{ "content-language", MAKES | OP(COPY), h_language },
	{ "content-md5", SENDS | DOCUMENTS, h_md5 },
	{ "content-type", MAKES | OP(COPY), h_content_type },
	{ "expires", MAKES | OP(COPY), h_expires },
	{ "host", ALL, h_host },
	{ "if-match", ALL & ~COPIES, h_if_match },
	{ "if-none-match", ALL & ~COPIES, h_if_none_match },
	{ "range", OP(GET), h_range },
	{ "x-amz-content-sha256", ALL, h_payload },
	{ "x-amz-copy-source", COPIES, h_source },
	{ "x-amz-copy-source-if-match", COPIES, h_source_if_match },
	{ "x-amz-copy-source-range", OP(MPU_COPY), h_range },
	{ "x-amz-date", ALL, h_date },
	{ NULL, MAKES | OP(COPY), NULL },
	{ "x-amz-metadata-directive", OP(COPY), h_directive },
	{ "x-amz-security-token", ALL, h_session },
};

static int by_name(const void *a, const void *b)
{
	const struct http_header *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* NUL-terminated name and value of each pair, one after the other. */
static void write_meta(struct buf *b, const struct store_meta *meta)
{
	for (unsigned i = 0; i < meta->n; i++) {
		const struct store_meta_pair *p = &meta->pairs[i];

		buf_addf(b, "x-amz-meta-%s", p->name);
		buf_addch(b, 0);
		if (words_needed(p->value))
			words_encode(b, p->value);
		else
			buf_addstr(b, p->value);
		buf_addch(b, 0);
	}
}

static void add_meta(struct assembly *a)
{
	const struct store_meta *meta = a->req->put_meta;
	struct request *r = a->r;
	unsigned first = r->nheaders;
	const char *name, *value;

	buf_reset(&r->meta);
	if (!meta || (a->op == STORE_COPY && !a->replace))
		return;
	write_meta(&r->meta, meta);
	if (r->meta.failed)
		return;
	name = r->meta.data;
	for (unsigned i = 0; i < meta->n; i++) {
		value = name + strlen(name) + 1;
		if (meta->pairs[i].name[0] != ':')
			add(r, name, value);
		name = value + strlen(value) + 1;
	}
	qsort(r->headers + first, r->nheaders - first, sizeof(*r->headers),
	      by_name);
}

static void build_headers(struct assembly *a)
{
	struct request *r = a->r;
	unsigned pairs = a->req->put_meta ? a->req->put_meta->n : 0;

	if (r->max_headers < FIXED_HEADERS + pairs) {
		r->max_headers = FIXED_HEADERS + pairs;
		r->headers = xrealloc(r->headers,
				      r->max_headers * sizeof(*r->headers));
	}
	r->nheaders = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *value;

		if (!is_in(a, fields[i].ops))
			continue;
		if (!fields[i].name) {
			add_meta(a);
			continue;
		}
		value = fields[i].value(a);
		if (value)
			add(r, fields[i].name, value);
	}
}

/* ---- all of it ---- */

enum store_op request_op(const struct store_req *req,
			 const struct request_variant *v)
{
	return v->as_head ? STORE_HEAD : v->single ? STORE_DELETE : req->op;
}

static void build_path(struct assembly *a, struct buf *path)
{
	const struct store_req *req = a->req;
	const char *key = a->v->single ? a->v->single : req->key;

	buf_addf(path, "%s/", a->t->path);
	if (req->op == STORE_LIST_BUCKETS)
		return;
	buf_addstr(path, req->bucket ? req->bucket : a->t->bucket);
	if (1u << req->op & ON_OBJECT || a->v->single) {
		buf_addch(path, '/');
		sigv4_encode(path, key, strlen(key), true);
	}
}

static void build_body(struct assembly *a, struct http_req *http)
{
	const struct store_body *body = &a->req->body;

	http->body_fd = -1;
	http->body = NULL;
	http->body_off = 0;
	http->body_len = 0;
	if (is_in(a, DOCUMENTS)) {
		http->body = a->r->document.data;
		http->body_len = a->r->document.len;
	} else if (is_in(a, SENDS)) {
		http->body = body->data;
		http->body_fd = body->fd;
		http->body_off = body->off;
		http->body_len = body->len;
	}
}

static void sign(struct assembly *a, const struct buf *path,
		 struct sigv4_cache *keys, int64_t time_s)
{
	static const char *const names[] = { "GET", "HEAD", "PUT", "POST",
					     "DELETE" };
	struct request *r = a->r;
	struct sigv4_request s = {
		.method = names[methods[a->op]],
		.path = path->data,
		.query = r->scratch.data,
		.region = a->t->region,
		.payload_hash = a->payload,
		.time_s = time_s,
		.headers = r->headers + 1,
		.nheaders = r->nheaders - 1,
	};

	sigv4_authorization(keys, a->creds, &s, &r->auth);
	add(r, "authorization", r->auth.data);
}

int request_build(struct request *r, const struct request_target *t,
		  const struct store_req *req,
		  const struct request_variant *variant,
		  struct sigv4_cache *keys, const struct creds_set *creds,
		  int64_t time_s, struct http_req *http)
{
	struct assembly a = {
		.r = r,
		.t = t,
		.req = req,
		.v = variant,
		.creds = creds,
		.op = request_op(req, variant),
		.replace = req->op == STORE_COPY && req->put_meta,
	};
	struct buf path;
	bool failed;

	buf_init(&path, URL_MAX);
	buf_reset(&r->url);
	buf_reset(&r->auth);
	buf_reset(&r->scratch);
	buf_reset(&r->source);
	a.payload = is_in(&a, SENDS | DOCUMENTS) ? "UNSIGNED-PAYLOAD" :
						   EMPTY_SHA256;
	request_document(&r->document, req, variant);
	build_path(&a, &path);
	request_query(&r->scratch, req, a.op);
	sigv4_timestamp(time_s, r->stamp);
	build_headers(&a);
	sign(&a, &path, keys, time_s);
	buf_addf(&r->url, "%s%s%s%s", t->scheme_host, path.data,
		 r->scratch.len ? "?" : "", r->scratch.data);
	http->method = methods[a.op];
	build_body(&a, http);
	http->url = r->url.data;
	http->headers = r->headers;
	http->nheaders = r->nheaders;
	failed = path.failed || r->url.failed || r->auth.failed ||
		 r->scratch.failed || r->document.failed || r->source.failed ||
		 r->meta.failed;
	buf_release(&path);
	return failed ? -ENAMETOOLONG : 0;
}
