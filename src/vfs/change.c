/*
 * Making and removing names.
 *
 * A created file is in R2 when it is closed, not before: one PUT, whatever the
 * program does in between, and for O_EXCL under the condition that nothing is
 * there. Copying programs use O_EXCL for every file, and asking R2 twice for
 * each would be a high price; a name that looks like a lock's is taken at once,
 * since that is how programs on several machines exclude each other.
 *
 * The kernel holds the directory while it creates or removes a name in it, so
 * nothing else of this mount touches the name meanwhile.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/spelling.h"
#include "vfs/write.h"

enum { DOUBT_NAMES = 16 }; /* looked at at once */

/* ---- requests ---- */

int put_small(struct vfs *v, const struct vfs_ctx *ctx, const char *key,
	      const void *data, size_t n, const struct store_meta *meta,
	      bool absent, struct store_attr *ret)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_PUT);
	req.key = key;
	req.body.data = data;
	req.body.len = n;
	req.put_meta = meta;
	req.if_absent = absent;
	err = store_body_sum(v->config.store, &req.body);
	if (!err)
		err = removal_wait(v, ctx, key);
	if (!err)
		err = store_call(v->config.store, &req, ctx->interrupt);
	memset(ret, 0, sizeof(*ret));
	ret->etag = req.attr.etag;
	ret->mtime_ns = req.attr.mtime_ns;
	store_req_release(&req);
	return err;
}

int delete_key(struct vfs *v, const struct vfs_ctx *ctx, const char *key)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_DELETE);
	req.key = key;
	err = store_call(v->config.store, &req, ctx->interrupt);
	store_req_release(&req);
	return err;
}

/* ---- names ---- */

void name_gone(struct vfs *v, struct inode *dir, const char *name)
{
	struct meta_rec rec = { .kind = META_ABSENT,
				.checked_ns = clock_wall_ns() };

	if (meta_put(v->meta, dir->ino, name, &rec, NULL) &&
	    meta_del(v->meta, dir->ino, name))
		log_debug("vfs", "the cache cannot forget a name");
}

static void incomplete(struct vfs *v, uint64_t ino)
{
	struct inode *dir = inode_get(v, ino);

	if (meta_dir_forget(v->meta, ino))
		log_debug("vfs", "the cache cannot forget a folder");
	mutex_lock(&v->lock);
	if (dir)
		dir->complete_ns = 0;
	mutex_unlock(&v->lock);
	inode_put(v, dir);
}

void name_forget(struct vfs *v, struct inode *dir, const char *name)
{
	if (meta_del(v->meta, dir->ino, name))
		log_debug("vfs", "the cache cannot forget a name");
	incomplete(v, dir->ino);
}

static void name_doubt(struct vfs *v, uint64_t dir, struct meta_entry *e)
{
	struct inode *i = inode_get(v, e->rec.ino);

	e->rec.checked_ns = 0;
	if (meta_put(v->meta, dir, e->name, &e->rec, NULL))
		log_debug("vfs", "the cache cannot forget a name");
	mutex_lock(&v->lock);
	if (i)
		i->checked_ns = 0;
	mutex_unlock(&v->lock);
	inode_put(v, i);
}

void names_doubt(struct vfs *v, uint64_t dir)
{
	struct meta_entry *e = xcalloc(DOUBT_NAMES, sizeof(*e));
	char after[CACHE_NAME_MAX + 1] = "";
	int n;

	do {
		n = meta_list(v->meta, dir, after, e, DOUBT_NAMES);
		for (int k = 0; k < n; k++) {
			snprintf(after, sizeof(after), "%s", e[k].name);
			if (e[k].rec.kind == META_DIR)
				names_doubt(v, e[k].rec.ino);
			if (!(e[k].rec.flags & META_STAGED))
				name_doubt(v, dir, &e[k]);
			meta_rec_release(&e[k].rec);
		}
	} while (n == DOUBT_NAMES);
	incomplete(v, dir);
	free(e);
}

int name_check(struct vfs *v, struct inode *dir, const char *name, bool is_dir)
{
	char key[STORE_KEY_MAX + 1];
	size_t n = strlen(name);

	if (!v->config.writebacks)
		return -EROFS;
	if (dir->kind != META_DIR)
		return -ENOTDIR;
	if (n > CACHE_NAME_MAX)
		return -ENAMETOOLONG;
	if (!key_name_ok(name, n))
		return -EINVAL;
	mutex_lock(&v->lock);
	bool gone = dir->unlinked;
	mutex_unlock(&v->lock);
	if (gone)
		return -ENOENT;
	return inode_child_key(v, dir, name, is_dir, key);
}

