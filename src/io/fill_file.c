/*
 * The object versions that somebody reads.
 *
 * All opens of a version share one struct fill_file: what is on its way for
 * one reader is found by the others. It lives as long as an open or a fetch
 * refers to it, so bytes that nobody waits for any more still reach the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "io/fetch.h"

#define SIZE_MAX_OF_OBJECT (5ull << 40)

static bool same_cid(const struct map_node *n, const void *key)
{
	return container_of(n, struct fill_file, node)->cid ==
	       *(const uint64_t *)key;
}

int fills_create(const struct fill_config *config, struct fills **ret)
{
	struct fills *f = xcalloc(1, sizeof(*f));

	f->config = *config;
	if (!f->config.first_bytes)
		f->config.first_bytes = 1 << 20;
	if (!f->config.get_bytes)
		f->config.get_bytes = 8 << 20;
	mutex_init(&f->lock);
	cond_init(&f->idle);
	list_init(&f->hungry);
	map_init(&f->files, same_cid);
	*ret = f;
	return 0;
}

static void file_free(struct fill_file *file)
{
	fetch_drop_left(file);
	content_put(file->content);
	mutex_release(&file->lock);
	store_meta_release(&file->attr.meta);
	while (file->name) {
		struct fill_name *older = file->name->older;

		free(file->name->key);
		free(file->name->etag);
		free(file->name);
		file->name = older;
	}
	free(file);
}

/* A handle still open when the mount ends. */
static void free_file(struct map_node *n, void *arg)
{
	file_free(container_of(n, struct fill_file, node));
}

void fills_wait(struct fills *f)
{
	mutex_lock(&f->lock);
	while (f->fetches)
		cond_wait(&f->idle, &f->lock);
	mutex_unlock(&f->lock);
}

struct files {
	struct fill_file **v;
	size_t n;
};

static void collect(struct map_node *n, void *arg)
{
	struct files *all = arg;
	struct fill_file *file = container_of(n, struct fill_file, node);

	all->v = xrealloc(all->v, (all->n + 1) * sizeof(*all->v));
	all->v[all->n++] = file;
	file->refs++;
}

static void cancel_file(struct fill_file *file)
{
	mutex_lock(&file->lock);
	list_for_each(l, &file->fetches) {
		struct fetch *fetch = list_entry(l, struct fetch, link);

		if (fetch->state == FETCH_FLYING)
			store_cancel(file->fills->config.store, &fetch->req);
	}
	mutex_unlock(&file->lock);
}

void fills_cancel(struct fills *f)
{
	struct files all = { 0 };

	mutex_lock(&f->lock);
	map_each(&f->files, collect, &all);
	mutex_unlock(&f->lock);
	for (size_t i = 0; i < all.n; i++) {
		cancel_file(all.v[i]);
		file_put(all.v[i]);
	}
	free(all.v);
}

void fills_destroy(struct fills *f)
{
	if (!f)
		return;
	fills_wait(f);
	map_each(&f->files, free_file, NULL);
	map_release(&f->files);
	cond_release(&f->idle);
	mutex_release(&f->lock);
	free(f);
}

void fills_stats_get(struct fills *f, struct fill_stats *ret)
{
	const uint64_t *from = (const uint64_t *)&f->stats;
	uint64_t *to = (uint64_t *)ret;

	for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* ---- files ---- */

static struct fill_file *find_file_locked(struct fills *f, uint64_t cid)
	REQUIRES(f->lock)
{
	struct map_node *n = map_find(&f->files, hash_u64(cid), &cid);

	if (!n)
		return NULL;
	struct fill_file *file = container_of(n, struct fill_file, node);

	file->refs++;
	return file;
}

static struct fill_file *file_new(struct fills *f, const char *key,
				  const char *etag, uint64_t cid, uint64_t size)
{
	struct fill_file *file = xcalloc(1, sizeof(*file));

	file->fills = f;
	file->cid = cid;
	file->size = size;
	file->name = xcalloc(1, sizeof(*file->name));
	file->name->key = xstrdup(key);
	file->name->etag = xstrdup(etag);
	file->refs = 1;
	mutex_init(&file->lock);
	list_init(&file->fetches);
	list_init(&file->waiters);
	return file;
}

int file_get(struct fills *f, const char *key, const char *etag, uint64_t cid,
	     uint64_t size, struct fill_file **ret)
{
	struct fill_file *file, *fresh;
	int err;

	if (size > SIZE_MAX_OF_OBJECT)
		return -EFBIG;
	mutex_lock(&f->lock);
	file = find_file_locked(f, cid);
	mutex_unlock(&f->lock);
	if (!file) {
		fresh = file_new(f, key, etag, cid, size);
		err = content_open(f->config.blocks, cid, size,
				   &fresh->content);
		if (err) {
			file_free(fresh);
			return err;
		}
		mutex_lock(&f->lock);
		file = find_file_locked(f, cid);
		if (!file) {
			map_insert(&f->files, &fresh->node, hash_u64(cid));
			file = fresh;
			fresh = NULL;
		}
		mutex_unlock(&f->lock);
		if (fresh)
			file_free(fresh);
	}
	*ret = file;
	return 0;
}

void file_put(struct fill_file *file)
{
	struct fills *f = file->fills;
	bool last;

	mutex_lock(&f->lock);
	last = --file->refs == 0;
	if (last)
		map_remove(&f->files, &file->node);
	mutex_unlock(&f->lock);
	if (last)
		file_free(file);
}

int fill_open(struct fills *f, const char *key, const char *etag, uint64_t cid,
	      uint64_t size, struct fill_file **ret)
{
	int err = file_get(f, key, etag, cid, size, ret);

	if (err)
		return err;
	mutex_lock(&(*ret)->lock);
	(*ret)->stale = false;
	mutex_unlock(&(*ret)->lock);
	return 0;
}

void fill_ref(struct fill_file *file)
{
	mutex_lock(&file->fills->lock);
	file->refs++;
	mutex_unlock(&file->fills->lock);
}

void fill_close(struct fill_file *file)
{
	if (file)
		file_put(file);
}

bool fill_headers(struct fill_file *file, struct store_attr *ret)
{
	mutex_lock(&file->lock);
	bool have = file->attr.has_meta;
	if (have) {
		*ret = file->attr;
		if (store_meta_copy(&ret->meta, &file->attr.meta))
			have = false;
	}
	mutex_unlock(&file->lock);
	return have;
}

static void rename_locked(struct fill_file *file, const char *key,
			  const char *etag) REQUIRES(file->lock)
{
	struct fill_name *name = xcalloc(1, sizeof(*name));

	name->key = xstrdup(key);
	name->etag = xstrdup(etag ? etag : file->name->etag);
	name->older = file->name;
	file->name = name;
	file->stale = false;
}

void fill_moved(struct fills *f, uint64_t cid, const char *key,
		const char *etag)
{
	struct fill_file *file;

	mutex_lock(&f->lock);
	file = find_file_locked(f, cid);
	mutex_unlock(&f->lock);
	if (!file)
		return;
	mutex_lock(&file->lock);
	rename_locked(file, key, etag);
	mutex_unlock(&file->lock);
	file_put(file);
}

bool fill_follow(struct fill_file *file, const char *key)
{
	mutex_lock(&file->lock);
	if (strcmp(file->name->key, key) != 0)
		rename_locked(file, key, NULL);
	bool usable = !file->stale;
	mutex_unlock(&file->lock);
	return usable;
}

struct content *fill_content(struct fill_file *file)
{
	return file->content;
}
