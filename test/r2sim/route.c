/*
 * Which operation a request is, and the order in which it is judged: faults,
 * signature, refused headers, digests, bucket, limits, then the operation.
 */
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

const struct op_info op_info[OP_COUNT] = {
	[OP_GET] = { "GET", "GetObject", 'B' },
	[OP_HEAD] = { "HEAD", "HeadObject", 'B' },
	[OP_LIST] = { "LIST", "ListObjects", 'A' },
	[OP_PUT] = { "PUT", "PutObject", 'A' },
	[OP_COPY] = { "COPY", "CopyObject", 'A' },
	[OP_DELETE] = { "DELETE", "DeleteObject", 'F' },
	[OP_DELETES] = { "DELETES", "DeleteObjects", 'F' },
	[OP_CREATE] = { "CREATE", "CreateMultipartUpload", 'A' },
	[OP_PART] = { "PART", "UploadPart", 'A' },
	[OP_PARTCOPY] = { "PARTCOPY", "UploadPartCopy", 'A' },
	[OP_COMPLETE] = { "COMPLETE", "CompleteMultipartUpload", 'A' },
	[OP_ABORT] = { "ABORT", "AbortMultipartUpload", 'F' },
	[OP_LISTPARTS] = { "LISTPARTS", "ListParts", 'A' },
	[OP_LISTUPLOADS] = { "LISTUPLOADS", "ListMultipartUploads", 'A' },
	[OP_HEADBUCKET] = { "HEADBUCKET", "HeadBucket", 'B' },
	[OP_LISTBUCKETS] = { "LISTBUCKETS", "ListBuckets", 'A' },
	[OP_MAKEBUCKET] = { "MAKEBUCKET", "CreateBucket", 'A' },
	[OP_RMBUCKET] = { "RMBUCKET", "DeleteBucket", 'F' },
	[OP_LOCATION] = { "LOCATION", "GetBucketLocation", 'B' },
	[OP_CONFIG] = { "CONFIG", "GetBucketConfiguration", 'B' },
	[OP_OTHER] = { "OTHER", "Other", 'F' },
	[OP_DELETEKEY] = { "DELETEKEY", "DeleteKey", 'F' },
};

/* ---- which operation ---- */

