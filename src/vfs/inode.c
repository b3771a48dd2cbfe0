/*
 * The inode table: what the kernel holds, by number.
 *
 * Numbers are given out by the cache and stay the same across remounts, so
 * the table is only a memory of what is in use; it is not the truth about any
 * name. An update from a newer record is copied in under the table lock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/inode.h"
#include "vfs/key.h"
#include "vfs/offline.h"
#include "vfs/scan.h"

int64_t ttl_left(int64_t checked_ns, int64_t ttl_ns)
{
	int64_t age = clock_wall_ns() - checked_ns;

	if (checked_ns <= 0)
		return 0;
	if (ttl_ns == VFS_TTL_INDEFINITE)
		return VFS_TTL_INDEFINITE;
	if (age < -1000000000ll || age >= ttl_ns)
		return 0;
	return ttl_ns - age;
}

int64_t rec_ttl(struct vfs *v, const struct meta_rec *rec)
{
	if (rec->flags & META_OLD_HEADERS && !offline_is(v))
		return 0;
	return ttl_left(rec->checked_ns, rec->kind == META_ABSENT ?
						 offline_negative_ttl(v) :
						 offline_ttl(v));
}

struct shown { /* attributes as shown */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
	int64_t ctime_ns, atime_ns; /* 0: as mtime_ns */
};

static void shown_from_rec(struct vfs *v, const struct meta_rec *rec,
			   struct shown *a)
{
	const struct vfs_config *c = &v->config;
	struct store_meta meta = { 0 };
	struct key_meta km = { 0 };
	mode_t type = rec->kind == META_DIR ? S_IFDIR : S_IFREG;
	mode_t perm = rec->kind == META_DIR ? c->dir_mode : c->file_mode;

	if (rec->blob_len &&
	    key_meta_unpack(rec->blob, rec->blob_len, &meta) == 0)
		key_meta_parse(&meta, &km);
	store_meta_release(&meta);
	if (km.has_mode) {
		perm = km.mode & 07777;
		if (rec->kind == META_FILE &&
		    (S_ISLNK(km.mode) || S_ISFIFO(km.mode) ||
		     S_ISSOCK(km.mode)))
			type = km.mode & S_IFMT;
	}
	a->mode = type | (type == S_IFLNK ? 0777 : perm & ~c->umask);
	a->uid = km.has_uid ? km.uid : c->uid;
	a->gid = km.has_gid ? km.gid : c->gid;
	a->mtime_ns = km.has_mtime ? km.mtime_ns : rec->mtime_ns;
	a->ctime_ns = km.has_ctime ? km.ctime_ns : 0;
	a->atime_ns = km.has_atime ? km.atime_ns : 0;
}

static void set_time(struct timespec *t, int64_t ns)
{
	t->tv_sec = ns / 1000000000;
	t->tv_nsec = ns % 1000000000;
}

static void fill_stat(struct stat *st, uint64_t ino, const struct shown *a,
		      uint64_t size)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_mode = a->mode;
	st->st_nlink = 1;
	st->st_uid = a->uid;
	st->st_gid = a->gid;
	st->st_size = S_ISDIR(a->mode) ? 0 : size;
	st->st_blocks = (st->st_size + 511) / 512;
	st->st_blksize = 131072;
	set_time(&st->st_mtim, a->mtime_ns);
	set_time(&st->st_ctim, a->ctime_ns ? a->ctime_ns : a->mtime_ns);
	set_time(&st->st_atim, a->atime_ns ? a->atime_ns : a->mtime_ns);
}

mode_t rec_type(struct vfs *v, const struct meta_rec *rec)
{
	struct shown a;

	shown_from_rec(v, rec, &a);
	return a.mode & S_IFMT;
}

void rec_stat(struct vfs *v, const struct meta_rec *rec, struct stat *st)
{
	struct shown a;

	shown_from_rec(v, rec, &a);
	fill_stat(st, rec->ino, &a, rec->size);
}

void inode_stat(struct vfs *v, struct inode *i, struct stat *st)
{
	mutex_lock(&v->lock);
	struct shown a = { i->mode,	i->uid,	     i->gid,
			   i->mtime_ns, i->ctime_ns, i->atime_ns };
	uint64_t size = i->told_size = i->size;
	bool unlinked = i->unlinked;
	i->reopens = false;
	mutex_unlock(&v->lock);
	fill_stat(st, i->ino, &a, size);
	if (unlinked)
		st->st_nlink = 0;
}

void inode_changed_locked(struct vfs *v, struct inode *i)
{
	i->mtime_ns = clock_wall_ns();
	i->ctime_ns = 0;
}

