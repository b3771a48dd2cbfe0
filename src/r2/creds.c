/*
 * Credentials are looked for in a fixed order and remembered with where they
 * came from, so that a reload asks the same place again. Sets are immutable
 * and counted: a request signs with the set it took, whatever happens since.
 *
 * The secrets live in pages of their own, kept out of core dumps, and are
 * wiped when the last user lets go.
 */
#include "r2/creds.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "r2/creds_impl.h"
#include "r2/crypto.h"

enum {
	SET_BYTES = 16384,
	LOOK_S = 5, /* how often a file is looked at */
	EARLY_S = 300, /* renewal before the end, tried every */
	EARLY_LOOK_S = 30,
};

enum source {
	FROM_FILE,
	FROM_R2_ENV,
	FROM_AWS_ENV,
	FROM_SYSTEMD,
	FROM_AWS_FILE
};

struct creds {
	struct mutex lock;
	struct creds_set *set; /* guarded by lock */
	enum source source;
	char *file; /* FROM_FILE, FROM_SYSTEMD, FROM_AWS_FILE */
	char *profile;
	char description[PATH_MAX + 64];
	/* guarded by lock */
	uint64_t serial;
	struct creds_stamp stamp; /* of the file when it was read */
	int64_t expires_s; /* wall time, 0 never */
	uint64_t next_look_ns;
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

static struct creds_set *set_new(const struct creds_found *f, uint64_t serial)
{
	struct creds_set *set;
	char *at;

	if (strlen(f->id) + strlen(f->secret) +
		    (f->token ? strlen(f->token) : 0) + sizeof(*set) + 8 >
	    SET_BYTES)
		return NULL;
	set = crypto_secret_new(SET_BYTES);
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
	crypto_secret_free(set, SET_BYTES);
}

/* ---- reading ---- */

static void from_env(const char *prefix, struct creds_found *f)
{
	CLEANUP(free) char *id = xasprintf("%s_ACCESS_KEY_ID", prefix);
	CLEANUP(free) char *secret = xasprintf("%s_SECRET_ACCESS_KEY", prefix);
	CLEANUP(free) char *token = xasprintf("%s_SESSION_TOKEN", prefix);

	f->id = getenv(id);
	f->secret = getenv(secret);
	f->token = getenv(token);
}

static bool is_environment(const struct creds *c)
{
	return c->source == FROM_R2_ENV || c->source == FROM_AWS_ENV;
}

static int read_source(struct creds *c, struct buf *text, struct creds_found *f,
		       struct creds_stamp *stamp, char *why, size_t why_len)
{
	bool aws = c->source == FROM_AWS_FILE;
	int err;

	if (is_environment(c)) {
		from_env(c->source == FROM_R2_ENV ? "R2" : "AWS", f);
		return 0;
	}
	err = creds_read_file(c->file, c->source == FROM_FILE, text, stamp, why,
			      why_len);
	if (!err)
		creds_parse_file(text->data, aws ? c->profile : NULL, f);
	if (!err && f->process && !f->id) {
		CLEANUP(free) char *command = xstrdup(f->process);

		err = creds_run_process(command, text, f, why, why_len);
	}
	return err;
}

/* Reads the creds' own source into a new set. */
static int load(struct creds *c, struct creds_set **ret, char *why,
		size_t why_len)
{
	struct creds_stamp stamp = { 0 };
	struct creds_found f = { 0 };
	struct buf text;
	int err;

	buf_init(&text, CREDS_FILE_MAX);
	err = read_source(c, &text, &f, &stamp, why, why_len);
	if (!err && (!f.id || !f.secret || !*f.id || !*f.secret)) {
		snprintf(why, why_len,
			 "%s holds no access key id and secret access key",
			 c->description);
		err = -EINVAL;
	}
	if (!err && !(*ret = set_new(&f, c->serial + 1))) {
		snprintf(why, why_len, "%s holds credentials of 16 KiB or more",
			 c->description);
		err = -EINVAL;
	}
	mutex_lock(&c->lock);
	c->stamp = stamp;
	if (!err)
		c->expires_s = f.expires_s;
	mutex_unlock(&c->lock);
	crypto_wipe(text.data, text.len);
	buf_release(&text);
	return err;
}

/* ---- which source ---- */

static bool env_has(const char *prefix)
{
	struct creds_found f;

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
	struct creds_found f = { 0 };
	struct creds_stamp stamp;
	struct buf text;
	char why[256];
	bool has;

	buf_init(&text, CREDS_FILE_MAX);
	has = path && access(path, R_OK) == 0 &&
	      creds_read_file(path, false, &text, &stamp, why, sizeof(why)) ==
		      0;
	if (has) {
		creds_parse_file(text.data, profile, &f);
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
	CLEANUP(free)
	char *shared = aws_path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
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

static int choose(struct creds *c, const struct creds_config *config, char *why,
		  size_t why_len)
{
	const char *profile = config->profile ? config->profile :
						getenv("AWS_PROFILE");

	c->profile = xstrdup(profile && *profile ? profile : "default");
	if (config->file) {
		set_source(c, FROM_FILE, config->file);
		return 0;
	}
	if (config->profile) {
		if (aws_files(c))
			return 0;
		snprintf(why, why_len,
			 "profile \"%s\" has no credentials in "
			 "~/.aws/credentials or ~/.aws/config (or the files "
			 "that AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE "
			 "name)",
			 c->profile);
		return -ENOENT;
	}
	if (env_has("R2"))
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
	if (changed || is_environment(c) || load(c, &set, why, sizeof(why)))
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

static void clean_variable(const char *prefix, const char *name)
{
	CLEANUP(free) char *variable = xasprintf("%s_%s", prefix, name);
	char *value = getenv(variable);

	if (value)
		crypto_wipe(value, strlen(value));
	unsetenv(variable);
}

void creds_clean_environment(const struct creds *c)
{
	const char *prefix = c->source == FROM_R2_ENV ? "R2" : "AWS";

	if (!is_environment(c))
		return;
	clean_variable(prefix, "SECRET_ACCESS_KEY");
	clean_variable(prefix, "SESSION_TOKEN");
}

const char *creds_source(const struct creds *c)
{
	return c->description;
}

static bool file_changed_locked(struct creds *c) REQUIRES(c->lock)
{
	struct stat st;
	struct creds_stamp now;

	if (!c->file || stat(c->file, &st))
		return false;
	now = creds_stamp_of(&st);
	return memcmp(&now, &c->stamp, sizeof(now)) != 0;
}

bool creds_due(struct creds *c)
{
	uint64_t now = clock_mono_ns(), wait_s = LOOK_S;
	bool due = false;

	mutex_lock(&c->lock);
	if (now >= c->next_look_ns) {
		due = file_changed_locked(c);
		if (c->expires_s && clock_wall_s() > c->expires_s - EARLY_S) {
			due = true;
			wait_s = EARLY_LOOK_S;
		}
		c->next_look_ns = now + wait_s * 1000000000;
	}
	mutex_unlock(&c->lock);
	return due;
}

uint64_t creds_serial(struct creds *c)
{
	mutex_lock(&c->lock);
	uint64_t serial = c->serial;
	mutex_unlock(&c->lock);
	return serial;
}
