/*
 * A store in memory. A request is carried out within store_submit, between two
 * hooks that may do what another thread would do meanwhile.
 */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

#include <unistd.h>

#include "base/crc32c.h"
#include "base/lock.h"
#include "check.h"
#include "store/store_impl.h"

enum { FAKE_OBJECTS = 8, FAKE_PARTS = 16 };

struct fake_object {
	char *key; /* NULL: a free place */
	uint8_t *data;
	uint64_t size;
	char etag[32];
	struct store_meta meta;
};

struct fake_upload {
	char key[64], id[32];
	bool open;
	struct store_meta meta;
	struct {
		uint8_t *data;
		uint64_t len;
		char etag[32];
	} part[FAKE_PARTS];
};

static struct fake {
	struct store store;
	struct mutex lock;
	struct fake_object object[FAKE_OBJECTS];
	struct fake_upload upload;
	unsigned etags;
	unsigned count[STORE_OPS];
	/* Called before each request; not 0: its error. */
	int (*hook)(struct store_req *req);
	/* Called when it was carried out, before the caller hears of it. */
	void (*after)(struct store_req *req);
} fake;

static struct fake_object *fake_find(const char *key)
{
	for (unsigned i = 0; i < FAKE_OBJECTS; i++)
		if (fake.object[i].key && strcmp(fake.object[i].key, key) == 0)
			return &fake.object[i];
	return NULL;
}

static inline void fake_delete(const char *key)
{
	struct fake_object *o = fake_find(key);

	if (!o)
		return;
	free(o->key);
	free(o->data);
	store_meta_release(&o->meta);
	memset(o, 0, sizeof(*o));
}

/* Takes data and meta. */
static struct fake_object *fake_put(const char *key, uint8_t *data,
				    uint64_t size, struct store_meta meta)
{
	struct fake_object *o = fake.object;

	fake_delete(key);
	while (o->key)
		o++;
	o->key = strdup(key);
	o->data = data;
	o->size = size;
	o->meta = meta;
	snprintf(o->etag, sizeof(o->etag), "e%u", ++fake.etags);
	return o;
}

static inline struct fake_object *fake_fill(const char *key, char c,
					    uint64_t size)
{
	return fake_put(key, memset(malloc(size + 1), c, size), size,
			(struct store_meta){ 0 });
}

/* Is [off, end) of an object all c? */
static inline bool fake_holds(const char *key, char c, uint64_t off,
			      uint64_t end)
{
	struct fake_object *o = fake_find(key);
	bool all = o && end <= o->size;

	for (uint64_t i = off; all && i < end; i++)
		all = o->data[i] == (uint8_t)c;
	return all;
}

/* ---- requests ---- */

static uint8_t *fake_body(const struct store_body *b)
{
	uint8_t *data = calloc(1, b->len + 1);

	if (b->fd < 0)
		memcpy(data, b->data, b->len);
	else if (pread(b->fd, data, b->len, b->off) < 0)
		abort();
	return data;
}

static int fake_sum(struct store *s, struct store_body *const *bodies,
		    unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *data = fake_body(bodies[i]);
		uint32_t crc = crc32c(0, data, bodies[i]->len);

		memset(bodies[i]->md5, 0, sizeof(bodies[i]->md5));
		memcpy(bodies[i]->md5, &crc, sizeof(crc));
		bodies[i]->summed = true;
		free(data);
	}
	return 0;
}

/* The bytes sent, or NULL if they are not those that were summed. */
static uint8_t *fake_receive(const struct store_req *req)
{
	uint8_t *data = fake_body(&req->body);
	uint32_t crc = crc32c(0, data, req->body.len);

	if (memcmp(req->body.md5, &crc, sizeof(crc)) == 0)
		return data;
	free(data);
	return NULL;
}

static int fake_conditions(const struct store_req *req)
{
	struct fake_object *o = fake_find(req->key);

	if (req->if_absent && o)
		return -EEXIST;
	if (req->if_match && (!o || strcmp(o->etag, req->if_match) != 0))
		return -ESTALE;
	return 0;
}

static struct store_meta fake_meta(const struct store_meta *from)
{
	struct store_meta meta = { 0 };

	if (from && store_meta_copy(&meta, from))
		abort();
	return meta;
}

static int fake_do_put(struct store_req *req)
{
	int err = fake_conditions(req);
	uint8_t *data = err ? NULL : fake_receive(req);

	if (err || !data)
		return err ? err : -EBADMSG;
	strcpy(req->attr.etag.s,
	       fake_put(req->key, data, req->body.len, fake_meta(req->put_meta))
		       ->etag);
	return 0;
}

static int fake_do_get(struct store_req *req)
{
	struct fake_object *o = fake_find(req->key);

	if (!o)
		return -ENOENT;
	if (fake_conditions(req))
		return -ESTALE;
	strcpy(req->attr.etag.s, o->etag);
	req->attr.size = o->size;
	if (req->op == STORE_HEAD)
		return 0;
	req->buf_len = o->size - req->range_off;
	if (req->buf_len > req->range_len)
		req->buf_len = req->range_len;
	memcpy(req->buf, o->data + req->range_off, req->buf_len);
	return 0;
}

