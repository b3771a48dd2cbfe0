/*
 * Names over the write-behind batch.
 *
 * A put reads the known record, merges and writes: locks striped by directory
 * make that one step. Gets and lists take no lock here.
 *
 * Listings. Every record carries the number of the listing that last saw it.
 * While a listing runs, a `struct listing` in memory says its number, and
 * meta_put stamps with it too; the sweep at the end removes what bears an
 * older one. The road not taken is a set of the names seen: a directory has
 * up to millions. When nothing was known of a directory as its listing began
 * (the usual case, a first visit), there is nothing to sweep and the sweep is
 * left out; that needs a count of the names put meanwhile.
 *
 * Directories that disappear leave their subtree behind. It is unreachable,
 * so its removal is put off: a note in KV_STATE ("g" + inode), worked off by
 * meta_collect in the background.
 */
#include "cache/meta_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { NS_PER_S = 1000000000 };

struct slice meta_key_slice(const struct meta_key *k)
{
	return (struct slice){ k->bytes, k->len };
}

int meta_key_init(struct meta_key *k, uint64_t parent, const char *name)
{
	size_t n = strnlen(name, CACHE_NAME_MAX + 1);

	if (!n)
		return -EINVAL;
	if (n > CACHE_NAME_MAX)
		return -ENAMETOOLONG;
	record_be64(k->bytes, parent);
	memcpy(k->bytes + 8, name, n);
	k->len = 8 + n;
	return 0;
}

/* ---- life ---- */

static bool listing_equal(const struct map_node *node, const void *key)
{
	const struct listing *l = container_of(node, struct listing, node);

	return l->ino == *(const uint64_t *)key;
}

struct meta *meta_create(struct batch *batch, uint64_t next_ino,
			 uint64_t next_cid)
{
	struct meta *m = xcalloc(1, sizeof(*m));

	m->batch = batch;
	m->started_ns = clock_wall_ns();
	m->next_ino = next_ino > CACHE_ROOT_INO ? next_ino : CACHE_ROOT_INO + 1;
	m->next_cid = next_cid ? next_cid : 1;
	for (int i = 0; i < META_STRIPES; i++)
		mutex_init(&m->stripes[i]);
	mutex_init(&m->table);
	map_init(&m->listings, listing_equal);
	return m;
}

static void free_listing(struct map_node *node, void *arg)
{
	map_remove(arg, node);
	free(container_of(node, struct listing, node));
}

void meta_destroy(struct meta *m)
{
	if (!m)
		return;
	map_each(&m->listings, free_listing, &m->listings);
	map_release(&m->listings);
	for (int i = 0; i < META_STRIPES; i++)
		mutex_release(&m->stripes[i]);
	mutex_release(&m->table);
	free(m);
}

uint64_t meta_new_ino(struct meta *m)
{
	return __atomic_fetch_add(&m->next_ino, 1, __ATOMIC_RELAXED);
}

uint64_t meta_new_cid(struct meta *m)
{
	return __atomic_fetch_add(&m->next_cid, 1, __ATOMIC_RELAXED);
}

void meta_distrust(struct meta *m, int64_t before_ns)
{
	m->distrust_ns = before_ns;
}

bool meta_is_staged(const struct meta *m, uint8_t flags, int64_t checked_ns)
{
	return flags & META_STAGED && checked_ns >= m->started_ns;
}

void meta_numbers(struct meta *m, uint64_t *next_ino, uint64_t *next_cid)
{
	*next_ino = __atomic_load_n(&m->next_ino, __ATOMIC_RELAXED);
	*next_cid = __atomic_load_n(&m->next_cid, __ATOMIC_RELAXED);
}

void meta_rec_release(struct meta_rec *rec)
{
	free(rec->blob);
	rec->blob = NULL;
	rec->blob_len = 0;
}

int meta_flush(struct meta *m)
{
	return batch_flush(m->batch);
}

/* ---- an operation ---- */

