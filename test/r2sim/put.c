/*
 * PUT, COPY and both deletes. Conditions and the change are one step under the
 * write lock, so that of many conditional writers one wins. A copy links the
 * source's files: it costs neither time nor disk, unless its MD5 has to be
 * found by reading, because the source is synthetic or was a multipart upload.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "r2sim.h"

#define COPY_MAX 5363466240ull /* 5 GiB - 5 MiB */

static bool adopt_body(struct bucket *b, struct body *body, struct object *o)
{
	uint64_t id;

	if (!body->len)
		return true;
	id = bucket_adopt(b, body->path);
	if (!id)
		return false;
	free(body->path);
	body->path = NULL;
	object_add_segment(o, id, body->len);
	return true;
}

static bool store_failed(struct request *r)
{
	return op_error(r, 500, "InternalError",
			"The data folder does not take the object.");
}

void op_put(struct request *r, struct bucket *b)
{
	struct object *o;
	char *headers;
	bool good;

	if (!screen_headers(r, &headers))
		return;
	o = object_new(b, r->key, r->name, r->body.etag, headers);
	pthread_rwlock_wrlock(&objects_lock);
	if (conditions(r, "", bucket_get(b, r->key))) {
		pthread_rwlock_unlock(&objects_lock);
		object_unref(o);
		op_fail(r, "PreconditionFailed");
		return;
	}
	o->mtime_ms = sim_now_ms();
	good = adopt_body(b, &r->body, o);
	if (good)
		good = bucket_insert(b, o);
	else
		object_unref(o);
	pthread_rwlock_unlock(&objects_lock);
	if (!good) {
		store_failed(r);
		return;
	}
	reply_empty(r, 200);
	reply_etag(r, r->body.etag);
	for (unsigned i = 0; checksum_header(i); i++) {
		const char *v = req_header(r, checksum_header(i));

		if (v)
			reply_header(r, checksum_header(i), v);
	}
}

/* ---- COPY ---- */

struct object *copy_source(struct request *r)
{
	const char *header = req_header(r, "x-amz-copy-source");
	char *raw = percent_decode(header), *path, *slash, *key = NULL;
	struct object *o = NULL;
	struct bucket *b;

	path = raw && *raw == '/' ? raw + 1 : raw;
	slash = path ? strchr(path, '/') : NULL;
	if (slash && slash[1]) {
		*slash = 0;
		key = nfc(slash + 1);
	}
	if (!key) {
		op_error(r, 400, "InvalidArgument", "copy source bucket name");
		free(raw);
		return NULL;
	}
	pthread_rwlock_rdlock(&objects_lock);
	b = bucket_find(path);
	o = b ? bucket_get(b, key) : NULL;
	if (o)
		object_ref(o);
	pthread_rwlock_unlock(&objects_lock);
	if (!o)
		op_fail(r, b ? "NoSuchKey" : "NoSuchBucket");
	free(raw);
	free(key);
	return o;
}

static bool has_line(const char *headers, const char *line)
{
	size_t n = strcspn(line, ":") + 1;

	for (const char *p = headers; *p; p += strcspn(p, "\n") + 1)
		if (strncmp(p, line, n) == 0)
			return true;
	return false;
}

static void add_lines(struct text *t, const char *headers, const char *but,
		      const char *only)
{
	size_t n;

	for (const char *p = headers; *p; p += n) {
		n = strcspn(p, "\n") + 1;
		if (has_line(but, p) ||
		    (only && strncmp(p, only, strlen(only)) != 0))
			continue;
		text_add_bytes(t, p, n);
	}
}

/* What the copy has stored with it, by x-amz-metadata-directive; NULL: an
 * error was answered. */
static char *copied_headers(struct request *r, const struct object *src)
{
	const char *how = req_header(r, "x-amz-metadata-directive");
	struct text t = { 0 };
	char *given;

	if (how && strcmp(how, "COPY") && strcmp(how, "REPLACE") &&
	    strcmp(how, "MERGE")) {
		op_error(r, 400, "InvalidArgument", "metadata directive %s.",
			 how);
		return NULL;
	}
	if (!screen_headers(r, &given))
		return NULL;
	if (how && !strcmp(how, "REPLACE"))
		return given;
	text_add_str(&t, "");
	if (how && !strcmp(how, "MERGE")) {
		add_lines(&t, src->headers, given, NULL);
		text_add_str(&t, given);
	} else {
		add_lines(&t, src->headers,
			  has_line(given, "x-amz-storage-class:") ?
				  "x-amz-storage-class:\n" :
				  "",
			  NULL);
		add_lines(&t, given, "", "x-amz-storage-class:");
	}
	free(given);
	return t.s;
}

static bool link_segments(struct bucket *b, struct object *o,
			  const struct object *src)
{
	bool good = true;

	for (unsigned i = 0; good && i < src->nsegs; i++) {
		char *from = bucket_path(src->bucket, src->segs[i].id), *to;

		to = bucket_path(b, ++b->next_id);
		good = link(from, to) == 0;
		if (good)
			object_add_segment(o, b->next_id, src->segs[i].size);
		free(from);
		free(to);
	}
	return good;
}

