/*
 * A file that is expected next is brought by the same steps that a program
 * would take: resolve the name, then fetch. So nothing is asked for twice: a
 * program that comes meanwhile waits for the same request, and a name that is
 * known not to exist costs nothing.
 *
 * Most opens of a warm mount find everything at hand and no stream alive:
 * they end before any lock of ours.
 */
#include "vfs/ahead.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/scan.h"
#include "vfs/unread.h"
#include "vfs/write.h"

enum {
	WHOLE_BYTES = 8 << 20, /* files up to here are fetched to their end */
	START_BYTES = 1 << 20, /* of larger ones */
	SIBLINGS = 4, /* names looked at for the next file */
	LIST_AFTER = 64, /* files read of a folder before it is listed */
	LIST_PAGES = 8,
};

struct ahead {
	struct vfs *v;
	struct mutex lock;
	/* guarded by lock */
	struct predict *predict;
	unsigned flying;
	bool ending;
	uint64_t mean; /* bytes of a file brought, lately */
	/* the folder last looked at for the order of names */
	char folder[STORE_KEY_MAX + 1];
	uint64_t folder_ino; /* 0: not listed to its end */
	int64_t folder_ns;
	/* the folder that files are read of one after the other */
	uint64_t run; /* hash of its path */
	unsigned run_files;

	struct unread *unread;
	atomic_bool busy; /* streams are alive */
};

struct job {
	struct task task;
	struct ahead *a;
	char *path;
};

/* ---- the order of a folder ---- */

static int dir_ino(struct vfs *v, const char *path, size_t len, uint64_t *ret)
{
	char name[CACHE_NAME_MAX + 1];
	struct meta_rec rec;

	*ret = CACHE_ROOT_INO;
	for (size_t n; len > 0; path += n + 1, len -= n + 1) {
		n = strcspn(path, "/");
		if (n > CACHE_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, n);
		name[n] = 0;
		int err = meta_get(v->meta, *ret, name, &rec);

		if (err)
			return err;
		*ret = rec.kind == META_DIR ? rec.ino : 0;
		meta_rec_release(&rec);
		if (*ret == 0)
			return -ENOTDIR;
	}
	return 0;
}

/* The listed folder of a path whose folder part has len bytes; 0: not listed.
 * Asked for file after file, so the last answer is kept for a moment. */
static uint64_t listed_folder_locked(struct ahead *a, const char *path,
				     size_t len) REQUIRES(a->lock)
{
	const int64_t keep_ns = 1000000000;
	int64_t now = clock_wall_ns();
	struct meta_dir dir;
	uint64_t ino;

	if (strlen(a->folder) == len && memcmp(a->folder, path, len) == 0 &&
	    now - a->folder_ns < keep_ns && now >= a->folder_ns)
		return a->folder_ino;
	memcpy(a->folder, path, len);
	a->folder[len] = 0;
	a->folder_ns = now;
	a->folder_ino = 0;
	if (dir_ino(a->v, path, len, &ino) == 0 &&
	    meta_dir_get(a->v->meta, ino, &dir) == 0 &&
	    ttl_left(dir.complete_ns, a->v->config.metadata_ttl_ns) > 0)
		a->folder_ino = ino;
	return a->folder_ino;
}

static bool next_file(struct vfs *v, uint64_t ino, const char *name, char *next)
{
	struct meta_entry *e = xcalloc(SIBLINGS, sizeof(*e));
	int n = meta_list(v->meta, ino, name, e, SIBLINGS);
	bool found = false;

	for (int i = 0; i < n; i++) {
		if (!found && e[i].rec.kind == META_FILE &&
		    !(e[i].rec.flags & META_SHADOWED)) {
			strcpy(next, e[i].name);
			found = true;
		}
		meta_rec_release(&e[i].rec);
	}
	free(e);
	return found;
}

/* predict_config.after: called with the lock held. */
static bool after(void *arg, const char *path, char *next) UNCHECKED
{
	struct ahead *a = arg;
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash + 1 - path) : 0;
	char name[CACHE_NAME_MAX + 1];
	uint64_t ino = listed_folder_locked(a, path, len);

	if (!ino || !next_file(a->v, ino, path + len, name) ||
	    len + strlen(name) > PREDICT_PATH)
		return false;
	memcpy(next, path, len);
	strcpy(next + len, name);
	return true;
}

/* ---- bringing one file ---- */

static uint64_t share_of(uint64_t size)
{
	return size <= WHOLE_BYTES ? size : START_BYTES;
}

static int fetch(struct vfs *v, struct inode *i, const struct meta_rec *rec,
		 struct inode *dir, const char *name,
		 enum predict_result *result)
{
	char key[STORE_KEY_MAX + 1];
	struct fill_file *fill;
	uint64_t cid = rec->cid;
	int err = inode_key(v, i, key);

