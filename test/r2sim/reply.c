/*
 * Answers: headers, documents, errors. The texts of errors are what R2 sends,
 * as far as they were seen.
 */
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "r2sim.h"

static const struct {
	const char *code;
	unsigned status;
	const char *message;
} errors[] = {
	{ "AccessDenied", 403, "Access Denied" },
	{ "BadDigest", 400,
	  "The checksum you specified did not match what we "
	  "received." },
	{ "BucketConflict", 409,
	  "The bucket you tried to create already "
	  "exists, and you own it." },
	{ "BucketNotEmpty", 409,
	  "The bucket you tried to delete is not "
	  "empty." },
	{ "EntityTooLarge", 400,
	  "Your proposed upload exceeds the maximum "
	  "allowed object size." },
	{ "EntityTooSmall", 400,
	  "Your proposed upload is smaller than the "
	  "minimum allowed object size." },
	{ "InternalError", 500,
	  "We encountered an internal error. Please try "
	  "again." },
	{ "InvalidBucketName", 400,
	  "The specified bucket name is not "
	  "valid." },
	{ "InvalidDigest", 400,
	  "The checksum or Content-MD5 you specified is "
	  "not valid." },
	{ "InvalidMaxKeys", 400,
	  "MaxKeys params must be positive integer <= "
	  "1000." },
	{ "InvalidObjectName", 400,
	  "The specified object name is not "
	  "valid." },
	{ "InvalidPart", 400,
	  "One or more of the specified parts could not "
	  "be found." },
	{ "InvalidRange", 416, "The requested range is not satisfiable" },
	{ "MalformedXML", 400,
	  "The XML you provided was not well formed or "
	  "did not validate against our published "
	  "schema." },
	{ "MetadataTooLarge", 400,
	  "Your metadata headers exceed the maximum "
	  "allowed metadata size." },
	{ "MissingContentLength", 411,
	  "You must provide the Content-Length "
	  "HTTP header." },
	{ "NoSuchBucket", 404, "The specified bucket does not exist." },
	{ "NoSuchKey", 404, "The specified key does not exist." },
	{ "NoSuchUpload", 404,
	  "The specified multipart upload does not "
	  "exist." },
	{ "PreconditionFailed", 412,
	  "At least one of the pre-conditions you "
	  "specified did not hold." },
	{ "RouteNotFound", 404, "No route matches this url." },
	{ NULL, 500, "" },
};

/* The library sends no header without a value; a blank is one to it alone. */
void reply_header(struct request *r, const char *name, const char *value)
{
	MHD_add_response_header(r->response, name, *value ? value : " ");
}

void reply_etag(struct request *r, const char *etag)
{
	char quoted[64];

	if (fault_is(r, F_NOETAG))
		return;
	snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
	if (fault_is(r, F_ETAG))
		memcpy(quoted + 1, "0123456789abcdef", 16);
	reply_header(r, "ETag", quoted);
}

static void set_response(struct request *r, unsigned status,
			 struct MHD_Response *response)
{
	if (r->response)
		MHD_destroy_response(r->response);
	r->status = status;
	r->response = response;
}

void reply_empty(struct request *r, unsigned status)
{
	static char empty[1];

	set_response(r, status,
		     MHD_create_response_from_buffer(0, empty,
						     MHD_RESPMEM_PERSISTENT));
}

void reply_text(struct request *r, unsigned status, struct text *t,
		const char *type)
{
	if (req_is(r, "HEAD") || !t->len) {
		text_free(t);
		reply_empty(r, status);
		return;
	}
	if (stream_wanted(r)) {
		set_response(r, status,
			     stream_response(r, NULL, t->s, 0, t->len));
	} else {
		set_response(r, status,
			     MHD_create_response_from_buffer(
				     t->len, t->s, MHD_RESPMEM_MUST_FREE));
		r->bytes_out = t->len;
	}
	reply_header(r, "Content-Type", type);
	memset(t, 0, sizeof(*t));
}

void reply_xml(struct request *r, struct text *t)
{
	int64_t extra = r->fault && r->fault->value ? r->fault->value :
						      16 << 20;

	if (fault_is(r, F_BADXML)) {
		t->len = t->len / 2;
		t->s[t->len] = 0;
	} else if (fault_is(r, F_HUGEXML)) {
		text_add_str(t, "<!-- ");
		while (extra-- > 0)
			text_add_bytes(t, "x", 1);
		text_add_str(t, " -->");
	}
	reply_text(r, 200, t, "application/xml");
}

/* A TCP connection that is dissolved sends RST, whatever is queued. */
void reply_reset(struct request *r)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	const union MHD_ConnectionInfo *info;

	info = MHD_get_connection_info(r->connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info && connect(info->connect_fd, &none, sizeof(none)))
		shutdown(info->connect_fd, SHUT_RDWR);
}

void op_error_extra(struct request *r, unsigned status, const char *code,
		    const char *message, const char *extra)
{
	struct text t = { 0 };

	text_add(&t, XML_HEAD "<Error><Code>%s</Code><Message>", code);
	text_add_xml(&t, message);
	text_add(&t, "</Message>");
	text_add_str(&t, extra);
	text_add(&t, "</Error>");
	if (status == 401 || status == 403)
		r->unbilled = strcmp(code, "SignatureDoesNotMatch") == 0 ||
			      strcmp(code, "AccessDenied") == 0 ||
			      strcmp(code, "Unauthorized") == 0 ||
			      strcmp(code, "RequestTimeTooSkewed") == 0 ||
			      strcmp(code, "ExpiredRequest") == 0;
	reply_text(r, status, &t, "application/xml");
}

bool op_error(struct request *r, unsigned status, const char *code,
	      const char *fmt, ...)
{
	va_list ap;
	char *message;

	va_start(ap, fmt);
	if (vasprintf(&message, fmt, ap) < 0)
		abort();
	va_end(ap);
	op_error_extra(r, status, code, message, "");
	free(message);
	return false;
}

bool op_fail(struct request *r, const char *code)
{
	unsigned i = 0;

	while (errors[i].code && strcmp(errors[i].code, code) != 0)
		i++;
	return op_error(r, errors[i].status, code, "%s", errors[i].message);
}
