/*
 * The kernel's side: mounts a vfs and answers FUSE requests until unmounted.
 *
 * FUSE threads answer at once what needs no network and hand the rest to the
 * vfs's waiting threads. A parked request whose caller is being killed ends
 * at once; other signals do not disturb it (a read of a regular file does not
 * fail with EINTR on a local disk either).
 */
#ifndef FUSE_SESSION_H
#define FUSE_SESSION_H

#include "vfs/vfs.h"

/* What libfuse and the kernel have agreed on. */
struct session_features {
	bool passthrough; /* fully cached files are read by the kernel itself */
	bool io_uring; /* requests come through rings */
};

struct session_config {
	const char *mountpoint;
	const char *source; /* shown by mount(8), e.g. "bucket/prefix" */
	const char
		*mount_options; /* further -o options for the kernel, or NULL */
	bool allow_other, read_only;
	bool io_uring; /* if libfuse and the kernel have it */
	unsigned max_threads; /* FUSE threads, 0 = default */
	struct tasks *tasks; /* threads that may wait */
	uint64_t *requests; /* counts the kernel's, without FORGET; atomic */
	/* the kernel has answered: the mount works. Called once. */
	void (*ready)(void *arg, const struct session_features *features);
	void (*hangup)(void *arg); /* SIGHUP */
	/* No more requests come: end what callers only wait to read. */
	void (*ending)(void *arg);
	void *arg;
};

/*
 * Blocks SIGINT, SIGTERM, SIGHUP and SIGPIPE for this thread and those made
 * after it, so that session_run's own thread receives them. Call first.
 */
void session_block_signals(void);

/*
 * Mounts and serves until umount, SIGINT or SIGTERM; then 0. On failure the
 * reason and next step are in why (no /dev/fuse, fusermount3 missing,
 * permission, mountpoint in use).
 */
MUST_CHECK int session_run(struct vfs *v, const struct session_config *config,
			   char *why, size_t why_len);

/* NULL, or what on this machine keeps this user from mounting, with the next
 * step: one line without a full stop. Static. */
const char *session_obstacle(bool allow_other);

const char *session_libfuse_version(void);
/* The older of that and the one r2fs was built with: 318 for 3.18. */
unsigned session_libfuse(void);

#endif
