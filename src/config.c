/*
 * The table is the only place that knows an option; the parser, the help and
 * the manual walk it. A value is checked where it is parsed, so an error can
 * name the option and what would have been accepted.
 */
#include "config.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "r2/r2.h"

enum type { STRING, FLAG, SIZE, NUMBER, OCTAL, DURATION, TTL };

struct option {
	const char *name;
	enum type type;
	size_t offset;
	uint64_t min, max;
	const char *initial; /* default, as it would be typed; NULL none */
	const char *placeholder;
	const char *help;
};

#define AT(field) offsetof(struct config, field)
#define ANY 0, UINT64_MAX

static const struct option options[] = {
	{ "account-id", STRING, AT(account_id), ANY, NULL, "ID",
	  "Cloudflare account; its endpoint is used (environment: "
	  "R2_ACCOUNT_ID)" },
	{ "jurisdiction", STRING, AT(jurisdiction), ANY, NULL, "NAME",
	  "eu, fedramp or us: a bucket of a jurisdiction is reachable only "
	  "there" },
	{ "endpoint", STRING, AT(endpoint), ANY, NULL, "URL",
	  "another S3 endpoint, https://HOST[:PORT][/PREFIX] (environment: "
	  "R2_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL)" },
	{ "region", STRING, AT(region), ANY, "auto", "NAME",
	  "region that requests are signed for" },
	{ "allow-http", FLAG, AT(allow_http), ANY, NULL, NULL,
	  "accept a plain http endpoint that is not on this machine" },
	{ "ca-bundle", STRING, AT(ca_bundle), ANY, NULL, "FILE",
	  "certificates to trust instead of the system's" },
	{ "credentials", STRING, AT(credentials), ANY, NULL, "FILE",
	  "file of mode 600 with one line ACCESS_KEY_ID:SECRET_ACCESS_KEY; "
	  "else the environment R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, "
	  "R2_SESSION_TOKEN, else the AWS_* names, else "
	  "$CREDENTIALS_DIRECTORY/r2fs, else the AWS shared files" },
	{ "profile", STRING, AT(profile), ANY, NULL, "NAME",
	  "profile in the AWS shared files" },
	{ "cache-dir", STRING, AT(cache_dir), ANY, NULL, "DIR",
	  "cache folder on a local disk (default /var/cache/r2fs for root, "
	  "else $XDG_CACHE_HOME/r2fs)" },
	{ "cache-size", SIZE, AT(cache_size), 16 << 20, UINT64_MAX, "100G",
	  "SIZE", "most bytes the cache may take on disk" },
	{ "min-free", SIZE, AT(min_free), ANY, "1G", "SIZE",
	  "bytes the cache leaves free on its file system" },
	{ "memory", SIZE, AT(memory), 16 << 20, UINT64_MAX, "512M", "SIZE",
	  "most bytes of data buffers in memory" },
	{ "metadata-ttl", TTL, AT(metadata_ttl_ns), ANY, "60", "TIME",
	  "how long names and attributes are believed without asking: "
	  "minimal, a time in seconds, or indefinite" },
	{ "negative-ttl", TTL, AT(negative_ttl_ns), ANY, "5", "TIME",
	  "the same for a name that does not exist, outside a folder listed "
	  "to its end" },
	{ "preset", STRING, AT(preset), ANY, NULL, "NAME",
	  "defaults for a purpose: training (metadata-ttl indefinite, memory "
	  "1G) or serving (metadata-ttl 600)" },
	{ "read-only", FLAG, AT(read_only), ANY, NULL, NULL,
	  "mount read-only (this version always does)" },
	{ "uid", NUMBER, AT(uid), 0, UINT32_MAX - 1, NULL, "UID",
	  "owner of files that name none (default: who mounts)" },
	{ "gid", NUMBER, AT(gid), 0, UINT32_MAX - 1, NULL, "GID",
	  "group of files that name none (default: who mounts)" },
	{ "file-mode", OCTAL, AT(file_mode), 0, 07777, "644", "MODE",
	  "permissions of files that name none" },
	{ "dir-mode", OCTAL, AT(dir_mode), 0, 07777, "755", "MODE",
	  "permissions of folders" },
	{ "umask", OCTAL, AT(umask), 0, 07777, "0", "MASK",
	  "permission bits taken away from everything" },
	{ "allow-other", FLAG, AT(allow_other), ANY, NULL, NULL,
	  "let other users in" },
	{ "max-connections", NUMBER, AT(max_connections), 1, 1024, "64", "N",
	  "connections to R2" },
	{ "deadline", DURATION, AT(deadline_ns), 1, UINT64_MAX, "30", "TIME",
	  "longest time of one request with its retries" },
	{ "log-level", STRING, AT(log_level), ANY, "info", "LEVEL",
	  "error, warn, info or debug" },
	{ "log-file", STRING, AT(log_file), ANY, NULL, "FILE",
	  "where log lines go: a file, syslog, or - for standard error "
	  "(default: syslog, or standard error with -f)" },
	{ "foreground", FLAG, AT(foreground), ANY, NULL, NULL,
	  "stay in the foreground (-f)" },
};

