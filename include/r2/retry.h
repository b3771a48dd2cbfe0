/*
 * What an answer means: errno, and whether to ask again. Pure.
 * Source: r2-facts, retry policy (4.2) and error table (4.1).
 */
#ifndef R2_RETRY_H
#define R2_RETRY_H

#include <stdint.h>

#include "base/err.h"

enum retry_class {
	RETRY_NO,
	RETRY_NOW, /* another form of the request, or another connection */
	RETRY_BACKOFF, /* transient: exponential, full jitter */
	RETRY_THROTTLE, /* 429/503: at least a second, fewer in flight */
	RETRY_CREDS, /* 401: once, after reading the credentials again */
	RETRY_SKEW, /* once, with the clock offset learnt from Date */
};

struct verdict {
	int error; /* 0 or -errno */
	enum retry_class retry;
};

/* status: HTTP; code: the S3 error code, "" if the body had none. */
struct verdict retry_judge(int status, const char *code);

/* The status that an <Error> with this code comes with, for one in the body
 * of a 200; 500 for an unknown one. */
int retry_status(const char *code);

/* A transport error (-errno of net/http.h). */
struct verdict retry_judge_transport(int error);

/* What the caller hears when there was no good answer until the deadline. */
int retry_given_up(int error);

/* Nanoseconds to wait before attempt n (1 = first retry). retry_after_s: what
 * the server asked for, 0 if nothing. */
uint64_t retry_delay_ns(enum retry_class retry, unsigned n,
			unsigned retry_after_s);

#endif
