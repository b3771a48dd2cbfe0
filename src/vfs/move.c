/*
 * The keys of a folder that is renamed.
 *
 * They are moved page by page: copy up to 1,000 keys, 16 at a time, then
 * delete exactly those that were copied. At every moment each object is at its
 * old or its new key, or both. When a copy fails, those of the same page are
 * deleted: what did not work shows as little as can be.
 *
 * A copy replaces nothing. What is there already may be a copy of ours: of an
 * attempt that a crash ended, or that never got an answer. It is one if size,
 * metadata and ETag are the same. R2 gives the copy of an object that was
 * uploaded in parts another ETag, that of one part; who else stores so much
 * does it in parts. So where there may have been an earlier attempt, such an
 * ETag will do; and any, if there is metadata, which has a time in nanoseconds
 * in it if r2fs wrote the object.
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
	bool done; /* the object is at its new key, too */
	bool made; /* by this page */
	struct store_etag etag; /* of the new object */
};

struct page {
	struct vfs *v;
	const struct move *move;
	const struct store_list *list;
	struct copy *copies; /* one for each entry of the list */
	struct mutex lock;
	struct cond changed;
	unsigned flying; /* guarded by lock */
	int error; /* guarded by lock: the first */
};

static void page_init(struct page *p, struct vfs *v, const struct move *m,
		      const struct store_list *list)
{
	*p = (struct page){ .v = v, .move = m, .list = list };
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
	bool again; /* there may have been an earlier attempt */
	struct store_attr there; /* what was at the new key before us */
	char key[STORE_KEY_MAX + 1];
};

static void copy_end(struct copy_job *j, int err)
{
	struct page *p = j->page;

	mutex_lock(&p->lock);
	if (err && err != -ENOENT && !p->error)
		p->error = err;
	p->flying--;
	cond_broadcast(&p->changed);
	mutex_unlock(&p->lock);
	store_req_release(&j->req);
	store_meta_release(&j->there.meta);
	free(j);
}

static bool same_pairs(const struct store_meta *a, const struct store_meta *b)
{
	for (unsigned i = 0; i < a->n; i++) {
		const char *value = store_meta_get(b, a->pairs[i].name);

		if (!value || strcmp(value, a->pairs[i].value) != 0)
			return false;
	}
	return a->n == b->n;
}

/* Is what lies at the new key a copy of what lies at the old one? */
static bool is_copy(const struct store_attr *there,
		    const struct store_attr *here, bool again)
{
	bool parts = again && strchr(here->etag.s, '-') &&
		     (!strchr(there->etag.s, '-') || here->meta.n);

	return here->size == there->size &&
	       same_pairs(&here->meta, &there->meta) &&
	       (parts || strcmp(here->etag.s, there->etag.s) == 0);
}

static int is_taken(const struct move *m, const char *key)
{
	log_error("vfs", "rename of %s to %s: %s is there already", m->from,
		  m->to, key);
	return -ENOTEMPTY;
}

static void head(struct copy_job *j, const char *key,
		 void (*done)(struct store_req *req))
{
	store_req_release(&j->req);
	store_req_init(&j->req, STORE_HEAD);
	j->req.key = key;
	j->req.done = done;
	store_submit(j->page->v->config.store, &j->req);
}

static void old_seen(struct store_req *req)
{
	struct copy_job *j = container_of(req, struct copy_job, req);
	int err = req->error;

	if (!err && is_copy(&j->there, &req->attr, j->again))
		j->page->copies[j->index] =
			(struct copy){ true, false, j->there.etag };
	else if (!err)
		err = is_taken(j->page->move, j->key);
	copy_end(j, err);
}

static void new_seen(struct store_req *req)
{
	struct copy_job *j = container_of(req, struct copy_job, req);

	if (req->error) {
		copy_end(j, req->error == -ENOENT ? -ESTALE : req->error);
		return;
	}
	j->there = req->attr;
	memset(&req->attr, 0, sizeof(req->attr));
	head(j, j->page->list->entries[j->index].name, old_seen);
}

static void copy_done(struct store_req *req)
{
	struct copy_job *j = container_of(req, struct copy_job, req);

	if (req->error == -EEXIST) {
		j->again = !j->page->move->fresh || req->attempts > 1;
		head(j, j->key, new_seen);
		return;
	}
	if (!req->error)
		j->page->copies[j->index] =
			(struct copy){ true, true, req->attr.etag };
	copy_end(j, req->error);
}

/* The marker of the folder itself: a folder may take an empty one's place. */
static bool is_marker(const struct page *p, unsigned index)
{
	return strcmp(p->list->entries[index].name, p->move->from) == 0;
}

int object_look(struct vfs *v, const struct vfs_ctx *ctx, const char *key,
		struct store_attr *ret, struct store_meta *ret_pairs)
{
	struct store_req req;
	int err;

