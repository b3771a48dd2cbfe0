/*
 * Every operation is built from the same few pieces: a path, a sorted query,
 * and a list of headers that are all signed. Names are added in sorted order,
 * which SigV4 wants and which makes the order part of the code's shape.
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

#define EMPTY_SHA256 \
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

enum { URL_MAX = 16384, DOCUMENT_MAX = 8 << 20, META_MAX = 65536 };

int request_target_init(struct request_target *t, const char *endpoint,
			const char *bucket, const char *region)
{
	const char *host = strstr(endpoint, "://"), *path;
	size_t n;

	memset(t, 0, sizeof(*t));
	if (!host)
		return -EINVAL;
	host += 3;
	path = host + strcspn(host, "/");
	n = strlen(path);
	while (n && path[n - 1] == '/')
		n--;
	t->scheme_host = xstrndup(endpoint, path - endpoint);
	t->host = xstrndup(host, path - host);
	t->path = xstrndup(path, n);
	t->bucket = xstrdup(bucket);
	t->region = xstrdup(region && *region ? region : "auto");
	n = strlen(t->host);
	if (strncmp(endpoint, "https:", 6) == 0 && n > 4 &&
	    strcmp(t->host + n - 4, ":443") == 0)
		t->host[n - 4] = 0;
	else if (strncmp(endpoint, "http:", 5) == 0 && n > 3 &&
		 strcmp(t->host + n - 3, ":80") == 0)
		t->host[n - 3] = 0;
	return 0;
}

void request_target_release(struct request_target *t)
{
	free(t->scheme_host);
	free(t->host);
	free(t->path);
	free(t->bucket);
	free(t->region);
	memset(t, 0, sizeof(*t));
}

void request_init(struct request *r)
{
	memset(r, 0, sizeof(*r));
	buf_init(&r->url, URL_MAX);
	buf_init(&r->auth, 4096);
	buf_init(&r->scratch, URL_MAX);
	buf_init(&r->document, DOCUMENT_MAX);
	buf_init(&r->source, URL_MAX);
	buf_init(&r->meta_names, META_MAX);
}

void request_release(struct request *r)
{
	buf_release(&r->url);
	buf_release(&r->auth);
	buf_release(&r->scratch);
	buf_release(&r->document);
	buf_release(&r->source);
	buf_release(&r->meta_names);
}

static void add(struct request *r, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	BUG_ON(r->nheaders == REQUEST_HEADERS);
	r->headers[r->nheaders++] = (struct http_header){ name, value };
}

static void add_query(struct buf *q, const char *name, const char *value)
{
	buf_addf(q, "%s%s=", q->len ? "&" : "", name);
	sigv4_encode(q, value, strlen(value), false);
}

/* ---- what each operation looks like ---- */

static const struct shape {
	enum http_method method;
	bool body; /* sends one, if only an empty one */
	bool object; /* makes an object: content type and metadata */
} shapes[STORE_OPS] = {
	[STORE_GET] = { HTTP_GET, false, false },
	[STORE_HEAD] = { HTTP_HEAD, false, false },
	[STORE_LIST] = { HTTP_GET, false, false },
	[STORE_PUT] = { HTTP_PUT, true, true },
	[STORE_DELETE] = { HTTP_DELETE, false, false },
	[STORE_DELETE_MANY] = { HTTP_POST, true, false },
	[STORE_COPY] = { HTTP_PUT, false, false },
	[STORE_MPU_CREATE] = { HTTP_POST, false, true },
	[STORE_MPU_PART] = { HTTP_PUT, true, false },
	[STORE_MPU_COPY] = { HTTP_PUT, false, false },
	[STORE_MPU_COMPLETE] = { HTTP_POST, true, false },
	[STORE_MPU_ABORT] = { HTTP_DELETE, false, false },
};

static void add_number(struct buf *q, const char *name, unsigned n)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", n);
	add_query(q, name, number);
}

static void build_list_query(struct buf *q, const struct store_req *req)
{
	if (req->token)
		add_query(q, "continuation-token", req->token);
	if (req->delimiter)
		add_query(q, "delimiter", "/");
	add_query(q, "encoding-type", "url");
	add_query(q, "list-type", "2");
	add_number(q, "max-keys",
		   req->max_keys ? req->max_keys : STORE_LIST_MAX);
	add_query(q, "prefix", req->prefix ? req->prefix : "");
	if (req->start_after)
		add_query(q, "start-after", req->start_after);
}

