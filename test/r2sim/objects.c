/*
 * A sorted array of pointers per bucket: appends in order are cheap, listings
 * are scans, an insertion into a million keys moves 8 MB at worst. A restart
 * reads it back from one small file per object beside the bodies. Synthetic
 * keys are not stored at all.
 *
 * A body's file goes when the last reader of a replaced object is done, so
 * that a GET that began before an overwrite ends with the bytes it began with.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "r2sim.h"

pthread_rwlock_t objects_lock = PTHREAD_RWLOCK_INITIALIZER;
char *data_dir;

static struct bucket *buckets; /* by name */

/* ---- one object ---- */

char *bucket_path(const struct bucket *b, uint64_t id)
{
	return xprintf("%s/%s/%llu", data_dir, b->name, (unsigned long long)id);
}

struct object *object_new(struct bucket *b, const char *key, const char *name,
			  const char *etag, char *headers)
{
	struct object *o = xalloc(sizeof(*o));

	o->bucket = b;
	o->key = xstrdup(key);
	o->name = strcmp(key, name) ? xstrdup(name) : o->key;
	o->headers = headers;
	o->mtime_ms = sim_now_ms();
	o->refs = 1;
	snprintf(o->etag, sizeof(o->etag), "%s", etag);
	return o;
}

void object_add_segment(struct object *o, uint64_t id, uint64_t size)
{
	o->segs = realloc(o->segs, (o->nsegs + 1) * sizeof(*o->segs));
	if (!o->segs)
		abort();
	o->segs[o->nsegs++] = (struct segment){ .id = id, .size = size };
	o->size += size;
}

struct object *object_ref(struct object *o)
{
	__atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
	return o;
}

void object_unref(struct object *o)
{
	if (!o || __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned i = 0; i < o->nsegs; i++) {
		char *path = bucket_path(o->bucket, o->segs[i].id);

		unlink(path);
		free(path);
	}
	if (o->name != o->key)
		free(o->name);
	free(o->key);
	free(o->headers);
	free(o->segs);
	free(o);
}

char *object_header(const struct object *o, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = o->headers; *p; p += strcspn(p, "\n") + 1) {
		if (strncasecmp(p, name, n) == 0 && p[n] == ':')
			return strndup(p + n + 2, strcspn(p + n + 2, "\n"));
	}
	return NULL;
}

/* ---- the index ---- */

