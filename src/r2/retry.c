/*
 * One table for what R2 answers. The status decides first: the code of a
 * throttled request has been seen as ServiceUnavailable, TooManyRequests and
 * SlowDown, and a body from the edge may be HTML without any code.
 */
#include "r2/retry.h"

#include <string.h>

#include "base/rand.h"

static const struct {
	int status;
	const char *code; /* NULL: any other */
	struct verdict verdict;
} table[] = {
	{ 400, "RequestTimeout", { -EIO, RETRY_BACKOFF } },
	{ 400, "MetadataTooLarge", { -E2BIG, RETRY_NO } },
	{ 400, "IncompleteBody", { -EIO, RETRY_BACKOFF } },
	{ 400, "ClientDisconnect", { -EIO, RETRY_BACKOFF } },
	{ 400, "BadDigest", { -EBADMSG, RETRY_NO } },
	{ 400, "EntityTooLarge", { -EFBIG, RETRY_NO } },
	{ 400, "ExpiredRequest", { -EACCES, RETRY_SKEW } },
	{ 400, "InvalidObjectName", { -ENAMETOOLONG, RETRY_NO } },
	{ 400, "ExpiredToken", { -EACCES, RETRY_CREDS } },
	{ 400, NULL, { -EINVAL, RETRY_NO } },
	{ 401, NULL, { -EACCES, RETRY_CREDS } },
	{ 403, "RequestTimeTooSkewed", { -EACCES, RETRY_SKEW } },
	{ 403, "NotEntitled", { -EDQUOT, RETRY_NO } },
	{ 403, "ExpiredToken", { -EACCES, RETRY_CREDS } },
	{ 403, "ObjectLockedByBucketPolicy", { -EPERM, RETRY_NO } },
	{ 403, NULL, { -EACCES, RETRY_NO } },
	{ 404, NULL, { -ENOENT, RETRY_NO } },
	{ 408, NULL, { -EIO, RETRY_BACKOFF } },
	{ 409, "ConditionalRequestConflict", { -EIO, RETRY_BACKOFF } },
	{ 409, "OperationAborted", { -EIO, RETRY_BACKOFF } },
	{ 409, "BucketNotEmpty", { -ENOTEMPTY, RETRY_NO } },
	{ 409, NULL, { -EEXIST, RETRY_NO } },
	{ 412, NULL, { -ESTALE, RETRY_NO } },
	{ 416, NULL, { -ERANGE, RETRY_NO } },
	{ 429, NULL, { -EAGAIN, RETRY_THROTTLE } },
	{ 500, NULL, { -EIO, RETRY_BACKOFF } },
	{ 501, NULL, { -EOPNOTSUPP, RETRY_NO } },
	{ 503, NULL, { -EAGAIN, RETRY_THROTTLE } },
};

struct verdict retry_judge(int status, const char *code)
{
	if (status >= 200 && status < 300)
		return (struct verdict){ 0, RETRY_NO };
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status &&
		    (!table[i].code || strcmp(table[i].code, code) == 0))
			return table[i].verdict;
	if (status >= 500)
		return (struct verdict){ -EIO, RETRY_BACKOFF };
	return (struct verdict){ -EIO, RETRY_NO };
}

int retry_status(const char *code)
{
	static const struct {
		const char *code;
		int status;
	} codes[] = {
		{ "AccessDenied", 403 },
		{ "BadDigest", 400 },
		{ "EntityTooSmall", 400 },
		{ "InvalidArgument", 400 },
		{ "InvalidPart", 400 },
		{ "InvalidPartOrder", 400 },
		{ "InvalidRequest", 400 },
		{ "MalformedXML", 400 },
		{ "NoSuchBucket", 404 },
		{ "NoSuchKey", 404 },
		{ "NoSuchUpload", 404 },
		{ "NotEntitled", 403 },
		{ "NotImplemented", 501 },
		{ "ObjectLockedByBucketPolicy", 403 },
		{ "PreconditionFailed", 412 },
		{ "RequestTimeout", 400 },
		{ "ServiceUnavailable", 503 },
		{ "SlowDown", 503 },
		{ "TooManyRequests", 429 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].status;
	return 500;
}

struct verdict retry_judge_transport(int error)
{
	switch (error) {
	case -ECANCELED:
	case -EBADMSG: /* the source changed while it was sent */
	case -EPROTO: /* TLS: the certificate will not get better */
		return (struct verdict){ error, RETRY_NO };
	default:
		return (struct verdict){ error, RETRY_BACKOFF };
	}
}

int retry_given_up(int error)
{
	return error == -EAGAIN || error == -ECONNRESET ? -ETIMEDOUT : error;
}

uint64_t retry_delay_ns(enum retry_class retry, unsigned n,
			unsigned retry_after_s)
{
	const uint64_t ms = 1000000, cap = 5000 * ms;
	uint64_t base = (retry == RETRY_THROTTLE ? 500 : 50) * ms, delay;

	if (retry == RETRY_NOW || retry == RETRY_CREDS || retry == RETRY_SKEW)
		return 0;
	base <<= n < 8 ? n : 8;
	if (base > cap)
		base = cap;
	delay = rand_below(base + 1);
	if (retry == RETRY_THROTTLE)
		delay += 1000 * ms;
	if (retry_after_s && delay < retry_after_s * 1000 * ms)
		delay = retry_after_s * 1000 * ms;
	return delay;
}
