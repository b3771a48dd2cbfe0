/*
 * r2fs as mount.r2fs and umount.r2fs, which mount(8) and umount(8) run for
 * lines of fstab and for -t r2fs.
 *
 * Their flags are not ours: -f means "do all but the mount" there. So they are
 * taken out here, and only operands and -o lists go on to the parser.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "cli/cli.h"

struct helper {
	bool sloppy, fake, lazy, force;
	int argc;
	char **argv; /* what is left, in its order */
};

static int flag(struct helper *h, char c)
{
	switch (c) {
	case 's':
		h->sloppy = true;
		break;
	case 'f':
		h->fake = h->force = true;
		break;
	case 'l':
		h->lazy = true;
		break;
	case 'n': /* no mtab: there is none */
	case 'v':
	case 'r':
	case 'i':
		break;
	default:
		return -EINVAL;
	}
	return 0;
}

/* "-sfnv" in any grouping, "-N ns" and "-t type" with their values; the rest
 * stays. */
static int take_flags(struct helper *h, int argc, char **argv)
{
	h->argv[h->argc++] = argv[0];
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (a[0] != '-' || !a[1] || a[1] == '-') {
			h->argv[h->argc++] = argv[i];
		} else if (a[1] == 'o') {
			h->argv[h->argc++] = argv[i];
			if (!a[2] && i + 1 < argc)
				h->argv[h->argc++] = argv[++i];
		} else if (!strcmp(a, "-t") || !strcmp(a, "-N")) {
			i++;
		} else {
			for (const char *p = a + 1; *p; p++) {
				if (!flag(h, *p))
					continue;
				fprintf(stderr, "%s: unknown flag -%c\n",
					argv[0], *p);
				return -EINVAL;
			}
		}
	}
	return 0;
}

static int helper_parse(struct helper *h, int argc, char **argv)
{
	memset(h, 0, sizeof(*h));
	h->argv = xcalloc(argc + 1, sizeof(*h->argv));
	return take_flags(h, argc, argv);
}

int helper_mount(int argc, char **argv)
{
	struct helper h;
	int status = 2;

	if (argc > 1 &&
	    (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: mount.r2fs BUCKET[/PREFIX] MOUNTPOINT [-sfnv] "
		       "[-o options]\nThe options are those of r2fs mount: "
		       "see r2fs help\n");
		return 0;
	}
	if (!helper_parse(&h, argc, argv))
		status = mount_main(h.argc, h.argv, h.sloppy, h.fake);
	free(h.argv);
	return status;
}

/* -l and -f are for a daemon that does not answer: do not ask it. */
static int detach(const struct helper *h)
{
	const char *path = h->argv[1];

	if (umount2(path, (h->lazy ? MNT_DETACH : 0) |
				  (h->force ? MNT_FORCE : 0)) == 0)
		return 0;
	fprintf(stderr, "umount.r2fs: cannot unmount %s: %s\n", path,
		strerror(errno));
	return 1;
}

int helper_umount(int argc, char **argv)
{
	struct helper h;
	int status = 2;

	if (!helper_parse(&h, argc, argv))
		status = h.argc == 2 && (h.lazy || h.force) ?
				 detach(&h) :
				 cli_umount(h.argc, h.argv);
	free(h.argv);
	return status;
}
