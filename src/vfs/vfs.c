/*
 * Life of the vfs, and the calls that are little more than a table look-up.
 */
#include <stdlib.h>
#include <string.h>

#include "vfs/ahead.h"
#include "vfs/inode.h"
#include "vfs/key.h"
#include "vfs/listahead.h"
#include "vfs/offline.h"
#include "vfs/removal.h"
#include "vfs/scan.h"
#include "vfs/spelling.h"
#include "vfs/write.h"

static bool inode_equal(const struct map_node *n, const void *key)
{
	return container_of(n, struct inode, node)->ino ==
	       *(const uint64_t *)key;
}

static bool flight_equal(const struct map_node *n, const void *key)
{
	const struct flight *a = container_of(n, struct flight, node);
	const struct flight *b = key;

	return a->parent == b->parent && strcmp(a->name, b->name) == 0;
}

int vfs_new(const struct vfs_config *config, struct vfs **ret)
{
	struct meta_rec root = { .ino = CACHE_ROOT_INO, .kind = META_DIR };
	struct vfs *v = xcalloc(1, sizeof(*v));

	v->config = *config;
	v->crowd = config->held_max ? config->held_max : SIZE_MAX;
	v->meta = cache_meta(config->cache);
	mutex_init(&v->lock);
	mutex_init(&v->mirror_lock);
	mutex_init(&v->recovering);
	cond_init(&v->flight_done);
	cond_init(&v->owed_changed);
	cond_init(&v->inode_free);
	list_init(&v->owed);
	list_init(&v->stopped);
	map_init(&v->inodes, inode_equal);
	map_init(&v->flights, flight_equal);
	if (config->writebacks)
		v->removals = removals_create(v);
	v->root = inode_from_rec(v, NULL, "", &root);
	v->ahead = ahead_create(v);
	v->listahead = listahead_create(v);
	v->offline = offline_create(v);
	*ret = v;
	return 0;
}

static void free_inode(struct map_node *n, void *arg)
{
	struct vfs *v = arg;
	struct inode *i = container_of(n, struct inode, node);

	map_remove(&v->inodes, n);
	writeback_put(i->wb);
	inode_free(i);
}

void vfs_destroy(struct vfs *v)
{
	if (!v)
		return;
	removals_destroy(v->removals);
	ahead_destroy(v->ahead);
	listahead_destroy(v->listahead);
	offline_destroy(v->offline);
	renames_forget(v);
	map_each(&v->inodes, free_inode, v);
	map_release(&v->inodes);
	map_release(&v->flights);
	cond_release(&v->flight_done);
	cond_release(&v->owed_changed);
	cond_release(&v->inode_free);
	mutex_release(&v->recovering);
	mutex_release(&v->mirror_lock);
	mutex_release(&v->lock);
	free(v);
}

int vfs_probe(struct vfs *v, struct store_req *req)
{
	const struct vfs_ctx ctx = { 0 };
	struct scan *s = scan_join(v, v->root);
	struct scan_page *page = NULL;
	bool end;
	int err = scan_next(v, &ctx, s, &page, &end, req);

	scan_page_put(s, page);
	scan_put(v, s);
	if (err && v->root->complete_ns && offline_begin(v, err))
		err = 0;
	return err;
}

void vfs_listen(struct vfs *v, const struct vfs_listener *l)
{
	const struct vfs_listener none = { 0 };

	mutex_lock(&v->lock);
	v->listener = l ? *l : none;
	mutex_unlock(&v->lock);
}

static int lookup(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
		  const char *name, struct vfs_entry *ret)
{
	struct meta_rec rec;
	int err;

	if (dir->kind != META_DIR)
		return -ENOTDIR;
	if (strlen(name) > CACHE_NAME_MAX)
		return -ENAMETOOLONG;
	if (!key_name_ok(name, strlen(name)))
		return -ENOENT;
	err = name_resolve(v, ctx, dir, name, false, &rec, &ret->ttl_ns);
	ret->ttl_ns = offline_told(v, ret->ttl_ns);
	if (err == -ENOENT) {
		ahead_missing(v, dir, name);
		ret->negative = true;
		return 0;
	}
	if (err)
		return err;
	struct inode *i = inode_from_rec(v, dir, name, &rec);

	inode_count_lookup(v, i);
	if (!ctx->nowait)
		ahead_fetched(v, i);
	inode_stat(v, i, &ret->st);
	inode_put(v, i);
	meta_rec_release(&rec);
	return 0;
}

int vfs_lookup(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	       const char *name, struct vfs_entry *ret)
{
	struct inode *dir = inode_get(v, parent);
	char space[CACHE_NAME_MAX + 1];
	int err;

	memset(ret, 0, sizeof(*ret));
	if (!dir)
		return -ESTALE;
	name = name_spelling(v, dir, name, space);
	err = lookup(v, ctx, dir, name, ret);
	mutex_lock(&v->lock);
	v->stats.lookups += err != -EAGAIN;
	v->stats.lookup_hits += ctx->nowait && err != -EAGAIN;
	mutex_unlock(&v->lock);
	inode_put(v, dir);
	return err;
}

int vfs_getattr(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		struct vfs_entry *ret)
{
	struct inode *i = inode_get(v, ino);
	int err;

	memset(ret, 0, sizeof(*ret));
	if (!i)
		return -ESTALE;
	err = inode_refresh(v, ctx, i, false);
	if (!err) {
		inode_stat(v, i, &ret->st);
		mutex_lock(&v->lock);
		ret->ttl_ns = i == v->root ?
				      v->config.metadata_ttl_ns :
				      ttl_left(i->checked_ns, offline_ttl(v));
		mutex_unlock(&v->lock);
		ret->ttl_ns = offline_told(v, ret->ttl_ns);
	}
	inode_put(v, i);
	return err;
}

/* R2 has no size; what programs check is that there is room. */
int vfs_statfs(struct vfs *v, struct statvfs *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->f_bsize = ret->f_frsize = 4096;
	ret->f_blocks = ret->f_bfree = ret->f_bavail = 1ull << 38;
	ret->f_files = ret->f_ffree = ret->f_favail = 1ull << 40;
	ret->f_namemax = CACHE_NAME_MAX;
	return 0;
}

void vfs_stats_get(struct vfs *v, struct vfs_stats *ret)
{
	struct listahead_stats l;
	struct predict_stats p;

	mutex_lock(&v->lock);
	*ret = v->stats;
	ret->inodes = v->inodes.count;
	mutex_unlock(&v->lock);
	ahead_stats_get(v->ahead, &p);
	ret->ahead = p.predicted;
	ret->ahead_used = p.used;
	ret->ahead_wasted = p.wasted;
	listahead_stats_get(v->listahead, &l);
	ret->folders_ahead = l.folders;
	ret->folders_used = l.used;
	ret->folders_wasted = l.wasted;
}
