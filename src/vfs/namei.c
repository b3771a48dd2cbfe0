/*
 * Names to records: the one place that decides what to ask R2 for.
 *
 * R2 bills a LIST page like 12.5 GETs and answers with up to 1,000 names, so
 * neither is always right. The rules:
 *
 *   1. What the cache knows within its TTL costs nothing; in a directory
 *      listed to its end that includes what does not exist.
 *   2. An unknown name is asked for by a GET of its first bytes: the price of
 *      a HEAD, and it brings what open and read will ask for.
 *   3. A name that is no object may be a folder. Its parent is listed, since
 *      that answers every later question in it too. A listing that does not
 *      end within its allowance goes on at later misses with twice as much,
 *      so that the cost never exceeds about double the best in hindsight;
 *      until it ends the name itself is probed by a one-key LIST.
 *   4. Expired names of a directory that was complete are confirmed one by
 *      one with a conditional GET, until so many were asked for that a fresh
 *      listing is cheaper.
 *
 * A name on the wire is asked for once: later callers wait for the first and
 * look again. So do those to whom a listing has told the name meanwhile: the
 * answer under way brings the bytes, too.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vfs/inode.h"
#include "vfs/key.h"
#include "vfs/offline.h"
#include "vfs/removal.h"
#include "vfs/scan.h"
#include "vfs/write.h"

enum {
	LIST_COSTS_GETS = 13, /* Class A 4.50 $ / Class B 0.36 $ per million */
	LIST_PAGES_FIRST = 4,
};

/* ---- single flight ---- */

static uint64_t flight_hash(uint64_t parent, const char *name)
{
	return hash_bytes(name, strlen(name), hash_u64(parent));
}

/* Are the first bytes of this file on their way, and none here yet? */
static bool bytes_coming(struct vfs *v, const struct flight *f,
			 const struct meta_rec *rec)
{
	bool found;

	if (rec->kind != META_FILE || rec->cid || !rec->size ||
	    !atomic_load(&v->nflights))
		return false;
	mutex_lock(&v->lock);
	found = map_find(&v->flights, flight_hash(f->parent, f->name), f);
	mutex_unlock(&v->lock);
	return found;
}

int flight_begin(struct vfs *v, const struct vfs_ctx *ctx, struct flight *f,
		 bool take_off, bool *again)
{
	uint64_t hash = flight_hash(f->parent, f->name);
	struct map_node *other;
	int err = 0;

	*again = !take_off;
	store_interrupt_wakes(ctx->interrupt, &v->lock, &v->flight_done);
	mutex_lock(&v->lock);
	f->began_ns = clock_wall_ns();
	while (!err && (other = map_find(&v->flights, hash, f))) {
		*again = true;
		f->began_ns =
			container_of(other, struct flight, node)->began_ns;
		if (store_interrupt_raised(ctx->interrupt))
			err = -EINTR;
		else
			cond_wait(&v->flight_done, &v->lock);
	}
	if (!err && !*again) {
		map_insert(&v->flights, &f->node, hash);
		atomic_fetch_add(&v->nflights, 1);
	}
	mutex_unlock(&v->lock);
	store_interrupt_wakes(ctx->interrupt, NULL, NULL);
	return err;
}

void flight_end(struct vfs *v, struct flight *f)
{
	mutex_lock(&v->lock);
	map_remove(&v->flights, &f->node);
	atomic_fetch_sub(&v->nflights, 1);
	cond_broadcast(&v->flight_done);
	mutex_unlock(&v->lock);
}

/* ---- what R2 said, as a record ---- */

/* The content type is kept with the pairs: a later COPY must give it again. */
void pairs_from_attr(const struct store_attr *attr, struct store_meta *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (store_meta_copy(ret, &attr->meta))
		memset(ret, 0, sizeof(*ret));
	if (attr->content_type[0] && !store_meta_get(ret, STORE_CONTENT_TYPE) &&
	    strcmp(attr->content_type, "application/octet-stream") != 0)
		pairs_set(ret, STORE_CONTENT_TYPE, attr->content_type);
}

