/*
 * Help and the manual page: the same table, two spellings.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"r2fs mounts Cloudflare R2 buckets as a file system.\n"
	"\n"
	"  r2fs mount [options] BUCKET[/PREFIX] MOUNTPOINT\n"
	"  r2fs umount MOUNTPOINT       unmount, wait for the daemon to end\n"
	"  r2fs status [MOUNTPOINT]     what is mounted\n"
	"  r2fs stats [--json] MOUNTPOINT\n"
	"                               requests, bytes, hits, latencies, memory\n"
	"  r2fs doctor [options] [BUCKET]\n"
	"                               what mounting needs, and what is missing\n"
	"  r2fs version\n"
	"\n"
	"Options of mount and doctor, each also as -o name=value:\n"
	"\n";

static const char man_head[] =
	".TH R2FS 1 \"\" \"r2fs " R2FS_VERSION "\"\n"
	".SH NAME\n"
	"r2fs \\- mount Cloudflare R2 buckets as a file system\n"
	".SH SYNOPSIS\n"
	".B r2fs mount\n[\\fIoptions\\fP] \\fIBUCKET\\fP[/\\fIPREFIX\\fP] "
	"\\fIMOUNTPOINT\\fP\n.br\n"
	".B r2fs umount\n\\fIMOUNTPOINT\\fP\n.br\n"
	".B r2fs status\n[\\fIMOUNTPOINT\\fP]\n.br\n"
	".B r2fs stats\n[\\-\\-json] \\fIMOUNTPOINT\\fP\n.br\n"
	".B r2fs doctor\n[\\fIoptions\\fP] [\\fIBUCKET\\fP]\n.br\n"
	".B mount.r2fs\n\\fIBUCKET\\fP \\fIMOUNTPOINT\\fP "
	"[\\-o \\fIoptions\\fP]\n"
	".SH DESCRIPTION\n"
	"Shows the objects of a bucket as files, with a cache of names and data "
	"on local disk that survives a remount. The mount runs in the "
	"background and the command returns 0 once it answers.\n"
	".SH OPTIONS\n"
	"Each is also accepted as \\-o \\fIname\\fP=\\fIvalue\\fP.\n";

static const char man_tail[] =
	".SH EXIT STATUS\n"
	"0 success, 1 failure (the reason is on standard error), 2 wrong "
	"usage.\n"
	".SH SEE ALSO\n"
	"mount(8), fusermount3(1)\n";

int cli_help(int argc, char **argv)
{
	bool man = argc > 1 && strcmp(argv[1], "--man") == 0;
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_addstr(&b, man ? man_head : usage);
	if (man)
		config_man(&b);
	else
		config_help(&b);
	if (man)
		buf_addstr(&b, man_tail);
	fputs(b.data, stdout);
	buf_release(&b);
	return 0;
}
