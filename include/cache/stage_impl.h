/*
 * The insides of stage, shared by stage.c (the folder), staged.c (the bytes of a
 * file) and staged_record.c (its record).
 */
#ifndef CACHE_STAGE_IMPL_H
#define CACHE_STAGE_IMPL_H

#include "base/lock.h"
#include "cache/stage.h"

struct staged {
	struct stage *stage;
	uint64_t id;
	int fd;
	struct mutex bytes; /* one change of bytes and ranges at a time */
	struct mutex lock; /* taken after bytes, and never while bytes move */
	/* guarded by lock; changed with bytes held too */
	struct ranges ranges;
	uint64_t size, base_len;
	struct mutex saving; /* one record write at a time; taken before bytes */
	/* guarded by saving */
	bool second; /* which of the two local files fd is */
	bool both; /* the record speaks of the other one */
	bool owes, durable; /* what the record is; false: there is none */
	uint64_t owed_size;
};

/* ---- stage.c ---- */

/* Where the bytes are. */
char *stage_data_path(struct stage *s, uint64_t id, bool second);

/* ---- staged.c ---- */

/* Without regard to what is promised. */
MUST_CHECK int staged_truncate_bytes(struct staged *f, uint64_t size);

/* ---- staged_record.c ---- */

/* What the record on disk is from now on. */
void staged_note_record(struct staged *f, const struct journal_rec *rec,
			bool durable);
/* The record speaks of the bytes in use, or is gone: the others may go. */
void staged_drop_other(struct staged *f);

#endif
