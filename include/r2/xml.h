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

struct xml_result { /* of a write */
	char etag[STORE_PART_ETAG_MAX]; /* "" if the document has none */
	char *upload_id; /* to be freed, NULL if none */
	unsigned failed; /* DeleteResult: keys with an <Error> */
	char failure[256]; /* "KEY: CODE MESSAGE" of the first */
};

/* InitiateMultipartUploadResult, CopyObjectResult, CopyPartResult,
 * CompleteMultipartUploadResult, DeleteResult. -EBADMSG. */
MUST_CHECK int xml_parse_result(const void *body, size_t n,
				struct xml_result *ret);

/* "2026-01-02T03:04:05.678Z" -> ns since 1970; -EINVAL. */
MUST_CHECK int xml_parse_time(const char *s, int64_t *ret_ns);

#endif
