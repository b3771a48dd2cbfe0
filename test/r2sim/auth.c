/*
 * Signature Version 4, by header and by presigned query; the order of checks
 * and the codes as Cloudflare's own local endpoint has them. The path is signed
 * as it was sent; the query is decoded and encoded again: a client may send a
 * slash in it bare, as many do, but must sign it encoded.
 */
#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "r2sim.h"

struct credentials *credentials;
enum scope token_scope;

struct sig {
	char id[256], date[16], region[32]; /* of the scope */
	char names[1024], given[80];
	const char *stamp, *payload;
	bool presigned;
};

static void hmac(const void *key, size_t n, const char *data,
		 unsigned char out[32])
{
	unsigned len = 32;

	HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)data,
	     strlen(data), out, &len);
}

/* The last key derived is kept: it changes once a day. */
static void signing_key(const char *secret, const char *date,
			const char *region, unsigned char key[32])
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static unsigned char last[32];
	static char *last_for;
	char *start = xprintf("AWS4%s", secret);
	char *what = xprintf("%s/%s/%s", date, region, secret);

	pthread_mutex_lock(&lock);
	if (!last_for || strcmp(last_for, what) != 0) {
		hmac(start, strlen(start), date, last);
		hmac(last, 32, region, last);
		hmac(last, 32, "s3", last);
		hmac(last, 32, "aws4_request", last);
		free(last_for);
		last_for = what;
		what = NULL;
	}
	memcpy(key, last, 32);
	pthread_mutex_unlock(&lock);
	free(start);
	free(what);
}

/* ---- the canonical request ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "NAME\1VALUE", both encoded anew: sorts by name, then by value. */
static char *canonical_pair(const struct param *p)
{
	struct text t = { 0 };

	text_add_encoded(&t, p->name);
	text_add_str(&t, "\1");
	text_add_encoded(&t, p->value);
	return t.s;
}

static void add_query(const struct request *r, bool presigned, struct text *t)
{
	char **pairs = xalloc(r->nparams * sizeof(*pairs));
	unsigned n = 0;

	for (unsigned i = 0; i < r->nparams; i++)
		if (!presigned || strcmp(r->params[i].name, "X-Amz-Signature"))
			pairs[n++] = canonical_pair(&r->params[i]);
	qsort(pairs, n, sizeof(*pairs), compare);
	for (unsigned i = 0; i < n; i++) {
		*strchr(pairs[i], '\1') = '=';
		text_add_str(t, i ? "&" : "");
		text_add_str(t, pairs[i]);
		free(pairs[i]);
	}
	free(pairs);
}

/* Trimmed, runs of spaces as one. */
static void add_value(struct text *t, const char *v)
{
	while (isspace((unsigned char)*v))
		v++;
	for (; *v; v++)
		if (*v != ' ' || (v[1] && v[1] != ' '))
			text_add_bytes(t, v, 1);
}

static void add_headers(const struct request *r, const char *names,
			struct text *t)
{
	char *copy = xstrdup(names), *rest = copy, *name;

	while ((name = strsep(&rest, ";"))) {
		const char *v = req_header(r, name);

		text_add_str(t, name);
		text_add_str(t, ":");
		add_value(t, v ? v : "");
		text_add_str(t, "\n");
	}
	free(copy);
}

static void add_dump(struct text *t, const char *tag, const struct text *s)
{
	text_add(t, "<%s>", tag);
	text_add_xml(t, s->s);
	text_add(t, "</%s><%sBytes>", tag, tag);
	for (size_t i = 0; i < s->len; i++)
		text_add(t, "%s%02x", i ? " " : "", (unsigned char)s->s[i]);
	text_add(t, "</%sBytes>", tag);
}

static bool mismatch(struct request *r, const struct text *canonical,
		     const struct text *to_sign, const char *given)
{
	struct text extra = { 0 };

	add_dump(&extra, "StringToSign", to_sign);
	add_dump(&extra, "CanonicalRequest", canonical);
	text_add(&extra, "<SignatureProvided>");
	text_add_xml(&extra, given);
	text_add(&extra, "</SignatureProvided>");
	op_error_extra(r, 403, "SignatureDoesNotMatch",
		       "The request signature we calculated does not match the "
		       "signature you provided. Check your secret access key "
		       "and signing method.",
		       extra.s);
	text_free(&extra);
	return false;
}

