/*
 * What R2 refuses before it looks at the object: headers it does not
 * implement, names out of bounds, digests that do not fit, metadata too large.
 * Any other x-amz-* header is ignored in silence, as R2 does.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uninorm.h>
#include <unistr.h>

#include "r2sim.h"

enum { KEY_MAX = 1024, METADATA_MAX = 8192 };

/* ---- names ---- */

char *nfc(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n = strlen(s), len = 0;
	uint8_t *out;
	char *ret;

	while (*p && *p < 0x80)
		p++;
	if (!*p)
		return xstrdup(s);
	if (u8_check((const uint8_t *)s, n))
		return NULL;
	out = u8_normalize(UNINORM_NFC, (const uint8_t *)s, n, NULL, &len);
	if (!out)
		abort();
	ret = strndup((char *)out, len);
	free(out);
	return ret;
}

static bool screen_name(struct request *r)
{
	if (r->bad_name)
		return op_error(r, 400, "InvalidURI",
				"The path is not valid percent-encoded UTF-8.");
	if (r->name && strlen(r->name) > KEY_MAX)
		return op_fail(r, "InvalidObjectName");
	return true;
}

/* ---- refused headers ---- */

#define ALL	(UINT32_MAX)
#define BIT(op) (1u << (op))
#define WRITES	(BIT(OP_PUT) | BIT(OP_COPY) | BIT(OP_CREATE))
#define COPIES	(BIT(OP_COPY) | BIT(OP_PARTCOPY))
#define DELETES (BIT(OP_DELETE) | BIT(OP_DELETES))

static const struct {
	const char *name;
	uint32_t ops;
} refused[] = {
	{ "x-amz-expected-bucket-owner", ALL & ~BIT(OP_ABORT) },
	{ "x-amz-tagging", WRITES },
	{ "x-amz-grant-full-control", WRITES },
	{ "x-amz-grant-read", WRITES },
	{ "x-amz-grant-read-acp", WRITES },
	{ "x-amz-grant-write", WRITES },
	{ "x-amz-grant-write-acp", WRITES },
	{ "x-amz-website-redirect-location", WRITES },
	{ "x-amz-object-lock-mode", WRITES },
	{ "x-amz-object-lock-retain-until-date", WRITES },
	{ "x-amz-object-lock-legal-hold", WRITES },
	{ "x-amz-server-side-encryption-aws-kms-key-id", WRITES },
	{ "x-amz-server-side-encryption-context", WRITES },
	{ "x-amz-server-side-encryption-bucket-key-enabled", WRITES },
	{ "x-amz-source-expected-bucket-owner", COPIES },
	{ "x-amz-tagging-directive", BIT(OP_COPY) },
	{ "x-amz-checksum-algorithm", BIT(OP_COPY) },
	{ "x-amz-copy-source-if-match", BIT(OP_PARTCOPY) },
	{ "x-amz-copy-source-if-none-match", BIT(OP_PARTCOPY) },
	{ "x-amz-copy-source-if-modified-since", BIT(OP_PARTCOPY) },
	{ "x-amz-copy-source-if-unmodified-since", BIT(OP_PARTCOPY) },
	{ "x-amz-mfa", DELETES },
	{ "x-amz-bypass-governance-retention", DELETES },
	{ "x-amz-server-side-encryption", BIT(OP_PART) },
	/* R2 has these; r2sim does not. */
	{ "x-amz-server-side-encryption-customer-algorithm", ALL },
	{ "x-amz-copy-source-server-side-encryption-customer-algorithm", ALL },
};

static bool refuse(struct request *r, const char *name, const char *value)
{
	return op_error(r, 501, "NotImplemented",
			"Header '%s' with value '%s' not implemented", name,
			value);
}

static bool one_of(const char *s, const char *const *list)
{
	while (*list && strcmp(*list, s) != 0)
		list++;
	return *list;
}

static bool screen_write(struct request *r)
{
	static const char *const acls[] = { "private",
					    "public-read",
					    "public-read-write",
					    "authenticated-read",
					    "aws-exec-read",
					    "bucket-owner-read",
					    "bucket-owner-full-control",
					    NULL };
	static const char *const classes[] = { "STANDARD", "STANDARD_IA",
					       NULL };
	const char *sse = req_header(r, "x-amz-server-side-encryption");
	const char *acl = req_header(r, "x-amz-acl");
	const char *class = req_header(r, "x-amz-storage-class");

	if (sse && strcmp(sse, "AES256") != 0)
		return refuse(r, "x-amz-server-side-encryption", sse);
	if (acl && !one_of(acl, acls))
		return refuse(r, "x-amz-acl", acl);
	if (class && !one_of(class, classes))
		return op_error(r, 400, "InvalidStorageClass",
				"The storage class specified is not valid.");
	return true;
}

