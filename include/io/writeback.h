/*
 * Content being written: the staged bytes of one file, reads that see them,
 * and how they reach R2.
 *
 * A writeback begins empty or from an object version (its base) of which only
 * what was overwritten is local. writeback_store makes R2 hold the content: one
 * PUT for what is small, a multipart upload otherwise, in which ranges
 * unchanged since the base are copied by R2 itself; a COPY when only metadata
 * changed or the base is an object elsewhere. A fresh file's full parts travel
 * while it is still being written.
 *
 * Changes may be made at any time, also during a store; a store covers what
 * was there when it began, and a range that changed under it is sent again, but
 * not for ever: at last it is sent as it was at one moment.
 * Reference-counted, thread-safe. Only writeback_store, writeback_fill,
 * writeback_salvage and writeback_publish wait for the network or do long disk
 * work.
 */
#ifndef IO_WRITEBACK_H
#define IO_WRITEBACK_H

#include "cache/meta.h"
#include "cache/stage.h"
#include "io/fill.h"

struct writebacks;
struct writeback;

struct writeback_config {
	struct store *store;
	struct fills *fills;
	struct blocks *blocks;
	struct meta *meta; /* gives content ids */
	struct stage *stage;
	struct tasks *tasks; /* threads that may wait */
	struct pool *pool;
	uint64_t put_max; /* largest single PUT; default 32 MiB */
	uint64_t copy_max; /* largest single COPY; default R2's 5 GiB */
	uint64_t part_size; /* wished; 0: chosen by size */
	/* As far as R2 takes them (struct part_window): */
	unsigned parts_in_flight; /* any upload may have so many; default 4 */
	unsigned parts_together; /* more while all have fewer; default 16 */
};

/* Borrows everything in config. */
struct writebacks *writebacks_create(const struct writeback_config *config);
void writebacks_destroy(struct writebacks *ws); /* no writeback may be left */
struct stage *writebacks_stage(struct writebacks *ws);

struct writeback_base {
	const char *key, *etag;
	uint64_t cid, size;
};

/* base NULL: an empty file. -ENOSPC, ... */
MUST_CHECK int writeback_create(struct writebacks *ws,
				const struct writeback_base *base,
				struct writeback **ret);
/* Takes up what an earlier run left: staged and rec are given. */
MUST_CHECK int writeback_resume(struct writebacks *ws, struct staged *staged,
				struct journal_rec *rec,
				struct writeback **ret);
void writeback_ref(struct writeback *wb);
void writeback_put(struct writeback *wb); /* NULL is fine */

uint64_t writeback_size(struct writeback *wb);
uint64_t writeback_id(struct writeback *wb); /* names it in the journal */

/* -ENOSPC: the disk is full up to --min-free, and the cache has given way. */
MUST_CHECK int writeback_write(struct writeback *wb, const void *buf, size_t n,
			       uint64_t off);
/* What was written there shall soon be durable: the disk may begin. */
void writeback_flush_start(struct writeback *wb, uint64_t off, uint64_t n);
MUST_CHECK int writeback_truncate(struct writeback *wb, uint64_t size);
/* Zeros over [off, off + n); past the end only if grow. */
MUST_CHECK int writeback_zero(struct writeback *wb, uint64_t off, uint64_t n,
			      bool grow);
/* An empty file becomes a copy of base up to `end`, made by R2 when it is
 * stored; or one that is such a copy up to `off` goes on. -EINVAL: it is
 * neither, or is being stored. */
MUST_CHECK int writeback_copy(struct writeback *wb,
			      const struct writeback_base *base, uint64_t off,
			      uint64_t end);
/* The metadata to be stored has changed, other than by a change of bytes. */
void writeback_touch(struct writeback *wb);
/* Counts changes of any kind. */
uint64_t writeback_changes(struct writeback *wb);
/* What it builds on, and what was stored, lies at another key now. */
void writeback_moved(struct writeback *wb, const char *key, const char *etag);
/* What was stored was for another name: all is to be stored again. */
void writeback_forget_store(struct writeback *wb);
/* Anything R2 does not hold yet? */
bool writeback_dirty(struct writeback *wb);

