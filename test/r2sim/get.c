/*
 * GET and HEAD of an object. A range that R2 would refuse is refused, one that
 * it answers is always a 206, and a HEAD with a range is answered as the
 * captures have it, 206 without a body.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "r2sim.h"

enum { SMALL = 65536 };

static bool refuse_range(struct request *r, unsigned status)
{
	if (status == 412)
		return op_fail(r, "PreconditionFailed");
	if (status == 416)
		return op_fail(r, "InvalidRange");
	return op_error(r, 400, "InvalidArgument",
			status == 1 ? "range must be positive." :
				      "range must be in format "
				      "'bytes=start-end', 'bytes=start-' or "
				      "'bytes=-suffix'.'");
}

/* "?partNumber=N": the Nth part as it was uploaded. */
static unsigned part_range(struct request *r, const struct object *o,
			   uint64_t *from, uint64_t *end)
{
	const char *arg = req_arg(r, "partNumber");
	unsigned n = arg ? strtoul(arg, NULL, 10) : 0;

	if (!arg)
		return 0;
	*from = 0;
	*end = o->size;
	if (n == 1 && o->nsegs <= 1)
		return 206;
	if (!n || n > o->nsegs)
		return 416;
	for (unsigned i = 0; i + 1 < n; i++)
		*from += o->segs[i].size;
	*end = *from + o->segs[n - 1].size;
	return 206;
}

/* A stored value as it may be sent: RFC 2047 where it is not ASCII. */
static void send_header(struct request *r, const char *name, const char *value)
{
	const char *p = value;
	char *encoded, *word;

	while (*p && !(*p & 0x80) && (unsigned char)*p >= 32)
		p++;
	if (!*p) {
		reply_header(r, name, value);
		return;
	}
	encoded = base64(value, strlen(value));
	word = xprintf("=?utf-8?B?%s?=", encoded);
	reply_header(r, name, word);
	free(word);
	free(encoded);
}

static bool hidden(const struct request *r, const char *name)
{
	const char *mode = req_header(r, "x-amz-checksum-mode");
	char *arg = xprintf("response-%s", name);
	bool given = req_arg(r, arg);

	free(arg);
	if (strncmp(name, "x-amz-checksum-", 15) == 0)
		return r->status != 200 || !mode || strcasecmp(mode, "ENABLED");
	return given || !strcmp(name, "x-amz-storage-class");
}

static void stored_headers(struct request *r, const struct object *o)
{
	char *copy = xstrdup(o->headers), *rest = copy, *line, *value;
	bool typed = false;

	while ((line = strsep(&rest, "\n"))) {
		value = strstr(line, ": ");
		if (!value)
			continue;
		*value = 0;
		typed |= !strcmp(line, "content-type");
		if (!hidden(r, line))
			send_header(r, line, value + 2);
	}
	if (!typed && !req_arg(r, "response-content-type"))
		reply_header(r, "Content-Type", "application/octet-stream");
	free(copy);
}

static void object_headers(struct request *r, const struct object *o)
{
	static const char *const names[] = {
		"content-type",	 "content-language",	"expires",
		"cache-control", "content-disposition", "content-encoding",
	};
	char date[40];

	reply_etag(r, o->etag);
	http_date(o->mtime_ms / 1000, date);
	reply_header(r, "Last-Modified", date);
	reply_header(r, "Accept-Ranges", "bytes");
	stored_headers(r, o);
	for (unsigned i = 0; r->nparams && i < 6; i++) {
		char *arg = xprintf("response-%s", names[i]);

		if (req_arg(r, arg))
			reply_header(r, names[i], req_arg(r, arg));
		free(arg);
	}
	if (fault_is(r, F_GZIP))
		reply_header(r, "Content-Encoding", "gzip");
}

static void range_header(struct request *r, uint64_t from, uint64_t end,
			 uint64_t size)
{
	char text[96];

	if (fault_is(r, F_RANGE))
		from++;
	snprintf(text, sizeof(text), "bytes %llu-%llu/%llu",
		 (unsigned long long)from,
		 (unsigned long long)(end ? end - 1 : 0),
		 (unsigned long long)size);
	reply_header(r, "Content-Range", text);
}

/* From one buffer, or in pieces; o is taken. By sendfile, a loopback connection
 * got half of what read and send give it. */
static void send_bytes(struct request *r, struct object *o, uint64_t from,
		       uint64_t end)
{
	uint64_t n = end - from;
	struct reader rd;
	char *buf;

	if (n > SMALL || stream_wanted(r) || req_is(r, "HEAD")) {
		r->response = stream_response(r, o, NULL, from, end);
		return;
	}
	reader_init(&rd, o);
	buf = malloc(n + 1);
	if (!buf || !reader_read(&rd, from, buf, n))
		abort();
	r->response =
		MHD_create_response_from_buffer(n, buf, MHD_RESPMEM_MUST_FREE);
	reader_release(&rd);
	object_unref(o);
	r->bytes_out = n;
}

static void send_object(struct request *r, struct object *o, unsigned status,
			uint64_t from, uint64_t end)
{
	struct object *held = object_ref(o);

	r->status = status ? status : 200;
	if (status == 304) {
		object_unref(o);
		reply_empty(r, 304);
	} else {
		send_bytes(r, o, from, end);
	}
	if (req_is(r, "HEAD"))
		r->bytes_out = 0;
	if (r->status == 206)
		range_header(r, from, end, held->size);
	if (req_arg(r, "partNumber") && held->nsegs > 1) {
		char *n = xprintf("%u", held->nsegs);

		reply_header(r, "x-amz-mp-parts-count", n);
		free(n);
	}
	object_headers(r, held);
	object_unref(held);
}

/* The conditions, of another version if a fault asks for that. */
static unsigned judge(const struct request *r, const struct object *o)
{
	struct object seen = { .mtime_ms = o->mtime_ms };

	memcpy(seen.etag, o->etag, sizeof(seen.etag));
	if (fault_is(r, F_ETAG))
		memcpy(seen.etag, "0123456789abcdef", 16);
	return conditions(r, "", &seen);
}

void op_get(struct request *r, struct bucket *b)
{
	uint64_t from = 0, end = 0;
	struct object *o;
	unsigned status, range;

	pthread_rwlock_rdlock(&objects_lock);
	o = bucket_get(b, r->key);
	if (o)
		object_ref(o);
	pthread_rwlock_unlock(&objects_lock);
	if (!o) {
		op_fail(r, "NoSuchKey");
		return;
	}
	range = parse_range(req_header(r, "Range"), o->size, &from, &end);
	if (!range)
		range = part_range(r, o, &from, &end);
	status = range == 400 || range == 1 ? range : judge(r, o);
	if (!status)
		status = range;
	if (fault_is(r, F_WHOLE) && status == 206) {
		status = 0;
		from = 0;
		end = o->size;
	}
	if (status && status != 206 && status != 304) {
		object_unref(o);
		refuse_range(r, status);
		return;
	}
	if (!status)
		end = o->size;
	send_object(r, o, status, from, end);
}
