/*
 * The table is the only place that knows an option; the parser, the help, the
 * manual and the completion walk it. A value is checked where it is parsed,
 * so an error can name the option and what would have been accepted.
 */
#include "config_impl.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* zarr, pip, git, rsync, sed, Python's tempfile and byte code, editors */
#define TEMPORARY_NAMES \
	"*.partial:*.tmp:*.tmp.*:.tmp*:*.part:tmp_obj_*:tmp_pack_*:tmp_idx_*:" \
	".*.??????:sed??????:tmp????????:*.pyc.*"

#define AT(field) offsetof(struct config, field)
#define ANY	  0, UINT64_MAX

static const struct option options[] = {
	{ { "account-id", "ID", NULL, NULL,
	    "Cloudflare account, 32 hex digits; its endpoint is used "
	    "(environment: R2_ACCOUNT_ID)" },
	  STRING,
	  AT(account_id),
	  ANY },
	{ { "jurisdiction", "NAME", NULL, "default eu fedramp us",
	    "where the bucket is kept: a bucket of a jurisdiction is "
	    "reachable only there" },
	  STRING,
	  AT(jurisdiction),
	  ANY },
	{ { "endpoint", "URL", NULL, NULL,
	    "another S3 endpoint, https://HOST[:PORT][/PREFIX] (environment: "
	    "R2_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL)" },
	  STRING,
	  AT(endpoint),
	  ANY },
	{ { "region", "NAME", "auto", NULL,
	    "region that requests are signed for" },
	  STRING,
	  AT(region),
	  ANY },
	{ { "allow-http", NULL, NULL, NULL,
	    "accept a plain http endpoint that is not on this machine" },
	  FLAG,
	  AT(allow_http),
	  ANY },
	{ { "ca-bundle", "FILE", NULL, NULL,
	    "certificates to trust instead of the system's" },
	  STRING,
	  AT(ca_bundle),
	  ANY },
	{ { "credentials", "FILE", NULL, NULL,
	    "file of mode 600 with one line ACCESS_KEY_ID:SECRET_ACCESS_KEY; "
	    "else --profile, else the environment R2_ACCESS_KEY_ID, "
	    "R2_SECRET_ACCESS_KEY, R2_SESSION_TOKEN, else the AWS_* names, else "
	    "$CREDENTIALS_DIRECTORY/r2fs, else the AWS shared files" },
	  STRING,
	  AT(credentials),
	  ANY },
	{ { "profile", "NAME", NULL, NULL, "profile in the AWS shared files" },
	  STRING,
	  AT(profile),
	  ANY },
	{ { "cache-dir", "DIR", NULL, NULL,
	    "cache folder on a local disk (default /var/cache/r2fs for root, "
	    "else $XDG_CACHE_HOME/r2fs)" },
	  STRING,
	  AT(cache_dir),
	  ANY },
	{ { "cache-size", "SIZE", "100G", NULL,
	    "most bytes the cache may take on disk" },
	  SIZE,
	  AT(cache_size),
	  16 << 20,
	  UINT64_MAX },
	{ { "min-free", "SIZE", "1G", NULL,
	    "bytes the cache leaves free on its file system" },
	  SIZE,
	  AT(min_free),
	  ANY },
	{ { "memory", "SIZE", "512M", NULL,
	    "most bytes of data buffers in memory; names may take an "
	    "eighth of it besides" },
	  SIZE,
	  AT(memory),
	  16 << 20,
	  UINT64_MAX },
	{ { "metadata-ttl", "TIME", "60", NULL,
	    "how long names and attributes are believed without asking: "
	    "minimal, a time in seconds, or indefinite" },
	  TTL,
	  AT(metadata_ttl_ns),
	  ANY },
	{ { "negative-ttl", "TIME", "5", NULL,
	    "the same for a name that does not exist, outside a folder listed "
	    "to its end" },
	  TTL,
	  AT(negative_ttl_ns),
	  ANY },
	{ { "preset", "NAME", NULL, "training serving",
	    "defaults for a purpose: training (metadata-ttl indefinite, memory "
	    "1G) or serving (metadata-ttl 600)" },
	  STRING,
	  AT(preset),
	  ANY },
	{ { "read-only", NULL, NULL, NULL, "refuse every change" },
	  FLAG,
	  AT(read_only),
	  ANY },
	{ { "writeback", NULL, NULL, NULL,
	    "close and fsync return when the bytes are safe on local disk; the "
	    "upload follows, also after a crash" },
	  FLAG,
	  AT(writeback),
	  ANY },
	{ { "part-size", "SIZE", "0", NULL,
	    "part of a multipart upload, 5M to 5115M (0: by the file's size)" },
	  SIZE,
	  AT(part_size),
	  0,
	  5115ull << 20 },
	{ { "temporary-names", "LIST", TEMPORARY_NAMES, NULL,
	    "patterns, separated by colons, of files that programs write and "
	    "then rename: they are uploaded once, by the rename, or after half "
	    "a minute" },
	  STRING,
	  AT(temporary_names),
	  ANY },
	{ { "lock-names", "LIST", "*.lock:*.lck:*.pid:*.LOCK:lock:LOCK", NULL,
	    "patterns, separated by colons, of files that O_EXCL takes in R2 "
	    "at once; others it takes when they are closed" },
	  STRING,
	  AT(lock_names),
	  ANY },
	{ { "uid", "UID", NULL, NULL,
	    "owner, by number, of files that name none (default: who mounts)" },
	  NUMBER,
	  AT(uid),
	  0,
	  UINT32_MAX - 1 },
	{ { "gid", "GID", NULL, NULL,
	    "group, by number, of files that name none (default: who mounts)" },
	  NUMBER,
	  AT(gid),
	  0,
	  UINT32_MAX - 1 },
	{ { "file-mode", "MODE", "644", NULL,
	    "permissions of files that name none" },
	  OCTAL,
	  AT(file_mode),
	  0,
	  07777 },
	{ { "dir-mode", "MODE", "755", NULL, "permissions of folders" },
	  OCTAL,
	  AT(dir_mode),
	  0,
	  07777 },
	{ { "umask", "MASK", "0", NULL,
	    "permission bits taken away from everything" },
	  OCTAL,
	  AT(umask),
	  0,
	  07777 },
	{ { "allow-other", NULL, NULL, NULL,
	    "let other users in; permissions are checked by the kernel" },
	  FLAG,
	  AT(allow_other),
	  ANY },
	{ { "io-uring", NULL, NULL, NULL,
	    "take requests through io_uring, if libfuse (3.18) and the kernel "
	    "(6.14, its parameter fuse.enable_uring) can: faster opens of "
	    "cached files, but at most 64 requests wait for R2 at a time" },
	  FLAG,
	  AT(io_uring),
	  ANY },
	{ { "max-connections", "N", "64", NULL, "connections to R2" },
	  NUMBER,
	  AT(max_connections),
	  1,
	  1024 },
	{ { "network-threads", "N", "0", NULL,
	    "threads that share the connections to R2 (0: one for every four "
	    "processors, at most four)" },
	  NUMBER,
	  AT(network_threads),
	  0,
	  16 },
	{ { "ahead-files", "N", "48", NULL,
	    "files fetched at once before they are asked for, where a reader "
	    "takes them in order; at most 3/4 of the connections, 0: none, and "
	    "no folders listed ahead either" },
	  NUMBER,
	  AT(ahead_files),
	  0,
	  64 },
	{ { "offline-ok", NULL, NULL, NULL,
	    "while R2 cannot be reached, show what is cached as it was last "
	    "seen, however old; reads give up after 5 seconds without an "
	    "answer" },
	  FLAG,
	  AT(offline_ok),
	  ANY },
	{ { "deadline", "TIME", "30", NULL,
	    "longest time of one request with its retries" },
	  DURATION,
	  AT(deadline_ns),
	  ANY },
	{ { "log-level", "LEVEL", "info", "error warn info debug",
	    "how much is logged" },
	  STRING,
	  AT(log_level),
	  ANY },
	{ { "log-file", "FILE", NULL, NULL,
	    "where log lines go: a file, syslog, or - for standard error "
	    "(default: syslog, or standard error with -f)" },
	  STRING,
	  AT(log_file),
	  ANY },
	{ { "foreground", NULL, NULL, NULL, "stay in the foreground (-f)" },
	  FLAG,
	  AT(foreground),
	  ANY },
};

