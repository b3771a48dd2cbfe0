/*
 * ListObjects in both versions. A page is a scan of the index under the read
 * lock; a folder that the delimiter folds is skipped by a search, whatever it
 * holds. Names are shown as they were last uploaded, ordered and matched by
 * their normalised form.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

struct listing {
	char *prefix; /* normalised */
	const char *delimiter;
	long echoed, max;
	bool v2, url, owner;
	struct text contents, prefixes;
	long n;
	char *last; /* last key or prefix given */
	bool truncated;
	int fault;
};

/* ---- what uploads are listed with, too ---- */

bool list_max(struct request *r, const char *name, long *echoed, long *max)
{
	const char *s = req_arg(r, name);
	long page = limits.page;
	double value;
	char *end;

	*echoed = *max = 1000;
	if (s) {
		value = strtod(s, &end);
		if (!isdigit((unsigned char)*s) || *end || value > 1e15)
			return op_fail(r, "InvalidMaxKeys");
		*echoed = (long)floor(value);
		*max = *echoed < 1000 ? *echoed : 1000;
	}
	if (page && *max > page)
		*max = page;
	return true;
}

bool list_encoding(struct request *r, bool *url)
{
	const char *s = req_arg(r, "encoding-type");

	*url = s && !strcmp(s, "url");
	if (s && !*url)
		return op_error(r, 501, "NotImplemented",
				"Unrecognized encoding-type \"%s\" not "
				"implemented",
				s);
	return true;
}

void list_name(struct text *t, const char *name, bool url)
{
	if (url)
		text_add_encoded(t, name);
	else
		text_add_xml(t, name);
}

const char *list_group(const char *key, const char *prefix,
		       const char *delimiter)
{
	const char *p;

	if (!delimiter || !*delimiter)
		return NULL;
	p = strstr(key + strlen(prefix), delimiter);
	return p ? p + strlen(delimiter) : NULL;
}

/* ---- the scan ---- */

static void add_object(struct listing *l, const struct object *o)
{
	struct text *t = &l->contents;
	char *class = object_header(o, "x-amz-storage-class");

	text_add(t, "<Contents><Key>");
	list_name(t, o->name, l->url);
	text_add(t, "</Key><Size>%llu</Size><LastModified>",
		 (unsigned long long)o->size);
	text_add_time(t, o->mtime_ms);
	text_add(t,
		 "</LastModified><ETag>&quot;%s&quot;</ETag>"
		 "<StorageClass>%s</StorageClass>",
		 o->etag, class ? class : "STANDARD");
	if (l->owner)
		text_add(t, "<Owner><ID>r2sim</ID><DisplayName>r2sim"
			    "</DisplayName></Owner>");
	text_add(t, "</Contents>");
	free(class);
}

/* The group as the object's uploaded name spells it: normalising moves no
 * delimiter that is ASCII, so it ends at the same count of them. */
static char *spelled(const struct object *o, size_t n, const char *delimiter)
{
	const char *p = o->key, *q = o->name;

	if (o->name == o->key)
		return strndup(o->key, n);
	while ((p = strstr(p, delimiter)) && p < o->key + n) {
		p += strlen(delimiter);
		q = strstr(q, delimiter);
		if (!q)
			return strndup(o->key, n);
		q += strlen(delimiter);
	}
	return strndup(o->name, q - o->name);
}

/* The first key behind every key that starts with prefix. */
static size_t skip_group(const struct bucket *b, const char *prefix)
{
	char *after = xstrdup(prefix);
	size_t n = strlen(after), i;

	while (n && (unsigned char)after[n - 1] == 0xff)
		after[--n] = 0;
	if (!n) {
		free(after);
		return b->n;
	}
	after[n - 1]++;
	i = bucket_lower(b, after);
	free(after);
	return i;
}

