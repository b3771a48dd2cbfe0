/*
 * Multipart uploads by R2's rules, which are stricter than S3's: every part
 * but the last has one length. That is found out when the upload is completed,
 * and so is everything else about the parts.
 */
#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

#define PART_MIN (5u << 20)
#define COPY_MAX 5363466240ull /* 5 GiB - 5 MiB */

enum { PARTS_MAX = 10000 };

void op_create(struct request *r, struct bucket *b)
{
	struct text t = { 0 };
	struct upload *u;
	char *headers;

	if (!screen_headers(r, &headers))
		return;
	pthread_rwlock_wrlock(&objects_lock);
	u = upload_new(b, r->key, r->name, headers);
	text_add(&t,
		 XML_HEAD "<InitiateMultipartUploadResult " XMLNS
			  "><UploadId>%s</UploadId><Bucket>%s</Bucket><Key>",
		 u->id, b->name);
	pthread_rwlock_unlock(&objects_lock);
	text_add_xml(&t, r->name);
	text_add(&t, "</Key></InitiateMultipartUploadResult>");
	reply_xml(r, &t);
}

/* ---- parts ---- */

/* 0: an error was answered */
static unsigned part_number(struct request *r)
{
	const char *s = req_arg(r, "partNumber");
	long n = atol(s);

	if (n >= 1 && n <= PARTS_MAX)
		return n;
	op_error(r, 400, "InvalidArgument",
		 "Part number must be an integer between 1 and 10000, "
		 "inclusive.");
	return 0;
}

/* The write lock held. NULL: an error was answered. */
static struct upload *open_upload(struct request *r, struct bucket *b)
{
	struct upload *u = upload_find(b, r->key, req_arg(r, "uploadId"));

	if (u && u->state == UP_OPEN)
		return u;
	op_fail(r, "NoSuchUpload");
	return NULL;
}

static bool add_part(struct request *r, struct bucket *b, struct body *body,
		     unsigned number, int64_t *mtime)
{
	struct part p = { .number = number, .size = body->len };
	struct upload *u = open_upload(r, b);

	if (!u)
		return false;
	if (body->len) {
		p.id = bucket_adopt(b, body->path);
		if (!p.id)
			return op_fail(r, "InternalError");
		free(body->path);
		body->path = NULL;
	}
	memcpy(p.etag, body->etag, sizeof(p.etag));
	p.mtime_ms = *mtime = sim_now_ms();
	upload_add(b, u, &p);
	return true;
}

void op_part(struct request *r, struct bucket *b)
{
	unsigned number = part_number(r);
	int64_t mtime;
	bool good;

	if (!number)
		return;
	pthread_rwlock_wrlock(&objects_lock);
	good = add_part(r, b, &r->body, number, &mtime);
	pthread_rwlock_unlock(&objects_lock);
	if (!good)
		return;
	reply_empty(r, 200);
	reply_etag(r, r->body.etag);
	for (unsigned i = 0; checksum_header(i); i++) {
		const char *v = req_header(r, checksum_header(i));

		if (v)
			reply_header(r, checksum_header(i), v);
	}
}

/* "bytes=a-b" of x-amz-copy-source-range; the end is clamped. */
static bool copy_range(struct request *r, const struct object *src,
		       uint64_t *from, uint64_t *end)
{
	const char *h = req_header(r, "x-amz-copy-source-range");
	unsigned status;

	if (h && (strncmp(h, "bytes=", 6) || !isdigit((unsigned char)h[6]) ||
		  h[strlen(h) - 1] == '-'))
		return op_error(r, 400, "InvalidArgument",
				"Invalid x-amz-copy-source-range: %s", h);
	status = parse_range(h, src->size, from, end);
	if (status == 1)
		return op_error(r, 400, "InvalidArgument",
				"x-amz-copy-source-range must be positive.");
	if (status == 416)
		return op_fail(r, "InvalidRange");
	if (status == 400)
		return op_error(r, 400, "InvalidArgument",
				"Invalid x-amz-copy-source-range: %s", h);
	return *end - *from > COPY_MAX ? op_fail(r, "EntityTooLarge") : true;
}

void op_partcopy(struct request *r, struct bucket *b)
{
	struct body body = { .fd = -1 };
	unsigned number = part_number(r);
	struct object *src = number ? copy_source(r) : NULL;
	struct text t = { 0 };
	uint64_t from, end;
	int64_t mtime = 0;
	bool good;

	if (!src)
		return;
	if (copy_range(r, src, &from, &end)) {
		good = body_copy(&body, src, from, end, true) ||
		       op_fail(r, "InternalError");
		pthread_rwlock_wrlock(&objects_lock);
		good = good && add_part(r, b, &body, number, &mtime);
		pthread_rwlock_unlock(&objects_lock);
		if (good) {
			text_add(&t,
				 XML_HEAD "<CopyPartResult " XMLNS "><ETag>"
					  "&quot;%s&quot;</ETag>"
					  "<LastModified>",
				 body.etag);
			text_add_time(&t, mtime);
			text_add(&t, "</LastModified></CopyPartResult>");
			reply_xml(r, &t);
		}
	}
	body_release(&body);
	object_unref(src);
}

void op_abort(struct request *r, struct bucket *b)
{
	struct upload *u;

	pthread_rwlock_wrlock(&objects_lock);
	u = upload_find(b, r->key, req_arg(r, "uploadId"));
	if (u && u->state == UP_OPEN)
		upload_end(b, u, UP_ABORTED, NULL, 0);
	pthread_rwlock_unlock(&objects_lock);
	if (u)
		reply_empty(r, 204);
	else
		op_fail(r, "NoSuchUpload");
}

