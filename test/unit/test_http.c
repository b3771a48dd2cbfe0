/* The curl transport against a server that does what it is told, badly. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"
#include "check.h"
#include "net/http.h"

/* ---- the server: one connection at a time, a script of exchanges ---- */

enum act {
	END, /* of the script */
	SAY, /* read a request, send text */
	SAY_SLOWLY, /* a byte of text every 25 ms */
	CLOSE, /* read a request, send text, close */
	RESET, /* the same, with RST */
	HANG, /* read a request, say text and nothing more for a while */
	SIP, /* read the body slowly, then send text */
	DEAF, /* read the head and nothing of the body */
};

struct exchange {
	enum act act;
	const char *text;
};

static struct {
	int fd;
	int port;
	pthread_t thread;
	const struct exchange *script;
	struct buf seen; /* all requests, heads and bodies */
	atomic_uint requests, connections;
	bool stop;
} server;

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (ms > 0 && !__atomic_load_n(&server.stop, __ATOMIC_ACQUIRE)) {
		if (poll(&p, 1, 20) > 0)
			return true;
		ms -= 20;
	}
	return false;
}

static size_t body_length(const char *head)
{
	const char *p = strcasestr(head, "\r\ncontent-length:");

	return p ? strtoul(p + 17, NULL, 10) : 0;
}

/* False when the connection has ended. */
static bool read_request(int fd, enum act act)
{
	char block[65536], *end;
	size_t from = server.seen.len, want = 0;
	ssize_t n;

	for (;;) {
		if (!readable(fd, 5000))
			return false;
		n = read(fd, block, act == SIP && want ? 32768 : sizeof(block));
		if (n <= 0)
			return false;
		buf_add(&server.seen, block, n);
		end = strstr(server.seen.data + from, "\r\n\r\n");
		if (!end)
			continue;
		want = end + 4 - (server.seen.data + from) +
		       body_length(server.seen.data + from);
		if (act == DEAF || server.seen.len - from >= want)
			break;
		if (act == SIP)
			usleep(30000);
	}
	server.requests++;
	return true;
}

static void say(int fd, const char *text, bool slowly)
{
	size_t n = strlen(text), step = slowly ? 1 : n;

	for (size_t i = 0; i < n; i += step) {
		if (send(fd, text + i, step, MSG_NOSIGNAL) < 0)
			return;
		if (slowly)
			usleep(25000);
	}
}

/* False: the connection is to be closed. */
static bool exchange(int fd, const struct exchange *x)
{
	struct linger hard = { 1, 0 };

	if (!read_request(fd, x->act))
		return false;
	server.script++;
	say(fd, x->text, x->act == SAY_SLOWLY);
	for (int i = 0; x->act == HANG || x->act == DEAF; i++) {
		if (i == 400 || __atomic_load_n(&server.stop, __ATOMIC_ACQUIRE))
			break;
		usleep(10000);
	}
	if (x->act == RESET)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	return x->act == SAY || x->act == SAY_SLOWLY || x->act == SIP;
}

static void *serve(void *arg)
{
	while (server.script->act != END && readable(server.fd, 5000)) {
		int fd = accept(server.fd, NULL, NULL);
		bool more = fd >= 0;

		server.connections++;
		while (more && server.script->act != END)
			more = exchange(fd, server.script);
		if (more)
			readable(fd, 3000);
		close(fd);
	}
	return NULL;
}

static void server_start(const struct exchange *script)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int small = 16384;

	memset(&server, 0, sizeof(server));
	buf_init(&server.seen, 64 << 20);
	server.script = script;
	server.fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(server.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(server.fd, (struct sockaddr *)&a, n) || listen(server.fd, 8) ||
	    getsockname(server.fd, (struct sockaddr *)&a, &n) ||
	    pthread_create(&server.thread, NULL, serve, NULL))
		BUG("no server");
	server.port = ntohs(a.sin_port);
}

static void server_stop(void)
{
	__atomic_store_n(&server.stop, true, __ATOMIC_RELEASE);
	pthread_join(server.thread, NULL);
	close(server.fd);
	buf_release(&server.seen);
}

/* ---- one request ---- */

struct ask {
	struct http_req req;
	struct http *http;
	char url[64];
	struct buf body;
	char type[64]; /* Content-Type of the answer */
	int head_says;
	struct mutex lock;
	struct cond ended;
	bool done;
	uint64_t ns; /* how long it took */
};

