/*
 * The XML that r2fs sends: lists of keys and parts, and where a bucket is
 * wanted. Written by hand, because there are three of them and the only thing
 * to get right is the text: Cloudflare's own server knows the five names of XML
 * and no numbers (it takes &#9; for four characters and says that it has
 * deleted such a key) and trims what it reads, so that "k " would delete "k";
 * others refuse raw control characters. A key that does not reach every server
 * as it is, is left out and deleted by itself.
 */
#include <string.h>

#include "r2/request.h"

/* Is the character at s one that some parser trims? In UTF-8; of the general
 * punctuation (E2 80) all counts, which costs nothing but a request. */
static bool is_space(const char *s)
{
	static const char *const wide[] = {
		"\xc2\xa0",	"\xe1\x9a\x80", "\xe2\x80",
		"\xe2\x81\x9f", "\xe3\x80\x80", "\xef\xbb\xbf",
	};

	if ((unsigned char)*s <= ' ')
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(wide); i++)
		if (strncmp(s, wide[i], strlen(wide[i])) == 0)
			return true;
	return false;
}

static const char *last_character(const char *s)
{
	const char *last = s + strlen(s) - 1;

	while (last > s && ((unsigned char)*last & 0xc0) == 0x80)
		last--;
	return last;
}

bool request_fits_xml(const char *key)
{
	if (is_space(key) || is_space(last_character(key)))
		return false;
	for (; *key; key++)
		if (((unsigned char)*key < ' ' && *key != '\t' &&
		     *key != '\n') ||
		    strncmp(key, "\xef\xbf\xbe", 3) == 0 ||
		    strncmp(key, "\xef\xbf\xbf", 3) == 0)
			return false;
	return true;
}

static void add_text(struct buf *b, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<':
			buf_addstr(b, "&lt;");
			break;
		case '>':
			buf_addstr(b, "&gt;");
			break;
		case '&':
			buf_addstr(b, "&amp;");
			break;
		case '"':
			buf_addstr(b, "&quot;");
			break;
		default:
			buf_addch(b, *s);
		}
	}
}

static void add_delete(struct buf *b, const struct store_req *req,
		       const bool *settled)
{
	buf_addstr(b, "<Delete>");
	for (unsigned i = 0; i < req->nkeys; i++) {
		if (!request_fits_xml(req->keys[i]) || (settled && settled[i]))
			continue;
		buf_addstr(b, "<Object><Key>");
		add_text(b, req->keys[i]);
		buf_addstr(b, "</Key></Object>");
	}
	buf_addstr(b, "<Quiet>true</Quiet></Delete>");
}

static void add_complete(struct buf *b, const struct store_req *req)
{
	buf_addstr(b, "<CompleteMultipartUpload>");
	for (unsigned i = 0; i < req->nparts; i++) {
		buf_addf(b, "<Part><PartNumber>%u</PartNumber><ETag>&quot;",
			 req->parts[i].number);
		add_text(b, req->parts[i].etag);
		buf_addstr(b, "&quot;</ETag></Part>");
	}
	buf_addstr(b, "</CompleteMultipartUpload>");
}

static void add_location(struct buf *b, const struct store_req *req)
{
	if (!req->location)
		return;
	buf_addstr(b, "<CreateBucketConfiguration><LocationConstraint>");
	add_text(b, req->location);
	buf_addstr(b, "</LocationConstraint></CreateBucketConfiguration>");
}

void request_document(struct buf *b, const struct store_req *req,
		      const struct request_variant *v)
{
	buf_reset(b);
	if (req->op == STORE_DELETE_MANY)
		add_delete(b, req, v->settled);
	else if (req->op == STORE_MPU_COMPLETE)
		add_complete(b, req);
	else if (req->op == STORE_CREATE_BUCKET)
		add_location(b, req);
}
