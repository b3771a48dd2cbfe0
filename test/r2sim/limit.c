/*
 * The rates and the concurrency that R2 refuses with 429, each switchable and
 * all off by default. A slot is taken when a request's headers are in. A write
 * gives its slot back before its answer goes out, so that a serial writer never
 * overlaps itself; a read gives it back when its body is sent, which the client
 * may notice a moment earlier than the server, hence a few milliseconds of
 * patience before a read is refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "r2sim.h"

enum { PATIENCE_US = 500, TRIES = 8, CHAINS = 1024 };
enum { TOTAL = 1, READ = 2, WRITE = 4, PART = 8, REFUSED = 16 };

struct limits limits;

struct held_key {
	char *name;
	unsigned reads, writes, parts;
	uint64_t last_write_us;
	struct held_key *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct held_key *chains[CHAINS];
static unsigned total, most;
static uint64_t refusals;

bool limit_set(const char *name, const char *value)
{
	char *end;
	unsigned n = strtoul(value, &end, 10);

	if (!strcmp(name, "write")) {
		if (!strcmp(value, "off"))
			limits.write = WRITE_FREE;
		else if (!strcmp(value, "overlap"))
			limits.write = WRITE_OVERLAP;
		else if (!strcmp(value, "second"))
			limits.write = WRITE_SECOND;
		else
			return false;
		return true;
	}
	if (*end || end == value)
		return false;
	if (!strcmp(name, "reads"))
		limits.reads = n;
	else if (!strcmp(name, "parts"))
		limits.parts = n;
	else if (!strcmp(name, "total"))
		limits.total = n;
	else if (!strcmp(name, "page"))
		limits.page = n;
	else
		return false;
	return true;
}

static bool idle(const struct held_key *k, uint64_t now)
{
	return !k->reads && !k->writes && !k->parts &&
	       now - k->last_write_us > 1000000;
}

/* The key's entry, made if need be; idle ones of its chain go. */
static struct held_key *find(const char *name)
{
	uint64_t hash = 1469598103934665603ull, now = mono_us();
	struct held_key **p, *k;

	for (const char *s = name; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 1099511628211ull;
	for (p = &chains[hash % CHAINS]; (k = *p);) {
		if (strcmp(k->name, name) == 0)
			return k;
		if (!idle(k, now)) {
			p = &k->next;
			continue;
		}
		*p = k->next;
		free(k->name);
		free(k);
	}
	k = xalloc(sizeof(*k));
	k->name = xstrdup(name);
	*p = k;
	return k;
}

static bool is_write(enum op op)
{
	return op == OP_PUT || op == OP_COPY || op == OP_COMPLETE;
}

static bool take_write(struct request *r, struct held_key *k)
{
	if (k->writes || (limits.write == WRITE_SECOND && k->last_write_us &&
			  mono_us() - k->last_write_us < 1000000))
		return false;
	k->writes++;
	r->held |= WRITE;
	return true;
}

static bool take_key(struct request *r)
{
	bool read = r->op == OP_GET && limits.reads;
	bool part = r->op == OP_PART && limits.parts;
	bool write = is_write(r->op) && limits.write;
	struct held_key *k;
	const char *id;
	char *name;

	if (!r->bucket || !r->key || (!read && !part && !write))
		return true;
	id = part ? req_arg(r, "uploadId") : r->key;
	name = xprintf("%s/%s", r->bucket, id ? id : "");
	k = find(name);
	free(name);
	if (write) {
		if (!take_write(r, k))
			return false;
	} else if (read) {
		if (k->reads >= limits.reads)
			return false;
		k->reads++;
		r->held |= READ;
	} else {
		if (k->parts >= limits.parts)
			return false;
		k->parts++;
		r->held |= PART;
	}
	r->held_key = k;
	return true;
}

static bool take(struct request *r)
{
	bool good;

	pthread_mutex_lock(&lock);
	good = (!limits.total || total < limits.total) && take_key(r);
	if (good) {
		r->held |= TOTAL;
		total++;
		if (total > most)
			most = total;
	}
	pthread_mutex_unlock(&lock);
	return good;
}

void limit_begin(struct request *r)
{
	for (int i = 0; i < TRIES; i++) {
		if (take(r))
			return;
		if (is_write(r->op) && !limits.total)
			break;
		usleep(PATIENCE_US);
	}
	r->held = REFUSED;
	pthread_mutex_lock(&lock);
	refusals++;
	pthread_mutex_unlock(&lock);
}

bool limit_refused(struct request *r)
{
	if (!(r->held & REFUSED))
		return false;
	op_error(r, 429, "ServiceUnavailable",
		 r->op == OP_GET ?
			 "Reduce your rate of simultaneous reads on the same "
			 "object." :
			 "Reduce your concurrent request rate for the same "
			 "object.");
	return true;
}

void limit_end_write(struct request *r)
{
	if (!(r->held & (WRITE | PART)))
		return;
	pthread_mutex_lock(&lock);
	if (r->held & WRITE) {
		r->held_key->writes--;
		if (r->status < 300)
			r->held_key->last_write_us = mono_us();
	} else {
		r->held_key->parts--;
	}
	r->held &= ~(WRITE | PART);
	pthread_mutex_unlock(&lock);
}

void limit_end(struct request *r)
{
	limit_end_write(r);
	if (!r->held || r->held & REFUSED)
		return;
	pthread_mutex_lock(&lock);
	if (r->held & READ)
		r->held_key->reads--;
	total--;
	r->held = 0;
	pthread_mutex_unlock(&lock);
}

void limit_reset(void)
{
	pthread_mutex_lock(&lock);
	most = total;
	refusals = 0;
	pthread_mutex_unlock(&lock);
}

void limit_json(struct text *t)
{
	pthread_mutex_lock(&lock);
	text_add(t, "\"concurrent_max\": %u, \"refused\": %llu", most,
		 (unsigned long long)refusals);
	pthread_mutex_unlock(&lock);
}
