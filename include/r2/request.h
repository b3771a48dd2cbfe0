/*
 * A store request as an HTTP request: URL, headers, signature. Pure but for
 * the signing-key cache.
 */
#ifndef R2_REQUEST_H
#define R2_REQUEST_H

#include "net/http.h"
#include "r2/sigv4.h"
#include "store/store.h"

struct request_target { /* where a store talks to; immutable */
	char *scheme_host; /* "https://host:port" */
	char *host; /* "host:port", without a scheme's default port */
	char *path; /* "/prefix" or "", encoded as given */
	char *bucket;
	char *region;
};

MUST_CHECK int request_target_init(struct request_target *t,
				   const char *endpoint, const char *bucket,
				   const char *region);
void request_target_release(struct request_target *t);

struct request { /* owns what http.url and http.headers point at */
	struct buf url, auth, scratch;
	struct http_header *headers;
	unsigned nheaders, max_headers;
	struct buf document; /* a body made here: XML */
	struct buf source; /* x-amz-copy-source */
	struct buf meta; /* names and values */
	char stamp[17];
	char range[64];
	char md5[32];
	char if_match[96], if_none_match[96], source_if_match[96];
};

void request_init(struct request *r);
void request_release(struct request *r);

struct request_variant {
	uint64_t skip; /* bytes of the range already received */
	const char *if_match; /* ETag a resumed GET must match, or NULL */
	bool as_head; /* send HEAD for the key instead */
	bool any_encoding; /* accept the stored Content-Encoding */
	bool unconditional; /* the server knows no conditions on writes */
	bool no_merge; /* the server cannot merge metadata: replace it */
	const char *single; /* delete this key of a DELETE_MANY by itself */
	const bool *settled; /* DELETE_MANY: keys that are left out, or NULL */
};

/* What is really sent: HEAD, or DELETE for a single key, in req's place. */
enum store_op request_op(const struct store_req *req,
			 const struct request_variant *v);

/* Is req complete and fit to be sent? -EINVAL, -E2BIG (metadata, keys) with
 * the reason in why. What would reach another object than meant, or break out
 * of a header, is refused here. */
MUST_CHECK int request_check(const struct store_req *req, char *why,
			     size_t why_len);

/* The sorted, encoded query of req sent as op (HEAD in its place has none). */
void request_query(struct buf *out, const struct store_req *req,
		   enum store_op op);

/* Does this key (not "") reach every server as it is in a list of keys to
 * delete? Not with control characters, nor with spaces at an end. */
bool request_fits_xml(const char *key);

/* The XML body of req; empty if it has none. Leaves out keys that do not fit,
 * and those that v calls settled. */
void request_document(struct buf *b, const struct store_req *req,
		      const struct request_variant *v);

/* Fills r for one attempt at req at time_s (corrected for skew) and sets
 * method, url and headers of http. -ENAMETOOLONG. */
MUST_CHECK int request_build(struct request *r, const struct request_target *t,
			     const struct store_req *req,
			     const struct request_variant *variant,
			     struct sigv4_cache *keys,
			     const struct creds_set *creds, int64_t time_s,
			     struct http_req *http);

#endif
