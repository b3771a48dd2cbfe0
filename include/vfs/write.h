/*
 * Internals of the vfs's write side.
 *
 * An inode that was changed has a writeback (inode.wb) until R2 holds the
 * change and no handle may write any more; then its content is handed to the
 * cache and the writeback goes. While it is there the inode is its own truth:
 * neither TTL nor listing touches it.
 *
 * Owed: an inode whose store happens later, by the uploader's task: deferred
 * temporary names, --writeback, attributes changed on a closed file.
 */
#ifndef VFS_WRITE_H
#define VFS_WRITE_H

#include "io/writeback.h"
#include "vfs/inode.h"

/* Time until an owed store is tried. */
#define OWED_ATTR_NS 300000000ll
#define OWED_TEMP_NS 30000000000ll
/* --writeback: what is removed or written again at once (SQLite's journal)
 * is not sent. */
#define OWED_JOURNAL_NS 200000000ll
/* What was promised and is written to again waits no longer for its next
 * close. */
#define OWED_HELD_NS 10000000000ll

/* ---- turn.c ---- */

/* One at a time stores an inode, renames or removes it; meanwhile its content
 * is not let go of, so who ends it settles it. Waits while a folder above
 * moves: keys are valid from here to the end. Not nested. */
void inode_begin(struct vfs *v, struct inode *i);
void inode_end(struct vfs *v, struct inode *i);
/* The same of up to two inodes (or NULL) at once, and of dir, in which a name
 * is made or removed, by any number. -EINTR. End each. */
MUST_CHECK int inodes_begin(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *a, struct inode *b,
			    struct inode *dir);
void dir_end(struct vfs *v, struct inode *dir);
/* Does a folder above it move? */
bool inode_is_moving(struct vfs *v, const struct inode *i);
/* Waits until no content of i is on its way to the cache, and no folder above
 * moves; -EAGAIN with nowait, -EINTR. */
MUST_CHECK int inode_wait_settled(struct vfs *v, const struct vfs_ctx *ctx,
				  struct inode *i);
/* The same, and keeps the content from going there until inode_let_go. */
MUST_CHECK int inode_hold(struct vfs *v, const struct vfs_ctx *ctx,
			  struct inode *i);
void inode_let_go(struct vfs *v, struct inode *i);
/* A hold or a handle has ended. If it was the last: what no flush has stored (a
 * mapping written after close, a flush that failed) is seen to. */
void inode_unused(struct vfs *v, struct inode *i);
/* Nothing below dir is begun, nor made or removed there, until the end; it is
 * to move into `to`. -EINTR. */
MUST_CHECK int folder_begin(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *dir, struct inode *to);
void folder_end(struct vfs *v, struct inode *dir, struct inode *to);
/* May the writeback go? Then nobody changes the content until inode_settled. The
 * first does not wait, and only for what R2 has or nobody needs; the second
 * waits for its turn, and is for what R2 has refused; the third is for who has
 * begun the inode, and lets nothing go. */
MUST_CHECK bool inode_begin_settling(struct vfs *v, struct inode *i,
				     const struct writeback *wb);
MUST_CHECK bool inode_begin_abandoning(struct vfs *v, struct inode *i,
				       const struct writeback *wb);
MUST_CHECK bool inode_begin_publishing(struct vfs *v, struct inode *i,
				       const struct writeback *wb);
void inode_settled(struct vfs *v, struct inode *i);

/* ---- write.c: content ---- */

/* Makes sure the object's metadata is known (one HEAD at most). */
MUST_CHECK int inode_headers(struct vfs *v, const struct vfs_ctx *ctx,
			     struct inode *i);

/* The inode's writeback, made from its present version if there is none, with
 * a reference. empty: the content begins anew. Needs no network. */
MUST_CHECK int inode_stage(struct vfs *v, struct inode *i, bool empty,
			   struct writeback **ret);
/* The writeback, with a reference, or NULL. */
struct writeback *inode_staged(struct vfs *v, struct inode *i);

