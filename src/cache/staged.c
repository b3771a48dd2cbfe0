/*
 * The bytes of a staged file.
 *
 * Only the ranges tell written bytes from holes: the local file is sparse for
 * both what comes from the base and what is zeros. They change together with
 * the bytes, one change after the other; who asks about them waits for none.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/log.h"
#include "cache/stage_impl.h"

/* ---- life ---- */

static struct staged *staged_new(struct stage *s, uint64_t id, int fd)
{
	struct staged *f = xcalloc(1, sizeof(*f));

	f->stage = s;
	f->id = id;
	f->fd = fd;
	mutex_init(&f->bytes);
	mutex_init(&f->lock);
	mutex_init(&f->saving);
	return f;
}

int staged_create(struct stage *s, struct staged **ret)
{
	uint64_t id = stage_new_id(s);
	CLEANUP(free) char *path = stage_data_path(s, id, false);
	int fd = fsio()->open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return fd;
	*ret = staged_new(s, id, fd);
	return 0;
}

/* Bytes that were written after the promise was made would show if the file
 * grew. */
static int cut_to_promise(struct staged *f)
{
	return f->owes ? fsio()->ftruncate(f->fd, (off_t)f->size) : 0;
}

int staged_load(struct stage *s, uint64_t id, struct staged **ret,
		struct journal_rec *rec)
{
	int fd, err = stage_read_record(s, id, rec);
	struct staged *f;

	if (err)
		return err;
	CLEANUP(free) char *path = stage_data_path(s, id, rec->second);
	CLEANUP(free) char *other = stage_data_path(s, id, !rec->second);

	fd = fsio()->open(path, O_RDWR, 0);
	if (fd < 0) {
		journal_release(rec);
		return fd;
	}
	fsio()->unlink(other);
	f = staged_new(s, id, fd);
	for (unsigned i = 0; i < rec->ranges.n; i++)
		ranges_add(&f->ranges, rec->ranges.r[i].off,
			   rec->ranges.r[i].end);
	f->size = rec->size;
	f->base_len = rec->base_len;
	f->second = rec->second;
	staged_note_record(f, rec, true);
	err = cut_to_promise(f);
	if (err) {
		staged_close(f);
		journal_release(rec);
		return err;
	}
	*ret = f;
	return 0;
}

void staged_close(struct staged *f)
{
	if (!f)
		return;
	close(f->fd);
	ranges_release(&f->ranges);
	mutex_release(&f->bytes);
	mutex_release(&f->lock);
	mutex_release(&f->saving);
	free(f);
}

void staged_discard(struct staged *f)
{
	if (!f)
		return;
	CLEANUP(free) char *path = stage_data_path(f->stage, f->id, f->second);
	CLEANUP(free) char *record = stage_kind_path(f->stage, f->id, "rec");
	int err = fsio()->unlink(record);

	if (err && err != -ENOENT)
		log_warn("stage", "cannot remove %s: %s", record,
			 strerror(-err));
	fsio()->unlink(path);
	staged_drop_other(f);
	staged_close(f);
}

uint64_t staged_id(const struct staged *f)
{
	return f->id;
}

int staged_fd(const struct staged *f)
{
	return f->fd;
}

uint64_t staged_size(struct staged *f)
{
	mutex_lock(&f->lock);
	uint64_t size = f->size;
	mutex_unlock(&f->lock);
	return size;
}

uint64_t staged_base_len(struct staged *f)
{
	mutex_lock(&f->lock);
	uint64_t len = f->base_len;
	mutex_unlock(&f->lock);
	return len;
}

/* ---- bytes ---- */

int staged_set_base(struct staged *f, uint64_t from, uint64_t size)
{
	int err = -EINVAL;

	mutex_lock(&f->bytes);
	mutex_lock(&f->lock);
	if (f->size == from && f->base_len == from && !f->ranges.n)
		err = fsio()->ftruncate(f->fd, (off_t)size);
	if (!err)
		f->size = f->base_len = size;
	mutex_unlock(&f->lock);
	mutex_unlock(&f->bytes);
	return err;
}

int staged_write(struct staged *f, const void *buf, size_t n, uint64_t off)
{
	uint64_t size;
	ssize_t put;

	mutex_lock(&f->bytes);
	put = fsio()->pwrite(f->fd, buf, n, (off_t)off);
	mutex_lock(&f->lock);
	size = f->size;
	if (put >= 0) {
		ranges_add(&f->ranges, off, off + n);
		if (off + n > size)
			f->size = off + n;
	}
	mutex_unlock(&f->lock);
	if (put < 0 && off + n > size && fsio()->ftruncate(f->fd, (off_t)size))
		log_warn("stage", "bytes of a failed write are left");
	mutex_unlock(&f->bytes);
	return put < 0 ? (int)put : 0;
}

