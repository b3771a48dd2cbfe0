/*
 * Attributes of folders.
 *
 * They are kept on the folder's marker object, by a PUT that is put off for a
 * moment as the COPY of a file's is. Until it is made a note in the journal has
 * them; it is removed by the store that no change came after.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/write.h"

/* What the marker says, besides what the inode keeps itself. */
static void folder_pairs(struct vfs *v, struct inode *i, const struct place *p,
			 struct store_meta *ret)
{
	struct store_meta others;

	inode_pairs(v, i, ret);
	load_pairs(v, p, &others);
	for (unsigned k = 0; k < others.n; k++)
		pairs_set(ret, others.pairs[k].name, others.pairs[k].value);
	store_meta_release(&others);
}

static int publish_folder(struct vfs *v, struct inode *i, const struct place *p,
			  const struct store_meta *pairs)
{
	struct meta_rec rec = { .ino = i->ino,
				.kind = META_DIR,
				.flags = META_HAS_HEADERS | META_MARKER,
				.checked_ns = clock_wall_ns() };
	int err;

	rec.mtime_ns = i->mtime_ns;
	key_meta_pack(pairs, &rec.blob, &rec.blob_len);
	err = meta_put(v->meta, p->parent->ino, p->name, &rec, NULL);
	meta_rec_release(&rec);
	mutex_lock(&v->lock);
	i->flags |= META_HAS_HEADERS | META_MARKER;
	i->checked_ns = rec.checked_ns;
	mutex_unlock(&v->lock);
	return err;
}

/* What a marker of somebody else says, before ours replaces it. */
static int folder_headers(struct vfs *v, const struct vfs_ctx *ctx,
			  struct inode *i, const struct place *p)
{
	char key[STORE_KEY_MAX + 1];
	struct store_req req;
	struct meta_rec rec, now = { 0 };
	int64_t asked_ns = clock_wall_ns();
	int err;

	mutex_lock(&v->lock);
	bool known = i->flags & META_HAS_HEADERS;
	mutex_unlock(&v->lock);
	if (known)
		return 0;
	if (ctx->nowait)
		return -EAGAIN;
	err = inode_key(v, i, key);
	if (err)
		return err;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	err = removal_wait(v, ctx, key);
	if (!err)
		err = store_call(v->config.store, &req, ctx->interrupt);
	if (!err) {
		rec_from_attr(&req.attr, asked_ns, &rec);
		rec.kind = META_DIR;
		rec.ino = i->ino;
		rec.size = 0;
		rec.etag[0] = 0;
		rec.flags = META_HAS_HEADERS | META_MARKER;
		err = meta_learn(v->meta, p->parent->ino, p->name, &rec, &now);
		meta_rec_release(&rec);
		if (!err && now.ino == i->ino)
			inode_put(v,
				  inode_from_rec(v, p->parent, p->name, &now));
		meta_rec_release(&now);
	}
	store_req_release(&req);
	return err == -ENOENT ? 0 : err;
}

/* ---- the note ---- */

static int write_note(struct vfs *v, struct inode *i, const struct place *p,
		      bool durable)
{
	struct stage *stage = writebacks_stage(v->config.writebacks);
	char key[STORE_KEY_MAX + 1];
	struct journal_rec rec = { .state = JOURNAL_OWED, .key = key };
	struct store_meta pairs;
	int err;

	inode_begin(v, i);
	err = inode_key(v, i, key);
	if (err) {
		inode_end(v, i);
		return err;
	}
	folder_pairs(v, i, p, &pairs);
	key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
	store_meta_release(&pairs);
	mutex_lock(&v->lock);
	if (!i->note)
		i->note = stage_new_id(stage);
	uint64_t id = i->note;
	durable |= i->owed_tries > 0;
	mutex_unlock(&v->lock);
	err = stage_note(stage, STAGE_ATTRIBUTES, id, &rec, durable);
	inode_end(v, i);
	free(rec.blob);
	if (err)
		log_warn("vfs", "the journal cannot be written");
	return err;
}