bool screen_request(struct request *r)
{
	const char *sha = req_header(r, "x-amz-content-sha256");
	const char *coding = req_header(r, "Content-Encoding");

	if (!screen_name(r))
		return false;
	if (sha && strncmp(sha, "STREAMING-", 10) == 0)
		return op_error(r, 501, "NotImplemented", "%s not implemented",
				sha);
	if (coding && strstr(coding, "aws-chunked"))
		return refuse(r, "content-encoding", coding);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		const char *v = refused[i].ops & BIT(r->op) ?
					req_header(r, refused[i].name) :
					NULL;

		if (v)
			return refuse(r, refused[i].name, v);
	}
	return WRITES & BIT(r->op) ? screen_write(r) : true;
}

/* ---- digests ---- */

static bool check_md5(struct request *r, const char *given)
{
	unsigned char *sum;
	size_t n = 0;
	bool same;
	char text[33];

	sum = unbase64(given, &n);
	if (!sum || n != 16) {
		free(sum);
		return op_fail(r, "InvalidDigest");
	}
	hex(sum, 16, text);
	same = memcmp(sum, r->body.md5sum, 16) == 0;
	free(sum);
	if (same)
		return true;
	return op_error(r, 400, "BadDigest",
			"The MD5 checksum you specified did not match what we "
			"received.\nYou provided a MD5 checksum with value: "
			"%s\nActual MD5 was: %s",
			text, r->body.etag);
}

static bool check_sums(struct request *r)
{
	const char *given = NULL, *name, *v;
	unsigned n = 0;
	bool same;
	char *sum;

	for (unsigned i = 0; (name = checksum_header(i)); i++) {
		v = req_header(r, name);
		n += v != NULL;
		given = v ? v : given;
	}
	if (n > 1)
		return op_error(r, 400, "InvalidRequest",
				"You can only specify one checksum at a time.");
	if (!given || !r->body.sum)
		return true;
	sum = checksum_base64(r->body.sum);
	same = strcmp(sum, given) == 0;
	free(sum);
	return same ? true : op_fail(r, "BadDigest");
}

bool screen_body(struct request *r)
{
	const char *sha = req_header(r, "x-amz-content-sha256");
	const char *md5 = req_header(r, "Content-MD5");

	body_finish(&r->body);
	if (r->body.failed)
		return op_error(r, 500, "InternalError",
				"The data folder does not take the body.");
	if (sha && r->body.sha256 && strcasecmp(sha, r->body.sha256_hex) != 0)
		return op_error(r, 400, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header "
				"does not match what was computed.");
	if (md5 && !check_md5(r, md5))
		return false;
	return check_sums(r);
}

/* ---- headers that are stored ---- */

struct kept {
	struct text text;
	size_t metadata;
};

/* A string costs a byte a character, or two if any is beyond U+00FF. */
static size_t cost(const char *s)
{
	size_t n = 0, wide = 1;

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		n += (*p & 0xc0) != 0x80;
		if (*p >= 0xc4)
			wide = 2;
	}
	return n * wide;
}

/* RFC 2047's "=?utf-8?B?...?=" or "?Q?"; other text as it is. malloc. */
static char *decode_word(const char *v)
{
	size_t n = strlen(v), len;
	char *inner, *ret = NULL, *o;

	if (n < 12 || strncasecmp(v, "=?utf-8?", 8) != 0 || v[9] != '?' ||
	    strcmp(v + n - 2, "?=") != 0)
		return xstrdup(v);
	inner = strndup(v + 10, n - 12);
	if (v[8] == 'B' || v[8] == 'b') {
		ret = (char *)unbase64(inner, &len);
	} else if (v[8] == 'Q' || v[8] == 'q') {
		for (o = inner; *o; o++)
			*o = *o == '=' ? '%' : *o == '_' ? ' ' : *o;
		ret = percent_decode(inner);
	}
	free(inner);
	return ret ? ret : xstrdup(v);
}

static enum MHD_Result keep_header(void *arg, enum MHD_ValueKind kind,
				   const char *name, const char *value)
{
	static const char *const kept[] = {
		"content-type",	      "cache-control", "content-encoding",
		"content-language",   "expires",       "content-disposition",
		"x-amz-storage-class"
	};
	bool meta = strncasecmp(name, "x-amz-meta-", 11) == 0, keep = meta;
	struct kept *k = arg;
	char *decoded;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		keep |= strcasecmp(name, kept[i]) == 0;
	for (unsigned i = 0; checksum_header(i); i++)
		keep |= strcasecmp(name, checksum_header(i)) == 0;
	if (!keep)
		return MHD_YES;
	decoded = meta ? decode_word(value ? value : "") :
			 xstrdup(value ? value : "");
	if (meta)
		k->metadata += cost(name + 11) + cost(decoded);
	for (const char *p = name; *p; p++)
		text_add(&k->text, "%c", *p >= 'A' && *p <= 'Z' ? *p | 32 : *p);
	text_add_str(&k->text, ": ");
	text_add_str(&k->text, decoded);
	text_add_str(&k->text, "\n");
	free(decoded);
	return MHD_YES;
}

bool screen_headers(struct request *r, char **headers)
{
	struct kept k = { 0 };

	text_add_str(&k.text, "");
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, keep_header,
				  &k);
	if (k.metadata > METADATA_MAX) {
		text_free(&k.text);
		return op_fail(r, "MetadataTooLarge");
	}
	*headers = k.text.s;
	return true;
}
