/*
 * One stream of predictions. Internal to io/predict.
 *
 * Numbers: `here` is the furthest path asked for, `there` the furthest one
 * predicted, both on an odometer whose level 0 runs fastest. Listing: `last`
 * is the furthest path predicted. The ring holds what was predicted, in
 * order, until it was asked for or passed by.
 */
#ifndef IO_PREDICT_STREAM_H
#define IO_PREDICT_STREAM_H

#include "io/predict_path.h"

enum { STREAM_RING = 128 };

enum item_state { ITEM_WAITING, ITEM_USED, ITEM_ABSENT };

struct item {
	uint64_t hash;
	uint64_t value[PREDICT_FIELDS];
	uint8_t level; /* the highest one that moved on the way here */
	uint8_t state;
};

struct level {
	unsigned field;
	int64_t step;
	uint64_t lo, hi;
	bool ends; /* hi is known */
	bool seen; /* ... from the reader, not from a path that was absent */
};

struct stream {
	bool alive, listed;
	char *base; /* numbers: the template */
	struct spot of_base;
	uint64_t here[PREDICT_FIELDS], there[PREDICT_FIELDS];
	uint64_t here_at; /* place of `here` in the ring */
	struct level level[PREDICT_FIELDS];
	unsigned levels;
	char *last;
	struct item ring[STREAM_RING];
	uint64_t head, tail;
	unsigned window, waiting, misses;
	unsigned idle; /* results in a row that were at hand already */
	uint64_t stamp; /* of the last hit */
};

void stream_begin_numbers(struct stream *s, const char *path,
			  const struct spot *spot, unsigned field, int64_t step,
			  uint64_t lo);
void stream_begin_listing(struct stream *s, const char *path);
void stream_end(struct stream *s, struct predict_stats *stats);

bool stream_holds(const struct stream *s, uint64_t hash);
/* The path was predicted: true. */
bool stream_hit(struct stream *s, uint64_t hash, unsigned max_window,
		struct predict_stats *stats);
/* The path was not, but the odometer explains it: true. */
bool stream_follow(struct stream *s, const struct spot *spot,
		   struct predict_stats *stats);
/* The path has nothing to do with it. */
void stream_miss(struct stream *s, struct predict_stats *stats);
void stream_absent(struct stream *s, uint64_t hash,
		   struct predict_stats *stats);

void stream_result(struct stream *s, bool fetched, struct predict_stats *stats);

/* The next path to predict, into out; false: none is known. stream_push then
 * takes it up. */
bool stream_peek(struct stream *s, const struct predict_config *config,
		 char *out, struct item *item);
void stream_push(struct stream *s, const char *path, const struct item *item);

#endif
