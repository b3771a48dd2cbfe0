/*
 * How often a key is written: R2 takes one write of a key in a second, and
 * refuses more if it cares to (r2-facts 3: same-key writes).
 *
 * Each who opens a file may write its key a few times in a row, then once a
 * second; from the first refusal on it is once a second, whoever writes. What
 * was written lately is remembered for a few thousand keys; who is forgotten may
 * begin again with a few.
 * Thread-safe. Never blocks.
 */
#ifndef IO_PACE_H
#define IO_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace;

struct pace *pace_create(void);
void pace_destroy(struct pace *p);

/* Takes the right to write the key once. Else the milliseconds until there may
 * be one. */
uint64_t pace_take(struct pace *p, const char *key);
/* Somebody writes the file who has not written it before. */
void pace_begin(struct pace *p, const char *key);
/* R2 has answered; refused: some attempt was too early. */
void pace_done(struct pace *p, const char *key, bool refused);

#endif
