/*
 * Listings: a directory's names page by page, and reading them back.
 *
 * meta_dir_begin gives the listing a number higher than any record of the
 * directory bears, pages and puts stamp it, and the sweep of meta_dir_end
 * removes what bears another. The sweep goes in chunks under the directory's
 * stripe, so puts get in between and memory stays small.
 *
 * The directory's own record (complete or not) is dropped by the batch
 * together with its names when the map or memory is full; a listing that
 * lived through that moment has lost pages and ends with -ENOSPC.
 */
#include "cache/meta_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { SWEEP_CHUNK = 4096 };

struct ino_key {
	uint8_t bytes[8];
};

static struct slice ino_slice(struct ino_key *k, uint64_t ino)
{
	record_be64(k->bytes, ino);
	return (struct slice){ k->bytes, sizeof(k->bytes) };
}

static int dir_get(struct view *v, uint64_t ino, struct buf *scratch,
		   struct record_dir *ret)
{
	struct ino_key k;
	int err = view_get(v, KV_DIR, ino_slice(&k, ino), scratch);

	if (!err)
		err = record_dir_decode(scratch->data, scratch->len, ret);
	if (!err)
		return 0;
	memset(ret, 0, sizeof(*ret));
	return err == -ENOENT || err == -EBADMSG ? 0 : err;
}

static void dir_put(struct meta_op *op, uint64_t ino,
		    const struct record_dir *d)
{
	struct ino_key k;

	buf_reset(&op->scratch);
	record_dir_encode(&op->scratch, d);
	batch_put(op->meta->batch, KV_DIR, ino_slice(&k, ino),
		  (struct slice){ op->scratch.data, op->scratch.len });
}

int meta_dir_get(struct meta *m, uint64_t ino, struct meta_dir *ret)
{
	struct record_dir d;
	struct buf scratch;
	struct view v;
	int err;

	buf_init(&scratch, RECORD_MAX);
	view_begin(&v, m->batch);
	err = dir_get(&v, ino, &scratch, &d);
	view_end(&v);
	buf_release(&scratch);
	*ret = d.dir;
	if (ret->complete_ns < m->distrust_ns)
		ret->complete_ns = 0;
	return err;
}

int meta_dir_forget(struct meta *m, uint64_t ino)
{
	struct record_dir d;
	struct meta_op op;
	int err;

	meta_op_begin(&op, m, ino);
	err = dir_get(&op.view, ino, &op.scratch, &d);
	if (!err && d.dir.complete_ns) {
		d.dir.complete_ns = 0;
		dir_put(&op, ino, &d);
	}
	meta_op_end(&op);
	return err;
}

int meta_dir_changed(struct meta *m, uint64_t ino, int64_t changed_ns)
{
	struct record_dir d;
	struct meta_op op;
	int err;

	meta_op_begin(&op, m, ino);
	err = dir_get(&op.view, ino, &op.scratch, &d);
	if (!err) {
		d.dir.changed_ns = changed_ns;
		dir_put(&op, ino, &d);
	}
	meta_op_end(&op);
	return err;
}

/* ---- a listing ---- */

static int stop_at_first(struct slice key, struct slice val, void *arg)
{
	return 1;
}

static struct listing *listing_of(struct meta_op *op, uint64_t ino)
{
	struct meta *m = op->meta;

	if (op->listing)
		return op->listing;
	op->listing = xcalloc(1, sizeof(*op->listing));
	op->listing->ino = ino;
	mutex_lock(&m->table);
	map_insert(&m->listings, &op->listing->node, hash_u64(ino));
	mutex_unlock(&m->table);
	return op->listing;
}

