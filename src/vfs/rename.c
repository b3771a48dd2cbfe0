/*
 * Rename, on a store that has none.
 *
 * A file whose content is not in R2 yet is stored once, under its new name:
 * the write-then-rename of careful programs costs one PUT. An object is copied
 * by R2 and the old key deleted; the cached content goes with the name.
 *
 * A folder's keys are moved by move.c; a note in the stage folder lets the next
 * mount go on after a crash.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/parts.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/spelling.h"
#include "vfs/write.h"

enum { NOREPLACE = 1 /* RENAME_NOREPLACE */ };

struct side {
	struct inode *dir;
	const char *name;
	char space[CACHE_NAME_MAX + 1]; /* of name */
	char key[STORE_KEY_MAX + 1];
	struct meta_rec rec;
	bool exists;
};

/* ---- files ---- */

void inode_move(struct vfs *v, struct inode *i, struct inode *dir,
		const char *name)
{
	struct inode *old;

	mutex_lock(&v->lock);
	old = i->parent;
	dir->refs++;
	if (i->wb && !i->unlinked) {
		old->staged--;
		dir->staged++;
	}
	i->parent = dir;
	i->shadowed = false;
	free(i->name);
	i->name = xstrdup(name);
	mutex_unlock(&v->lock);
	inode_put(v, old);
}

/* Nothing of i is in R2 and nothing was promised, or the journal keeps the
 * promise: the name alone changes. The upload will replace what is at the new
 * key now. */
static bool is_local(struct vfs *v, struct inode *i, bool temporary)
{
	mutex_lock(&v->lock);
	bool local = i->wb && !(i->etag && *i->etag) &&
		     ((i->writers > 0 && !i->deferred) || temporary ||
		      v->config.journal_close);
	mutex_unlock(&v->lock);
	return local;
}

/* False: R2 has to, also if the journal cannot be written. */
static bool move_locally(struct vfs *v, struct inode *i, struct inode *old,
			 const struct side *to, bool owed)
{
	bool temporary = name_is_temporary(v, to->name);
	char replaces[CACHE_ETAG_MAX];
	const struct new_name n = { .dir = to->dir,
				    .name = to->name,
				    .key = to->key,
				    .replaces = replaces,
				    .temporary = temporary };

	if (!is_local(v, i, temporary))
		return false;
	snprintf(replaces, sizeof(replaces), "%s",
		 to->exists ? to->rec.etag : "");
	mutex_lock(&v->lock);
	if (old) /* a store under way may have made another */
		snprintf(replaces, sizeof(replaces), "%s",
			 old->etag ? old->etag : "");
	mutex_unlock(&v->lock);
	return inode_rename(v, i, old, &n, owed) == 0;
}