static void build_query(struct buf *q, const struct store_req *req)
{
	if (req->op == STORE_LIST)
		build_list_query(q, req);
	else if (req->op == STORE_DELETE_MANY)
		add_query(q, "delete", "");
	else if (req->op == STORE_MPU_CREATE)
		add_query(q, "uploads", "");
	if (req->part_number)
		add_number(q, "partNumber", req->part_number);
	if (req->upload_id)
		add_query(q, "uploadId", req->upload_id);
}

/* ---- documents ---- */

static void add_xml(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '<' || *s == '>' || *s == '&' || *s == '"' ||
		    (unsigned char)*s < ' ')
			buf_addf(b, "&#%u;", (unsigned char)*s);
		else
			buf_addch(b, *s);
	}
}

static void build_document(struct buf *b, const struct store_req *req)
{
	buf_reset(b);
	if (req->op == STORE_DELETE_MANY) {
		buf_addstr(b, "<Delete>");
		for (unsigned i = 0; i < req->nkeys; i++) {
			buf_addstr(b, "<Object><Key>");
			add_xml(b, req->keys[i]);
			buf_addstr(b, "</Key></Object>");
		}
		buf_addstr(b, "<Quiet>true</Quiet></Delete>");
	} else if (req->op == STORE_MPU_COMPLETE) {
		buf_addstr(b, "<CompleteMultipartUpload>");
		for (unsigned i = 0; i < req->nparts; i++)
			buf_addf(b,
				 "<Part><PartNumber>%u</PartNumber>"
				 "<ETag>&quot;%s&quot;</ETag></Part>",
				 req->parts[i].number, req->parts[i].etag);
		buf_addstr(b, "</CompleteMultipartUpload>");
	}
}

/* ---- headers ---- */

static void quote(char *out, size_t n, const char *etag)
{
	if (etag)
		snprintf(out, n, "\"%s\"", etag);
	else
		out[0] = 0;
}

static void build_range(struct request *r, const struct store_req *req,
			const struct request_variant *v)
{
	r->range[0] = 0;
	if (req->ranged && !v->as_head)
		snprintf(r->range, sizeof(r->range), "bytes=%llu-%llu",
			 (unsigned long long)(req->range_off + v->skip),
			 (unsigned long long)(req->range_off + req->range_len -
					      1));
}

static void build_md5(struct request *r, const struct store_req *req)
{
	uint8_t md5[MD5_BYTES];

	r->md5[0] = 0;
	if (r->document.len) {
		crypto_md5(r->document.data, r->document.len, md5);
		crypto_base64(md5, MD5_BYTES, r->md5);
	} else if (req->body.summed) {
		crypto_base64(req->body.md5, MD5_BYTES, r->md5);
	}
}

