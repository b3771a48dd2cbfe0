/*
 * Content for a kernel that reads the data file by itself.
 *
 * Its handles cannot be told to read elsewhere, so what this mount writes to
 * the inode must reach the file they read. From the first write on the data
 * file is therefore no longer the cache's: it is taken out and changed along
 * with the staged file (the one lock for that keeps overlapping writes in the
 * same order in both). Only versions that the written content builds on are
 * changed; who reads an older one keeps it.
 *
 * Small files are not worth it: they are one READ, and as long as the kernel
 * keeps their pages an open through the page cache is half the work (14 us
 * against 27 for open, read and close through io_uring).
 */
#include "vfs/backing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fsio.h"
#include "base/log.h"
#include "vfs/write.h"

enum { SMALL = 128 * 1024 + 1 };

struct vfs_backing {
	struct vfs *v;
	struct inode *inode; /* a reference */
	struct content *content; /* a reference */
	/* guarded by vfs.lock */
	struct list link;
	unsigned refs;
	uint64_t cid; /* what it shows */
	bool live; /* shows the inode's writeback */
	/* guarded by vfs.mirror_lock, or the caller's reference */
	bool detached; /* fd is ours */
	int fd;
};

static struct vfs_backing *find_locked(struct inode *i, uint64_t cid)
{
	list_for_each(n, &i->backings) {
		struct vfs_backing *b = list_entry(n, struct vfs_backing, link);

		if (b->cid == cid)
			return b;
	}
	return NULL;
}

static struct vfs_backing *backing_new(struct vfs *v, struct inode *i,
				       struct content *c, uint64_t cid)
{
	struct vfs_backing *b = xcalloc(1, sizeof(*b));

	if (content_keep(c, &b->fd)) {
		free(b);
		return NULL;
	}
	b->v = v;
	b->content = c;
	b->cid = cid;
	b->refs = 1;
	b->inode = i;
	content_ref(c);
	return b;
}

static void backing_free(struct vfs_backing *b)
{
	if (b->detached)
		close(b->fd);
	else
		content_unkeep(b->content);
	content_put(b->content);
	free(b);
}

/* Nobody may have begun to write since the handle was opened. */
static struct vfs_backing *adopt(struct vfs *v, struct vfs_backing *fresh)
{
	struct inode *i = fresh->inode;
	struct vfs_backing *b = NULL;

	mutex_lock(&v->lock);
	if (!i->wb && !i->unlinked)
		b = find_locked(i, fresh->cid);
	if (b) {
		b->refs++;
	} else if (!i->wb && !i->unlinked) {
		b = fresh;
		i->refs++;
		list_add_tail(&i->backings, &b->link);
	}
	mutex_unlock(&v->lock);
	if (b != fresh)
		backing_free(fresh);
	return b;
}

struct vfs_backing *vfs_backing_get(struct vfs *v, struct vfs_file *f)
{
	struct fill_file *fill;
	struct vfs_backing *b;
	struct inode *i;
	uint64_t cid;

	if (!file_reads(f, &i, &fill, &cid) ||
	    content_size(fill_content(fill)) < SMALL)
		return NULL;
	b = backing_new(v, i, fill_content(fill), cid);
	return b ? adopt(v, b) : NULL;
}

bool vfs_backing_serves(struct vfs_backing *b, struct vfs_file *f)
{
	struct fill_file *fill;
	struct inode *i;
	uint64_t cid;
	bool serves, reads = file_reads(f, &i, &fill, &cid);

	mutex_lock(&b->v->lock);
	serves = i == b->inode && (i->wb ? b->live : reads && cid == b->cid);
	mutex_unlock(&b->v->lock);
	return serves;
}

int vfs_backing_fd(const struct vfs_backing *b)
{
	return b->fd;
}

void vfs_backing_count(struct vfs *v)
{
	mutex_lock(&v->lock);
	v->stats.passthrough++;
	mutex_unlock(&v->lock);
}

