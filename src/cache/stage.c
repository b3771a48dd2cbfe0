/*
 * Local files under a journal of small text records: see cache/journal.h for
 * why not a database. A record is replaced by writing a new one beside it and
 * renaming, so a crash leaves the old one or the new one. The bytes that a
 * durable one speaks of are synced before it is written.
 *
 * A record that owes an upload is a promise, and what is done to the file
 * afterwards must not make holes in it. To write the file anew, from nothing,
 * begins a second local file beside the one that the record speaks of; to make
 * it shorter is told the record first. What is overwritten in its place may be
 * found old or new, as on a local disk.
 */
#include "cache/stage.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/lock.h"
#include "base/log.h"

struct stage {
	char *dir;
	int dir_fd;
	uint64_t next_id; /* atomic */
};

struct staged {
	struct stage *stage;
	uint64_t id;
	int fd;
	struct mutex bytes; /* one change of bytes and ranges at a time */
	struct mutex lock; /* taken after bytes, and never while bytes move */
	/* guarded by lock; changed with bytes held too */
	struct ranges ranges;
	uint64_t size, base_len;
	struct mutex saving; /* one record write at a time; taken before bytes */
	/* guarded by saving */
	bool second; /* which of the two local files fd is */
	bool both; /* the record speaks of the other one */
	bool owes, durable; /* what the record is; false: there is none */
	uint64_t owed_size;
};

/* ---- the folder ---- */

static bool parse_id(const char *name, uint64_t *ret)
{
	char *end;

	*ret = strtoull(name, &end, 16);
	return end == name + 16 && (*end == 0 || *end == '.');
}

char *stage_kind_path(struct stage *s, uint64_t id, const char *kind)
{
	return xasprintf("%s/%016" PRIx64 ".%s", s->dir, id, kind);
}

/* Where the bytes are. */
static char *data_path(struct stage *s, uint64_t id, bool second)
{
	return second ? stage_kind_path(s, id, "second") :
			xasprintf("%s/%016" PRIx64, s->dir, id);
}

uint64_t stage_new_id(struct stage *s)
{
	return __atomic_fetch_add(&s->next_id, 1, __ATOMIC_RELAXED);
}

static void remove_orphan(struct stage *s, const char *name, uint64_t id)
{
	CLEANUP(free) char *record = stage_kind_path(s, id, "rec");
	CLEANUP(free) char *path = xasprintf("%s/%s", s->dir, name);
	bool bytes = !name[16] || strcmp(name + 16, ".second") == 0;

	if ((bytes && access(record, F_OK)) || strstr(name, ".new"))
		fsio()->unlink(path);
}

static int first_free_id(struct stage *s)
{
	DIR *d = opendir(s->dir);
	struct dirent *e;
	uint64_t id;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		if (parse_id(e->d_name, &id)) {
			if (id >= s->next_id)
				s->next_id = id + 1;
			remove_orphan(s, e->d_name, id);
		}
	closedir(d);
	return 0;
}

int stage_open(const char *dir, struct stage **ret)
{
	struct stage *s = xcalloc(1, sizeof(*s));
	int err;

	s->dir = xasprintf("%s/stage", dir);
	s->next_id = 1;
	s->dir_fd = -1;
	err = fsio_mkdirs(s->dir);
	if (!err)
		err = s->dir_fd =
			fsio()->open(s->dir, O_RDONLY | O_DIRECTORY, 0);
	if (err >= 0)
		err = first_free_id(s);
	if (err < 0) {
		stage_close(s);
		return err;
	}
	*ret = s;
	return 0;
}

void stage_close(struct stage *s)
{
	if (!s)
		return;
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s->dir);
	free(s);
}

int stage_each_kind(struct stage *s, const char *kind,
		    void (*fn)(uint64_t id, void *arg), void *arg)
{
	DIR *d = opendir(s->dir);
	uint64_t *ids = NULL, id;
	struct dirent *e;
	size_t n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (!parse_id(e->d_name, &id) || e->d_name[16] != '.' ||
		    strcmp(e->d_name + 17, kind) != 0)
			continue;
		ids = xrealloc(ids, (n + 1) * sizeof(*ids));
		ids[n++] = id;
	}
	closedir(d);
	for (size_t i = 0; i < n; i++)
		fn(ids[i], arg);
	free(ids);
	return 0;
}

int stage_each(struct stage *s, void (*fn)(uint64_t id, void *arg), void *arg)
{
	return stage_each_kind(s, "rec", fn, arg);
}

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

/* What the record on disk is from now on. */
static void note_record(struct staged *f, const struct journal_rec *rec,
			bool durable)
{
	f->owes = rec && rec->state == JOURNAL_OWED;
	f->durable = rec && durable;
	f->owed_size = f->owes ? rec->size : 0;
}

/* The record speaks of the bytes in use, or is gone: the others may go. */
static void drop_other(struct staged *f)
{
	CLEANUP(free) char *path = data_path(f->stage, f->id, !f->second);

	if (f->both)
		fsio()->unlink(path);
	f->both = false;
}

