/*
 * A commit costs a disk flush, a put must not. Two overlays make that work:
 * `active` takes puts; the writer freezes it as `frozen`, writes it into one
 * transaction and drops it once the commit is through, so that at every
 * moment each entry is in active, in frozen or in the file.
 *
 * Failures. The batch keeps frozen and tries again later; puts go on in
 * memory up to LOSSY_BYTES. Beyond it, or when the map is at its ceiling, all
 * names and directories are forgotten: both overlays lose them and the file's
 * tables are masked, until a commit has emptied the tables in the file too.
 * Dropping single entries instead would leave directories that claim to be
 * complete and are not. After damage the names in the file are lost, so
 * those pending are forgotten with them. Extent records are never dropped this
 * way: their deletions guard against holes in data files.
 */
#include "cache/batch_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/fsio.h"
#include "base/log.h"

enum {
	EAGER_COUNT = 4096, /* pending records that start a commit early */
	ROOM_COUNT = 65536, /* pending records that make putters wait */
	ROOM_BYTES = 24 << 20,
	LOSSY_BYTES = 128 << 20,
	RETRY_MS = 1000,
	FULL_TRIES = 6,
};

/* ---- failures ---- */

static const char *reason(int err)
{
	switch (err) {
	case -ENOSPC:
		return "the disk of the cache folder is full";
	case -EFBIG:
		return "the metadata database is at its size limit";
	case -EROFS:
	case -EACCES:
		return "the cache folder became read-only";
	case -EUCLEAN:
	case -EBADMSG:
		return "the metadata database is damaged; it is rebuilt at "
		       "the next start";
	case -EIO:
		return "the disk of the cache folder fails, or is full";
	default:
		return "the metadata database cannot be written now";
	}
}

/* LMDB says EIO for a short write too, which is how a disk becomes full. */
static bool is_fatal(int err)
{
	return err == -EUCLEAN || err == -EBADMSG;
}

/* The writer may be walking frozen: its names are hidden, not dropped. */
static void forget_names_locked(struct batch *b) REQUIRES(b->lock)
{
	overlay_drop(&b->active, NAMES_MASK);
	b->masked = true;
	b->hidden = true;
	b->forgotten++;
}

static void degrade_locked(struct batch *b, int err) REQUIRES(b->lock)
{
	const char *why = reason(err);

	if (b->degraded != why)
		log_warn("cache", "%s (%s): new things are kept in memory only",
			 why, strerror(-err));
	b->degraded = why;
	if (!is_fatal(err) || b->dead)
		return;
	b->dead = true;
	forget_names_locked(b);
	(void)fsio()->unlink(b->cfg.path);
}

void batch_note_error(struct batch *b, int err)
{
	if (!is_fatal(err))
		return;
	mutex_lock(&b->lock);
	degrade_locked(b, err);
	mutex_unlock(&b->lock);
}

/* ---- the writer ---- */

static int write_all(struct kv_write *w, const struct overlay *o)
{
	int err = 0;

	for (struct change *c = o->head[0]; c && !err; c = c->next[0])
		err = c->deleted ? kv_del(w, c->table, c->key) :
				   kv_put(w, c->table, c->key, c->val);
	return err;
}

static int commit_once(struct kv *kv, const struct overlay *o)
{
	struct kv_write w;
	int err = kv_write_begin(kv, &w);

	if (err)
		return err;
	err = write_all(&w, o);
	if (!err)
		return kv_commit(&w);
	kv_abort(&w);
	return err;
}

static int commit_growing(struct kv *kv, const struct overlay *o)
{
	int err;

	do {
		err = commit_once(kv, o);
	} while (err == -EFBIG && kv_grow(kv, false) == 0);
	return err;
}

static int drop_names(struct kv *kv)
{
	struct kv_write w;
	int err = kv_write_begin(kv, &w);

	if (err)
		return err;
	err = kv_drop(&w, KV_DENTRY);
	if (!err)
		err = kv_drop(&w, KV_DIR);
	if (!err)
		return kv_commit(&w);
	kv_abort(&w);
	return err;
}

