/*
 * A SAX parser over libxml2: the tree of a LIST page would cost ten times the
 * page. Text is gathered for leaf elements only; what an element means is
 * decided when it ends, from its own name and its parent's. Names are decoded
 * after the document's end, because only then it is sure whether they were
 * encoded.
 */
#include "r2/xml.h"

#include <libxml/parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

enum {
	MAX_DEPTH = 8,
	MAX_NAME = 64,
	MAX_TEXT = 8192,
	MAX_ENTRIES = 4096,
};

/* A document that lists items. */
static const struct listing {
	const char *root, *item;
	unsigned depth; /* of an item; the root's is 1 */
} objects = { "ListBucketResult", "Contents", 2 },
  uploads = { "ListMultipartUploadsResult", "Upload", 2 },
  buckets = { "ListAllMyBucketsResult", "Bucket", 3 },
  parts = { "ListPartsResult", "Part", 2 };

struct parse {
	char path[MAX_DEPTH][MAX_NAME];
	unsigned depth;
	struct buf text;
	bool bad;
	bool url_encoded;
	bool root_seen;
	const struct listing *listing; /* or NULL */
	struct store_list *list; /* its items, unless parts */
	struct store_entry entry;
	struct xml_parts *parts;
	struct store_part part;
	struct xml_error *error; /* or NULL */
	struct xml_result *result; /* or NULL */
	struct xml_failure failure; /* the one being read */
	const char *root; /* NULL: one of results[] */
};

static const char *const results[] = {
	"InitiateMultipartUploadResult", "CopyObjectResult", "CopyPartResult",
	"CompleteMultipartUploadResult", "DeleteResult",
};

static bool root_ok(const struct parse *p, const char *name)
{
	if (p->root)
		return strcmp(name, p->root) == 0;
	for (unsigned i = 0; i < ARRAY_SIZE(results); i++)
		if (strcmp(name, results[i]) == 0)
			return true;
	return false;
}

static void fail(struct parse *p)
{
	p->bad = true;
}

static void new_item(struct parse *p)
{
	free(p->entry.name);
	free(p->entry.upload_id);
	memset(&p->entry, 0, sizeof(p->entry));
	memset(&p->part, 0, sizeof(p->part));
}

static void on_start(void *arg, const xmlChar *name, const xmlChar *prefix,
		     const xmlChar *uri, int nns, const xmlChar **ns, int natt,
		     int ndef, const xmlChar **atts)
{
	struct parse *p = arg;

	if (p->bad || p->depth == MAX_DEPTH ||
	    strlen((const char *)name) >= MAX_NAME) {
		fail(p);
		return;
	}
	if (p->depth == 0) {
		if (!root_ok(p, (const char *)name))
			fail(p);
		p->root_seen = true;
	}
	strcpy(p->path[p->depth++], (const char *)name);
	buf_reset(&p->text);
	if (p->listing && p->depth == p->listing->depth &&
	    !strcmp((const char *)name, p->listing->item))
		new_item(p);
}

static void on_text(void *arg, const xmlChar *s, int n)
{
	struct parse *p = arg;

	buf_add(&p->text, s, n);
	if (p->text.failed)
		fail(p);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes in place; false for a bad escape or a NUL. */
static bool decode(char *s)
{
	char *out = s;

	for (; *s; s++, out++) {
		if (*s != '%') {
			*out = *s;
			continue;
		}
		int hi = hex(s[1]), lo = hi < 0 ? -1 : hex(s[2]);

		if (lo < 0 || (hi == 0 && lo == 0))
			return false;
		*out = hi << 4 | lo;
		s += 2;
	}
	*out = 0;
	return true;
}

static bool is_power_of_2(unsigned n)
{
	return (n & (n - 1)) == 0;
}

static void add_entry(struct parse *p)
{
	struct store_list *l = p->list;

	if (!p->entry.name || l->n >= MAX_ENTRIES) {
		fail(p);
		return;
	}
	if (is_power_of_2(l->n))
		l->entries = xrealloc(l->entries, (l->n ? l->n * 2 : 1) *
							  sizeof(*l->entries));
	l->entries[l->n++] = p->entry;
	memset(&p->entry, 0, sizeof(p->entry));
}

static void add_part(struct parse *p)
{
	struct xml_parts *x = p->parts;

	if (!p->part.number || x->n >= MAX_ENTRIES) {
		fail(p);
		return;
	}
	if (is_power_of_2(x->n))
		x->v = xrealloc(x->v, (x->n ? x->n * 2 : 1) * sizeof(*x->v));
	x->v[x->n++] = p->part;
}

static void copy_etag(char *to, size_t max, const char *s)
{
	size_t n = strlen(s);

	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	if (n < max) {
		memcpy(to, s, n);
		to[n] = 0;
	}
}

static uint64_t to_number(struct parse *p, const char *text)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end || end == text || *text == '-')
		fail(p);
	return n;
}

static void set_text(char **to, const char *text)
{
	free(*to);
	*to = xstrdup(text);
}

