/*
 * AWS Signature Version 4 for S3, header form. Pure but for the key cache.
 *
 * The path is signed exactly as sent: it must already be percent-encoded once
 * (sigv4_encode). The query must be encoded and sorted by name. Sources: AWS
 * "Signature Version 4" documentation; r2-facts: auth errors.
 */
#ifndef R2_SIGV4_H
#define R2_SIGV4_H

#include "base/buf.h"
#include "base/lock.h"
#include "net/http.h"
#include "r2/creds.h"
#include "r2/crypto.h"

/* Unreserved characters stay (A-Z a-z 0-9 - . _ ~), all others become %XX;
 * '/' stays when keep_slash. */
void sigv4_encode(struct buf *out, const char *s, size_t n, bool keep_slash);

/* The signing key of one day, region and credential set. Thread-safe. */
struct sigv4_cache {
	struct mutex lock;
	char date[9];
	char region[32];
	uint64_t serial;
	uint8_t *key; /* SHA256_BYTES, see crypto_secret_new */
};

void sigv4_cache_init(struct sigv4_cache *c);
void sigv4_cache_release(struct sigv4_cache *c); /* wipes */

struct sigv4_request {
	const char *method; /* "GET" */
	const char *path; /* canonical URI, as sent */
	const char *query; /* canonical query, as sent; "" if none */
	const char *region;
	const char *payload_hash; /* hex, or UNSIGNED-PAYLOAD */
	int64_t time_s; /* of signing */
	/* all of these are signed; names lower case, sorted by name; must hold
	 * host, x-amz-content-sha256, x-amz-date */
	const struct http_header *headers;
	unsigned nheaders;
};

/* "20130524T000000Z" (17 bytes with the NUL). */
void sigv4_timestamp(int64_t time_s, char out[17]);

/* Appends the value of the Authorization header. */
void sigv4_authorization(struct sigv4_cache *cache,
			 const struct creds_set *creds,
			 const struct sigv4_request *r, struct buf *out);

#endif
