/*
 * A first request fails for a handful of reasons, and R2's words for them are
 * few and shared (a wrong key is 401, a wrong bucket may look like a missing
 * permission). This says what each usually is and what to do.
 */
#include <string.h>

#include "cli/cli.h"

#define TROUBLE \
	"R2 is in trouble or asks for fewer requests: try again in a minute, " \
	"and see www.cloudflarestatus.com"

#define CUT \
	"the connection was cut: check the endpoint's port and https or " \
	"http, and whether a firewall or proxy is in the way"

static const struct {
	int status; /* 0: any; 5: any of 500 to 599 */
	int error; /* 0: any */
	const char *word; /* in why; NULL: any */
	const char *advice;
} table[] = {
	{ 0, 0, "should be 32",
	  "the access key id is not one of R2's (32 hex digits): copy the S3 "
	  "credentials of an R2 API token, not the token itself" },
	{ 403, 0, "SignatureDoesNotMatch",
	  "the secret access key is wrong: copy it again from the API token, "
	  "or make a new token" },
	{ 0, 0, "TimeTooSkewed",
	  "this machine's clock is off by more than 15 minutes: set it "
	  "(timedatectl set-ntp true)" },
	{ 401, 0, NULL,
	  "R2 does not know this access key id, or not without its session "
	  "token: check both, whether the API token was revoked, and that it "
	  "belongs to this account; a new one may take a minute" },
	{ 403, 0, NULL,
	  "the token may not list this bucket: check the bucket's name, the "
	  "token's permission (Object Read), which buckets it covers, and "
	  "--jurisdiction" },
	{ 404, 0, NULL,
	  "no such bucket here: check its name and account; a bucket of a "
	  "jurisdiction needs --jurisdiction eu, fedramp or us" },
	{ 429, 0, NULL, TROUBLE },
	{ 5, 0, NULL, TROUBLE },
	{ 0, -EBADMSG, NULL,
	  "what answers there does not speak S3: check --endpoint, and whether "
	  "a proxy or a login page is in the way" },
	{ 0, -EHOSTUNREACH, NULL,
	  "the endpoint's name does not resolve: check --account-id or "
	  "--endpoint, and DNS" },
	{ 0, -ECONNREFUSED, NULL,
	  "nothing answers at the endpoint: check its host and port, and "
	  "whether a firewall or proxy is in the way" },
	{ 0, -ETIMEDOUT, "eset", CUT },
	{ 0, -ETIMEDOUT, "closed", CUT },
	{ 0, -ETIMEDOUT, "missing", CUT }, /* libcurl 8.14 */
	{ 0, -EPROTO, NULL,
	  "TLS failed: the certificate is not trusted (see --ca-bundle, and "
	  "the ca-certificates package) or something intercepts the "
	  "connection" },
	{ 0, -ETIMEDOUT, NULL,
	  "no answer within --deadline: check the network, then try again" },
	{ 0, 0, NULL,
	  "check --endpoint, --region and the network, then try again" },
};

static bool has_status(int wanted, int status)
{
	return !wanted || wanted == status || wanted == status / 100;
}

void diagnose(const struct store_req *req, const struct config *cfg,
	      struct buf *out)
{
	buf_addf(out, "cannot list bucket %s at %s: %s", cfg->bucket, cfg->url,
		 req->why[0] ? req->why : strerror(-req->error));
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		if (!has_status(table[i].status, req->http_status) ||
		    (table[i].error && table[i].error != req->error) ||
		    (table[i].word && !strstr(req->why, table[i].word)))
			continue;
		buf_addf(out, "\n  %s", table[i].advice);
		return;
	}
}
