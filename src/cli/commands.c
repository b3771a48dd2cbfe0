/*
 * The subcommands by name: main finds them here, and help, manual and
 * completion list them.
 */
#include <string.h>

#include "cli/cli.h"

static const struct cli_command commands[] = {
	{ "mount", "[options] BUCKET[/PREFIX] MOUNTPOINT", CLI_TAKES_OPTIONS,
	  "mount a bucket, or the part of it below PREFIX; returns once the "
	  "mount answers",
	  cli_mount },
	{ "umount", "[--force] MOUNTPOINT", CLI_TAKES_DIR,
	  "wait for the uploads that are owed, unmount, and wait until the "
	  "daemon has ended; --force leaves the uploads to the next mount",
	  cli_umount },
	{ "status", "[--json] [MOUNTPOINT]", CLI_TAKES_JSON,
	  "what is mounted, and whether it is well", cli_status },
	{ "stats", "[--json] MOUNTPOINT", CLI_TAKES_JSON,
	  "counters: requests, bytes, hits, latencies, cache, memory",
	  cli_stats },
	{ "recover", "list|retry|export|drop MOUNTPOINT [ID [FILE]]",
	  CLI_TAKES_DIR,
	  "what could not be stored: show it, try again, save it, forget it",
	  cli_recover },
	{ "doctor", "[options] [BUCKET[/PREFIX]]", CLI_TAKES_OPTIONS,
	  "check what mounting needs, and say what is missing", cli_doctor },
	{ "help", "[--man [mount.r2fs] | --completion]", CLI_TAKES_NOTHING,
	  "this text; the manual pages; the completion of bash", cli_help },
	{ "version", "", CLI_TAKES_NOTHING, "print the version", cli_version },
};

const struct cli_command *cli_command(unsigned i)
{
	return i < ARRAY_SIZE(commands) ? &commands[i] : NULL;
}

const struct cli_command *cli_command_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}
