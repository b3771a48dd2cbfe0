/*
 * HTTP transport, implementer's side. A transport embeds struct http first
 * and fills the table; the inline functions of net/http.h call through it.
 * Implementations: net/http_curl.c and the tests' scripted transport.
 */
#ifndef NET_HTTP_IMPL_H
#define NET_HTTP_IMPL_H

#include "net/http.h"

struct http_ops {
	void (*submit)(struct http *h, struct http_req *req);
	void (*cancel)(struct http *h, struct http_req *req);
	const char *(*header)(struct http *h, const struct http_req *req,
			      const char *name);
	void (*each)(struct http *h, const struct http_req *req,
		     void (*fn)(const char *name, const char *value, void *arg),
		     void *arg);
	void (*stats)(struct http *h, struct http_stats *ret);
	void (*destroy)(struct http *h);
};

struct http {
	const struct http_ops *ops;
};

#endif
