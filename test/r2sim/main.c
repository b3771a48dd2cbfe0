/*
 * Options and the HTTP side. One thread per connection: latency and a
 * bandwidth cap are then plain sleeps, and hundreds of connections are as
 * many as a test needs.
 */
#include <errno.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "r2sim.h"

uint64_t conn_bandwidth;
int latency_ms;

static const char *path_prefix = "";

/* ---- text ---- */

void text_add_bytes(struct text *t, const char *s, size_t n)
{
	if (t->len + n + 1 > t->cap) {
		t->cap = (t->len + n + 1) * 2;
		t->s = realloc(t->s, t->cap);
		if (!t->s)
			abort();
	}
	memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = 0;
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	text_add_bytes(t, s, n);
	free(s);
}

void text_add_encoded(struct text *t, const char *s)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
				    "qrstuvwxyz0123456789-._~";

	for (; *s; s++) {
		if (strchr(plain, *s))
			text_add_bytes(t, s, 1);
		else
			text_add(t, "%%%02X", (unsigned char)*s);
	}
}

void text_add_xml(struct text *t, const char *s)
{
	for (; *s; s++) {
		if (strchr("<>&\"'", *s))
			text_add(t, "&#%d;", *s);
		else
			text_add_bytes(t, s, 1);
	}
}

void text_free(struct text *t)
{
	free(t->s);
	memset(t, 0, sizeof(*t));
}

char *percent_decode(const char *s)
{
	char *out = malloc(strlen(s) + 1), *o = out;
	unsigned c;

	for (; *s; s++, o++) {
		if (*s != '%') {
			*o = *s;
		} else if (sscanf(s + 1, "%2x", &c) == 1 && s[1] && s[2]) {
			*o = c;
			s += 2;
		} else {
			free(out);
			return NULL;
		}
	}
	*o = 0;
	return out;
}

/* ---- requests ---- */

const char *req_header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND,
					   name);
}

const char *req_arg(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection,
					   MHD_GET_ARGUMENT_KIND, name);
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *c)
{
	struct request *r = calloc(1, sizeof(*r));
	size_t n = strcspn(uri, "?");

	r->connection = c;
	r->raw_path = strndup(uri, n);
	r->raw_query = strdup(uri[n] ? uri + n + 1 : "");
	return r;
}

static size_t unescape(void *cls, struct MHD_Connection *c, char *s)
{
	char *d = percent_decode(s);

	if (d) {
		strcpy(s, d);
		free(d);
	}
	return strlen(s);
}

static void split_path(struct request *r)
{
	const char *p = r->raw_path;
	const char *slash;
	char *bucket;

	if (strncmp(p, path_prefix, strlen(path_prefix)) == 0)
		p += strlen(path_prefix);
	if (*p++ != '/' || !*p)
		return;
	slash = strchr(p, '/');
	bucket = slash ? strndup(p, slash - p) : strdup(p);
	r->bucket = percent_decode(bucket);
	free(bucket);
	if (slash && slash[1])
		r->key = percent_decode(slash + 1);
}

