/* The pure parts of the R2 client: signing, encoding, XML, judging. */
#include "base/cleanup.h"
#include "base/rand.h"
#include "check.h"
#include "r2/r2.h"
#include "r2/retry.h"
#include "r2/sigv4.h"
#include "r2/words.h"
#include "r2/xml.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct creds_set example = {
	.access_key_id = "AKIAIOSFODNN7EXAMPLE",
	.secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	.serial = 1,
};

#define HOST \
	{ \
		"host", "examplebucket.s3.amazonaws.com" \
	}
#define HASH(h) \
	{ \
		"x-amz-content-sha256", h \
	}
#define DATE \
	{ \
		"x-amz-date", "20130524T000000Z" \
	}
#define WELCOME \
	"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"

/* The examples and values that AWS publishes for S3. */
static const struct {
	const char *method, *path, *query, *hash;
	struct http_header headers[6];
	const char *signature;
} vectors[] = {
	{ "GET",
	  "/test.txt",
	  "",
	  EMPTY,
	  { HOST, { "range", "bytes=0-9" }, HASH(EMPTY), DATE },
	  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
	{ "PUT",
	  "/test%24file.text",
	  "",
	  WELCOME,
	  { { "date", "Fri, 24 May 2013 00:00:00 GMT" },
	    HOST,
	    HASH(WELCOME),
	    DATE,
	    { "x-amz-storage-class", "REDUCED_REDUNDANCY" } },
	  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
	{ "GET",
	  "/",
	  "lifecycle=",
	  EMPTY,
	  { HOST, HASH(EMPTY), DATE },
	  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
	{ "GET",
	  "/",
	  "max-keys=2&prefix=J",
	  EMPTY,
	  { HOST, HASH(EMPTY), DATE },
	  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
};

static void test_signatures(void)
{
	struct sigv4_cache cache;
	struct buf out;

	CASE("sigv4: AWS's published S3 examples");
	sigv4_cache_init(&cache);
	buf_init(&out, 4096);
	for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct sigv4_request r = { .method = vectors[i].method,
					   .path = vectors[i].path,
					   .query = vectors[i].query,
					   .region = "us-east-1",
					   .payload_hash = vectors[i].hash,
					   .time_s = 1369353600,
					   .headers = vectors[i].headers };

		while (vectors[i].headers[r.nheaders].name)
			r.nheaders++;
		buf_reset(&out);
		sigv4_authorization(&cache, &example, &r, &out);
		CHECK_STR(strstr(out.data, "Signature=") + 10,
			  vectors[i].signature);
		CHECK(strstr(out.data, "wJalr") == NULL);
	}
	buf_release(&out);
	sigv4_cache_release(&cache);
}

/* GET of the first example without its range, by one cache. */
static void signs(struct sigv4_cache *cache, const struct creds_set *creds,
		  const char *region, int64_t time_s, const char *signature)
{
	char stamp[17];
	struct http_header h[] = { HOST, HASH(EMPTY), { "x-amz-date", stamp } };
	struct sigv4_request r = { .method = "GET",
				   .path = "/test.txt",
				   .query = "",
				   .region = region,
				   .payload_hash = EMPTY,
				   .time_s = time_s,
				   .headers = h,
				   .nheaders = 3 };
	struct buf out;

	sigv4_timestamp(time_s, stamp);
	buf_init(&out, 4096);
	sigv4_authorization(cache, creds, &r, &out);
	CHECK_STR(strstr(out.data, "Signature=") + 10, signature);
	buf_release(&out);
}

/* The values are of Python's hmac. */
static void test_key_cache(void)
{
	static const char before[] = "1e98c5ba830fa9e8349232323c25ab63"
				     "4932415f7ca326ae10efc35f3c8990e1";
	static const char after[] = "34e37fbebb1a8127e4d28b82fa70120d"
				    "81581aa492bd956787ee1e5149a6d09b";
	static const char automatic[] = "6ae22dcdec2b809296d8064e10bb6add"
					"e073672c1edf81705043539fab1c748d";
	static const char rotated[] = "4953d6934693d7db8abc0d1af3459ec4"
				      "a79f75af9b5a12a44a53c1c4e13cda26";
	const int64_t midnight = 1369440000;
	struct creds_set other = example;
	struct sigv4_cache cache;

	other.secret_access_key = "other-secret";
	other.serial = 2;
	CASE("sigv4: one cache over midnight, regions and secrets");
	sigv4_cache_init(&cache);
	for (int round = 0; round < 2; round++) {
		signs(&cache, &example, "us-east-1", midnight - 1, before);
		signs(&cache, &example, "us-east-1", midnight, after);
		signs(&cache, &example, "auto", midnight, automatic);
		signs(&cache, &other, "auto", midnight, rotated);
	}
	sigv4_cache_release(&cache);
}

static void test_encode(void)
{
	struct buf b;

	CASE("sigv4: encoding leaves only unreserved characters");
	buf_init(&b, 4096);
	sigv4_encode(&b, "a/b c+~%\xc3\xa9", 10, true);
	CHECK_STR(b.data, "a/b%20c%2B~%25%C3%A9");
	buf_reset(&b);
	sigv4_encode(&b, "a/b", 3, false);
	CHECK_STR(b.data, "a%2Fb");
	for (int round = 0; round < 1000; round++) {
		char raw[64];

		for (size_t i = 0; i < sizeof(raw); i++)
			raw[i] = (char)rand_below(256);
		buf_reset(&b);
		sigv4_encode(&b, raw, sizeof(raw), false);
		size_t at = 0;
		for (size_t i = 0; i < sizeof(raw); i++) {
			unsigned c;

			if (b.data[at] == '%') {
				CHECK_INT(sscanf(b.data + at + 1, "%2X", &c),
					  1);
				at += 3;
			} else {
				c = (unsigned char)b.data[at++];
				CHECK(strchr("-._~", (int)c) ||
				      (c < 128 && c > 47));
			}
			CHECK_INT((unsigned char)raw[i], c);
		}
		CHECK_INT(at, b.len);
	}
	buf_release(&b);
}

static const char page[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
	"<EncodingType>url</EncodingType>"
	"<Contents><Key>a%2Fb%20c</Key><Size>7</Size>"
	"<LastModified>2026-01-02T03:04:05.678Z</LastModified>"
	"<ETag>&quot;abc&quot;</ETag><StorageClass>STANDARD_IA</StorageClass>"
	"</Contents>"
	"<Contents><Key>bad%00name</Key><Size>1</Size></Contents>"
	"<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>"
	"<IsTruncated>true</IsTruncated>"
	"<NextContinuationToken>t/+=</NextContinuationToken>"
	"</ListBucketResult>";

static void test_list(void)
{
	struct store_list l;

	CASE("xml: a list page");
	CHECK_INT(xml_parse_list(page, strlen(page), &l), 0);
	CHECK_INT(l.n, 2);
	CHECK_INT(l.skipped, 1);
	CHECK(l.truncated);
	CHECK_STR(l.next_token, "t/+=");
	CHECK_STR(l.entries[0].name, "a/b c");
	CHECK_INT(l.entries[0].size, 7);
	CHECK_STR(l.entries[0].etag.s, "abc");
	CHECK(l.entries[0].infrequent);
	CHECK_INT(l.entries[0].mtime_ns, 1767323045678000000);
	CHECK_STR(l.entries[1].name, "d/");
	CHECK(l.entries[1].is_prefix);
	store_list_release(&l);

	CASE("xml: every truncation of a page is refused");
	for (size_t n = 0; n < strlen(page); n++) {
		CHECK(xml_parse_list(page, n, &l) != 0);
		store_list_release(&l);
	}
}

static void test_bad_lists(void)
{
	static const char *const bad[] = {
		"<Error><Code>X</Code></Error>",
		"<!DOCTYPE a [<!ENTITY x \"y\">]><ListBucketResult/>",
		"<ListBucketResult><IsTruncated>true</IsTruncated>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>x</Size>"
		"</Contents></ListBucketResult>",
		"<ListBucketResult><a><b><c><d><e><f><g><h><i/></h></g></f></e>"
		"</d></c></b></a></ListBucketResult>",
		"not xml",
	};
	struct store_list l;

	CASE("xml: what is no list is refused");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_INT(xml_parse_list(bad[i], strlen(bad[i]), &l), -EBADMSG);
		store_list_release(&l);
	}
}

/* A list of n objects, the last of whose keys is of key_len bytes. */
static struct buf make_list(unsigned n, unsigned key_len)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_addstr(&b, "<ListBucketResult>");
	for (unsigned i = 1; i <= n; i++)
		buf_addf(&b, "<Contents><Key>%0*d</Key></Contents>",
			 i < n ? 1 : (int)key_len, 7);
	buf_addstr(&b, "</ListBucketResult>");
	CHECK(!b.failed);
	return b;
}

static int parse_made(unsigned n, unsigned key_len, unsigned *ret_n)
{
	struct buf b = make_list(n, key_len);
	struct store_list l;
	int err = xml_parse_list(b.data, b.len, &l);

	*ret_n = l.n;
	store_list_release(&l);
	buf_release(&b);
	return err;
}

static int parse_named(unsigned name_len)
{
	CLEANUP(free)
	char *text = xasprintf("<ListBucketResult><x%0*d/></ListBucketResult>",
			       (int)name_len - 1, 0);
	struct store_list l;
	int err = xml_parse_list(text, strlen(text), &l);

	store_list_release(&l);
	return err;
}

static void test_bounds(void)
{
	unsigned n;

	CASE("xml: entries and texts have ceilings");
	CHECK_INT(parse_made(4096, 1, &n), 0);
	CHECK_INT(n, 4096);
	CHECK_INT(parse_made(4097, 1, &n), -EBADMSG);
	CHECK_INT(parse_made(2, STORE_KEY_MAX, &n), 0);
	CHECK_INT(n, 2);
	CHECK_INT(parse_made(2, 8192, &n), 0); /* no key: skipped */
	CHECK_INT(n, 1);
	CHECK_INT(parse_made(2, 8193, &n), -EBADMSG);

	CASE("xml: so have the names of elements");
	CHECK_INT(parse_named(63), 0);
	CHECK_INT(parse_named(64), -EBADMSG);
}

static void test_errors(void)
{
	static const char xml[] =
		"<?xml version=\"1.0\"?><Error><Code>NoSuchKey"
		"</Code><Message>gone</Message></Error>";
	struct xml_error e;

	CASE("xml: error bodies of any kind");
	CHECK(xml_parse_error(xml, strlen(xml), &e));
	CHECK_STR(e.code, "NoSuchKey");
	CHECK_STR(e.message, "gone");
	CHECK(!xml_parse_error("error code: 520", 15, &e));
	CHECK_STR(e.code, "");
	CHECK(!xml_parse_error("", 0, &e));
	CHECK(!xml_parse_error("<html><body>x</body></html>", 27, &e));
}

static void test_retry(void)
{
	CASE("retry: status and code to errno and class");
	CHECK_INT(retry_judge(200, "").error, 0);
	CHECK_INT(retry_judge(404, "NoSuchKey").error, -ENOENT);
	CHECK_INT(retry_judge(412, "").error, -ESTALE);
	CHECK_INT(retry_judge(403, "AccessDenied").retry, RETRY_NO);
	CHECK_INT(retry_judge(403, "NotEntitled").error, -EDQUOT);
	CHECK_INT(retry_judge(403, "ObjectLockedByBucketPolicy").error, -EPERM);
	CHECK_INT(retry_judge(retry_status("NotEntitled"), "NotEntitled").error,
		  -EDQUOT);
	CHECK_INT(retry_given_up(-ECONNRESET), -ETIMEDOUT);
	CHECK_INT(retry_given_up(-EACCES), -EACCES);
	CHECK_INT(retry_judge(403, "RequestTimeTooSkewed").retry, RETRY_SKEW);
	CHECK_INT(retry_judge(401, "").retry, RETRY_CREDS);
	CHECK_INT(retry_judge(429, "ServiceUnavailable").retry, RETRY_THROTTLE);
	CHECK_INT(retry_judge(520, "").retry, RETRY_BACKOFF);
	CHECK_INT(retry_judge(501, "").retry, RETRY_NO);
	CHECK_INT(retry_judge_transport(-ECONNRESET).retry, RETRY_BACKOFF);
	CHECK_INT(retry_judge_transport(-ECANCELED).retry, RETRY_NO);

	CASE("retry: delays have a ceiling and a floor");
	for (unsigned n = 1; n < 100; n++) {
		CHECK(retry_delay_ns(RETRY_BACKOFF, n, 0) <= 5000000000ull);
		CHECK(retry_delay_ns(RETRY_THROTTLE, n, 0) >= 1000000000ull);
		CHECK(retry_delay_ns(RETRY_BACKOFF, n, 9) >= 9000000000ull);
	}
}

static void test_names(void)
{
	char why[256];

	CASE("endpoint and bucket names");
	CHECK_INT(r2_bucket_check("my-bucket"), 0);
	CHECK(r2_bucket_check("My"));
	CHECK(r2_bucket_check("-ab"));
	CHECK(r2_bucket_check("a_b"));
	CHECK_INT(r2_endpoint_check("https://h/p", false, why, 256), 0);
	CHECK_INT(r2_endpoint_check("http://127.0.0.1:1", false, why, 256), 0);
	CHECK(r2_endpoint_check("http://example.com", false, why, 256));
	static const char *const here[] = {
		"http://localhost",   "http://localhost:80/p",
		"http://LOCALHOST:1", "http://127.1.2.3/",
		"http://[::1]:9",     "http://[::1]"
	};
	static const char *const there[] = { "http://localhost.example.com",
					     "http://127.evil.example",
					     "http://127.0.0.1.example.com:1",
					     "http://[::1].example.com",
					     "http://[::1",
					     "http://[::12]",
					     "http://localhosts",
					     "http://128.0.0.1",
					     "http://:80" };
	for (unsigned i = 0; i < ARRAY_SIZE(here); i++)
		CHECK_INT(r2_endpoint_check(here[i], false, why, 256), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(there); i++)
		CHECK(r2_endpoint_check(there[i], false, why, 256));
	CHECK_INT(r2_endpoint_check("http://example.com", true, why, 256), 0);
	CHECK(r2_endpoint_check("https://", false, why, 256));
	CHECK(r2_endpoint_check("ftp://x", false, why, 256));
	CHECK(r2_endpoint_check("https://u@h", false, why, 256));
	char *url = r2_endpoint_for_account("abc", "eu");
	CHECK_STR(url, "https://abc.eu.r2.cloudflarestorage.com");
	free(url);
}

static void round_trip(const char *s)
{
	char *back;
	struct buf b;

	buf_init(&b, 65536);
	words_encode(&b, s);
	for (const char *p = b.data; *p; p++)
		CHECK(*p >= ' ' && *p < 0x7f);
	back = words_decode(b.data);
	CHECK_STR(back, s);
	free(back);
	buf_release(&b);
}

static void decodes(const char *from, const char *to)
{
	char *got = words_decode(from);

	CHECK_STR(got, to);
	free(got);
}

static void test_words(void)
{
	char text[600];

	CASE("words: other scripts as ASCII and back");
	CHECK(!words_needed("plain = ?"));
	CHECK(words_needed("=?UTF-8?B?x?="));
	CHECK(words_needed("\xc3\xa9"));
	round_trip("\xc3\xa9t\xc3\xa9");
	round_trip("=?UTF-8?B?x?=");
	for (unsigned n = 1; n < 150; n++) {
		for (unsigned i = 0; i < n; i++)
			memcpy(text + 3 * i, "\xe6\x97\xa5", 3);
		text[3 * n] = 0;
		round_trip(text);
		round_trip(text + 3);
		text[0] = 'x';
		round_trip(text + (n > 1 ? 3 : 0));
	}

	CASE("words: what others send");
	decodes("=?UTF-8?B?w4PCqXTDg8Kp?=",
		"\xc3\x83\xc2\xa9t\xc3\x83\xc2\xa9");
	decodes("=?utf-8?q?=C3=A9_t?=", "\xc3\xa9 t");
	decodes("=?UTF-8?Q?a?= =?UTF-8?B?Yg==?=", "ab");
	decodes("plain", "plain");
	decodes("", "");
	decodes("=?ISO-8859-1?Q?=E9?=", "=?ISO-8859-1?Q?=E9?=");
	decodes("=?UTF-8?B?!!?=", "=?UTF-8?B?!!?=");
	decodes("=?UTF-8?Q?=4?=", "=?UTF-8?Q?=4?=");
	decodes("=?UTF-8?B?AA==?=", "=?UTF-8?B?AA==?=");
	decodes("=?UTF-8?B?YQ", "=?UTF-8?B?YQ");
	decodes("=?UTF-8?B?YQ==?= and more", "=?UTF-8?B?YQ==?= and more");
}

int main(void)
{
	test_signatures();
	test_key_cache();
	test_encode();
	test_list();
	test_bad_lists();
	test_bounds();
	test_errors();
	test_retry();
	test_names();
	test_words();
	return check_done();
}