/* mount(8) words for the kernel or for fstab alone */
static const char *const kernel_words[] = { "noexec", "exec", "noatime",
					    "nodiratime", "relatime", "nosuid",
					    "nodev" };
static const char *const ignored_words[] = {
	"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "nofail",
	"_netdev", "default_permissions", "dev", "suid", "async", "atime",
};

static void *field(struct config *c, const struct option *o)
{
	return (char *)c + o->offset;
}

/* ---- values ---- */

static bool parse_scaled(const char *s, const char *units, uint64_t step,
			 uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) :
				  NULL;
	uint64_t scale = 1;

	if (errno || (*end && !unit))
		return false;
	if (unit) {
		for (long i = unit - units; i >= 0; i--)
			scale *= step;
		end++;
		if (*end == 'i')
			end++;
		if (*end == 'B')
			end++;
	}
	if (*end || n > UINT64_MAX / scale)
		return false;
	*ret = n * scale;
	return true;
}

static bool parse_duration(const char *s, int64_t *ret)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "", 1e9 },  { "s", 1e9 },     { "ms", 1e6 },
		      { "m", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 } };
	char *end;
	double n;

	if (!isdigit((unsigned char)*s))
		return false;
	n = strtod(s, &end);
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit) == 0 && n * units[i].ns < 9e18) {
			*ret = (int64_t)(n * units[i].ns);
			return true;
		}
	}
	return false;
}

static bool parse_ttl(const char *s, int64_t *ret)
{
	if (strcmp(s, "indefinite") == 0)
		*ret = INT64_MAX;
	else if (strcmp(s, "minimal") == 0)
		*ret = 100000000;
	else
		return parse_duration(s, ret);
	return true;
}

static bool parse_number(const char *s, int base, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*ret = strtoull(s, &end, base);
	return !errno && !*end;
}

static const char *accepted(enum type t)
{
	switch (t) {
	case SIZE:
		return "a size such as 512M or 100G";
	case NUMBER:
		return "a number";
	case OCTAL:
		return "an octal mode such as 644";
	case DURATION:
		return "a time such as 30, 500ms or 2m";
	case TTL:
		return "minimal, indefinite, or a time such as 60 or 5m";
	default:
		return "a text";
	}
}

static bool store_value(struct config *c, const struct option *o, const char *v)
{
	uint64_t n = 0;
	bool ok = true;

	switch (o->type) {
	case STRING:
		free(*(char **)field(c, o));
		*(char **)field(c, o) = xstrdup(v);
		return *v != 0;
	case FLAG:
		*(bool *)field(c, o) = true;
		return true;
	case TTL:
		return parse_ttl(v, field(c, o));
	case DURATION:
		return parse_duration(v, field(c, o)) &&
		       *(int64_t *)field(c, o) > 0;
	case SIZE:
		ok = parse_scaled(v, "KMGTP", 1024, &n);
		break;
	case NUMBER:
		ok = parse_number(v, 10, &n);
		break;
	case OCTAL:
		ok = parse_number(v, 8, &n);
		break;
	}
	if (!ok || n < o->min || n > o->max)
		return false;
	*(uint64_t *)field(c, o) = n;
	return true;
}

