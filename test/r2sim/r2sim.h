/*
 * r2sim: a server that answers as Cloudflare R2's S3 API does, for tests,
 * demos and measurements. It shares no code with r2fs: a mistake made twice
 * would hide. README.md is its manual.
 *
 *   main.c      options            http.c       libmicrohttpd, shaping
 *   route.c     which operation    control.c    /_r2sim/
 *   auth.c      Signature V4       screen.c     refused headers, names, NFC
 *   get.c       GET, HEAD          cond.c       conditions, ranges
 *   list.c      both listings      put.c        PUT, COPY, DELETE
 *   multipart.c uploads' requests  bucketops.c  requests on buckets
 *   objects.c   the index          uploads.c    pending uploads
 *   data.c      bytes of objects   body.c       bytes of requests
 *   stream.c    answers in pieces  reply.c      answers, errors
 *   fault.c     faults by rule     limit.c      rates and concurrency
 *   count.c     counters, the log  checksum.c   x-amz-checksum-*
 *   text.c      strings            xmlin.c      XML in requests
 *
 * Threads: one per connection. objects_lock guards buckets, objects and
 * uploads; an object is immutable once it is in the index and lives as long
 * as someone holds a reference.
 */
#ifndef R2SIM_H
#define R2SIM_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define XML_HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define XMLNS	 "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

/* ---- text ---- */

struct text {
	char *s;
	size_t len, cap;
};

