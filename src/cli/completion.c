/*
 * Completion for bash. Written out from the tables rather than asking r2fs at
 * each key stroke: it then works before the first mount and costs nothing.
 */
#include <string.h>

#include "cli/cli.h"

static const char tail[] =
	"\tif [[ $cur == -* ]]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	"\telse\n"
	"\t\tcompopt -o filenames\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
	"\tfi\n"
	"}\n"
	"complete -F _r2fs r2fs\n";

/* Offers what compgen makes of `what`. */
static void add_reply(struct buf *out, const char *what, const char *words)
{
	buf_addf(out,
		 "\t\tmapfile -t COMPREPLY < <(compgen %s%s%s -- "
		 "\"$cur\")\n",
		 what, words, *words ? "'" : "");
}

static void add_commands(struct buf *out)
{
	const struct cli_command *c;
	struct buf names;

	buf_init(&names, 4096);
	for (unsigned i = 0; (c = cli_command(i)); i++)
		buf_addf(&names, "%s%s", i ? " " : "", c->name);
	buf_addstr(out, "\tif ((COMP_CWORD == 1)); then\n");
	add_reply(out, "-W '", names.data);
	buf_addstr(out, "\t\treturn\n\tfi\n");
	buf_release(&names);
}

/* What follows an option that takes a value. */
static void add_values(struct buf *out)
{
	const struct config_option *o;

	buf_addstr(out, "\tcase $prev in\n");
	for (unsigned i = 0; (o = config_option(i)); i++) {
		if (!o->placeholder)
			continue;
		buf_addf(out, "\t--%s)\n", o->name);
		if (o->choices) {
			add_reply(out, "-W '", o->choices);
		} else if (!strcmp(o->placeholder, "FILE") ||
			   !strcmp(o->placeholder, "DIR")) {
			buf_addstr(out, "\t\tcompopt -o filenames\n");
			add_reply(out, o->placeholder[0] == 'F' ? "-f" : "-d",
				  "");
		}
		buf_addstr(out, "\t\treturn\n\t\t;;\n");
	}
	buf_addstr(out, "\tesac\n");
}

static void add_words(struct buf *out)
{
	const struct cli_command *c;

	buf_addstr(out, "\tcase ${COMP_WORDS[1]} in\n");
	for (unsigned i = 0; (c = cli_command(i)); i++)
		if (c->takes == CLI_TAKES_OPTIONS)
			buf_addf(out, "\t%s) words=$options ;;\n", c->name);
		else if (c->takes == CLI_TAKES_JSON)
			buf_addf(out, "\t%s) words=--json ;;\n", c->name);
		else if (c->takes == CLI_TAKES_NOTHING)
			buf_addf(out, "\t%s) return ;;\n", c->name);
	buf_addstr(out, "\tesac\n");
}

void completion_bash(struct buf *out)
{
	const struct config_option *o;

	buf_addstr(out, "# bash completion for r2fs; made by r2fs help "
			"--completion\n"
			"_r2fs() {\n"
			"\tlocal cur=${COMP_WORDS[COMP_CWORD]} "
			"prev=${COMP_WORDS[COMP_CWORD - 1]} words=\n"
			"\tlocal options='-o -f --help");
	for (unsigned i = 0; (o = config_option(i)); i++)
		buf_addf(out, " --%s", o->name);
	buf_addstr(out, "'\n\tCOMPREPLY=()\n");
	add_commands(out);
	add_values(out);
	add_words(out);
	buf_addstr(out, tail);
}