static void item_field(struct parse *p, const char *name, const char *text)
{
	struct store_entry *e = &p->entry;

	if (!strcmp(name, "Key") || !strcmp(name, "Name")) {
		set_text(&e->name, text);
	} else if (!strcmp(name, "UploadId")) {
		set_text(&e->upload_id, text);
	} else if (!strcmp(name, "Size")) {
		p->part.size = e->size = to_number(p, text);
	} else if (!strcmp(name, "PartNumber")) {
		p->part.number = (unsigned)to_number(p, text);
	} else if (!strcmp(name, "LastModified") ||
		   !strcmp(name, "Initiated") ||
		   !strcmp(name, "CreationDate")) {
		if (xml_parse_time(text, &e->mtime_ns))
			fail(p);
	} else if (!strcmp(name, "ETag")) {
		copy_etag(e->etag.s, sizeof(e->etag.s), text);
		copy_etag(p->part.etag, sizeof(p->part.etag), text);
	} else if (!strcmp(name, "StorageClass")) {
		e->infrequent = !strcmp(text, "STANDARD_IA");
	}
}

static void parts_field(struct parse *p, const char *name, const char *text)
{
	if (!strcmp(name, "IsTruncated"))
		p->parts->truncated = !strcmp(text, "true");
	else if (!strcmp(name, "NextPartNumberMarker") && *text)
		p->parts->next = (unsigned)to_number(p, text);
}

static void list_field(struct parse *p, const char *name, const char *text)
{
	struct store_list *l = p->list;

	if (!strcmp(name, "IsTruncated"))
		l->truncated = !strcmp(text, "true");
	else if (!strcmp(name, "EncodingType"))
		p->url_encoded = !strcmp(text, "url");
	else if (!strcmp(name,
			 p->listing == &uploads ? "NextUploadIdMarker" :
			 p->listing == &buckets ? "ContinuationToken" :
						  "NextContinuationToken") &&
		 *text)
		set_text(&l->next_token, text);
	else if (!strcmp(name, "NextKeyMarker") && *text)
		set_text(&l->next_key, text);
}

static void end_in_list(struct parse *p, const char *name, const char *text)
{
	const struct listing *l = p->listing;
	const char *parent = p->depth > 1 ? p->path[p->depth - 2] : "";

	if (p->depth == l->depth + 1 && !strcmp(parent, l->item)) {
		item_field(p, name, text);
	} else if (p->depth == l->depth && !strcmp(name, l->item)) {
		if (p->parts)
			add_part(p);
		else
			add_entry(p);
	} else if (p->list && p->depth == 3 &&
		   !strcmp(parent, "CommonPrefixes") &&
		   !strcmp(name, "Prefix")) {
		new_item(p);
		p->entry.name = xstrdup(text);
		p->entry.is_prefix = true;
		add_entry(p);
	} else if (p->depth == 2 && p->parts) {
		parts_field(p, name, text);
	} else if (p->depth == 2) {
		list_field(p, name, text);
	}
}

static void add_failure(struct parse *p)
{
	struct xml_result *r = p->result;

	if (!p->failure.key || r->nfailures >= MAX_ENTRIES) {
		fail(p);
		return;
	}
	if (is_power_of_2(r->nfailures))
		r->failures = xrealloc(r->failures,
				       (r->nfailures ? r->nfailures * 2 : 1) *
					       sizeof(*r->failures));
	r->failures[r->nfailures++] = p->failure;
	memset(&p->failure, 0, sizeof(p->failure));
}

static void end_in_result(struct parse *p, const char *name, const char *text)
{
	const char *parent = p->depth > 1 ? p->path[p->depth - 2] : "";
	struct xml_result *r = p->result;

	if (p->depth == 2 && !strcmp(name, "ETag")) {
		copy_etag(r->etag, sizeof(r->etag), text);
	} else if (p->depth == 2 && !strcmp(name, "UploadId")) {
		free(r->upload_id);
		r->upload_id = xstrdup(text);
	} else if (p->depth == 3 && !strcmp(parent, "Error")) {
		if (!strcmp(name, "Key"))
			set_text(&p->failure.key, text);
		else if (!strcmp(name, "Code"))
			snprintf(p->failure.code, sizeof(p->failure.code), "%s",
				 text);
	} else if (p->depth == 2 && !strcmp(name, "Error")) {
		add_failure(p);
	}
}

static void on_end(void *arg, const xmlChar *name, const xmlChar *prefix,
		   const xmlChar *uri)
{
	struct parse *p = arg;
	const char *n = (const char *)name, *text = p->text.data;

	if (p->bad || p->depth == 0)
		return;
	if (p->listing) {
		end_in_list(p, n, text);
	} else if (p->result) {
		end_in_result(p, n, text);
	} else if (p->depth == 2 && !strcmp(n, "Code")) {
		snprintf(p->error->code, sizeof(p->error->code), "%s", text);
	} else if (p->depth == 2 && !strcmp(n, "Message")) {
		snprintf(p->error->message, sizeof(p->error->message), "%s",
			 text);
	}
	p->depth--;
	buf_reset(&p->text);
}

