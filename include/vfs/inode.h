/*
 * Internals of the vfs: the inode table and what its files share.
 *
 * An inode is in memory while the kernel holds a lookup count on it, a handle
 * is open, a child is in memory, or a call is using it. What is known of a
 * name lives in the cache (meta); the inode repeats the little that getattr
 * and open need.
 *
 * Lock order: vfs.lock -> (nothing). scan.lock -> (nothing). Neither is held
 * across the cache's disk writes, a store call or a callback.
 */
#ifndef VFS_INODE_H
#define VFS_INODE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/map.h"
#include "cache/meta.h"
#include "vfs/vfs.h"

struct ahead;
struct listahead;
struct scan;
struct unheard;

struct inode {
	struct map_node node;
	/* immutable */
	uint64_t ino;
	uint8_t kind; /* META_FILE or META_DIR */
	/* guarded by vfs.lock */
	bool shadowed; /* META_SHADOWED, as all records of the name are */
	struct inode *parent; /* holds a reference; NULL for the root */
	char *name;
	bool unlinked; /* no name leads here any more */
	uint64_t nlookup;
	unsigned refs;
	uint8_t flags; /* enum meta_flags */
	mode_t mode; /* as shown, with type */
	uid_t uid;
	gid_t gid;
	uint64_t size;
	uint64_t told_size; /* what the kernel was told last */
	bool reopens; /* an open was refused so that the kernel asks again */
	int64_t mtime_ns;
	int64_t ctime_ns, atime_ns; /* 0: as mtime_ns */
	int64_t object_ns; /* R2's time, see meta_rec.mtime_ns */
	int64_t checked_ns;
	int64_t complete_ns; /* directories; see meta_dir */
	uint64_t cid;
	uint64_t opened_cid; /* content of the last open: page cache holds it */
	bool used; /* opened since vfs_unused passed */
	char *etag;
	bool doubted; /* R2 said that it has another version than this one */
	struct scan *scan; /* a listing under way, or NULL */
	bool crowded; /* a page cannot show all below */
	unsigned turns; /* names in it made, removed or stored by this mount */
	bool moving; /* its keys are on their way to another name */
	int walked; /* folders in it listed one by one, see vfs/walk.h */
	bool broad; /* and one of them, or what lies below, was not small */
	unsigned asked; /* single requests since the last listing */
	bool fetched; /* a lookup waited for R2; cleared by the next open */
	struct writeback *wb; /* content not (only) in R2, or NULL; a reference */
	unsigned opens, writers; /* handles; those that may write */
	unsigned holds; /* calls that will perhaps change the content */
	struct list backings; /* files the kernel reads by itself */
	unsigned staged; /* directories: children with a wb */
	/* while there is a wb, or the metadata was changed */
	struct store_meta pairs; /* metadata besides mode, owner and mtime */
	struct store_meta base; /* all metadata as it was in R2 */
	uint64_t staged_ns; /* when the wb was made (clock_boot_ns); 0: by an
			     * earlier run */
	uint64_t local_cid; /* content id that a store of ours made last */
	bool exclusive; /* created by O_EXCL: never over another's */
	struct unheard *unheard; /* a store that R2 may have done, or NULL */
	bool recording; /* the journal's record of it is being changed */
	bool journalled; /* the journal has a record of the wb */
	bool journalled_bytes; /* which speaks of bytes that R2 has not, */
	bool journalled_owed; /* and is a promise */
	uint64_t note; /* of a folder: its owed attributes in the journal; 0:
			* none yet */
	uint64_t touched; /* of a folder: changes of its attributes */
	bool failed; /* the last flush failed; its writer was told */
	int fail_error; /* of the last store, 0: it did not fail */
	char *fail_why;
	bool write_told; /* the log has said that a write failed */
	bool fail_told; /* the log has said where the bytes are kept */
	bool busy; /* its name or its stored version is being changed */
	bool settling; /* its content goes to the cache: no change now */
	unsigned changing; /* of a folder: names being made or removed in it */
	bool nameless; /* made by O_TMPFILE and may get a name */
	bool deferred; /* closed under a temporary name */
	bool owed;
	bool touching; /* the uploader stores a folder's attributes */
	int64_t owed_ns; /* monotonic: when to store */
	int64_t owed_since_ns;
	unsigned owed_tries;
	struct list owed_link;
};

/* Where an inode is just now. */
struct place {
	struct inode *parent; /* a reference; NULL for the root */
	char name[CACHE_NAME_MAX + 1];
};

/* A name being asked for on the wire; later callers wait for it. */
struct flight {
	struct map_node node;
	uint64_t parent;
	const char *name;
	int64_t began_ns; /* wall time: when it, or the one waited for, began */
};

