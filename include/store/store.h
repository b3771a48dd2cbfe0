/*
 * The object store, caller's side: one narrow seam.
 *
 * A struct store_req is plain data that describes one operation and receives
 * its result. The caller owns it (and everything it points to) from before
 * store_submit until done() has been called. done() is called exactly once,
 * on a thread that must not block (it may submit further requests and take
 * short locks). Retries, backoff and signing happen behind the seam; `error`
 * is final.
 *
 * Implementations: r2/r2.c, and the tests' in-memory and fault stores.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"
#include "base/lock.h"

enum {
	STORE_KEY_MAX = 1024, /* bytes, r2-facts: limits */
	STORE_DELETE_MAX = 1000, /* keys a DELETE_MANY */
	STORE_LIST_MAX = 1000, /* names a page */
	STORE_LATENCIES = 26, /* counters, up to some 30 s */
};

enum store_op {
	STORE_GET, /* key [range] [conditions] -> attr, body */
	STORE_HEAD, /* key [conditions] -> attr */
	STORE_LIST, /* prefix [delimiter] [token|start_after] -> list */
	STORE_PUT, /* key body [put_meta] [conditions] -> attr.etag */
	STORE_DELETE, /* key; a key that is not there is fine */
	STORE_DELETE_MANY, /* keys -> nfailed, why of the first failure; those
			    * that fail for now are asked for again */
	STORE_COPY, /* source_key key [put_meta] [conditions] -> attr.etag */
	STORE_MPU_CREATE, /* key [put_meta] -> ret_upload_id */
	STORE_MPU_PART, /* key upload_id part_number body -> ret_part_etag */
	STORE_MPU_COPY, /* key upload_id part_number source_key range; -ENOENT:
			 * no such upload, -ESTALE: no such source */
	STORE_MPU_COMPLETE, /* key upload_id parts [conditions] -> attr.etag */
	STORE_MPU_ABORT, /* key upload_id; one that is gone is fine */
	STORE_MPU_LIST_PARTS, /* key upload_id [part_number: after] -> ret_parts */
	STORE_MPU_LIST, /* prefix [token start_after] -> list: key, upload_id */
	STORE_LIST_BUCKETS, /* [prefix token] -> list: name, mtime */
	STORE_HEAD_BUCKET, /* bucket */
	STORE_CREATE_BUCKET, /* bucket [location]; -EEXIST */
	STORE_DELETE_BUCKET, /* bucket; -ENOTEMPTY */
	STORE_OPS
};

/* Price class of an operation, for the counters (Cloudflare's R2 pricing). */
enum store_class { STORE_CLASS_A, STORE_CLASS_B, STORE_CLASS_FREE };

/* An ETag without quotes, e.g. "9a0364b9e99bb480dd25e1f0284c8555-2". "" is
 * none. Longer ones are refused by the client. */
struct store_etag {
	char s[72];
};

/* x-amz-meta-* pairs; names lower case without the prefix. */
struct store_meta_pair {
	char *name, *value;
};

/*
 * A pair whose name begins with ':' is no x-amz-meta- but a property of the
 * object: one of these headers. A GET and a HEAD bring them but for the type
 * (unless it does not fit in attr.content_type) and for the Cache-Control that
 * r2fs gives its own objects, "no-transform".
 */
#define STORE_CONTENT_TYPE ":content-type"
#define STORE_PROPERTIES \
	{ \
		":cache-control", ":content-disposition", ":content-encoding", \
			":content-language", STORE_CONTENT_TYPE, ":expires", \
	}

struct store_meta {
	struct store_meta_pair *pairs; /* owned, freed by store_meta_release */
	unsigned n;
};

struct store_attr {
	uint64_t size; /* of the whole object, also for a ranged GET */
	int64_t mtime_ns; /* Last-Modified, also of a 304 if it has one; of a
			   * write the second in which it was answered, by
			   * R2's clock; 0: not said */
	int64_t date_ns; /* GET and HEAD: now, by the clock of mtime_ns; 0: the
			  * server does not say */
	struct store_etag etag;
	struct store_meta meta; /* only GET and HEAD bring it */
	bool has_meta; /* meta is known (a LIST does not know) */
	char content_type[64]; /* truncated if longer */
	char content_encoding[32];
	bool infrequent; /* storage class STANDARD_IA */
};

