/*
 * The folder, and its small text files: see cache/journal.h for why not a
 * database. A record is replaced by writing a new one beside it and renaming, so
 * a crash leaves the old one or the new one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/log.h"
#include "cache/stage_impl.h"

struct stage {
	char *dir;
	int dir_fd;
	uint64_t next_id; /* atomic */
};

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

char *stage_data_path(struct stage *s, uint64_t id, bool second)
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

/* ---- records and notes ---- */

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
	return stage_read_note(s, "rec", id, rec);
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
