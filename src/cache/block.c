/*
 * Cached content in sparse files, and what to throw away.
 *
 * A block is served only when its bit is set, and the bit is set after the
 * bytes were written; the record that survives a restart follows in the next
 * batch. A crash in between loses the record, never the truth. After an
 * unclean stop of the machine the opposite may happen (a record on disk whose
 * bytes never arrived), so blocks of an older epoch are checked against their
 * CRC32C before they are first served.
 *
 * Every extent on disk has an entry in memory with its size and last use.
 * Room is made before bytes are written: of a few random entries the one
 * unused for longest goes, which comes close to LRU without a list that every
 * read would have to lock and move in.
 *
 * Lock order: blocks.lock -> content.lock. Eviction holds both, so nobody can
 * open or pin what is being removed.
 */
#include "cache/block_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fsio.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"
#include "cache/record.h"

enum {
	PAGE = 4096,
	SAMPLES = 16,
	TRIES = 64, /* victims that may be pinned before giving up */
};

struct extent_key {
	uint64_t cid, index;
};

struct entry { /* an extent on disk */
	struct map_node node;
	struct extent_key key;
	uint32_t pages;
	uint32_t stamp; /* seconds since the start of this process, last use */
	size_t at; /* position in blocks.entries */
};

struct blocks {
	struct batch *batch;
	char *dir;
	uint64_t max_bytes, min_free, epoch;
	struct mutex lock;
	/* guarded by lock */
	struct map contents; /* open ones, by cid */
	struct map by_key;
	struct entry **entries;
	size_t nentries, entries_cap;
	uint64_t data_bytes;
	uint64_t evicted_bytes, evicted_extents, verify_failures;
	bool disk_full;
};

struct content {
	struct map_node node;
	struct blocks *blocks;
	uint64_t cid, size;
	unsigned refs; /* guarded by blocks.lock */
	struct mutex lock;
	/* guarded by lock */
	unsigned pins;
	int fd; /* -1 until needed */
	struct record_extent **extents; /* NULL: not loaded */
	size_t nextents;
};

static bool same_content(const struct map_node *n, const void *key)
{
	return container_of(n, struct content, node)->cid ==
	       *(const uint64_t *)key;
}

static bool same_entry(const struct map_node *n, const void *key)
{
	return memcmp(&container_of(n, struct entry, node)->key, key,
		      sizeof(struct extent_key)) == 0;
}

static uint64_t entry_hash(const struct extent_key *k)
{
	return hash_u64(k->cid * 0x9E3779B97F4A7C15ull ^ k->index);
}

static void db_key(const struct extent_key *k, uint8_t out[16])
{
	record_be64(out, k->cid);
	record_be64(out + 8, k->index);
}

static uint32_t now_s(void)
{
	return clock_mono_ms() / 1000;
}

/* ---- the table of extents ---- */

static struct entry *entry_find_locked(struct blocks *b,
				       const struct extent_key *k)
	REQUIRES(b->lock)
{
	struct map_node *n = map_find(&b->by_key, entry_hash(k), k);

	return n ? container_of(n, struct entry, node) : NULL;
}

static void entry_set_locked(struct blocks *b, const struct extent_key *k,
			     uint32_t pages) REQUIRES(b->lock)
{
	struct entry *e = entry_find_locked(b, k);

	if (!e) {
		if (b->nentries == b->entries_cap) {
			b->entries_cap = b->entries_cap ? b->entries_cap * 2 : 64;
			b->entries = xrealloc(b->entries,
					      b->entries_cap * sizeof(e));
		}
		e = xcalloc(1, sizeof(*e));
		e->key = *k;
		e->at = b->nentries;
		b->entries[b->nentries++] = e;
		map_insert(&b->by_key, &e->node, entry_hash(k));
	}
	b->data_bytes += ((uint64_t)pages - e->pages) * PAGE;
	e->pages = pages;
	e->stamp = now_s();
}

static void entry_drop_locked(struct blocks *b, struct entry *e)
	REQUIRES(b->lock)
{
	b->entries[e->at] = b->entries[--b->nentries];
	b->entries[e->at]->at = e->at;
	map_remove(&b->by_key, &e->node);
	b->data_bytes -= (uint64_t)e->pages * PAGE;
	free(e);
}

