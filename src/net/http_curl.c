/*
 * libcurl's multi interface behind net/http.h: the only file that includes it.
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
 *
 * Easy handles are reused: making one costs more than a small request.
 *
 * curl repeats a request by itself when a kept connection turns out to be
 * closed. A write would then be done twice without anybody knowing that it
 * may have been; the pre-request hook sees the repetition and refuses it.
 */
#include <curl/curl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "base/lock.h"
#include "net/http_impl.h"

enum {
	MAX_HEADERS = 1024, /* 8 KiB of metadata may be hundreds of pairs */
	MAX_HEADER_BYTES = 65536,
	TICK_MS = 50, /* how often deadlines and stalls are looked at */
	RECEIVE_BYTES = 512 * 1024,
	SEND_BYTES = 256 * 1024,
};

struct loop;

struct transfer {
	struct http_req *req;
	struct loop *loop;
	CURL *easy;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];
	/* response headers: name NUL value NUL, offsets into text */
	char text[MAX_HEADER_BYTES];
	size_t text_len;
	unsigned nheaders;
	struct {
		unsigned name, value;
	} header[MAX_HEADERS];
	bool head_given, late_told;
	int abort; /* -errno a callback returned */
	uint64_t sent;
	uint64_t started_ns, moved_ns;
	unsigned requests; /* curl has sent for this transfer */
	int fd; /* of the connection, -1 unknown */
	int unacked; /* bytes in the socket when last looked at */
	struct transfer *next_free;
};

struct loop {
	struct curl_http *http;
	pthread_t thread;
	CURLM *multi;
	struct mutex lock;
	/* guarded by lock */
	struct list incoming;
	bool ending;
	/* the loop thread's own */
	struct list waiting; /* delayed, or no connection free */
	struct transfer **active;
	unsigned nactive, max_active;
	struct transfer *free;
	int *fds; /* open sockets */
	unsigned nfds, max_fds;
	atomic_bool cancels;
	atomic_uint load; /* requests that have not ended */
};

struct curl_http {
	struct http base;
	struct http_config config;
	char *ca_bundle, *user_agent;
	struct loop *loops;
	unsigned nloops;
	atomic_ullong opened, requests, sent, received;
	atomic_uint active, queued;
};

static int errno_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
		return -EPROTO;
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return -ECONNRESET;
	default:
		return -EIO;
	}
}

/* ---- callbacks of one transfer ---- */

static void moved(struct transfer *t)
{
	t->moved_ns = clock_mono_ns();
}

/* -EMSGSIZE: with some of the headers missing the rest would mislead. */
static int keep_header(struct transfer *t, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	size_t name_len, value_len;

	if (!colon)
		return 0;
	if (t->nheaders == MAX_HEADERS || t->text_len + n + 2 > sizeof(t->text))
		return -EMSGSIZE;
	name_len = colon - line;
	for (colon++; colon < line + n && (*colon == ' ' || *colon == '\t');)
		colon++;
	value_len = line + n - colon;
	while (value_len && strchr(" \t\r\n", colon[value_len - 1]))
		value_len--;
	t->header[t->nheaders].name = t->text_len;
	memcpy(t->text + t->text_len, line, name_len);
	t->text_len += name_len;
	t->text[t->text_len++] = 0;
	t->header[t->nheaders++].value = t->text_len;
	memcpy(t->text + t->text_len, colon, value_len);
	t->text_len += value_len;
	t->text[t->text_len++] = 0;
	return 0;
}

static const char *find_header(const struct transfer *t, const char *name)
{
	for (unsigned i = 0; i < t->nheaders; i++)
		if (strcasecmp(t->text + t->header[i].name, name) == 0)
			return t->text + t->header[i].value;
	return NULL;
}

static int give_head(struct transfer *t)
{
	struct http_req *req = t->req;
	const char *length = find_header(t, "content-length");
	long status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return 0;
	t->head_given = true;
	req->status = status;
	req->content_length = length ? strtoll(length, NULL, 10) : -1;
	req->first_byte_ns = clock_mono_ns() - t->started_ns;
	return req->on_head ? req->on_head(req) : 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	moved(t);
	n *= size;
	if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		t->nheaders = 0;
		t->text_len = 0;
	} else if (n <= 2 && !t->head_given) {
		t->abort = give_head(t);
	} else {
		t->abort = keep_header(t, line, n);
	}
	return t->abort ? 0 : n;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct http_req *req = t->req;

	moved(t);
	n *= size;
	req->body_received += n;
	if (req->on_body)
		t->abort = req->on_body(req, data, n);
	return t->abort ? 0 : n;
}