void meta_op_begin(struct meta_op *op, struct meta *m, uint64_t dir) UNCHECKED
{
	struct map_node *node;
	uint64_t hash = hash_u64(dir);

	batch_room(m->batch);
	op->meta = m;
	op->stripe = &m->stripes[hash % META_STRIPES];
	op->changes = &m->changes[hash % META_STRIPES];
	buf_init(&op->scratch, RECORD_MAX);
	view_begin(&op->view, m->batch);
	mutex_lock(op->stripe);
	mutex_lock(&m->table);
	node = map_find(&m->listings, hash, &dir);
	mutex_unlock(&m->table);
	op->listing = node ? container_of(node, struct listing, node) : NULL;
}

void meta_op_end(struct meta_op *op) UNCHECKED
{
	mutex_unlock(op->stripe);
	view_end(&op->view);
	buf_release(&op->scratch);
}

/* A record that makes no sense counts as none. */
static int get(struct view *v, struct slice key, struct buf *scratch,
	       struct meta_rec *ret, uint32_t *gen)
{
	int err = view_get(v, KV_DENTRY, key, scratch);

	if (!err)
		err = record_dentry_decode(scratch->data, scratch->len, ret,
					   gen);
	return err == -EBADMSG ? -ENOENT : err;
}

int meta_op_get(struct meta_op *op, struct slice key, struct known *ret)
{
	int err = get(&op->view, key, &op->scratch, &ret->rec, &ret->gen);

	if (err)
		memset(ret, 0, sizeof(*ret));
	ret->exists = !err;
	return err == -ENOENT ? 0 : err;
}

static void changed(struct meta_op *op)
{
	__atomic_fetch_add(op->changes, 1, __ATOMIC_RELEASE);
}

uint64_t meta_changes(struct meta *m, uint64_t ino)
{
	return __atomic_load_n(&m->changes[hash_u64(ino) % META_STRIPES],
			       __ATOMIC_ACQUIRE);
}

static int store(struct meta_op *op, struct slice key,
		 const struct meta_rec *rec, uint32_t gen)
{
	buf_reset(&op->scratch);
	record_dentry_encode(&op->scratch, rec, gen);
	if (op->scratch.failed)
		return -E2BIG;
	batch_put(op->meta->batch, KV_DENTRY, key,
		  (struct slice){ op->scratch.data, op->scratch.len });
	return 0;
}

static bool is_visible(const struct meta_rec *rec)
{
	return rec->kind != META_ABSENT;
}

/* A time yet to come is of a clock that was set back since. */
bool meta_is_newer(const struct meta *m, const struct known *known,
		   const struct meta_rec *rec)
{
	int64_t checked_ns = known->rec.checked_ns;

	return known->exists &&
	       (meta_is_staged(m, known->rec.flags, checked_ns) ||
		(checked_ns > rec->checked_ns &&
		 checked_ns <= clock_wall_ns()));
}

static bool same_version(const struct meta_rec *a, const struct meta_rec *b)
{
	return a->kind == b->kind && a->size == b->size &&
	       strcmp(a->etag, b->etag) == 0;
}

bool meta_same_time(uint8_t flags, int64_t mtime_ns, int64_t ns)
{
	if (flags & META_STORED)
		return ns < mtime_ns + NS_PER_S;
	if (mtime_ns % NS_PER_S == 0 || ns % NS_PER_S == 0)
		return mtime_ns / NS_PER_S == ns / NS_PER_S;
	return mtime_ns == ns;
}

static bool same_headers(const struct meta_rec *rec, const struct meta_rec *old)
{
	return rec->kind != META_FILE ||
	       meta_same_time(old->flags, old->mtime_ns, rec->mtime_ns);
}

static bool lacks_headers(const struct meta_rec *rec,
			  const struct meta_rec *other)
{
	return !(rec->flags & META_HAS_HEADERS) &&
	       other->flags & META_HAS_HEADERS;
}

static void take_headers(struct meta_rec *rec, struct meta_rec *from,
			 uint8_t flag)
{
	free(rec->blob);
	rec->flags &= ~META_OLD_HEADERS;
	rec->flags |= flag;
	rec->blob_len = from->blob_len;
	rec->blob = TAKE(from->blob);
}