struct store_entry { /* one line of a LIST page */
	char *name; /* full key, or full common prefix ending in the delimiter */
	bool is_prefix;
	uint64_t size;
	int64_t mtime_ns;
	struct store_etag etag;
	bool infrequent;
	char *upload_id; /* MPU_LIST only, else NULL */
};

struct store_list { /* owned by the request; store_list_release */
	struct store_entry *entries; /* in the order of the answer */
	unsigned n;
	unsigned skipped; /* entries that could not be decoded */
	bool truncated;
	char *next_token; /* NULL unless truncated */
	char *next_key; /* MPU_LIST: start_after of the next page */
};

enum { STORE_SUM_MANY = 8 };

/* Bytes to send: of a file (a hole is zeros), or of memory when fd < 0. */
struct store_body {
	int fd;
	off_t off;
	uint64_t len;
	const void *data;
	uint8_t md5[16];
	bool summed; /* md5 is set: by store_body_sum */
};

/* A part's ETag is MD5 on R2 and may be any text elsewhere. */
enum { STORE_PART_ETAG_MAX = 256 };

struct store_part {
	unsigned number; /* 1 .. 10,000 */
	char etag[STORE_PART_ETAG_MAX];
	uint64_t size; /* of a listed part */
};

struct store_req {
	/* what: borrowed until done() */
	enum store_op op;
	const char *bucket; /* NULL: the store's own */
	const char *key;
	bool ranged;
	uint64_t range_off, range_len; /* range_len > 0 when ranged */
	/* conditions (ETags without quotes), NULL none. if_match failed:
	 * -ESTALE; if_none_match failed: error 0 and `not_modified`. */
	const char *if_match;
	const char *if_none_match;
	/* Writing. if_match and if_absent speak of the object at `key`; when
	 * another is there: -ESTALE, -EEXIST. A refusal that follows an
	 * attempt whose answer was lost may be our own doing: then what is
	 * there is taken for ours if it has the ETag and all the metadata of
	 * this request, so metadata that differs between writers (an mtime in
	 * nanoseconds) keeps two writers of the same bytes apart. A server
	 * without conditional writes is asked by a HEAD before, which leaves
	 * a moment in which another writer goes unseen. */
	bool if_absent;
	bool maybe_done; /* such an attempt may have been made before: by a run
			  * of the program that died */
	struct store_body body;
	/* The object's metadata and properties (the type is else
	 * application/octet-stream). NULL: none; for a COPY the source's. */
	const struct store_meta *put_meta;
	/* COPY: put_meta, though complete, only adds to or changes what the
	 * source has, so a server that can merge (R2) may keep the source's
	 * other properties, such as Content-Encoding. */
	bool put_merge;
	const char *source_key;
	/* The source's ETag, else -ESTALE. R2 does not document it for
	 * MPU_COPY: look at the source once more before the completion. */
	const char *source_if_match;
	const char *upload_id;
	unsigned part_number;
	const struct store_part *parts; /* ascending */
	unsigned nparts;
	const char *const *keys; /* DELETE_MANY: at most STORE_DELETE_MAX */
	unsigned nkeys;
	int *key_errors; /* nkeys, 0 or -errno each; NULL: only nfailed */
	const char *location; /* CREATE_BUCKET: a hint like "weur", or NULL */
	/* LIST */
	const char *prefix; /* "" for none */
	const char *token; /* continuation, or NULL */
	const char *start_after;
	bool delimiter; /* group by '/' */
	unsigned max_keys; /* 0 = 1000 */
	/* GET body received: written here, never past buf_cap. */
	uint8_t *buf;
	size_t buf_cap; /* >= range_len */
	/* called as bytes arrive, after attr is valid; got = buf_len so far.
	 * On a transport thread: must be short. NULL is fine. After a retry got
	 * never goes back (a resumed GET continues, with If-Match). */
	void (*progress)(struct store_req *req, size_t got);
	/* Called when an attempt was refused because of its rate (429, 503; for
	 * a part also 500); it is repeated later. As progress. */
	void (*refused)(struct store_req *req);
	uint64_t deadline_ns; /* monotonic, 0 = the store's default from now */
	bool caller_logs; /* a failure; why then has what a log needs */
	bool patient; /* waits for a server that is away as a write does */

