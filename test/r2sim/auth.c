/*
 * Signature Version 4, the order of checks and the codes as Cloudflare's own
 * local endpoint has them. Header form only: presigned URLs are refused.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "r2sim.h"

struct credentials credentials;
int64_t clock_offset_s;

void hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

static void hmac(const void *key, size_t n, const char *data,
		 unsigned char out[32])
{
	unsigned len = 32;

	HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)data,
	     strlen(data), out, &len);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The query as sent, its pairs sorted, a name without '=' given one. */
static void canonical_query(const char *raw, struct text *out)
{
	char *copy = strdup(raw), *rest = copy, *pair, *pairs[64];
	size_t n = 0;

	while ((pair = strsep(&rest, "&")) && n < 64)
		if (*pair)
			pairs[n++] = pair;
	qsort(pairs, n, sizeof(*pairs), compare);
	for (size_t i = 0; i < n; i++)
		text_add(out, "%s%s%s", i ? "&" : "", pairs[i],
			 strchr(pairs[i], '=') ? "" : "=");
	free(copy);
}

static bool field(const char *header, const char *name, char *out, size_t n)
{
	const char *p = strstr(header, name);
	size_t len;

	if (!p)
		return false;
	p += strlen(name);
	len = strcspn(p, ", ");
	if (len >= n)
		return false;
	memcpy(out, p, len);
	out[len] = 0;
	return true;
}

static void canonical(const struct request *r, const char *signed_headers,
		      const char *payload, struct text *out)
{
	char *copy = strdup(signed_headers), *rest = copy, *name;

	text_add(out, "%s\n%s\n", r->method, r->raw_path);
	canonical_query(r->raw_query, out);
	text_add(out, "\n");
	while ((name = strsep(&rest, ";"))) {
		const char *v = req_header(r, name);

		text_add(out, "%s:%s\n", name, v ? v : "");
	}
	text_add(out, "\n%s\n%s", signed_headers, payload);
	free(copy);
}

static void sign(const struct request *r, const char *date, const char *stamp,
		 const char *region, const char *signed_headers,
		 const char *payload, char out[65])
{
	unsigned char key[32], digest[32];
	struct text c = { 0 }, s = { 0 };
	char secret[256], sum[65];

	canonical(r, signed_headers, payload, &c);
	EVP_Digest(c.s, c.len, digest, NULL, EVP_sha256(), NULL);
	hex(digest, 32, sum);
	text_add(&s, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", stamp,
		 date, region, sum);
	snprintf(secret, sizeof(secret), "AWS4%s", credentials.secret);
	hmac(secret, strlen(secret), date, key);
	hmac(key, 32, region, key);
	hmac(key, 32, "s3", key);
	hmac(key, 32, "aws4_request", key);
	hmac(key, 32, s.s, digest);
	hex(digest, 32, out);
	text_free(&c);
	text_free(&s);
}

static bool skewed(const char *stamp)
{
	struct tm tm = { 0 };
	int64_t now = time(NULL) + clock_offset_s;

	if (!strptime(stamp, "%Y%m%dT%H%M%SZ", &tm))
		return true;
	return llabs(timegm(&tm) - now) > 900;
}

const char *auth_check(const struct request *r, unsigned *status)
{
	const char *auth = req_header(r, "Authorization");
	const char *payload = req_header(r, "x-amz-content-sha256");
	const char *stamp = req_header(r, "x-amz-date");
	const char *token = req_header(r, "x-amz-security-token");
	char scope[256], names[1024], given[80], good[65];
	char *id, *date, *region, *service, *end, *rest = scope;

	if (!credentials.access_key)
		return NULL;
	*status = 400;
	if (!auth)
		return "InvalidArgument";
	if (!payload)
		return "InvalidRequest";
	if (!stamp)
		return "InvalidArgument";
	*status = 403;
	if (skewed(stamp))
		return "RequestTimeTooSkewed";
	*status = 400;
	if (strncmp(auth, "AWS4-HMAC-SHA256 ", 17) != 0 ||
	    !field(auth, "Credential=", scope, sizeof(scope)) ||
	    !field(auth, "SignedHeaders=", names, sizeof(names)) ||
	    !field(auth, "Signature=", given, sizeof(given)))
		return "InvalidRequest";
	id = strsep(&rest, "/");
	date = strsep(&rest, "/");
	region = strsep(&rest, "/");
	service = strsep(&rest, "/");
	end = strsep(&rest, "/");
	if (!end || strcmp(service, "s3") || strcmp(end, "aws4_request") ||
	    strncmp(date, stamp, 8) != 0)
		return "InvalidArgument";
	if (strlen(id) != 32)
		return "InvalidArgument:Credential access key has wrong length, "
		       "should be 32";
	*status = 401;
	if (strcmp(id, credentials.access_key) != 0 || !strstr(names, "host") ||
	    (credentials.session_token &&
	     (!token || strcmp(token, credentials.session_token) != 0)))
		return "Unauthorized";
	*status = 501;
	if (strncmp(payload, "STREAMING-", 10) == 0)
		return "NotImplemented";
	*status = 403;
	sign(r, date, stamp, region, names, payload, good);
	return strcmp(given, good) ? "SignatureDoesNotMatch" : NULL;
}
