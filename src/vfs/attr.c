/*
 * Changing attributes.
 *
 * Mode, owner and time are kept as x-amz-meta-* in the spelling of s3fs and
 * rclone. On a file that is being written they travel with its content. On a
 * closed one they are one COPY of the object onto itself, put off for a
 * moment, because chmod, chown and utimes come in a row; until R2 has them, the
 * journal has. The times of change and access are stored where they differ from
 * mtime, as s3fs stores them. Folders: folder.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/backing.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/write.h"

/* ---- pairs ---- */

/* name NULL: those that stat shows */
static void unset(struct store_meta *m, const char *name)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < m->n; i++) {
		const char *has = m->pairs[i].name;

		if (name ? strcmp(has, name) == 0 :
			   key_meta_is_attribute(has)) {
			free(m->pairs[i].name);
			free(m->pairs[i].value);
		} else {
			m->pairs[kept++] = m->pairs[i];
		}
	}
	m->n = kept;
}

void pairs_unset(struct store_meta *m, const char *name)
{
	unset(m, name);
}

void pairs_unset_attributes(struct store_meta *m)
{
	unset(m, NULL);
}

void pairs_set(struct store_meta *m, const char *name, const char *value)
{
	pairs_unset(m, name);
	m->pairs = xrealloc(m->pairs, (m->n + 1) * sizeof(*m->pairs));
	m->pairs[m->n++] =
		(struct store_meta_pair){ xstrdup(name), xstrdup(value) };
}

static void set_number(struct store_meta *m, const char *name, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	pairs_set(m, name, text);
}

static void set_time(struct store_meta *m, const char *name, int64_t ns)
{
	char text[48];

	if (ns < 0)
		ns = 0;
	snprintf(text, sizeof(text), "%lld.%09lld",
		 (long long)(ns / 1000000000), (long long)(ns % 1000000000));
	pairs_set(m, name, text);
}

void inode_pairs_locked(const struct inode *i, struct store_meta *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (store_meta_copy(ret, &i->pairs))
		memset(ret, 0, sizeof(*ret));
	set_number(ret, "mode", i->mode);
	set_number(ret, "uid", i->uid);
	set_number(ret, "gid", i->gid);
	set_time(ret, "mtime", i->mtime_ns);
	if (i->ctime_ns && i->ctime_ns != i->mtime_ns)
		set_time(ret, "ctime", i->ctime_ns);
	if (i->atime_ns && i->atime_ns != i->mtime_ns)
		set_time(ret, "atime", i->atime_ns);
}

void inode_pairs(struct vfs *v, struct inode *i, struct store_meta *ret)
{
	mutex_lock(&v->lock);
	inode_pairs_locked(i, ret);
	mutex_unlock(&v->lock);
}

/* ---- setattr ---- */

static bool changes_locked(const struct inode *i, const struct vfs_change *c)
{
	return (c->mask & VFS_SET_MODE &&
		(c->mode & 07777) != (i->mode & 07777)) ||
	       (c->mask & VFS_SET_UID && c->uid != i->uid) ||
	       (c->mask & VFS_SET_GID && c->gid != i->gid) ||
	       (c->mask & VFS_SET_MTIME && c->mtime_ns != i->mtime_ns);
}

void change_apply_locked(struct inode *i, const struct vfs_change *c)
{
	if (c->mask & VFS_SET_MODE)
		i->mode = (i->mode & S_IFMT) | (c->mode & 07777);
	if (c->mask & VFS_SET_UID)
		i->uid = c->uid;
	if (c->mask & VFS_SET_GID)
		i->gid = c->gid;
	if (c->mask & VFS_SET_MTIME)
		i->mtime_ns = c->mtime_ns;
	if (c->mask & VFS_SET_ATIME)
		i->atime_ns = c->atime_ns;
	i->ctime_ns = clock_wall_ns();
}

/* ---- files ---- */

/* Half-written content is not recorded as owed for its attributes' sake: they
 * travel with it. */
int inode_touched(struct vfs *v, struct inode *i, struct writeback *wb)
{
	char key[STORE_KEY_MAX + 1];
	bool writers, owed;
	int err = 0;

	writeback_touch(wb);
	inode_publish_name(v, i);
	mutex_lock(&v->lock);
	writers = i->writers > 0;
	owed = i->owed;
	mutex_unlock(&v->lock);
	if (!writers ||
	    (inode_key(v, i, key) == 0 && writeback_same_content(wb, key)))
		err = inode_journal_owed(v, i, wb, v->config.journal_close);
	if (err)
		log_warn("vfs", "the journal cannot be written");
	if (!writers && !owed)
		inode_owe(v, i, OWED_ATTR_NS);
	return v->config.journal_close ? err : 0;
}

