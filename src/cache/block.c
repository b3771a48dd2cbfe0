/*
 * What is on the disk, and room for more.
 *
 * Room is made before bytes are written: what is there, what is being written
 * (reserved) and what is being evicted (leaving) stay below --cache-size
 * together with the database, and the file system keeps --min-free. Which
 * extent goes is decided by cache/evict.h; it and the table of open contents
 * are under one lock, which is held for moments and never across I/O.
 *
 * A hit must tell the policy, but an extent is read in many small pieces and
 * accesses close to each other count once: a reader compares the policy's
 * clock, which goes on with the traffic, with the extent's own and mostly
 * finds that there is nothing to tell (content.c).
 *
 * Evicting an extent deletes its record first and punches then, both under
 * the stripe of its file, so that nobody writes to it in between. The
 * deletion reaches the database later: should the process die before, the
 * record speaks of blocks that are holes. That is one of the reasons why after
 * any unclean stop blocks are verified before they are served. To commit each
 * deletion before its punch would cost a disk flush for each eviction, and
 * could not be done at all on a full disk, when it is needed most.
 */
#include "cache/block_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fsio.h"
#include "base/log.h"
#include "base/rand.h"

static bool same_content(const struct map_node *n, const void *key)
{
	return container_of(n, struct content, node)->cid ==
	       *(const uint64_t *)key;
}

struct slice extent_db_key(struct extent_db_key *k, uint64_t cid, uint64_t ext)
{
	record_be64(k->bytes, cid);
	record_be64(k->bytes + 8, ext);
	return (struct slice){ k->bytes, sizeof(k->bytes) };
}

void blocks_path(const struct blocks *b, uint64_t cid, char out[BLOCK_PATH_MAX])
{
	snprintf(out, BLOCK_PATH_MAX, "%s/data/%02x/%016llx", b->dir,
		 (unsigned)(cid & 0xFF), (unsigned long long)cid);
}

struct content *blocks_find_locked(struct blocks *b, uint64_t cid)
{
	struct map_node *n = map_find(&b->contents, hash_u64(cid), &cid);

	return n ? container_of(n, struct content, node) : NULL;
}

/* ---- life ---- */

static struct blocks *blocks_new(const struct blocks_config *config)
{
	struct blocks *b = xcalloc(1, sizeof(*b));

	b->batch = config->batch;
	b->dir = xstrdup(config->dir);
	b->max_bytes = config->max_bytes;
	b->min_free = config->min_free;
	b->db_bytes = config->db_bytes;
	b->epoch = config->epoch;
	mutex_init(&b->lock);
	cond_init(&b->swept);
	for (int i = 0; i < BLOCK_STRIPES; i++)
		mutex_init(&b->stripes[i]);
	map_init(&b->contents, same_content);
	map_init(&b->held, held_is_same);
	b->evict = evict_create(b->max_bytes ? b->max_bytes / BLOCK_PAGE :
					       1ull << 40,
				rand_u64());
	b->now = evict_now(b->evict);
	return b;
}

int blocks_create(const struct blocks_config *config, struct blocks **ret)
{
	struct blocks *b = blocks_new(config);
	char path[BLOCK_PATH_MAX];
	int err;

	snprintf(path, sizeof(path), "%s/data", b->dir);
	err = fsio_mkdirs(path);
	if (!err)
		err = blocks_load(b);
	if (!err && config->sweep)
		err = blocks_sweep_start(b);
	if (err) {
		blocks_destroy(b);
		return err;
	}
	blocks_set_db_bytes(b, config->db_bytes);
	*ret = b;
	return 0;
}

/* A handle that is open when the mount ends. */
static void free_left(struct map_node *n, void *arg) UNCHECKED
{
	struct content *c = container_of(n, struct content, node);

	map_remove(arg, n);
	c->refs = 0;
	content_close_locked(c);
	for (size_t i = 0; i < c->nextents; i++)
		free(c->extents[i]);
	free(c->extents);
	mutex_release(&c->lock);
	free(c);
}

void blocks_destroy(struct blocks *b)
{
	if (!b)
		return;
	blocks_stop(b);
	map_each(&b->contents, free_left, &b->contents);
	map_release(&b->contents);
	blocks_release_held(b);
	evict_destroy(b->evict);
	for (int i = 0; i < BLOCK_STRIPES; i++)
		mutex_release(&b->stripes[i]);
	cond_release(&b->swept);
	mutex_release(&b->lock);
	free(b->dir);
	free(b);
}