/*
 * Words of mount(8) and fstab(5) beside our options. nosuid and nodev always
 * hold and access times are not kept, so what says otherwise is ignored.
 */
static const char *const kernel_words[] = {
	"noexec", "noatime", "nodiratime", "sync", "dirsync",
};
static const char *const ignored_words[] = {
	"defaults",
	"auto",
	"noauto",
	"user",
	"nouser",
	"users",
	"owner",
	"group",
	"nofail",
	"_netdev",
	"default_permissions",
	"nonempty",
	"exec",
	"dev",
	"nodev",
	"suid",
	"nosuid",
	"async",
	"atime",
	"diratime",
	"relatime",
	"norelatime",
	"strictatime",
	"nostrictatime",
	"lazytime",
	"nolazytime",
	"silent",
	"loud",
};
static const char *const ignored_starts[] = {
	"x-", "X-", "comment=", "user=", "uhelper=", "helper=",
};

const struct config_option *config_option(unsigned i)
{
	return i < ARRAY_SIZE(options) ? &options[i].shown : NULL;
}

void config_init(struct config *c)
{
	memset(c, 0, sizeof(*c));
	c->uid = getuid();
	c->gid = getgid();
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].shown.initial &&
		    !option_set(c, &options[i], options[i].shown.initial))
			BUG("default of --%s", options[i].shown.name);
}

