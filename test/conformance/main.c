/*
 * Runs all cases against one server and speaks TAP.
 *
 *   conformance SERVER ENDPOINT BUCKET [PART-OF-TITLE]
 *
 * SERVER is the name that the declared differences use. The credentials are
 * those of the environment. run.py starts the servers.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "conformance.h"
#include "r2/r2.h"

static const struct conformance_set *const sets[] = {
	&access_set, &object_set,    &key_set,	  &meta_set,	&list_set,
	&copy_set,   &multipart_set, &bucket_set, &foreign_set,
};

/* ---- what the cases use ---- */

void note(struct ctx *c, const char *file, int line, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (c->failed++ == 0)
		c->first = xasprintf("%s:%d: %s", strrchr(file, '/') + 1, line,
				     text);
}

int call(struct ctx *c, struct store_req *req)
{
	return store_call(c->store, req, NULL);
}

const char *key(struct ctx *c, const char *name)
{
	static char keys[16][STORE_KEY_MAX + 64];
	static unsigned at;
	char *k = keys[at++ % 16];

	snprintf(k, sizeof(keys[0]), "%s%s", c->prefix, name);
	return k;
}

struct store_req op_req(enum store_op op, const char *k)
{
	struct store_req req;

	store_req_init(&req, op);
	req.key = k;
	return req;
}

struct store_req get_req(const char *k, void *buf, size_t cap)
{
	struct store_req req = op_req(STORE_GET, k);

	req.buf = buf;
	req.buf_cap = cap;
	return req;
}

struct store_req put_req(struct ctx *c, const char *k, const void *data,
			 size_t n)
{
	struct store_req req = op_req(STORE_PUT, k);

	req.body.data = data;
	req.body.len = n;
	IS(c, store_body_sum(c->store, &req.body), 0);
	return req;
}

void put_text(struct ctx *c, const char *k, const char *text)
{
	struct store_req req = put_req(c, k, text, strlen(text));

	ENDS(c, &req, 0);
	store_req_release(&req);
}

void has_text(struct ctx *c, const char *k, const char *text)
{
	char buf[4096];
	struct store_req req = get_req(k, buf, sizeof(buf) - 1);

	ENDS(c, &req, text ? 0 : -ENOENT);
	buf[req.error ? 0 : req.buf_len] = 0;
	if (text)
		IS_STR(c, buf, text);
	store_req_release(&req);
}

void fill(void *p, size_t n, unsigned seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		((uint8_t *)p)[i] = x >> 24;
	}
}

/* ---- a clock that can be wrong ---- */

static int64_t ahead_ns;

static int64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec +
	       __atomic_load_n(&ahead_ns, __ATOMIC_ACQUIRE);
}

static uint64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static const struct clock_ops clock_that_can_be_wrong = { mono_ns, wall_ns };

void set_clock_ahead(int64_t seconds)
{
	__atomic_store_n(&ahead_ns, seconds * 1000000000, __ATOMIC_RELEASE);
}

/* ---- running them ---- */

struct run {
	struct http *http;
	struct creds *creds;
	struct r2_config config;
	const char *server;
	unsigned n, bad;
};

static const struct difference *difference(const struct conformance_case *k,
					   const char *server)
{
	for (unsigned i = 0; i < ARRAY_SIZE(k->differs); i++)
		if (k->differs[i].server &&
		    strcmp(k->differs[i].server, server) == 0)
			return &k->differs[i];
	return NULL;
}

static void tell(struct run *r, const struct conformance_case *k,
		 const struct ctx *c)
{
	const struct difference *d = difference(k, r->server);
	bool stale = d && !d->maybe && !c->failed;
	bool ok = d ? !stale : !c->failed;

	printf("%sok %u - %s", ok ? "" : "not ", r->n, k->title);
	if (d)
		printf(" # %s differs: %s", r->server, d->reason);
	printf("\n");
	if (c->failed)
		printf("# %s (%u in all)\n", c->first, c->failed);
	if (stale)
		printf("# declared to differ on %s, but does not\n", r->server);
	r->bad += !ok;
	fflush(stdout);
}

static void run_case(struct run *r, const struct conformance_case *k)
{
	struct ctx c = { .server = r->server, .bucket = r->config.bucket };

	snprintf(c.prefix, sizeof(c.prefix), "c%u/", ++r->n);
	if (r2_create(&r->config, r->http, r->creds, &c.store))
		BUG("r2_create");
	k->run(&c);
	store_destroy(c.store);
	tell(r, k, &c);
	free(c.first);
}

static int start(struct run *r)
{
	struct http_config http = { .max_connections = 16 };
	struct creds_config creds = { NULL, NULL };
	char why[512];
	int err = creds_create(&creds, &r->creds, why, sizeof(why));

	if (err) {
		fprintf(stderr, "%s\n", why);
		return err;
	}
	return http_curl_create(&http, &r->http);
}

int main(int argc, char **argv)
{
	struct run r = { .n = 0 };

	if (argc < 4) {
		fprintf(stderr, "usage: conformance SERVER ENDPOINT BUCKET "
				"[PART-OF-TITLE]\n");
		return 2;
	}
	r.server = argv[1];
	r.config = (struct r2_config){ .endpoint = argv[2],
				       .bucket = argv[3],
				       .deadline_ms = 20000 };
	log_level = getenv("CONFORMANCE_DEBUG") ? LOG_LEVEL_DEBUG :
						  LOG_LEVEL_ERROR;
	clock_replace(&clock_that_can_be_wrong);
	if (start(&r))
		return 1;
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		for (unsigned j = 0; j < sets[i]->n; j++)
			if (argc < 5 ||
			    strstr(sets[i]->cases[j].title, argv[4]))
				run_case(&r, &sets[i]->cases[j]);
	printf("1..%u\n", r.n);
	http_destroy(r.http);
	creds_destroy(r.creds);
	return r.bad != 0;
}
