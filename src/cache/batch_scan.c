/*
 * Ordered iteration over the file with the pending changes laid over it.
 *
 * The pending entries are copied out first and the read scope is opened
 * after, so an entry that is committed in between is seen in the file or in
 * the copy, or in both with the same key, where the copy wins. Copies are
 * taken PEEK_MAX at a time; a step of the scan goes no further than the last
 * key copied, and the next step takes a newer copy and a newer scope.
 */
#include "cache/batch_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MORE = -ERANGE }; /* internal: the step ended at its horizon */

struct stored {
	struct kv_read read;
	struct kv_cursor cursor;
	struct slice key, val;
	bool readable, have;
};

struct scan {
	struct batch *batch;
	enum kv_table table;
	struct slice prefix;
	batch_fn fn;
	void *arg;
	uint8_t pos[KV_KEY_MAX]; /* the last key done */
	size_t pos_len;
};

static bool begins(struct slice key, struct slice prefix)
{
	return !prefix.n ||
	       (key.n >= prefix.n && !memcmp(key.p, prefix.p, prefix.n));
}

static int stored_next(struct stored *st, struct slice prefix)
{
	int err = kv_cursor_next(&st->cursor, &st->key, &st->val);

	st->have = !err && begins(st->key, prefix);
	return err == -ENOENT ? 0 : err;
}

static int stored_seek(struct stored *st, const struct scan *s)
{
	struct slice pos = { s->pos, s->pos_len };
	int err = kv_cursor_seek(&st->cursor, pos.n ? pos : s->prefix, &st->key,
				 &st->val);

	st->have = !err && begins(st->key, s->prefix);
	if (st->have && pos.n && slice_cmp(st->key, pos) == 0)
		return stored_next(st, s->prefix);
	return err == -ENOENT ? 0 : err;
}

static int stored_open(struct stored *st, const struct scan *s)
{
	int err;

	memset(st, 0, sizeof(*st));
	err = batch_read_begin(s->batch, s->table, &st->read);
	if (err == -ENOENT)
		return 0;
	if (err)
		return err;
	err = kv_cursor_open(&st->read, s->table, &st->cursor);
	if (err) {
		kv_read_end(&st->read);
		return err;
	}
	st->readable = true;
	return stored_seek(st, s);
}

static void stored_close(struct stored *st)
{
	if (!st->readable)
		return;
	kv_cursor_close(&st->cursor);
	kv_read_end(&st->read);
	st->readable = false;
}

static int emit(struct scan *s, struct slice key, struct slice val)
{
	BUG_ON(key.n > sizeof(s->pos));
	memcpy(s->pos, key.p, key.n);
	s->pos_len = key.n;
	return s->fn(key, val, s->arg);
}

/* The pending entry c and the stored one, if they are the same key. */
static int emit_pending(struct scan *s, struct stored *st, struct change *c,
			bool same)
{
	int ret = c->deleted ? 0 : emit(s, c->key, c->val);

	memcpy(s->pos, c->key.p, c->key.n);
	s->pos_len = c->key.n;
	if (ret || !same)
		return ret;
	return stored_next(st, s->prefix);
}

static int emit_stored(struct scan *s, struct stored *st)
{
	int ret = emit(s, st->key, st->val);

	return ret ? ret : stored_next(st, s->prefix);
}

static int merge(struct scan *s, struct stored *st, const struct peek *p)
{
	unsigned i = 0;
	int ret = 0;

	while (!ret && (i < p->n || st->have)) {
		int d = i == p->n ? 1 :
			!st->have ? -1 :
				    slice_cmp(p->items[i]->key, st->key);

		if (i == p->n && p->cut)
			return MORE;
		if (d <= 0)
			ret = emit_pending(s, st, p->items[i++], d == 0);
		else
			ret = emit_stored(s, st);
	}
	return ret || !p->cut ? ret : MORE;
}

static int step(struct scan *s, struct peek *p)
{
	struct stored st;
	int err;

	batch_peek(s->batch, s->table, s->prefix,
		   (struct slice){ s->pos, s->pos_len }, p);
	err = stored_open(&st, s);
	if (!err)
		err = merge(s, &st, p);
	stored_close(&st);
	peek_release(p);
	return err;
}

int batch_scan(struct batch *b, enum kv_table table, struct slice prefix,
	       struct slice after, batch_fn fn, void *arg)
{
	struct scan s = { .batch = b,
			  .table = table,
			  .prefix = prefix,
			  .fn = fn,
			  .arg = arg };
	struct peek *p = xmalloc(sizeof(*p));
	int ret;

	BUG_ON(after.n > sizeof(s.pos));
	if (after.n)
		memcpy(s.pos, after.p, after.n);
	s.pos_len = after.n;
	do {
		ret = step(&s, p);
	} while (ret == MORE);
	free(p);
	batch_note_error(b, ret);
	return ret;
}
