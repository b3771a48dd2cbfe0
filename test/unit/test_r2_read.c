/* Reading through a bad network from an odd server: the client on a scripted
 * transport. */
#include "base/log.h"
#include "base/rand.h"
#include "fake_http.h"
#include "r2/creds.h"
#include "r2/r2.h"

#define ETAG  "5d41402abc4b2a76b9719d911017c592"
#define OTHER "00000000000000000000000000000000"
#define TAG   "ETag: \"" ETAG "\"\n"
#define ERROR_XML(code) \
	"<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>m" \
	"</Message></Error>"
#define SCRIPT(...) ((const struct fake_answer[]){ __VA_ARGS__, { 0 } })

static struct creds *creds;
static struct fake_http *fake;
static struct store *store;

static void begin_narrow(const struct fake_answer *script, unsigned window)
{
	struct r2_config config = { .endpoint = "https://r2.example",
				    .bucket = "bkt",
				    .max_in_flight = window };

	fake = fake_http_create(script);
	if (r2_create(&config, fake_http_http(fake), creds, &store))
		BUG("r2_create");
}

static void begin(const struct fake_answer *script)
{
	begin_narrow(script, 0);
}

static void end(void)
{
	store_destroy(store);
	fake_http_destroy(fake);
}

#define PART(range, text) \
	{ \
		.status = 206, .headers = TAG "Content-Range: bytes " range, \
		.body = text \
	}
#define WHOLE(text) \
	{ \
		.status = 200, .headers = TAG, .body = text \
	}
#define BAD(head, text) \
	{ \
		.status = 206, .headers = head, .body = text \
	}