/* Does it hold bytes that are not those of its base? */
bool writeback_adds_bytes(struct writeback *wb);
/* Is all that the object at key does not hold metadata? */
bool writeback_same_content(struct writeback *wb, const char *key);
/* Was the content made from a version of the object at key? */
bool writeback_builds_on(struct writeback *wb, const char *key);
/* Does part of it lie in an object elsewhere, which may go at any time? */
bool writeback_borrows(struct writeback *wb, const char *key);
/* Would writeback_fill need no network? */
bool writeback_is_cached(struct writeback *wb);

/* As fill_read: done is called once, inline or later. The caller holds a
 * reference until then. */
void writeback_read(struct writeback *wb, struct fill_read *r);

/* Bytes that are local, or holes, after writeback_fill. */
MUST_CHECK int writeback_peek(struct writeback *wb, void *buf, size_t n,
			      uint64_t off);

/* Next data or hole at or after off, as lseek. -ENXIO past the end. */
MUST_CHECK int writeback_seek(struct writeback *wb, uint64_t off, bool hole,
			      uint64_t *ret);

/* Brings all of the base in: the content no longer needs the object. */
MUST_CHECK int writeback_fill(struct writeback *wb,
			      struct store_interrupt *interrupt);

/* Brings in what the cache has of the base, of a version that is gone from R2:
 * nothing else can. Waits for the disk only. */
void writeback_salvage(struct writeback *wb);

/* The next bytes at or after *off that only the base has: [*off, *end). False:
 * there are none. */
bool writeback_lacks(struct writeback *wb, uint64_t *off, uint64_t *end);

struct writeback_target {
	const char *key;
	bool create; /* there must be no object: -EEXIST */
	const char *if_match; /* replace this version only: -ESTALE; or NULL */
	const struct store_meta *meta; /* NULL: the source's, for a COPY */
	uint64_t cid; /* content id the stored version will have */
	uint64_t as_of; /* meta has the changes up to here; 0: all */
};

struct writeback_result {
	bool stored; /* by this call; else R2 had it already */
	bool refused; /* for a moment, since the key was written too often */
	struct store_etag etag;
	uint64_t size;
	int64_t time_ns; /* R2's clock when it had answered, in whole seconds;
			  * 0: not said */
	char why[192]; /* of an error */
};

/*
 * Returns when R2 holds the content that was here at the call; 0 at once if
 * it already does under this key. One store at a time; later callers wait and
 * are often done by then. More than a few in a row, and any of a key that R2
 * has refused one of, are held to one a second (io/pace.h).
 *
 * The metadata of a file that was streamed is that of its beginning: if it was
 * touched since, R2 copies the object onto itself with the new one. Should that
 * fail, or bytes have changed again, the content is stored and the writeback
 * stays dirty.
 */
MUST_CHECK int writeback_store(struct writeback *wb,
			       const struct writeback_target *target,
			       struct store_interrupt *interrupt,
			       struct writeback_result *ret);

/* Full parts of a fresh file begin to travel to target->key, if that is
 * worth it. Cheap; call after writes. Copies target. */
void writeback_stream(struct writeback *wb,
		      const struct writeback_target *target);

/* Gives up a multipart upload under way: R2 forgets its parts. */
void writeback_abort(struct writeback *wb);

/*
 * Writes the journal record: state, deferred, create, key, etag, blob and why
 * from rec, the rest from here; what was stored by now at that key is the
 * version to be replaced, whatever rec says. One that replaces a durable record
 * is durable. While parts are uploaded the record is kept up to date, so that a
 * crash need not begin again.
 */
MUST_CHECK int writeback_record(struct writeback *wb,
				const struct journal_rec *rec, bool durable);
/* The last record again, if there is one, with what R2 has by now. What it owes
 * and R2 has not stays as it was promised, whatever was written since; once R2
 * has it, what was written since is not owed. */
void writeback_rerecord(struct writeback *wb);
/* It shall survive a power cut, if it does not yet. */
void writeback_make_durable(struct writeback *wb);

/* R2 has everything: the record goes, the bytes stay. */
void writeback_unrecord(struct writeback *wb);

/* Hands the stored content to the cache as cid: reads then cost no request. Of
 * what is not local, up to 64 MiB are copied from the blocks that the cache has
 * of the version it was made from. Failure is no loss. */
void writeback_publish(struct writeback *wb, uint64_t cid);

/* Removes bytes and record when the last reference goes. */
void writeback_discard(struct writeback *wb);

#endif
