/*
 * Records of the journal, when the folder that they lie below is renamed.
 *
 * A rename that a crash ended is finished by the next mount, before it takes up
 * what is owed. The records still name the old keys, under which they would
 * bring the folder back. They are all rewritten before the note of the rename
 * goes, so a crash amid them does no harm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vfs/write.h"

struct rekey {
	struct vfs *v;
	struct stage *stage;
	const char *from, *to; /* keys of folders */
	bool failed_only;
	int error; /* the first */
};

static bool lies_below(const struct rekey *r, const char *key)
{
	return key && strncmp(key, r->from, strlen(r->from)) == 0;
}

static void move_key(const struct rekey *r, char **key)
{
	char *moved;

	if (!lies_below(r, *key))
		return;
	moved = strcat(strcpy(xmalloc(strlen(r->to) + strlen(*key) + 1), r->to),
		       *key + strlen(r->from));
	free(*key);
	*key = moved;
}

static void note_error(struct rekey *r, uint64_t id, int err)
{
	if (!err)
		return;
	log_error("vfs", "journal entry %llu is still below %s: %s",
		  (unsigned long long)id, r->from, strerror(-err));
	if (!r->error)
		r->error = err;
}

static int rekey_file(struct rekey *r, uint64_t id)
{
	struct journal_rec rec;
	struct staged *staged;
	int err = staged_load(r->stage, id, &staged, &rec);

	if (err)
		return err;
	if (rec.upload_id && lies_below(r, rec.key))
		upload_abort(r->v, &rec);
	move_key(r, &rec.key);
	move_key(r, &rec.base_key);
	err = staged_save(staged, &rec, true);
	journal_release(&rec);
	staged_close(staged);
	return err;
}

static void each_file(uint64_t id, void *arg)
{
	struct rekey *r = arg;
	struct journal_rec rec;
	int err = stage_read_record(r->stage, id, &rec);
	bool below = !err && (rec.state == JOURNAL_FAILED || !r->failed_only) &&
		     (lies_below(r, rec.key) || lies_below(r, rec.base_key));

	journal_release(&rec);
	if (below) /* who reads a damaged record says so */
		note_error(r, id, rekey_file(r, id));
}

static void each_folder(uint64_t id, void *arg)
{
	struct rekey *r = arg;
	struct journal_rec rec;

	if (stage_read_note(r->stage, STAGE_ATTRIBUTES, id, &rec))
		return;
	if (lies_below(r, rec.key)) {
		move_key(r, &rec.key);
		note_error(r, id,
			   stage_note(r->stage, STAGE_ATTRIBUTES, id, &rec,
				      true));
	}
	journal_release(&rec);
}

/* ---- copies with another ETag ---- */

struct recopy {
	struct stage *stage;
	const struct copied_key *keys;
	size_t n;
	int error; /* the first */
};

static int by_from(const void *key, const void *of)
{
	return strcmp(key, ((const struct copied_key *)of)->from);
}

/* The copy of the version that is named, or NULL. */
static const struct copied_key *find_copy(const struct recopy *r,
					  const char *key, const char *etag)
{
	const struct copied_key *c =
		key ? bsearch(key, r->keys, r->n, sizeof(*r->keys), by_from) :
		      NULL;

	return c && strcmp(c->etag, etag) == 0 ? c : NULL;
}

static int recopy_file(const struct recopy *r, uint64_t id,
		       const struct copied_key *of,
		       const struct copied_key *base)
{
	struct journal_rec rec;
	struct staged *staged;
	int err = staged_load(r->stage, id, &staged, &rec);

	if (err)
		return err;
	if (of)
		snprintf(rec.etag, sizeof(rec.etag), "%s", of->new_etag);
	if (base) {
		snprintf(rec.base_etag, sizeof(rec.base_etag), "%s",
			 base->new_etag);
		free(rec.base_key);
		rec.base_key = xstrdup(base->to);
	}
	err = staged_save(staged, &rec, true);
	journal_release(&rec);
	staged_close(staged);
	return err;
}

static void recopy_one(uint64_t id, void *arg)
{
	struct recopy *r = arg;
	const struct copied_key *of, *base;
	struct journal_rec rec;
	int err = stage_read_record(r->stage, id, &rec);

	if (err)
		return;
	of = find_copy(r, rec.key, rec.etag);
	base = find_copy(r, rec.base_key, rec.base_etag);
	if (of || base)
		err = recopy_file(r, id, of, base);
	if (err && !r->error)
		r->error = err;
	journal_release(&rec);
}

int journal_copied(struct vfs *v, const struct copied_key *keys, size_t n)
{
	struct recopy r = { .stage = writebacks_stage(v->config.writebacks),
			    .keys = keys,
			    .n = n };
	int err = stage_each(r.stage, recopy_one, &r);

	return err ? err : r.error;
}

/* ---- another key ---- */

int journal_moved(struct vfs *v, const char *from, const char *to)
{
	struct rekey r = { .v = v,
			   .stage = writebacks_stage(v->config.writebacks),
			   .from = from,
			   .to = to };
	int err = stage_each(r.stage, each_file, &r);

	if (!err)
		err = stage_each_kind(r.stage, STAGE_ATTRIBUTES, each_folder,
				      &r);
	return err ? err : r.error;
}

void journal_failed_moved(struct vfs *v, const char *from, const char *to)
{
	struct rekey r = { .v = v,
			   .stage = writebacks_stage(v->config.writebacks),
			   .from = from,
			   .to = to,
			   .failed_only = true };

	if (!v->failed_entries)
		return;
	mutex_lock(&v->recovering);
	int err = stage_each(r.stage, each_file, &r);
	mutex_unlock(&v->recovering);
	if (err)
		note_error(&r, 0, err);
}
