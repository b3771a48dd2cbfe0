/*
 * Credentials are looked for in a fixed order and remembered with where they
 * came from, so that a reload asks the same place again. Sets are immutable
 * and counted: a request signs with the set it took, whatever happens since.
 *
 * The secrets live in pages of their own, kept out of core dumps, and are
 * wiped when the last user lets go.
 */
#include "r2/creds.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "r2/crypto.h"

enum { FILE_MAX = 65536, SET_BYTES = 16384 };

enum source { FROM_FILE, FROM_R2_ENV, FROM_AWS_ENV, FROM_SYSTEMD, FROM_AWS_FILE };

struct creds {
	struct mutex lock;
	struct creds_set *set; /* guarded by lock */
	enum source source;
	char *file; /* FROM_FILE, FROM_SYSTEMD, FROM_AWS_FILE */
	char *profile;
	char description[PATH_MAX + 64];
	uint64_t serial; /* guarded by lock */
};

struct found { /* what a source holds; borrowed pointers or NULL */
	const char *id, *secret, *token, *process;
};

/* ---- sets ---- */

static char *place(char **at, const char *s)
{
	char *p = *at;

	if (!s || !*s)
		return NULL;
	*at = stpcpy(p, s) + 1;
	return p;
}

static struct creds_set *set_new(const struct found *f, uint64_t serial)
{
	struct creds_set *set;
	char *at;

	if (strlen(f->id) + strlen(f->secret) +
		    (f->token ? strlen(f->token) : 0) + sizeof(*set) + 8 >
	    SET_BYTES)
		return NULL;
	set = mmap(NULL, SET_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (set == MAP_FAILED)
		BUG("out of memory");
	madvise(set, SET_BYTES, MADV_DONTDUMP);
	at = (char *)(set + 1);
	set->access_key_id = place(&at, f->id);
	set->secret_access_key = place(&at, f->secret);
	set->session_token = place(&at, f->token);
	set->serial = serial;
	set->refs = 1;
	return set;
}

void creds_set_put(struct creds_set *set)
{
	if (!set || __atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL))
		return;
	crypto_wipe(set, SET_BYTES);
	munmap(set, SET_BYTES);
}

/* ---- reading ---- */

static int read_file(const char *path, bool strict, struct buf *out, char *why,
		     size_t why_len)
{
	CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char block[4096];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st)) {
		snprintf(why, why_len, "cannot read credentials file %s: %s",
			 path, strerror(errno));
		return -errno;
	}
	if (strict && (st.st_mode & 077)) {
		snprintf(why, why_len,
			 "credentials file %s may be read by others (mode "
			 "%03o): run chmod 600 %s",
			 path, st.st_mode & 0777, path);
		return -EPERM;
	}
	while ((n = read(fd, block, sizeof(block))) > 0)
		buf_add(out, block, n);
	crypto_wipe(block, sizeof(block));
	return n < 0 ? -errno : 0;
}

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = 0;
	return s;
}

static void take_field(struct found *f, const char *name, const char *value)
{
	static const char *const aws = "aws_";

	if (strncmp(name, aws, strlen(aws)) == 0)
		name += strlen(aws);
	if (!strcmp(name, "access_key_id"))
		f->id = value;
	else if (!strcmp(name, "secret_access_key"))
		f->secret = value;
	else if (!strcmp(name, "session_token"))
		f->token = value;
	else if (!strcmp(name, "credential_process"))
		f->process = value;
}

/* "ID:SECRET" alone, or name = value lines; with profile only those of the
 * section [profile] or [profile NAME]. Cuts text into strings. */
static void parse_file(char *text, const char *profile, struct found *f)
{
	bool in = profile == NULL;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		char *value, *section;

		line = trim(line);
		if (!*line || *line == '#' || *line == ';')
			continue;
		if (*line == '[' && (value = strchr(line, ']'))) {
			*value = 0;
			section = trim(line + 1);
			if (strncmp(section, "profile ", 8) == 0)
				section = trim(section + 8);
			in = !profile || strcmp(section, profile) == 0;
			continue;
		}
		value = strchr(line, '=');
		if (value && in) {
			*value++ = 0;
			take_field(f, trim(line), trim(value));
		} else if (!value && !profile && (value = strchr(line, ':'))) {
			*value++ = 0;
			f->id = trim(line);
			f->secret = trim(value);
		}
	}
}

