/*
 * From a store request to a final outcome: admit, attempt, judge, repeat.
 *
 * Three things are kept apart: building an attempt (request.c), judging its
 * answer (retry.c) and this file, which owns the life of an operation. An
 * operation is QUEUED until the window has room, then in ATTEMPT on the
 * transport (a backoff is a transport request with a later start), possibly
 * in PARSE on a thread of ours, and ends once. `lock` guards the queue, the
 * window and every operation's state; callbacks run without it.
 *
 * The window is how many operations may be under way: it grows by one per
 * window of successes and halves when R2 throttles (429, 503), never below
 * MIN_WINDOW. A throttled key also waits by itself through its backoff.
 *
 * A GET's bytes go straight to the caller's buffer, but only after status,
 * range, ETag and encoding have been checked; a transfer that breaks goes on
 * from the last byte with If-Match, so two versions cannot meet in a buffer.
 *
 * A conditional write whose answer was lost is refused by our own object when
 * it is repeated. Such a refusal is therefore confirmed by a HEAD: the ETag
 * that the write would have made means it was done.
 */
#include "r2/r2.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/task.h"
#include "r2/crypto.h"
#include "r2/request.h"
#include "r2/retry.h"
#include "r2/xml.h"
#include "store/store_impl.h"

enum {
	MIN_WINDOW = 4,
	ERROR_BODY_MAX = 65536,
	LIST_BODY_MAX = 16 << 20,
	WORKERS = 2, /* XML and credential reloads */
};

enum op_state { OP_QUEUED, OP_ATTEMPT, OP_PARSE, OP_ENDED };

struct r2 {
	struct store base;
	struct http *http;
	struct creds *creds;
	struct request_target target;
	struct sigv4_cache keys;
	struct tasks *workers;
	uint64_t deadline_ns;
	uint32_t stall_ms;
	unsigned max_window;
	struct mutex lock;
	struct cond idle;
	/* guarded by lock */
	struct list queue;
	unsigned under_way, window, successes;
	unsigned live; /* operations not yet ended */
	uint64_t halved_ns;
	int64_t skew_s;
	bool no_conditions; /* the server answered 501 to a condition */
	struct store_counters counters;
};

struct op {
	struct r2 *r2;
	struct store_req *req;
	struct http_req http;
	struct request request;
	struct request_variant variant;
	struct list link; /* queue */
	struct task task;
	enum op_state state; /* guarded by r2.lock */
	bool cancelled; /* guarded by r2.lock */
	bool admitted;
	struct creds_set *creds;
	struct buf body; /* LIST and error bodies */
	uint64_t started_ns, deadline_ns;
	unsigned tries;
	bool creds_tried, skew_tried, encoding_tried;
	bool wrong_answer; /* refused in on_head: see why */
	bool confirm; /* asking whether a refused write was our own */
	int refused; /* what the write is answered if it was not */
	uint64_t expect; /* body bytes of this attempt, UINT64_MAX unknown */
	struct xml_error error;
	char ray[40];
};

static void attempt(struct op *op);
static void end_op(struct op *op, int error);

/* ---- headers of an answer ---- */

static const char *header(struct op *op, const char *name)
{
	return http_header_get(op->r2->http, &op->http, name);
}

static bool parse_etag_text(const char *s, char *ret, size_t max)
{
	size_t n;

	if (!s)
		return false;
	if (strncmp(s, "W/", 2) == 0)
		s += 2;
	n = strlen(s);
	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	if (n == 0 || n >= max)
		return false;
	memcpy(ret, s, n);
	ret[n] = 0;
	return true;
}

static bool parse_etag(const char *s, struct store_etag *ret)
{
	return parse_etag_text(s, ret->s, sizeof(ret->s));
}

static int64_t parse_http_date(const char *s)
{
	struct tm tm = { 0 };

	if (!s || !strptime(s, "%a, %d %b %Y %H:%M:%S", &tm))
		return 0;
	return timegm(&tm);
}

