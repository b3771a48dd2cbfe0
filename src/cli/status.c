/*
 * `r2fs status` and `r2fs stats`: ask a mount, or every mount, what it is and
 * what it did. JSON comes as one document a line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "cli/cli.h"
#include "cli/control.h"

enum { ANSWER_MAX = 1 << 20 };

struct status {
	bool json;
	unsigned shown, bad;
};

static bool is_dead(const char *path)
{
	struct statfs st;

	return statfs(path, &st) &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

/* A socket without a daemon is left by one that was killed; it matters only
 * while its mount is still there. */
static void print_silent(const char *path, int err, struct status *s)
{
	if (err == -ENOENT && !is_dead(path))
		return;
	s->bad++;
	fprintf(stderr,
		err == -ENOENT ?
			"r2fs status: %s is a dead mount, its daemon is gone: "
			"umount -l %s, then mount it again\n" :
			"r2fs status: the daemon of %s does not answer: %s\n",
		path, err == -ENOENT ? path : strerror(-err));
}

static void print_status(const char *path, void *arg)
{
	struct status *s = arg;
	struct buf b;
	int err;

	buf_init(&b, ANSWER_MAX);
	err = control_ask(path, s->json ? "status" : "summary", &b);
	if (err) {
		print_silent(path, err, s);
	} else {
		if (!s->json)
			printf("%s\n", path);
		fputs(b.data, stdout);
		s->shown++;
	}
	buf_release(&b);
}

int cli_status(int argc, char **argv)
{
	struct status s = { .json = argc > 1 && !strcmp(argv[1], "--json") };
	const char *path = argv[1 + s.json];

	if (argc > 2 + s.json || (path && path[0] == '-')) {
		fprintf(stderr, "usage: r2fs status [--json] [MOUNTPOINT]\n");
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
	}
	if (path)
		print_status(path, &s);
	else
		control_each(print_status, &s);
	if (path && !s.shown && !s.bad) {
		fprintf(stderr,
			"r2fs status: no r2fs mount of this user on "
			"%s\n",
			path);
		return 1;
	}
	if (!s.shown && !s.bad && !s.json)
		printf("no r2fs mount of this user is running\n");
	return s.bad ? 1 : 0;
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
		fprintf(stderr,
			is_dead(mountpoint) ?
				"r2fs stats: %s is a dead mount, its daemon is "
				"gone: umount -l it, then mount it again\n" :
				"r2fs stats: no r2fs mount of this user "
				"answers on %s\n",
			mountpoint);
	else if (json)
		fputs(b.data, stdout);
	else
		print_flat(b.data);
	buf_release(&b);
	return err ? 1 : 0;
}