/* 0: the name is free; -EEXIST with *ret (release). */
static int resolve_free(struct vfs *v, const struct vfs_ctx *ctx,
			struct inode *dir, const char *name,
			struct meta_rec *ret)
{
	int64_t ttl;
	int err = name_resolve(v, ctx, dir, name, false, ret, &ttl);

	if (err == -ENOENT) {
		memset(ret, 0, sizeof(*ret));
		return 0;
	}
	return err ? err : -EEXIST;
}

static mode_t inherit(struct vfs *v, struct inode *dir, gid_t *gid)
{
	mutex_lock(&v->lock);
	mode_t sgid = dir->mode & S_ISGID;
	if (sgid)
		*gid = dir->gid;
	mutex_unlock(&v->lock);
	return sgid;
}

/* An inode that R2 knows nothing of yet, with a reference. */
static struct inode *new_inode(struct vfs *v, struct inode *dir,
			       const char *name, enum meta_kind kind,
			       const struct vfs_owner *owner)
{
	struct meta_rec rec = { .kind = kind,
				.ino = meta_new_ino(v->meta),
				.flags = META_HAS_HEADERS,
				.checked_ns = clock_wall_ns() };
	struct inode *i;
	gid_t gid = owner->gid;
	mode_t sgid = inherit(v, dir, &gid);

	rec.mtime_ns = rec.checked_ns;
	i = inode_from_rec(v, dir, name, &rec);
	mutex_lock(&v->lock);
	i->mode = owner->mode;
	if (kind == META_DIR)
		i->mode |= sgid;
	if (!(i->mode & S_IFMT))
		i->mode |= kind == META_DIR ? S_IFDIR : S_IFREG;
	i->uid = owner->uid;
	i->gid = gid;
	mutex_unlock(&v->lock);
	return i;
}

static void give_entry(struct vfs *v, struct inode *i, struct vfs_entry *ret)
{
	memset(ret, 0, sizeof(*ret));
	inode_count_lookup(v, i);
	inode_stat(v, i, &ret->st);
	ret->ttl_ns = v->config.metadata_ttl_ns;
}

/* ---- files ---- */

static int claim(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	int err = inode_store(v, ctx, i);

	return err == -ESTALE ? -EEXIST : err;
}

static int start_file(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		      bool exclusive, bool lock)
{
	struct writeback *wb;
	int err = inode_stage(v, i, true, &wb);

	if (err)
		return err;
	mutex_lock(&v->lock);
	i->exclusive = exclusive;
	i->writers++; /* until the handle is there: nobody settles it */
	mutex_unlock(&v->lock);
	inode_publish_name(v, i);
	if (lock)
		err = claim(v, ctx, i);
	mutex_lock(&v->lock);
	i->writers--;
	mutex_unlock(&v->lock);
	if (err)
		inode_drop(v, i);
	writeback_put(wb);
	return err;
}

static int create_new(struct vfs *v, const struct vfs_ctx *ctx,
		      struct inode *dir, const char *name,
		      const struct vfs_owner *owner, int flags,
		      struct vfs_entry *ret, struct vfs_file **ret_file)
{
	bool exclusive = flags & O_EXCL;
	bool lock = exclusive && name_is_lock(v, name);
	struct inode *i;
	bool keep;
	int err;

	if (lock && ctx->nowait)
		return -EAGAIN;
	i = new_inode(v, dir, name, META_FILE, owner);
	err = start_file(v, ctx, i, exclusive, lock);
	if (err) {
		inode_put(v, i);
		return err;
	}
	err = vfs_open(v, ctx, i->ino, flags & ~(O_TRUNC | O_CREAT), ret_file,
		       &keep);
	if (err) {
		inode_drop(v, i);
	} else {
		dir_changed(v, dir);
		give_entry(v, i, ret);
	}
	inode_put(v, i);
	return err;
}

static int open_existing(struct vfs *v, const struct vfs_ctx *ctx,
			 struct inode *dir, const char *name,
			 const struct meta_rec *rec, int flags,
			 struct vfs_entry *ret, struct vfs_file **ret_file)
{
	struct inode *i;
	bool keep;
	int err;

	if (flags & O_EXCL)
		return -EEXIST;
	i = inode_from_rec(v, dir, name, rec);
	err = vfs_open(v, ctx, i->ino, flags, ret_file, &keep);
	if (!err)
		give_entry(v, i, ret);
	inode_put(v, i);
	return err;
}