void blocks_stats(struct blocks *b, struct cache_stats *ret)
{
	mutex_lock(&b->lock);
	ret->data_bytes = evict_pages(b->evict) * BLOCK_PAGE;
	ret->evicted_bytes = b->evicted_bytes;
	ret->evicted_extents = b->evicted_extents;
	if (!ret->degraded)
		ret->degraded = b->write_error ? b->write_error : b->no_room;
	mutex_unlock(&b->lock);
	ret->verify_failures =
		__atomic_load_n(&b->verify_failures, __ATOMIC_RELAXED);
}

/* ---- accounting ---- */

static void note_now_locked(struct blocks *b) REQUIRES(b->lock)
{
	__atomic_store_n(&b->now, evict_now(b->evict), __ATOMIC_RELAXED);
}

/* Only eviction frees anything: blocks dropped as damaged, or that could not
 * be punched out, are still on the disk. */
void blocks_account(struct blocks *b, struct evict_key key, uint32_t pages)
{
	uint32_t before;

	mutex_lock(&b->lock);
	before = evict_put(b->evict, key, pages);
	if (before > pages)
		(void)evict_put(b->evict, key, before);
	note_now_locked(b);
	mutex_unlock(&b->lock);
}

static const char *write_problem(int err)
{
	switch (err) {
	case 0:
		return NULL;
	case -ENOSPC:
	case -EDQUOT:
		return "the disk of the cache folder or its quota is full: new "
		       "data is not kept";
	case -EROFS:
	case -EACCES:
	case -EPERM:
		return "the cache folder became read-only: new data is not "
		       "kept";
	case -EMFILE:
	case -ENFILE:
		return "too many open files: new data is not kept; raise "
		       "the limit";
	default:
		return "the disk of the cache folder fails: new data is not "
		       "kept";
	}
}

void blocks_unreserve(struct blocks *b, uint64_t bytes, int err)
{
	const char *why = write_problem(err);

	mutex_lock(&b->lock);
	b->reserved -= bytes;
	if (why && b->write_error != why)
		log_warn("cache", "%s: %s (%s)", b->dir, why, strerror(-err));
	b->write_error = why;
	mutex_unlock(&b->lock);
}

/* ---- eviction ---- */

static bool is_pinned_locked(const struct content *c, uint32_t ext)
	REQUIRES(c->lock)
{
	return c->kept ||
	       (ext < c->nextents && c->extents[ext] && c->extents[ext]->pins);
}

static bool load_record(struct blocks *b, struct evict_key key,
			struct record_extent *rec)
{
	struct extent_db_key k;
	struct buf val;
	int err;

	buf_init(&val, RECORD_MAX);
	err = batch_get(b->batch, KV_EXTENT,
			extent_db_key(&k, key.cid, key.ext), &val);
	if (!err)
		err = record_extent_decode(val.data, val.len, rec);
	buf_release(&val);
	return !err;
}

static int stop_at_first(struct slice key, struct slice val, void *arg)
{
	return 1;
}

static bool has_records(struct blocks *b, uint64_t cid)
{
	struct extent_db_key k;
	struct slice prefix = extent_db_key(&k, cid, 0);

	prefix.n = 8;
	return batch_scan(b->batch, KV_EXTENT, prefix, (struct slice){ 0 },
			  stop_at_first, NULL) != 0;
}

/* Is it forgotten, and lies where it is until all of its file is? */
static bool waits_for_file(struct blocks *b, struct evict_key key)
{
	struct record_extent rec;

	return __atomic_load_n(&b->no_holes, __ATOMIC_RELAXED) &&
	       !load_record(b, key, &rec) && has_records(b, key.cid);
}

/* For evict_pick, which runs under blocks.lock. */
static bool is_busy(struct evict_key key, void *arg) UNCHECKED
{
	struct content *c = blocks_find_locked(arg, key.cid);
	bool pinned;

	if (blocks_holds_locked(arg, key.cid) || waits_for_file(arg, key))
		return true;
	if (!c)
		return false;
	if (__atomic_load_n(&c->spared, __ATOMIC_RELAXED))
		return true;
	mutex_lock(&c->lock);
	pinned = is_pinned_locked(c, key.ext);
	mutex_unlock(&c->lock);
	return pinned;
}

