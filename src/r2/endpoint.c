/*
 * Endpoints and bucket names: checked before anything is sent, so that a
 * typing error is told as one, and taken apart once.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "r2/r2.h"
#include "r2/request.h"

char *r2_endpoint_for_account(const char *account_id, const char *jurisdiction)
{
	bool plain = !jurisdiction || !*jurisdiction ||
		     strcmp(jurisdiction, "default") == 0;

	return xasprintf("https://%s%s%s.r2.cloudflarestorage.com", account_id,
			 plain ? "" : ".", plain ? "" : jurisdiction);
}

/* HOST[:PORT] of n bytes: never leaves this machine? */
static bool loopback(const char *host, size_t n)
{
	CLEANUP(free) char *name = xstrndup(host, n);
	char *port = name + (*name == '[' ? strcspn(name, "]") : 0);
	struct in_addr a;

	port += strcspn(port, ":");
	if (strspn(port, ":0123456789") != strlen(port))
		return false;
	*port = 0;
	if (inet_pton(AF_INET, name, &a) == 1)
		return ntohl(a.s_addr) >> 24 == 127;
	return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0;
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

int request_target_init(struct request_target *t, const char *endpoint,
			const char *bucket, const char *region)
{
	const char *host = strstr(endpoint, "://"), *path;
	size_t n;

	memset(t, 0, sizeof(*t));
	if (!host)
		return -EINVAL;
	host += 3;
	path = host + strcspn(host, "/");
	n = strlen(path);
	while (n && path[n - 1] == '/')
		n--;
	t->scheme_host = xstrndup(endpoint, path - endpoint);
	t->host = xstrndup(host, path - host);
	t->path = xstrndup(path, n);
	t->bucket = xstrdup(bucket);
	t->region = xstrdup(region && *region ? region : "auto");
	n = strlen(t->host);
	if (strncmp(endpoint, "https:", 6) == 0 && n > 4 &&
	    strcmp(t->host + n - 4, ":443") == 0)
		t->host[n - 4] = 0;
	else if (strncmp(endpoint, "http:", 5) == 0 && n > 3 &&
		 strcmp(t->host + n - 3, ":80") == 0)
		t->host[n - 3] = 0;
	return 0;
}

void request_target_release(struct request_target *t)
{
	free(t->scheme_host);
	free(t->host);
	free(t->path);
	free(t->bucket);
	free(t->region);
	memset(t, 0, sizeof(*t));
}
