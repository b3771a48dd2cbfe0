/*
 * The folder: who holds it, whether what is in it can be trusted, and the
 * modules on top.
 *
 * Nothing in it is precious, so every doubt (another bucket, another version,
 * a damaged database) is answered by emptying it. One doubt is milder: data
 * files may lack what the database says of them. Data is never flushed, so that
 * holds after every restart of the machine, be it a clean one; after the end of
 * the process without cache_close, because extents are punched out before their
 * records are gone; and after a run that met damage. The epoch then advances,
 * and blocks of older epochs are verified before use. To flush data at a clean
 * stop instead would hold up the unmount for what may be gigabytes, to save
 * 15 us a block later.
 */
#include "cache/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "cache/batch.h"
#include "cache/block_impl.h"
#include "cache/meta_impl.h"
#include "cache/record.h"

enum {
	COMMIT_MS = 200,
	NUMBERS_LOST = 1 << 20, /* more than are given between two commits */
};

static const uint64_t MAP_MOST = 1ull << 40;
static const uint64_t MAP_LEAST = 4ull << 20;

struct cache {
	char *dir, *db;
	int lock_fd;
	struct record_state state; /* the batch's writer thread's own */
	struct kv *kv;
	struct batch *batch;
	struct meta *meta;
	struct blocks *blocks;
	bool left; /* the last holder did not come to its end */
	bool doubt; /* data is verified before use */
	bool opened, ended;
};

static const struct slice state_key = { "state", 5 };

/* ---- the folder ---- */

static int refuse_network(const char *dir, char *why, size_t why_len)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} remote[] = { { 0x6969, "NFS" },	{ 0xFF534D42, "CIFS" },
		       { 0xFE534D42, "SMB2" },	{ 0x65735546, "FUSE" },
		       { 0x01021997, "9p" },	{ 0x00C36400, "Ceph" },
		       { 0x0BD00BD0, "Lustre" } };
	uint32_t type;

	if (fsio()->type(dir, &type))
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(remote); i++) {
		if (type != remote[i].magic)
			continue;
		snprintf(why, why_len,
			 "cache folder %s is on a network file system (%s): "
			 "give --cache-dir on a local disk",
			 dir, remote[i].name);
		return -EMEDIUMTYPE;
	}
	return 0;
}

static int take_lock(struct cache *c, char *why, size_t why_len)
{
	CLEANUP(free) char *path = xasprintf("%s/lock", c->dir);
	char pid[32] = "";
	ssize_t n;

	c->lock_fd = fsio()->open(path, O_RDWR | O_CREAT, 0600);
	if (c->lock_fd < 0) {
		snprintf(why, why_len,
			 "cannot write cache folder %s: %s; give --cache-dir "
			 "on a disk that can be written",
			 c->dir, strerror(-c->lock_fd));
		return c->lock_fd;
	}
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB)) {
		n = pread(c->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = 0;
		snprintf(why, why_len,
			 "cache folder %s is in use by the r2fs process %.*s: "
			 "unmount that one, or give another --cache-dir",
			 c->dir, (int)strcspn(pid, "\n"), pid);
		close(c->lock_fd);
		c->lock_fd = -1;
		return -EBUSY;
	}
	c->left = pread(c->lock_fd, pid, 1, 0) == 1;
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (fsio()->ftruncate(c->lock_fd, 0) ||
	    pwrite(c->lock_fd, pid, n, 0) != n)
		log_debug("cache", "the lock file has no pid");
	return 0;
}

/* An empty lock file says that its last holder did not crash. */
static void release_lock(struct cache *c)
{
	if (c->ended && fsio()->ftruncate(c->lock_fd, 0))
		log_debug("cache", "the lock file keeps the pid");
	close(c->lock_fd);
}

