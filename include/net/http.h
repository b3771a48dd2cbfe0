/*
 * HTTP transport, caller's side: bytes out, bytes in, nothing about S3.
 *
 * A struct http_req is plain data owned by the caller from before
 * http_submit until done() has been called; done() is called exactly once
 * for every submitted request, on an event-loop thread, and must not block.
 * on_late, on_head and on_body run on the same thread, in order, before
 * done().
 *
 * The transport does not retry, not even on a connection the server had
 * closed meanwhile, because only the caller knows whether a request may reach
 * the server twice. It does not follow redirects, never decodes a
 * Content-Encoding and never sends "Expect".
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"

struct http;

struct http_header {
	const char *name, *value;
};

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE };

struct http_req {
	/* the request: borrowed until done() */
	enum http_method method;
	const char
		*url; /* absolute; path and query already encoded, sent as is */
	const struct http_header *headers;
	unsigned nheaders;
	/* body to send: memory, or a file range (read with base/fsio.h) when
	 * body_fd >= 0; -EBADMSG if the file ends before it */
	const void *body;
	int body_fd; /* -1 if none */
	off_t body_off;
	uint64_t body_len; /* Content-Length is always sent for PUT and POST */
	uint64_t not_before_ns; /* monotonic: delayed start (retry backoff), 0 now */
	uint64_t deadline_ns; /* monotonic: fails with -ETIMEDOUT, 0 = none */
	/* Bytes a second: each byte of a body, sent or received, puts
	 * deadline_ns off by its share, so that a large body has its time and
	 * a server that moves none of it has not. 0: the deadline stands. */
	uint32_t byte_rate;
	/* no byte moved for so long, either way and counting what the other
	 * end has not acknowledged yet: -ETIMEDOUT, 0 = none */
	uint32_t stall_ms;
	/* on_late is called once if no head has arrived so long after the
	 * request was started (not: submitted). 0: never. */
	uint32_t late_ms;
	void (*on_late)(struct http_req *req);

	/* the answer */
	/* Status line and headers have arrived (1xx excluded). Non-zero return
	 * aborts the transfer with that -errno. May be NULL. */
	int (*on_head)(struct http_req *req);
	/* n body bytes; non-zero return aborts with that -errno. */
	int (*on_body)(struct http_req *req, const void *data, size_t n);
	void (*done)(struct http_req *req);
	int status; /* HTTP status, 0 if none arrived */
	int error; /* 0, or -errno of the transport; a 503 is not an error here */
	char error_text[160]; /* what the transport says about error */
	int64_t content_length; /* -1 unknown */
	uint64_t body_received;
	uint64_t body_sent;
	uint64_t first_byte_ns; /* submit to first header byte, 0 if none */
	bool fresh_connection; /* this request opened its connection */
	bool sent; /* the server may have seen it */
	bool stale; /* error: a kept connection was closed; no answer began */
	bool unreadable; /* error: the body could not be read from body_fd */

	void *arg; /* the caller's */
	struct list link; /* the transport's while submitted */
	void *impl, *loop; /* the transport's while submitted */
	int cancelled; /* the transport's */
};

struct http_stats {
	uint64_t connections_opened;
	uint64_t requests;
	uint64_t bytes_sent, bytes_received;
	unsigned active, queued;
};

/* Starts it; never blocks, never fails (failure comes through done). */
void http_submit(struct http *h, struct http_req *req);

/* Asks for an early end: done() follows soon with -ECANCELED, unless it was
 * already on its way. Safe from any thread while done() has not run. */
void http_cancel(struct http *h, struct http_req *req);

/* Value of a response header (case-insensitive), NULL if absent. Only inside
 * on_head, on_body and done. */
const char *http_header_get(struct http *h, const struct http_req *req,
			    const char *name);

/* Calls fn for every response header, in order. Same times as above. */
void http_header_each(struct http *h, const struct http_req *req,
		      void (*fn)(const char *name, const char *value,
				 void *arg),
		      void *arg);

void http_stats_get(struct http *h, struct http_stats *ret);

/* Cancels what runs, waits for the callbacks, joins the threads. */
void http_destroy(struct http *h);

struct http_config {
	unsigned max_connections; /* in parallel, to all hosts; default 64 */
	unsigned loops; /* event-loop threads; 0: by the processors */
	uint32_t connect_timeout_ms; /* default 5000 */
	const char *ca_bundle; /* NULL: the system's */
	const char *user_agent; /* NULL: none */
};

/* The curl transport. Call after fork. -errno on failure. */
MUST_CHECK int http_curl_create(const struct http_config *config,
				struct http **ret);

#endif
