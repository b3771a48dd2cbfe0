/*
 * The insides of multipart, shared by multipart.c (the upload), multipart_run.c
 * (which parts are sent) and multipart_part.c (one part).
 */
#ifndef IO_MULTIPART_IMPL_H
#define IO_MULTIPART_IMPL_H

#include "io/writeback_impl.h"

/* A part to be sent, as of one moment. */
struct next_part {
	unsigned index;
	uint32_t gen;
	uint64_t len;
	bool copy; /* R2 has its bytes */
	bool freeze; /* a copy of it is sent */
	bool alone; /* no other part is on its way */
	uint8_t md5[16];
};

/* ---- multipart.c ---- */

/* How much of the file is to be sent. */
uint64_t multipart_wanted_locked(struct writeback *wb,
				 const struct multipart *m) REQUIRES(wb->lock);
/* Are its parts too small for that? */
bool multipart_outgrown_locked(struct writeback *wb, const struct multipart *m)
	REQUIRES(wb->lock);
/* Is it the object that it replaces, with other metadata? Then R2 has all of
 * it, though it may be local. */
bool multipart_is_base_locked(struct writeback *wb, const char *key)
	REQUIRES(wb->lock);

/* ---- multipart_part.c ---- */

/* Of part i, of a file of this size. */
uint64_t part_len(const struct multipart *m, unsigned i, uint64_t size);
/* Does R2 have its bytes, and may it copy them? */
bool part_copyable_locked(struct writeback *wb, const struct multipart *m,
			  unsigned i, uint64_t size) REQUIRES(wb->lock);
/* The part is FLYING already. False: there is no room for a copy of it until
 * others have arrived. */
MUST_CHECK bool part_send(struct writeback *wb, struct multipart *m,
			  const struct next_part *p);

#endif
