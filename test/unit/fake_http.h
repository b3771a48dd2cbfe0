/*
 * A transport that answers from a script, on a clock it owns.
 *
 * The test lists the answers in the order in which requests are to be
 * submitted; fake_http_run then lets time pass from event to event until the
 * store request has ended. A request that is not as the script says is a
 * failed check that shows both. Nothing waits for real time, but work that
 * the store hands to threads of its own is waited for. All in a header, as
 * check.h is, so that its checks count in the test that includes it.
 */
#ifndef FAKE_HTTP_H
#define FAKE_HTTP_H

#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "check.h"
#include "net/http_impl.h"
#include "store/store.h"

struct fake_answer {
	/* what is to be asked; NULL: anything */
	const char *method;
	const char *url; /* a part of it */
	const char *header; /* "name: value" */
	const char *absent; /* name of a header that must not be there */
	/* what is answered */
	int error; /* -errno of the transport, after `cut` bytes */
	bool unsent; /* with error: the server cannot have seen it */
	bool stale; /* with error: a kept connection was closed */
	uint64_t takes_body; /* bytes of the body it takes; 0: all */
	int status;
	const char *headers; /* "Name: value\n..." */
	const char *body;
	size_t body_len; /* 0: strlen(body) */
	size_t cut; /* only so many bytes of body; 0: all */
	unsigned takes_ms; /* from its start to its answer */
};

enum { MAX_FLYING = 64, SENT_MAX = 1 << 20, IDLE_TURNS = 50000 };

struct fake_flight {
	struct http_req *req;
	const struct fake_answer *answer;
	uint64_t from_ns, at_ns; /* when it starts and ends */
	bool late_told;
};

struct fake_http {
	struct http base;
	const struct fake_answer *script;
	struct mutex lock;
	struct http_req *fresh[MAX_FLYING]; /* submitted, guarded by lock */
	unsigned nfresh;
	struct fake_flight flying[MAX_FLYING];
	unsigned nflying, count;
	const struct fake_answer *now; /* whose headers are asked for */
	char values[8][4096];
	unsigned at;
	char *sent, *url;
	char asked[64][2][2048];
	unsigned nasked;
};

static uint64_t mono_ns;

static inline uint64_t fake_mono(void)
{
	return __atomic_load_n(&mono_ns, __ATOMIC_ACQUIRE);
}

static inline int64_t fake_wall(void)
{
	return 1700000000000000000ll + (int64_t)fake_mono();
}

static const struct clock_ops fake_clock = { fake_mono, fake_wall };

static inline uint64_t fake_http_now_ms(void)
{
	return fake_mono() / 1000000;
}

/* ---- the transport's table ---- */

static inline void fake_submit(struct http *h, struct http_req *req)
{
	struct fake_http *f = (struct fake_http *)h;

	req->status = req->error = 0;
	req->error_text[0] = 0;
	req->content_length = -1;
	req->body_received = req->body_sent = req->first_byte_ns = 0;
	req->cancelled = 0;
	req->sent = req->stale = req->unreadable = false;
	req->impl = NULL;
	mutex_lock(&f->lock);
	BUG_ON(f->nfresh == MAX_FLYING);
	f->fresh[f->nfresh++] = req;
	mutex_unlock(&f->lock);
}

static inline void fake_cancel(struct http *h, struct http_req *req)
{
	__atomic_store_n(&req->cancelled, 1, __ATOMIC_RELEASE);
}

/* Calls fn for each "Name: value" line. */
static inline void
lines(struct fake_http *f,
      void (*fn)(const char *name, const char *value, void *arg), void *arg)
{
	const char *p = f->now ? f->now->headers : NULL;

	while (p && *p) {
		char line[4096], *colon;
		size_t n = strcspn(p, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)n, p);
		colon = strchr(line, ':');
		BUG_ON(!colon);
		*colon = 0;
		fn(line, colon + 1 + strspn(colon + 1, " "), arg);
		p += n + (p[n] == '\n');
	}
}

struct wanted {
	const char *name;
	char *value;
	bool found;
};

static inline void look(const char *name, const char *value, void *arg)
{
	struct wanted *w = arg;

	if (w->found || strcasecmp(name, w->name) != 0)
		return;
	w->found = true;
	snprintf(w->value, 4096, "%s", value);
}

static const char *fake_header(struct http *h, const struct http_req *req,
			       const char *name)
{
	struct fake_http *f = (struct fake_http *)h;
	struct wanted w = { name, f->values[f->at++ % 8], false };

	if (!req->impl)
		return NULL;
	lines(f, look, &w);
	return w.found ? w.value : NULL;
}

static inline void
fake_each(struct http *h, const struct http_req *req,
	  void (*fn)(const char *name, const char *value, void *arg), void *arg)
{
	lines((struct fake_http *)h, fn, arg);
}

static inline void fake_stats(struct http *h, struct http_stats *ret)
{
	ret->requests = ((struct fake_http *)h)->count;
}

static inline void fake_no_destroy(struct http *h)
{
}