/* R2 holds (or, where that is the promise, the journal owes) what was
 * written; R2, if the journal cannot be written. Logs a failure once and keeps
 * the bytes. What the journal owes of a
 * temporary name survives a power cut only with sync. */
MUST_CHECK int inode_flush(struct vfs *v, const struct vfs_ctx *ctx,
			   struct inode *i, bool sync);
/* The same, of a writer, who has the error: if he was the last, the content is
 * given up. */
MUST_CHECK int inode_close(struct vfs *v, const struct vfs_ctx *ctx,
			   struct inode *i, bool sync);
/* R2 holds it under its name on return, whatever the mode. */
MUST_CHECK int inode_store(struct vfs *v, const struct vfs_ctx *ctx,
			   struct inode *i);
/* The same, at `key`, unconditionally or only if nothing is there; the inode's
 * own record is left alone. meta: of what R2 has already; NULL: R2's copy takes
 * it along. */
MUST_CHECK int inode_store_at(struct vfs *v, const struct vfs_ctx *ctx,
			      struct inode *i, const char *key, bool absent,
			      uint64_t cid, const struct store_meta *meta,
			      struct writeback_result *ret);
/* Lets go of a clean writeback nobody writes to. */
void inode_settle(struct vfs *v, struct inode *i);
/* What was stored last goes to the cache as cid, if nobody may have changed it
 * since. The inode is begun. */
void inode_publish_copy(struct vfs *v, struct inode *i, struct writeback *wb,
			uint64_t cid);
/* Content is kept for those who have it open; nothing will be stored. */
MUST_CHECK int inode_orphan(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *i);
/* Bytes and record stay in the journal; the name is R2's again. Not while a
 * handle may write: then the next flush asks R2 and has its error. Nor if the
 * journal cannot be written: then it is tried again later. */
void inode_abandon(struct vfs *v, struct inode *i);

/* What shows of a changed inode, into the cache: its name, size, times. */
void inode_publish_name(struct vfs *v, struct inode *i);

/* Forgets what was staged, and the name with it. */
void inode_drop(struct vfs *v, struct inode *i);
/* Is there an inode of this number in memory with changes of ours? */
bool inode_is_held(struct vfs *v, uint64_t ino);
/* Content an earlier run left; takes the reference. */
void inode_adopt(struct vfs *v, struct inode *i, struct writeback *wb,
		 bool deferred);

/* ---- journal.c ---- */

/* From the first written byte on the journal knows of the file. */
void inode_journal_open(struct vfs *v, struct inode *i, struct writeback *wb);
/* What the inode is and holds is owed from now on, whatever happens to the
 * daemon, or (durable) to the machine. */
MUST_CHECK int inode_journal_owed(struct vfs *v, struct inode *i,
				  struct writeback *wb, bool durable);
/* It is kept for the person who decides about it. */
MUST_CHECK int inode_journal_failed(struct vfs *v, struct inode *i,
				    struct writeback *wb, const char *why);
/* R2 has what it had when the store began: the journal keeps what was changed
 * since. */
void inode_journal_stored(struct vfs *v, struct inode *i, struct writeback *wb);
/* What the journal has of it survives a power cut. */
void inode_make_durable(struct vfs *v, struct inode *i);
/* The journal forgets it. */
void inode_unjournal(struct vfs *v, struct inode *i);
/* If it has a record: that again, after the key or attributes changed. If it
 * cannot be written, and is what was promised, R2 has it soon. */
void inode_rejournal(struct vfs *v, struct inode *i);

struct new_name {
	struct inode *dir;
	const char *name, *key;
	const char *replaces; /* ETag of what is at the key now; "" nothing */
	bool temporary;
};

/* Names a file that R2 knows nothing of, or that is owed, in the journal and
 * in memory. What old (or NULL), whose name that was, is promised stays in the
 * journal until inode_unjournal: there is no moment without one of both. Both
 * are begun. -errno: the record cannot be written, and is what was promised;
 * nothing has changed. */
MUST_CHECK int inode_rename(struct vfs *v, struct inode *i, struct inode *old,
			    const struct new_name *to, bool owed);

