/*
 * `r2fs doctor`: looks at what mounting needs, one line each, worst news with
 * its next step.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "cli/cli.h"
#include "fuse/session.h"
#include "r2/r2.h"

static unsigned failures;

static void line(const char *verdict, const char *fmt, ...) PRINTF(2, 3);

static void line(const char *verdict, const char *fmt, ...)
{
	va_list ap;

	failures += strcmp(verdict, "FAIL") == 0;
	printf("%-4s  ", verdict);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static void check_fuse(const struct config *c)
{
	const char *obstacle = session_obstacle(c->allow_other);

	if (obstacle)
		line("FAIL", "%s", obstacle);
	else
		line("OK", "/dev/fuse, and the right to mount");
	if (session_libfuse() < 317)
		line("WARN",
		     "libfuse %s: cached files are read faster (passthrough) "
		     "with 3.17, and O_TMPFILE and --io-uring take 3.18",
		     session_libfuse_version());
	else if (session_libfuse() < 318)
		line("WARN", "libfuse %s: O_TMPFILE and --io-uring take 3.18",
		     session_libfuse_version());
	else
		line("OK", "libfuse %s", session_libfuse_version());
}

static void check_kernel(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return;
	minor += major * 1000;
	if (minor < 5004)
		line("WARN", "kernel %s is older than the oldest tried (5.4)",
		     u.release);
	else if (minor < 6009)
		line("WARN",
		     "kernel %s: cached files are read faster (passthrough) "
		     "with 6.9, and --io-uring takes 6.14",
		     u.release);
	else if (minor < 6014)
		line("WARN", "kernel %s: --io-uring takes 6.14", u.release);
	else
		line("OK", "kernel %s", u.release);
}

static void check_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_max < 4096)
		line("WARN",
		     "at most %llu open files: raise it (ulimit -Hn "
		     "65536)",
		     (unsigned long long)r.rlim_max);
}

static void check_cache(const struct config *c)
{
	CLEANUP(free) char *dir = mount_cache_dir(c);
	uint64_t available, total;
	int err = fsio_mkdirs(dir);

	if (err || access(dir, W_OK)) {
		line("FAIL",
		     "cache folder %s cannot be written: %s; give "
		     "--cache-dir",
		     dir, strerror(err ? -err : errno));
		return;
	}
	err = fsio()->space(dir, &available, &total);
	if (err)
		line("WARN", "free space of %s is unknown: %s", dir,
		     strerror(-err));
	else if (available < c->min_free)
		line("FAIL",
		     "%s has %llu MB free, less than --min-free (%llu "
		     "MB): free some, lower it, or give --cache-dir",
		     dir, (unsigned long long)available >> 20,
		     (unsigned long long)c->min_free >> 20);
	else
		line("OK", "cache folder %s, %llu MB free", dir,
		     (unsigned long long)available >> 20);
}

static void check_bucket(const struct config *c, struct creds *creds)
{
	struct http_config hc = { .ca_bundle = c->ca_bundle };
	struct r2_config rc = { .endpoint = c->url,
				.bucket = c->bucket,
				.region = c->region,
				.deadline_ms = c->deadline_ns / 1000000 };
	struct store *store = NULL;
	struct http *http = NULL;
	struct store_req req;
	struct buf text;

	store_req_init(&req, STORE_LIST);
	req.prefix = c->prefix;
	req.max_keys = 1;
	if (http_curl_create(&hc, &http) || r2_create(&rc, http, creds, &store))
		line("FAIL", "the HTTP client cannot be started");
	else if (store_call(store, &req, NULL) == 0) {
		line("OK", "bucket %s at %s can be listed", c->bucket, c->url);
		if (llabs(r2_clock_skew_s(store)) > 60)
			line("WARN", "this machine's clock is off by %lld s",
			     (long long)r2_clock_skew_s(store));
	} else {
		buf_init(&text, 4096);
		diagnose(&req, c, &text);
		line("FAIL", "%s", text.data);
		buf_release(&text);
	}
	store_req_release(&req);
	store_destroy(store);
	http_destroy(http);
}

static void check_r2(const struct config *c)
{
	struct creds_config cc = { c->credentials, c->profile };
	struct creds *creds = NULL;
	char why[1024];

	if (creds_create(&cc, &creds, why, sizeof(why))) {
		line("FAIL", "%s", why);
		return;
	}
	line("OK", "credentials from %s", creds_source(creds));
	check_bucket(c, creds);
	creds_destroy(creds);
}

int cli_doctor(int argc, char **argv)
{
	const char *operand[1] = { NULL };
	char why[1024];
	struct config c;
	unsigned n;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cli_help(1, argv);
	config_init(&c);
	if (config_parse(&c, argc, argv, operand, 1, &n, why, sizeof(why)) ||
	    (n && config_target(&c, operand[0], why, sizeof(why)))) {
		fprintf(stderr, "r2fs doctor: %s\n", why);
		config_release(&c);
		return 2;
	}
	if (log_open("-", LOG_LEVEL_ERROR))
		return 1;
	check_fuse(&c);
	check_kernel();
	check_files();
	if (n) {
		check_cache(&c);
		check_r2(&c);
	} else {
		line("WARN", "give a bucket (and its endpoint) to check the "
			     "cache folder, credentials and R2 too");
	}
	config_release(&c);
	return failures ? 1 : 0;
}
