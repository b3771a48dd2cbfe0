/*
 * The file system: names, inodes, handles. What POSIX calls mean on a bucket.
 *
 * Callable without a kernel: fuse/ops.c and the tests use the same functions.
 * Every call takes a struct vfs_ctx. With ctx->nowait a call that would need
 * the network changes nothing and returns -EAGAIN; the caller repeats it
 * without nowait on a thread that may wait. Waiting calls end early with
 * -EINTR when ctx->interrupt is raised. No lock is held while waiting.
 *
 * Inode numbers come from the cache and are stable across remounts. The
 * lookup count protocol is FUSE's: each vfs_lookup that returns an inode, and
 * each entry a readdirplus callback accepts, counts one; vfs_forget gives
 * back. Thread-safe.
 *
 * Names (r2-facts: naming): a key component that cannot be a name (empty,
 * ".", "..", over 255 bytes, not UTF-8, with NUL) is hidden and counted. An
 * object `a` beside a folder `a/` is shown as `a.r2object`, the folder as `a`.
 */
#ifndef VFS_VFS_H
#define VFS_VFS_H

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "cache/cache.h"
#include "io/fill.h"
#include "io/writeback.h"
#include "store/store.h"

struct vfs;
struct vfs_file;
struct vfs_dir;

#define VFS_TTL_INDEFINITE INT64_MAX
#define VFS_OBJECT_SUFFIX  ".r2object"

struct vfs_config {
	struct store *store;
	struct cache *cache;
	struct fills *fills;
	struct tasks *tasks; /* threads that may wait for the network */
	unsigned ahead; /* files brought before they are asked for, at once;
			 * 0: none */
	unsigned listahead; /* folders listed likewise; 0: none */
	uint64_t ahead_bytes; /* at most so much of the cache for such files
			       * that nobody has read yet; 0: no limit */
	size_t held_max; /* inodes, before the kernel is asked to forget some;
			  * 0: no limit */
	const char *prefix; /* "" or "some/folder/": the mount's root */
	int64_t metadata_ttl_ns; /* or VFS_TTL_INDEFINITE */
	int64_t negative_ttl_ns;
	uid_t uid;
	gid_t gid;
	mode_t file_mode, dir_mode; /* permission bits where R2 has none */
	mode_t umask; /* cleared from every mode shown */
	struct writebacks *writebacks; /* NULL: read-only */
	bool journal_close; /* --writeback: close ends at the journal */
	bool offline_ok; /* see vfs/offline.h */
	const char
		*locks; /* the same, of files that O_EXCL takes in R2 at once */
	const char *temporary; /* name patterns (fnmatch), by colons, of
				* files whose upload waits for their rename */
};

struct vfs_ctx {
	bool nowait;
	bool guess; /* nobody asks yet: a name that is no object is -ENOENT,
		     * whatever a listing would show */
	bool owed; /* nobody waits: what fails for now is tried again */
	struct store_interrupt *interrupt; /* or NULL */
};

/* Borrows everything in config until vfs_destroy. */
MUST_CHECK int vfs_new(const struct vfs_config *config, struct vfs **ret);
void vfs_destroy(struct vfs *v); /* no handle open, no call running */

/*
 * Asks R2 for the first page of the root: proves endpoint, credentials and
 * bucket, and seeds the cache with what it shows. On failure req holds the
 * store's error for diagnosis; store_req_release it in every case.
 */
MUST_CHECK int vfs_probe(struct vfs *v, struct store_req *req);

/* What a kernel is to be told. Called on any thread, no lock held. */
struct vfs_listener {
	/* what was said of the attributes turned out wrong: ask again */
	void (*attributes)(uint64_t ino, void *arg);
	/* more is held than config.held_max: forget n of vfs_unused. Called
	 * within a call that counts a lookup. */
	void (*crowded)(size_t n, void *arg);
	void *arg;
};

void vfs_listen(struct vfs *v, const struct vfs_listener *l); /* NULL ends it */

/* An inode that the kernel holds and nobody uses. */
struct vfs_unused {
	uint64_t ino, parent;
	bool is_dir;
	char name[CACHE_NAME_MAX + 1];
};

/* Gives up to n of them, others with each call; those opened a short while ago
 * last, as the kernel has their content too. */
