/*
 * Metadata that others change while it is being changed here.
 *
 * Somebody's chmod is a COPY of the object onto itself: the ETag stays, so the
 * condition of a store does not see it, and the store gives all metadata anew.
 * Before one whose metadata was confirmed too long ago R2 is asked again; what
 * changed there is taken over, except where it was changed here as well.
 */
#include "base/clock.h"
#include "vfs/key.h"
#include "vfs/write.h"

#include <string.h>

/* What was set or removed here since base, into theirs. */
static void keep_ours(struct store_meta *theirs, const struct store_meta *base,
		      const struct store_meta *ours)
{
	for (unsigned k = 0; k < ours->n; k++) {
		const struct store_meta_pair *p = &ours->pairs[k];
		const char *was = store_meta_get(base, p->name);

		if (!was || strcmp(was, p->value) != 0)
			pairs_set(theirs, p->name, p->value);
	}
	for (unsigned k = 0; k < base->n; k++)
		if (!store_meta_get(ours, base->pairs[k].name))
			pairs_unset(theirs, base->pairs[k].name);
}

static void take_locked(struct vfs *v, struct inode *i,
			const struct store_attr *attr) REQUIRES(v->lock)
{
	struct store_meta theirs, ours, base = i->base;
	struct meta_rec rec;

	pairs_from_attr(attr, &theirs);
	memset(&i->base, 0, sizeof(i->base));
	if (store_meta_copy(&i->base, &theirs))
		memset(&i->base, 0, sizeof(i->base));
	inode_pairs_locked(i, &ours);
	keep_ours(&theirs, &base, &ours);
	rec = (struct meta_rec){ .kind = META_FILE,
				 .mtime_ns = attr->mtime_ns };
	key_meta_pack(&theirs, &rec.blob, &rec.blob_len);
	inode_show_locked(v, i, &rec);
	meta_rec_release(&rec);
	pairs_unset_attributes(&theirs);
	store_meta_release(&i->pairs);
	i->pairs = theirs;
	i->object_ns = attr->mtime_ns;
	i->flags &= ~META_STORED;
	store_meta_release(&ours);
	store_meta_release(&base);
}

int64_t stored_ns(int64_t answered_ns)
{
	return answered_ns ? answered_ns : clock_wall_ns();
}

int inode_renew(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		const char *key)
{
	struct store_req req;
	int64_t asked_ns;
	bool old;
	int err;

	mutex_lock(&v->lock);
	old = i->wb && i->etag && *i->etag &&
	      ttl_left(i->checked_ns, v->config.metadata_ttl_ns) == 0;
	mutex_unlock(&v->lock);
	if (!old)
		return 0;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	req.patient = true;
	asked_ns = clock_wall_ns();
	err = store_call(v->config.store, &req, ctx->interrupt);
	mutex_lock(&v->lock);
	if (!err && strcmp(i->etag, req.attr.etag.s) == 0) {
		i->checked_ns = asked_ns;
		if (!meta_same_time(i->flags, i->object_ns, req.attr.mtime_ns))
			take_locked(v, i, &req.attr);
	}
	mutex_unlock(&v->lock);
	store_req_release(&req);
	return err == -ENOENT ? 0 : err;
}
