/*
 * Options. Secrets come from files, never from the command line.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "r2sim.h"

static struct credentials given;
static const char *log_path;

static char *read_secret(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[4096];

	if (!f || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "r2sim: cannot read %s: %s\n", path,
			f ? "it is empty" : strerror(errno));
		exit(1);
	}
	fclose(f);
	line[strcspn(line, "\r\n")] = 0;
	return xstrdup(line);
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

/* NAME=VALUE,... */
static void set_limits(char *list)
{
	char *word;

	while ((word = strsep(&list, ","))) {
		char *value = strchr(word, '=');

		if (value)
			*value++ = 0;
		if (!value || !limit_set(word, value)) {
			fprintf(stderr,
				"r2sim: --limits takes write=off|"
				"overlap|second, reads=N, parts=N, "
				"total=N, page=N, not %s\n",
				word);
			exit(2);
		}
	}
}

static void set_scope(const char *s)
{
	static const char *const names[] = { "admin", "object", "read" };

	for (int i = 0; i < 3; i++) {
		if (strcmp(s, names[i]) == 0) {
			token_scope = i;
			return;
		}
	}
	fprintf(stderr, "r2sim: --scope is admin, object or read\n");
	exit(2);
}

static void set_data(char *dir)
{
	data_dir = dir;
	buckets_load();
}

static void set_bucket(const char *name)
{
	if (!data_dir) {
		fprintf(stderr, "r2sim: --data comes before --bucket\n");
		exit(2);
	}
	if (!bucket_find(name))
		bucket_add(name, NULL);
}

enum {
	O_PORT = 256,
	O_DATA,
	O_BUCKET,
	O_KEY,
	O_SECRET,
	O_TOKEN,
	O_SCOPE,
	O_LATENCY,
	O_BANDWIDTH,
	O_FAULTS,
	O_SYNTHETIC,
	O_PREFIX,
	O_DOMAIN,
	O_LIMITS,
	O_LOG,
	O_DIE
};

static const struct option long_options[] = {
	{ "port", 1, NULL, O_PORT },
	{ "data", 1, NULL, O_DATA },
	{ "bucket", 1, NULL, O_BUCKET },
	{ "access-key", 1, NULL, O_KEY },
	{ "secret-key-file", 1, NULL, O_SECRET },
	{ "session-token-file", 1, NULL, O_TOKEN },
	{ "scope", 1, NULL, O_SCOPE },
	{ "latency-ms", 1, NULL, O_LATENCY },
	{ "conn-bandwidth", 1, NULL, O_BANDWIDTH },
	{ "faults", 1, NULL, O_FAULTS },
	{ "synthetic", 1, NULL, O_SYNTHETIC },
	{ "path-prefix", 1, NULL, O_PREFIX },
	{ "domain", 1, NULL, O_DOMAIN },
	{ "limits", 1, NULL, O_LIMITS },
	{ "log", 1, NULL, O_LOG },
	{ "die-with-parent", 0, NULL, O_DIE },
	{ NULL, 0, NULL, 0 },
};

static void set_option(int o, char *value)
{
	switch (o) {
	case O_DATA:
		set_data(value);
		break;
	case O_BUCKET:
		set_bucket(value);
		break;
	case O_KEY:
		given.access_key = value;
		break;
	case O_SECRET:
		given.secret = read_secret(value);
		break;
	case O_TOKEN:
		given.session_token = read_secret(value);
		break;
	case O_SCOPE:
		set_scope(value);
		break;
	case O_LATENCY:
		latency_ms = atoi(value);
		break;
	case O_BANDWIDTH:
		conn_bandwidth = strtoull(value, NULL, 10);
		break;
	case O_FAULTS:
		load_faults(value);
		break;
	case O_SYNTHETIC:
		add_synthetic(value);
		break;
	case O_PREFIX:
		path_prefix = value;
		break;
	case O_DOMAIN:
		domain = value;
		break;
	case O_LIMITS:
		set_limits(value);
		break;
	case O_LOG:
		log_path = value;
		break;
	case O_DIE:
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		break;
	default:
		exit(2);
	}
}

static unsigned parse_options(int argc, char **argv)
{
	unsigned port = 0;
	int o;

	while ((o = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (o == O_PORT)
			port = atoi(optarg);
		else
			set_option(o, optarg);
	}
	if (!data_dir || optind < argc || !given.access_key != !given.secret) {
		fprintf(stderr, "usage: r2sim --data DIR --bucket NAME "
				"[--access-key ID --secret-key-file FILE] ...: "
				"see test/r2sim/README.md\n");
		exit(2);
	}
	if (given.access_key)
		credentials = &given;
	return port;
}

int main(int argc, char **argv)
{
	const union MHD_DaemonInfo *info;
	struct MHD_Daemon *d;
	sigset_t set;
	unsigned port;
	int sig;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_TIMERSLACK, 1);
	mallopt(M_MMAP_THRESHOLD, 16 << 20); /* pieces are asked for often */
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	port = parse_options(argc, argv);
	count_open(log_path);
	d = http_start(port);
	if (!d) {
		fprintf(stderr, "r2sim: cannot listen on port %u: %s\n", port,
			strerror(errno));
		return 1;
	}
	info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
	printf("listening %u\n", info ? info->port : 0);
	fflush(stdout);
	sigwait(&set, &sig);
	MHD_stop_daemon(d);
	return 0;
}