void config_init(struct config *c)
{
	memset(c, 0, sizeof(*c));
	c->uid = getuid();
	c->gid = getgid();
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].initial &&
		    !store_value(c, &options[i], options[i].initial))
			BUG("default of --%s", options[i].name);
}

void config_release(struct config *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].type == STRING)
			free(*(char **)field(c, &options[i]));
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
	const char *nearest = NULL;
	unsigned best = 4;

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		unsigned d = distance(name, options[i].name);

		if (d < best) {
			best = d;
			nearest = options[i].name;
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
		const char *o = options[i].name;
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
	p->given[o - options] = true;
	if (store_value(p->c, o, value ? value : ""))
		return 0;
	snprintf(p->why, p->why_len, "--%s does not take \"%.60s\": give %s",
		 o->name, value ? value : "", accepted(o->type));
	if (o->type == SIZE || o->type == NUMBER)
		snprintf(p->why + strlen(p->why), p->why_len - strlen(p->why),
			 o->min ? " of at least %llu" : "",
			 (unsigned long long)o->min);
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

static int parse_word(struct parser *p, char *word)
{
	char *value = strchr(word, '=');
	const struct option *o;

	if (strcmp(word, "ro") == 0) {
		p->c->read_only = true;
		return 0;
	}
	if (among(word, kernel_words, ARRAY_SIZE(kernel_words))) {
		add_kernel_option(p->c, word);
		return 0;
	}
	if (!*word || strncmp(word, "x-", 2) == 0 ||
	    strncmp(word, "comment=", 8) == 0 ||
	    among(word, ignored_words, ARRAY_SIZE(ignored_words)))
		return 0;
	if (value)
		*value++ = 0;
	o = find(word, strlen(word));
	if (!o)
		return unknown(p, word);
	if (!value && o->type != FLAG) {
		snprintf(p->why, p->why_len, "-o %s needs a value: %s=%s",
			 word, word, o->placeholder);
		return -EINVAL;
	}
	return set(p, o, value);
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
	if (o->type == FLAG ? value != NULL : value == NULL) {
		snprintf(p->why, p->why_len,
			 o->type == FLAG ? "--%s takes no value" :
					   "--%s needs a value",
			 o->name);
		return -EINVAL;
	}
	return set(p, o, value);
}

static const struct {
	const char *preset, *option, *value;
} presets[] = {
	{ "training", "metadata-ttl", "indefinite" },
	{ "training", "memory", "1G" },
	{ "serving", "metadata-ttl", "600" },
};

static int apply_preset(struct parser *p)
{
	bool known = false;

	if (!p->c->preset)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(presets); i++) {
		const struct option *o = find(presets[i].option,
					      strlen(presets[i].option));

		if (strcmp(presets[i].preset, p->c->preset) != 0)
			continue;
		known = true;
		if (!p->given[o - options] &&
		    !store_value(p->c, o, presets[i].value))
			BUG("preset %s", p->c->preset);
	}
	if (known)
		return 0;
	snprintf(p->why, p->why_len,
		 "--preset does not take \"%.40s\": give training or serving",
		 p->c->preset);
	return -EINVAL;
}

static int check_log_level(struct parser *p)
{
	enum log_level level;

	if (log_level_parse(p->c->log_level, &level) == 0)
		return 0;
	snprintf(p->why, p->why_len,
		 "--log-level does not take \"%.40s\": give error, warn, info "
		 "or debug",
		 p->c->log_level);
	return -EINVAL;
}