static const struct http_ops fake_ops = {
	.submit = fake_submit,
	.cancel = fake_cancel,
	.header = fake_header,
	.each = fake_each,
	.stats = fake_stats,
	.destroy = fake_no_destroy,
};

/* ---- what is asked ---- */

static inline void keep_asked(struct fake_http *f, const struct http_req *req)
{
	f->nasked = 0;
	for (unsigned i = 0; i < req->nheaders && i < 64; i++, f->nasked++) {
		snprintf(f->asked[i][0], sizeof(f->asked[i][0]), "%s",
			 req->headers[i].name);
		snprintf(f->asked[i][1], sizeof(f->asked[i][1]), "%s",
			 req->headers[i].value);
	}
	free(f->url);
	f->url = xstrdup(req->url);
}

static inline void keep_sent(struct fake_http *f, struct http_req *req)
{
	size_t n = req->body_len < SENT_MAX ? req->body_len : SENT_MAX;

	free(f->sent);
	f->sent = xcalloc(1, n + 1);
	if (req->body_fd >= 0)
		CHECK_INT(pread(req->body_fd, f->sent, n, req->body_off), n);
	else if (n)
		memcpy(f->sent, req->body, n);
}

/* A header of the last request; NULL if it had none of that name. */
static inline const char *fake_http_asked(struct fake_http *f,
					  const char *header)
{
	for (unsigned i = 0; i < f->nasked; i++)
		if (strcasecmp(f->asked[i][0], header) == 0)
			return f->asked[i][1];
	return NULL;
}

static inline void check_asked(struct fake_http *f, const struct fake_answer *a,
			       const struct http_req *req)
{
	static const char *const names[] = { "GET", "HEAD", "PUT", "POST",
					     "DELETE" };
	char name[128];
	size_t n;

	if (a->method)
		CHECK_STR(names[req->method], a->method);
	if (a->url && !strstr(req->url, a->url))
		CHECK_STR(req->url, a->url);
	if (a->absent)
		CHECK(fake_http_asked(f, a->absent) == NULL);
	if (!a->header)
		return;
	n = strcspn(a->header, ":");
	snprintf(name, sizeof(name), "%.*s", (int)n, a->header);
	CHECK_STR(fake_http_asked(f, name), a->header + n + 2);
}

static inline uint64_t deadline_of(const struct http_req *req)
{
	return req->deadline_ns +
	       (req->byte_rate ?
			req->body_sent * 1000 / req->byte_rate * 1000000 :
			0);
}

static inline void start(struct fake_http *f, struct http_req *req)
{
	uint64_t from = fake_mono();
	struct fake_flight *fl = &f->flying[f->nflying++];

	BUG_ON(f->nflying == MAX_FLYING);
	f->count++;
	if (!f->script->status && !f->script->error) {
		printf("# not in the script: %d %s\n", req->method, req->url);
		check_title_failed++;
		exit(check_done());
	}
	keep_asked(f, req);
	keep_sent(f, req);
	check_asked(f, f->script, req);
	if (req->not_before_ns > from)
		from = req->not_before_ns;
	fl->req = req;
	fl->answer = f->script++;
	fl->from_ns = from;
	fl->late_told = !req->late_ms;
	fl->at_ns = from + fl->answer->takes_ms * 1000000ull;
	req->body_sent = fl->answer->unsent	? 0 :
			 fl->answer->takes_body ? fl->answer->takes_body :
						  req->body_len;
	if (req->deadline_ns && fl->at_ns > deadline_of(req))
		fl->at_ns = deadline_of(req);
}

/* ---- what is answered ---- */

static inline void finish(struct fake_http *f, struct http_req *req, int error)
{
	req->error = error;
	if (error)
		snprintf(req->error_text, sizeof(req->error_text), "%s",
			 strerror(-error));
	req->done(req);
	f->now = NULL;
}

static inline int give_body(struct http_req *req, const struct fake_answer *a)
{
	size_t n = a->body_len ? a->body_len : a->body ? strlen(a->body) : 0;
	size_t step = n > 4096 ? n / 4 : n;
	int err = 0;

	if (a->cut && a->cut < n)
		n = a->cut;
	for (size_t at = 0; at < n && !err; at += step) {
		size_t now = n - at < step ? n - at : step;

		req->body_received += now;
		err = req->on_body ? req->on_body(req, a->body + at, now) : 0;
	}
	return err;
}

static inline void set_length(struct fake_http *f, struct http_req *req,
			      const struct fake_answer *a)
{
	const char *length = fake_header(&f->base, req, "content-length");

	if (length)
		req->content_length = strtoll(length, NULL, 10);
	else if (a->body)
		req->content_length =
			(int64_t)(a->body_len ? a->body_len : strlen(a->body));
	else
		req->content_length = 0;
}