static void remove_tree(const char *path, int depth)
{
	DIR *d = depth ? opendir(path) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *inner;

		if (e->d_name[0] == '.')
			continue;
		inner = xasprintf("%s/%s", path, e->d_name);
		if (fsio()->unlink(inner) == -EISDIR)
			remove_tree(inner, depth - 1);
		free(inner);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

static void remove_database(struct cache *c)
{
	CLEANUP(free) char *lock = xasprintf("%s-lock", c->db);

	(void)fsio()->unlink(c->db);
	(void)fsio()->unlink(lock);
}

/* Files of an older database, whose content ids are given out anew. */
static void empty_data(struct cache *c)
{
	CLEANUP(free) char *data = xasprintf("%s/data", c->dir);

	remove_tree(data, 2);
}

/* ---- the database ---- */

static void read_boot_id(char out[RECORD_BOOT_MAX])
{
	const char *path = getenv("R2FS_TEST_BOOT_ID");
	FILE *f = fopen(path ? path : "/proc/sys/kernel/random/boot_id", "re");

	out[0] = 0;
	if (!f)
		return;
	if (!fgets(out, RECORD_BOOT_MAX, f))
		out[0] = 0;
	out[strcspn(out, "\n")] = 0;
	fclose(f);
}

static int read_state(struct kv *kv, struct record_state *ret)
{
	struct kv_read r;
	struct slice val;
	int err = kv_read_begin(kv, &r);

	if (err)
		return err;
	err = kv_get(&r, KV_STATE, state_key, &val);
	if (!err)
		err = record_state_decode(val.p, val.n, ret);
	kv_read_end(&r);
	return err;
}

/* The database may take half of what all may take. */
static uint64_t map_ceiling(const struct cache_config *config)
{
	uint64_t half = config->max_bytes ? config->max_bytes / 2 : MAP_MOST;

	if (config->map_bytes)
		return config->map_bytes;
	if (half < MAP_LEAST)
		return MAP_LEAST;
	return half < MAP_MOST ? half : MAP_MOST;
}

static int open_database(struct cache *c, const struct cache_config *config)
{
	uint64_t ceiling = map_ceiling(config);
	bool fresh = false;
	int err = kv_open(c->db, ceiling, c->left, &c->kv);

	if (!err) {
		err = read_state(c->kv, &c->state);
		fresh = err == -ENOENT;
		if (fresh)
			err = 0;
		else if (!err && strcmp(c->state.identity, config->identity))
			err = -EUCLEAN;
	}
	if (err == -EUCLEAN || err == -EBADMSG || err == -EIO) {
		log_warn("cache",
			 "%s is damaged, or of another bucket or "
			 "version: starting with an empty cache",
			 c->dir);
		kv_close(c->kv);
		c->kv = NULL;
		remove_database(c);
		err = kv_open(c->db, ceiling, c->left, &c->kv);
		fresh = true;
	}
	if (!err && !fresh && !c->state.clean) {
		c->state.next_ino += NUMBERS_LOST;
		c->state.next_cid += NUMBERS_LOST;
	}
	if (!err && fresh) {
		empty_data(c);
		memset(&c->state, 0, sizeof(c->state));
		read_boot_id(c->state.boot_id);
		c->state.epoch = 1;
		c->state.clean = true;
		c->state.next_ino = CACHE_ROOT_INO + 1;
		c->state.next_cid = 1;
	}
	return err;
}

static void put_state(struct cache *c)
{
	struct buf b;

	meta_numbers(c->meta, &c->state.next_ino, &c->state.next_cid);
	buf_init(&b, RECORD_MAX);
	record_state_encode(&b, &c->state);
	batch_put(c->batch, KV_STATE, state_key,
		  (struct slice){ b.data, b.len });
	buf_release(&b);
}

static void before_commit(void *arg)
{
	struct cache *c = arg;

	if (!c->meta)
		return;
	meta_collect(c->meta);
	put_state(c);
}

static void after_commit(void *arg)
{
	struct cache *c = arg;

	if (__atomic_load_n(&c->opened, __ATOMIC_ACQUIRE))
		blocks_set_db_bytes(c->blocks, kv_file_bytes(c->kv));
}

static int check_epoch(struct cache *c, const struct cache_config *config)
{
	char boot_id[RECORD_BOOT_MAX];

	read_boot_id(boot_id);
	c->doubt = !c->state.clean || c->state.damaged || !boot_id[0] ||
		   strcmp(boot_id, c->state.boot_id) != 0;
	if (c->doubt) {
		c->state.epoch++;
		log_info("cache",
			 "%s was not closed, or damaged, or the machine "
			 "restarted since: data is verified before use",
			 c->dir);
	}
	if (!c->state.clean && c->state.writable)
		c->state.distrust_ns = clock_wall_ns();
	meta_distrust(c->meta, c->state.distrust_ns);
	c->state.clean = c->state.damaged = false;
	c->state.writable = config->writable;
	snprintf(c->state.boot_id, sizeof(c->state.boot_id), "%s", boot_id);
	snprintf(c->state.identity, sizeof(c->state.identity), "%s",
		 config->identity);
	put_state(c);
	return batch_flush(c->batch);
}

static int build(struct cache *c, const struct cache_config *config)
{
	struct batch_config bc = { .kv = c->kv,
				   .path = c->db,
				   .interval_ms = config->commit_ms ?
							  config->commit_ms :
							  COMMIT_MS,
				   .before = before_commit,
				   .after = after_commit,
				   .arg = c };
	struct blocks_config kc = { .dir = c->dir,
				    .max_bytes = config->max_bytes,
				    .min_free = config->min_free };
	int err;

	c->batch = batch_create(&bc);
	if (!c->batch)
		return -EAGAIN;
	c->meta = meta_create(c->batch, c->state.next_ino, c->state.next_cid);
	err = check_epoch(c, config);
	kc.batch = c->batch;
	kc.epoch = c->state.epoch;
	kc.db_bytes = kv_file_bytes(c->kv);
	kc.sweep = c->doubt;
	return err ? err : blocks_create(&kc, &c->blocks);
}

/* ---- the interface ---- */

static int prepare(struct cache *c, char *why, size_t why_len)
{
	int err = fsio_mkdirs(c->dir);

	if (err) {
		snprintf(why, why_len,
			 "cannot make cache folder %s: %s; give --cache-dir",
			 c->dir, strerror(-err));
		return err;
	}
	err = refuse_network(c->dir, why, why_len);
	return err ? err : take_lock(c, why, why_len);
}

static int check_space(struct cache *c, const struct cache_config *config,
		       char *why, size_t why_len)
{
	uint64_t available, total;

	if (fsio()->space(c->dir, &available, &total) ||
	    available >= config->min_free)
		return 0;
	snprintf(why, why_len,
		 "cache folder %s has %llu MB free, less than --min-free: free "
		 "some space, lower --min-free or give another --cache-dir",
		 c->dir, (unsigned long long)available >> 20);
	return -ENOSPC;
}

int cache_open(const struct cache_config *config, struct cache **ret, char *why,
	       size_t why_len)
{
	struct cache *c = xcalloc(1, sizeof(*c));
	int err;

	why[0] = 0;
	c->lock_fd = -1;
	c->dir = xstrdup(config->dir);
	c->db = xasprintf("%s/cache.mdb", config->dir);
	err = prepare(c, why, why_len);
	if (!err)
		err = check_space(c, config, why, why_len);
	if (!err)
		err = open_database(c, config);
	if (!err)
		err = build(c, config);
	if (err) {
		if (!why[0])
			snprintf(why, why_len, "cannot use cache folder %s: %s",
				 c->dir, strerror(-err));
		cache_close(c);
		return err;
	}
	__atomic_store_n(&c->opened, true, __ATOMIC_RELEASE);
	*ret = c;
	return 0;
}

/* The last things to put; whether everything else is in the database. */
static bool ends_clean(struct cache *c)
{
	struct cache_stats st = { .degraded = NULL };

	blocks_save_use(c->blocks);
	if (batch_flush(c->batch) || batch_degraded(c->batch))
		return false;
	blocks_stats(c->blocks, &st);
	c->state.damaged = st.verify_failures > 0;
	return true;
}

static void stop(struct cache *c)
{
	bool opened = c->opened;

	blocks_stop(c->blocks);
	__atomic_store_n(&c->opened, false, __ATOMIC_RELEASE);
	if (opened && ends_clean(c)) {
		c->state.clean = true;
		put_state(c);
	}
	batch_destroy(c->batch);
	c->ended = opened;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	if (c->batch)
		stop(c);
	blocks_destroy(c->blocks);
	meta_destroy(c->meta);
	kv_close(c->kv);
	if (c->lock_fd >= 0)
		release_lock(c);
	free(c->dir);
	free(c->db);
	free(c);
}

void cache_stats_get(struct cache *c, struct cache_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->map_bytes = kv_file_bytes(c->kv);
	ret->entries = kv_entries(c->kv, KV_DENTRY);
	ret->verifying = c->doubt;
	ret->degraded = batch_degraded(c->batch);
	blocks_stats(c->blocks, ret);
}

struct meta *cache_meta(struct cache *c)
{
	return c->meta;
}

struct blocks *cache_blocks(struct cache *c)
{
	return c->blocks;
}