void text_add(struct text *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void text_add_bytes(struct text *t, const char *s, size_t n);
void text_add_str(struct text *t, const char *s);
void text_add_encoded(struct text *t, const char *s); /* %XX, '/' too */
void text_add_xml(struct text *t, const char *s);
void text_add_time(struct text *t, int64_t ms); /* ISO 8601, milliseconds */
void text_free(struct text *t);
char *percent_decode(const char *s); /* malloc; NULL: bad escape or NUL */
void hex(const void *p, size_t n, char *out);
void *xalloc(size_t n); /* zeroed; ends the program when there is none */
char *xstrdup(const char *s);
char *xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *base64(const void *p, size_t n); /* malloc */
/* malloc, *n set, a zero after it; NULL: not base64 */
unsigned char *unbase64(const char *s, size_t *n);

/* Called at each element's end with its path ("Delete/Object/Key") and its
 * own text, entities decoded. Non-zero stops. */
typedef int (*xml_fn)(void *arg, const char *path, const char *text);
bool xml_read(const char *s, xml_fn fn, void *arg); /* false: malformed */

/* ---- time ---- */

/* What the server believes minus the truth. */
extern _Atomic int64_t clock_offset_s;

int64_t sim_now_ms(void); /* by the server's belief */
uint64_t mono_us(void);
void sleep_until_us(uint64_t mono);
void http_date(int64_t s, char out[40]);

/* ---- objects ---- */

struct bucket;
struct request;

struct segment {
	uint64_t id, size; /* file DIR/<bucket>/<id> */
};

struct object {
	char *key; /* identity: normalised to NFC; the index's order */
	char *name; /* as last uploaded; == key where equal */
	uint64_t size;
	int64_t mtime_ms;
	char etag[48];
	char *headers; /* "name: value\n" lines stored with it */
	struct segment *segs; /* NULL: synthetic, or empty */
	unsigned nsegs;
	unsigned refs;
	uint64_t meta; /* file DIR/<bucket>/<meta>.meta; 0: synthetic */
	struct bucket *bucket;
};

struct upload;

struct bucket {
	char *name, *location;
	int64_t ctime_ms;
	bool gone;
	struct object **objects; /* sorted by key */
	size_t n, cap;
	uint64_t next_id;
	struct upload *uploads; /* oldest first */
	struct bucket *next;
};

extern pthread_rwlock_t objects_lock;
extern char *data_dir;

void buckets_load(void); /* what earlier runs left in data_dir */
struct bucket *bucket_find(const char *name); /* lock held */
struct bucket *bucket_add(const char *name, const char *location);
void bucket_remove(struct bucket *b); /* empty; write lock held */
struct bucket *bucket_after(const char *name); /* by name; NULL: first */
char *bucket_path(const struct bucket *b, uint64_t id); /* malloc */
size_t bucket_lower(const struct bucket *b, const char *key);
struct object *bucket_get(struct bucket *b, const char *key);
/* The rest with the write lock held. */
uint64_t bucket_adopt(struct bucket *b, const char *path); /* 0: failed */
bool bucket_insert(struct bucket *b, struct object *o); /* takes o */
void bucket_delete(struct bucket *b, const char *key);
void bucket_fake(struct bucket *b, const char *prefix, uint64_t count,
		 uint64_t size, uint64_t per_folder);

struct object *object_new(struct bucket *b, const char *key, const char *name,
			  const char *etag, char *headers);
void object_add_segment(struct object *o, uint64_t id, uint64_t size);
struct object *object_ref(struct object *o);
void object_unref(struct object *o);
/* A value of o->headers, malloc; NULL. */
char *object_header(const struct object *o, const char *name);

/* ---- bytes of objects ---- */

struct reader {
	struct object *o;
	int fd; /* of segs[seg], -1 none */
	unsigned seg;
};

void reader_init(struct reader *rd, struct object *o);
void reader_release(struct reader *rd); /* the file only, not o */
bool reader_read(struct reader *rd, uint64_t off, char *buf, size_t n);

/* ---- bytes of requests ---- */

struct checksum; /* of x-amz-checksum-* */

struct body {
	int fd; /* -1 none */
	char *path; /* NULL: adopted, or none */
	uint64_t len;
	void *md5, *sha256;
	struct checksum *sum;
	bool failed; /* the disk would not take it */
	char etag[33]; /* after body_finish */
	unsigned char md5sum[16];
	char sha256_hex[65];
};

void body_begin(struct body *b, bool sha256);
void body_add(struct body *b, const void *data, size_t n);
void body_finish(struct body *b);
/* Begins and finishes b with bytes of src; !store: only hashes them. */
bool body_copy(struct body *b, struct object *src, uint64_t from, uint64_t end,
	       bool store);
char *body_text(struct body *b, size_t max); /* malloc; NULL: longer */
void body_release(struct body *b);

const char *checksum_header(unsigned i); /* NULL after the last */
struct checksum *checksum_new(unsigned i);
void checksum_add(struct checksum *c, const void *data, size_t n);
char *checksum_base64(struct checksum *c); /* malloc */
void checksum_free(struct checksum *c);

/* ---- answers in pieces: shaped, faulty ---- */

bool stream_wanted(const struct request *r); /* a buffer will not do */
/* o: a reference, taken; or text: taken, end its length. */
struct MHD_Response *stream_response(struct request *r, struct object *o,
				     char *text, uint64_t from, uint64_t end);

/* ---- operations ---- */

enum op {
	OP_GET,
	OP_HEAD,
	OP_LIST,
	OP_PUT,
	OP_COPY,
	OP_DELETE,
	OP_DELETES,
	OP_CREATE,
	OP_PART,
	OP_PARTCOPY,
	OP_COMPLETE,
	OP_ABORT,
	OP_LISTPARTS,
	OP_LISTUPLOADS,
	OP_HEADBUCKET,
	OP_LISTBUCKETS,
	OP_MAKEBUCKET,
	OP_RMBUCKET,
	OP_LOCATION,
	OP_CONFIG,
	OP_OTHER,
	OP_DELETEKEY, /* in fault rules only: one key of DELETES */
	OP_COUNT
};

struct op_info {
	const char *name, *s3; /* both name it in fault rules */
	char class; /* 'A', 'B' or 'F'ree */
};
extern const struct op_info op_info[OP_COUNT];

/* ---- a request ---- */

struct fault;

struct param {
	char *name, *value; /* value "" if there is no '=' */
};

struct request {
	struct MHD_Connection *connection;
	const char *method;
	char *raw_path, *raw_query; /* as sent */
	struct param *params;
	unsigned nparams;
	char *bucket; /* decoded; NULL: the account */
	char *key, *name; /* identity and as sent; NULL: the bucket */
	bool bad_name; /* the path does not decode */
	enum op op;
	const char *absent; /* S3's name of an operation that R2 lacks */
	bool no_route;
	struct body body;
	uint64_t start_us, body_us;
	uint64_t wait_ms; /* by fault, before the answer */
	const struct fault *fault;
	unsigned held; /* by limit.c */
	struct held_key *held_key;
	bool begun, answered, control, cut;
	/* the answer */
	unsigned status;
	bool unbilled;
	uint64_t bytes_out;
	struct MHD_Response *response;
};

const char *req_header(const struct request *r, const char *name);
const char *req_arg(const struct request *r, const char *name);
bool req_is(const struct request *r, const char *method);

void reply_header(struct request *r, const char *name, const char *value);
void reply_etag(struct request *r, const char *etag);
void reply_empty(struct request *r, unsigned status);
void reply_text(struct request *r, unsigned status, struct text *t,
		const char *type); /* takes t */
void reply_xml(struct request *r, struct text *t); /* takes t */
void reply_reset(struct request *r); /* RST on the connection */

/* Errors; each returns false, for "if (bad) return op_fail(...)". */
bool op_error(struct request *r, unsigned status, const char *code,
	      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
bool op_fail(struct request *r, const char *code); /* a code of the table */
void op_error_extra(struct request *r, unsigned status, const char *code,
		    const char *message, const char *extra);

void route_begin(struct request *r); /* sets op; headers are known */
void route_run(struct request *r);
const char *bucket_setting(const struct request *r); /* "cors", ...; NULL */

/* false: an error was answered */
bool auth_check(struct request *r);
bool screen_request(struct request *r);
bool screen_body(struct request *r); /* digests */
bool screen_headers(struct request *r, char **headers); /* to store */
char *nfc(const char *s); /* malloc; NULL: not UTF-8 */

struct credentials {
	char *access_key, *secret, *session_token; /* secret NULL: none */
	struct credentials *before;
};
extern struct credentials *credentials; /* replaced whole, never freed */
extern enum scope { SCOPE_ADMIN, SCOPE_OBJECT, SCOPE_READ } token_scope;

/* prefix "" or "x-amz-copy-source-" or "cf-copy-destination-"; o may be NULL.
 * 0, 412 (If-Match, If-Unmodified-Since) or 304 (the others). */
unsigned conditions(const struct request *r, const char *prefix,
		    const struct object *o);
/* 0 none, 206, 400 malformed, 1 inverted, 416 */
unsigned parse_range(const char *h, uint64_t size, uint64_t *from,
		     uint64_t *end);
bool etag_in(const char *list, const char *etag, bool weak);

void op_get(struct request *r, struct bucket *b);
void op_list(struct request *r, struct bucket *b);
void op_put(struct request *r, struct bucket *b);
void op_copy(struct request *r, struct bucket *b);
void op_delete(struct request *r, struct bucket *b);
void op_deletes(struct request *r, struct bucket *b);
void op_create(struct request *r, struct bucket *b);
void op_part(struct request *r, struct bucket *b);
void op_partcopy(struct request *r, struct bucket *b);
void op_complete(struct request *r, struct bucket *b);
void op_abort(struct request *r, struct bucket *b);
void op_listparts(struct request *r, struct bucket *b);
void op_listuploads(struct request *r, struct bucket *b);
void op_listbuckets(struct request *r);
void op_makebucket(struct request *r);
void op_rmbucket(struct request *r, struct bucket *b);
void op_headbucket(struct request *r);
void op_location(struct request *r, struct bucket *b);
void op_config(struct request *r);
/* The source of a copy, referenced; NULL: an error was answered. */
struct object *copy_source(struct request *r);

/* A listing's parameters, shared by objects and uploads. */
bool list_max(struct request *r, const char *name, long *echoed, long *max);
bool list_encoding(struct request *r, bool *url);
void list_name(struct text *t, const char *name, bool url);
/* The end of the common prefix in key, NULL if there is none. */
const char *list_group(const char *key, const char *prefix,
		       const char *delimiter);

/* ---- pending uploads: the write lock held throughout ---- */

struct part {
	unsigned number;
	uint64_t id, size;
	char etag[33];
	int64_t mtime_ms;
};

struct upload {
	char *id; /* base64, long, with '+', '/' and '=' */
	char *key, *name, *headers;
	int64_t started_ms;
	struct part *parts; /* by number */
	unsigned n, cap;
	uint64_t file; /* DIR/<bucket>/<file>.upload */
	enum { UP_OPEN, UP_COMPLETED, UP_ABORTED } state;
	unsigned active; /* limit.c: parts being written */
	struct upload *next;
};

struct upload *upload_new(struct bucket *b, const char *key, const char *name,
			  char *headers);
struct upload *upload_find(struct bucket *b, const char *key, const char *id);
void upload_add(struct bucket *b, struct upload *u, const struct part *p);
/* Keeps the files of the parts in keep; drops the others. */
void upload_end(struct bucket *b, struct upload *u, int state,
		const struct part *keep, unsigned n);
unsigned upload_expire(struct bucket *b, int64_t age_ms);
bool upload_load(struct bucket *b, const char *path, uint64_t file);

/* ---- faults ---- */

struct fault {
	char op[32], key[256]; /* patterns */
	unsigned skip, count;
	unsigned percent;
	enum {
		F_STATUS,
		F_HTML,
		F_ERROR200,
		F_DROP,
		F_LOST,
		F_DELAY,
		F_CUT,
		F_RST,
		F_STALL,
		F_SLOW,
		F_CORRUPT,
		F_LONG,
		F_NOLENGTH,
		F_GZIP,
		F_ETAG,
		F_NOETAG,
		F_RANGE,
		F_WHOLE,
		F_CLOSE,
		F_SKEW,
		F_BADXML,
		F_HUGEXML,
		F_DUP,
		F_UNSORTED,
		F_LOOP,
		F_NACTIONS
	} action;
	int64_t value, value2;
	char code[64];
	long retry_after, ms;
	uint64_t hits;
	struct fault *next;
};

int fault_load(const char *rules); /* replaces all; line number of an error */
/* The first rule that hits this request, used up by one; NULL. Delays are
 * added to *wait_ms and do not end the search. */
const struct fault *fault_match(enum op op, const char *key, uint64_t *wait_ms);
bool fault_is(const struct request *r, int action);
void fault_json(struct text *t);

/* ---- limits ---- */

struct limits {
	_Atomic enum { WRITE_FREE, WRITE_OVERLAP, WRITE_SECOND } write;
	/* At once: of a key, an upload, all. */
	_Atomic unsigned reads, parts, total;
	_Atomic unsigned page; /* keys in a page at most */
};
extern struct limits limits; /* 0: no limit */

bool limit_set(const char *name, const char *value);
void limit_begin(struct request *r);
bool limit_refused(struct request *r); /* true: answered with 429 */
void limit_end_write(struct request *r);
void limit_end(struct request *r);
void limit_reset(void);
void limit_json(struct text *t);

/* ---- counters ---- */

void count_open(const char *log_path);
void count_request(const struct request *r);
void count_reset(void);
void count_json(struct text *t);

/* ---- the HTTP side ---- */

extern _Atomic uint64_t conn_bandwidth; /* bytes a second, 0 = no cap */
extern _Atomic uint64_t link_bandwidth; /* of all connections together */
void link_wait(size_t n); /* until the link has carried so many bytes */
extern _Atomic int latency_ms;
extern const char *path_prefix, *domain;

struct MHD_Daemon *http_start(unsigned port);
void control_run(struct request *r);

#endif
