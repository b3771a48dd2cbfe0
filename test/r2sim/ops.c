/*
 * What requests mean: the read side whole, PUT and DELETE so that clients can
 * fill a bucket. Codes and forms as captured from R2.
 */
#include <ctype.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "r2sim.h"

static char empty[1];

#define XMLNS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static void header(struct request *r, const char *name, const char *value)
{
	MHD_add_response_header(r->response, name, value);
}

static void answer_text(struct request *r, unsigned status, struct text *t,
			const char *type)
{
	bool head = strcmp(r->method, "HEAD") == 0;

	r->status = status;
	r->response = MHD_create_response_from_buffer(
		head ? 0 : t->len, t->s ? t->s : strdup(""), MHD_RESPMEM_MUST_FREE);
	if (t->len && !head)
		header(r, "Content-Type", type);
}

void op_error(struct request *r, unsigned status, const char *code,
	      const char *message)
{
	struct text t = { 0 };

	text_add(&t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s"
		     "</Code><Message>%s</Message></Error>",
		 code, message);
	answer_text(r, status, &t, "application/xml");
}

/* ---- GET and HEAD ---- */

struct stream {
	struct object o; /* key and path owned */
	int fd;
	uint64_t off, end, sent, cut, stall;
	struct timespec start;
};

static void stream_free(void *arg)
{
	struct stream *s = arg;

	if (s->fd >= 0)
		close(s->fd);
	free(s->o.key);
	free(s);
}

static void throttle(struct stream *s)
{
	struct timespec now;

	if (!conn_bandwidth)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double due = (double)s->sent / conn_bandwidth;
	double gone = (now.tv_sec - s->start.tv_sec) +
		      (now.tv_nsec - s->start.tv_nsec) / 1e9;

	if (due > gone)
		usleep((due - gone) * 1e6);
}

static ssize_t stream_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct stream *s = arg;
	uint64_t off = s->off + pos;
	size_t n = max;

	if (s->cut && pos >= s->cut)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (s->stall && pos >= s->stall) {
		sleep(30);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (n > s->end - off)
		n = s->end - off;
	if (s->cut && n > s->cut - pos)
		n = s->cut - pos;
	if (s->stall && n > s->stall - pos)
		n = s->stall - pos;
	if (s->fd < 0)
		fake_bytes(s->o.key, off, buf, n);
	else if (pread(s->fd, buf, n, off) != (ssize_t)n)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	s->sent += n;
	count_bytes(n);
	throttle(s);
	return n;
}

/* "bytes=a-b", "bytes=a-", "bytes=-n". 0 none, 206, 400 or 416. */
static unsigned parse_range(const char *h, uint64_t size, uint64_t *from,
			    uint64_t *end)
{
	unsigned long long a, b;
	char dash, rest;

	*from = 0;
	*end = size;
	if (!h)
		return 0;
	if (sscanf(h, "bytes=-%llu%c", &b, &rest) == 1 && h[6] == '-') {
		if (b == 0 || size == 0)
			return 416;
		*from = b < size ? size - b : 0;
		return 206;
	}
	if (!isdigit((unsigned char)h[strcspn(h, "0123456789")]) ||
	    strncmp(h, "bytes=", 6))
		return 400;
	if (sscanf(h, "bytes=%llu-%llu%c", &a, &b, &rest) == 2) {
		if (a > b)
			return 400;
	} else if (sscanf(h, "bytes=%llu%c%c", &a, &dash, &rest) == 2 &&
		   dash == '-') {
		b = UINT64_MAX - 1;
	} else {
		return 400;
	}
	if (a >= size)
		return 416;
	*from = a;
	*end = b + 1 < size ? b + 1 : size;
	return 206;
}

static bool etag_in(const char *list, const char *etag)
{
	char quoted[64];

	snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
	return strcmp(list, "*") == 0 || strstr(list, quoted) ||
	       strcmp(list, etag) == 0;
}