static int load_entry(struct slice key, struct slice val, void *arg)
{
	struct blocks *b = arg;
	struct record_extent rec;
	struct extent_key k;

	if (key.n != 16 || record_extent_decode(val.p, val.n, &rec))
		return 0;
	k.cid = record_get_be64(key.p);
	k.index = record_get_be64((const uint8_t *)key.p + 8);
	entry_set_locked(b, &k, rec.pages);
	return 0;
}

int blocks_create(const struct blocks_config *config, struct blocks **ret)
{
	struct blocks *b = xcalloc(1, sizeof(*b));
	const struct slice all = { NULL, 0 }, first = { "", 1 };
	char path[4096];
	int err;

	b->batch = config->batch;
	b->dir = xstrdup(config->dir);
	b->max_bytes = config->max_bytes;
	b->min_free = config->min_free;
	b->epoch = config->epoch;
	mutex_init(&b->lock);
	map_init(&b->contents, same_content);
	map_init(&b->by_key, same_entry);
	snprintf(path, sizeof(path), "%s/data", b->dir);
	err = fsio_mkdirs(path);
	if (!err)
		err = batch_scan(b->batch, KV_EXTENT, all, first, load_entry, b);
	if (err) {
		blocks_destroy(b);
		return err;
	}
	*ret = b;
	return 0;
}

static void content_free(struct content *c)
{
	for (size_t i = 0; i < c->nextents; i++)
		free(c->extents[i]);
	free(c->extents);
	if (c->fd >= 0)
		close(c->fd);
	mutex_release(&c->lock);
	free(c);
}

static void free_left(struct map_node *n, void *arg)
{
	content_free(container_of(n, struct content, node));
}

void blocks_destroy(struct blocks *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->nentries; i++)
		free(b->entries[i]);
	free(b->entries);
	map_release(&b->by_key);
	map_each(&b->contents, free_left, NULL);
	map_release(&b->contents);
	mutex_release(&b->lock);
	free(b->dir);
	free(b);
}

void blocks_stats(struct blocks *b, struct cache_stats *ret)
{
	mutex_lock(&b->lock);
	ret->data_bytes = b->data_bytes;
	ret->evicted_bytes = b->evicted_bytes;
	ret->evicted_extents = b->evicted_extents;
	ret->verify_failures = b->verify_failures;
	if (!ret->degraded && b->disk_full)
		ret->degraded = "the disk is full: new data is not cached";
	mutex_unlock(&b->lock);
}

/* ---- contents ---- */

static void data_path(const struct blocks *b, uint64_t cid, char *out,
		      size_t n)
{
	snprintf(out, n, "%s/data/%02x/%016llx", b->dir, (unsigned)(cid & 0xFF),
		 (unsigned long long)cid);
}

int content_open(struct blocks *b, uint64_t cid, uint64_t size,
		 struct content **ret)
{
	struct map_node *n;
	struct content *c;

	mutex_lock(&b->lock);
	n = map_find(&b->contents, hash_u64(cid), &cid);
	if (n) {
		c = container_of(n, struct content, node);
		c->refs++;
	} else {
		c = xcalloc(1, sizeof(*c));
		c->blocks = b;
		c->cid = cid;
		c->size = size;
		c->refs = 1;
		c->fd = -1;
		c->nextents = (size + CACHE_EXTENT - 1) / CACHE_EXTENT;
		c->extents = xcalloc(c->nextents, sizeof(*c->extents));
		mutex_init(&c->lock);
		map_insert(&b->contents, &c->node, hash_u64(cid));
	}
	mutex_unlock(&b->lock);
	*ret = c;
	return 0;
}

void content_ref(struct content *c)
{
	mutex_lock(&c->blocks->lock);
	c->refs++;
	mutex_unlock(&c->blocks->lock);
}

void content_put(struct content *c)
{
	struct blocks *b = c ? c->blocks : NULL;
	bool last;

	if (!c)
		return;
	mutex_lock(&b->lock);
	last = --c->refs == 0;
	if (last)
		map_remove(&b->contents, &c->node);
	mutex_unlock(&b->lock);
	if (last)
		content_free(c);
}