static size_t add_entry(struct listing *l, struct bucket *b, size_t i)
{
	struct object *o = b->objects[i];
	const char *end = list_group(o->key, l->prefix, l->delimiter);
	char *name;

	free(l->last);
	if (!end) {
		add_object(l, o);
		if (l->fault == F_DUP)
			add_object(l, o);
		l->last = xstrdup(o->key);
		return i + 1;
	}
	name = spelled(o, end - o->key, l->delimiter);
	text_add(&l->prefixes, "<CommonPrefixes><Prefix>");
	list_name(&l->prefixes, name, l->url);
	text_add(&l->prefixes, "</Prefix></CommonPrefixes>");
	free(name);
	l->last = strndup(o->key, end - o->key);
	return skip_group(b, l->last);
}

static void scan(struct listing *l, struct bucket *b, size_t i)
{
	size_t n = strlen(l->prefix);

	while (i < b->n && strncmp(b->objects[i]->key, l->prefix, n) == 0) {
		if (l->n == l->max) {
			l->truncated = true;
			return;
		}
		l->n++;
		i = add_entry(l, b, i);
	}
}

static size_t start(const struct listing *l, struct bucket *b,
		    const char *after)
{
	const char *end;
	size_t i;

	if (!*after || strcmp(after, l->prefix) < 0)
		return bucket_lower(b, l->prefix);
	if (strncmp(after, l->prefix, strlen(l->prefix)) == 0) {
		end = list_group(after, l->prefix, l->delimiter);
		if (end && !*end)
			return skip_group(b, after);
	}
	i = bucket_lower(b, after);
	return i < b->n && !strcmp(b->objects[i]->key, after) ? i + 1 : i;
}

/* ---- the document ---- */

/* Opaque, and with characters that a query must have encoded. */
static const unsigned char mark[3] = { 0xfb, 0xff, 0xbf };

static char *token_encode(const char *key)
{
	struct text t = { 0 };
	char *ret;

	text_add_bytes(&t, (const char *)mark, 3);
	text_add_str(&t, key);
	ret = base64(t.s, t.len);
	text_free(&t);
	return ret;
}

static char *token_decode(const char *token)
{
	size_t n;
	unsigned char *raw = unbase64(token, &n);
	char *key = NULL;

	if (raw && n >= 3 && memcmp(raw, mark, 3) == 0)
		key = xstrdup((char *)raw + 3);
	free(raw);
	return key;
}

static void echo(struct listing *l, struct text *t, const char *tag,
		 const char *value)
{
	if (!value)
		return;
	text_add(t, "<%s>", tag);
	list_name(t, value, l->url);
	text_add(t, "</%s>", tag);
}

static void add_token(struct text *t, const char *tag, const char *token)
{
	if (!token)
		return;
	text_add(t, "<%s>", tag);
	text_add_xml(t, token);
	text_add(t, "</%s>", tag);
}

static void add_position(struct request *r, struct listing *l, struct text *t)
{
	const char *given = req_arg(r, "continuation-token");
	char *token = l->truncated && l->last ? token_encode(l->last) : NULL;

	if (l->v2) {
		echo(l, t, "StartAfter", req_arg(r, "start-after"));
		add_token(t, "ContinuationToken", given);
		add_token(t, "NextContinuationToken",
			  fault_is(r, F_LOOP) && given ? given : token);
	} else {
		echo(l, t, "Marker", req_arg(r, "marker") ?: "");
		if (l->truncated)
			echo(l, t, "NextMarker", l->last);
	}
	free(token);
}

static void document(struct request *r, struct listing *l, const char *bucket)
{
	struct text t = { 0 };

	text_add(&t, XML_HEAD "<ListBucketResult " XMLNS "><Name>%s</Name>",
		 bucket);
	text_add_bytes(&t, l->contents.s ?: "", l->contents.len);
	text_add(&t, "<IsTruncated>%s</IsTruncated>",
		 l->truncated ? "true" : "false");
	text_add_bytes(&t, l->prefixes.s ?: "", l->prefixes.len);
	echo(l, &t, "Prefix", req_arg(r, "prefix") ?: "");
	echo(l, &t, "Delimiter", l->delimiter);
	add_position(r, l, &t);
	text_add(&t, "<MaxKeys>%ld</MaxKeys>", l->echoed);
	if (l->v2)
		text_add(&t, "<KeyCount>%ld</KeyCount>", l->n);
	if (l->url)
		text_add(&t, "<EncodingType>url</EncodingType>");
	text_add(&t, "</ListBucketResult>");
	reply_xml(r, &t);
}