static int by_name(const void *a, const void *b)
{
	const struct http_header *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static void add_meta(struct request *r, const struct store_meta *meta)
{
	unsigned first = r->nheaders;
	size_t at[64];
	unsigned n = meta && meta->n < ARRAY_SIZE(at) ? meta->n : 0;

	buf_reset(&r->meta_names);
	for (unsigned i = 0; i < n; i++) {
		at[i] = r->meta_names.len;
		buf_addf(&r->meta_names, "x-amz-meta-%s", meta->pairs[i].name);
		buf_addch(&r->meta_names, 0);
	}
	for (unsigned i = 0; i < n && !r->meta_names.failed; i++)
		if (meta->pairs[i].name[0] != ':')
			add(r, r->meta_names.data + at[i],
			    meta->pairs[i].value);
	qsort(r->headers + first, r->nheaders - first, sizeof(*r->headers),
	      by_name);
}

static const char *content_type(const struct store_req *req)
{
	const char *type = req->put_meta ? store_meta_get(req->put_meta,
							  STORE_CONTENT_TYPE) :
					   NULL;

	return type ? type : "application/octet-stream";
}

static void build_source(struct request *r, const struct request_target *t,
			 const struct store_req *req)
{
	buf_reset(&r->source);
	if (!req->source_key)
		return;
	buf_addf(&r->source, "/%s/", req->bucket ? req->bucket : t->bucket);
	sigv4_encode(&r->source, req->source_key, strlen(req->source_key),
		     true);
}

/* Conditions on what lies at the key; a COPY has R2's own names for them. */
static void build_conditions(struct request *r, const struct store_req *req,
			     const struct request_variant *v)
{
	bool off = v->unconditional && shapes[req->op].method != HTTP_GET;

	quote(r->if_match, sizeof(r->if_match),
	      v->as_head && req->op != STORE_GET ? NULL :
	      v->if_match			 ? v->if_match :
						   req->if_match);
	quote(r->if_none_match, sizeof(r->if_none_match), req->if_none_match);
	if (req->if_absent)
		snprintf(r->if_none_match, sizeof(r->if_none_match), "*");
	quote(r->source_if_match, sizeof(r->source_if_match),
	      req->source_if_match);
	if (off || (v->as_head && req->op != STORE_GET))
		r->if_match[0] = r->if_none_match[0] = 0;
}

static void build_headers(struct request *r, const struct request_target *t,
			  const struct store_req *req,
			  const struct request_variant *v,
			  const struct creds_set *creds, const char *payload)
{
	bool object = shapes[req->op].object && !v->as_head;
	bool copy = req->op == STORE_COPY && !v->as_head;
	bool replace = copy && req->put_meta;
	bool part_copy = req->op == STORE_MPU_COPY && !v->as_head;

	build_range(r, req, v);
	build_md5(r, req);
	build_source(r, t, req);
	build_conditions(r, req, v);
	r->nheaders = 0;
	add(r, "accept-encoding",
	    v->any_encoding ? "gzip, br, zstd" : "identity");
	if (object || replace)
		add(r, "cache-control", "no-transform");
	if (copy) {
		add(r, "cf-copy-destination-if-match", r->if_match);
		add(r, "cf-copy-destination-if-none-match", r->if_none_match);
	}
	if (!v->as_head && shapes[req->op].body)
		add(r, "content-md5", r->md5);
	if (object || replace)
		add(r, "content-type", content_type(req));
	add(r, "host", t->host);
	if (!copy) {
		add(r, "if-match", r->if_match);
		add(r, "if-none-match", r->if_none_match);
	}
	if (req->op == STORE_GET)
		add(r, "range", r->range);
	add(r, "x-amz-content-sha256", payload);
	if (copy || part_copy)
		add(r, "x-amz-copy-source", r->source.data);
	if (copy)
		add(r, "x-amz-copy-source-if-match", r->source_if_match);
	if (part_copy)
		add(r, "x-amz-copy-source-range", r->range);
	add(r, "x-amz-date", r->stamp);
	if (object || replace)
		add_meta(r, req->put_meta);
	if (copy)
		add(r, "x-amz-metadata-directive", replace ? "REPLACE" : "COPY");
	add(r, "x-amz-security-token", creds->session_token);
}

static void build_body(struct request *r, const struct store_req *req,
		       struct http_req *http)
{
	http->body_fd = -1;
	http->body = NULL;
	http->body_len = 0;
	if (r->document.len) {
		http->body = r->document.data;
		http->body_len = r->document.len;
	} else if (shapes[req->op].body) {
		http->body = req->body.data;
		http->body_fd = req->body.fd;
		http->body_off = req->body.off;
		http->body_len = req->body.len;
	}
}

int request_build(struct request *r, const struct request_target *t,
		  const struct store_req *req,
		  const struct request_variant *variant,
		  struct sigv4_cache *keys, const struct creds_set *creds,
		  int64_t time_s, struct http_req *http)
{
	static const char *const names[] = { "GET", "HEAD", "PUT", "POST",
					     "DELETE" };
	enum http_method method = variant->as_head ? HTTP_HEAD :
						     shapes[req->op].method;
	const char *payload = "UNSIGNED-PAYLOAD";
	struct buf path;

	buf_init(&path, URL_MAX);
	buf_reset(&r->url);
	buf_reset(&r->auth);
	buf_reset(&r->scratch);
	buf_addf(&path, "%s/%s", t->path, req->bucket ? req->bucket : t->bucket);
	if (req->key) {
		buf_addch(&path, '/');
		sigv4_encode(&path, req->key, strlen(req->key), true);
	}
	build_document(&r->document, req);
	if (!variant->as_head)
		build_query(&r->scratch, req);
	if (variant->as_head || !shapes[req->op].body)
		payload = EMPTY_SHA256;
	buf_addf(&r->url, "%s%s%s%s", t->scheme_host, path.data,
		 r->scratch.len ? "?" : "", r->scratch.data);
	sigv4_timestamp(time_s, r->stamp);
	build_headers(r, t, req, variant, creds, payload);

	struct sigv4_request sign = {
		.method = names[method],
		.path = path.data,
		.query = r->scratch.data,
		.region = t->region,
		.payload_hash = payload,
		.time_s = time_s,
		.headers = r->headers + 1,
		.nheaders = r->nheaders - 1,
	};

	sigv4_authorization(keys, creds, &sign, &r->auth);
	add(r, "authorization", r->auth.data);
	http->method = method;
	build_body(r, req, http);
	http->url = r->url.data;
	http->headers = r->headers;
	http->nheaders = r->nheaders;
	bool failed = path.failed || r->url.failed || r->auth.failed ||
		      r->scratch.failed || r->document.failed ||
		      r->source.failed || r->meta_names.failed;
	buf_release(&path);
	return failed ? -ENAMETOOLONG : 0;
}