void vfs_backing_put(struct vfs_backing *b)
{
	struct vfs *v = b ? b->v : NULL;
	struct inode *i;
	bool last;

	if (!b)
		return;
	mutex_lock(&v->lock);
	last = --b->refs == 0;
	if (last)
		list_del(&b->link);
	mutex_unlock(&v->lock);
	if (!last)
		return;
	i = b->inode;
	backing_free(b);
	inode_put(v, i);
}

/* ---- the inode changes ---- */

void backings_stage_locked(struct inode *i)
{
	list_for_each(n, &i->backings) {
		struct vfs_backing *b = list_entry(n, struct vfs_backing, link);

		b->live = b->cid == i->cid;
	}
}

void backings_stored_locked(struct inode *i, uint64_t cid)
{
	list_for_each(n, &i->backings) {
		struct vfs_backing *b = list_entry(n, struct vfs_backing, link);

		if (b->live)
			b->cid = cid;
	}
}

void backings_settle_locked(struct inode *i, bool stored)
{
	list_for_each(n, &i->backings) {
		struct vfs_backing *b = list_entry(n, struct vfs_backing, link);

		if (b->live && !stored)
			b->cid = 0;
		b->live = false;
	}
}

struct mirror {
	struct vfs_backing **v;
	size_t n;
};

/* Those to change, with references. */
static void find_live(struct vfs *v, struct inode *i, struct mirror *m)
{
	m->n = 0;
	m->v = NULL;
	mutex_lock(&v->lock);
	list_for_each(n, &i->backings) {
		struct vfs_backing *b = list_entry(n, struct vfs_backing, link);

		if (!b->live)
			continue;
		m->v = xrealloc(m->v, (m->n + 1) * sizeof(*m->v));
		m->v[m->n++] = b;
		b->refs++;
	}
	mutex_unlock(&v->lock);
}

static int detach_one(struct vfs_backing *b)
{
	int fd;

	if (b->detached)
		return 0;
	fd = content_detach(b->content);
	if (fd < 0)
		return fd;
	b->fd = fd;
	b->detached = true;
	return 0;
}

static int zero(int fd, uint64_t off, uint64_t len)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (off >= (uint64_t)st.st_size)
		return 0;
	if (len > (uint64_t)st.st_size - off)
		len = (uint64_t)st.st_size - off;
	return fsio()->punch(fd, (off_t)off, (off_t)len);
}

static int change_one(struct vfs_backing *b, const struct backing_change *c)
{
	ssize_t n = detach_one(b);

	if (n)
		return (int)n;
	if (c->data) {
		n = fsio()->pwrite(b->fd, c->data, c->len, (off_t)c->off);
		return n == (ssize_t)c->len ? 0 : n < 0 ? (int)n : -EIO;
	}
	n = c->len ? zero(b->fd, c->off, c->len) : 0;
	return n ? (int)n : fsio()->ftruncate(b->fd, (off_t)c->size);
}

bool backings_begin(struct vfs *v, struct inode *i) UNCHECKED
{
	bool live = false;

	mutex_lock(&v->lock);
	list_for_each(n, &i->backings)
		live |= list_entry(n, struct vfs_backing, link)->live;
	mutex_unlock(&v->lock);
	if (live)
		mutex_lock(&v->mirror_lock);
	return live;
}

void backings_end(struct vfs *v, struct inode *i,
		  const struct backing_change *c) UNCHECKED
{
	struct mirror m;
	int err;

	find_live(v, i, &m);
	for (size_t k = 0; k < m.n; k++) {
		err = c ? change_one(m.v[k], c) : 0;
		if (err)
			log_warn("vfs",
				 "a file open for reading does not show what "
				 "was written to it: %s",
				 strerror(-err));
	}
	mutex_unlock(&v->mirror_lock);
	for (size_t k = 0; k < m.n; k++)
		vfs_backing_put(m.v[k]);
	free(m.v);
}
