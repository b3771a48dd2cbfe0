/*
 * `r2fs recover`: what the journal keeps of files that could not be stored,
 * and what to do with them. The mount that holds the journal does the work;
 * this asks it over its control socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/control.h"

static int usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: r2fs recover list MOUNTPOINT\n"
		"       r2fs recover retry [--force] MOUNTPOINT ID\n"
		"       r2fs recover export MOUNTPOINT ID FILE\n"
		"       r2fs recover drop MOUNTPOINT ID\n"
		"list shows what could not be stored, and why. retry stores it "
		"under the\nconditions of the first try, with --force over "
		"whatever is there now. export\nwrites the bytes to a new "
		"file, with holes where they are not to be had any\nmore "
		"(status 1, and it says where), drop forgets them.\n");
	return code;
}

static int ask(const char *mountpoint, const char *command)
{
	struct buf answer;
	int err, failed;

	buf_init(&answer, 1 << 20);
	err = control_ask(mountpoint, command, &answer);
	if (err) {
		fprintf(stderr,
			"r2fs recover: no mount answers on %s: %s; mount the "
			"bucket with the same --cache-dir first\n",
			mountpoint, strerror(-err));
		buf_release(&answer);
		return 1;
	}
	failed = strncmp(answer.data, "error ", 6) == 0;
	fprintf(failed ? stderr : stdout, "%s%s",
		failed ? "r2fs recover: " : "", answer.data + (failed ? 6 : 0));
	buf_release(&answer);
	return failed;
}

int cli_recover(int argc, char **argv)
{
	CLEANUP(free) char *command = NULL;
	CLEANUP(free) char *path = NULL;
	bool force = argc > 2 && strcmp(argv[2], "--force") == 0;
	char **args = argv + 2 + force;
	int n = argc - 2 - force;

	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		return usage(0);
	if (argc < 3 || n < 1)
		return usage(2);
	if (strcmp(argv[1], "list") == 0 && n == 1)
		return ask(args[0], "recover list");
	if (strcmp(argv[1], "retry") == 0 && n == 2)
		command = xasprintf("recover %s %s", force ? "force" : "retry",
				    args[1]);
	else if (strcmp(argv[1], "drop") == 0 && n == 2)
		command = xasprintf("recover drop %s", args[1]);
	else if (strcmp(argv[1], "export") == 0 && n == 3) {
		CLEANUP(free) char *cwd = getcwd(NULL, 0);

		path = args[2][0] == '/' || !cwd ?
			       xstrdup(args[2]) :
			       xasprintf("%s/%s", cwd, args[2]);
		command = xasprintf("recover export %s %s", args[1], path);
	} else {
		return usage(2);
	}
	return ask(args[0], command);
}