	memset(ret_pairs, 0, sizeof(*ret_pairs));
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	err = store_call(v->config.store, &req, ctx->interrupt);
	*ret = req.attr;
	memset(&req.attr, 0, sizeof(req.attr));
	store_req_release(&req);
	if (!err)
		err = store_meta_copy(ret_pairs, &ret->meta);
	if (!err && ret->content_type[0])
		pairs_set(ret_pairs, STORE_CONTENT_TYPE, ret->content_type);
	return err;
}

static int copy_in_parts(struct page *p, const struct vfs_ctx *ctx,
			 unsigned index, const char *to,
			 const struct store_meta *meta)
{
	const struct store_entry *e = &p->list->entries[index];
	struct writeback_base base = { .key = e->name,
				       .etag = e->etag.s,
				       .cid = meta_new_cid(p->v->meta),
				       .size = e->size };
	struct writeback_target t = {
		.key = to, .create = true, .meta = meta, .cid = base.cid
	};
	const struct journal_rec rec = { .state = JOURNAL_OPEN,
					 .key = (char *)to };
	struct writeback_result r = { .why = "" };
	struct writeback *wb;
	int err = writeback_create(p->v->config.writebacks, &base, &wb);

	if (err)
		return err;
	err = writeback_record(wb, &rec, false);
	if (!err)
		err = writeback_store(wb, &t, ctx->interrupt, &r);
	if (err)
		log_warn("vfs", "%s could not be copied to %s: %s", e->name, to,
			 r.why);
	writeback_discard(wb);
	writeback_abort(wb);
	writeback_put(wb);
	if (!err)
		p->copies[index] = (struct copy){ true, true, r.etag };
	return err;
}

static int copy_large(struct page *p, const struct vfs_ctx *ctx, unsigned index,
		      const char *to)
{
	const char *from = p->list->entries[index].name;
	struct store_attr here, there = { 0 };
	struct store_meta meta, unused = { 0 };
	int err = object_look(p->v, ctx, from, &here, &meta);
	bool gone = err == -ENOENT;

	if (!err)
		err = copy_in_parts(p, ctx, index, to, &meta);
	if (err == -EEXIST) {
		err = object_look(p->v, ctx, to, &there, &unused);
		if (!err && is_copy(&there, &here, !p->move->fresh))
			p->copies[index] =
				(struct copy){ true, false, there.etag };
		else if (!err)
			err = is_taken(p->move, to);
	}
	store_meta_release(&meta);
	store_meta_release(&unused);
	store_meta_release(&here.meta);
	store_meta_release(&there.meta);
	return gone ? 0 : err;
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
	j->req.if_absent = !is_marker(p, index);
	j->req.done = copy_done;
	store_submit(p->v->config.store, &j->req);
}

