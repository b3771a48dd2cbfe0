/* What each operation sends, what its answer means, and what follows when
 * there is none: the client on a scripted transport. */
#include <fcntl.h>

#include "base/log.h"
#include "base/rand.h"
#include "fake_http.h"
#include "r2/creds.h"
#include "r2/r2.h"
#include "r2/request.h"

#define ETAG	  "5d41402abc4b2a76b9719d911017c592" /* of "hello" */
#define OTHER	  "00000000000000000000000000000000"
#define EMPTY_MD5 "d41d8cd98f00b204e9800998ecf8427e"
#define ERROR_XML(code) \
	"<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m" \
	"</Message></Error>"

static struct creds *creds;
static struct fake_http *fake;
static struct store *store;

static void begin(const struct fake_answer *script)
{
	struct r2_config config = { .endpoint = "https://r2.example/pre",
				    .bucket = "bkt" };

	fake = fake_http_create(script);
	if (r2_create(&config, fake_http_http(fake), creds, &store))
		BUG("r2_create");
}

static void end(void)
{
	store_destroy(store);
	fake_http_destroy(fake);
}

static struct store_req put_request(const char *key, const char *body)
{
	struct store_req req;

	store_req_init(&req, STORE_PUT);
	req.key = key;
	req.body.data = body;
	req.body.len = strlen(body);
	CHECK_INT(store_body_sum(store, &req.body), 0);
	return req;
}

/* One request with its script, in a store of its own. */
static int play(struct store_req *req, const struct fake_answer *script)
{
	int err;

	begin(script);
	if (req->body.len || req->op == STORE_PUT)
		CHECK_INT(store_body_sum(store, &req->body), 0);
	err = fake_http_call(fake, store, req);
	end();
	return err;
}

#define SCRIPT(...) ((const struct fake_answer[]){ __VA_ARGS__, { 0 } })

/* ---- what is sent ---- */

static struct store_meta_pair pairs[] = {
	{ (char *)"mtime", (char *)"1.5" },
	{ (char *)STORE_CONTENT_TYPE, (char *)"text/plain" },
	{ (char *)"empty", (char *)"" },
};
static const struct store_meta meta = { pairs, 3 };
static const struct store_part parts[] = {
	{ 1, "bce6bf66aeb76c7040fdd5f4eccb78e6", 0 },
	{ 2, "8165449fc15bbf43d3b674595cbcc406", 0 },
};
#define MPU_ETAG "f77dc0eecdebcd774a2a22cb393ad2ff-2" /* Cloudflare's docs */
static const char *const keys[] = { "a<b&c", "d\te", "f" };