/* Turns the Contents of a page around. */
static void unsort(struct text *t)
{
	struct text turned = { 0 };
	size_t end = t->len;

	for (size_t i = t->len; i-- > 0;) {
		if (strncmp(t->s + i, "<Contents>", 10) != 0)
			continue;
		text_add_bytes(&turned, t->s + i, end - i);
		end = i;
	}
	text_free(t);
	*t = turned;
}

/* ---- the request ---- */

static bool screen_params(struct request *r, bool v2)
{
	static const char known[] = " prefix delimiter max-keys encoding-type ";
	static const char one[] = " marker ";
	static const char two[] =
		" list-type continuation-token start-after fetch-owner ";

	if (!v2 && req_arg(r, "continuation-token"))
		return op_error(r, 400, "InvalidArgument",
				"continuation-token not supported in "
				"ListObjects");
	for (unsigned i = 0; i < r->nparams; i++) {
		const char *name = r->params[i].name;
		char *word = xprintf(" %s ", name);
		bool good =
			strstr(known, word) || strstr(v2 ? two : one, word) ||
			!strncmp(name, "X-Amz-", 6) || !strcmp(name, "x-id");

		free(word);
		if (!good)
			return op_error(r, 501, "NotImplemented",
					"ListObjectsV%d search parameter %s "
					"not implemented",
					v2 ? 2 : 1, name);
	}
	return true;
}

/* Where the page begins, normalised; NULL: an error was answered. */
static char *position(struct request *r, bool v2)
{
	const char *token = v2 ? req_arg(r, "continuation-token") : NULL;
	const char *after = req_arg(r, v2 ? "start-after" : "marker");
	char *ret;

	if (token && *token) {
		ret = token_decode(token);
		if (!ret)
			op_error(r, 400, "InvalidArgument",
				 "continuation-token is not one of ours");
		return ret;
	}
	ret = nfc(after ? after : "");
	if (!ret)
		op_error(r, 400, "InvalidArgument", "not UTF-8");
	return ret;
}

void op_list(struct request *r, struct bucket *b)
{
	const char *type = req_arg(r, "list-type"), *prefix, *owner;
	struct listing l = { .v2 = type && !strcmp(type, "2") };
	char *after = NULL;

	if (type && !l.v2) {
		op_error(r, 501, "NotImplemented",
			 "ListObjectsV%s not implemented", type);
		return;
	}
	if (!screen_params(r, l.v2) || !list_encoding(r, &l.url) ||
	    !list_max(r, "max-keys", &l.echoed, &l.max))
		return;
	after = position(r, l.v2);
	if (!after)
		return;
	prefix = req_arg(r, "prefix");
	owner = req_arg(r, "fetch-owner");
	l.prefix = nfc(prefix ? prefix : "");
	if (!l.prefix)
		l.prefix = xstrdup(prefix);
	l.delimiter = req_arg(r, "delimiter");
	l.owner = owner && !strcmp(owner, "true");
	l.fault = r->fault ? (int)r->fault->action : -1;
	pthread_rwlock_rdlock(&objects_lock);
	scan(&l, b, start(&l, b, after));
	pthread_rwlock_unlock(&objects_lock);
	if (l.fault == F_UNSORTED && l.contents.len)
		unsort(&l.contents);
	document(r, &l, b->name);
	free(after);
	free(l.prefix);
	free(l.last);
	text_free(&l.contents);
	text_free(&l.prefixes);
}
