/*
 * The bytes of the records in cache.mdb. Pure: no I/O, no locks.
 *
 * Integers are LEB128 varints (signed ones zigzag) unless said otherwise;
 * every record begins with a byte of version and form. A decoder accepts
 * exactly what the encoder makes: anything else (foreign version, cut short,
 * trailing bytes, a number out of range) is -EBADMSG, and the caller treats
 * the record as absent. decode(encode(x)) == x.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include "base/buf.h"
#include "cache/meta.h"

enum {
	RECORD_BLOB_MAX = 65536, /* S3 allows 2 KiB, R2 8 KiB of metadata */
	RECORD_MAX = RECORD_BLOB_MAX + 256, /* no record is longer */
	RECORD_BOOT_MAX = 64,
	RECORD_IDENTITY_MAX = 2048,
	EXTENT_BLOCKS = CACHE_EXTENT / CACHE_BLOCK,
};

/* Appends to out, which the caller emptied. gen is the listing that last saw
 * the name. A blob beyond RECORD_BLOB_MAX sets out->failed. */
void record_dentry_encode(struct buf *out, const struct meta_rec *rec,
			  uint32_t gen);

/* Gives rec->blob (copied). -EBADMSG leaves rec zeroed. */
MUST_CHECK int record_dentry_decode(const void *p, size_t n,
				    struct meta_rec *rec, uint32_t *gen);

struct record_peek {
	uint8_t kind, flags;
	uint64_t ino;
	uint32_t gen;
	int64_t checked_ns;
};

/* Only what a sweep needs; checks no more than it reads. */
MUST_CHECK int record_dentry_peek(const void *p, size_t n,
				  struct record_peek *ret);

struct record_dir {
	struct meta_dir dir;
	uint32_t gen; /* of the latest meta_dir_begin */
};

void record_dir_encode(struct buf *out, const struct record_dir *d);
MUST_CHECK int record_dir_decode(const void *p, size_t n, struct record_dir *d);

/* What one extent of a content holds. */
struct record_extent {
	uint64_t present; /* bit i: block i of the extent */
	uint64_t epoch; /* of the oldest block in it (cache.c) */
	uint32_t pages; /* 4 KiB units of disk its blocks take */
	uint32_t crc[EXTENT_BLOCKS]; /* CRC32C; meaningful where present */
};

void record_extent_encode(struct buf *out, const struct record_extent *e);
MUST_CHECK int record_extent_decode(const void *p, size_t n,
				    struct record_extent *e);
/* Only the pages; checks no more than it reads. */
MUST_CHECK int record_extent_peek(const void *p, size_t n, uint32_t *pages);

/* The one record about the folder itself. */
struct record_state {
	bool clean; /* the last holder stopped after flushing everything */
	bool damaged; /* it met data files that were not what they should be */
	bool writable; /* it may have changed names itself */
	int64_t distrust_ns; /* what was confirmed before is not believed */
	uint64_t epoch; /* counts the starts that found reason to doubt */
	uint64_t next_ino, next_cid; /* smallest numbers never given */
	char boot_id[RECORD_BOOT_MAX];
	char identity[RECORD_IDENTITY_MAX];
};

void record_state_encode(struct buf *out, const struct record_state *s);
MUST_CHECK int record_state_decode(const void *p, size_t n,
				   struct record_state *s);

/* Big-endian, so that byte order in the database is numeric order. */
static inline void record_be64(uint8_t *p, uint64_t x)
{
	for (int i = 7; i >= 0; i--, x >>= 8)
		p[i] = x;
}

static inline uint64_t record_get_be64(const uint8_t *p)
{
	uint64_t x = 0;

	for (int i = 0; i < 8; i++)
		x = x << 8 | p[i];
	return x;
}

#endif
