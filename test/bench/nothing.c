/*
 * The least a FUSE daemon can do: one folder of equal files whose content is
 * in memory, everything believed forever, no handle with a state. What a mount
 * reads slower than this is its own doing; what this reads slower than a local
 * disk is the price of FUSE.
 *
 *	nothing MOUNTPOINT COUNT SIZE [libfuse option...]
 *
 * Files are f00000 to the COUNTth, of SIZE zeros. Ends with the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_INO = 2, READ_MAX = 1 << 20 };

#define FOREVER 1e8

static unsigned long count, size;
static char zeros[READ_MAX];

static void fill(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_nlink = 1;
	st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	st->st_size = ino == FUSE_ROOT_ID ? 0 : (off_t)size;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .attr_timeout = FOREVER,
				      .entry_timeout = FOREVER };
	char *end;
	unsigned long n = strtoul(name + 1, &end, 10);

	if (name[0] != 'f' || *end || n >= count) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	e.ino = FIRST_INO + n;
	fill(e.ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct stat st;

	fill(ino, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 12)
	fi->noflush = 1;
#endif
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t n, off_t off,
		    struct fuse_file_info *fi)
{
	if (off >= (off_t)size)
		n = 0;
	else if (n > size - (size_t)off)
		n = size - (size_t)off;
	fuse_reply_buf(req, zeros, n);
}

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.open = op_open,
	.read = op_read,
	.release = op_release,
};

static int serve(struct fuse_session *se, const char *mountpoint)
{
	int err = 1;

	if (fuse_set_signal_handlers(se) == 0 &&
	    fuse_session_mount(se, mountpoint) == 0) {
#if FUSE_USE_VERSION >= 312
		struct fuse_loop_config *lc = fuse_loop_cfg_create();

		fuse_loop_cfg_set_clone_fd(lc, 1);
		err = fuse_session_loop_mt(se, lc);
		fuse_loop_cfg_destroy(lc);
#else
		struct fuse_loop_config lc = { .clone_fd = 1,
					       .max_idle_threads = 16 };

		err = fuse_session_loop_mt(se, &lc);
#endif
		fuse_session_unmount(se);
	}
	fuse_remove_signal_handlers(se);
	return err;
}

int main(int argc, char **argv)
{
	char *options[3] = { argv[0], (char *)"-o",
			     argc > 4 ? argv[4] : (char *)"subtype=nothing" };
	struct fuse_args args = FUSE_ARGS_INIT(3, options);
	struct fuse_session *se;
	int err;

	if (argc < 4) {
		fprintf(stderr, "usage: nothing MOUNTPOINT COUNT SIZE\n");
		return 2;
	}
	count = strtoul(argv[2], NULL, 10);
	size = strtoul(argv[3], NULL, 10);
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se)
		return 1;
	err = serve(se, argv[1]);
	fuse_session_destroy(se);
	fuse_opt_free_args(&args);
	return err ? 1 : 0;
}
