/*
 * What to mount: the bucket, and the endpoint it is at, from options and from
 * the environment. A contradiction is refused rather than settled by a rule
 * that nobody knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "r2/r2.h"

static const char *from_environment(const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const char *v = getenv(names[i]);

		if (v && *v)
			return v;
	}
	return NULL;
}

static int check_account(const char *id, char *why, size_t why_len)
{
	if (strlen(id) == 32 && strspn(id, "0123456789abcdefABCDEF") == 32)
		return 0;
	snprintf(why, why_len,
		 "\"%.60s\" is not an account id: give its 32 hex digits "
		 "(shown on the R2 overview page), or a whole address as "
		 "--endpoint URL",
		 id);
	return -EINVAL;
}

static int work_out_url(struct config *c, char *why, size_t why_len)
{
	static const char *const account[] = { "R2_ACCOUNT_ID" };
	static const char *const endpoint[] = { "R2_ENDPOINT",
						"AWS_ENDPOINT_URL_S3",
						"AWS_ENDPOINT_URL" };
	const char *id = c->account_id, *url = c->endpoint;

	if (id && url) {
		snprintf(why, why_len,
			 "--account-id and --endpoint exclude each other: "
			 "leave one out");
		return -EINVAL;
	}
	if (!id && !url)
		url = from_environment(endpoint, ARRAY_SIZE(endpoint));
	if (!id && !url)
		id = from_environment(account, ARRAY_SIZE(account));
	if (!id && !url) {
		snprintf(why, why_len,
			 "no endpoint: give --account-id ID (shown on the R2 "
			 "overview page) or --endpoint URL, or set "
			 "R2_ACCOUNT_ID or R2_ENDPOINT");
		return -EINVAL;
	}
	if (url && c->jurisdiction) {
		snprintf(why, why_len,
			 "--jurisdiction goes with --account-id, but the "
			 "endpoint %.200s is given: leave --jurisdiction out "
			 "or name the jurisdiction in the endpoint",
			 url);
		return -EINVAL;
	}
	if (!url && check_account(id, why, why_len))
		return -EINVAL;
	c->url = url ? xstrdup(url) :
		       r2_endpoint_for_account(id, c->jurisdiction);
	return r2_endpoint_check(c->url, c->allow_http, why, why_len);
}

int config_target(struct config *c, const char *target, char *why,
		  size_t why_len)
{
	if (strncmp(target, "r2://", 5) == 0)
		target += 5;

	size_t n = strcspn(target, "/");
	const char *prefix = target + n + strspn(target + n, "/");
	size_t len = strlen(prefix);

	c->bucket = xstrndup(target, n);
	while (len && prefix[len - 1] == '/')
		len--;
	c->prefix = xasprintf("%.*s%s", (int)len, prefix, len ? "/" : "");
	if (r2_bucket_check(c->bucket)) {
		snprintf(why, why_len,
			 "\"%.70s\" is not a bucket name: 3 to 63 of a-z, 0-9 "
			 "and -, letter or digit at both ends",
			 c->bucket);
		return -EINVAL;
	}
	if (len > 900) {
		snprintf(why, why_len, "the prefix is longer than 900 bytes");
		return -EINVAL;
	}
	return work_out_url(c, why, why_len);
}
