/*
 * What restarts need: the table of extents read back, with how they were
 * used, and data files put right.
 *
 * The use of extents is saved at a clean stop only, as one sorted array of
 * fixed records in chunks under "u" + number. It is a hint: after a crash the
 * last one saved is used, and an extent it does not name counts as used once.
 * To write it into the extents' records would rewrite them for every hit.
 *
 * After an unclean stop there may be files and blocks whose record never
 * reached the database. Nobody reads them, but they take room that is not
 * counted; a thread looks through data/ once and frees them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fsio.h"
#include "base/log.h"
#include "cache/block_impl.h"

enum {
	USE_BYTES = 14, /* cid, ext (big-endian), freq, age */
	USE_CHUNK = 4096, /* records */
	USE_MAX = 1 << 21, /* saved at most */
	USE_KEY = 5,
};

/* ---- the use of extents ---- */

static struct slice use_key(uint8_t key[USE_KEY], uint32_t chunk)
{
	key[0] = 'u';
	for (int i = 4; i > 0; i--, chunk >>= 8)
		key[i] = (uint8_t)chunk;
	return (struct slice){ key, USE_KEY };
}

struct uses {
	struct evict_use *v;
	size_t n, cap;
};

static void collect_use(const struct evict_use *use, void *arg)
{
	struct uses *u = arg;

	if (u->n < u->cap)
		u->v[u->n++] = *use;
}

static int by_key(const void *pa, const void *pb)
{
	const struct evict_key *a = &((const struct evict_use *)pa)->key;
	const struct evict_key *b = &((const struct evict_use *)pb)->key;

	if (a->cid != b->cid)
		return a->cid < b->cid ? -1 : 1;
	return a->ext < b->ext ? -1 : a->ext > b->ext;
}

static void put_chunk(struct blocks *b, uint32_t chunk,
		      const struct evict_use *v, size_t n)
{
	uint8_t *bytes = xmalloc(n * USE_BYTES), *p = bytes, key[USE_KEY];

	for (size_t i = 0; i < n; i++, p += USE_BYTES) {
		record_be64(p + 4, v[i].key.ext);
		record_be64(p, v[i].key.cid);
		p[12] = v[i].freq;
		p[13] = v[i].age;
	}
	batch_room(b->batch);
	batch_put(b->batch, KV_STATE, use_key(key, chunk),
		  (struct slice){ bytes, n * USE_BYTES });
	free(bytes);
}

static int delete_chunk(struct slice key, struct slice val, void *arg)
{
	batch_del(arg, KV_STATE, key);
	return 0;
}

void blocks_save_use(struct blocks *b)
{
	struct slice prefix = { "u", 1 };
	struct uses u = { .n = 0 };
	uint32_t chunk = 0;

	mutex_lock(&b->lock);
	u.cap = evict_count(b->evict) < USE_MAX ? evict_count(b->evict) :
						  USE_MAX;
	u.v = xmalloc((u.cap + 1) * sizeof(*u.v));
	evict_each(b->evict, collect_use, &u);
	mutex_unlock(&b->lock);
	qsort(u.v, u.n, sizeof(*u.v), by_key);
	if (batch_scan(b->batch, KV_STATE, prefix, (struct slice){ 0 },
		       delete_chunk, b->batch))
		log_debug("cache", "old uses stay");
	for (size_t i = 0; i < u.n; i += USE_CHUNK)
		put_chunk(b, chunk++, u.v + i,
			  u.n - i < USE_CHUNK ? u.n - i : USE_CHUNK);
	free(u.v);
}

/* ---- reading back ---- */

struct loader {
	struct blocks *blocks;
	struct buf uses; /* all chunks behind each other */
	size_t at;
};

static int load_chunk(struct slice key, struct slice val, void *arg)
{
	struct loader *l = arg;

	if (key.n == USE_KEY && val.n % USE_BYTES == 0)
		buf_add(&l->uses, val.p, val.n);
	return 0;
}

/* Extents come in the order of the uses. */
static void find_use(struct loader *l, struct evict_use *use)
{
	for (; l->at + USE_BYTES <= l->uses.len; l->at += USE_BYTES) {
		const uint8_t *p = (const uint8_t *)l->uses.data + l->at;
		struct evict_use u = {
			.key.cid = record_get_be64(p),
			.key.ext = (uint32_t)record_get_be64(p + 4),
		};
		int d = by_key(&u, use);

		if (d > 0)
			return;
		if (d < 0)
			continue;
		use->freq = p[12];
		use->age = p[13];
		return;
	}
}

/* Before any other thread knows of b; a lock taken inside a scan would be
 * outside of locks that are held around reads elsewhere. */
static int load_extent(struct slice key, struct slice val, void *arg) UNCHECKED
{
	struct loader *l = arg;
	struct blocks *b = l->blocks;
	struct evict_use use = { .freq = 0 };
	uint64_t ext;

	if (key.n != sizeof(struct extent_db_key) ||
	    record_extent_peek(val.p, val.n, &use.pages))
		return 0;
	use.key.cid = record_get_be64(key.p);
	ext = record_get_be64((const uint8_t *)key.p + 8);
	if (ext >= 1u << 22)
		return 0;
	use.key.ext = (uint32_t)ext;
	find_use(l, &use);
	(void)evict_load(b->evict, &use);
	return 0;
}