	if (!err && !cid)
		err = meta_cid(v->meta, dir->ino, name, rec->etag, &cid);
	if (!err)
		err = fill_open(v->config.fills, key, rec->etag, cid, rec->size,
				&fill);
	if (err)
		return err;
	if (fill_ahead(fill, 0, share_of(rec->size)))
		*result = PREDICT_FETCHED;
	if (*result == PREDICT_FETCHED)
		unread_add(v->ahead->unread, i->ino, fill);
	else
		fill_close(fill);
	return 0;
}

/* Resolves name; a file that is all in R2 is fetched, *bytes of it. */
static int bring_name(struct vfs *v, struct inode *dir, const char *name,
		      enum predict_result *result, uint64_t *bytes)
{
	const struct vfs_ctx now = { .nowait = true }, wait = { .guess = true };
	struct meta_rec rec;
	struct inode *i;
	int64_t ttl;
	int err = name_resolve(v, &now, dir, name, false, &rec, &ttl);

	*result = PREDICT_AT_HAND;
	if (err == -EAGAIN) {
		*result = PREDICT_FETCHED;
		err = name_resolve(v, &wait, dir, name, false, &rec, &ttl);
	}
	if (err)
		return err;
	i = inode_from_rec(v, dir, name, &rec);
	if (rec.kind != META_FILE)
		err = -ENOENT;
	else if (rec.size && rec.etag[0] && !inode_is_held(v, rec.ino))
		err = fetch(v, i, &rec, dir, name, result);
	*bytes = share_of(rec.size);
	inode_put(v, i);
	meta_rec_release(&rec);
	return err;
}

static int enter(struct vfs *v, struct inode **dir, const char *name)
{
	const struct vfs_ctx ctx = { 0 };
	struct meta_rec rec;
	struct inode *next = NULL;
	int64_t ttl;
	int err = name_resolve(v, &ctx, *dir, name, false, &rec, &ttl);

	if (err)
		return err;
	if (rec.kind == META_DIR)
		next = inode_from_rec(v, *dir, name, &rec);
	meta_rec_release(&rec);
	if (!next)
		return -ENOENT;
	inode_put(v, *dir);
	*dir = next;
	return 0;
}

/* The folder of a path, a reference, and the name in it. */
static int open_folder(struct vfs *v, char *path, struct inode **ret,
		       char **name)
{
	char *slash;
	int err = 0;

	*ret = inode_get(v, CACHE_ROOT_INO);
	while (!err && (slash = strchr(path, '/'))) {
		*slash = 0;
		err = enter(v, ret, path);
		*slash = '/';
		path = slash + 1;
	}
	if (name)
		*name = path;
	return err;
}

static int bring(struct vfs *v, char *path, enum predict_result *result,
		 uint64_t *bytes)
{
	struct inode *dir;
	char *name;
	int err = open_folder(v, path, &dir, &name);

	if (!err)
		err = bring_name(v, dir, name, result, bytes);
	inode_put(v, dir);
	return err;
}

/* ---- jobs ---- */

static void pump(struct ahead *a);

/* What is brought must not drive out of the cache what was read before, nor
 * itself. */
static void learn_size_locked(struct ahead *a, uint64_t bytes) REQUIRES(a->lock)
{
	a->mean = a->mean ? (a->mean * 7 + bytes) / 8 : bytes;
	if (a->v->config.ahead_bytes && a->mean)
		predict_limit(a->predict, a->v->config.ahead_bytes / a->mean);
}

static void run(struct task *t)
{
	struct job *j = container_of(t, struct job, task);
	struct ahead *a = j->a;
	enum predict_result result = PREDICT_FETCHED;
	uint64_t bytes = 0;
	bool ending;
	int err = 0;

	mutex_lock(&a->lock);
	ending = a->ending;
	mutex_unlock(&a->lock);
	if (!ending && !fills_pressed(a->v->config.fills))
		err = bring(a->v, j->path, &result, &bytes);
	mutex_lock(&a->lock);
	if (bytes)
		learn_size_locked(a, bytes);
	if (err == -ENOENT)
		result = PREDICT_ABSENT;
	if (!err || err == -ENOENT)
		predict_result(a->predict, j->path, result);
	a->flying--;
	mutex_unlock(&a->lock);
	free(j->path);
	free(j);
	pump(a);
}

static void start(struct ahead *a, void (*fn)(struct task *t), char *path)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->task.run = fn;
	j->a = a;
	j->path = path;
	tasks_submit(a->v->config.tasks, &j->task);
}