/* Completes rec by what is known: its number, and for the same version of the
 * object the cid and the blob (taken from known). */
static void merge(struct meta *m, struct meta_rec *rec, struct known *known)
{
	struct meta_rec *old = &known->rec;
	bool same_kind = known->exists && old->kind == rec->kind;

	if (!rec->ino && same_kind)
		rec->ino = old->ino;
	if (!rec->ino && is_visible(rec))
		rec->ino = meta_new_ino(m);
	if (!known->exists || !same_version(rec, old))
		return;
	if (!rec->cid)
		rec->cid = old->cid;
	if (lacks_headers(rec, old) && same_headers(rec, old))
		take_headers(rec, old, META_HAS_HEADERS);
	else if (!(rec->flags & META_HAS_HEADERS) &&
		 old->flags & (META_HAS_HEADERS | META_OLD_HEADERS))
		take_headers(rec, old, META_OLD_HEADERS);
}

static void count(struct listing *l, const struct known *known,
		  bool visible_now)
{
	bool was = known->exists && known->gen == l->gen &&
		   is_visible(&known->rec);

	l->visible += visible_now;
	l->visible -= was;
}

static void note_garbage(struct meta *m, uint64_t ino)
{
	uint8_t key[9] = { 'g' };

	record_be64(key + 1, ino);
	batch_put(m->batch, KV_STATE, (struct slice){ key, sizeof(key) },
		  (struct slice){ key, 1 });
}

int meta_op_put(struct meta_op *op, struct slice key, struct known *known,
		struct meta_rec *rec)
{
	struct listing *l = op->listing;
	bool was_dir = known->exists && known->rec.kind == META_DIR;
	int err;

	merge(op->meta, rec, known);
	err = store(op, key, rec, l ? l->gen : known->gen);
	if (err)
		return err;
	if (l)
		count(l, known, is_visible(rec));
	if (was_dir && known->rec.ino != rec->ino)
		note_garbage(op->meta, known->rec.ino);
	return 0;
}

void meta_drop(struct meta *m, struct slice key, uint8_t kind, uint64_t ino)
{
	batch_del(m->batch, KV_DENTRY, key);
	if (kind == META_DIR)
		note_garbage(m, ino);
}

/* ---- single names ---- */

int meta_get(struct meta *m, uint64_t parent, const char *name,
	     struct meta_rec *ret)
{
	struct meta_key k;
	struct buf scratch;
	struct view v;
	uint32_t gen;
	int err = meta_key_init(&k, parent, name);

	if (err)
		return err;
	buf_init(&scratch, RECORD_MAX);
	view_begin(&v, m->batch);
	err = get(&v, meta_key_slice(&k), &scratch, ret, &gen);
	if (!err && ret->checked_ns < m->distrust_ns)
		ret->checked_ns = 0;
	view_end(&v);
	buf_release(&scratch);
	return err;
}

static void own_blob(struct meta_rec *rec)
{
	const void *borrowed = rec->blob;

	rec->blob = NULL;
	if (!rec->blob_len)
		return;
	rec->blob = xmalloc(rec->blob_len);
	memcpy(rec->blob, borrowed, rec->blob_len);
}

/* What is known stays; rec becomes it. */
static int keep_known(struct meta_op *op, struct slice key, struct known *known,
		      struct meta_rec *rec)
{
	struct meta_rec *old = &known->rec;
	int err = 0;

	if (same_version(old, rec) && lacks_headers(old, rec) &&
	    same_headers(rec, old)) {
		take_headers(old, rec, META_HAS_HEADERS);
		err = store(op, key, old, known->gen);
	}
	meta_rec_release(rec);
	*rec = *old;
	old->blob = NULL;
	return err;
}

