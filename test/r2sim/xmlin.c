/*
 * The XML that clients send: lists of parts and of keys, a location. A parser
 * of a hundred lines, so that r2sim does not agree with the client by using
 * the same library: elements must nest, entities must be known, anything
 * after the root is an error. Attributes are skipped, prefixes dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

struct xml {
	const char *p;
	struct text path, value[8]; /* own text of each open element */
	unsigned depth;
};

/* "&...;" at *p, its character appended. */
static bool entity(const char **p, struct text *out)
{
	static const struct {
		const char *name;
		char c;
	} known[] = { { "&lt;", '<' },
		      { "&gt;", '>' },
		      { "&amp;", '&' },
		      { "&quot;", '"' },
		      { "&apos;", '\'' } };
	unsigned long c;
	char *end;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(*p, known[i].name, strlen(known[i].name)) == 0) {
			text_add_bytes(out, &known[i].c, 1);
			*p += strlen(known[i].name);
			return true;
		}
	}
	if ((*p)[1] != '#')
		return false;
	c = (*p)[2] == 'x' ? strtoul(*p + 3, &end, 16) :
			     strtoul(*p + 2, &end, 10);
	if (*end != ';' || !c || c > 0x10ffff)
		return false;
	*p = end + 1;
	if (c < 0x80)
		text_add(out, "%c", (char)c);
	else if (c < 0x800)
		text_add(out, "%c%c", (char)(0xc0 | c >> 6),
			 (char)(0x80 | (c & 63)));
	else if (c < 0x10000)
		text_add(out, "%c%c%c", (char)(0xe0 | c >> 12),
			 (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)));
	else
		text_add(out, "%c%c%c%c", (char)(0xf0 | c >> 18),
			 (char)(0x80 | (c >> 12 & 63)),
			 (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)));
	return true;
}

static bool skip_past(const char **p, const char *what)
{
	const char *end = strstr(*p, what);

	if (end)
		*p = end + strlen(what);
	return end;
}

/* A name without its prefix, n its length. */
static const char *name_at(const char *p, size_t *n, size_t *whole)
{
	const char *colon;

	*whole = strcspn(p, " \t\r\n/>");
	colon = memchr(p, ':', *whole);
	*n = colon ? *whole - (colon + 1 - p) : *whole;
	return colon ? colon + 1 : p;
}

static int element_end(struct xml *x, xml_fn fn, void *arg)
{
	struct text *v = &x->value[--x->depth];
	int ret = fn(arg, x->path.s, v->s ? v->s : "");
	char *slash = strrchr(x->path.s, '/');

	text_free(v);
	x->path.len = slash ? (size_t)(slash - x->path.s) : 0;
	x->path.s[x->path.len] = 0;
	return ret;
}

static bool open_tag(struct xml *x, xml_fn fn, void *arg, int *stop)
{
	size_t n, whole;
	const char *name = name_at(x->p + 1, &n, &whole), *end;

	end = strchr(x->p, '>');
	if (!n || !end || x->depth == 8)
		return false;
	if (x->depth)
		text_add_str(&x->path, "/");
	text_add_bytes(&x->path, name, n);
	x->depth++;
	x->p = end + 1;
	if (end[-1] == '/')
		*stop = element_end(x, fn, arg);
	return true;
}

static bool close_tag(struct xml *x, xml_fn fn, void *arg, int *stop)
{
	size_t n, whole;
	const char *name = name_at(x->p + 2, &n, &whole);
	const char *last = x->depth ? strrchr(x->path.s, '/') : NULL;

	if (!x->depth)
		return false;
	last = last ? last + 1 : x->path.s;
	if (strlen(last) != n || strncmp(last, name, n) != 0)
		return false;
	if (!skip_past(&x->p, ">"))
		return false;
	*stop = element_end(x, fn, arg);
	return true;
}

static bool text_run(struct xml *x)
{
	size_t n = strcspn(x->p, "<&");

	if (!x->depth) {
		if (strspn(x->p, " \t\r\n") < n || x->p[n] == '&')
			return false;
	} else {
		text_add_bytes(&x->value[x->depth - 1], x->p, n);
		if (x->p[n] == '&') {
			x->p += n;
			return entity(&x->p, &x->value[x->depth - 1]);
		}
	}
	x->p += n;
	return true;
}

bool xml_read(const char *s, xml_fn fn, void *arg)
{
	struct xml x = { .p = s };
	bool good = true, root = false;
	int stop = 0;

	while (good && !stop && *x.p) {
		if (*x.p != '<')
			good = text_run(&x);
		else if (strncmp(x.p, "<?", 2) == 0)
			good = skip_past(&x.p, "?>");
		else if (strncmp(x.p, "<!--", 4) == 0)
			good = skip_past(&x.p, "-->");
		else if (x.p[1] == '!')
			good = false;
		else if (x.p[1] == '/')
			good = close_tag(&x, fn, arg, &stop);
		else if (!x.depth && root)
			good = false;
		else
			good = root = open_tag(&x, fn, arg, &stop);
	}
	good = good && !stop && root && !x.depth;
	while (x.depth)
		text_free(&x.value[--x.depth]);
	text_free(&x.path);
	return good;
}