static int dir_begin(struct meta_op *op, uint64_t ino)
{
	uint64_t forgotten = batch_forgotten(op->meta->batch);
	struct record_dir d;
	struct listing *l;
	struct ino_key k;
	int any, err;

	err = dir_get(&op->view, ino, &op->scratch, &d);
	view_end(&op->view);
	if (err)
		return err;
	any = batch_scan(op->meta->batch, KV_DENTRY, ino_slice(&k, ino),
			 (struct slice){ 0 }, stop_at_first, NULL);
	if (any < 0)
		return any;
	l = listing_of(op, ino);
	d.gen = (d.gen > l->gen ? d.gen : l->gen) + 1;
	l->gen = d.gen;
	l->fresh = !any;
	l->visible = 0;
	l->forgotten = forgotten;
	dir_put(op, ino, &d);
	return 0;
}

int meta_dir_begin(struct meta *m, uint64_t ino, uint32_t *ret_gen)
{
	struct meta_op op;
	int err;

	meta_op_begin(&op, m, ino);
	err = dir_begin(&op, ino);
	if (!err)
		*ret_gen = op.listing->gen;
	meta_op_end(&op);
	return err;
}

/* LIST pages are sorted, so one look at the file may answer for all. */
static void expect_page(struct meta_op *op, struct meta_key *lo,
			struct meta_key *hi, uint64_t ino,
			const struct meta_entry *entries, unsigned n)
{
	const char *min = entries[0].name, *max = min;

	for (unsigned i = 1; i < n; i++) {
		if (strcmp(entries[i].name, min) < 0)
			min = entries[i].name;
		else if (strcmp(entries[i].name, max) > 0)
			max = entries[i].name;
	}
	if (meta_key_init(lo, ino, min) == 0 &&
	    meta_key_init(hi, ino, max) == 0)
		view_expect(&op->view, KV_DENTRY, meta_key_slice(lo),
			    meta_key_slice(hi));
}

/* What the sweep would remove is not kept. */
static bool is_newer(const struct meta_op *op, const struct known *known,
		     const struct meta_rec *rec)
{
	return meta_is_newer(op->meta, known, rec) &&
	       (known->rec.flags & META_STAGED ||
		known->gen == op->listing->gen);
}

static int page_entry(struct meta_op *op, uint64_t ino, struct meta_entry *e)
{
	struct known known;
	struct meta_key k;
	int err = meta_key_init(&k, ino, e->name);

	if (err)
		return err;
	err = meta_op_get(op, meta_key_slice(&k), &known);
	if (!err && is_newer(op, &known, &e->rec)) {
		meta_rec_release(&e->rec);
		e->rec = known.rec;
		return 0;
	}
	if (!err)
		err = meta_op_put(op, meta_key_slice(&k), &known, &e->rec);
	meta_rec_release(&known.rec);
	return err;
}

int meta_dir_page(struct meta *m, uint64_t ino, uint32_t gen,
		  struct meta_entry *entries, unsigned n)
{
	struct meta_key lo, hi;
	struct meta_op op;
	int err = 0;

	if (!n)
		return 0;
	meta_op_begin(&op, m, ino);
	if (!op.listing || op.listing->gen != gen)
		err = -ESTALE;
	else
		expect_page(&op, &lo, &hi, ino, entries, n);
	for (unsigned i = 0; i < n && !err; i++)
		err = page_entry(&op, ino, &entries[i]);
	meta_op_end(&op);
	return err;
}

struct sweep {
	struct meta *meta;
	uint32_t gen;
	unsigned left; /* names until the chunk ends */
	uint64_t visible;
	struct meta_key last;
};

static int sweep_one(struct slice key, struct slice val, void *arg)
{
	struct sweep *s = arg;
	struct record_peek p;

	if (key.n <= sizeof(s->last.bytes)) {
		memcpy(s->last.bytes, key.p, key.n);
		s->last.len = key.n;
	}
	if (record_dentry_peek(val.p, val.n, &p))
		batch_del(s->meta->batch, KV_DENTRY, key);
	else if (p.gen != s->gen &&
		 !meta_is_staged(s->meta, p.flags, p.checked_ns))
		meta_drop(s->meta, key, p.kind, p.ino);
	else
		s->visible += p.kind != META_ABSENT;
	return --s->left == 0;
}

