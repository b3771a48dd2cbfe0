/*
 * `r2fs status` and `r2fs stats`: ask a mount, or every mount, what it is and
 * what it did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/control.h"

enum { ANSWER_MAX = 1 << 20 };

static void print_field(const char *json, const char *name, const char *label)
{
	char quoted[64];
	const char *p, *end;

	snprintf(quoted, sizeof(quoted), "\"%s\": ", name);
	p = strstr(json, quoted);
	if (!p)
		return;
	p += strlen(quoted);
	if (*p == '"') {
		end = strchr(++p, '"');
	} else {
		end = p + strcspn(p, ",}");
	}
	printf("  %-12s %.*s\n", label, (int)(end - p), p);
}

static void print_status(const char *mountpoint, void *arg)
{
	unsigned *shown = arg;
	struct buf b;

	buf_init(&b, ANSWER_MAX);
	if (control_ask(mountpoint, "status", &b) == 0) {
		printf("%s\n", mountpoint);
		print_field(b.data, "source", "bucket");
		print_field(b.data, "endpoint", "endpoint");
		print_field(b.data, "pid", "pid");
		print_field(b.data, "uptime_seconds", "up (s)");
		print_field(b.data, "rss_bytes", "memory (B)");
		print_field(b.data, "libfuse", "libfuse");
		++*shown;
	}
	buf_release(&b);
}

int cli_status(int argc, char **argv)
{
	unsigned shown = 0;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fprintf(stderr, "usage: r2fs status [MOUNTPOINT]\n");
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
	}
	if (argc == 2)
		print_status(argv[1], &shown);
	else
		control_each(print_status, &shown);
	if (shown)
		return 0;
	if (argc == 2)
		fprintf(stderr, "r2fs status: no r2fs mount on %s\n", argv[1]);
	else
		printf("no r2fs mount is running\n");
	return argc == 2;
}

/* One "name value" line per number of the JSON: readable, and grep finds it. */
static void print_flat(const char *json)
{
	char path[256] = "";

	for (const char *p = json; *p; p++) {
		const char *end;

		if (*p == '}') {
			char *dot = strrchr(path, '.');

			*(dot ? dot : path) = 0;
		} else if (*p == '"' && (end = strchr(p + 1, '"')) &&
			   end[1] == ':') {
			const char *v = end + 3;
			int n = (int)(end - p - 1);

			if (*v == '{') {
				size_t len = strlen(path);

				snprintf(path + len, sizeof(path) - len,
					 "%s%.*s", len ? "." : "", n, p + 1);
				p = v;
				continue;
			}
			size_t len = *v == '"' ? strcspn(v + 1, "\"") + 2 :
						 strcspn(v, ",}");

			printf("%s.%.*s %.*s\n", path, n, p + 1, (int)len, v);
			p = v + len - 1;
		}
	}
}

int cli_stats(int argc, char **argv)
{
	const char *mountpoint = NULL;
	bool json = false;
	struct buf b;
	int err;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (argv[i][0] != '-' && !mountpoint)
			mountpoint = argv[i];
		else
			mountpoint = "";
	}
	if (!mountpoint || !*mountpoint) {
		fprintf(stderr, "usage: r2fs stats [--json] MOUNTPOINT\n");
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
	}
	buf_init(&b, ANSWER_MAX);
	err = control_ask(mountpoint, "stats", &b);
	if (err)
		fprintf(stderr, "r2fs stats: no r2fs mount answers on %s: %s\n",
			mountpoint, strerror(-err));
	else if (json)
		fputs(b.data, stdout);
	else
		print_flat(b.data);
	buf_release(&b);
	return err ? 1 : 0;
}