/* curl does not say which socket a transfer under way is using, so they are
 * remembered, and the one in use is found by its port. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct loop *l = arg;

	if (l->nfds == l->max_fds) {
		l->max_fds += 16;
		l->fds = xrealloc(l->fds, l->max_fds * sizeof(*l->fds));
	}
	l->fds[l->nfds++] = fd;
	return CURL_SOCKOPT_OK;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct loop *l = arg;

	for (unsigned i = 0; i < l->nfds; i++) {
		if (l->fds[i] == fd) {
			l->fds[i] = l->fds[--l->nfds];
			break;
		}
	}
	return close(fd);
}

static int find_fd(const struct loop *l, int local_port)
{
	for (unsigned i = 0; i < l->nfds; i++) {
		struct sockaddr_storage a = { 0 };
		socklen_t n = sizeof(a);

		if (getsockname(l->fds[i], (struct sockaddr *)&a, &n))
			continue;
		if (ntohs(a.ss_family == AF_INET6 ?
				  ((struct sockaddr_in6 *)&a)->sin6_port :
				  ((struct sockaddr_in *)&a)->sin_port) ==
		    local_port)
			return l->fds[i];
	}
	return -1;
}

/* Runs when the request is about to be sent on an open connection. */
static int on_request(void *arg, char *ip, char *local_ip, int port,
		      int local_port)
{
	struct transfer *t = arg;

	if (t->requests++) {
		t->req->stale = true;
		return CURL_PREREQFUNC_ABORT;
	}
	t->req->sent = true;
	if (t->req->body_len && t->req->stall_ms)
		t->fd = find_fd(t->loop, local_port);
	return CURL_PREREQFUNC_OK;
}

static size_t on_send(char *to, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	const struct http_req *req = t->req;
	uint64_t left = req->body_len - t->sent;
	ssize_t r;

	moved(t);
	n *= size;
	if (n > left)
		n = left;
	if (req->body_fd < 0) {
		memcpy(to, (const char *)req->body + t->sent, n);
		r = n;
	} else {
		r = n ? fsio()->pread(req->body_fd, to, n,
				      req->body_off + (off_t)t->sent) :
			0;
		if (r < 0 || (r == 0 && n > 0)) {
			t->req->unreadable = true;
			t->abort = r < 0 ? (int)r : -EBADMSG;
			return CURL_READFUNC_ABORT;
		}
	}
	t->sent += r;
	return r;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	t->sent = offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- start and end of a transfer ---- */

static const char *method_name(enum http_method m)
{
	static const char *const names[] = { "GET", "HEAD", "PUT", "POST",
					     "DELETE" };

	return names[m];
}

/* "name;" is curl's way to send a header without a value. */
static void set_headers(struct transfer *t)
{
	const struct http_req *req = t->req;
	struct buf line;

	buf_init(&line, MAX_HEADER_BYTES);
	for (unsigned i = 0; i < req->nheaders; i++) {
		const struct http_header *h = &req->headers[i];

		buf_reset(&line);
		buf_addf(&line, *h->value ? "%s: %s" : "%s;", h->name,
			 h->value);
		t->headers = curl_slist_append(t->headers, line.data);
	}
	buf_release(&line);
	t->headers = curl_slist_append(t->headers, "Expect:");
	t->headers = curl_slist_append(t->headers, "Accept:");
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

static void set_method(struct transfer *t)
{
	const struct http_req *req = t->req;

	if (req->method == HTTP_HEAD) {
		curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
	} else if (req->method == HTTP_PUT || req->method == HTTP_POST) {
		curl_easy_setopt(t->easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE,
				 (curl_off_t)req->body_len);
		curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, on_send);
		curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
		curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
	}
	if (req->method == HTTP_POST || req->method == HTTP_DELETE)
		curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST,
				 method_name(req->method));
}

