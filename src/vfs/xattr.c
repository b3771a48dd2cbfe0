/*
 * Extended attributes: what the object's metadata says.
 *
 * ls -l and cp -a probe security.* and system.posix_acl_* for every file;
 * those are answered here, a request each would cost more than the data. They
 * are not supported, rather than absent: told so, ls does not ask again, and
 * asking was most of the time that it took with many names. Newer ls (coreutils
 * 9.4) asks for the list of names instead, so that is answered from what is
 * known unless the file is open. Only a user.* question about an object whose
 * headers nobody has seen asks R2 (one HEAD, remembered).
 *
 * s3fs keeps its set in x-amz-meta-xattr as percent-encoded JSON of base64
 * values; that form is read with a scanner for exactly this shape.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/clock.h"
#include "vfs/key.h"
#include "vfs/write.h"

enum {
	XATTR_MAX = 65536,
	META_BYTES_MAX = 7680, /* R2 keeps 8,192 (r2-facts: limits) */
};

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
	return isdigit((unsigned char)c) ?
		       c - '0' :
	       isxdigit((unsigned char)c) ?
		       tolower((unsigned char)c) - 'a' + 10 :
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
		else if (m->name[0] != ':' && !key_meta_is_attribute(m->name))
			pairs_add(ps, xasprintf("user.%s", m->name),
				  xstrdup(m->value), strlen(m->value));
	}
}

static int head(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	char key[STORE_KEY_MAX + 1];
	struct store_req req;
	int64_t asked_ns;
	int err;

	if (ctx->nowait)
		return -EAGAIN;
	err = inode_key(v, i, key);
	if (err)
		return err;
	store_req_init(&req, STORE_HEAD);
	req.key = key;
	asked_ns = clock_wall_ns();
	err = store_call(v->config.store, &req, ctx->interrupt);
	if (!err && !inode_learn(v, i, &req.attr, asked_ns))
		err = -ESTALE;
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
		return -EOPNOTSUPP;
	i = inode_get(v, ino);
	if (!i)
		return -ESTALE;
	r = get(v, ctx, i, name, ret);
	inode_put(v, i);
	return r;
}

/* May a list of attributes cost a request? For a file that is open: cp and tar
 * ask for what they copy. For others it is ls, looking for ACLs. */
static bool worth_asking(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	bool yes = i->flags & META_HAS_HEADERS || i->opens > 0 || i->wb;
	mutex_unlock(&v->lock);
	return yes;
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
	r = worth_asking(v, i) ? load(v, ctx, i, &ps) : 0;
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

/* ---- setting ---- */

static void base64_encode(struct buf *out, const uint8_t *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm"
				     "nopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		unsigned left = n - i < 3 ? (unsigned)(n - i) : 3;
		unsigned acc = p[i] << 16;

		if (left > 1)
			acc |= p[i + 1] << 8;
		if (left > 2)
			acc |= p[i + 2];
		for (unsigned k = 0; k < 4; k++)
			buf_addch(out,
				  k <= left ? digits[acc >> (18 - 6 * k) & 63] :
					      '=');
	}
}

/* The JSON of s3fs, percent-encoded: no byte of it needs care in a header. */
static void encode_s3fs(struct buf *out, const struct pairs *ps)
{
	struct buf json;

	buf_init(&json, XATTR_MAX);
	for (unsigned i = 0; i < ps->n; i++) {
		buf_addf(&json, "%s\"%s\":\"", i ? "," : "{", ps->p[i].name);
		base64_encode(&json, (const uint8_t *)ps->p[i].value,
			      ps->p[i].len);
		buf_addch(&json, '"');
	}
	buf_addch(&json, '}');
	for (size_t i = 0; i < json.len; i++) {
		unsigned char c = (unsigned char)json.data[i];

		if (isalnum(c))
			buf_addch(out, (char)c);
		else
			buf_addf(out, "%%%02X", c);
	}
	buf_release(&json);
}