static void ignore(void *arg, const char *msg, ...)
{
}

static void on_doctype(void *arg, const xmlChar *name, const xmlChar *id,
		       const xmlChar *uri)
{
	fail(arg);
}

static int run(struct parse *p, const void *body, size_t n)
{
	xmlSAXHandler sax = { .initialized = XML_SAX2_MAGIC,
			      .startElementNs = on_start,
			      .endElementNs = on_end,
			      .characters = on_text,
			      .cdataBlock = on_text,
			      .internalSubset = on_doctype,
			      .warning = ignore,
			      .error = ignore };
	xmlParserCtxtPtr ctx;
	int err;

	if (n > INT32_MAX)
		return -EBADMSG;
	buf_init(&p->text, MAX_TEXT);
	ctx = xmlCreatePushParserCtxt(&sax, p, NULL, 0, NULL);
	if (!ctx)
		BUG("xmlCreatePushParserCtxt");
	xmlCtxtUseOptions(ctx, XML_PARSE_NONET | XML_PARSE_NOERROR |
				       XML_PARSE_NOWARNING);
	err = xmlParseChunk(ctx, body, (int)n, 1);
	if (err || !ctx->wellFormed || p->depth || !p->root_seen)
		fail(p);
	xmlFreeDoc(ctx->myDoc); /* a DTD makes one in spite of SAX */
	xmlFreeParserCtxt(ctx);
	buf_release(&p->text);
	new_item(p);
	free(p->failure.key);
	return p->bad ? -EBADMSG : 0;
}

bool xml_parse_error(const void *body, size_t n, struct xml_error *ret)
{
	struct parse p = { .error = ret, .root = "Error" };

	memset(ret, 0, sizeof(*ret));
	if (n && run(&p, body, n) == 0)
		return true;
	memset(ret, 0, sizeof(*ret));
	return false;
}

/* A server that takes its time sends white space first. */
int xml_parse_result(const void *body, size_t n, struct xml_result *ret)
{
	struct parse p = { .result = ret };
	const char *s = body;
	int err;

	memset(ret, 0, sizeof(*ret));
	for (; n && strchr(" \t\r\n", *s) && *s; n--)
		s++;
	err = n ? run(&p, s, n) : -EBADMSG;
	if (err)
		xml_result_release(ret);
	return err;
}

void xml_result_release(struct xml_result *r)
{
	for (unsigned i = 0; i < r->nfailures; i++)
		free(r->failures[i].key);
	free(r->failures);
	free(r->upload_id);
	memset(r, 0, sizeof(*r));
}

static void decode_names(struct store_list *l, bool url_encoded)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < l->n; i++) {
		char *name = l->entries[i].name;

		if ((url_encoded && !decode(name)) || !*name ||
		    strlen(name) > STORE_KEY_MAX) {
			free(name);
			l->skipped++;
		} else {
			l->entries[kept++] = l->entries[i];
		}
	}
	l->n = kept;
}

static int parse_listing(const struct listing *l, const void *body, size_t n,
			 struct store_list *ret)
{
	struct parse p = { .listing = l, .list = ret, .root = l->root };
	int err;

	memset(ret, 0, sizeof(*ret));
	err = run(&p, body, n);
	decode_names(ret, p.url_encoded);
	if (!err && ret->next_key && p.url_encoded && !decode(ret->next_key))
		err = -EBADMSG;
	return err;
}

int xml_parse_list(const void *body, size_t n, struct store_list *ret)
{
	int err = parse_listing(&objects, body, n, ret);

	return !err && ret->truncated && !ret->next_token ? -EBADMSG : err;
}

int xml_parse_uploads(const void *body, size_t n, struct store_list *ret)
{
	int err = parse_listing(&uploads, body, n, ret);

	for (unsigned i = 0; i < ret->n && !err; i++)
		if (!ret->entries[i].is_prefix && !ret->entries[i].upload_id)
			err = -EBADMSG;
	return !err && ret->truncated && !ret->next_key ? -EBADMSG : err;
}

int xml_parse_buckets(const void *body, size_t n, struct store_list *ret)
{
	int err = parse_listing(&buckets, body, n, ret);

	ret->truncated = ret->next_token != NULL;
	return err;
}

int xml_parse_parts(const void *body, size_t n, struct xml_parts *ret)
{
	struct parse p = { .listing = &parts,
			   .parts = ret,
			   .root = parts.root };
	int err;

	memset(ret, 0, sizeof(*ret));
	err = run(&p, body, n);
	if (!err && ret->truncated && !ret->next)
		err = -EBADMSG;
	if (!ret->truncated)
		ret->next = 0;
	return err;
}

int xml_parse_time(const char *s, int64_t *ret_ns)
{
	struct tm tm = { 0 };
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ns = 0, unit = 100000000;

	if (!p)
		return -EINVAL;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
			ns += (*p - '0') * unit;
	if (strcmp(p, "Z") != 0)
		return -EINVAL;
	*ret_ns = (int64_t)timegm(&tm) * 1000000000 + ns;
	return 0;
}
