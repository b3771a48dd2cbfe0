/*
 * What the log says of stores that failed.
 *
 * One line when it begins, with the key, the reason and what to do, and one
 * when it ends: stored after all, or given up. What is tried again in between
 * says nothing new.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vfs/write.h"

static const char *advice(int err)
{
	switch (err) {
	case -EACCES:
		return "; the token must allow Object Read & Write here";
	case -EDQUOT:
		return "; see the plan of the R2 account";
	case -EPERM:
		return "; a bucket lock keeps the object";
	case -EEXIST:
	case -ESTALE:
		return "; somebody else stored another version";
	case -ENOSPC:
		return "; the disk of the cache folder is full";
	default:
		return "";
	}
}

static bool version_is_gone(int err)
{
	return err == -ESTALE || err == -EEXIST || err == -ENOENT;
}

/* Bytes that cannot be had any more of the version that was to be changed. */
static uint64_t count_lacking(struct writeback *wb)
{
	uint64_t off = 0, end, sum = 0;

	for (; writeback_lacks(wb, &off, &end); off = end)
		sum += end - off;
	return sum;
}

static void log_final(const char *key, struct writeback *wb, int err,
		      const char *why, uint64_t lacking)
{
	unsigned long long id = writeback_id(wb);

	if (lacking)
		log_error("vfs",
			  "%s could not be stored: %s (%s)%s; %llu bytes of "
			  "the version before are gone, what was written is "
			  "kept: see r2fs recover, entry %llu",
			  key, why, strerror(-err), advice(err),
			  (unsigned long long)lacking, id);
	else
		log_error("vfs",
			  "%s could not be stored: %s (%s)%s; its bytes are "
			  "kept: see r2fs recover, entry %llu",
			  key, why, strerror(-err), advice(err), id);
}

bool failure_note(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		  struct writeback *wb, int err, const char *why)
{
	char key[STORE_KEY_MAX + 1];
	bool passing = ctx->owed && error_may_pass(err);
	bool unlinked, first;

	if (inode_key(v, i, key))
		return false;
	why = why[0] ? why : strerror(-err);
	mutex_lock(&v->lock);
	unlinked = i->unlinked;
	first = !i->fail_error || (!passing && !i->fail_told);
	i->fail_told |= !passing;
	i->fail_error = err;
	free(i->fail_why);
	i->fail_why = xstrdup(why);
	mutex_unlock(&v->lock);
	if (unlinked || !first)
		log_debug("vfs", "%s could not be stored: %s", key, why);
	else if (passing)
		log_warn("vfs",
			 "%s could not be stored yet: %s (%s); it is tried "
			 "again until R2 has it",
			 key, why, strerror(-err));
	else
		log_final(key, wb, err, why, 0);
	return !unlinked;
}

int failure_end(struct vfs *v, struct inode *i, struct writeback *wb, char *why,
		size_t n)
{
	int err;

	mutex_lock(&v->lock);
	snprintf(why, n, "%s", i->fail_why ? i->fail_why : "no answer from R2");
	err = i->fail_error ? i->fail_error : -EIO;
	mutex_unlock(&v->lock);
	if (version_is_gone(err))
		writeback_salvage(wb);
	return err;
}

void failure_kept(struct vfs *v, struct inode *i, struct writeback *wb, int err,
		  const char *why, int unkept)
{
	uint64_t lacking = version_is_gone(err) ? count_lacking(wb) : 0;
	char key[STORE_KEY_MAX + 1] = "?";
	bool told;

	if (inode_key(v, i, key))
		log_debug("vfs", "unlinked while its store failed");
	mutex_lock(&v->lock);
	told = i->fail_told;
	i->fail_error = 0;
	i->fail_told = false;
	mutex_unlock(&v->lock);
	if (unkept)
		log_error("vfs",
			  "%s could not be stored: %s (%s), nor be kept in the "
			  "journal: %s",
			  key, why, strerror(-err), strerror(-unkept));
	else if (!told || lacking)
		log_final(key, wb, err, why, lacking);
}

void failure_staging(struct vfs *v, struct inode *i, int err)
{
	char key[STORE_KEY_MAX + 1];
	bool told;

	mutex_lock(&v->lock);
	told = i->write_told;
	i->write_told = true;
	mutex_unlock(&v->lock);
	if (told)
		return;
	inode_rejournal(v, i);
	if (!inode_key(v, i, key))
		log_error("vfs",
			  "%s cannot be written on: %s; %s. What was written "
			  "before is kept",
			  key, strerror(-err),
			  err == -ENOSPC ? "the disk of the cache folder is "
					   "full up to --min-free" :
					   "see the disk of the cache folder");
}

void failure_over(struct vfs *v, struct inode *i)
{
	char key[STORE_KEY_MAX + 1];
	bool was;

	mutex_lock(&v->lock);
	was = i->fail_error;
	i->fail_error = 0;
	i->fail_told = false;
	mutex_unlock(&v->lock);
	if (was && !inode_key(v, i, key))
		log_info("vfs", "%s is stored after all", key);
}