/* All ask for 10 bytes at `off` of a key; the object is "0123456789abcdef". */
static const struct {
	const char *title;
	uint64_t off;
	struct fake_answer script[5];
	int error;
	const char *text;
	uint64_t size;
} gets[] = {
	{ "a part", 2, { PART("2-11/16", "23456789ab") }, 0, "23456789ab", 16 },
	{ "a part up to the end",
	  10,
	  { PART("10-15/16", "abcdef") },
	  0,
	  "abcdef",
	  16 },
	{ "a whole object that fits", 0, { WHOLE("01234") }, 0, "01234", 5 },
	{ "an answer that is no object, then the part",
	  2,
	  { { .status = 202, .headers = TAG, .body = "later" },
	    { .status = 204, .headers = TAG },
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a whole object instead of a part",
	  2,
	  { WHOLE("0123456789abcdef"), WHOLE("0123456789abcdef"),
	    WHOLE("0123456789abcdef") },
	  -EBADMSG,
	  "",
	  0 },
	{ "a whole object that is too large",
	  0,
	  { WHOLE("0123456789abcdef"), WHOLE("0123456789abcdef"),
	    WHOLE("0123456789abcdef") },
	  -EBADMSG,
	  "",
	  0 },
	{ "another part than asked, then the right one",
	  2,
	  { PART("3-12/16", "3456789abc"), PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a shorter part than asked",
	  2,
	  { PART("2-5/16", "2345"), PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a part without Content-Range",
	  2,
	  { BAD(TAG, "23456789ab"), PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a part with a Content-Range that cannot be",
	  2,
	  { PART("2-11/5", "23456789ab"), PART("11-2/16", "23456789ab"),
	    PART("bytes", "23456789ab") },
	  -EBADMSG,
	  "",
	  0 },
	{ "an answer without ETag",
	  2,
	  { BAD("Content-Range: bytes 2-11/16", "23456789ab"),
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a page of a login portal",
	  0,
	  { { .status = 200,
	      .headers = "Content-Type: text/html",
	      .body = "<html>" },
	    { .status = 200,
	      .headers = "Content-Type: text/html",
	      .body = "<html>" },
	    { .status = 200,
	      .headers = "Content-Type: text/html",
	      .body = "<html>" } },
	  -EBADMSG,
	  "",
	  0 },
	{ "a redirection",
	  0,
	  { { .status = 302, .headers = "Location: http://elsewhere/" } },
	  -EIO,
	  "",
	  0 },
	{ "cut, and gone on with the same version",
	  2,
	  { { .status = 206,
	      .headers = TAG "Content-Range: bytes 2-11/16\n"
			     "Content-Length: 10",
	      .body = "23456789ab",
	      .cut = 4,
	      .error = -ECONNRESET },
	    { .header = "range: bytes=6-11",
	      .status = 206,
	      .headers = TAG "Content-Range: bytes 6-11/16",
	      .body = "6789ab" } },
	  0,
	  "23456789ab",
	  16 },
	{ "cut twice without an error of the transport",
	  2,
	  { { .status = 206,
	      .headers = TAG "Content-Range: bytes 2-11/16\n"
			     "Content-Length: 10",
	      .body = "23456789ab",
	      .cut = 4 },
	    { .header = "if-match: \"" ETAG "\"",
	      .status = 206,
	      .headers = TAG "Content-Range: bytes 6-11/16\n"
			     "Content-Length: 6",
	      .body = "6789ab",
	      .cut = 2 },
	    { .header = "range: bytes=8-11",
	      .status = 206,
	      .headers = TAG "Content-Range: bytes 8-11/16",
	      .body = "89ab" } },
	  0,
	  "23456789ab",
	  16 },
	{ "cut, and replaced meanwhile",
	  2,
	  { { .status = 206,
	      .headers = TAG "Content-Range: bytes 2-11/16",
	      .body = "23456789ab",
	      .cut = 4,
	      .error = -ECONNRESET },
	    { .header = "if-match: \"" ETAG "\"", .status = 412 } },
	  -ESTALE,
	  NULL,
	  0 },
	{ "cut, and another version although it was not asked for",
	  2,
	  { { .status = 206,
	      .headers = TAG "Content-Range: bytes 2-11/16",
	      .body = "23456789ab",
	      .cut = 4,
	      .error = -ECONNRESET },
	    { .status = 206,
	      .headers = "ETag: \"" OTHER "\"\n"
			 "Content-Range: bytes 6-11/16",
	      .body = "XXXXXX" },
	    PART("6-11/16", "6789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "more bytes than announced",
	  2,
	  { { .status = 206,
	      .headers = TAG "Content-Range: bytes 2-11/16\n"
			     "Content-Length: 10",
	      .body = "23456789abZZZZ" },
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a coded body is asked for as it is stored",
	  0,
	  { { .header = "accept-encoding: identity",
	      .status = 200,
	      .headers = TAG "Content-Encoding: gzip",
	      .body = "xyz" },
	    { .header = "accept-encoding: gzip, br, zstd",
	      .status = 200,
	      .headers = TAG "Content-Encoding: gzip",
	      .body = "xyz" } },
	  0,
	  "xyz",
	  3 },
	{ "an empty object has no range",
	  0,
	  { { .status = 416, .body = ERROR_XML("InvalidRange") },
	    { .method = "HEAD",
	      .absent = "range",
	      .status = 200,
	      .headers = TAG "Content-Length: 0" } },
	  0,
	  "",
	  0 },
	{ "an empty object that has grown meanwhile",
	  0,
	  { { .status = 416, .body = ERROR_XML("InvalidRange") },
	    { .method = "HEAD",
	      .status = 200,
	      .headers = TAG "Content-Length: 7" } },
	  -ESTALE,
	  "",
	  7 },
	{ "beyond the end",
	  99,
	  { { .status = 416, .body = ERROR_XML("InvalidRange") } },
	  -ERANGE,
	  "",
	  0 },
	{ "not there",
	  0,
	  { { .status = 404, .body = ERROR_XML("NoSuchKey") } },
	  -ENOENT,
	  "",
	  0 },
	{ "a busy server, twice",
	  2,
	  { { .status = 503, .body = "<html>busy</html>" },
	    { .status = 429, .body = ERROR_XML("ServiceUnavailable") },
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "an error of the edge without XML",
	  2,
	  { { .status = 522, .body = "error code: 522" },
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "a certificate that is not trusted",
	  2,
	  { { .error = -EPROTO } },
	  -EPROTO,
	  "",
	  0 },
	{ "a stale connection",
	  2,
	  { { .error = -ECONNRESET, .stale = true },
	    PART("2-11/16", "23456789ab") },
	  0,
	  "23456789ab",
	  16 },
	{ "no access",
	  2,
	  { { .status = 403, .body = ERROR_XML("AccessDenied") } },
	  -EACCES,
	  "",
	  0 },
	{ "refused credentials are read again, once",
	  2,
	  { { .status = 401, .body = ERROR_XML("Unauthorized") },
	    { .status = 401, .body = ERROR_XML("Unauthorized") } },
	  -EACCES,
	  "",
	  0 },
	{ "a wrong clock is corrected, once",
	  2,
	  { { .status = 403,
	      .headers = "Date: Tue, 14 Nov 2023 21:13:20 GMT",
	      .body = ERROR_XML("RequestTimeTooSkewed") },
	    { .header = "x-amz-date: 20231114T211320Z",
	      .status = 403,
	      .headers = "Date: Tue, 14 Nov 2023 21:13:20 GMT",
	      .body = ERROR_XML("RequestTimeTooSkewed") } },
	  -EACCES,
	  "",
	  0 },
};

static size_t progressed;
static unsigned went_back;

static void on_progress(struct store_req *req, size_t got)
{
	went_back += got < progressed;
	progressed = got;
}

static void test_gets(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(gets); i++) {
		uint8_t buf[11] = "..........";
		struct store_req req = { .op = STORE_GET,
					 .key = "k",
					 .ranged = true,
					 .range_off = gets[i].off,
					 .range_len = 10,
					 .buf = buf,
					 .buf_cap = 10,
					 .progress = on_progress };

		CASE(gets[i].title);
		progressed = went_back = 0;
		begin(gets[i].script);
		CHECK_INT(fake_http_call(fake, store, &req), gets[i].error);
		end();
		buf[req.buf_len] = 0;
		if (gets[i].text)
			CHECK_STR((char *)buf, gets[i].text);
		if (!gets[i].error)
			CHECK_INT(req.attr.size, gets[i].size);
		else
			CHECK(req.why[0] != 0);
		CHECK_INT(went_back, 0);
		CHECK_INT(progressed, req.buf_len);
		store_req_release(&req);
	}
}

/* ---- time ---- */

static void test_waits(void)
{
	uint8_t buf[10];
	struct store_req req = {
		.op = STORE_GET, .key = "k", .buf = buf, .buf_cap = sizeof(buf)
	};
	struct fake_answer always[200] = { { 0 } };
	uint64_t start;

	CASE("Retry-After is kept");
	begin(SCRIPT({ .status = 503, .headers = "Retry-After: 7" },
		     WHOLE("x")));
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	CHECK(fake_http_now_ms() - start >= 7000);
	end();
	store_req_release(&req);

	CASE("a server that is always busy is asked seldom, and not for ever");
	for (int i = 0; i < 199; i++)
		always[i].status = 503;
	begin(always);
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -ETIMEDOUT);
	CHECK(fake_http_now_ms() - start <= 30000);
	CHECK(req.attempts >= 4 && req.attempts < 30);
	fake->script = &always[199];
	end();

	CASE("one that always fails, too");
	for (int i = 0; i < 199; i++)
		always[i].status = 500;
	begin(always);
	start = fake_http_now_ms();
	CHECK_INT(fake_http_call(fake, store, &req), -EIO);
	CHECK(fake_http_now_ms() - start <= 30000);
	CHECK(req.attempts >= 8 && req.attempts < 100);
	fake->script = &always[199];
	end();
}

/* ---- lists and heads ---- */

#define PAGE(more) \
	"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>" more \
	"</ListBucketResult>"

/* A good list but for its length: more than 16 MiB. */
static char *long_page(void)
{
	size_t n = (16 << 20) + 1;
	char *page = xmalloc(n + sizeof(PAGE("")));

	memset(page, ' ', n);
	memcpy(page + n, PAGE(""), sizeof(PAGE("")));
	memcpy(page, "<!--", 4);
	memcpy(page + n - 3, "-->", 3);
	return page;
}

static void test_lists(void)
{
	static const struct fake_answer cut = { .status = 200,
						.body = "<ListBucketResult>" };
	struct store_req req = { .op = STORE_LIST };

	CASE("a list that is cut is asked for again");
	begin(SCRIPT(cut, { .status = 200, .body = PAGE("") }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	CHECK_INT(req.list.n, 1);
	store_req_release(&req);
	end();

	CASE("but not for ever");
	begin(SCRIPT(cut, cut, cut));
	CHECK_INT(fake_http_call(fake, store, &req), -EBADMSG);
	CHECK_INT(req.list.n, 0);
	end();

	char *page = long_page();
	struct fake_answer large[2] = { { .status = 200, .body = page } };

	CASE("one that is too long is asked for once");
	begin(large);
	CHECK_INT(fake_http_call(fake, store, &req), -EBADMSG);
	CHECK(strstr(req.why, "longer") != NULL);
	CHECK_INT(req.list.n, 0);
	store_req_release(&req);
	end();

	CASE("but an error of any length is judged by its status");
	begin(SCRIPT({ .status = 502, .body = page },
		     { .status = 200, .body = PAGE("") }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	store_req_release(&req);
	end();
	begin(SCRIPT({ .status = 404, .body = page }));
	CHECK_INT(fake_http_call(fake, store, &req), -ENOENT);
	store_req_release(&req);
	end();
	struct store_req put = { .op = STORE_PUT, .key = "k" };

	CASE("and a write by its headers");
	begin(SCRIPT({ .status = 200,
		       .headers = "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"",
		       .body = page }));
	CHECK_INT(fake_http_call(fake, store, &put), 0);
	store_req_release(&put);
	end();
	free(page);

	CASE("a list that gives the token it was given");
	req.token = "t";
	static const struct fake_answer loop = {
		.status = 200,
		.body = PAGE("<IsTruncated>true</IsTruncated>"
			     "<NextContinuationToken>t</NextContinuationToken>")
	};
	begin(SCRIPT(loop, loop, loop));
	CHECK_INT(fake_http_call(fake, store, &req), -EBADMSG);
	end();

	CASE("an error in a 200");
	begin(SCRIPT({ .status = 200, .body = ERROR_XML("AccessDenied") }));
	CHECK_INT(fake_http_call(fake, store, &req), -EACCES);
	end();
}

static void test_heads(void)
{
	struct store_req req = { .op = STORE_HEAD, .key = "k" };

	CASE("what a HEAD tells");
	begin(SCRIPT({ .status = 200,
		       .headers =
			       "Etag: W/\"" ETAG "\"\n"
			       "Content-Length: 5000000000\n"
			       "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\n"
			       "Date: Tue, 14 Nov 2023 22:13:25 GMT\n"
			       "Content-Type: a/b\nContent-Encoding: gzip\n"
			       "X-Amz-Meta-MTime: 1.5\n"
			       "x-amz-meta-n: =?UTF-8?B?w6k=?=\n"
			       "Cache-Control: max-age=9\n"
			       "Content-Disposition: attachment; filename=x\n"
			       "Content-Language: de\n"
			       "Expires: Tue, 14 Nov 2033 22:13:20 GMT\n"
			       "x-amz-storage-class: STANDARD_IA" }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	end();
	CHECK_STR(req.attr.etag.s, ETAG);
	CHECK_INT(req.attr.size, 5000000000);
	CHECK_INT(req.attr.mtime_ns, 1700000000000000000);
	CHECK_INT(req.attr.date_ns, 1700000005000000000);
	CHECK_STR(req.attr.content_type, "a/b");
	CHECK_STR(req.attr.content_encoding, "gzip");
	CHECK(req.attr.infrequent && req.attr.has_meta);
	CHECK_INT(req.attr.meta.n, 7);
	CHECK_STR(store_meta_get(&req.attr.meta, ":cache-control"),
		  "max-age=9");
	CHECK_STR(store_meta_get(&req.attr.meta, ":content-disposition"),
		  "attachment; filename=x");
	CHECK_STR(store_meta_get(&req.attr.meta, ":content-encoding"), "gzip");
	CHECK_STR(store_meta_get(&req.attr.meta, ":content-language"), "de");
	CHECK_STR(store_meta_get(&req.attr.meta, ":expires"),
		  "Tue, 14 Nov 2033 22:13:20 GMT");
	CHECK(!store_meta_get(&req.attr.meta, STORE_CONTENT_TYPE));
	CHECK_STR(store_meta_get(&req.attr.meta, "mtime"), "1.5");
	CHECK_STR(store_meta_get(&req.attr.meta, "n"), "\xc3\xa9");
	store_req_release(&req);

	CASE("not modified");
	req.if_none_match = ETAG;
	begin(SCRIPT(
		{ .header = "if-none-match: \"" ETAG "\"", .status = 304 }));
	CHECK_INT(fake_http_call(fake, store, &req), 0);
	CHECK(req.not_modified);
	end();
}

/* ---- a second request for a late one ---- */

#define SLOW(ms, text) \
	{ \
		.status = 206, .headers = TAG "Content-Range: bytes 0-9/16", \
		.body = text, .takes_ms = ms \
	}
#define DATA "0123456789"

/* 128 quick GETs: what is usual becomes known, and credit for two hedges. */
static void warm_up(unsigned ms)
{
	static struct fake_answer quick[129];
	struct fake_answer one = SLOW(ms, DATA);
	const struct fake_answer *script = fake->script;

	for (int i = 0; i < 128; i++)
		quick[i] = one;
	fake->script = quick;
	for (int i = 0; i < 128; i++) {
		uint8_t buf[10];
		struct store_req req = { .op = STORE_GET,
					 .key = "k",
					 .ranged = true,
					 .range_len = 10,
					 .buf = buf,
					 .buf_cap = 10 };

		CHECK_INT(fake_http_call(fake, store, &req), 0);
		store_req_release(&req);
	}
	fake->script = script;
}

/* One GET; how long it took, and whether it was right. */
static uint64_t timed_get(uint64_t len, int error)
{
	uint8_t buf[17] = "";
	struct store_req req = { .op = STORE_GET,
				 .key = "k",
				 .ranged = true,
				 .range_len = len,
				 .buf = buf,
				 .buf_cap = 16 };
	uint64_t start = fake_http_now_ms();

	CHECK_INT(fake_http_call(fake, store, &req), error);
	if (!error) {
		CHECK(memcmp(buf, DATA, 10) == 0);
		CHECK_STR(req.attr.etag.s, ETAG);
	}
	store_req_release(&req);
	return fake_http_now_ms() - start;
}

static void counts(unsigned hedges, unsigned won)
{
	struct store_counters c;

	store_counters_get(store, &c);
	CHECK_INT(c.hedges, hedges);
	CHECK_INT(c.hedges_won, won);
	CHECK_INT(c.in_flight, 0);
}

static void test_hedges(void)
{
	CASE("before anything is known nothing is late");
	begin(SCRIPT(SLOW(5000, DATA)));
	CHECK_INT(timed_get(10, 0), 5000);
	counts(0, 0);
	end();

	CASE("a straggler is overtaken");
	begin(SCRIPT(SLOW(5000, "XXXXXXXXXX"), SLOW(10, DATA)));
	warm_up(20);
	CHECK_INT(timed_get(10, 0), 260);
	counts(1, 1);
	end();

	CASE("or comes in first after all");
	begin(SCRIPT(SLOW(400, DATA), SLOW(5000, "XXXXXXXXXX")));
	warm_up(20);
	CHECK_INT(timed_get(10, 0), 400);
	counts(1, 0);
	end();

	CASE("late is half as much again as what 99 of 100 took");
	begin(SCRIPT(SLOW(1400, DATA), SLOW(5000, DATA), SLOW(10, DATA)));
	warm_up(1000);
	CHECK_INT(timed_get(10, 0), 1400);
	counts(0, 0);
	CHECK(timed_get(10, 0) < 1900);
	counts(1, 1);
	end();

	CASE("when the second breaks, the first goes on");
	begin(SCRIPT(SLOW(2000, DATA), { .error = -ECONNRESET }));
	warm_up(20);
	CHECK_INT(timed_get(10, 0), 2000);
	counts(1, 0);
	end();

	CASE("when the first breaks, the second goes on");
	begin(SCRIPT({ .error = -ECONNRESET, .takes_ms = 300 },
		     SLOW(100, DATA)));
	warm_up(20);
	CHECK_INT(timed_get(10, 0), 350);
	counts(1, 0);
	end();

	CASE("when both break, it is tried again");
	begin(SCRIPT({ .error = -ECONNRESET, .takes_ms = 300 },
		     { .error = -ECONNRESET, .takes_ms = 100 },
		     SLOW(10, DATA)));
	warm_up(20);
	timed_get(10, 0);
	counts(1, 0);
	end();

	CASE("the second's answer is judged like any other");
	begin(SCRIPT(SLOW(5000, DATA),
		     { .status = 404, .body = ERROR_XML("NoSuchKey") }));
	warm_up(20);
	timed_get(10, -ENOENT);
	counts(1, 1);
	end();

	CASE("the second is cut, and its rest is fetched");
	begin(SCRIPT(SLOW(5000, "XXXXXXXXXX"),
		     { .status = 206,
		       .headers = TAG "Content-Range: bytes 0-9/16",
		       .body = DATA,
		       .cut = 4,
		       .error = -ECONNRESET },
		     { .header = "range: bytes=4-9",
		       .status = 206,
		       .headers = TAG "Content-Range: bytes 4-9/16",
		       .body = "456789" }));
	warm_up(20);
	timed_get(10, 0);
	counts(1, 1);
	end();
}

static void test_hedge_limits(void)
{
	struct fake_answer slow = SLOW(5000, DATA);

	CASE("credit ends: a server in trouble is not asked twice as often");
	begin(SCRIPT(slow, SLOW(10, DATA), slow, SLOW(10, DATA), slow));
	warm_up(20);
	CHECK_INT(timed_get(10, 0), 260);
	CHECK_INT(timed_get(10, 0), 260);
	CHECK_INT(timed_get(10, 0), 5000);
	counts(2, 2);
	end();

	CASE("a healthy server is asked once each");
	begin(SCRIPT({ 0 }));
	for (unsigned ms = 1; ms < 240; ms += 20)
		warm_up(ms);
	counts(0, 0);
	end();

	CASE("large ranges are not asked for twice");
	begin(SCRIPT({ .status = 206,
		       .takes_ms = 5000,
		       .headers = TAG "Content-Range: bytes 0-15/16",
		       .body = "0123456789abcdef" }));
	warm_up(20);
	CHECK_INT(timed_get((4 << 20) + 1, 0), 5000);
	counts(0, 0);
	end();

	CASE("nor is a server that throttles");
	begin(SCRIPT({ .status = 503 }, SLOW(10, DATA), slow));
	warm_up(20);
	timed_get(10, 0);
	CHECK_INT(timed_get(10, 0), 5000);
	counts(0, 0);
	end();
}

/* Cancels what it is the progress of... there is none: from a second GET. */
static struct store_req *victim;

static void cancel_victim(struct store_req *req, size_t got)
{
	store_cancel(store, victim);
}

static void test_hedge_cancel(void)
{
	uint8_t buf[2][10];
	struct store_req a = { .op = STORE_GET,
			       .key = "a",
			       .ranged = true,
			       .range_len = 10,
			       .buf = buf[0],
			       .buf_cap = 10 };
	struct store_req b = { .op = STORE_GET,
			       .key = "b",
			       .ranged = true,
			       .range_len = 10,
			       .buf = buf[1],
			       .buf_cap = 10,
			       .progress = cancel_victim };
	struct store_req *both[] = { &a, &b };

	CASE("both requests end when the operation is cancelled");
	begin(SCRIPT(SLOW(5000, DATA), SLOW(300, DATA), SLOW(5000, DATA),
		     SLOW(5000, DATA)));
	warm_up(20);
	victim = &a;
	fake_http_run(fake, store, both, 2);
	CHECK_INT(a.error, -ECANCELED);
	CHECK_INT(b.error, 0);
	CHECK(fake_http_now_ms() < 10000);
	counts(2, 0);
	store_req_release(&a);
	store_req_release(&b);
	end();
}

/* ---- waiting to be admitted ---- */

enum { LINE = 4 };

#define STORED(ms) \
	{ \
		.method = "PUT", .status = 200, .takes_ms = ms, \
		.headers = "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\n", \
	}

static void init_line(struct store_req *r, struct store_req **all,
		      enum store_op op)
{
	static uint8_t buf[LINE][10];

	for (unsigned i = 0; i < LINE; i++) {
		r[i] = (struct store_req){ .op = op,
					   .key = "k",
					   .ranged = true,
					   .range_len = 10,
					   .buf = buf[i],
					   .buf_cap = 10,
					   .body = { .fd = -1 } };
		all[i] = &r[i];
	}
}

static void release_line(struct store_req *r)
{
	for (unsigned i = 0; i < LINE; i++)
		store_req_release(&r[i]);
}

static void test_queue(void)
{
	struct store_req r[LINE], *all[LINE];

	CASE("who has waited for a connection has his time after it");
	init_line(r, all, STORE_GET);
	begin_narrow(SCRIPT(SLOW(20000, DATA), SLOW(20000, DATA)), 1);
	fake_http_run(fake, store, all, 2);
	CHECK_INT(r[0].error, 0);
	CHECK_INT(r[1].error, 0);
	release_line(r);
	end();

	CASE("but does not wait longer than a deadline");
	init_line(r, all, STORE_GET);
	begin_narrow(SCRIPT(SLOW(20000, DATA), SLOW(20000, DATA)), 1);
	fake_http_run(fake, store, all, 3);
	CHECK_INT(r[0].error, 0);
	CHECK_INT(r[1].error, 0);
	CHECK_INT(r[2].error, -ETIMEDOUT);
	CHECK_INT(r[2].attempts, 0);
	CHECK_STR(r[2].why, "no connection was free within the deadline");
	release_line(r);
	end();

	CASE("writes wait on while those before them get on");
	init_line(r, all, STORE_PUT);
	begin_narrow(SCRIPT(STORED(20000), STORED(20000), STORED(20000)), 1);
	for (unsigned i = 0; i < 3; i++)
		CHECK_INT(store_body_sum(store, &r[i].body), 0);
	fake_http_run(fake, store, all, 3);
	for (unsigned i = 0; i < 3; i++)
		CHECK_INT(r[i].error, 0);
	release_line(r);
	end();

	CASE("a read goes past writes that fill their share");
	init_line(r, all, STORE_PUT);
	r[LINE - 1].op = STORE_GET;
	begin_narrow(SCRIPT(STORED(9000),
			    { .method = "GET",
			      .status = 206,
			      .headers = TAG "Content-Range: bytes 0-9/16",
			      .body = DATA,
			      .takes_ms = 10 },
			    STORED(9000), STORED(9000)),
		     2);
	for (unsigned i = 0; i < LINE - 1; i++)
		CHECK_INT(store_body_sum(store, &r[i].body), 0);
	fake_http_run(fake, store, all, LINE);
	for (unsigned i = 0; i < LINE; i++)
		CHECK_INT(r[i].error, 0);
	release_line(r);
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
	test_gets();
	test_waits();
	test_lists();
	test_heads();
	test_hedges();
	test_hedge_limits();
	test_hedge_cancel();
	test_queue();
	creds_destroy(creds);
	return check_done();
}
