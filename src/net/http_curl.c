/*
 * libcurl's multi interface behind net/http.h: event loops. What curl is told
 * of one request is in http_transfer.c; only these two include it.
 *
 * Each event loop is one thread that owns a multi handle, its transfers and
 * its connections; other threads reach it only through a queue and a wake-up.
 * A transfer is started only when a connection is free, so that its stall
 * clock measures the network and not our queue. Deadlines, stalls and delayed
 * starts are kept here with the replaceable clock rather than with curl's
 * timers, because a retry's backoff and an operation's deadline span several
 * transfers.
 *
 * One thread moves some gigabytes a second, or one through TLS, which a machine
 * with a faster network exceeds; then several share the connections, and a
 * request goes to the one that has the fewest.
 */
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_curl_impl.h"

enum { TICK_MS = 50 }; /* how often deadlines and stalls are looked at */

static bool is_cancelled(struct http_req *req)
{
	return __atomic_load_n(&req->cancelled, __ATOMIC_ACQUIRE);
}

void loop_finish(struct loop *l, struct http_req *req, int error,
		 const char *text)
{
	req->error = error;
	snprintf(req->error_text, sizeof(req->error_text), "%s", text);
	atomic_fetch_sub(&l->http->active, 1);
	atomic_fetch_sub(&l->load, 1);
	req->done(req);
}

static void drop_waiting(struct loop *l, struct http_req *req, int error,
			 const char *text)
{
	list_del(&req->link);
	atomic_fetch_sub(&l->http->queued, 1);
	atomic_fetch_add(&l->http->active, 1);
	loop_finish(l, req, error, text);
}

static uint64_t start_waiting(struct loop *l, bool ending)
{
	uint64_t now = clock_mono_ns(), wake = UINT64_MAX;

	list_for_each_safe(n, tmp, &l->waiting) {
		struct http_req *req = list_entry(n, struct http_req, link);

		if (ending || is_cancelled(req)) {
			drop_waiting(l, req, -ECANCELED, "cancelled");
		} else if (req->deadline_ns && now >= req->deadline_ns) {
			drop_waiting(l, req, -ETIMEDOUT, "the deadline ended");
		} else if (req->not_before_ns > now) {
			if (req->not_before_ns < wake)
				wake = req->not_before_ns;
		} else if (l->nactive < l->max_active) {
			list_del(&req->link);
			transfer_start(l, req);
		}
	}
	return wake;
}

static bool past_deadline(const struct transfer *t, uint64_t now)
{
	const struct http_req *req = t->req;
	uint64_t bytes = t->sent + req->body_received;
	uint64_t more =
		req->byte_rate ? bytes * 1000 / req->byte_rate * 1000000 : 0;

	return req->deadline_ns && now >= req->deadline_ns + more;
}

/* The kernel takes megabytes that travel for seconds after on_send. */
static bool stalled(struct transfer *t, uint64_t now)
{
	int unacked = 0;

	if (!t->req->stall_ms)
		return false;
	if (t->fd >= 0 && ioctl(t->fd, SIOCOUTQ, &unacked) == 0 &&
	    unacked != t->unacked) {
		t->unacked = unacked;
		t->moved_ns = now;
	}
	return now - t->moved_ns > t->req->stall_ms * 1000000ull;
}

static void tell_late(struct transfer *t, uint64_t now)
{
	struct http_req *req = t->req;

	if (!req->late_ms || t->late_told || t->head_given ||
	    now - t->started_ns < req->late_ms * 1000000ull)
		return;
	t->late_told = true;
	req->on_late(req);
}

static void check_active(struct loop *l, bool ending)
{
	uint64_t now = clock_mono_ns();

	for (unsigned i = l->nactive; i-- > 0;) {
		struct transfer *t = l->active[i];
		struct http_req *req = t->req;

		if (ending || is_cancelled(req))
			transfer_end(t, -ECANCELED, "cancelled");
		else if (past_deadline(t, now))
			transfer_end(t, -ETIMEDOUT, "the deadline ended");
		else if (stalled(t, now))
			transfer_end(t, -ETIMEDOUT, "no byte moved");
		else
			tell_late(t, now);
	}
}

static void reap(struct loop *l)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(l->multi, &left))) {
		struct transfer *t;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE,
				  (char **)&t);
		transfer_end_by_curl(t, code);
	}
}

static bool take_incoming(struct loop *l)
{
	bool ending;

	mutex_lock(&l->lock);
	list_splice(&l->waiting, &l->incoming);
	ending = l->ending;
	mutex_unlock(&l->lock);
	return ending;
}

static int poll_ms(struct loop *l, uint64_t wake)
{
	uint64_t now = clock_mono_ns(), ms;

	if (wake == UINT64_MAX)
		return l->nactive || !list_empty(&l->waiting) ? TICK_MS : 60000;
	ms = wake > now ? (wake - now) / 1000000 + 1 : 0;
	return ms < TICK_MS ? (int)ms : TICK_MS;
}

static void *run_loop(void *arg)
{
	struct loop *l = arg;
	uint64_t next_check = 0, wake;
	int running;

	for (;;) {
		bool ending = take_incoming(l);

		wake = start_waiting(l, ending);
		if (ending || atomic_exchange(&l->cancels, false) ||
		    clock_mono_ns() >= next_check) {
			check_active(l, ending);
			next_check = clock_mono_ns() + TICK_MS * 1000000ull;
		}
		if (ending && l->nactive == 0 && list_empty(&l->waiting))
			break;
		curl_multi_perform(l->multi, &running);
		reap(l);
		if (l->nactive < l->max_active && !list_empty(&l->waiting))
			wake = start_waiting(l, ending);
		curl_multi_poll(l->multi, NULL, 0, poll_ms(l, wake), NULL);
	}
	return NULL;
}

