/*
 * Which file a program will ask for next. Pure: no I/O, no time, no locks
 * (the owner's lock guards it); what a folder holds comes from a callback.
 *
 * Two habits are known, each followed by a stream of predictions:
 *
 *   numbers   paths that differ in their numbers, which count like an
 *             odometer: shard-00041.tar, shard-00042.tar; or the chunks of an
 *             array, c/0/0/7, c/0/1/0 (any axis may run fastest, over folders
 *             too). Where a row ends is learned from the reader, or from a
 *             path that turned out not to exist.
 *   listing   the order of the folder, where its listing is known.
 *
 * A stream begins after three paths in order, or after half of the last
 * sixteen when several threads share the work and come out of order. Its
 * window grows by one for each path that was right, so it doubles as often as
 * it is used up, and what a reader that stops leaves in vain is no more than
 * it read, and never more than max_window; one that leaves the way halves the
 * window, or ends the stream.
 *
 * Waste is bounded: what was predicted and never asked for stays under a
 * twentieth of all paths asked for, plus a constant and the windows under
 * way: beyond that no stream begins.
 */
#ifndef IO_PREDICT_H
#define IO_PREDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
	PREDICT_FIELDS = 8, /* numbers of a path that are looked at: the last */
	PREDICT_STREAMS = 8,
	PREDICT_FIRST = 4, /* first window, in files */
	PREDICT_WINDOW = 64, /* largest */
	PREDICT_PATH = 1024,
};

struct predict;

struct predict_config {
	unsigned max_window; /* of all streams together; at most PREDICT_WINDOW */
	/* The file after `path` in its folder, into next (PREDICT_PATH + 1
	 * bytes); false: the last one, or the folder's names are not known.
	 * NULL: never known. */
	bool (*after)(void *arg, const char *path, char *next);
	void *arg;
};

struct predict_stats {
	uint64_t asked; /* paths noted */
	uint64_t predicted, used, wasted; /* paths */
	uint64_t absent; /* predicted, but no such file */
};

struct predict *predict_create(const struct predict_config *config);
void predict_destroy(struct predict *p); /* NULL is fine */

/* A program asks for path. fresh: its bytes were not all at hand. Else the
 * note only moves streams on and begins none. */
void predict_note(struct predict *p, const char *path, bool fresh);

/* No more than so many predicted files that nobody has asked for yet, at least
 * one; max_window holds besides. */
void predict_limit(struct predict *p, uint64_t files);

/* Paths worth fetching now, at most max; the caller frees each. */
unsigned predict_take(struct predict *p, char **paths, unsigned max);

enum predict_result {
	PREDICT_FETCHED,
	PREDICT_ABSENT, /* no such file */
	PREDICT_AT_HAND, /* nothing had to be fetched */
};

/* What became of a path that was taken. A stream whose files are all at hand
 * ends. */
void predict_result(struct predict *p, const char *path,
		    enum predict_result what);

/* No stream: nothing would be taken, and only fresh notes change that. */
bool predict_idle(const struct predict *p);

void predict_stats_get(const struct predict *p, struct predict_stats *ret);

#endif
