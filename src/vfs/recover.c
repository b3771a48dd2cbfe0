/*
 * The journal's failed entries, for the person who decides about them.
 *
 * Entries in other states belong to files in use; they are shown and not
 * touched.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/write.h"

enum { STEP = 1 << 20 };

struct lister {
	struct stage *stage;
	void (*fn)(uint64_t id, const struct journal_rec *rec, void *arg);
	void *arg;
};

static void list_one(uint64_t id, void *arg)
{
	struct lister *l = arg;
	struct journal_rec rec;

	if (stage_read_record(l->stage, id, &rec))
		return;
	l->fn(id, &rec, l->arg);
	journal_release(&rec);
}

int vfs_recover_list(struct vfs *v,
		     void (*fn)(uint64_t id, const struct journal_rec *rec,
				void *arg),
		     void *arg)
{
	struct lister l = { .fn = fn, .arg = arg };

	if (!v->config.writebacks)
		return -EROFS;
	l.stage = writebacks_stage(v->config.writebacks);
	removals_list(v, fn, arg);
	return stage_each(l.stage, list_one, &l);
}

/* Loads a failed entry; rec keeps what a target needs. */
static int load(struct vfs *v, uint64_t id, struct journal_rec *rec,
		struct writeback **ret)
{
	struct journal_rec given;
	struct staged *staged;
	struct stage *stage;
	int err;

	if (!v->config.writebacks)
		return -EROFS;
	stage = writebacks_stage(v->config.writebacks);
	err = stage_read_record(stage, id, rec);
	if (err)
		return err;
	if (rec->state != JOURNAL_FAILED)
		err = -EBUSY;
	if (!err)
		err = staged_load(stage, id, &staged, &given);
	if (!err)
		err = writeback_resume(v->config.writebacks, staged, &given,
				       ret);
	if (err)
		journal_release(rec);
	return err;
}

/* The name is there now, whatever was believed of it. */
static void make_known(struct vfs *v, const struct journal_rec *entry,
		       const struct writeback_result *r)
{
	struct meta_rec rec = { .kind = META_FILE,
				.flags = META_HAS_HEADERS | META_STORED,
				.size = r->size,
				.mtime_ns = stored_ns(r->time_ns),
				.checked_ns = clock_wall_ns() };
	CLEANUP(free) char *key = xstrdup(entry->key);
	char *name = NULL;
	struct inode *dir = key_walk(v, key, &name);

	if (!dir)
		return;
	snprintf(rec.etag, sizeof(rec.etag), "%s", r->etag.s);
	rec.blob = entry->blob;
	rec.blob_len = entry->blob_len;
	if (meta_put(v->meta, dir->ino, name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	inode_put(v, dir);
}

static int retry(struct vfs *v, uint64_t id, bool force, char why[192])
{
	struct writeback_target t = { .cid = meta_new_cid(v->meta) };
	struct writeback_result r = { .why = "" };
	const struct vfs_ctx ctx = { 0 };
	struct writeback *wb = NULL;
	struct journal_rec rec;
	struct store_meta pairs;
	int err = load(v, id, &rec, &wb);

	if (err)
		return err;
	err = key_meta_unpack(rec.blob, rec.blob_len, &pairs);
	t.key = rec.key;
	t.meta = &pairs;
	t.create = !force && rec.create;
	t.if_match = !force && rec.etag[0] ? rec.etag : NULL;
	if (!err)
		err = removal_wait(v, &ctx, rec.key);
	if (!err)
		err = writeback_store(wb, &t, NULL, &r);
	if (!err) {
		make_known(v, &rec, &r);
		writeback_discard(wb);
	}
	if (force && (err == -ESTALE || err == -ENOENT))
		err = -ENODATA;
	snprintf(why, 192, "%s", r.why);
	writeback_put(wb);
	store_meta_release(&pairs);
	journal_release(&rec);
	return err;
}

int vfs_recover_retry(struct vfs *v, uint64_t id, bool force, char why[192])
{
	mutex_lock(&v->recovering);
	int err = retry(v, id, force, why);
	mutex_unlock(&v->recovering);
	return err;
}

static int drop(struct vfs *v, uint64_t id)
{
	struct writeback *wb = NULL;
	struct journal_rec rec;
	int err = load(v, id, &rec, &wb);

	if (err)
		return err;
	writeback_discard(wb);
	writeback_abort(wb);
	writeback_put(wb);
	journal_release(&rec);
	return 0;
}

int vfs_recover_drop(struct vfs *v, uint64_t id)
{
	mutex_lock(&v->recovering);
	int err = drop(v, id);
	mutex_unlock(&v->recovering);
	return err;
}

static int copy_range(struct writeback *wb, int fd, uint64_t off, uint64_t end)
{
	CLEANUP(free) void *buf = xmalloc(STEP);
	int err = 0;

	for (; off < end && !err; off += STEP) {
		size_t n = end - off < STEP ? end - off : STEP;

		err = writeback_peek(wb, buf, n, off);
		if (!err) {
			ssize_t put = fsio()->pwrite(fd, buf, n, (off_t)off);

			err = put < 0 ? (int)put : 0;
		}
	}
	return err;
}

/* What is not here becomes a hole, and is named. */
static int copy_out(struct writeback *wb, int fd, struct buf *missing)
{
	uint64_t size = writeback_size(wb), off = 0, gap, end;
	int err = fsio()->ftruncate(fd, (off_t)size);

	while (off < size && !err) {
		gap = off;
		if (writeback_lacks(wb, &gap, &end))
			buf_addf(missing, "%s%" PRIu64 "-%" PRIu64,
				 missing->len ? ", " : "", gap, end - 1);
		else
			gap = end = size;
		err = copy_range(wb, fd, off, gap);
		off = end;
	}
	return err ? err : fsio()->fsync(fd);
}

int vfs_recover_export(struct vfs *v, uint64_t id, const char *path,
		       struct buf *missing, int *ret_why)
{
	struct writeback *wb = NULL;
	struct journal_rec rec;
	int fd, err = load(v, id, &rec, &wb);

	if (err)
		return err;
	fd = fsio()->open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	*ret_why = fd < 0 ? 0 : writeback_fill(wb, NULL);
	err = fd < 0 ? fd : copy_out(wb, fd, missing);
	if (fd >= 0)
		close(fd);
	if (err && fd >= 0)
		fsio()->unlink(path);
	writeback_put(wb);
	journal_release(&rec);
	return err;
}