int staged_create(struct stage *s, struct staged **ret)
{
	uint64_t id = __atomic_fetch_add(&s->next_id, 1, __ATOMIC_RELAXED);
	CLEANUP(free) char *path = data_path(s, id, false);
	int fd = fsio()->open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return fd;
	*ret = staged_new(s, id, fd);
	return 0;
}

static int read_record(struct stage *s, uint64_t id, const char *kind,
		       struct journal_rec *rec)
{
	CLEANUP(free) char *path = stage_kind_path(s, id, kind);
	CLEANUP(free) char *text = NULL;
	CLEANUP(fd) int fd = fsio()->open(path, O_RDONLY, 0);
	struct stat st;
	ssize_t n;

	memset(rec, 0, sizeof(*rec));
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_size > JOURNAL_MAX)
		return -EBADMSG;
	text = xmalloc(st.st_size + 1);
	n = fsio()->pread(fd, text, st.st_size, 0);
	if (n < 0)
		return (int)n;
	text[n] = 0;
	return journal_decode(text, n, rec);
}

int stage_read_record(struct stage *s, uint64_t id, struct journal_rec *rec)
{
	return read_record(s, id, "rec", rec);
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
	CLEANUP(free) char *path = data_path(s, id, rec->second);
	CLEANUP(free) char *other = data_path(s, id, !rec->second);

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
	note_record(f, rec, true);
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
	CLEANUP(free) char *path = data_path(f->stage, f->id, f->second);
	CLEANUP(free) char *record = stage_kind_path(f->stage, f->id, "rec");
	int err = fsio()->unlink(record);

	if (err && err != -ENOENT)
		log_warn("stage", "cannot remove %s: %s", record,
			 strerror(-err));
	fsio()->unlink(path);
	drop_other(f);
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

static int truncate_bytes(struct staged *f, uint64_t size)
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

/* ---- the record ---- */

static void copy_ranges(struct ranges *to, const struct ranges *from)
{
	to->n = to->cap = from->n;
	to->r = xmalloc((from->n + 1) * sizeof(*to->r));
	if (from->n)
		memcpy(to->r, from->r, from->n * sizeof(*to->r));
}

static int write_record(struct stage *s, uint64_t id, const char *kind,
			const struct buf *b, bool durable)
{
	CLEANUP(free) char *path = stage_kind_path(s, id, kind);
	CLEANUP(free) char *fresh = xasprintf("%s.new", path);
	int fd = fsio()->open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int err = 0;

	if (fd < 0)
		return fd;
	ssize_t put = fsio()->pwrite(fd, b->data, b->len, 0);
	if (put < 0)
		err = (int)put;
	if (!err && durable)
		err = fsio()->fsync(fd);
	close(fd);
	if (!err)
		err = fsio()->rename(fresh, path);
	if (!err && durable)
		err = fsio()->fsync(s->dir_fd);
	if (err)
		fsio()->unlink(fresh);
	return err;
}

static int save_encoded(struct staged *f, const struct journal_rec *rec,
			bool durable)
{
	struct buf b;
	int err;

	buf_init(&b, JOURNAL_MAX);
	journal_encode(&b, rec);
	err = b.failed ? -EFBIG :
			 write_record(f->stage, f->id, "rec", &b, durable);
	buf_release(&b);
	if (!err)
		note_record(f, rec, durable);
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
		drop_other(f);
	mutex_unlock(&f->saving);
	return err;
}

static int sync_promised(struct staged *f)
{
	CLEANUP(free)
	char *path = data_path(f->stage, f->id, f->second != f->both);
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
	note_record(f, NULL, false);
	drop_other(f);
	mutex_unlock(&f->saving);
}

/* ---- making shorter what is promised ---- */

static int begin_anew(struct staged *f)
{
	CLEANUP(free) char *path = data_path(f->stage, f->id, !f->second);
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
		err = truncate_bytes(f, size);
	mutex_unlock(&f->saving);
	return err;
}

/* ---- notes ---- */

int stage_note(struct stage *s, const char *kind, uint64_t id,
	       const struct journal_rec *rec, bool durable)
{
	struct buf b;
	int err;

	buf_init(&b, JOURNAL_MAX);
	journal_encode(&b, rec);
	err = b.failed ? -EFBIG : write_record(s, id, kind, &b, durable);
	buf_release(&b);
	return err;
}

int stage_read_note(struct stage *s, const char *kind, uint64_t id,
		    struct journal_rec *rec)
{
	return read_record(s, id, kind, rec);
}

void stage_note_done(struct stage *s, const char *kind, uint64_t id)
{
	CLEANUP(free) char *path = stage_kind_path(s, id, kind);
	int err = fsio()->unlink(path);

	if (!err)
		err = fsio()->fsync(s->dir_fd);
	if (err)
		log_warn("stage", "cannot remove %s: %s", path, strerror(-err));
}
