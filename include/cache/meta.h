/*
 * What is known about names: dentries, attributes, directory completeness.
 *
 * A dentry is (parent inode, name) -> struct meta_rec. Directories are known
 * by inode number; the root is CACHE_ROOT_INO and has no dentry. A negative
 * entry is a record of kind META_ABSENT. Freshness is not decided here: a
 * record carries when R2 last confirmed it, the caller compares with its TTL.
 *
 * Puts are visible to every later get and list at once and reach the disk in
 * batches (cache_config.commit_ms), so a crash forgets the last moment, no
 * more. Inode numbers: allocated here, never reused, stable across remounts;
 * a name keeps its number as long as its kind stays the same.
 */
#ifndef CACHE_META_H
#define CACHE_META_H

#include "cache/cache.h"

struct meta;

enum meta_kind { META_ABSENT, META_FILE, META_DIR };

enum meta_flags {
	META_HAS_HEADERS = 1 << 0, /* blob holds the object's x-amz-meta (a GET
				    * or HEAD was seen for this etag) */
	META_MARKER = 1 << 1, /* META_DIR: a "name/" marker object exists */
	META_SHADOWED = 1 << 2, /* META_FILE that lies beside a directory of the
				 * same name and is shown under the suffix */
	META_INFREQUENT = 1 << 3, /* storage class STANDARD_IA */
	META_STAGED = 1 << 4, /* content is not in R2 yet: a listing neither
			       * replaces nor removes the name */
	META_STORED = 1 << 5, /* META_FILE: stored here, by an answer of the
			       * second mtime_ns: R2's time is no later */
	META_OLD_HEADERS = 1 << 6, /* blob is what x-amz-meta was before
				    * somebody replaced it; to be asked for */
};

struct meta_rec {
	uint64_t ino; /* 0 in a put: keep the name's own or allocate */
	uint8_t kind;
	uint8_t flags;
	uint64_t size;
	int64_t mtime_ns; /* R2's time of the object */
	int64_t checked_ns; /* wall time when R2 last confirmed this */
	uint64_t cid; /* content id, 0 until content is cached or opened */
	char etag[CACHE_ETAG_MAX]; /* "" for directories */
	void *blob; /* opaque bytes (x-amz-meta pairs), NULL if none */
	uint32_t blob_len;
};

void meta_rec_release(struct meta_rec *rec); /* frees blob */

/* The record of a name; -ENOENT when nothing is known (a negative entry is
 * a record, not -ENOENT). Release ret. */
MUST_CHECK int meta_get(struct meta *m, uint64_t parent, const char *name,
			struct meta_rec *ret);

/*
 * Stores what R2 said of a name and gives the merged record in *ret (may be
 * NULL): the inode number is kept or allocated; when the etag and size equal
 * the known ones, the known cid is kept, and the known blob is kept if
 * rec lacks META_HAS_HEADERS; else cid is 0 and must be asked for anew. A blob
 * kept across another time of the object is META_OLD_HEADERS: a COPY onto
 * itself replaces metadata and leaves the ETag. Borrows rec.
 */
MUST_CHECK int meta_put(struct meta *m, uint64_t parent, const char *name,
			const struct meta_rec *rec, struct meta_rec *ret);

/*
 * The same of the answer to a question that was asked at rec->checked_ns. What
 * is known from a later time, or waits for its upload, stays and is given; it
 * takes the blob if it has none of this version.
 */
MUST_CHECK int meta_learn(struct meta *m, uint64_t parent, const char *name,
			  const struct meta_rec *rec, struct meta_rec *ret);

/* May ns, of a header in whole seconds or of a listing in milliseconds, be
 * R2's time of an object with this mtime_ns and these flags? */
bool meta_same_time(uint8_t flags, int64_t mtime_ns, int64_t ns);

MUST_CHECK int meta_del(struct meta *m, uint64_t parent, const char *name);

/* Another number than before if names of the directory were put, learnt,
 * moved or deleted one by one since; sometimes although none was. */
uint64_t meta_changes(struct meta *m, uint64_t ino);

/* The record moves to another name with its number, content id and blob; what
 * the new name was is replaced, the old one becomes absent. A directory takes
 * its names along. -ENOENT. */
MUST_CHECK int meta_move(struct meta *m, uint64_t from_dir, const char *from,
			 uint64_t to_dir, const char *to, int64_t now_ns);

/* Gives the name's record a content id if it has none (allocating one) and
 * returns it; the etag must still be `etag`, else -ESTALE. */
MUST_CHECK int meta_cid(struct meta *m, uint64_t parent, const char *name,
			const char *etag, uint64_t *ret_cid);

/* A fresh inode number / content id that belongs to no name. */
uint64_t meta_new_ino(struct meta *m);
uint64_t meta_new_cid(struct meta *m);

struct meta_entry {
	char name[CACHE_NAME_MAX + 1];
	struct meta_rec rec;
};

/* ---- listings ---- */

struct meta_dir {
	int64_t complete_ns; /* wall time when the last full listing BEGAN;
			      * 0: never listed to its end */
	uint64_t entries; /* visible names at that time */
	uint64_t hidden; /* keys that cannot be names, at that time */
	int64_t changed_ns; /* as said by meta_dir_changed; 0: never */
};

MUST_CHECK int meta_dir_get(struct meta *m, uint64_t ino, struct meta_dir *ret);

/* A listing of directory `ino` begins; its pages carry *ret_gen. */
MUST_CHECK int meta_dir_begin(struct meta *m, uint64_t ino, uint32_t *ret_gen);

/* One page: merges n entries as meta_put does and writes the merged records
 * back into entries[] (inos, kept cids and blobs). */
MUST_CHECK int meta_dir_page(struct meta *m, uint64_t ino, uint32_t gen,
			     struct meta_entry *entries, unsigned n);

/* The listing reached its end: the directory is complete as of started_ns;
 * names not seen since meta_dir_begin (and not put by meta_put meanwhile)
 * are gone. */
MUST_CHECK int meta_dir_end(struct meta *m, uint64_t ino, uint32_t gen,
			    int64_t started_ns, uint64_t hidden);

/* A listing at one go, of a directory of which nothing is known, neither names
 * nor a listing under way: else -EEXIST. It is complete as of complete_ns, or
 * not if that is 0. Merges as meta_dir_page does. */
MUST_CHECK int meta_dir_fill(struct meta *m, uint64_t ino,
			     struct meta_entry *entries, unsigned n,
			     int64_t complete_ns, uint64_t hidden);

/* When a name was last made or removed in the directory, wall time; kept
 * across listings. */
MUST_CHECK int meta_dir_changed(struct meta *m, uint64_t ino,
				int64_t changed_ns);

/* The directory is no longer known complete. */
MUST_CHECK int meta_dir_forget(struct meta *m, uint64_t ino);

/* Copies up to max non-negative entries with names after `after` (bytewise;
 * NULL from the start) into entries[]; the count, or -errno. Release each. */
MUST_CHECK int meta_list(struct meta *m, uint64_t ino, const char *after,
			 struct meta_entry *entries, unsigned max);

/* All pending puts are committed to the database file on return. */
MUST_CHECK int meta_flush(struct meta *m);

#endif