static char *json_string(const char *json, const char *name)
{
	CLEANUP(free) char *quoted = xasprintf("\"%s\"", name);
	const char *p = strstr(json, quoted), *end;

	if (!p)
		return NULL;
	p += strlen(quoted);
	p += strspn(p, " \t\r\n:");
	if (*p != '"' || !(end = strchr(p + 1, '"')))
		return NULL;
	return xstrndup(p + 1, end - p - 1);
}

/* credential_process prints {"AccessKeyId": ..., "SecretAccessKey": ...}.
 * The strings found live as long as the process (they are wiped by nobody
 * else, so they are kept in `keep`). */
static int run_process(const char *command, struct buf *keep, struct found *f,
		       char *why, size_t why_len)
{
	CLEANUP(free) char *line = xasprintf("timeout 30 %s", command);
	FILE *p = popen(line, "re");
	char block[4096];
	size_t n;

	if (!p)
		return -errno;
	buf_reset(keep);
	while ((n = fread(block, 1, sizeof(block), p)) > 0)
		buf_add(keep, block, n);
	if (pclose(p) != 0 || keep->failed) {
		snprintf(why, why_len,
			 "credential_process failed: run it by hand to see why");
		return -EINVAL;
	}
	f->id = json_string(keep->data, "AccessKeyId");
	f->secret = json_string(keep->data, "SecretAccessKey");
	f->token = json_string(keep->data, "SessionToken");
	return f->id && f->secret ? 0 : -EINVAL;
}

static void from_env(const char *prefix, struct found *f)
{
	CLEANUP(free) char *id = xasprintf("%s_ACCESS_KEY_ID", prefix);
	CLEANUP(free) char *secret = xasprintf("%s_SECRET_ACCESS_KEY", prefix);
	CLEANUP(free) char *token = xasprintf("%s_SESSION_TOKEN", prefix);

	f->id = getenv(id);
	f->secret = getenv(secret);
	f->token = getenv(token);
}

/* Reads the creds' own source into a new set. */
static int load(struct creds *c, struct creds_set **ret, char *why,
		size_t why_len)
{
	bool aws = c->source == FROM_AWS_FILE;
	struct found f = { 0 };
	bool ran = false;
	struct buf text;
	int err = 0;

	buf_init(&text, FILE_MAX);
	if (c->source == FROM_R2_ENV || c->source == FROM_AWS_ENV) {
		from_env(c->source == FROM_R2_ENV ? "R2" : "AWS", &f);
	} else {
		err = read_file(c->file, c->source == FROM_FILE, &text, why,
				why_len);
		if (!err)
			parse_file(text.data, aws ? c->profile : NULL, &f);
		if (!err && f.process && !f.id) {
			CLEANUP(free) char *command = xstrdup(f.process);

			err = run_process(command, &text, &f, why, why_len);
			ran = !err;
		}
	}
	if (!err && (!f.id || !f.secret || !*f.id || !*f.secret)) {
		snprintf(why, why_len,
			 "%s holds no access key id and secret access key",
			 c->description);
		err = -EINVAL;
	}
	if (!err && !(*ret = set_new(&f, c->serial + 1)))
		err = -EINVAL;
	if (ran) {
		free((char *)f.id);
		free((char *)f.secret);
		free((char *)f.token);
	}
	crypto_wipe(text.data, text.len);
	buf_release(&text);
	return err;
}

/* ---- which source ---- */

static bool env_has(const char *prefix)
{
	struct found f;

	from_env(prefix, &f);
	return f.id && *f.id && f.secret && *f.secret;
}

static char *aws_path(const char *variable, const char *name)
{
	const char *path = getenv(variable), *home = getenv("HOME");

	if (path && *path)
		return xstrdup(path);
	return home ? xasprintf("%s/.aws/%s", home, name) : NULL;
}

static bool file_has_profile(const char *path, const char *profile)
{
	struct found f = { 0 };
	struct buf text;
	char why[256];
	bool has;

	buf_init(&text, FILE_MAX);
	has = path && access(path, R_OK) == 0 &&
	      read_file(path, false, &text, why, sizeof(why)) == 0;
	if (has) {
		parse_file(text.data, profile, &f);
		has = (f.id && f.secret) || f.process;
	}
	crypto_wipe(text.data, text.len);
	buf_release(&text);
	return has;
}

