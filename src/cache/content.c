/*
 * Handles of cached content: what is present, reading and writing it.
 *
 * A block is served only when its bit is set, and the bit is set after the
 * bytes were written; the record that survives a restart follows in the next
 * batch. After an unclean stop a record may speak of bytes that never arrived
 * or that were punched out, so blocks of an older epoch are checked against
 * their CRC32C before they are first served, each block once.
 *
 * Bytes are written under the stripe of the file (block.c), not under the
 * content's lock, so readers of other blocks do not wait for the disk; that no
 * eviction comes in between is what the stripe is for. Pins are counted for
 * each extent: a file larger than the cache can be read while its beginning
 * goes.
 *
 * Small contents have files of their own like all others. Answering a warm
 * one of 4 KiB takes 6.0 us here (lookup of its record, open, read, close); as
 * a value in the database it would take 2.9 us, and a process that opens, reads
 * and closes it through FUSE needs 60 us at least. For these 5 % the
 * database, which never shrinks, would hold data, take part in the eviction,
 * and write each body twice as long (LMDB gives values above 2 KB whole pages
 * of their own) between two disk flushes.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fsio.h"
#include "base/log.h"
#include "cache/block_impl.h"

/* ---- life ---- */

static struct content *content_new(struct blocks *b, uint64_t cid,
				   uint64_t size)
{
	struct content *c = xcalloc(1, sizeof(*c));

	c->blocks = b;
	c->cid = cid;
	c->size = size;
	c->refs = 1;
	c->fd = -1;
	c->nextents = (size + CACHE_EXTENT - 1) / CACHE_EXTENT;
	c->extents = xcalloc(c->nextents + 1, sizeof(*c->extents));
	mutex_init(&c->lock);
	return c;
}

int content_open(struct blocks *b, uint64_t cid, uint64_t size,
		 struct content **ret)
{
	struct content *c;

	mutex_lock(&b->lock);
	c = blocks_find_locked(b, cid);
	if (c) {
		content_ref(c);
	} else {
		c = content_new(b, cid, size);
		map_insert(&b->contents, &c->node, hash_u64(cid));
	}
	mutex_unlock(&b->lock);
	*ret = c;
	return 0;
}

