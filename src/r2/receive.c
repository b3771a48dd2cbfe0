/*
 * What arrives, before it is believed. A GET's bytes go straight to the
 * caller's buffer, but only after status, range, ETag and encoding have been
 * checked; a transfer that breaks goes on from the last byte with If-Match, so
 * two versions cannot meet in a buffer. All other bodies are documents or
 * complaints and are kept for later.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "r2/op.h"
#include "r2/words.h"

/* ---- headers of an answer ---- */

const char *op_header(struct op *op, const char *name)
{
	return http_header_get(op->r2->http, &op->flight->http, name);
}

bool op_etag(struct op *op, char *ret, size_t max)
{
	const char *s = op_header(op, "etag");
	size_t n;

	if (!s)
		return false;
	if (strncmp(s, "W/", 2) == 0)
		s += 2;
	n = strlen(s);
	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	if (n == 0 || n >= max)
		return false;
	memcpy(ret, s, n);
	ret[n] = 0;
	return true;
}

static int64_t parse_http_date(const char *s)
{
	struct tm tm = { 0 };

	if (!s || !strptime(s, "%a, %d %b %Y %H:%M:%S", &tm))
		return 0;
	return timegm(&tm);
}

int64_t op_date(struct op *op)
{
	return parse_http_date(op_header(op, "date"));
}

int64_t op_modified_ns(struct op *op)
{
	return parse_http_date(op_header(op, "last-modified")) * 1000000000ll;
}

static void add_meta(struct store_attr *attr, const char *name,
		     const char *value)
{
	struct store_meta *m = &attr->meta;
	char *lower = xstrdup(name);

	for (char *p = lower; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p |= 32;
	m->pairs = xrealloc(m->pairs, (m->n + 1) * sizeof(*m->pairs));
	m->pairs[m->n++] =
		(struct store_meta_pair){ lower, words_decode(value) };
}

/* What r2fs itself says of every object is no property worth keeping. */
static bool is_usual(const char *name, const char *value)
{
	if (!strcmp(name, STORE_CONTENT_TYPE))
		return strlen(value) <
		       sizeof(((struct store_attr *)0)->content_type);
	return (!strcmp(name, ":cache-control") &&
		!strcmp(value, "no-transform")) ||
	       (!strcmp(name, ":content-encoding") &&
		(!strcasecmp(value, "identity") ||
		 strstr(value, "aws-chunked")));
}

static void add_properties(struct op *op, struct store_attr *attr)
{
	static const char *const names[] = STORE_PROPERTIES;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = op_header(op, names[i] + 1);
		struct store_meta *m = &attr->meta;

		if (!value || !*value || is_usual(names[i], value))
			continue;
		m->pairs = xrealloc(m->pairs, (m->n + 1) * sizeof(*m->pairs));
		m->pairs[m->n++] = (struct store_meta_pair){ xstrdup(names[i]),
							     xstrdup(value) };
	}
}

static void each_header(const char *name, const char *value, void *arg)
{
	struct store_attr *attr = arg;

	if (strncasecmp(name, "x-amz-meta-", 11) == 0)
		add_meta(attr, name + 11, value);
}

void op_read_attr(struct op *op, struct store_attr *attr)
{
	const char *type = op_header(op, "content-type");
	const char *encoding = op_header(op, "content-encoding");
	const char *class = op_header(op, "x-amz-storage-class");

	store_meta_release(&attr->meta);
	http_header_each(op->r2->http, &op->flight->http, each_header, attr);
	attr->has_meta = true;
	attr->mtime_ns = op_modified_ns(op);
	attr->date_ns = op_date(op) * 1000000000ll;
	snprintf(attr->content_type, sizeof(attr->content_type), "%s",
		 type ? type : "");
	snprintf(attr->content_encoding, sizeof(attr->content_encoding), "%s",
		 encoding ? encoding : "");
	attr->infrequent = class && strcmp(class, "STANDARD_IA") == 0;
	add_properties(op, attr);
}

/* ---- checking a GET's head ---- */

static int refuse(struct op *op, const char *what)
{
	op->wrong_answer = true;
	snprintf(op->req->why, sizeof(op->req->why), "%s", what);
	return -EBADMSG;
}

