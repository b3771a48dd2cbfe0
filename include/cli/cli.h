/*
 * The subcommands. Each takes its own argv (argv[0] is the subcommand) and
 * returns the process's exit status.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "config.h"
#include "store/store.h"

int cli_mount(int argc, char **argv);
int cli_umount(int argc, char **argv);
int cli_recover(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_version(int argc, char **argv);

enum cli_takes {
	CLI_TAKES_NOTHING,
	CLI_TAKES_DIR,
	CLI_TAKES_JSON, /* --json and a mountpoint */
	CLI_TAKES_OPTIONS, /* those of config.h */
};

struct cli_command {
	const char *name, *arguments;
	enum cli_takes takes;
	const char *help; /* no capital, no full stop */
	int (*run)(int argc, char **argv);
};

/* The i-th subcommand, NULL after the last. */
const struct cli_command *cli_command(unsigned i);
const struct cli_command *cli_command_find(const char *name); /* or NULL */

/*
 * As a helper of mount(8): argv is SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE]
 * [-t TYPE] [-o OPTIONS]. And of umount(8): MOUNTPOINT and flags.
 */
int helper_mount(int argc, char **argv);
int helper_umount(int argc, char **argv);

/* The manual pages r2fs(1) and mount.r2fs(8), and the completion of bash. */
void manual_r2fs(struct buf *out);
void manual_mount(struct buf *out);
void completion_bash(struct buf *out);

/* Parses the arguments of `mount` (argv[0] is not looked at), and mounts
 * unless dry. sloppy: see struct config. */
int mount_main(int argc, char **argv, bool sloppy, bool dry);

/* Mounts cfg->bucket at cfg->mountpoint: builds the stack, forks unless in
 * the foreground, serves until unmounted. Prints why it failed. */
int mount_run(const struct config *cfg);

/* The cache folder in effect for cfg (of endpoint, bucket and prefix: what is
 * known of one root says nothing of another); gives. */
char *mount_cache_dir(const struct config *cfg);

/* What the failure of a first request means and what to do next: one or two
 * lines, no secret. */
void diagnose(const struct store_req *req, const struct config *cfg,
	      struct buf *out);

#endif