static unsigned conditions(struct request *r, const struct object *o)
{
	const char *match = req_header(r, "If-Match");
	const char *none = req_header(r, "If-None-Match");

	if (match && !etag_in(match, o->etag))
		return 412;
	if (none && etag_in(none, o->etag))
		return 304;
	return 0;
}

static void object_headers(struct request *r, const struct object *o)
{
	char *copy = strdup(o->headers), *rest = copy, *line, *value;
	time_t t = o->mtime_ms / 1000;
	char date[64], quoted[64];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	snprintf(quoted, sizeof(quoted), "\"%s\"", o->etag);
	header(r, "ETag", quoted);
	header(r, "Last-Modified", date);
	header(r, "Accept-Ranges", "bytes");
	if (!strcasestr(o->headers, "content-type:"))
		header(r, "Content-Type", "application/octet-stream");
	while ((line = strsep(&rest, "\n"))) {
		value = strstr(line, ": ");
		if (!value)
			continue;
		*value = 0;
		header(r, line, value + 2);
	}
	free(copy);
}

static void answer_stream(struct request *r, struct stream *s, uint64_t from,
			  uint64_t end, const struct fault *f)
{
	bool shaped = conn_bandwidth || (f && (f->action == F_CUT ||
					       f->action == F_STALL));

	s->off = from;
	s->end = end;
	if (f && f->action == F_CUT)
		s->cut = f->value;
	if (f && f->action == F_STALL)
		s->stall = f->value;
	clock_gettime(CLOCK_MONOTONIC, &s->start);
	if (!shaped && s->fd >= 0) {
		r->response = MHD_create_response_from_fd_at_offset64(
			end - from, s->fd, from);
		s->fd = -1;
		count_bytes(end - from);
		stream_free(s);
	} else {
		r->response = MHD_create_response_from_callback(
			end - from, 262144, stream_read, s, stream_free);
	}
}

static void range_headers(struct request *r, uint64_t from, uint64_t end,
			  uint64_t size, const struct fault *f)
{
	char text[96];

	if (r->status != 206)
		return;
	if (f && f->action == F_RANGE)
		from++;
	snprintf(text, sizeof(text), "bytes %llu-%llu/%llu",
		 (unsigned long long)from, (unsigned long long)end - 1,
		 (unsigned long long)size);
	header(r, "Content-Range", text);
}

static struct stream *open_object(struct request *r, struct bucket *b,
				  struct object **ret)
{
	struct object *o = bucket_get(b, r->key);
	struct stream *s;
	char *path;

	*ret = o;
	if (!o)
		return NULL;
	s = calloc(1, sizeof(*s));
	s->o = *o;
	s->o.key = strdup(o->key);
	s->o.headers = strdup(o->headers);
	path = object_path(b, o->id);
	s->fd = o->id ? open(path, O_RDONLY) : -1;
	free(path);
	return s;
}

static void op_get(struct request *r, struct bucket *b, const struct fault *f)
{
	bool head = strcmp(r->method, "HEAD") == 0;
	struct object *found, o;
	struct stream *s;
	uint64_t from = 0, end = 0;
	unsigned status;

	pthread_rwlock_rdlock(&objects_lock);
	s = open_object(r, b, &found);
	pthread_rwlock_unlock(&objects_lock);
	if (!s) {
		op_error(r, 404, "NoSuchKey",
			 "The specified key does not exist.");
		return;
	}
	o = s->o;
	if (f && f->action == F_ETAG)
		memcpy(o.etag, "0123456789abcdef", 16);
	status = conditions(r, &o);
	if (!status)
		status = parse_range(head ? NULL : req_header(r, "Range"),
				     o.size, &from, &end);
	if (f && f->action == F_WHOLE && status == 206) {
		status = 0;
		from = 0;
		end = o.size;
	}
	r->status = status ? status : 200;
	if (status == 412 || status == 400 || status == 416) {
		op_error(r, status,
			 status == 412 ? "PreconditionFailed" :
			 status == 416 ? "InvalidRange" :
					 "InvalidArgument",
			 "The request's condition or range is not satisfied.");
		stream_free(s);
		free(o.headers);
		return;
	}
	if (head || status == 304) {
		r->response = MHD_create_response_from_callback(
			status == 304 ? 0 : o.size, 4096, stream_read, s,
			stream_free);
		r->status = status ? status : 200;
		o.key = r->key;
	} else {
		answer_stream(r, s, from, end, f);
		range_headers(r, from, end, o.size, f);
	}
	object_headers(r, &o);
	if (f && f->action == F_GZIP &&
	    strstr(req_header(r, "Accept-Encoding") ?: "", "gzip") == NULL)
		header(r, "Content-Encoding", "gzip");
	free(o.headers);
}

