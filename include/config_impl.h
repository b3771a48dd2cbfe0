/*
 * The row of the option table, for config.c and config_value.c alone.
 */
#ifndef CONFIG_IMPL_H
#define CONFIG_IMPL_H

#include <stddef.h>

#include "config.h"

enum option_type { STRING, FLAG, SIZE, NUMBER, OCTAL, DURATION, TTL };

struct option {
	struct config_option shown;
	enum option_type type;
	size_t offset; /* in struct config */
	uint64_t min, max;
};

void *option_field(struct config *c, const struct option *o);

/* Stores v, or the flag when v is ""; false if o does not take it. */
bool option_set(struct config *c, const struct option *o, const char *v);

/* Appends what o takes, to follow the word "give". */
void option_accepted(const struct option *o, struct buf *b);

#endif
