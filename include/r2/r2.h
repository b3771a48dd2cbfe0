/*
 * Cloudflare R2 over HTTP: a struct store.
 *
 * Turns a store_req into a signed request, classifies the answer, retries
 * within the deadline (r2-facts 4.2: full jitter, AIMD on the number of
 * requests in flight, on 429 of those for the key), and fills the results. Status
 * is checked before a body byte reaches the caller's buffer; Content-Length,
 * Content-Range, ETag and Content-Encoding are checked always. Logs once per
 * request it gives up on (op, key, status, code, cf-ray, attempts), unless the
 * caller does.
 * Thread-safe.
 */
#ifndef R2_R2_H
#define R2_R2_H

#include "net/http.h"
#include "r2/creds.h"
#include "store/store.h"

struct r2_config {
	/* "https://host[:port][/path/prefix]"; the prefix is signed too */
	const char *endpoint;
	const char *bucket;
	const char *region; /* default "auto" */
	uint64_t deadline_ms; /* whole operation, default 30000 */
	uint32_t patience_ms; /* a read to which no answer has begun; 0: as long
			       * as any operation */
	uint32_t stall_ms; /* an attempt without progress, default 10000 */
	unsigned max_in_flight; /* default 64 */
};

/* Builds "https://ACCOUNT[.JURISDICTION].r2.cloudflarestorage.com"; gives.
 * jurisdiction NULL, "" or "default": none; else eu, fedramp or us. */
char *r2_endpoint_for_account(const char *account_id, const char *jurisdiction);

/* Checks an endpoint: scheme, host, no query. Plain http is refused unless
 * the host is loopback or allow_http. -EINVAL with the reason in why. */
MUST_CHECK int r2_endpoint_check(const char *endpoint, bool allow_http,
				 char *why, size_t why_len);

/* 3-63 of [a-z0-9-], alphanumeric at both ends; -EINVAL. */
MUST_CHECK int r2_bucket_check(const char *bucket);

/* Borrows http and creds until destroyed (does not destroy them). */
MUST_CHECK int r2_create(const struct r2_config *config, struct http *http,
			 struct creds *creds, struct store **ret);

/* Seconds this machine's clock is ahead of the server's, as a listing or a
 * refusal for the time last showed. */
int64_t r2_clock_skew_s(struct store *s);

#endif
