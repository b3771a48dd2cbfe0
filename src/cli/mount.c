/*
 * `r2fs mount`: everything that can be wrong before a daemon is started is
 * found here and told on the terminal.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control.h"

static int refuse(const char *why)
{
	fprintf(stderr, "r2fs mount: %s\n", why);
	return 2;
}

/* The daemon works in /, so a path given from here must be absolute. */
static void make_absolute(char **path)
{
	char *here;

	if (!*path || **path == '/' || !strcmp(*path, "-") ||
	    !strcmp(*path, "syslog") || !(here = getcwd(NULL, 0)))
		return;
	char *full = xasprintf("%s/%s", here, *path);

	free(here);
	free(*path);
	*path = full;
}

static int check_mountpoint(struct config *c, const char *path, char *why,
			    size_t why_len)
{
	struct statfs fs;
	struct stat st;
	struct buf answer;
	int err;

	/* stat may be the kernel's memory of a daemon that is gone */
	if (stat(path, &st) || statfs(path, &fs)) {
		err = errno;
		if (err == ENOTCONN || err == ECONNABORTED)
			snprintf(why, why_len,
				 "%s is a dead mount: run umount -l %s, then "
				 "mount again",
				 path, path);
		else
			snprintf(why, why_len, "cannot use mountpoint %s: %s%s",
				 path, strerror(err),
				 err == ENOENT ? " (mkdir it first)" : "");
		return -err;
	}
	if (!S_ISDIR(st.st_mode)) {
		snprintf(why, why_len, "mountpoint %s is not a folder", path);
		return -ENOTDIR;
	}
	c->mountpoint = realpath(path, NULL);
	if (!c->mountpoint)
		c->mountpoint = xstrdup(path);
	buf_init(&answer, 1 << 20);
	err = control_ask(c->mountpoint, "status", &answer);
	buf_release(&answer);
	if (!err) {
		snprintf(why, why_len,
			 "%s is an r2fs mount already: r2fs umount %s first",
			 path, path);
		return -EBUSY;
	}
	return 0;
}

int mount_main(int argc, char **argv, bool sloppy, bool dry)
{
	const char *operands[2] = { NULL, NULL };
	char why[1024] = "";
	struct config c;
	unsigned n;
	int status;

	config_init(&c);
	c.sloppy = sloppy;
	if (config_parse(&c, argc, argv, operands, 2, &n, why, sizeof(why)) ||
	    (n == 2 && config_target(&c, operands[0], why, sizeof(why))) ||
	    (n == 2 && check_mountpoint(&c, operands[1], why, sizeof(why)))) {
		status = refuse(why);
	} else if (n < 2) {
		status = refuse("give BUCKET[/PREFIX] and MOUNTPOINT: see r2fs "
				"mount --help");
	} else if (dry) {
		status = 0;
	} else {
		make_absolute(&c.credentials);
		make_absolute(&c.cache_dir);
		make_absolute(&c.ca_bundle);
		make_absolute(&c.log_file);
		status = mount_run(&c);
	}
	config_release(&c);
	return status;
}

int cli_mount(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cli_help(1, argv);
	return mount_main(argc, argv, false, false);
}
