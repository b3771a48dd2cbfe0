/*
 * The keys of a folder that is renamed.
 *
 * They are moved page by page: copy up to 1,000 keys, 16 at a time, then
 * delete exactly those that were copied. At every moment each object is at its
 * old or its new key, or both.
 *
 * R2 gives the copy of an object that was uploaded in parts another ETag. Its
 * content is the same, so the cache is told of the new name for it: what is
 * cached stays, and the object is not taken for somebody else's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/parts.h"
#include "vfs/key.h"
#include "vfs/removal.h"
#include "vfs/write.h"

enum { COPIES = 16 };

struct copy {
	bool done;
	struct store_etag etag; /* of the new object */
};

struct page {
	struct vfs *v;
	const char *from, *to;
	const struct store_list *list;
	struct copy *copies; /* one for each entry of the list */
	struct mutex lock;
	struct cond changed;
	unsigned flying; /* guarded by lock */
	int error; /* guarded by lock: the first */
};

static void page_init(struct page *p, struct vfs *v, const char *from,
		      const char *to, const struct store_list *list)
{
	*p = (struct page){ .v = v, .from = from, .to = to, .list = list };
	p->copies = xcalloc(list->n + 1, sizeof(*p->copies));
	mutex_init(&p->lock);
	cond_init(&p->changed);
}

static void page_release(struct page *p)
{
	cond_release(&p->changed);
	mutex_release(&p->lock);
	free(p->copies);
}

/* ---- copying ---- */

struct copy_job {
	struct store_req req;
	struct page *page;
	unsigned index;
	char key[STORE_KEY_MAX + 1];
};

static void copy_done(struct store_req *req)
{
	struct copy_job *j = container_of(req, struct copy_job, req);
	struct copy *c = &j->page->copies[j->index];
	struct page *p = j->page;

	mutex_lock(&p->lock);
	if (!req->error) {
		c->done = true;
		c->etag = req->attr.etag;
	} else if (req->error != -ENOENT && !p->error) {
		p->error = req->error;
	}
	p->flying--;
	cond_broadcast(&p->changed);
	mutex_unlock(&p->lock);
	store_req_release(req);
	free(j);
}

static int copy_large(struct page *p, const struct vfs_ctx *ctx, unsigned index,
		      const char *to)
{
	const struct store_entry *e = &p->list->entries[index];
	struct writeback_base base = { .key = e->name,
				       .etag = e->etag.s,
				       .cid = meta_new_cid(p->v->meta),
				       .size = e->size };
	struct writeback_target t = { .key = to, .cid = base.cid };
	struct writeback_result r;
	struct writeback *wb;
	int err = writeback_create(p->v->config.writebacks, &base, &wb);

	if (err)
		return err;
	err = writeback_store(wb, &t, ctx->interrupt, &r);
	if (err)
		log_warn("vfs", "%s could not be copied to %s: %s", e->name, to,
			 r.why);
	writeback_discard(wb);
	writeback_put(wb);
	if (!err)
		p->copies[index] = (struct copy){ true, r.etag };
	return err;
}

static void copy_small(struct page *p, unsigned index, const char *to)
{
	const struct store_entry *e = &p->list->entries[index];
	struct copy_job *j = xcalloc(1, sizeof(*j));

	mutex_lock(&p->lock);
	while (p->flying >= COPIES)
		cond_wait(&p->changed, &p->lock);
	p->flying++;
	mutex_unlock(&p->lock);
	j->page = p;
	j->index = index;
	snprintf(j->key, sizeof(j->key), "%s", to);
	store_req_init(&j->req, STORE_COPY);
	j->req.key = j->key;
	j->req.source_key = e->name;
	j->req.source_if_match = e->etag.s[0] ? e->etag.s : NULL;
	j->req.done = copy_done;
	store_submit(p->v->config.store, &j->req);
}

static int target_key(const struct page *p, unsigned index,
		      char ret[STORE_KEY_MAX + 1])
{
	const char *rest = p->list->entries[index].name + strlen(p->from);
	size_t n = strlen(p->to);

	if (n + strlen(rest) > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, p->to, n);
	strcpy(ret + n, rest);
	return 0;
}

static int page_error(struct page *p)
{
	mutex_lock(&p->lock);
	int err = p->error;
	mutex_unlock(&p->lock);
	return err;
}

static int copy_page(struct page *p, const struct vfs_ctx *ctx)
{
	char key[STORE_KEY_MAX + 1];
	int err = 0;

	for (unsigned i = 0; i < p->list->n && !err && !page_error(p); i++) {
		err = target_key(p, i, key);
		if (!err && p->list->entries[i].size > PART_MAX)
			err = copy_large(p, ctx, i, key);
		else if (!err)
			copy_small(p, i, key);
	}
	mutex_lock(&p->lock);
	while (p->flying)
		cond_wait(&p->changed, &p->lock);
	mutex_unlock(&p->lock);
	return err ? err : page_error(p);
}