void rec_from_attr(const struct store_attr *attr, int64_t asked_ns,
		   struct meta_rec *rec)
{
	memset(rec, 0, sizeof(*rec));
	rec->kind = META_FILE;
	rec->size = attr->size;
	rec->mtime_ns = attr->mtime_ns;
	rec->checked_ns = asked_ns;
	snprintf(rec->etag, sizeof(rec->etag), "%s", attr->etag.s);
	if (attr->infrequent)
		rec->flags |= META_INFREQUENT;
	if (attr->has_meta) {
		struct store_meta pairs;

		rec->flags |= META_HAS_HEADERS;
		pairs_from_attr(attr, &pairs);
		key_meta_pack(&pairs, &rec->blob, &rec->blob_len);
		store_meta_release(&pairs);
	}
}

/* A kernel cannot bear an inode that changes its type: a file that turns out
 * to be a symbolic link gets another number. */
static void renumber(struct vfs *v, uint64_t dir, const char *name,
		     struct meta_rec *rec)
{
	struct meta_rec old;

	if (rec->kind != META_FILE || !(rec->flags & META_HAS_HEADERS) ||
	    meta_get(v->meta, dir, name, &old))
		return;
	if (old.kind == META_FILE && rec_type(v, &old) != rec_type(v, rec))
		rec->ino = meta_new_ino(v->meta);
	meta_rec_release(&old);
}

/* Learns and merges; a cache that cannot keep it is no reason to fail. */
static void put_record(struct vfs *v, uint64_t dir, const char *name,
		       struct meta_rec *rec)
{
	struct meta_rec merged;

	renumber(v, dir, name, rec);
	if (meta_learn(v->meta, dir, name, rec, &merged) == 0) {
		meta_rec_release(rec);
		*rec = merged;
	} else if (rec->ino == 0) {
		rec->ino = meta_new_ino(v->meta);
	}
}

static void put_kind(struct vfs *v, uint64_t dir, const char *name,
		     enum meta_kind kind, int64_t asked_ns,
		     struct meta_rec *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->kind = kind;
	ret->checked_ns = asked_ns;
	put_record(v, dir, name, ret);
}

bool inode_learn(struct vfs *v, struct inode *i, const struct store_attr *attr,
		 int64_t asked_ns)
{
	struct meta_rec rec;
	struct place p;
	bool same;

	if (inode_place(v, i, &p) || !p.parent)
		return true;
	rec_from_attr(attr, asked_ns, &rec);
	mutex_lock(&v->lock);
	if (i->shadowed)
		rec.flags |= META_SHADOWED;
	same = rec_type(v, &rec) == (i->mode & S_IFMT);
	if (!same)
		i->checked_ns = 0;
	mutex_unlock(&v->lock);
	put_record(v, p.parent->ino, p.name, &rec);
	if (rec.ino == i->ino)
		inode_put(v, inode_from_rec(v, p.parent, p.name, &rec));
	meta_rec_release(&rec);
	place_put(v, &p);
	return same;
}

/* ---- asking ---- */

/* The version is the one known; its time may be another. */
static void rec_from_304(const struct meta_rec *old, int64_t mtime_ns,
			 int64_t asked_ns, struct meta_rec *rec)
{
	*rec = *old;
	rec->ino = 0;
	rec->blob = NULL;
	rec->blob_len = 0;
	rec->flags &= ~(META_HAS_HEADERS | META_OLD_HEADERS);
	rec->checked_ns = asked_ns;
	if (mtime_ns && (old->flags & META_STORED ||
			 !meta_same_time(0, old->mtime_ns, mtime_ns))) {
		rec->flags &= ~META_STORED;
		rec->mtime_ns = mtime_ns;
	}
}

/* The metadata alone, of an object whose content is known. */
static int ask_headers(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *dir, const char *name, const char *key,
		       int64_t asked_ns, struct meta_rec *rec)
{
	uint8_t shadowed = rec->flags & META_SHADOWED;
	struct store_req req;
	int err;

	store_req_init(&req, STORE_HEAD);
	req.key = key;
	err = store_call(v->config.store, &req, ctx->interrupt);
	meta_rec_release(rec);
	if (!err) {
		rec_from_attr(&req.attr, asked_ns, rec);
		rec->flags |= shadowed;
		put_record(v, dir->ino, name, rec);
	}
	store_req_release(&req);
	return err;
}

