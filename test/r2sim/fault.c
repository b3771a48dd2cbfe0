/*
 * Faults by rule. README.md has the grammar and every action. A rule is one
 * line of words:
 *
 *   op=PUT,PART key=*.bin skip=2 count=1 action=status:503 retry-after=2
 *
 * Rules are tried in order; the first that matches and is not used up decides,
 * except that delays add up and the search goes on. Replaced rules are never
 * freed: a request in flight may hold one.
 */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

static const char *const actions[F_NACTIONS] = {
	"status",  "html",    "error200", "drop",     "lost",
	"delay",   "cut",     "rst",	  "stall",    "slow",
	"corrupt", "long",    "nolength", "gzip",     "etag",
	"noetag",  "range",   "whole",	  "close",    "skew",
	"badxml",  "hugexml", "dup",	  "unsorted", "loop",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault *faults, *replaced;
static unsigned seed = 1;

/* "NAME", "NAME:VALUE" or "NAME:MIN-MAX" */
static int parse_action(struct fault *f, char *value)
{
	char *number = strchr(value, ':'), *end;

	if (number)
		*number++ = 0;
	f->action = F_NACTIONS;
	for (int i = 0; i < F_NACTIONS; i++)
		if (strcmp(value, actions[i]) == 0)
			f->action = i;
	if (f->action == F_NACTIONS)
		return -1;
	if (!number)
		return 0;
	f->value = f->value2 = strtoll(number, &end, 10);
	if (*end == '-')
		f->value2 = strtoll(end + 1, &end, 10);
	return *end || f->value2 < f->value ? -1 : 0;
}

static int parse_number(const char *s, unsigned *n)
{
	char *end;

	*n = strtoul(s, &end, 10);
	return *end || end == s ? -1 : 0;
}

static int parse_word(struct fault *f, char *word)
{
	char *value = strchr(word, '='), *decoded;
	unsigned n = 0;

	if (!value)
		return -1;
	*value++ = 0;
	if (!strcmp(word, "op")) {
		snprintf(f->op, sizeof(f->op), "%s", value);
	} else if (!strcmp(word, "key")) {
		decoded = percent_decode(value);
		snprintf(f->key, sizeof(f->key), "%s",
			 decoded ? decoded : value);
		free(decoded);
	} else if (!strcmp(word, "code")) {
		snprintf(f->code, sizeof(f->code), "%s", value);
	} else if (!strcmp(word, "action")) {
		return parse_action(f, value);
	} else if (parse_number(value, &n)) {
		return -1;
	} else if (!strcmp(word, "skip")) {
		f->skip = n;
	} else if (!strcmp(word, "count")) {
		f->count = n;
	} else if (!strcmp(word, "percent")) {
		f->percent = n;
	} else if (!strcmp(word, "retry-after")) {
		f->retry_after = n;
	} else if (!strcmp(word, "ms")) {
		f->ms = n;
	} else {
		return -1;
	}
	return 0;
}

static struct fault *parse_line(char *line)
{
	struct fault *f = xalloc(sizeof(*f));
	char *word;

	strcpy(f->op, "*");
	strcpy(f->key, "*");
	f->percent = 100;
	f->retry_after = -1;
	f->ms = 30000;
	f->action = F_NACTIONS;
	while ((word = strsep(&line, " \t\r"))) {
		if (*word && parse_word(f, word)) {
			free(f);
			return NULL;
		}
	}
	if (f->action == F_NACTIONS) {
		free(f);
		return NULL;
	}
	return f;
}

static void free_rules(struct fault *f)
{
	while (f) {
		struct fault *next = f->next;

		free(f);
		f = next;
	}
}

int fault_load(const char *rules)
{
	char *copy = xstrdup(rules), *rest = copy, *line;
	struct fault *fresh = NULL, **end = &fresh;
	int n = 0, bad = 0;

	while ((line = strsep(&rest, "\n"))) {
		n++;
		if (!line[strspn(line, " \t\r")] || *line == '#')
			continue;
		*end = parse_line(line);
		if (!*end) {
			bad = n;
			break;
		}
		end = &(*end)->next;
	}
	free(copy);
	if (bad) {
		free_rules(fresh);
		return bad;
	}
	pthread_mutex_lock(&lock);
	for (end = &faults; *end; end = &(*end)->next)
		;
	*end = replaced;
	replaced = faults;
	__atomic_store_n(&faults, fresh, __ATOMIC_RELEASE);
	seed = 1;
	pthread_mutex_unlock(&lock);
	return 0;
}

static bool op_matches(const struct fault *f, enum op op)
{
	char list[sizeof(f->op)], *rest = list, *pattern;

	strcpy(list, f->op);
	while ((pattern = strsep(&rest, ",")))
		if (!fnmatch(pattern, op_info[op].name, 0) ||
		    !fnmatch(pattern, op_info[op].s3, 0))
			return true;
	return false;
}

/* Uses the rule up by one. */
static bool hits(struct fault *f, enum op op, const char *key)
{
	if (f->count == UINT32_MAX || !op_matches(f, op) ||
	    fnmatch(f->key, key ? key : "", 0))
		return false;
	if (f->skip) {
		f->skip--;
		return false;
	}
	if (f->percent < 100 && (unsigned)rand_r(&seed) % 100 >= f->percent)
		return false;
	if (f->count && --f->count == 0)
		f->count = UINT32_MAX;
	f->hits++;
	return true;
}

const struct fault *fault_match(enum op op, const char *key, uint64_t *wait_ms)
{
	struct fault *f;

	if (!__atomic_load_n(&faults, __ATOMIC_ACQUIRE))
		return NULL;
	pthread_mutex_lock(&lock);
	for (f = faults; f; f = f->next) {
		if (!hits(f, op, key))
			continue;
		if (f->action != F_DELAY)
			break;
		*wait_ms += f->value + (uint64_t)rand_r(&seed) %
					       (f->value2 - f->value + 1);
	}
	pthread_mutex_unlock(&lock);
	return f;
}

bool fault_is(const struct request *r, int action)
{
	return r->fault && (int)r->fault->action == action;
}

void fault_json(struct text *t)
{
	const char *join = "";

	text_add(t, "[");
	pthread_mutex_lock(&lock);
	for (struct fault *f = faults; f; f = f->next) {
		text_add(t, "%s{\"action\": \"%s\", \"hits\": %llu}", join,
			 actions[f->action], (unsigned long long)f->hits);
		join = ", ";
	}
	pthread_mutex_unlock(&lock);
	text_add(t, "]");
}
