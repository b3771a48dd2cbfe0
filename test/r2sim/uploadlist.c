/*
 * ListParts and ListMultipartUploads. Uploads are kept by age; a listing sorts
 * the pending ones by key, and those of one key by age.
 */
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

static unsigned number_arg(const struct request *r, const char *name)
{
	const char *s = req_arg(r, name);

	return s ? strtoul(s, NULL, 10) : 0;
}

static void parts_page(struct text *t, const struct upload *u, unsigned marker,
		       long max)
{
	unsigned last = 0;
	struct text rows = { 0 };
	bool more = false;

	for (unsigned i = 0; i < u->n; i++) {
		const struct part *p = &u->parts[i];

		if (p->number <= marker)
			continue;
		more = max-- <= 0;
		if (more)
			break;
		last = p->number;
		text_add(&rows,
			 "<Part><PartNumber>%u</PartNumber><LastModified>",
			 p->number);
		text_add_time(&rows, p->mtime_ms);
		text_add(&rows,
			 "</LastModified><ETag>&quot;%s&quot;</ETag>"
			 "<Size>%llu</Size></Part>",
			 p->etag, (unsigned long long)p->size);
	}
	text_add(t, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
	if (last)
		text_add(t, "<NextPartNumberMarker>%u</NextPartNumberMarker>",
			 last);
	text_add_bytes(t, rows.s ?: "", rows.len);
	text_free(&rows);
}

void op_listparts(struct request *r, struct bucket *b)
{
	unsigned marker = number_arg(r, "part-number-marker");
	struct text t = { 0 };
	struct upload *u;
	long echoed, max;

	if (!list_max(r, "max-parts", &echoed, &max))
		return;
	pthread_rwlock_rdlock(&objects_lock);
	u = upload_find(b, r->key, req_arg(r, "uploadId"));
	if (u && u->state == UP_OPEN) {
		text_add(&t,
			 XML_HEAD "<ListPartsResult " XMLNS "><Bucket>%s"
				  "</Bucket><Key>",
			 b->name);
		text_add_xml(&t, u->name);
		text_add(&t,
			 "</Key><UploadId>%s</UploadId><PartNumberMarker>"
			 "%u</PartNumberMarker><MaxParts>%ld</MaxParts>"
			 "<StorageClass>STANDARD</StorageClass>",
			 u->id, marker, echoed);
		parts_page(&t, u, marker, max);
		text_add(&t, "</ListPartsResult>");
	}
	pthread_rwlock_unlock(&objects_lock);
	if (t.len)
		reply_xml(r, &t);
	else
		op_fail(r, "NoSuchUpload");
}

/* ---- uploads of a bucket ---- */

struct page {
	char *prefix, *key_marker;
	const char *delimiter, *id_marker;
	bool url;
	long max, n;
	struct text uploads, prefixes;
	const char *next_key, *next_id; /* of the last entry */
	char *folder; /* the last common prefix */
	bool truncated;
};

static int by_key(const void *a, const void *b)
{
	const struct upload *u = *(struct upload *const *)a;
	const struct upload *v = *(struct upload *const *)b;
	int c = strcmp(u->key, v->key);

	return c ? c : u->file < v->file ? -1 : u->file > v->file;
}

static struct upload **sorted(const struct bucket *b, unsigned *n)
{
	struct upload **list;

	*n = 0;
	for (struct upload *u = b->uploads; u; u = u->next)
		*n += u->state == UP_OPEN;
	list = xalloc(*n * sizeof(struct upload *));
	*n = 0;
	for (struct upload *u = b->uploads; u; u = u->next)
		if (u->state == UP_OPEN)
			list[(*n)++] = u;
	qsort(list, *n, sizeof(struct upload *), by_key);
	return list;
}

static void add_upload(struct page *p, const struct upload *u)
{
	struct text *t = &p->uploads;

	text_add(t, "<Upload><Key>");
	list_name(t, u->name, p->url);
	text_add(t,
		 "</Key><UploadId>%s</UploadId><StorageClass>STANDARD"
		 "</StorageClass><Initiated>",
		 u->id);
	text_add_time(t, u->started_ms);
	text_add(t, "</Initiated></Upload>");
	p->next_key = u->name;
	p->next_id = u->id;
}

/* false: the page is full */
static bool add_entry(struct page *p, const struct upload *u)
{
	const char *end = list_group(u->key, p->prefix, p->delimiter);
	size_t len = end ? end - u->key : 0;

	if (end && p->folder && strlen(p->folder) == len &&
	    strncmp(p->folder, u->key, len) == 0)
		return true;
	if (p->n == p->max) {
		p->truncated = true;
		return false;
	}
	p->n++;
	if (!end) {
		add_upload(p, u);
		return true;
	}
	free(p->folder);
	p->folder = strndup(u->key, len);
	text_add(&p->prefixes, "<CommonPrefixes><Prefix>");
	list_name(&p->prefixes, p->folder, p->url);
	text_add(&p->prefixes, "</Prefix></CommonPrefixes>");
	p->next_key = p->folder;
	p->next_id = "";
	return true;
}

/* Behind the markers: by key alone, or of that key, behind that upload. A
 * marker that is a folder is behind all it holds. */
static bool behind(const struct page *p, const struct upload *u, bool *passed)
{
	int c = strcmp(u->key, p->key_marker);
	const char *end;

	if (!*p->key_marker)
		return true;
	end = list_group(p->key_marker, "", p->delimiter);
	if (end && !*end &&
	    !strncmp(u->key, p->key_marker, strlen(p->key_marker)))
		return false;
	if (c || !p->id_marker || !*p->id_marker)
		return c > 0;
	if (*passed)
		return true;
	*passed = !strcmp(u->id, p->id_marker);
	return false;
}

static void scan(struct page *p, struct bucket *b)
{
	bool passed = false;
	unsigned n;
	struct upload **list = sorted(b, &n);

	for (unsigned i = 0; i < n; i++) {
		if (strncmp(list[i]->key, p->prefix, strlen(p->prefix)) ||
		    !behind(p, list[i], &passed))
			continue;
		if (!add_entry(p, list[i]))
			break;
	}
	free(list);
}

static void element(struct text *t, const char *tag, const char *value,
		    bool url)
{
	text_add(t, "<%s>", tag);
	list_name(t, value, url);
	text_add(t, "</%s>", tag);
}

static void document(struct request *r, struct page *p, const char *bucket,
		     long echoed)
{
	struct text t = { 0 };

	text_add(&t,
		 XML_HEAD "<ListMultipartUploadsResult " XMLNS
			  "><Bucket>%s</Bucket>",
		 bucket);
	element(&t, "KeyMarker", req_arg(r, "key-marker") ?: "", p->url);
	element(&t, "UploadIdMarker", req_arg(r, "upload-id-marker") ?: "",
		false);
	if (p->truncated && p->next_key) {
		element(&t, "NextKeyMarker", p->next_key, p->url);
		element(&t, "NextUploadIdMarker", p->next_id, false);
	}
	element(&t, "Prefix", req_arg(r, "prefix") ?: "", p->url);
	if (p->delimiter)
		element(&t, "Delimiter", p->delimiter, p->url);
	if (p->url)
		text_add(&t, "<EncodingType>url</EncodingType>");
	text_add(&t,
		 "<MaxUploads>%ld</MaxUploads><IsTruncated>%s</IsTruncated>",
		 echoed, p->truncated ? "true" : "false");
	text_add_bytes(&t, p->uploads.s ?: "", p->uploads.len);
	text_add_bytes(&t, p->prefixes.s ?: "", p->prefixes.len);
	text_add(&t, "</ListMultipartUploadsResult>");
	reply_xml(r, &t);
}

void op_listuploads(struct request *r, struct bucket *b)
{
	const char *prefix = req_arg(r, "prefix");
	const char *marker = req_arg(r, "key-marker");
	struct page p = { .delimiter = req_arg(r, "delimiter"),
			  .id_marker = req_arg(r, "upload-id-marker") };
	long echoed;

	if (!list_encoding(r, &p.url) ||
	    !list_max(r, "max-uploads", &echoed, &p.max))
		return;
	p.prefix = nfc(prefix ? prefix : "");
	p.key_marker = nfc(marker ? marker : "");
	if (p.prefix && p.key_marker) {
		pthread_rwlock_rdlock(&objects_lock);
		scan(&p, b);
		document(r, &p, b->name, echoed);
		pthread_rwlock_unlock(&objects_lock);
	} else {
		op_error(r, 400, "InvalidArgument", "not UTF-8");
	}
	free(p.prefix);
	free(p.key_marker);
	free(p.folder);
	text_free(&p.uploads);
	text_free(&p.prefixes);
}