/* From its first moment the file is one that was unlinked. */
static int start_nameless(struct vfs *v, struct inode *i, bool linkable)
{
	struct writeback *wb;
	int err = inode_stage(v, i, true, &wb);

	if (err)
		return err;
	mutex_lock(&v->lock);
	i->parent->staged--;
	i->unlinked = true;
	i->nameless = linkable;
	mutex_unlock(&v->lock);
	writeback_put(wb);
	return 0;
}

int vfs_tmpfile(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
		const struct vfs_owner *owner, int flags, struct vfs_entry *ret,
		struct vfs_file **ret_file)
{
	struct inode *dir = inode_get(v, parent), *i;
	bool keep;
	int err;

	if (!dir)
		return -ESTALE;
	err = name_check(v, dir, "tmpfile", false);
	if (!err) {
		i = new_inode(v, dir, "(no name)", META_FILE, owner);
		err = start_nameless(v, i, !(flags & O_EXCL));
		if (!err)
			err = vfs_open(v, ctx, i->ino,
				       flags & (O_ACCMODE | O_APPEND), ret_file,
				       &keep);
		if (err)
			inode_drop(v, i);
		else
			give_entry(v, i, ret);
		inode_put(v, i);
	}
	inode_put(v, dir);
	return err;
}

int vfs_create(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	       const char *name, const struct vfs_owner *owner, int flags,
	       struct vfs_entry *ret, struct vfs_file **ret_file)
{
	struct inode *dir = inode_get(v, parent);
	char space[CACHE_NAME_MAX + 1];
	struct meta_rec rec;
	int err;

	if (!dir)
		return -ESTALE;
	name = name_spelling(v, dir, name, space);
	err = name_check(v, dir, name, false);
	if (!err)
		err = inode_wait_settled(v, ctx, dir);
	if (!err)
		err = resolve_free(v, ctx, dir, name, &rec);
	if (!err) {
		err = create_new(v, ctx, dir, name, owner, flags, ret,
				 ret_file);
	} else if (err == -EEXIST) {
		err = open_existing(v, ctx, dir, name, &rec, flags, ret,
				    ret_file);
		meta_rec_release(&rec);
	}
	inode_put(v, dir);
	return err;
}

/* ---- small objects that are there on return ---- */

struct thing {
	enum meta_kind kind;
	const void *data;
	size_t len;
};

static int make_thing(struct vfs *v, const struct vfs_ctx *ctx,
		      struct inode *dir, const char *name,
		      const struct vfs_owner *owner, const struct thing *t,
		      struct vfs_entry *ret)
{
	char key[STORE_KEY_MAX + 1];
	struct meta_rec rec = { .kind = t->kind,
				.size = t->len,
				.flags = META_HAS_HEADERS };
	struct store_meta pairs;
	struct store_attr attr;
	struct inode *i = new_inode(v, dir, name, t->kind, owner);
	int err = inodes_begin(v, ctx, NULL, NULL, dir);
	bool begun = !err;

	inode_pairs(v, i, &pairs);
	if (!err)
		err = inode_child_key(v, dir, name, t->kind == META_DIR, key);
	if (!err)
		err = put_small(v, ctx, key, t->data, t->len, &pairs, true,
				&attr);
	if (!err) {
		rec.ino = i->ino;
		rec.checked_ns = clock_wall_ns();
		rec.mtime_ns = stored_ns(attr.mtime_ns);
		rec.flags |= t->kind == META_DIR ? META_MARKER : META_STORED;
		if (t->kind != META_DIR)
			snprintf(rec.etag, sizeof(rec.etag), "%s", attr.etag.s);
		key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
		if (meta_put(v->meta, dir->ino, name, &rec, NULL) == 0)
			inode_put(v, inode_from_rec(v, dir, name, &rec));
		meta_rec_release(&rec);
		if (t->kind == META_DIR)
			inode_is_empty(v, i);
		dir_changed(v, dir);
		give_entry(v, i, ret);
	}
	if (begun)
		dir_end(v, dir);
	store_meta_release(&pairs);
	inode_put(v, i);
	return err;
}