/* Is name that of the object at key with the suffix? */
static bool is_shadow(const char *key, const char *name)
{
	size_t n = strlen(key), len = strlen(name);

	return key_object_suffix(name) &&
	       (n < len || strcmp(key + n - len, name) != 0);
}

static int ask_object(struct vfs *v, const struct vfs_ctx *ctx,
		      struct inode *dir, const char *name, const char *key,
		      const struct meta_rec *old, int64_t asked_ns,
		      struct meta_rec *ret)
{
	bool known = old && old->kind == META_FILE && old->etag[0];
	struct store_attr attr = { 0 };
	struct fill_first *first = NULL;
	bool not_modified = false;
	uint64_t cid = 0;
	int err = removal_wait(v, ctx, key);

	if (!err && known && old->flags & META_OLD_HEADERS) {
		*ret = (struct meta_rec){ .flags = old->flags };
		return ask_headers(v, ctx, dir, name, key, asked_ns, ret);
	}
	if (!err)
		err = fill_first(v->config.fills, key, known ? old->etag : NULL,
				 ctx->interrupt, &attr, &not_modified, &first);

	if (err)
		return err;
	if (not_modified) {
		rec_from_304(old, attr.mtime_ns, asked_ns, ret);
	} else {
		rec_from_attr(&attr, asked_ns, ret);
		if (is_shadow(key, name))
			ret->flags |= META_SHADOWED;
	}
	store_meta_release(&attr.meta);
	put_record(v, dir->ino, name, ret);
	if (not_modified && ret->flags & META_OLD_HEADERS)
		return ask_headers(v, ctx, dir, name, key, asked_ns, ret);
	if (first &&
	    meta_cid(v->meta, dir->ino, name, attr.etag.s, &cid) == 0) {
		ret->cid = cid;
		fill_first_keep(first, cid);
	} else {
		fill_first_drop(first);
	}
	return 0;
}

/* Is there any key below `key/`? */
static int ask_folder(struct vfs *v, const struct vfs_ctx *ctx,
		      const char *key_slash, bool *exists)
{
	struct store_req req;
	int err;

	*exists = false;
	err = removal_wait_below(v, ctx, key_slash);
	if (err)
		return err;
	store_req_init(&req, STORE_LIST);
	req.prefix = key_slash;
	req.max_keys = 1;
	err = store_call(v->config.store, &req, ctx->interrupt);
	*exists = !err && req.list.n > 0;
	store_req_release(&req);
	return err;
}

static unsigned asked_more(struct vfs *v, struct inode *dir)
{
	mutex_lock(&v->lock);
	unsigned n = ++dir->asked;
	mutex_unlock(&v->lock);
	return n;
}

/* The cache knows more of a listed name than the page, unless it could not
 * keep the page. */
static void take_listed(struct vfs *v, struct inode *dir, const char *name,
			const struct meta_rec *listed, struct meta_rec *ret)
{
	if (meta_get(v->meta, dir->ino, name, ret) == 0) {
		if (ret->kind == listed->kind &&
		    ret->checked_ns >= listed->checked_ns)
			return;
		meta_rec_release(ret);
	}
	*ret = *listed;
	put_record(v, dir->ino, name, ret);
}

int64_t dir_ttl(struct vfs *v, struct inode *dir)
{
	mutex_lock(&v->lock);
	int64_t complete = dir->complete_ns;
	mutex_unlock(&v->lock);
	return ttl_left(complete, offline_ttl(v));
}