static int put(struct meta *m, uint64_t parent, const char *name,
	       const struct meta_rec *rec, bool answer, struct meta_rec *ret)
{
	struct meta_rec merged = *rec;
	struct known known;
	struct meta_op op;
	struct meta_key k;
	int err = meta_key_init(&k, parent, name);

	if (err)
		return err;
	own_blob(&merged);
	meta_op_begin(&op, m, parent);
	err = meta_op_get(&op, meta_key_slice(&k), &known);
	if (!err && answer && meta_is_newer(m, &known, rec))
		err = keep_known(&op, meta_key_slice(&k), &known, &merged);
	else if (!err)
		err = meta_op_put(&op, meta_key_slice(&k), &known, &merged);
	changed(&op);
	meta_op_end(&op);
	meta_rec_release(&known.rec);
	if (!err && ret)
		*ret = merged;
	else
		meta_rec_release(&merged);
	return err;
}

int meta_put(struct meta *m, uint64_t parent, const char *name,
	     const struct meta_rec *rec, struct meta_rec *ret)
{
	return put(m, parent, name, rec, false, ret);
}

int meta_learn(struct meta *m, uint64_t parent, const char *name,
	       const struct meta_rec *rec, struct meta_rec *ret)
{
	return put(m, parent, name, rec, true, ret);
}

int meta_del(struct meta *m, uint64_t parent, const char *name)
{
	struct known known;
	struct meta_op op;
	struct meta_key k;
	int err = meta_key_init(&k, parent, name);

	if (err)
		return err;
	meta_op_begin(&op, m, parent);
	err = meta_op_get(&op, meta_key_slice(&k), &known);
	if (!err && known.exists) {
		meta_drop(m, meta_key_slice(&k), known.rec.kind, known.rec.ino);
		if (op.listing)
			count(op.listing, &known, false);
	}
	changed(&op);
	meta_op_end(&op);
	meta_rec_release(&known.rec);
	return err;
}

static int give_cid(struct meta_op *op, struct slice key, struct known *known,
		    const char *etag)
{
	struct meta_rec *rec = &known->rec;

	if (!known->exists)
		return -ENOENT;
	if (rec->kind != META_FILE || strcmp(rec->etag, etag) != 0)
		return -ESTALE;
	if (rec->cid)
		return 0;
	rec->cid = meta_new_cid(op->meta);
	return store(op, key, rec, known->gen);
}

int meta_cid(struct meta *m, uint64_t parent, const char *name,
	     const char *etag, uint64_t *ret_cid)
{
	struct known known;
	struct meta_op op;
	struct meta_key k;
	int err = meta_key_init(&k, parent, name);

	if (err)
		return err;
	meta_op_begin(&op, m, parent);
	err = meta_op_get(&op, meta_key_slice(&k), &known);
	if (!err)
		err = give_cid(&op, meta_key_slice(&k), &known, etag);
	meta_op_end(&op);
	if (!err)
		*ret_cid = known.rec.cid;
	meta_rec_release(&known.rec);
	return err;
}

/* The name becomes absent; what was below it lives on elsewhere. */
static int leave(struct meta *m, uint64_t dir, const char *name, int64_t now_ns)
{
	struct meta_rec absent = { .kind = META_ABSENT, .checked_ns = now_ns };
	struct known known;
	struct meta_op op;
	struct meta_key k;
	int err = meta_key_init(&k, dir, name);

	if (err)
		return err;
	meta_op_begin(&op, m, dir);
	err = meta_op_get(&op, meta_key_slice(&k), &known);
	if (!err)
		err = store(&op, meta_key_slice(&k), &absent,
			    op.listing ? op.listing->gen : known.gen);
	if (!err && op.listing)
		count(op.listing, &known, false);
	changed(&op);
	meta_op_end(&op);
	meta_rec_release(&known.rec);
	return err;
}

int meta_move(struct meta *m, uint64_t from_dir, const char *from,
	      uint64_t to_dir, const char *to, int64_t now_ns)
{
	struct meta_rec rec;
	int err = meta_get(m, from_dir, from, &rec);

	if (err)
		return err;
	rec.checked_ns = now_ns;
	err = meta_put(m, to_dir, to, &rec, NULL);
	meta_rec_release(&rec);
	return err ? err : leave(m, from_dir, from, now_ns);
}