int blocks_load(struct blocks *b)
{
	struct loader l = { .blocks = b };
	const struct slice all = { NULL, 0 }, first = { "", 1 };
	int err;

	buf_init(&l.uses, USE_MAX * USE_BYTES);
	err = batch_scan(b->batch, KV_STATE, (struct slice){ "u", 1 },
			 (struct slice){ 0 }, load_chunk, &l);
	if (!err)
		err = batch_scan(b->batch, KV_EXTENT, all, first, load_extent,
				 &l);
	buf_release(&l.uses);
	return err;
}

/* ---- the sweep ---- */

struct file_blocks {
	int fd; /* < 0: only count */
	uint64_t end; /* of what the records seen so far speak of */
	uint64_t pages;
};

static void punch(int fd, uint64_t off, uint64_t end)
{
	if (off < end)
		(void)fsio()->punch(fd, (off_t)off, (off_t)(end - off));
}

/* Counts an extent, or frees what it lacks and what lies before it. */
static int sweep_extent(struct slice key, struct slice val, void *arg)
{
	struct file_blocks *f = arg;
	struct record_extent rec;
	uint64_t off;

	if (key.n != sizeof(struct extent_db_key) ||
	    record_extent_decode(val.p, val.n, &rec))
		return 0;
	f->pages += rec.pages;
	if (f->fd < 0)
		return 0;
	off = record_get_be64((const uint8_t *)key.p + 8) * CACHE_EXTENT;
	punch(f->fd, f->end, off);
	for (unsigned i = 0; i < EXTENT_BLOCKS; i++)
		if (!(rec.present >> i & 1))
			punch(f->fd, off + i * CACHE_BLOCK,
			      off + (i + 1) * CACHE_BLOCK);
	f->end = off + CACHE_EXTENT;
	return 0;
}

static void walk_extents(struct blocks *b, uint64_t cid, struct file_blocks *f)
{
	struct extent_db_key k;
	struct slice prefix = extent_db_key(&k, cid, 0);

	prefix.n = 8;
	f->end = f->pages = 0;
	if (batch_scan(b->batch, KV_EXTENT, prefix, (struct slice){ 0 },
		       sweep_extent, f))
		log_debug("cache", "a data file cannot be checked");
}

/* Frees blocks that no record speaks of, if there are any. */
static void free_excess(struct blocks *b, uint64_t cid)
{
	struct file_blocks f = { .fd = -1 };
	char path[BLOCK_PATH_MAX];
	struct stat st;

	walk_extents(b, cid, &f);
	blocks_path(b, cid, path);
	if (stat(path, &st) ||
	    (uint64_t)st.st_blocks * 512 < f.pages * BLOCK_PAGE + CACHE_BLOCK)
		return;
	f.fd = fsio()->open(path, O_RDWR, 0);
	if (f.fd < 0)
		return;
	walk_extents(b, cid, &f);
	punch(f.fd, f.end,
	      ((uint64_t)st.st_size / BLOCK_PAGE + 1) * BLOCK_PAGE);
	close(f.fd);
}

static void sweep_file(struct blocks *b, const char *name)
{
	char *end;
	uint64_t cid = strtoull(name, &end, 16);
	struct mutex *stripe = blocks_stripe(b, cid);

	if (*end || end - name != 16)
		return;
	mutex_lock(stripe);
	if (!blocks_unlink_unused(b, cid))
		free_excess(b, cid);
	mutex_unlock(stripe);
}

static void sweep_all(struct blocks *b)
{
	char path[BLOCK_PATH_MAX];
	struct dirent *e;
	DIR *d;

	for (unsigned i = 0; i < 256; i++) {
		snprintf(path, sizeof(path), "%s/data/%02x", b->dir, i);
		d = opendir(path);
		while (d && (e = readdir(d)) &&
		       !__atomic_load_n(&b->stop, __ATOMIC_RELAXED))
			sweep_file(b, e->d_name);
		if (d)
			closedir(d);
	}
}

static void *sweeper(void *arg)
{
	struct blocks *b = arg;

	pthread_setname_np(pthread_self(), "cache-sweep");
	sweep_all(b);
	mutex_lock(&b->lock);
	b->sweeping = false;
	cond_broadcast(&b->swept);
	mutex_unlock(&b->lock);
	return NULL;
}

int blocks_sweep_start(struct blocks *b)
{
	pthread_t thread;
	int err;

	mutex_lock(&b->lock);
	err = -pthread_create(&thread, NULL, sweeper, b);
	b->sweeping = !err;
	mutex_unlock(&b->lock);
	if (!err)
		pthread_detach(thread);
	return err;
}

void blocks_stop(struct blocks *b)
{
	if (!b)
		return;
	__atomic_store_n(&b->stop, true, __ATOMIC_RELAXED);
	mutex_lock(&b->lock);
	while (b->sweeping)
		cond_wait(&b->swept, &b->lock);
	mutex_unlock(&b->lock);
}