static int ask_head(struct http_req *req)
{
	struct ask *a = req->arg;
	const char *type = http_header_get(a->http, req, "CONTENT-type");

	snprintf(a->type, sizeof(a->type), "%s", type ? type : "none");
	return a->head_says;
}

static int ask_body(struct http_req *req, const void *data, size_t n)
{
	struct ask *a = req->arg;

	buf_add(&a->body, data, n);
	return 0;
}

static void ask_done(struct http_req *req)
{
	struct ask *a = req->arg;

	mutex_lock(&a->lock);
	a->done = true;
	cond_broadcast(&a->ended);
	mutex_unlock(&a->lock);
}

static struct http *http_new(void)
{
	struct http_config config = { .max_connections = 4 };
	struct http *http;

	if (http_curl_create(&config, &http))
		BUG("no transport");
	return http;
}

static void ask_init(struct ask *a, struct http *http, enum http_method method)
{
	memset(a, 0, sizeof(*a));
	mutex_init(&a->lock);
	cond_init(&a->ended);
	buf_init(&a->body, 1 << 20);
	a->http = http;
	snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d/p%%20q?x=%%2F",
		 server.port);
	a->req.method = method;
	a->req.url = a->url;
	a->req.body_fd = -1;
	a->req.on_head = ask_head;
	a->req.on_body = ask_body;
	a->req.done = ask_done;
	a->req.arg = a;
	a->req.deadline_ns = clock_mono_ns() + 10000000000ull;
}

static void ask_start(struct ask *a)
{
	a->ns = clock_mono_ns();
	http_submit(a->http, &a->req);
}

static void ask_wait(struct ask *a)
{
	mutex_lock(&a->lock);
	while (!a->done)
		cond_wait(&a->ended, &a->lock);
	mutex_unlock(&a->lock);
	a->ns = clock_mono_ns() - a->ns;
}

static void ask_release(struct ask *a)
{
	buf_release(&a->body);
	cond_release(&a->ended);
	mutex_release(&a->lock);
}

static void ask(struct ask *a)
{
	ask_start(a);
	ask_wait(a);
}

/* ---- what arrives ---- */

#define OK_HELLO \
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" \
	"content-TYPE:  a/b \r\n\r\nhello"

