/*
 * The record of a staged file. The bytes that a durable one speaks of are synced
 * before it is written.
 *
 * A record that owes an upload is a promise, and what is done to the file
 * afterwards must not make holes in it. To write the file anew, from nothing,
 * begins a second local file beside the one that the record speaks of; to make
 * it shorter is told the record first. What is overwritten in its place may be
 * found old or new, as on a local disk.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "cache/stage_impl.h"

void staged_note_record(struct staged *f, const struct journal_rec *rec,
			bool durable)
{
	f->owes = rec && rec->state == JOURNAL_OWED;
	f->durable = rec && durable;
	f->owed_size = f->owes ? rec->size : 0;
}

void staged_drop_other(struct staged *f)
{
	CLEANUP(free) char *path = stage_data_path(f->stage, f->id, !f->second);

	if (f->both)
		fsio()->unlink(path);
	f->both = false;
}

static void copy_ranges(struct ranges *to, const struct ranges *from)
{
	to->n = to->cap = from->n;
	to->r = xmalloc((from->n + 1) * sizeof(*to->r));
	if (from->n)
		memcpy(to->r, from->r, from->n * sizeof(*to->r));
}

static int save_encoded(struct staged *f, const struct journal_rec *rec,
			bool durable)
{
	int err = stage_note(f->stage, "rec", f->id, rec, durable);

	if (!err)
		staged_note_record(f, rec, durable);
	return err;
}

static int content_now(struct staged *f, struct journal_rec *rec, bool durable)
{
	mutex_lock(&f->lock);
	ranges_release(&rec->ranges);
	copy_ranges(&rec->ranges, &f->ranges);
	rec->size = f->size;
	rec->base_len = f->base_len;
	mutex_unlock(&f->lock);
	rec->second = f->second;
	return durable ? fsio()->fsync(f->fd) : 0;
}

int staged_save(struct staged *f, struct journal_rec *rec, bool durable)
{
	int err;

	mutex_lock(&f->saving);
	durable |= f->durable;
	err = content_now(f, rec, durable);
	if (!err)
		err = save_encoded(f, rec, durable);
	if (!err)
		staged_drop_other(f);
	mutex_unlock(&f->saving);
	return err;
}

static int sync_promised(struct staged *f)
{
	CLEANUP(free)
	char *path = stage_data_path(f->stage, f->id, f->second != f->both);
	CLEANUP(fd) int fd = fsio()->open(path, O_RDWR, 0);

	return fd < 0 ? fd : fsio()->fsync(fd);
}

static int content_promised(struct staged *f, struct journal_rec *rec,
			    bool durable)
{
	struct journal_rec old;
	int err = stage_read_record(f->stage, f->id, &old);

	if (err)
		return err;
	ranges_release(&rec->ranges);
	rec->ranges = old.ranges;
	memset(&old.ranges, 0, sizeof(old.ranges));
	rec->size = old.size;
	rec->base_len = old.base_len;
	rec->second = old.second;
	rec->changed_ns = old.changed_ns;
	if (!rec->base_key) {
		rec->base_key = old.base_key;
		old.base_key = NULL;
		memcpy(rec->base_etag, old.base_etag, sizeof(rec->base_etag));
		rec->base_size = old.base_size;
	}
	journal_release(&old);
	return durable && !f->durable ? sync_promised(f) : 0;
}

int staged_save_promise(struct staged *f, struct journal_rec *rec, bool durable)
{
	int err;

	mutex_lock(&f->saving);
	durable |= f->durable;
	err = f->owes ? content_promised(f, rec, durable) :
			content_now(f, rec, durable);
	if (!err)
		err = save_encoded(f, rec, durable);
	mutex_unlock(&f->saving);
	return err;
}

bool staged_is_durable(struct staged *f)
{
	mutex_lock(&f->saving);
	bool durable = f->durable;
	mutex_unlock(&f->saving);
	return durable;
}

void staged_forget_record(struct staged *f)
{
	CLEANUP(free) char *path = stage_kind_path(f->stage, f->id, "rec");

	mutex_lock(&f->saving);
	fsio()->unlink(path);
	staged_note_record(f, NULL, false);
	staged_drop_other(f);
	mutex_unlock(&f->saving);
}

/* ---- making shorter what is promised ---- */

static int begin_anew(struct staged *f)
{
	CLEANUP(free) char *path = stage_data_path(f->stage, f->id, !f->second);
	CLEANUP(fd)
	int fd = fsio()->open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	int err;

	if (fd < 0)
		return fd;
	mutex_lock(&f->bytes);
	err = dup3(fd, f->fd, O_CLOEXEC) < 0 ? -errno : 0;
	mutex_unlock(&f->bytes);
	if (err) {
		fsio()->unlink(path);
		return err;
	}
	f->second = !f->second;
	f->both = true;
	return 0;
}

static int shorten_record(struct staged *f, uint64_t size)
{
	struct journal_rec rec;
	int err = stage_read_record(f->stage, f->id, &rec);

	if (err)
		return err;
	rec.size = size;
	if (rec.base_len > size)
		rec.base_len = size;
	rec.meta_changed = false;
	ranges_remove(&rec.ranges, size, UINT64_MAX);
	if (rec.part_size && rec.nparts > size / rec.part_size)
		rec.nparts = size / rec.part_size;
	err = save_encoded(f, &rec, f->durable);
	journal_release(&rec);
	return err;
}

int staged_truncate(struct staged *f, uint64_t size)
{
	int err = 0;

	mutex_lock(&f->saving);
	if (f->owes && !f->both && size < f->owed_size)
		err = size ? shorten_record(f, size) : begin_anew(f);
	if (!err)
		err = staged_truncate_bytes(f, size);
	mutex_unlock(&f->saving);
	return err;
}