/* Unless something changed since there were `touched` changes. */
static void remove_note(struct vfs *v, struct inode *i, uint64_t touched)
{
	struct stage *stage = writebacks_stage(v->config.writebacks);

	inode_begin(v, i);
	mutex_lock(&v->lock);
	uint64_t id = i->touched == touched ? i->note : 0;
	mutex_unlock(&v->lock);
	if (id)
		stage_note_done(stage, STAGE_ATTRIBUTES, id);
	inode_end(v, i);
}

static uint64_t touched(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	uint64_t n = i->touched;
	mutex_unlock(&v->lock);
	return n;
}

void folder_make_durable(struct vfs *v, struct inode *i)
{
	struct place p;

	mutex_lock(&v->lock);
	bool noted = i->note != 0;
	mutex_unlock(&v->lock);
	if (!noted || inode_place(v, i, &p))
		return;
	if (p.parent && write_note(v, i, &p, true))
		log_debug("vfs", "attributes of %s would not survive", p.name);
	place_put(v, &p);
}

void folder_give_up(struct vfs *v, struct inode *i)
{
	remove_note(v, i, touched(v, i));
}

/* ---- storing ---- */

static int store_at(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		    const struct place *p)
{
	char key[STORE_KEY_MAX + 1];
	struct store_meta pairs;
	struct store_attr attr;
	int err = inode_key(v, i, key);

	if (err)
		return err;
	folder_pairs(v, i, p, &pairs);
	err = put_small(v, ctx, key, "", 0, &pairs, false, &attr);
	store_meta_release(&pairs);
	return err;
}

int folder_store(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	uint64_t n = touched(v, i);
	struct place p;
	int err = 0;

	inode_unowe(v, i);
	inode_begin(v, i);
	/* one that is gone: nobody asks for its attributes */
	if (inode_place(v, i, &p) == 0 && p.parent)
		err = store_at(v, ctx, i, &p);
	place_put(v, &p);
	inode_end(v, i);
	if (err)
		return err;
	mutex_lock(&v->lock);
	i->owed_tries = 0;
	mutex_unlock(&v->lock);
	remove_note(v, i, n);
	return 0;
}

int folder_flush(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	int err;

	mutex_lock(&v->lock);
	bool owed = i->owed || i->touching;
	while (!ctx->nowait && i->touching)
		cond_wait(&v->inode_free, &v->lock);
	bool left = i->owed;
	mutex_unlock(&v->lock);
	if (owed && ctx->nowait)
		return -EAGAIN;
	err = left ? folder_store(v, ctx, i) : 0;
	if (err)
		inode_owe(v, i, OWED_ATTR_NS);
	return err;
}

void folder_quiet(struct vfs *v, struct inode *i)
{
	inode_unowe(v, i);
	mutex_lock(&v->lock);
	while (i->touching)
		cond_wait(&v->inode_free, &v->lock);
	mutex_unlock(&v->lock);
	folder_give_up(v, i);
}

/* Shows at once, and is stored in a moment: the programs that copy trees call
 * chown, chmod and utimes in a row. */
int folder_touch(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		 const struct vfs_change *c)
{
	struct store_meta pairs;
	struct place p;
	int err = inode_place(v, i, &p);

	if (err)
		return err;
	err = inode_wait_settled(v, ctx, i);
	if (!err)
		err = folder_headers(v, ctx, i, &p);
	if (!err) {
		mutex_lock(&v->lock);
		change_apply_locked(i, c);
		i->touched++;
		mutex_unlock(&v->lock);
		folder_pairs(v, i, &p, &pairs);
		err = publish_folder(v, i, &p, &pairs);
		store_meta_release(&pairs);
		int noted = write_note(v, i, &p, v->config.journal_close);

		if (!err && v->config.journal_close)
			err = noted;
		inode_owe(v, i, OWED_ATTR_NS);
	}
	if (!err && c->mask & VFS_SET_MTIME)
		err = meta_dir_changed(v->meta, i->ino, 0);
	place_put(v, &p);
	return err;
}
