/*
 * MD5 of several file ranges at once, several times as fast as one after the
 * other where the processor has AVX2. Pure but for the reads.
 */
#ifndef R2_MD5_H
#define R2_MD5_H

#include <stdint.h>
#include <sys/types.h>

#include "r2/crypto.h"

enum { MD5_LANES = 8 };

struct md5_range {
	int fd;
	off_t off;
	uint64_t len;
	uint8_t md5[MD5_BYTES]; /* the result */
};

/*
 * Any number of ranges, taken MD5_LANES at a time; best if they are of like
 * length. Uses 512 KiB of memory meanwhile. -errno of a read; -EBADMSG if a
 * file is shorter than its range.
 */
MUST_CHECK int md5_ranges(struct md5_range *r, unsigned n);

#endif