void config_release(struct config *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].type == STRING)
			free(*(char **)option_field(c, &options[i]));
	free(c->kernel_options);
	free(c->bucket);
	free(c->prefix);
	free(c->mountpoint);
	free(c->url);
	memset(c, 0, sizeof(*c));
}

/* ---- parsing ---- */

struct parser {
	struct config *c;
	bool given[ARRAY_SIZE(options)];
	char *why;
	size_t why_len;
};

static unsigned distance(const char *a, const char *b)
{
	unsigned n = strlen(b), row[64];

	if (n >= ARRAY_SIZE(row))
		return UINT32_MAX;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned up = row[j];
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = up;
			row[j] = best;
		}
	}
	return row[n];
}

static int unknown(struct parser *p, const char *name)
{
	unsigned best = strlen(name) / 3 + 1;
	const char *nearest = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		unsigned d = distance(name, options[i].shown.name);

		if (d < best) {
			best = d;
			nearest = options[i].shown.name;
		}
	}
	snprintf(p->why, p->why_len,
		 nearest ? "unknown option \"%.40s\": did you mean --%s?" :
			   "unknown option \"%.40s\": see r2fs mount --help",
		 name, nearest);
	return -EINVAL;
}

/* name_len bytes of name match an option, '_' standing for '-' too. */
static const struct option *find(const char *name, size_t n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		const char *o = options[i].shown.name;
		size_t k = 0;

		while (k < n && o[k] &&
		       (name[k] == o[k] || (name[k] == '_' && o[k] == '-')))
			k++;
		if (k == n && !o[k])
			return &options[i];
	}
	return NULL;
}

static int set(struct parser *p, const struct option *o, const char *value)
{
	struct buf b;

	p->given[o - options] = true;
	if (option_set(p->c, o, value ? value : ""))
		return 0;
	buf_init(&b, 1024);
	buf_addf(&b, "--%s does not take \"%.60s\": give ", o->shown.name,
		 value ? value : "");
	option_accepted(o, &b);
	snprintf(p->why, p->why_len, "%s", b.data);
	buf_release(&b);
	return -EINVAL;
}

