/*
 * Signing is ours rather than curl's option so that it can be tested against
 * published vectors and shows exactly what was signed. The derived key costs
 * four HMACs and changes once a day: it is cached.
 */
#include "r2/sigv4.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CANONICAL_MAX = 131072 };

static bool plain(unsigned char c)
{
	return (c < 0x80 && isalnum(c)) || c == '-' || c == '.' || c == '_' ||
	       c == '~';
}

void sigv4_encode(struct buf *out, const char *s, size_t n, bool keep_slash)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < n; i++) {
		unsigned char c = s[i];

		if (plain(c) || (c == '/' && keep_slash)) {
			buf_addch(out, c);
			continue;
		}
		char code[3] = { '%', digits[c >> 4], digits[c & 15] };

		buf_add(out, code, 3);
	}
}

void sigv4_cache_init(struct sigv4_cache *c)
{
	memset(c, 0, sizeof(*c));
	mutex_init(&c->lock);
	c->key = crypto_secret_new(SHA256_BYTES);
}

void sigv4_cache_release(struct sigv4_cache *c)
{
	mutex_release(&c->lock);
	crypto_secret_free(c->key, SHA256_BYTES);
}

void sigv4_timestamp(int64_t time_s, char out[17])
{
	time_t t = time_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm);
}

static void derive(const struct creds_set *creds, const char *date,
		   const char *region, uint8_t key[SHA256_BYTES])
{
	struct buf secret;

	buf_init(&secret, 4096);
	buf_addf(&secret, "AWS4%s", creds->secret_access_key);
	crypto_hmac_sha256(secret.data, secret.len, date, strlen(date), key);
	crypto_wipe(secret.data, secret.len);
	buf_release(&secret);
	crypto_hmac_sha256(key, SHA256_BYTES, region, strlen(region), key);
	crypto_hmac_sha256(key, SHA256_BYTES, "s3", 2, key);
	crypto_hmac_sha256(key, SHA256_BYTES, "aws4_request", 12, key);
}

static void signing_key(struct sigv4_cache *c, const struct creds_set *creds,
			const char *date, const char *region,
			uint8_t key[SHA256_BYTES])
{
	mutex_lock(&c->lock);
	if (c->serial != creds->serial || strcmp(c->date, date) != 0 ||
	    strcmp(c->region, region) != 0) {
		derive(creds, date, region, c->key);
		snprintf(c->date, sizeof(c->date), "%s", date);
		snprintf(c->region, sizeof(c->region), "%s", region);
		c->serial = creds->serial;
	}
	memcpy(key, c->key, SHA256_BYTES);
	mutex_unlock(&c->lock);
}

static void signed_names(const struct sigv4_request *r, struct buf *out)
{
	for (unsigned i = 0; i < r->nheaders; i++)
		buf_addf(out, "%s%s", i ? ";" : "", r->headers[i].name);
}

/* Without the spaces around it, and with one for several within. */
static void add_value(struct buf *b, const char *s)
{
	bool gap = false, any = false;

	for (; *s; s++) {
		if (*s == ' ') {
			gap = any;
			continue;
		}
		if (gap)
			buf_addch(b, ' ');
		buf_addch(b, *s);
		any = true;
		gap = false;
	}
}

static void hash_canonical(const struct sigv4_request *r,
			   char hex[2 * SHA256_BYTES + 1])
{
	uint8_t digest[SHA256_BYTES];
	struct buf b;

	buf_init(&b, CANONICAL_MAX);
	buf_addf(&b, "%s\n%s\n%s\n", r->method, r->path, r->query);
	for (unsigned i = 0; i < r->nheaders; i++) {
		buf_addf(&b, "%s:", r->headers[i].name);
		add_value(&b, r->headers[i].value);
		buf_addch(&b, '\n');
	}
	buf_addch(&b, '\n');
	signed_names(r, &b);
	buf_addf(&b, "\n%s", r->payload_hash);
	crypto_sha256(b.data, b.len, digest);
	crypto_hex(digest, sizeof(digest), hex);
	buf_release(&b);
}

void sigv4_authorization(struct sigv4_cache *cache,
			 const struct creds_set *creds,
			 const struct sigv4_request *r, struct buf *out)
{
	char stamp[17], date[9] = { 0 }, hex[2 * SHA256_BYTES + 1];
	uint8_t key[SHA256_BYTES], digest[SHA256_BYTES];
	struct buf b;

	sigv4_timestamp(r->time_s, stamp);
	memcpy(date, stamp, 8);
	hash_canonical(r, hex);
	buf_init(&b, CANONICAL_MAX);
	buf_addf(&b, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", stamp,
		 date, r->region, hex);
	signing_key(cache, creds, date, r->region, key);
	crypto_hmac_sha256(key, sizeof(key), b.data, b.len, digest);
	crypto_wipe(key, sizeof(key));
	crypto_hex(digest, sizeof(digest), hex);
	buf_release(&b);
	buf_addf(out,
		 "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request, "
		 "SignedHeaders=",
		 creds->access_key_id, date, r->region);
	signed_names(r, out);
	buf_addf(out, ", Signature=%s", hex);
}
