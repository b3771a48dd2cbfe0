/*
 * A sorted array of objects per bucket: appends in order are cheap, listings
 * are scans, and a restart reads it back from one small file per object
 * beside the body. Synthetic keys are not stored at all.
 */
#include "r2sim.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

pthread_rwlock_t objects_lock = PTHREAD_RWLOCK_INITIALIZER;
char *data_dir;

static struct bucket *buckets[64];
static unsigned nbuckets;

struct bucket *bucket_find(const char *name)
{
	for (unsigned i = 0; i < nbuckets; i++)
		if (strcmp(buckets[i]->name, name) == 0)
			return buckets[i];
	return NULL;
}

char *object_path(const struct bucket *b, uint64_t id)
{
	char *p;

	if (asprintf(&p, "%s/%s/%llu", data_dir, b->name,
		     (unsigned long long)id) < 0)
		abort();
	return p;
}

size_t bucket_lower(const struct bucket *b, const char *key)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(b->objects[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct object *bucket_get(struct bucket *b, const char *key)
{
	size_t i = bucket_lower(b, key);

	return i < b->n && strcmp(b->objects[i].key, key) == 0 ?
		       &b->objects[i] :
		       NULL;
}

static void remove_files(struct bucket *b, uint64_t id)
{
	char *path = object_path(b, id), meta[600];

	unlink(path);
	snprintf(meta, sizeof(meta), "%s.meta", path);
	unlink(meta);
	free(path);
}

static void insert(struct bucket *b, struct object o)
{
	size_t i = bucket_lower(b, o.key);

	if (i < b->n && strcmp(b->objects[i].key, o.key) == 0) {
		remove_files(b, b->objects[i].id);
		free(b->objects[i].key);
		free(b->objects[i].headers);
		b->objects[i] = o;
		return;
	}
	if (b->n == b->cap) {
		b->cap = b->cap ? b->cap * 2 : 64;
		b->objects = realloc(b->objects, b->cap * sizeof(o));
		if (!b->objects)
			abort();
	}
	memmove(&b->objects[i + 1], &b->objects[i], (b->n - i) * sizeof(o));
	b->objects[i] = o;
	b->n++;
}

static void save(const struct bucket *b, const struct object *o)
{
	char *path = object_path(b, o->id), meta[600];
	FILE *f;

	snprintf(meta, sizeof(meta), "%s.meta", path);
	f = fopen(meta, "w");
	if (!f)
		abort();
	fprintf(f, "%zu %s\n%llu %lld %s\n%s", strlen(o->key), o->key,
		(unsigned long long)o->size, (long long)o->mtime_ms, o->etag,
		o->headers);
	fclose(f);
	free(path);
}

void bucket_put(struct bucket *b, const char *key, const char *body_path,
		uint64_t size, const char *etag, char *headers)
{
	struct object o = { .size = size, .headers = headers };
	struct timespec ts;
	char *path;

	clock_gettime(CLOCK_REALTIME, &ts);
	o.mtime_ms = ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
	o.key = strdup(key);
	o.id = ++b->next_id;
	snprintf(o.etag, sizeof(o.etag), "%s", etag);
	path = object_path(b, o.id);
	if (rename(body_path, path))
		abort();
	free(path);
	save(b, &o);
	insert(b, o);
}

void bucket_delete(struct bucket *b, const char *key)
{
	size_t i = bucket_lower(b, key);

	if (i >= b->n || strcmp(b->objects[i].key, key) != 0)
		return;
	remove_files(b, b->objects[i].id);
	free(b->objects[i].key);
	free(b->objects[i].headers);
	memmove(&b->objects[i], &b->objects[i + 1],
		(b->n - i - 1) * sizeof(b->objects[0]));
	b->n--;
}

static void load_one(struct bucket *b, const char *path, uint64_t id)
{
	struct object o = { .id = id };
	unsigned long long size;
	long long mtime;
	char rest[16384];
	size_t n;
	FILE *f = fopen(path, "r");

	if (!f)
		return;
	if (fscanf(f, "%zu", &n) == 1 && n <= 4096 && fgetc(f) == ' ') {
		o.key = calloc(1, n + 1);
		if (fread(o.key, 1, n, f) == n &&
		    fscanf(f, "%llu %lld %39s", &size, &mtime, o.etag) == 3 &&
		    fgetc(f) == '\n') {
			n = fread(rest, 1, sizeof(rest) - 1, f);
			rest[n] = 0;
			o.headers = strdup(rest);
			o.size = size;
			o.mtime_ms = mtime;
			insert(b, o);
		} else {
			free(o.key);
		}
	}
	fclose(f);
	if (id > b->next_id)
		b->next_id = id;
}

struct bucket *bucket_add(const char *name)
{
	struct bucket *b = calloc(1, sizeof(*b));
	char path[600], file[1200];
	struct dirent *e;
	DIR *d;

	b->name = strdup(name);
	snprintf(path, sizeof(path), "%s/%s", data_dir, name);
	mkdir(path, 0700);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		char *dot = strchr(e->d_name, '.');

		if (!dot || strcmp(dot, ".meta") != 0)
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		load_one(b, file, strtoull(e->d_name, NULL, 10));
	}
	if (d)
		closedir(d);
	buckets[nbuckets++] = b;
	return b;
}

/* Synthetic objects are put in the index with id 0: a key costs memory, its
 * body nothing. */
void bucket_fake(struct bucket *b, const char *prefix, uint64_t count,
		 uint64_t size, uint64_t per_folder)
{
	char key[512];

	for (uint64_t i = 0; i < count; i++) {
		struct object o = { .size = size, .mtime_ms = 1700000000000 };

		if (per_folder)
			snprintf(key, sizeof(key), "%sd%06llu/f%06llu", prefix,
				 (unsigned long long)(i / per_folder),
				 (unsigned long long)(i % per_folder));
		else
			snprintf(key, sizeof(key), "%sf%08llu", prefix,
				 (unsigned long long)i);
		o.key = strdup(key);
		o.headers = strdup("");
		snprintf(o.etag, sizeof(o.etag), "%016llx%016llx",
			 (unsigned long long)i * 0x9E3779B97F4A7C15ull,
			 (unsigned long long)size);
		insert(b, o);
	}
}

void fake_bytes(const char *key, uint64_t off, char *buf, size_t n)
{
	uint64_t seed = 1469598103934665603ull;

	for (const char *p = key; *p; p++)
		seed = (seed ^ (unsigned char)*p) * 1099511628211ull;
	for (size_t i = 0; i < n; i++) {
		uint64_t word = (off + i) / 8;
		uint64_t x = (seed + word) * 0x9E3779B97F4A7C15ull;

		x ^= x >> 29;
		buf[i] = (char)(x >> ((off + i) % 8 * 8));
	}
}
