/*
 * `r2fs help`: the commands and the options, from their tables. The manual
 * pages and the completion, which are made from the same tables, are printed
 * by it too, so that a build can install them.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { WIDTH = 79 };

/* Appends text in lines of at most WIDTH, each after `indent` blanks. */
static void wrap(struct buf *out, const char *text, int indent)
{
	int column = 0;

	while (*text) {
		int n = (int)strcspn(text, " ");

		if (column && column + 1 + n > WIDTH) {
			buf_addch(out, '\n');
			column = 0;
		}
		if (column)
			buf_addch(out, ' ');
		else
			buf_addf(out, "%*s", indent, "");
		column += column ? 1 + n : indent + n;
		buf_addf(out, "%.*s", n, text);
		text += n;
		text += strspn(text, " ");
	}
	buf_addch(out, '\n');
}

static void add_option(struct buf *out, const struct config_option *o)
{
	struct buf text;

	buf_addf(out, "  --%s%s%s\n", o->name, o->placeholder ? " " : "",
		 o->placeholder ? o->placeholder : "");
	buf_init(&text, 4096);
	buf_addstr(&text, o->help);
	if (o->choices)
		buf_addf(&text, "; one of: %s", o->choices);
	if (o->initial)
		buf_addf(&text, " (default %s)", o->initial);
	wrap(out, text.data, 8);
	buf_release(&text);
}

static void add_help(struct buf *out)
{
	const struct cli_command *c;
	const struct config_option *o;

	buf_addstr(out, "r2fs mounts Cloudflare R2 buckets as a file "
			"system.\n\n");
	for (unsigned i = 0; (c = cli_command(i)); i++) {
		buf_addf(out, "  r2fs %s%s%s\n", c->name,
			 *c->arguments ? " " : "", c->arguments);
		wrap(out, c->help, 8);
	}
	buf_addstr(out, "\nOptions of mount and doctor, each also as -o "
			"name=value:\n\n");
	for (unsigned i = 0; (o = config_option(i)); i++)
		add_option(out, o);
	buf_addstr(out, "\nA SIZE may end in K, M, G or T, a TIME in ms, s, m, "
			"h or d (s without one).\n");
}

static int unknown(const char *what)
{
	fprintf(stderr,
		"r2fs help: unknown argument \"%.40s\": give --man, "
		"--man mount.r2fs or --completion\n",
		what);
	return 2;
}

int cli_help(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct buf b;
	int status = 0;

	buf_init(&b, 1 << 20);
	if (!strcmp(what, "--man") && argc == 2)
		manual_r2fs(&b);
	else if (!strcmp(what, "--man") && !strcmp(argv[2], "mount.r2fs"))
		manual_mount(&b);
	else if (!strcmp(what, "--completion"))
		completion_bash(&b);
	else if (!*what || !strcmp(what, "--help") || cli_command_find(what))
		add_help(&b);
	else
		status = unknown(what);
	fputs(b.data, stdout);
	buf_release(&b);
	return status;
}
