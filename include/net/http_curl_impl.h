/*
 * Internals of the curl transport, shared by http_curl.c (the event loops, and
 * the interface) and http_transfer.c (one request as curl sees it).
 */
#ifndef NET_HTTP_CURL_IMPL_H
#define NET_HTTP_CURL_IMPL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "net/http_impl.h"

enum {
	MAX_HEADERS = 1024, /* 8 KiB of metadata may be hundreds of pairs */
	MAX_HEADER_BYTES = 65536,
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

/* ---- http_transfer.c: on the loop's thread ---- */

/* There is room in l->active. */
void transfer_start(struct loop *l, struct http_req *req);
/* The request is done; the transfer is kept for the next. */
void transfer_end(struct transfer *t, int error, const char *text);
/* The same, after curl has ended it with this code. */
void transfer_end_by_curl(struct transfer *t, CURLcode code);
void transfers_free(struct transfer *list); /* by next_free */

/* NULL if absent. */
const char *transfer_header(const struct transfer *t, const char *name);

/* ---- http_curl.c ---- */

/* Calls done; req was counted as active. */
void loop_finish(struct loop *l, struct http_req *req, int error,
		 const char *text);

#endif
