/*
 * The caller's functions go through the implementation's table.
 */
#include "net/http_impl.h"

void http_submit(struct http *h, struct http_req *req)
{
	h->ops->submit(h, req);
}

void http_cancel(struct http *h, struct http_req *req)
{
	h->ops->cancel(h, req);
}

const char *http_header_get(struct http *h, const struct http_req *req,
			    const char *name)
{
	return h->ops->header(h, req, name);
}

void http_header_each(struct http *h, const struct http_req *req,
		      void (*fn)(const char *name, const char *value,
				 void *arg),
		      void *arg)
{
	h->ops->each(h, req, fn, arg);
}

void http_stats_get(struct http *h, struct http_stats *ret)
{
	h->ops->stats(h, ret);
}

void http_destroy(struct http *h)
{
	if (h)
		h->ops->destroy(h);
}
