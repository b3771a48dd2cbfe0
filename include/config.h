/*
 * Options: one table makes the parser, --help and the manual pages.
 *
 * Values come from the command line (--name VALUE, --name=VALUE, -o
 * name=value,...), a preset (which sets defaults only), and the environment,
 * in this order of weight. Secrets are never options.
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
	bool read_only, allow_other, foreground;
	uint64_t max_connections;
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

/* Takes BUCKET[/PREFIX] and works out url from account or endpoint and the
 * environment. -EINVAL with why. */
MUST_CHECK int config_target(struct config *c, const char *target, char *why,
			     size_t why_len);

void config_help(struct buf *out); /* the options as --help shows them */
void config_man(struct buf *out); /* the same as roff */

#endif
