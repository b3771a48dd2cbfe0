/*
 * Records of the journal, after the folder that they lie below was renamed.
 *
 * A rename that a crash ended is finished by the next mount, before it takes up
 * what is owed. The records still name the old keys, under which they would
 * bring the folder back. They are all rewritten before the note of the rename
 * goes, so a crash amid them does no harm.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vfs/write.h"

struct rekey {
	struct vfs *v;
	struct stage *stage;
	const char *from, *to; /* keys of folders */
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
	bool below = !err &&
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