/* 1 while there is more, 0 at the end, or -errno. */
static int sweep_chunk(struct meta *m, uint64_t ino, struct sweep *s)
{
	struct meta_op op;
	struct ino_key k;
	int ret;

	s->left = SWEEP_CHUNK;
	meta_op_begin(&op, m, ino);
	ret = op.listing && op.listing->gen == s->gen ?
		      batch_scan(m->batch, KV_DENTRY, ino_slice(&k, ino),
				 meta_key_slice(&s->last), sweep_one, s) :
		      -ESTALE;
	meta_op_end(&op);
	return ret;
}

static int sweep(struct meta *m, uint64_t ino, uint32_t gen,
		 uint64_t *ret_visible)
{
	struct sweep s = { .meta = m, .gen = gen };
	int ret;

	do {
		ret = sweep_chunk(m, ino, &s);
	} while (ret > 0);
	*ret_visible = s.visible;
	return ret;
}

static void listing_end(struct meta_op *op)
{
	struct meta *m = op->meta;

	mutex_lock(&m->table);
	map_remove(&m->listings, &op->listing->node);
	mutex_unlock(&m->table);
	free(op->listing);
	op->listing = NULL;
}

static int dir_end(struct meta_op *op, uint64_t ino, uint32_t gen,
		   const struct meta_dir *dir)
{
	struct record_dir d = { .dir = *dir, .gen = gen }, before;

	if (!op->listing || op->listing->gen != gen)
		return -ESTALE;
	if (dir_get(&op->view, ino, &op->scratch, &before) == 0)
		d.dir.changed_ns = before.dir.changed_ns;
	if (op->listing->fresh)
		d.dir.entries = op->listing->visible;
	if (op->listing->forgotten == batch_forgotten(op->meta->batch)) {
		dir_put(op, ino, &d);
		listing_end(op);
		return 0;
	}
	listing_end(op);
	return -ENOSPC;
}

static bool is_fresh(struct meta *m, uint64_t ino, uint32_t gen)
{
	struct meta_op op;
	bool fresh;

	meta_op_begin(&op, m, ino);
	fresh = op.listing && op.listing->gen == gen && op.listing->fresh;
	meta_op_end(&op);
	return fresh;
}

int meta_dir_end(struct meta *m, uint64_t ino, uint32_t gen, int64_t started_ns,
		 uint64_t hidden)
{
	struct meta_dir dir = { .complete_ns = started_ns, .hidden = hidden };
	struct meta_op op;
	int err = 0;

	if (!is_fresh(m, ino, gen))
		err = sweep(m, ino, gen, &dir.entries);
	if (err)
		return err;
	meta_op_begin(&op, m, ino);
	err = dir_end(&op, ino, gen, &dir);
	meta_op_end(&op);
	return err;
}

/* ---- a listing at one go ---- */

static int nothing_known(struct meta_op *op, uint64_t ino,
			 struct record_dir *ret)
{
	struct ino_key k;
	int any, err = dir_get(&op->view, ino, &op->scratch, ret);

	view_end(&op->view);
	if (err)
		return err;
	if (op->listing || ret->dir.complete_ns)
		return -EEXIST;
	any = batch_scan(op->meta->batch, KV_DENTRY, ino_slice(&k, ino),
			 (struct slice){ 0 }, stop_at_first, NULL);
	return any > 0 ? -EEXIST : any;
}

static int fill(struct meta_op *op, uint64_t ino, struct meta_entry *entries,
		unsigned n, struct record_dir *d)
{
	uint64_t forgotten = batch_forgotten(op->meta->batch);
	struct meta_key k;
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++) {
		struct known none = { .gen = d->gen };

		err = meta_key_init(&k, ino, entries[i].name);
		if (!err)
			err = meta_op_put(op, meta_key_slice(&k), &none,
					  &entries[i].rec);
	}
	if (!err && forgotten != batch_forgotten(op->meta->batch))
		err = -ENOSPC;
	if (!err && d->dir.complete_ns)
		dir_put(op, ino, d);
	return err;
}

