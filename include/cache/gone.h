/*
 * The journal of removals: keys that were answered to be gone and that R2
 * still has.
 *
 * A log is a text file `<id>.gone` in the stage folder, a line for each key
 * with its own CRC32C; a line that a crash cut short counts as never written.
 * Lines are in the hands of the kernel on return, so they outlive the daemon;
 * a loss of power may undo the last removals, as on any file system. The file
 * goes when all its keys have.
 *
 * A log is reference-counted: one for each key and one for who adds to it.
 * Thread-safe but for gone_add, which its one caller serialises.
 */
#ifndef CACHE_GONE_H
#define CACHE_GONE_H

#include "cache/stage.h"

struct gone;

/* An empty log, with a reference. The file is made by the first gone_add. */
struct gone *gone_create(struct stage *s);
/* Notes a key, and the version meant ("" if any). Takes a reference. */
MUST_CHECK int gone_add(struct gone *g, const char *key, const char *etag);
/* To the disk, if it must survive a loss of power. */
MUST_CHECK int gone_sync(struct gone *g);
uint64_t gone_id(const struct gone *g);
/* The last reference removes the file. */
void gone_put(struct gone *g);
/* The same, but the file stays for the next run. */
void gone_keep(struct gone *g);

/* What an earlier run left: the logs, the lines of one, and its end. */
MUST_CHECK int gone_each(struct stage *s, void (*fn)(uint64_t id, void *arg),
			 void *arg);
MUST_CHECK int
gone_read(struct stage *s, uint64_t id,
	  void (*fn)(const char *key, const char *etag, void *arg), void *arg);
void gone_remove(struct stage *s, uint64_t id);

#endif