static void add_meta(struct store_attr *attr, const char *name,
		     const char *value)
{
	struct store_meta *m = &attr->meta;
	char *lower = xstrdup(name);

	for (char *p = lower; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p |= 32;
	m->pairs = xrealloc(m->pairs, (m->n + 1) * sizeof(*m->pairs));
	m->pairs[m->n++] = (struct store_meta_pair){ lower, xstrdup(value) };
}

static void each_header(const char *name, const char *value, void *arg)
{
	struct store_attr *attr = arg;

	if (strncasecmp(name, "x-amz-meta-", 11) == 0)
		add_meta(attr, name + 11, value);
}

static void read_attr(struct op *op, struct store_attr *attr)
{
	const char *type = header(op, "content-type");
	const char *encoding = header(op, "content-encoding");
	const char *class = header(op, "x-amz-storage-class");

	store_meta_release(&attr->meta);
	http_header_each(op->r2->http, &op->http, each_header, attr);
	attr->has_meta = true;
	attr->mtime_ns = parse_http_date(header(op, "last-modified")) *
			 1000000000ll;
	snprintf(attr->content_type, sizeof(attr->content_type), "%s",
		 type ? type : "");
	snprintf(attr->content_encoding, sizeof(attr->content_encoding), "%s",
		 encoding ? encoding : "");
	attr->infrequent = class && strcmp(class, "STANDARD_IA") == 0;
}

/* ---- checking a GET's head ---- */

static int refuse(struct op *op, const char *what)
{
	op->wrong_answer = true;
	snprintf(op->req->why, sizeof(op->req->why), "%s", what);
	return -EBADMSG;
}

static bool parse_content_range(const char *s, uint64_t *from, uint64_t *to,
				uint64_t *total)
{
	unsigned long long a, b, n;

	if (!s || sscanf(s, "bytes %llu-%llu/%llu", &a, &b, &n) != 3 || b < a ||
	    b >= n)
		return false;
	*from = a;
	*to = b;
	*total = n;
	return true;
}

static int check_partial(struct op *op, uint64_t *total)
{
	const struct store_req *req = op->req;
	uint64_t from, to, last;

	if (!req->ranged)
		return refuse(op, "the server sent a part nobody asked for");
	if (!parse_content_range(header(op, "content-range"), &from, &to,
				 total))
		return refuse(op, "the server's Content-Range is malformed");
	last = req->range_off + req->range_len - 1;
	if (last >= *total)
		last = *total - 1;
	if (from != req->range_off + op->variant.skip || to != last)
		return refuse(op, "the server sent another range than asked");
	op->expect = to - from + 1;
	return 0;
}

static int check_whole(struct op *op, uint64_t *total)
{
	const struct store_req *req = op->req;

	if (op->http.content_length < 0)
		return refuse(op, "the server gave no Content-Length");
	*total = op->expect = op->http.content_length;
	if (op->variant.skip || req->range_off ||
	    (req->ranged && *total > req->range_len) || *total > req->buf_cap)
		return refuse(op, "the server ignored the range");
	return 0;
}

static int check_encoding(struct op *op)
{
	const char *encoding = header(op, "content-encoding");

	if (op->variant.any_encoding)
		return 0;
	if ((encoding && *encoding && strcasecmp(encoding, "identity")) ||
	    (op->http.status == 200 && op->http.content_length < 0))
		return refuse(op, "the edge changed the object's encoding");
	return 0;
}

static int check_get(struct op *op)
{
	struct store_req *req = op->req;
	struct store_etag etag;
	uint64_t total = 0;
	int err = check_encoding(op);

	if (!err && !parse_etag(header(op, "etag"), &etag))
		err = refuse(op, "the server gave no usable ETag");
	if (!err && op->variant.skip && strcmp(etag.s, req->attr.etag.s) != 0)
		err = refuse(op, "the server mixed two versions");
	if (!err)
		err = op->http.status == 206 ? check_partial(op, &total) :
					       check_whole(op, &total);
	if (err || op->variant.skip)
		return err;
	read_attr(op, &req->attr);
	req->attr.etag = etag;
	req->attr.size = total;
	return 0;
}

static int on_head(struct http_req *http)
{
	struct op *op = http->arg;

	op->expect = UINT64_MAX;
	if (op->req->op == STORE_GET && !op->variant.as_head &&
	    (http->status == 200 || http->status == 206))
		return check_get(op);
	return 0;
}

static int on_body(struct http_req *http, const void *data, size_t n)
{
	struct op *op = http->arg;
	struct store_req *req = op->req;

	if (op->expect == UINT64_MAX) {
		buf_add(&op->body, data, n);
		return op->body.failed ? -EMSGSIZE : 0;
	}
	if (http->body_received > op->expect ||
	    req->buf_len + n > req->buf_cap)
		return refuse(op, "the server sent more bytes than announced");
	memcpy(req->buf + req->buf_len, data, n);
	req->buf_len += n;
	if (req->progress)
		req->progress(req, req->buf_len);
	return 0;
}

/* ---- judging ---- */

static void learn_skew(struct op *op)
{
	int64_t date = parse_http_date(header(op, "date"));

	if (!date)
		return;
	mutex_lock(&op->r2->lock);
	op->r2->skew_s = clock_wall_s() - date;
	mutex_unlock(&op->r2->lock);
}

static void window_throttled_locked(struct r2 *r2) REQUIRES(r2->lock)
{
	uint64_t now = clock_mono_ns();

	r2->counters.throttled++;
	if (now - r2->halved_ns < 1000000000)
		return;
	r2->halved_ns = now;
	r2->window = r2->window / 2 > MIN_WINDOW ? r2->window / 2 : MIN_WINDOW;
	r2->successes = 0;
}

static void window_success_locked(struct r2 *r2) REQUIRES(r2->lock)
{
	if (r2->window < r2->max_window && ++r2->successes >= r2->window) {
		r2->window++;
		r2->successes = 0;
	}
}

static void say_why(struct op *op)
{
	const struct http_req *h = &op->http;
	struct store_req *req = op->req;

	if (h->error && !op->wrong_answer)
		snprintf(req->why, sizeof(req->why), "%s", h->error_text);
	else if (!h->error && op->error.code[0])
		snprintf(req->why, sizeof(req->why), "HTTP %d %s: %.100s",
			 h->status, op->error.code, op->error.message);
	else if (!h->error)
		snprintf(req->why, sizeof(req->why), "HTTP %d", h->status);
}

static bool is_write(const struct store_req *req)
{
	return req->op != STORE_GET && req->op != STORE_HEAD &&
	       req->op != STORE_LIST;
}

static bool has_conditions(const struct store_req *req)
{
	return is_write(req) && (req->if_match || req->if_absent);
}

static bool maybe_ours(struct op *op, int status)
{
	const struct store_req *req = op->req;

	if (op->tries < 2 || op->confirm)
		return false;
	return (status == 412 && has_conditions(req)) ||
	       (status == 404 && req->op == STORE_MPU_COMPLETE);
}

static bool drop_conditions(struct op *op, int status)
{
	struct r2 *r2 = op->r2;
	bool first;

	if (status != 501 || op->variant.unconditional ||
	    !has_conditions(op->req))
		return false;
	mutex_lock(&r2->lock);
	first = !r2->no_conditions;
	r2->no_conditions = true;
	mutex_unlock(&r2->lock);
	if (first)
		log_warn("r2", "this server knows no conditional writes: two "
			       "writers of one file are not told apart");
	op->variant.unconditional = true;
	return true;
}

static const struct verdict again_at_once = { -ERANGE, RETRY_SKEW };

static struct verdict judge_status(struct op *op)
{
	struct store_req *req = op->req;
	int status = op->http.status;
	struct verdict v;

	if (status == 304)
		return (struct verdict){ 0, RETRY_NO };
	if (status == 416 && req->op == STORE_GET && req->range_off == 0 &&
	    !op->variant.as_head) {
		op->variant.as_head = true;
		return again_at_once;
	}
	if (drop_conditions(op, status))
		return again_at_once;
	xml_parse_error(op->body.data, op->body.len, &op->error);
	if (status < 300 && op->error.code[0])
		return (struct verdict){ -EIO, RETRY_BACKOFF };
	v = retry_judge(status, op->error.code);
	if (v.error == -ENOENT && !op->confirm &&
	    (req->op == STORE_DELETE || req->op == STORE_MPU_ABORT))
		return (struct verdict){ 0, RETRY_NO };
	if (v.error == -ESTALE && req->if_absent)
		v.error = -EEXIST;
	if (maybe_ours(op, status)) {
		op->confirm = op->variant.as_head = true;
		op->refused = v.error;
		return again_at_once;
	}
	if (op->confirm && v.error && v.retry == RETRY_NO)
		v.error = op->refused;
	return v;
}

/* What this attempt's end means. Sets up op->variant for the next one. */
static struct verdict judge(struct op *op)
{
	const struct http_req *h = &op->http;
	struct store_req *req = op->req;

	if (op->wrong_answer) {
		if (req->op == STORE_GET && !op->encoding_tried &&
		    strstr(req->why, "encoding")) {
			op->encoding_tried = true;
			op->variant.any_encoding = true;
			return (struct verdict){ -EBADMSG, RETRY_SKEW };
		}
		return (struct verdict){ -EBADMSG, op->tries < 3 ?
							   RETRY_BACKOFF :
							   RETRY_NO };
	}
	if (h->error)
		return retry_judge_transport(h->error);
	return judge_status(op);
}

static bool may_retry(struct op *op, struct verdict v, uint64_t delay)
{
	bool once;

	switch (v.retry) {
	case RETRY_NO:
		return false;
	case RETRY_CREDS:
		once = !op->creds_tried;
		op->creds_tried = true;
		return once;
	case RETRY_SKEW:
		if (v.error != -EACCES)
			return true;
		once = !op->skew_tried;
		op->skew_tried = true;
		return once;
	default:
		return clock_mono_ns() + delay < op->deadline_ns;
	}
}

static void reload_creds(struct task *t)
{
	struct op *op = container_of(t, struct op, task);

	creds_reload(op->r2->creds, op->creds->serial);
	attempt(op);
}

static void retry(struct op *op, struct verdict v, uint64_t delay)
{
	struct r2 *r2 = op->r2;

	mutex_lock(&r2->lock);
	r2->counters.retries++;
	mutex_unlock(&r2->lock);
	log_debug("r2", "%s %s: %s; trying again in %llu ms",
		  store_op_name(op->req->op), op->req->key ? op->req->key : "",
		  op->req->why, (unsigned long long)(delay / 1000000));
	op->http.not_before_ns = delay ? clock_mono_ns() + delay : 0;
	if (v.retry == RETRY_CREDS) {
		op->task.run = reload_creds;
		tasks_submit(r2->workers, &op->task);
	} else {
		attempt(op);
	}
}

/* ---- success ---- */

static int finish_head(struct op *op)
{
	struct store_attr *attr = &op->req->attr;

	if (!parse_etag(header(op, "etag"), &attr->etag))
		return -EBADMSG;
	read_attr(op, attr);
	attr->size = op->http.content_length < 0 ? 0 : op->http.content_length;
	if (op->http.content_length < 0 && !op->variant.as_head)
		return -EBADMSG;
	return op->variant.as_head && attr->size ? -ESTALE : 0;
}

static void parse_list(struct task *t)
{
	struct op *op = container_of(t, struct op, task);
	struct store_req *req = op->req;
	int err = xml_parse_list(op->body.data, op->body.len, &req->list);

	if (!err && req->token && req->list.next_token &&
	    strcmp(req->token, req->list.next_token) == 0)
		err = -EBADMSG;
	if (!err) {
		end_op(op, 0);
		return;
	}
	store_list_release(&req->list);
	snprintf(req->why, sizeof(req->why),
		 "the listing is malformed or does not advance");
	if (op->tries < 3) {
		retry(op, (struct verdict){ err, RETRY_BACKOFF },
		      retry_delay_ns(RETRY_BACKOFF, op->tries, 0));
		return;
	}
	end_op(op, err);
}

/* ---- success of a write ---- */

static bool is_md5(const char *etag)
{
	return strlen(etag) == 32 && !strchr(etag, '-');
}

/* The ETag that the write makes; false: it cannot be told. */
static bool expected_etag(const struct store_req *req, struct store_etag *ret)
{
	uint8_t all[MD5_BYTES];

	memset(ret, 0, sizeof(*ret));
	if (req->op == STORE_PUT && req->body.summed) {
		crypto_hex(req->body.md5, MD5_BYTES, ret->s);
		return true;
	}
	if (req->op == STORE_COPY && req->source_if_match) {
		snprintf(ret->s, sizeof(ret->s), "%s", req->source_if_match);
		return true;
	}
	if (req->op != STORE_MPU_COMPLETE ||
	    crypto_md5_of_hex(req->parts, sizeof(*req->parts),
			      offsetof(struct store_part, etag), req->nparts,
			      all))
		return false;
	crypto_hex(all, MD5_BYTES, ret->s);
	snprintf(ret->s + 32, sizeof(ret->s) - 32, "-%u", req->nparts);
	return true;
}

static int finish_confirm(struct op *op)
{
	struct store_etag want, got;

	if (!parse_etag(header(op, "etag"), &got) ||
	    !expected_etag(op->req, &want) || strcmp(want.s, got.s) != 0) {
		snprintf(op->req->why, sizeof(op->req->why),
			 "somebody else wrote the object");
		return op->refused;
	}
	op->req->attr.etag = got;
	return 0;
}

static int finish_body(struct op *op)
{
	struct store_req *req = op->req;
	char ours[2 * MD5_BYTES + 1], etag[STORE_PART_ETAG_MAX];

	if (!parse_etag_text(header(op, "etag"), etag, sizeof(etag)) ||
	    (req->op == STORE_PUT && strlen(etag) >= sizeof(req->attr.etag))) {
		snprintf(req->why, sizeof(req->why),
			 "the server gave no usable ETag");
		return -EBADMSG;
	}
	if (req->op == STORE_PUT)
		strcpy(req->attr.etag.s, etag);
	else
		strcpy(req->ret_part_etag, etag);
	crypto_hex(req->body.md5, MD5_BYTES, ours);
	if (req->body.summed && is_md5(etag) && strcasecmp(ours, etag) != 0) {
		snprintf(req->why, sizeof(req->why),
			 "the server stored other bytes than were sent");
		return -EBADMSG;
	}
	return 0;
}

static int finish_result(struct op *op)
{
	struct store_req *req = op->req;
	struct xml_result r;
	int err = xml_parse_result(op->body.data, op->body.len, &r);

	if (!err && req->op == STORE_MPU_CREATE) {
		req->ret_upload_id = r.upload_id;
		r.upload_id = NULL;
		err = req->ret_upload_id ? 0 : -EBADMSG;
	} else if (!err && req->op == STORE_DELETE_MANY) {
		req->nfailed = r.failed;
	} else if (!err) {
		snprintf(req->attr.etag.s, sizeof(req->attr.etag.s), "%.71s",
			 r.etag);
		strcpy(req->ret_part_etag, r.etag);
		err = r.etag[0] ? 0 : -EBADMSG;
	}
	if (err)
		snprintf(req->why, sizeof(req->why),
			 "the answer to %s is incomplete",
			 store_op_name(req->op));
	else if (req->nfailed)
		snprintf(req->why, sizeof(req->why), "%.180s", r.failure);
	free(r.upload_id);
	return err;
}

static int finish_write(struct op *op)
{
	switch (op->req->op) {
	case STORE_PUT:
	case STORE_MPU_PART:
		return finish_body(op);
	case STORE_DELETE:
	case STORE_MPU_ABORT:
		return 0;
	default:
		return finish_result(op);
	}
}

static void succeed(struct op *op)
{
	struct store_req *req = op->req;
	int err = 0;

	if (op->http.status == 304) {
		req->not_modified = true;
	} else if (req->op == STORE_LIST) {
		op->task.run = parse_list;
		tasks_submit(op->r2->workers, &op->task);
		return;
	} else if (op->confirm) {
		err = finish_confirm(op);
	} else if (is_write(req)) {
		err = finish_write(op);
	} else if (req->op == STORE_HEAD || op->variant.as_head) {
		err = finish_head(op);
		if (err)
			snprintf(req->why, sizeof(req->why),
				 "the answer to HEAD is incomplete");
	}
	end_op(op, err);
}

static void short_body(struct op *op)
{
	op->http.error = -ECONNRESET;
	snprintf(op->http.error_text, sizeof(op->http.error_text),
		 "the connection ended %llu bytes early",
		 (unsigned long long)(op->expect - op->http.body_received));
}

static void on_done(struct http_req *http)
{
	struct op *op = http->arg;
	struct r2 *r2 = op->r2;
	const char *after = http->impl ? header(op, "retry-after") : NULL;
	const char *ray = http->impl ? header(op, "cf-ray") : NULL;
	struct verdict v;
	uint64_t delay;

	snprintf(op->ray, sizeof(op->ray), "%s", ray ? ray : "-");
	op->req->http_status = http->status;
	if (!http->error && op->expect != UINT64_MAX &&
	    http->body_received < op->expect)
		short_body(op);
	mutex_lock(&r2->lock);
	op->state = OP_PARSE;
	r2->counters.bytes_in += http->body_received;
	if (!http->error)
		r2->counters.bytes_out += http->body_len;
	mutex_unlock(&r2->lock);

	v = judge(op);
	say_why(op);
	op->variant.skip = op->req->buf_len;
	if (op->variant.skip)
		op->variant.if_match = op->req->attr.etag.s;
	mutex_lock(&r2->lock);
	if (v.retry == RETRY_THROTTLE)
		window_throttled_locked(r2);
	else if (!v.error)
		window_success_locked(r2);
	mutex_unlock(&r2->lock);
	if (!v.error) {
		succeed(op);
		return;
	}
	if (v.retry == RETRY_SKEW && v.error == -EACCES)
		learn_skew(op);
	delay = retry_delay_ns(v.retry, op->tries,
			       after ? strtoul(after, NULL, 10) : 0);
	if (may_retry(op, v, delay))
		retry(op, v, delay);
	else
		end_op(op, v.error == -EAGAIN ? -ETIMEDOUT : v.error);
}

/* ---- life of an operation ---- */

static void attempt(struct op *op)
{
	struct r2 *r2 = op->r2;
	enum store_op kind;
	bool cancelled;
	int64_t skew;
	int err;

	op->tries++;
	op->wrong_answer = false;
	memset(&op->error, 0, sizeof(op->error));
	buf_reset(&op->body);
	creds_set_put(op->creds);
	op->creds = creds_get(r2->creds);
	mutex_lock(&r2->lock);
	skew = r2->skew_s;
	op->variant.unconditional |= r2->no_conditions;
	mutex_unlock(&r2->lock);
	err = request_build(&op->request, &r2->target, op->req, &op->variant,
			    &r2->keys, op->creds, clock_wall_s() - skew,
			    &op->http);
	if (err) {
		snprintf(op->req->why, sizeof(op->req->why),
			 "the key is too long to be sent");
		end_op(op, err);
		return;
	}
	kind = op->variant.as_head ? STORE_HEAD : op->req->op;
	mutex_lock(&r2->lock);
	cancelled = op->cancelled;
	if (!cancelled) {
		op->state = OP_ATTEMPT;
		r2->counters.requests[kind]++;
		switch (store_op_class(kind)) {
		case STORE_CLASS_A:
			r2->counters.class_a++;
			break;
		case STORE_CLASS_B:
			r2->counters.class_b++;
			break;
		default:
			r2->counters.class_free++;
		}
		http_submit(r2->http, &op->http);
	}
	mutex_unlock(&r2->lock);
	if (cancelled)
		end_op(op, -ECANCELED);
}

static void start_queued(struct r2 *r2)
{
	for (;;) {
		struct op *op = NULL;

		mutex_lock(&r2->lock);
		if (!list_empty(&r2->queue) && r2->under_way < r2->window) {
			op = list_first(&r2->queue, struct op, link);
			list_del(&op->link);
			op->state = OP_PARSE;
			op->admitted = true;
			r2->under_way++;
		}
		mutex_unlock(&r2->lock);
		if (!op)
			return;
		attempt(op);
	}
}

/* Answers to a question, rather than trouble. */
static bool is_ordinary(int error)
{
	return !error || error == -ENOENT || error == -ESTALE ||
	       error == -EEXIST || error == -ECANCELED;
}

static void log_failure(struct op *op, int error)
{
	const struct store_req *req = op->req;

	log_warn("r2", "%s %s failed after %u attempts: %s (%s, cf-ray %s)",
		 store_op_name(req->op),
		 req->key ? req->key : req->prefix ? req->prefix : "",
		 op->tries, req->why, strerror(-error), op->ray);
}

static void count_end_locked(struct op *op, int error) REQUIRES(op->r2->lock)
{
	struct store_counters *c = &op->r2->counters;
	uint64_t us = (clock_mono_ns() - op->started_ns) / 1000;
	unsigned log2 = us ? 63 - __builtin_clzll(us) : 0;
	enum store_op kind = op->req->op;

	c->finished[kind]++;
	c->latency_us[kind] += us;
	if (us > c->latency_max_us[kind])
		c->latency_max_us[kind] = us;
	if (log2 >= STORE_LATENCIES)
		log2 = STORE_LATENCIES - 1;
	c->latency_log2[kind][log2]++;
	if (is_ordinary(error))
		return;
	c->failures++;
	c->last_failure.at_ns = clock_wall_ns();
	c->last_failure.op = kind;
	c->last_failure.error = error;
	c->last_failure.http_status = op->req->http_status;
}

static void end_op(struct op *op, int error)
{
	struct store_req *req = op->req;
	struct r2 *r2 = op->r2;

	if (!is_ordinary(error))
		log_failure(op, error);
	if (!error)
		req->why[0] = 0;
	req->error = error;
	req->attempts = op->tries;
	mutex_lock(&r2->lock);
	op->state = OP_ENDED;
	req->impl = NULL;
	count_end_locked(op, error);
	if (op->admitted)
		r2->under_way--;
	mutex_unlock(&r2->lock);
	request_release(&op->request);
	buf_release(&op->body);
	creds_set_put(op->creds);
	free(op);
	req->done(req);
	start_queued(r2);
	mutex_lock(&r2->lock);
	if (--r2->live == 0)
		cond_broadcast(&r2->idle);
	mutex_unlock(&r2->lock);
}

/* A body has its time on top: at least 128 KiB/s. While R2 copies or puts
 * parts together no byte moves. */
static void set_times(struct op *op)
{
	const struct store_req *req = op->req;
	uint64_t extra = (req->body.len >> 17) * 1000000000ull;
	bool server_works = req->op == STORE_COPY || req->op == STORE_MPU_COPY ||
			    req->op == STORE_MPU_COMPLETE ||
			    req->op == STORE_DELETE_MANY;

	if (server_works)
		extra += 3 * op->r2->deadline_ns;
	op->deadline_ns = req->deadline_ns ? req->deadline_ns :
					     op->started_ns +
						     op->r2->deadline_ns +
						     extra;
	op->http.deadline_ns = op->deadline_ns;
	op->http.stall_ms = server_works ? 0 :
			    is_write(req) ? 3 * op->r2->stall_ms :
					    op->r2->stall_ms;
}

static void r2_submit(struct store *base, struct store_req *req)
{
	struct r2 *r2 = (struct r2 *)base;
	struct op *op = xcalloc(1, sizeof(*op));

	op->r2 = r2;
	op->req = req;
	op->started_ns = clock_mono_ns();
	op->expect = UINT64_MAX;
	request_init(&op->request);
	buf_init(&op->body, req->op == STORE_LIST ||
					    req->op == STORE_DELETE_MANY ?
				    LIST_BODY_MAX :
				    ERROR_BODY_MAX);
	op->http.body_fd = -1;
	op->http.on_head = on_head;
	op->http.on_body = on_body;
	op->http.done = on_done;
	op->http.arg = op;
	set_times(op);
	req->error = 0;
	req->buf_len = 0;
	req->not_modified = false;
	req->why[0] = 0;
	mutex_lock(&r2->lock);
	req->impl = op;
	r2->live++;
	list_add_tail(&r2->queue, &op->link);
	mutex_unlock(&r2->lock);
	start_queued(r2);
}

static void end_cancelled(struct task *t)
{
	end_op(container_of(t, struct op, task), -ECANCELED);
}

static void r2_cancel(struct store *base, struct store_req *req)
{
	struct r2 *r2 = (struct r2 *)base;
	struct op *op;

	mutex_lock(&r2->lock);
	op = req->impl;
	if (op && !op->cancelled) {
		op->cancelled = true;
		if (op->state == OP_ATTEMPT) {
			http_cancel(r2->http, &op->http);
		} else if (op->state == OP_QUEUED) {
			list_del(&op->link);
			op->state = OP_PARSE;
			op->task.run = end_cancelled;
			tasks_submit(r2->workers, &op->task);
		}
	}
	mutex_unlock(&r2->lock);
}

static int r2_sum(struct store *base, struct store_body *body)
{
	int err = 0;

	if (body->fd >= 0)
		err = crypto_md5_fd(body->fd, body->off, body->len, body->md5);
	else
		crypto_md5(body->data, body->len, body->md5);
	body->summed = !err;
	return err;
}

static void r2_counters(struct store *base, struct store_counters *ret)
{
	struct r2 *r2 = (struct r2 *)base;

	mutex_lock(&r2->lock);
	*ret = r2->counters;
	ret->in_flight = r2->under_way;
	mutex_unlock(&r2->lock);
}

static void r2_destroy(struct store *base)
{
	struct r2 *r2 = (struct r2 *)base;

	mutex_lock(&r2->lock);
	while (r2->live)
		cond_wait(&r2->idle, &r2->lock);
	mutex_unlock(&r2->lock);
	tasks_destroy(r2->workers);
	sigv4_cache_release(&r2->keys);
	request_target_release(&r2->target);
	cond_release(&r2->idle);
	mutex_release(&r2->lock);
	free(r2);
}

int64_t r2_clock_skew_s(struct store *s)
{
	struct r2 *r2 = (struct r2 *)s;

	mutex_lock(&r2->lock);
	int64_t skew = r2->skew_s;
	mutex_unlock(&r2->lock);
	return skew;
}

static const struct store_ops r2_ops = {
	.submit = r2_submit,
	.cancel = r2_cancel,
	.sum = r2_sum,
	.counters = r2_counters,
	.destroy = r2_destroy,
};

int r2_create(const struct r2_config *config, struct http *http,
	      struct creds *creds, struct store **ret)
{
	struct r2 *r2 = xcalloc(1, sizeof(*r2));
	int err = request_target_init(&r2->target, config->endpoint,
				      config->bucket, config->region);

	if (err) {
		free(r2);
		return err;
	}
	r2->base.ops = &r2_ops;
	r2->http = http;
	r2->creds = creds;
	sigv4_cache_init(&r2->keys);
	r2->workers = tasks_create("r2fs-r2", WORKERS);
	r2->deadline_ns = (config->deadline_ms ? config->deadline_ms : 30000) *
			  1000000ull;
	r2->stall_ms = config->stall_ms ? config->stall_ms : 10000;
	r2->max_window = config->max_in_flight ? config->max_in_flight : 64;
	r2->window = r2->max_window;
	mutex_init(&r2->lock);
	cond_init(&r2->idle);
	list_init(&r2->queue);
	*ret = &r2->base;
	return 0;
}