uint64_t content_cid(const struct content *c)
{
	return c->cid;
}

uint64_t content_size(const struct content *c)
{
	return c->size;
}

static struct record_extent *extent_locked(struct content *c, uint64_t index)
	REQUIRES(c->lock)
{
	struct record_extent *e = c->extents[index];
	uint8_t key[16];
	struct buf val;

	if (e)
		return e;
	e = c->extents[index] = xcalloc(1, sizeof(*e));
	db_key(&(struct extent_key){ c->cid, index }, key);
	buf_init(&val, RECORD_MAX);
	if (batch_get(c->blocks->batch, KV_EXTENT, (struct slice){ key, 16 },
		      &val) ||
	    record_extent_decode(val.data, val.len, e)) {
		memset(e, 0, sizeof(*e));
		e->epoch = c->blocks->epoch;
	}
	buf_release(&val);
	return e;
}

static bool block_present_locked(struct content *c, uint64_t block)
	REQUIRES(c->lock)
{
	struct record_extent *e = extent_locked(c, block / EXTENT_BLOCKS);

	return e->present >> (block % EXTENT_BLOCKS) & 1;
}

static uint64_t present_locked(struct content *c, uint64_t off, uint64_t len)
	REQUIRES(c->lock)
{
	uint64_t at = off, end = off + len;

	if (end > c->size)
		end = c->size;
	while (at < end && block_present_locked(c, at / CACHE_BLOCK))
		at = (at / CACHE_BLOCK + 1) * CACHE_BLOCK;
	if (at > end)
		at = end;
	return at > off ? at - off : 0;
}

uint64_t content_present(struct content *c, uint64_t off, uint64_t len)
{
	mutex_lock(&c->lock);
	uint64_t n = present_locked(c, off, len);
	mutex_unlock(&c->lock);
	return n;
}

uint64_t content_missing(struct content *c, uint64_t off)
{
	off -= off % CACHE_BLOCK;
	return off >= c->size ? c->size :
				off + content_present(c, off, c->size - off);
}

bool content_complete(struct content *c)
{
	return content_missing(c, 0) == c->size;
}

static int file_locked(struct content *c, bool create) REQUIRES(c->lock)
{
	char path[4096];
	int fd;

	if (c->fd >= 0)
		return c->fd;
	data_path(c->blocks, c->cid, path, sizeof(path));
	fd = fsio()->open(path, O_RDWR | (create ? O_CREAT : 0), 0600);
	if (fd == -ENOENT && create) {
		char *slash = strrchr(path, '/');

		*slash = 0;
		fd = fsio_mkdirs(path);
		*slash = '/';
		if (!fd)
			fd = fsio()->open(path, O_RDWR | O_CREAT, 0600);
	}
	if (fd >= 0)
		c->fd = fd;
	return fd;
}

static size_t block_bytes(const struct content *c, uint64_t block)
{
	uint64_t off = block * CACHE_BLOCK;

	return c->size - off < CACHE_BLOCK ? c->size - off : CACHE_BLOCK;
}

static void save_locked(struct content *c, uint64_t index) REQUIRES(c->lock)
{
	struct record_extent *e = c->extents[index];
	uint8_t key[16];
	struct buf val;

	db_key(&(struct extent_key){ c->cid, index }, key);
	if (!e->present) {
		batch_del(c->blocks->batch, KV_EXTENT,
			  (struct slice){ key, 16 });
		return;
	}
	e->stamp = clock_wall_s() / 60;
	buf_init(&val, RECORD_MAX);
	record_extent_encode(&val, e);
	batch_put(c->blocks->batch, KV_EXTENT, (struct slice){ key, 16 },
		  (struct slice){ val.data, val.len });
	buf_release(&val);
}

/* ---- verification ---- */

static bool block_sound_locked(struct content *c, uint64_t block)
	REQUIRES(c->lock)
{
	struct record_extent *e = c->extents[block / EXTENT_BLOCKS];
	size_t n = block_bytes(c, block);
	void *bytes = xmalloc(n);
	bool sound;

	sound = fsio()->pread(c->fd, bytes, n, block * CACHE_BLOCK) ==
			(ssize_t)n &&
		crc32c(0, bytes, n) == e->crc[block % EXTENT_BLOCKS];
	free(bytes);
	return sound;
}

