/*
 * Whole contents in the hands of somebody who reads the data file itself: the
 * kernel (FUSE passthrough).
 *
 * Whoever reads so asks nobody, so all of it must be there and sound before,
 * and nothing may be punched out meanwhile. A mapping outlives the close that
 * we hear of: the kernel lets it hold the data file alone. Before an extent is
 * freed the file is therefore asked whether anybody else has it open, which is
 * what a write lease that is granted means; this holds also for mappings made
 * through a daemon that died. A file in use counts as busy until a later look.
 *
 * What this mount writes to the file must show to those readers too, and they
 * cannot be told to read elsewhere. The data file is then taken out of the
 * cache and changed along; the cache fetches what it needs of the old version
 * anew.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fsio.h"
#include "cache/block_impl.h"

enum { PINNED_US = 100 };

static bool extent_is_sound_locked(struct content *c, uint64_t ext)
	REQUIRES(c->lock)
{
	const struct extent *e = c->extents[ext];

	return e && (e->rec.epoch >= c->blocks->epoch ||
		     (e->verified & e->rec.present) == e->rec.present);
}

/* Without leases a mapping that is left could not be noticed. */
static bool can_ask_locked(struct content *c) REQUIRES(c->lock)
{
	struct blocks *b = c->blocks;
	bool can = __atomic_load_n(&b->leases, __ATOMIC_RELAXED);

	if (!can)
		can = fsio()->is_used(c->fd) >= 0;
	if (can)
		__atomic_store_n(&b->leases, true, __ATOMIC_RELAXED);
	return can;
}

static bool is_sound_locked(struct content *c) REQUIRES(c->lock)
{
	struct stat st;

	if (c->complete_to < c->size)
		return false;
	for (size_t i = 0; i < c->nextents; i++)
		if (!extent_is_sound_locked(c, i))
			return false;
	return content_file_locked(c, false) >= 0 && !fstat(c->fd, &st) &&
	       (uint64_t)st.st_size == c->size && can_ask_locked(c);
}

int content_keep(struct content *c, int *ret_fd)
{
	bool kept;

	if (!content_complete(c))
		return -EAGAIN;
	mutex_lock(&c->lock);
	kept = c->kept || is_sound_locked(c);
	if (kept) {
		c->kept++;
		*ret_fd = c->fd;
	}
	mutex_unlock(&c->lock);
	if (!kept)
		return -EAGAIN;
	content_tell_use(c, 0, c->size);
	return 0;
}

void content_unkeep(struct content *c)
{
	mutex_lock(&c->lock);
	c->kept--;
	mutex_unlock(&c->lock);
}

void content_spare(struct content *c, bool spare)
{
	__atomic_fetch_add(&c->spared, spare ? 1u : -1u, __ATOMIC_RELAXED);
}

/* Reads by other handles last for moments. */
static void lock_unpinned(struct content *c) UNCHECKED
{
	for (;;) {
		mutex_lock(&c->blocks->lock);
		mutex_lock(&c->lock);
		if (!c->pins)
			return;
		mutex_unlock(&c->lock);
		mutex_unlock(&c->blocks->lock);
		usleep(PINNED_US);
	}
}

static void forget_extents_locked(struct content *c) REQUIRES(c->lock) UNCHECKED
{
	struct blocks *b = c->blocks;
	struct extent_db_key k;

	for (size_t i = 0; i < c->nextents; i++) {
		content_clear_locked(c, i);
		batch_del(b->batch, KV_EXTENT, extent_db_key(&k, c->cid, i));
		(void)evict_remove(b->evict,
				   (struct evict_key){ c->cid, (uint32_t)i });
	}
}

int content_detach(struct content *c) UNCHECKED
{
	struct blocks *b = c->blocks;
	struct mutex *stripe = blocks_stripe(b, c->cid);
	char path[BLOCK_PATH_MAX];
	int fd = -EBUSY;

	blocks_path(b, c->cid, path);
	mutex_lock(stripe);
	lock_unpinned(c);
	if (c->kept == 1) {
		forget_extents_locked(c);
		c->kept = 0;
		fd = c->fd;
		c->fd = -1;
		(void)fsio()->unlink(path);
	}
	mutex_unlock(&c->lock);
	mutex_unlock(&b->lock);
	mutex_unlock(stripe);
	return fd;
}

/* ---- files that somebody else has open ---- */

struct held {
	struct map_node node;
	uint64_t cid;
};

bool held_is_same(const struct map_node *n, const void *key)
{
	return container_of(n, struct held, node)->cid ==
	       *(const uint64_t *)key;
}

bool blocks_holds_locked(struct blocks *b, uint64_t cid)
{
	return map_find(&b->held, hash_u64(cid), &cid) != NULL;
}

/* The descriptor of an open content, which must be the only one then. */
static int ask_open_locked(struct blocks *b, uint64_t cid, bool *ret_used)
	REQUIRES(b->lock)
{
	struct content *c = blocks_find_locked(b, cid);
	int err = -ENOENT;

	if (!c)
		return err;
	mutex_lock(&c->lock);
	if (c->kept || c->fd >= 0) {
		*ret_used = c->kept || fsio()->is_used(c->fd) > 0;
		err = 0;
	}
	mutex_unlock(&c->lock);
	return err;
}

static bool file_is_used(struct blocks *b, uint64_t cid)
{
	char path[BLOCK_PATH_MAX];
	bool used = false;
	int fd, err;

	mutex_lock(&b->lock);
	err = ask_open_locked(b, cid, &used);
	mutex_unlock(&b->lock);
	if (!err)
		return used;
	blocks_path(b, cid, path);
	fd = fsio()->open(path, O_RDWR, 0);
	if (fd < 0)
		return false;
	used = fsio()->is_used(fd) > 0;
	close(fd);
	return used;
}

bool blocks_note_held(struct blocks *b, uint64_t cid)
{
	struct held *h;

	if (!file_is_used(b, cid))
		return false;
	mutex_lock(&b->lock);
	if (!blocks_holds_locked(b, cid)) {
		h = xcalloc(1, sizeof(*h));
		h->cid = cid;
		map_insert(&b->held, &h->node, hash_u64(cid));
	}
	mutex_unlock(&b->lock);
	return true;
}

struct cids {
	uint64_t *v;
	size_t n;
};

static void collect_held(struct map_node *n, void *arg)
{
	struct cids *all = arg;

	all->v[all->n++] = container_of(n, struct held, node)->cid;
}

static void drop_held_locked(struct blocks *b, uint64_t cid) REQUIRES(b->lock)
{
	struct map_node *n = map_find(&b->held, hash_u64(cid), &cid);

	if (n) {
		map_remove(&b->held, n);
		free(container_of(n, struct held, node));
	}
}

void blocks_review_held(struct blocks *b)
{
	struct cids all = { .n = 0 };

	mutex_lock(&b->lock);
	if (b->held.count) {
		all.v = xcalloc(b->held.count, sizeof(*all.v));
		map_each(&b->held, collect_held, &all);
	}
	mutex_unlock(&b->lock);
	for (size_t i = 0; i < all.n; i++) {
		if (file_is_used(b, all.v[i]))
			continue;
		mutex_lock(&b->lock);
		drop_held_locked(b, all.v[i]);
		mutex_unlock(&b->lock);
	}
	free(all.v);
}

static void free_held(struct map_node *n, void *arg)
{
	free(container_of(n, struct held, node));
}

void blocks_release_held(struct blocks *b)
{
	map_each(&b->held, free_held, NULL);
	map_release(&b->held);
}
