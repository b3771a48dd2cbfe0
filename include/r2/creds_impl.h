/*
 * Reading credentials, between creds.c (which source, renewal) and
 * creds_read.c (what is in it). Nobody else includes this.
 */
#ifndef R2_CREDS_IMPL_H
#define R2_CREDS_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"

enum { CREDS_FILE_MAX = 65536 };

struct creds_found { /* pointers into the text read, or NULL */
	const char *id, *secret, *token, *process;
	int64_t expires_s; /* wall time, 0 unknown */
};

struct creds_stamp { /* tells whether a file has changed */
	int64_t mtime_s, mtime_ns, size;
	uint64_t inode;
};

struct creds_stamp creds_stamp_of(const struct stat *st);

/* strict: -EPERM if anybody but the owner has any right on it. */
MUST_CHECK int creds_read_file(const char *path, bool strict, struct buf *out,
			       struct creds_stamp *ret, char *why,
			       size_t why_len);

/* "ID:SECRET" alone, or name = value lines; with profile only those of the
 * section [profile] or [profile NAME]. Cuts text into strings. */
void creds_parse_file(char *text, const char *profile, struct creds_found *f);

/* Runs credential_process; what it prints replaces out. Takes seconds. */
MUST_CHECK int creds_run_process(const char *command, struct buf *out,
				 struct creds_found *f, char *why,
				 size_t why_len);

#endif