/* Reading all of a folder that was never listed ends in names that are not
 * there, a window of them. A listing costs less, and serves later. */
static void list_folder(struct task *t)
{
	struct job *j = container_of(t, struct job, task);
	struct vfs *v = j->a->v;
	const struct vfs_ctx ctx = { 0 };
	struct scan_result listed;
	struct inode *dir;

	if (open_folder(v, j->path, &dir, NULL) == 0 && dir_ttl(v, dir) == 0 &&
	    scan_advance(v, &ctx, dir, LIST_PAGES, "", false, &listed))
		log_debug("ahead", "cannot list %s", j->path);
	inode_put(v, dir);
	free(j->path);
	free(j);
}

/* Whether so many files of one folder were read that it is worth listing. */
static bool count_run_locked(struct ahead *a, const char *path)
	REQUIRES(a->lock)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? slash + 1 - path : 0;
	uint64_t run = hash_bytes(path, len, 0);

	if (run != a->run) {
		a->run = run;
		a->run_files = 0;
	}
	return ++a->run_files == LIST_AFTER &&
	       !listed_folder_locked(a, path, len);
}

static void pump(struct ahead *a)
{
	char *paths[PREDICT_WINDOW];
	unsigned n = 0, room;
	bool idle;

	mutex_lock(&a->lock);
	room = a->v->config.ahead - a->flying;
	if (!a->ending)
		n = predict_take(a->predict, paths,
				 room < PREDICT_WINDOW ? room : PREDICT_WINDOW);
	a->flying += n;
	idle = predict_idle(a->predict);
	atomic_store(&a->busy, !idle);
	mutex_unlock(&a->lock);
	if (idle)
		unread_clear(a->unread);
	for (unsigned i = 0; i < n; i++)
		start(a, run, paths[i]);
}

/* ---- what programs do ---- */

static void note(struct ahead *a, const char *key, bool fresh)
{
	const char *path = key + strlen(a->v->config.prefix);

	mutex_lock(&a->lock);
	predict_note(a->predict, path, fresh);
	bool list = !a->ending && !predict_idle(a->predict) &&
		    count_run_locked(a, path);
	mutex_unlock(&a->lock);
	if (list)
		start(a, list_folder, xstrdup(path));
	pump(a);
}

void ahead_fetched(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->fetched = true;
	mutex_unlock(&v->lock);
}

/* The bytes of a small file came with its name, and may be stored by now. */
static bool is_fresh(struct vfs *v, struct inode *i, struct fill_file *fill)
{
	mutex_lock(&v->lock);
	bool fetched = i->fetched;
	i->fetched = false;
	mutex_unlock(&v->lock);
	return fetched || (fill && !content_complete(fill_content(fill)));
}

void ahead_opened(struct vfs *v, struct inode *i, struct fill_file *fill)
{
	char key[STORE_KEY_MAX + 1];
	struct ahead *a = v->ahead;
	bool fresh = a && is_fresh(v, i, fill);

	if (!a || (!fresh && !atomic_load(&a->busy)))
		return;
	unread_opened(a->unread, i->ino);
	mutex_lock(&v->lock);
	bool shadowed = i->shadowed;
	mutex_unlock(&v->lock);
	if (!shadowed && inode_key(v, i, key) == 0)
		note(a, key, fresh);
}

void ahead_missing(struct vfs *v, struct inode *dir, const char *name)
{
	char key[STORE_KEY_MAX + 1];
	struct ahead *a = v->ahead;

	if (!a || !atomic_load(&a->busy))
		return;
	if (inode_child_key(v, dir, name, false, key) == 0)
		note(a, key, false);
}

/* ---- life ---- */

struct ahead *ahead_create(struct vfs *v)
{
	struct ahead *a;
	struct predict_config c = { .max_window = v->config.ahead,
				    .after = after };

	if (!v->config.ahead)
		return NULL;
	a = xcalloc(1, sizeof(*a));
	a->v = v;
	mutex_init(&a->lock);
	a->unread = unread_create(v->config.ahead);
	c.arg = a;
	a->predict = predict_create(&c);
	return a;
}

void ahead_stop(struct ahead *a)
{
	if (!a)
		return;
	mutex_lock(&a->lock);
	a->ending = true;
	mutex_unlock(&a->lock);
}

void ahead_destroy(struct ahead *a)
{
	if (!a)
		return;
	unread_destroy(a->unread);
	predict_destroy(a->predict);
	mutex_release(&a->lock);
	free(a);
}

void ahead_stats_get(struct ahead *a, struct predict_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!a)
		return;
	mutex_lock(&a->lock);
	predict_stats_get(a->predict, ret);
	mutex_unlock(&a->lock);
}
