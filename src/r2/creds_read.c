/*
 * The forms that credentials are kept in: a line, an ini file, the JSON of a
 * credential_process. Everything is cut in place out of the one buffer that
 * was read, so that wiping it wipes all there was.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "r2/creds_impl.h"
#include "r2/crypto.h"
#include "r2/xml.h"

struct creds_stamp creds_stamp_of(const struct stat *st)
{
	return (struct creds_stamp){ .mtime_s = st->st_mtim.tv_sec,
				     .mtime_ns = st->st_mtim.tv_nsec,
				     .size = st->st_size,
				     .inode = st->st_ino };
}

int creds_read_file(const char *path, bool strict, struct buf *out,
		    struct creds_stamp *ret, char *why, size_t why_len)
{
	CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char block[8192];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st)) {
		int err = -errno;

		snprintf(why, why_len, "cannot read credentials file %s: %s",
			 path, strerror(-err));
		return err;
	}
	*ret = creds_stamp_of(&st);
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
	if (n < 0 || out->failed) {
		snprintf(why, why_len, "credentials file %s %s", path,
			 n < 0 ? "cannot be read" : "is too large");
		return n < 0 ? -EIO : -EFBIG;
	}
	return 0;
}

/* ---- lines ---- */

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

static void take_field(struct creds_found *f, const char *name,
		       const char *value)
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

/* "[name]" or "[profile name]". */
static bool is_section(char *line, const char *profile)
{
	char *end = strchr(line, ']'), *name;

	if (end)
		*end = 0;
	name = trim(line + 1);
	if (strncmp(name, "profile", 7) == 0 && isspace((unsigned char)name[7]))
		name = trim(name + 7);
	return strcmp(name, profile) == 0;
}

/* Of '=' and ':' the first decides, as a secret may hold the other. */
static void take_line(char *line, bool named_only, struct creds_found *f)
{
	char *at = line + strcspn(line, named_only ? "=" : "=:");
	bool pair = *at == ':';

	if (!*at)
		return;
	*at++ = 0;
	if (pair) {
		f->id = trim(line);
		f->secret = trim(at);
	} else {
		take_field(f, trim(line), trim(at));
	}
}

void creds_parse_file(char *text, const char *profile, struct creds_found *f)
{
	bool in = profile == NULL;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		line = trim(line);
		if (!*line || *line == '#' || *line == ';')
			continue;
		if (*line == '[')
			in = !profile || is_section(line, profile);
		else if (in)
			take_line(line, profile != NULL, f);
	}
}

/* ---- credential_process ---- */

/* Where the string that is called name begins, after its quote; or NULL. */
static char *json_find(char *json, const char *name)
{
	CLEANUP(free) char *quoted = xasprintf("\"%s\"", name);
	char *p = json;

	while ((p = strstr(p, quoted))) {
		p += strlen(quoted);
		p += strspn(p, " \t\r\n");
		if (*p != ':')
			continue;
		p++;
		p += strspn(p, " \t\r\n");
		return *p == '"' ? p + 1 : NULL;
	}
	return NULL;
}

/* Undoes the escapes in place, up to the closing quote; NULL: there is none,
 * or an escape that no key or token has. */
static char *json_take(char *s)
{
	static const char plain[] = "\"\\/";
	char *out = s, *in = s;
	unsigned code;
	int n;

	for (; in && *in && *in != '"'; in++) {
		if (*in != '\\') {
			*out++ = *in;
		} else if (in[1] && strchr(plain, in[1])) {
			*out++ = *++in;
		} else if (in[1] == 'u' &&
			   sscanf(in + 2, "%4x%n", &code, &n) == 1 && n == 4 &&
			   code >= ' ' && code < 0x7f) {
			*out++ = (char)code;
			in += 5;
		} else {
			return NULL;
		}
	}
	if (!in || !*in)
		return NULL;
	*out = 0;
	return s;
}

static int take_json(char *json, struct creds_found *f)
{
	char *id = json_find(json, "AccessKeyId");
	char *secret = json_find(json, "SecretAccessKey");
	char *token = json_find(json, "SessionToken");
	char *expires = json_find(json, "Expiration");
	int64_t ns;

	f->id = json_take(id);
	f->secret = json_take(secret);
	f->token = json_take(token);
	expires = json_take(expires);
	if (expires && xml_parse_time(expires, &ns) == 0)
		f->expires_s = ns / 1000000000;
	return f->id && f->secret && (f->token || !token) ? 0 : -EINVAL;
}

int creds_run_process(const char *command, struct buf *out,
		      struct creds_found *f, char *why, size_t why_len)
{
	CLEANUP(free) char *line = xasprintf("timeout 30 %s", command);
	FILE *p = popen(line, "re");
	char block[8192];
	size_t n;

	if (!p) {
		snprintf(why, why_len, "credential_process cannot be run: %s",
			 strerror(errno));
		return -EINVAL;
	}
	setvbuf(p, NULL, _IONBF, 0);
	crypto_wipe(out->data, out->len);
	buf_reset(out);
	while ((n = fread(block, 1, sizeof(block), p)) > 0)
		buf_add(out, block, n);
	crypto_wipe(block, sizeof(block));
	if (pclose(p) != 0 || out->failed) {
		snprintf(
			why, why_len,
			"credential_process failed: run it by hand to see why");
		return -EINVAL;
	}
	if (take_json(out->data, f)) {
		snprintf(why, why_len,
			 "credential_process printed no JSON with AccessKeyId "
			 "and SecretAccessKey");
		return -EINVAL;
	}
	return 0;
}