void dir_changed(struct vfs *v, struct inode *dir)
{
	int64_t now;

	mutex_lock(&v->lock);
	inode_changed_locked(v, dir);
	dir->turns++;
	now = dir->mtime_ns;
	mutex_unlock(&v->lock);
	if (meta_dir_changed(v->meta, dir->ino, now))
		log_debug("vfs", "the cache keeps no time of a folder");
}

void inode_untold(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->told_size = UINT64_MAX;
	mutex_unlock(&v->lock);
}

static struct inode *find_locked(struct vfs *v, uint64_t ino) REQUIRES(v->lock)
{
	struct map_node *n = map_find(&v->inodes, hash_u64(ino), &ino);

	return n ? container_of(n, struct inode, node) : NULL;
}

/* A time yet to come is of a clock that was set back since. */
static bool is_older(const struct meta_rec *rec, const struct inode *i)
{
	return rec->checked_ns < i->checked_ns &&
	       i->checked_ns <= clock_wall_ns();
}

static void show_locked(struct inode *i, const struct shown *a)
{
	i->mode = a->mode;
	i->uid = a->uid;
	i->gid = a->gid;
	i->mtime_ns = a->mtime_ns;
	i->ctime_ns = a->ctime_ns;
	i->atime_ns = a->atime_ns;
}

void inode_show_locked(struct vfs *v, struct inode *i,
		       const struct meta_rec *rec)
{
	struct shown a;

	shown_from_rec(v, rec, &a);
	show_locked(i, &a);
}

static void update_locked(struct inode *i, const struct meta_rec *rec,
			  const struct shown *a)
{
	show_locked(i, a);
	i->flags = rec->flags;
	i->object_ns = rec->mtime_ns;
	i->size = rec->size;
	i->checked_ns = rec->checked_ns;
	i->cid = rec->cid;
	if (!i->etag || strcmp(i->etag, rec->etag) != 0) {
		free(i->etag);
		i->etag = xstrdup(rec->etag);
	}
}

static struct inode *inode_new(struct inode *parent, const char *name,
			       const struct meta_rec *rec)
{
	struct inode *i = xcalloc(1, sizeof(*i));

	list_init(&i->backings);
	i->ino = rec->ino;
	i->kind = rec->kind;
	i->shadowed = rec->flags & META_SHADOWED;
	i->told_size = rec->size;
	i->parent = parent;
	i->name = xstrdup(name);
	return i;
}

struct inode *inode_from_rec(struct vfs *v, struct inode *parent,
			     const char *name, const struct meta_rec *rec)
{
	struct meta_dir dir = { 0 };
	struct shown a;
	struct inode *i;

	shown_from_rec(v, rec, &a);
	if (rec->kind == META_DIR && meta_dir_get(v->meta, rec->ino, &dir))
		memset(&dir, 0, sizeof(dir));
	if (dir.changed_ns > a.mtime_ns) {
		a.mtime_ns = dir.changed_ns;
		a.ctime_ns = a.ctime_ns > dir.changed_ns ? a.ctime_ns : 0;
	}
	mutex_lock(&v->lock);
	i = find_locked(v, rec->ino);
	if (!i) {
		i = inode_new(parent, name, rec);
		if (parent)
			parent->refs++;
		map_insert(&v->inodes, &i->node, hash_u64(rec->ino));
	}
	i->refs++;
	if (!i->wb && !i->unlinked && !is_older(rec, i))
		update_locked(i, rec, &a);
	if (dir.complete_ns > i->complete_ns)
		i->complete_ns = dir.complete_ns;
	mutex_unlock(&v->lock);
	return i;
}

struct inode *inode_get(struct vfs *v, uint64_t ino)
{
	mutex_lock(&v->lock);
	struct inode *i = find_locked(v, ino);
	if (i)
		i->refs++;
	mutex_unlock(&v->lock);
	return i;
}

void inode_free(struct inode *i)
{
	store_meta_release(&i->pairs);
	store_meta_release(&i->base);
	free(i->fail_why);
	free(i->name);
	free(i->etag);
	free(i);
}

/* Frees i and every ancestor that nobody else needs. */
static void reap_locked(struct vfs *v, struct inode *i) REQUIRES(v->lock)
{
	while (i && i->refs == 0 && i->nlookup == 0) {
		struct inode *parent = i->parent;

		map_remove(&v->inodes, &i->node);
		inode_free(i);
		if (parent)
			parent->refs--;
		i = parent;
	}
	if (v->inodes.count < v->config.held_max)
		v->crowd = v->config.held_max;
}

