/*
 * The manual pages. What the tables of commands and options say comes from
 * there; the prose around it is here, in the order man(7) asks for.
 */
#include <stdlib.h>

#include "cli/cli.h"

static const char description[] =
	".SH DESCRIPTION\n"
	"Shows the objects of a Cloudflare R2 bucket as files: the object\n"
	".I a/b/c\n"
	"is the file\n"
	".IR a/b/c .\n"
	"Names, attributes and data are cached on local disk; the cache "
	"survives a remount.\n"
	".SH COMMANDS\n";

static const char words[] =
	".SH WORDS OF MOUNT(8)\n"
	"An \\-o list may also hold \\fBro\\fP, \\fBrw\\fP, "
	"\\fBnoexec\\fP, \\fBnoatime\\fP, \\fBnodiratime\\fP, "
	"\\fBsync\\fP and \\fBdirsync\\fP, which go to the kernel, and "
	"what is meant for fstab and systemd (\\fBdefaults\\fP, "
	"\\fBauto\\fP, \\fBnoauto\\fP, \\fBuser\\fP, \\fBusers\\fP, "
	"\\fBnofail\\fP, \\fB_netdev\\fP, \\fBx\\-systemd.*\\fP and "
	"the like), which is ignored. \\fBnosuid\\fP, \\fBnodev\\fP and "
	"\\fBdefault_permissions\\fP always hold.\n";

static const char environment[] =
	".SH ENVIRONMENT\n"
	".TP\n.B R2_ACCOUNT_ID\nlike \\-\\-account\\-id\n"
	".TP\n.BR R2_ENDPOINT \", \" AWS_ENDPOINT_URL_S3 \", \" "
	"AWS_ENDPOINT_URL\nlike \\-\\-endpoint, the first that is set\n"
	".TP\n.BR R2_ACCESS_KEY_ID \", \" R2_SECRET_ACCESS_KEY \", \" "
	"R2_SESSION_TOKEN\ncredentials, unless \\-\\-credentials or "
	"\\-\\-profile is given\n"
	".TP\n.BR AWS_ACCESS_KEY_ID \", \" AWS_SECRET_ACCESS_KEY \", \" "
	"AWS_SESSION_TOKEN\nthe same, where the R2_* are not set\n"
	".TP\n.BR AWS_PROFILE \", \" AWS_SHARED_CREDENTIALS_FILE \", \" "
	"AWS_CONFIG_FILE\nwhere the AWS shared files are and which profile "
	"counts\n"
	".TP\n.B CREDENTIALS_DIRECTORY\nset by systemd's LoadCredential=; the "
	"file\n.I r2fs\nin it is read\n";

static const char rest[] =
	".SH FILES\n"
	".TP\n.I /var/cache/r2fs\ncache of mounts made by root\n"
	".TP\n.I $XDG_CACHE_HOME/r2fs\n(or ~/.cache/r2fs) of other users\n"
	".TP\n.I /run/r2fs\ncontrol sockets of mounts made by root; of other "
	"users $XDG_RUNTIME_DIR/r2fs\n"
	".SH SIGNALS\n"
	".TP\n.BR SIGTERM \", \" SIGINT\nunmount and end\n"
	".TP\n.B SIGHUP\nopen the log file anew and read the credentials "
	"again\n"
	".SH EXIT STATUS\n"
	"0 success, 1 failure (the reason is on standard error), 2 wrong "
	"usage.\n"
	".SH EXAMPLES\n"
	".nf\n"
	"r2fs doctor \\-\\-account\\-id ID \\-\\-credentials /etc/r2fs.key "
	"my\\-bucket\n"
	"r2fs mount \\-\\-account\\-id ID \\-\\-credentials /etc/r2fs.key "
	"my\\-bucket /mnt/r2\n"
	"r2fs stats /mnt/r2\n"
	"r2fs umount /mnt/r2\n"
	".fi\n"
	".SH SEE ALSO\n"
	".BR mount.r2fs (8),\n.BR mount (8),\n.BR fusermount3 (1)\n";

