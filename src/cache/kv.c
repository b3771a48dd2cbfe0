/*
 * LMDB, and the only file that knows it. LMDB because its readers never
 * block and never copy, a crash needs no recovery, and a file of gigabytes
 * costs page cache rather than heap.
 *
 * Its map must be sized in advance and may be resized only while no
 * transaction runs in this process. Mapping the ceiling (possibly terabytes)
 * at once would fail under address-space limits, so the map starts small and
 * doubles; a read-write lock around all scopes gives the quiet moment.
 *
 * MDB_NOMETASYNC: a commit syncs its pages, and the root that names them is
 * synced by the next commit. MDB_WRITEMAP would be faster and lets a stray
 * pointer destroy the file; MDB_NOSYNC would let a power cut do so.
 * MDB_NORDAHEAD: lookups are random, reading ahead wastes the page cache.
 *
 * A new read transaction takes LMDB's table of readers with a lock that all
 * processes share; a finished one keeps its place there and is used again.
 *
 * An insert behind the last key of a table is done with MDB_APPEND: LMDB then
 * starts a new page instead of splitting the last one in halves, which makes
 * the file of a bucket walked in order half as long.
 */
#include "cache/kv.h"

#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/kv_check.h"
#include "cache/kv_map.h"

static const uint64_t MAP_START = 64ull << 20;
static const uint64_t MAP_MIN = 1ull << 20;
static const uint64_t CHECK_ALWAYS = 128ull << 20; /* takes 50 ms */
static const unsigned MAX_READERS = 510;

enum { IDLE_READS = 16 };

static const char *const table_names[KV_TABLES] = {
	[KV_STATE] = "state",
	[KV_DENTRY] = "dentry",
	[KV_DIR] = "dir",
	[KV_EXTENT] = "extent",
};

struct kv {
	MDB_env *env;
	MDB_dbi tables[KV_TABLES];
	/* Scopes hold it for reading; whoever changes the map's size, for
	 * writing. Inside it LMDB's own writer lock. */
	pthread_rwlock_t resize;
	uint64_t ceiling;
	int fd; /* LMDB's own, for fstat */
	struct kv_map map; /* guarded by resize */
	MDB_txn *idle[IDLE_READS]; /* atomic: reset read transactions */
};

static int to_errno(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -EFBIG;
	case MDB_READERS_FULL:
	case MDB_TXN_FULL:
		return -ENOMEM;
	case EDQUOT:
	case EFBIG: /* RLIMIT_FSIZE */
		return -ENOSPC;
	default:
		return rc > 0 ? -rc : -EUCLEAN;
	}
}

static MDB_val to_val(struct slice s)
{
	return (MDB_val){ .mv_size = s.n, .mv_data = (void *)s.p };
}

static struct slice to_slice(const MDB_val *v)
{
	return (struct slice){ .p = v->mv_data, .n = v->mv_size };
}

/* ---- opening ---- */

static void init_resize_lock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	/* glibc's default lets a stream of readers starve the writer. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static int open_tables(struct kv *kv)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(kv->env, NULL, 0, &txn);

	if (rc)
		return to_errno(rc);
	for (int i = 0; i < KV_TABLES; i++) {
		rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE,
				  &kv->tables[i]);
		if (rc) {
			mdb_txn_abort(txn);
			return to_errno(rc);
		}
	}
	return to_errno(mdb_txn_commit(txn));
}

/* A file shorter than its root says would end in SIGBUS at some later read
 * through the mapping. */
static int check_length(struct kv *kv)
{
	MDB_envinfo info;
	MDB_stat st;
	struct stat file;
	int rc = mdb_env_info(kv->env, &info);

	if (!rc)
		rc = mdb_env_stat(kv->env, &st);
	if (rc)
		return to_errno(rc);
	if (fstat(kv->fd, &file))
		return -errno;
	/* A fresh environment names two root pages before they are written. */
	if (info.me_last_txnid &&
	    (uint64_t)file.st_size < (info.me_last_pgno + 1) * st.ms_psize)
		return -EUCLEAN;
	return 0;
}

/* A new file begins with nothing; LMDB takes any file shorter than a root
 * page for new and would overwrite a cut one silently, which is fine, but a
 * longer one must be whole. */