int config_parse(struct config *c, int argc, char **argv,
		 const char **operands, unsigned max_operands,
		 unsigned *noperands, char *why, size_t why_len)
{
	struct parser p = { .c = c, .why = why, .why_len = why_len };
	bool only_operands = false;
	int err = 0;

	*noperands = 0;
	for (int i = 1; i < argc && !err; i++) {
		const char *a = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (only_operands || a[0] != '-' || !a[1]) {
			if (*noperands == max_operands) {
				snprintf(why, why_len,
					 "one operand too many: \"%.60s\"", a);
				err = -EINVAL;
			} else {
				operands[(*noperands)++] = a;
			}
		} else if (strcmp(a, "--") == 0) {
			only_operands = true;
		} else if (a[1] == '-') {
			err = parse_long(&p, a + 2, next, &i);
		} else if (strcmp(a, "-f") == 0) {
			c->foreground = true;
		} else if (strncmp(a, "-o", 2) == 0 && (a[2] || next)) {
			err = parse_words(&p, a[2] ? a + 2 : next);
			i += !a[2];
		} else {
			err = unknown(&p, a);
		}
	}
	if (!err)
		err = apply_preset(&p);
	return err ? err : check_log_level(&p);
}

/* ---- what to mount ---- */

static const char *from_environment(const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const char *v = getenv(names[i]);

		if (v && *v)
			return v;
	}
	return NULL;
}

static int work_out_url(struct config *c, char *why, size_t why_len)
{
	static const char *const account[] = { "R2_ACCOUNT_ID" };
	static const char *const endpoint[] = { "R2_ENDPOINT",
						"AWS_ENDPOINT_URL_S3",
						"AWS_ENDPOINT_URL" };
	const char *id = c->account_id, *url = c->endpoint;

	if (!id && !url)
		url = from_environment(endpoint, ARRAY_SIZE(endpoint));
	if (!id && !url)
		id = from_environment(account, ARRAY_SIZE(account));
	if (!id && !url) {
		snprintf(why, why_len,
			 "no endpoint: give --account-id ID (shown on the R2 "
			 "overview page) or --endpoint URL");
		return -EINVAL;
	}
	c->url = url ? xstrdup(url) :
		       r2_endpoint_for_account(id, c->jurisdiction);
	return r2_endpoint_check(c->url, c->allow_http, why, why_len);
}

int config_target(struct config *c, const char *target, char *why,
		  size_t why_len)
{
	size_t n = strcspn(target, "/");
	const char *prefix = target + n + strspn(target + n, "/");
	size_t len = strlen(prefix);

	c->bucket = xstrndup(target, n);
	while (len && prefix[len - 1] == '/')
		len--;
	c->prefix = xasprintf("%.*s%s", (int)len, prefix, len ? "/" : "");
	if (r2_bucket_check(c->bucket)) {
		snprintf(why, why_len,
			 "\"%.70s\" is not a bucket name: 3 to 63 of a-z, 0-9 "
			 "and -, letter or digit at both ends",
			 c->bucket);
		return -EINVAL;
	}
	if (len > 900) {
		snprintf(why, why_len, "the prefix is longer than 900 bytes");
		return -EINVAL;
	}
	return work_out_url(c, why, why_len);
}

/* ---- help ---- */

void config_help(struct buf *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		buf_addf(out, "  --%s%s%s\n        %s%s%s%s\n", o->name,
			 o->placeholder ? " " : "",
			 o->placeholder ? o->placeholder : "", o->help,
			 o->initial ? " (default " : "",
			 o->initial ? o->initial : "", o->initial ? ")" : "");
	}
}

static void roff(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '-' || *s == '\\')
			buf_addch(out, '\\');
		buf_addch(out, *s);
	}
}

void config_man(struct buf *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		buf_addstr(out, ".TP\n.B \\-\\-");
		roff(out, o->name);
		if (o->placeholder)
			buf_addf(out, " \\fI%s\\fP", o->placeholder);
		buf_addch(out, '\n');
		roff(out, o->help);
		if (o->initial)
			buf_addf(out, " (default %s)", o->initial);
		buf_addstr(out, ".\n");
	}
}