int meta_dir_fill(struct meta *m, uint64_t ino, struct meta_entry *entries,
		  unsigned n, int64_t complete_ns, uint64_t hidden)
{
	struct record_dir d;
	struct meta_op op;
	int err;

	meta_op_begin(&op, m, ino);
	err = nothing_known(&op, ino, &d);
	if (!err) {
		d.dir.complete_ns = complete_ns;
		d.dir.entries = n;
		d.dir.hidden = hidden;
		err = fill(&op, ino, entries, n, &d);
	}
	meta_op_end(&op);
	return err;
}

/* ---- reading back ---- */

struct lister {
	struct meta_entry *entries;
	unsigned n, max;
	int64_t distrust_ns;
};

static int list_one(struct slice key, struct slice val, void *arg)
{
	struct lister *l = arg;
	struct meta_entry *e = &l->entries[l->n];
	size_t len = key.n - 8;
	uint32_t gen;

	if (len > CACHE_NAME_MAX ||
	    record_dentry_decode(val.p, val.n, &e->rec, &gen))
		return 0;
	if (e->rec.kind == META_ABSENT) {
		meta_rec_release(&e->rec);
		return 0;
	}
	if (e->rec.checked_ns < l->distrust_ns)
		e->rec.checked_ns = 0;
	memcpy(e->name, (const char *)key.p + 8, len);
	e->name[len] = 0;
	return ++l->n == l->max;
}

int meta_list(struct meta *m, uint64_t ino, const char *after,
	      struct meta_entry *entries, unsigned max)
{
	struct lister l = { .entries = entries,
			    .max = max,
			    .distrust_ns = m->distrust_ns };
	struct meta_key from = { .len = 0 };
	struct ino_key k;
	int err = 0;

	if (!max)
		return 0;
	if (after && *after)
		err = meta_key_init(&from, ino, after);
	if (err)
		return err;
	err = batch_scan(m->batch, KV_DENTRY, ino_slice(&k, ino),
			 meta_key_slice(&from), list_one, &l);
	if (err >= 0)
		return (int)l.n;
	while (l.n)
		meta_rec_release(&entries[--l.n].rec);
	return err;
}

/* ---- what directories left behind ---- */

static int collect_one(struct slice key, struct slice val, void *arg)
{
	struct sweep *s = arg;
	struct record_peek p;

	if (record_dentry_peek(val.p, val.n, &p))
		p = (struct record_peek){ .kind = META_ABSENT };
	meta_drop(s->meta, key, p.kind, p.ino);
	return --s->left == 0;
}

static int garbage_one(struct slice key, struct slice val, void *arg)
{
	if (key.n != 9)
		return 0;
	*(uint64_t *)arg = record_get_be64((const uint8_t *)key.p + 1);
	return 1;
}

bool meta_collect(struct meta *m)
{
	struct sweep s = { .meta = m, .left = SWEEP_CHUNK };
	uint8_t note[9] = { 'g' };
	struct ino_key k;
	uint64_t ino;
	int ret;

	ret = batch_scan(m->batch, KV_STATE, (struct slice){ note, 1 },
			 (struct slice){ 0 }, garbage_one, &ino);
	if (ret <= 0)
		return false;
	ret = batch_scan(m->batch, KV_DENTRY, ino_slice(&k, ino),
			 (struct slice){ 0 }, collect_one, &s);
	if (ret)
		return ret > 0;
	record_be64(note + 1, ino);
	batch_del(m->batch, KV_DIR, ino_slice(&k, ino));
	batch_del(m->batch, KV_STATE, (struct slice){ note, sizeof(note) });
	return true;
}