static bool check_signature(struct request *r, const struct sig *s)
{
	struct text canonical = { 0 }, to_sign = { 0 };
	unsigned char key[32], digest[32];
	char sum[65], good[65];
	bool same;

	text_add(&canonical, "%s\n", r->method);
	text_add_str(&canonical, r->raw_path);
	text_add_str(&canonical, "\n");
	add_query(r, s->presigned, &canonical);
	text_add_str(&canonical, "\n");
	add_headers(r, s->names, &canonical);
	text_add(&canonical, "\n%s\n%s", s->names, s->payload);
	EVP_Digest(canonical.s, canonical.len, digest, NULL, EVP_sha256(),
		   NULL);
	hex(digest, 32, sum);
	text_add(&to_sign, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s",
		 s->stamp, s->date, s->region, sum);
	signing_key(credentials->secret, s->date, s->region, key);
	hmac(key, 32, to_sign.s, digest);
	hex(digest, 32, good);
	same = strcmp(s->given, good) == 0;
	if (!same)
		mismatch(r, &canonical, &to_sign, s->given);
	text_free(&canonical);
	text_free(&to_sign);
	return same;
}

/* ---- the checks before it ---- */

static bool parse_stamp(const char *s, int64_t *t)
{
	struct tm tm = { 0 };
	char *end = strptime(s, "%Y%m%dT%H%M%SZ", &tm);

	*t = timegm(&tm);
	return end && !*end && strlen(s) == 16;
}

/* "ID/DATE/REGION/s3/aws4_request" */
static bool parse_scope(struct request *r, const char *scope, struct sig *s)
{
	char *copy = xstrdup(scope), *rest = copy, *part[6] = { 0 };
	unsigned n = 0;
	bool good = false;

	while (n < 6 && (part[n] = strsep(&rest, "/")))
		n++;
	if (n != 5)
		op_error(r, 400, "InvalidArgument",
			 "Credential sigv4 header should have at least 5 "
			 "slash-separated parts, not %u",
			 n);
	else if (strcmp(part[3], "s3") != 0)
		op_error(r, 400, "InvalidArgument",
			 "Credential service should be s3, not %s", part[3]);
	else if (strcmp(part[4], "aws4_request") != 0)
		op_error(r, 400, "InvalidArgument",
			 "Credential termination string should be "
			 "aws4_request, not %s",
			 part[4]);
	else if (strlen(part[1]) != 8 || strncmp(part[1], s->stamp, 8) != 0)
		op_error(r, 400, "InvalidArgument",
			 "Credential signed date %s does not match %.8s from "
			 "'x-amz-date' header",
			 part[1], s->stamp);
	else if (strlen(part[0]) != 32)
		op_error(r, 400, "InvalidArgument",
			 "Credential access key has length %zu, should be 32",
			 strlen(part[0]));
	else
		good = true;
	if (good) {
		snprintf(s->id, sizeof(s->id), "%s", part[0]);
		snprintf(s->date, sizeof(s->date), "%s", part[1]);
		snprintf(s->region, sizeof(s->region), "%s", part[2]);
	}
	free(copy);
	return good;
}

static bool unauthorized(struct request *r)
{
	r->unbilled = true;
	op_error(r, 401, "Unauthorized", "Unauthorized");
	return false;
}

