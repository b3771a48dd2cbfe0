/*
 * The folder stage/: files being written, and the journal of what is owed.
 *
 * A staged file is a sparse local file `<id>` (or `<id>.second`: see
 * staged_truncate) with the set of ranges that hold written bytes, its size,
 * and what part of the object it began from (the base) is still valid. Beside
 * it lies its record `<id>.rec` (cache/journal.h). Unlike the rest of the cache
 * folder this is precious: nothing here is removed except by staged_discard.
 *
 * Thread-safe. Changes of the bytes of one file happen one after the other;
 * no question waits for them.
 */
#ifndef CACHE_STAGE_H
#define CACHE_STAGE_H

#include <sys/types.h>

#include "cache/journal.h"

struct stage;
struct staged;

/* Makes the folder if missing, and removes bytes that no record speaks of. dir
 * is the cache folder. */
MUST_CHECK int stage_open(const char *dir, struct stage **ret);
void stage_close(struct stage *s); /* no staged file may be open */

/* Calls fn for the id of each record found; fn may open and discard it. */
MUST_CHECK int stage_each(struct stage *s, void (*fn)(uint64_t id, void *arg),
			  void *arg);

/* A new empty staged file. -ENOSPC, ... */
MUST_CHECK int staged_create(struct stage *s, struct staged **ret);
/* One that an earlier run left; gives rec. -EBADMSG: the record is damaged. */
MUST_CHECK int staged_load(struct stage *s, uint64_t id, struct staged **ret,
			   struct journal_rec *rec);
/* Reads a record without opening its file. */
MUST_CHECK int stage_read_record(struct stage *s, uint64_t id,
				 struct journal_rec *rec);
void staged_close(struct staged *f); /* keeps file and record; NULL is fine */
void staged_discard(struct staged *f); /* removes both and closes */

uint64_t staged_id(const struct staged *f);
/* The local file is as long as the size; a hole in it is zeros, or base. */
int staged_fd(const struct staged *f);
uint64_t staged_size(struct staged *f);
uint64_t staged_base_len(struct staged *f);

/* Everything up to size comes from the base until written. So far the file is
 * `from` bytes of base and nothing else (-EINVAL); a new file is 0. */
MUST_CHECK int staged_set_base(struct staged *f, uint64_t from, uint64_t size);

/* 0 or -errno (-ENOSPC). Grows the size. A write that fails leaves nothing
 * beyond it. */
MUST_CHECK int staged_write(struct staged *f, const void *buf, size_t n,
			    uint64_t off);
/* They begin to go to the disk, so that a durable staged_save has less to wait
 * for. */
void staged_flush_start(struct staged *f, uint64_t off, uint64_t n);
/* Bytes of the base brought in: as a write, but never over written bytes, and
 * not beyond what is left of the base. */
MUST_CHECK int staged_write_base(struct staged *f, const void *buf, size_t n,
				 uint64_t off);
/* If the record on disk owes more than that: a file made empty goes on in a
 * second local file, so that what is owed stays whole until the next record is
 * saved; else the record is made shorter first. */
MUST_CHECK int staged_truncate(struct staged *f, uint64_t size);

/* Zeros over [off, end), as far as the size. */
MUST_CHECK int staged_zero(struct staged *f, uint64_t off, uint64_t end);

enum staged_kind { STAGED_LOCAL, STAGED_BASE, STAGED_HOLE };

/* Where the bytes at off come from; *len (> 0) is cut to the run of that
 * kind. off + *len must not pass the size. */
enum staged_kind staged_kind_at(struct staged *f, uint64_t off, uint64_t *len);

/* Does any written byte, or the end of the base before `end`, lie in
 * [off, end)? False: the range is unchanged base. */
bool staged_changed(struct staged *f, uint64_t off, uint64_t end);

/* Reads local bytes and holes (zeros). */
MUST_CHECK int staged_read(struct staged *f, void *buf, size_t n, uint64_t off);

/* A local file of its own that holds [off, off + n) as of now, from 0 on; it is
 * gone when it is closed. -ENOSPC, ... */
MUST_CHECK int staged_snapshot(struct staged *f, uint64_t off, uint64_t n,
			       int *ret_fd);

/*
 * Writes the record: rec as given, with ranges, size and base_len filled in
 * from the file. durable: bytes and record survive a power cut on return, as
 * they do anyway if the record replaced was durable.
 */
MUST_CHECK int staged_save(struct staged *f, struct journal_rec *rec,
			   bool durable);

/* As staged_save, but what the record on disk owes stays owed: the content, of
 * when that was promised, is kept, and the base too if rec names none. */
MUST_CHECK int staged_save_promise(struct staged *f, struct journal_rec *rec,
				   bool durable);
/* Is there a record that survives a power cut? */
bool staged_is_durable(struct staged *f);

/* Removes the record only. */
void staged_forget_record(struct staged *f);

/* ---- other small files of the folder, `<id>.<kind>` ---- */

uint64_t stage_new_id(struct stage *s);
char *stage_kind_path(struct stage *s, uint64_t id, const char *kind);
MUST_CHECK int stage_each_kind(struct stage *s, const char *kind,
			       void (*fn)(uint64_t id, void *arg), void *arg);

/* ---- notes: records that speak of no bytes ---- */

#define STAGE_MOVE	 "move" /* all keys of the prefix base_key go to key */
#define STAGE_ATTRIBUTES "attr" /* blob is owed to the folder key */

/* Writes the note, or replaces the one of this id (stage_new_id). One call for
 * an id at a time. durable: it survives a power cut on return. */
MUST_CHECK int stage_note(struct stage *s, const char *kind, uint64_t id,
			  const struct journal_rec *rec, bool durable);
/* Gives rec; journal_release. */
MUST_CHECK int stage_read_note(struct stage *s, const char *kind, uint64_t id,
			       struct journal_rec *rec);
/* It is gone for good on return. */
void stage_note_done(struct stage *s, const char *kind, uint64_t id);

#endif
