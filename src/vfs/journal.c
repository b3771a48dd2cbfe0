/*
 * What the journal has of an inode.
 *
 * It is decided and written in one step (begin_record): else of two who write
 * it at one time the older knowledge could come last, and be what a crash
 * leaves.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "vfs/key.h"
#include "vfs/write.h"

/* What the record shall say and that it says so are one step. */
static void begin_record(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	while (i->recording)
		cond_wait(&v->inode_free, &v->lock);
	i->recording = true;
	mutex_unlock(&v->lock);
}

static void end_record(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->recording = false;
	cond_broadcast(&v->inode_free);
	mutex_unlock(&v->lock);
}

/* Attributes alone are not given up for bytes that nobody has closed if they
 * were promised to survive. */
static bool is_promised_locked(const struct vfs *v, const struct inode *i)
{
	return i->journalled && i->journalled_owed &&
	       (i->journalled_bytes || v->config.journal_close);
}

struct entry {
	enum journal_state state;
	bool durable;
	const char *why; /* or NULL */
	const struct new_name *to; /* or NULL: under the name it has */
};

static void say_version(struct vfs *v, const struct inode *i,
			const struct entry *e, struct journal_rec *rec)
{
	const char *etag;

	mutex_lock(&v->lock);
	etag = e->to ? e->to->replaces : i->etag;
	snprintf(rec->etag, sizeof(rec->etag), "%s", etag ? etag : "");
	rec->create = !rec->etag[0];
	rec->deferred = i->deferred && (!e->to || e->to->temporary);
	if (rec->state == JOURNAL_OPEN && is_promised_locked(v, i))
		rec->state = JOURNAL_OWED;
	mutex_unlock(&v->lock);
}

/* A promise is not taken back, and nothing is recorded of an unlinked file. */
static int write_record(struct vfs *v, struct inode *i, struct writeback *wb,
			const struct entry *e)
{
	char key[STORE_KEY_MAX + 1];
	struct store_meta pairs;
	struct journal_rec rec = { .state = e->state,
				   .key = e->to ? (char *)e->to->key : key,
				   .why = (char *)e->why };
	int err = e->to ? 0 : inode_key(v, i, key);

	if (err)
		return err;
	inode_pairs(v, i, &pairs);
	key_meta_pack(&pairs, &rec.blob, &rec.blob_len);
	store_meta_release(&pairs);
	say_version(v, i, e, &rec);
	mutex_lock(&v->lock);
	bool unlinked = i->unlinked;
	mutex_unlock(&v->lock);
	err = unlinked ? 0 : writeback_record(wb, &rec, e->durable);
	free(rec.blob);
	if (err || unlinked)
		return err;
	bool bytes = writeback_adds_bytes(wb);
	mutex_lock(&v->lock);
	i->journalled = true;
	i->journalled_bytes = bytes;
	i->journalled_owed = rec.state == JOURNAL_OWED;
	mutex_unlock(&v->lock);
	return 0;
}

static int record(struct vfs *v, struct inode *i, struct writeback *wb,
		  const struct entry *e)
{
	begin_record(v, i);
	int err = write_record(v, i, wb, e);
	end_record(v, i);
	return err;
}

int inode_journal_failed(struct vfs *v, struct inode *i, struct writeback *wb,
			 const char *why)
{
	const struct entry e = { .state = JOURNAL_FAILED,
				 .durable = true,
				 .why = why };

	v->failed_entries = true;
	return record(v, i, wb, &e);
}

void inode_journal_open(struct vfs *v, struct inode *i, struct writeback *wb)
{
	const struct entry e = { .state = JOURNAL_OPEN };

	mutex_lock(&v->lock);
	bool done = i->unlinked || (i->journalled && i->journalled_bytes) ||
		    is_promised_locked(v, i);
	mutex_unlock(&v->lock);
	if (!done && record(v, i, wb, &e))
		log_warn("vfs", "the journal cannot be written");
}