static bool check_id(struct request *r, const struct sig *s, const char *token)
{
	char *names = xprintf(";%s;", s->names);
	bool host = strstr(names, ";host;");

	free(names);
	if (strcmp(s->id, credentials->access_key) != 0 || !host)
		return unauthorized(r);
	if (credentials->session_token &&
	    (!token || strcmp(token, credentials->session_token) != 0))
		return unauthorized(r);
	if (token && !credentials->session_token) {
		op_error(r, 400, "InvalidArgument", "X-Amz-Security-Token");
		return false;
	}
	return true;
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

static bool by_header(struct request *r, const char *auth)
{
	const char *date = req_header(r, "x-amz-date");
	struct sig s = { .payload = req_header(r, "x-amz-content-sha256"),
			 .stamp = date ? date : req_header(r, "Date") };
	char scope[320];
	int64_t t;

	if (!s.payload)
		return op_error(r, 400, "InvalidRequest",
				"Missing x-amz-content-sha256");
	if (!s.stamp)
		return op_error(r, 400, "InvalidArgument",
				"No date provided in x-amz-date nor date "
				"header");
	if (!parse_stamp(s.stamp, &t))
		return op_error(r, 400, "InvalidArgument",
				"Date provided in '%s' header (%s) didn't "
				"parse successfully",
				date ? "x-amz-date" : "date", s.stamp);
	if (llabs(t - sim_now_ms() / 1000) > 900)
		return op_error(r, 403, "RequestTimeTooSkewed",
				"The difference between the request time and "
				"the server's time is too large.");
	if (strncmp(auth, "AWS4-HMAC-SHA256 ", 17) != 0 ||
	    !field(auth, "Credential=", scope, sizeof(scope)) ||
	    !field(auth, "SignedHeaders=", s.names, sizeof(s.names)) ||
	    !field(auth, "Signature=", s.given, sizeof(s.given)))
		return op_error(r, 400, "InvalidRequest",
				"Please use AWS4-HMAC-SHA256");
	if (!parse_scope(r, scope, &s) ||
	    !check_id(r, &s, req_header(r, "x-amz-security-token")))
		return false;
	if (strncmp(s.payload, "STREAMING-", 10) == 0)
		return op_error(r, 501, "NotImplemented", "%s not implemented",
				s.payload);
	return check_signature(r, &s);
}

static bool by_query(struct request *r)
{
	static const char *const needed[] = { "X-Amz-Algorithm",
					      "X-Amz-Signature", "X-Amz-Date",
					      "X-Amz-SignedHeaders",
					      "X-Amz-Expires" };
	struct sig s = { .payload = "UNSIGNED-PAYLOAD", .presigned = true };
	char *end;
	int64_t t;
	long expires;

	for (int i = 0; i < 5; i++)
		if (!req_arg(r, needed[i]))
			return op_error(r, 400, "InvalidArgument",
					"Required search parameter %s missing",
					needed[i]);
	if (strcmp(req_arg(r, needed[0]), "AWS4-HMAC-SHA256") != 0)
		return op_error(r, 400, "InvalidRequest",
				"Please use AWS4-HMAC-SHA256");
	s.stamp = req_arg(r, "X-Amz-Date");
	if (!parse_stamp(s.stamp, &t))
		return op_error(r, 400, "InvalidArgument",
				"Date provided in X-Amz-Date (%s) didn't "
				"parse successfully",
				s.stamp);
	snprintf(s.names, sizeof(s.names), "%s",
		 req_arg(r, "X-Amz-SignedHeaders"));
	snprintf(s.given, sizeof(s.given), "%s", req_arg(r, "X-Amz-Signature"));
	if (!parse_scope(r, req_arg(r, "X-Amz-Credential"), &s) ||
	    !check_id(r, &s, req_arg(r, "X-Amz-Security-Token")))
		return false;
	expires = strtol(req_arg(r, "X-Amz-Expires"), &end, 10);
	if (*end || end == req_arg(r, "X-Amz-Expires") || expires > 604800)
		return op_error(r, 400, "InvalidArgument",
				"X-Amz-Expires must be a number of seconds "
				"below 604800");
	if (expires < 1 || sim_now_ms() / 1000 > t + expires)
		return op_error(r, 403, "ExpiredRequest",
				"Request has expired");
	return check_signature(r, &s);
}

bool auth_check(struct request *r)
{
	const char *auth = req_header(r, "Authorization");

	if (!credentials || !credentials->secret)
		return true;
	if (auth)
		return by_header(r, auth);
	if (req_arg(r, "X-Amz-Credential"))
		return by_query(r);
	return op_error(r, 400, "InvalidArgument", "Authorization");
}