struct vfs {
	struct vfs_config config;
	struct meta *meta;
	struct mutex lock;
	struct mutex mirror_lock; /* see vfs/backing.h */
	/* One at a time changes the journal's failed entries; the outermost. */
	struct mutex recovering;
	atomic_bool failed_entries; /* there may be some */
	struct cond flight_done;
	struct map inodes;
	struct map flights; /* lookups on the wire, by (parent, name) */
	atomic_uint nflights;
	struct inode *root;
	struct ahead *ahead; /* NULL: off */
	struct listahead *listahead; /* NULL: off */
	struct offline *offline; /* NULL: not asked for */
	struct vfs_stats stats; /* guarded by lock */
	struct vfs_listener listener; /* guarded by lock */
	size_t crowd; /* so many inodes are too many; guarded by lock */
	size_t hand; /* of vfs_unused; guarded by lock */
	/* the uploader: guarded by lock */
	struct list owed;
	struct cond owed_changed;
	struct cond inode_free; /* an inode may be begun by the next */
	unsigned storing; /* owed stores under way */
	bool ending;
	bool uploader; /* its task runs */
	struct task uploader_task;
	struct removals *removals; /* NULL: read-only */
	uint64_t moves; /* of folders, begun; guarded by lock */
	unsigned moving; /* under way; guarded by lock */
	struct list stopped; /* of folders, that failed; guarded by lock */
};

/* ---- inode.c ---- */

/* The inode of a record below parent, made or brought up to date, unless it
 * knows better since; adds a reference. */
struct inode *inode_from_rec(struct vfs *v, struct inode *parent,
			     const char *name, const struct meta_rec *rec);
struct inode *inode_get(struct vfs *v, uint64_t ino); /* +ref, NULL unknown */
void inode_put(struct vfs *v, struct inode *i);
void inode_free(struct inode *i); /* the memory only */
/* -ESTALE: unlinked. The root's place has no parent. */
MUST_CHECK int inode_place(struct vfs *v, struct inode *i, struct place *ret);
void place_put(struct vfs *v, struct place *p);
void inode_count_lookup(struct vfs *v, struct inode *i);
void inode_stat(struct vfs *v, struct inode *i, struct stat *st);
/* What inode_stat said last did not reach the kernel. */
void inode_untold(struct vfs *v, struct inode *i);
/* Mode, owner and times as a record has them. */
void inode_show_locked(struct vfs *v, struct inode *i,
		       const struct meta_rec *rec) REQUIRES(v->lock);
/* Its content is another one now. */
void inode_changed_locked(struct vfs *v, struct inode *i) REQUIRES(v->lock);
mode_t rec_type(struct vfs *v, const struct meta_rec *rec); /* S_IFMT bits */
void rec_stat(struct vfs *v, const struct meta_rec *rec, struct stat *st);

/* Key of the inode, or of name below it, into out (STORE_KEY_MAX + 1 bytes).
 * Directories end in '/'. -ENAMETOOLONG. */
MUST_CHECK int inode_key(struct vfs *v, struct inode *i, char *out);
MUST_CHECK int inode_child_key(struct vfs *v, struct inode *dir,
			       const char *name, bool is_dir, char *out);

/* A name in the folder was made or removed: its time. */
void dir_changed(struct vfs *v, struct inode *dir);

/* A folder just made: known to hold nothing. */
void inode_is_empty(struct vfs *v, struct inode *dir);

/* Nanoseconds a fact confirmed at checked_ns may still be believed; 0: none */
int64_t ttl_left(int64_t checked_ns, int64_t ttl_ns);

/* The same of a record; none if its metadata is known to be old. */
int64_t rec_ttl(struct vfs *v, const struct meta_rec *rec);

/* ---- namei.c ---- */

/* Brings what is known of (dir, name) up to date and gives the record;
 * -ENOENT with *ret_ttl the time it may be believed. */
MUST_CHECK int name_resolve(struct vfs *v, const struct vfs_ctx *ctx,
			    struct inode *dir, const char *name, bool force,
			    struct meta_rec *ret, int64_t *ret_ttl);
/* Same for an inode already in memory. force asks R2 whatever the TTL. */
MUST_CHECK int inode_refresh(struct vfs *v, const struct vfs_ctx *ctx,
			     struct inode *i, bool force);
/* Stores headers that a GET or HEAD, asked at asked_ns, has shown of the
 * inode's current version. False: by them it is no such thing (a link, shown by
 * a listing as a file): the name has another inode from now on, and i is
 * -ESTALE. */
bool inode_learn(struct vfs *v, struct inode *i, const struct store_attr *attr,
		 int64_t asked_ns);

/* How long the directory's listing may be believed to be all of it; 0: none */
int64_t dir_ttl(struct vfs *v, struct inode *dir);

/* Waits until the other caller of the same flight has landed, then *again; or
 * takes off, if told to, and must end it. -EINTR. */
MUST_CHECK int flight_begin(struct vfs *v, const struct vfs_ctx *ctx,
			    struct flight *f, bool take_off, bool *again);
void flight_end(struct vfs *v, struct flight *f);

/* The metadata, with the content type as one of the pairs; release. */
void pairs_from_attr(const struct store_attr *attr, struct store_meta *ret);
/* Turns what the store said into a record; release rec. */
void rec_from_attr(const struct store_attr *attr, int64_t asked_ns,
		   struct meta_rec *rec);

#endif