unsigned vfs_unused(struct vfs *v, struct vfs_unused *ret, unsigned n);

struct vfs_entry {
	struct stat st;
	bool negative; /* lookup: no such name, may be remembered for ttl */
	int64_t ttl_ns; /* how long a kernel may believe this */
};

/* -ENOENT (or 0 with negative set), -ENAMETOOLONG, -ENOTDIR, -EACCES, ... */
MUST_CHECK int vfs_lookup(struct vfs *v, const struct vfs_ctx *ctx,
			  uint64_t parent, const char *name,
			  struct vfs_entry *ret);
void vfs_forget(struct vfs *v, uint64_t ino, uint64_t count);
MUST_CHECK int vfs_getattr(struct vfs *v, const struct vfs_ctx *ctx,
			   uint64_t ino, struct vfs_entry *ret);
/* Target of a symbolic link (s3fs keeps it as the body); gives. */
MUST_CHECK int vfs_readlink(struct vfs *v, const struct vfs_ctx *ctx,
			    uint64_t ino, char **ret);
MUST_CHECK int vfs_statfs(struct vfs *v, struct statvfs *ret);

/*
 * Extended attributes, from the object's metadata: user.NAME for
 * x-amz-meta-NAME, the set s3fs keeps in x-amz-meta-xattr, and
 * user.r2fs.{key,etag}. Names of other namespaces are answered -EOPNOTSUPP
 * without a request. *ret is given; its length returned.
 */
MUST_CHECK ssize_t vfs_getxattr(struct vfs *v, const struct vfs_ctx *ctx,
				uint64_t ino, const char *name, char **ret);
/* Names, each NUL-terminated. Of a file that is not open and whose headers
 * nobody has seen, what is known: none. */
MUST_CHECK ssize_t vfs_listxattr(struct vfs *v, const struct vfs_ctx *ctx,
				 uint64_t ino, char **ret);

/* ---- directories ---- */

MUST_CHECK int vfs_opendir(struct vfs *v, uint64_t ino, struct vfs_dir **ret);
void vfs_releasedir(struct vfs_dir *d);

struct vfs_dirent {
	const char *name;
	uint64_t next_off; /* position after this entry */
	struct vfs_entry entry; /* st.st_ino and the type of st.st_mode always;
				 * the rest only in readdirplus */
};

/* Returns false when the entry does not fit; it is then given again later. */
typedef bool vfs_dir_emit(const struct vfs_dirent *e, void *arg);

/*
 * Emits entries from position off (0: from the start; else a next_off) until
 * emit refuses, the end, or the names at hand are used up. Nothing emitted
 * and 0: the end; after an error nothing counts as emitted. With plus, accepted
 * entries other than "." and ".." count as lookups. One call at a time per
 * handle.
 */
MUST_CHECK int vfs_readdir(struct vfs_dir *d, const struct vfs_ctx *ctx,
			   uint64_t off, bool plus, vfs_dir_emit *emit,
			   void *arg);

/* ---- files ---- */

/* *ret_keep: the content is the one of the last open, a page cache may be
 * kept. -EROFS on a read-only mount; O_TRUNC empties. */
MUST_CHECK int vfs_open(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
			int flags, struct vfs_file **ret, bool *ret_keep);
void vfs_release(struct vfs_file *f);

/*
 * A backing is the whole content that a reading handle shows, as a descriptor
 * of a file, for a kernel that reads it by itself (passthrough). It is pinned
 * in the cache. What this mount writes to the inode afterwards, if it builds
 * on that version, shows in the same file; what others store does not. A
 * backing may outlive the handle.
 */
struct vfs_backing;

/* NULL: the content is not all cached and verified, or the file is small, or
 * being changed, or the handle may write. */
struct vfs_backing *vfs_backing_get(struct vfs *v, struct vfs_file *f);
/* Does another handle show the same? Then it may use the backing too. */
bool vfs_backing_serves(struct vfs_backing *b, struct vfs_file *f);
int vfs_backing_fd(const struct vfs_backing *b);
void vfs_backing_put(struct vfs_backing *b); /* NULL is fine */
/* An open was handed to the kernel: for the statistics. */
void vfs_backing_count(struct vfs *v);

