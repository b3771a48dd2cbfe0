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
int cli_status(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_help(int argc, char **argv);

/* Mounts cfg->bucket at cfg->mountpoint: builds the stack, forks unless in
 * the foreground, serves until unmounted. Prints why it failed. */
int mount_run(const struct config *cfg);

/* The cache folder in effect for cfg (of endpoint and bucket); gives. */
char *mount_cache_dir(const struct config *cfg);

/* What the failure of a first request means and what to do next: one or two
 * lines, no secret. */
void diagnose(const struct store_req *req, const struct config *cfg,
	      struct buf *out);

#endif