static const struct {
	const char *title;
	struct store_req req;
	struct fake_answer answer;
	const char *headers; /* "name: value\n...", all must be there */
	const char *absent; /* "name\n...", none may be there */
	const char *url; /* all of it */
	const char *body;
} sent[] = {
	{ "sends PUT",
	  { .op = STORE_PUT,
	    .key = "a b/ü",
	    .if_absent = true,
	    .put_meta = &meta,
	    .body = { .fd = -1, .data = "hello", .len = 5 } },
	  { .method = "PUT", .status = 200, .headers = "ETag: \"" ETAG "\"" },
	  "content-md5: XUFAKrxLKna5cZ2REBfFkg==\ncontent-type: text/plain\n"
	  "cache-control: no-transform\nif-none-match: *\n"
	  "x-amz-meta-mtime: 1.5\nx-amz-meta-empty: \n"
	  "x-amz-content-sha256: UNSIGNED-PAYLOAD",
	  "if-match\nexpect\nrange\nx-amz-copy-source\nx-amz-meta-:content-type",
	  "https://r2.example/pre/bkt/a%20b/%C3%BC",
	  "hello" },
	{ "sends PUT over a version",
	  { .op = STORE_PUT,
	    .key = "k",
	    .if_match = OTHER,
	    .body = { .fd = -1, .data = "", .len = 0 } },
	  { .method = "PUT",
	    .status = 200,
	    .headers = "ETag: \"" EMPTY_MD5 "\"" },
	  "if-match: \"" OTHER "\"\ncontent-type: application/octet-stream\n"
	  "content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==",
	  "if-none-match",
	  "https://r2.example/pre/bkt/k",
	  "" },
	{ "sends DELETE",
	  { .op = STORE_DELETE, .key = "k" },
	  { .method = "DELETE", .status = 204 },
	  NULL,
	  "content-type\ncontent-md5\ncache-control",
	  "https://r2.example/pre/bkt/k",
	  "" },
	{ "sends DELETE_MANY",
	  { .op = STORE_DELETE_MANY, .keys = keys, .nkeys = 3 },
	  { .method = "POST",
	    .status = 200,
	    .body = "<DeleteResult></DeleteResult>" },
	  NULL,
	  NULL,
	  "https://r2.example/pre/bkt?delete=",
	  "<Delete><Object><Key>a&lt;b&amp;c</Key></Object><Object><Key>d\te"
	  "</Key></Object><Object><Key>f</Key></Object><Quiet>true</Quiet>"
	  "</Delete>" },
	{ "sends COPY",
	  { .op = STORE_COPY,
	    .key = "to",
	    .source_key = "from ?",
	    .source_if_match = ETAG,
	    .if_absent = true },
	  { .method = "PUT",
	    .status = 200,
	    .body = "<CopyObjectResult><ETag>\"" ETAG
		    "\"</ETag></CopyObjectResult>" },
	  "x-amz-copy-source: /bkt/from%20%3F\nx-amz-metadata-directive: COPY\n"
	  "x-amz-copy-source-if-match: \"" ETAG "\"\n"
	  "cf-copy-destination-if-none-match: *",
	  "if-none-match\nif-match\ncontent-type\ncache-control",
	  "https://r2.example/pre/bkt/to",
	  "" },
	{ "sends COPY with metadata",
	  { .op = STORE_COPY,
	    .key = "k",
	    .source_key = "k",
	    .if_match = ETAG,
	    .put_meta = &meta },
	  { .method = "PUT",
	    .status = 200,
	    .body = "<CopyObjectResult><ETag>\"" ETAG
		    "\"</ETag></CopyObjectResult>" },
	  "x-amz-metadata-directive: REPLACE\nx-amz-meta-mtime: 1.5\n"
	  "content-type: text/plain\ncache-control: no-transform\n"
	  "cf-copy-destination-if-match: \"" ETAG "\"",
	  "if-match",
	  "https://r2.example/pre/bkt/k",
	  "" },
	{ "sends MPU_CREATE",
	  { .op = STORE_MPU_CREATE, .key = "k", .put_meta = &meta },
	  { .method = "POST",
	    .status = 200,
	    .body = "<InitiateMultipartUploadResult><UploadId>i+/=</UploadId>"
		    "</InitiateMultipartUploadResult>" },
	  "x-amz-meta-mtime: 1.5\ncontent-type: text/plain",
	  "content-md5",
	  "https://r2.example/pre/bkt/k?uploads=",
	  "" },
	{ "sends MPU_PART",
	  { .op = STORE_MPU_PART,
	    .key = "k",
	    .upload_id = "i+/=",
	    .part_number = 7,
	    .body = { .fd = -1, .data = "hello", .len = 5 } },
	  { .method = "PUT", .status = 200, .headers = "ETag: \"" ETAG "\"" },
	  "content-md5: XUFAKrxLKna5cZ2REBfFkg==",
	  "content-type",
	  "https://r2.example/pre/bkt/k?partNumber=7&uploadId=i%2B%2F%3D",
	  "hello" },
	{ "sends MPU_COPY",
	  { .op = STORE_MPU_COPY,
	    .key = "k",
	    .upload_id = "u",
	    .part_number = 1,
	    .source_key = "s",
	    .ranged = true,
	    .range_off = 5,
	    .range_len = 10 },
	  { .method = "PUT",
	    .status = 200,
	    .body = "<CopyPartResult><ETag>&quot;" ETAG
		    "&quot;</ETag></CopyPartResult>" },
	  "x-amz-copy-source: /bkt/s\nx-amz-copy-source-range: bytes=5-14",
	  "range\ncontent-md5\nx-amz-metadata-directive",
	  "https://r2.example/pre/bkt/k?partNumber=1&uploadId=u",
	  "" },
	{ "sends MPU_COMPLETE",
	  { .op = STORE_MPU_COMPLETE,
	    .key = "k",
	    .upload_id = "u",
	    .parts = parts,
	    .nparts = 2,
	    .if_absent = true },
	  { .method = "POST",
	    .status = 200,
	    .body = " \n<CompleteMultipartUploadResult><ETag>\"" MPU_ETAG
		    "\"</ETag></CompleteMultipartUploadResult>" },
	  "if-none-match: *",
	  "content-type",
	  "https://r2.example/pre/bkt/k?uploadId=u",
	  "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"
	  "&quot;bce6bf66aeb76c7040fdd5f4eccb78e6&quot;</ETag></Part><Part>"
	  "<PartNumber>2</PartNumber><ETag>&quot;"
	  "8165449fc15bbf43d3b674595cbcc406&quot;</ETag></Part>"
	  "</CompleteMultipartUpload>" },
	{ "sends MPU_ABORT",
	  { .op = STORE_MPU_ABORT, .key = "k", .upload_id = "u" },
	  { .method = "DELETE", .status = 204 },
	  NULL,
	  NULL,
	  "https://r2.example/pre/bkt/k?uploadId=u",
	  "" },
	{ "sends MPU_LIST_PARTS",
	  { .op = STORE_MPU_LIST_PARTS,
	    .key = "k",
	    .upload_id = "u",
	    .part_number = 3,
	    .max_keys = 2 },
	  { .method = "GET",
	    .status = 200,
	    .body = "<ListPartsResult></ListPartsResult>" },
	  NULL,
	  NULL,
	  "https://r2.example/pre/bkt/k?max-parts=2&part-number-marker=3&"
	  "uploadId=u",
	  "" },
	{ "sends MPU_LIST",
	  { .op = STORE_MPU_LIST,
	    .prefix = "p/",
	    .start_after = "p/k",
	    .token = "u",
	    .max_keys = 2 },
	  { .method = "GET",
	    .status = 200,
	    .body = "<ListMultipartUploadsResult></ListMultipartUploadsResult>" },
	  NULL,
	  NULL,
	  "https://r2.example/pre/bkt?encoding-type=url&key-marker=p%2Fk&"
	  "max-uploads=2&prefix=p%2F&upload-id-marker=u&uploads=",
	  "" },
	{ "sends LIST_BUCKETS",
	  { .op = STORE_LIST_BUCKETS },
	  { .method = "GET",
	    .status = 200,
	    .body = "<ListAllMyBucketsResult><Buckets></Buckets>"
		    "</ListAllMyBucketsResult>" },
	  NULL,
	  NULL,
	  "https://r2.example/pre/",
	  "" },
	{ "sends HEAD_BUCKET",
	  { .op = STORE_HEAD_BUCKET, .bucket = "other" },
	  { .method = "HEAD", .status = 200 },
	  NULL,
	  NULL,
	  "https://r2.example/pre/other",
	  "" },
	{ "sends CREATE_BUCKET",
	  { .op = STORE_CREATE_BUCKET, .bucket = "new", .location = "weur" },
	  { .method = "PUT", .status = 200 },
	  NULL,
	  NULL,
	  "https://r2.example/pre/new",
	  "<CreateBucketConfiguration><LocationConstraint>weur"
	  "</LocationConstraint></CreateBucketConfiguration>" },
	{ "sends CREATE_BUCKET anywhere",
	  { .op = STORE_CREATE_BUCKET, .bucket = "new" },
	  { .method = "PUT", .status = 200 },
	  NULL,
	  "content-md5",
	  "https://r2.example/pre/new",
	  "" },
	{ "sends DELETE_BUCKET",
	  { .op = STORE_DELETE_BUCKET, .bucket = "old" },
	  { .method = "DELETE", .status = 204 },
	  NULL,
	  NULL,
	  "https://r2.example/pre/old",
	  "" },
};