static const struct {
	const char *title;
	struct exchange script[2];
	enum http_method method;
	uint32_t stall_ms;
	int error, status;
	int64_t content_length;
	const char *body, *type;
} answers[] = {
	{ "an answer",
	  { { SAY, OK_HELLO } },
	  HTTP_GET,
	  0,
	  0,
	  200,
	  5,
	  "hello",
	  "a/b" },
	{ "an answer to HEAD",
	  { { SAY, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" } },
	  HTTP_HEAD,
	  0,
	  0,
	  200,
	  99,
	  "",
	  "none" },
	{ "an answer without a length",
	  { { CLOSE, "HTTP/1.1 200 OK\r\n\r\nhello" } },
	  HTTP_GET,
	  0,
	  0,
	  200,
	  -1,
	  "hello",
	  "none" },
	{ "an answer in chunks",
	  { { SAY, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		   "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n" } },
	  HTTP_GET,
	  0,
	  0,
	  200,
	  -1,
	  "hello",
	  "none" },
	{ "100 Continue is no answer",
	  { { SAY,
	      "HTTP/1.1 100 Continue\r\nContent-Type: no\r\n\r\n" OK_HELLO } },
	  HTTP_GET,
	  0,
	  0,
	  200,
	  5,
	  "hello",
	  "a/b" },
	{ "a redirection is not followed",
	  { { SAY, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
		   "Content-Length: 0\r\n\r\n" } },
	  HTTP_GET,
	  0,
	  0,
	  302,
	  0,
	  "",
	  "none" },
	{ "a coded body is not decoded",
	  { { SAY, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
		   "Content-Length: 5\r\n\r\n\x1f\x8b\x08xy" } },
	  HTTP_GET,
	  0,
	  0,
	  200,
	  5,
	  "\x1f\x8b\x08xy",
	  "none" },
	{ "a page of the edge",
	  { { SAY, "HTTP/1.1 522 \r\nContent-Type: text/html\r\n"
		   "Content-Length: 6\r\n\r\n<html>" } },
	  HTTP_GET,
	  0,
	  0,
	  522,
	  6,
	  "<html>",
	  "text/html" },
	{ "cut within the body",
	  { { CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello" } },
	  HTTP_GET,
	  0,
	  -ECONNRESET,
	  200,
	  50,
	  "hello",
	  "none" },
	{ "reset within the body",
	  { { RESET, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello" } },
	  HTTP_GET,
	  0,
	  -ECONNRESET,
	  200,
	  50,
	  NULL,
	  "none" },
	{ "cut within a chunk",
	  { { CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		     "20\r\nhello" } },
	  HTTP_GET,
	  0,
	  -ECONNRESET,
	  200,
	  -1,
	  "hello",
	  "none" },
	{ "closed without an answer",
	  { { CLOSE, "" } },
	  HTTP_GET,
	  0,
	  -ECONNRESET,
	  0,
	  -1,
	  "",
	  "" },
	{ "reset without an answer",
	  { { RESET, "" } },
	  HTTP_GET,
	  0,
	  -ECONNRESET,
	  0,
	  -1,
	  "",
	  "" },
	{ "silence", { { HANG, "" } }, HTTP_GET, 300, -ETIMEDOUT, 0, -1, "", "" },
	{ "silence within the body",
	  { { HANG, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello" } },
	  HTTP_GET,
	  300,
	  -ETIMEDOUT,
	  200,
	  50,
	  "hello",
	  "none" },
	{ "a slow answer is not silence",
	  { { SAY_SLOWLY, OK_HELLO } },
	  HTTP_GET,
	  1000,
	  0,
	  200,
	  5,
	  "hello",
	  "a/b" },
};

static void test_answers(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		struct http *http;
		struct ask a;

		CASE(answers[i].title);
		server_start(answers[i].script);
		http = http_new();
		ask_init(&a, http, answers[i].method);
		a.req.stall_ms = answers[i].stall_ms;
		ask(&a);
		CHECK_INT(a.req.error, answers[i].error);
		CHECK_INT(a.req.error_text[0] != 0, answers[i].error != 0);
		CHECK_INT(a.req.status, answers[i].status);
		CHECK_INT(a.req.content_length, answers[i].content_length);
		if (answers[i].body)
			CHECK_STR(a.body.data, answers[i].body);
		CHECK_STR(a.type, answers[i].type);
		CHECK(a.req.sent && a.req.fresh_connection && !a.req.stale);
		CHECK(a.ns < 8000000000ull);
		CHECK_INT(server.requests, 1);
		ask_release(&a);
		http_destroy(http);
		server_stop();
	}
}

/* ---- what is sent ---- */

static void test_sent(void)
{
	static const struct exchange script[] = { { SAY, OK_HELLO }, { 0 } };
	static const struct http_header headers[] = { { "x-a", "1" },
						      { "x-empty", "" } };
	struct http *http;
	struct ask a;
	size_t n = 3 << 20;
	char *body = xcalloc(1, n);

	CASE("a large body: no Expect, a length, headers as given");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	a.req.headers = headers;
	a.req.nheaders = 2;
	a.req.body = memset(body, 'b', n);
	a.req.body_len = n;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK_INT(a.req.body_sent, n);
	CHECK(strncmp(server.seen.data, "PUT /p%20q?x=%2F HTTP/1.1\r\n", 26) ==
	      0);
	CHECK(strcasestr(server.seen.data, "\r\nexpect") == NULL);
	CHECK(strcasestr(server.seen.data, "\r\naccept") == NULL);
	CHECK(strstr(server.seen.data, "\r\nx-a: 1\r\n") != NULL);
	CHECK(strstr(server.seen.data, "\r\nx-empty:\r\n") != NULL);
	CHECK(strcasestr(server.seen.data, "\r\ncontent-length: 3145728\r\n") !=
	      NULL);
	CHECK(strcasestr(server.seen.data, "transfer-encoding") == NULL);
	CHECK(memcmp(server.seen.data + server.seen.len - n, body, n) == 0);
	ask_release(&a);
	http_destroy(http);
	server_stop();
	free(body);
}

/* What R2 allows of metadata may be hundreds of short pairs. */
static void test_many_headers(void)
{
	struct exchange script[2] = { { 0 } };
	struct buf text;
	struct http *http;
	struct ask a;

	CASE("hundreds of headers are kept, thousands are refused");
	for (unsigned n = 500; n <= 2000; n *= 4) {
		buf_init(&text, 1 << 20);
		buf_addstr(&text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
		for (unsigned i = 0; i < n; i++)
			buf_addf(&text, "x-amz-meta-%u: %u\r\n", i, i);
		buf_addstr(&text, "Content-Type: last/one\r\n\r\n");
		buf_addch(&text, 0);
		script[0] = (struct exchange){ SAY, text.data };
		server_start(script);
		http = http_new();
		ask_init(&a, http, HTTP_GET);
		ask(&a);
		if (n == 500) {
			CHECK_INT(a.req.error, 0);
			CHECK_STR(a.type, "last/one");
		} else {
			CHECK_INT(a.req.error, -EMSGSIZE);
		}
		ask_release(&a);
		http_destroy(http);
		server_stop();
		buf_release(&text);
	}
}

static void test_long_header(void)
{
	static const struct exchange script[] = { { SAY, OK_HELLO }, { 0 } };
	char value[12001];
	struct http_header header = { "x-long", value };
	struct http *http;
	struct ask a;

	CASE("a long header is not cut, an empty body has a length");
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_POST);
	a.req.headers = &header;
	a.req.nheaders = 1;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK(strstr(server.seen.data, value) != NULL);
	CHECK(strncmp(server.seen.data, "POST ", 5) == 0);
	CHECK(strcasestr(server.seen.data, "\r\ncontent-length: 0\r\n") !=
	      NULL);
	ask_release(&a);
	http_destroy(http);
	server_stop();
}

static void test_file(void)
{
	static const struct exchange script[] = { { SAY, OK_HELLO },
						  { SAY, OK_HELLO },
						  { 0 } };
	char path[] = "/tmp/r2fs-http-XXXXXX";
	int fd = mkstemp(path);
	struct http *http;
	struct ask a;

	CASE("a range of a file is sent");
	CHECK_INT(pwrite(fd, "0123456789", 10, 0), 10);
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	a.req.body_fd = fd;
	a.req.body_off = 2;
	a.req.body_len = 5;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK(strstr(server.seen.data, "\r\n\r\n23456") != NULL);
	ask_release(&a);

	CASE("a file that is too short is the body's fault");
	ask_init(&a, http, HTTP_PUT);
	a.req.body_fd = fd;
	a.req.body_off = 8;
	a.req.body_len = 5;
	ask(&a);
	CHECK_INT(a.req.error, -EBADMSG);
	CHECK(a.req.unreadable);
	ask_release(&a);
	http_destroy(http);
	server_stop();
	close(fd);
	unlink(path);
}

/* ---- connections ---- */

static void test_keep_alive(void)
{
	static const struct exchange script[] = { { SAY, OK_HELLO },
						  { SAY, OK_HELLO },
						  { 0 } };
	struct http *http;
	struct ask a;

	CASE("a connection is kept and used again");
	server_start(script);
	http = http_new();
	for (int i = 0; i < 2; i++) {
		ask_init(&a, http, HTTP_GET);
		ask(&a);
		CHECK_INT(a.req.error, 0);
		CHECK_INT(a.req.fresh_connection, i == 0);
		ask_release(&a);
	}
	CHECK_INT(server.connections, 1);
	http_destroy(http);
	server_stop();
}

static void test_stale(void)
{
	static const enum http_method methods[] = { HTTP_PUT, HTTP_POST,
						    HTTP_DELETE, HTTP_GET };
	static const struct exchange script[] = {
		{ SAY, OK_HELLO }, { RESET, "" }, { SAY, OK_HELLO }, { 0 }
	};

	CASE("a request on a connection that ends is not repeated in secret");
	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++) {
		struct http *http;
		struct ask a;

		server_start(script);
		http = http_new();
		ask_init(&a, http, HTTP_GET);
		ask(&a);
		CHECK_INT(a.req.error, 0);
		ask_release(&a);
		ask_init(&a, http, methods[i]);
		a.req.body = "body";
		a.req.body_len = methods[i] == HTTP_PUT ? 4 : 0;
		ask(&a);
		CHECK_INT(a.req.error, -ECONNRESET);
		CHECK(a.req.sent);
		CHECK(a.req.stale);
		CHECK_INT(server.requests, 2);
		ask_release(&a);
		ask_init(&a, http, HTTP_GET);
		ask(&a);
		CHECK_INT(a.req.error, 0);
		CHECK(!a.req.stale);
		CHECK_INT(server.requests, 3);
		ask_release(&a);
		http_destroy(http);
		server_stop();
	}
}

static void test_refused(void)
{
	static const struct exchange script[] = { { 0 } };
	struct http *http;
	struct ask a;

	CASE("a refused connection has sent nothing");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	server_stop();
	ask(&a);
	CHECK_INT(a.req.error, -ECONNREFUSED);
	CHECK(!a.req.sent && !a.req.stale);
	CHECK_INT(a.req.status, 0);
	ask_release(&a);
	http_destroy(http);
}

/* ---- time ---- */

static void test_slow_reader(void)
{
	static const struct exchange script[] = { { SIP, OK_HELLO }, { 0 } };
	size_t n = 1 << 20;
	struct http *http;
	struct ask a;

	CASE("bytes that wait in the kernel are moving while they drain");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	a.req.body = xcalloc(1, n);
	a.req.body_len = n;
	a.req.stall_ms = 700;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK(a.ns > 1000000000ull);
	free((void *)a.req.body);
	ask_release(&a);
	http_destroy(http);
	server_stop();
}

static void test_deadlines(void)
{
	static const struct exchange sip[] = { { SIP, OK_HELLO }, { 0 } };
	static const struct exchange deaf[] = { { DEAF, "" }, { 0 } };
	static const struct exchange slow[] = {
		{ SAY_SLOWLY, "HTTP/1.1 200\r\nContent-Length: 20\r\n\r\n"
			      "01234567890123456789" },
		{ 0 }
	};
	size_t n = 1 << 20;
	char *body = xcalloc(1, n);
	struct http *http;
	struct ask a;

	CASE("bytes sent put the deadline off");
	server_start(sip);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	a.req.body = body;
	a.req.body_len = n;
	a.req.deadline_ns = clock_mono_ns() + 500000000;
	a.req.byte_rate = 256 << 10;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK(a.ns > 600000000);
	ask_release(&a);
	http_destroy(http);
	server_stop();

	CASE("so do bytes received");
	server_start(slow);
	http = http_new();
	ask_init(&a, http, HTTP_GET);
	a.req.deadline_ns = clock_mono_ns() + 1200000000;
	a.req.byte_rate = 10;
	ask(&a);
	CHECK_INT(a.req.error, 0);
	CHECK(a.ns > 1300000000);
	ask_release(&a);
	http_destroy(http);
	server_stop();

	CASE("a body that nobody takes does not");
	server_start(deaf);
	http = http_new();
	ask_init(&a, http, HTTP_PUT);
	a.req.body = body;
	a.req.body_len = n;
	a.req.deadline_ns = clock_mono_ns() + 300000000;
	ask(&a);
	CHECK_INT(a.req.error, -ETIMEDOUT);
	CHECK(a.ns > 250000000 && a.ns < 2000000000);
	ask_release(&a);
	http_destroy(http);
	server_stop();
	free(body);
}

static void test_cancel(void)
{
	static const struct exchange script[] = { { HANG, "" }, { 0 } };
	struct http *http;
	struct ask a, later;

	CASE("a request can be cancelled, before and after its start");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_GET);
	ask_init(&later, http, HTTP_GET);
	later.req.not_before_ns = clock_mono_ns() + 5000000000ull;
	ask_start(&a);
	ask_start(&later);
	usleep(100000);
	http_cancel(http, &a.req);
	http_cancel(http, &later.req);
	ask_wait(&a);
	ask_wait(&later);
	CHECK_INT(a.req.error, -ECANCELED);
	CHECK_INT(later.req.error, -ECANCELED);
	CHECK(!later.req.sent);
	CHECK(a.ns < 2000000000 && later.ns < 2000000000);
	ask_release(&a);
	ask_release(&later);
	http_destroy(http);
	server_stop();

	CASE("the end of the transport ends its requests");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_GET);
	ask_start(&a);
	usleep(100000);
	http_destroy(http);
	ask_wait(&a);
	CHECK_INT(a.req.error, -ECANCELED);
	ask_release(&a);
	server_stop();
}

static void test_refuse_head(void)
{
	static const struct exchange script[] = { { SAY, OK_HELLO }, { 0 } };
	struct http *http;
	struct ask a;

	CASE("a head the caller refuses brings no body");
	server_start(script);
	http = http_new();
	ask_init(&a, http, HTTP_GET);
	a.head_says = -EBADMSG;
	ask(&a);
	CHECK_INT(a.req.error, -EBADMSG);
	CHECK_INT(a.body.len, 0);
	ask_release(&a);
	http_destroy(http);
	server_stop();
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_answers();
	test_sent();
	test_many_headers();
	test_long_header();
	test_file();
	test_keep_alive();
	test_stale();
	test_refused();
	test_slow_reader();
	test_deadlines();
	test_cancel();
	test_refuse_head();
	return check_done();
}
