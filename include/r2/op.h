/*
 * One operation on its way to R2 and back, as the files that carry it share it:
 * r2.c admits and ends operations, attempt.c sends, judges and repeats one,
 * window.c says how many at once, settle.c finds out what became of a write,
 * receive.c takes what arrives, finish.c makes the result of an answer. A
 * flight is a request on the wire for an operation (flight.c); a slow GET may
 * have two for a while. Nobody else includes this.
 *
 * An operation belongs to one thread at a time: whoever runs its submit, a
 * transport thread inside its callbacks, or a worker. Only what is marked is
 * seen by others, under r2.lock.
 */
#ifndef R2_OP_H
#define R2_OP_H

#include "base/lock.h"
#include "base/task.h"
#include "r2/r2.h"
#include "r2/request.h"
#include "r2/retry.h"
#include "r2/xml.h"
#include "store/store_impl.h"

enum op_state { OP_QUEUED, OP_ATTEMPT, OP_PARSE, OP_ENDED };

enum op_question { /* a HEAD in the place of a write */
		   ASK_NOTHING,
		   ASK_OURS, /* is what refuses the write our own doing? */
		   ASK_FREE, /* may it be done, by a server that knows no conditions? */
};

/* Bytes a second at which a body on its way earns its deadline. */
enum { BYTE_RATE = 32 * 1024 };

enum { LATENCY_BUCKETS = 96 };

struct latency { /* of GETs' first bytes, four buckets an octave */
	uint32_t count[LATENCY_BUCKETS];
	unsigned total, since;
	uint32_t late_ms; /* when an answer is late, 0 not known yet */
};

enum { KEY_WINDOWS = 32 };

/* Of a key that was refused. */
struct key_window {
	uint64_t hash; /* window_hash; 0: free */
	unsigned window, successes;
	uint64_t halved_ns;
};

struct r2 {
	struct store base;
	struct http *http;
	struct creds *creds;
	struct request_target target;
	struct sigv4_cache keys;
	struct tasks *workers;
	uint64_t deadline_ns;
	uint64_t patience_ns; /* 0: a read has its whole deadline */
	uint32_t stall_ms;
	unsigned max_window;
	bool heard; /* atomic: the server has answered something */
	struct mutex lock;
	struct cond idle;
	/* guarded by lock */
	struct list queue, admitted;
	struct key_window key_windows[KEY_WINDOWS];
	unsigned under_way, window, successes;
	unsigned writes; /* of those under way */
	unsigned live; /* operations not yet ended */
	uint64_t halved_ns;
	uint64_t answered_ns, failed_ns; /* last end of either kind */
	int64_t skew_s; /* requests are signed with */
	int64_t seen_skew_s; /* by the last listing's Date */
	bool no_conditions; /* the server knows no conditional writes */
	bool no_merge; /* the server cannot merge metadata */
	struct latency latency;
	unsigned hedge_credit; /* in hundredths of a request */
	struct store_counters counters;
};

struct flight {
	struct http_req http; /* arg is the flight */
	struct request request;
	struct r2 *r2;
	struct op *op; /* guarded by r2.lock; NULL: given up, only to land */
};

struct op {
	struct r2 *r2;
	struct store_req *req;
	struct flight *flight; /* never NULL; guarded by r2.lock while aloft */
	struct flight *hedge; /* a second one, or NULL; guarded by r2.lock */
	uint32_t late_ms; /* after which it was started */
	struct request_variant variant;
	struct list link; /* queue, or admitted */
	uint64_t hash; /* window_hash */
	struct task task;
	enum op_state state; /* guarded by r2.lock */
	bool cancelled; /* guarded by r2.lock */
	bool admitted;
	struct creds_set *creds;
	struct buf body; /* LIST and error bodies */
	uint64_t started_ns, deadline_ns; /* the latter from its admission on */
	uint32_t stall_ms;
	bool fixed_deadline; /* the caller's: nothing puts it off */
	uint64_t sent_max; /* most body bytes that any attempt sent */
	uint64_t got_max; /* and of a GET, that all of them brought */
	unsigned tries, stale_tries;
	unsigned odd_at; /* DELETE_MANY: keys before it need no single delete */
	bool *settled; /* DELETE_MANY asked again: keys that need it not */
	uint64_t again_ns; /* and how long to wait before */
	uint64_t unheard_ns; /* by which the deadline is put off once the
			      * server answers */
	bool creds_tried, skew_tried, encoding_tried;
	bool wrong_answer; /* refused by us: see why */
	bool maybe_done; /* a write the server may have done unheard */
	enum op_question question;
	int refused; /* what the write is answered if it was not ours */
	char settled_why[64]; /* of an answer given to a question */
	char failed_why[192]; /* of the first key that could not be deleted */
	uint64_t expect; /* body bytes of this attempt, UINT64_MAX unknown */
	struct xml_error error;
	char ray[40];
};

bool op_is_write(const struct store_req *req);

/* window.c: which operation may begin, and what moves that. */
uint64_t window_hash(const struct store_req *req); /* 0: not held back by key */
/* May a queued operation begin? */
bool window_admits_locked(struct r2 *r2, const struct op *op)
	REQUIRES(r2->lock);
void window_throttled_locked(struct r2 *r2, const struct op *op, int status)
	REQUIRES(r2->lock);
void window_success_locked(struct r2 *r2, const struct op *op)
	REQUIRES(r2->lock);

/* settle.c */
bool op_has_conditions(const struct store_req *req);
void op_ask(struct op *op, enum op_question question);
/* What the answer to a write, or to a question about one, means. */
struct verdict op_settle(struct op *op, int status, struct verdict v);
void op_learn(struct op *op); /* after a success */

/* r2.c: gives the outcome to the caller and frees op. */
void op_end(struct op *op, int error);

/* attempt.c: sends op, again if need be; ends it in the end. */
void op_attempt(struct op *op);
bool op_may_retry(struct op *op, struct verdict v, uint64_t delay_ns);
void op_retry(struct op *op, struct verdict v, uint64_t delay_ns);
void op_done(struct http_req *http); /* http.done */

/* flight.c */
struct flight *flight_new(struct op *op);
void flight_free(struct flight *f);
MUST_CHECK int flight_build(struct flight *f);
void flight_submit_locked(struct r2 *r2, struct flight *f, enum store_op kind)
	REQUIRES(r2->lock);
/* A head has arrived: f speaks for its operation from now on, and alone.
 * NULL: another does, f is to be aborted. */
struct op *flight_claim(struct flight *f);
/* f has ended. NULL: nothing is to be done, f is gone. */
struct op *flight_land(struct flight *f);

/* receive.c */
int op_on_head(struct http_req *http); /* http.on_head */
int op_on_body(struct http_req *http, const void *data, size_t n);
const char *op_header(struct op *op, const char *name); /* NULL: none */
/* The ETag header without quotes; false if there is none of that length. */
bool op_etag(struct op *op, char *ret, size_t max);
int64_t op_date(struct op *op); /* the Date header, 0 if there is none */
int64_t op_modified_ns(struct op *op); /* Last-Modified, the same */
void op_read_attr(struct op *op, struct store_attr *attr);

/* finish.c: the answer means success; ends op, or parses it elsewhere. */
void op_finish(struct op *op);
/* It means that nothing more can be done; ends op, but for a DELETE_MANY with
 * further keys. */
void op_fail(struct op *op, int error);
/* Turns to the next key that XML cannot carry; false: there is none. */
bool op_next_odd(struct op *op);

#endif