static bool among(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

static void add_kernel_option(struct config *c, const char *word)
{
	char *all = c->kernel_options ?
			    xasprintf("%s,%s", c->kernel_options, word) :
			    xstrdup(word);

	free(c->kernel_options);
	c->kernel_options = all;
}

static bool is_ignored(const char *word)
{
	for (unsigned i = 0; i < ARRAY_SIZE(ignored_starts); i++)
		if (strncmp(word, ignored_starts[i],
			    strlen(ignored_starts[i])) == 0)
			return true;
	return !*word || among(word, ignored_words, ARRAY_SIZE(ignored_words));
}

static int parse_word(struct parser *p, char *word)
{
	char *value = strchr(word, '=');
	const struct option *o;

	if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0) {
		p->c->read_only = word[1] == 'o';
		return 0;
	}
	if (among(word, kernel_words, ARRAY_SIZE(kernel_words))) {
		add_kernel_option(p->c, word);
		return 0;
	}
	if (is_ignored(word))
		return 0;
	if (value)
		*value++ = 0;
	o = find(word, strlen(word));
	if (!o)
		return p->c->sloppy ? 0 : unknown(p, word);
	if (!value == (o->type == FLAG))
		return set(p, o, value);
	if (value)
		snprintf(p->why, p->why_len,
			 "-o %s takes no value: leave out \"=%.40s\"", word,
			 value);
	else
		snprintf(p->why, p->why_len, "-o %s needs a value: -o %s=%s",
			 word, word, o->shown.placeholder);
	return -EINVAL;
}

static int parse_words(struct parser *p, const char *list)
{
	CLEANUP(free) char *copy = xstrdup(list);
	char *rest = copy, *word;
	int err = 0;

	while (!err && (word = strsep(&rest, ",")))
		err = parse_word(p, word);
	return err;
}

static int parse_long(struct parser *p, const char *arg, const char *next,
		      int *used)
{
	size_t n = strcspn(arg, "=");
	const struct option *o = find(arg, n);
	const char *value = arg[n] ? arg + n + 1 : NULL;

	if (!o)
		return unknown(p, arg);
	if (o->type != FLAG && !value) {
		value = next;
		(*used)++;
	}
	if (!value == (o->type == FLAG))
		return set(p, o, value);
	if (value)
		snprintf(p->why, p->why_len,
			 "--%s takes no value: leave out \"=%.40s\"",
			 o->shown.name, value);
	else
		snprintf(p->why, p->why_len, "--%s needs a value: --%s %s",
			 o->shown.name, o->shown.name, o->shown.placeholder);
	return -EINVAL;
}

static const struct {
	const char *preset, *option, *value;
} presets[] = {
	{ "training", "metadata-ttl", "indefinite" },
	{ "training", "memory", "1G" },
	{ "serving", "metadata-ttl", "600" },
};

static void apply_preset(struct parser *p)
{
	for (unsigned i = 0; p->c->preset && i < ARRAY_SIZE(presets); i++) {
		const struct option *o =
			find(presets[i].option, strlen(presets[i].option));

		if (strcmp(presets[i].preset, p->c->preset) == 0 &&
		    !p->given[o - options] &&
		    !option_set(p->c, o, presets[i].value))
			BUG("preset %s", p->c->preset);
	}
}

/* One argument that begins with '-'; *i moves past its value. */
static int parse_option(struct parser *p, int argc, char **argv, int *i)
{
	const char *a = argv[*i], *next = *i + 1 < argc ? argv[*i + 1] : NULL;

	if (a[1] == '-')
		return parse_long(p, a + 2, next, i);
	if (strcmp(a, "-f") == 0) {
		p->c->foreground = true;
		return 0;
	}
	if (strncmp(a, "-o", 2) != 0)
		return unknown(p, a);
	if (a[2])
		return parse_words(p, a + 2);
	if (next) {
		++*i;
		return parse_words(p, next);
	}
	snprintf(p->why, p->why_len,
		 "-o needs options after it: -o name=value,...");
	return -EINVAL;
}

int config_parse(struct config *c, int argc, char **argv, const char **operands,
		 unsigned max_operands, unsigned *noperands, char *why,
		 size_t why_len)
{
	struct parser p = { .c = c, .why = why, .why_len = why_len };
	bool only_operands = false;
	int err = 0;

	*noperands = 0;
	for (int i = 1; i < argc && !err; i++) {
		const char *a = argv[i];

		if (!only_operands && strcmp(a, "--") == 0) {
			only_operands = true;
		} else if (!only_operands && a[0] == '-' && a[1]) {
			err = parse_option(&p, argc, argv, &i);
		} else if (*noperands < max_operands) {
			operands[(*noperands)++] = a;
		} else {
			snprintf(why, why_len,
				 "one operand too many: \"%.60s\"", a);
			err = -EINVAL;
		}
	}
	if (!err)
		apply_preset(&p);
	return err;
}
