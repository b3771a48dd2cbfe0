/*
 * What an earlier run left in the stage folder.
 *
 * Uploads that were owed go on under their names. Files that were open when
 * the daemon died were promised to nobody, and finishing them could put half
 * a file into the bucket; they are kept for the person who asks. So are, of
 * several that are owed under one name, all but the one recorded last: the
 * daemon died while one took the other's place.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/write.h"

struct owed_entry {
	uint64_t id;
	char *key;
	int64_t changed_ns;
};

struct resume {
	struct vfs *v;
	struct stage *stage;
	unsigned owed, kept;
	struct owed_entry *entries;
	size_t n;
};

struct inode *key_walk(struct vfs *v, char *key, char **name)
{
	size_t prefix = strlen(v->config.prefix);
	struct inode *dir = inode_get(v, CACHE_ROOT_INO);
	char *p = key + prefix, *slash;

	if (strncmp(key, v->config.prefix, prefix) != 0) {
		inode_put(v, dir);
		return NULL;
	}
	while ((slash = strchr(p, '/'))) {
		struct meta_rec rec = { .kind = META_DIR };
		struct inode *child;

		*slash = 0;
		rec.checked_ns = clock_wall_ns();
		if (!key_name_ok(p, strlen(p)) ||
		    meta_put(v->meta, dir->ino, p, &rec, &rec)) {
			inode_put(v, dir);
			return NULL;
		}
		child = inode_from_rec(v, dir, p, &rec);
		meta_rec_release(&rec);
		inode_put(v, dir);
		dir = child;
		p = slash + 1;
	}
	*name = p;
	return dir;
}

static void restore_attributes(struct inode *i, const struct journal_rec *rec)
{
	struct store_meta pairs;
	struct key_meta km;

	if (key_meta_unpack(rec->blob, rec->blob_len, &pairs))
		return;
	key_meta_parse(&pairs, &km);
	if (km.has_mode)
		i->mode = km.mode;
	if (km.has_uid)
		i->uid = km.uid;
	if (km.has_gid)
		i->gid = km.gid;
	if (km.has_mtime)
		i->mtime_ns = km.mtime_ns;
	i->ctime_ns = km.has_ctime ? km.ctime_ns : 0;
	i->atime_ns = km.has_atime ? km.atime_ns : 0;
	pairs_unset_attributes(&pairs);
	i->pairs = pairs;
}

static struct inode *owed_inode(struct vfs *v, const struct journal_rec *rec)
{
	struct meta_rec m = { .kind = META_FILE,
			      .flags = META_STAGED | META_HAS_HEADERS,
			      .size = rec->size };
	char *key = xstrdup(rec->key), *name = NULL;
	struct inode *dir = key_walk(v, key, &name), *i = NULL;

	m.checked_ns = clock_wall_ns();
	snprintf(m.etag, sizeof(m.etag), "%s", rec->etag);
	if (dir && key_name_ok(name, strlen(name)) &&
	    meta_put(v->meta, dir->ino, name, &m, &m) == 0)
		i = inode_from_rec(v, dir, name, &m);
	if (i) {
		meta_rec_release(&m);
		i->checked_ns = 0; /* by nobody in this run */
	}
	inode_put(v, dir);
	free(key);
	return i;
}

static int take_up(struct resume *r, uint64_t id)
{
	struct writeback *wb = NULL;
	struct journal_rec rec;
	struct staged *staged;
	struct inode *i;
	bool deferred;
	int err = staged_load(r->stage, id, &staged, &rec);

	if (err)
		return err;
	i = owed_inode(r->v, &rec);
	if (!i) {
		journal_release(&rec);
		staged_close(staged);
		return -EXDEV;
	}
	deferred = rec.deferred;
	mutex_lock(&r->v->lock);
	restore_attributes(i, &rec);
	mutex_unlock(&r->v->lock);
	err = writeback_resume(r->v->config.writebacks, staged, &rec, &wb);
	if (!err) {
		inode_adopt(r->v, i, wb, deferred);
		inode_owe(r->v, i, deferred ? OWED_TEMP_NS : 0);
	}
	inode_put(r->v, i);
	return err;
}

void upload_abort(struct vfs *v, struct journal_rec *rec)
{
	struct store_req req;

	store_req_init(&req, STORE_MPU_ABORT);
	req.key = rec->key;
	req.upload_id = rec->upload_id;
	if (store_call(v->config.store, &req, NULL))
		log_warn("vfs", "the upload of %s could not be aborted: %s",
			 rec->key, req.why);
	store_req_release(&req);
	free(rec->upload_id);
	rec->upload_id = NULL;
	rec->nparts = 0;
}

/* Was it a copy of what R2 has anyway? */
static bool nothing_to_keep(const struct journal_rec *rec)
{
	return rec->base_key && !rec->ranges.n && rec->size == rec->base_size &&
	       rec->base_len == rec->base_size;
}

static void keep(struct resume *r, uint64_t id, const char *why)
{
	struct journal_rec rec;
	struct staged *staged;

	r->kept++;
	if (staged_load(r->stage, id, &staged, &rec))
		return;
	if (rec.upload_id)
		upload_abort(r->v, &rec);
	if (nothing_to_keep(&rec)) {
		r->kept--;
		journal_release(&rec);
		staged_discard(staged);
		return;
	}
	rec.state = JOURNAL_FAILED;
	rec.why = xstrdup(why);
	if (staged_save(staged, &rec, true))
		log_warn("vfs", "the journal cannot be written");
	journal_release(&rec);
	staged_close(staged);
}

