/* Who may ask, and what a missing bucket looks like. */
#include <stdlib.h>

#include "conformance.h"
#include "r2/r2.h"

/* A second store, with other credentials or another bucket. The environment
 * stays his as long as he lives, because a 401 has it read again. */
struct stranger {
	struct http *http;
	struct creds *creds;
	struct store *store;
	char *id, *secret; /* the real ones */
};

static void stranger_init(struct stranger *s, const char *bucket,
			  const char *id, const char *secret)
{
	struct creds_config none = { NULL, NULL };
	struct http_config http = { .max_connections = 2 };
	struct r2_config config = { .endpoint = getenv("CONFORMANCE_ENDPOINT"),
				    .bucket = bucket,
				    .deadline_ms = 10000 };
	char why[256];

	s->id = xstrdup(getenv("R2_ACCESS_KEY_ID"));
	s->secret = xstrdup(getenv("R2_SECRET_ACCESS_KEY"));
	if (id)
		setenv("R2_ACCESS_KEY_ID", id, 1);
	if (secret)
		setenv("R2_SECRET_ACCESS_KEY", secret, 1);
	if (creds_create(&none, &s->creds, why, sizeof(why)) ||
	    http_curl_create(&http, &s->http) ||
	    r2_create(&config, s->http, s->creds, &s->store))
		BUG("stranger: %s", why);
}

static void stranger_release(struct stranger *s)
{
	store_destroy(s->store);
	http_destroy(s->http);
	creds_destroy(s->creds);
	setenv("R2_ACCESS_KEY_ID", s->id, 1);
	setenv("R2_SECRET_ACCESS_KEY", s->secret, 1);
	free(s->id);
	free(s->secret);
}

static int stranger_head(struct ctx *c, struct stranger *s)
{
	struct store_req req = op_req(STORE_HEAD, key(c, "k"));
	int err = store_call(s->store, &req, NULL);

	store_req_release(&req);
	return err;
}

static void wrong_secret(struct ctx *c)
{
	struct stranger s;

	stranger_init(&s, c->bucket, NULL, "not the secret");
	IS(c, stranger_head(c, &s), -EACCES);
	stranger_release(&s);
}

static void wrong_id(struct ctx *c)
{
	struct stranger s;

	stranger_init(&s, c->bucket, "ffffffffffffffffffffffffffffffff", NULL);
	IS(c, stranger_head(c, &s), -EACCES);
	stranger_release(&s);
}

static void no_bucket(struct ctx *c)
{
	struct store_req req;
	struct stranger s;

	stranger_init(&s, "no-such-bucket-here", NULL, NULL);
	IS(c, stranger_head(c, &s), -ENOENT);
	store_req_init(&req, STORE_LIST);
	IS(c, store_call(s.store, &req, NULL), -ENOENT);
	OK(c, strstr(req.why, "NoSuchBucket") != NULL);
	store_req_release(&req);
	stranger_release(&s);
}

static void wrong_clock(struct ctx *c)
{
	put_text(c, key(c, "k"), "x");
	set_clock_ahead(3600);
	has_text(c, key(c, "k"), "x");
	IS(c, (r2_clock_skew_s(c->store) + 60) / 120, 30);
	set_clock_ahead(0);
}

static const struct conformance_case cases[] = {
	{ "a wrong secret is refused", wrong_secret },
	{ "an unknown key id is refused", wrong_id },
	{ "a bucket that is not there", no_bucket },
	{ "a clock an hour ahead is corrected",
	  wrong_clock,
	  { { "miniflare", "sends no Date to learn from" } } },
};

const struct conformance_set access_set = { cases, ARRAY_SIZE(cases) };