static void set_source(struct creds *c, enum source source, const char *file)
{
	c->source = source;
	c->file = xstrdup(file);
	if (source == FROM_R2_ENV || source == FROM_AWS_ENV)
		snprintf(c->description, sizeof(c->description),
			 "environment %s_ACCESS_KEY_ID",
			 source == FROM_R2_ENV ? "R2" : "AWS");
	else if (source == FROM_AWS_FILE)
		snprintf(c->description, sizeof(c->description),
			 "file %s, profile %s", file, c->profile);
	else
		snprintf(c->description, sizeof(c->description), "file %s",
			 file);
}

static bool aws_files(struct creds *c)
{
	CLEANUP(free) char *shared =
		aws_path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
	CLEANUP(free) char *config = aws_path("AWS_CONFIG_FILE", "config");

	if (file_has_profile(shared, c->profile))
		set_source(c, FROM_AWS_FILE, shared);
	else if (file_has_profile(config, c->profile))
		set_source(c, FROM_AWS_FILE, config);
	else
		return false;
	return true;
}

static bool systemd_file(struct creds *c)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	CLEANUP(free) char *path = dir ? xasprintf("%s/r2fs", dir) : NULL;

	if (!path || access(path, R_OK))
		return false;
	set_source(c, FROM_SYSTEMD, path);
	return true;
}

static int choose(struct creds *c, const struct creds_config *config,
		  char *why, size_t why_len)
{
	const char *profile = config->profile ? config->profile :
						getenv("AWS_PROFILE");

	c->profile = xstrdup(profile && *profile ? profile : "default");
	if (config->file)
		set_source(c, FROM_FILE, config->file);
	else if (config->profile && aws_files(c))
		return 0;
	else if (env_has("R2"))
		set_source(c, FROM_R2_ENV, NULL);
	else if (env_has("AWS"))
		set_source(c, FROM_AWS_ENV, NULL);
	else if (!systemd_file(c) && !aws_files(c)) {
		snprintf(why, why_len,
			 "no credentials: give --credentials FILE (mode 600, "
			 "one line ACCESS_KEY_ID:SECRET_ACCESS_KEY), or set "
			 "R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY, or the "
			 "AWS_* names, or profile \"%s\" in ~/.aws/credentials",
			 c->profile);
		return -ENOENT;
	}
	return 0;
}

/* ---- the interface ---- */

int creds_create(const struct creds_config *config, struct creds **ret,
		 char *why, size_t why_len)
{
	struct creds *c = xcalloc(1, sizeof(*c));
	int err;

	mutex_init(&c->lock);
	why[0] = 0;
	err = choose(c, config, why, why_len);
	if (!err)
		err = load(c, &c->set, why, why_len);
	if (err) {
		creds_destroy(c);
		return err;
	}
	c->serial = c->set->serial;
	*ret = c;
	return 0;
}

void creds_destroy(struct creds *c)
{
	if (!c)
		return;
	creds_set_put(c->set);
	mutex_release(&c->lock);
	free(c->file);
	free(c->profile);
	free(c);
}

struct creds_set *creds_get(struct creds *c)
{
	mutex_lock(&c->lock);
	struct creds_set *set = c->set;
	__atomic_add_fetch(&set->refs, 1, __ATOMIC_RELAXED);
	mutex_unlock(&c->lock);
	return set;
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool creds_reload(struct creds *c, uint64_t serial_seen)
{
	struct creds_set *set = NULL, *old = NULL;
	bool changed;
	char why[256];

	mutex_lock(&c->lock);
	changed = c->serial > serial_seen;
	mutex_unlock(&c->lock);
	if (changed || load(c, &set, why, sizeof(why)))
		return changed;
	mutex_lock(&c->lock);
	changed = !same(set->access_key_id, c->set->access_key_id) ||
		  !same(set->secret_access_key, c->set->secret_access_key) ||
		  !same(set->session_token, c->set->session_token);
	if (changed) {
		old = c->set;
		c->set = set;
		set->serial = ++c->serial;
		set = NULL;
	}
	mutex_unlock(&c->lock);
	creds_set_put(set);
	creds_set_put(old);
	return changed;
}

const char *creds_source(const struct creds *c)
{
	return c->description;
}
