/*
 * Options: one table makes the parser, --help, the manual pages and the
 * completion of the shell.
 *
 * Values come from the command line (--name VALUE, --name=VALUE, -o
 * name=value,...), a preset (which sets defaults only), and the environment,
 * in this order of weight. Secrets are never options. An -o list may hold the
 * words of mount(8) and fstab too: those that mean something to the kernel
 * are passed on, those for other programs are ignored.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/log.h"

struct config { /* strings are owned */
	char *account_id, *jurisdiction, *endpoint, *region, *profile;
	char *credentials, *ca_bundle;
	bool allow_http;
	char *cache_dir;
	uint64_t cache_size, min_free, memory;
	int64_t metadata_ttl_ns, negative_ttl_ns; /* INT64_MAX: indefinite */
	char *preset;
	uint64_t uid, gid, file_mode, dir_mode, umask;
	bool read_only, allow_other, io_uring, foreground;
	bool writeback, offline_ok;
	uint64_t part_size; /* 0: chosen by size */
	char *temporary_names, *lock_names;
	bool sloppy; /* unknown -o words are ignored (mount -s) */
	uint64_t max_connections, network_threads;
	uint64_t ahead_files; /* fetched at once before they are asked for; 0: nor
			       * are folders listed */
	int64_t deadline_ns;
	char *log_level, *log_file;

	char *kernel_options; /* -o words meant for the kernel, or NULL */
	char *bucket, *prefix; /* prefix "" or "folder/" */
	char *mountpoint;
	char *url; /* the endpoint in effect */
};

void config_init(struct config *c); /* the defaults */
void config_release(struct config *c);

/*
 * Parses options and operands (argv[0] is not looked at). Operands are given
 * in operands[0..*noperands); they point into argv. -EINVAL with one line in
 * why: which option, which value, what is accepted.
 */
MUST_CHECK int config_parse(struct config *c, int argc, char **argv,
			    const char **operands, unsigned max_operands,
			    unsigned *noperands, char *why, size_t why_len);

/* Takes [r2://]BUCKET[/PREFIX] and works out url from account or endpoint and the
 * environment. -EINVAL with why. */
MUST_CHECK int config_target(struct config *c, const char *target, char *why,
			     size_t why_len);

/* ---- the table, for help, manual and completion ---- */

struct config_option {
	const char *name;
	const char *placeholder; /* NULL: the option takes no value */
	const char *initial; /* the default, as it would be typed, or NULL */
	const char *choices; /* the words accepted, "a b c", or NULL: any */
	const char *help; /* no capital, no full stop */
};

/* The i-th option, NULL after the last. */
const struct config_option *config_option(unsigned i);

#endif