/* Closes the file of an open content; false if somebody reads from it. */
static bool close_unused(struct blocks *b, uint64_t cid)
{
	struct content *c;
	bool used = false;

	mutex_lock(&b->lock);
	c = blocks_find_locked(b, cid);
	if (c) {
		mutex_lock(&c->lock);
		used = c->pins > 0 || c->kept;
		if (!used)
			content_close_locked(c);
		mutex_unlock(&c->lock);
	}
	mutex_unlock(&b->lock);
	return !used;
}

bool blocks_unlink_unused(struct blocks *b, uint64_t cid)
{
	char path[BLOCK_PATH_MAX];
	int err;

	if (has_records(b, cid) || !close_unused(b, cid))
		return false;
	blocks_path(b, cid, path);
	err = fsio()->unlink(path);
	return !err || err == -ENOENT;
}

static int punch_extent(struct blocks *b, struct evict_key key)
{
	char path[BLOCK_PATH_MAX];
	int fd, err;

	if (blocks_unlink_unused(b, key.cid))
		return 0;
	blocks_path(b, key.cid, path);
	fd = fsio()->open(path, O_RDWR, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	err = fsio()->punch(fd, (off_t)key.ext * CACHE_EXTENT, CACHE_EXTENT);
	close(fd);
	if (err && err != -EOPNOTSUPP)
		log_warn("cache", "cannot free a part of %s: %s", path,
			 strerror(-err));
	return err;
}

/* Whoever wrote to it since it was chosen may have counted it anew. */
static void delete_record_locked(struct blocks *b, struct evict_key key)
	REQUIRES(b->lock)
{
	struct extent_db_key k;

	batch_del(b->batch, KV_EXTENT, extent_db_key(&k, key.cid, key.ext));
	(void)evict_remove(b->evict, key);
}

/* The record goes, unless somebody came to read it. */
static bool forget_extent(struct blocks *b, struct evict_key key)
{
	struct content *c;
	bool pinned = false;

	mutex_lock(&b->lock);
	c = blocks_find_locked(b, key.cid);
	if (!c) {
		delete_record_locked(b, key);
	} else {
		mutex_lock(&c->lock);
		pinned = is_pinned_locked(c, key.ext);
		if (!pinned) {
			content_clear_locked(c, key.ext);
			delete_record_locked(b, key);
		}
		mutex_unlock(&c->lock);
	}
	mutex_unlock(&b->lock);
	return !pinned;
}

/* The disk did not free the extent. Whether all of it is still there is for
 * verification to find out: epoch 0 is older than any. */
static void restore_record(struct blocks *b, struct evict_key key,
			   struct record_extent *rec)
{
	struct extent_db_key k;
	struct content *c;
	struct buf val;

	rec->epoch = 0;
	buf_init(&val, RECORD_MAX);
	record_extent_encode(&val, rec);
	mutex_lock(&b->lock);
	c = blocks_find_locked(b, key.cid);
	batch_put(b->batch, KV_EXTENT, extent_db_key(&k, key.cid, key.ext),
		  (struct slice){ val.data, val.len });
	if (c) {
		mutex_lock(&c->lock);
		content_restore_locked(c, key.ext, rec);
		mutex_unlock(&c->lock);
	}
	mutex_unlock(&b->lock);
	buf_release(&val);
}

/*
 * -EBUSY: it is being read. Another error: the room was not freed. -EAGAIN: it
 * will be when the rest of the file is forgotten, where files have no holes;
 * the extent counts until then, but is not served.
 */
static int evict_one(struct blocks *b, struct evict_key key)
{
	struct mutex *stripe = blocks_stripe(b, key.cid);
	struct record_extent rec;
	int err = -EBUSY;
	bool known;

	mutex_lock(stripe);
	known = load_record(b, key, &rec);
	if (!blocks_note_held(b, key.cid) && forget_extent(b, key)) {
		err = punch_extent(b, key);
		if (err == -EOPNOTSUPP)
			__atomic_store_n(&b->no_holes, true, __ATOMIC_RELAXED);
		if (err == -EOPNOTSUPP && known)
			err = -EAGAIN;
		else if (err && known)
			restore_record(b, key, &rec);
	}
	mutex_unlock(stripe);
	return err;
}

/*
 * Chooses a victim and evicts it, with the lock let go meanwhile. False: there
 * is none. What the disk does not free counts on; *tries says how often that
 * may happen before it is given up.
 */
static bool evict_next_locked(struct blocks *b, int *tries) REQUIRES(b->lock)
{
	struct evict_use use = { .age = 0 };
	uint64_t bytes;
	int err;

	if (!*tries || !evict_pick(b->evict, is_busy, b, &use.key, &use.pages))
		return false;
	bytes = (uint64_t)use.pages * BLOCK_PAGE;
	b->leaving += bytes;
	mutex_unlock(&b->lock);
	err = evict_one(b, use.key);
	mutex_lock(&b->lock);
	b->leaving -= bytes;
	if (err) {
		(void)evict_load(b->evict, &use);
		*tries -= err != -EBUSY && err != -EAGAIN;
		return true;
	}
	b->evicted_bytes += bytes;
	b->evicted_extents++;
	return true;
}

/* Before it gives up it asks whether files in use still are. */
static bool evict_some_locked(struct blocks *b, int *tries) REQUIRES(b->lock)
{
	if (evict_next_locked(b, tries))
		return true;
	if (!*tries || !b->held.count)
		return false;
	mutex_unlock(&b->lock);
	blocks_review_held(b);
	mutex_lock(&b->lock);
	return evict_next_locked(b, tries);
}

/* The database grows by what is pending before we hear of it. */
enum { DB_AHEAD = 1 << 20, TRIES = 8 };

enum room { ROOM, NO_BUDGET, NO_DISK };

static enum room measure_locked(struct blocks *b, uint64_t need)
	REQUIRES(b->lock)
{
	uint64_t db = __atomic_load_n(&b->db_bytes, __ATOMIC_RELAXED);
	uint64_t data = evict_pages(b->evict) * BLOCK_PAGE + b->leaving;
	uint64_t budget = UINT64_MAX / 2, disk = budget, total;

	if (b->max_bytes)
		budget = b->max_bytes > db + data ? b->max_bytes - db - data :
						    0;
	if (fsio()->space(b->dir, &disk, &total) == 0)
		disk = disk > b->min_free ? disk - b->min_free : 0;
	need += b->reserved + DB_AHEAD;
	/* The policy counts in shares of what there is to share. */
	evict_set_capacity(b->evict, (data + (budget < disk ? budget : disk)) /
					     BLOCK_PAGE);
	if (disk < need)
		return NO_DISK;
	return budget < need ? NO_BUDGET : ROOM;
}

static void note_room_locked(struct blocks *b, enum room room) REQUIRES(b->lock)
{
	static const char *const why[] = {
		[NO_BUDGET] = "all data in the cache is being read or "
			      "--cache-size is too small: new data is not kept",
		[NO_DISK] = "the disk is full up to --min-free: new data is "
			    "not kept",
	};

	if (why[room] && b->no_room != why[room])
		log_warn("cache", "%s: %s", b->dir, why[room]);
	b->no_room = why[room];
}

/* Evicting everything would not make room for so much. */
static bool can_never_fit(const struct blocks *b, uint64_t bytes)
{
	uint64_t db = __atomic_load_n(&b->db_bytes, __ATOMIC_RELAXED);

	return b->max_bytes && db + DB_AHEAD + bytes > b->max_bytes;
}

int blocks_reserve(struct blocks *b, uint64_t bytes, bool force)
{
	int tries = TRIES;
	enum room room;
	uint64_t before;

	mutex_lock(&b->lock);
	before = b->evicted_bytes;
	if (can_never_fit(b, bytes)) {
		note_room_locked(b, NO_BUDGET);
		mutex_unlock(&b->lock);
		return -ENOSPC;
	}
	while ((room = measure_locked(b, bytes)) != ROOM ||
	       (force && b->evicted_bytes - before < bytes))
		if (!evict_some_locked(b, &tries))
			break;
	if (room == ROOM)
		b->reserved += bytes;
	note_now_locked(b);
	note_room_locked(b, room);
	mutex_unlock(&b->lock);
	return room == ROOM ? 0 : -ENOSPC;
}

int blocks_give_way(struct blocks *b, uint64_t bytes)
{
	int tries = TRIES;
	enum room room;

	mutex_lock(&b->lock);
	while ((room = measure_locked(b, bytes)) == NO_DISK)
		if (!evict_some_locked(b, &tries))
			break;
	mutex_unlock(&b->lock);
	return room == NO_DISK ? -ENOSPC : 0;
}

void blocks_set_db_bytes(struct blocks *b, uint64_t bytes)
{
	int tries = TRIES;

	__atomic_store_n(&b->db_bytes, bytes, __ATOMIC_RELAXED);
	mutex_lock(&b->lock);
	while (measure_locked(b, 0) != ROOM && evict_some_locked(b, &tries))
		;
	note_now_locked(b);
	mutex_unlock(&b->lock);
}
