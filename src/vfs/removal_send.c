/*
 * A batch of removals on its way. R2's answer may be good and name keys that
 * failed: each key has an end of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "vfs/removal_impl.h"

enum {
	SAY_KEYS = 8, /* logged by name for each batch */
};

static bool is_meant(const struct removal *m, const struct store_attr *attr)
{
	if (m->ours)
		return attr->size == m->size && attr->meta.n == m->meta.n &&
		       store_meta_has(&attr->meta, &m->meta);
	return !m->etag[0] || strcmp(m->etag, attr->etag.s) == 0;
}

/* Is it still the version that was meant? Then 0; -ENOENT: nothing is there;
 * -ESTALE: something else. */
static int check_version(struct vfs *v, struct removal *m)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_HEAD);
	req.key = m->key;
	err = store_call(v->config.store, &req, NULL);
	if (!err && !is_meant(m, &req.attr))
		err = -ESTALE;
	store_req_release(&req);
	return err;
}

/* Sets the error of each; returns what stopped the checks. */
static int check_batch(struct vfs *v, struct batch *b)
{
	list_for_each(n, &b->list) {
		struct removal *m = list_entry(n, struct removal, link);

		if (!m->check || m->error != -EAGAIN)
			continue;
		m->error = check_version(v, m);
		if (m->error == -ENOENT)
			m->error = 0;
		else if (m->error == 0)
			m->error = -EAGAIN;
		else if (m->error != -ESTALE)
			return m->error;
	}
	return 0;
}

struct keys {
	struct removal *of[STORE_DELETE_MAX];
	const char *key[STORE_DELETE_MAX];
	int error[STORE_DELETE_MAX];
	unsigned n;
};

/* Asks R2 to remove those whose error is -EAGAIN, which are at most 1,000. */
static int send_once(struct vfs *v, struct batch *b, char why[192])
{
	CLEANUP(free) struct keys *k = xcalloc(1, sizeof(*k));
	struct store_req req;
	int err;

	list_for_each(pos, &b->list) {
		struct removal *m = list_entry(pos, struct removal, link);

		if (m->error == -EAGAIN) {
			k->key[k->n] = m->key;
			k->of[k->n++] = m;
		}
	}
	if (!k->n)
		return 0;
	store_req_init(&req, k->n == 1 ? STORE_DELETE : STORE_DELETE_MANY);
	if (k->n == 1)
		req.key = k->key[0];
	req.keys = k->key;
	req.nkeys = k->n;
	req.key_errors = k->n == 1 ? NULL : k->error;
	err = store_call(v->config.store, &req, NULL);
	for (unsigned i = 0; i < k->n && !err; i++)
		k->of[i]->error = k->error[i];
	if (err || req.nfailed)
		snprintf(why, 192, "%s", req.why);
	store_req_release(&req);
	return err;
}

/* Does any wait to be sent again? */
static bool some_may_pass(struct batch *b)
{
	bool any = false;

	list_for_each(n, &b->list)
		any |= error_may_pass(
			list_entry(n, struct removal, link)->error);
	return any;
}

int removal_send(struct vfs *v, struct batch *b, char why[192])
{
	int err;

	list_for_each(n, &b->list)
		list_entry(n, struct removal, link)->error = -EAGAIN;
	err = check_batch(v, b);
	if (!err)
		err = send_once(v, b, why);
	if (!err && some_may_pass(b))
		err = -EIO;
	if (!err || error_may_pass(err))
		return err;
	list_for_each(n, &b->list) {
		struct removal *m = list_entry(n, struct removal, link);

		if (m->error == -EAGAIN)
			m->error = err;
	}
	return 0;
}

/* ---- a removal that did not happen ---- */

/* The name is R2's again: asked for when somebody looks. A directory that was
 * listed to its end may be believed complete by a lookup under way, so the
 * name is put back rather than forgotten. */
static void reappear(struct vfs *v, const char *of)
{
	CLEANUP(free) char *key = xstrdup(of);
	struct meta_rec rec = { .kind = META_FILE };
	size_t n = strlen(key);
	struct inode *dir;
	char *name;

	if (n && key[n - 1] == '/') {
		key[n - 1] = 0;
		rec.kind = META_DIR;
	}
	dir = key_walk(v, key, &name);
	if (!dir)
		return;
	if (meta_put(v->meta, dir->ino, name, &rec, NULL) ||
	    meta_dir_forget(v->meta, dir->ino))
		log_debug("vfs", "the cache cannot forget a name");
	mutex_lock(&v->lock);
	dir->complete_ns = 0;
	mutex_unlock(&v->lock);
	inode_put(v, dir);
}

void removal_report(struct vfs *v, struct batch *b, const char *why)
{
	unsigned lost = 0;

	list_for_each(n, &b->list) {
		struct removal *m = list_entry(n, struct removal, link);

		if (m->error == 0 || (m->ours && m->error == -ESTALE))
			continue;
		if (!m->ours)
			reappear(v, m->key);
		if (m->error == -ESTALE) {
			log_info("vfs",
				 "%s was stored anew by another writer since "
				 "it was removed here, and stays",
				 m->key);
		} else if (lost++ < SAY_KEYS) {
			log_error("vfs",
				  "%s could not be removed and is there "
				  "again: %s (%s)",
				  m->key, why[0] ? why : "no answer",
				  strerror(-m->error));
		}
	}
	if (lost > SAY_KEYS)
		log_error("vfs", "%u more files could not be removed",
			  lost - SAY_KEYS);
}