/* Checks a whole extent once; what fails is forgotten. */
static void verify_locked(struct content *c, uint64_t index) REQUIRES(c->lock)
{
	struct record_extent *e = extent_locked(c, index);
	unsigned bad = 0;

	for (unsigned i = 0; i < EXTENT_BLOCKS; i++) {
		if (!(e->present >> i & 1) ||
		    block_sound_locked(c, index * EXTENT_BLOCKS + i))
			continue;
		e->present &= ~(1ull << i);
		bad++;
	}
	e->epoch = c->blocks->epoch;
	save_locked(c, index);
	if (bad) {
		log_warn("cache", "%u damaged blocks dropped", bad);
		__atomic_add_fetch(&c->blocks->verify_failures, bad,
				   __ATOMIC_RELAXED);
	}
}

static void touch(struct content *c, uint64_t index)
{
	struct extent_key k = { c->cid, index };
	struct blocks *b = c->blocks;
	struct entry *e;

	mutex_lock(&b->lock);
	e = entry_find_locked(b, &k);
	if (e)
		e->stamp = now_s();
	mutex_unlock(&b->lock);
}

static void forget_all_locked(struct content *c) REQUIRES(c->lock)
{
	for (size_t i = 0; i < c->nextents; i++) {
		struct record_extent *e = extent_locked(c, i);

		if (e->present) {
			e->present = 0;
			save_locked(c, i);
		}
	}
}

uint64_t content_pin(struct content *c, uint64_t off, uint64_t len, int *ret_fd)
{
	uint64_t n = 0;

	mutex_lock(&c->lock);
	if (off < c->size && block_present_locked(c, off / CACHE_BLOCK)) {
		if (file_locked(c, false) < 0) {
			forget_all_locked(c);
		} else {
			uint64_t last = (off + len - 1) / CACHE_EXTENT;

			for (uint64_t i = off / CACHE_EXTENT;
			     i <= last && i < c->nextents; i++)
				if (extent_locked(c, i)->epoch <
				    c->blocks->epoch)
					verify_locked(c, i);
			n = present_locked(c, off, len);
		}
	}
	if (n) {
		c->pins++;
		*ret_fd = c->fd;
	}
	mutex_unlock(&c->lock);
	if (n)
		touch(c, off / CACHE_EXTENT);
	return n;
}

void content_unpin(struct content *c)
{
	mutex_lock(&c->lock);
	c->pins--;
	mutex_unlock(&c->lock);
}

/* ---- eviction ---- */

static void remove_extent(struct blocks *b, struct content *c,
			  const struct entry *e)
{
	uint8_t key[16];
	char path[4096];
	struct stat st;
	int fd;

	db_key(&e->key, key);
	batch_del(b->batch, KV_EXTENT, (struct slice){ key, 16 });
	data_path(b, e->key.cid, path, sizeof(path));
	fd = fsio()->open(path, O_RDWR, 0);
	if (fd < 0)
		return;
	if (fsio()->punch(fd, e->key.index * CACHE_EXTENT, CACHE_EXTENT))
		log_debug("cache", "cannot punch a hole");
	if (fstat(fd, &st) == 0 && st.st_blocks == 0) {
		/* what other extents may claim to hold here is zeros */
		fsio()->unlink(path);
		if (c && c->fd >= 0) {
			close(c->fd);
			c->fd = -1;
		}
	}
	close(fd);
}

static bool evict_entry_locked(struct blocks *b, struct entry *e)
	REQUIRES(b->lock)
{
	struct map_node *n = map_find(&b->contents, hash_u64(e->key.cid),
				      &e->key.cid);
	struct content *c = n ? container_of(n, struct content, node) : NULL;
	bool pinned = false;

	if (c) {
		mutex_lock(&c->lock);
		pinned = c->pins > 0;
		if (!pinned && c->extents[e->key.index])
			c->extents[e->key.index]->present = 0;
	}
	if (!pinned) {
		remove_extent(b, c, e);
		b->evicted_bytes += (uint64_t)e->pages * PAGE;
		b->evicted_extents++;
		entry_drop_locked(b, e);
	}
	if (c)
		mutex_unlock(&c->lock);
	return !pinned;
}