static void record_moved(struct vfs *v, struct inode *i, const struct side *to,
			 const struct writeback_result *r, uint64_t cid)
{
	struct meta_rec rec = { .kind = META_FILE,
				.cid = cid,
				.size = r->size,
				.checked_ns = clock_wall_ns() };
	struct store_meta pairs;

	inode_pairs(v, i, &pairs);
	mutex_lock(&v->lock);
	rec.ino = i->ino;
	rec.mtime_ns = i->mtime_ns;
	if (i->flags & META_HAS_HEADERS) {
		i->flags |= META_STORED;
		i->object_ns = rec.mtime_ns = stored_ns(r->time_ns);
	}
	rec.flags = i->flags & (META_HAS_HEADERS | META_STORED);
	free(i->etag);
	i->etag = xstrdup(r->etag.s);
	i->cid = i->opened_cid = i->local_cid = cid;
	i->checked_ns = rec.checked_ns;
	i->deferred = false;
	i->exclusive = false;
	mutex_unlock(&v->lock);
	snprintf(rec.etag, sizeof(rec.etag), "%s", r->etag.s);
	if (rec.flags & META_HAS_HEADERS)
		key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
	store_meta_release(&pairs);
	if (meta_put(v->meta, to->dir->ino, to->name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	meta_rec_release(&rec);
}

/* The object was copied and stays where it was, too. What is stored of i is
 * what lies there, if that is the same; else all is to be stored again. */
static void record_twin(struct vfs *v, struct inode *i, struct writeback *wb,
			const struct side *from, const struct side *to,
			const struct writeback_result *r, bool clean)
{
	struct meta_rec rec = { .kind = META_FILE,
				.ino = meta_new_ino(v->meta),
				.size = r->size };
	char etag[CACHE_ETAG_MAX];

	mutex_lock(&v->lock);
	snprintf(etag, sizeof(etag), "%s", i->etag);
	bool same = clean && (!i->writers || strcmp(etag, r->etag.s) == 0);
	mutex_unlock(&v->lock);
	if (same)
		writeback_moved(wb, from->key, etag);
	else
		writeback_forget_store(wb);
	snprintf(rec.etag, sizeof(rec.etag), "%s", r->etag.s);
	if (meta_put(v->meta, to->dir->ino, to->name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
}

/* R2 takes the metadata along, but not of more than it copies at once. */
static int copy_object(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *i, const struct side *from,
		       const struct side *to, bool absent, bool large,
		       uint64_t cid, struct writeback_result *ret)
{
	struct store_attr attr = { 0 };
	struct store_meta pairs = { 0 };
	int err = 0;

	ret->why[0] = 0;
	if (large)
		err = object_look(v, ctx, from->key, &attr, &pairs);
	if (!err)
		err = inode_store_at(v, ctx, i, to->key, absent, cid,
				     large ? &pairs : NULL, ret);
	else if (err == -ENOENT)
		err = -ESTALE;
	store_meta_release(&attr.meta);
	store_meta_release(&pairs);
	return err;
}

/* *replaced: what was at the new key is no more, also if there is an error. */
static int move_object(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *i, const struct side *from,
		       const struct side *to, bool absent, bool *replaced)
{
	struct writeback_result r = { .why = "" };
	struct writeback *wb;
	bool stored, clean;
	uint64_t cid;
	int err = inode_stage(v, i, false, &wb);

	if (err)
		return err;
	mutex_lock(&v->lock);
	stored = i->etag && *i->etag;
	cid = i->cid;
	mutex_unlock(&v->lock);
	clean = !writeback_dirty(wb);
	if (!clean || !cid)
		cid = meta_new_cid(v->meta);
	if (!clean)
		err = inode_renew(v, ctx, i, from->key);
	if (!err)
		err = copy_object(v, ctx, i, from, to, absent,
				  clean && writeback_size(wb) > PART_MAX, cid,
				  &r);
	if (err && r.why[0])
		log_error("vfs", "rename of %s to %s: %s (%s)", from->key,
			  to->key, r.why, strerror(-err));
	*replaced = !err;
	if (!err && stored)
		err = delete_key(v, ctx, from->key);
	if (*replaced && err)
		record_twin(v, i, wb, from, to, &r, clean);
	if (!err) {
		record_moved(v, i, to, &r, cid);
		fill_moved(v->config.fills, cid, to->key, r.etag.s);
	}
	writeback_put(wb);
	return err;
}

static void owe_again(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	bool deferred = i->deferred;
	mutex_unlock(&v->lock);
	inode_owe(v, i, deferred ? OWED_TEMP_NS : OWED_JOURNAL_NS);
}

/* Of names that may have moved: once more when they no longer do. */
static int make_keys(struct vfs *v, struct side *from, struct side *to)
{
	bool dir = from->rec.kind == META_DIR;
	int err = inode_child_key(v, from->dir, from->name, dir, from->key);

	if (!err && from->rec.flags & META_SHADOWED)
		from->key[strlen(from->key) - strlen(VFS_OBJECT_SUFFIX)] = 0;
	return err ? err : inode_child_key(v, to->dir, to->name, dir, to->key);
}

static int rename_file(struct vfs *v, const struct vfs_ctx *ctx,
		       struct side *from, struct side *to, unsigned flags)
{
	struct inode *i = inode_from_rec(v, from->dir, from->name, &from->rec);
	struct inode *old = to->exists ? inode_get(v, to->rec.ino) : NULL;
	bool owed, local, replaced = false;
	int err = inodes_begin(v, ctx, i, old, to->dir);

	if (err) {
		inode_put(v, old);
		inode_put(v, i);
		return err;
	}
	err = make_keys(v, from, to);
	if (!err && old)
		err = inode_orphan(v, ctx, old);
	owed = inode_unowe(v, i);
	local = !err && move_locally(v, i, old, to, owed);
	if (!err && !local)
		err = move_object(v, ctx, i, from, to, flags & NOREPLACE,
				  &replaced);
	name_displaced(v, old, replaced || local);
	if (!err) {
		name_gone(v, from->dir, from->name);
		if (local)
			inode_publish_name(v, i);
		else
			inode_move(v, i, to->dir, to->name);
		version_renamed(v, i, to->key);
	}
	if (owed && (err || local))
		owe_again(v, i);
	inode_end(v, i);
	dir_end(v, to->dir);
	inode_settle(v, i);
	inode_put(v, i);
	return err;
}

/* ---- files in use below a folder that moves ---- */

struct below {
	struct inode *dir;
	struct list found; /* struct moved_inode */
};

static void note_below(struct map_node *n, void *arg)
{
	struct inode *i = container_of(n, struct inode, node);
	struct below *b = arg;
	struct inode *up = i->parent;

	if (i->unlinked || (i->kind == META_FILE ? !i->opens && !i->wb :
						   !i->owed && !i->touching))
		return;
	while (up && up != b->dir)
		up = up->parent;
	if (!up)
		return;
	struct moved_inode *m = xcalloc(1, sizeof(*m));

	i->refs++;
	m->inode = i;
	list_add_tail(&b->found, &m->link);
}

static void find_below(struct vfs *v, struct inode *dir, struct below *b)
{
	b->dir = dir;
	list_init(&b->found);
	mutex_lock(&v->lock);
	map_each(&v->inodes, note_below, b);
	mutex_unlock(&v->lock);
}

static int flush_file(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	mutex_lock(&v->lock);
	bool owed = i->owed && !i->deferred && i->writers == 0;
	mutex_unlock(&v->lock);
	return owed ? inode_store(v, ctx, i) : 0;
}

/* What is owed is stored first and travels along. */
static int flush_below(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *dir)
{
	struct below b;
	int err = 0;

	find_below(v, dir, &b);
	list_for_each_safe(n, tmp, &b.found) {
		struct moved_inode *m = list_entry(n, struct moved_inode, link);

		if (!err && m->inode->kind == META_FILE)
			err = flush_file(v, ctx, m->inode);
		else if (!err)
			err = folder_flush(v, ctx, m->inode);
		if (!err && m->inode->kind == META_DIR)
			folder_quiet(v, m->inode);
		if (m->inode->kind == META_FILE)
			inode_settle(v, m->inode);
		inode_put(v, m->inode);
		free(m);
	}
	return err;
}

static void tell_moved(struct vfs *v, struct inode *i)
{
	char key[STORE_KEY_MAX + 1], etag[CACHE_ETAG_MAX];
	struct writeback *wb;

	if (inode_key(v, i, key))
		return;
	wb = inode_staged(v, i);
	mutex_lock(&v->lock);
	snprintf(etag, sizeof(etag), "%s", i->etag ? i->etag : "");
	uint64_t cid = i->cid;
	mutex_unlock(&v->lock);
	fill_moved(v->config.fills, cid, key, etag);
	if (wb)
		writeback_moved(wb, key, etag);
	writeback_put(wb);
	inode_rejournal(v, i);
}

/* The folder's rename ends: what is in use below goes on under its new key. */
static void end_below(struct vfs *v, struct inode *dir, struct inode *to,
		      bool moved)
{
	struct below b;

	find_below(v, dir, &b);
	list_for_each(n, &b.found) {
		struct inode *i =
			list_entry(n, struct moved_inode, link)->inode;

		if (moved && i->kind == META_FILE)
			tell_moved(v, i);
	}
	folder_end(v, dir, to);
	list_for_each_safe(n, tmp, &b.found) {
		struct moved_inode *m = list_entry(n, struct moved_inode, link);

		if (m->inode->kind == META_FILE)
			inode_settle(v, m->inode);
		else if (moved)
			folder_make_durable(v, m->inode);
		inode_put(v, m->inode);
		free(m);
	}
}

/* ---- folders ---- */

/* A rename that failed and may be repeated. */
struct stopped {
	struct list link; /* vfs.stopped */
	char *from, *to; /* keys */
};

static void stopped_free(struct stopped *s)
{
	free(s->from);
	free(s->to);
	free(s);
}

void renames_forget(struct vfs *v)
{
	list_for_each_safe(n, tmp, &v->stopped)
		stopped_free(list_entry(n, struct stopped, link));
	list_init(&v->stopped);
}

static struct stopped *find_stopped_locked(struct vfs *v,
					   const struct side *from,
					   const struct side *to)
	REQUIRES(v->lock)
{
	list_for_each(n, &v->stopped) {
		struct stopped *s = list_entry(n, struct stopped, link);

		if (strcmp(s->from, from->key) == 0 &&
		    strcmp(s->to, to->key) == 0)
			return s;
	}
	return NULL;
}

/* Was this rename begun, and did it fail? */
static bool was_stopped(struct vfs *v, const struct side *from,
			const struct side *to)
{
	mutex_lock(&v->lock);
	bool was = find_stopped_locked(v, from, to);
	mutex_unlock(&v->lock);
	return was;
}

static void forget_stopped(struct vfs *v, const struct side *from,
			   const struct side *to)
{
	mutex_lock(&v->lock);
	struct stopped *s = find_stopped_locked(v, from, to);
	if (s)
		list_del(&s->link);
	mutex_unlock(&v->lock);
	if (s)
		stopped_free(s);
}

static void note_stopped(struct vfs *v, const struct side *from,
			 const struct side *to)
{
	struct stopped *s = xcalloc(1, sizeof(*s));

	s->from = xstrdup(from->key);
	s->to = xstrdup(to->key);
	mutex_lock(&v->lock);
	list_add_tail(&v->stopped, &s->link);
	mutex_unlock(&v->lock);
}

/* Some keys may have moved. */
static void folder_torn(struct vfs *v, struct inode *i, const struct side *to)
{
	names_doubt(v, i->ino);
	if (to->exists)
		names_doubt(v, to->rec.ino);
	else
		name_forget(v, to->dir, to->name);
}

static int move_folder(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *i, const struct side *from,
		       const struct side *to)
{
	bool again = was_stopped(v, from, to);
	const struct move m = { .from = from->key,
				.to = to->key,
				.dir = i,
				.fresh = !again && !to->exists };
	int err = move_keys(v, ctx, &m);

	if (err) {
		if (!again)
			note_stopped(v, from, to);
		folder_torn(v, i, to);
		return err;
	}
	forget_stopped(v, from, to);
	err = meta_move(v->meta, from->dir->ino, from->name, to->dir->ino,
			to->name, clock_wall_ns());
	inode_move(v, i, to->dir, to->name);
	if (again)
		names_doubt(v, i->ino);
	return err;
}

static int rename_dir(struct vfs *v, const struct vfs_ctx *ctx,
		      struct side *from, struct side *to)
{
	struct inode *i = inode_from_rec(v, from->dir, from->name, &from->rec);
	struct stage *stage = writebacks_stage(v->config.writebacks);
	const struct journal_rec rec = { .state = JOURNAL_OWED,
					 .key = to->key,
					 .base_key = from->key };
	uint64_t note = stage_new_id(stage);
	int err = folder_flush(v, ctx, i);

	if (!err)
		folder_quiet(v, i);
	if (!err && to->exists) {
		struct inode *old = inode_get(v, to->rec.ino);

		if (old)
			folder_quiet(v, old);
		inode_put(v, old);
	}
	if (!err)
		err = flush_below(v, ctx, i);
	if (!err)
		err = folder_begin(v, ctx, i, to->dir);
	if (!err) {
		err = make_keys(v, from, to);
		if (!err)
			err = stage_note(stage, STAGE_MOVE, note, &rec, true);
		if (!err)
			err = move_folder(v, ctx, i, from, to);
		if (!err)
			journal_failed_moved(v, from->key, to->key);
		end_below(v, i, to->dir, !err);
		stage_note_done(stage, STAGE_MOVE, note);
	}
	inode_put(v, i);
	return err;
}

/* ---- both ---- */

static int resolve(struct vfs *v, const struct vfs_ctx *ctx, struct side *s)
{
	int64_t ttl;
	int err;

	s->name = name_spelling(v, s->dir, s->name, s->space);
	err = name_resolve(v, ctx, s->dir, s->name, false, &s->rec, &ttl);

	s->exists = !err;
	if (err)
		memset(&s->rec, 0, sizeof(s->rec));
	return err;
}

/* Does the folder hold what R2 does not? */
static bool is_written_in(struct vfs *v, const struct side *s)
{
	struct inode *i = inode_get(v, s->rec.ino);

	mutex_lock(&v->lock);
	bool staged = i && i->staged > 0;
	mutex_unlock(&v->lock);
	inode_put(v, i);
	return staged;
}

static int check_kinds(struct vfs *v, const struct vfs_ctx *ctx,
		       const struct side *from, const struct side *to)
{
	bool dir = from->rec.kind == META_DIR;

	if (!to->exists)
		return 0;
	if (dir != (to->rec.kind == META_DIR))
		return dir ? -ENOTDIR : -EISDIR;
	if (dir && was_stopped(v, from, to))
		return is_written_in(v, to) ? -ENOTEMPTY : 0;
	return dir ? folder_is_empty(v, ctx, to->dir, to->name, &to->rec) : 0;
}

static int rename_resolved(struct vfs *v, const struct vfs_ctx *ctx,
			   struct side *from, struct side *to, unsigned flags)
{
	bool dir = from->rec.kind == META_DIR;
	int err;

	if (to->exists && from->rec.ino == to->rec.ino)
		return 0;
	if (to->exists && flags & NOREPLACE)
		return -EEXIST;
	if (ctx->nowait)
		return -EAGAIN;
	err = make_keys(v, from, to);
	if (!err)
		err = check_kinds(v, ctx, from, to);
	if (err)
		return err;
	err = dir ? rename_dir(v, ctx, from, to) :
		    rename_file(v, ctx, from, to, flags);
	if (!err)
		dir_changed(v, from->dir);
	if (!err && to->dir != from->dir)
		dir_changed(v, to->dir);
	return err;
}

int vfs_rename(struct vfs *v, const struct vfs_ctx *ctx, uint64_t parent,
	       const char *name, uint64_t to_parent, const char *to_name,
	       unsigned flags)
{
	struct side from = { .dir = inode_get(v, parent), .name = name };
	struct side to = { .dir = inode_get(v, to_parent), .name = to_name };
	int err = from.dir && to.dir ? 0 : -ESTALE;

	if (flags & ~NOREPLACE)
		err = -EINVAL;
	if (!err)
		err = name_check(v, from.dir, name, false);
	if (!err)
		err = name_check(v, to.dir, to_name, false);
	if (!err)
		err = resolve(v, ctx, &from);
	if (!err)
		err = resolve(v, ctx, &to);
	if (!err || (err == -ENOENT && from.exists))
		err = rename_resolved(v, ctx, &from, &to, flags);
	meta_rec_release(&from.rec);
	meta_rec_release(&to.rec);
	inode_put(v, from.dir);
	inode_put(v, to.dir);
	return err;
}