/* ---- the interface ---- */

static struct loop *least_loaded(struct curl_http *h)
{
	struct loop *least = &h->loops[0];

	for (unsigned i = 1; i < h->nloops; i++)
		if (atomic_load(&h->loops[i].load) < atomic_load(&least->load))
			least = &h->loops[i];
	return least;
}

static void curl_submit(struct http *base, struct http_req *req)
{
	struct curl_http *h = (struct curl_http *)base;
	struct loop *l = least_loaded(h);
	bool idle;

	req->status = req->error = 0;
	req->error_text[0] = 0;
	req->content_length = -1;
	req->body_received = req->body_sent = req->first_byte_ns = 0;
	req->fresh_connection = req->sent = false;
	req->stale = req->unreadable = false;
	req->cancelled = 0;
	req->impl = NULL;
	req->loop = l;
	atomic_fetch_add(&h->requests, 1);
	atomic_fetch_add(&h->queued, 1);
	atomic_fetch_add(&l->load, 1);
	mutex_lock(&l->lock);
	idle = list_empty(&l->incoming);
	list_add_tail(&l->incoming, &req->link);
	mutex_unlock(&l->lock);
	if (idle)
		curl_multi_wakeup(l->multi);
}

static void curl_cancel(struct http *base, struct http_req *req)
{
	struct loop *l = req->loop;

	__atomic_store_n(&req->cancelled, 1, __ATOMIC_RELEASE);
	atomic_store(&l->cancels, true);
	curl_multi_wakeup(l->multi);
}

static const char *curl_header_value(struct http *base,
				     const struct http_req *req,
				     const char *name)
{
	return req->impl ? transfer_header(req->impl, name) : NULL;
}

static void
curl_each(struct http *base, const struct http_req *req,
	  void (*fn)(const char *name, const char *value, void *arg), void *arg)
{
	const struct transfer *t = req->impl;

	for (unsigned i = 0; t && i < t->nheaders; i++)
		fn(t->text + t->header[i].name, t->text + t->header[i].value,
		   arg);
}

static void curl_stats(struct http *base, struct http_stats *ret)
{
	struct curl_http *h = (struct curl_http *)base;

	ret->connections_opened = atomic_load(&h->opened);
	ret->requests = atomic_load(&h->requests);
	ret->bytes_sent = atomic_load(&h->sent);
	ret->bytes_received = atomic_load(&h->received);
	ret->active = atomic_load(&h->active);
	ret->queued = atomic_load(&h->queued);
}

static void loop_release(struct loop *l)
{
	transfers_free(l->free);
	curl_multi_cleanup(l->multi);
	mutex_release(&l->lock);
	free(l->active);
	free(l->fds);
}

static void curl_destroy(struct http *base)
{
	struct curl_http *h = (struct curl_http *)base;

	for (unsigned i = 0; i < h->nloops; i++) {
		struct loop *l = &h->loops[i];

		mutex_lock(&l->lock);
		l->ending = true;
		mutex_unlock(&l->lock);
		curl_multi_wakeup(l->multi);
		pthread_join(l->thread, NULL);
		loop_release(l);
	}
	free(h->loops);
	free(h->ca_bundle);
	free(h->user_agent);
	free(h);
	curl_global_cleanup();
}

static int loop_start(struct curl_http *h, struct loop *l, unsigned nloops)
{
	int err;

	l->http = h;
	l->max_active = (h->config.max_connections + nloops - 1) / nloops;
	l->active = xcalloc(l->max_active, sizeof(*l->active));
	mutex_init(&l->lock);
	list_init(&l->incoming);
	list_init(&l->waiting);
	l->multi = curl_multi_init();
	if (!l->multi)
		BUG("curl_multi_init");
	curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)l->max_active);
	curl_multi_setopt(l->multi, CURLMOPT_PIPELINING,
			  (long)CURLPIPE_NOTHING);
	err = pthread_create(&l->thread, NULL, run_loop, l);
	if (err)
		return -err;
	pthread_setname_np(l->thread, "r2fs-http");
	return 0;
}

static const struct http_ops curl_ops = {
	.submit = curl_submit,
	.cancel = curl_cancel,
	.header = curl_header_value,
	.each = curl_each,
	.stats = curl_stats,
	.destroy = curl_destroy,
};

static unsigned choose_loops(const struct http_config *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = c->loops ? c->loops : cpus >= 16 ? 4 : cpus / 4;

	if (n > c->max_connections)
		n = c->max_connections;
	return n ? n : 1;
}

int http_curl_create(const struct http_config *config, struct http **ret)
{
	struct curl_http *h = xcalloc(1, sizeof(*h));
	unsigned want;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	h->base.ops = &curl_ops;
	h->config = *config;
	if (!h->config.max_connections)
		h->config.max_connections = 64;
	if (!h->config.connect_timeout_ms)
		h->config.connect_timeout_ms = 5000;
	h->ca_bundle = xstrdup(config->ca_bundle);
	h->user_agent = xstrdup(config->user_agent);
	want = choose_loops(&h->config);
	h->loops = xcalloc(want, sizeof(*h->loops));
	h->nloops = 0;
	for (unsigned i = 0; i < want; i++, h->nloops++) {
		int err = loop_start(h, &h->loops[i], want);

		if (err) {
			loop_release(&h->loops[i]);
			curl_destroy(&h->base);
			return err;
		}
	}
	*ret = &h->base;
	return 0;
}