void inode_put(struct vfs *v, struct inode *i)
{
	if (!i)
		return;
	mutex_lock(&v->lock);
	i->refs--;
	reap_locked(v, i);
	mutex_unlock(&v->lock);
}

enum { CROWD_PART = 8 };

/* Whether there are too many, which is not said again until there are some
 * more, or were few. */
static bool is_crowded_locked(struct vfs *v) REQUIRES(v->lock)
{
	bool crowded = v->inodes.count >= v->crowd;

	if (crowded)
		v->crowd = v->inodes.count + v->config.held_max / CROWD_PART;
	return crowded;
}

static void tell_crowded(struct vfs *v)
{
	mutex_lock(&v->lock);
	struct vfs_listener l = v->listener;
	size_t n = v->inodes.count;
	mutex_unlock(&v->lock);
	size_t keep = v->config.held_max - v->config.held_max / CROWD_PART * 2;

	if (l.crowded && n > keep)
		l.crowded(n - keep, l.arg);
}

void inode_count_lookup(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->nlookup++;
	bool crowded = is_crowded_locked(v);
	mutex_unlock(&v->lock);
	if (crowded)
		tell_crowded(v);
}

void vfs_forget(struct vfs *v, uint64_t ino, uint64_t count)
{
	mutex_lock(&v->lock);
	struct inode *i = find_locked(v, ino);
	if (i && i != v->root) {
		i->nlookup -= count < i->nlookup ? count : i->nlookup;
		reap_locked(v, i);
	}
	mutex_unlock(&v->lock);
}

struct pick {
	struct vfs_unused *ret;
	unsigned n, max;
};

static bool pick_unused(struct map_node *node, void *arg)
{
	struct inode *i = container_of(node, struct inode, node);
	struct pick *p = arg;
	struct vfs_unused *u = &p->ret[p->n];

	if (i->used || i->refs || !i->nlookup || !i->parent) {
		i->used = false;
		return true;
	}
	u->ino = i->ino;
	u->parent = i->parent->ino;
	u->is_dir = i->kind == META_DIR;
	snprintf(u->name, sizeof(u->name), "%s", i->name);
	return ++p->n < p->max;
}

unsigned vfs_unused(struct vfs *v, struct vfs_unused *ret, unsigned n)
{
	struct pick p = { .ret = ret, .max = n };

	mutex_lock(&v->lock);
	for (unsigned rounds = 0; !p.n && rounds < 2; rounds++)
		map_sweep(&v->inodes, &v->hand, pick_unused, &p);
	mutex_unlock(&v->lock);
	return p.n;
}

int inode_place(struct vfs *v, struct inode *i, struct place *ret)
{
	int err = 0;

	mutex_lock(&v->lock);
	ret->parent = i->parent;
	if (i->unlinked)
		err = -ESTALE;
	else if (i->parent)
		i->parent->refs++;
	snprintf(ret->name, sizeof(ret->name), "%s", i->name);
	mutex_unlock(&v->lock);
	if (err)
		ret->parent = NULL;
	return err;
}

void place_put(struct vfs *v, struct place *p)
{
	inode_put(v, p->parent);
}

static int key_of_locked(struct vfs *v, struct inode *i, char *out, size_t *len)
	REQUIRES(v->lock)
{
	if (!i->parent) {
		*len = strlen(v->config.prefix);
		if (*len > STORE_KEY_MAX)
			return -ENAMETOOLONG;
		memcpy(out, v->config.prefix, *len + 1);
		return 0;
	}
	int err = key_of_locked(v, i->parent, out, len);
	if (err)
		return err;

	size_t n = strlen(i->name);
	if (i->shadowed)
		n = key_object_suffix(i->name);
	if (*len + n + 1 > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	memcpy(out + *len, i->name, n);
	*len += n;
	if (i->kind == META_DIR)
		out[(*len)++] = '/';
	out[*len] = 0;
	return 0;
}

static int key_of(struct vfs *v, struct inode *i, char *out, size_t *len)
{
	mutex_lock(&v->lock);
	int err = key_of_locked(v, i, out, len);
	mutex_unlock(&v->lock);
	return err;
}

int inode_key(struct vfs *v, struct inode *i, char *out)
{
	size_t len;

	return key_of(v, i, out, &len);
}

int inode_child_key(struct vfs *v, struct inode *dir, const char *name,
		    bool is_dir, char *out)
{
	size_t len, n = strlen(name);
	int err = key_of(v, dir, out, &len);

	if (err)
		return err;
	if (len + n + is_dir > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	memcpy(out + len, name, n + 1);
	if (is_dir)
		strcpy(out + len + n, "/");
	return 0;
}