	/* the outcome */
	void (*done)(struct store_req *req);
	int error; /* 0 or -errno */
	int http_status; /* of the last attempt, 0 none */
	unsigned attempts;
	unsigned throttled; /* of these: refused, as the callback says */
	char why[192]; /* one line for a log or a terminal, set when error != 0 */
	bool not_modified;
	struct store_attr attr;
	size_t buf_len;
	struct store_list list;
	char *ret_upload_id; /* owned by the request */
	char ret_part_etag[STORE_PART_ETAG_MAX]; /* MPU_PART, MPU_COPY */
	unsigned nfailed; /* DELETE_MANY: keys that could not be deleted */
	struct store_part *ret_parts; /* owned by the request */
	unsigned ret_nparts;
	unsigned next_part; /* part_number of the next page, 0: the last */

	void *arg; /* the caller's */
	void *impl; /* the store's while submitted */
};

struct store_counters {
	uint64_t requests[STORE_OPS]; /* attempts on the wire */
	uint64_t class_a, class_b, class_free;
	uint64_t retries, failures; /* attempts after the first; final errors */
	uint64_t throttled; /* 429 and 503 seen */
	/* second requests for GETs that were late (also in requests), and
	 * those that were answered first */
	uint64_t hedges, hedges_won;
	uint64_t bytes_in, bytes_out; /* bodies */
	uint64_t latency_us[STORE_OPS]; /* sum over finished requests */
	uint64_t latency_max_us[STORE_OPS];
	uint64_t finished[STORE_OPS];
	/* of the finished ones: [i] took less than 2^(i+1) microseconds and
	 * not less than 2^i; the last also holds all longer ones */
	uint32_t latency_log2[STORE_OPS][STORE_LATENCIES];
	unsigned in_flight;
	/* the last that counted as a failure; at_ns 0: none yet */
	struct {
		int64_t at_ns; /* wall time */
		enum store_op op;
		int error, http_status;
	} last_failure;
};

struct store;

void store_submit(struct store *s, struct store_req *req);
void store_cancel(struct store *s,
		  struct store_req *req); /* done -> -ECANCELED */
void store_counters_get(struct store *s, struct store_counters *ret);
void store_destroy(struct store *s);

/* Computes the body's MD5 on the caller's thread; a PUT or PART must have it.
 * -errno of reading the file. */
MUST_CHECK int store_body_sum(struct store *s, struct store_body *body);
/* The same of n at once, which may take much less than n times as long if they
 * are ranges of files; STORE_SUM_MANY is a good number. */
MUST_CHECK int store_bodies_sum(struct store *s,
				struct store_body *const *bodies, unsigned n);

/* Zeroes req, sets max_keys = 1000 and body.fd = -1. */
void store_req_init(struct store_req *req, enum store_op op);
/* Frees what results the request holds; the struct stays the caller's. */
void store_req_release(struct store_req *req);
void store_list_release(struct store_list *list);
void store_meta_release(struct store_meta *meta);
MUST_CHECK int store_meta_copy(struct store_meta *to,
			       const struct store_meta *from);
const char *store_meta_get(const struct store_meta *meta, const char *name);
/* Has m all x-amz-meta- pairs of `of` (NULL: none)? */
bool store_meta_has(const struct store_meta *m, const struct store_meta *of);

/*
 * Submits and waits. Returns req->error. Not on a thread that runs done
 * callbacks. `interrupt` may be NULL; when it is raised the request is
 * cancelled and -EINTR returned.
 */
struct store_interrupt;
MUST_CHECK int store_call(struct store *s, struct store_req *req,
			  struct store_interrupt *interrupt);

/*
 * A flag another thread may raise once. It wakes the store_call that was given
 * it, or who waits on the condition named last: named before the flag is looked
 * at, with the mutex not held; a store_call in between unnames it, NULL, NULL
 * does at the end. NULL for i is never raised.
 */
struct store_interrupt *store_interrupt_create(void);
void store_interrupt_wakes(struct store_interrupt *i, struct mutex *m,
			   struct cond *c);
void store_interrupt_raise(struct store_interrupt *i);
bool store_interrupt_raised(const struct store_interrupt *i);
void store_interrupt_destroy(struct store_interrupt *i);

const char *store_op_name(enum store_op op); /* "GET", "LIST", ... */
enum store_class store_op_class(enum store_op op);

#endif