void staged_flush_start(struct staged *f, uint64_t off, uint64_t n)
{
	fsio()->flush_start(f->fd, (off_t)off, (off_t)n);
}

/* The next run of [at, end) that is still the base's, its end in *ret_to. */
static bool base_run(struct staged *f, uint64_t *at, uint64_t end,
		     uint64_t *ret_to)
{
	bool found = false;

	mutex_lock(&f->lock);
	if (end > f->base_len)
		end = f->base_len;
	while (*at < end && !found) {
		found = !ranges_at(&f->ranges, *at, ret_to);
		if (*ret_to > end)
			*ret_to = end;
		if (!found)
			*at = *ret_to;
	}
	mutex_unlock(&f->lock);
	return found;
}

int staged_write_base(struct staged *f, const void *buf, size_t n, uint64_t off)
{
	const char *from = buf;
	uint64_t to = off;
	ssize_t put = 0;

	mutex_lock(&f->bytes);
	for (uint64_t at = off; put >= 0 && base_run(f, &at, off + n, &to);
	     at = to) {
		put = fsio()->pwrite(f->fd, from + (at - off), to - at,
				     (off_t)at);
		mutex_lock(&f->lock);
		if (put >= 0)
			ranges_add(&f->ranges, at, to);
		mutex_unlock(&f->lock);
	}
	mutex_unlock(&f->bytes);
	return put < 0 ? (int)put : 0;
}

int staged_truncate_bytes(struct staged *f, uint64_t size)
{
	int err;

	mutex_lock(&f->bytes);
	mutex_lock(&f->lock);
	err = fsio()->ftruncate(f->fd, (off_t)size);
	if (!err && size < f->size) {
		ranges_remove(&f->ranges, size, UINT64_MAX);
		if (f->base_len > size)
			f->base_len = size;
	}
	if (!err)
		f->size = size;
	mutex_unlock(&f->lock);
	mutex_unlock(&f->bytes);
	return err;
}

int staged_zero(struct staged *f, uint64_t off, uint64_t end)
{
	int err = 0;

	mutex_lock(&f->bytes);
	mutex_lock(&f->lock);
	if (end > f->size)
		end = f->size;
	if (off < end)
		err = fsio()->punch(f->fd, (off_t)off, (off_t)(end - off));
	if (!err)
		ranges_add(&f->ranges, off, end);
	mutex_unlock(&f->lock);
	mutex_unlock(&f->bytes);
	return err;
}

static enum staged_kind kind_locked(struct staged *f, uint64_t off,
				    uint64_t *len) REQUIRES(f->lock)
{
	enum staged_kind kind = STAGED_LOCAL;
	uint64_t end;

	if (!ranges_at(&f->ranges, off, &end)) {
		kind = off < f->base_len ? STAGED_BASE : STAGED_HOLE;
		if (kind == STAGED_BASE && end > f->base_len)
			end = f->base_len;
	}
	if (end - off < *len)
		*len = end - off;
	return kind;
}

enum staged_kind staged_kind_at(struct staged *f, uint64_t off, uint64_t *len)
{
	mutex_lock(&f->lock);
	enum staged_kind kind = kind_locked(f, off, len);
	mutex_unlock(&f->lock);
	return kind;
}

bool staged_changed(struct staged *f, uint64_t off, uint64_t end)
{
	mutex_lock(&f->lock);
	bool changed = end > f->base_len || ranges_touch(&f->ranges, off, end);
	mutex_unlock(&f->lock);
	return changed;
}

int staged_read(struct staged *f, void *buf, size_t n, uint64_t off)
{
	ssize_t got = fsio()->pread(f->fd, buf, n, (off_t)off);

	if (got < 0)
		return (int)got;
	memset((char *)buf + got, 0, n - got);
	return 0;
}

int staged_snapshot(struct staged *f, uint64_t off, uint64_t n, int *ret_fd)
{
	enum { STEP = 1 << 20 };
	CLEANUP(free)
	char *path = stage_kind_path(f->stage, stage_new_id(f->stage),
				     "snapshot.new");
	CLEANUP(free) char *buf = xmalloc(STEP);
	int err = 0, fd = fsio()->open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return fd;
	fsio()->unlink(path);
	for (uint64_t at = 0; at < n && !err; at += STEP) {
		size_t len = n - at < STEP ? n - at : STEP;

		err = staged_read(f, buf, len, off + at);
		if (!err) {
			ssize_t put = fsio()->pwrite(fd, buf, len, (off_t)at);

			err = put < 0 ? (int)put : 0;
		}
	}
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}
