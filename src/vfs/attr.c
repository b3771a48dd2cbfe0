/*
 * Changing attributes.
 *
 * Mode, owner and time are kept as x-amz-meta-* in the spelling of s3fs and
 * rclone. On a file that is being written they travel with its content. On a
 * closed one they are one COPY of the object onto itself, put off for a
 * moment, because chmod, chown and utimes come in a row. A folder keeps them
 * on its marker object.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vfs/key.h"
#include "vfs/write.h"

/* ---- pairs ---- */

void pairs_unset(struct store_meta *m, const char *name)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < m->n; i++) {
		if (strcmp(m->pairs[i].name, name) == 0) {
			free(m->pairs[i].name);
			free(m->pairs[i].value);
		} else {
			m->pairs[kept++] = m->pairs[i];
		}
	}
	m->n = kept;
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

static void set_time(struct store_meta *m, int64_t ns)
{
	char text[48];

	if (ns < 0)
		ns = 0;
	snprintf(text, sizeof(text), "%lld.%09lld", (long long)(ns / 1000000000),
		 (long long)(ns % 1000000000));
	pairs_set(m, "mtime", text);
}

void inode_pairs(struct vfs *v, struct inode *i, struct store_meta *ret)
{
	memset(ret, 0, sizeof(*ret));
	mutex_lock(&v->lock);
	if (store_meta_copy(ret, &i->pairs))
		memset(ret, 0, sizeof(*ret));
	set_number(ret, "mode", i->mode);
	set_number(ret, "uid", i->uid);
	set_number(ret, "gid", i->gid);
	set_time(ret, i->mtime_ns);
	mutex_unlock(&v->lock);
}

/* ---- setattr ---- */

static bool changes_locked(const struct inode *i, const struct vfs_change *c)
{
	return (c->mask & VFS_SET_MODE && (c->mode & 07777) !=
						  (i->mode & 07777)) ||
	       (c->mask & VFS_SET_UID && c->uid != i->uid) ||
	       (c->mask & VFS_SET_GID && c->gid != i->gid) ||
	       (c->mask & VFS_SET_MTIME && c->mtime_ns != i->mtime_ns);
}

static void apply_locked(struct inode *i, const struct vfs_change *c)
{
	if (c->mask & VFS_SET_MODE)
		i->mode = (i->mode & S_IFMT) | (c->mode & 07777);
	if (c->mask & VFS_SET_UID)
		i->uid = c->uid;
	if (c->mask & VFS_SET_GID)
		i->gid = c->gid;
	if (c->mask & VFS_SET_MTIME)
		i->mtime_ns = c->mtime_ns;
}

static int store_marker(struct vfs *v, const struct vfs_ctx *ctx,
			struct inode *i)
{
	char key[STORE_KEY_MAX + 1];
	struct store_meta pairs;
	struct store_etag etag;
	struct place p;
	int err = inode_place(v, i, &p);

	if (err || !p.parent)
		return err;
	err = inode_key(v, i, key);
	inode_pairs(v, i, &pairs);
	if (!err)
		err = put_small(v, ctx, key, "", 0, &pairs, false, &etag);
	if (!err) {
		struct meta_rec rec = { .ino = i->ino, .kind = META_DIR,
					.flags = META_HAS_HEADERS |
						 META_MARKER,
					.checked_ns = clock_wall_ns() };

		rec.mtime_ns = i->mtime_ns;
		key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
		err = meta_put(v->meta, p.parent->ino, p.name, &rec, NULL);
		meta_rec_release(&rec);
	}
	store_meta_release(&pairs);
	place_put(v, &p);
	return err;
}

/* Attributes of a file changed: they travel with the content, or alone. */
static int touch(struct vfs *v, struct inode *i, const struct vfs_change *c)
{
	struct writeback *wb;
	bool dirty, writers;
	int err = inode_stage(v, i, false, &wb);

	if (err)
		return err;
	dirty = writeback_dirty(wb);
	mutex_lock(&v->lock);
	apply_locked(i, c);
	writers = i->writers > 0;
	mutex_unlock(&v->lock);
	writeback_touch(wb);
	inode_publish_name(v, i);
	if (!dirty && !writers)
		inode_owe(v, i, OWED_ATTR_NS);
	writeback_put(wb);
	return 0;
}

static int set_attributes(struct vfs *v, const struct vfs_ctx *ctx,
			  struct inode *i, const struct vfs_change *c)
{
	bool changes, unlinked;
	int err;

	mutex_lock(&v->lock);
	changes = changes_locked(i, c);
	unlinked = i->unlinked;
	if (unlinked && changes)
		apply_locked(i, c);
	mutex_unlock(&v->lock);
	if (!changes || unlinked)
		return 0;
	if (!v->config.writebacks)
		return -EROFS;
	if (i->kind == META_FILE) {
		err = inode_headers(v, ctx, i);
		return err ? err : touch(v, i, c);
	}
	if (i == v->root)
		return -EPERM;
	if (ctx->nowait)
		return -EAGAIN;
	mutex_lock(&v->lock);
	apply_locked(i, c);
	mutex_unlock(&v->lock);
	return store_marker(v, ctx, i);
}

static int set_size(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		    uint64_t size)
{
	struct writeback *wb;
	bool writers;
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
	err = writeback_truncate(wb, size);
	mutex_lock(&v->lock);
	if (!err) {
		i->size = size;
		i->mtime_ns = clock_wall_ns();
	}
	mutex_unlock(&v->lock);
	writeback_put(wb);
	inode_publish_name(v, i);
	if (!err && !writers) {
		err = inode_flush(v, ctx, i);
		if (err)
			inode_abandon(v, i);
		else
			inode_settle(v, i);
	}
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
		err = inode_wait_settled(v, ctx, i);
	if (!err && change->mask & VFS_SET_SIZE)
		err = set_size(v, ctx, i, change->size);
	if (!err && change->mask & ~VFS_SET_SIZE)
		err = set_attributes(v, ctx, i, change);
	if (!err) {
		inode_stat(v, i, &ret->st);
		ret->ttl_ns = v->config.metadata_ttl_ns;
	}
	inode_put(v, i);
	return err;
}