/* ---- changes (all -EROFS on a read-only mount) ---- */

enum vfs_set {
	VFS_SET_MODE = 1 << 0,
	VFS_SET_UID = 1 << 1,
	VFS_SET_GID = 1 << 2,
	VFS_SET_SIZE = 1 << 3,
	VFS_SET_MTIME = 1 << 4,
	VFS_SET_ATIME = 1 << 5,
};

struct vfs_change {
	unsigned mask; /* enum vfs_set */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	int64_t mtime_ns, atime_ns;
};

MUST_CHECK int vfs_setattr(struct vfs *v, const struct vfs_ctx *ctx,
			   uint64_t ino, const struct vfs_change *change,
			   struct vfs_entry *ret);

struct vfs_owner { /* of what is made */
	uid_t uid;
	gid_t gid;
	mode_t mode; /* umask applied */
};

/* Counts a lookup on the entry, as vfs_lookup. O_EXCL: -EEXIST, at once if the
 * name is there or is a lock's, else when the file is stored. */
MUST_CHECK int vfs_create(struct vfs *v, const struct vfs_ctx *ctx,
			  uint64_t parent, const char *name,
			  const struct vfs_owner *owner, int flags,
			  struct vfs_entry *ret, struct vfs_file **ret_file);
/* O_TMPFILE: a file without a name, of which R2 hears nothing until vfs_link
 * gives it one. Counts a lookup. */
MUST_CHECK int vfs_tmpfile(struct vfs *v, const struct vfs_ctx *ctx,
			   uint64_t parent, const struct vfs_owner *owner,
			   int flags, struct vfs_entry *ret,
			   struct vfs_file **ret_file);
MUST_CHECK int vfs_mkdir(struct vfs *v, const struct vfs_ctx *ctx,
			 uint64_t parent, const char *name,
			 const struct vfs_owner *owner, struct vfs_entry *ret);
/* Regular files, fifos and sockets; -EPERM for devices. */
MUST_CHECK int vfs_mknod(struct vfs *v, const struct vfs_ctx *ctx,
			 uint64_t parent, const char *name,
			 const struct vfs_owner *owner, struct vfs_entry *ret);
MUST_CHECK int vfs_symlink(struct vfs *v, const struct vfs_ctx *ctx,
			   uint64_t parent, const char *name,
			   const char *target, const struct vfs_owner *owner,
			   struct vfs_entry *ret);
/* Only for a file that was closed under a temporary name and is not in R2, or
 * that has no name (O_TMPFILE, once): the content is stored under the new
 * name, if nothing is there. Else -EPERM: an object has one key. */
MUST_CHECK int vfs_link(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
			uint64_t parent, const char *name,
			struct vfs_entry *ret);
MUST_CHECK int vfs_unlink(struct vfs *v, const struct vfs_ctx *ctx,
			  uint64_t parent, const char *name);
MUST_CHECK int vfs_rmdir(struct vfs *v, const struct vfs_ctx *ctx,
			 uint64_t parent, const char *name);
/* flags: RENAME_NOREPLACE or 0; others -EINVAL. */
MUST_CHECK int vfs_rename(struct vfs *v, const struct vfs_ctx *ctx,
			  uint64_t parent, const char *name, uint64_t to_parent,
			  const char *to_name, unsigned flags);

/* Bytes for a writing handle. Never waits for the network. */
MUST_CHECK int vfs_write(struct vfs_file *f, const void *buf, size_t n,
			 uint64_t off);
/* As fallocate(2): mode 0, KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE. */
MUST_CHECK int vfs_fallocate(struct vfs_file *f, int mode, uint64_t off,
			     uint64_t len);
MUST_CHECK int vfs_seek(struct vfs_file *f, uint64_t off, int whence,
			uint64_t *ret);
/* A whole object into an empty file, by R2's own copy when the file is stored;
 * a large one in steps, each where the one before ended. Gives the bytes
 * copied; -EOPNOTSUPP: any other case, the caller copies. */
MUST_CHECK ssize_t vfs_copy(struct vfs_file *from, uint64_t from_off,
			    struct vfs_file *to, uint64_t to_off, uint64_t len);