static int touch(struct vfs *v, struct inode *i, const struct vfs_change *c)
{
	struct writeback *wb;
	int err = inode_stage(v, i, false, &wb);

	if (err)
		return err;
	mutex_lock(&v->lock);
	change_apply_locked(i, c);
	mutex_unlock(&v->lock);
	err = inode_touched(v, i, wb);
	writeback_put(wb);
	return err;
}

/* An access time alone is not worth a request: the cache keeps it, and the
 * next change takes it along. */
static void remember_atime(struct vfs *v, struct inode *i, int64_t ns)
{
	struct store_meta pairs = { 0 };
	struct meta_rec rec;
	struct place p;

	mutex_lock(&v->lock);
	i->atime_ns = ns;
	mutex_unlock(&v->lock);
	if (inode_place(v, i, &p) || !p.parent)
		return;
	if (meta_get(v->meta, p.parent->ino, p.name, &rec) == 0) {
		if (rec.flags & META_HAS_HEADERS &&
		    !key_meta_unpack(rec.blob, rec.blob_len, &pairs)) {
			set_time(&pairs, "atime", ns);
			free(rec.blob);
			key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
			if (meta_put(v->meta, p.parent->ino, p.name, &rec,
				     NULL))
				log_debug("vfs", "an access time is lost");
		}
		store_meta_release(&pairs);
		meta_rec_release(&rec);
	}
	place_put(v, &p);
}

/* The mount's own folder has no marker: the cache keeps its time. */
static int touch_root(struct vfs *v, const struct vfs_change *c)
{
	if (c->mask & (VFS_SET_MODE | VFS_SET_UID | VFS_SET_GID))
		return -EPERM;
	mutex_lock(&v->lock);
	change_apply_locked(v->root, c);
	mutex_unlock(&v->lock);
	return meta_dir_changed(v->meta, v->root->ino, c->mtime_ns);
}

static int set_attributes(struct vfs *v, const struct vfs_ctx *ctx,
			  struct inode *i, const struct vfs_change *c)
{
	bool changes, unlinked, atime;
	int err;

	mutex_lock(&v->lock);
	changes = changes_locked(i, c);
	atime = c->mask & VFS_SET_ATIME && c->atime_ns != i->atime_ns;
	unlinked = i->unlinked;
	if (unlinked && (changes || atime))
		change_apply_locked(i, c);
	mutex_unlock(&v->lock);
	if (!changes && atime && !unlinked)
		remember_atime(v, i, c->atime_ns);
	if (!changes || unlinked)
		return 0;
	if (!v->config.writebacks)
		return -EROFS;
	if (v->config.journal_close && ctx->nowait)
		return -EAGAIN;
	if (i->kind == META_FILE) {
		err = inode_headers(v, ctx, i);
		return err ? err : touch(v, i, c);
	}
	return i == v->root ? touch_root(v, c) : folder_touch(v, ctx, i, c);
}

static int set_size(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		    uint64_t size)
{
	const struct backing_change change = { .size = size };
	struct writeback *wb;
	bool writers, followed;
	int err;

	if (i->kind == META_DIR)
		return -EISDIR;
	err = inode_headers(v, ctx, i);
	if (err)
		return err;
	mutex_lock(&v->lock);
	writers = i->writers > 0 || i->unlinked;
	bool same = i->size == size;
	mutex_unlock(&v->lock);
	if (same)
		return 0;
	if (!writers && ctx->nowait)
		return -EAGAIN;
	err = inode_stage(v, i, size == 0, &wb);
	if (err)
		return err;
	followed = backings_begin(v, i);
	err = writeback_truncate(wb, size);
	if (followed)
		backings_end(v, i, err ? NULL : &change);
	mutex_lock(&v->lock);
	if (!err) {
		i->size = i->told_size = size;
		inode_changed_locked(v, i);
	}
	mutex_unlock(&v->lock);
	if (!err)
		inode_journal_open(v, i, wb);
	writeback_put(wb);
	inode_publish_name(v, i);
	if (!err && !writers)
		err = inode_close(v, ctx, i, false);
	return err;
}

static int set_all(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		   const struct vfs_change *change)
{
	int err = inode_hold(v, ctx, i);

	if (err)
		return err;
	if (change->mask & VFS_SET_SIZE)
		err = set_size(v, ctx, i, change->size);
	if (!err && change->mask & ~VFS_SET_SIZE)
		err = set_attributes(v, ctx, i, change);
	inode_let_go(v, i);
	return err;
}

int vfs_setattr(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		const struct vfs_change *change, struct vfs_entry *ret)
{
	struct inode *i = inode_get(v, ino);
	int err;

	memset(ret, 0, sizeof(*ret));
	if (!i)
		return -ESTALE;
	err = v->config.writebacks ? inode_refresh(v, ctx, i, false) : -EROFS;
	if (!err)
		err = set_all(v, ctx, i, change);
	if (!err) {
		inode_stat(v, i, &ret->st);
		ret->ttl_ns = v->config.metadata_ttl_ns;
	}
	inode_put(v, i);
	return err;
}
