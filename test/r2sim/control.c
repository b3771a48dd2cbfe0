/*
 * /_r2sim/: what a test turns and reads while the server runs. Unsigned, not
 * counted, never delayed.
 */
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

static bool set_limits(struct request *r)
{
	for (unsigned i = 0; i < r->nparams; i++)
		if (!limit_set(r->params[i].name, r->params[i].value))
			return false;
	return true;
}

static void expire(struct request *r, struct text *t)
{
	const char *ms = req_arg(r, "ms");
	unsigned n = 0;

	pthread_rwlock_wrlock(&objects_lock);
	for (struct bucket *b = bucket_after(NULL); b;
	     b = bucket_after(b->name))
		n += upload_expire(b, ms ? strtoll(ms, NULL, 10) : 604800000);
	pthread_rwlock_unlock(&objects_lock);
	text_add(t, "{\"aborted\": %u}\n", n);
}

static void load_faults(const char *rules, struct text *t)
{
	int bad = fault_load(rules);

	clock_offset_s = 0;
	if (bad)
		text_add(t, "{\"bad_line\": %d}\n", bad);
}

/* "ID SECRET [TOKEN]"; nothing: no signature is asked for. */
static void set_credentials(char *s)
{
	struct credentials *c = xalloc(sizeof(*c));

	c->before = credentials;
	c->access_key = strtok_r(s, " \t\r\n", &s);
	c->secret = c->access_key ? strtok_r(NULL, " \t\r\n", &s) : NULL;
	c->session_token = c->secret ? strtok_r(NULL, " \t\r\n", &s) : NULL;
	if (c->access_key)
		c->access_key = xstrdup(c->access_key);
	if (c->session_token)
		c->session_token = xstrdup(c->session_token);
	if (c->secret)
		c->secret = xstrdup(c->secret);
	__atomic_store_n(&credentials, c, __ATOMIC_RELEASE);
}

static bool run(struct request *r, const char *what, char *body, struct text *t)
{
	const char *ms = req_arg(r, "ms"), *bytes = req_arg(r, "bytes");
	const char *skew = req_arg(r, "skew");

	if (!strcmp(what, "reset"))
		count_reset();
	else if (!strcmp(what, "latency") && ms)
		latency_ms = atoi(ms);
	else if (!strcmp(what, "bandwidth") && bytes)
		conn_bandwidth = strtoull(bytes, NULL, 10);
	else if (!strcmp(what, "link") && bytes)
		link_bandwidth = strtoull(bytes, NULL, 10);
	else if (!strcmp(what, "clock") && skew)
		clock_offset_s = strtoll(skew, NULL, 10);
	else if (!strcmp(what, "limits"))
		return set_limits(r);
	else if (!strcmp(what, "expire-uploads"))
		expire(r, t);
	else if (!strcmp(what, "faults") && body)
		load_faults(body, t);
	else if (!strcmp(what, "credentials") && body)
		set_credentials(body);
	else
		return !strcmp(what, "stats");
	return true;
}

void control_run(struct request *r)
{
	const char *what = r->raw_path + strlen("/_r2sim/");
	struct text t = { 0 };
	char *body = r->body.md5 ? body_text(&r->body, 1 << 20) : NULL;

	if (!run(r, what, body, &t)) {
		op_error(r, 404, "RouteNotFound",
			 "No such control, or a parameter is missing or wrong: "
			 "%s",
			 what);
	} else {
		if (!t.len)
			count_json(&t);
		r->status = 200;
		r->response = MHD_create_response_from_buffer(
			t.len, t.s, MHD_RESPMEM_MUST_FREE);
		reply_header(r, "Content-Type", "application/json");
	}
	free(body);
}