static int fake_do_copy(struct store_req *req)
{
	struct fake_object *o = fake_find(req->source_key);
	struct store_meta meta;
	uint8_t *data;
	uint64_t size;

	if (!o)
		return -ENOENT;
	if (fake_conditions(req) ||
	    (req->source_if_match && strcmp(o->etag, req->source_if_match)))
		return -ESTALE;
	size = o->size;
	data = memcpy(malloc(size + 1), o->data, size);
	meta = fake_meta(req->put_meta ? req->put_meta : &o->meta);
	strcpy(req->attr.etag.s, fake_put(req->key, data, size, meta)->etag);
	return 0;
}

static void fake_forget_upload(void)
{
	for (unsigned i = 0; i < FAKE_PARTS; i++)
		free(fake.upload.part[i].data);
	store_meta_release(&fake.upload.meta);
	memset(&fake.upload, 0, sizeof(fake.upload));
}

static int fake_do_create(struct store_req *req)
{
	fake_forget_upload();
	fake.upload.open = true;
	fake.upload.meta = fake_meta(req->put_meta);
	snprintf(fake.upload.id, sizeof(fake.upload.id), "u%u", ++fake.etags);
	snprintf(fake.upload.key, sizeof(fake.upload.key), "%s", req->key);
	req->ret_upload_id = strdup(fake.upload.id);
	return 0;
}

static bool fake_upload_is(const struct store_req *req)
{
	return fake.upload.open &&
	       strcmp(fake.upload.id, req->upload_id) == 0 &&
	       strcmp(fake.upload.key, req->key) == 0;
}

static int fake_do_part(struct store_req *req)
{
	unsigned i = req->part_number - 1;
	struct fake_object *o;
	uint8_t *data = NULL;
	uint64_t len = req->body.len;

	if (!fake_upload_is(req))
		return -ENOENT;
	if (req->op == STORE_MPU_PART) {
		data = fake_receive(req);
	} else {
		o = fake_find(req->source_key);
		len = req->range_len;
		if (!o || req->range_off + len > o->size)
			return -ESTALE;
		data = memcpy(malloc(len + 1), o->data + req->range_off, len);
	}
	if (!data)
		return -EBADMSG;
	free(fake.upload.part[i].data);
	fake.upload.part[i].data = data;
	fake.upload.part[i].len = len;
	snprintf(fake.upload.part[i].etag, sizeof(fake.upload.part[i].etag),
		 "p%u", ++fake.etags);
	strcpy(req->ret_part_etag, fake.upload.part[i].etag);
	return 0;
}

static int fake_do_complete(struct store_req *req)
{
	uint64_t size = 0, at = 0;
	struct store_meta meta;
	uint8_t *data;
	int err;

	if (!fake_upload_is(req))
		return -ENOENT;
	for (unsigned i = 0; i < req->nparts; i++) {
		if (strcmp(fake.upload.part[i].etag, req->parts[i].etag) != 0)
			return -EINVAL;
		if (i && i + 1 < req->nparts &&
		    fake.upload.part[i].len != fake.upload.part[0].len)
			return -EINVAL;
		size += fake.upload.part[i].len;
	}
	err = fake_conditions(req);
	if (err)
		return err;
	data = malloc(size + 1);
	for (unsigned i = 0; i < req->nparts; i++) {
		memcpy(data + at, fake.upload.part[i].data,
		       fake.upload.part[i].len);
		at += fake.upload.part[i].len;
	}
	meta = fake_meta(&fake.upload.meta);
	strcpy(req->attr.etag.s, fake_put(req->key, data, size, meta)->etag);
	fake_forget_upload();
	return 0;
}

static int fake_carry_out(struct store_req *req)
{
	switch (req->op) {
	case STORE_PUT:
		return fake_do_put(req);
	case STORE_GET:
	case STORE_HEAD:
		return fake_do_get(req);
	case STORE_COPY:
		return fake_do_copy(req);
	case STORE_MPU_CREATE:
		return fake_do_create(req);
	case STORE_MPU_PART:
	case STORE_MPU_COPY:
		return fake_do_part(req);
	case STORE_MPU_COMPLETE:
		return fake_do_complete(req);
	case STORE_MPU_ABORT:
		if (fake_upload_is(req))
			fake_forget_upload();
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static void fake_submit(struct store *s, struct store_req *req)
{
	req->error = fake.hook ? fake.hook(req) : 0;
	mutex_lock(&fake.lock);
	fake.count[req->op]++;
	if (!req->error)
		req->error = fake_carry_out(req);
	mutex_unlock(&fake.lock);
	if (fake.after)
		fake.after(req);
	if (req->error)
		snprintf(req->why, sizeof(req->why), "refused");
	req->done(req);
}

static void fake_cancel(struct store *s, struct store_req *req)
{
}

static const struct store_ops fake_ops = { .submit = fake_submit,
					   .cancel = fake_cancel,
					   .sum = fake_sum };

/* An empty bucket, nothing counted. */
static inline struct store *fake_start(void)
{
	for (unsigned i = 0; i < FAKE_OBJECTS; i++)
		if (fake.object[i].key)
			fake_delete(fake.object[i].key);
	fake_forget_upload();
	memset(fake.count, 0, sizeof(fake.count));
	fake.hook = NULL;
	fake.after = NULL;
	fake.store.ops = &fake_ops;
	mutex_init(&fake.lock);
	return &fake.store;
}

#endif
