/*
 * Endpoints and bucket names: checked before anything is sent, so that a
 * typing error is told as one.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r2/r2.h"

char *r2_endpoint_for_account(const char *account_id, const char *jurisdiction)
{
	bool plain = !jurisdiction || !*jurisdiction ||
		     strcmp(jurisdiction, "default") == 0;

	return xasprintf("https://%s%s%s.r2.cloudflarestorage.com", account_id,
			 plain ? "" : ".", plain ? "" : jurisdiction);
}

static bool loopback(const char *host, size_t n)
{
	static const char *const names[] = { "localhost", "127.", "[::1]" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (n >= strlen(names[i]) &&
		    strncmp(host, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

int r2_endpoint_check(const char *endpoint, bool allow_http, char *why,
		      size_t why_len)
{
	bool https = strncmp(endpoint, "https://", 8) == 0;
	const char *host = endpoint + (https ? 8 : 7);
	size_t n;

	if (!https && strncmp(endpoint, "http://", 7) != 0) {
		snprintf(why, why_len,
			 "endpoint \"%s\" must begin with https://", endpoint);
		return -EINVAL;
	}
	n = strcspn(host, "/?#");
	if (n == 0 || host[n] == '?' || host[n] == '#' ||
	    strpbrk(host, " \t\r\n?#@")) {
		snprintf(why, why_len,
			 "endpoint \"%s\" is not of the form "
			 "https://HOST[:PORT][/PREFIX]",
			 endpoint);
		return -EINVAL;
	}
	if (!https && !allow_http && !loopback(host, n)) {
		snprintf(why, why_len,
			 "endpoint \"%s\" is plain http: use https, or give "
			 "--allow-http if the network is trusted",
			 endpoint);
		return -EINVAL;
	}
	return 0;
}

int r2_bucket_check(const char *bucket)
{
	size_t n = strlen(bucket);

	if (n < 3 || n > 63 || bucket[0] == '-' || bucket[n - 1] == '-')
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)bucket[i]) &&
		    !isdigit((unsigned char)bucket[i]) && bucket[i] != '-')
			return -EINVAL;
	return 0;
}