/* ---- LIST ---- */

struct listing {
	const char *prefix, *delimiter;
	long max;
	bool url;
	struct text contents, prefixes;
	long n;
	char *last; /* last key or prefix given */
	bool truncated;
};

static void add_name(struct listing *l, struct text *t, const char *name)
{
	if (l->url)
		text_add_encoded(t, name);
	else
		text_add_xml(t, name);
}

static void add_object(struct listing *l, const struct object *o)
{
	time_t t = o->mtime_ms / 1000;
	char date[64];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	text_add(&l->contents, "<Contents><Key>");
	add_name(l, &l->contents, o->key);
	text_add(&l->contents,
		 "</Key><Size>%llu</Size><LastModified>%s.%03dZ</LastModified>"
		 "<ETag>&quot;%s&quot;</ETag><StorageClass>STANDARD"
		 "</StorageClass></Contents>",
		 (unsigned long long)o->size, date, (int)(o->mtime_ms % 1000),
		 o->etag);
}

/* The common prefix of key, malloc, or NULL. */
static char *group(const struct listing *l, const char *key)
{
	const char *p;

	if (!l->delimiter || !*l->delimiter)
		return NULL;
	p = strstr(key + strlen(l->prefix), l->delimiter);
	return p ? strndup(key, p + strlen(l->delimiter) - key) : NULL;
}

static size_t skip_group(const struct bucket *b, const char *prefix)
{
	char *after = strdup(prefix);
	size_t n = strlen(after), i;

	after[n - 1]++;
	i = bucket_lower(b, after);
	free(after);
	return i;
}

static void list_from(struct listing *l, struct bucket *b, size_t i)
{
	size_t n = strlen(l->prefix);

	while (i < b->n && strncmp(b->objects[i].key, l->prefix, n) == 0) {
		char *common = group(l, b->objects[i].key);

		if (l->n == l->max) {
			l->truncated = true;
			free(common);
			return;
		}
		l->n++;
		free(l->last);
		if (common) {
			text_add(&l->prefixes, "<CommonPrefixes><Prefix>");
			add_name(l, &l->prefixes, common);
			text_add(&l->prefixes, "</Prefix></CommonPrefixes>");
			i = skip_group(b, common);
			l->last = common;
		} else {
			add_object(l, &b->objects[i]);
			l->last = strdup(b->objects[i++].key);
		}
	}
}

static size_t list_start(const struct listing *l, struct bucket *b,
			 const char *after)
{
	size_t i;

	if (!after || strcmp(after, l->prefix) < 0)
		return bucket_lower(b, l->prefix);
	if (l->delimiter && *l->delimiter && strlen(after) > strlen(l->prefix) &&
	    after[strlen(after) - 1] == l->delimiter[0])
		return skip_group(b, after);
	i = bucket_lower(b, after);
	if (i < b->n && strcmp(b->objects[i].key, after) == 0)
		i++;
	return i;
}