static void check_headers(const char *list, bool there)
{
	const char *p = list;

	while (p && *p) {
		char line[256], *colon;
		size_t n = strcspn(p, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)n, p);
		colon = strstr(line, ": ");
		if (there && colon) {
			*colon = 0;
			CHECK_STR(fake_http_asked(fake, line), colon + 2);
		} else {
			CHECK(fake_http_asked(fake, line) == NULL);
		}
		p += n + (p[n] == '\n');
	}
}

/* The order in which SigV4 signs: names ascending in a list like "b=1&c=2". */
static void check_ascending(const char *list, char end, const char *stops)
{
	char last[256] = "", name[256];

	while (*list && *list != end) {
		size_t n = strcspn(list, stops);

		snprintf(name, sizeof(name), "%.*s", (int)n, list);
		CHECK(strcmp(last, name) < 0);
		strcpy(last, name);
		list += strcspn(list, (char[]){ stops[0], end, 0 });
		list += *list == stops[0];
	}
}

static void check_order(void)
{
	const char *query = strchr(fake_http_url(fake), '?');
	const char *names = strstr(fake_http_asked(fake, "authorization"),
				   "SignedHeaders=");

	if (query)
		check_ascending(query + 1, 0, "&=");
	check_ascending(names + 14, ',', ";,");
}

static void test_sent(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(sent); i++) {
		struct store_req req = sent[i].req;
		struct fake_answer script[2] = { sent[i].answer };

		CASE(sent[i].title);
		begin(script);
		if (req.op == STORE_PUT || req.op == STORE_MPU_PART)
			CHECK_INT(store_body_sum(store, &req.body), 0);
		CHECK_INT(fake_http_call(fake, store, &req), 0);
		CHECK_STR(fake_http_url(fake), sent[i].url);
		check_order();
		CHECK_STR(fake_http_sent(fake), sent[i].body);
		check_headers(sent[i].headers, true);
		check_headers(sent[i].absent, false);
		end();
		store_req_release(&req);
	}
}

static void test_file_body(void)
{
	char path[] = "/tmp/r2fs-ops-XXXXXX";
	int fd = mkstemp(path);
	struct store_req req;

	CASE("sends a range of a file, twice if need be");
	CHECK_INT(pwrite(fd, "xxhelloyy", 9, 0), 9);
	store_req_init(&req, STORE_MPU_PART);
	req.key = "k";
	req.upload_id = "u";
	req.part_number = 1;
	req.body.fd = fd;
	req.body.off = 2;
	req.body.len = 5;
	begin(SCRIPT({ .status = 500 },
		     { .header = "content-md5: XUFAKrxLKna5cZ2REBfFkg==",
		       .status = 200,
		       .headers = "ETag: \"" ETAG "\"" }));
	CHECK_INT(store_body_sum(store, &req.body), 0);
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	CHECK_STR(fake_http_sent(fake), "hello");
	CHECK_STR(req.ret_part_etag, ETAG);
	end();
	close(fd);
	unlink(path);
}

/* ---- what is refused before it is sent ---- */

static void expect_refused(struct store_req req, int error)
{
	begin(SCRIPT({ 0 }));
	CHECK_INT(fake_http_call(fake, store, &req), error);
	CHECK(req.why[0] != 0);
	CHECK_INT(fake_http_count(fake), 0);
	end();
}

static void test_refused(void)
{
	static struct store_meta_pair bad_value[] = { { (char *)"a",
							(char *)"x\r\ny: z" } };
	static struct store_meta_pair bad_name[] = { { (char *)"a b",
						       (char *)"x" } };
	static const struct store_meta inject = { bad_value, 1 },
				       name = { bad_name, 1 };
	struct store_req p = { .op = STORE_PUT, .key = "k", .body.fd = -1 };

	CASE("what would reach something else is never sent");
	p.put_meta = &inject;
	expect_refused(p, -EINVAL);
	p.put_meta = &name;
	expect_refused(p, -EINVAL);
	p.put_meta = NULL;
	p.key = "";
	expect_refused(p, -EINVAL);
	p.key = NULL;
	expect_refused(p, -EINVAL);
	expect_refused((struct store_req){ .op = STORE_DELETE, .key = "" },
		       -EINVAL);
	expect_refused((struct store_req){ .op = STORE_MPU_PART,
					   .key = "k",
					   .upload_id = "u",
					   .body.fd = -1 },
		       -EINVAL);
	expect_refused((struct store_req){ .op = STORE_MPU_PART,
					   .key = "k",
					   .part_number = 1,
					   .body.fd = -1 },
		       -EINVAL);
	expect_refused((struct store_req){ .op = STORE_MPU_COMPLETE,
					   .key = "k",
					   .upload_id = "u" },
		       -EINVAL);
	expect_refused((struct store_req){ .op = STORE_DELETE_MANY }, -EINVAL);
	expect_refused((struct store_req){ .op = STORE_COPY, .key = "k" },
		       -EINVAL);
}

static void test_fits_xml(void)
{
	static const char *const no[] = { " a",
					  "a ",
					  "a\t",
					  "\na",
					  "a\x01"
					  "b",
					  "a\rb",
					  "a\xc2\xa0",
					  "\xe3\x80\x80"
					  "a",
					  "a\xef\xbf\xbf"
					  "b",
					  " " };
	static const char *const yes[] = { "a b",      "a\tb",	"a<b",
					   "\xc3\xa9", "a\x7f", "/",
					   "a\u00a0b" };

	CASE("which keys can be named in a list");
	for (unsigned i = 0; i < ARRAY_SIZE(no); i++)
		CHECK(!request_fits_xml(no[i]));
	for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
		CHECK(request_fits_xml(yes[i]));
}

