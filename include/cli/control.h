/*
 * The control socket of a mount: one line in, one JSON document out.
 *
 * A Unix socket per mount in /run/r2fs (root) or $XDG_RUNTIME_DIR/r2fs, named
 * after the mountpoint's path; the folder is 0700. The server is one thread.
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include "base/buf.h"

struct control;

/* handle(cmd, out, arg) answers "stats" or "status" into out; -EINVAL for an
 * unknown command. Runs on the control thread. Failure to make the socket is
 * no reason not to mount: the caller logs it. */
MUST_CHECK int control_create(const char *mountpoint,
			      int (*handle)(const char *cmd, struct buf *out,
					    void *arg),
			      void *arg, struct control **ret);
void control_destroy(struct control *c); /* NULL is fine */

/* Asks the mount at mountpoint. -ENOENT: no such mount is running. */
MUST_CHECK int control_ask(const char *mountpoint, const char *cmd,
			   struct buf *out);

/* Calls fn with the path of every mount that has a socket. */
void control_each(void (*fn)(const char *mountpoint, void *arg), void *arg);

#endif