static int target_key(const struct page *p, unsigned index,
		      char ret[STORE_KEY_MAX + 1])
{
	const char *rest = p->list->entries[index].name + strlen(p->move->from);
	size_t n = strlen(p->move->to);

	if (n + strlen(rest) > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, p->move->to, n);
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
static int delete_keys(struct vfs *v, const struct vfs_ctx *ctx,
		       const char **keys, unsigned n)
{
	int *errors = xcalloc(n + 1, sizeof(*errors));
	struct store_req req;
	int err = 0;

	store_req_init(&req, STORE_DELETE_MANY);
	req.keys = keys;
	req.nkeys = n;
	req.key_errors = errors;
	if (n)
		err = store_call(v->config.store, &req, ctx->interrupt);
	if (!err && req.nfailed)
		log_error("vfs", "%u of %u keys could not be deleted: %s",
			  req.nfailed, n, req.why);
	for (unsigned i = 0; i < n && !err; i++)
		err = errors[i];
	store_req_release(&req);
	free(errors);
	return err;
}

static int delete_old(struct page *p, const struct vfs_ctx *ctx)
{
	const char **keys = xcalloc(p->list->n + 1, sizeof(*keys));
	unsigned n = 0;
	int err;

	for (unsigned i = 0; i < p->list->n; i++)
		if (p->copies[i].done)
			keys[n++] = p->list->entries[i].name;
	err = delete_keys(p->v, ctx, keys, n);
	free(keys);
	return err;
}

/* The copies made by a page that failed. The marker of a folder that was there
 * before stays: it is no longer that folder's own, but the folder is. */
static void delete_new(struct page *p)
{
	const struct vfs_ctx ctx = { 0 };
	const char **keys = xcalloc(p->list->n + 1, sizeof(*keys));
	char *space = xmalloc(p->list->n * (size_t)(STORE_KEY_MAX + 1) + 1);
	unsigned n = 0;

	for (unsigned i = 0; i < p->list->n; i++) {
		char *key = space + n * (size_t)(STORE_KEY_MAX + 1);

		if (!p->copies[i].made ||
		    (is_marker(p, i) && !p->move->fresh) ||
		    target_key(p, i, key))
			continue;
		keys[n++] = key;
	}
	if (delete_keys(p->v, &ctx, keys, n))
		log_error("vfs", "copies are left in %s", p->move->to);
	free(space);
	free(keys);
}

/* ---- what the cache knows of them ---- */

static bool etag_changed(const struct page *p, unsigned index)
{
	const char *etag = p->copies[index].etag.s;

	return etag[0] && strcmp(etag, p->list->entries[index].etag.s) != 0;
}

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

/* What is written to builds on the copy from now on. */
static void inode_copied(struct page *p, unsigned index, struct inode *i)
{
	const char *etag = p->copies[index].etag.s;
	char key[STORE_KEY_MAX + 1];
	struct writeback *wb;

	mutex_lock(&p->v->lock);
	bool same = i->etag &&
		    strcmp(i->etag, p->list->entries[index].etag.s) == 0;
	if (same) {
		free(i->etag);
		i->etag = xstrdup(etag);
	}
	mutex_unlock(&p->v->lock);
	wb = same && !target_key(p, index, key) ? inode_staged(p->v, i) : NULL;
	if (!wb)
		return;
	writeback_moved(wb, key, etag);
	writeback_put(wb);
	inode_rejournal(p->v, i);
}

static void learn_etag(struct page *p, unsigned index)
{
	const struct store_entry *e = &p->list->entries[index];
	char path[STORE_KEY_MAX + sizeof(VFS_OBJECT_SUFFIX)];
	const char *etag = p->copies[index].etag.s;
	struct meta_rec rec = { 0 };
	uint64_t parent;
	struct inode *i;
	char *name;

	snprintf(path, sizeof(path), "%s", e->name + strlen(p->move->from));
	if (find_below(p->v, p->move->dir->ino, path, &name, &parent, &rec))
		return;
	if (strcmp(rec.etag, e->etag.s) != 0) {
		meta_rec_release(&rec);
		return;
	}
	snprintf(rec.etag, sizeof(rec.etag), "%s", etag);
	if (meta_put(p->v->meta, parent, name, &rec, NULL))
		log_debug("vfs", "the cache keeps no name for now");
	i = inode_get(p->v, rec.ino);
	if (i)
		inode_copied(p, index, i);
	inode_put(p->v, i);
	meta_rec_release(&rec);
}

/* Of an earlier run's rename there are only records of the journal. */
static int tell_journal(struct page *p)
{
	struct copied_key *keys = xcalloc(p->list->n + 1, sizeof(*keys));
	char *space = xmalloc(p->list->n * (size_t)(STORE_KEY_MAX + 1) + 1);
	unsigned n = 0;

	for (unsigned i = 0; i < p->list->n; i++) {
		char *key = space + n * (size_t)(STORE_KEY_MAX + 1);

		if (!etag_changed(p, i) || target_key(p, i, key))
			continue;
		keys[n++] = (struct copied_key){
			.from = p->list->entries[i].name,
			.to = key,
			.etag = p->list->entries[i].etag.s,
			.new_etag = p->copies[i].etag.s,
		};
	}
	int err = n ? journal_copied(p->v, keys, n) : 0;

	free(space);
	free(keys);
	return err;
}

/* Before the old objects go: a crash later leaves records of the copies. */
static int learn_etags(struct page *p)
{
	if (!p->move->dir)
		return tell_journal(p);
	for (unsigned i = 0; i < p->list->n; i++)
		if (etag_changed(p, i))
			learn_etag(p, i);
	return 0;
}

/* ---- all of them ---- */

static int move_page(struct vfs *v, const struct vfs_ctx *ctx,
		     const struct move *m, const struct store_list *list)
{
	struct page p;
	int err;

	page_init(&p, v, m, list);
	err = copy_page(&p, ctx);
	if (!err)
		err = learn_etags(&p);
	if (err)
		delete_new(&p);
	else
		err = delete_old(&p, ctx);
	page_release(&p);
	return err;
}

int move_keys(struct vfs *v, const struct vfs_ctx *ctx, const struct move *m)
{
	unsigned long long moved = 0;
	char *token = NULL;
	bool more = true;
	int err = removal_wait_below(v, ctx, m->from);

	if (!err)
		err = removal_wait_below(v, ctx, m->to);
	while (more && !err) {
		struct store_req req;

		store_req_init(&req, STORE_LIST);
		req.prefix = m->from;
		req.token = token;
		err = store_call(v->config.store, &req, ctx->interrupt);
		if (!err)
			err = move_page(v, ctx, m, &req.list);
		moved += err ? 0 : req.list.n;
		more = !err && req.list.truncated;
		free(token);
		token = more ? xstrdup(req.list.next_token) : NULL;
		if (more || moved > STORE_LIST_MAX)
			log_info("vfs", "rename of %s to %s: %llu keys moved",
				 m->from, m->to, moved);
		store_req_release(&req);
	}
	free(token);
	if (err)
		log_error("vfs",
			  "rename of %s to %s stopped after %llu keys: %s; the "
			  "others are still in %s: repeat the rename",
			  m->from, m->to, moved, strerror(-err), m->from);
	return err;
}