static int check_before(const char *path, uint64_t *ret_bytes)
{
	struct stat st;

	*ret_bytes = 0;
	if (stat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static uint64_t first_size(uint64_t file_bytes, uint64_t ceiling)
{
	uint64_t size = MAP_START < ceiling ? MAP_START : ceiling;

	while (size < file_bytes + file_bytes / 4)
		size *= 2;
	return size;
}

static int open_env(struct kv *kv, const char *path, uint64_t file_bytes)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOMETASYNC | MDB_NOTLS |
			 MDB_NORDAHEAD;
	int rc = mdb_env_create(&kv->env);

	if (rc)
		return to_errno(rc);
	rc = mdb_env_set_maxdbs(kv->env, KV_TABLES);
	if (!rc)
		rc = mdb_env_set_maxreaders(kv->env, MAX_READERS);
	if (!rc)
		rc = mdb_env_set_mapsize(kv->env,
					 first_size(file_bytes, kv->ceiling));
	if (!rc)
		rc = mdb_env_open(kv->env, path, flags, 0600);
	if (!rc)
		rc = mdb_env_get_fd(kv->env, &kv->fd);
	return to_errno(rc);
}

int kv_open(const char *path, uint64_t ceiling, bool doubt, struct kv **ret)
{
	struct kv *kv = xcalloc(1, sizeof(*kv));
	uint64_t bytes;
	int err;

	kv->ceiling = ceiling < MAP_MIN ? MAP_MIN : ceiling;
	init_resize_lock(&kv->resize);
	err = check_before(path, &bytes);
	if (!err && (doubt || bytes <= CHECK_ALWAYS))
		err = kv_check(path);
	if (!err)
		err = open_env(kv, path, bytes);
	if (!err)
		err = check_length(kv);
	if (!err)
		err = open_tables(kv);
	if (!err)
		kv_map_find(&kv->map, kv->fd);
	if (err) {
		kv_close(kv);
		return err;
	}
	*ret = kv;
	return 0;
}

void kv_close(struct kv *kv)
{
	if (!kv)
		return;
	for (int i = 0; i < IDLE_READS; i++)
		if (kv->idle[i])
			mdb_txn_abort(kv->idle[i]);
	if (kv->env)
		mdb_env_close(kv->env);
	pthread_rwlock_destroy(&kv->resize);
	free(kv);
}

/* ---- size ---- */

static int resize(struct kv *kv, bool reserve)
{
	uint64_t top = kv->ceiling + (reserve ? kv->ceiling / 8 : 0);
	MDB_envinfo info;
	uint64_t size;
	int rc = mdb_env_info(kv->env, &info);

	if (rc)
		return to_errno(rc);
	if (info.me_mapsize >= top)
		return -EFBIG;
	size = info.me_mapsize * 2 < top ? info.me_mapsize * 2 : top;
	rc = mdb_env_set_mapsize(kv->env, size);
	kv_map_find(&kv->map, kv->fd);
	return to_errno(rc);
}

int kv_grow(struct kv *kv, bool reserve)
{
	int err;

	pthread_rwlock_wrlock(&kv->resize);
	err = resize(kv, reserve);
	pthread_rwlock_unlock(&kv->resize);
	return err;
}

uint64_t kv_file_bytes(struct kv *kv)
{
	struct stat st;

	return fstat(kv->fd, &st) ? 0 : (uint64_t)st.st_size;
}

uint64_t kv_entries(struct kv *kv, enum kv_table table)
{
	struct kv_read r;
	MDB_stat st;
	int rc;

	if (kv_read_begin(kv, &r))
		return 0;
	rc = mdb_stat(r.txn, kv->tables[table], &st);
	kv_read_end(&r);
	return rc ? 0 : st.ms_entries;
}

/* ---- reading ---- */

/* A thread's second scope inside its first would wait for whoever wants to
 * resize, who waits for the first. */
static __thread bool in_scope;

static void leave(struct kv *kv)
{
	in_scope = false;
	pthread_rwlock_unlock(&kv->resize);
}

static void enter(struct kv *kv)
{
	BUG_ON(in_scope);
	pthread_rwlock_rdlock(&kv->resize);
	in_scope = true;
}

/* Threads look in different places first. */
static unsigned first_slot(void)
{
	static unsigned next;
	static __thread unsigned mine;

	if (!mine)
		mine = __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
	return mine;
}

static MDB_txn *idle_take(struct kv *kv)
{
	unsigned slot = first_slot();
	MDB_txn *txn = NULL;

	for (unsigned i = 0; i < IDLE_READS && !txn; i++)
		txn = __atomic_exchange_n(&kv->idle[(slot + i) % IDLE_READS],
					  NULL, __ATOMIC_ACQUIRE);
	return txn;
}

static void idle_put(struct kv *kv, MDB_txn *txn)
{
	unsigned slot = first_slot();

	mdb_txn_reset(txn);
	for (unsigned i = 0; i < IDLE_READS && txn; i++) {
		MDB_txn *none = NULL;

		if (__atomic_compare_exchange_n(
			    &kv->idle[(slot + i) % IDLE_READS], &none, txn,
			    false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			txn = NULL;
	}
	if (txn)
		mdb_txn_abort(txn);
}

int kv_read_begin(struct kv *kv, struct kv_read *ret)
{
	MDB_txn *txn;
	int rc;

	enter(kv);
	txn = idle_take(kv);
	if (txn) {
		rc = mdb_txn_renew(txn);
		if (rc)
			mdb_txn_abort(txn);
	} else {
		rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
	}
	if (rc) {
		leave(kv);
		return to_errno(rc);
	}
	ret->kv = kv;
	ret->txn = txn;
	return 0;
}

void kv_read_end(struct kv_read *r)
{
	idle_put(r->kv, r->txn);
	r->txn = NULL;
	kv_map_trim(&r->kv->map);
	leave(r->kv);
}

int kv_get(struct kv_read *r, enum kv_table table, struct slice key,
	   struct slice *ret)
{
	MDB_val k = to_val(key), v;
	int rc = mdb_get(r->txn, r->kv->tables[table], &k, &v);

	if (!rc)
		*ret = to_slice(&v);
	return to_errno(rc);
}

int kv_cursor_open(struct kv_read *r, enum kv_table table,
		   struct kv_cursor *ret)
{
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(r->txn, r->kv->tables[table], &cursor);

	if (!rc)
		ret->cursor = cursor;
	return to_errno(rc);
}

void kv_cursor_close(struct kv_cursor *c)
{
	mdb_cursor_close(c->cursor);
	c->cursor = NULL;
}

static int cursor_get(struct kv_cursor *c, MDB_cursor_op op, MDB_val key,
		      struct slice *ret_key, struct slice *ret_val)
{
	MDB_val val;
	int rc = mdb_cursor_get(c->cursor, &key, &val, op);

	if (rc)
		return to_errno(rc);
	*ret_key = to_slice(&key);
	*ret_val = to_slice(&val);
	return 0;
}

int kv_cursor_seek(struct kv_cursor *c, struct slice from,
		   struct slice *ret_key, struct slice *ret_val)
{
	return cursor_get(c, MDB_SET_RANGE, to_val(from), ret_key, ret_val);
}

int kv_cursor_next(struct kv_cursor *c, struct slice *ret_key,
		   struct slice *ret_val)
{
	return cursor_get(c, MDB_NEXT, (MDB_val){ 0 }, ret_key, ret_val);
}

/* ---- writing ---- */

int kv_write_begin(struct kv *kv, struct kv_write *ret)
{
	MDB_txn *txn;
	int rc;

	memset(ret, 0, sizeof(*ret));
	enter(kv);
	rc = mdb_txn_begin(kv->env, NULL, 0, &txn);
	if (rc) {
		leave(kv);
		return to_errno(rc);
	}
	ret->kv = kv;
	ret->txn = txn;
	return 0;
}

static int write_cursor(struct kv_write *w, enum kv_table table,
			MDB_cursor **ret)
{
	MDB_cursor *cursor = w->cursor[table];
	int rc = 0;

	if (!cursor) {
		rc = mdb_cursor_open(w->txn, w->kv->tables[table], &cursor);
		w->cursor[table] = rc ? NULL : cursor;
	}
	*ret = cursor;
	return rc;
}

static void close_cursor(struct kv_write *w, enum kv_table table)
{
	if (w->cursor[table])
		mdb_cursor_close(w->cursor[table]);
	w->cursor[table] = NULL;
}

static bool is_behind_last(struct kv_write *w, enum kv_table table,
			   MDB_cursor *cursor, const MDB_val *key)
{
	MDB_val k, v;
	int rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);

	return rc == MDB_NOTFOUND ||
	       (!rc && mdb_cmp(w->txn, w->kv->tables[table], key, &k) > 0);
}

int kv_put(struct kv_write *w, enum kv_table table, struct slice key,
	   struct slice val)
{
	MDB_val k = to_val(key), v = to_val(val);
	MDB_cursor *cursor;
	unsigned flags;
	int rc = write_cursor(w, table, &cursor);

	if (rc)
		return to_errno(rc);
	flags = is_behind_last(w, table, cursor, &k) ? MDB_APPEND : 0;
	return to_errno(mdb_cursor_put(cursor, &k, &v, flags));
}

int kv_del(struct kv_write *w, enum kv_table table, struct slice key)
{
	MDB_val k = to_val(key);
	int rc = mdb_del(w->txn, w->kv->tables[table], &k, NULL);

	return rc == MDB_NOTFOUND ? 0 : to_errno(rc);
}

int kv_drop(struct kv_write *w, enum kv_table table)
{
	close_cursor(w, table);
	return to_errno(mdb_drop(w->txn, w->kv->tables[table], 0));
}

int kv_commit(struct kv_write *w)
{
	int rc;

	for (int i = 0; i < KV_TABLES; i++)
		close_cursor(w, i);
	rc = mdb_txn_commit(w->txn);
	w->txn = NULL;
	leave(w->kv);
	return to_errno(rc);
}

void kv_abort(struct kv_write *w)
{
	for (int i = 0; i < KV_TABLES; i++)
		close_cursor(w, i);
	mdb_txn_abort(w->txn);
	w->txn = NULL;
	leave(w->kv);
}

int kv_sync(struct kv *kv)
{
	int rc;

	pthread_rwlock_rdlock(&kv->resize);
	rc = mdb_env_sync(kv->env, 1);
	pthread_rwlock_unlock(&kv->resize);
	return to_errno(rc);
}
