/*
 * Finds the subcommand. Under the names that mount(8) and umount(8) look for
 * their helpers by, this is a helper.
 *
 * mount.fuse, which mount(8) runs for the type fuse.r2fs where it finds no
 * helper of that very name, runs "r2fs SOURCE MOUNTPOINT -o OPTIONS".
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static bool is_name(const char *base, const char *name)
{
	return strncmp(base, name, strlen(name)) == 0 &&
	       (strcmp(base + strlen(name), "r2fs") == 0 ||
		strcmp(base + strlen(name), "fuse.r2fs") == 0);
}

int main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/');
	const char *name = argc > 1 ? argv[1] : "help";
	const struct cli_command *command;

	base = base ? base + 1 : argv[0];
	if (is_name(base, "mount."))
		return helper_mount(argc, argv);
	if (is_name(base, "umount."))
		return helper_umount(argc, argv);
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return cli_help(1, argv);
	if (!strcmp(name, "--version"))
		return cli_version(1, argv);
	command = cli_command_find(name);
	if (command)
		return command->run(argc - (argc > 1), argv + (argc > 1));
	if (argc == 5 && strcmp(argv[3], "-o") == 0)
		return helper_mount(argc, argv);
	fprintf(stderr, "r2fs: unknown command \"%.40s\": see r2fs help\n",
		name);
	return 2;
}