static void list_xml(struct request *r, struct listing *l, const char *bucket)
{
	struct text t = { 0 };

	text_add(&t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
		     "<ListBucketResult " XMLNS "><Name>%s</Name>",
		 bucket);
	if (l->url)
		text_add(&t, "<EncodingType>url</EncodingType>");
	text_add_bytes(&t, l->contents.s ? l->contents.s : "", l->contents.len);
	text_add_bytes(&t, l->prefixes.s ? l->prefixes.s : "", l->prefixes.len);
	text_add(&t, "<IsTruncated>%s</IsTruncated>",
		 l->truncated ? "true" : "false");
	if (l->truncated) {
		text_add(&t, "<NextContinuationToken>");
		for (const char *p = l->last; *p; p++)
			text_add(&t, "%02x", (unsigned char)*p);
		text_add(&t, "</NextContinuationToken>");
	}
	text_add(&t, "<MaxKeys>%ld</MaxKeys><KeyCount>%ld</KeyCount>"
		     "</ListBucketResult>",
		 l->max, l->n);
	answer_text(r, 200, &t, "application/xml");
}

static char *token_decode(const char *hexed)
{
	size_t n = strlen(hexed) / 2;
	char *s = calloc(1, n + 1);
	unsigned c;

	for (size_t i = 0; i < n && sscanf(hexed + 2 * i, "%2x", &c) == 1; i++)
		s[i] = c;
	return s;
}

static void op_list(struct request *r, struct bucket *b, const struct fault *f)
{
	const char *type = req_arg(r, "list-type"), *max = req_arg(r, "max-keys");
	const char *encoding = req_arg(r, "encoding-type");
	const char *token = req_arg(r, "continuation-token");
	const char *prefix = req_arg(r, "prefix");
	struct listing l = { .prefix = prefix ? prefix : "",
			     .delimiter = req_arg(r, "delimiter"),
			     .url = encoding && !strcmp(encoding, "url"),
			     .max = max ? atol(max) : 1000 };
	char *after;

	if (!type || strcmp(type, "2") != 0) {
		op_error(r, 501, "NotImplemented", "Only ListObjectsV2.");
		return;
	}
	if (max && (!isdigit((unsigned char)*max))) {
		op_error(r, 400, "InvalidMaxKeys", "max-keys is not a number");
		return;
	}
	if (l.max > 1000)
		l.max = 1000;
	if (f && f->action == F_BADXML) {
		struct text t = { 0 };

		text_add(&t, "<?xml version=\"1.0\"?><ListBucketResult><Con");
		answer_text(r, 200, &t, "application/xml");
		return;
	}
	after = token ? token_decode(token) :
			strdup(req_arg(r, "start-after") ?: "");
	pthread_rwlock_rdlock(&objects_lock);
	list_from(&l, b, list_start(&l, b, *after ? after : NULL));
	pthread_rwlock_unlock(&objects_lock);
	list_xml(r, &l, b->name);
	free(after);
	free(l.last);
	text_free(&l.contents);
	text_free(&l.prefixes);
}

/* ---- PUT and DELETE ---- */

static enum MHD_Result keep_header(void *arg, enum MHD_ValueKind kind,
				   const char *name, const char *value)
{
	static const char *const kept[] = { "content-type", "cache-control",
					    "content-encoding",
					    "content-language", "expires",
					    "content-disposition",
					    "x-amz-storage-class" };
	bool keep = strncasecmp(name, "x-amz-meta-", 11) == 0;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		keep |= strcasecmp(name, kept[i]) == 0;
	if (keep)
		text_add(arg, "%s: %s\n", name, value);
	return MHD_YES;
}