static void test_limits(void)
{
	struct store_req p = { .op = STORE_PUT, .body.fd = -1 };
	char key[1026], value[8200];
	struct store_meta_pair pair = { (char *)"v", value };
	struct store_meta m = { &pair, 1 };

	CASE("R2's limits are known");
	memset(key, 'k', sizeof(key));
	key[1025] = 0;
	p.key = key;
	expect_refused(p, -ENAMETOOLONG);
	memset(value, 'v', sizeof(value));
	value[8192] = 0;
	p.key = "k";
	p.put_meta = &m;
	expect_refused(p, -E2BIG);
}

static void test_much_metadata(void)
{
	struct store_meta_pair many[200];
	struct store_meta m = { many, 200 };
	struct store_req req = {
		.op = STORE_PUT,
		.key = "k",
		.put_meta = &m,
		.body = { .fd = -1, .data = "hello", .len = 5 }
	};
	char name[16];

	CASE("no metadata pair is dropped or cut");
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "n%d", 199 - i);
		many[i].name = xstrdup(name);
		many[i].value = (char *)"v";
	}
	begin(SCRIPT({ .header = "x-amz-meta-n0: v",
		       .status = 200,
		       .headers = "ETag: \"" ETAG "\"" }));
	CHECK_INT(store_body_sum(store, &req.body), 0);
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();
	for (int i = 0; i < 200; i++)
		free(many[i].name);
}

/* ---- what an answer means ---- */