/* ---- version.c: what a store replaces ---- */

/* As writeback_store, over the version that the inode knows of, or another one
 * that its content may replace: t says what, this says over which. The inode is
 * begun. */
MUST_CHECK int version_store(struct vfs *v, const struct vfs_ctx *ctx,
			     struct inode *i, struct writeback *wb,
			     const struct writeback_target *t,
			     struct writeback_result *r);
/* It is at this key from now on. What a store without an answer may have left
 * at another one is removed. The inode is begun. */
void version_renamed(struct vfs *v, struct inode *i, const char *key);
/* Every store of it has been heard of, or no longer matters. */
void version_forget_locked(struct inode *i);

/* ---- failure.c: what the log says ---- */

/* A store has failed; keeps it for the journal. False: nobody needs the file
 * now. */
bool failure_note(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		  struct writeback *wb, int err, const char *why);
/* The store is given up: its error, and the reason for the journal. What the
 * cache has of the version before joins the staged file. */
int failure_end(struct vfs *v, struct inode *i, struct writeback *wb, char *why,
		size_t n);
/* Logs the end. unkept: -errno if the journal has no record of it. */
void failure_kept(struct vfs *v, struct inode *i, struct writeback *wb, int err,
		  const char *why, int unkept);
/* A write could not be staged. The journal learns of those before it. */
void failure_staging(struct vfs *v, struct inode *i, int err);
/* It has been stored. */
void failure_over(struct vfs *v, struct inode *i);

/* ---- owed.c: the uploader ---- */

/* Stores the inode after the delay (nanoseconds), whoever has it open. */
void inode_owe(struct vfs *v, struct inode *i, int64_t delay_ns);
/* The same, after a failure: ever later. */
void inode_owe_again(struct vfs *v, struct inode *i);
/* Nothing is owed any more; whether it was. */
bool inode_unowe(struct vfs *v, struct inode *i);

/* Is it worth another try, of something nobody waits for? */
bool error_may_pass(int err);

/* Is name one of those that wait for their rename? */
bool name_is_temporary(const struct vfs *v, const char *name);
/* Is it one that O_EXCL shall take in R2 at once? */
bool name_is_lock(const struct vfs *v, const char *name);

/* ---- attr.c: metadata ---- */

/* Pairs to be stored with the inode's object; release. */
void inode_pairs(struct vfs *v, struct inode *i, struct store_meta *ret);
void inode_pairs_locked(const struct inode *i, struct store_meta *ret);
/* Those a GET or HEAD has shown, without what the inode itself keeps. */
void load_pairs(struct vfs *v, const struct place *p, struct store_meta *ret);
void pairs_set(struct store_meta *m, const char *name, const char *value);
void pairs_unset(struct store_meta *m, const char *name);
void pairs_unset_attributes(struct store_meta *m); /* what stat shows */

/* On the inode alone. */
void change_apply_locked(struct inode *i, const struct vfs_change *c);
/* The attributes that wb is to store have changed: they are owed, and the
 * journal knows, durably with --writeback. */
MUST_CHECK int inode_touched(struct vfs *v, struct inode *i,
			     struct writeback *wb);

/* ---- folder.c ---- */

/* Changes a folder's attributes; they are owed, and the journal knows. */
MUST_CHECK int folder_touch(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *i, const struct vfs_change *c);
/* Its attributes to its marker, now; or if they are owed (after an error they
 * are still); or nobody will any more, and nobody is. */
MUST_CHECK int folder_store(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *i);
MUST_CHECK int folder_flush(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *i);
void folder_quiet(struct vfs *v, struct inode *i);
/* What the journal has of them survives a power cut; it forgets them. */
void folder_make_durable(struct vfs *v, struct inode *i);
void folder_give_up(struct vfs *v, struct inode *i);

/* ---- headers.c ---- */

/* Before a store of the object at key: takes over what others changed of its
 * metadata, if it was confirmed longer ago than the TTL (one HEAD at most). */
