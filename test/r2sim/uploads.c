/*
 * Pending multipart uploads: a list per bucket, each with its parts, each
 * kept in one file that parts are appended to, so that a restart loses none.
 * Ended uploads stay in the list: to abort one again is no error, and only an
 * id that was never given is unknown.
 */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "r2sim.h"

enum { ID_BYTES = 254 }; /* 340 characters of base64, the last one '=' */

static char *upload_path(const struct bucket *b, uint64_t file)
{
	char *path = bucket_path(b, file);
	char *ret = xprintf("%s.upload", path);

	free(path);
	return ret;
}

static char *new_id(void)
{
	unsigned char raw[ID_BYTES];
	char *id = NULL;

	do {
		free(id);
		if (RAND_bytes(raw, sizeof(raw)) != 1)
			abort();
		id = base64(raw, sizeof(raw));
	} while (!strchr(id, '+') || !strchr(id, '/'));
	return id;
}

static void append(struct bucket *b, struct upload *u)
{
	struct upload **p = &b->uploads;

	while (*p)
		p = &(*p)->next;
	*p = u;
}

struct upload *upload_new(struct bucket *b, const char *key, const char *name,
			  char *headers)
{
	struct upload *u = xalloc(sizeof(*u));
	char *path;
	FILE *f;

	u->id = new_id();
	u->key = xstrdup(key);
	u->name = xstrdup(name);
	u->headers = headers;
	u->started_ms = sim_now_ms();
	u->file = ++b->next_id;
	path = upload_path(b, u->file);
	f = fopen(path, "w");
	if (f) {
		fprintf(f, "r2sim upload %s %lld\n%zu %s\n%zu %s\n", u->id,
			(long long)u->started_ms, strlen(name), name,
			strlen(headers), headers);
		fclose(f);
	}
	free(path);
	append(b, u);
	return u;
}

struct upload *upload_find(struct bucket *b, const char *key, const char *id)
{
	struct upload *u = b->uploads;

	while (u && (strcmp(u->id, id) || strcmp(u->key, key)))
		u = u->next;
	return u;
}

static void remove_body(struct bucket *b, uint64_t id)
{
	char *path;

	if (!id)
		return;
	path = bucket_path(b, id);
	unlink(path);
	free(path);
}

static void put_part(struct bucket *b, struct upload *u, const struct part *p)
{
	unsigned i = u->n;

	while (i && u->parts[i - 1].number >= p->number)
		i--;
	if (i < u->n && u->parts[i].number == p->number) {
		remove_body(b, u->parts[i].id);
		u->parts[i] = *p;
		return;
	}
	if (u->n == u->cap) {
		u->cap = u->cap ? u->cap * 2 : 16;
		u->parts = realloc(u->parts, u->cap * sizeof(*p));
		if (!u->parts)
			abort();
	}
	memmove(&u->parts[i + 1], &u->parts[i], (u->n - i) * sizeof(*p));
	u->parts[i] = *p;
	u->n++;
}

void upload_add(struct bucket *b, struct upload *u, const struct part *p)
{
	char *path = upload_path(b, u->file);
	FILE *f = fopen(path, "a");

	if (f) {
		fprintf(f, "%u %llu %llu %s %lld\n", p->number,
			(unsigned long long)p->id, (unsigned long long)p->size,
			p->etag, (long long)p->mtime_ms);
		fclose(f);
	}
	free(path);
	put_part(b, u, p);
}

void upload_end(struct bucket *b, struct upload *u, int state,
		const struct part *keep, unsigned n)
{
	char *path = upload_path(b, u->file);
	unsigned k = 0;

	unlink(path);
	free(path);
	for (unsigned i = 0; i < u->n; i++) {
		while (k < n && keep[k].number < u->parts[i].number)
			k++;
		if (k == n || keep[k].number != u->parts[i].number)
			remove_body(b, u->parts[i].id);
	}
	u->n = 0;
	u->state = state;
}

unsigned upload_expire(struct bucket *b, int64_t age_ms)
{
	int64_t now = sim_now_ms();
	unsigned n = 0;

	for (struct upload *u = b->uploads; u; u = u->next) {
		if (u->state != UP_OPEN || now - u->started_ms < age_ms)
			continue;
		upload_end(b, u, UP_ABORTED, NULL, 0);
		n++;
	}
	return n;
}

/* "LENGTH BYTES", at most 16 KiB of them; malloc. */
static char *read_counted(FILE *f)
{
	size_t n;
	char *s;

	if (fscanf(f, "%zu", &n) != 1 || n > 16384 || fgetc(f) != ' ')
		return NULL;
	s = xalloc(n + 1);
	if (fread(s, 1, n, f) == n)
		return s;
	free(s);
	return NULL;
}

bool upload_load(struct bucket *b, const char *path, uint64_t file)
{
	struct upload *u = xalloc(sizeof(*u));
	unsigned long long id, size;
	long long ms = 0, mtime;
	struct part p = { 0 };
	FILE *f = fopen(path, "r");

	u->file = file;
	u->id = xalloc(512);
	if (f && fscanf(f, "r2sim upload %511s %lld", u->id, &ms) == 2) {
		u->started_ms = ms;
		u->name = read_counted(f);
		u->headers = u->name ? read_counted(f) : NULL;
		u->key = u->headers ? nfc(u->name) : NULL;
	}
	while (u->key && fscanf(f, "%u %llu %llu %32s %lld", &p.number, &id,
				&size, p.etag, &mtime) == 5) {
		p.id = id;
		p.size = size;
		p.mtime_ms = mtime;
		put_part(b, u, &p);
	}
	if (f)
		fclose(f);
	if (u->key)
		append(b, u);
	else
		fprintf(stderr, "r2sim: %s is not an upload: ignored\n", path);
	return u->key;
}
