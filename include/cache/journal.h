/*
 * What the journal remembers of one staged file, and its bytes on disk. Pure.
 *
 * A record is lines of text, "name value", so that a person can read what is
 * owed without a program; values are percent-encoded where they may hold any
 * byte. The last line is the CRC32C of all before it: a record that was cut
 * short is refused as a whole (-EBADMSG), never half believed.
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cache/ranges.h"

enum journal_state {
	JOURNAL_OPEN, /* being written: nothing is promised yet */
	JOURNAL_OWED, /* a close or fsync was answered: the upload is owed */
	JOURNAL_FAILED, /* the writer was told an error; kept for recovery */
	JOURNAL_STATES
};

/* ETag of an uploaded part; "" while it is not uploaded. */
struct journal_part {
	char etag[256];
};

struct journal_rec {
	enum journal_state state;
	bool deferred; /* a temporary name: its rename is awaited */
	bool create; /* nothing was known at the key: If-None-Match: * */
	char *key; /* where the object belongs */
	char etag[72]; /* version to be replaced (If-Match), "" none */
	/* Bytes [0, base_len) outside ranges come from this object. */
	char *base_key; /* NULL: none */
	char base_etag[72];
	uint64_t base_size, base_len;
	uint64_t size;
	struct ranges ranges; /* what is in the staged file */
	bool second; /* that is the second of its two */
	void *blob; /* metadata pairs to store with the object */
	uint32_t blob_len;
	bool meta_changed; /* the base has all the bytes: only blob is owed */
	int64_t changed_ns; /* wall time of the last change */
	/* multipart upload under way */
	char *upload_id; /* NULL: none */
	bool upload_old; /* it was begun with older metadata */
	uint64_t part_size;
	struct journal_part *parts;
	unsigned nparts;
	char *why; /* JOURNAL_FAILED: what the writer was told */
};

enum { JOURNAL_MAX = 64 << 20 }; /* bytes of a record */

void journal_encode(struct buf *out, const struct journal_rec *rec);
/* text[n] is NUL. Gives everything in rec; journal_release. -EBADMSG leaves it zeroed. */
MUST_CHECK int journal_decode(const char *text, size_t n,
			      struct journal_rec *rec);
void journal_release(struct journal_rec *rec);

const char *journal_state_name(enum journal_state state);

#endif
