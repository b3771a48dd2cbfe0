/*
 * The XML that R2 answers, parsed with bounds: depth, names and texts have
 * ceilings, entities and DTDs are refused. Pure.
 */
#ifndef R2_XML_H
#define R2_XML_H

#include "store/store.h"

struct xml_error { /* an <Error> document */
	char code[64];
	char message[160];
};

/* An error body of any kind: XML, HTML, plain text, nothing. Returns whether
 * it was an <Error> document; ret is empty otherwise. */
bool xml_parse_error(const void *body, size_t n, struct xml_error *ret);

/*
 * A ListObjectsV2 result. Names are percent-decoded when EncodingType is url;
 * those that do not decode or hold a NUL are counted in skipped. -EBADMSG:
 * not a complete, well-formed list within the bounds, or truncated without a
 * token. Release ret in every case.
 */
MUST_CHECK int xml_parse_list(const void *body, size_t n,
			      struct store_list *ret);

/* ListMultipartUploads; next_token is the marker of the upload id and
 * next_key that of the key. As above. */
MUST_CHECK int xml_parse_uploads(const void *body, size_t n,
				 struct store_list *ret);

/* ListBuckets: names and times of creation. */
MUST_CHECK int xml_parse_buckets(const void *body, size_t n,
				 struct store_list *ret);

struct xml_parts {
	struct store_part *v; /* to be freed, also after an error */
	unsigned n;
	bool truncated;
	unsigned next; /* marker of the next page, 0 none */
};

/* ListParts. -EBADMSG. */
MUST_CHECK int xml_parse_parts(const void *body, size_t n,
			       struct xml_parts *ret);

struct xml_failure {
	char *key;
	char code[64];
};

struct xml_result { /* of a write; xml_result_release */
	char etag[STORE_PART_ETAG_MAX]; /* "" if the document has none */
	char *upload_id; /* NULL if none */
	struct xml_failure *failures; /* DeleteResult: keys with an <Error> */
	unsigned nfailures;
};

void xml_result_release(struct xml_result *r);

/* InitiateMultipartUploadResult, CopyObjectResult, CopyPartResult,
 * CompleteMultipartUploadResult, DeleteResult. -EBADMSG. */
MUST_CHECK int xml_parse_result(const void *body, size_t n,
				struct xml_result *ret);

/* "2026-01-02T03:04:05.678Z" -> ns since 1970; -EINVAL. */
MUST_CHECK int xml_parse_time(const char *s, int64_t *ret_ns);

#endif