static void copy_answer(struct request *r, const struct object *o)
{
	struct text t = { 0 };
	char version[40];

	text_add(&t,
		 XML_HEAD "<CopyObjectResult " XMLNS "><ETag>&quot;%s&quot;"
			  "</ETag><LastModified>",
		 o->etag);
	text_add_time(&t, o->mtime_ms);
	text_add(&t, "</LastModified></CopyObjectResult>");
	reply_xml(r, &t);
	snprintf(version, sizeof(version), "%032llx",
		 (unsigned long long)o->meta);
	reply_header(r, "x-amz-version-id", version);
}

/* The write lock held; o is taken. */
static bool finish_copy(struct request *r, struct bucket *b, struct object *o,
			struct object *src, struct body *body)
{
	bool good;

	o->mtime_ms = sim_now_ms();
	good = src->meta ? link_segments(b, o, src) : adopt_body(b, body, o);
	if (!good) {
		object_unref(o);
		return false;
	}
	object_ref(o);
	good = bucket_insert(b, o);
	if (good)
		copy_answer(r, o);
	object_unref(o);
	return good;
}

static void copy(struct request *r, struct bucket *b, struct object *src)
{
	bool hash = !src->meta || strchr(src->etag, '-');
	struct body body = { .fd = -1 };
	bool good = true;
	struct object *o;
	char *headers;

	headers = copied_headers(r, src);
	if (!headers)
		return;
	if (hash)
		good = body_copy(&body, src, 0, src->size, !src->meta);
	o = object_new(b, r->key, r->name, hash ? body.etag : src->etag,
		       headers);
	pthread_rwlock_wrlock(&objects_lock);
	if (conditions(r, "cf-copy-destination-", bucket_get(b, r->key))) {
		object_unref(o);
		op_fail(r, "PreconditionFailed");
	} else if (!good || !finish_copy(r, b, o, src, &body)) {
		store_failed(r);
	}
	pthread_rwlock_unlock(&objects_lock);
	body_release(&body);
}

void op_copy(struct request *r, struct bucket *b)
{
	struct object *src = copy_source(r);

	if (!src)
		return;
	if (conditions(r, "x-amz-copy-source-", src))
		op_fail(r, "PreconditionFailed");
	else if (src->size > COPY_MAX)
		op_fail(r, "EntityTooLarge");
	else
		copy(r, b, src);
	object_unref(src);
}

/* ---- deletes ---- */

void op_delete(struct request *r, struct bucket *b)
{
	pthread_rwlock_wrlock(&objects_lock);
	bucket_delete(b, r->key);
	pthread_rwlock_unlock(&objects_lock);
	reply_empty(r, 204);
}

struct deletes {
	char **keys;
	unsigned n;
	bool root, bad;
};

static int delete_element(void *arg, const char *path, const char *text)
{
	struct deletes *d = arg;

	if (!strcmp(path, "Delete/Object/Key")) {
		if (d->n == 1000 || !*text)
			return d->bad = true;
		d->keys[d->n++] = xstrdup(text);
	} else if (!strcmp(path, "Delete/Quiet")) {
		d->bad = strcmp(text, "true") && strcmp(text, "false");
	} else if (!strcmp(path, "Delete")) {
		d->root = true;
	}
	return d->bad;
}

static void delete_one(struct bucket *b, const char *name, struct text *t)
{
	uint64_t wait = 0;
	const struct fault *f = fault_match(OP_DELETEKEY, name, &wait);
	char *key = nfc(name);

	if (f || !key) {
		text_add(t, "<Error><Key>");
		text_add_xml(t, name);
		text_add(t,
			 "</Key><Code>%s</Code><Message>The key was not "
			 "deleted.</Message></Error>",
			 !f	  ? "InvalidObjectName" :
			 *f->code ? f->code :
				    "InternalError");
		free(key);
		return;
	}
	pthread_rwlock_wrlock(&objects_lock);
	bucket_delete(b, key);
	pthread_rwlock_unlock(&objects_lock);
	text_add(t, "<Deleted><Key>");
	text_add_xml(t, name);
	text_add(t, "</Key></Deleted>");
	free(key);
}

void op_deletes(struct request *r, struct bucket *b)
{
	struct deletes d = { .keys = xalloc(1000 * sizeof(char *)) };
	char *xml = body_text(&r->body, 8 << 20);
	struct text t = { 0 };
	bool good = xml && xml_read(xml, delete_element, &d) && d.root && d.n;

	if (good) {
		text_add(&t, XML_HEAD "<DeleteResult " XMLNS ">");
		for (unsigned i = 0; i < d.n; i++)
			delete_one(b, d.keys[i], &t);
		text_add(&t, "</DeleteResult>");
		reply_xml(r, &t);
	} else {
		op_fail(r, "MalformedXML");
	}
	for (unsigned i = 0; i < d.n; i++)
		free(d.keys[i]);
	free(d.keys);
	free(xml);
}
