/*
 * Every operation is built from the same few pieces: a path, a sorted query,
 * and a list of headers that are all signed. Names are added in sorted order,
 * which SigV4 wants and which makes the order part of the code's shape.
 *
 * Accept-Encoding is "identity" because the edge compresses or decompresses
 * on its own when it may (r2-facts 2.8). Bodies are never sent here, so the
 * payload hash is that of nothing.
 */
#include "r2/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY_SHA256 \
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

enum { URL_MAX = 16384 };

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
}

void request_release(struct request *r)
{
	buf_release(&r->url);
	buf_release(&r->auth);
	buf_release(&r->scratch);
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

static void build_query(struct buf *q, const struct store_req *req)
{
	char number[16];

	if (req->op != STORE_LIST)
		return;
	if (req->token)
		add_query(q, "continuation-token", req->token);
	if (req->delimiter)
		add_query(q, "delimiter", "/");
	add_query(q, "encoding-type", "url");
	add_query(q, "list-type", "2");
	snprintf(number, sizeof(number), "%u",
		 req->max_keys ? req->max_keys : STORE_LIST_MAX);
	add_query(q, "max-keys", number);
	add_query(q, "prefix", req->prefix ? req->prefix : "");
	if (req->start_after)
		add_query(q, "start-after", req->start_after);
}

static void quote(char *out, size_t n, const char *etag)
{
	if (etag)
		snprintf(out, n, "\"%s\"", etag);
	else
		out[0] = 0;
}

static void build_headers(struct request *r, const struct request_target *t,
			  const struct store_req *req,
			  const struct request_variant *v,
			  const struct creds_set *creds)
{
	quote(r->if_match, sizeof(r->if_match),
	      v->if_match ? v->if_match : req->if_match);
	quote(r->if_none_match, sizeof(r->if_none_match), req->if_none_match);
	r->range[0] = 0;
	if (req->op == STORE_GET && req->ranged && !v->as_head)
		snprintf(r->range, sizeof(r->range), "bytes=%llu-%llu",
			 (unsigned long long)(req->range_off + v->skip),
			 (unsigned long long)(req->range_off + req->range_len -
					      1));
	r->nheaders = 0;
	add(r, "accept-encoding",
	    v->any_encoding ? "gzip, br, zstd" : "identity");
	add(r, "host", t->host);
	add(r, "if-match", r->if_match);
	add(r, "if-none-match", r->if_none_match);
	add(r, "range", r->range);
	add(r, "x-amz-content-sha256", EMPTY_SHA256);
	add(r, "x-amz-date", r->stamp);
	add(r, "x-amz-security-token", creds->session_token);
}

int request_build(struct request *r, const struct request_target *t,
		  const struct store_req *req,
		  const struct request_variant *variant,
		  struct sigv4_cache *keys, const struct creds_set *creds,
		  int64_t time_s, struct http_req *http)
{
	bool head = req->op == STORE_HEAD || variant->as_head;
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
	build_query(&r->scratch, req);
	buf_addf(&r->url, "%s%s%s%s", t->scheme_host, path.data,
		 r->scratch.len ? "?" : "", r->scratch.data);
	sigv4_timestamp(time_s, r->stamp);
	build_headers(r, t, req, variant, creds);

	struct sigv4_request sign = {
		.method = head ? "HEAD" : "GET",
		.path = path.data,
		.query = r->scratch.data,
		.region = t->region,
		.payload_hash = EMPTY_SHA256,
		.time_s = time_s,
		.headers = r->headers,
		.nheaders = r->nheaders,
	};

	sigv4_authorization(keys, creds, &sign, &r->auth);
	add(r, "authorization", r->auth.data);
	http->method = head ? HTTP_HEAD : HTTP_GET;
	http->url = r->url.data;
	http->headers = r->headers;
	http->nheaders = r->nheaders;
	bool failed = path.failed || r->url.failed || r->auth.failed ||
		      r->scratch.failed;
	buf_release(&path);
	return failed ? -ENAMETOOLONG : 0;
}