/* ---- completion ---- */

struct wanted {
	unsigned n;
	long numbers[PARTS_MAX];
	char etags[PARTS_MAX][40];
	long number;
	char etag[40];
	bool root, has_number, has_etag;
};

static void unquote(const char *s, char out[40])
{
	size_t n = strlen(s);

	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	snprintf(out, 40, "%.*s", (int)n, s);
}

static int complete_element(void *arg, const char *path, const char *text)
{
	struct wanted *w = arg;
	char *end;

	if (!strcmp(path, "CompleteMultipartUpload/Part/PartNumber")) {
		w->number = strtol(text, &end, 10);
		w->has_number = *text && !*end;
	} else if (!strcmp(path, "CompleteMultipartUpload/Part/ETag")) {
		unquote(text, w->etag);
		w->has_etag = true;
	} else if (!strcmp(path, "CompleteMultipartUpload/Part")) {
		if (!w->has_number || !w->has_etag || w->n == PARTS_MAX)
			return 1;
		w->numbers[w->n] = w->number;
		memcpy(w->etags[w->n++], w->etag, 40);
		w->has_number = w->has_etag = false;
	} else if (!strcmp(path, "CompleteMultipartUpload")) {
		w->root = true;
	}
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct part *p = a, *q = b;

	return p->number < q->number ? -1 : p->number > q->number;
}

static bool pick(struct request *r, const struct upload *u,
		 const struct wanted *w, struct part *parts)
{
	bool seen[PARTS_MAX + 1] = { 0 };

	for (unsigned i = 0; i < w->n; i++) {
		if (w->numbers[i] < 1 || w->numbers[i] > PARTS_MAX)
			return op_fail(r, "InvalidPart");
		if (seen[w->numbers[i]])
			return op_error(r, 400, "InvalidPart",
					"There was a problem with the "
					"multipart upload.");
		seen[w->numbers[i]] = true;
	}
	for (unsigned i = 0; i < w->n; i++) {
		struct part key = { .number = w->numbers[i] };
		struct part *p =
			bsearch(&key, u->parts, u->n, sizeof(key), by_number);

		if (!p || strcmp(p->etag, w->etags[i]) != 0)
			return op_fail(r, "InvalidPart");
		parts[i] = *p;
	}
	qsort(parts, w->n, sizeof(*parts), by_number);
	for (unsigned i = 0; i + 1 < w->n; i++)
		if (parts[i].size < PART_MIN)
			return op_fail(r, "EntityTooSmall");
	for (unsigned i = 1; i < w->n; i++)
		if (parts[i].size > parts[0].size ||
		    (i + 1 < w->n && parts[i].size != parts[0].size))
			return op_error(r, 400, "InvalidPart",
					"All non-trailing parts must have the "
					"same length.");
	return true;
}

static void joined_etag(const struct part *parts, unsigned n, char out[48])
{
	EVP_MD_CTX *md5 = EVP_MD_CTX_new();
	unsigned char digest[16];

	EVP_DigestInit_ex(md5, EVP_md5(), NULL);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 16; k++) {
			unsigned byte = 0;

			sscanf(parts[i].etag + 2 * k, "%2x", &byte);
			digest[k] = byte;
		}
		EVP_DigestUpdate(md5, digest, 16);
	}
	EVP_DigestFinal_ex(md5, digest, NULL);
	EVP_MD_CTX_free(md5);
	hex(digest, 16, out);
	sprintf(out + 32, "-%u", n);
}

static void complete_answer(struct request *r, const struct bucket *b,
			    const char *etag)
{
	const char *host = req_header(r, "Host");
	struct text t = { 0 };

	text_add(&t,
		 XML_HEAD "<CompleteMultipartUploadResult " XMLNS
			  "><Bucket>%s</Bucket><Key>",
		 b->name);
	text_add_xml(&t, r->name);
	text_add(&t, "</Key><ETag>&quot;%s&quot;</ETag><Location>http://%s/%s/",
		 etag, host ? host : "", b->name);
	text_add_encoded(&t, r->name);
	text_add(&t, "</Location></CompleteMultipartUploadResult>");
	reply_xml(r, &t);
}

/* The write lock held. */
static void complete(struct request *r, struct bucket *b,
		     const struct wanted *w, struct part *parts)
{
	struct upload *u = open_upload(r, b);
	struct object *o;
	char etag[48];

	if (!u || !pick(r, u, w, parts))
		return;
	if (conditions(r, "", bucket_get(b, r->key))) {
		upload_end(b, u, UP_ABORTED, NULL, 0);
		op_fail(r, "PreconditionFailed");
		return;
	}
	joined_etag(parts, w->n, etag);
	o = object_new(b, r->key, r->name, etag, xstrdup(u->headers));
	for (unsigned i = 0; i < w->n; i++)
		object_add_segment(o, parts[i].id, parts[i].size);
	upload_end(b, u, UP_COMPLETED, parts, w->n);
	if (bucket_insert(b, o))
		complete_answer(r, b, etag);
	else
		op_fail(r, "InternalError");
}

void op_complete(struct request *r, struct bucket *b)
{
	struct wanted *w = xalloc(sizeof(*w));
	struct part *parts = xalloc(PARTS_MAX * sizeof(*parts));
	char *xml = body_text(&r->body, 8 << 20);

	if (!xml || !xml_read(xml, complete_element, w) || !w->root || !w->n) {
		op_fail(r, "MalformedXML");
	} else {
		pthread_rwlock_wrlock(&objects_lock);
		complete(r, b, w, parts);
		pthread_rwlock_unlock(&objects_lock);
	}
	free(xml);
	free(parts);
	free(w);
}
