/*
 * One request as curl sees it: an easy handle's options and its callbacks.
 *
 * Easy handles are reused: making one costs more than a small request.
 *
 * curl repeats a request by itself when a kept connection turns out to be
 * closed. A write would then be done twice without anybody knowing that it
 * may have been; the pre-request hook sees the repetition and refuses it.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "net/http_curl_impl.h"

enum {
	RECEIVE_BYTES = 512 * 1024,
	SEND_BYTES = 256 * 1024,
};

/* ---- callbacks ---- */

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

const char *transfer_header(const struct transfer *t, const char *name)
{
	for (unsigned i = 0; i < t->nheaders; i++)
		if (strcasecmp(t->text + t->header[i].name, name) == 0)
			return t->text + t->header[i].value;
	return NULL;
}

static int give_head(struct transfer *t)
{
	struct http_req *req = t->req;
	const char *length = transfer_header(t, "content-length");
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

/* ---- start and end ---- */

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

void transfer_end(struct transfer *t, int error, const char *text)
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
	loop_finish(l, req, error, text);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->next_free = l->free;
	l->free = t;
}

void transfer_start(struct loop *l, struct http_req *req)
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

void transfer_end_by_curl(struct transfer *t, CURLcode code)
{
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

void transfers_free(struct transfer *list)
{
	for (struct transfer *t = list, *next; t; t = next) {
		next = t->next_free;
		curl_easy_cleanup(t->easy);
		free(t);
	}
}