static void set_options(struct transfer *t)
{
	const struct curl_http *h = t->loop->http;
	CURL *e = t->easy;

	curl_easy_reset(e);
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* else a resolver that hangs holds up the thread at the end */
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
#endif
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)h->config.connect_timeout_ms);
	curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
	curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(e, CURLOPT_SOCKOPTDATA, t->loop);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, t->loop);
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	if (h->ca_bundle)
		curl_easy_setopt(e, CURLOPT_CAINFO, h->ca_bundle);
	if (h->user_agent)
		curl_easy_setopt(e, CURLOPT_USERAGENT, h->user_agent);
	curl_easy_setopt(e, CURLOPT_URL, t->req->url);
}

static struct transfer *transfer_new(struct loop *l)
{
	struct transfer *t = l->free;

	if (t) {
		l->free = t->next_free;
	} else {
		t = xmalloc(sizeof(*t));
		t->easy = curl_easy_init();
		if (!t->easy)
			BUG("curl_easy_init");
	}
	t->loop = l;
	t->headers = NULL;
	t->error[0] = 0;
	t->text_len = 0;
	t->nheaders = 0;
	t->head_given = t->late_told = false;
	t->abort = 0;
	t->sent = 0;
	t->requests = 0;
	t->fd = -1;
	t->unacked = 0;
	return t;
}

static void finish(struct loop *l, struct http_req *req, int error,
		   const char *text)
{
	req->error = error;
	snprintf(req->error_text, sizeof(req->error_text), "%s", text);
	atomic_fetch_sub(&l->http->active, 1);
	atomic_fetch_sub(&l->load, 1);
	req->done(req);
}

static void transfer_end(struct transfer *t, int error, const char *text)
{
	struct loop *l = t->loop;
	struct http_req *req = t->req;
	long connects = 0;

	curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
	req->fresh_connection = connects > 0;
	req->body_sent = t->sent;
	atomic_fetch_add(&l->http->opened, connects);
	atomic_fetch_add(&l->http->received, req->body_received);
	atomic_fetch_add(&l->http->sent, t->sent);
	curl_multi_remove_handle(l->multi, t->easy);
	for (unsigned i = 0; i < l->nactive; i++) {
		if (l->active[i] == t) {
			l->active[i] = l->active[--l->nactive];
			break;
		}
	}
	finish(l, req, error, text);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->next_free = l->free;
	l->free = t;
}

static void transfer_start(struct loop *l, struct http_req *req)
{
	struct transfer *t = transfer_new(l);

	t->req = req;
	t->started_ns = t->moved_ns = clock_mono_ns();
	set_options(t);
	set_headers(t);
	set_method(t);
	req->impl = t;
	l->active[l->nactive++] = t;
	atomic_fetch_sub(&l->http->queued, 1);
	atomic_fetch_add(&l->http->active, 1);
	if (curl_multi_add_handle(l->multi, t->easy))
		transfer_end(t, -EIO, "curl_multi_add_handle failed");
}

/* ---- the loop ---- */

static bool is_cancelled(struct http_req *req)
{
	return __atomic_load_n(&req->cancelled, __ATOMIC_ACQUIRE);
}

static void drop_waiting(struct loop *l, struct http_req *req, int error,
			 const char *text)
{
	list_del(&req->link);
	atomic_fetch_sub(&l->http->queued, 1);
	atomic_fetch_add(&l->http->active, 1);
	finish(l, req, error, text);
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
		if (t->req->unreadable)
			transfer_end(t, t->abort, "the body cannot be read");
		else if (t->abort)
			transfer_end(t, t->abort, "refused by the caller");
		else if (t->req->stale)
			transfer_end(t, -ECONNRESET,
				     "the server had closed the connection");
		else
			transfer_end(t, errno_of(code),
				     code == CURLE_OK ? "" :
				     t->error[0]      ? t->error :
							curl_easy_strerror(code));
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
	return req->impl ? find_header(req->impl, name) : NULL;
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
	for (struct transfer *t = l->free, *next; t; t = next) {
		next = t->next_free;
		curl_easy_cleanup(t->easy);
		free(t);
	}
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