/*
 * Who uses the handle. A process that only inherited it closes it too (every
 * exec of a program that has a file open does), and must not cause an upload
 * of half a file. Threads that opened or wrote are noted with their process;
 * vfs_file_knows tells whether a thread has been noted.
 */
bool vfs_file_knows(struct vfs_file *f, pid_t thread);
void vfs_file_note(struct vfs_file *f, pid_t thread, pid_t process);
bool vfs_file_used_by(struct vfs_file *f, pid_t process);

/* On close, which is a writing handle's to act on, and fsync (sync), which is
 * any one's: see write.c for what is promised. */
MUST_CHECK int vfs_flush(struct vfs_file *f, const struct vfs_ctx *ctx,
			 bool sync);

/* What was removed below the directory is gone from R2 on return, and R2 has
 * its attributes. */
MUST_CHECK int vfs_fsyncdir(struct vfs *v, const struct vfs_ctx *ctx,
			    uint64_t ino);

/* value NULL removes. flags: XATTR_CREATE, XATTR_REPLACE. */
MUST_CHECK int vfs_setxattr(struct vfs *v, const struct vfs_ctx *ctx,
			    uint64_t ino, const char *name, const void *value,
			    size_t len, int flags);

/* Stores owed to R2, and waiting for them; what is left after the time. */
unsigned vfs_owed(struct vfs *v);
unsigned vfs_drain(struct vfs *v, uint64_t timeout_ms);
/* Ends the uploader: what is still owed stays in the journal. Before the
 * waiting threads are destroyed; NULL is fine. */
void vfs_stop(struct vfs *v);

/* Takes up what an earlier run left in the journal: owed uploads go on, the
 * rest is kept for recovery. Call once, before the first request. */
MUST_CHECK int vfs_resume(struct vfs *v);

/* ---- the journal, for r2fs recover ---- */

MUST_CHECK int vfs_recover_list(struct vfs *v,
				void (*fn)(uint64_t id,
					   const struct journal_rec *rec,
					   void *arg),
				void *arg);
/* Only entries that failed (else -EBUSY). retry: under the conditions of the
 * first try, or over whatever is there now (force; -ENODATA: part of the
 * content was in the version it was made from, which is gone). export: the
 * content into a new file; what cannot be had of that version is left out as
 * holes, listed in `missing` as "0-99, 300-399", with the error that kept it
 * away. */
MUST_CHECK int vfs_recover_retry(struct vfs *v, uint64_t id, bool force,
				 char why[192]);
MUST_CHECK int vfs_recover_drop(struct vfs *v, uint64_t id);
MUST_CHECK int vfs_recover_export(struct vfs *v, uint64_t id, const char *path,
				  struct buf *missing, int *ret_why);

/*
 * One read: off, len, done, arg filled by the caller, who keeps the struct
 * until done. done runs once, inline or on another thread; in it error, got
 * and data (or fd, fd_off) of `fill` are valid. When the object changed in R2
 * before this handle read a byte, the handle moves to the new version; after
 * that the read fails with -ESTALE.
 */
struct vfs_read {
	struct fill_read fill; /* results here; off and len set by vfs_read */
	uint64_t off;
	size_t len;
	void (*done)(struct vfs_read *r);
	void *arg;
	/* vfs's own */
	struct vfs_file *file;
	struct fill_file *on;
	struct writeback *wb;
	bool staged; /* it is, or was, read from a writeback */
	struct task task;
	unsigned moves;
};

void vfs_read(struct vfs_file *f, struct vfs_read *r);

/* Ends a parked read with -EINTR, if it is still parked. The caller
 * guarantees that r is alive. */
void vfs_read_cancel(struct vfs_read *r);

struct vfs_stats {
	uint64_t inodes; /* in memory */
	uint64_t lookups, lookup_hits; /* answered without a request */
	uint64_t hidden_keys; /* that cannot be names, seen in listings */
	uint64_t lists; /* pages asked for */
	uint64_t passthrough; /* opens whose reads the kernel does */
	/* files brought before they were asked for; of these asked for, and
	 * given up */
	uint64_t ahead, ahead_used, ahead_wasted;
	uint64_t folders_ahead, folders_used, folders_wasted; /* the same */
};

void vfs_stats_get(struct vfs *v, struct vfs_stats *ret);

#endif