void content_ref(struct content *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

/* Takes a reference away if it is not the last. */
static bool put_shared(struct content *c)
{
	unsigned refs = __atomic_load_n(&c->refs, __ATOMIC_RELAXED);

	while (refs > 1)
		if (__atomic_compare_exchange_n(&c->refs, &refs, refs - 1, true,
						__ATOMIC_RELEASE,
						__ATOMIC_RELAXED))
			return true;
	return false;
}

static void content_free(struct content *c) UNCHECKED
{
	content_close_locked(c);
	for (size_t i = 0; i < c->nextents; i++)
		free(c->extents[i]);
	free(c->extents);
	mutex_release(&c->lock);
	free(c);
}

void content_put(struct content *c)
{
	struct blocks *b = c ? c->blocks : NULL;
	bool last;

	if (!c || put_shared(c))
		return;
	mutex_lock(&b->lock);
	last = __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0;
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

/* ---- the map ---- */

static size_t block_bytes(const struct content *c, uint64_t block)
{
	uint64_t off = block * CACHE_BLOCK;

	return c->size - off < CACHE_BLOCK ? c->size - off : CACHE_BLOCK;
}

static void save_locked(struct content *c, uint64_t ext) REQUIRES(c->lock)
{
	struct batch *batch = c->blocks->batch;
	struct extent *e = c->extents[ext];
	struct extent_db_key k;
	struct slice key = extent_db_key(&k, c->cid, ext);
	struct buf val;

	if (!e->rec.present) {
		batch_del(batch, KV_EXTENT, key);
		return;
	}
	buf_init(&val, RECORD_MAX);
	record_extent_encode(&val, &e->rec);
	batch_put(batch, KV_EXTENT, key, (struct slice){ val.data, val.len });
	buf_release(&val);
}

/* Nothing at or after off is known to be complete any more. */
static void lower_complete_locked(struct content *c, uint64_t off)
	REQUIRES(c->lock)
{
	if (c->complete_to > off)
		c->complete_to = off;
}

/* The block's bytes are worth nothing. They are left where they are: a writer
 * may be replacing them right now. */
static void drop_block_locked(struct content *c, uint64_t block)
	REQUIRES(c->lock)
{
	uint64_t ext = block / EXTENT_BLOCKS;

	lower_complete_locked(c, block * CACHE_BLOCK);
	c->extents[ext]->rec.present &= ~(1ull << block % EXTENT_BLOCKS);
	save_locked(c, ext);
	log_warn("cache", "a damaged block was dropped");
	__atomic_add_fetch(&c->blocks->verify_failures, 1, __ATOMIC_RELAXED);
}

/* A file that was cut: what the map has beyond its end is not there, nor when
 * a later block makes it longer again. */
static void clip_locked(struct content *c, uint64_t ext) REQUIRES(c->lock)
{
	uint64_t present = c->extents[ext]->rec.present;

	for (uint64_t block = ext * EXTENT_BLOCKS; present;
	     block++, present >>= 1)
		if (present & 1 &&
		    block * CACHE_BLOCK + block_bytes(c, block) > c->file_end)
			drop_block_locked(c, block);
}

static struct extent *extent_locked(struct content *c, uint64_t ext)
	REQUIRES(c->lock)
{
	struct extent *e = c->extents[ext];
	struct extent_db_key k;
	struct buf val;

	if (e)
		return e;
	e = c->extents[ext] = xcalloc(1, sizeof(*e));
	buf_init(&val, RECORD_MAX);
	if (batch_get(c->blocks->batch, KV_EXTENT,
		      extent_db_key(&k, c->cid, ext), &val) ||
	    record_extent_decode(val.data, val.len, &e->rec)) {
		memset(e, 0, sizeof(*e));
		e->rec.epoch = c->blocks->epoch;
	}
	buf_release(&val);
	if (c->fd >= 0)
		clip_locked(c, ext);
	return e;
}

void content_clear_locked(struct content *c, uint64_t ext)
{
	if (ext >= c->nextents)
		return;
	lower_complete_locked(c, ext * CACHE_EXTENT);
	if (!c->extents[ext])
		return;
	c->extents[ext]->rec.present = 0;
	c->extents[ext]->rec.epoch = c->blocks->epoch;
	c->extents[ext]->verified = 0;
}

void content_restore_locked(struct content *c, uint64_t ext,
			    const struct record_extent *rec)
{
	if (ext < c->nextents && c->extents[ext])
		c->extents[ext]->rec = *rec;
}

/* Bytes from off to the end of the run of present blocks in one extent. */
static uint64_t run_locked(struct content *c, uint64_t off) REQUIRES(c->lock)
{
	struct extent *e = extent_locked(c, off / CACHE_EXTENT);
	unsigned block = off % CACHE_EXTENT / CACHE_BLOCK;
	uint64_t missing = ~(e->rec.present >> block);
	unsigned n = missing ? (unsigned)__builtin_ctzll(missing) : 64;

	if (n > EXTENT_BLOCKS - block)
		n = EXTENT_BLOCKS - block;
	return n ? (uint64_t)n * CACHE_BLOCK - off % CACHE_BLOCK : 0;
}

static uint64_t present_locked(struct content *c, uint64_t off, uint64_t len)
	REQUIRES(c->lock)
{
	uint64_t end = len < c->size - off ? off + len : c->size;
	uint64_t at = off, run;

	while (at < end && (run = run_locked(c, at)) > 0)
		at += run;
	return (at < end ? at : end) - off;
}

uint64_t content_present(struct content *c, uint64_t off, uint64_t len)
{
	uint64_t n;

	if (off >= c->size)
		return 0;
	mutex_lock(&c->lock);
	n = c->no_file ? 0 : present_locked(c, off, len);
	mutex_unlock(&c->lock);
	return n;
}

static int note_first(struct slice key, struct slice val, void *arg)
{
	if (key.n != sizeof(struct extent_db_key))
		return 0;
	*(uint64_t *)arg = record_get_be64((const uint8_t *)key.p + 8);
	return 1;
}

/* The next extent that has any block, or nextents. */
static uint64_t next_extent_locked(struct content *c, uint64_t ext)
	REQUIRES(c->lock)
{
	struct extent_db_key first, before;
	struct slice prefix = extent_db_key(&first, c->cid, 0);
	struct slice after = extent_db_key(&before, c->cid, ext);
	uint64_t next = c->nextents;

	prefix.n = 8;
	if (batch_scan(c->blocks->batch, KV_EXTENT, prefix, after, note_first,
		       &next) < 0)
		return c->nextents;
	return next < c->nextents ? next : c->nextents;
}

uint64_t content_next(struct content *c, uint64_t off)
{
	mutex_lock(&c->lock);
	while (off < c->size && !c->no_file && !run_locked(c, off)) {
		uint64_t ext = off / CACHE_EXTENT;
		unsigned block = off % CACHE_EXTENT / CACHE_BLOCK;
		uint64_t rest = extent_locked(c, ext)->rec.present >> block;

		if (rest)
			off += (uint64_t)__builtin_ctzll(rest) * CACHE_BLOCK -
			       off % CACHE_BLOCK;
		else
			off = next_extent_locked(c, ext) * CACHE_EXTENT;
	}
	if (off > c->size || c->no_file)
		off = c->size;
	mutex_unlock(&c->lock);
	return off;
}

bool content_complete(struct content *c)
{
	bool complete;

	mutex_lock(&c->lock);
	if (c->complete_to < c->size)
		c->complete_to += present_locked(c, c->complete_to,
						 c->size - c->complete_to);
	complete = c->complete_to == c->size && !c->no_file;
	mutex_unlock(&c->lock);
	return complete;
}

static uint32_t count_pages(const struct content *c,
			    const struct record_extent *rec, uint64_t ext)
{
	unsigned n = (unsigned)__builtin_popcountll(rec->present);
	uint64_t last = (c->size - 1) / CACHE_BLOCK;
	uint32_t pages = n * (CACHE_BLOCK / BLOCK_PAGE);

	if (last / EXTENT_BLOCKS == ext &&
	    rec->present >> (last % EXTENT_BLOCKS) & 1)
		pages -= (uint32_t)((CACHE_BLOCK - block_bytes(c, last)) /
				    BLOCK_PAGE);
	return pages;
}

/* ---- the file ---- */

void content_close_locked(struct content *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int open_file(const struct content *c, bool create)
{
	char path[BLOCK_PATH_MAX];
	int fd, err;

	blocks_path(c->blocks, c->cid, path);
	fd = fsio()->open(path, O_RDWR | (create ? O_CREAT : 0), 0600);
	if (fd != -ENOENT || !create)
		return fd;
	*strrchr(path, '/') = 0;
	err = fsio_mkdirs(path);
	if (err)
		return err;
	blocks_path(c->blocks, c->cid, path);
	return fsio()->open(path, O_RDWR | O_CREAT, 0600);
}

static int note_extent(struct slice key, struct slice val, void *arg)
{
	if (key.n == sizeof(struct extent_db_key))
		buf_add(arg, (const uint8_t *)key.p + 8, 8);
	return 0;
}

/* Loads the extents that have something to lose, before a later block makes
 * the file longer again; most files are short because nothing is behind. */
static void clip_unloaded_locked(struct content *c) REQUIRES(c->lock)
{
	struct slice after = { NULL, 0 }, prefix;
	struct extent_db_key first, before;
	struct buf found;
	uint64_t ext = c->file_end / CACHE_EXTENT;

	prefix = extent_db_key(&first, c->cid, 0);
	prefix.n = 8;
	if (ext)
		after = extent_db_key(&before, c->cid, ext - 1);
	buf_init(&found, SIZE_MAX);
	if (batch_scan(c->blocks->batch, KV_EXTENT, prefix, after, note_extent,
		       &found))
		log_debug("cache", "a data file cannot be checked");
	for (size_t at = 0; at < found.len; at += 8) {
		ext = record_get_be64((const uint8_t *)found.data + at);
		if (ext < c->nextents)
			(void)extent_locked(c, ext);
	}
	buf_release(&found);
}

int content_file_locked(struct content *c, bool create)
{
	struct stat st;
	int fd;

	if (c->fd >= 0)
		return c->fd;
	fd = open_file(c, create);
	c->no_file = fd < 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st)) {
		c->no_file = true;
		close(fd);
		return -EIO;
	}
	c->file_end = (uint64_t)st.st_size;
	c->fd = fd;
	for (size_t i = 0; i < c->nextents; i++)
		if (c->extents[i])
			clip_locked(c, i);
	if (c->file_end < c->size)
		clip_unloaded_locked(c);
	return fd;
}

/* The file is gone: so is what the map says of it. */
static void forget_all(struct content *c)
{
	struct blocks *b = c->blocks;
	struct mutex *stripe = blocks_stripe(b, c->cid);

	mutex_lock(stripe);
	mutex_lock(&b->lock);
	mutex_lock(&c->lock);
	for (size_t i = 0; i < c->nextents && c->fd < 0; i++) {
		c->no_file = false;
		if (!extent_locked(c, i)->rec.present)
			continue;
		content_clear_locked(c, i);
		save_locked(c, i);
		(void)evict_remove(b->evict,
				   (struct evict_key){ c->cid, (uint32_t)i });
	}
	mutex_unlock(&c->lock);
	mutex_unlock(&b->lock);
	mutex_unlock(stripe);
}

/* ---- verification ---- */

static bool is_sound_locked(struct content *c, uint64_t block) REQUIRES(c->lock)
{
	struct record_extent *rec = &c->extents[block / EXTENT_BLOCKS]->rec;
	size_t n = block_bytes(c, block);
	void *bytes = xmalloc(n);
	bool sound;

	sound = fsio()->pread(c->fd, bytes, n, (off_t)(block * CACHE_BLOCK)) ==
			(ssize_t)n &&
		crc32c(0, bytes, n) == rec->crc[block % EXTENT_BLOCKS];
	free(bytes);
	return sound;
}

static bool verified_locked(struct content *c, uint64_t block) REQUIRES(c->lock)
{
	struct extent *e = extent_locked(c, block / EXTENT_BLOCKS);
	uint64_t bit = 1ull << block % EXTENT_BLOCKS;

	if (e->rec.epoch >= c->blocks->epoch || e->verified & bit)
		return true;
	if (!is_sound_locked(c, block)) {
		drop_block_locked(c, block);
		return false;
	}
	e->verified |= bit;
	if ((e->verified & e->rec.present) == e->rec.present) {
		e->rec.epoch = c->blocks->epoch;
		save_locked(c, block / EXTENT_BLOCKS);
	}
	return true;
}

/* How much of the present bytes can be served. */
static uint64_t trusted_locked(struct content *c, uint64_t off, uint64_t n)
	REQUIRES(c->lock)
{
	uint64_t block = off / CACHE_BLOCK;

	for (; block * CACHE_BLOCK < off + n; block++) {
		if (verified_locked(c, block))
			continue;
		return block * CACHE_BLOCK > off ? block * CACHE_BLOCK - off :
						   0;
	}
	return n;
}

/* ---- reading ---- */

static uint64_t last_extent(uint64_t off, uint64_t n)
{
	return (off + n - 1) / CACHE_EXTENT;
}

/* Tells the policy of extents whose last use it knows of is long ago. */
void content_tell_use(struct content *c, uint64_t off, uint64_t n)
{
	struct blocks *b = c->blocks;
	uint32_t now = __atomic_load_n(&b->now, __ATOMIC_RELAXED);

	for (uint64_t i = off / CACHE_EXTENT; i <= last_extent(off, n); i++) {
		uint32_t *told = &c->extents[i]->told;

		if (__atomic_exchange_n(told, now, __ATOMIC_RELAXED) == now)
			continue;
		mutex_lock(&b->lock);
		evict_touch(b->evict,
			    (struct evict_key){ c->cid, (uint32_t)i });
		now = evict_now(b->evict);
		__atomic_store_n(&b->now, now, __ATOMIC_RELAXED);
		mutex_unlock(&b->lock);
	}
}

static void count_pins_locked(struct content *c, uint64_t off, uint64_t n,
			      int by) REQUIRES(c->lock)
{
	for (uint64_t i = off / CACHE_EXTENT; i <= last_extent(off, n); i++)
		c->extents[i]->pins += (unsigned)by;
	c->pins += (unsigned)by;
}

uint64_t content_pin(struct content *c, uint64_t off, uint64_t len, int *ret_fd)
{
	uint64_t n;
	int fd = 0;

	if (off >= c->size || !len)
		return 0;
	mutex_lock(&c->lock);
	n = present_locked(c, off, len);
	if (n)
		fd = content_file_locked(c, false);
	n = n && fd >= 0 ? present_locked(c, off, len) : 0;
	if (n)
		n = trusted_locked(c, off, n);
	if (n) {
		count_pins_locked(c, off, n, 1);
		*ret_fd = fd;
	}
	mutex_unlock(&c->lock);
	if (n)
		content_tell_use(c, off, n);
	else if (fd == -ENOENT)
		forget_all(c);
	return n;
}

void content_unpin(struct content *c, uint64_t off, uint64_t n)
{
	mutex_lock(&c->lock);
	count_pins_locked(c, off, n, -1);
	mutex_unlock(&c->lock);
}

void content_distrust(struct content *c, uint64_t off, uint64_t n)
{
	uint64_t block = off / CACHE_BLOCK;

	mutex_lock(&c->lock);
	for (; block * CACHE_BLOCK < off + n; block++) {
		struct extent *e = extent_locked(c, block / EXTENT_BLOCKS);

		if (e->rec.present >> (block % EXTENT_BLOCKS) & 1 &&
		    !is_sound_locked(c, block))
			drop_block_locked(c, block);
	}
	mutex_unlock(&c->lock);
}

/* ---- writing: pieces of at most one extent ---- */

struct piece {
	uint64_t off;
	const uint8_t *data;
	size_t len;
	uint32_t crc[EXTENT_BLOCKS]; /* of its blocks */
};

static void piece_init(struct piece *p, uint64_t off, const uint8_t *data,
		       size_t len)
{
	size_t room = CACHE_EXTENT - off % CACHE_EXTENT;

	p->off = off;
	p->data = data;
	p->len = len < room ? len : room;
	crc32c_blocks(data, p->len, CACHE_BLOCK, p->crc);
}

/* Puts the piece on the map; returns the extent's pages. */
static uint32_t publish_locked(struct content *c, const struct piece *p)
	REQUIRES(c->lock)
{
	uint64_t ext = p->off / CACHE_EXTENT;
	struct extent *e = extent_locked(c, ext);
	unsigned block = p->off % CACHE_EXTENT / CACHE_BLOCK;

	if (!e->rec.present)
		e->rec.epoch = c->blocks->epoch;
	for (size_t at = 0; at < p->len; at += CACHE_BLOCK, block++) {
		e->rec.crc[block] = p->crc[at / CACHE_BLOCK];
		e->rec.present |= 1ull << block;
		e->verified |= 1ull << block;
	}
	e->rec.pages = count_pages(c, &e->rec, ext);
	save_locked(c, ext);
	return e->rec.pages;
}

/* A write that failed may have left bytes that nobody counts. */
static void take_back(struct content *c, int fd, const struct piece *p)
{
	struct extent *e;
	unsigned block = p->off % CACHE_EXTENT / CACHE_BLOCK;
	uint64_t present;

	mutex_lock(&c->lock);
	e = extent_locked(c, p->off / CACHE_EXTENT);
	present = e->rec.present >> block;
	mutex_unlock(&c->lock);
	for (size_t at = 0; at < p->len; at += CACHE_BLOCK, present >>= 1)
		if (!(present & 1))
			(void)fsio()->punch(fd, (off_t)(p->off + at),
					    CACHE_BLOCK);
	(void)blocks_unlink_unused(c->blocks, c->cid);
}

/* Bytes first, then the map. The stripe is held. */
static int store_piece(struct content *c, const struct piece *p)
{
	struct evict_key key = { c->cid, (uint32_t)(p->off / CACHE_EXTENT) };
	uint32_t pages = 0;
	ssize_t n;
	int fd;

	mutex_lock(&c->lock);
	fd = content_file_locked(c, true);
	mutex_unlock(&c->lock);
	if (fd < 0)
		return fd;
	n = fsio()->pwrite(fd, p->data, p->len, (off_t)p->off);
	if (n != (ssize_t)p->len) {
		take_back(c, fd, p);
		return n < 0 ? (int)n : -EIO;
	}
	mutex_lock(&c->lock);
	pages = publish_locked(c, p);
	mutex_unlock(&c->lock);
	blocks_account(c->blocks, key, pages);
	return 0;
}

static int write_piece(struct content *c, const struct piece *p, bool force)
{
	struct mutex *stripe = blocks_stripe(c->blocks, c->cid);
	uint64_t need = (p->len + BLOCK_PAGE - 1) / BLOCK_PAGE * BLOCK_PAGE;
	int err = blocks_reserve(c->blocks, need, force);

	if (err)
		return err;
	mutex_lock(stripe);
	err = store_piece(c, p);
	mutex_unlock(stripe);
	blocks_unreserve(c->blocks, need, err);
	return err;
}

int content_write(struct content *c, uint64_t off, const void *data, size_t len)
{
	const uint8_t *from = data;
	struct piece p;
	int err = 0;

	batch_room(c->blocks->batch);
	for (; len > 0 && !err; off += p.len, from += p.len, len -= p.len) {
		piece_init(&p, off, from, len);
		if (content_present(c, off, p.len) == p.len)
			continue;
		err = write_piece(c, &p, false);
		/* A quota, or somebody else was quicker. */
		if (err == -ENOSPC || err == -EDQUOT)
			err = write_piece(c, &p, true);
	}
	return err;
}
