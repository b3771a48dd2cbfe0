/*
 * Changes of an open file's bytes.
 *
 * Each goes to the inode's writeback, which all its handles read; to the data
 * files that the kernel reads by itself (backing); and, if the file is long,
 * soon on its way to R2 or to the disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "vfs/backing.h"
#include "vfs/file_impl.h"
#include "vfs/write.h"

enum {
	STREAM_FROM = 32 << 20,
	STREAM_STEP = 4 << 20,
	COPY_FROM =
		65536, /* below, a PUT of what is likely cached is as good */
	COPY_STEP = 1 << 30, /* no less of a larger object: the kernel asks for
			      * one of 4 GiB and more in steps */
};

/* Long files begin to travel while they are written, or to go to the disk if
 * that is what close waits for. */
static void stream(struct vfs *v, struct inode *i, struct writeback *wb,
		   uint64_t before, uint64_t after)
{
	char key[STORE_KEY_MAX + 1];
	struct writeback_target t = { .key = key };
	uint64_t from = before - before % STREAM_STEP;
	uint64_t to = after - after % STREAM_STEP;
	struct store_meta pairs;
	struct place p;
	bool temporary;

	if (to <= from || inode_place(v, i, &p))
		return;
	temporary = name_is_temporary(v, p.name);
	place_put(v, &p);
	if (v->config.journal_close)
		writeback_flush_start(wb, from, to - from);
	if (temporary || v->config.journal_close || after < STREAM_FROM ||
	    inode_key(v, i, key))
		return;
	t.as_of = writeback_changes(wb);
	inode_pairs(v, i, &pairs);
	t.meta = &pairs;
	writeback_stream(wb, &t);
	store_meta_release(&pairs);
}

/* An owed store is put off while the file is written to again: until the next
 * flush, but what was promised not for long. */
static void put_off(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	bool owed = i->owed && !i->deferred;
	bool promised = i->journalled_owed && i->journalled_bytes;
	if (owed && promised)
		i->owed_ns = i->owed_since_ns + OWED_HELD_NS;
	mutex_unlock(&v->lock);
	if (owed && !promised)
		inode_unowe(v, i);
}

static void grown(struct vfs *v, struct inode *i, struct writeback *wb,
		  uint64_t *before, uint64_t *after)
{
	*after = writeback_size(wb);
	mutex_lock(&v->lock);
	*before = i->size;
	i->size = i->told_size = *after;
	inode_changed_locked(v, i);
	i->failed = false;
	mutex_unlock(&v->lock);
	inode_journal_open(v, i, wb);
}

int vfs_write(struct vfs_file *f, const void *buf, size_t n, uint64_t off)
{
	const struct backing_change change = { off, n, 0, buf };
	uint64_t before, after;
	struct writeback *wb;
	bool followed;
	int err;

	if (!f->writable)
		return -EBADF;
	err = inode_stage(f->v, f->inode, false, &wb);
	if (err)
		return err;
	put_off(f->v, f->inode);
	followed = backings_begin(f->v, f->inode);
	err = writeback_write(wb, buf, n, off);
	if (followed)
		backings_end(f->v, f->inode, err ? NULL : &change);
	grown(f->v, f->inode, wb, &before, &after);
	if (!err)
		stream(f->v, f->inode, wb, before, after);
	else if (err != -EFBIG)
		failure_staging(f->v, f->inode, err);
	writeback_put(wb);
	return err;
}

/* The version of a clean file, as a base; strings into the given buffers. */
static bool describe_object(struct vfs *v, struct inode *i, char *key,
			    char *etag, struct writeback_base *ret)
{
	bool clean;

	if (inode_key(v, i, key))
		return false;
	mutex_lock(&v->lock);
	clean = !i->wb && !i->unlinked && i->etag && *i->etag && i->cid;
	snprintf(etag, CACHE_ETAG_MAX, "%s", i->etag ? i->etag : "");
	*ret = (struct writeback_base){ key, etag, i->cid, i->size };
	mutex_unlock(&v->lock);
	return clean;
}

/* Where the copy of [off, off + len) ends if R2 may make it; 0: it may not. */
static uint64_t copy_end(uint64_t size, uint64_t off, uint64_t len)
{
	if (size < COPY_FROM || off >= size)
		return 0;
	if (len >= size - off)
		return size;
	return len >= COPY_STEP ? off + len : 0;
}

ssize_t vfs_copy(struct vfs_file *from, uint64_t from_off, struct vfs_file *to,
		 uint64_t to_off, uint64_t len)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct writeback_base base;
	uint64_t before, after, end = 0;
	struct writeback *wb;
	int err;

	if (!to->writable)
		return -EBADF;
	if (from_off == to_off && from->inode != to->inode &&
	    describe_object(from->v, from->inode, key, etag, &base))
		end = copy_end(base.size, from_off, len);
	if (!end)
		return -EOPNOTSUPP;
	err = inode_stage(to->v, to->inode, false, &wb);
	if (err)
		return err;
	err = -EINVAL;
	if (backings_begin(to->v, to->inode))
		backings_end(to->v, to->inode, NULL);
	else
		err = writeback_copy(wb, &base, from_off, end);
	grown(to->v, to->inode, wb, &before, &after);
	writeback_put(wb);
	if (err)
		return err == -EINVAL ? -EOPNOTSUPP : err;
	return (ssize_t)(end - from_off);
}

int vfs_fallocate(struct vfs_file *f, int mode, uint64_t off, uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE, followed;
	struct backing_change change = {
		.off = off,
		.len = mode & ~FALLOC_FL_KEEP_SIZE ? len : 0,
	};
	uint64_t before, after;
	struct writeback *wb;
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
		     FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!f->writable)
		return -EBADF;
	err = inode_stage(f->v, f->inode, false, &wb);
	if (err)
		return err;
	followed = backings_begin(f->v, f->inode);
	if (change.len)
		err = writeback_zero(wb, off, len, !keep);
	else if (!keep && off + len > writeback_size(wb))
		err = writeback_truncate(wb, off + len);
	change.size = writeback_size(wb);
	if (followed)
		backings_end(f->v, f->inode, err ? NULL : &change);
	grown(f->v, f->inode, wb, &before, &after);
	writeback_put(wb);
	return err;
}

int vfs_seek(struct vfs_file *f, uint64_t off, int whence, uint64_t *ret)
{
	struct writeback *wb = inode_staged(f->v, f->inode);
	uint64_t size;
	int err;

	if (wb) {
		err = writeback_seek(wb, off, whence == SEEK_HOLE, ret);
		writeback_put(wb);
		return err;
	}
	mutex_lock(&f->v->lock);
	size = f->inode->size;
	mutex_unlock(&f->v->lock);
	*ret = whence == SEEK_HOLE ? size : off;
	return off >= size ? -ENXIO : 0;
}