static bool parse_content_range(const char *s, uint64_t *from, uint64_t *to,
				uint64_t *total)
{
	unsigned long long a, b, n;

	if (!s || sscanf(s, "bytes %llu-%llu/%llu", &a, &b, &n) != 3 || b < a ||
	    b >= n)
		return false;
	*from = a;
	*to = b;
	*total = n;
	return true;
}

static int check_partial(struct op *op, uint64_t *total)
{
	const struct store_req *req = op->req;
	uint64_t from, to, last;

	if (!req->ranged)
		return refuse(op, "the server sent a part nobody asked for");
	if (!parse_content_range(op_header(op, "content-range"), &from, &to,
				 total))
		return refuse(op, "the server's Content-Range is malformed");
	last = req->range_off + req->range_len - 1;
	if (last >= *total)
		last = *total - 1;
	if (from != req->range_off + op->variant.skip || to != last)
		return refuse(op, "the server sent another range than asked");
	op->expect = to - from + 1;
	return 0;
}

static int check_whole(struct op *op, uint64_t *total)
{
	const struct store_req *req = op->req;

	if (op->flight->http.content_length < 0)
		return refuse(op, "the server gave no Content-Length");
	*total = op->expect = op->flight->http.content_length;
	if (op->variant.skip || req->range_off ||
	    (req->ranged && *total > req->range_len) || *total > req->buf_cap)
		return refuse(op, "the server ignored the range");
	return 0;
}

static int check_encoding(struct op *op)
{
	const char *encoding = op_header(op, "content-encoding");

	if (op->variant.any_encoding)
		return 0;
	if ((encoding && *encoding && strcasecmp(encoding, "identity")) ||
	    (op->flight->http.status == 200 &&
	     op->flight->http.content_length < 0))
		return refuse(op, "the edge changed the object's encoding");
	return 0;
}

static int check_get(struct op *op)
{
	struct store_req *req = op->req;
	struct store_etag etag;
	uint64_t total = 0;
	int err = check_encoding(op);

	if (!err && !op_etag(op, etag.s, sizeof(etag.s)))
		err = refuse(op, "the server gave no usable ETag");
	if (!err && op->variant.skip && strcmp(etag.s, req->attr.etag.s) != 0)
		err = refuse(op, "the server mixed two versions");
	if (!err)
		err = op->flight->http.status == 206 ?
			      check_partial(op, &total) :
			      check_whole(op, &total);
	if (err || op->variant.skip)
		return err;
	op_read_attr(op, &req->attr);
	req->attr.etag = etag;
	req->attr.size = total;
	return 0;
}

int op_on_head(struct http_req *http)
{
	struct op *op = flight_claim(http->arg);

	if (!op)
		return -ECANCELED;
	__atomic_store_n(&op->r2->heard, true, __ATOMIC_RELAXED);
	op->deadline_ns += op->unheard_ns;
	op->unheard_ns = 0;
	http->deadline_ns = op->deadline_ns;
	op->expect = UINT64_MAX;
	if (op->req->op != STORE_GET || op->variant.as_head ||
	    http->status < 200 || http->status > 299)
		return 0;
	if (http->status != 200 && http->status != 206)
		return refuse(op, "the server's answer is no object");
	return check_get(op);
}

/* What is too long is cut, as of a complaint the status says enough and a write
 * may have been done; but no listing is brought in vain three times. */
static int keep_text(struct op *op, const void *data, size_t n)
{
	buf_add(&op->body, data, n);
	if (op->body.failed && op->flight->http.status < 300 &&
	    !op_is_write(op->req))
		return refuse(op, "the answer is longer than any of R2");
	return 0;
}

int op_on_body(struct http_req *http, const void *data, size_t n)
{
	struct op *op = ((struct flight *)http->arg)->op;
	struct store_req *req = op->req;

	if (op->expect == UINT64_MAX)
		return keep_text(op, data, n);
	if (http->body_received > op->expect || req->buf_len + n > req->buf_cap)
		return refuse(op, "the server sent more bytes than announced");
	memcpy(req->buf + req->buf_len, data, n);
	req->buf_len += n;
	if (req->progress)
		req->progress(req, req->buf_len);
	return 0;
}