static struct entry *victim_locked(struct blocks *b)
	REQUIRES(b->lock)
{
	struct entry *oldest = NULL;

	for (int i = 0; i < SAMPLES; i++) {
		struct entry *e = b->entries[rand_below(b->nentries)];

		if (!oldest || e->stamp < oldest->stamp)
			oldest = e;
	}
	return oldest;
}

static bool over_locked(struct blocks *b, uint64_t need) REQUIRES(b->lock)
{
	uint64_t available, total;

	if (b->max_bytes && b->data_bytes + need > b->max_bytes)
		return true;
	return fsio()->space(b->dir, &available, &total) == 0 &&
	       available < b->min_free + need;
}

static bool make_room(struct content *c, uint64_t need)
{
	struct blocks *b = c->blocks;
	bool over;
	int tries = 0;

	mutex_lock(&b->lock);
	while ((over = over_locked(b, need)) && b->nentries && tries < TRIES)
		if (!evict_entry_locked(b, victim_locked(b)))
			tries++;
	b->disk_full = over;
	mutex_unlock(&b->lock);
	return !over;
}

/* ---- writing ---- */

static uint32_t extent_pages(const struct content *c,
			     const struct record_extent *e, uint64_t index)
{
	uint32_t pages = 0;

	for (unsigned i = 0; i < EXTENT_BLOCKS; i++)
		if (e->present >> i & 1)
			pages += (block_bytes(c, index * EXTENT_BLOCKS + i) +
				  PAGE - 1) /
				 PAGE;
	return pages;
}

/* Bytes first, then the map. */
static int store_blocks(struct content *c, uint64_t off, const uint8_t *data,
			size_t len)
{
	struct record_extent *e;
	ssize_t n;
	int fd;

	mutex_lock(&c->lock);
	fd = file_locked(c, true);
	n = fd < 0 ? fd : fsio()->pwrite(fd, data, len, off);
	if (n == (ssize_t)len) {
		e = extent_locked(c, off / CACHE_EXTENT);
		for (size_t at = 0; at < len; at += CACHE_BLOCK) {
			unsigned i = (off + at) / CACHE_BLOCK % EXTENT_BLOCKS;
			size_t m = len - at < CACHE_BLOCK ? len - at :
							    CACHE_BLOCK;

			e->crc[i] = crc32c(0, data + at, m);
			e->present |= 1ull << i;
		}
		e->pages = extent_pages(c, e, off / CACHE_EXTENT);
		save_locked(c, off / CACHE_EXTENT);
	}
	mutex_unlock(&c->lock);
	return n < 0 ? (int)n : n == (ssize_t)len ? 0 : -EIO;
}

/* The extent may have been evicted again in between. */
static void account(struct content *c, uint64_t index)
{
	struct extent_key k = { c->cid, index };
	struct blocks *b = c->blocks;

	mutex_lock(&b->lock);
	mutex_lock(&c->lock);
	if (c->extents[index] && c->extents[index]->present)
		entry_set_locked(b, &k, c->extents[index]->pages);
	mutex_unlock(&c->lock);
	mutex_unlock(&b->lock);
}

int content_write(struct content *c, uint64_t off, const void *data, size_t len)
{
	const uint8_t *p = data;
	int err = 0;

	batch_room(c->blocks->batch);
	while (len > 0 && !err) {
		size_t n = CACHE_EXTENT - off % CACHE_EXTENT;

		if (n > len)
			n = len;
		if (!make_room(c, n + PAGE))
			return -ENOSPC;
		err = store_blocks(c, off, p, n);
		if (!err)
			account(c, off / CACHE_EXTENT);
		off += n;
		p += n;
		len -= n;
	}
	return err;
}

void blocks_drop(struct blocks *b, uint64_t cid)
{
	mutex_lock(&b->lock);
	for (size_t i = 0; i < b->nentries;) {
		if (b->entries[i]->key.cid == cid &&
		    evict_entry_locked(b, b->entries[i]))
			continue;
		i++;
	}
	mutex_unlock(&b->lock);
}