size_t bucket_lower(const struct bucket *b, const char *key)
{
	size_t lo = 0, hi = b->n;

	if (b->n && strcmp(b->objects[b->n - 1]->key, key) < 0)
		return b->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(b->objects[mid]->key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct object *bucket_get(struct bucket *b, const char *key)
{
	size_t i = bucket_lower(b, key);

	return i < b->n && strcmp(b->objects[i]->key, key) == 0 ?
		       b->objects[i] :
		       NULL;
}

static void drop(struct object *o)
{
	if (o->meta) {
		char *path = bucket_path(o->bucket, o->meta);
		char *meta = xprintf("%s.meta", path);

		unlink(meta);
		free(meta);
		free(path);
	}
	object_unref(o);
}

static void index_insert(struct bucket *b, struct object *o)
{
	size_t i = bucket_lower(b, o->key);

	if (i < b->n && strcmp(b->objects[i]->key, o->key) == 0) {
		drop(b->objects[i]);
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

void bucket_delete(struct bucket *b, const char *key)
{
	size_t i = bucket_lower(b, key);

	if (i >= b->n || strcmp(b->objects[i]->key, key) != 0)
		return;
	drop(b->objects[i]);
	memmove(&b->objects[i], &b->objects[i + 1],
		(b->n - i - 1) * sizeof(b->objects[0]));
	b->n--;
}

/* ---- the files ---- */

uint64_t bucket_adopt(struct bucket *b, const char *path)
{
	uint64_t id = ++b->next_id;
	char *to = bucket_path(b, id);
	int bad = rename(path, to);

	free(to);
	return bad ? 0 : id;
}

/* Format: "r2sim 2\nLENGTH NAME\nSIZE MTIME ETAG SEGMENTS\n", a line
 * "ID SIZE\n" for each segment, then the headers. */
static bool save(struct bucket *b, struct object *o)
{
	char *path, *meta, *fresh;
	bool good;
	FILE *f;

	o->meta = ++b->next_id;
	path = bucket_path(b, o->meta);
	meta = xprintf("%s.meta", path);
	fresh = xprintf("%s.new", path);
	f = fopen(fresh, "w");
	if (f) {
		fprintf(f, "r2sim 2\n%zu %s\n%llu %lld %s %u\n",
			strlen(o->name), o->name, (unsigned long long)o->size,
			(long long)o->mtime_ms, o->etag, o->nsegs);
		for (unsigned i = 0; i < o->nsegs; i++)
			fprintf(f, "%llu %llu\n",
				(unsigned long long)o->segs[i].id,
				(unsigned long long)o->segs[i].size);
		fputs(o->headers, f);
	}
	good = f && !ferror(f);
	good = f && fclose(f) == 0 && good && rename(fresh, meta) == 0;
	free(path);
	free(meta);
	free(fresh);
	return good;
}

bool bucket_insert(struct bucket *b, struct object *o)
{
	if (b->gone || !save(b, o)) {
		object_unref(o);
		return false;
	}
	index_insert(b, o);
	return true;
}

static char *read_rest(FILE *f)
{
	struct text t = { 0 };
	char buf[4096];
	size_t n;

	text_add_str(&t, "");
	while ((n = fread(buf, 1, sizeof(buf), f)))
		text_add_bytes(&t, buf, n);
	return t.s;
}

static struct object *load_object(struct bucket *b, FILE *f)
{
	unsigned long long size, id;
	struct object *o = NULL;
	unsigned nsegs;
	long long mtime;
	char *name, *key, etag[48];
	size_t n;

	if (fscanf(f, "r2sim 2\n%zu", &n) != 1 || n > 4096 || fgetc(f) != ' ')
		return NULL;
	name = xalloc(n + 1);
	if (fread(name, 1, n, f) == n &&
	    fscanf(f, "%llu %lld %47s %u", &size, &mtime, etag, &nsegs) == 4) {
		key = nfc(name);
		o = object_new(b, key ? key : name, name, etag, NULL);
		o->mtime_ms = mtime;
		free(key);
		while (nsegs-- && fscanf(f, "%llu %llu", &id, &size) == 2)
			object_add_segment(o, id, size);
		fgetc(f);
		o->headers = read_rest(f);
	}
	free(name);
	return o;
}

static void load_meta(struct bucket *b, const char *path, uint64_t id)
{
	FILE *f = fopen(path, "r");
	struct object *o = f ? load_object(b, f) : NULL, *old;

	if (f)
		fclose(f);
	if (!o) {
		fprintf(stderr, "r2sim: %s is not an object: ignored\n", path);
		return;
	}
	o->meta = id;
	old = bucket_get(b, o->key);
	if (old && old->meta > id)
		drop(o);
	else
		index_insert(b, o);
}

static void load_location(struct bucket *b, const char *dir)
{
	char *path = xprintf("%s/location", dir), line[64];
	FILE *f = fopen(path, "r");

	if (f && fgets(line, sizeof(line), f))
		b->location = xstrdup(line);
	if (f)
		fclose(f);
	free(path);
}

static void load_bucket(struct bucket *b, const char *dir)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		char *path = xprintf("%s/%s", dir, e->d_name);
		char *dot = strchr(e->d_name, '.');
		uint64_t id = strtoull(e->d_name, NULL, 10);

		if (id > b->next_id)
			b->next_id = id;
		if (dot && !strcmp(dot, ".meta"))
			load_meta(b, path, id);
		else if (dot && !strcmp(dot, ".upload"))
			upload_load(b, path, id);
		free(path);
	}
	if (d)
		closedir(d);
	load_location(b, dir);
}

/* ---- buckets ---- */

struct bucket *bucket_find(const char *name)
{
	struct bucket *b = buckets;

	while (b && strcmp(b->name, name) != 0)
		b = b->next;
	return b && !b->gone ? b : NULL;
}

struct bucket *bucket_after(const char *name)
{
	struct bucket *b = buckets;

	while (b && (b->gone || (name && strcmp(b->name, name) <= 0)))
		b = b->next;
	return b;
}

static struct bucket *bucket_struct(const char *name)
{
	struct bucket **p = &buckets, *b;

	while (*p && strcmp((*p)->name, name) < 0)
		p = &(*p)->next;
	if (*p && strcmp((*p)->name, name) == 0)
		return *p;
	b = xalloc(sizeof(*b));
	b->name = xstrdup(name);
	b->next = *p;
	*p = b;
	return b;
}

struct bucket *bucket_add(const char *name, const char *location)
{
	struct bucket *b = bucket_struct(name);
	char *dir = xprintf("%s/%s", data_dir, name);
	struct stat st;

	b->gone = false;
	mkdir(dir, 0700);
	b->ctime_ms = sim_now_ms();
	if (stat(dir, &st) == 0)
		b->ctime_ms = st.st_ctim.tv_sec * 1000ll;
	if (location) {
		char *path = xprintf("%s/location", dir);
		FILE *f = fopen(path, "w");

		if (f) {
			fputs(location, f);
			fclose(f);
		}
		free(path);
		free(b->location);
		b->location = xstrdup(location);
	} else if (!b->n) {
		load_bucket(b, dir);
	}
	free(dir);
	return b;
}

void bucket_remove(struct bucket *b)
{
	char *dir = xprintf("%s/%s", data_dir, b->name);
	char *path = xprintf("%s/location", dir);

	b->gone = true;
	unlink(path);
	rmdir(dir);
	free(path);
	free(dir);
}

void buckets_load(void)
{
	struct dirent *e;
	DIR *d;

	mkdir(data_dir, 0700);
	d = opendir(data_dir);
	while (d && (e = readdir(d))) {
		char *path = xprintf("%s/%s", data_dir, e->d_name);
		struct stat st;

		if (strncmp(e->d_name, "upload-", 7) == 0 && !stat(path, &st) &&
		    S_ISREG(st.st_mode))
			unlink(path);
		else if (e->d_name[0] != '.' && !stat(path, &st) &&
			 S_ISDIR(st.st_mode))
			bucket_add(e->d_name, NULL);
		free(path);
	}
	if (d)
		closedir(d);
}

/* Synthetic objects are in the index without a file: a key costs memory, its
 * body nothing. */
void bucket_fake(struct bucket *b, const char *prefix, uint64_t count,
		 uint64_t size, uint64_t per_folder)
{
	char key[512], etag[48];

	for (uint64_t i = 0; i < count; i++) {
		struct object *o;

		if (per_folder)
			snprintf(key, sizeof(key), "%sd%06llu/f%06llu", prefix,
				 (unsigned long long)(i / per_folder),
				 (unsigned long long)(i % per_folder));
		else
			snprintf(key, sizeof(key), "%sf%08llu", prefix,
				 (unsigned long long)i);
		snprintf(etag, sizeof(etag), "%016llx%016llx",
			 (unsigned long long)i * 0x9E3779B97F4A7C15ull,
			 (unsigned long long)size);
		o = object_new(b, key, key, etag, xstrdup(""));
		o->mtime_ms = 1700000000000;
		o->size = size;
		index_insert(b, o);
	}
}
