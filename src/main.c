/*
 * Finds the subcommand. As mount.r2fs or mount.fuse.r2fs, mount(8) calls us
 * with "SOURCE MOUNTPOINT -o OPTIONS", which is `mount` with its operands
 * first.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "mount", cli_mount },	  { "umount", cli_umount },
	{ "status", cli_status }, { "stats", cli_stats },
	{ "doctor", cli_doctor }, { "help", cli_help },
};

static int version(void)
{
	printf("r2fs %s\n", R2FS_VERSION);
	return 0;
}

int main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/');
	const char *name = argc > 1 ? argv[1] : "help";

	base = base ? base + 1 : argv[0];
	if (strcmp(base, "mount.r2fs") == 0 ||
	    strcmp(base, "mount.fuse.r2fs") == 0)
		return cli_mount(argc, argv);
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return cli_help(1, argv);
	if (!strcmp(name, "--version") || !strcmp(name, "version"))
		return version();
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(argc - (argc > 1),
					       argv + (argc > 1));
	fprintf(stderr, "r2fs: unknown command \"%.40s\": see r2fs help\n",
		name);
	return 2;
}