static int make(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
		const char *name, const struct vfs_owner *owner,
		const struct thing *t, struct vfs_entry *ret)
{
	struct inode *dir = inode_get(v, parent);
	char space[CACHE_NAME_MAX + 1];
	struct meta_rec rec;
	int err;

	if (!dir)
		return -ESTALE;
	name = name_spelling(v, dir, name, space);
	err = name_check(v, dir, name, t->kind == META_DIR);
	if (!err)
		err = resolve_free(v, ctx, dir, name, &rec);
	if (err == -EEXIST)
		meta_rec_release(&rec);
	if (!err && ctx->nowait)
		err = -EAGAIN;
	if (!err)
		err = make_thing(v, ctx, dir, name, owner, t, ret);
	inode_put(v, dir);
	return err;
}

int vfs_mkdir(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	      const char *name, const struct vfs_owner *owner,
	      struct vfs_entry *ret)
{
	const struct thing t = { META_DIR, "", 0 };
	struct vfs_owner o = *owner;

	o.mode = (o.mode & 07777) | S_IFDIR;
	return make(v, ctx, parent, name, &o, &t, ret);
}

int vfs_mknod(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	      const char *name, const struct vfs_owner *owner,
	      struct vfs_entry *ret)
{
	const struct thing t = { META_FILE, "", 0 };
	struct vfs_owner o = *owner;

	if (!(o.mode & S_IFMT))
		o.mode |= S_IFREG;
	if (!S_ISREG(o.mode) && !S_ISFIFO(o.mode) && !S_ISSOCK(o.mode))
		return -EPERM;
	return make(v, ctx, parent, name, &o, &t, ret);
}

int vfs_symlink(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
		const char *name, const char *target,
		const struct vfs_owner *owner, struct vfs_entry *ret)
{
	const struct thing t = { META_FILE, target, strlen(target) };
	struct vfs_owner o = *owner;

	if (t.len == 0 || t.len >= PATH_MAX)
		return t.len ? -ENAMETOOLONG : -ENOENT;
	o.mode = S_IFLNK | 0777;
	return make(v, ctx, parent, name, &o, &t, ret);
}

/* ---- link ---- */

static int link_deferred(struct vfs *v, const struct vfs_ctx *ctx,
			 struct inode *i, struct inode *dir, const char *name,
			 struct vfs_entry *ret)
{
	char key[STORE_KEY_MAX + 1];
	struct meta_rec rec = { .kind = META_FILE,
				.flags = META_HAS_HEADERS | META_STORED };
	struct writeback_result r;
	struct store_meta pairs;
	struct inode *made;
	int err = inode_child_key(v, dir, name, false, key);