static inline void land(struct fake_http *f, const struct fake_flight *fl)
{
	struct http_req *req = fl->req;
	const struct fake_answer *a = fl->answer;
	int err = 0;

	f->now = a;
	if (req->cancelled) {
		finish(f, req, -ECANCELED);
		return;
	}
	req->sent = !a->unsent;
	req->stale = a->stale;
	if (req->deadline_ns && fake_mono() >= deadline_of(req)) {
		finish(f, req, -ETIMEDOUT);
		return;
	}
	if (a->status) {
		req->impl = f;
		req->status = a->status;
		req->first_byte_ns = fl->at_ns - fl->from_ns;
		set_length(f, req, a);
		err = req->on_head ? req->on_head(req) : 0;
		if (!err && req->method != HTTP_HEAD)
			err = give_body(req, a);
	}
	finish(f, req, err ? err : a->error);
}

/* ---- time ---- */

static inline void take_fresh(struct fake_http *f)
{
	for (;;) {
		struct http_req *req = NULL;

		mutex_lock(&f->lock);
		if (f->nfresh) {
			req = f->fresh[0];
			f->nfresh--;
			memmove(f->fresh, f->fresh + 1,
				f->nfresh * sizeof(f->fresh[0]));
		}
		mutex_unlock(&f->lock);
		if (!req)
			return;
		start(f, req);
	}
}

/* When something happens to fl next. */
static inline uint64_t next_ns(const struct fake_flight *fl)
{
	uint64_t late = fl->from_ns + fl->req->late_ms * 1000000ull;

	if (fl->req->cancelled && fl->at_ns > fake_mono())
		return fake_mono();
	return !fl->late_told && late < fl->at_ns ? late : fl->at_ns;
}

static inline bool step(struct fake_http *f)
{
	unsigned first = 0;
	struct fake_flight fl;
	uint64_t at;

	take_fresh(f);
	if (!f->nflying)
		return false;
	for (unsigned i = 0; i < f->nflying; i++)
		if (next_ns(&f->flying[i]) < next_ns(&f->flying[first]))
			first = i;
	at = next_ns(&f->flying[first]);
	if (at > fake_mono())
		__atomic_store_n(&mono_ns, at, __ATOMIC_RELEASE);
	if (!f->flying[first].req->cancelled && at < f->flying[first].at_ns) {
		f->flying[first].late_told = true;
		f->flying[first].req->on_late(f->flying[first].req);
		return true;
	}
	fl = f->flying[first];
	memmove(&f->flying[first], &f->flying[first + 1],
		(--f->nflying - first) * sizeof(fl));
	land(f, &fl);
	return true;
}

static inline void mark(struct store_req *req)
{
	__atomic_store_n((bool *)req->arg, true, __ATOMIC_RELEASE);
}

/* Several at once, until all have ended. */
static inline void fake_http_run(struct fake_http *f, struct store *s,
				 struct store_req **reqs, unsigned n)
{
	bool ended[MAX_FLYING] = { false };
	unsigned idle = 0, left = n;

	for (unsigned i = 0; i < n; i++) {
		reqs[i]->done = mark;
		reqs[i]->arg = &ended[i];
		store_submit(s, reqs[i]);
	}
	while (left || f->nflying) {
		if (step(f)) {
			idle = 0;
		} else {
			usleep(100);
			BUG_ON(++idle > IDLE_TURNS);
		}
		left = 0;
		for (unsigned i = 0; i < n; i++)
			left += !__atomic_load_n(&ended[i], __ATOMIC_ACQUIRE);
	}
}

/* Submits req to s and runs until it has ended; returns req->error. */
static inline int fake_http_call(struct fake_http *f, struct store *s,
				 struct store_req *req)
{
	fake_http_run(f, s, &req, 1);
	return req->error;
}

/* ---- life ---- */

/* The script ends with a zeroed answer (neither status nor error). */
static inline struct fake_http *
fake_http_create(const struct fake_answer *script)
{
	struct fake_http *f = xcalloc(1, sizeof(*f));

	f->base.ops = &fake_ops;
	f->script = script;
	mutex_init(&f->lock);
	mono_ns = 1000000000;
	clock_replace(&fake_clock);
	return f;
}

static inline void check_used_up(struct fake_http *f)
{
	CHECK(f->script->status == 0 && f->script->error == 0);
}

/* A new script; the old must be used up. */
static inline void fake_http_script(struct fake_http *f,
				    const struct fake_answer *script)
{
	check_used_up(f);
	f->script = script;
}

static inline struct http *fake_http_http(struct fake_http *f)
{
	return &f->base;
}

/* The bytes sent with the last request. */
static inline const char *fake_http_sent(struct fake_http *f)
{
	return f->sent ? f->sent : "";
}

static inline const char *fake_http_url(struct fake_http *f)
{
	return f->url ? f->url : "";
}

/* Requests started so far. */
static inline unsigned fake_http_count(struct fake_http *f)
{
	return f->count;
}

static inline void fake_http_destroy(struct fake_http *f)
{
	check_used_up(f);
	clock_replace(NULL);
	mutex_release(&f->lock);
	free(f->sent);
	free(f->url);
	free(f);
}

#endif