static const char mount_page[] =
	".TH MOUNT.R2FS 8 \"\" \"r2fs " R2FS_VERSION "\"\n"
	".SH NAME\n"
	"mount.r2fs \\- mount an R2 bucket by mount(8) and fstab(5)\n"
	".SH SYNOPSIS\n"
	".B mount \\-t r2fs\n\\fIBUCKET\\fP[/\\fIPREFIX\\fP] "
	"\\fIMOUNTPOINT\\fP [\\-o \\fIoptions\\fP]\n.br\n"
	".B mount.r2fs\n\\fIBUCKET\\fP[/\\fIPREFIX\\fP] \\fIMOUNTPOINT\\fP "
	"[\\-sfnv] [\\-o \\fIoptions\\fP]\n"
	".SH DESCRIPTION\n"
	"The helper that mount(8) runs for the types r2fs and fuse.r2fs. It "
	"does what\n.B r2fs mount\ndoes and takes the same options, each as "
	"\\-o \\fIname\\fP=\\fIvalue\\fP; a hyphen in a name may be written as "
	"an underscore. \\-s ignores unknown options, \\-f does everything but "
	"the mount, \\-n and \\-v change nothing.\n"
	".PP\n"
	"umount(8) runs\n.BR umount.r2fs ,\nwhich returns when the daemon has "
	"ended; with \\-l or \\-f it does not wait.\n"
	".SH EXAMPLES\n"
	"A line of /etc/fstab:\n"
	".PP\n.nf\n"
	"my\\-bucket /mnt/r2 r2fs _netdev,nofail,allow_other,account_id=ID,"
	"credentials=/etc/r2fs.key 0 0\n"
	".fi\n"
	".SH OPTIONS\n";

static void roff(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '-' || *s == '\\')
			buf_addch(out, '\\');
		buf_addch(out, *s);
	}
}

static void add_synopsis(struct buf *out)
{
	const struct cli_command *c;

	buf_addstr(out, ".SH SYNOPSIS\n");
	for (unsigned i = 0; (c = cli_command(i)); i++) {
		buf_addf(out, "%s.B r2fs %s\n", i ? ".br\n" : "", c->name);
		roff(out, c->arguments);
		buf_addch(out, '\n');
	}
}

static void add_commands(struct buf *out)
{
	const struct cli_command *c;

	for (unsigned i = 0; (c = cli_command(i)); i++) {
		buf_addf(out, ".TP\n.B %s\n", c->name);
		roff(out, c->help);
		buf_addstr(out, ".\n");
	}
}

static void add_options(struct buf *out, const char *lead)
{
	const struct config_option *o;

	for (unsigned i = 0; (o = config_option(i)); i++) {
		buf_addf(out, ".TP\n.B %s", lead);
		roff(out, o->name);
		if (o->placeholder)
			buf_addf(out, "%s\\fI%s\\fP", *lead ? " " : "=",
				 o->placeholder);
		buf_addch(out, '\n');
		roff(out, o->help);
		if (o->choices) {
			buf_addstr(out, "; one of: ");
			roff(out, o->choices);
		}
		if (o->initial)
			buf_addf(out, " (default %s)", o->initial);
		buf_addstr(out, ".\n");
	}
}

void manual_r2fs(struct buf *out)
{
	buf_addstr(out, ".TH R2FS 1 \"\" \"r2fs " R2FS_VERSION "\"\n"
			".SH NAME\n"
			"r2fs \\- mount Cloudflare R2 buckets as a file "
			"system\n");
	add_synopsis(out);
	buf_addstr(out, description);
	add_commands(out);
	buf_addstr(out, ".SH OPTIONS\n"
			"Of mount and doctor; each is also accepted as \\-o "
			"\\fIname\\fP=\\fIvalue\\fP.\n"
			"A \\fISIZE\\fP may end in K, M, G or T, a "
			"\\fITIME\\fP in ms, s, m, h or d (s without one).\n");
	add_options(out, "\\-\\-");
	buf_addstr(out, words);
	buf_addstr(out, environment);
	buf_addstr(out, rest);
}

void manual_mount(struct buf *out)
{
	buf_addstr(out, mount_page);
	add_options(out, "");
	buf_addstr(out, words);
	buf_addstr(out, ".SH SEE ALSO\n.BR r2fs (1),\n.BR mount (8),\n"
			".BR fstab (5)\n");
}
