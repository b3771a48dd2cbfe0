/*
 * What readers see: what is pending before what is in the file.
 *
 * They look in the active overlay, the frozen one and the file, in that order;
 * a view whose read scope is older than the last drop of a frozen overlay opens
 * a new one, else an entry could be missed in both places.
 */
#include <string.h>

#include "cache/batch_impl.h"

static bool is_readable_locked(struct batch *b, enum kv_table table)
	REQUIRES(b->lock)
{
	return !b->dead && !(b->masked && NAMES_MASK >> table & 1);
}

static bool is_hidden_locked(struct batch *b, enum kv_table table)
	REQUIRES(b->lock)
{
	return b->hidden && NAMES_MASK >> table & 1;
}

int batch_read_begin(struct batch *b, enum kv_table table, struct kv_read *ret)
{
	bool readable;

	mutex_lock(&b->lock);
	readable = is_readable_locked(b, table);
	mutex_unlock(&b->lock);
	return readable ? kv_read_begin(b->cfg.kv, ret) : -ENOENT;
}

void view_begin(struct view *v, struct batch *b)
{
	memset(v, 0, sizeof(*v));
	v->batch = b;
}

void view_end(struct view *v)
{
	if (v->open)
		kv_read_end(&v->read);
	v->open = false;
	v->hole_lo.n = 0;
}

static int view_open(struct view *v, uint64_t commits)
{
	int err;

	if (v->open && v->commits == commits)
		return 0;
	view_end(v);
	err = kv_read_begin(v->batch->cfg.kv, &v->read);
	if (err)
		return err;
	v->open = true;
	v->commits = commits;
	return 0;
}

static bool has_none(struct kv_read *r, enum kv_table table, struct slice lo,
		     struct slice hi)
{
	struct kv_cursor cursor;
	struct slice key, val;
	int err;

	if (kv_cursor_open(r, table, &cursor))
		return false;
	err = kv_cursor_seek(&cursor, lo, &key, &val);
	kv_cursor_close(&cursor);
	return err == -ENOENT || (!err && slice_cmp(key, hi) > 0);
}

void view_expect(struct view *v, enum kv_table table, struct slice lo,
		 struct slice hi)
{
	struct batch *b = v->batch;
	uint64_t commits;
	bool readable;

	mutex_lock(&b->lock);
	commits = b->commits;
	readable = is_readable_locked(b, table);
	mutex_unlock(&b->lock);
	if (!readable || view_open(v, commits) ||
	    !has_none(&v->read, table, lo, hi))
		return;
	v->hole_table = table;
	v->hole_lo = lo;
	v->hole_hi = hi;
}

static bool in_hole(const struct view *v, enum kv_table table, struct slice key)
{
	return v->hole_lo.n && v->hole_table == table &&
	       slice_cmp(key, v->hole_lo) >= 0 &&
	       slice_cmp(key, v->hole_hi) <= 0;
}

/* 0 and *out; -ENOENT known to be absent; 1: the file decides. */
static int get_pending(struct view *v, enum kv_table table, struct slice key,
		       struct buf *out, uint64_t *commits)
{
	struct batch *b = v->batch;
	struct change *c;
	int ret = 1;

	mutex_lock(&b->lock);
	c = overlay_find(&b->active, table, key);
	if (!c && !is_hidden_locked(b, table))
		c = overlay_find(&b->frozen, table, key);
	if (c) {
		if (!c->deleted)
			buf_add(out, c->val.p, c->val.n);
		ret = c->deleted ? -ENOENT : 0;
	} else if (!is_readable_locked(b, table)) {
		ret = -ENOENT;
	}
	*commits = b->commits;
	mutex_unlock(&b->lock);
	return ret;
}

static int get_stored(struct view *v, enum kv_table table, struct slice key,
		      struct buf *out, uint64_t commits)
{
	struct slice val;
	int err;

	err = view_open(v, commits);
	if (err)
		return err;
	if (in_hole(v, table, key))
		return -ENOENT;
	err = kv_get(&v->read, table, key, &val);
	if (!err)
		buf_add(out, val.p, val.n);
	return err;
}

int view_get(struct view *v, enum kv_table table, struct slice key,
	     struct buf *out)
{
	uint64_t commits;
	int err;

	buf_reset(out);
	err = get_pending(v, table, key, out, &commits);
	if (err == 1)
		err = get_stored(v, table, key, out, commits);
	if (err && err != -ENOENT)
		batch_note_error(v->batch, err);
	return out->failed ? -EBADMSG : err;
}

int batch_get(struct batch *b, enum kv_table table, struct slice key,
	      struct buf *out)
{
	struct view v;
	int err;

	view_begin(&v, b);
	err = view_get(&v, table, key, out);
	view_end(&v);
	return err;
}

static bool under(const struct change *c, enum kv_table table,
		  struct slice prefix)
{
	return c && c->table == table && c->key.n >= prefix.n &&
	       memcmp(c->key.p, prefix.p, prefix.n) == 0;
}

static struct change *first_after(const struct overlay *o, enum kv_table table,
				  struct slice prefix, struct slice after)
{
	struct slice from = after.n ? after : prefix;
	struct change *c = overlay_seek(o, table, from);

	if (c && after.n && c->table == table && !slice_cmp(c->key, after))
		c = c->next[0];
	return under(c, table, prefix) ? c : NULL;
}

void batch_peek(struct batch *b, enum kv_table table, struct slice prefix,
		struct slice after, struct peek *ret)
{
	struct change *a, *f, *c;
	int d;

	ret->n = 0;
	mutex_lock(&b->lock);
	a = first_after(&b->active, table, prefix, after);
	f = is_hidden_locked(b, table) ?
		    NULL :
		    first_after(&b->frozen, table, prefix, after);
	while ((a || f) && ret->n < PEEK_MAX) {
		d = !a ? 1 : !f ? -1 : slice_cmp(a->key, f->key);
		c = d <= 0 ? a : f;
		change_ref(c);
		ret->items[ret->n++] = c;
		if (d <= 0)
			a = under(a->next[0], table, prefix) ? a->next[0] :
							       NULL;
		if (d >= 0)
			f = under(f->next[0], table, prefix) ? f->next[0] :
							       NULL;
	}
	ret->cut = a || f;
	mutex_unlock(&b->lock);
}

void peek_release(struct peek *p)
{
	for (unsigned i = 0; i < p->n; i++)
		change_put(p->items[i]);
	p->n = 0;
}