static void resume_one(uint64_t id, void *arg)
{
	struct resume *r = arg;
	struct journal_rec rec;
	int err = stage_read_record(r->stage, id, &rec);

	if (err) {
		log_error("vfs", "journal entry %llu is damaged: %s",
			  (unsigned long long)id, strerror(-err));
		r->kept++;
	} else if (rec.state == JOURNAL_OWED) {
		r->entries =
			xrealloc(r->entries, (r->n + 1) * sizeof(*r->entries));
		r->entries[r->n++] = (struct owed_entry){ id, xstrdup(rec.key),
							  rec.changed_ns };
	} else if (rec.state == JOURNAL_OPEN) {
		keep(r, id, "the mount ended before the file was closed");
	} else {
		r->kept++;
	}
	journal_release(&rec);
}

static int in_order(const void *a, const void *b)
{
	const struct owed_entry *x = a, *y = b;
	int by_key = strcmp(x->key, y->key);

	if (by_key)
		return by_key;
	return (x->changed_ns > y->changed_ns) -
	       (x->changed_ns < y->changed_ns);
}

static void resume_owed(struct resume *r)
{
	if (r->n)
		qsort(r->entries, r->n, sizeof(*r->entries), in_order);
	for (size_t k = 0; k < r->n; k++) {
		struct owed_entry *e = &r->entries[k];
		bool last = k + 1 == r->n || strcmp(e->key, e[1].key) != 0;
		int err = last ? take_up(r, e->id) : 0;

		if (!last)
			keep(r, e->id, "a newer version took its place");
		if (err)
			log_error("vfs", "journal entry %llu is left: %s",
				  (unsigned long long)e->id, strerror(-err));
		r->owed += last && !err;
		r->kept += !!err;
		free(e->key);
	}
	free(r->entries);
}

static void forget_folder(struct vfs *v, const char *of)
{
	char *key = xstrdup(of), *name;
	struct inode *dir;

	key[strlen(key) - 1] = 0;
	dir = key_walk(v, key, &name);
	if (dir)
		name_forget(v, dir, name);
	inode_put(v, dir);
	free(key);
}

static struct inode *noted_folder(struct vfs *v, const struct journal_rec *rec)
{
	struct meta_rec m = { .kind = META_DIR,
			      .flags = META_HAS_HEADERS | META_MARKER,
			      .checked_ns = clock_wall_ns(),
			      .blob = rec->blob,
			      .blob_len = rec->blob_len };
	char *key = xstrdup(rec->key), *name = NULL;
	size_t n = strlen(key);
	struct inode *dir, *i = NULL;

	if (n)
		key[n - 1] = 0;
	dir = key_walk(v, key, &name);
	if (dir && key_name_ok(name, strlen(name)) &&
	    meta_put(v->meta, dir->ino, name, &m, &m) == 0) {
		i = inode_from_rec(v, dir, name, &m);
		meta_rec_release(&m);
	}
	inode_put(v, dir);
	free(key);
	return i;
}

static void take_up_folder(uint64_t id, void *arg)
{
	struct resume *r = arg;
	struct vfs *v = r->v;
	struct journal_rec rec;
	struct inode *i = NULL;
	int err = stage_read_note(r->stage, STAGE_ATTRIBUTES, id, &rec);

	if (!err)
		i = noted_folder(v, &rec);
	if (!i) {
		log_error("vfs", "journal entry %llu is left: %s",
			  (unsigned long long)id, strerror(err ? -err : EXDEV));
	} else {
		mutex_lock(&v->lock);
		restore_attributes(i, &rec);
		i->note = id;
		mutex_unlock(&v->lock);
		inode_owe(v, i, 0);
		r->owed++;
	}
	inode_put(v, i);
	journal_release(&rec);
}

static void finish_move(uint64_t id, void *arg)
{
	const struct vfs_ctx ctx = { 0 };
	struct resume *r = arg;
	struct journal_rec rec;
	struct move m = { .fresh = false };

	if (stage_read_note(r->stage, STAGE_MOVE, id, &rec))
		return;
	log_info("vfs", "the rename of %s to %s goes on", rec.base_key,
		 rec.key);
	m.from = rec.base_key;
	m.to = rec.key;
	forget_folder(r->v, m.from);
	forget_folder(r->v, m.to);
	if (move_keys(r->v, &ctx, &m) == 0 &&
	    journal_moved(r->v, m.from, m.to) == 0)
		stage_note_done(r->stage, STAGE_MOVE, id);
	journal_release(&rec);
}

int vfs_resume(struct vfs *v)
{
	struct resume r = { .v = v };
	int err;

	if (!v->config.writebacks)
		return 0;
	r.stage = writebacks_stage(v->config.writebacks);
	err = removals_resume(v);
	if (!err)
		err = stage_each_kind(r.stage, STAGE_MOVE, finish_move, &r);
	if (!err)
		err = stage_each_kind(r.stage, STAGE_ATTRIBUTES, take_up_folder,
				      &r);
	if (!err)
		err = stage_each(r.stage, resume_one, &r);
	resume_owed(&r);
	if (r.owed)
		log_info("vfs", "%u uploads of an earlier run go on", r.owed);
	v->failed_entries = r.kept;
	if (r.kept)
		log_warn("vfs",
			 "%u files of an earlier run are kept: see "
			 "r2fs recover",
			 r.kept);
	return err;
}
