/*
 * Extended attributes of a read-only view: what the object's metadata says.
 *
 * ls -l and cp -a probe security.* and system.posix_acl_* for every file;
 * those are answered here, a request each would cost more than the data. Only
 * a user.* question about an object whose headers nobody has seen asks R2
 * (one HEAD, remembered).
 *
 * s3fs keeps its set in x-amz-meta-xattr as percent-encoded JSON of base64
 * values; that form is read with a scanner for exactly this shape.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "vfs/inode.h"
#include "vfs/key.h"

enum { XATTR_MAX = 65536 };

struct pair {
	char *name; /* with "user." */
	char *value;
	size_t len;
};

struct pairs {
	struct pair *p;
	unsigned n;
};

static void pairs_release(struct pairs *ps)
{
	for (unsigned i = 0; i < ps->n; i++) {
		free(ps->p[i].name);
		free(ps->p[i].value);
	}
	free(ps->p);
}

static void pairs_add(struct pairs *ps, char *name, char *value, size_t len)
{
	ps->p = xrealloc(ps->p, (ps->n + 1) * sizeof(*ps->p));
	ps->p[ps->n++] = (struct pair){ name, value, len };
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' :
	       isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 :
					    -1;
}

static char *percent_decode(const char *s)
{
	char *out = xmalloc(strlen(s) + 1), *o = out;

	for (; *s; s++) {
		if (*s == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0) {
			*o++ = hex(s[1]) * 16 + hex(s[2]);
			s += 2;
		} else {
			*o++ = *s;
		}
	}
	*o = 0;
	return out;
}

static int base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm"
				     "nopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

static char *base64_decode(const char *s, size_t n, size_t *ret_len)
{
	char *out = xmalloc(n + 1);
	unsigned acc = 0, bits = 0;

	*ret_len = 0;
	for (size_t i = 0; i < n && s[i] != '='; i++) {
		int d = base64_digit(s[i]);

		if (d < 0)
			continue;
		acc = acc << 6 | d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[(*ret_len)++] = acc >> bits;
		}
	}
	out[*ret_len] = 0;
	return out;
}

/* {"user.a":"base64","user.b":"..."} */
static void parse_s3fs(const char *encoded, struct pairs *ps)
{
	char *json = percent_decode(encoded);
	const char *p = json;

	for (;;) {
		const char *name = strchr(p, '"');
		const char *name_end = name ? strchr(name + 1, '"') : NULL;
		const char *value = name_end ? strchr(name_end + 1, '"') : NULL;
		const char *value_end = value ? strchr(value + 1, '"') : NULL;
		size_t len;
		char *bytes;

		if (!value_end)
			break;
		bytes = base64_decode(value + 1, value_end - value - 1, &len);
		pairs_add(ps, xstrndup(name + 1, name_end - name - 1), bytes,
			  len);
		p = value_end + 1;
	}
	free(json);
}

static void pairs_from_meta(const struct store_meta *meta, struct pairs *ps)
{
	for (unsigned i = 0; i < meta->n; i++) {
		const struct store_meta_pair *m = &meta->pairs[i];

		if (strcmp(m->name, "xattr") == 0)
			parse_s3fs(m->value, ps);
		else
			pairs_add(ps, xasprintf("user.%s", m->name),
				  xstrdup(m->value), strlen(m->value));
	}
}

static int head(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	char key[STORE_KEY_MAX + 1];
	struct store_req req;
	int err;

	if (ctx->nowait)
		return -EAGAIN;
	err = inode_key(v, i, key);
	if (err)
		return err;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	err = store_call(v->config.store, &req, ctx->interrupt);
	if (!err)
		inode_learn(v, i, &req.attr);
	store_req_release(&req);
	return err;
}

/* The file's pairs; a directory has none. */
static int load(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		struct pairs *ps)
{
	struct store_meta meta;
	struct meta_rec rec;
	struct place place;
	int err;

	memset(ps, 0, sizeof(*ps));
	if (i->kind == META_DIR)
		return 0;
	mutex_lock(&v->lock);
	bool have = i->flags & META_HAS_HEADERS;
	mutex_unlock(&v->lock);
	if (!have) {
		err = head(v, ctx, i);
		if (err)
			return err;
	}
	err = inode_place(v, i, &place);
	if (err)
		return err;
	err = meta_get(v->meta, place.parent->ino, place.name, &rec);
	place_put(v, &place);
	if (err)
		return err == -ENOENT ? 0 : err;
	err = key_meta_unpack(rec.blob, rec.blob_len, &meta);
	if (!err)
		pairs_from_meta(&meta, ps);
	store_meta_release(&meta);
	meta_rec_release(&rec);
	return err;
}

static bool own_attribute(struct vfs *v, struct inode *i, const char *name,
			  char **ret)
{
	char key[STORE_KEY_MAX + 1];

	if (strcmp(name, "user.r2fs.key") == 0) {
		*ret = inode_key(v, i, key) ? NULL : xstrdup(key);
		return true;
	}
	if (strcmp(name, "user.r2fs.etag") == 0 && i->kind == META_FILE) {
		mutex_lock(&v->lock);
		*ret = xstrdup(i->etag);
		mutex_unlock(&v->lock);
		return true;
	}
	return false;
}

static ssize_t get(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
		   const char *name, char **ret)
{
	struct pairs ps;
	ssize_t r;

	if (own_attribute(v, i, name, ret))
		return *ret ? (ssize_t)strlen(*ret) : -ENODATA;
	r = load(v, ctx, i, &ps);
	if (r)
		return r;
	r = -ENODATA;
	for (unsigned k = 0; k < ps.n && r < 0; k++) {
		if (strcmp(ps.p[k].name, name) != 0)
			continue;
		*ret = ps.p[k].value;
		ps.p[k].value = NULL;
		r = ps.p[k].len;
	}
	pairs_release(&ps);
	return r;
}

ssize_t vfs_getxattr(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		     const char *name, char **ret)
{
	struct inode *i;
	ssize_t r;

	*ret = NULL;
	if (strncmp(name, "user.", 5) != 0)
		return -ENODATA;
	i = inode_get(v, ino);
	if (!i)
		return -ESTALE;
	r = get(v, ctx, i, name, ret);
	inode_put(v, i);
	return r;
}

ssize_t vfs_listxattr(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		      char **ret)
{
	struct inode *i = inode_get(v, ino);
	struct pairs ps = { 0 };
	struct buf b;
	ssize_t r;

	*ret = NULL;
	if (!i)
		return -ESTALE;
	r = load(v, ctx, i, &ps);
	inode_put(v, i);
	if (r)
		return r;
	buf_init(&b, XATTR_MAX);
	for (unsigned k = 0; k < ps.n; k++)
		buf_add(&b, ps.p[k].name, strlen(ps.p[k].name) + 1);
	r = b.failed ? -E2BIG : (ssize_t)b.len;
	*ret = buf_detach(&b);
	pairs_release(&ps);
	return r;
}