static void test_results(void)
{
	struct store_req req = { .op = STORE_MPU_CREATE, .key = "k" };
	int errors[3] = { 9, 9, 9 };

	CASE("an upload's id");
	CHECK_INT(play(&req, SCRIPT({ .status = 200,
				      .body = "<InitiateMultipartUploadResult>"
					      "<UploadId>i+/=</UploadId></Init"
					      "iateMultipartUploadResult>" })),
		  0);
	CHECK_STR(req.ret_upload_id, "i+/=");
	store_req_release(&req);

	CASE("DELETE_MANY tells which keys failed");
	req = (struct store_req){ .op = STORE_DELETE_MANY,
				  .keys = keys,
				  .nkeys = 3,
				  .key_errors = errors };
	CHECK_INT(
		play(&req,
		     SCRIPT({ .status = 200,
			      .body = "<DeleteResult><Error><Key>f</Key><Code>"
				      "AccessDenied</Code></Error><Error><Key>"
				      "a&lt;b&amp;c</Key><Code>NoSuchKey"
				      "</Code></Error><Deleted><Key>d</Key>"
				      "</Deleted></DeleteResult>" })),
		0);
	CHECK_INT(req.nfailed, 1);
	CHECK_INT(errors[0], 0);
	CHECK_INT(errors[1], 0);
	CHECK_INT(errors[2], -EACCES);
	CHECK_STR(req.why, "f: AccessDenied");

	CASE("keys that failed for now are asked for again, alone");
	req = (struct store_req){ .op = STORE_DELETE_MANY,
				  .keys = keys,
				  .nkeys = 3,
				  .key_errors = errors };
	begin(SCRIPT({ .status = 200,
		       .body = "<DeleteResult><Error><Key>f</Key><Code>"
			       "AccessDenied</Code></Error><Error><Key>"
			       "a&lt;b&amp;c</Key><Code>InternalError"
			       "</Code></Error></DeleteResult>" },
		     { .status = 500 },
		     { .status = 200,
		       .body = "<DeleteResult></DeleteResult>" }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	CHECK_STR(fake_http_sent(fake),
		  "<Delete><Object><Key>a&lt;b&amp;c</Key></Object>"
		  "<Quiet>true</Quiet></Delete>");
	end();
	CHECK_INT(req.nfailed, 1);
	CHECK_INT(errors[0], 0);
	CHECK_INT(errors[2], -EACCES);
	CHECK_STR(req.why, "f: AccessDenied");

	CASE("and no longer than the request may take");
	begin(SCRIPT({ .status = 200,
		       .body = "<DeleteResult><Error><Key>f</Key><Code>"
			       "SlowDown</Code></Error></DeleteResult>" }));
	req.deadline_ns = clock_mono_ns() + 900 * 1000000ull;
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();
	CHECK_INT(req.nfailed, 1);
	CHECK_INT(errors[2], -ETIMEDOUT);

	CASE("keys that XML cannot carry are deleted one by one");
	static const char *const odd[] = { "a", "x\x01", "b\r",
					   "\xef\xbf\xbe" };

	req = (struct store_req){ .op = STORE_DELETE_MANY,
				  .keys = odd,
				  .nkeys = 4,
				  .key_errors = (int[4]){ 9 } };
	CHECK_INT(play(&req, SCRIPT({ .method = "POST",
				      .status = 200,
				      .body = "<DeleteResult></DeleteResult>" },
				    { .method = "DELETE",
				      .url = "/bkt/x%01",
				      .status = 204 },
				    { .method = "DELETE",
				      .url = "/bkt/b%0D",
				      .status = 403 },
				    { .method = "DELETE",
				      .url = "/bkt/%EF%BF%BE",
				      .status = 500 },
				    { .method = "DELETE",
				      .url = "/bkt/%EF%BF%BE",
				      .status = 404 })),
		  0);
	CHECK_INT(req.nfailed, 1);
	CHECK_INT(req.key_errors[0], 0);
	CHECK_INT(req.key_errors[1], 0);
	CHECK_INT(req.key_errors[2], -EACCES);
	CHECK_INT(req.key_errors[3], 0);
	CHECK(strstr(req.why, "Permission denied") != NULL);
	req = (struct store_req){ .op = STORE_DELETE_MANY,
				  .keys = odd + 1,
				  .nkeys = 1 };
	CHECK_INT(play(&req, SCRIPT({ .method = "DELETE",
				      .url = "/bkt/x%01",
				      .status = 204 })),
		  0);
	CHECK_INT(req.nfailed, 0);

	CASE("lists of uploads, parts and buckets");
	req = (struct store_req){ .op = STORE_MPU_LIST };
	CHECK_INT(
		play(&req,
		     SCRIPT({ .status = 200,
			      .body = "<ListMultipartUploadsResult><EncodingType>"
				      "url</EncodingType><NextKeyMarker>a%2Fb"
				      "</NextKeyMarker><NextUploadIdMarker>u2"
				      "</NextUploadIdMarker><IsTruncated>true"
				      "</IsTruncated><Upload><Key>a%2Fb</Key>"
				      "<UploadId>u2</UploadId><Initiator><ID>x"
				      "</ID></Initiator><Initiated>2026-01-02T0"
				      "3:04:05.678Z</Initiated></Upload></List"
				      "MultipartUploadsResult>" })),
		0);
	CHECK_INT(req.list.n, 1);
	CHECK_STR(req.list.entries[0].name, "a/b");
	CHECK_STR(req.list.entries[0].upload_id, "u2");
	CHECK_STR(req.list.next_key, "a/b");
	CHECK_STR(req.list.next_token, "u2");
	store_req_release(&req);
	req = (struct store_req){ .op = STORE_MPU_LIST_PARTS,
				  .key = "k",
				  .upload_id = "u" };
	CHECK_INT(
		play(&req,
		     SCRIPT({ .status = 200,
			      .body = "<ListPartsResult><IsTruncated>true"
				      "</IsTruncated><NextPartNumberMarker>2"
				      "</NextPartNumberMarker><Part>"
				      "<PartNumber>2</PartNumber><ETag>\"" ETAG
				      "\"</ETag><Size>7</Size></Part>"
				      "</ListPartsResult>" })),
		0);
	CHECK_INT(req.ret_nparts, 1);
	CHECK_INT(req.ret_parts[0].number, 2);
	CHECK_INT(req.ret_parts[0].size, 7);
	CHECK_STR(req.ret_parts[0].etag, ETAG);
	CHECK_INT(req.next_part, 2);
	store_req_release(&req);
	req = (struct store_req){ .op = STORE_LIST_BUCKETS };
	CHECK_INT(play(&req,
		       SCRIPT({ .status = 200,
				.body = "<ListAllMyBucketsResult><Owner><ID>o"
					"</ID></Owner><Buckets><Bucket><Name>b1"
					"</Name><CreationDate>2026-01-02T03:04:"
					"05.678Z</CreationDate></Bucket></Bucke"
					"ts></ListAllMyBucketsResult>" })),
		  0);
	CHECK_INT(req.list.n, 1);
	CHECK_STR(req.list.entries[0].name, "b1");
	store_req_release(&req);
}

/* ---- what follows a lost answer ---- */

enum kind {
	PUT_NEW,
	PUT_OVER,
	PUT_ANY,
	PUT_RESUMED,
	COPY_NEW,
	PART_COPY,
	COPY_PARTS,
	COMPLETE,
	COMPLETE_RESUMED,
	ABORT,
	DELETE,
	MAKE_BUCKET,
	DROP_BUCKET
};

static struct store_req request(enum kind kind)
{
	static const struct store_req reqs[] = {
		[PUT_NEW] = { .op = STORE_PUT,
			      .key = "k",
			      .if_absent = true,
			      .put_meta = &meta },
		[PUT_OVER] = { .op = STORE_PUT, .key = "k", .if_match = OTHER },
		[PUT_ANY] = { .op = STORE_PUT, .key = "k" },
		[PUT_RESUMED] = { .op = STORE_PUT,
				  .key = "k",
				  .if_absent = true,
				  .maybe_done = true,
				  .put_meta = &meta },
		[COPY_NEW] = { .op = STORE_COPY,
			       .key = "k",
			       .source_key = "s",
			       .source_if_match = ETAG,
			       .if_absent = true },
		[PART_COPY] = { .op = STORE_MPU_COPY,
				.key = "k",
				.upload_id = "u",
				.part_number = 1,
				.source_key = "s",
				.ranged = true,
				.range_len = 10 },
		[COPY_PARTS] = { .op = STORE_COPY,
				 .key = "k",
				 .source_key = "k",
				 .source_if_match = MPU_ETAG,
				 .if_match = MPU_ETAG,
				 .put_meta = &meta },
		[COMPLETE] = { .op = STORE_MPU_COMPLETE,
			       .key = "k",
			       .upload_id = "u",
			       .parts = parts,
			       .nparts = 2 },
		[COMPLETE_RESUMED] = { .op = STORE_MPU_COMPLETE,
				       .key = "k",
				       .upload_id = "u",
				       .maybe_done = true,
				       .parts = parts,
				       .nparts = 2 },
		[ABORT] = { .op = STORE_MPU_ABORT,
			    .key = "k",
			    .upload_id = "u" },
		[DELETE] = { .op = STORE_DELETE, .key = "k" },
		[MAKE_BUCKET] = { .op = STORE_CREATE_BUCKET, .bucket = "bkt" },
		[DROP_BUCKET] = { .op = STORE_DELETE_BUCKET, .bucket = "bkt" },
	};
	struct store_req req = reqs[kind];

	req.body.fd = -1;
	if (req.op == STORE_PUT) {
		req.body.data = "hello";
		req.body.len = 5;
	}
	return req;
}

#define LOST \
	{ \
		.error = -ECONNRESET \
	}
#define UNSENT \
	{ \
		.error = -ECONNREFUSED, .unsent = true \
	}
#define DONE \
	{ \
		.status = 200, .headers = "ETag: \"" ETAG "\"" \
	}
#define BUSY \
	{ \
		.status = 429, .body = ERROR_XML("ServiceUnavailable") \
	}
#define REFUSED \
	{ \
		.status = 412, .body = ERROR_XML("PreconditionFailed") \
	}
#define GONE \
	{ \
		.status = 404, .body = ERROR_XML("NoSuchUpload") \
	}
#define THERE(etag, more) \
	{ \
		.method = "HEAD", .absent = "if-none-match", .status = 200, \
		.headers = "ETag: \"" etag "\"\n" more \
	}
#define OURS THERE(ETAG, "x-amz-meta-mtime: 1.5\nx-amz-meta-empty:")
#define NOT_THERE \
	{ \
		.method = "HEAD", .status = 404 \
	}
#define UNKNOWN \
	{ \
		.status = 501, .body = ERROR_XML("NotImplemented") \
	}
#define COPIED \
	{ \
		.status = 200, .body = "<CopyObjectResult><ETag>" ETAG \
				       "</ETag></CopyObjectResult>" \
	}

static const struct {
	const char *title;
	enum kind kind;
	struct fake_answer script[6];
	int error;
	const char *etag;
} fates[] = {
	{ "PUT: lost, done again", PUT_ANY, { LOST, DONE }, 0, ETAG },
	{ "PUT: 500, done again",
	  PUT_ANY,
	  { { .status = 500 }, DONE },
	  0,
	  ETAG },
	{ "PUT: 520 with HTML, done again",
	  PUT_ANY,
	  { { .status = 520, .body = "<html>error code: 520</html>" }, DONE },
	  0,
	  ETAG },
	{ "PUT new: refused at once", PUT_NEW, { REFUSED }, -EEXIST, NULL },
	{ "PUT over: refused at once", PUT_OVER, { REFUSED }, -ESTALE, NULL },
	{ "PUT new: lost, refused, it is ours",
	  PUT_NEW,
	  { LOST, REFUSED, OURS },
	  0,
	  ETAG },
	{ "PUT new: 500, refused, it is ours",
	  PUT_NEW,
	  { { .status = 500 }, REFUSED, OURS },
	  0,
	  ETAG },
	{ "PUT new: lost, refused, other bytes",
	  PUT_NEW,
	  { LOST, REFUSED, THERE(OTHER, "x-amz-meta-mtime: 1.5") },
	  -EEXIST,
	  NULL },
	{ "PUT new: lost, refused, the same bytes of somebody else",
	  PUT_NEW,
	  { LOST, REFUSED,
	    THERE(ETAG, "x-amz-meta-mtime: 2.5\nx-amz-meta-empty:") },
	  -EEXIST,
	  NULL },
	{ "PUT new: lost, refused, the same bytes without metadata",
	  PUT_NEW,
	  { LOST, REFUSED, THERE(ETAG, "") },
	  -EEXIST,
	  NULL },
	{ "PUT new: lost, refused, gone meanwhile",
	  PUT_NEW,
	  { LOST, REFUSED, NOT_THERE },
	  -EEXIST,
	  NULL },
	{ "PUT new: lost, refused, asked twice, ours",
	  PUT_NEW,
	  { LOST, REFUSED, { .method = "HEAD", .status = 503 }, OURS },
	  0,
	  ETAG },
	{ "PUT new: the server was busy, refused: not ours",
	  PUT_NEW,
	  { BUSY, REFUSED },
	  -EEXIST,
	  NULL },
	{ "PUT new: never sent, refused: not ours",
	  PUT_NEW,
	  { UNSENT, REFUSED },
	  -EEXIST,
	  NULL },
	{ "PUT over: lost, refused, ours",
	  PUT_OVER,
	  { LOST, REFUSED, THERE(ETAG, "") },
	  0,
	  ETAG },
	{ "PUT over: lost, refused, not ours",
	  PUT_OVER,
	  { LOST, REFUSED, THERE(OTHER, "") },
	  -ESTALE,
	  NULL },
	{ "PUT new: refused, an earlier run had stored it",
	  PUT_RESUMED,
	  { REFUSED, OURS },
	  0,
	  ETAG },
	{ "PUT new: refused, somebody else had stored it",
	  PUT_RESUMED,
	  { REFUSED, THERE(OTHER, "x-amz-meta-mtime: 1.5") },
	  -EEXIST,
	  NULL },
	{ "COPY new: refused for the destination",
	  COPY_NEW,
	  { REFUSED, THERE(OTHER, "") },
	  -EEXIST,
	  NULL },
	{ "COPY new: refused for the source",
	  COPY_NEW,
	  { REFUSED, NOT_THERE },
	  -ESTALE,
	  NULL },
	{ "COPY new: the same content was there",
	  COPY_NEW,
	  { REFUSED, THERE(ETAG, "") },
	  -EEXIST,
	  NULL },
	{ "COPY new: lost, refused, ours",
	  COPY_NEW,
	  { LOST, REFUSED, THERE(ETAG, "") },
	  0,
	  ETAG },
	{ "COPY of parts: lost, refused, ours",
	  COPY_PARTS,
	  { LOST, REFUSED, OURS },
	  0,
	  ETAG },
	{ "COPY of parts: lost, refused, other metadata",
	  COPY_PARTS,
	  { LOST, REFUSED, THERE(ETAG, "x-amz-meta-mtime: 1.6") },
	  -ESTALE,
	  NULL },
	{ "COPY of parts: lost, refused, other parts",
	  COPY_PARTS,
	  { LOST, REFUSED,
	    THERE(OTHER "-2", "x-amz-meta-mtime: 1.5\nx-amz-meta-empty:") },
	  -ESTALE,
	  NULL },
	{ "COPY: an error in a 200, done again",
	  COPY_NEW,
	  { { .status = 200, .body = ERROR_XML("InternalError") }, COPIED },
	  0,
	  ETAG },
	{ "COPY: a final error in a 200",
	  COPY_NEW,
	  { { .status = 200, .body = ERROR_XML("AccessDenied") } },
	  -EACCES,
	  NULL },
	{ "COMPLETE: lost, gone, ours",
	  COMPLETE,
	  { LOST, GONE, THERE(MPU_ETAG, "") },
	  0,
	  MPU_ETAG },
	{ "COMPLETE: lost, gone, not ours",
	  COMPLETE,
	  { LOST, GONE, THERE(OTHER, "") },
	  -ENOENT,
	  NULL },
	{ "COMPLETE: gone at once", COMPLETE, { GONE }, -ENOENT, NULL },
	{ "COMPLETE: gone, an earlier run had completed it",
	  COMPLETE_RESUMED,
	  { GONE, THERE(MPU_ETAG, "") },
	  0,
	  MPU_ETAG },
	{ "COMPLETE: an error in a 200, gone, ours",
	  COMPLETE,
	  { { .status = 200, .body = ERROR_XML("InternalError") },
	    GONE,
	    THERE(MPU_ETAG, "") },
	  0,
	  MPU_ETAG },
	{ "COMPLETE: a cut answer, gone, ours",
	  COMPLETE,
	  { { .status = 200, .body = "<CompleteMultip" },
	    GONE,
	    THERE(MPU_ETAG, "") },
	  0,
	  MPU_ETAG },
	{ "a part's copy: the upload is gone",
	  PART_COPY,
	  { GONE },
	  -ENOENT,
	  NULL },
	{ "a part's copy: the source is gone",
	  PART_COPY,
	  { { .status = 404, .body = ERROR_XML("NoSuchKey") } },
	  -ESTALE,
	  NULL },
	{ "a part's copy: the source is shorter",
	  PART_COPY,
	  { { .status = 416, .body = ERROR_XML("InvalidRange") } },
	  -ESTALE,
	  NULL },
	{ "ABORT: gone is fine", ABORT, { GONE }, 0, NULL },
	{ "DELETE: gone is fine",
	  DELETE,
	  { LOST, { .status = 404, .body = ERROR_XML("NoSuchKey") } },
	  0,
	  NULL },
	{ "bucket: made, lost, there",
	  MAKE_BUCKET,
	  { LOST, { .status = 409, .body = ERROR_XML("BucketConflict") } },
	  0,
	  NULL },
	{ "bucket: there before",
	  MAKE_BUCKET,
	  { { .status = 409, .body = ERROR_XML("BucketConflict") } },
	  -EEXIST,
	  NULL },
	{ "bucket: not empty",
	  DROP_BUCKET,
	  { { .status = 409, .body = ERROR_XML("BucketNotEmpty") } },
	  -ENOTEMPTY,
	  NULL },
	{ "bucket: dropped, lost, gone",
	  DROP_BUCKET,
	  { LOST, { .status = 404, .body = ERROR_XML("NoSuchBucket") } },
	  0,
	  NULL },
	{ "bucket: not there",
	  DROP_BUCKET,
	  { { .status = 404, .body = ERROR_XML("NoSuchBucket") } },
	  -ENOENT,
	  NULL },
	{ "a stale connection is replaced at once",
	  PUT_ANY,
	  { { .error = -ECONNRESET, .stale = true },
	    { .error = -ECONNRESET, .stale = true },
	    DONE },
	  0,
	  ETAG },
	{ "a stale connection may have carried the write",
	  PUT_NEW,
	  { { .error = -ECONNRESET, .stale = true }, REFUSED, OURS },
	  0,
	  ETAG },
	{ "no conditions: absent, so written without",
	  PUT_NEW,
	  { UNKNOWN,
	    NOT_THERE,
	    { .method = "PUT",
	      .absent = "if-none-match",
	      .status = 200,
	      .headers = "ETag: \"" ETAG "\"" } },
	  0,
	  ETAG },
	{ "no conditions: there",
	  PUT_NEW,
	  { UNKNOWN, THERE(OTHER, "") },
	  -EEXIST,
	  NULL },
	{ "no conditions: unchanged, so replaced",
	  PUT_OVER,
	  { UNKNOWN,
	    THERE(OTHER, ""),
	    { .method = "PUT",
	      .absent = "if-match",
	      .status = 200,
	      .headers = "ETag: \"" ETAG "\"" } },
	  0,
	  ETAG },
	{ "no conditions: changed",
	  PUT_OVER,
	  { UNKNOWN, THERE(ETAG, "") },
	  -ESTALE,
	  NULL },
	{ "no conditions: removed",
	  PUT_OVER,
	  { UNKNOWN, NOT_THERE },
	  -ESTALE,
	  NULL },
	{ "501 for another reason",
	  PUT_NEW,
	  { UNKNOWN, NOT_THERE, UNKNOWN },
	  -EOPNOTSUPP,
	  NULL },
	{ "the server stored other bytes",
	  PUT_ANY,
	  { { .status = 200, .headers = "ETag: \"" OTHER "\"" } },
	  -EBADMSG,
	  NULL },
};

static void test_fates(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(fates); i++) {
		struct store_req req = request(fates[i].kind);

		CASE(fates[i].title);
		CHECK_INT(play(&req, fates[i].script), fates[i].error);
		if (fates[i].error)
			CHECK(req.why[0] != 0);
		else if (fates[i].etag)
			CHECK_STR(req.attr.etag.s, fates[i].etag);
		store_req_release(&req);
	}
}

/* ---- what is remembered of a server ---- */

static void test_memory(void)
{
	struct store_req a, b;

	CASE("a server without conditions is asked first from then on");
	begin(SCRIPT(UNKNOWN, NOT_THERE, DONE, NOT_THERE,
		     { .method = "PUT",
		       .absent = "if-none-match",
		       .status = 200,
		       .headers = "ETag: \"" ETAG "\"" }));
	a = put_request("k", "hello");
	a.if_absent = true;
	CHECK_INT(fake_http_call(fake, store, &a), 0);
	CHECK_INT(fake_http_call(fake, store, &a), 0);
	end();

	CASE("501 for another reason is not remembered");
	begin(SCRIPT(UNKNOWN, NOT_THERE, UNKNOWN,
		     { .header = "if-none-match: *",
		       .status = 200,
		       .headers = "ETag: \"" ETAG "\"" }));
	a = put_request("k", "hello");
	a.if_absent = true;
	CHECK_INT(fake_http_call(fake, store, &a), -EOPNOTSUPP);
	CHECK_INT(fake_http_call(fake, store, &a), 0);
	end();

	CASE("metadata is merged, or replaced where that is unknown");
	b = (struct store_req){ .op = STORE_COPY,
				.key = "k",
				.source_key = "k",
				.put_meta = &meta,
				.put_merge = true };
	begin(SCRIPT({ .header = "x-amz-metadata-directive: MERGE",
		       .status = 400,
		       .body = ERROR_XML("InvalidArgument") },
		     { .header = "x-amz-metadata-directive: REPLACE",
		       .status = 200,
		       .body = "<CopyObjectResult><ETag>" ETAG
			       "</ETag></CopyObjectResult>" },
		     { .header = "x-amz-metadata-directive: REPLACE",
		       .status = 200,
		       .body = "<CopyObjectResult><ETag>" ETAG
			       "</ETag></CopyObjectResult>" }));
	CHECK_INT(fake_http_call(fake, store, &b), 0);
	CHECK_INT(fake_http_call(fake, store, &b), 0);
	end();
}

/* ---- time ---- */

#define UNRESOLVED \
	{ \
		.error = -EHOSTUNREACH, .takes_ms = 3000 \
	}
#define HEADS "ETag: \"" ETAG "\"\nContent-Length: 5"

static void test_patience(void)
{
	struct r2_config config = { .endpoint = "https://r2.example",
				    .bucket = "bkt",
				    .patience_ms = 5000 };
	struct store_req req = { .op = STORE_HEAD, .key = "k" };
	uint64_t start;

	CASE("the patience with a server that says nothing");
	fake = fake_http_create(
		SCRIPT({ .status = 200, .takes_ms = 20000, .headers = HEADS }));
	if (r2_create(&config, fake_http_http(fake), creds, &store))
		BUG("r2_create");
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -ETIMEDOUT);
	CHECK_INT(fake_http_now_ms() - start, 5000);
	end();

	CASE("one that says something has the whole deadline");
	fake = fake_http_create(
		SCRIPT({ .status = 500 },
		       { .status = 200, .takes_ms = 20000, .headers = HEADS }));
	if (r2_create(&config, fake_http_http(fake), creds, &store))
		BUG("r2_create");
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();
}

