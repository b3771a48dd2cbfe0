/*
 * r2sim: a server that answers as Cloudflare R2's S3 API does, for tests,
 * demos and measurements. It shares no code with r2fs: a mistake made twice
 * would hide.
 *
 * objects.c  the buckets: an ordered index in memory, bodies on disk
 * auth.c     Signature Version 4
 * ops.c      what each request means, and the XML
 * fault.c    faults by rule, counters, the control endpoint's data
 * main.c     options, libmicrohttpd, latency and bandwidth
 */
#ifndef R2SIM_H
#define R2SIM_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- text ---- */

struct text {
	char *s;
	size_t len, cap;
};

void text_add(struct text *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void text_add_bytes(struct text *t, const char *s, size_t n);
void text_add_encoded(struct text *t, const char *s); /* %XX, '/' too */
void text_add_xml(struct text *t, const char *s);
void text_free(struct text *t);
char *percent_decode(const char *s); /* malloc; NULL for a bad escape */
void hex(const unsigned char *p, size_t n, char *out);

/* ---- objects ---- */

struct object {
	char *key;
	uint64_t size;
	int64_t mtime_ms;
	char etag[40];
	char *headers; /* "name: value\n" lines stored with it */
	uint64_t id; /* body file DIR/<bucket>/<id>, 0: synthetic */
};

struct bucket {
	char *name;
	struct object *objects; /* sorted by key */
	size_t n, cap;
	uint64_t next_id;
	/* keys PREFIX/dNNNNNN/fNNNNNN or PREFIX/fNNNNNN made up on the fly */
	char *fake_prefix;
	uint64_t fake_count, fake_size, fake_per_folder;
};

extern pthread_rwlock_t objects_lock; /* guards every bucket's index */
extern char *data_dir;

struct bucket *bucket_find(const char *name);
struct bucket *bucket_add(const char *name); /* loads what is on disk */
/* index of the first key >= key */
size_t bucket_lower(const struct bucket *b, const char *key);
struct object *bucket_get(struct bucket *b, const char *key);
/* Takes headers; the body is in the file at body_path, renamed into place. */
void bucket_put(struct bucket *b, const char *key, const char *body_path,
		uint64_t size, const char *etag, char *headers);
void bucket_delete(struct bucket *b, const char *key);
char *object_path(const struct bucket *b, uint64_t id); /* malloc */
void bucket_fake(struct bucket *b, const char *prefix, uint64_t count,
		 uint64_t size, uint64_t per_folder);
void fake_bytes(const char *key, uint64_t off, char *buf, size_t n);

/* ---- a request ---- */

struct request {
	struct MHD_Connection *connection;
	const char *method, *url, *version;
	char *raw_path; /* as sent, before any decoding, without the query */
	char *raw_query; /* as sent, "" if none */
	char *bucket, *key; /* decoded; key NULL for a bucket request */
	/* upload */
	FILE *body;
	char body_path[512];
	uint64_t body_len;
	void *md5;
	bool answered;
	int wait_ms; /* before the answer, set by a fault */
	/* the answer */
	unsigned status;
	struct MHD_Response *response;
	const char *op; /* "GET", "LIST", ... for counters and faults */
};

const char *req_header(const struct request *r, const char *name);
const char *req_arg(const struct request *r, const char *name);

/* ---- auth ---- */

struct credentials {
	char *access_key, *secret, *session_token; /* access_key NULL: no auth */
};
extern struct credentials credentials;
extern int64_t clock_offset_s; /* what the server believes minus the truth */

/* NULL: good; else the S3 error code, with the status in *status. */
const char *auth_check(const struct request *r, unsigned *status);

/* ---- operations ---- */

void op_handle(struct request *r);
void op_error(struct request *r, unsigned status, const char *code,
	      const char *message);

/* ---- faults and counters ---- */

struct fault {
	char op[16], key[256]; /* "*" any */
	unsigned skip, count;
	enum {
		F_STATUS,
		F_DELAY,
		F_CUT,
		F_STALL,
		F_ETAG,
		F_RANGE,
		F_WHOLE,
		F_GZIP,
		F_HTML,
		F_BADXML,
		F_SKEW,
	} action;
	int64_t value;
	struct fault *next;
};

int fault_load(const char *rules); /* replaces all; line number of an error */
/* The first rule that hits this request, used up by one; NULL. */
const struct fault *fault_match(const char *op, const char *key);

void count_request(const char *op, unsigned status);
void count_bytes(uint64_t out);
void count_reset(void);
void count_json(struct text *t);

/* ---- shaping ---- */

extern uint64_t conn_bandwidth; /* bytes a second, 0 = no cap */
extern int latency_ms;

#endif