static const char *absent_subresource(const struct request *r)
{
	static const struct {
		const char *arg, *get, *put;
	} known[] = {
		{ "tagging", "GetObjectTagging", "PutObjectTagging" },
		{ "acl", "GetObjectAcl", "PutObjectAcl" },
		{ "attributes", "GetObjectAttributes", NULL },
		{ "torrent", "GetObjectTorrent", NULL },
		{ "retention", "GetObjectRetention", "PutObjectRetention" },
		{ "legal-hold", "GetObjectLegalHold", "PutObjectLegalHold" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (req_arg(r, known[i].arg))
			return req_is(r, "GET") ? known[i].get :
			       req_is(r, "PUT") ? known[i].put :
						  NULL;
	return NULL;
}

const char *bucket_setting(const struct request *r)
{
	static const char *const known[] = {
		"encryption",
		"versioning",
		"tagging",
		"object-lock",
		"replication",
		"versions",
		"policy",
		"website",
		"notification",
		"requestPayment",
		"logging",
		"accelerate",
		"publicAccessBlock",
		"ownershipControls",
		"inventory",
		"intelligent-tiering",
		"metrics",
		"analytics",
		"policyStatus",
		"acl",
		"cors",
		"lifecycle",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (req_arg(r, known[i]))
			return known[i];
	return NULL;
}

/* " *-?[0-9]*"; what else a client sends finds no route. */
static bool part_number_routes(const char *s)
{
	s += strspn(s, " ");
	s += *s == '-';
	return !s[strspn(s, "0123456789")];
}

/* With ?uploadId=; OP_OTHER: it is as if that were not there. */
static enum op upload_op(struct request *r)
{
	const char *part = req_arg(r, "partNumber");

	if (part && !part_number_routes(part)) {
		r->no_route = true;
		return OP_OTHER;
	}
	if (req_is(r, "GET"))
		return OP_LISTPARTS;
	if (req_is(r, "POST"))
		return OP_COMPLETE;
	if (req_is(r, "DELETE"))
		return OP_ABORT;
	if (req_is(r, "PUT") && part)
		return req_header(r, "x-amz-copy-source") ? OP_PARTCOPY :
							    OP_PART;
	return OP_OTHER;
}

static enum op object_op(struct request *r)
{
	enum op op = req_arg(r, "uploadId") ? upload_op(r) : OP_OTHER;

	if (op != OP_OTHER || r->no_route)
		return op;
	if (req_arg(r, "uploads") && req_is(r, "POST"))
		return OP_CREATE;
	if (req_arg(r, "uploads") && req_is(r, "GET"))
		r->absent = "ListMultipartUploads";
	else
		r->absent = absent_subresource(r);
	if (r->absent)
		return OP_OTHER;
	if (req_is(r, "GET"))
		return OP_GET;
	if (req_is(r, "HEAD"))
		return OP_HEAD;
	if (req_is(r, "PUT"))
		return req_header(r, "x-amz-copy-source") ? OP_COPY : OP_PUT;
	if (req_is(r, "POST"))
		return OP_PUT;
	if (req_is(r, "DELETE"))
		return OP_DELETE;
	r->no_route = true;
	return OP_OTHER;
}

static enum op bucket_op(struct request *r)
{
	if (req_is(r, "HEAD"))
		return OP_HEADBUCKET;
	if (req_is(r, "POST"))
		return req_arg(r, "delete") ? OP_DELETES : OP_OTHER;
	if (req_is(r, "GET") && req_arg(r, "uploads"))
		return OP_LISTUPLOADS;
	if (req_is(r, "GET") && req_arg(r, "location"))
		return OP_LOCATION;
	if (req_is(r, "GET"))
		return bucket_setting(r) ? OP_CONFIG : OP_LIST;
	if (req_is(r, "PUT"))
		return bucket_setting(r) ? OP_CONFIG : OP_MAKEBUCKET;
	if (req_is(r, "DELETE"))
		return bucket_setting(r) ? OP_CONFIG : OP_RMBUCKET;
	r->no_route = true;
	return OP_OTHER;
}

void route_begin(struct request *r)
{
	if (r->key || r->bad_name) {
		r->op = object_op(r);
	} else if (r->bucket) {
		r->op = bucket_op(r);
	} else {
		r->op = req_is(r, "GET") ? OP_LISTBUCKETS : OP_OTHER;
		r->no_route = r->op == OP_OTHER;
	}
}

/* ---- faults that are not about the bytes of the answer ---- */

static const char *default_code(int64_t status)
{
	switch (status) {
	case 429:
	case 503:
		return "ServiceUnavailable";
	case 401:
		return "Unauthorized";
	case 403:
		return "AccessDenied";
	case 404:
		return "NoSuchKey";
	case 412:
		return "PreconditionFailed";
	default:
		return "InternalError";
	}
}

static void fault_status(struct request *r, const struct fault *f,
			 unsigned status)
{
	char seconds[24];

	op_error(r, status, *f->code ? f->code : default_code(f->value),
		 "A fault was asked for.");
	if (f->retry_after >= 0) {
		snprintf(seconds, sizeof(seconds), "%ld", f->retry_after);
		reply_header(r, "Retry-After", seconds);
	}
}

/* true: this is the answer */
static bool fault_before(struct request *r)
{
	const struct fault *f = r->fault;
	struct text t = { 0 };

	if (!f)
		return false;
	switch (f->action) {
	case F_STATUS:
		fault_status(r, f, f->value);
		return true;
	case F_ERROR200:
		fault_status(r, f, 200);
		return true;
	case F_HTML:
		text_add(&t, "<html><body>error code: %d</body></html>",
			 (int)f->value);
		reply_text(r, f->value, &t, "text/html");
		return true;
	case F_DROP:
		r->cut = true;
		return true;
	case F_SKEW:
		clock_offset_s = f->value;
		return false;
	default:
		return false;
	}
}

/* ---- the rest ---- */

static bool stray_params(struct request *r)
{
	if (r->op != OP_MAKEBUCKET && r->op != OP_RMBUCKET)
		return true;
	for (unsigned i = 0; i < r->nparams; i++) {
		const char *name = r->params[i].name;

		if (strncmp(name, "X-Amz-", 6) && strcmp(name, "x-id"))
			return op_error(r, 400, "InvalidArgument",
					"Unsupported search param(s) \"%s\" on "
					"a %s bucket route",
					name, r->method);
	}
	return true;
}

static bool may_write(struct request *r)
{
	static const uint32_t writes =
		1u << OP_PUT | 1u << OP_COPY | 1u << OP_DELETE |
		1u << OP_DELETES | 1u << OP_CREATE | 1u << OP_PART |
		1u << OP_PARTCOPY | 1u << OP_COMPLETE | 1u << OP_ABORT;

	return token_scope != SCOPE_READ || !(writes >> r->op & 1) ||
	       op_fail(r, "AccessDenied");
}

static struct bucket *find_bucket(struct request *r)
{
	const char *make = req_header(r, "cf-create-bucket-if-missing");
	struct bucket *b;

	pthread_rwlock_rdlock(&objects_lock);
	b = bucket_find(r->bucket);
	pthread_rwlock_unlock(&objects_lock);
	if (b || r->op == OP_MAKEBUCKET)
		return b;
	if (make && !strcmp(make, "true") &&
	    (r->op == OP_PUT || r->op == OP_COPY || r->op == OP_CREATE)) {
		pthread_rwlock_wrlock(&objects_lock);
		b = bucket_find(r->bucket);
		if (!b)
			b = bucket_add(r->bucket, "auto");
		pthread_rwlock_unlock(&objects_lock);
		return b;
	}
	op_fail(r, "NoSuchBucket");
	return NULL;
}

static void run(struct request *r, struct bucket *b)
{
	static void (*const ops[OP_COUNT])(struct request *,
					   struct bucket *) = {
		[OP_GET] = op_get,
		[OP_HEAD] = op_get,
		[OP_LIST] = op_list,
		[OP_PUT] = op_put,
		[OP_COPY] = op_copy,
		[OP_DELETE] = op_delete,
		[OP_DELETES] = op_deletes,
		[OP_CREATE] = op_create,
		[OP_PART] = op_part,
		[OP_PARTCOPY] = op_partcopy,
		[OP_COMPLETE] = op_complete,
		[OP_ABORT] = op_abort,
		[OP_LISTPARTS] = op_listparts,
		[OP_LISTUPLOADS] = op_listuploads,
		[OP_RMBUCKET] = op_rmbucket,
		[OP_LOCATION] = op_location,
	};

	if (r->absent)
		op_error(r, 501, "NotImplemented", "%s not implemented",
			 r->absent);
	else if (ops[r->op])
		ops[r->op](r, b);
	else if (r->op == OP_HEADBUCKET)
		op_headbucket(r);
	else if (r->op == OP_CONFIG)
		op_config(r);
	else if (r->op == OP_MAKEBUCKET)
		op_makebucket(r);
	else
		reply_empty(r, 200); /* POST on a bucket: as captured */
}

static void judge(struct request *r)
{
	struct bucket *b;

	if (!auth_check(r) || !screen_request(r) || !stray_params(r) ||
	    !may_write(r))
		return;
	if (r->body.md5 && !screen_body(r))
		return;
	if (r->no_route) {
		op_fail(r, "RouteNotFound");
		return;
	}
	if (r->op == OP_LISTBUCKETS) {
		op_listbuckets(r);
		return;
	}
	b = find_bucket(r);
	if ((!b && r->response) || limit_refused(r))
		return;
	run(r, b);
}

void route_run(struct request *r)
{
	r->fault = fault_match(r->op, r->name, &r->wait_ms);
	if (fault_before(r))
		return;
	judge(r);
	if (fault_is(r, F_LOST))
		r->cut = true;
	if (fault_is(r, F_CLOSE) && r->response)
		reply_header(r, "Connection", "close");
}