static void test_deadlines(void)
{
	struct store_req req = { .op = STORE_MPU_PART,
				 .key = "k",
				 .upload_id = "u",
				 .part_number = 1,
				 .body = { .fd = open("/dev/zero", O_RDONLY),
					   .len = 5ull << 30 } };
	uint64_t start;

	CASE("a server that takes nothing of 5 GiB does not hold it for hours");
	begin(SCRIPT({ .error = -ETIMEDOUT,
		       .takes_ms = 100000000,
		       .takes_body = 1 << 20 }));
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -ETIMEDOUT);
	CHECK(fake_http_now_ms() - start >= 30000);
	CHECK(fake_http_now_ms() - start < 90000);
	end();

	CASE("one that takes it slowly has its time");
	begin(SCRIPT({ .status = 200,
		       .takes_ms = 3600000,
		       .headers = "ETag: \"" ETAG "\"" }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();

	CASE("a body sent slowly may be sent once more");
	begin(SCRIPT({ .error = -ECONNRESET, .takes_ms = 3600000 },
		     { .status = 200,
		       .takes_ms = 3600000,
		       .headers = "ETag: \"" ETAG "\"" }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();

	CASE("the caller's own deadline stands");
	begin(SCRIPT({ .status = 200,
		       .takes_ms = 3600000,
		       .headers = "ETag: \"" ETAG "\"" }));
	req.deadline_ns = clock_mono_ns() + 5000000000ull;
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -ETIMEDOUT);
	CHECK_INT(fake_http_now_ms() - start, 5000);
	end();
	close(req.body.fd);

	CASE("a name that does not resolve is soon given up");
	req = (struct store_req){ .op = STORE_HEAD, .key = "k" };
	begin(SCRIPT(UNRESOLVED, UNRESOLVED));
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -EHOSTUNREACH);
	CHECK(fake_http_now_ms() - start <= 6500);
	end();

	CASE("unless it resolved before");
	begin(SCRIPT({ .status = 404 }, UNRESOLVED, UNRESOLVED, UNRESOLVED,
		     UNRESOLVED, UNRESOLVED, UNRESOLVED,
		     { .status = 200, .headers = HEADS }));
	CHECK_INT(fake_http_call(fake, store, &req), -ENOENT);
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();

	CASE("waiting between attempts ends at the deadline");
	req = request(PUT_ANY);
	begin(SCRIPT({ .status = 500, .takes_ms = 29000 },
		     { .status = 500, .takes_ms = 29000 }));
	CHECK_INT(store_body_sum(store, &req.body), 0);
	CHECK(fake_http_call(fake, store, &req) < 0);
	CHECK(fake_http_now_ms() <= 31010);
	end();
}

int main(void)
{
	struct creds_config config = { NULL, NULL };
	char why[256];

	setenv("R2_ACCESS_KEY_ID", "0123456789abcdef0123456789abcdef", 1);
	setenv("R2_SECRET_ACCESS_KEY", "unit-test", 1);
	if (creds_create(&config, &creds, why, sizeof(why)))
		BUG("%s", why);
	rand_seed(1);
	log_level = LOG_LEVEL_ERROR;
	test_sent();
	test_file_body();
	test_refused();
	test_fits_xml();
	test_limits();
	test_much_metadata();
	test_results();
	test_fates();
	test_memory();
	test_patience();
	test_deadlines();
	creds_destroy(creds);
	return check_done();
}