static void begin(struct request *r, const char *method)
{
	static unsigned serial;

	r->method = method;
	split_path(r);
	if (strcmp(method, "PUT") != 0 && strcmp(method, "POST") != 0)
		return;
	r->md5 = EVP_MD_CTX_new();
	EVP_DigestInit_ex(r->md5, EVP_md5(), NULL);
	snprintf(r->body_path, sizeof(r->body_path), "%s/upload-%u", data_dir,
		 __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	r->body = fopen(r->body_path, "w");
}

static void control(struct request *r)
{
	const char *what = r->raw_path + strlen("/_r2sim/");
	const char *ms = req_arg(r, "ms"), *bw = req_arg(r, "bytes");
	struct text t = { 0 };

	r->op = NULL;
	if (!strcmp(what, "reset")) {
		count_reset();
	} else if (!strcmp(what, "latency") && ms) {
		latency_ms = atoi(ms);
	} else if (!strcmp(what, "bandwidth") && bw) {
		conn_bandwidth = strtoull(bw, NULL, 10);
	} else if (!strcmp(what, "faults") && r->body) {
		char rules[65536];
		size_t n;
		int bad;

		fclose(r->body);
		r->body = fopen(r->body_path, "r");
		n = fread(rules, 1, sizeof(rules) - 1, r->body);
		rules[n] = 0;
		clock_offset_s = 0;
		bad = fault_load(rules);
		if (bad)
			text_add(&t, "{\"bad_line\": %d}\n", bad);
	} else if (strcmp(what, "stats") != 0) {
		op_error(r, 404, "RouteNotFound", what);
		return;
	}
	if (!t.len)
		count_json(&t);
	r->status = 200;
	r->response = MHD_create_response_from_buffer(t.len, t.s,
						      MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result answer(struct request *r)
{
	enum MHD_Result result;

	if (strncmp(r->raw_path, "/_r2sim/", 8) == 0) {
		control(r);
	} else {
		op_handle(r);
		count_request(r->op, r->status);
		if (latency_ms || r->wait_ms)
			usleep((latency_ms + r->wait_ms) * 1000);
	}
	MHD_add_response_header(r->response, "Server", "r2sim");
	result = MHD_queue_response(r->connection, r->status, r->response);
	MHD_destroy_response(r->response);
	r->answered = true;
	return result;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **arg)
{
	struct request *r = *arg;

	if (!r->method) {
		begin(r, method);
		return MHD_YES;
	}
	if (*size) {
		if (r->body) {
			fwrite(data, 1, *size, r->body);
			EVP_DigestUpdate(r->md5, data, *size);
			r->body_len += *size;
		}
		*size = 0;
		return MHD_YES;
	}
	return r->answered ? MHD_YES : answer(r);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **arg,
			 enum MHD_RequestTerminationCode why)
{
	struct request *r = *arg;

	if (!r)
		return;
	if (r->body)
		fclose(r->body);
	if (r->body_path[0])
		unlink(r->body_path);
	EVP_MD_CTX_free(r->md5);
	free(r->raw_path);
	free(r->raw_query);
	free(r->bucket);
	free(r->key);
	free(r);
	*arg = NULL;
}

/* ---- start ---- */

static char *read_secret(const char *path)
{
	char line[256];
	FILE *f = fopen(path, "r");

	if (!f || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "r2sim: cannot read %s\n", path);
		exit(1);
	}
	fclose(f);
	line[strcspn(line, "\r\n")] = 0;
	return strdup(line);
}

/* BUCKET:PREFIX:COUNT:SIZE[:PER_FOLDER] */
static void add_synthetic(char *spec)
{
	char *bucket = strsep(&spec, ":"), *prefix = strsep(&spec, ":");
	char *count = strsep(&spec, ":"), *size = strsep(&spec, ":");
	struct bucket *b = size ? bucket_find(bucket) : NULL;

	if (!b) {
		fprintf(stderr, "r2sim: --synthetic BUCKET:PREFIX:COUNT:SIZE"
				"[:PER_FOLDER] with a --bucket named before\n");
		exit(2);
	}
	bucket_fake(b, prefix, strtoull(count, NULL, 10),
		    strtoull(size, NULL, 10),
		    spec ? strtoull(spec, NULL, 10) : 0);
}

enum { O_PORT = 256, O_DATA, O_BUCKET, O_KEY, O_SECRET, O_TOKEN, O_LATENCY,
       O_BANDWIDTH, O_FAULTS, O_SYNTHETIC, O_PREFIX, O_DIE };

static const struct option long_options[] = {
	{ "port", 1, NULL, O_PORT },
	{ "data", 1, NULL, O_DATA },
	{ "bucket", 1, NULL, O_BUCKET },
	{ "access-key", 1, NULL, O_KEY },
	{ "secret-key-file", 1, NULL, O_SECRET },
	{ "session-token-file", 1, NULL, O_TOKEN },
	{ "latency-ms", 1, NULL, O_LATENCY },
	{ "conn-bandwidth", 1, NULL, O_BANDWIDTH },
	{ "faults", 1, NULL, O_FAULTS },
	{ "synthetic", 1, NULL, O_SYNTHETIC },
	{ "path-prefix", 1, NULL, O_PREFIX },
	{ "die-with-parent", 0, NULL, O_DIE },
	{ NULL, 0, NULL, 0 },
};

static void load_faults(const char *path)
{
	char rules[65536];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(rules, 1, sizeof(rules) - 1, f) : 0;
	int bad;

	rules[n] = 0;
	bad = f ? fault_load(rules) : 1;
	if (bad) {
		fprintf(stderr, "r2sim: %s line %d: not a fault rule\n", path,
			bad);
		exit(2);
	}
	fclose(f);
}

static int parse_options(int argc, char **argv)
{
	int o, port = 0;

	while ((o = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (o) {
		case O_PORT:
			port = atoi(optarg);
			break;
		case O_DATA:
			data_dir = optarg;
			break;
		case O_BUCKET:
			if (!data_dir) {
				fprintf(stderr, "r2sim: --data comes first\n");
				exit(2);
			}
			bucket_add(optarg);
			break;
		case O_KEY:
			credentials.access_key = optarg;
			break;
		case O_SECRET:
			credentials.secret = read_secret(optarg);
			break;
		case O_TOKEN:
			credentials.session_token = read_secret(optarg);
			break;
		case O_LATENCY:
			latency_ms = atoi(optarg);
			break;
		case O_BANDWIDTH:
			conn_bandwidth = strtoull(optarg, NULL, 10);
			break;
		case O_FAULTS:
			load_faults(optarg);
			break;
		case O_SYNTHETIC:
			add_synthetic(optarg);
			break;
		case O_PREFIX:
			path_prefix = optarg;
			break;
		case O_DIE:
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			break;
		default:
			exit(2);
		}
	}
	if (!data_dir || optind < argc ||
	    !credentials.access_key != !credentials.secret) {
		fprintf(stderr, "usage: r2sim --data DIR --bucket NAME "
				"[--access-key ID --secret-key-file FILE] ...: "
				"see test/r2sim/README.md\n");
		exit(2);
	}
	return port;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	const union MHD_DaemonInfo *info;
	struct MHD_Daemon *d;
	sigset_t set;
	int sig;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	a.sin_port = htons(parse_options(argc, argv));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	d = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
			MHD_USE_POLL | MHD_USE_TCP_FASTOPEN,
		0, NULL, NULL, on_request, NULL, MHD_OPTION_SOCK_ADDR, &a,
		MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_CONNECTION_LIMIT, 2048u,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)524288,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)262144, MHD_OPTION_END);
	if (!d) {
		fprintf(stderr, "r2sim: cannot listen: %s\n", strerror(errno));
		return 1;
	}
	info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
	printf("listening %u\n", info ? info->port : 0);
	fflush(stdout);
	sigwait(&set, &sig);
	MHD_stop_daemon(d);
	return 0;
}