static bool ascii(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

/* The directory was listed to its end while this caller asked for the object:
 * true with the record in ret. */
static bool listed_meanwhile(struct vfs *v, struct inode *dir, const char *name,
			     struct meta_rec *ret)
{
	mutex_lock(&v->lock);
	int64_t complete_ns = dir->complete_ns;
	mutex_unlock(&v->lock);
	if (ttl_left(complete_ns, offline_ttl(v)) == 0)
		return false;
	if (meta_get(v->meta, dir->ino, name, ret) == 0) {
		if (ret->kind != META_ABSENT)
			return true;
		meta_rec_release(ret);
	}
	if (!ascii(name))
		return false;
	put_kind(v, dir->ino, name, META_ABSENT, complete_ns, ret);
	return true;
}

/* No object has this key: list the parent, or probe for a folder. */
static int ask_listing(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *dir, const char *name, int64_t asked_ns,
		       struct meta_rec *ret)
{
	unsigned pages = LIST_PAGES_FIRST << (asked_more(v, dir) % 16);
	char key[STORE_KEY_MAX + 1];
	struct scan_result listed;
	bool exists = false;
	int err;

	if (listed_meanwhile(v, dir, name, ret))
		return 0;
	err = scan_advance(v, ctx, dir, pages, name, true, &listed);

	if (err && err != -ESTALE)
		return err;
	if (listed.found && listed.rec.kind != META_ABSENT) {
		take_listed(v, dir, name, &listed.rec, ret);
		return 0;
	}
	if (!listed.complete) {
		err = inode_child_key(v, dir, name, true, key);
		if (!err)
			err = ask_folder(v, ctx, key, &exists);
		if (err && err != -ENAMETOOLONG)
			return err;
	}
	if (listed.complete && listed.started_ns < asked_ns)
		asked_ns = listed.started_ns;
	put_kind(v, dir->ino, name, exists ? META_DIR : META_ABSENT, asked_ns,
		 ret);
	return 0;
}

static bool relist_is_cheaper(struct vfs *v, struct inode *dir)
{
	struct meta_dir md;

	if (meta_dir_get(v->meta, dir->ino, &md) || md.complete_ns == 0)
		return false;
	return asked_more(v, dir) * STORE_LIST_MAX >
	       (md.entries + STORE_LIST_MAX) * LIST_COSTS_GETS;
}

/* Asks R2 about one name; *ret is then the cache's newest record. What changed
 * since asked_ns is newer than the answer. */
static int ask(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
	       const char *name, struct meta_rec *old, int64_t asked_ns,
	       struct meta_rec *ret)
{
	char key[STORE_KEY_MAX + 1];
	size_t suffix = key_object_suffix(name);
	struct scan_result listed;
	int err;

	if (!ctx->guess && (err = inode_wait_settled(v, ctx, dir)))
		return err;
	if (old && old->kind != META_ABSENT && relist_is_cheaper(v, dir)) {
		err = scan_advance(v, ctx, dir, UINT32_MAX, name, false,
				   &listed);
		if (!err && listed.merged &&
		    meta_get(v->meta, dir->ino, name, ret) == 0)
			return 0;
	}
	err = inode_child_key(v, dir, name, false, key);
	if (err)
		return err;
	if (old && old->kind == META_FILE && (old->flags & META_SHADOWED))
		key[strlen(key) - strlen(VFS_OBJECT_SUFFIX)] = 0;
	if (!old || old->kind != META_DIR) {
		err = ask_object(v, ctx, dir, name, key, old, asked_ns, ret);
		if (err == -ENOENT && suffix &&
		    !(old && old->flags & META_SHADOWED)) {
			key[strlen(key) - strlen(VFS_OBJECT_SUFFIX)] = 0;
			err = ask_object(v, ctx, dir, name, key, NULL, asked_ns,
					 ret);
		}
		if (err != -ENOENT || ctx->guess)
			return err;
	}
	return ask_listing(v, ctx, dir, name, asked_ns, ret);
}

/* ---- what is known ---- */

/*
 * What the cache can answer: true, with *err 0 (record in ret) or -ENOENT.
 * What was asked from `since` on will do whatever its time. A name with
 * non-ASCII characters that a complete listing lacks is not known to be absent:
 * R2 finds a key by any canonically equal spelling.
 */
static bool known(struct vfs *v, struct inode *dir, const char *name,
		  int64_t since, struct meta_rec *ret, bool *have, int64_t *ttl,
		  int *err)
{
	int64_t max = offline_ttl(v);

	*have = meta_get(v->meta, dir->ino, name, ret) == 0;
	if (*have && ret->kind == META_FILE && inode_is_held(v, ret->ino)) {
		*ttl = max;
		*err = 0;
		return true;
	}
	if (*have && ret->flags & META_STAGED) {
		/* an earlier run's, whose bytes are with the journal */
		*have = false;
		meta_rec_release(ret);
		memset(ret, 0, sizeof(*ret));
		if (meta_del(v->meta, dir->ino, name))
			log_debug("vfs", "the cache cannot forget a name");
	}
	*ttl = *have ? rec_ttl(v, ret) : 0;
	if (*have && *ttl == 0 && ret->checked_ns >= since)
		*ttl = 1;
	if (*have && ret->kind != META_ABSENT && *ttl > 0) {
		*err = 0;
		return true;
	}
	if ((*have && ret->kind != META_ABSENT) || (!*have && !ascii(name)))
		return false;
	int64_t left = dir_ttl(v, dir);
	if (!*have || left > *ttl)
		*ttl = left;
	*err = -ENOENT;
	return *ttl > 0;
}

int name_resolve(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
		 const char *name, bool force, struct meta_rec *ret,
		 int64_t *ret_ttl)
{
	struct flight f = { .parent = dir->ino, .name = name };
	int64_t since = INT64_MAX;
	struct meta_rec old;
	int err, unreachable = 0;
	bool have, again, enough;

	for (bool asked = false;;) {
		memset(&old, 0, sizeof(old));
		enough = known(v, dir, name, since, &old, &have, ret_ttl,
			       &err) &&
			 (!force || asked ||
			  (have && inode_is_held(v, old.ino)));
		if (enough && !(have && bytes_coming(v, &f, &old)))
			break;
		if (unreachable) {
			err = unreachable;
			break;
		}
		if (ctx->nowait) {
			err = -EAGAIN;
			break;
		}
		err = flight_begin(v, ctx, &f, !enough, &again);
		if (err)
			break;
		if (again) {
			asked = true;
			since = f.began_ns;
			meta_rec_release(&old);
			continue;
		}
		memset(ret, 0, sizeof(*ret));
		err = ask(v, ctx, dir, name, have ? &old : NULL, f.began_ns,
			  ret);
		flight_end(v, &f);
		meta_rec_release(&old);
		if (err && !ctx->guess && offline_begin(v, err)) {
			unreachable = err;
			asked = true;
			continue;
		}
		if (err)
			return err;
		*ret_ttl = ret->kind == META_ABSENT ?
				   v->config.negative_ttl_ns :
				   v->config.metadata_ttl_ns;
		if (ret->kind != META_ABSENT)
			return 0;
		meta_rec_release(ret);
		if (dir_ttl(v, dir) > *ret_ttl)
			*ret_ttl = dir_ttl(v, dir);
		return -ENOENT;
	}
	if (err == 0)
		*ret = old;
	else
		meta_rec_release(&old);
	return err;
}

static int refresh_at(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		      const struct place *p, bool force)
{
	struct meta_rec rec;
	int64_t ttl;
	int err = name_resolve(v, ctx, p->parent, p->name, force, &rec, &ttl);

	if (err == -ENOENT)
		return -ESTALE;
	if (err)
		return err;
	if (rec.ino != i->ino)
		err = -ESTALE;
	else
		inode_put(v, inode_from_rec(v, p->parent, p->name, &rec));
	meta_rec_release(&rec);
	return err;
}

int inode_refresh(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		  bool force)
{
	struct place p;
	bool local;
	int err;

	mutex_lock(&v->lock);
	local = i == v->root || i->wb || i->unlinked ||
		(!force && !(i->flags & META_OLD_HEADERS) &&
		 ttl_left(i->checked_ns, offline_ttl(v)) > 0);
	mutex_unlock(&v->lock);
	if (local)
		return 0;
	err = inode_place(v, i, &p);
	if (err)
		return err;
	err = refresh_at(v, ctx, i, &p, force);
	place_put(v, &p);
	return err;
}
