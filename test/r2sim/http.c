/*
 * The HTTP side. One thread per connection: latency and a bandwidth cap are
 * then plain sleeps on an absolute clock, and hundreds of connections are as
 * many as a test needs.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "r2sim.h"

#define BODY_MAX 5363466240ull /* 5 GiB - 5 MiB */

_Atomic uint64_t conn_bandwidth;
_Atomic int latency_ms;
_Atomic int64_t clock_offset_s;
const char *path_prefix = "", *domain;

/* ---- time ---- */

uint64_t mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

void sleep_until_us(uint64_t us)
{
	struct timespec ts = { .tv_sec = us / 1000000,
			       .tv_nsec = us % 1000000 * 1000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
		;
}

int64_t sim_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (ts.tv_sec + clock_offset_s) * 1000ll + ts.tv_nsec / 1000000;
}

void http_date(int64_t s, char out[40])
{
	time_t t = s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* ---- what was asked ---- */

const char *req_header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND,
					   name);
}

const char *req_arg(const struct request *r, const char *name)
{
	for (unsigned i = 0; i < r->nparams; i++)
		if (strcmp(r->params[i].name, name) == 0)
			return r->params[i].value;
	return NULL;
}

bool req_is(const struct request *r, const char *method)
{
	return strcmp(r->method, method) == 0;
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *c)
{
	struct request *r = xalloc(sizeof(*r));
	size_t n = strcspn(uri, "?");

	r->connection = c;
	r->body.fd = -1;
	r->raw_path = strndup(uri, n);
	r->raw_query = xstrdup(uri[n] ? uri + n + 1 : "");
	return r;
}

/* The server's own reading of the query is used, not the library's. */
static size_t unescape(void *cls, struct MHD_Connection *c, char *s)
{
	return strlen(s);
}

static char *decode_form(const char *s)
{
	char *copy = xstrdup(s), *out;

	for (char *p = copy; *p; p++)
		if (*p == '+')
			*p = ' ';
	out = percent_decode(copy);
	if (!out)
		return copy;
	free(copy);
	return out;
}

static void parse_query(struct request *r)
{
	char *copy = xstrdup(r->raw_query), *rest = copy, *pair;
	size_t max = 1;

	for (const char *p = copy; *p; p++)
		max += *p == '&';
	r->params = xalloc(max * sizeof(*r->params));
	while ((pair = strsep(&rest, "&"))) {
		struct param *p = &r->params[r->nparams];
		char *equal = strchr(pair, '=');

		if (!*pair)
			continue;
		if (equal)
			*equal = 0;
		p->name = decode_form(pair);
		p->value = decode_form(equal ? equal + 1 : "");
		r->nparams++;
	}
	free(copy);
}

/* "<bucket>.<domain>" in Host; NULL if it is not that. */
static char *host_bucket(const struct request *r)
{
	const char *host = domain ? req_header(r, "Host") : NULL;
	size_t n = host ? strcspn(host, ":") : 0,
	       m = domain ? strlen(domain) : 0;

	if (n < m + 2 || host[n - m - 1] != '.' ||
	    strncasecmp(host + n - m, domain, m) != 0)
		return NULL;
	return strndup(host, n - m - 1);
}

static void parse_key(struct request *r, const char *raw)
{
	r->name = percent_decode(raw);
	r->key = r->name ? nfc(r->name) : NULL;
	r->bad_name = !r->key;
}

static void parse_path(struct request *r)
{
	const char *p = r->raw_path, *slash;
	char *bucket = host_bucket(r);

	if (strncmp(p, path_prefix, strlen(path_prefix)) == 0)
		p += strlen(path_prefix);
	p += *p == '/';
	if (bucket) {
		r->bucket = bucket;
		if (*p)
			parse_key(r, p);
		return;
	}
	if (!*p)
		return;
	slash = strchr(p, '/');
	bucket = slash ? strndup(p, slash - p) : xstrdup(p);
	r->bucket = percent_decode(bucket);
	r->bad_name = !r->bucket;
	free(bucket);
	if (slash && slash[1])
		parse_key(r, slash + 1);
}

/* ---- the answer ---- */