static void op_put(struct request *r, struct bucket *b)
{
	const char *none = req_header(r, "If-None-Match");
	const char *match = req_header(r, "If-Match");
	const char *given = req_header(r, "Content-MD5");
	struct text headers = { 0 };
	unsigned char digest[16];
	char etag[40], quoted[64], base64[32];
	struct object *o;

	EVP_DigestFinal_ex(r->md5, digest, NULL);
	hex(digest, 16, etag);
	EVP_EncodeBlock((unsigned char *)base64, digest, 16);
	fclose(r->body);
	r->body = NULL;
	if (given && strcmp(given, base64) != 0) {
		op_error(r, 400, "BadDigest", "The Content-MD5 does not match.");
		return;
	}
	if (strlen(r->key) > 1024) {
		op_error(r, 400, "InvalidObjectName", "The key is too long.");
		return;
	}
	text_add(&headers, "%s", "");
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, keep_header,
				  &headers);
	pthread_rwlock_wrlock(&objects_lock);
	o = bucket_get(b, r->key);
	if ((none && o && etag_in(none, o->etag)) ||
	    (match && (!o || !etag_in(match, o->etag)))) {
		pthread_rwlock_unlock(&objects_lock);
		text_free(&headers);
		op_error(r, 412, "PreconditionFailed",
			 "At least one of the conditions did not hold.");
		return;
	}
	bucket_put(b, r->key, r->body_path, r->body_len, etag, headers.s);
	r->body_path[0] = 0;
	pthread_rwlock_unlock(&objects_lock);
	r->response = MHD_create_response_from_buffer(0, empty,
						      MHD_RESPMEM_PERSISTENT);
	r->status = 200;
	snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
	header(r, "ETag", quoted);
}

static void op_delete(struct request *r, struct bucket *b)
{
	pthread_rwlock_wrlock(&objects_lock);
	bucket_delete(b, r->key);
	pthread_rwlock_unlock(&objects_lock);
	r->response = MHD_create_response_from_buffer(0, empty,
						      MHD_RESPMEM_PERSISTENT);
	r->status = 204;
}

/* ---- which ---- */

static bool apply_fault(struct request *r, const struct fault *f)
{
	struct text t = { 0 };

	if (!f)
		return false;
	switch (f->action) {
	case F_STATUS:
		op_error(r, f->value,
			 f->value == 429 || f->value == 503 ?
				 "ServiceUnavailable" :
			 f->value == 401 ? "Unauthorized" :
			 f->value == 403 ? "AccessDenied" :
					   "InternalError",
			 "A fault was asked for.");
		return true;
	case F_HTML:
		text_add(&t, "<html><body>error code: %d</body></html>",
			 (int)f->value);
		answer_text(r, f->value, &t, "text/html");
		return true;
	case F_SKEW:
		clock_offset_s = f->value;
		return false;
	case F_DELAY:
		r->wait_ms += f->value;
		return false;
	default:
		return false;
	}
}

static const char *op_name(const struct request *r)
{
	if (!strcmp(r->method, "HEAD"))
		return r->key ? "HEAD" : "HEADBUCKET";
	if (!strcmp(r->method, "GET"))
		return r->key ? "GET" : "LIST";
	if (!strcmp(r->method, "PUT") && r->key)
		return "PUT";
	if (!strcmp(r->method, "DELETE") && r->key)
		return "DELETE";
	return "OTHER";
}

void op_handle(struct request *r)
{
	const struct fault *f;
	struct bucket *b;
	unsigned status = 0;
	const char *code;

	r->op = op_name(r);
	f = fault_match(r->op, r->key);
	if (apply_fault(r, f))
		return;
	code = auth_check(r, &status);
	if (code) {
		const char *message = strchr(code, ':');
		char *word = strndup(code, strcspn(code, ":"));

		op_error(r, status, word,
			 message ? message + 1 : "The request is not allowed.");
		free(word);
		return;
	}
	b = r->bucket ? bucket_find(r->bucket) : NULL;
	if (!b)
		op_error(r, 404, "NoSuchBucket",
			 "The specified bucket does not exist.");
	else if (!strcmp(r->op, "GET") || !strcmp(r->op, "HEAD"))
		op_get(r, b, f);
	else if (!strcmp(r->op, "LIST"))
		op_list(r, b, f);
	else if (!strcmp(r->op, "PUT"))
		op_put(r, b);
	else if (!strcmp(r->op, "DELETE"))
		op_delete(r, b);
	else if (!strcmp(r->op, "HEADBUCKET")) {
		r->status = 200;
		r->response = MHD_create_response_from_buffer(
			0, empty, MHD_RESPMEM_PERSISTENT);
		header(r, "x-amz-bucket-region", "auto");
	} else {
		op_error(r, 501, "NotImplemented", "Not simulated.");
	}
}