/* On the writer thread, between walks of frozen. What another thread forgets
 * while the file is being emptied is left to the next attempt. */
static int empty_names(struct batch *b)
{
	uint64_t forgotten;
	int err;

	mutex_lock(&b->lock);
	if (b->hidden)
		overlay_drop(&b->frozen, NAMES_MASK);
	b->hidden = false;
	forgotten = b->forgotten;
	mutex_unlock(&b->lock);

	do {
		err = drop_names(b->cfg.kv);
	} while (err == -EFBIG && kv_grow(b->cfg.kv, true) == 0);
	if (err)
		return err;
	mutex_lock(&b->lock);
	if (b->forgotten == forgotten)
		b->masked = false;
	mutex_unlock(&b->lock);
	return 0;
}

/* The map is at its ceiling: gives up the names. LMDB hands freed pages out
 * again only some commits later, hence the tries. */
static int commit_full(struct batch *b)
{
	int err;

	mutex_lock(&b->lock);
	forget_names_locked(b);
	mutex_unlock(&b->lock);
	log_info("cache", "the metadata database reached its size limit: "
			  "names are learnt anew");
	err = empty_names(b);
	for (int i = 0; i < FULL_TRIES && !err; i++) {
		err = commit_once(b->cfg.kv, &b->frozen);
		if (err != -EFBIG)
			return err;
		err = kv_sync(b->cfg.kv);
		if (!err && kv_grow(b->cfg.kv, true))
			continue;
	}
	return err ? err : -EFBIG;
}

static int commit_frozen(struct batch *b, bool masked)
{
	int err = 0;

	if (masked)
		err = empty_names(b);
	if (!err)
		err = commit_growing(b->cfg.kv, &b->frozen);
	return err == -EFBIG ? commit_full(b) : err;
}

static void finish_locked(struct batch *b, int err) REQUIRES(b->lock)
{
	b->attempts++;
	b->error = err;
	if (err) {
		degrade_locked(b, err);
	} else {
		overlay_release(&b->frozen);
		b->hidden = false;
		b->commits = b->freezes;
		if (!b->dead)
			b->degraded = NULL;
	}
	cond_broadcast(&b->done);
}

static void freeze_locked(struct batch *b) REQUIRES(b->lock)
{
	if (b->commits != b->freezes)
		return;
	b->frozen = b->active;
	overlay_init(&b->active);
	b->active.seed = b->frozen.seed;
	b->freezes++;
}

/* One attempt to bring what is pending into the file. */
static void attempt_locked(struct batch *b) REQUIRES(b->lock)
{
	bool masked;
	int err;

	mutex_unlock(&b->lock);
	if (b->cfg.before)
		b->cfg.before(b->cfg.arg);
	mutex_lock(&b->lock);
	freeze_locked(b);
	masked = b->masked;
	if (b->dead) {
		b->attempts++;
		b->error = -EIO;
		cond_broadcast(&b->done);
		return;
	}
	mutex_unlock(&b->lock);
	err = commit_frozen(b, masked);
	if (!err && b->cfg.after)
		b->cfg.after(b->cfg.arg);
	mutex_lock(&b->lock);
	finish_locked(b, err);
}

static bool has_work_locked(struct batch *b) REQUIRES(b->lock)
{
	return b->active.count || b->commits != b->freezes || b->masked;
}

/* Waits for something to do, then for more of it. */
static void gather_locked(struct batch *b) REQUIRES(b->lock)
{
	unsigned ms = b->error ? RETRY_MS : b->cfg.interval_ms;

	while (!b->stop && !b->kicked && (!has_work_locked(b) || b->dead))
		cond_wait(&b->wake, &b->lock);
	while (!b->stop && !b->kicked &&
	       (b->error || b->active.count < EAGER_COUNT))
		if (!cond_wait_ms(&b->wake, &b->lock, ms))
			break;
	b->kicked = false;
}