static void add_headers(struct request *r)
{
	static unsigned serial;
	static __thread int64_t last = -1;
	static __thread char date[40];
	int64_t now = sim_now_ms() / 1000;
	char ray[40];

	if (now != last)
		http_date(now, date);
	last = now;
	reply_header(r, "Date", date);
	reply_header(r, "Server", "r2sim");
	snprintf(ray, sizeof(ray), "%016x-SIM",
		 __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	reply_header(r, "CF-Ray", ray);
}

static enum MHD_Result send_answer(struct request *r)
{
	enum MHD_Result result = MHD_NO;

	r->answered = true;
	if (r->cut) {
		if (!r->fault || !r->fault->value)
			reply_reset(r);
	} else {
		add_headers(r);
		result = MHD_queue_response(r->connection, r->status,
					    r->response);
	}
	if (r->response)
		MHD_destroy_response(r->response);
	return result;
}

static enum MHD_Result answer(struct request *r)
{
	uint64_t ms;

	r->body_us = mono_us();
	if (r->control) {
		control_run(r);
		return send_answer(r);
	}
	if (!r->response)
		route_run(r);
	count_request(r);
	ms = latency_ms + r->wait_ms;
	if (ms)
		sleep_until_us(r->body_us + ms * 1000);
	limit_end_write(r);
	return send_answer(r);
}

/* ---- requests as they come ---- */

/* The library would answer "100 Continue", which R2 never does; the value lies
 * in the connection's own buffer, and only this makes it look away. */
static enum MHD_Result unexpect(void *cls, enum MHD_ValueKind kind,
				const char *name, const char *value)
{
	if (strcasecmp(name, "Expect") == 0 && value && *value)
		*(char *)(uintptr_t)value = '-';
	return MHD_YES;
}

static void begin_body(struct request *r)
{
	const char *sha = req_header(r, "x-amz-content-sha256");

	body_begin(&r->body, sha && strlen(sha) == 64);
	for (unsigned i = 0; checksum_header(i) && !r->body.sum; i++)
		if (req_header(r, checksum_header(i)))
			r->body.sum = checksum_new(i);
}

/* Answered at once, with the body unread. */
static bool refused_early(struct request *r)
{
	const char *length = req_header(r, "Content-Length");

	if (!length) {
		op_fail(r, "MissingContentLength");
		return true;
	}
	if (strtoull(length, NULL, 10) > BODY_MAX) {
		op_fail(r, "EntityTooLarge");
		return true;
	}
	return false;
}

static enum MHD_Result begin(struct request *r, const char *method)
{
	r->begun = true;
	r->method = method;
	r->start_us = mono_us();
	parse_query(r);
	r->control = strncmp(r->raw_path, "/_r2sim/", 8) == 0;
	if (!r->control) {
		parse_path(r);
		route_begin(r);
		limit_begin(r);
	}
	if (!req_is(r, "PUT") && !req_is(r, "POST"))
		return MHD_YES;
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, unexpect,
				  NULL);
	begin_body(r);
	return refused_early(r) ? answer(r) : MHD_YES;
}

static void take_data(struct request *r, const char *data, size_t n)
{
	uint64_t rate = conn_bandwidth;

	if (!r->body.md5)
		return;
	body_add(&r->body, data, n);
	if (!r->control)
		link_wait(n);
	if (rate && !r->control)
		sleep_until_us(r->start_us + r->body.len * 1000000 / rate);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **arg)
{
	struct request *r = *arg;

	if (!r->begun)
		return begin(r, method);
	if (*size) {
		take_data(r, data, *size);
		*size = 0;
		return MHD_YES;
	}
	return r->answered ? MHD_YES : answer(r);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **arg,
			 enum MHD_RequestTerminationCode why)
{
	struct request *r = *arg;

	if (!r)
		return;
	limit_end(r);
	body_release(&r->body);
	for (unsigned i = 0; i < r->nparams; i++) {
		free(r->params[i].name);
		free(r->params[i].value);
	}
	free(r->params);
	free(r->raw_path);
	free(r->raw_query);
	free(r->bucket);
	free(r->key);
	free(r->name);
	free(r);
	*arg = NULL;
}

struct MHD_Daemon *http_start(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION |
					MHD_USE_INTERNAL_POLLING_THREAD |
					MHD_USE_POLL | MHD_USE_TCP_FASTOPEN,
				0, NULL, NULL, on_request, NULL,
				MHD_OPTION_SOCK_ADDR, &a,
				MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
				MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
				MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
				MHD_OPTION_CONNECTION_LIMIT, 2048u,
				MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				(size_t)524288, MHD_OPTION_THREAD_STACK_SIZE,
				(size_t)262144, MHD_OPTION_END);
}