/* The error of the first key that is not deleted. */
static int delete_old(struct page *p, const struct vfs_ctx *ctx)
{
	const char **keys = xcalloc(p->list->n + 1, sizeof(*keys));
	int *errors = xcalloc(p->list->n + 1, sizeof(*errors));
	struct store_req req;
	int err = 0;

	store_req_init(&req, STORE_DELETE_MANY);
	for (unsigned i = 0; i < p->list->n; i++)
		if (p->copies[i].done)
			keys[req.nkeys++] = p->list->entries[i].name;
	req.keys = keys;
	req.key_errors = errors;
	if (req.nkeys)
		err = store_call(p->v->config.store, &req, ctx->interrupt);
	if (!err && req.nfailed)
		log_error("vfs", "%u of %u keys could not be deleted: %s",
			  req.nfailed, req.nkeys, req.why);
	for (unsigned i = 0; i < req.nkeys && !err; i++)
		err = errors[i];
	store_req_release(&req);
	free(errors);
	free(keys);
	return err;
}

/* ---- what the cache knows of them ---- */

/* The record of a path below dir: of an object beside a folder under its
 * suffix. Release ret; *name is cut out of path. */
static int find_below(struct vfs *v, uint64_t dir, char *path, char **name,
		      uint64_t *parent, struct meta_rec *ret)
{
	char *slash;
	int err;

	for (*parent = dir; (slash = strchr(path, '/')); path = slash + 1) {
		*slash = 0;
		err = meta_get(v->meta, *parent, path, ret);
		if (err)
			return err;
		*parent = ret->ino;
		meta_rec_release(ret);
		if (ret->kind != META_DIR)
			return -ENOENT;
	}
	*name = path;
	err = meta_get(v->meta, *parent, path, ret);
	if (err || ret->kind != META_DIR)
		return err;
	meta_rec_release(ret);
	strcat(path, VFS_OBJECT_SUFFIX);
	return meta_get(v->meta, *parent, path, ret);
}

static void learn_etag(struct page *p, struct inode *dir, unsigned index)
{
	const struct store_entry *e = &p->list->entries[index];
	char path[STORE_KEY_MAX + sizeof(VFS_OBJECT_SUFFIX)];
	const char *etag = p->copies[index].etag.s;
	struct meta_rec rec = { 0 };
	uint64_t parent;
	struct inode *i;
	char *name;

	snprintf(path, sizeof(path), "%s", e->name + strlen(p->from));
	if (find_below(p->v, dir->ino, path, &name, &parent, &rec))
		return;
	if (strcmp(rec.etag, e->etag.s) != 0) {
		meta_rec_release(&rec);
		return;
	}
	snprintf(rec.etag, sizeof(rec.etag), "%s", etag);
	if (meta_put(p->v->meta, parent, name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	i = inode_get(p->v, rec.ino);
	mutex_lock(&p->v->lock);
	if (i && i->etag && strcmp(i->etag, e->etag.s) == 0) {
		free(i->etag);
		i->etag = xstrdup(etag);
	}
	mutex_unlock(&p->v->lock);
	inode_put(p->v, i);
	meta_rec_release(&rec);
}

static void learn_etags(struct page *p, struct inode *dir)
{
	for (unsigned i = 0; i < p->list->n; i++) {
		const char *etag = p->copies[i].etag.s;

		if (etag[0] && strcmp(etag, p->list->entries[i].etag.s) != 0)
			learn_etag(p, dir, i);
	}
}

/* ---- all of them ---- */

static int move_page(struct vfs *v, const struct vfs_ctx *ctx,
		     struct inode *dir, const char *from, const char *to,
		     const struct store_list *list)
{
	struct page p;
	int err;

	page_init(&p, v, from, to, list);
	err = copy_page(&p, ctx);
	if (!err)
		err = delete_old(&p, ctx);
	if (!err && dir)
		learn_etags(&p, dir);
	page_release(&p);
	return err;
}

int move_keys(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
	      const char *from, const char *to)
{
	unsigned long long moved = 0;
	char *token = NULL;
	bool more = true;
	int err = removal_wait_below(v, ctx, from);

	if (!err)
		err = removal_wait_below(v, ctx, to);
	while (more && !err) {
		struct store_req req;

		store_req_init(&req, STORE_LIST);
		req.prefix = from;
		req.token = token;
		err = store_call(v->config.store, &req, ctx->interrupt);
		if (!err)
			err = move_page(v, ctx, dir, from, to, &req.list);
		moved += err ? 0 : req.list.n;
		more = !err && req.list.truncated;
		free(token);
		token = more ? xstrdup(req.list.next_token) : NULL;
		if (more || moved > STORE_LIST_MAX)
			log_info("vfs", "rename of %s to %s: %llu keys moved",
				 from, to, moved);
		store_req_release(&req);
	}
	free(token);
	if (err)
		log_error("vfs",
			  "rename of %s to %s stopped after %llu keys: %s; the "
			  "others are still in %s: repeat the rename",
			  from, to, moved, strerror(-err), from);
	return err;
}