	rec.cid = meta_new_cid(v->meta);
	if (!err)
		err = inode_store_at(v, ctx, i, key, true, rec.cid, NULL, &r);
	if (err)
		return err;
	rec.ino = meta_new_ino(v->meta);
	rec.size = r.size;
	rec.mtime_ns = stored_ns(r.time_ns);
	rec.checked_ns = clock_wall_ns();
	snprintf(rec.etag, sizeof(rec.etag), "%s", r.etag.s);
	inode_pairs(v, i, &pairs);
	key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
	store_meta_release(&pairs);
	struct writeback *wb = inode_staged(v, i);
	if (wb) {
		inode_publish_copy(v, i, wb, rec.cid);
		writeback_forget_store(wb);
		writeback_put(wb);
	}
	if (meta_put(v->meta, dir->ino, name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	made = inode_from_rec(v, dir, name, &rec);
	meta_rec_release(&rec);
	give_entry(v, made, ret);
	inode_put(v, made);
	return err;
}

static void set_nameless(struct vfs *v, struct inode *i, bool nameless)
{
	mutex_lock(&v->lock);
	if (i->unlinked != nameless)
		i->parent->staged += nameless ? -1 : 1;
	i->unlinked = i->nameless = nameless;
	i->exclusive = !nameless;
	mutex_unlock(&v->lock);
}

/* The file without a name gets one, and R2 the file. */
static int link_nameless(struct vfs *v, const struct vfs_ctx *ctx,
			 struct inode *i, struct inode *dir, const char *name,
			 struct vfs_entry *ret)
{
	int err;

	inode_move(v, i, dir, name);
	set_nameless(v, i, false);
	inode_publish_name(v, i);
	err = inode_store(v, ctx, i);
	if (err) {
		name_gone(v, dir, name);
		set_nameless(v, i, true);
		return err == -ESTALE ? -EEXIST : err;
	}
	give_entry(v, i, ret);
	return 0;
}

static int link_what(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		     struct inode *dir, const char *name, struct vfs_entry *ret)
{
	int err;

	mutex_lock(&v->lock);
	bool nameless = i->nameless;
	mutex_unlock(&v->lock);
	if (nameless)
		return link_nameless(v, ctx, i, dir, name, ret);
	err = inodes_begin(v, ctx, i, NULL, dir);
	if (err)
		return err;
	err = link_deferred(v, ctx, i, dir, name, ret);
	inode_end(v, i);
	dir_end(v, dir);
	return err;
}

int vfs_link(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
	     uint64_t parent, const char *name, struct vfs_entry *ret)
{
	struct inode *i = inode_get(v, ino), *dir = inode_get(v, parent);
	char space[CACHE_NAME_MAX + 1];
	struct meta_rec rec;
	int err = i && dir ? 0 : -ESTALE;

	if (!err) {
		name = name_spelling(v, dir, name, space);
		mutex_lock(&v->lock);
		if (!i->wb || (!i->nameless && (!i->deferred || i->unlinked)))
			err = -EPERM;
		mutex_unlock(&v->lock);
	}
	if (!err)
		err = name_check(v, dir, name, false);
	if (!err)
		err = resolve_free(v, ctx, dir, name, &rec);
	if (err == -EEXIST)
		meta_rec_release(&rec);
	if (!err && ctx->nowait)
		err = -EAGAIN;
	if (!err)
		err = link_what(v, ctx, i, dir, name, ret);
	if (!err)
		dir_changed(v, dir);
	inode_put(v, dir);
	inode_put(v, i);
	return err;
}

/* ---- removal ---- */

void inode_unname_locked(struct inode *i)
{
	if (!i->unlinked && i->wb && i->parent)
		i->parent->staged--;
	i->unlinked = true;
}

void name_displaced(struct vfs *v, struct inode *i, bool gone)
{
	if (!i)
		return;
	if (gone) {
		inode_unowe(v, i);
		mutex_lock(&v->lock);
		inode_unname_locked(i);
		mutex_unlock(&v->lock);
		inode_unjournal(v, i);
	}
	inode_end(v, i);
	inode_settle(v, i);
	inode_put(v, i);
}

/* Is there an object at the name, as far as we know, or maybe? Which version?
 */
static bool in_r2(struct vfs *v, const struct meta_rec *rec,
		  char etag[CACHE_ETAG_MAX])
{
	struct inode *i = inode_get(v, rec->ino);
	bool maybe = false;

	snprintf(etag, CACHE_ETAG_MAX, "%s", rec->etag);
	if (i) {
		mutex_lock(&v->lock);
		snprintf(etag, CACHE_ETAG_MAX, "%s",
			 i->etag && !i->unheard ? i->etag : "");
		maybe = i->unheard;
		mutex_unlock(&v->lock);
		inode_put(v, i);
	}
	return maybe || etag[0];
}

static int unlink_name(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *dir, const char *name,
		       const struct meta_rec *rec)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct inode *i = inode_get(v, rec->ino);
	int err = inodes_begin(v, ctx, i, NULL, dir);

	if (err) {
		inode_put(v, i);
		return err;
	}
	err = inode_child_key(v, dir, name, false, key);
	if (!err && rec->flags & META_SHADOWED)
		key[strlen(key) - strlen(VFS_OBJECT_SUFFIX)] = 0;
	if (!err && i)
		err = inode_orphan(v, ctx, i);
	if (!err && in_r2(v, rec, etag))
		err = removal_add(v, ctx, key, etag);
	if (!err)
		name_gone(v, dir, name);
	name_displaced(v, i, !err);
	dir_end(v, dir);
	return err;
}

static int remove_checked(struct vfs *v, const struct vfs_ctx *ctx,
			  uint64_t parent, const char *name, bool want_dir,
			  int (*fn)(struct vfs *, const struct vfs_ctx *,
				    struct inode *, const char *,
				    const struct meta_rec *))
{
	struct inode *dir = inode_get(v, parent);
	char space[CACHE_NAME_MAX + 1];
	struct meta_rec rec;
	int64_t ttl;
	int err;

	if (!dir)
		return -ESTALE;
	name = name_spelling(v, dir, name, space);
	err = name_check(v, dir, name, false);
	if (!err)
		err = name_resolve(v, ctx, dir, name, false, &rec, &ttl);
	if (!err) {
		if (want_dir != (rec.kind == META_DIR))
			err = want_dir ? -ENOTDIR : -EISDIR;
		if (!err && ctx->nowait)
			err = -EAGAIN;
		if (!err)
			err = fn(v, ctx, dir, name, &rec);
		if (!err)
			dir_changed(v, dir);
		meta_rec_release(&rec);
	}
	inode_put(v, dir);
	return err;
}

int vfs_unlink(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	       const char *name)
{
	return remove_checked(v, ctx, parent, name, false, unlink_name);
}

/* Names that lie below a folder by R2's word: its marker is none. */
static int has_objects(struct vfs *v, const struct vfs_ctx *ctx,
		       const char *key_slash, bool *marker)
{
	struct store_req req;
	int err;

	*marker = false;
	err = removal_wait_below(v, ctx, key_slash);
	if (err)
		return err;
	store_req_init(&req, STORE_LIST);
	req.prefix = key_slash;
	req.max_keys = 2;
	err = store_call(v->config.store, &req, ctx->interrupt);
	for (unsigned i = 0; i < req.list.n && !err; i++) {
		if (strcmp(req.list.entries[i].name, key_slash) == 0)
			*marker = true;
		else
			err = -ENOTEMPTY;
	}
	store_req_release(&req);
	return err;
}

static int local_names(struct vfs *v, uint64_t ino)
{
	struct meta_entry *e = xcalloc(8, sizeof(*e));
	int n, live = 0;
	char after[CACHE_NAME_MAX + 1] = "";

	do {
		n = meta_list(v->meta, ino, *after ? after : NULL, e, 8);
		for (int k = 0; k < n; k++) {
			snprintf(after, sizeof(after), "%s", e[k].name);
			live += !(e[k].rec.flags & META_STAGED) ||
				inode_is_held(v, e[k].rec.ino);
			meta_rec_release(&e[k].rec);
		}
	} while (n == 8 && !live);
	free(e);
	return live ? -ENOTEMPTY : 0;
}

/* Removing a marker takes no object of anybody away, but a folder that is gone
 * here, and holds what another client has put there, would be a lie: so R2 is
 * asked, except in the middle of a burst (rm -r) about a folder of which it
 * has just said what is in it. */
static int check_empty(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *i, const char *key, bool burst,
		       bool *marker)
{
	int err = 0;

	*marker = true;
	mutex_lock(&v->lock);
	bool complete = ttl_left(i->complete_ns, v->config.metadata_ttl_ns) > 0;
	bool fresh = ttl_left(i->complete_ns, v->config.negative_ttl_ns) > 0;
	bool staged = i->staged > 0;
	mutex_unlock(&v->lock);
	if (staged)
		return -ENOTEMPTY;
	if (complete)
		err = local_names(v, i->ino);
	if (err || (burst && complete && fresh))
		return err;
	err = has_objects(v, ctx, key, marker);
	if (err == -ENOTEMPTY)
		incomplete(v, i->ino);
	return err;
}

int folder_is_empty(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
		    const char *name, const struct meta_rec *rec)
{
	char key[STORE_KEY_MAX + 1];
	struct inode *i = inode_from_rec(v, dir, name, rec);
	bool marker;
	int err = inode_child_key(v, dir, name, true, key);

	if (!err)
		err = check_empty(v, ctx, i, key, false, &marker);
	inode_put(v, i);
	return err;
}

static int rmdir_name(struct vfs *v, const struct vfs_ctx *ctx,
		      struct inode *dir, const char *name,
		      const struct meta_rec *rec)
{
	char key[STORE_KEY_MAX + 1];
	struct inode *i = inode_from_rec(v, dir, name, rec);
	bool marker = true, burst = removal_in_burst(v);
	int err = inodes_begin(v, ctx, i, NULL, dir);

	if (err) {
		inode_put(v, i);
		return err;
	}
	err = inode_child_key(v, dir, name, true, key);
	if (!err)
		err = check_empty(v, ctx, i, key, burst, &marker);
	removal_asked(v);
	if (!err && marker)
		err = removal_add(v, ctx, key, "");
	if (!err) {
		mutex_lock(&v->lock);
		i->unlinked = true;
		mutex_unlock(&v->lock);
		name_gone(v, dir, name);
	}
	inode_end(v, i);
	dir_end(v, dir);
	if (!err)
		folder_quiet(v, i);
	inode_put(v, i);
	return err;
}

int vfs_rmdir(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	      const char *name)
{
	return remove_checked(v, ctx, parent, name, true, rmdir_name);
}

int vfs_fsyncdir(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino)
{
	char key[STORE_KEY_MAX + 1];
	struct inode *dir = inode_get(v, ino);
	int err = dir ? inode_key(v, dir, key) : -ESTALE;

	if (!err)
		err = removal_wait_below(v, ctx, key);
	if (!err)
		err = folder_flush(v, ctx, dir);
	inode_put(v, dir);
	return err;
}