int inode_journal_owed(struct vfs *v, struct inode *i, struct writeback *wb,
		       bool durable)
{
	const struct entry e = { .state = JOURNAL_OWED, .durable = durable };

	return record(v, i, wb, &e);
}

void inode_make_durable(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);

	if (i->kind == META_DIR)
		folder_make_durable(v, i);
	if (wb)
		writeback_make_durable(wb);
	writeback_put(wb);
}

/* R2 has the content; of what was set on the file meanwhile, all is owed. */
static void record_rest(struct vfs *v, struct inode *i, struct writeback *wb)
{
	char key[STORE_KEY_MAX + 1];
	const struct entry e = { .state = JOURNAL_OWED,
				 .durable = v->config.journal_close };
	bool attributes = inode_key(v, i, key) == 0 &&
			  writeback_same_content(wb, key);

	if (!attributes)
		writeback_rerecord(wb);
	else if (write_record(v, i, wb, &e))
		log_warn("vfs", "the journal cannot be written");
}

/* If R2 has it all, or all is to go, nothing is left to be recovered; else the
 * rest is to replace what R2 has now. Who changes the content after the look at
 * it finds no record, and writes one when this has ended. */
static void unjournal(struct vfs *v, struct inode *i, struct writeback *wb,
		      bool all)
{
	begin_record(v, i);
	mutex_lock(&v->lock);
	bool was = i->journalled;
	i->journalled = false;
	mutex_unlock(&v->lock);
	bool rest = was && !all && writeback_dirty(wb);
	if (rest)
		record_rest(v, i, wb);
	else if (was)
		writeback_unrecord(wb);
	mutex_lock(&v->lock);
	i->journalled = rest;
	i->journalled_owed &= rest;
	mutex_unlock(&v->lock);
	end_record(v, i);
}

void inode_journal_stored(struct vfs *v, struct inode *i, struct writeback *wb)
{
	unjournal(v, i, wb, false);
}

void inode_unjournal(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);

	if (wb)
		unjournal(v, i, wb, true);
	writeback_put(wb);
}

void inode_rejournal(struct vfs *v, struct inode *i)
{
	struct writeback *wb = inode_staged(v, i);
	struct entry e = { .state = JOURNAL_OPEN };

	mutex_lock(&v->lock);
	bool journalled = i->journalled, owed = i->owed;
	mutex_unlock(&v->lock);
	if (owed)
		e = (struct entry){ .state = JOURNAL_OWED, .durable = true };
	if (wb && journalled && record(v, i, wb, &e)) {
		log_warn("vfs", "the journal cannot be written");
		if (owed)
			inode_owe(v, i, 0);
	}
	writeback_put(wb);
}

/* Names it in the journal and in memory. */
static int rename_recorded(struct vfs *v, struct inode *i, struct inode *old,
			   const struct new_name *to, bool owed)
{
	const struct entry e = { .state = owed ? JOURNAL_OWED : JOURNAL_OPEN,
				 .durable = owed,
				 .to = to };
	struct writeback *wb = inode_staged(v, i);
	int err = write_record(v, i, wb, &e);

	writeback_put(wb);
	mutex_lock(&v->lock);
	bool promised = owed || (i->journalled && i->journalled_owed);
	mutex_unlock(&v->lock);
	if (err)
		log_warn("vfs", "the journal cannot be written");
	if (err && promised)
		return err;
	inode_move(v, i, to->dir, to->name);
	mutex_lock(&v->lock);
	i->deferred = i->deferred && to->temporary;
	free(i->etag);
	i->etag = xstrdup(to->replaces);
	if (old)
		inode_unname_locked(old);
	mutex_unlock(&v->lock);
	return 0;
}

int inode_rename(struct vfs *v, struct inode *i, struct inode *old,
		 const struct new_name *to, bool owed)
{
	if (old)
		begin_record(v, old);
	begin_record(v, i);
	int err = rename_recorded(v, i, old, to, owed);
	end_record(v, i);
	if (old)
		end_record(v, old);
	return err;
}