static struct pair *pairs_find(struct pairs *ps, const char *name)
{
	for (unsigned i = 0; i < ps->n; i++)
		if (strcmp(ps->p[i].name, name) == 0)
			return &ps->p[i];
	return NULL;
}

static void pairs_drop(struct pairs *ps, struct pair *p)
{
	free(p->name);
	free(p->value);
	*p = ps->p[--ps->n];
}

static void put_value(struct pairs *set, const char *name, const void *value,
		      size_t len)
{
	struct pair *p = pairs_find(set, name);
	char *copy;

	if (p)
		pairs_drop(set, p);
	if (!value)
		return;
	copy = xmalloc(len + 1);
	memcpy(copy, value, len);
	pairs_add(set, xstrdup(name), copy, len);
}

static size_t meta_bytes(const struct store_meta *m)
{
	size_t n = 0;

	for (unsigned i = 0; i < m->n; i++)
		if (m->pairs[i].name[0] != ':')
			n += strlen(m->pairs[i].name) +
			     strlen(m->pairs[i].value);
	return n;
}

/* Writes the changed set into the inode's pairs; a plain pair of that name
 * gives way to it. */
static int change_locked(struct inode *i, const char *name, const void *value,
			 size_t len, struct store_meta *fresh)
{
	struct pairs set = { 0 };
	const char *old = store_meta_get(&i->pairs, "xattr");
	struct buf out;
	int err;

	if (old)
		parse_s3fs(old, &set);
	put_value(&set, name, value, len);
	buf_init(&out, XATTR_MAX);
	encode_s3fs(&out, &set);
	err = store_meta_copy(fresh, &i->pairs);
	pairs_unset(fresh, name + strlen("user."));
	if (set.n)
		pairs_set(fresh, "xattr", out.data);
	else
		pairs_unset(fresh, "xattr");
	if (out.failed || meta_bytes(fresh) > META_BYTES_MAX)
		err = -ENOSPC;
	buf_release(&out);
	pairs_release(&set);
	return err;
}

static int apply_change(struct vfs *v, struct inode *i, const char *name,
			const void *value, size_t len)
{
	struct store_meta fresh = { 0 };
	struct writeback *wb;
	int err = inode_stage(v, i, false, &wb);

	if (err)
		return err;
	mutex_lock(&v->lock);
	err = change_locked(i, name, value, len, &fresh);
	if (!err) {
		struct store_meta old = i->pairs;

		i->pairs = fresh;
		i->ctime_ns = clock_wall_ns();
		fresh = old;
	}
	mutex_unlock(&v->lock);
	store_meta_release(&fresh);
	if (!err)
		err = inode_touched(v, i, wb);
	writeback_put(wb);
	return err;
}

static int set(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i,
	       const char *name, const void *value, size_t len, int flags)
{
	struct pairs ps;
	bool there;
	int err;

	if (i->kind == META_DIR)
		return -EOPNOTSUPP;
	err = load(v, ctx, i, &ps);
	if (err)
		return err;
	there = pairs_find(&ps, name);
	pairs_release(&ps);
	if (!there && (!value || flags & XATTR_REPLACE))
		return -ENODATA;
	if (there && flags & XATTR_CREATE)
		return -EEXIST;
	if (v->config.journal_close && ctx->nowait)
		return -EAGAIN;
	return apply_change(v, i, name, value, len);
}

int vfs_setxattr(struct vfs *v, const struct vfs_ctx *ctx, uint64_t ino,
		 const char *name, const void *value, size_t len, int flags)
{
	struct inode *i;
	int err;

	if (!v->config.writebacks)
		return -EROFS;
	if (strncmp(name, "user.", 5) != 0 || !name[5])
		return -EOPNOTSUPP;
	if (strncmp(name, "user.r2fs.", 10) == 0)
		return -EPERM;
	i = inode_get(v, ino);
	if (!i)
		return -ESTALE;
	err = inode_hold(v, ctx, i);
	if (!err) {
		err = set(v, ctx, i, name, value, len, flags);
		inode_let_go(v, i);
	}
	inode_put(v, i);
	return err;
}