MUST_CHECK int inode_renew(struct vfs *v, const struct vfs_ctx *ctx,
			   struct inode *i, const char *key);
/* The time for a record of what was just stored, with META_STORED. */
int64_t stored_ns(int64_t answered_ns);

/* ---- change.c ---- */

/* PUT of a small object from memory; of *ret etag and time are set. */
MUST_CHECK int put_small(struct vfs *v, const struct vfs_ctx *ctx,
			 const char *key, const void *data, size_t n,
			 const struct store_meta *meta, bool absent,
			 struct store_attr *ret);
MUST_CHECK int delete_key(struct vfs *v, const struct vfs_ctx *ctx,
			  const char *key);
/* May a name be made or removed in dir? -EROFS, -EINVAL, -ENAMETOOLONG ... */
MUST_CHECK int name_check(struct vfs *v, struct inode *dir, const char *name,
			  bool is_dir);
/* -ENOTEMPTY, or 0. */
MUST_CHECK int folder_is_empty(struct vfs *v, const struct vfs_ctx *ctx,
			       struct inode *dir, const char *name,
			       const struct meta_rec *rec);
/* The name leads nowhere, as of now. */
void name_gone(struct vfs *v, struct inode *dir, const char *name);
/* Where the name leads is to be asked of R2, and what else dir holds. */
void name_forget(struct vfs *v, struct inode *dir, const char *name);
/* All that is known of what lies below dir is to be asked for again. */
void names_doubt(struct vfs *v, uint64_t dir);
/* Its name leads elsewhere, or nowhere. */
void inode_unname_locked(struct inode *i);
/* What was begun and orphaned ends: its name leads elsewhere, if gone, or to
 * it as before. Drops the reference; NULL is fine. */
void name_displaced(struct vfs *v, struct inode *i, bool gone);

/* ---- resume.c ---- */

/* The directory of a key, made known as it must be, with a reference; cuts key
 * up, *name is its last component. NULL: the key is none of this mount. */
struct inode *key_walk(struct vfs *v, char *key, char **name);

/* Parts of a file that will not be finished: R2 bills them for a week. */
void upload_abort(struct vfs *v, struct journal_rec *rec);

/* ---- rekey.c ---- */

struct copied_key {
	const char *from, *to;
	const char *etag, *new_etag;
};

/* R2 has copies of these, in order of `from`, under other ETags: what the
 * journal has of files that replace them, or build on them, is of the copies
 * now. While no file is open. */
MUST_CHECK int journal_copied(struct vfs *v, const struct copied_key *keys,
			      size_t n);

/* What the journal has of files and folders below `from` is of `to` now. While
 * no file is open: before the first request. */
MUST_CHECK int journal_moved(struct vfs *v, const char *from, const char *to);
/* The same at any time, of what nobody has in use: failed entries. */
void journal_failed_moved(struct vfs *v, const char *from, const char *to);

/* ---- rename.c ---- */

struct moved_inode {
	struct list link;
	struct inode *inode;
};

void inode_move(struct vfs *v, struct inode *i, struct inode *dir,
		const char *name);
/* Those of folders that failed can no longer be repeated. */
void renames_forget(struct vfs *v);

/* ---- move.c ---- */

struct move {
	const char *from, *to; /* keys of folders */
	/* Its names in the cache, the old ones, which are to move next, learn
	 * the ETags of R2's copies; NULL: the cache knows none. */
	struct inode *dir;
	bool fresh; /* the first attempt, and there is no folder `to` */
};

/* What is at the key (one HEAD), and the pairs with which a copy in parts, to
 * which R2 gives none, is like it; release both. */
MUST_CHECK int object_look(struct vfs *v, const struct vfs_ctx *ctx,
			   const char *key, struct store_attr *ret,
			   struct store_meta *ret_pairs);

/* Moves every key that begins with `from`. -ENOTEMPTY: an object is at one of
 * the new keys. After an error it can be called again, and each object is at
 * its old or its new key, or both. */
MUST_CHECK int move_keys(struct vfs *v, const struct vfs_ctx *ctx,
			 const struct move *m);

#endif