static void *writer(void *arg)
{
	struct batch *b = arg;
	bool last;

	pthread_setname_np(pthread_self(), "cache-commit");
	mutex_lock(&b->lock);
	do {
		gather_locked(b);
		last = b->stop;
		if (has_work_locked(b))
			attempt_locked(b);
		else
			cond_broadcast(&b->done);
		if (b->stop && !b->error && has_work_locked(b))
			last = false;
	} while (!last);
	mutex_unlock(&b->lock);
	return NULL;
}

/* ---- life ---- */

struct batch *batch_create(const struct batch_config *config)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	b->cfg = *config;
	b->cfg.path = xstrdup(config->path);
	mutex_init(&b->lock);
	cond_init(&b->wake);
	cond_init(&b->done);
	overlay_init(&b->active);
	overlay_init(&b->frozen);
	if (pthread_create(&b->thread, NULL, writer, b) == 0)
		return b;
	b->thread = 0;
	b->stop = true;
	batch_destroy(b);
	return NULL;
}

void batch_destroy(struct batch *b)
{
	if (!b)
		return;
	if (b->thread) {
		mutex_lock(&b->lock);
		b->stop = true;
		cond_signal(&b->wake);
		mutex_unlock(&b->lock);
		pthread_join(b->thread, NULL);
	}
	overlay_release(&b->active);
	overlay_release(&b->frozen);
	cond_release(&b->wake);
	cond_release(&b->done);
	mutex_release(&b->lock);
	free((char *)b->cfg.path);
	free(b);
}

/* ---- putting ---- */

static void kick_locked(struct batch *b) REQUIRES(b->lock)
{
	b->kicked = true;
	cond_signal(&b->wake);
}

void batch_room(struct batch *b)
{
	mutex_lock(&b->lock);
	while (!b->degraded && (b->active.count >= ROOM_COUNT ||
				b->active.bytes >= ROOM_BYTES)) {
		kick_locked(b);
		cond_wait(&b->done, &b->lock);
	}
	mutex_unlock(&b->lock);
}

static void change_locked(struct batch *b, enum kv_table table,
			  struct slice key, struct slice val, bool deleted)
	REQUIRES(b->lock)
{
	bool first = !b->active.count;

	/* Nothing left in a file to be deleted there. */
	if (deleted && b->dead && !overlay_find(&b->frozen, table, key)) {
		overlay_remove(&b->active, table, key);
		return;
	}
	overlay_put(&b->active, table, key, val, deleted);
	if (first || b->active.count == EAGER_COUNT)
		cond_signal(&b->wake);
	if (b->degraded && b->active.bytes > LOSSY_BYTES)
		forget_names_locked(b);
}

void batch_put(struct batch *b, enum kv_table table, struct slice key,
	       struct slice val)
{
	mutex_lock(&b->lock);
	change_locked(b, table, key, val, false);
	mutex_unlock(&b->lock);
}

void batch_del(struct batch *b, enum kv_table table, struct slice key)
{
	mutex_lock(&b->lock);
	change_locked(b, table, key, (struct slice){ 0 }, true);
	mutex_unlock(&b->lock);
}

int batch_flush(struct batch *b)
{
	uint64_t freeze, attempt;
	int err = 0;

	mutex_lock(&b->lock);
	if (b->dead) {
		mutex_unlock(&b->lock);
		return -EIO;
	}
	freeze = b->freezes + (b->active.count > 0);
	attempt = b->attempts;
	while (b->commits < freeze && !err) {
		kick_locked(b);
		cond_wait(&b->done, &b->lock);
		if (b->attempts > attempt + 1 || b->dead)
			err = b->error;
	}
	mutex_unlock(&b->lock);
	return err;
}

const char *batch_degraded(struct batch *b)
{
	const char *why;

	mutex_lock(&b->lock);
	why = b->degraded;
	mutex_unlock(&b->lock);
	return why;
}

uint64_t batch_forgotten(struct batch *b)
{
	uint64_t n;

	mutex_lock(&b->lock);
	n = b->forgotten;
	mutex_unlock(&b->lock);
	return n;
}

size_t batch_pending(struct batch *b)
{
	size_t n;

	mutex_lock(&b->lock);
	n = b->active.count + b->frozen.count;
	mutex_unlock(&b->lock);
	return n;
}
