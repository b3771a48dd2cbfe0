/*
 * A path as a template with numbers. Internal to io/predict.
 */
#ifndef IO_PREDICT_PATH_H
#define IO_PREDICT_PATH_H

#include "io/predict.h"

struct spot {
	uint64_t hash; /* of the whole path */
	uint64_t shape; /* of what is not a number */
	unsigned n;
	uint64_t value[PREDICT_FIELDS];
	uint16_t at[PREDICT_FIELDS]; /* where the number begins */
	uint8_t len[PREDICT_FIELDS];
	bool padded[PREDICT_FIELDS]; /* written with leading zeros */
};

uint64_t predict_hash(const char *path);

/* false: too long. */
bool spot_parse(const char *path, struct spot *ret);

/* The only field in which two spots of one shape differ, -1 if there is not
 * exactly one. */
int spot_field(const struct spot *a, const struct spot *b);

/* Writes base with other numbers into out; false: too long. */
bool spot_format(const char *base, const struct spot *of_base,
		 const uint64_t *value, char *out);

#endif
